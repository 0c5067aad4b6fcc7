// SPDX-License-Identifier: Apache-2.0
/*
 * Instruction boundaries: what other threads asked for is taken and at most
 * one event is delivered; see exceptions.h. Source: Intel SDM vol. 3A 6.7-6.9,
 * 9.4 (INIT, SIPI), 11.8 (interrupt priorities).
 */
#include "cpu/x86/exceptions.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/segmentation.h"

static bool is_bsp(const struct x86_cpu *cpu)
{
    return cpu->lapic.apic_base & X86_APIC_BASE_BSP;
}

static void take_init(struct x86_cpu *cpu)
{
    x86_cpu_reset(cpu, true);
    cpu->activity = is_bsp(cpu) ? X86_ACT_RUN : X86_ACT_WAIT_SIPI;
}

/* A start-up IPI: real mode at vector << 12. SDM vol. 3A 9.4.4 */
static void take_sipi(struct x86_cpu *cpu)
{
    uint8_t vec = (uint8_t)atomic_load(&cpu->kick.sipi_vector);

    x86_seg_set_real(cpu, X86_SEG_CS, (uint16_t)(vec << 8));
    cpu->rip = 0;
    cpu->activity = X86_ACT_RUN;
    cpu->lin->mode(cpu->lin_ctx);
}

/* Take all requests but PARK and EXIT. */
static void take_requests(struct x86_cpu *cpu, uint32_t req)
{
    if (req & KICK_INIT) {
        kick_clear(&cpu->kick, KICK_INIT);
        cpu->init_pending = false;
        take_init(cpu);
    }
    if (req & KICK_SIPI) {
        kick_clear(&cpu->kick, KICK_SIPI);
        cpu->sipi_pending = false;
        if (cpu->activity == X86_ACT_WAIT_SIPI)
            take_sipi(cpu);
    }
    if (req & KICK_NMI) {
        kick_clear(&cpu->kick, KICK_NMI);
        cpu->nmi_pending = true;
    }
    if (req & KICK_TIMER) {
        kick_clear(&cpu->kick, KICK_TIMER);
        x86_lapic_timer_expired(cpu);
    }
    if (req & KICK_POSTED)
        x86_lapic_take_posted(cpu);
}

/* An event that was under way when state was saved. */
static void finish_event(struct x86_cpu *cpu)
{
    struct x86_event ev = cpu->event;

    cpu->event.valid = false;
    if (ev.vector < 32 && ev.vector != X86_VEC_NMI) {
        cpu->exc = (struct x86_exc){.vector = ev.vector,
                                    .has_error = ev.has_error,
                                    .error = ev.error,
                                    .cr2 = cpu->cr2};
        x86_deliver(cpu);
    } else {
        x86_deliver_irq(cpu, ev.vector);
    }
}

static bool extint_waits(const struct x86_cpu *cpu)
{
    return (kick_pending(&cpu->kick) & KICK_EXTINT) && cpu->topo->intack &&
           x86_lapic_extint_ok(cpu);
}

/* The vector to deliver, acknowledged, or -1. The 8259's come first. */
static int take_irq(struct x86_cpu *cpu)
{
    int vec;

    if (extint_waits(cpu)) {
        vec = cpu->topo->intack(cpu->topo->ctx);
    } else {
        vec = x86_lapic_pending(cpu);
        if (vec < 0)
            return -1;
        x86_lapic_ack(cpu, (uint8_t)vec);
    }
    return (int)(input_value(&cpu->vm->gate, INPUT_IRQ, cpu->index, cpu->rip,
                             (uint64_t)vec, cpu->icount) &
                 0xff);
}

/* Deliver at most one. Return: whether something was. */
static bool deliver_one(struct x86_cpu *cpu)
{
    int vec;

    if (cpu->event.valid) {
        finish_event(cpu);
        return true;
    }
    if (cpu->shadow)
        return false;
    if (cpu->nmi_pending && !cpu->nmi_blocked) {
        cpu->nmi_pending = false;
        cpu->nmi_blocked = true;
        x86_deliver_irq(cpu, X86_VEC_NMI);
        return true;
    }
    if (!(cpu->rflags & X86_FL_IF))
        return false;
    vec = take_irq(cpu);
    if (vec < 0)
        return false;
    x86_deliver_irq(cpu, (uint8_t)vec);
    return true;
}

enum x86_bnd x86_boundary(struct x86_cpu *cpu)
{
    uint32_t req = kick_pending(&cpu->kick);
    bool was_waiting, delivered;

    if (req & (KICK_PARK | KICK_EXIT))
        return X86_BND_PARKED;
    if (cpu->activity == X86_ACT_SHUTDOWN)
        return X86_BND_SHUTDOWN;
    was_waiting = cpu->activity == X86_ACT_WAIT_SIPI;
    take_requests(cpu, req);
    if (cpu->activity == X86_ACT_WAIT_SIPI)
        return X86_BND_HALTED;
    if (was_waiting || (req & KICK_INIT))
        return X86_BND_DELIVERED;
    if (cpu->activity == X86_ACT_HLT)
        cpu->shadow = 0; /* it covered the HLT */
    delivered = deliver_one(cpu);
    if (cpu->activity == X86_ACT_SHUTDOWN)
        return X86_BND_SHUTDOWN;
    if (delivered)
        return X86_BND_DELIVERED;
    return cpu->activity == X86_ACT_HLT ? X86_BND_HALTED : X86_BND_NONE;
}

bool x86_irq_window(const struct x86_cpu *cpu)
{
    if (cpu->event.valid)
        return true;
    if (cpu->shadow)
        return false;
    if (cpu->nmi_pending && !cpu->nmi_blocked)
        return true;
    return (cpu->rflags & X86_FL_IF) &&
           (extint_waits(cpu) || x86_lapic_pending(cpu) >= 0);
}
