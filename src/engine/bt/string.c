// SPDX-License-Identifier: Apache-2.0
/*
 * Which instructions the quick gate runs beside system ones, and what their
 * sites tell it: strings (quick_str.c), bits past the operand and XSAVE's kin
 * (quick_xsave.c).
 */
#include "engine/bt/quick_str.h"

#include "cpu/x86/cpuid.h"

static unsigned str_op(const struct x86_insn *insn)
{
    switch (insn->op) {
    case X86_OP_MOVS:
        return BT_Q_MOVS;
    case X86_OP_STOS:
        return BT_Q_STOS;
    case X86_OP_LODS:
        return BT_Q_LODS;
    case X86_OP_CMPS:
        return BT_Q_CMPS;
    case X86_OP_SCAS:
        return BT_Q_SCAS;
    case X86_OP_STD:
        return BT_Q_STD;
    default:
        return BT_Q_NONE;
    }
}

static unsigned str_arg(const struct x86_insn *insn)
{
    unsigned size = insn->opnd[0].size;
    unsigned arg = size == 8 ? 3 : size >> 1;

    if (insn->prefix & (X86_PFX_REP | X86_PFX_REPNE))
        arg |= BT_STR_REP;
    if (insn->prefix & X86_PFX_REPNE)
        arg |= BT_STR_REPNE;
    if (insn->adsize == 4)
        arg |= BT_STR_AD32;
    if (insn->seg == X86_SEG_FS)
        arg |= BT_STR_FS;
    if (insn->seg == X86_SEG_GS)
        arg |= BT_STR_GS;
    return arg;
}

static void str_site(struct bt_site *s, const struct x86_insn *insn)
{
    unsigned op = str_op(insn);

    if (op == BT_Q_NONE)
        return;
    s->quick = (uint8_t)op;
    if (insn->nopnds)
        s->arg = (uint8_t)str_arg(insn);
}

/* ---- what needs the operand's address ---- */

static unsigned bits_op(const struct x86_insn *insn)
{
    switch (insn->op) {
    case X86_OP_BTS:
        return BT_BITS_SET;
    case X86_OP_BTR:
        return BT_BITS_CLR;
    case X86_OP_BTC:
        return BT_BITS_FLIP;
    default:
        return 0;
    }
}

static unsigned xsave_op(const struct bt_tr *t, const struct x86_insn *insn)
{
    if (!(t->b->mode & BT_MODE_AVX) ||
        !x86_cpuid_has(t->bt->cpu->cpuid, x86_form_info(insn->form)->feat))
        return BT_Q_NONE;
    switch (insn->op) {
    case X86_OP_XSAVE:
        return BT_Q_XSAVE;
    case X86_OP_XSAVEOPT:
        return BT_Q_XSAVEOPT;
    case X86_OP_XSAVEC:
        return BT_Q_XSAVEC;
    case X86_OP_XRSTOR:
        return BT_Q_XRSTOR;
    default:
        return BT_Q_NONE;
    }
}

void bt_str_site(struct bt_tr *t, uint32_t site)
{
    const struct x86_insn *insn = &t->insn[t->at];
    const struct x86_form_info *fi = x86_form_info(insn->form);
    struct bt_site *s = &t->bt->sites[site];
    unsigned size = insn->opnd[0].size;
    unsigned op;

    str_site(s, insn);
    if ((fi->attr & XA_BITMEM) && insn->nopnds == 2 &&
        insn->opnd[0].kind == X86_OPND_MEM &&
        insn->opnd[1].kind == X86_OPND_GPR && insn->adsize == 8) {
        s->quick = BT_Q_BITS;
        s->arg = (uint8_t)((size == 8 ? 3 : size >> 1) | bits_op(insn));
        if (insn->prefix & X86_PFX_LOCK)
            s->arg |= BT_BITS_LOCK;
        bt_ea_store(t, insn->opnd[1].reg, BT_SLOT(BT_BITS_SLOT));
        return;
    }
    op = xsave_op(t, insn);
    if (insn->op == X86_OP_INVLPG && !(t->b->mode & BT_MODE_CPL3) &&
        insn->adsize == 8)
        op = BT_Q_INVLPG;
    if (op != BT_Q_NONE) {
        s->quick = (uint8_t)op;
        bt_ea_store(t, X86_REG_NONE, 0);
    }
}

/* ---- inline ---- */

#define INLINE_MAX 4096U
#define FEW        32U

#define SLOT_AX    BT_SLOT(3)
#define SLOT_FL    BT_SLOT(4)

/* Flags that are live are kept aside: LAHF and SETO take RAX. */
static void flags_away(struct emit *e)
{
    e_save(e, X86_RAX, SLOT_AX);
    e8(e, 0x9f);                           /* lahf */
    e8(e, 0x0f), e8(e, 0x90), e8(e, 0xc0); /* seto al */
    e_save(e, X86_RAX, SLOT_FL);
    e_load(e, X86_RAX, SLOT_AX);
}

static void flags_back(struct emit *e)
{
    e_load(e, X86_RAX, SLOT_FL);
    e8(e, 0x04), e8(e, 0x7f); /* add al, 7f */
    e8(e, 0x9e);              /* sahf */
    e_load(e, X86_RAX, SLOT_AX);
}

/* Whether the guest's DF is set, what the host's never is. */
static uint32_t df_check(struct emit *e)
{
    e_gs_cmp0(e, BT_DFL - 4);
    return e_jcc(e, CC_NE);
}

/* What is to be added to @reg for host addresses, to R10, if bytes [reg, reg +
 * R11] lie in one page that is known. Return: the jump where not. */
static uint32_t place(const struct bt_tr *t, struct emit *e, unsigned reg,
                      bool write)
{
    unsigned kind = bt_kind(t);
    uint32_t far;

    e_pext(e, X86_R10, reg, BT_TLBMASK);
    e_lea(e, X86_R11, X86_R11, reg, 0, 0, true);
    e_gsx_op(e, 0x03, X86_R11, X86_R10,
             write ? BT_TLB_W(kind) : BT_TLB_R(kind));
    e_cmp_imm(e, X86_R11, 4095);
    far = e_jcc(e, CC_A);
    e_gsx_op(e, 0x8b, X86_R10, X86_R10, BT_TLB_HOST(kind));
    return far;
}

/* @reg - @by */
static void back(struct emit *e, unsigned reg, unsigned by)
{
    e8(e, 0x49), e8(e, 0xf7), e8(e, 0xd0 | (by & 7)); /* not */
    e_lea(e, reg, reg, by, 0, 1, true);
}

/* R11 = bytes - 1, of RCX elements; 0 of them are more than fit. It is RCX that
 * is compared: its bytes may wrap around. */
static uint32_t length(struct emit *e, unsigned shift)
{
    uint32_t far;

    e_lea(e, X86_R11, X86_RCX, ANY, 0, -1, true);
    e_cmp_imm(e, X86_R11, (INLINE_MAX >> shift) - 1);
    far = e_jcc(e, CC_A);
    e_lea(e, X86_R11, ANY, X86_RCX, shift, -1, true);
    return far;
}

/* jcc or jmp, rel8 */
static uint32_t jump8(struct emit *e, unsigned opcode)
{
    e8(e, opcode);
    e8(e, 0);
    return e->at - 1;
}

/* The host's instruction; RDI and RSI are host addresses. */
static void rep(struct emit *e, unsigned op, unsigned shift)
{
    if (shift == 1)
        e8(e, 0x66);
    e8(e, 0xf3);
    if (shift == 3)
        e8(e, 0x48);
    e8(e, (op == BT_Q_MOVS ? 0xa4U : 0xaaU) + (shift != 0));
}

/* A few by bytes, which has a fast start on some hosts, if that is the same:
 * where a copy's pieces are not read again, where what is stored is 0. R11 is
 * used. */
static void rep_fast(const struct bt_tr *t, struct emit *e, unsigned op,
                     unsigned shift)
{
    bool movs = op == BT_Q_MOVS;
    uint32_t same, many, over;

    if (!shift || !(movs ? t->bt->part->fsrm : t->bt->part->fsrs)) {
        rep(e, op, shift);
        return;
    }
    e_cmp_imm(e, X86_RCX, FEW);
    many = jump8(e, 0x77);
    if (movs) {
        e_mov(e, X86_R11, X86_RDI);
        e8(e, 0x49), e8(e, 0x29), e8(e, 0xf3); /* sub r11, rsi */
        e_cmp_imm(e, X86_R11, 8);
        same = jump8(e, 0x72);
    } else {
        e_cmp_imm(e, X86_RAX, 0);
        same = jump8(e, 0x75);
    }
    e_lea(e, X86_RCX, ANY, X86_RCX, shift, 0, true);
    rep(e, op, 0);
    over = jump8(e, 0xeb);
    e_patch8(e, many);
    e_patch8(e, same);
    rep(e, op, shift);
    e_patch8(e, over);
}

uint32_t bt_str_inline(struct bt_tr *t)
{
    const struct x86_insn *insn = &t->insn[t->at];
    unsigned op = str_op(insn), arg, shift, n = 0;
    struct emit *e = &t->e;
    uint32_t slow[4], over;
    bool keep;

    if ((op != BT_Q_STOS && op != BT_Q_MOVS) || !insn->nopnds || t->bt->check)
        return 0;
    arg = str_arg(insn);
    shift = arg & BT_STR_SIZE;
    if (!(arg & BT_STR_REP) || (arg & (BT_STR_AD32 | BT_STR_SEG)))
        return 0;
    keep = t->at + 1 == t->n || t->live[t->at + 1] ||
           t->va[t->at + 1] != t->va[t->at] + insn->len;
    if (keep)
        flags_away(e);
    slow[n++] = df_check(e);
    slow[n++] = length(e, shift);
    slow[n++] = place(t, e, X86_RDI, true);
    if (op == BT_Q_MOVS) {
        e_save(e, X86_R10, BT_WIN(0)); /* no window is open here */
        e_lea(e, X86_R11, ANY, X86_RCX, shift, -1, true);
        slow[n++] = place(t, e, X86_RSI, false);
        e_lea(e, X86_RSI, X86_RSI, X86_R10, 0, 0, true);
        e_load(e, X86_R11, BT_WIN(0));
        e_lea(e, X86_RDI, X86_RDI, X86_R11, 0, 0, true);
    } else {
        e_lea(e, X86_RDI, X86_RDI, X86_R10, 0, 0, true);
    }
    rep_fast(t, e, op, shift);
    if (op == BT_Q_MOVS) {
        e_load(e, X86_R11, BT_WIN(0));
        back(e, X86_RSI, X86_R10);
        back(e, X86_RDI, X86_R11);
    } else {
        back(e, X86_RDI, X86_R10);
    }
    if (keep)
        flags_back(e);
    over = e_jmp(e);
    for (unsigned i = 0; i < n; i++)
        e_patch32(e, slow[i], e->at);
    if (keep)
        flags_back(e);
    return over;
}
