// SPDX-License-Identifier: Apache-2.0
/*
 * Segmentation: effective to linear addresses, loads of segment registers,
 * far control transfers, the descriptor instructions, I/O rights.
 *
 * While these run, cpu->rip is the address of the running instruction. Control
 * transfers set cpu->rip; the others leave it for the engine to advance.
 * All return 0, or X86_FAULT with cpu->exc set and nothing changed.
 * Thread: the vCPU's. Source: Intel SDM vol. 3A chapters 3, 5, 7 (tasks).
 */
#ifndef DOPPEL_CPU_X86_SEGMENTATION_H
#define DOPPEL_CPU_X86_SEGMENTATION_H

#include "cpu/x86/state.h"

/* System descriptor types (SDM vol. 3A table 3-2). */
#define X86_SYS_TSS16_AVAIL 1U
#define X86_SYS_LDT         2U
#define X86_SYS_TSS16_BUSY  3U
#define X86_SYS_CALL16      4U
#define X86_SYS_TASK        5U
#define X86_SYS_INT16       6U
#define X86_SYS_TRAP16      7U
#define X86_SYS_TSS_AVAIL   9U
#define X86_SYS_TSS_BUSY    11U
#define X86_SYS_CALL        12U
#define X86_SYS_INT         14U
#define X86_SYS_TRAP        15U

/* Code and data descriptor type bits. */
#define X86_TYPE_ACCESSED 1U
#define X86_TYPE_RW       2U /* data: writable; code: readable */
#define X86_TYPE_EXPDOWN  4U /* data */
#define X86_TYPE_CONFORM  4U /* code */
#define X86_TYPE_CODE     8U

/* A descriptor as it lies in a table. attr as in struct x86_seg. */
struct x86_desc {
    uint64_t base; /* segments, LDT, TSS (64-bit in long mode) */
    uint32_t limit;
    uint32_t attr;
    uint16_t gate_sel; /* gates */
    uint8_t gate_param;
    uint64_t gate_off;
    uint64_t raw;  /* the first eight bytes */
    uint64_t addr; /* linear address of them */
};

/** x86_seg_check() - the linear address of [seg:off, +len)
 * @off: effective address, already cut to the address size
 * 64-bit mode: FS and GS bases only, canonical check by the access itself
 * (X86_LIN_STACK for SS). Else: limits, expand-down, type, null.
 * Return: 0 and *lin, or X86_FAULT: #GP(0), #SS(0) for SS. */
int x86_seg_check(struct x86_cpu *cpu, enum x86_seg_id seg, uint64_t off,
                  size_t len, bool write, gva_t *lin);

/** x86_seg_load() - MOV, POP, LxS into ES SS DS FS GS (not CS), all modes */
int x86_seg_load(struct x86_cpu *cpu, enum x86_seg_id seg, uint16_t sel);

/** x86_lldt(), x86_ltr() - privilege and mode are checked here too */
int x86_lldt(struct x86_cpu *cpu, uint16_t sel);
int x86_ltr(struct x86_cpu *cpu, uint16_t sel);

/** x86_lar(), x86_lsl() - *ok is the new ZF; *out is set if so. Real mode and
 * v8086: the engine raises #UD (decoder attribute). */
int x86_lar(struct x86_cpu *cpu, uint16_t sel, uint32_t *out, bool *ok);
int x86_lsl(struct x86_cpu *cpu, uint16_t sel, uint32_t *out, bool *ok);
/** x86_verx() - VERR, or VERW with @write; *ok is the new ZF */
int x86_verx(struct x86_cpu *cpu, uint16_t sel, bool write, bool *ok);

/** x86_far_jmp(), x86_far_call() - direct or indirect far JMP, CALL
 * @opsize: 2, 4, 8; @next_rip: the return address */
int x86_far_jmp(struct x86_cpu *cpu, uint16_t sel, uint64_t off,
                unsigned opsize, uint64_t next_rip);
int x86_far_call(struct x86_cpu *cpu, uint16_t sel, uint64_t off,
                 unsigned opsize, uint64_t next_rip);
/** x86_far_ret() - RETF imm16; @pop_bytes: the immediate */
int x86_far_ret(struct x86_cpu *cpu, unsigned opsize, uint16_t pop_bytes);

/** x86_io_check() - CPL, IOPL and the TSS's I/O map for ports [port, +size)
 * Return: 0, or X86_FAULT: #GP(0). SDM vol. 1 19.5 */
int x86_io_check(struct x86_cpu *cpu, uint16_t port, unsigned size);

/* --- for the rest of cpu/x86 and for boot code --- */

/** x86_desc_read() - the descriptor that @sel names in GDT or LDT
 * @sys: read 16 bytes in long mode (LDT, TSS, call gate), where the type asks
 * Return: 0, or X86_FAULT: @vec(sel & ~3 | ext) outside the table. */
int x86_desc_read(struct x86_cpu *cpu, uint16_t sel, uint8_t vec, uint32_t ext,
                  struct x86_desc *d);
/* Take a raw descriptor's fields apart. */
void x86_desc_parse(uint64_t raw, struct x86_desc *d);
/* Set the accessed bit in memory, if it isn't; may raise #PF. */
int x86_desc_accessed(struct x86_cpu *cpu, struct x86_desc *d);
/* Fill a segment register from a checked descriptor. */
void x86_seg_set(struct x86_seg *s, uint16_t sel, const struct x86_desc *d);
/* Real mode or v8086 segment: base = sel << 4; other fields are kept in real
 * mode (unreal), forced in v8086. */
void x86_seg_set_real(struct x86_cpu *cpu, enum x86_seg_id seg, uint16_t sel);
/* Drop data segments that CPL @cpl may not keep (RETF, IRET to outer). */
void x86_segs_outer(struct x86_cpu *cpu, uint8_t cpl);

/* Bits of ESP/RSP that pushes use: by SS.B, 64 in 64-bit mode. */
static inline uint64_t x86_stack_mask(const struct x86_cpu *cpu)
{
    if (x86_mode(cpu) == X86_MODE_64)
        return ~UINT64_C(0);
    return cpu->seg[X86_SEG_SS].attr & X86_SEG_DB ? 0xffffffffU : 0xffffU;
}

#endif
