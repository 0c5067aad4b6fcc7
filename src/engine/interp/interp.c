// SPDX-License-Identifier: Apache-2.0
/*
 * The interpreter as an engine: a vCPU's private part is made, run, flushed and
 * revoked here. Called by the monitor, one thread per vCPU.
 */
#include "engine/interp/interp.h"

#include "engine/interp/priv.h"
#include "engine/interp/vec.h"
#include "vm/clock.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

static void probe(struct engine_probe *p)
{
    p->usable = true;
    snprintf(p->why, sizeof p->why, "runs on every x86-64 host");
}

static void vcpu_destroy(struct engine_vcpu *v)
{
    struct interp *in = interp_of(v);

    if (!in)
        return;
    tlb_fini(in);
    block_fini(in);
    free(in);
}

static int vcpu_create(struct vm *vm, void *arch, struct engine_vcpu **out,
                       struct err *e)
{
    struct interp *in = calloc(1, sizeof *in);
    struct x86_cpu *cpu = arch;
    unsigned r1[4];
    int r;

    if (!in)
        return err_set(e, -ENOMEM, "interp: no memory for a vCPU");
    in->cpu = cpu;
    in->vclock = clock_mode(vm->clock) == CLOCK_MODE_VIRTUAL;
    in->budget_at = in->clock_at = in->stop_at = UINT64_MAX;
    in->clock_done = cpu->icount;
    in->rng = UINT64_C(0x646f7070656c) + cpu->index;
    if (!in->vclock && getrandom(&in->rng, sizeof in->rng, 0) < 0) {
        r = err_set(e, -errno, "interp: getrandom: %m");
        goto fail;
    }
    in->host_rdrand = !in->vclock &&
                      __get_cpuid(1, &r1[0], &r1[1], &r1[2], &r1[3]) &&
                      (r1[2] & bit_RDRND);
    if (block_init(in) || tlb_init(in)) {
        r = err_set(e, -ENOMEM, "interp: no memory for vCPU %u's caches",
                    cpu->index);
        goto fail;
    }
    cpu->lin = &interp_lin_ops;
    cpu->lin_ctx = in;
    *out = (struct engine_vcpu *)(void *)in;
    return 0;
fail:
    vcpu_destroy((struct engine_vcpu *)(void *)in);
    return r;
}

static void vcpu_flush(struct engine_vcpu *v)
{
    struct interp *in = interp_of(v);

    tlb_flush_all(in);
    block_drop_all(in);
    interp_mode_update(in);
}

static void vcpu_revoke(struct engine_vcpu *v, gpa_t gpa, bool all)
{
    tlb_revoke_ask(interp_of(v), gpa, all);
    tlb_revoke_wait(interp_of(v));
}

void interp_stats_get(const struct engine_vcpu *v, struct interp_stats *out)
{
    *out = ((const struct interp *)(const void *)v)->st;
}

const char *interp_stats_name(unsigned i, const char **help)
{
    static const char *const names[][2] = {
#define STAT(name, text) {#name, text},
#include "engine/interp/stats.def"
#undef STAT
    };

    if (i >= ARRAY_LEN(names))
        return NULL;
    *help = names[i][1];
    return names[i][0];
}

static int init(const struct engine_host *host, struct engine_part **part,
                struct err *e)
{
    int r = interp_vec_init();

    (void)host;
    *part = NULL;
    if (r)
        err_set(e, r, "interp: the signal handlers of vector code: %d", -r);
    return r;
}

static const char *vcpu_stat(const struct engine_vcpu *v, unsigned i,
                             uint64_t *value)
{
    struct interp_stats stats;
    const char *help, *name = interp_stats_name(i, &help);

    if (!name)
        return NULL;
    interp_stats_get(v, &stats);
    memcpy(value, (const uint8_t *)&stats + i * sizeof *value, sizeof *value);
    return name;
}

const struct engine_ops interp_engine = {
    .name = "interp",
    .init = init,
    .probe = probe,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .vcpu_run = interp_run,
    .vcpu_flush = vcpu_flush,
    .vcpu_revoke = vcpu_revoke,
    .vcpu_stat = vcpu_stat,
};
