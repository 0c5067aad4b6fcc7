// SPDX-License-Identifier: Apache-2.0
/*
 * Hardware task switches, 32-bit TSS only (a 16-bit TSS raises #TS, a
 * documented limit). Thread: the vCPU's. Source: Intel SDM vol. 3A 7.3.
 */
#ifndef DOPPEL_CPU_X86_TASK_H
#define DOPPEL_CPU_X86_TASK_H

#include "cpu/x86/segmentation.h"

enum x86_task_why {
    X86_TASK_JMP,
    X86_TASK_CALL, /* also interrupts and exceptions through a task gate */
    X86_TASK_IRET
};

struct x86_task_switch {
    enum x86_task_why why;
    uint16_t sel;      /* of the new TSS */
    uint32_t ext;      /* EXT bit for error codes */
    uint64_t next_rip; /* saved as the old task's EIP */
    bool has_error;    /* push .error on the new stack */
    uint32_t error;
};

/** x86_task_switch() - leave protected-mode task TR for @ts->sel
 * Faults before the new TSS is loaded change nothing; after that they are
 * raised in the new task, as the SDM says (table 7-1).
 * Return: 0, or X86_FAULT. */
int x86_task_switch(struct x86_cpu *cpu, const struct x86_task_switch *ts);

#endif
