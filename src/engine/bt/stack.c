// SPDX-License-Identifier: Apache-2.0
/*
 * PUSH, POP, LEAVE, and the push of a CALL: host RSP is the guest's, so each is
 * an access like others and a LEA. Several in a row that one window covers move
 * RSP once. Source: Intel SDM vol. 2.
 */
#include "engine/bt/front.h"

#define RUN_MAX 16

static void move_rsp(struct bt_tr *t, int32_t by)
{
    e_lea(&t->e, X86_RSP, X86_RSP, ANY, 0, by, true);
}

static void store(struct bt_tr *t, unsigned r, const struct bt_opnd *m)
{
    e_mem_op(&t->e, 0x89, r, m->base, m->index, m->disp);
}

static void load(struct bt_tr *t, unsigned r, const struct bt_opnd *m)
{
    e_mem_op(&t->e, 0x8b, r, m->base, m->index, m->disp);
}

/* The stack's access of the instruction is its last. */
static void stack_access(struct bt_tr *t, struct bt_opnd *m)
{
    bt_access(t, t->nref[t->at] - 1U, m);
}

static void store_imm(struct bt_tr *t, uint64_t v, const struct bt_opnd *m)
{
    if ((uint64_t)(int64_t)(int32_t)v == v) {
        e_mem_op(&t->e, 0xc7, 0, m->base, m->index, m->disp);
        e32(&t->e, (uint32_t)v);
    } else {
        e_mov_imm(&t->e, t->s1, v);
        store(t, t->s1, m);
    }
}

void bt_push_next(struct bt_tr *t, uint64_t v)
{
    struct bt_opnd m;

    stack_access(t, &m);
    if (t->b->moves) {
        bt_mov_va(t, &t->e, t->s1, v);
        store(t, t->s1, &m);
    } else {
        store_imm(t, v, &m);
    }
    move_rsp(t, -8);
}

/* PUSH [mem]: load, then store, each an access of its own. */
static void push_mem(struct bt_tr *t)
{
    struct bt_opnd m;

    bt_access(t, 0, &m);
    load(t, t->s1, &m);
    e_save(&t->e, t->s1, SLOT_TGT);
    stack_access(t, &m);
    e_load(&t->e, t->s1, SLOT_TGT);
    store(t, t->s1, &m);
    move_rsp(t, -8);
}

static void pushf(struct bt_tr *t)
{
    struct bt_opnd m;

    bt_rflags(t);
    stack_access(t, &m);
    e_load(&t->e, t->s1, SLOT_TGT);
    store(t, t->s1, &m);
    move_rsp(t, -8);
}

/* How many pushes or pops of registers follow each other from here on, all in
 * one window, with nothing between them. */
static unsigned run_length(const struct bt_tr *t)
{
    unsigned i = t->at;
    unsigned win = t->ref[i][0].win;

    while (i < t->n && i - t->at < RUN_MAX && t->how[i] == t->how[t->at] &&
           t->insn[i].nopnds && t->insn[i].opnd[0].kind == X86_OPND_GPR &&
           t->insn[i].opnd[0].reg != X86_RSP && t->ref[i][0].win == win &&
           (i == t->at || (win != NO_WIN && !t->leader[i] &&
                           t->va[i] == t->va[i - 1] + t->insn[i - 1].len &&
                           !bt_check_at(t, i))))
        i++;
    return i - t->at;
}

void bt_push(struct bt_tr *t)
{
    const struct x86_opnd *p = &t->insn[t->at].opnd[0];
    struct bt_opnd m;
    unsigned n;

    if (t->insn[t->at].op == X86_OP_PUSHF) {
        pushf(t);
        return;
    }
    if (p->kind == X86_OPND_MEM) {
        push_mem(t);
        return;
    }
    stack_access(t, &m);
    if (p->kind == X86_OPND_IMM) {
        store_imm(t, t->insn[t->at].imm, &m);
        move_rsp(t, -8);
        return;
    }
    n = run_length(t);
    if (!n) {
        store(t, bt_from_home(t, p->reg, t->s1), &m);
        move_rsp(t, -8);
        return;
    }
    for (unsigned i = 0; i < n; i++, m.disp -= 8)
        store(t, bt_from_home(t, t->insn[t->at + i].opnd[0].reg, t->s1), &m);
    move_rsp(t, -8 * (int32_t)n);
    t->at += n - 1;
}

static void pop_one(struct bt_tr *t, unsigned r, const struct bt_opnd *m)
{
    if (bt_at_home(t, r)) {
        load(t, t->s1, m);
        e_save(&t->e, t->s1, BT_HOME(r));
    } else {
        load(t, r, m);
    }
}

void bt_pop(struct bt_tr *t)
{
    unsigned r = t->insn[t->at].opnd[0].reg, n;
    struct bt_opnd m;

    stack_access(t, &m);
    n = run_length(t);
    if (!n) { /* POP RSP */
        load(t, r, &m);
        return;
    }
    for (unsigned i = 0; i < n; i++, m.disp += 8)
        pop_one(t, t->insn[t->at + i].opnd[0].reg, &m);
    move_rsp(t, 8 * (int32_t)n);
    t->at += n - 1;
}

void bt_leave(struct bt_tr *t)
{
    struct bt_opnd m;

    bt_access(t, 0, &m);
    load(t, t->s1, &m); /* it may fault */
    e_lea(&t->e, X86_RSP, X86_RBP, ANY, 0, 8, true);
    e_mov(&t->e, X86_RBP, t->s1);
}
