// SPDX-License-Identifier: Apache-2.0
/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT as Intel CPUs have them; exceptions.h.
 * Source: Intel SDM vol. 2B, vol. 3A 5.8.7, 5.8.8.
 */
#include "cpu/x86/control.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/paging.h"
#include "cpu/x86/stack.h"

/* RFLAGS bits that SYSRET takes from R11. */
#define SYSRET_FLAGS UINT64_C(0x3c7fd7)

int x86_syscall(struct x86_cpu *cpu, uint64_t next_rip)
{
    uint16_t sel = (uint16_t)(cpu->msr.star >> 32);

    if (!(cpu->efer & X86_EFER_SCE) || x86_mode(cpu) != X86_MODE_64)
        return x86_raise(cpu, X86_VEC_UD);
    cpu->gpr[X86_RCX] = next_rip;
    cpu->gpr[X86_R11] = cpu->rflags & ~X86_FL_RF;
    cpu->rflags =
        (cpu->rflags & ~(cpu->msr.fmask | X86_FL_RF | X86_FL_VM)) | X86_FL_ONE;
    x86_cs_flat(cpu, sel & 0xfffcU, 0, true);
    x86_ss_flat(cpu, (uint16_t)((sel & 0xfffcU) + 8), 0);
    cpu->rip = cpu->msr.lstar;
    x86_mode_changed(cpu);
    return 0;
}

int x86_sysret(struct x86_cpu *cpu, unsigned opsize)
{
    uint16_t sel = (uint16_t)(cpu->msr.star >> 48);
    uint64_t rip = cpu->gpr[X86_RCX];

    if (!(cpu->efer & X86_EFER_SCE) || x86_mode(cpu) != X86_MODE_64)
        return x86_raise(cpu, X86_VEC_UD);
    if (cpu->cpl != 0 || (opsize == 8 && !x86_canonical(rip)))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    cpu->rflags = (cpu->gpr[X86_R11] & SYSRET_FLAGS) | X86_FL_ONE;
    if (opsize == 8) {
        x86_cs_flat(cpu, (uint16_t)(sel + 16), 3, true);
        cpu->rip = rip;
    } else {
        x86_cs_flat(cpu, sel, 3, false);
        cpu->rip = (uint32_t)rip;
    }
    x86_ss_flat(cpu, (uint16_t)(sel + 8), 3);
    x86_mode_changed(cpu);
    return 0;
}

int x86_sysenter(struct x86_cpu *cpu)
{
    bool lm = cpu->efer & X86_EFER_LMA;
    uint16_t sel = cpu->msr.sysenter_cs & 0xfffcU;

    if (!(cpu->cr0 & X86_CR0_PE) || sel == 0)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    cpu->rflags &= ~(X86_FL_VM | X86_FL_IF | X86_FL_RF);
    x86_cs_flat(cpu, sel, 0, lm);
    x86_ss_flat(cpu, (uint16_t)(sel + 8), 0);
    cpu->gpr[X86_RSP] =
        lm ? cpu->msr.sysenter_esp : (uint32_t)cpu->msr.sysenter_esp;
    cpu->rip = lm ? cpu->msr.sysenter_eip : (uint32_t)cpu->msr.sysenter_eip;
    x86_mode_changed(cpu);
    return 0;
}

int x86_sysexit(struct x86_cpu *cpu, unsigned opsize)
{
    uint16_t sel = cpu->msr.sysenter_cs & 0xfffcU;
    uint64_t rip = cpu->gpr[X86_RDX], rsp = cpu->gpr[X86_RCX];

    if (!(cpu->cr0 & X86_CR0_PE) || sel == 0 || cpu->cpl != 0)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    if (opsize == 8) {
        if (!x86_canonical(rip) || !x86_canonical(rsp))
            return x86_raise_err(cpu, X86_VEC_GP, 0);
        sel = (uint16_t)(sel + 32);
    } else {
        rip = (uint32_t)rip;
        rsp = (uint32_t)rsp;
        sel = (uint16_t)(sel + 16);
    }
    x86_cs_flat(cpu, sel, 3, opsize == 8);
    x86_ss_flat(cpu, (uint16_t)(sel + 8), 3);
    cpu->gpr[X86_RSP] = rsp;
    cpu->rip = rip;
    x86_mode_changed(cpu);
    return 0;
}
