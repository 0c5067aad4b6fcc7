// SPDX-License-Identifier: Apache-2.0
/*
 * The host's KVM as an engine: probe, the process's part, vCPUs, the kick,
 * counters; see kvm.h. Called by the monitor, one thread per vCPU.
 */
#include "engine/kvm/kvm.h"

#include "cpu/x86/paging.h"
#include "engine/kvm/priv.h"
#include "vm/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

static void probe(struct engine_probe *p)
{
    /* Whether it is there, and real, core finds out: we have no paths. */
    p->usable = true;
    snprintf(p->why, sizeof p->why, "runs where /dev/kvm does");
}

static void on_signal(int sig)
{
    (void)sig; /* its arrival is what ends KVM_RUN */
}

static int init(const struct engine_host *host, struct engine_part **part,
                struct err *e)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    sigemptyset(&sa.sa_mask);
    if (sigaction(KVM_KICK_SIGNAL, &sa, NULL) < 0)
        return err_set(e, -errno, "kvm: the kick's signal: %s",
                       strerror(errno));
    return kvm_part_create(host, NULL, part, e);
}

/* Any thread. The request was set before; the vCPU's thread clears
 * immediate_exit before it looks at the requests. */
static void kick(void *ctx)
{
    struct engine_vcpu *v = ctx;

    __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (atomic_load(&v->in_run) && atomic_load(&v->thread) != pthread_self())
        syscall(SYS_tgkill, v->pid, atomic_load(&v->tid), KVM_KICK_SIGNAL);
}

static void vcpu_destroy(struct engine_vcpu *v)
{
    if (!v || !v->cpu)
        return;
    /* A device's thread may still kick: kick() needs nothing but the part. */
    v->cpu = NULL;
    if (--v->part->created == 0)
        kvm_unmap_ram(v->part);
}

static int vcpu_create(struct vm *vm, void *arch, struct engine_vcpu **out,
                       struct err *e)
{
    struct engine_part *part = vm->engine;
    struct x86_cpu *cpu = arch;
    struct engine_vcpu *v;
    int r = 0;

    if (!part || cpu->index >= part->ncpus || part->vcpu[cpu->index].cpu)
        return err_set(e, -EINVAL, "kvm: vCPU %u was not asked for",
                       cpu->index);
    if (clock_mode(vm->clock) == CLOCK_MODE_VIRTUAL)
        return err_set(e, -ENOTSUP,
                       "--clock virtual counts instructions, which KVM does "
                       "not: use --engine interp");
    if (!part->created)
        r = kvm_map_ram(part, vm, e);
    if (r)
        return r;
    v = &part->vcpu[cpu->index];
    v->cpu = cpu;
    part->created++;
    v->in_kvm = v->io_open = v->resync = v->known = v->tsc_known = false;
    v->run->kvm_dirty_regs = 0;
    memset(&v->st, 0, sizeof v->st);
    r = kvm_set_cpuid(v, e);
    if (r) {
        vcpu_destroy(v);
        return r;
    }
    cpu->lin = &x86_lin_walk_ops;
    cpu->lin_ctx = cpu;
    cpu->kick.ctx = v;
    cpu->kick.wake = kick;
    *out = v;
    return 0;
}

/* The hardware walks the page tables and KVM follows the slots: nothing of
 * guest memory is kept here. But the machine's state may be new. */
static void vcpu_flush(struct engine_vcpu *v)
{
    v->known = v->tsc_known = false;
}

/* KVM's own writes are not seen page by page (its dirty log is not used yet):
 * a new epoch begins with every page written. A single page cannot be
 * watched. */
static void vcpu_revoke(struct engine_vcpu *v, gpa_t gpa, bool all)
{
    (void)gpa;
    if (all && v->cpu->index == 0)
        kvm_all_dirty(v->cpu->vm);
}

static const char *vcpu_stat(const struct engine_vcpu *v, unsigned i,
                             uint64_t *value)
{
    static const char *const names[] = {
#define STAT(name, text) #name,
#include "engine/kvm/stats.def"
#undef STAT
    };

    if (i >= ARRAY_LEN(names))
        return NULL;
    memcpy(value, (const uint8_t *)&v->st + i * sizeof *value, sizeof *value);
    return names[i];
}

const struct engine_ops kvm_engine = {
    .name = "kvm",
    .probe = probe,
    .init = init,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .vcpu_run = kvm_run_vcpu,
    .vcpu_flush = vcpu_flush,
    .vcpu_revoke = vcpu_revoke,
    .vcpu_stat = vcpu_stat,
};
