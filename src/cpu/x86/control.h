// SPDX-License-Identifier: Apache-2.0
/*
 * Control and debug registers, TLB control, XCR0, the time stamp counter.
 * Each checks CPL and operands, returns 0 or X86_FAULT, and calls the hooks of
 * cpu->lin when translation or mode changed. rip is left alone.
 * Thread: the vCPU's. Source: Intel SDM vol. 2, vol. 3A 2.5, 4.10, 18.2.
 */
#ifndef DOPPEL_CPU_X86_CONTROL_H
#define DOPPEL_CPU_X86_CONTROL_H

#include "cpu/x86/state.h"

/** x86_mov_to_cr(), x86_mov_from_cr() - @n: 0 2 3 4 8, others #UD; @val: cut to
 * 32 bits by the caller outside 64-bit mode */
int x86_mov_to_cr(struct x86_cpu *cpu, unsigned n, uint64_t val);
int x86_mov_from_cr(struct x86_cpu *cpu, unsigned n, uint64_t *val);
int x86_mov_to_dr(struct x86_cpu *cpu, unsigned n, uint64_t val);
int x86_mov_from_dr(struct x86_cpu *cpu, unsigned n, uint64_t *val);
int x86_lmsw(struct x86_cpu *cpu, uint16_t val);
/** x86_smsw() - full CR0, under UMIP's check; the engine cuts it */
int x86_smsw(struct x86_cpu *cpu, uint64_t *val);
int x86_clts(struct x86_cpu *cpu);

/** x86_invlpg() - @lin: linear address (segment base added) */
int x86_invlpg(struct x86_cpu *cpu, uint64_t lin);
/** x86_invpcid() - @type: the register; @desc: the 16 bytes */
int x86_invpcid(struct x86_cpu *cpu, uint64_t type, const uint64_t desc[2]);
/** x86_wbinvd() - WBINVD, INVD: nothing to do but the privilege check */
int x86_wbinvd(struct x86_cpu *cpu);

int x86_xsetbv(struct x86_cpu *cpu, uint32_t index, uint64_t val);
int x86_xgetbv(struct x86_cpu *cpu, uint32_t index, uint64_t *val);

/** x86_tsc() - the guest's TSC now, through the input gate */
uint64_t x86_tsc(struct x86_cpu *cpu);
/** x86_rdtsc(), x86_rdtscp() - with CR4.TSD's check */
int x86_rdtsc(struct x86_cpu *cpu, uint64_t *tsc);
int x86_rdtscp(struct x86_cpu *cpu, uint64_t *tsc, uint32_t *aux);
int x86_rdpmc(struct x86_cpu *cpu, uint32_t index, uint64_t *val);

int x86_swapgs(struct x86_cpu *cpu);
/** x86_hlt() - sets activity; rip is the next instruction's afterwards by the
 * engine */
int x86_hlt(struct x86_cpu *cpu);

/** x86_rdpkru(), x86_wrpkru() - #UD: PKU is not shown */
int x86_rdpkru(struct x86_cpu *cpu, uint64_t *val);
int x86_wrpkru(struct x86_cpu *cpu, uint32_t val);

/** x86_umip_check() - SGDT SIDT SLDT STR SMSW: #GP(0) under UMIP at CPL > 0 */
int x86_umip_check(struct x86_cpu *cpu);

/** x86_cr4_valid() - the CR4 bits that CPUID allows */
uint64_t x86_cr4_valid(const struct x86_cpu *cpu);

/** x86_mode_changed() - tell the engine that code runs differently now */
static inline void x86_mode_changed(struct x86_cpu *cpu)
{
    if (cpu->lin->mode)
        cpu->lin->mode(cpu->lin_ctx);
}

#endif
