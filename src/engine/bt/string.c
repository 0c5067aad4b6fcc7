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
    if (op != BT_Q_NONE) {
        s->quick = (uint8_t)op;
        bt_ea_store(t, X86_REG_NONE, 0);
    }
}
