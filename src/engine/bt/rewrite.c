// SPDX-License-Identifier: Apache-2.0
/*
 * Guest instructions to host ones. Registers stay where they are. A memory
 * operand becomes: effective address into a free register, looked up in the
 * first-level TLB, access by the host address. State is the guest's at each
 * guest instruction's beginning, and what may fail comes before what changes
 * anything.
 */
#include "engine/bt/front.h"
#include "engine/bt/quick_str.h"

#include "cpu/x86/cpuid.h"

#define ANY  X86_REG_NONE
#define R(r) (1U << (r))
/* [r] needs no SIB or displacement; RSP is never borrowed */
#define BASES (0xffffU & ~(R(4) | R(5) | R(12) | R(13)))

/* ---- leaving ---- */

void bt_gate_jump(struct bt_tr *t, uint32_t site, unsigned gate)
{
    e_gs_imm(&t->e, BT_SITE, site);
    e_jmp_gs(&t->e, BT_GATE(gate));
}

/* ---- borrowed registers ---- */

static void hold(struct bt_tr *t)
{
    e_save(&t->e, t->b1, SLOT_R1);
    e_save(&t->e, t->b2, SLOT_R2);
    t->held = true;
}

void bt_give_back(struct bt_tr *t)
{
    if (!t->held)
        return;
    e_load(&t->e, t->b1, SLOT_R1);
    e_load(&t->e, t->b2, SLOT_R2);
    t->held = false;
}

static void callout(struct bt_tr *t)
{
    const struct x86_insn *insn = &t->insn[t->at];
    uint32_t site = bt_site_new(t, t->va[t->at]);

    bt_give_back(t);
    bt_quick_site(t, insn, &t->bt->sites[site]);
    bt_str_site(t, site);
    bt_gate_jump(t, site, BT_G_CALLOUT);
}

/* ---- memory ---- */

/* The effective address into @r1; @r2 may be used. Flags stay. */
static void ea_emit(struct bt_tr *t, const struct x86_insn *insn, uint64_t va,
                    enum ea_kind ea, unsigned group, unsigned r1, unsigned r2)
{
    bool wide = insn->adsize == 8;
    uint64_t abs;

    switch (ea) {
    case EA_PUSH:
        e_lea(&t->e, r1, X86_RSP, ANY, 0, -8 * (int32_t)group, true);
        return;
    case EA_POP:
        e_mov(&t->e, r1, X86_RSP);
        return;
    case EA_LEAVE:
        e_mov(&t->e, r1, X86_RBP);
        return;
    case EA_OPND:
        break;
    }
    if (insn->base == X86_REG_RIP ||
        (insn->base == ANY && insn->index == ANY)) {
        abs = (uint64_t)insn->disp;
        if (insn->base == X86_REG_RIP)
            abs += va + insn->len;
        e_mov_imm(&t->e, r1, wide ? abs : (uint32_t)abs);
    } else {
        e_lea(&t->e, r1, insn->base, insn->index, insn->scale,
              (int32_t)insn->disp, wide);
    }
    if (insn->seg >= X86_SEG_FS) {
        e_load(&t->e, r2, insn->seg == X86_SEG_FS ? BT_FSBASE : BT_GSBASE);
        e_lea(&t->e, r1, r1, r2, 0, 0, true);
    }
}

static unsigned pick(uint32_t allowed)
{
    static const uint8_t order[] = {11, 10, 9,  8, 7,  6,  2, 1,
                                    0,  15, 14, 3, 13, 12, 5};

    for (unsigned i = 0; i < sizeof order; i++)
        if (allowed & R(order[i]))
            return order[i];
    return 11;
}

static void acc_check(struct bt_tr *t, const struct bt_acc *a, unsigned size,
                      unsigned key, unsigned host, struct bt_cold *c)
{
    struct emit *e = &t->e;
    uint32_t hit;

    e_pext(e, a->r2, a->r1, BT_TLBMASK);
    if (!t->live[t->at]) {
        e_gsx_op(e, 0x03, a->r1, a->r2, key);
        e_cmp_imm(e, a->r1, 4096 - size);
        c->from = e_jcc(e, CC_A);
        e_gsx_op(e, 0x03, a->r1, a->r2, host);
        return;
    }
    c->rcx = true;
    e_save(e, X86_RCX, SLOT_CX);
    e_gsx_op(e, 0x8b, X86_RCX, a->r2, key);
    e_lea(e, a->r1, a->r1, X86_RCX, 0, 0, true);
    e_lea(e, X86_RCX, a->r1, ANY, 0, (int32_t)size - 1, true);
    e_pext(e, X86_RCX, X86_RCX, BT_HIMASK);
    hit = e_jrcxz(e);
    c->from = e_jmp(e);
    e_patch8(e, hit);
    e_gsx_op(e, 0x8b, X86_RCX, a->r2, host);
    e_lea(e, a->r1, a->r1, X86_RCX, 0, 0, true);
    e_load(e, X86_RCX, SLOT_CX);
}

void bt_ea_store(struct bt_tr *t, unsigned reg, unsigned slot)
{
    struct emit *e = &t->e;

    if (reg != ANY)
        e_save(e, reg, slot);
    e_save(e, X86_R11, SLOT_R1);
    e_save(e, X86_R10, SLOT_R2);
    ea_emit(t, &t->insn[t->at], t->va[t->at], EA_OPND, 1, X86_R11, X86_R10);
    e_save(e, X86_R11, BT_VA);
    e_load(e, X86_R11, SLOT_R1);
    e_load(e, X86_R10, SLOT_R2);
}

/* As bt_acc_open, with the block's two registers. */
static void acc_borrowed(struct bt_tr *t, enum ea_kind ea, unsigned size,
                         bool write, struct bt_cold *c, struct bt_acc *a)
{
    unsigned kind = t->b->mode & BT_MODE_KIND;
    struct bt_map *m;

    if (!t->held)
        hold(t);
    *a = (struct bt_acc){.r1 = t->b1, .r2 = t->b2, .borrowed = true};
    c->r1 = t->b1;
    c->r2 = t->b2;
    c->borrowed = true;
    c->back = t->e.at;
    ea_emit(t, &t->insn[t->at], t->va[t->at], ea, t->group, a->r1, a->r2);
    acc_check(t, a, size, write ? BT_TLB_W(kind) : BT_TLB_R(kind),
              BT_TLB_HOST(kind), c);
    m = &t->bt->maps[t->bt->nmaps - 1];
    m->r1 = t->b1;
    m->r2 = t->b2;
}

void bt_acc_open(struct bt_tr *t, enum ea_kind ea, unsigned size, bool write,
                 uint32_t avoid, unsigned want, bool low, struct bt_acc *a)
{
    const struct x86_insn *insn = &t->insn[t->at];
    unsigned kind = t->b->mode & BT_MODE_KIND;
    uint32_t site = bt_site_new(t, t->va[t->at]), allowed;
    struct bt_cold *c = bt_cold_new(t, 0, site, BT_G_MISS);
    struct bt_site *s = &t->bt->sites[site];

    /* Each access of an instruction is tried again alone: two of one TLB index
     * would else drive each other out for ever. */
    s->start = t->e.at;
    s->size = (uint8_t)size;
    s->write = write;
    s->kind = (uint8_t)kind;
    c->miss = true;
    c->insn = (uint8_t)t->at;
    c->ea = (uint8_t)ea;
    c->group = (uint8_t)t->group;
    s->group = t->group > 1;
    if (t->b1 != ANY && t->how[t->at] < HOW_JMP) {
        acc_borrowed(t, ea, size, write, c, a);
        return;
    }
    a->borrowed = false;
    if (ea == EA_OPND) {
        if (insn->base < 16)
            avoid |= R(insn->base);
        if (insn->index < 16)
            avoid |= R(insn->index);
    }
    avoid |= R(X86_RSP);
    if (t->live[t->at])
        avoid |= R(X86_RCX);
    allowed = BASES & ~avoid;
    if (low)
        allowed &= 0xff;
    a->keep_r1 = want != ANY && (BASES & R(want)) &&
                 !(t->live[t->at] && want == X86_RCX) && !(low && want > 7);
    a->r1 = (uint8_t)(a->keep_r1 ? want : pick(allowed));
    a->r2 = (uint8_t)pick(~(avoid | R(a->r1)) & 0xffff);
    c->r1 = a->r1;
    c->r2 = a->r2;
    e_save(&t->e, a->r1, SLOT_R1);
    e_save(&t->e, a->r2, SLOT_R2);
    ea_emit(t, insn, t->va[t->at], ea, t->group, a->r1, a->r2);
    acc_check(t, a, size, write ? BT_TLB_W(kind) : BT_TLB_R(kind),
              BT_TLB_HOST(kind), c);
    t->bt->maps[t->bt->nmaps - 1].r1 = a->r1;
}

void bt_acc_ready(struct bt_tr *t, const struct bt_acc *a)
{
    if (!a->borrowed)
        e_load(&t->e, a->r2, SLOT_R2);
}

void bt_acc_close(struct bt_tr *t, const struct bt_acc *a)
{
    if (!a->keep_r1 && !a->borrowed)
        e_load(&t->e, a->r1, SLOT_R1);
}

/* The ways back into code that expects its registers to be held. */
static void pads(struct bt_tr *t, const struct bt_cold *c)
{
    struct bt_site *s = &t->bt->sites[c->site];
    uint32_t next = s->next;

    s->start = t->e.at;
    hold(t);
    e_patch32(&t->e, e_jmp(&t->e), c->back);
    s->next = t->e.at;
    hold(t);
    e_patch32(&t->e, e_jmp(&t->e), next);
    t->held = false;
}

void bt_cold_emit(struct bt_tr *t)
{
    for (unsigned i = 0; i < t->ncold; i++) {
        const struct bt_cold *c = &t->cold[i];
        const struct x86_insn *insn = &t->insn[c->insn];

        if (c->from)
            e_patch32(&t->e, c->from, t->e.at);
        if (c->miss) {
            e_load(&t->e, c->r1, SLOT_R1);
            e_load(&t->e, c->r2, SLOT_R2);
            if (c->rcx)
                e_load(&t->e, X86_RCX, SLOT_CX);
            ea_emit(t, insn, t->va[c->insn], (enum ea_kind)c->ea, c->group,
                    c->r1, c->r2);
            e_save(&t->e, c->r1, BT_VA);
            e_load(&t->e, c->r1, SLOT_R1);
            e_load(&t->e, c->r2, SLOT_R2);
        }
        if (t->bt->sites[c->site].cross)
            t->bt->sites[c->site].next = t->e.at;
        bt_gate_jump(t, c->site, c->gate);
        if (c->borrowed)
            pads(t, c);
    }
}

/* ---- plain instructions ---- */

/* Registers that @insn reads or writes, but for its memory operand's. */
static uint32_t regs_of(const struct x86_insn *insn)
{
    uint64_t a = x86_form_info(insn->form)->attr;
    uint32_t m = 0;

    for (unsigned i = 0; i < insn->nopnds; i++)
        if (insn->opnd[i].kind == X86_OPND_GPR)
            m |= R(insn->opnd[i].reg);
    if (a & (XA_RA | XA_WA))
        m |= R(X86_RAX);
    if (a & (XA_RC | XA_WC))
        m |= R(X86_RCX);
    if (a & (XA_RD | XA_WD))
        m |= R(X86_RDX);
    if (a & (XA_RB | XA_WB))
        m |= R(X86_RBX);
    if (a & (XA_RBP | XA_WBP))
        m |= R(X86_RBP);
    if (a & XA_RDI)
        m |= R(X86_RDI);
    if (a & (XA_RR11 | XA_WR11))
        m |= R(X86_R11);
    return m;
}

static const struct x86_opnd *mem_opnd(const struct x86_insn *insn)
{
    for (unsigned i = 0; i < insn->nopnds; i++)
        if (insn->opnd[i].kind == X86_OPND_MEM)
            return &insn->opnd[i];
    return NULL;
}

/* MOV AL/rAX with an absolute address has no ModRM: as MOV r, [r1]. */
static void moffs(struct bt_tr *t, const struct x86_insn *insn, unsigned r1)
{
    struct emit *e = &t->e;
    unsigned size = insn->opnd[0].size;
    unsigned rex = (size == 8 ? 8U : 0) | r1 >> 3;

    if (size == 2)
        e8(e, 0x66);
    if (rex)
        e8(e, 0x40 | rex);
    e8(e, insn->opcode < 0xa2 ? 0x8a + (insn->opcode & 1U)
                              : 0x88 + (insn->opcode & 1U));
    e8(e, r1 & 7);
}

static void plain_mem(struct bt_tr *t, const struct x86_insn *insn,
                      const struct x86_opnd *m)
{
    const struct x86_opnd *d = &insn->opnd[0];
    uint32_t avoid = regs_of(insn);
    unsigned want = ANY;
    bool low = false;
    struct bt_acc a;

    for (unsigned i = 0; i < insn->nopnds; i++)
        low |= insn->opnd[i].high;
    if (d->kind == X86_OPND_GPR && d->size >= 4 &&
        (insn->op == X86_OP_MOV || insn->op == X86_OP_MOVZX ||
         insn->op == X86_OP_MOVSX || insn->op == X86_OP_MOVSXD))
        want = d->reg;
    bt_acc_open(t, EA_OPND, m->size, (m->access & X86_ACC_W) != 0, avoid, want,
                low, &a);
    bt_acc_ready(t, &a);
    if (insn->has_modrm)
        e_insn(&t->e, insn, a.r1);
    else
        moffs(t, insn, a.r1);
    bt_acc_close(t, &a);
}

static void lea(struct bt_tr *t, const struct x86_insn *insn)
{
    uint64_t abs = (uint64_t)insn->disp;
    unsigned d = insn->reg;

    if (insn->opsize == 2) {
        callout(t);
        return;
    }
    if (insn->base == X86_REG_RIP ||
        (insn->base == ANY && insn->index == ANY)) {
        if (insn->base == X86_REG_RIP)
            abs += t->va[t->at] + insn->len;
        if (insn->adsize == 4 || insn->opsize == 4)
            abs = (uint32_t)abs;
        e_mov_imm(&t->e, d, abs);
        return;
    }
    e_lea(&t->e, d, insn->base, insn->index, insn->scale, (int32_t)insn->disp,
          insn->opsize == 8 && insn->adsize == 8);
}

/* ---- all ---- */

static bool accesses(const struct bt_tr *t, unsigned i)
{
    switch ((enum bt_how)t->how[i]) {
    case HOW_PLAIN:
        return mem_opnd(&t->insn[i]) != NULL;
    case HOW_PUSH:
    case HOW_POP:
    case HOW_LEAVE:
        return true;
    default:
        return false;
    }
}

/* Two registers for the whole block, if it has accesses enough. RCX is what
 * the check needs besides when flags are live. */
static void borrow(struct bt_tr *t)
{
    uint32_t used = R(X86_RSP) | R(X86_RCX);
    unsigned n = 0;
    bool low = false;

    t->b1 = t->b2 = ANY;
    t->held = false;
    for (unsigned i = 0; i < t->n; i++) {
        const struct x86_insn *insn = &t->insn[i];

        if (t->how[i] == HOW_CALLOUT)
            continue;
        n += accesses(t, i);
        used |= regs_of(insn);
        if (insn->base < 16)
            used |= R(insn->base);
        if (insn->index < 16)
            used |= R(insn->index);
        for (unsigned k = 0; k < insn->nopnds; k++)
            low |= insn->opnd[k].high;
        if (t->how[i] == HOW_LEAVE)
            used |= R(X86_RBP);
    }
    if (n < 2 || !(BASES & ~used & (low ? 0xff : 0xffff)))
        return;
    n = pick(BASES & ~used & (low ? 0xff : 0xffff));
    used |= R(n);
    if (!(~used & 0xffff))
        return;
    t->b1 = (uint8_t)n;
    t->b2 = (uint8_t)pick(~used & 0xffff);
}

static void rewrite_one(struct bt_tr *t)
{
    const struct x86_insn *insn = &t->insn[t->at];
    const struct x86_opnd *m;

    switch ((enum bt_how)t->how[t->at]) {
    case HOW_CALLOUT:
        callout(t);
        return;
    case HOW_PLAIN:
        m = mem_opnd(insn);
        if (m)
            plain_mem(t, insn, m);
        else
            e_insn(&t->e, insn, ANY);
        return;
    case HOW_NOTHING:
        return;
    case HOW_LEA:
        lea(t, insn);
        return;
    case HOW_PUSH:
        bt_push(t);
        return;
    case HOW_POP:
        bt_pop(t);
        return;
    case HOW_LEAVE:
        bt_leave(t);
        return;
    case HOW_SYSTEM:
        bt_system(t);
        return;
    case HOW_JMP:
    case HOW_JCC:
    case HOW_JCXZ:
    case HOW_LOOP:
    case HOW_CALL:
    case HOW_RET:
        bt_rewrite_branch(t);
        return;
    }
}

void bt_rewrite(struct bt_tr *t)
{
    struct bt *bt = t->bt;

    borrow(t);
    t->group = 1;
    for (t->at = 0; t->at < t->n; t->at++) {
        uint32_t from = bt->nsites;

        t->start = t->e.at;
        bt->maps[bt->nmaps++] = (struct bt_map){
            .host = t->e.at,
            .off = (uint16_t)(t->va[t->at] - t->b->va),
            .r1 = t->held ? t->b1 : ANY,
            .r2 = t->held ? t->b2 : ANY,
        };
        if (t->how[t->at] >= HOW_JMP)
            bt_give_back(t);
        if (t->how[t->at] != HOW_CALLOUT)
            bt->st.native_insns++;
        rewrite_one(t);
        for (; from < bt->nsites; from++)
            bt->sites[from].next = t->e.at;
    }
    if (!t->ended || t->how[t->n - 1] == HOW_CALLOUT) {
        bt_give_back(t);
        bt_exit_to(t, t->b->va + t->b->len);
    }
    t->cold_at = t->e.at;
    bt_cold_emit(t);
}
