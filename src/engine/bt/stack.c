// SPDX-License-Identifier: Apache-2.0
/*
 * PUSH, POP, LEAVE, and the push of a CALL: host RSP is the guest's, so each is
 * an access like others and a LEA. Source: Intel SDM vol. 2.
 */
#include "engine/bt/front.h"

#define ANY  X86_REG_NONE
#define R(r) (1U << (r))

static void store_r1(struct bt_tr *t, unsigned r1, unsigned r)
{
    e8(&t->e, 0x48 | (r >> 3) << 2 | r1 >> 3);
    e8(&t->e, 0x89);
    e8(&t->e, (r & 7) << 3 | (r1 & 7));
}

static void load_r1(struct bt_tr *t, unsigned r, unsigned r1)
{
    e8(&t->e, 0x48 | (r >> 3) << 2 | r1 >> 3);
    e8(&t->e, 0x8b);
    e8(&t->e, (r & 7) << 3 | (r1 & 7));
}

void bt_push_imm(struct bt_tr *t, uint64_t v, uint32_t avoid)
{
    struct bt_acc a;

    bt_acc_open(t, EA_PUSH, 8, true, avoid, ANY, false, &a);
    if ((uint64_t)(int64_t)(int32_t)v == v) {
        bt_acc_ready(t, &a);
        e8(&t->e, 0x48 | a.r1 >> 3);
        e8(&t->e, 0xc7);
        e8(&t->e, a.r1 & 7);
        e32(&t->e, (uint32_t)v);
    } else {
        e_mov_imm(&t->e, a.r2, v);
        store_r1(t, a.r1, a.r2);
        bt_acc_ready(t, &a);
    }
    bt_acc_close(t, &a);
    e_lea(&t->e, X86_RSP, X86_RSP, ANY, 0, -8, true);
}

/* PUSH [mem]: load, then store, each an access of its own. */
static void push_mem(struct bt_tr *t)
{
    struct bt_acc a;

    bt_acc_open(t, EA_OPND, 8, false, 0, ANY, false, &a);
    load_r1(t, a.r2, a.r1);
    e_save(&t->e, a.r2, SLOT_TGT);
    bt_acc_ready(t, &a);
    bt_acc_close(t, &a);
    bt_acc_open(t, EA_PUSH, 8, true, 0, ANY, false, &a);
    e_load(&t->e, a.r2, SLOT_TGT);
    store_r1(t, a.r1, a.r2);
    bt_acc_ready(t, &a);
    bt_acc_close(t, &a);
    e_lea(&t->e, X86_RSP, X86_RSP, ANY, 0, -8, true);
}

static void push(struct bt_tr *t, const struct x86_insn *insn)
{
    unsigned r = insn->opnd[0].reg;
    struct bt_acc a;

    if (insn->opnd[0].kind == X86_OPND_IMM) {
        bt_push_imm(t, insn->imm, 0);
        return;
    }
    if (insn->opnd[0].kind == X86_OPND_MEM) {
        push_mem(t);
        return;
    }
    bt_acc_open(t, EA_PUSH, 8, true, R(r), ANY, false, &a);
    bt_acc_ready(t, &a);
    store_r1(t, a.r1, r);
    bt_acc_close(t, &a);
    e_lea(&t->e, X86_RSP, X86_RSP, ANY, 0, -8, true);
}

static void pop(struct bt_tr *t, const struct x86_insn *insn)
{
    unsigned r = insn->opnd[0].reg;
    struct bt_acc a;

    bt_acc_open(t, EA_POP, 8, false, R(r), r, false, &a);
    bt_acc_ready(t, &a);
    load_r1(t, r, a.r1);
    bt_acc_close(t, &a);
    if (r == X86_RSP)
        return;
    e_lea(&t->e, X86_RSP, X86_RSP, ANY, 0, 8, true);
}

void bt_leave(struct bt_tr *t)
{
    struct bt_acc a;

    bt_acc_open(t, EA_LEAVE, 8, false, R(X86_RBP), ANY, false, &a);
    bt_acc_ready(t, &a);
    e_lea(&t->e, X86_RSP, X86_RBP, ANY, 0, 8, true);
    load_r1(t, X86_RBP, a.r1);
    bt_acc_close(t, &a);
}

/* How many pushes or pops of plain registers follow each other from here on. */
static unsigned run_length(const struct bt_tr *t)
{
    unsigned i = t->at;

    while (i < t->n && i - t->at < 8 && t->how[i] == t->how[t->at] &&
           t->insn[i].opnd[0].kind == X86_OPND_GPR &&
           t->insn[i].opnd[0].reg != X86_RSP)
        i++;
    return i - t->at;
}

/* mov [r1+disp8], r and back */
static void group_mov(struct bt_tr *t, unsigned opcode, unsigned r, unsigned r1,
                      unsigned disp)
{
    e8(&t->e, 0x48 | (r >> 3) << 2 | r1 >> 3);
    e8(&t->e, opcode);
    e8(&t->e, 0x40 | (r & 7) << 3 | (r1 & 7));
    e8(&t->e, disp);
}

/* Several pushes or pops with one look-up. When it misses for good, the
 * interpreter runs the first, and a block that begins at the second follows. */
static bool group(struct bt_tr *t)
{
    bool write = t->how[t->at] == HOW_PUSH;
    unsigned n = t->b1 == ANY ? 0 : run_length(t);
    struct bt_acc a;

    if (n < 2)
        return false;
    t->group = n;
    bt_acc_open(t, write ? EA_PUSH : EA_POP, 8 * n, write, 0, ANY, false, &a);
    for (unsigned i = 0; i < n; i++)
        group_mov(t, write ? 0x89 : 0x8b, t->insn[t->at + i].opnd[0].reg, a.r1,
                  8 * (write ? n - 1 - i : i));
    e_lea(&t->e, X86_RSP, X86_RSP, ANY, 0, (write ? -8 : 8) * (int32_t)n, true);
    t->at += n - 1;
    t->group = 1;
    return true;
}

void bt_push(struct bt_tr *t)
{
    if (!group(t))
        push(t, &t->insn[t->at]);
}

void bt_pop(struct bt_tr *t)
{
    if (!group(t))
        pop(t, &t->insn[t->at]);
}
