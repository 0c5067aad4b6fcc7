// SPDX-License-Identifier: Apache-2.0
/*
 * Branches. A direct jump within the block's page is a host jump, linked when
 * it is first taken; others look their target up in the branch cache of
 * their kind, whose keys are minus the target (tlb.c). Targets come from
 * memory that the guest cannot write. A jump backwards, or to anywhere, looks
 * whether the vCPU is wanted.
 */
#include "engine/bt/front.h"

#define ANY  X86_REG_NONE
#define R(r) (1U << (r))

static unsigned kind_of(const struct bt_tr *t)
{
    return t->b->mode & BT_MODE_KIND;
}

/* ---- direct ---- */

static bool same_page(const struct bt_tr *t, uint64_t va)
{
    return (va ^ t->b->va) >> 12 == 0;
}

/* jmp to @va: the rel32 leads to a stub until it's linked. */
static void link_jump(struct bt_tr *t, uint32_t rel, uint64_t va)
{
    uint32_t site = bt_site_new(t, va);

    t->bt->sites[site].start = rel;
    t->bt->sites[site].cross = !same_page(t, va);
    bt_cold_new(t, rel, site, BT_G_LINK);
}

/* The cache's entry for a target that is known. */
static void const_jump(struct bt_tr *t, uint64_t va, bool poll)
{
    unsigned k = kind_of(t), i = bt_ib_index(k, va);
    struct emit *e = &t->e;
    bool small = (uint64_t)(int64_t)(int32_t)va == va;
    uint32_t hit;

    e_save(e, X86_RCX, SLOT_JCX);
    if (!small || poll)
        e_save(e, X86_RDX, SLOT_JDX);
    e_load(e, X86_RCX, BT_IB(k) + 8 * i);
    if (small) {
        e_lea(e, X86_RCX, X86_RCX, ANY, 0, (int32_t)va, true);
    } else {
        e_mov_imm(e, X86_RDX, va);
        e_lea(e, X86_RCX, X86_RCX, X86_RDX, 0, 0, true);
    }
    if (poll) {
        e_load(e, X86_RDX, BT_REQ);
        e_lea(e, X86_RCX, X86_RCX, X86_RDX, 0, 0, true);
    }
    if (!small || poll)
        e_load(e, X86_RDX, SLOT_JDX);
    hit = e_jrcxz(e);
    e_load(e, X86_RCX, SLOT_JCX);
    bt_gate_jump(t, bt_site_new(t, va), BT_G_CONST);
    e_patch8(e, hit);
    e_load(e, X86_RCX, SLOT_JCX);
    e_jmp_gs(e, BT_IB_TGT(k) + 8 * i);
}

/* Leave for C if a request stands, at @va. */
static void poll(struct bt_tr *t, uint64_t va)
{
    struct emit *e = &t->e;
    uint32_t site = bt_site_new(t, va), go;

    if (!bt_flags_at(t, va)) {
        e_gs_cmp0(e, BT_REQ);
        bt_cold_new(t, e_jcc(e, CC_NE), site, BT_G_LEAVE);
        return;
    }
    e_save(e, X86_RCX, SLOT_JCX);
    e_load(e, X86_RCX, BT_REQ);
    go = e_jrcxz(e);
    e_load(e, X86_RCX, SLOT_JCX);
    bt_gate_jump(t, site, BT_G_LEAVE);
    e_patch8(e, go);
    e_load(e, X86_RCX, SLOT_JCX);
}

static bool is_back(const struct bt_tr *t, uint64_t va)
{
    return va <= t->va[t->n - 1];
}

void bt_exit_to(struct bt_tr *t, uint64_t va)
{
    bool kernel = kind_of(t) != TLB_USER && va >> 63;

    if (!same_page(t, va) && !kernel) {
        const_jump(t, va, is_back(t, va));
        return;
    }
    if (is_back(t, va))
        poll(t, va);
    link_jump(t, e_jmp(&t->e), va);
}

/* jcc, jrcxz: @skip is the rel8 over the taken way. */
static void taken_over(struct bt_tr *t, uint32_t skip, uint64_t to,
                       uint64_t next)
{
    bt_exit_to(t, to);
    e_patch8(&t->e, skip);
    bt_exit_to(t, next);
}

static void jcc(struct bt_tr *t, const struct x86_insn *insn, uint64_t next)
{
    uint64_t to = next + insn->imm;
    unsigned cc = insn->opcode & 15;

    if (same_page(t, to) && !is_back(t, to)) {
        link_jump(t, e_jcc(&t->e, cc), to);
        bt_exit_to(t, next);
        return;
    }
    e8(&t->e, 0x70 | (cc ^ 1));
    e8(&t->e, 0);
    taken_over(t, t->e.at - 1, to, next);
}

static void jcxz(struct bt_tr *t, const struct x86_insn *insn, uint64_t next)
{
    uint32_t taken, over;

    if (insn->op == X86_OP_LOOP)
        e_lea(&t->e, X86_RCX, X86_RCX, ANY, 0, -1, true);
    if (insn->adsize == 4)
        e8(&t->e, 0x67);
    taken = e_jrcxz(&t->e);
    if (insn->op == X86_OP_LOOP) { /* taken: rcx is not 0 */
        taken_over(t, taken, next + insn->imm, next);
        return;
    }
    over = e_jmp(&t->e);
    e_patch8(&t->e, taken);
    bt_exit_to(t, next + insn->imm);
    e_patch32(&t->e, over, t->e.at);
    bt_exit_to(t, next);
}

/* ---- indirect ---- */

/* Target in RCX, the guest's RCX in SLOT_JCX. Flags stay. */
static void indirect(struct bt_tr *t)
{
    struct emit *e = &t->e;
    unsigned k = kind_of(t);
    uint32_t hit;

    e_save(e, X86_RAX, SLOT_JAX);
    e_save(e, X86_RDX, SLOT_JDX);
    e_save(e, X86_RCX, BT_RIP);
    e_pext(e, X86_RAX, X86_RCX, BT_IBMASK(k));
    e_gsx_op(e, 0x8b, X86_RDX, X86_RAX, BT_IB(k));
    e_lea(e, X86_RCX, X86_RCX, X86_RDX, 0, 0, true);
    e_load(e, X86_RDX, BT_REQ);
    e_lea(e, X86_RCX, X86_RCX, X86_RDX, 0, 0, true);
    e_load(e, X86_RDX, SLOT_JDX);
    hit = e_jrcxz(e);
    e_load(e, X86_RCX, SLOT_JCX);
    e_load(e, X86_RAX, SLOT_JAX);
    bt_gate_jump(t, bt_site_new(t, 0), BT_G_IB);
    e_patch8(e, hit);
    e_gsx_op(e, 0x8b, X86_RAX, X86_RAX, BT_IB_TGT(k));
    e_save(e, X86_RAX, BT_JT);
    e_load(e, X86_RCX, SLOT_JCX);
    e_load(e, X86_RAX, SLOT_JAX);
    e_jmp_gs(e, BT_JT);
}

/* mov rcx, [r1] */
static void load_rcx(struct bt_tr *t, unsigned r1)
{
    e8(&t->e, 0x48 | r1 >> 3);
    e8(&t->e, 0x8b);
    e8(&t->e, X86_RCX << 3 | (r1 & 7));
}

/* The memory operand's quadword into SLOT_TGT, all registers put back. */
static void fetch_target(struct bt_tr *t)
{
    struct bt_acc a;

    bt_acc_open(t, EA_OPND, 8, false, R(X86_RCX), ANY, false, &a);
    bt_acc_ready(t, &a);
    e_save(&t->e, X86_RCX, SLOT_JCX);
    load_rcx(t, a.r1);
    e_save(&t->e, X86_RCX, SLOT_TGT);
    e_load(&t->e, X86_RCX, SLOT_JCX);
    bt_acc_close(t, &a);
}

static void target_to_rcx(struct bt_tr *t, const struct x86_opnd *p)
{
    e_save(&t->e, X86_RCX, SLOT_JCX);
    if (p->kind == X86_OPND_MEM)
        e_load(&t->e, X86_RCX, SLOT_TGT);
    else if (p->reg != X86_RCX)
        e_mov(&t->e, X86_RCX, p->reg);
}

static void jmp(struct bt_tr *t, const struct x86_insn *insn, uint64_t next)
{
    const struct x86_opnd *p = &insn->opnd[0];

    if (p->kind == X86_OPND_REL) {
        bt_exit_to(t, next + insn->imm);
        return;
    }
    if (p->kind == X86_OPND_MEM)
        fetch_target(t);
    target_to_rcx(t, p);
    indirect(t);
}

static void call(struct bt_tr *t, const struct x86_insn *insn, uint64_t next)
{
    const struct x86_opnd *p = &insn->opnd[0];

    if (p->kind == X86_OPND_MEM)
        fetch_target(t);
    bt_push_imm(t, next, p->kind == X86_OPND_GPR ? R(p->reg) : 0);
    if (p->kind == X86_OPND_REL) {
        bt_exit_to(t, next + insn->imm);
        return;
    }
    target_to_rcx(t, p);
    indirect(t);
}

static void ret(struct bt_tr *t, const struct x86_insn *insn)
{
    unsigned n = insn->nopnds ? insn->imm & 0xffff : 0;
    struct bt_acc a;

    bt_acc_open(t, EA_POP, 8, false, R(X86_RCX), ANY, false, &a);
    bt_acc_ready(t, &a);
    e_save(&t->e, X86_RCX, SLOT_JCX);
    load_rcx(t, a.r1);
    bt_acc_close(t, &a);
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
