// SPDX-License-Identifier: Apache-2.0
/* --stats; see stats.h. */
#include "monitor/stats.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

static void line(const char *name, uint64_t value)
{
    log_line(LOG_ERR, "stats", "%s %" PRIu64, name, value);
}

/* All state that the descriptors know, and RAM. */
static void print_hash(struct pc *pc)
{
    struct state_buf b = {0};
    struct err e;

    if (state_list_save(pc_vm(pc)->state, &b, &e))
        log_err("stats", "no state hash: %s", e.text);
    else
        log_line(LOG_ERR, "stats", "state_hash 0x%016" PRIx64,
                 state_hash(&b) ^ mem_hash(pc_vm(pc)->mem));
    state_buf_fini(&b);
}

#define PARTS_SHOWN 64

struct part {
    const char *name;
    uint64_t value;
};

/* Put @p in its place among the largest so far. */
static void insert(struct part *top, unsigned *n, struct part p)
{
    unsigned i = *n < PARTS_SHOWN ? (*n)++ : PARTS_SHOWN - 1;

    if (i == PARTS_SHOWN - 1 && top[i].value >= p.value)
        return;
    for (; i > 0 && top[i - 1].value < p.value; i--)
        top[i] = top[i - 1];
    top[i] = p;
}

/* The engine's own counters; parts of one count behind, the largest first. */
static void print_engine(const struct vcpus *vcpus, unsigned vcpu)
{
    char full[80], head[16] = "";
    struct part top[PARTS_SHOWN] = {{0}}, p;
    unsigned n = 0;

    if (vcpu != VCPUS_ALL)
        snprintf(head, sizeof head, "vcpu%u.", vcpu);
    for (unsigned i = 0; (p.name = vcpus_stat(vcpus, vcpu, i, &p.value)); i++) {
        if (p.name[0] >= 'A' && p.name[0] <= 'Z') {
            if (p.value)
                insert(top, &n, p);
            continue;
        }
        snprintf(full, sizeof full, "%s%s", head, p.name);
        line(full, p.value);
    }
    for (unsigned i = 0; i < n; i++) {
        snprintf(full, sizeof full, "%s%s", head, top[i].name);
        line(full, top[i].value);
    }
}

void stats_print(struct pc *pc, const struct vcpus *vcpus, uint64_t thaws)
{
    static const char *const kind[INPUT_KIND_COUNT] = {
        [INPUT_PIO] = "input_pio", [INPUT_MMIO] = "input_mmio",
        [INPUT_TSC] = "input_tsc", [INPUT_RANDOM] = "input_random",
        [INPUT_DMA] = "input_dma", [INPUT_IRQ] = "input_irq",
    };
    struct vm *vm = pc_vm(pc);
    unsigned n = vcpus_count(vcpus);

    line("guest_ns", clock_now_ns(vm->clock));
    line("engine_exits", vcpus_exits(vcpus));
    for (unsigned i = 0; i < INPUT_KIND_COUNT; i++)
        line(kind[i], atomic_load(&vm->gate.count[i]));
    print_engine(vcpus, VCPUS_ALL);
    for (unsigned i = 0; i < n && n > 1; i++)
        print_engine(vcpus, i);
    line("thaws", thaws);
    if (clock_mode(vm->clock) == CLOCK_MODE_VIRTUAL)
        print_hash(pc);
}
