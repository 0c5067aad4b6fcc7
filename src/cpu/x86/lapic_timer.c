// SPDX-License-Identifier: Apache-2.0
/*
 * The local APIC's timer; see lapic.h. It counts at the rate that CPUID
 * 0x15 calls the crystal. The clock's callback only kicks; the vCPU's
 * thread decides. The host timer is armed again only when an earlier deadline
 * comes; one that fires early is armed anew. Source: SDM vol. 3A 11.5.4.
 */
#include "cpu/x86/lapic.h"

#include "cpu/x86/cpuid.h"
#include "cpu/x86/lapic_int.h"

/* A periodic timer that a guest sets absurdly short is slowed to this. */
#define PERIOD_MIN_NS UINT64_C(10000)

static uint64_t scale(uint64_t a, uint64_t b, uint64_t c)
{
    unsigned __int128 p = (unsigned __int128)a * b / c;

    return p > UINT64_MAX / 2 ? UINT64_MAX / 2 : (uint64_t)p;
}

static uint64_t divisor(const struct x86_cpu *cpu)
{
    uint32_t d = cpu->lapic.timer_dcr;
    unsigned code = (d & 3) | (d >> 1 & 4);

    return code == 7 ? 1 : UINT64_C(2) << code;
}

static uint64_t ticks_to_ns(struct x86_cpu *cpu, uint64_t ticks)
{
    uint64_t ns = scale(ticks * divisor(cpu), 1000000, cpu->cpuid->crystal_khz);

    return ns ? ns : 1;
}

static uint64_t ns_to_ticks(struct x86_cpu *cpu, uint64_t ns)
{
    return scale(ns, cpu->cpuid->crystal_khz, 1000000) / divisor(cpu);
}

/* Let the clock kick at @ns or before. */
static void arm(struct x86_cpu *cpu, uint64_t ns)
{
    if (ns >= cpu->lapic_armed_ns)
        return;
    cpu->lapic_armed_ns = ns;
    timer_arm(cpu->vm->clock, &cpu->lapic_timer, ns);
}

static void on_clock(void *ctx)
{
    struct x86_cpu *cpu = ctx;

    kick_request(&cpu->kick, KICK_TIMER);
}

void x86_lapic_init(struct x86_cpu *cpu)
{
    cpu->lapic_armed_ns = CLOCK_NEVER;
    timer_init(&cpu->lapic_timer, on_clock, cpu);
}

void x86_lapic_fini(struct x86_cpu *cpu)
{
    timer_disarm(cpu->vm->clock, &cpu->lapic_timer);
}

static bool deadline_mode(const struct x86_cpu *cpu)
{
    return (cpu->lapic.lvt[X86_LVT_TIMER] &
            (X86_LVT_PERIODIC | X86_LVT_DEADLINE)) == X86_LVT_DEADLINE;
}

static bool periodic(const struct x86_cpu *cpu)
{
    return (cpu->lapic.lvt[X86_LVT_TIMER] &
            (X86_LVT_PERIODIC | X86_LVT_DEADLINE)) == X86_LVT_PERIODIC;
}

/* When the running count or deadline ends; arms the clock. */
static void due_set(struct x86_cpu *cpu)
{
    struct x86_lapic *l = &cpu->lapic;

    if (deadline_mode(cpu)) {
        l->timer_due_ns =
            l->tsc_deadline ? clock_tsc_to_ns(cpu->vm->clock,
                                              l->tsc_deadline - cpu->tsc_offset)
                            : CLOCK_NEVER;
        /* a deadline before the offset's origin has passed */
        if (l->tsc_deadline && (int64_t)(l->tsc_deadline - cpu->tsc_offset -
                                         clock_tsc(cpu->vm->clock)) <= 0)
            l->timer_due_ns = clock_now_ns(cpu->vm->clock);
    } else {
        l->timer_due_ns =
            l->timer_icr ? l->timer_start_ns + ticks_to_ns(cpu, l->timer_icr)
                         : CLOCK_NEVER;
    }
    if (l->timer_due_ns != CLOCK_NEVER)
        arm(cpu, l->timer_due_ns);
}

void x86_lapic_timer_resume(struct x86_cpu *cpu)
{
    cpu->lapic_armed_ns = CLOCK_NEVER;
    if (cpu->lapic.timer_due_ns != CLOCK_NEVER)
        arm(cpu, cpu->lapic.timer_due_ns);
}

static uint32_t count_now(struct x86_cpu *cpu)
{
    const struct x86_lapic *l = &cpu->lapic;
    uint64_t gone;

    if (deadline_mode(cpu) || !l->timer_icr || l->timer_due_ns == CLOCK_NEVER)
        return 0;
    gone = ns_to_ticks(cpu, clock_now_ns(cpu->vm->clock) - l->timer_start_ns);
    if (periodic(cpu))
        return l->timer_icr - (uint32_t)(gone % l->timer_icr);
    return gone >= l->timer_icr ? 0 : l->timer_icr - (uint32_t)gone;
}

uint32_t x86_lapic_timer_count(struct x86_cpu *cpu)
{
    return (uint32_t)input_value(&cpu->vm->gate, INPUT_TSC, cpu->index, 0x39,
                                 count_now(cpu), cpu->icount);
}

void x86_lapic_timer_start(struct x86_cpu *cpu, uint32_t count)
{
    struct x86_lapic *l = &cpu->lapic;

    if (deadline_mode(cpu))
        return; /* ignored (SDM vol. 3A 11.5.4.1) */
    l->timer_icr = count;
    l->timer_start_ns = clock_now_ns(cpu->vm->clock);
    due_set(cpu);
}

void x86_lapic_timer_divide(struct x86_cpu *cpu, uint32_t dcr)
{
    struct x86_lapic *l = &cpu->lapic;
    uint32_t left = count_now(cpu);
    uint64_t now = clock_now_ns(cpu->vm->clock);

    l->timer_dcr = dcr;
    if (!left || deadline_mode(cpu))
        return;
    /* what is left counts on at the new rate */
    l->timer_start_ns = now - ticks_to_ns(cpu, l->timer_icr - left);
    due_set(cpu);
}

void x86_lapic_timer_lvt(struct x86_cpu *cpu, uint32_t lvt)
{
    struct x86_lapic *l = &cpu->lapic;
    uint32_t mode = X86_LVT_PERIODIC | X86_LVT_DEADLINE;
    uint32_t changed = (l->lvt[X86_LVT_TIMER] ^ lvt) & mode;

    l->lvt[X86_LVT_TIMER] = lvt;
    if (changed & X86_LVT_DEADLINE) { /* disarms (SDM vol. 3A 11.5.4.1) */
        l->timer_icr = 0;
        l->tsc_deadline = 0;
        l->timer_due_ns = CLOCK_NEVER;
    }
}

void x86_lapic_deadline_write(struct x86_cpu *cpu, uint64_t tsc)
{
    if (!deadline_mode(cpu))
        return; /* ignored */
    cpu->lapic.tsc_deadline = tsc;
    due_set(cpu);
}

void x86_lapic_timer_expired(struct x86_cpu *cpu)
{
    struct x86_lapic *l = &cpu->lapic;
    uint64_t now = clock_now_ns(cpu->vm->clock), period;

    cpu->lapic_armed_ns = CLOCK_NEVER;
    if (l->timer_due_ns == CLOCK_NEVER)
        return;
    if (now < l->timer_due_ns) {
        arm(cpu, l->timer_due_ns);
        return;
    }
    x86_lapic_lvt_fire(cpu, X86_LVT_TIMER);
    if (deadline_mode(cpu)) {
        l->tsc_deadline = 0;
        l->timer_due_ns = CLOCK_NEVER;
    } else if (periodic(cpu) && l->timer_icr) {
        period = ticks_to_ns(cpu, l->timer_icr);
        l->timer_start_ns += (now - l->timer_start_ns) / period * period;
        l->timer_due_ns = l->timer_start_ns + period;
        if (l->timer_due_ns < now + PERIOD_MIN_NS)
            l->timer_due_ns = now + PERIOD_MIN_NS;
        arm(cpu, l->timer_due_ns);
    } else {
        l->timer_due_ns = CLOCK_NEVER;
    }
}

void x86_lapic_timer_stop(struct x86_cpu *cpu)
{
    cpu->lapic.timer_due_ns = CLOCK_NEVER;
    timer_disarm(cpu->vm->clock, &cpu->lapic_timer);
    cpu->lapic_armed_ns = CLOCK_NEVER;
}

void x86_lapic_timer_rearm(struct x86_cpu *cpu)
{
    struct x86_lapic *l = &cpu->lapic;

    timer_disarm(cpu->vm->clock, &cpu->lapic_timer);
    cpu->lapic_armed_ns = CLOCK_NEVER;
    if (deadline_mode(cpu))
        due_set(cpu);
    else if (l->timer_due_ns != CLOCK_NEVER)
        arm(cpu, l->timer_due_ns);
}
