// SPDX-License-Identifier: Apache-2.0
/*
 * What the string instructions share: addressing, runs of elements that stay
 * in a page, and the repeat loop's rules.
 *
 * A repeated instruction works in runs: as many elements as stay in both pages
 * when the TLB has them, else one element by the general ways. Registers are
 * brought up to date after each run, so that a fault or an interrupt leaves
 * exactly what is left to do. Source: Intel SDM vol. 1 7.3.9, vol. 2B REP.
 */
#ifndef DOPPEL_ENGINE_INTERP_STRING_H
#define DOPPEL_ENGINE_INTERP_STRING_H

#include "engine/interp/ops.h"

struct str {
    unsigned size; /* element, bytes */
    unsigned adsize;
    uint64_t mask;  /* of the address size */
    bool down;      /* DF */
    bool rep;       /* F2 or F3 */
    bool one;       /* single-step: at most one element per call */
    uint64_t count; /* elements left; 1 without a prefix */
};

static inline void str_open(const struct interp *in, const struct op *o,
                            unsigned size, struct str *s)
{
    const struct x86_cpu *cpu = in->cpu;

    s->size = size;
    s->adsize = o->adsize;
    s->mask = size_mask(o->adsize);
    s->down = cpu->rflags & X86_FL_DF;
    s->rep = o->insn->prefix & (X86_PFX_REP | X86_PFX_REPNE);
    s->one = (cpu->rflags & X86_FL_TF) || in->slow;
    s->count = s->rep ? cpu->gpr[X86_RCX] & s->mask : 1;
}

/* A repeated one with 32-bit addresses leaves the upper half of @reg zero even
 * when it did no element: the count is 0, or the first one faults (observed on
 * Intel: rCX; rSI, rDI of MOVS and STOS). */
static inline void str_narrow(const struct interp *in, const struct str *s,
                              unsigned reg)
{
    if (s->rep && s->adsize == 4 && in->mode64)
        in->cpu->gpr[reg] = (uint32_t)in->cpu->gpr[reg];
}

static inline uint64_t str_off(const struct interp *in, const struct str *s,
                               unsigned reg)
{
    return in->cpu->gpr[reg] & s->mask;
}

/* Move index register @reg over @n elements. */
static inline void str_step(struct interp *in, const struct str *s,
                            unsigned reg, uint64_t n)
{
    uint64_t d = n * s->size;

    reg_wr(in->cpu, reg, s->adsize, in->cpu->gpr[reg] + (s->down ? 0 - d : d));
}

/* @n elements are done. */
static inline void str_done(struct interp *in, struct str *s, uint64_t n)
{
    s->count -= n;
    if (s->rep)
        reg_wr(in->cpu, X86_RCX, s->adsize, s->count);
}

/* After a run: what to return, or OP_NEXT with s->count left: go on. */
static inline bool str_pause(const struct interp *in, const struct str *s)
{
    return s->count && (s->one || kick_pending(&in->cpu->kick) ||
                        atomic_load_explicit(&in->attn, memory_order_relaxed));
}

/* The linear address of the element at @off. Return: 0 or X86_FAULT. */
int str_lin(struct interp *in, unsigned seg, uint64_t off, unsigned size,
            bool write, uint64_t *lin);

/* How many elements from @off at @lin on stay in the page and do not wrap, and
 * the host address of the first if the TLB has the page; NULL: take the
 * general way, for one element. */
uint8_t *str_run(struct interp *in, const struct str *s, unsigned seg,
                 uint64_t off, bool write, uint64_t *n);

#endif
