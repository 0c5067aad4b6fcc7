// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's x87, MMX, SSE and AVX instructions, run by the host CPU: each
 * form has small stubs made at build time from the instruction table (fixed
 * registers, one memory operand at [rdi]); what a stub can't do (masked moves,
 * gathers, FXSAVE and XSAVE and kin) is C. No code is made at run time.
 *
 * Contract on struct x86_cpu: xsave.b is the standard layout and always holds
 * the values themselves in the legacy and AVX areas, initial ones too. The
 * header's XSTATE_BV has x87 and SSE set, and AVX where an upper half may not
 * be zero (set and cleared here), so that the image can be loaded as it is.
 * FIP and FDP are 64 bits wide (as FXSAVE64 has them), FCS and FDS are zero.
 */
#ifndef DOPPEL_ENGINE_INTERP_VEC_H
#define DOPPEL_ENGINE_INTERP_VEC_H

#include "cpu/x86/state.h"

#include <signal.h>

/** interp_vec_init() - install the SIGFPE and SIGILL handlers
 * Once per process; again does no harm. A vCPU thread must not block the two
 * signals. Return: 0, or -errno. Thread: any. */
MUST_CHECK int interp_vec_init(void);

/** interp_vec_signal() - handle a fault that a stub raised
 * For whoever owns a handler of SIGFPE or SIGILL himself: call it first.
 * Touches only @ucontext, which belongs to the interrupted thread: no locks,
 * no allocation, no mutable data, so any number of threads may be in it.
 * Return: true when the program counter was in a stub; then *ucontext is
 * changed so that the stub returns and its caller sees @signo. */
bool interp_vec_signal(int signo, void *ucontext);

/** interp_vec_gate() - what CR0, CR4 and XCR0 say about running @insn
 * Return: 0, or X86_FAULT with #UD or #NM. CPUID features, CPL and modes are
 * the caller's. Forms that aren't vector forms: 0.
 * Source: SDM vol. 2 2.4-2.5 (exception classes), vol. 3A table 2-2. */
int interp_vec_gate(struct x86_cpu *cpu, const struct x86_insn *insn);

/** interp_vec_has() - whether interp_vec_exec() runs this form */
bool interp_vec_has(unsigned form);

/** interp_vec_exec() - run @insn, but for the advance of rip
 * @cpu: rip is the instruction's address; its own thread calls
 * Return: 0; or X86_FAULT with cpu->exc set and nothing changed, with the
 * exceptions that hardware makes: MXCSR's flags after #XM, and what a gather
 * had loaded before the element that faulted. */
int interp_vec_exec(struct x86_cpu *cpu, const struct x86_insn *insn);

#endif
