// SPDX-License-Identifier: Apache-2.0
/* --stats; see stats.h. */
#include "monitor/stats.h"

#include "base/log.h"

#include <inttypes.h>

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

void stats_print(struct pc *pc, const struct vcpus *vcpus, uint64_t thaws)
{
    static const char *const kind[INPUT_KIND_COUNT] = {
        [INPUT_PIO] = "input_pio", [INPUT_MMIO] = "input_mmio",
        [INPUT_TSC] = "input_tsc", [INPUT_RANDOM] = "input_random",
        [INPUT_DMA] = "input_dma", [INPUT_IRQ] = "input_irq",
    };
    struct vm *vm = pc_vm(pc);
    const char *name;
    uint64_t sum;

    line("guest_ns", clock_now_ns(vm->clock));
    line("engine_exits", vcpus_exits(vcpus));
    for (unsigned i = 0; i < INPUT_KIND_COUNT; i++)
        line(kind[i], atomic_load(&vm->gate.count[i]));
    for (unsigned i = 0; (name = vcpus_stat(vcpus, i, &sum)) != NULL; i++)
        line(name, sum);
    line("thaws", thaws);
    if (clock_mode(vm->clock) == CLOCK_MODE_VIRTUAL)
        print_hash(pc);
}
