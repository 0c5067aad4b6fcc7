// SPDX-License-Identifier: Apache-2.0
/*
 * Which string instructions the quick gate runs (quick_str.c), and what their
 * sites tell it.
 */
#include "engine/bt/quick_str.h"

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

void bt_str_site(struct bt_site *s, const struct x86_insn *insn)
{
    unsigned op = str_op(insn);

    if (op == BT_Q_NONE)
        return;
    s->quick = (uint8_t)op;
    if (insn->nopnds)
        s->arg = (uint8_t)str_arg(insn);
}
