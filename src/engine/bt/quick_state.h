// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's state as the quick gate has it, for what changes privilege or
 * flags there (quick_sys.c, quick_fault.c): general registers in bt->lgpr and
 * at home, the arithmetic flags in bt->lflags, the rest in struct x86_cpu.
 */
#ifndef DOPPEL_ENGINE_BT_QUICK_STATE_H
#define DOPPEL_ENGINE_BT_QUICK_STATE_H

#include "cpu/x86/segmentation.h"
#include "engine/bt/quick_sys.h"

/* ---- state ---- */

/* Guest register @n, of those that the gate has saved or that are at home. */
static ALWAYS_INLINE uint64_t *gpr(struct bt *bt, unsigned n)
{
    return n == X86_R10 || n == X86_R11 ? &bt->home[n] : &bt->lgpr[n];
}

static ALWAYS_INLINE bool gpr_saved(unsigned n)
{
    return (UINT32_C(0x0fd7) >> n & 1) != 0;
}

/* All of RFLAGS, as the guest has it. */
static ALWAYS_INLINE uint64_t flags_get(const struct bt *bt)
{
    uint64_t l = bt->lflags;

    return bt->cpu->rflags | bt->ifl | bt->acl | bt->dfl | (l >> 8 & 0xd5) |
           (l & 1) << 11;
}

static ALWAYS_INLINE void flags_set(struct bt *bt, uint64_t v)
{
    bt->cpu->rflags = v & ~(X86_FL_ARITH | X86_FL_IF | X86_FL_AC | X86_FL_DF);
    bt->ifl = v & X86_FL_IF;
    bt->acl = v & X86_FL_AC;
    bt->dfl = v & X86_FL_DF;
    bt->lflags = (v & 0xd5) << 8 | 0x200 | (v >> 11 & 1);
}

/* Whether the boundary after an instruction that sets RFLAGS to @v is as any
 * other: no trap, no interrupt let in. */
static ALWAYS_INLINE bool calm(const struct bt *bt, uint64_t v)
{
    if (v & (X86_FL_TF | X86_FL_RF | X86_FL_VM))
        return false;
    return !(v & X86_FL_IF) || !(bt->irqw || kick_pending(&bt->cpu->kick));
}

static ALWAYS_INLINE bool canonical(uint64_t va)
{
    return ((uint64_t)((int64_t)(va << 16) >> 16)) == va;
}

/* ---- modes ---- */

static ALWAYS_INLINE enum tlb_kind supervisor_kind(const struct x86_cpu *cpu,
                                                   uint64_t rflags)
{
    return (cpu->cr4 & X86_CR4_SMAP) && !(rflags & X86_FL_AC) ? TLB_SUP
                                                              : TLB_SUPAC;
}

/* What follows from CPL and kind, as interp_mode_update makes it. */
static ALWAYS_INLINE void mode_set(struct bt *bt, unsigned cpl,
                                   enum tlb_kind kind)
{
    struct interp *in = bt->in;
    uint64_t key = (kind == TLB_USER || cpl == 3 ? 4U : 0U) | in->mode;

    bt->cpu->cpl = (uint8_t)cpl;
    in->kind = kind;
    in->tlb = in->tables + (size_t)kind * TLB_ENTRIES;
    in->xtag[0] = in->epoch[0] << 3 | key;
    in->xtag[1] = in->epoch[1] << 3 | key;
}

/* ---- memory ---- */

static ALWAYS_INLINE uint64_t ld64(const uint8_t *p)
{
    return *(const volatile unaligned64 *)(const void *)p;
}

/* The kind of implicit accesses: descriptor tables, an inner stack. */
static ALWAYS_INLINE enum tlb_kind implicit_kind(const struct x86_cpu *cpu)
{
    return cpu->cr4 & X86_CR4_SMAP ? TLB_SUP : TLB_SUPAC;
}

static ALWAYS_INLINE bool code64_ok(uint32_t attr)
{
    return (attr & X86_TYPE_CODE) && !(attr & X86_TYPE_CONFORM) &&
           (attr & X86_SEG_L) && !(attr & X86_SEG_DB);
}

/** bt_q_find() - code at @rip for privilege @cpl and accesses of @kind;
 * bt->mode is then its. Return: NULL: nothing was changed. */
const void *bt_q_find(struct bt *bt, unsigned cpl, enum tlb_kind kind,
                      uint64_t rip);

/** bt_q_at() - the host address of [va, va+n), which is in one page that
 * accesses of @kind may read (write), as the TLBs know. Return: NULL: no. */
uint8_t *bt_q_at(struct bt *bt, enum tlb_kind kind, uint64_t va, unsigned n,
                 bool write);

/** bt_q_desc() - a descriptor of the GDT, present, accessed, a segment, not
 * conforming, of privilege @cpl; *raw: as it is there. Return: false: it is
 * another. */
bool bt_q_desc(struct bt *bt, unsigned sel, unsigned cpl, struct x86_seg *d,
               uint64_t *raw);

#endif
