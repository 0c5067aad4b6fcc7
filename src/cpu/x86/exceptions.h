// SPDX-License-Identifier: Apache-2.0
/*
 * Exceptions and interrupts: raising, delivery through the IDT in all modes,
 * IRET, system calls, debug events, and what happens at an instruction's end.
 *
 * How an engine uses them: a semantic function returns X86_FAULT with cpu->exc
 * set and nothing changed; cpu->rip is still the instruction's address; the
 * engine calls x86_deliver(). A trap (#DB after an instruction) is delivered
 * the same way with cpu->rip already at the next instruction. RF is cleared by
 * the engine after each instruction that succeeded, but for IRET and POPF; it
 * sets RF when it leaves a repeated string instruction half done.
 * Thread: the vCPU's. Source: Intel SDM vol. 3A chapters 6 and 18.
 */
#ifndef DOPPEL_CPU_X86_EXCEPTIONS_H
#define DOPPEL_CPU_X86_EXCEPTIONS_H

#include "cpu/x86/state.h"

/** x86_raise(), x86_raise_err(), x86_raise_pf(), x86_raise_db() - fill cpu->exc
 * Return: X86_FAULT, always, so that `return x86_raise(...)` reads well. */
int x86_raise(struct x86_cpu *cpu, uint8_t vector);
int x86_raise_err(struct x86_cpu *cpu, uint8_t vector, uint32_t error);
int x86_raise_pf(struct x86_cpu *cpu, gva_t va, uint32_t error);
int x86_raise_db(struct x86_cpu *cpu, uint64_t dr6_bits);

/** x86_deliver() - deliver cpu->exc
 * Faults while doing so become #DF or, then, activity = X86_ACT_SHUTDOWN
 * (SDM vol. 3A table 6-5). CR2 and DR6 are set here. Never fails. */
void x86_deliver(struct x86_cpu *cpu);

/** x86_deliver_irq() - deliver external interrupt (or NMI) @vector now,
 * whatever IF says; ends HLT. Never fails. */
void x86_deliver_irq(struct x86_cpu *cpu, uint8_t vector);

enum x86_int_kind {
    X86_INT_N, /* INT imm8: gate DPL and, in v8086, IOPL are checked */
    X86_INT_3, /* INT3 (CC), INTO: gate DPL is checked */
    X86_INT_INTO,
    X86_INT_1 /* INT1 (F1): as a #DB trap, DPL isn't checked */
};

/** x86_int() - a software interrupt; sets cpu->rip
 * @next_rip: what is pushed. Return: 0 or X86_FAULT. */
int x86_int(struct x86_cpu *cpu, uint8_t vector, uint64_t next_rip,
            enum x86_int_kind kind);

/** x86_iret() - IRET, IRETD, IRETQ in all modes; sets rip, rflags and CPL;
 * ends NMI blocking. @opsize: 2, 4, 8. */
int x86_iret(struct x86_cpu *cpu, unsigned opsize);

/** x86_syscall() ... - fast system calls; they check mode and CPL and set rip.
 * @opsize of SYSRET and SYSEXIT: 8 with REX.W, else 4. #UD where the mode or
 * EFER.SCE does not have it. Source: SDM vol. 2B, vol. 3A 5.8.7-8 */
int x86_syscall(struct x86_cpu *cpu, uint64_t next_rip);
int x86_sysret(struct x86_cpu *cpu, unsigned opsize);
int x86_sysenter(struct x86_cpu *cpu);
int x86_sysexit(struct x86_cpu *cpu, unsigned opsize);

/* DR6 and DR7. */
#define X86_DR6_BD    BIT(13)
#define X86_DR6_BS    BIT(14)
#define X86_DR6_BT    BIT(15)
#define X86_DR6_FIXED UINT64_C(0xffff0ff0)
#define X86_DR7_GD    BIT(13)
#define X86_DR7_FIXED UINT64_C(0x400)

/** x86_db_armed() - whether any breakpoint is enabled: run slowly then */
static inline bool x86_db_armed(const struct x86_cpu *cpu)
{
    return (cpu->dr7 & 0xff) != 0;
}

/** x86_check_code_bp() - before the instruction at cs:rip, when x86_db_armed
 * Return: 0 (none, or RF set), or X86_FAULT with #DB raised. */
int x86_check_code_bp(struct x86_cpu *cpu);

/** x86_check_data_bp() - note hits of a data access in cpu->db_pending; they
 * trap at the instruction's end (x86_debug_trap) */
void x86_check_data_bp(struct x86_cpu *cpu, uint64_t lin, size_t len,
                       bool write);
/** x86_check_io_bp() - the same for ports (CR4.DE) */
void x86_check_io_bp(struct x86_cpu *cpu, uint16_t port, unsigned size,
                     bool write);

/** x86_debug_trap() - at the end of an instruction (rip advanced)
 * @tf: TF was set when it began
 * Return: 0, or X86_FAULT with a trap #DB raised (single step, data hits);
 * held back by a MOV SS shadow. */
int x86_debug_trap(struct x86_cpu *cpu, bool tf);

enum x86_bnd {
    X86_BND_NONE,      /* nothing happened: go on */
    X86_BND_DELIVERED, /* rip, CPL, ... are new: look up code again */
    X86_BND_HALTED,    /* HLT or wait-for-SIPI: sleep with kick_wait */
    X86_BND_PARKED,    /* KICK_PARK or KICK_EXIT stands */
    X86_BND_SHUTDOWN   /* triple fault */
};

/** x86_boundary() - at an instruction boundary: called when kick_pending(),
 * cpu->event.valid, activity != RUN, or x86_irq_window() is true
 * Takes INIT, SIPI, NMI, posted vectors, the timer; delivers at most one
 * event. Interrupts wait while a shadow stands (the engine clears cpu->shadow
 * after the next instruction). Priority: SDM vol. 3A table 6-2. */
enum x86_bnd x86_boundary(struct x86_cpu *cpu);

/** x86_irq_window() - whether something waits that x86_boundary would deliver
 * now; for use after STI, POPF, IRET, MOV CR8, EOI, TPR writes, shadows. */
bool x86_irq_window(const struct x86_cpu *cpu);

#endif
