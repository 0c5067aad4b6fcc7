// SPDX-License-Identifier: Apache-2.0
/*
 * Stacks of control transfers inside cpu/x86: frames are written and read as
 * a whole, so that a fault leaves nothing half done; inner stacks come from the
 * TSS. Thread: the vCPU's. Source: Intel SDM vol. 3A 5.8.5, 6.12, 7.7.
 */
#ifndef DOPPEL_CPU_X86_STACK_H
#define DOPPEL_CPU_X86_STACK_H

#include "cpu/x86/segmentation.h"

#define X86_FRAME_MAX 40 /* values: a call gate's 31 parameters and 4 more */

struct x86_stack {
    struct x86_seg ss;
    uint64_t sp;
    bool wide;      /* 64-bit: no segment, canonical check */
    uint8_t cpl;    /* whose accesses these are */
    uint32_t error; /* of #SS */
};

/* Values in the order of their pushes. */
struct x86_frame {
    unsigned n;
    unsigned bytes; /* of each: 2, 4, 8 */
    uint64_t v[X86_FRAME_MAX];
};

static inline void x86_frame_add(struct x86_frame *f, uint64_t v)
{
    f->v[f->n++] = v;
}

/** x86_stack_now() - the running stack: SS:rSP at CPL */
void x86_stack_now(const struct x86_cpu *cpu, struct x86_stack *st);

/** x86_stack_inner() - the stack for privilege @cpl that the TSS names, checked
 * @ext: EXT bit for error codes. Return: 0, or X86_FAULT: #TS, #SS. */
int x86_stack_inner(struct x86_cpu *cpu, uint8_t cpl, uint32_t ext,
                    struct x86_stack *st);

/** x86_stack_slot64() - 64-bit TSS: slot @slot (0-2 RSPn, 3 + n: IST n, n >= 1)
 */
int x86_stack_slot64(struct x86_cpu *cpu, unsigned slot, uint32_t ext,
                     uint64_t *rsp);

/** x86_stack_push() - write @f below @st->sp and move it. 0 or X86_FAULT. */
int x86_stack_push(struct x86_cpu *cpu, struct x86_stack *st,
                   const struct x86_frame *f);

/** x86_stack_pop() - read @n values of @bytes each and move @st->sp */
int x86_stack_pop(struct x86_cpu *cpu, struct x86_stack *st, unsigned n,
                  unsigned bytes, uint64_t *v);

/** x86_stack_peek() - read one value of @bytes at @off above the top. RETF and
 * IRET read a selector's two bytes alone and before the instruction pointer
 * (observed on Intel): it decides which fault comes and what CR2 says. */
int x86_stack_peek(struct x86_cpu *cpu, const struct x86_stack *st,
                   unsigned off, unsigned bytes, uint64_t *v);

/** x86_stack_drop() - move @st->sp over @bytes */
void x86_stack_drop(struct x86_stack *st, unsigned bytes);

/** x86_stack_sp() - what rSP becomes when @st's pointer is put into it */
uint64_t x86_stack_sp(const struct x86_cpu *cpu, const struct x86_stack *st);

/** x86_cs_set() - CS from a checked descriptor, and CPL; tells the engine */
void x86_cs_set(struct x86_cpu *cpu, uint16_t sel, const struct x86_desc *d,
                uint8_t cpl);

/** x86_ip_cut() - what rIP becomes: 32 bits in a segment that isn't 64-bit,
 * whatever the operand size (observed on Intel) */
uint64_t x86_ip_cut(const struct x86_cpu *cpu, const struct x86_desc *d,
                    uint64_t off);

/** x86_ip_check() - whether @off is a target in code segment @d
 * @error: of the #GP raised if not. Return: 0 or X86_FAULT. */
int x86_ip_check(struct x86_cpu *cpu, const struct x86_desc *d, uint64_t off,
                 uint32_t error);

/** x86_ret_code() - check the CS that RETF or IRET goes back to; *d filled.
 * The target's offset is checked last, after SS (observed on Intel). */
int x86_ret_code(struct x86_cpu *cpu, uint16_t sel, struct x86_desc *d);
/** x86_ret_stack() - pop and check rSP and SS; *st becomes the new stack
 * @cs: the code segment gone back to; @cpl: its privilege */
int x86_ret_stack(struct x86_cpu *cpu, struct x86_stack *st, unsigned bytes,
                  const struct x86_desc *cs, uint8_t cpl);

/* Flat segments of fast system calls. */
void x86_cs_flat(struct x86_cpu *cpu, uint16_t sel, uint8_t cpl, bool wide);
void x86_ss_flat(struct x86_cpu *cpu, uint16_t sel, uint8_t cpl);
/* SS = null selector with RPL @cpl (64-bit mode, inner stacks). */
void x86_ss_null(struct x86_seg *ss, uint8_t cpl);

/* Checks of an SS selector coming from a stack or TSS: vector @vec for all but
 * not-present, which is #SS. */
int x86_ss_fetch(struct x86_cpu *cpu, uint16_t sel, uint8_t cpl, uint8_t vec,
                 uint32_t ext, struct x86_desc *d);

#endif
