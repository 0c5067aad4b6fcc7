// SPDX-License-Identifier: Apache-2.0
/*
 * The BSP as boot protocols want it: flat segments, and for 64-bit entries long
 * mode with the first 4 GiB mapped at their own addresses. The tables for that
 * stand in low memory, which the loader keeps for itself:
 *
 *     0x1000  GDT
 *     0x2000  boot_params, Multiboot info
 *     0x3000  PML4, PDPT, four page directories (2 MiB pages)
 *     0x9000  a page of stack
 *    0x10000  command line and other strings, 64 KiB
 */
#ifndef DOPPEL_BOOT_CPU_H
#define DOPPEL_BOOT_CPU_H

#include "base/cc.h"
#include "base/err.h"
#include "base/types.h"
#include "vm/mem.h"

#define BOOT_GDT_GPA       0x1000U
#define BOOT_PARAMS_GPA    0x2000U
#define BOOT_PML4_GPA      0x3000U
#define BOOT_STACK_TOP     0xa000U
#define BOOT_STRINGS_GPA   0x10000U
#define BOOT_STRINGS_BYTES 0x10000U
#define BOOT_LOW_END       0x20000U /* end of what the loader keeps */

#define BOOT_CS_SEL        0x10U
#define BOOT_DS_SEL        0x18U

struct x86_cpu;

/** boot_cpu_enter64() - long mode, identity-mapped, at @entry; RSI = @arg.
 * Return: 0, or -ENOMEM (not even 1 MiB of RAM). */
MUST_CHECK int boot_cpu_enter64(struct mem *mem, struct x86_cpu *cpu,
                                gpa_t entry, gpa_t arg, struct err *e);

/** boot_cpu_enter32() - protected mode without paging, flat, at @entry; EAX,
 * EBX = @eax, @ebx. Return: as boot_cpu_enter64. */
MUST_CHECK int boot_cpu_enter32(struct mem *mem, struct x86_cpu *cpu,
                                gpa_t entry, uint32_t eax, uint32_t ebx,
                                struct err *e);

#endif
