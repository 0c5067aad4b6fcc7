// SPDX-License-Identifier: Apache-2.0
/*
 * Which accesses of a region are checked as one. Between two places where C or
 * a jump may come in, accesses by one register whose changes are known (a
 * constant added, a push) lie at known distances: one look-up covers them all
 * if they are near. The check stands where flags are dead, if such a place is
 * at hand before the first of them. When it fails for good, the region is left
 * for one where each access is checked by itself (BT_MODE_NOWIN), so a check
 * may be stricter than its accesses (a page's end, a read-only page).
 */
#include "engine/bt/front.h"
#include "engine/bt/zone.h"

/* A wide window meets a page's end too often. */
#define SPAN_MAX       64
#define STACK_SPAN_MAX 96

const struct x86_opnd *bt_mem_opnd(const struct x86_insn *insn)
{
    for (unsigned i = 0; i < insn->nopnds; i++)
        if (insn->opnd[i].kind == X86_OPND_MEM)
            return &insn->opnd[i];
    return NULL;
}

/* ---- registers ---- */

static uint32_t implied(const struct x86_insn *insn)
{
    uint64_t a = x86_form_info(insn->form)->attr;
    uint32_t m = 0;

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
    if (a & (XA_PUSH | XA_POP))
        m |= R(X86_RSP);
    return m;
}

uint32_t bt_regs(const struct x86_insn *insn)
{
    uint32_t m = implied(insn);

    for (unsigned i = 0; i < insn->nopnds; i++)
        if (insn->opnd[i].kind == X86_OPND_GPR)
            m |= R(insn->opnd[i].reg);
    if (insn->base < 16)
        m |= R(insn->base);
    if (insn->index < 16)
        m |= R(insn->index);
    return m;
}

uint32_t bt_written(const struct x86_insn *insn)
{
    uint64_t a = x86_form_info(insn->form)->attr;
    uint32_t m = 0;

    for (unsigned i = 0; i < insn->nopnds; i++)
        if (insn->opnd[i].kind == X86_OPND_GPR &&
            (insn->opnd[i].access & X86_ACC_W))
            m |= R(insn->opnd[i].reg);
    if (a & XA_WA)
        m |= R(X86_RAX);
    if (a & XA_WC)
        m |= R(X86_RCX);
    if (a & XA_WD)
        m |= R(X86_RDX);
    if (a & XA_WB)
        m |= R(X86_RBX);
    if (a & XA_WBP)
        m |= R(X86_RBP);
    if (a & XA_WR11)
        m |= R(X86_R11);
    if (a & (XA_PUSH | XA_POP))
        m |= R(X86_RSP);
    if (insn->op == X86_OP_LOOP)
        m |= R(X86_RCX);
    if (insn->op == X86_OP_LEAVE)
        m |= R(X86_RSP) | R(X86_RBP);
    return m;
}

/* What a register is, relative to what it was when its version began. */
struct reg_track {
    uint16_t ver;
    int32_t delta;
};

bool bt_adds(const struct bt_tr *t, unsigned i, unsigned r, int64_t *by)
{
    const struct x86_insn *insn = &t->insn[i];
    const struct x86_opnd *p = &insn->opnd[0];

    switch ((enum bt_how)t->how[i]) {
    case HOW_PUSH:
    case HOW_CALL:
        *by = -8;
        return r == X86_RSP;
    case HOW_POP:
        *by = 8;
        return r == X86_RSP && p->reg != X86_RSP;
    case HOW_RET:
        *by = 8;
        return r == X86_RSP;
    case HOW_LEA:
        *by = insn->disp;
        return insn->reg == r && insn->base == r && insn->index == ANY &&
               insn->opsize == 8 && insn->adsize == 8;
    case HOW_PLAIN:
        break;
    default:
        return false;
    }
    if (p->kind != X86_OPND_GPR || p->reg != r || p->size != 8)
        return false;
    switch (insn->op) {
    case X86_OP_INC:
        *by = 1;
        return true;
    case X86_OP_DEC:
        *by = -1;
        return true;
    case X86_OP_ADD:
    case X86_OP_SUB:
        if (insn->opnd[1].kind != X86_OPND_IMM)
            return false;
        *by = insn->op == X86_OP_ADD ? (int64_t)insn->imm : -(int64_t)insn->imm;
        return true;
    default:
        return false;
    }
}

static void track(const struct bt_tr *t, unsigned i, struct reg_track *rt)
{
    uint32_t m = t->wrote[i];
    int64_t by;

    if (t->how[i] == HOW_NOTHING)
        return;
    for (unsigned r = 0; m; r++, m >>= 1) {
        if (!(m & 1))
            continue;
        if (bt_adds(t, i, r, &by) && by == (int16_t)by) {
            rt[r].delta += (int32_t)by;
        } else {
            rt[r].ver++;
            rt[r].delta = 0;
        }
    }
}

/* ---- accesses ---- */

static void ref_opnd(const struct x86_insn *insn, uint64_t va,
                     struct bt_ref *ref)
{
    bool rip = insn->base == X86_REG_RIP;

    ref->key = KEY_NONE;
    ref->off = insn->disp;
    if (insn->adsize != 8 || insn->index != ANY)
        return;
    if (rip)
        ref->off += (int64_t)(va + insn->len);
    if (insn->seg >= X86_SEG_FS && (rip || ref->off != (int32_t)ref->off))
        return;
    if (rip || insn->base == ANY)
        ref->key = insn->seg == X86_SEG_FS   ? KEY_FS
                   : insn->seg == X86_SEG_GS ? KEY_GS
                   : rip                     ? KEY_RIP
                                             : KEY_ABS;
    else if (insn->seg < X86_SEG_FS)
        ref->key = insn->base;
}

static void add_ref(struct bt_tr *t, unsigned i, struct bt_ref ref)
{
    ref.win = NO_WIN;
    t->ref[i][t->nref[i]++] = ref;
}

static void add_stack(struct bt_tr *t, unsigned i, bool push)
{
    add_ref(
        t, i,
        (struct bt_ref){
            .key = X86_RSP, .off = push ? -8 : 0, .size = 8, .write = push});
}

static void refs_of(struct bt_tr *t, unsigned i)
{
    const struct x86_insn *insn = &t->insn[i];
    const struct x86_opnd *m = NULL;
    enum bt_how how = (enum bt_how)t->how[i];
    struct bt_ref ref;

    t->nref[i] = 0;
    if (how == HOW_PLAIN || how == HOW_PUSH || how == HOW_JMP ||
        how == HOW_CALL)
        m = bt_mem_opnd(insn);
    if (m) {
        ref = (struct bt_ref){.size = (uint8_t)m->size,
                              .write = (m->access & X86_ACC_W) != 0};
        ref_opnd(insn, t->va[i], &ref);
        add_ref(t, i, ref);
    }
    if (how == HOW_PUSH || how == HOW_CALL)
        add_stack(t, i, true);
    if (how == HOW_POP || how == HOW_RET)
        add_stack(t, i, false);
    if (how == HOW_LEAVE)
        add_ref(t, i, (struct bt_ref){.key = X86_RBP, .size = 8});
}

/* ---- windows ---- */

struct planner {
    struct bt_tr *t;
    struct reg_track now[16];
    struct reg_track at[BT_REGION_INSNS][16]; /* before each instruction */
    unsigned segment; /* first instruction of the segment */
    unsigned first;   /* first window of the segment */
};

static void join(struct planner *pl, unsigned i, struct bt_ref *ref)
{
    struct bt_tr *t = pl->t;
    bool reg = ref->key < 16;
    uint16_t ver = reg ? pl->now[ref->key].ver : 0;
    int64_t lo = ref->off + (reg ? pl->now[ref->key].delta : 0);
    int64_t hi = lo + ref->size;
    bool zone = bt_by_zone(t, i, ref->key, ref->off);
    int64_t max = zone                  ? 2 * BT_NEAR
                  : ref->key == X86_RSP ? STACK_SPAN_MAX
                                        : SPAN_MAX;
    struct bt_win *w;

    if (zone &&
        (!reg || lo < -BT_NEAR || hi > BT_NEAR)) /* access_zone has no need */
        return;
    if (ref->key == KEY_NONE || (reg && (lo < -BT_REACH || hi > BT_REACH)))
        return;
    for (unsigned k = pl->first; k < t->nwins; k++) {
        int64_t l, h;

        w = &t->win[k];
        l = lo < w->lo ? lo : w->lo;
        h = hi > w->hi ? hi : w->hi;
        if (w->key != ref->key || w->ver != ver || h - l > max)
            continue;
        w->lo = l;
        w->hi = h;
        w->write |= ref->write;
        w->count++;
        ref->win = (uint8_t)k;
        return;
    }
    if (t->nwins == BT_REGION_INSNS || t->nwins - pl->first == BT_WINDOWS)
        return;
    ref->win = (uint8_t)t->nwins;
    w = &t->win[t->nwins++];
    *w = (struct bt_win){.lo = lo,
                         .hi = hi,
                         .ver = ver,
                         .key = ref->key,
                         .at = (uint8_t)i,
                         .count = 1,
                         .write = ref->write};
}

/* Behind a branch a pointer may be good that was not before it. */
static bool may_pass(const struct bt_tr *t, unsigned i, unsigned key)
{
    enum bt_how how = (enum bt_how)t->how[i];

    return key >= 16 || key == X86_RSP ||
           !(how == HOW_JCC || how == HOW_JCXZ || how == HOW_LOOP);
}

/* Where the check stands: where flags are dead and the register is the same
 * but for a known constant. */
static void place(struct planner *pl, struct bt_win *w)
{
    struct bt_tr *t = pl->t;
    bool zone = bt_by_zone(t, w->at, w->key, w->lo);
    unsigned p = w->at;

    while (!zone && t->live[p] && p > pl->segment &&
           may_pass(t, p - 1, w->key) &&
           (w->key >= 16 || pl->at[p - 1][w->key].ver == w->ver))
        p--;
    if (!zone && !t->live[p]) {
        w->hoisted = p != w->at;
        w->at = (uint8_t)p;
    }
    if (w->key < 16)
        w->delta = pl->at[w->at][w->key].delta;
}

/* Zones: a distance is kept if others' are needed before its last use. */
static void keep(struct planner *pl, unsigned end)
{
    struct bt_tr *t = pl->t;
    unsigned has = NO_WIN;

    for (unsigned i = pl->segment; i < end; i++)
        for (unsigned k = 0; k < t->nref[i]; k++) {
            unsigned w = t->ref[i][k].win;

            if (w != NO_WIN && w != has && t->win[w].begun)
                t->win[w].kept = true;
            if (w != NO_WIN)
                t->win[w].begun = true;
            has = w;
        }
}

/* The segment ends before instruction @end. */
static void finish(struct planner *pl, unsigned end)
{
    struct bt_tr *t = pl->t;
    bool stack = false;

    for (unsigned k = pl->first; k < t->nwins; k++) {
        struct bt_win *w = &t->win[k];

        place(pl, w);
        w->slot = (uint8_t)(k - pl->first);
        /* Two by the stack's page would take it from each other. */
        if (w->key == X86_RSP && !stack && !t->live[w->at] && !t->zone)
            w->stack = stack = true;
        /* Alone it gains nothing by being a window. */
        if (w->count == 1 && !w->stack && !w->hoisted)
            w->count = 0;
        if (!w->count)
            continue;
        w->next = t->check[w->at];
        t->check[w->at] = (uint8_t)(k + 1);
    }
    for (unsigned i = pl->segment; i < end; i++)
        for (unsigned k = 0; k < t->nref[i]; k++) {
            struct bt_ref *ref = &t->ref[i][k];

            if (ref->win != NO_WIN && !t->win[ref->win].count)
                ref->win = NO_WIN;
        }
    if (t->zone)
        keep(pl, end);
    pl->segment = end;
    pl->first = t->nwins;
}

/* Whether C may come in at @i, or the GS base or the kind of access changes. */
static bool parts(const struct bt_tr *t, unsigned i)
{
    unsigned op = t->insn[i].op;

    return t->how[i] == HOW_CALLOUT ||
           (t->how[i] == HOW_SYSTEM &&
            (op == X86_OP_STI || op == X86_OP_SWAPGS || op == X86_OP_STAC ||
             op == X86_OP_CLAC));
}

void bt_windows(struct bt_tr *t)
{
    UNINIT struct planner pl;

    pl.t = t;
    pl.segment = pl.first = 0;
    memset(pl.now, 0, sizeof pl.now);
    for (unsigned i = 0; i < t->n; i++) {
        bool callout = parts(t, i);

        refs_of(t, i);
        t->pin[i] = t->zone && bt_zones_pinned(t->bt, t->va[i]);
        if (t->pin[i])
            t->b->moves = false;
        if (t->b->mode & BT_MODE_NOWIN)
            continue;
        if (i != pl.segment && (t->leader[i] || bt_ends(t, i - 1) || callout))
            finish(&pl, i);
        for (unsigned r = 0; r < 16; r++)
            pl.at[i][r] = pl.now[r];
        for (unsigned k = 0; k < t->nref[i] && !t->pin[i]; k++)
            join(&pl, i, &t->ref[i][k]);
        track(t, i, pl.now);
        if (callout)
            finish(&pl, i + 1);
    }
    if (!(t->b->mode & BT_MODE_NOWIN) && pl.segment < t->n)
        finish(&pl, t->n);
}

bool bt_check_at(const struct bt_tr *t, unsigned i)
{
    return t->check[i] != 0;
}
