// SPDX-License-Identifier: Apache-2.0
/*
 * Branches, and the ways in and out of a region. Inside it they are the host's
 * own. Out of it, a jump within the page goes straight to a block that is
 * there, or through a cell, which leads to a stub until it is linked; all
 * others go through the branch cache of their kind with the target in R11, and
 * the target's indirect entry compares. Cells and caches lie where the guest
 * cannot write. A loop looks at its head whether the vCPU is wanted; so does a
 * jump backwards out of the region; indirect jumps are caught by a mask that a
 * request clears.
 */
#include "engine/bt/front.h"

/* ---- in ---- */

static uint32_t cell_at(const struct bt_tr *t, uint32_t cell)
{
    return t->bt->code_bytes + 8 * cell;
}

/* To the @thunk from the rel32 at @from. */
static void to_thunk(struct bt_tr *t, uint32_t from, uint32_t thunk)
{
    e_patch32(&t->e, from, thunk);
    bt_reloc(t, &t->e, BT_R_FIXED, from, 0);
}

/* One of the cells that are numbers is added to @r. */
static void adcx_cell(struct bt_tr *t, unsigned r, uint32_t cell)
{
    e_adcx_rip(&t->e, r, cell_at(t, cell));
    bt_reloc(t, &t->e, cell < BT_CELL_FIRST ? BT_R_FIXED : BT_R_CELL,
             t->e.at - 4, 0);
}

/* Without ADX: by RCX, R10 keeping it. */
static void arrive_rcx(struct bt_tr *t)
{
    struct emit *e = &t->e;
    uint32_t ok;

    t->bt->cells[t->b->cell] = -t->b->va;
    e_mov(e, X86_R10, X86_RCX);
    e_rip_op(e, 0x8b, X86_RCX, cell_at(t, t->b->cell));
    bt_reloc(t, e, BT_R_CELL, e->at - 4, 0);
    e_lea(e, X86_RCX, X86_RCX, X86_R11, 0, 0, true);
    ok = e_jrcxz(e);
    e_mov(e, X86_RCX, X86_R10);
    to_thunk(t, e_jmp(e), BT_THUNK);
    e_patch8(e, ok);
    e_mov(e, X86_RCX, X86_R10);
}

/* Target minus address plus 1, plus the cell, which is minus 3, plus CF: that
 * carries unless it began with 1; or 0 or 2, which are no targets that lead
 * here, since bit 0 is part of the branch cache's index. Bit 0 is the old CF
 * then. docs/translator.md, Arrivals. */
static void arrive(struct bt_tr *t)
{
    uint64_t minus = 1 - t->b->va;
    struct emit *e = &t->e;

    t->bt->cells[t->b->cell] = BT_CELL_HERE;
    if ((uint64_t)(int64_t)(int32_t)minus == minus) {
        e_lea(e, X86_R10, X86_R11, ANY, 0, (int32_t)minus, true);
    } else {
        e_mov_imm(e, X86_R10, minus);
        bt_reloc(t, e, BT_R_MINUS, e->at - 8, 0);
        e_lea(e, X86_R10, X86_R10, X86_R11, 0, 0, true);
    }
    adcx_cell(t, X86_R10, t->b->cell);
    to_thunk(t, e_jcc(e, CC_C), BT_THUNK_CF);
    if (t->live[0] & X86_FL_CF) /* it is minus 2 plus CF */
        adcx_cell(t, X86_R10, BT_CELL_ONE);
}

/* Whoever jumps here may have meant another that has live flags, also where
 * this one has none: they must come through. ADCX changes CF alone. */
void bt_entry(struct bt_tr *t)
{
    struct bt_block *b = t->b;

    b->cell = bt_cell_new(t);
    b->indirect = t->e.at;
    b->adcx = t->bt->part->adx;
    if (b->adcx)
        arrive(t);
    else
        arrive_rcx(t);
    b->code = t->e.at;
    bt_hold(t);
}

/* ---- out ---- */

static bool same_page(const struct bt_tr *t, uint64_t va)
{
    return (va ^ t->b->va) >> 12 == 0;
}

static void poll_rcx(struct bt_tr *t, struct emit *e, uint32_t site)
{
    uint32_t go;

    e_save(e, X86_RCX, SLOT_CX);
    e_load(e, X86_RCX, BT_REQ);
    go = e_jrcxz(e);
    e_load(e, X86_RCX, SLOT_CX);
    bt_cold_new(t, COLD_LEAVE, e_jmp(e), site, BT_G_LEAVE);
    e_patch8(e, go);
    e_load(e, X86_RCX, SLOT_CX);
}

void bt_poll(struct bt_tr *t, struct emit *e, uint64_t va, uint32_t live)
{
    unsigned s2 = t->held ? t->s2 : X86_R10;
    uint32_t site = bt_site_new(t, va);

    if (!live) {
        e_gs_cmp0(e, BT_REQ);
        bt_cold_new(t, COLD_LEAVE, e_jcc(e, CC_NE), site, BT_G_LEAVE);
        return;
    }
    if (!t->bt->part->adx) {
        poll_rcx(t, e, site);
        return;
    }
    e_load(e, s2, BT_REQ); /* 0, or bit 63; then: CF */
    e_adcx(e, s2, s2);
    bt_cold_new(t, COLD_LEAVE, e_jcc(e, CC_C), site, BT_G_LEAVE)->carry =
        live & X86_FL_CF;
    if (live & X86_FL_CF)
        adcx_cell(t, s2, BT_CELL_MINUS1);
}

/* An instruction on two pages is never linked: the second may change. */
static bool leaves_page(const struct bt_tr *t, uint64_t va)
{
    unsigned at = (unsigned)(va & 0xfff);

    bt_text_need(t->text, at);
    return bt_straddles(t->text->b + at, va);
}

/* Code offset of the block at @va of the same page, if it is there: blocks of a
 * page are dropped together. 0: none. */
static uint32_t made_already(const struct bt_tr *t, uint64_t va)
{
    uint32_t mode = bt_mode_of(t, bt_kind(t));
    const struct bt_block *b;

    if (t->bt->check || t->bt->cells_only || t->b->tail)
        return 0;
    if (va == t->b->va && mode == t->b->mode)
        return t->b->code;
    b = bt_block_find(t->bt, t->b->src + (int64_t)(va - t->b->va), va, mode);
    return b && !b->tail && b->page == t->b->page ? b->code : 0;
}

/* A jump in the page. What may be copied has a cell and a stub in any case, and
 * both kinds of jump are as long: copy.c. */
static void exit_in_page(struct bt_tr *t, uint64_t va)
{
    uint32_t site, cell, code = made_already(t, va);
    struct emit *e = &t->e;

    t->bt->st.links_made += code != 0;
    if (code && (!t->b->moves || code == t->b->code)) {
        e_patch32(e, e_jmp(e), code);
        return;
    }
    site = bt_site_new(t, va);
    cell = bt_cell_new(t);
    t->bt->sites[site].start = cell;
    t->bt->sites[site].link = true;
    t->bt->sites[site].kind = (uint8_t)bt_kind(t);
    bt_cold_new(t, COLD_LINK, 0, site, BT_G_LINK);
    bt_reloc(t, e, BT_R_JUMP, e->at + 2, site);
    if (code) {
        e8(e, 0x40); /* REX: no matter */
        e_patch32(e, e_jmp(e), code);
    } else {
        e_jmp_rip(e, cell_at(t, cell));
    }
}

static void exit_to(struct bt_tr *t, struct emit *e, uint64_t va, bool poll)
{
    if (poll)
        bt_poll(t, e, va, bt_flags_at(t, va));
    if (same_page(t, va) && !leaves_page(t, va)) {
        exit_in_page(t, va);
        return;
    }
    e_mov_imm(e, X86_R11, va);
    bt_reloc(t, e, BT_R_EXIT, e->at - 8, 0);
    e_jmp_gs(e, bt_far_at(t->bt, va, bt_mode_of(t, bt_kind(t))));
}

void bt_exit_to(struct bt_tr *t, struct emit *e, uint64_t va)
{
    exit_to(t, e, va, va <= t->va[t->n - 1]);
}

/* A rel32 jump at @from leads to @va, in the region or out of it. */
void bt_lead(struct bt_tr *t, uint32_t from, unsigned to, uint64_t va)
{
    if (t->nexits == BT_JUMPS_MAX || t->nfix == BT_JUMPS_MAX) {
        t->full = true;
        return;
    }
    if (to == NO_LABEL) {
        t->exit[t->nexits].from = from;
        t->exit[t->nexits].va = va;
        t->exit[t->nexits].kind = t->kind_now;
        t->exit[t->nexits++].held = t->held;
    } else if (to <= t->at) {
        e_patch32(&t->e, from, t->label[to]);
    } else {
        t->fix[t->nfix].from = from;
        t->fix[t->nfix++].to = (uint8_t)to;
    }
}

void bt_exits_emit(struct bt_tr *t)
{
    t->at = t->n - 1;
    for (unsigned i = 0; i < t->nexits; i++) {
        e_patch32(&t->e, t->exit[i].from, t->e.at);
        t->held = t->exit[i].held;
        t->kind_now = t->exit[i].kind;
        bt_unhold(t);
        bt_exit_to(t, &t->e, t->exit[i].va);
    }
}

void bt_cold_emit(struct bt_tr *t)
{
    struct bt *bt = t->bt;

    for (unsigned i = 0; i < t->ncold; i++) {
        const struct bt_cold *c = &t->colds[i];
        struct bt_site *s = &bt->sites[c->site];

        if (c->from) {
            e_patch32(&t->cold, c->from, t->cold.at);
            bt_reloc(t, &t->e, BT_R_CROSS, c->from, 0);
        }
        switch ((enum bt_cold_kind)c->kind) {
        case COLD_MISS:
            bt_cold_miss(t, c);
            break;
        case COLD_LINK:
            s->next = t->cold.at;
            bt->cells[s->start] = (uintptr_t)bt->rx + s->next;
            bt_gate_jump(t, &t->cold, c->site, c->gate);
            break;
        case COLD_LEAVE:
            if (c->carry)
                e_carry_back(&t->cold, c->held ? t->s2 : X86_R10);
            if (c->held)
                bt_unhold_code(t, &t->cold);
            bt_gate_jump(t, &t->cold, c->site, c->gate);
            break;
        }
    }
}

/* What is next if the branch is not taken. */
static void fall(struct bt_tr *t, uint64_t next)
{
    bool held = t->held;

    if (t->at + 1 < t->n && t->va[t->at + 1] == next && !t->bt->check)
        return;
    bt_unhold(t);
    bt_exit_to(t, &t->e, next);
    t->held = held;
}

/* ---- direct ---- */

static void jcc(struct bt_tr *t, const struct x86_insn *insn, uint64_t next)
{
    bt_lead(t, e_jcc(&t->e, insn->opcode & 15), t->to[t->at], next + insn->imm);
    fall(t, next);
}

static void jcxz(struct bt_tr *t, const struct x86_insn *insn, uint64_t next)
{
    uint32_t taken, over = 0;

    if (insn->op == X86_OP_LOOP)
        e_lea(&t->e, X86_RCX, X86_RCX, ANY, 0, -1, true);
    if (insn->adsize == 4)
        e8(&t->e, 0x67);
    taken = e_jrcxz(&t->e);
    if (insn->op != X86_OP_LOOP) {
        over = e_jmp(&t->e);
        e_patch8(&t->e, taken);
    }
    bt_lead(t, e_jmp(&t->e), t->to[t->at], next + insn->imm);
    if (over)
        e_patch32(&t->e, over, t->e.at);
    else
        e_patch8(&t->e, taken);
    fall(t, next);
}

/* ---- indirect ---- */

/* Target in s1, the guest's state that of the jump's end. */
static void indirect(struct bt_tr *t)
{
    unsigned k = bt_kind(t);

    if (t->held) {
        bool held = t->held;

        e_save(&t->e, t->s1, SLOT_TGT);
        bt_unhold(t);
        t->held = held;
        e_load(&t->e, X86_R11, SLOT_TGT);
    }
    e_pext(&t->e, X86_R10, X86_R11, BT_IBMASK(k));
    e_jmp_gsx(&t->e, X86_R10, BT_IB(k));
}

static void target_reg(struct bt_tr *t, unsigned r)
{
    if (bt_at_home(t, r))
        e_load(&t->e, t->s1, BT_HOME(r));
    else
        e_mov(&t->e, t->s1, r);
}

static void target_mem(struct bt_tr *t)
{
    struct bt_opnd m;

    bt_access(t, 0, &m);
    e_mem_op(&t->e, 0x8b, t->s1, m.base, m.index, m.disp);
}

static void jump_out(struct bt_tr *t, uint64_t va)
{
    bool held = t->held;

    bt_unhold(t);
    bt_exit_to(t, &t->e, va);
    t->held = held;
}

static void jmp(struct bt_tr *t, const struct x86_insn *insn, uint64_t next)
{
    const struct x86_opnd *p = &insn->opnd[0];
    unsigned to = t->to[t->at];

    if (p->kind == X86_OPND_REL) {
        if (to == NO_LABEL)
            jump_out(t, next + insn->imm);
        else if (to != t->at + 1)
            bt_lead(t, e_jmp(&t->e), to, 0);
        return;
    }
    if (p->kind == X86_OPND_MEM)
        target_mem(t);
    else
        target_reg(t, p->reg);
    indirect(t);
}

static void call(struct bt_tr *t, const struct x86_insn *insn, uint64_t next)
{
    const struct x86_opnd *p = &insn->opnd[0];

    if (p->kind == X86_OPND_MEM) {
        target_mem(t);
        e_save(&t->e, t->s1, SLOT_TGT);
    }
    bt_push_next(t, next);
    if (p->kind == X86_OPND_REL) { /* each returns: no poll */
        bool held = t->held;

        bt_unhold(t);
        exit_to(t, &t->e, next + insn->imm, false);
        t->held = held;
        return;
    }
    if (p->kind == X86_OPND_MEM)
        e_load(&t->e, t->s1, SLOT_TGT);
    else
        target_reg(t, p->reg);
    indirect(t);
}

static void ret(struct bt_tr *t, const struct x86_insn *insn)
{
    unsigned n = insn->nopnds ? insn->imm & 0xffff : 0;
    struct bt_opnd m;

    bt_access(t, 0, &m);
    e_mem_op(&t->e, 0x8b, t->s1, m.base, m.index, m.disp);
    e_lea(&t->e, X86_RSP, X86_RSP, ANY, 0, (int32_t)(8 + n), true);
    indirect(t);
}

void bt_rewrite_branch(struct bt_tr *t)
{
    const struct x86_insn *insn = &t->insn[t->at];
    uint64_t next = t->va[t->at] + insn->len;

    switch ((enum bt_how)t->how[t->at]) {
    case HOW_JMP:
        jmp(t, insn, next);
        break;
    case HOW_JCC:
        jcc(t, insn, next);
        break;
    case HOW_JCXZ:
    case HOW_LOOP:
        jcxz(t, insn, next);
        break;
    case HOW_CALL:
        call(t, insn, next);
        break;
    case HOW_RET:
        ret(t, insn);
        break;
    default:
        break;
    }
}
