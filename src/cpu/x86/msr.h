// SPDX-License-Identifier: Apache-2.0
/*
 * Model specific registers. Unknown ones, reserved bits and bad values raise
 * #GP(0); unknown ones are counted (cpu->unknown_msr_count).
 * Thread: the vCPU's. Source: Intel SDM vol. 4; KVM's: Linux
 * Documentation/virt/kvm/x86/msr.rst.
 */
#ifndef DOPPEL_CPU_X86_MSR_H
#define DOPPEL_CPU_X86_MSR_H

#include "cpu/x86/state.h"

/** x86_rdmsr(), x86_wrmsr() - the instructions: CPL is checked
 * Return: 0 or X86_FAULT with #GP(0). */
int x86_rdmsr(struct x86_cpu *cpu, uint32_t index, uint64_t *val);
int x86_wrmsr(struct x86_cpu *cpu, uint32_t index, uint64_t val);

/** x86_msr_reset() - power-on values; INIT keeps most (SDM table 9-1) */
void x86_msr_reset(struct x86_cpu *cpu, bool init);

/* Indices. */
#define X86_MSR_P5_MC_ADDR        0x000U
#define X86_MSR_P5_MC_TYPE        0x001U
#define X86_MSR_TSC               0x010U
#define X86_MSR_PLATFORM_ID       0x017U
#define X86_MSR_APIC_BASE         0x01bU
#define X86_MSR_EBL_CR_POWERON    0x02aU
#define X86_MSR_FEATURE_CONTROL   0x03aU
#define X86_MSR_TSC_ADJUST        0x03bU
#define X86_MSR_SPEC_CTRL         0x048U
#define X86_MSR_PRED_CMD          0x049U
#define X86_MSR_BIOS_UPDT_TRIG    0x079U
#define X86_MSR_BIOS_SIGN_ID      0x08bU
#define X86_MSR_PLATFORM_INFO     0x0ceU
#define X86_MSR_MTRRCAP           0x0feU
#define X86_MSR_ARCH_CAPABILITIES 0x10aU
#define X86_MSR_FLUSH_CMD         0x10bU
#define X86_MSR_MISC_FEATURES     0x140U
#define X86_MSR_SYSENTER_CS       0x174U
#define X86_MSR_SYSENTER_ESP      0x175U
#define X86_MSR_SYSENTER_EIP      0x176U
#define X86_MSR_MCG_CAP           0x179U
#define X86_MSR_MCG_STATUS        0x17aU
#define X86_MSR_PERF_STATUS       0x198U
#define X86_MSR_MISC_ENABLE       0x1a0U
#define X86_MSR_DEBUGCTL          0x1d9U
#define X86_MSR_MTRR_PHYS         0x200U /* 8 pairs base, mask */
#define X86_MSR_MTRR_FIX64K       0x250U
#define X86_MSR_MTRR_FIX16K       0x258U
#define X86_MSR_MTRR_FIX4K        0x268U
#define X86_MSR_PAT               0x277U
#define X86_MSR_MTRR_DEF_TYPE     0x2ffU
#define X86_MSR_MC0_CTL           0x400U /* banks of 4 */
#define X86_MSR_TSC_DEADLINE      0x6e0U
#define X86_MSR_X2APIC            0x800U /* to 0x8ff */
#define X86_MSR_XSS               0xda0U
#define X86_MSR_EFER              0xc0000080U
#define X86_MSR_STAR              0xc0000081U
#define X86_MSR_LSTAR             0xc0000082U
#define X86_MSR_CSTAR             0xc0000083U
#define X86_MSR_FMASK             0xc0000084U
#define X86_MSR_FS_BASE           0xc0000100U
#define X86_MSR_GS_BASE           0xc0000101U
#define X86_MSR_KERNEL_GS_BASE    0xc0000102U
#define X86_MSR_TSC_AUX           0xc0000103U
#define X86_MSR_KVM_WALL_OLD      0x011U
#define X86_MSR_KVM_SYSTEM_OLD    0x012U
#define X86_MSR_KVM_WALL          0x4b564d00U
#define X86_MSR_KVM_SYSTEM        0x4b564d01U
#define X86_MSR_KVM_ASYNC_PF      0x4b564d02U
#define X86_MSR_KVM_STEAL_TIME    0x4b564d03U
#define X86_MSR_KVM_PV_EOI        0x4b564d04U
#define X86_MSR_KVM_POLL_CONTROL  0x4b564d05U

#endif
