// SPDX-License-Identifier: Apache-2.0
/*
 * One instruction at a time, for tests that compare with a real CPU.
 */
#ifndef DOPPEL_ENGINE_INTERP_SINGLE_H
#define DOPPEL_ENGINE_INTERP_SINGLE_H

#include "cpu/x86/state.h"

/** interp_single() - execute exactly one instruction at cpu->rip
 * @cpu: interp_engine.vcpu_create was called on it; any state may have been
 *   changed since, but after changes of page tables or CR3 that did not go
 *   through instructions call interp_engine.vcpu_flush
 * All effects are there at return: registers, memory, rip, icount. A repeated
 * string instruction may stop half-way when something waits in cpu->kick; rip
 * then still points at it. Interrupts are not taken. Thread: the vCPU's.
 * Return: 0, or X86_FAULT: cpu->exc is filled and not delivered. */
int interp_single(struct x86_cpu *cpu);

#endif
