// SPDX-License-Identifier: Apache-2.0
/*
 * The kvm engine inside: the process's one KVM VM and its vCPUs, and who holds
 * a vCPU's state. Theory of operation:
 *
 * A vCPU's state is in struct x86_cpu, or in KVM (in_kvm). kvm_push moves it
 * in, kvm_pull out; registers, segments and events travel in struct kvm_run
 * with the next KVM_RUN (KVM_CAP_SYNC_REGS), the rest by ioctls, and only what
 * differs from what KVM had last. While KVM holds it, struct x86_cpu's local
 * APIC and the MSRs that KVM does not run itself are still valid there: exits
 * for them need no other state.
 *
 * An access that KVM handed to us (port, MMIO, MSR) is finished by the next
 * KVM_RUN; state is read only after that (kvm_finish_io).
 *
 * Source: Linux Documentation/virt/kvm/api.rst.
 */
#ifndef DOPPEL_ENGINE_KVM_PRIV_H
#define DOPPEL_ENGINE_KVM_PRIV_H

#include "cpu/x86/cpuid.h"
#include "cpu/x86/state.h"
#include "engine/kvm/kvm.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>

#define KVM_KICK_SIGNAL SIGUSR1
#define KVM_STATE_MSRS  12 /* at most this many MSRs travel */

/* How the guest's TSC is set. */
enum kvm_tsc_by {
    KVM_TSC_OFFSET, /* KVM_VCPU_TSC_OFFSET: exactly */
    KVM_TSC_MSR,    /* before Linux 5.16: KVM rounds it to other vCPUs' */
    KVM_TSC_HOSTS   /* it takes no offset: the guest sees the host's TSC */
};

/* CPUID registers whose feature bits are cut to what KVM supports. */
#define KVM_SHOWN_REGS 8

struct kvm_stats {
#define STAT(name, text) uint64_t name;
#include "engine/kvm/stats.def"
#undef STAT
};

/* struct kvm_msrs, kvm_cpuid2 and kvm_xsave with room. */
struct kvm_msr_block {
    uint32_t nmsrs, pad;
    struct kvm_msr_entry entry[KVM_STATE_MSRS];
};

struct kvm_cpuid_block {
    uint32_t nent, padding;
    struct kvm_cpuid_entry2 entry[X86_CPUID_LEAVES_MAX];
};

_Static_assert(offsetof(struct kvm_msr_block, entry) ==
                   offsetof(struct kvm_msrs, entries),
               "layout is the kernel's");
_Static_assert(offsetof(struct kvm_cpuid_block, entry) ==
                   offsetof(struct kvm_cpuid2, entries),
               "layout is the kernel's");

#define KVM_XSAVE_BYTES 4096
_Static_assert(sizeof(struct kvm_xsave) == KVM_XSAVE_BYTES, "no larger");

struct engine_vcpu {
    struct engine_part *part;
    struct x86_cpu *cpu; /* NULL: not in use */
    struct kvm_run *run;
    int fd;
    /* the kick; see kvm_kick */
    pid_t pid;
    _Atomic pid_t tid;
    _Atomic pthread_t thread;
    _Atomic bool in_run;
    /* who holds what */
    bool in_kvm;     /* all but the local APIC and our MSRs */
    bool just_moved; /* kvm_run says nothing about interrupts yet */
    bool io_open;    /* KVM waits for our answer to be taken in */
    bool resync;     /* a register of ours that KVM must know was written */
    bool known;      /* the had_* below are what KVM has */
    struct kvm_msr_block had_msrs;
    struct kvm_debugregs had_debug;
    uint64_t had_xcr0;
    uint8_t had_xsave[X86_XSAVE_BYTES];
    bool tsc_known;
    uint64_t had_tsc;             /* guest TSC minus the host's, as last set */
    struct kvm_cpuid_block cpuid; /* as last set */
    struct kvm_stats st;
    uint8_t xsave[KVM_XSAVE_BYTES]; /* struct kvm_xsave */
    char why[240];                  /* why it failed */
};

struct engine_part {
    struct kvm_sys sys;
    int vm_fd;
    size_t run_bytes;
    unsigned ncpus;
    unsigned created; /* vCPUs in use; > 0: the memory slots are set */
    bool told;        /* that CPUID was cut */
    enum kvm_tsc_by tsc_by;
    _Atomic uint64_t tsc_base;         /* the clock's TSC minus the host's */
    uint32_t can_show[KVM_SHOWN_REGS]; /* CPUID bits that KVM supports */
    uint32_t msr[KVM_STATE_MSRS];      /* indices that travel */
    unsigned nmsrs;
    struct engine_vcpu vcpu[X86_CPUS_MAX];
};

/** kvm_call() - an ioctl on @fd; negative errno on failure */
int kvm_call(struct engine_part *part, int fd, unsigned long req, void *arg);

/** kvm_supported() - fill part->can_show, while /dev/kvm is open */
MUST_CHECK int kvm_supported(struct engine_part *part, int kvm, struct err *e);

/** kvm_map_ram(), kvm_unmap_ram() - the memory slots
 * Return: 0, or a negative errno with a sentence. */
MUST_CHECK int kvm_map_ram(struct engine_part *part, struct vm *vm,
                           struct err *e);
void kvm_unmap_ram(struct engine_part *part);
/** kvm_all_dirty() - KVM writes RAM unseen: call every page written */
void kvm_all_dirty(struct vm *vm);

/** kvm_set_cpuid() - what CPUID answers; a vCPU that ran takes no other */
MUST_CHECK int kvm_set_cpuid(struct engine_vcpu *v, struct err *e);

/** kvm_msr_at() - where struct x86_cpu keeps MSR @index, if KVM runs it */
uint64_t *kvm_msr_at(struct x86_cpu *cpu, uint32_t index);

/** kvm_push() - struct x86_cpu to KVM; takes effect at the next KVM_RUN
 *  kvm_pull() - KVM to struct x86_cpu, after kvm_finish_io
 *  kvm_tsc() - let the guest's TSC be what x86_tsc says
 * Return: 0, or a negative errno and v->why. */
MUST_CHECK int kvm_push(struct engine_vcpu *v);
MUST_CHECK int kvm_pull(struct engine_vcpu *v);
MUST_CHECK int kvm_tsc(struct engine_vcpu *v);

/** kvm_fail() - put the sentence into v->why; Return: @code */
int kvm_fail(struct engine_vcpu *v, int code, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/** kvm_run_vcpu() - engine_ops.vcpu_run */
void kvm_run_vcpu(struct engine_vcpu *v, uint64_t max_insns,
                  struct exit_rec *exit);

#endif
