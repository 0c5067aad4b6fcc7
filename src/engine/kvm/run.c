// SPDX-License-Identifier: Apache-2.0
/*
 * Running a vCPU by KVM; see priv.h. Before each entry: what other threads
 * asked for. After each exit: the access goes to the buses, the local APIC or
 * the MSRs of cpu/x86, as under the other engines.
 *
 * Interrupts: while struct x86_cpu holds the state, x86_boundary delivers;
 * while KVM holds it, vectors are taken from the local APIC (or the 8259s) and
 * handed over by KVM_INTERRUPT as soon as KVM says that one can be taken.
 * Thread: the vCPU's. Source: Linux Documentation/virt/kvm/api.rst.
 */
#include "cpu/x86/exceptions.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/msr.h"
#include "cpu/x86/phys.h"
#include "engine/kvm/priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What handling an exit leads to. */
enum next {
    NEXT_RUN,
    NEXT_HLT,
    NEXT_SHUTDOWN
};

/* ---- accesses ---- */

static void do_pio(struct engine_vcpu *v)
{
    const struct kvm_run *run = v->run;
    uint8_t *data = (uint8_t *)v->run + run->io.data_offset;
    unsigned size = run->io.size;

    v->st.pio++;
    v->io_open = true;
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        uint32_t val = 0;

        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&val, data, size);
            x86_pio_out(v->cpu, run->io.port, val, size);
        } else {
            val = x86_pio_in(v->cpu, run->io.port, size);
            memcpy(data, &val, size);
        }
    }
}

static void do_mmio(struct engine_vcpu *v)
{
    struct kvm_run *run = v->run;
    uint32_t len = run->mmio.len;

    v->st.mmio++;
    v->io_open = true;
    if (len > sizeof run->mmio.data)
        len = sizeof run->mmio.data;
    if (run->mmio.is_write)
        x86_phys_write(v->cpu, gpa(run->mmio.phys_addr), run->mmio.data, len);
    else
        x86_phys_read(v->cpu, gpa(run->mmio.phys_addr), run->mmio.data, len);
}

/* KVM has checked the CPL. An MSR that it runs itself comes here only because
 * the value was refused. */
static void do_msr(struct engine_vcpu *v, bool write)
{
    struct x86_cpu *cpu = v->cpu;
    uint32_t index = v->run->msr.index;
    uint64_t val = v->run->msr.data;
    bool refused = v->run->msr.reason != KVM_MSR_EXIT_REASON_FILTER &&
                   (index == X86_MSR_EFER || index == X86_MSR_FS_BASE ||
                    index == X86_MSR_GS_BASE || kvm_msr_at(cpu, index));

    v->st.msr++;
    v->io_open = true;
    cpu->cpl = 0;
    cpu->rip = v->run->s.regs.regs.rip;
    if (refused)
        v->run->msr.error = 1;
    else if (write)
        v->run->msr.error = x86_wrmsr(cpu, index, val) != 0;
    else
        v->run->msr.error = x86_rdmsr(cpu, index, &val) != 0;
    v->run->msr.data = val;
    if (write && (index == X86_MSR_APIC_BASE || index == X86_MSR_TSC ||
                  index == X86_MSR_TSC_ADJUST))
        v->resync = true;
}

static int do_internal_error(struct engine_vcpu *v)
{
    const struct kvm_run *run = v->run;
    uint64_t rip = run->s.regs.regs.rip;
    char code[48] = "";
    size_t n = 0;

    if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION)
        return kvm_fail(v, -EIO,
                        "kvm: the host's KVM gave up (internal error %u) at "
                        "RIP 0x%" PRIx64 ": use --engine interp",
                        run->internal.suberror, rip);
    if (run->internal.ndata >= 1 &&
        (run->emulation_failure.flags &
         KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
        for (unsigned i = 0; i < run->emulation_failure.insn_size && i < 15;
             i++)
            n += (size_t)snprintf(code + n, sizeof code - n, " %02x",
                                  run->emulation_failure.insn_bytes[i]);
    return kvm_fail(v, -EIO,
                    "kvm: the host's KVM cannot emulate the instruction at "
                    "RIP 0x%" PRIx64 "%s%s: use --engine interp",
                    rip, n ? ":" : "", code);
}

/* ---- entering ---- */

/* The guest may have written CR8; a TPR that we wrote goes in at the entry. */
static void cr8_taken(struct engine_vcpu *v)
{
    if (v->run->cr8 != x86_lapic_cr8(v->cpu))
        x86_lapic_cr8_write(v->cpu, v->run->cr8 & 0xf);
}

/* One KVM_RUN. Return: 0 with an exit to look at, 1: interrupted, or failed. */
static int enter(struct engine_vcpu *v)
{
    int r;

    v->run->cr8 = x86_lapic_cr8(v->cpu);
    v->st.entries++;
    r = kvm_call(v->part, v->fd, KVM_RUN, NULL);
    v->io_open = false;
    if (r == -EINTR || r == -EAGAIN) {
        v->st.kicked++;
        cr8_taken(v);
        return 1;
    }
    if (r < 0)
        return kvm_fail(v, r, "kvm: running at RIP 0x%" PRIx64 ": %s",
                        (uint64_t)v->run->s.regs.regs.rip, strerror(-r));
    cr8_taken(v);
    return 0;
}

static int handle(struct engine_vcpu *v, enum next *next)
{
    struct kvm_run *run = v->run;

    *next = NEXT_RUN;
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        do_pio(v);
        return 0;
    case KVM_EXIT_MMIO:
        do_mmio(v);
        return 0;
    case KVM_EXIT_X86_RDMSR:
        do_msr(v, false);
        return 0;
    case KVM_EXIT_X86_WRMSR:
        do_msr(v, true);
        return 0;
    case KVM_EXIT_HLT:
        v->st.hlt++;
        *next = NEXT_HLT;
        return 0;
    case KVM_EXIT_SHUTDOWN:
        *next = NEXT_SHUTDOWN;
        return 0;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        v->st.window++;
        return 0;
    case KVM_EXIT_INTR:
    case KVM_EXIT_SET_TPR:
        v->st.other++;
        return 0;
    case KVM_EXIT_INTERNAL_ERROR:
        return do_internal_error(v);
    case KVM_EXIT_FAIL_ENTRY:
        return kvm_fail(v, -EIO,
                        "kvm: the hardware refuses the guest's state (reason "
                        "0x%" PRIx64 ") at RIP 0x%" PRIx64
                        ": use --engine interp",
                        (uint64_t)run->fail_entry.hardware_entry_failure_reason,
                        (uint64_t)run->s.regs.regs.rip);
    default:
        return kvm_fail(v, -EIO, "kvm: exit %u is not known here",
                        run->exit_reason);
    }
}

static void set_immediate_exit(struct engine_vcpu *v, uint8_t on)
{
    __atomic_store_n(&v->run->immediate_exit, on, __ATOMIC_SEQ_CST);
}

/* Let KVM take in our answers without running guest code. Return: 0 and
 * *next. */
static int finish_io(struct engine_vcpu *v, enum next *next)
{
    *next = NEXT_RUN;
    while (*next == NEXT_RUN && v->io_open) {
        int r;

        set_immediate_exit(v, 1);
        r = enter(v);
        if (r < 0)
            return r;
        if (r == 0)
            r = handle(v, next);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Take the state out. HLT and a triple fault may come out of it. */
static int leave(struct engine_vcpu *v, enum next next)
{
    int r = next == NEXT_RUN ? finish_io(v, &next) : 0;

    r = r < 0 ? r : kvm_pull(v);
    if (next == NEXT_HLT)
        v->cpu->activity = X86_ACT_HLT;
    else if (next == NEXT_SHUTDOWN)
        v->cpu->activity = X86_ACT_SHUTDOWN;
    v->resync = false;
    return r;
}

/* ---- interrupts ---- */

static bool extint_waits(const struct x86_cpu *cpu)
{
    return (kick_pending(&cpu->kick) & KICK_EXTINT) && cpu->topo->intack &&
           x86_lapic_extint_ok(cpu);
}

static bool irq_waits(const struct x86_cpu *cpu)
{
    return extint_waits(cpu) || x86_lapic_pending(cpu) >= 0;
}

static bool can_inject(const struct engine_vcpu *v)
{
    const struct x86_cpu *cpu = v->cpu;

    if (v->just_moved)
        return (cpu->rflags & X86_FL_IF) && !cpu->shadow && !cpu->event.valid;
    return v->run->ready_for_interrupt_injection && v->run->if_flag;
}

static uint8_t take_vector(struct x86_cpu *cpu)
{
    int vec;

    if (extint_waits(cpu)) {
        vec = cpu->topo->intack(cpu->topo->ctx);
    } else {
        vec = x86_lapic_pending(cpu);
        x86_lapic_ack(cpu, (uint8_t)vec);
    }
    return (uint8_t)input_value(&cpu->vm->gate, INPUT_IRQ, cpu->index, cpu->rip,
                                (uint64_t)vec, cpu->icount);
}

static int inject(struct engine_vcpu *v)
{
    struct kvm_vcpu_events *events = &v->run->s.regs.events;
    struct kvm_interrupt irq;
    int r = 0;

    if (!irq_waits(v->cpu) || !can_inject(v))
        return 0;
    v->cpu->rip = v->run->s.regs.regs.rip; /* for the input gate */
    irq.irq = take_vector(v->cpu);
    if (v->run->kvm_dirty_regs) { /* goes in with the pushed events */
        events->interrupt.injected = 1;
        events->interrupt.nr = (uint8_t)irq.irq;
    } else {
        r = kvm_call(v->part, v->fd, KVM_INTERRUPT, &irq);
    }
    if (r < 0)
        return kvm_fail(v, r, "kvm: interrupt 0x%x: %s", irq.irq, strerror(-r));
    v->just_moved = false;
    v->run->ready_for_interrupt_injection = 0; /* one at a time */
    v->st.irqs++;
    return 0;
}

/* Queue an NMI. Return: 1 when one goes in now, 0, or failed. */
static int attend_nmi(struct engine_vcpu *v)
{
    int r;

    if (!(kick_pending(&v->cpu->kick) & KICK_NMI))
        return 0;
    kick_clear(&v->cpu->kick, KICK_NMI);
    if (v->run->kvm_dirty_regs) { /* goes in with the pushed events */
        v->run->s.regs.events.nmi.pending = 1;
        return 1;
    }
    r = kvm_call(v->part, v->fd, KVM_NMI, NULL);
    return r < 0 ? kvm_fail(v, r, "kvm: NMI: %s", strerror(-r)) : 1;
}

/* What other threads asked for, KVM holding the state. Return: 0; 1: it must
 * be taken out for this. */
static int attend(struct engine_vcpu *v)
{
    struct x86_cpu *cpu = v->cpu;
    uint32_t req = kick_pending(&cpu->kick);
    int r;

    if (v->resync || (req & (KICK_PARK | KICK_EXIT | KICK_INIT | KICK_SIPI)))
        return 1;
    if (req & KICK_TIMER) {
        kick_clear(&cpu->kick, KICK_TIMER);
        x86_lapic_timer_expired(cpu);
    }
    if (kick_pending(&cpu->kick) & KICK_POSTED)
        x86_lapic_take_posted(cpu);
    /* KVM_INTERRUPT would overtake an NMI, which comes first (SDM vol. 3A
     * table 6-2): the interrupt waits for the next window. */
    r = attend_nmi(v);
    if (r == 0)
        r = inject(v);
    v->run->request_interrupt_window = irq_waits(cpu);
    return r < 0 ? r : 0;
}

/* ---- the loop ---- */

/* struct x86_cpu holds the state: interrupts, INIT, HLT; then push.
 * Return: 0: runs; 1: leave with *reason. */
static int start(struct engine_vcpu *v, enum exit_reason *reason)
{
    switch (x86_boundary(v->cpu)) {
    case X86_BND_NONE:
    case X86_BND_DELIVERED:
        return kvm_push(v);
    case X86_BND_HALTED:
        *reason = EXIT_HLT;
        return 1;
    case X86_BND_PARKED:
        *reason = EXIT_PARK;
        return 1;
    case X86_BND_SHUTDOWN:
        *reason = EXIT_SHUTDOWN;
        return 1;
    }
    return 0;
}

/* KVM holds the state: one entry. */
static int step(struct engine_vcpu *v)
{
    enum next next = NEXT_RUN;
    int r;

    /* A kick after this line is seen below or ends the entry at once. */
    set_immediate_exit(v, 0);
    r = attend(v);
    if (r == 0) {
        r = enter(v);
        v->just_moved = false;
        if (r == 0)
            r = handle(v, &next);
        else if (r > 0)
            r = 0;
    }
    if (r < 0)
        return r;
    return r > 0 || next != NEXT_RUN ? leave(v, next) : 0;
}

void kvm_run_vcpu(struct engine_vcpu *v, uint64_t max_insns,
                  struct exit_rec *exit)
{
    int r = 0;

    (void)max_insns; /* KVM counts no instructions */
    exit->insns = 0;
    v->why[0] = 0;
    atomic_store(&v->tid, gettid());
    atomic_store(&v->thread, pthread_self());
    atomic_store(&v->in_run, true);
    while (r == 0)
        r = v->in_kvm ? step(v) : start(v, &exit->reason);
    atomic_store(&v->in_run, false);
    if (r < 0) {
        exit->reason = EXIT_FAILED;
        memcpy(exit->why, v->why, sizeof exit->why);
        v->in_kvm = v->known = v->tsc_known = false;
    }
}
