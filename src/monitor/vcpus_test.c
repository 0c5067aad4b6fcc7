// SPDX-License-Identifier: Apache-2.0
/* The vCPU threads, around an engine that plays a part. */
#include "monitor/vcpus.h"

#include "base/bits.h"
#include "base/test.h"
#include "cpu/x86/exceptions.h"

#include <time.h>

/* The engine halts; an INTR comes up between its last look and the sleep. */
struct engine_vcpu {
    struct x86_cpu *cpu;
    _Atomic unsigned runs;
};

static int fake_create(struct vm *vm, void *arch, struct engine_vcpu **out,
                       struct err *e)
{
    struct engine_vcpu *v = calloc(1, sizeof *v);

    (void)vm;
    if (!v)
        return err_set(e, -1, "no memory");
    v->cpu = arch;
    v->cpu->topo->ctx = v;
    *out = v;
    return 0;
}

static void fake_destroy(struct engine_vcpu *v)
{
    free(v);
}

static void fake_run(struct engine_vcpu *v, uint64_t max, struct exit_rec *exit)
{
    (void)max;
    exit->reason = EXIT_HLT;
    if (kick_pending(&v->cpu->kick) & KICK_EXIT)
        exit->reason = EXIT_PARK;
    else if (atomic_fetch_add(&v->runs, 1) == 0)
        kick_request(&v->cpu->kick, KICK_EXTINT);
    else
        kick_clear(&v->cpu->kick, KICK_EXTINT); /* taken */
}

static const struct engine_ops fake = {.name = "fake",
                                       .vcpu_create = fake_create,
                                       .vcpu_destroy = fake_destroy,
                                       .vcpu_run = fake_run};

static void pause_ms(unsigned ms)
{
    struct timespec t = {.tv_nsec = (long)ms * 1000000};

    nanosleep(&t, NULL);
}

/* Return: how often the engine was entered. */
static unsigned runs_with(uint64_t rflags)
{
    struct pc_conf conf = {
        .ram_bytes = 2 * MIB, .ram_fd = -1, .ncpus = 1, .debug_exit_port = -1};
    struct vcpus *v = NULL;
    struct x86_cpu *cpu;
    struct pc *pc = NULL;
    struct err e = {{0}};
    struct engine_vcpu *ev;
    unsigned runs = 0;

    CHECK_EQ(pc_create(&conf, &pc, &e), 0);
    CHECK_EQ(vcpus_create(&fake, pc, &v, &e), 0);
    cpu = pc_cpu(pc, 0);
    ev = cpu->topo->ctx;
    cpu->activity = X86_ACT_HLT;
    cpu->rflags |= rflags;
    CHECK_EQ(vcpus_start(v, &e), 0);
    for (unsigned i = 0; i < 100 && runs < 2; i++) {
        pause_ms(2);
        runs = atomic_load(&ev->runs);
    }
    vcpus_stop(v);
    runs = atomic_load(&ev->runs);
    cpu->topo->ctx = pc;
    vcpus_destroy(v);
    pc_destroy(pc);
    return runs;
}

TEST(halt_sees_late_intr)
{
    CHECK_EQ(runs_with(X86_FL_IF), 2);
}

/* A level that the CPU does not take lets it sleep. */
TEST(halt_sleeps_under_masked_intr)
{
    CHECK_EQ(runs_with(0), 1);
}

TEST_MAIN(CASE(halt_sees_late_intr), CASE(halt_sleeps_under_masked_intr))
