// SPDX-License-Identifier: Apache-2.0
/*
 * What the quick gate does when no TLB has an answer: page walks, and #PF
 * through a gate of 64-bit mode without a stack table. Anything unusual is left
 * to cpu/x86, which has the same rules in full.
 * Source: Intel SDM vol. 3A 6.12, 6.14.
 */
#include "engine/bt/quick_state.h"

#include "cpu/x86/paging.h"

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
    uint64_t raw, desc;
    unsigned sel;

    if (vector * 16 + 15 > cpu->idtr.limit)
        return false;
    p = bt_q_at(bt, implicit_kind(cpu), cpu->idtr.base + vector * 16, 16,
                false);
    if (!p)
        return false;
    raw = ld64(p);
    sel = (unsigned)(raw >> 16) & 0xfffc;
    /* present, no segment, an interrupt or trap gate, no stack table */
    if ((raw >> 40 & 0x9e) != 0x8e || (raw >> 32 & 7) ||
        !bt_q_desc(bt, sel, 0, &g->cs, &desc) || !code64_ok(g->cs.attr))
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
        p = bt_q_at(bt, implicit_kind(cpu), cpu->tr.base + 4, 8, false);
        if (!p)
            return NULL;
        sp = ld64(p);
    }
    *rsp = (sp & ~UINT64_C(15)) - n;
    return bt_q_at(bt, implicit_kind(cpu), *rsp, n, true);
}

static void frame_put(uint8_t *p, const uint64_t *v, unsigned n)
{
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
    code = bt_q_find(bt, 0, kind, g.rip);
    if (!code)
        return NULL;
    frame_put(p, frame, 6);
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

void bt_quick_ahead(struct bt *bt)
{
    unsigned flags = bt->pf_write ? X86_LIN_WRITE : X86_LIN_READ;

    bt->pf_known = false;
    if (!canonical(bt->pf_va) || bt->check)
        return;
    if (tlb_ahead(bt->in, bt->pf_va, flags))
        bt_tlb_fill(bt, TLB_USER, bt->pf_va, bt->pf_write);
}
