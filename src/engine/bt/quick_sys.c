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
#include "engine/bt/quick_state.h"

#include "cpu/x86/control.h"

#define SYSRET_FLAGS UINT64_C(0x3c7fd7)
#define FL_IRET                                                                \
    (X86_FL_ARITH | X86_FL_TF | X86_FL_DF | X86_FL_NT | X86_FL_RF |            \
     X86_FL_AC | X86_FL_ID | X86_FL_IOPL | X86_FL_VIF | X86_FL_VIP |           \
     X86_FL_IF)
#define FL_POPF                                                                \
    (X86_FL_ARITH | X86_FL_TF | X86_FL_DF | X86_FL_NT | X86_FL_AC |            \
     X86_FL_ID | X86_FL_IOPL | X86_FL_IF)

/* ---- finding code and memory ---- */

/* Where zones have the bases of FS and GS, for code of bt->mode. */
static ALWAYS_INLINE void seg_hosts(struct bt *bt)
{
    const uint64_t *zone = (bt->mode & BT_MODE_KIND) == TLB_USER
                               ? bt->view->zone_user
                               : bt->zone_sup;

    bt->seghost[0] = bt->fsbase + zone[bt->fsbase >> 40 & 255];
    bt->seghost[1] = bt->gsbase + zone[bt->gsbase >> 40 & 255];
}

const void *bt_q_find(struct bt *bt, unsigned cpl, enum tlb_kind kind,
                      uint64_t rip)
{
    uint32_t old = bt->mode;
    const void *code;

    if (kind == TLB_USER && bt->zone_late_n)
        return NULL;
    bt->mode = (old & ~(BT_MODE_KIND | BT_MODE_CPL3 | BT_MODE_ZONE)) | kind |
               bt->zoned[kind != TLB_USER] | (cpl == 3 ? BT_MODE_CPL3 : 0);
    seg_hosts(bt);
    if (!bt->req && !bt->check) { /* its indirect entry compares */
        bt->lgpr[X86_R11] = rip;
        return (const void *)(uintptr_t)bt_ib(bt, kind)[bt_ib_index(kind, rip)];
    }
    code = bt_quick_jump(bt, rip);
    if (!code) {
        bt->mode = old;
        seg_hosts(bt);
    }
    return code;
}

uint8_t *bt_q_at(struct bt *bt, enum tlb_kind kind, uint64_t va, unsigned n,
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

bool bt_q_desc(struct bt *bt, unsigned sel, unsigned cpl, struct x86_seg *d,
               uint64_t *at)
{
    struct x86_cpu *cpu = bt->cpu;
    uint32_t off = sel & 0xfff8U, attr;
    const uint8_t *p;
    uint64_t raw;

    if ((sel & 4) || !off || off + 7 > cpu->gdtr.limit)
        return false;
    p = bt_q_at(bt, implicit_kind(cpu), cpu->gdtr.base + off, 8, false);
    if (!p)
        return false;
    raw = *at = ld64(p);
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
    code = bt_q_find(bt, 0, kind, cpu->msr.lstar);
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
    code = bt_q_find(bt, 3, TLB_USER, rip);
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
                      struct bt_iret *r)
{
    unsigned cpl = cs_sel & 3;
    struct x86_seg *ss = &r->ss;

    if ((cpl != 0 && cpl != 3) ||
        !bt_q_desc(bt, cs_sel, cpl, &r->cs, &r->cs_raw) ||
        !code64_ok(r->cs.attr))
        return false;
    if (!(ss_sel & 0xfffc) && cpl == 0 && (ss_sel & 3) == 0) {
        ss->base = 0;
        ss->limit = 0;
        ss->attr = (uint32_t)X86_SEG_UNUSABLE;
        ss->sel = 0;
        return true;
    }
    return (ss_sel & 3) == cpl && bt_q_desc(bt, ss_sel, cpl, ss, &r->ss_raw) &&
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

/* What the next IRET to user code may rely on, if its frame names the same
 * selectors, and the GDT has these descriptors still: on one page. */
static void iret_keep(struct bt *bt, const struct bt_iret *r)
{
    uint64_t gdt = bt->cpu->gdtr.base, cs = gdt + (r->cs.sel & 0xfff8U),
             ss = gdt + (r->ss.sel & 0xfff8U);

    bt->iret = *r;
    bt->iret.sel = r->cs.sel | (uint32_t)r->ss.sel << 16;
    bt->iret.cs_at = cs;
    bt->iret.ss_off = ss - cs;
    bt->iret.gdt = bt->cpu->gdtr;
    if (((cs ^ ss) & PAGE) || (cs & 0xfff) > 4088 || (ss & 0xfff) > 4088)
        bt->iret.cs_at = BT_STK_NONE;
}

/* RF in the image has no effect: no breakpoint is armed, and the instruction
 * that it is for clears it. */
static const void *do_iret(struct bt *bt)
{
    struct x86_cpu *cpu = bt->cpu;
    uint64_t old = flags_get(bt), new, rip, rsp;
    struct bt_iret r;
    enum tlb_kind kind;
    const uint8_t *p;
    const void *code;
    unsigned cpl;

    if (old & X86_FL_NT)
        return NULL;
    p = bt_q_at(bt, implicit_kind(cpu), *gpr(bt, X86_RSP), 40, false);
    if (!p || !iret_segs(bt, (unsigned)ld64(p + 8) & 0xffff,
                         (unsigned)ld64(p + 32) & 0xffff, &r))
        return NULL;
    rip = ld64(p);
    rsp = ld64(p + 24);
    new = (old & ~FL_IRET) | (ld64(p + 16) & FL_IRET) | X86_FL_ONE;
    new &= ~X86_FL_RF;
    cpl = r.cs.sel & 3;
    if (!canonical(rip) || !calm(bt, new) || cpu->nmi_pending)
        return NULL;
    if (cpl == 3 &&
        (!outer_segs_ok(cpu) || ((cpu->cr0 & X86_CR0_AM) && (new &X86_FL_AC))))
        return NULL;
    kind = cpl == 3 ? TLB_USER : supervisor_kind(cpu, new);
    code = bt_q_find(bt, cpl, kind, rip);
    if (!code)
        return NULL;
    *gpr(bt, X86_RSP) = rsp;
    flags_set(bt, new);
    cpu->seg[X86_SEG_CS] = r.cs;
    cpu->seg[X86_SEG_SS] = r.ss;
    cpu->nmi_blocked = false;
    mode_set(bt, cpl, kind);
    if (cpl == 3)
        iret_keep(bt, &r);
    if (cpl == 3 && bt->pf_known && bt->pf_rip == rip)
        bt_quick_ahead(bt);
    return code;
}

/* ---- flags ---- */

/* Go on at @rip with RFLAGS @new, whose AC may be another. */
static const void *with_flags(struct bt *bt, uint64_t new, uint64_t rip)
{
    enum tlb_kind kind = supervisor_kind(bt->cpu, new);
    const void *code = bt_q_find(bt, 0, kind, rip);

    if (!code)
        return NULL;
    flags_set(bt, new);
    mode_set(bt, 0, kind);
    return code;
}

static const void *do_popf(struct bt *bt, const struct bt_site *s)
{
    uint64_t va = *gpr(bt, X86_RSP), new, old = flags_get(bt);
    const uint8_t *p = bt_q_at(bt, bt->mode & BT_MODE_KIND, va, 8, false);
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
    seg_hosts(bt);
    return bt->rx + s->next;
}

/* ---- CR3, INVLPG ---- */

/* On behind @s's instruction, by the branch cache: translations changed. */
static const void *look_anew(struct bt *bt, const struct bt_site *s)
{
    uint64_t next = s->va + s->len;
    const void *code;

    bt_tlb_sync(bt);
    code = bt_q_find(bt, 0, bt->mode & BT_MODE_KIND, next);
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

/* What sys.S relies on. */
static void sys_ready(struct bt *bt)
{
    const uint64_t held = X86_FL_ARITH | X86_FL_IF | X86_FL_DF | X86_FL_AC;
    const struct x86_cpu *cpu = bt->cpu;
    unsigned kind = implicit_kind(cpu);

    if (bt->check || !(cpu->efer & X86_EFER_SCE) || (held & ~cpu->msr.fmask))
        kind = 0;
    bt->sys_kind = kind;
    bt->sys_tlb = (uint64_t)BT_TLB_KIND * kind;
    bt->sys_ib = (uint64_t)(BT_IB(1) - BT_IB(0)) * kind;
    if (bt->iret.gdt.base != cpu->gdtr.base ||
        bt->iret.gdt.limit != cpu->gdtr.limit)
        bt->iret.cs_at = BT_STK_NONE;
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
    seg_hosts(bt);
    bt->tscoff = cpu->tsc_offset - bt->tsc_base;
    bt->irqw = irq_may_wait(cpu);
    sys_ready(bt);
}

/* ---- all ---- */

static ALWAYS_INLINE const void *one(struct bt *bt, const struct bt_site *s)
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

const void *bt_quick_sys(struct bt *bt, const struct bt_site *s)
{
    const void *code = one(bt, s);

    bt->st.quick_ops += code != NULL;
    return code;
}
