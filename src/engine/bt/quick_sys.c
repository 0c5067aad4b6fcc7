// SPDX-License-Identifier: Apache-2.0
/*
 * System instructions in the quick gate. Each leaves what the interpreter would
 * leave, or changes nothing and returns NULL: then the interpreter runs it. So
 * everything unusual goes there: faults, traps, waiting interrupts, other
 * modes.
 *
 * Translated code runs with TF, RF and VM clear, no breakpoint armed, in 64-bit
 * mode; the arithmetic flags are the host's (bt->lflags), not cpu->rflags'.
 * Source: Intel SDM vol. 2, 3A ch. 6; cpu/x86 has the same rules in full.
 */
#include "engine/bt/quick_sys.h"

#include "cpu/x86/control.h"
#include "cpu/x86/paging.h"
#include "cpu/x86/segmentation.h"

#define SYSRET_FLAGS UINT64_C(0x3c7fd7)
#define FL_IRET                                                                \
    (X86_FL_ARITH | X86_FL_TF | X86_FL_DF | X86_FL_NT | X86_FL_RF |            \
     X86_FL_AC | X86_FL_ID | X86_FL_IOPL | X86_FL_VIF | X86_FL_VIP |           \
     X86_FL_IF)
#define FL_POPF                                                                \
    (X86_FL_ARITH | X86_FL_TF | X86_FL_DF | X86_FL_NT | X86_FL_AC |            \
     X86_FL_ID | X86_FL_IOPL | X86_FL_IF)

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

/* The block at @rip for privilege @cpl and accesses of @kind; bt->mode is then
 * its. */
static const void *find_at(struct bt *bt, unsigned cpl, enum tlb_kind kind,
                           uint64_t rip)
{
    uint32_t old = bt->mode;
    const void *code;

    bt->mode = (old & ~(BT_MODE_KIND | BT_MODE_CPL3 | BT_MODE_ZONE)) | kind |
               bt->zoned[kind != TLB_USER] |
               (cpl == 3 ? BT_MODE_CPL3 : 0);
    if (!bt->req && !bt->check) { /* its indirect entry compares */
        bt->lgpr[X86_R11] = rip;
        return (const void *)(uintptr_t)bt_ib(bt, kind)[bt_ib_index(kind, rip)];
    }
    code = bt_quick_jump(bt, rip);
    if (!code)
        bt->mode = old;
    return code;
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

/* The host address of [va, va+n), which is in one page that accesses of @kind
 * may read (write), or NULL. */
static uint8_t *at(struct bt *bt, enum tlb_kind kind, uint64_t va, unsigned n,
                   bool write)
{
    unsigned i = bt_tlb_index(va);
    const uint64_t *key =
        write ? &bt->view->tlb[kind].w[i] : &bt->view->tlb[kind].r[i];

    if ((va & 0xfff) + n > 4096)
        return NULL;
    if (va + *key > 4095 && !bt_tlb_fill(bt, kind, va, write))
        return NULL;
    return (uint8_t *)(uintptr_t)(bt->view->tlb[kind].delta[i] + va);
}

static ALWAYS_INLINE uint64_t ld64(const uint8_t *p)
{
    return *(const volatile unaligned64 *)(const void *)p;
}

/* The kind of implicit accesses: descriptor tables, an inner stack. */
static ALWAYS_INLINE enum tlb_kind implicit_kind(const struct x86_cpu *cpu)
{
    return cpu->cr4 & X86_CR4_SMAP ? TLB_SUP : TLB_SUPAC;
}

/* A descriptor of the GDT, present, accessed, a segment, not conforming, of
 * privilege @cpl. */
static bool desc_get(struct bt *bt, unsigned sel, unsigned cpl,
                     struct x86_seg *d)
{
    struct x86_cpu *cpu = bt->cpu;
    uint32_t off = sel & 0xfff8U, attr;
    const uint8_t *p;
    uint64_t raw;

    if ((sel & 4) || !off || off + 7 > cpu->gdtr.limit)
        return false;
    p = at(bt, implicit_kind(cpu), cpu->gdtr.base + off, 8, false);
    if (!p)
        return false;
    raw = ld64(p);
    attr = (uint32_t)(raw >> 40) & 0xf0ffU;
    if (!(attr & X86_SEG_P) || !(attr & X86_SEG_S) ||
        !(attr & X86_TYPE_ACCESSED) || X86_SEG_DPL(attr) != cpl)
        return false;
    d->base = (raw >> 16 & 0xffffff) | (raw >> 56) << 24;
    d->limit = (uint32_t)((raw & 0xffff) | (raw >> 48 & 15) << 16);
    if (attr & X86_SEG_G)
        d->limit = d->limit << 12 | 0xfffU;
    d->attr = attr;
    d->sel = (uint16_t)sel;
    return true;
}

static bool code64_ok(uint32_t attr)
{
    return (attr & X86_TYPE_CODE) && !(attr & X86_TYPE_CONFORM) &&
           (attr & X86_SEG_L) && !(attr & X86_SEG_DB);
}

/* ---- page walks and #PF ---- */

void bt_kind_take(struct bt *bt)
{
    enum tlb_kind kind = (enum tlb_kind)(bt->mode & BT_MODE_KIND);

    if (bt->in->kind != kind)
        mode_set(bt, bt->cpu->cpl, kind);
}

bool bt_quick_walk(struct bt *bt, uint64_t va, unsigned flags)
{
    struct x86_cpu *cpu = bt->cpu;
    uint64_t rflags = cpu->rflags;
    struct xlat x;
    int r;

    cpu->exc.vector = 0;
    if (bt->check || !canonical(va))
        return false;
    bt_kind_take(bt);
    cpu->rflags |= bt->acl;
    r = tlb_xlat(bt->in, va, flags, &x);
    cpu->rflags = rflags;
    bt_tlb_sync(bt);
    return r == 0;
}

bool bt_quick_reach(struct bt *bt, unsigned kind, uint64_t va, bool write)
{
    if (bt_tlb_fill(bt, (enum tlb_kind)kind, va, write))
        return true;
    return kind == (bt->mode & BT_MODE_KIND) &&
           bt_quick_walk(bt, va, write ? X86_LIN_WRITE : X86_LIN_READ) &&
           bt_tlb_fill(bt, (enum tlb_kind)kind, va, write);
}

/* What the IDT's gate of #PF says, of 64-bit mode's usual kind. */
struct gate {
    uint64_t rip;
    struct x86_seg cs;
    bool trap; /* IF stays */
};

static bool gate_get(struct bt *bt, unsigned vector, struct gate *g)
{
    const struct x86_cpu *cpu = bt->cpu;
    const uint8_t *p;
    uint64_t raw;
    unsigned sel;

    if (vector * 16 + 15 > cpu->idtr.limit)
        return false;
    p = at(bt, implicit_kind(cpu), cpu->idtr.base + vector * 16, 16, false);
    if (!p)
        return false;
    raw = ld64(p);
    sel = (unsigned)(raw >> 16) & 0xfffc;
    /* present, no segment, an interrupt or trap gate, no stack table */
    if ((raw >> 40 & 0x9e) != 0x8e || (raw >> 32 & 7) ||
        !desc_get(bt, sel, 0, &g->cs) || !code64_ok(g->cs.attr))
        return false;
    g->trap = raw >> 40 & 1;
    g->rip = (raw & 0xffff) | (raw >> 48) << 16 | ld64(p + 8) << 32;
    return canonical(g->rip);
}

/* Where the frame of @n bytes goes. *rsp: the handler's stack pointer. */
static uint8_t *frame_at(struct bt *bt, unsigned n, uint64_t *rsp)
{
    const struct x86_cpu *cpu = bt->cpu;
    uint64_t sp = *gpr(bt, X86_RSP);
    const uint8_t *p;

    if (cpu->cpl) {
        if ((cpu->tr.attr & X86_SEG_UNUSABLE) || cpu->tr.limit < 11)
            return NULL;
        p = at(bt, implicit_kind(cpu), cpu->tr.base + 4, 8, false);
        if (!p)
            return NULL;
        sp = ld64(p);
    }
    *rsp = (sp & ~UINT64_C(15)) - n;
    return at(bt, implicit_kind(cpu), *rsp, n, true);
}

static void frame_put(const struct bt *bt, uint8_t *p, const uint64_t *v,
                      unsigned n)
{
    (void)bt;
    for (unsigned i = 0; i < n; i++)
        *(volatile unaligned64 *)(void *)(p + 8 * i) = v[i];
}

/* The site's own scratch registers back in place. Return: false: the gate does
 * not have them. */
static bool own_regs(struct bt *bt, const struct bt_site *s)
{
    if (s->s1 == X86_R11)
        return true;
    if (!bt_quick_saved(s->s1) || !bt_quick_saved(s->s2))
        return false;
    bt->home[X86_R11] = bt->lgpr[X86_R11];
    bt->home[X86_R10] = bt->lgpr[X86_R10];
    bt->lgpr[s->s1] = bt->home[s->s1];
    bt->lgpr[s->s2] = bt->home[s->s2];
    return true;
}

const void *bt_quick_fault(struct bt *bt, const struct bt_site *s)
{
    struct x86_cpu *cpu = bt->cpu;
    uint64_t old = flags_get(bt), new, rsp, frame[6];
    const struct op *o = __atomic_load_n(&s->op, __ATOMIC_ACQUIRE);
    unsigned from = cpu->cpl;
    enum tlb_kind kind;
    struct gate g;
    const void *code;
    uint8_t *p;

    if (cpu->exc.vector != X86_VEC_PF || !o || !bt_fault_first(o) ||
        !gate_get(bt, X86_VEC_PF, &g) || !own_regs(bt, s))
        return NULL;
    p = frame_at(bt, sizeof frame, &rsp);
    new = old & ~(X86_FL_TF | X86_FL_NT | X86_FL_RF | X86_FL_VM);
    if (!g.trap)
        new &= ~X86_FL_IF;
    if (!p || !calm(bt, new) || cpu->nmi_pending)
        return NULL;
    frame[0] = cpu->exc.error;
    frame[1] = s->va;
    frame[2] = cpu->seg[X86_SEG_CS].sel;
    frame[3] = old | X86_FL_RF;
    frame[4] = *gpr(bt, X86_RSP);
    frame[5] = cpu->seg[X86_SEG_SS].sel;
    kind = supervisor_kind(cpu, new);
    code = find_at(bt, 0, kind, g.rip);
    if (!code)
        return NULL;
    frame_put(bt, p, frame, 6);
    cpu->cr2 = cpu->exc.cr2;
    cpu->db_pending = 0;
    *gpr(bt, X86_RSP) = rsp;
    flags_set(bt, new);
    cpu->seg[X86_SEG_CS] = g.cs;
    if (from) {
        cpu->seg[X86_SEG_SS] =
            (struct x86_seg){.attr = (uint32_t)X86_SEG_UNUSABLE};
    }
    mode_set(bt, 0, kind);
    bt->st.faults++;
    bt->st.quick_faults++;
    bt->in->st.faults++;
    bt->pf_known = from != 0;
    bt->pf_rip = s->va;
    bt->pf_va = cpu->cr2;
    bt->pf_write = s->write;
    return code;
}

/* IRET goes back to what faulted: the page is likely to be there now. */
static void ahead(struct bt *bt)
{
    unsigned flags = bt->pf_write ? X86_LIN_WRITE : X86_LIN_READ;

    bt->pf_known = false;
    if (!canonical(bt->pf_va) || bt->check)
        return;
    if (tlb_ahead(bt->in, bt->pf_va, flags))
        bt_tlb_fill(bt, TLB_USER, bt->pf_va, bt->pf_write);
}

/* ---- SYSCALL, SYSRET ---- */

static ALWAYS_INLINE void seg_flat(struct x86_seg *s, unsigned sel,
                                   unsigned cpl, uint64_t size, unsigned type)
{
    s->base = 0;
    s->limit = 0xffffffffU;
    s->attr =
        (uint32_t)(X86_SEG_S | X86_SEG_P | X86_SEG_G | size) | type | cpl << 5;
    s->sel = (uint16_t)((sel & 0xfffcU) | cpl);
}

static const void *do_syscall(struct bt *bt, const struct bt_site *s)
{
    struct x86_cpu *cpu = bt->cpu;
    unsigned sel = (unsigned)(cpu->msr.star >> 32) & 0xfffc;
    uint64_t old = flags_get(bt), new;
    enum tlb_kind kind;
    const void *code;

    if (!(cpu->efer & X86_EFER_SCE))
        return NULL;
    new = (old & ~(cpu->msr.fmask | X86_FL_RF | X86_FL_VM)) | X86_FL_ONE;
    kind = supervisor_kind(cpu, new);
    code = find_at(bt, 0, kind, cpu->msr.lstar);
    if (!code)
        return NULL;
    *gpr(bt, X86_RCX) = s->va + s->len;
    *gpr(bt, X86_R11) = old;
    flags_set(bt, new);
    seg_flat(&cpu->seg[X86_SEG_CS], sel, 0, X86_SEG_L, 11);
    seg_flat(&cpu->seg[X86_SEG_SS], sel + 8, 0, X86_SEG_DB, 3);
    mode_set(bt, 0, kind);
    return code;
}

static const void *do_sysret(struct bt *bt)
{
    struct x86_cpu *cpu = bt->cpu;
    unsigned sel = (unsigned)(cpu->msr.star >> 48);
    uint64_t rip = *gpr(bt, X86_RCX), new;
    const void *code;

    new = (*gpr(bt, X86_R11) & SYSRET_FLAGS) | X86_FL_ONE;
    if (!(cpu->efer & X86_EFER_SCE) || !canonical(rip) || !calm(bt, new) ||
        ((cpu->cr0 & X86_CR0_AM) && (new &X86_FL_AC)))
        return NULL;
    code = find_at(bt, 3, TLB_USER, rip);
    if (!code)
        return NULL;
    flags_set(bt, new);
    seg_flat(&cpu->seg[X86_SEG_CS], sel + 16, 3, X86_SEG_L, 11);
    seg_flat(&cpu->seg[X86_SEG_SS], sel + 8, 3, X86_SEG_DB, 3);
    mode_set(bt, 3, TLB_USER);
    return code;
}

/* ---- IRET ---- */

static bool iret_segs(struct bt *bt, unsigned cs_sel, unsigned ss_sel,
                      struct x86_seg *cs, struct x86_seg *ss)
{
    unsigned cpl = cs_sel & 3;

    if ((cpl != 0 && cpl != 3) || !desc_get(bt, cs_sel, cpl, cs) ||
        !code64_ok(cs->attr))
        return false;
    if (!(ss_sel & 0xfffc) && cpl == 0 && (ss_sel & 3) == 0) {
        ss->base = 0;
        ss->limit = 0;
        ss->attr = (uint32_t)X86_SEG_UNUSABLE;
        ss->sel = 0;
        return true;
    }
    return (ss_sel & 3) == cpl && desc_get(bt, ss_sel, cpl, ss) &&
           (ss->attr & (X86_TYPE_CODE | X86_TYPE_RW)) == X86_TYPE_RW;
}

/* Data segments that an outer level may not use would be made null. */
static bool outer_segs_ok(const struct x86_cpu *cpu)
{
    static const uint8_t segs[] = {X86_SEG_ES, X86_SEG_DS, X86_SEG_FS,
                                   X86_SEG_GS};

    for (unsigned i = 0; i < sizeof segs; i++) {
        const struct x86_seg *s = &cpu->seg[segs[i]];

        if ((s->sel & 0xfffc) && X86_SEG_DPL(s->attr) < 3)
            return false;
    }
    return true;
}

/* RF in the image has no effect: no breakpoint is armed, and the instruction
 * that it is for clears it. */
static const void *do_iret(struct bt *bt)
{
    struct x86_cpu *cpu = bt->cpu;
    uint64_t old = flags_get(bt), new, rip, rsp;
    struct x86_seg cs, ss;
    enum tlb_kind kind;
    const uint8_t *p;
    const void *code;
    unsigned cpl;

    if (old & X86_FL_NT)
        return NULL;
    p = at(bt, implicit_kind(cpu), *gpr(bt, X86_RSP), 40, false);
    if (!p || !iret_segs(bt, (unsigned)ld64(p + 8) & 0xffff,
                         (unsigned)ld64(p + 32) & 0xffff, &cs, &ss))
        return NULL;
    rip = ld64(p);
    rsp = ld64(p + 24);
    new = (old & ~FL_IRET) | (ld64(p + 16) & FL_IRET) | X86_FL_ONE;
    new &= ~X86_FL_RF;
    cpl = cs.sel & 3;
    if (!canonical(rip) || !calm(bt, new) || cpu->nmi_pending)
        return NULL;
    if (cpl == 3 &&
        (!outer_segs_ok(cpu) || ((cpu->cr0 & X86_CR0_AM) && (new &X86_FL_AC))))
        return NULL;
    kind = cpl == 3 ? TLB_USER : supervisor_kind(cpu, new);
    code = find_at(bt, cpl, kind, rip);
    if (!code)
        return NULL;
    *gpr(bt, X86_RSP) = rsp;
    flags_set(bt, new);
    cpu->seg[X86_SEG_CS] = cs;
    cpu->seg[X86_SEG_SS] = ss;
    cpu->nmi_blocked = false;
    mode_set(bt, cpl, kind);
    if (cpl == 3 && bt->pf_known && bt->pf_rip == rip)
        ahead(bt);
    return code;
}

/* ---- flags ---- */

/* Go on at @rip with RFLAGS @new, whose AC may be another. */
static const void *with_flags(struct bt *bt, uint64_t new, uint64_t rip)
{
    enum tlb_kind kind = supervisor_kind(bt->cpu, new);
    const void *code = find_at(bt, 0, kind, rip);

    if (!code)
        return NULL;
    flags_set(bt, new);
    mode_set(bt, 0, kind);
    return code;
}

static const void *do_popf(struct bt *bt, const struct bt_site *s)
{
    uint64_t va = *gpr(bt, X86_RSP), new, old = flags_get(bt);
    const uint8_t *p = at(bt, bt->mode & BT_MODE_KIND, va, 8, false);
    const void *code = bt->rx + s->next;

    if (!p)
        return NULL;
    new = (old & ~(FL_POPF | X86_FL_RF)) | (ld64(p) & FL_POPF) | X86_FL_ONE;
    if (!calm(bt, new))
        return NULL;
    if ((new ^ old) & X86_FL_AC) {
        code = with_flags(bt, new, s->va + s->len);
        if (!code)
            return NULL;
    } else {
        flags_set(bt, new);
    }
    *gpr(bt, X86_RSP) = va + 8;
    return code;
}

/* ---- bases ---- */

static const void *do_wrbase(struct bt *bt, const struct bt_site *s, bool fs)
{
    uint64_t v;

    if (!gpr_saved(s->reg))
        return NULL;
    v = *gpr(bt, s->reg);
    if (s->size == 4)
        v = (uint32_t)v;
    if (!canonical(v))
        return NULL;
    if (fs)
        bt->cpu->seg[X86_SEG_FS].base = v;
    *(fs ? &bt->fsbase : &bt->gsbase) = v;
    return bt->rx + s->next;
}

/* ---- CR3, INVLPG ---- */

/* On behind @s's instruction, by the branch cache: translations changed. */
static const void *look_anew(struct bt *bt, const struct bt_site *s)
{
    uint64_t next = s->va + s->len;
    const void *code;

    bt_tlb_sync(bt);
    code = find_at(bt, 0, bt->mode & BT_MODE_KIND, next);
    bt->lgpr[X86_R11] = next;
    return code ? code : bt->rx + BT_THUNK;
}

static const void *do_cr3(struct bt *bt, const struct bt_site *s)
{
    struct x86_cpu *cpu = bt->cpu;

    if (!gpr_saved(s->reg) || bt->check)
        return NULL;
    cpu->rip = s->va;
    bt_kind_take(bt);
    if (x86_mov_to_cr(cpu, 3, *gpr(bt, s->reg)))
        return NULL;
    return look_anew(bt, s);
}

const void *bt_quick_invlpg(struct bt *bt, const struct bt_site *s)
{
    if (bt->check)
        return NULL;
    bt->cpu->rip = s->va;
    bt_kind_take(bt);
    if (x86_invlpg(bt->cpu, bt->va))
        return NULL;
    return look_anew(bt, s);
}

/* ---- state that translated code holds ---- */

static ALWAYS_INLINE bool irq_may_wait(const struct x86_cpu *cpu)
{
    uint32_t any = 0;

    for (unsigned i = 0; i < 8; i++)
        any |= cpu->lapic.irr[i];
    return any || cpu->nmi_pending || kick_pending(&cpu->kick);
}

void bt_sys_in(struct bt *bt)
{
    struct x86_cpu *cpu = bt->cpu;

    cpu->rflags |= bt->ifl | bt->acl | bt->dfl;
    cpu->seg[X86_SEG_GS].base = bt->gsbase;
    cpu->msr.kernel_gs_base = bt->kgsbase;
    bt_kind_take(bt);
}

void bt_sys_out(struct bt *bt)
{
    const struct x86_cpu *cpu = bt->cpu;

    bt->ifl = cpu->rflags & X86_FL_IF;
    bt->acl = cpu->rflags & X86_FL_AC;
    bt->dfl = cpu->rflags & X86_FL_DF;
    bt->fsbase = cpu->seg[X86_SEG_FS].base;
    bt->gsbase = cpu->seg[X86_SEG_GS].base;
    bt->kgsbase = cpu->msr.kernel_gs_base;
    bt->tscoff = cpu->tsc_offset - bt->tsc_base;
    bt->irqw = irq_may_wait(cpu);
}

/* ---- all ---- */

const void *bt_quick_sys(struct bt *bt, const struct bt_site *s)
{
    switch ((enum bt_quick_op)s->quick) {
    case BT_Q_NONE:
        return NULL;
    case BT_Q_POPF:
        return do_popf(bt, s);
    case BT_Q_SYSCALL:
        return do_syscall(bt, s);
    case BT_Q_SYSRET:
        return do_sysret(bt);
    case BT_Q_IRET:
        return do_iret(bt);
    case BT_Q_CR3:
        return do_cr3(bt, s);
    case BT_Q_WRFSBASE:
    case BT_Q_WRGSBASE:
        return do_wrbase(bt, s, s->quick == BT_Q_WRFSBASE);
    }
    return bt->rx + s->next;
}
