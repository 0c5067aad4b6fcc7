// SPDX-License-Identifier: Apache-2.0
/* Between the parts of the local APIC (lapic*.c). Thread: the vCPU's. */
#ifndef DOPPEL_CPU_X86_LAPIC_INT_H
#define DOPPEL_CPU_X86_LAPIC_INT_H

#include "cpu/x86/state.h"

#define X86_SVR_ENABLE       0x100U
#define X86_LVT_MASKED       0x10000U
#define X86_LVT_MODE         0x700U
#define X86_LVT_MODE_NMI     0x400U
#define X86_LVT_MODE_EXTINT  0x700U
#define X86_LVT_PERIODIC     0x20000U
#define X86_LVT_DEADLINE     0x40000U
#define X86_ICR_PENDING      0x1000U
#define X86_ESR_SEND_ILLEGAL 0x20U
#define X86_ESR_RECV_ILLEGAL 0x40U
#define X86_ESR_ILLEGAL_REG  0x80U

/* struct x86_topology.logical */
#define X86_LOGICAL_FLAT    1U
#define X86_LOGICAL_X2      2U
#define X86_LOGICAL_ENABLED 4U

/* A fixed interrupt arrives here: into IRR, or an ESR bit. */
void x86_lapic_accept(struct x86_cpu *cpu, uint8_t vec, bool level);
/* A local source fires: by its LVT entry. */
void x86_lapic_lvt_fire(struct x86_cpu *cpu, unsigned which);
/* Note an error for ESR and fire LVT error. */
void x86_lapic_error(struct x86_cpu *cpu, uint32_t bit);
/* The x2APIC logical id. */
uint32_t x86_lapic_ldr_x2(uint32_t id);
/* ICR was written: send. */
void x86_lapic_ipi(struct x86_cpu *cpu, uint64_t icr);

uint32_t x86_lapic_timer_count(struct x86_cpu *cpu);
void x86_lapic_timer_start(struct x86_cpu *cpu, uint32_t count);
void x86_lapic_timer_divide(struct x86_cpu *cpu, uint32_t dcr);
void x86_lapic_timer_lvt(struct x86_cpu *cpu, uint32_t lvt);
void x86_lapic_timer_stop(struct x86_cpu *cpu);

#endif
