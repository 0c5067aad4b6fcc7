// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupt messages: IPIs from ICR, MSIs from devices and I/O APICs. Senders
 * touch only kicks, published logical ids and APIC ids of the targets; see
 * lapic.h. Source: Intel SDM vol. 3A 11.6, 11.11, 11.12.9-10.
 */
#include "cpu/x86/lapic.h"
#include "cpu/x86/lapic_int.h"

enum msg_mode {
    MSG_FIXED,
    MSG_LOWEST,
    MSG_SMI,
    MSG_RESERVED,
    MSG_NMI,
    MSG_INIT,
    MSG_SIPI,
    MSG_EXTINT
};

struct msg {
    uint32_t dest;
    bool wide; /* dest is 32 bits: from an x2APIC */
    bool logical;
    bool level;
    uint8_t mode; /* enum msg_mode */
    uint8_t vector;
};

static bool to_logical(const struct x86_cpu *to, uint32_t pub,
                       const struct msg *m)
{
    uint32_t ldr, id = pub >> 24;

    if (pub & X86_LOGICAL_X2) {
        ldr = x86_lapic_ldr_x2(to->lapic.id);
        return m->dest >> 16 == ldr >> 16 && (m->dest & ldr & 0xffff);
    }
    if (m->dest > 0xff)
        return false;
    if (pub & X86_LOGICAL_FLAT)
        return m->dest & id;
    return m->dest >> 4 == id >> 4 && (m->dest & id & 0xf);
}

static bool is_target(struct x86_topology *topo, unsigned i,
                      const struct msg *m)
{
    const struct x86_cpu *to = topo->cpu[i];
    uint32_t pub = atomic_load(&topo->logical[i]);
    bool all = m->wide ? m->dest == UINT32_MAX : m->dest == 0xff;

    if (all)
        return true;
    if (m->logical)
        return to_logical(to, pub, m);
    return to->lapic.id == m->dest;
}

static void send_to(struct x86_cpu *to, const struct msg *m)
{
    switch (m->mode) {
    case MSG_FIXED:
    case MSG_LOWEST:
        kick_post(&to->kick, m->vector, m->level);
        break;
    case MSG_NMI:
        kick_request(&to->kick, KICK_NMI);
        break;
    case MSG_INIT:
        kick_request(&to->kick, KICK_INIT);
        break;
    case MSG_SIPI:
        atomic_store(&to->kick.sipi_vector, m->vector);
        kick_request(&to->kick, KICK_SIPI);
        break;
    case MSG_EXTINT:
        kick_request(&to->kick, KICK_EXTINT);
        break;
    default:
        break; /* SMI: there is no SMM */
    }
}

static void send(struct x86_topology *topo, const struct msg *m)
{
    for (unsigned i = 0; i < topo->ncpus; i++) {
        if (!topo->cpu[i] || !is_target(topo, i, m))
            continue;
        if (m->mode == MSG_LOWEST) {
            /* one of them: the first whose APIC accepts */
            if (!(atomic_load(&topo->logical[i]) & X86_LOGICAL_ENABLED))
                continue;
            send_to(topo->cpu[i], m);
            return;
        }
        send_to(topo->cpu[i], m);
    }
}

void x86_lapic_msi(struct x86_topology *topo, uint64_t addr, uint32_t data)
{
    struct msg m = {.dest = (uint32_t)(addr >> 12) & 0xff,
                    .logical = addr & 4,
                    .level = data & BIT(15),
                    .mode = data >> 8 & 7,
                    .vector = data & 0xff};

    if (m.mode == MSG_SIPI || m.mode == MSG_RESERVED)
        return;
    if (m.mode == MSG_FIXED && (addr & 8) && m.logical)
        m.mode = MSG_LOWEST; /* redirection hint */
    send(topo, &m);
}

void x86_lapic_ipi(struct x86_cpu *cpu, uint64_t icr)
{
    struct x86_topology *topo = cpu->topo;
    bool x2 = cpu->lapic.apic_base & X86_APIC_BASE_X2;
    struct msg m = {.dest = x2 ? (uint32_t)(icr >> 32) : (uint32_t)(icr >> 56),
                    .wide = x2,
                    .logical = icr & BIT(11),
                    .mode = icr >> 8 & 7,
                    .vector = icr & 0xff};

    if (m.mode == MSG_INIT && (icr & BIT(15)) && !(icr & BIT(14)))
        return; /* INIT level de-assert: nothing since the Pentium 4 */
    if ((m.mode == MSG_FIXED || m.mode == MSG_LOWEST) && m.vector < 16) {
        x86_lapic_error(cpu, X86_ESR_SEND_ILLEGAL);
        return;
    }
    if (m.mode == MSG_RESERVED || m.mode == MSG_EXTINT)
        return;
    switch (icr >> 18 & 3) { /* shorthand */
    case 0:
        send(topo, &m);
        break;
    case 1:
        if (m.mode == MSG_FIXED)
            x86_lapic_accept(cpu, m.vector, false);
        break;
    default:
        for (unsigned i = 0; i < topo->ncpus; i++)
            if (topo->cpu[i] && (topo->cpu[i] != cpu || (icr >> 18 & 3) == 2))
                send_to(topo->cpu[i], &m);
        break;
    }
}
