// SPDX-License-Identifier: Apache-2.0
/*
 * The local APIC: part of the vCPU. xAPIC (MMIO page) and x2APIC (MSRs).
 * Only the vCPU's own thread touches its registers; interrupts from elsewhere
 * come through struct kick (x86_lapic_msi, IPIs).
 * Thread: the vCPU's, unless said. Source: Intel SDM vol. 3A chapter 11.
 */
#ifndef DOPPEL_CPU_X86_LAPIC_H
#define DOPPEL_CPU_X86_LAPIC_H

#include "cpu/x86/state.h"

#define X86_LAPIC_BASE_DEFAULT UINT64_C(0xfee00000)
#define X86_APIC_BASE_BSP      BIT(8)
#define X86_APIC_BASE_X2       BIT(10)
#define X86_APIC_BASE_EN       BIT(11)

/** x86_lapic_init(), x86_lapic_fini() - the timer; fini disarms it */
void x86_lapic_init(struct x86_cpu *cpu);
void x86_lapic_fini(struct x86_cpu *cpu);

/** x86_lapic_reset() - power-on, or INIT, which keeps APIC_BASE and the id */
void x86_lapic_reset(struct x86_cpu *cpu, bool init);

/** x86_lapic_page() - the xAPIC page's GPA, or UINT64_MAX if it isn't mapped
 * (disabled, or x2APIC mode) */
static inline uint64_t x86_lapic_page(const struct x86_cpu *cpu)
{
    uint64_t b = cpu->lapic.apic_base;

    if ((b & (X86_APIC_BASE_EN | X86_APIC_BASE_X2)) != X86_APIC_BASE_EN)
        return UINT64_MAX;
    return b & ~UINT64_C(0xfff);
}

/** x86_lapic_mmio_read(), x86_lapic_mmio_write() - @off into the page; @size 1,
 * 2, 4, 8. Aligned 32-bit accesses work; smaller reads give their part. */
uint64_t x86_lapic_mmio_read(struct x86_cpu *cpu, uint32_t off, unsigned size);
void x86_lapic_mmio_write(struct x86_cpu *cpu, uint32_t off, uint64_t val,
                          unsigned size);

/** x86_lapic_msr_read(), x86_lapic_msr_write() - MSRs 0x800-0x8ff
 * Return: 0 or X86_FAULT with #GP(0). */
int x86_lapic_msr_read(struct x86_cpu *cpu, uint32_t index, uint64_t *val);
int x86_lapic_msr_write(struct x86_cpu *cpu, uint32_t index, uint64_t val);

/** x86_lapic_base_write() - WRMSR IA32_APIC_BASE; 0 or X86_FAULT */
int x86_lapic_base_write(struct x86_cpu *cpu, uint64_t val);

/** x86_lapic_deadline_write() - WRMSR IA32_TSC_DEADLINE */
void x86_lapic_deadline_write(struct x86_cpu *cpu, uint64_t tsc);

/** x86_lapic_msi() - a message signalled interrupt, or one from an I/O APIC
 * @topo: all vCPUs; touches only their kick, logical ids and APIC ids
 * Thread: any. Source: SDM vol. 3A 11.11 */
void x86_lapic_msi(struct x86_topology *topo, uint64_t addr, uint32_t data);

/** x86_lapic_extint_ok() - whether the 8259's INTR reaches the core: LINT0 is
 * unmasked for ExtINT, or the APIC is disabled. x86_boundary asks. */
bool x86_lapic_extint_ok(const struct x86_cpu *cpu);

/** x86_lapic_nmi_lint1() - pulse LINT1 (NMI button). Thread: vcpu */
void x86_lapic_nmi_lint1(struct x86_cpu *cpu);

/** x86_lapic_take_posted() - move kick.posted into IRR */
void x86_lapic_take_posted(struct x86_cpu *cpu);

/** x86_lapic_pending() - the highest vector that TPR and ISR let through, or
 * -1. Looks at IRR only (x86_lapic_take_posted first). */
int x86_lapic_pending(const struct x86_cpu *cpu);

/** x86_lapic_ack() - IRR to ISR: vector @vec is being delivered */
void x86_lapic_ack(struct x86_cpu *cpu, uint8_t vec);

/** x86_lapic_timer_expired() - KICK_TIMER was seen: post the timer's vector if
 * the deadline has passed, arm it again if periodic or early */
void x86_lapic_timer_expired(struct x86_cpu *cpu);

/** x86_lapic_timer_resume() - after state was loaded: arm for the due time that
 * was saved (guest time went on from there) */
void x86_lapic_timer_resume(struct x86_cpu *cpu);

/** x86_lapic_timer_rearm() - after the TSC was written */
void x86_lapic_timer_rearm(struct x86_cpu *cpu);

/** x86_lapic_publish() - write topo->logical after LDR, DFR, SVR or mode
 * changed (also after state was loaded) */
void x86_lapic_publish(struct x86_cpu *cpu);

/** x86_lapic_cr8() ... - CR8 is TPR's class */
static inline uint64_t x86_lapic_cr8(const struct x86_cpu *cpu)
{
    return cpu->lapic.tpr >> 4;
}
void x86_lapic_cr8_write(struct x86_cpu *cpu, uint64_t val);

#endif
