// SPDX-License-Identifier: Apache-2.0
/*
 * From a guest address to a host operand. Two registers are scratch (s1, s2:
 * R11 and R10 unless the region is remapped); the guest's values of these two
 * are at home, in memory. The guest's address goes to s1, its entry in the
 * first-level TLB is found by PEXT into s2, and what is left in s2 is the
 * distance from guest to host addresses, which becomes the operand's index.
 */
#include "engine/bt/front.h"

static bool fits32(int64_t v)
{
    return v == (int32_t)v;
}

/* ---- homes ---- */

void bt_load_home(struct bt_tr *t, unsigned to, unsigned r)
{
    if (!bt_at_home(t, r))
        return;
    e_load(&t->e, to, BT_HOME(r));
    if (to == t->s2)
        t->s2_has = 0;
}

unsigned bt_from_home(struct bt_tr *t, unsigned r, unsigned tmp)
{
    if (!bt_at_home(t, r))
        return r;
    bt_load_home(t, tmp, r);
    return tmp;
}

/* The region's own scratch registers instead of R11 and R10. */
void bt_hold(struct bt_tr *t)
{
    if (t->s1 == X86_R11)
        return;
    e_save(&t->e, t->s1, BT_HOME(t->s1));
    e_save(&t->e, t->s2, BT_HOME(t->s2));
    e_load(&t->e, X86_R11, BT_HOME(X86_R11));
    e_load(&t->e, X86_R10, BT_HOME(X86_R10));
    t->held = true;
    t->s2_has = 0;
}

void bt_unhold_code(const struct bt_tr *t, struct emit *e)
{
    e_save(e, X86_R11, BT_HOME(X86_R11));
    e_save(e, X86_R10, BT_HOME(X86_R10));
    e_load(e, t->s1, BT_HOME(t->s1));
    e_load(e, t->s2, BT_HOME(t->s2));
}

void bt_unhold(struct bt_tr *t)
{
    if (t->held)
        bt_unhold_code(t, &t->e);
    t->held = false;
    t->s2_has = 0;
}

/* ---- addresses ---- */

/* @r, or a scratch register that its home was loaded to. */
static unsigned fetch(const struct bt_tr *t, struct emit *e, unsigned r,
                      unsigned tmp)
{
    if (r == ANY || !bt_at_home(t, r))
        return r;
    e_load(e, tmp, BT_HOME(r));
    return tmp;
}

/* Key and offset into s1; s2 is left alone. */
static void ea_key(const struct bt_tr *t, struct emit *e, unsigned key,
                   int64_t off)
{
    unsigned base;

    if (key == KEY_RIP) {
        bt_mov_va(t, e, t->s1, (uint64_t)off);
        return;
    }
    if (key == KEY_ABS) {
        e_mov_imm(e, t->s1, (uint64_t)off);
        return;
    }
    if (key == KEY_FS || key == KEY_GS) {
        base = t->s1;
        e_load(e, base, key == KEY_FS ? BT_FSBASE : BT_GSBASE);
    } else {
        base = fetch(t, e, key, t->s1);
    }
    if (off)
        e_lea(e, t->s1, base, ANY, 0, (int32_t)off, true);
    else if (base != t->s1)
        e_mov(e, t->s1, base);
}

/* Any memory operand into s1; s2 is used. */
static void ea_any(const struct bt_tr *t, struct emit *e, unsigned i)
{
    const struct x86_insn *insn = &t->insn[i];
    bool wide = insn->adsize == 8;
    uint64_t abs = (uint64_t)insn->disp;
    unsigned base, index;

    if (insn->base == X86_REG_RIP ||
        (insn->base == ANY && insn->index == ANY)) {
        if (insn->base == X86_REG_RIP)
            abs += t->va[i] + insn->len;
        abs = wide ? abs : (uint32_t)abs;
        if (insn->base == X86_REG_RIP)
            bt_mov_va(t, e, t->s1, abs);
        else
            e_mov_imm(e, t->s1, abs);
    } else {
        base = fetch(t, e, insn->base, t->s1);
        index = fetch(t, e, insn->index, t->s2);
        e_lea(e, t->s1, base, index, insn->scale, (int32_t)insn->disp, wide);
    }
    if (insn->seg >= X86_SEG_FS) {
        e_load(e, t->s2, insn->seg == X86_SEG_FS ? BT_FSBASE : BT_GSBASE);
        e_lea(e, t->s1, t->s1, t->s2, 0, 0, true);
    }
}

void bt_ea_store(struct bt_tr *t, unsigned reg, unsigned slot)
{
    if (reg != ANY)
        e_save(&t->e, fetch(t, &t->e, reg, t->s1), slot);
    ea_any(t, &t->e, t->at);
    e_save(&t->e, t->s1, BT_VA);
    t->s2_has = 0;
}

static bool simple(const struct bt_ref *ref)
{
    return ref->key != KEY_NONE &&
           (ref->key == KEY_ABS || ref->key == KEY_RIP || fits32(ref->off));
}

static bool ea_spares_s2(const struct bt_tr *t, unsigned i)
{
    const struct x86_insn *insn = &t->insn[i];

    return insn->seg < X86_SEG_FS && !bt_at_home(t, insn->index);
}

static void ea_ref(const struct bt_tr *t, struct emit *e, unsigned i,
                   unsigned k)
{
    const struct bt_ref *ref = &t->ref[i][k];

    if (simple(ref))
        ea_key(t, e, ref->key, ref->off);
    else
        ea_any(t, e, i);
}

static void ea_win(const struct bt_tr *t, struct emit *e,
                   const struct bt_win *w)
{
    ea_key(t, e, w->key, w->lo - w->delta);
}

/* ---- checks ---- */

/* The address is in s1. Flags are dead: s1 is spoilt, s2 the entry's index. */
static void check_dead(struct bt_tr *t, unsigned key, unsigned size,
                       struct bt_cold *c)
{
    struct emit *e = &t->e;

    e_pext(e, t->s2, t->s1, BT_TLBMASK);
    e_gsx_op(e, 0x03, t->s1, t->s2, key);
    e_cmp_imm(e, t->s1, 4096 - size);
    c->from = e_jcc(e, CC_A);
}

/* The same leaving flags and s1 alone. */
static void check_live(struct bt_tr *t, unsigned key, unsigned size,
                       struct bt_cold *c)
{
    struct emit *e = &t->e;
    uint32_t hit;

    c->rcx = true;
    e_pext(e, t->s2, t->s1, BT_TLBMASK);
    e_save(e, X86_RCX, SLOT_CX);
    e_gsx_op(e, 0x8b, X86_RCX, t->s2, key);
    e_mem_op(e, 0x8d, X86_RCX, X86_RCX, t->s1, (int32_t)size - 1);
    e_pext(e, X86_RCX, X86_RCX, BT_HIMASK);
    hit = e_jrcxz(e);
    c->from = e_jmp(e);
    e_patch8(e, hit);
    e_load(e, X86_RCX, SLOT_CX);
}

static struct bt_site *miss_site(struct bt_tr *t, unsigned size, bool write,
                                 struct bt_cold **c)
{
    uint32_t site = bt_site_new(t, t->va[t->at]);
    struct bt_site *s = &t->bt->sites[site];

    s->start = t->e.at;
    t->s2_has = 0; /* C comes back here, with the guest's register in s2 */
    s->size = (uint16_t)size;
    s->write = write;
    s->kind = (uint8_t)bt_kind(t);
    s->s1 = t->s1;
    s->s2 = t->s2;
    *c = bt_cold_new(t, COLD_MISS, 0, site, BT_G_MISS);
    (*c)->insn = (uint8_t)t->at;
    return s;
}

/* ---- zones ---- */

void bt_zone_of(struct bt_tr *t, unsigned reg)
{
    struct emit *e = &t->e;

    e_rorx(e, t->s2, reg, 40);
    e_movzx8(e, t->s2, t->s2);
    e_gsx_op(e, 0x8b, t->s2, t->s2, BT_ZONE(bt_kind(t)));
}

/* An address that is known: its zone is, too. copy.c sees to it that all that
 * move with the region are in one zone; so they must not share with others. */
static void access_zone_abs(struct bt_tr *t, const struct bt_ref *ref,
                            struct bt_opnd *m)
{
    unsigned slot = (unsigned)BT_ZONE(bt_kind(t)) +
                    8 * ((unsigned)((uint64_t)ref->off >> 40) & 255);

    if (t->s2_has != slot) {
        e_load(&t->e, t->s2, slot);
        if (ref->key == KEY_RIP)
            bt_reloc(t, &t->e, BT_R_ZONE, t->e.at - 4, 0);
    }
    t->s2_has = (uint16_t)slot;
    if (ref->key == KEY_ABS)
        t->b->moves = false;
    if (fits32(ref->off)) {
        *m = (struct bt_opnd){t->s2, ANY, (int32_t)ref->off, true};
        return;
    }
    ea_key(t, &t->e, ref->key, ref->off);
    *m = (struct bt_opnd){t->s1, t->s2, 0, false};
}

/* One access; its zone is that of the register, or of the whole address. */
static void access_zone(struct bt_tr *t, unsigned k, struct bt_opnd *m)
{
    const struct bt_ref *ref = &t->ref[t->at][k];
    unsigned base = t->s1, slot;

    if (ref->key == KEY_ABS || ref->key == KEY_RIP) {
        access_zone_abs(t, ref, m);
        return;
    }
    if (simple(ref) && ref->key >= 16) {
        slot = (unsigned)BT_SEGHOST(ref->key == KEY_GS);
        if (t->s2_has != slot)
            e_load(&t->e, t->s2, slot);
        t->s2_has = (uint16_t)slot;
        *m = (struct bt_opnd){t->s2, ANY, (int32_t)ref->off, true};
        return;
    }
    if (simple(ref) && ref->off < BT_NEAR && ref->off > -BT_NEAR) {
        base = bt_from_home(t, ref->key, t->s1);
        *m = (struct bt_opnd){(uint8_t)base, t->s2, (int32_t)ref->off,
                              base != t->s1};
    } else {
        ea_ref(t, &t->e, t->at, k);
        *m = (struct bt_opnd){t->s1, t->s2, 0, false};
    }
    bt_zone_of(t, base);
    t->s2_has = 0;
}

/* Several accesses by one register: the distance is kept in a slot. */
static void window_zone(struct bt_tr *t, const struct bt_win *w)
{
    struct emit *e = &t->e;

    bt_zone_of(t, bt_from_home(t, w->key, t->s1));
    if (w->kept)
        e_save(e, t->s2, BT_WIN(w->slot));
    t->s2_has = (uint16_t)BT_WIN(w->slot);
}

/* One access with a check of its own. */
static void access_full(struct bt_tr *t, unsigned k, struct bt_opnd *m)
{
    const struct bt_ref *ref = &t->ref[t->at][k];
    unsigned kind = bt_kind(t);
    unsigned key = ref->write ? BT_TLB_W(kind) : BT_TLB_R(kind);
    bool live = t->live[t->at], s = simple(ref);
    bool again = s || ea_spares_s2(t, t->at); /* the address, beside s2 */
    struct bt_cold *c;
    uint32_t site;

    site = (uint32_t)(miss_site(t, ref->size, ref->write, &c) - t->bt->sites);
    c->nref = (uint8_t)k;
    ea_ref(t, &t->e, t->at, k);
    if (live) {
        check_live(t, key, ref->size, c);
    } else {
        check_dead(t, key, ref->size, c);
        if (!again) /* the index is still in s2: make the address good */
            e_gsx_op(&t->e, 0x2b, t->s1, t->s2, key);
    }
    e_gsx_op(&t->e, 0x8b, t->s2, t->s2, BT_TLB_HOST(kind));
    t->s2_has = 0;
    if (s && ref->key < 16 && !bt_at_home(t, ref->key)) {
        t->bt->sites[site].hit = t->e.at;
        *m = (struct bt_opnd){ref->key, t->s2, (int32_t)ref->off, true};
        return;
    }
    if (!live && again)
        ea_ref(t, &t->e, t->at, k);
    t->bt->sites[site].hit = t->e.at;
    *m = (struct bt_opnd){t->s1, t->s2, 0, false};
}

static unsigned slot_of(const struct bt_tr *t, const struct bt_win *w)
{
    unsigned stk = (unsigned)BT_STK(bt_kind(t)) + BT_STK_DELTA;

    return w->stack ? stk : (unsigned)BT_WIN(w->slot);
}

void bt_access(struct bt_tr *t, unsigned k, struct bt_opnd *m)
{
    const struct bt_ref *ref = &t->ref[t->at][k];
    const struct bt_win *w;
    unsigned slot;

    if (t->fast) {
        bt_loop_access(t, m);
        return;
    }
    if (ref->win == NO_WIN) {
        (!t->pin[t->at] && bt_by_zone(t, t->at, ref->key, ref->off)
             ? access_zone
             : access_full)(t, k, m);
        return;
    }
    w = &t->win[ref->win];
    slot = slot_of(t, w);
    if (t->s2_has != slot) {
        if (!w->kept && bt_by_zone(t, t->at, w->key, 0))
            bt_zone_of(t, bt_from_home(t, w->key, t->s1));
        else
            e_load(&t->e, t->s2, slot);
        t->s2_has = (uint16_t)slot;
    }
    if (ref->key >= 16) /* the slot has the host address of its beginning */
        *m = (struct bt_opnd){t->s2, ANY, (int32_t)(ref->off - w->lo), true};
    else
        *m = (struct bt_opnd){(uint8_t)bt_from_home(t, ref->key, t->s1), t->s2,
                              (int32_t)ref->off, !bt_at_home(t, ref->key)};
}

static void window_check(struct bt_tr *t, const struct bt_win *w)
{
    unsigned kind = bt_kind(t), size = (unsigned)(w->hi - w->lo);
    unsigned key = w->write ? BT_TLB_W(kind) : BT_TLB_R(kind);
    bool live = t->live[t->at];
    struct emit *e = &t->e;
    struct bt_cold *c;
    struct bt_site *s = miss_site(t, size, w->write, &c);

    s->window = true;
    s->stack = w->stack;
    c->win = (uint8_t)(w - t->win);
    ea_win(t, e, w);
    if (w->stack) {
        e_gs_op(e, 0x03, t->s1,
                (unsigned)BT_STK(kind) + (w->write ? BT_STK_W : BT_STK_R));
        e_cmp_imm(e, t->s1, 4096 - size);
        c->from = e_jcc(e, CC_A);
        return;
    }
    if (live)
        check_live(t, key, size, c);
    else
        check_dead(t, key, size, c);
    e_gsx_op(e, 0x8b, t->s2, t->s2, BT_TLB_HOST(kind));
    if (w->key >= 16) {
        if (!live)
            ea_win(t, e, w);
        e_lea(e, t->s2, t->s1, t->s2, 0, 0, true);
    }
    e_save(e, t->s2, BT_WIN(w->slot));
    t->s2_has = (uint16_t)BT_WIN(w->slot);
}

void bt_window_checks(struct bt_tr *t)
{
    for (unsigned k = t->check[t->at]; k; k = t->win[k - 1].next)
        (bt_by_zone(t, t->at, t->win[k - 1].key, 0)
             ? window_zone
             : window_check)(t, &t->win[k - 1]);
}

/* Out of line: RCX is put back, the address is made once more. */
void bt_cold_miss(struct bt_tr *t, const struct bt_cold *c)
{
    const struct bt_site *s = &t->bt->sites[c->site];
    struct emit *e = &t->cold;

    if (c->rcx)
        e_load(e, X86_RCX, SLOT_CX);
    if (c->win != NO_WIN)
        ea_win(t, e, &t->win[c->win]);
    else
        ea_ref(t, e, c->insn, c->nref);
    e_save(e, t->s1, BT_VA);
    if (s->stack && t->s1 == X86_R11) { /* another page of the stack? */
        uint32_t from;

        bt_site_imm(t, e, c->site);
        e_rip_op(e, 0x8d, X86_R11, s->start);
        bt_reloc(t, e, BT_R_CROSS, e->at - 4, 0);
        e_save(e, X86_R11, BT_JT);
        from = e_jmp(e);
        e_patch32(e, from, BT_STK_THUNK(s->kind, s->write));
        bt_reloc(t, e, BT_R_FIXED, from, 0);
        return;
    }
    bt_gate_jump(t, e, c->site, c->gate);
}
