// SPDX-License-Identifier: Apache-2.0
/*
 * Guest instructions to host ones. Registers stay where they are, but for the
 * two that are scratch (access.c): an instruction that names one of these gets
 * it from its home and gives it back. State is the guest's at each
 * instruction's beginning, and what may fail comes before what changes
 * anything.
 */
#include "engine/bt/front.h"
#include "engine/bt/quick_str.h"

/* ---- leaving ---- */

void bt_site_imm(struct bt_tr *t, struct emit *e, uint32_t site)
{
    e_gs_imm(e, BT_SITE, site);
    bt_reloc(t, e, BT_R_SITE, e->at - 4, 0);
}

void bt_gate_jump(struct bt_tr *t, struct emit *e, uint32_t site, unsigned gate)
{
    bt_site_imm(t, e, site);
    e_jmp_gs(e, BT_GATE(gate));
}

/* The way to the quick gate, or past it: sys.S. */
static unsigned way(struct bt_tr *t, const struct x86_insn *insn,
                    const struct bt_site *s)
{
    if (t->bt->check)
        return BT_G_CALLOUT;
    switch (s->quick) {
    case BT_Q_SYSCALL:
        bt_mov_va(t, &t->e, X86_R11, t->va[t->at] + insn->len);
        return BT_W_SYSCALL;
    case BT_Q_SYSRET:
        return BT_W_SYSRET;
    case BT_Q_IRET:
        return BT_W_IRET;
    default:
        return BT_G_CALLOUT;
    }
}

static void callout(struct bt_tr *t)
{
    const struct x86_insn *insn = &t->insn[t->at];
    uint8_t s1 = t->s1, s2 = t->s2;
    bool held = t->held;
    uint32_t site, over;

    bt_unhold(t);
    t->s1 = X86_R11;
    t->s2 = X86_R10;
    site = bt_site_new(t, t->va[t->at]);
    bt_quick_site(t, insn, &t->bt->sites[site]);
    over = bt_str_inline(t);
    bt_str_site(t, site);
    bt_gate_jump(t, &t->e, site, way(t, insn, &t->bt->sites[site]));
    t->bt->sites[site].next = t->e.at;
    if (over)
        e_patch32(&t->e, over, t->e.at);
    t->s1 = s1;
    t->s2 = s2;
    if (held)
        bt_hold(t);
    t->s2_has = 0;
}

/* ---- registers at home ---- */

/* What an instruction does with the guest's s1 and s2. */
struct use {
    uint8_t reg[2];
    bool read[2], written[2];
    unsigned n;
};

static void use_add(struct use *u, unsigned r, bool read, bool write)
{
    unsigned i = 0;

    while (i < u->n && u->reg[i] != r)
        i++;
    if (i == u->n) {
        u->reg[u->n++] = (uint8_t)r;
        u->read[i] = u->written[i] = false;
    }
    u->read[i] |= read;
    u->written[i] |= write;
}

/* Operands only: what makes an address is fetched there. CMOV may leave its
 * destination, narrow ones keep the rest of it. */
static void uses(const struct bt_tr *t, const struct x86_insn *insn,
                 struct use *u)
{
    u->n = 0;
    for (unsigned i = 0; i < insn->nopnds; i++) {
        const struct x86_opnd *p = &insn->opnd[i];
        bool w = p->access & X86_ACC_W;

        if (p->kind != X86_OPND_GPR || !bt_at_home(t, p->reg))
            continue;
        use_add(u, p->reg,
                (p->access & X86_ACC_R) || p->size < 4 ||
                    (w && x86_form_info(insn->form)->fl_read) || !w ||
                    insn->op == X86_OP_BSF || insn->op == X86_OP_BSR,
                w);
    }
}

/* No memory: the registers themselves are free, so home is copied there. */
static void plain_reg(struct bt_tr *t, const struct x86_insn *insn)
{
    struct use u;

    uses(t, insn, &u);
    for (unsigned i = 0; i < u.n; i++)
        if (u.read[i])
            bt_load_home(t, u.reg[i], u.reg[i]);
        else if (u.reg[i] == t->s2)
            t->s2_has = 0;
    e_insn(&t->e, insn, ANY, ANY, 0);
    for (unsigned i = 0; i < u.n; i++)
        if (u.written[i])
            e_save(&t->e, u.reg[i], BT_HOME(u.reg[i]));
}

/* A register that @insn does not use, below 8 if @low. */
static unsigned spare(const struct bt_tr *t, const struct x86_insn *insn,
                      bool low)
{
    static const uint8_t order[] = {9, 8, 6, 7, 2, 0, 3, 15, 14, 13, 12};
    uint32_t used = bt_regs(insn) | R(t->s1) | R(t->s2);

    for (unsigned i = 0; i < sizeof order; i++)
        if (!(used & R(order[i])) && !(low && order[i] > 7))
            return order[i];
    return X86_RCX;
}

static void tmp_take(struct bt_tr *t, unsigned tmp)
{
    e_save(&t->e, tmp, SLOT_TMP);
    t->bt->maps[t->bt->nmaps - 1].tmp = (uint8_t)tmp;
}

/* With memory: one such register may take s1's place, if that is free, or a
 * third one's. */
static void plain_home(struct bt_tr *t, const struct x86_insn *insn,
                       const struct bt_opnd *m, const struct use *u)
{
    struct x86_insn c = *insn;
    bool pure = u->n == 1 && !u->read[0];
    unsigned to[2], tmp = ANY;

    for (unsigned i = 0; i < u->n; i++) {
        if (i == 0 && (m->s1_free || pure)) {
            to[i] = t->s1;
        } else if (tmp == ANY) {
            to[i] = tmp = spare(t, insn, false);
            tmp_take(t, tmp);
        } else {
            t->full = true; /* both at home and the address too: not met */
            return;
        }
        if (u->read[i])
            e_load(&t->e, to[i], BT_HOME(u->reg[i]));
        /* by way of a number that no operand has */
        e_insn_sub(&c, u->reg[i], to[i]);
    }
    e_insn(&t->e, &c, m->base, m->index, m->disp);
    for (unsigned i = 0; i < u->n; i++)
        if (u->written[i])
            e_save(&t->e, to[i], BT_HOME(u->reg[i]));
    if (tmp != ANY)
        e_load(&t->e, tmp, SLOT_TMP);
}

/* AH and kin can't be named beside a REX, which s1 and s2 may need. */
static void plain_high(struct bt_tr *t, const struct x86_insn *insn,
                       const struct bt_opnd *m)
{
    unsigned tmp = spare(t, insn, true);

    tmp_take(t, tmp);
    e_mem_op(&t->e, 0x8d, tmp, m->base, m->index, m->disp);
    e_insn(&t->e, insn, tmp, ANY, 0);
    e_load(&t->e, tmp, SLOT_TMP);
}

/* MOV AL/rAX with an absolute address has no ModRM. */
static void moffs(struct bt_tr *t, const struct x86_insn *insn,
                  const struct bt_opnd *m)
{
    struct emit *e = &t->e;
    unsigned size = insn->opnd[0].kind == X86_OPND_MEM ? insn->opnd[1].size
                                                       : insn->opnd[0].size;
    unsigned op = insn->opcode < 0xa2 ? 0x8a + (insn->opcode & 1U)
                                      : 0x88 + (insn->opcode & 1U);

    if (size == 2)
        e8(e, 0x66);
    if (size == 8) {
        e_mem_op(e, op, X86_RAX, m->base, m->index, m->disp);
        return;
    }
    e8(e, 0x40 | (m->base == ANY ? 0 : m->base >> 3) |
              (m->index == ANY ? 0U : (unsigned)(m->index >> 3) << 1));
    e8(e, op);
    e_modrm_mem(e, X86_RAX, m->base, m->index, m->disp);
}

static void plain_mem(struct bt_tr *t, const struct x86_insn *insn)
{
    bool high = false;
    struct bt_opnd m;
    struct use u;

    for (unsigned i = 0; i < insn->nopnds; i++)
        high |= insn->opnd[i].high;
    bt_access(t, 0, &m);
    uses(t, insn, &u);
    if (!insn->has_modrm)
        moffs(t, insn, &m);
    else if (high)
        plain_high(t, insn, &m);
    else if (u.n)
        plain_home(t, insn, &m, &u);
    else
        e_insn(&t->e, insn, m.base, m.index, m.disp);
}

static void lea(struct bt_tr *t, const struct x86_insn *insn)
{
    uint64_t abs = (uint64_t)insn->disp;
    unsigned d = insn->reg, base, index;

    if (d == t->s2)
        t->s2_has = 0;
    if (insn->base == X86_REG_RIP ||
        (insn->base == ANY && insn->index == ANY)) {
        if (insn->base == X86_REG_RIP)
            abs += t->va[t->at] + insn->len;
        if (insn->adsize == 4 || insn->opsize == 4)
            abs = (uint32_t)abs;
        if (insn->base == X86_REG_RIP)
            bt_mov_va(t, &t->e, d, abs);
        else
            e_mov_imm(&t->e, d, abs);
    } else {
        base =
            insn->base == ANY ? ANY : bt_from_home(t, insn->base, insn->base);
        index = insn->index == ANY ? ANY
                                   : bt_from_home(t, insn->index, insn->index);
        e_lea(&t->e, d, base, index, insn->scale, (int32_t)insn->disp,
              insn->opsize == 8 && insn->adsize == 8);
    }
    if (bt_at_home(t, d))
        e_save(&t->e, d, BT_HOME(d));
}

/* Its destination may be at home. */
static void system_insn(struct bt_tr *t, const struct x86_insn *insn)
{
    bt_system(t);
    if (insn->nopnds && insn->opnd[0].kind == X86_OPND_GPR &&
        bt_at_home(t, insn->opnd[0].reg)) {
        e_save(&t->e, insn->opnd[0].reg, BT_HOME(insn->opnd[0].reg));
        t->s2_has = 0;
    }
}

/* ---- all ---- */

static bool in_loop(const struct bt_tr *t, unsigned i)
{
    for (unsigned k = 0; k < t->nloops; k++)
        if (i >= t->loops[k].head && i <= t->loops[k].last)
            return true;
    return false;
}

/* How often the region names R10 and R11 where that costs something. */
static unsigned home_cost(const struct bt_tr *t, uint32_t *used)
{
    unsigned n = 0;

    *used = R(X86_RSP) | R(X86_RCX) | R(X86_R10) | R(X86_R11);
    for (unsigned i = 0; i < t->n; i++) {
        uint32_t m = t->regs[i];

        if (t->how[i] == HOW_CALLOUT)
            continue;
        *used |= m;
        if (t->how[i] != HOW_PUSH && t->how[i] != HOW_POP)
            n += ((m >> X86_R10 & 1) + (m >> X86_R11 & 1)) *
                 (in_loop(t, i) ? 8 : 1);
    }
    for (unsigned i = 0; i < t->nloops; i++)
        for (unsigned k = 0; k < 2; k++)
            if (t->loops[i].x[k] != ANY)
                *used |= R(t->loops[i].x[k]);
    return n;
}

/* Other scratch registers, where R10 and R11 are busy and others are not. */
static void choose_scratch(struct bt_tr *t)
{
    static const uint8_t order[] = {9, 8, 15, 14, 13, 12, 7, 6, 2, 3, 0};
    unsigned got[2], n = 0, cost;
    uint32_t used;

    cost = home_cost(t, &used);
    if (cost < 5)
        return;
    for (unsigned i = 0; i < sizeof order && n < 2; i++)
        if (!(used & R(order[i])))
            got[n++] = order[i];
    if (n < 2)
        return;
    t->s1 = (uint8_t)got[0];
    t->s2 = (uint8_t)got[1];
}

static bool is_x87(const struct bt_tr *t, unsigned i)
{
    unsigned cls = x86_form_info(t->insn[i].form)->cls;

    return t->how[i] == HOW_PLAIN && (cls == X86_CLS_X87 || cls == X86_CLS_MMX);
}

/* Whoever saves x87's state asks whether any was made. XRSTOR alone, a callout,
 * takes it back: the first one of a row says so. */
static void note_x87(struct bt_tr *t)
{
    unsigned i = t->at;

    if (is_x87(t, i) && !(i && is_x87(t, i - 1) && !t->leader[i] &&
                          t->va[i] == t->va[i - 1] + t->insn[i - 1].len))
        e_gs_imm(&t->e, BT_X87, 1);
}

static void rewrite_one(struct bt_tr *t)
{
    const struct x86_insn *insn = &t->insn[t->at];

    switch ((enum bt_how)t->how[t->at]) {
    case HOW_CALLOUT:
        callout(t);
        return;
    case HOW_PLAIN:
        note_x87(t);
        if (bt_mem_opnd(insn))
            plain_mem(t, insn);
        else
            plain_reg(t, insn);
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
        system_insn(t, insn);
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

void bt_rewrite_plain(struct bt_tr *t)
{
    rewrite_one(t);
}

void bt_map_new(struct bt_tr *t)
{
    t->start = t->e.at;
    t->bt->maps[t->bt->nmaps++] = (struct bt_map){
        .host = t->e.at,
        .off = (uint16_t)(t->va[t->at] - t->b->va),
        .s1 = t->s1,
        .s2 = t->s2,
        .tmp = ANY,
        .x = {t->fast ? t->fast->x[0] : ANY, t->fast ? t->fast->x[1] : ANY},
    };
}

/* What stands at the beginning of each instruction. */
static void begin(struct bt_tr *t)
{
    t->kind_now = t->kind[t->at];
    if (t->leader[t->at]) {
        t->s2_has = 0;
        t->label[t->at] = t->e.at;
        if (t->loop[t->at])
            bt_poll(t, &t->e, t->va[t->at], t->live[t->at]);
    }
    if (t->loop[t->at])
        bt_loop(t);
    if (!t->leader[t->at])
        t->label[t->at] = t->e.at;
    bt_map_new(t);
}

void bt_rewrite(struct bt_tr *t)
{
    struct bt *bt = t->bt;

    choose_scratch(t);
    bt_entry(t);
    for (t->at = 0; t->at < t->n; t->at++) {
        uint32_t from = bt->nsites;
        unsigned last;

        begin(t);
        bt_window_checks(t);
        if (t->how[t->at] != HOW_CALLOUT)
            bt->st.native_insns++;
        rewrite_one(t); /* may have done several */
        for (; from < bt->nsites; from++) {
            if (!bt->sites[from].next)
                bt->sites[from].next = t->e.at;
            if (!bt->sites[from].window)
                t->s2_has = 0; /* C may come back with the guest's register */
        }
        last = t->at;
        if (t->how[last] == HOW_JCC || t->how[last] == HOW_JCXZ ||
            t->how[last] == HOW_LOOP ||
            (bt_ends(t, last) && t->how[last] != HOW_CALLOUT))
            continue; /* branch.c has seen to what follows */
        if (last + 1 == t->n || bt_ends(t, last) ||
            t->va[last + 1] != t->va[last] + t->insn[last].len) {
            bool held = t->held;

            bt_unhold(t);
            bt_exit_to(t, &t->e, t->va[last] + t->insn[last].len);
            t->held = held;
        }
    }
    for (unsigned i = 0; i < t->nfix; i++)
        e_patch32(&t->e, t->fix[i].from, t->label[t->fix[i].to]);
    bt_exits_emit(t);
    bt_cold_emit(t);
}
