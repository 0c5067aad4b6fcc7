// SPDX-License-Identifier: Apache-2.0
#include "tests/bt/emitted_val.h"

#include "base/cc.h"

/* Names are places: of an instruction that wrote it, or where ways met. */
static uint32_t name_of(unsigned at, unsigned r, bool met)
{
    return ((uint32_t)at + 1) << 7 | r << 1 | met;
}

void vals_set_unknown(struct vals *s, unsigned r, unsigned at)
{
    s->v[r] = (struct val){name_of(at, r, false), 0};
}

void vals_unknown(struct vals *s, unsigned at)
{
    for (unsigned r = 0; r < ARRAY_LEN(s->v); r++)
        s->v[r] = (struct val){name_of(at, r, true), 0};
}

static void written(struct vals *s, const struct x86_insn *i, unsigned at)
{
    static const struct {
        uint64_t attr;
        unsigned reg;
    } implied[] = {{XA_WA, X86_RAX},   {XA_WC, X86_RCX},  {XA_WD, X86_RDX},
                   {XA_WB, X86_RBX},   {XA_WBP, X86_RBP}, {XA_WR11, X86_R11},
                   {XA_PUSH, X86_RSP}, {XA_POP, X86_RSP}};
    uint64_t a = x86_form_info(i->form)->attr;

    for (unsigned k = 0; k < i->nopnds; k++) {
        if (i->opnd[k].kind == X86_OPND_GPR && (i->opnd[k].access & X86_ACC_W))
            vals_set_unknown(s, i->opnd[k].reg, at);
        if (i->opnd[k].kind == X86_OPND_STRDST ||
            i->opnd[k].kind == X86_OPND_STRSRC) {
            vals_set_unknown(s, X86_RDI, at);
            vals_set_unknown(s, X86_RSI, at);
            vals_set_unknown(s, X86_RCX, at);
        }
    }
    for (unsigned k = 0; k < ARRAY_LEN(implied); k++)
        if (a & implied[k].attr)
            vals_set_unknown(s, implied[k].reg, at);
}

static bool is_reg(const struct x86_opnd *o)
{
    return o->kind == X86_OPND_GPR && o->size == 8;
}

/* What a 64-bit instruction makes of one register and a constant. */
static bool follows(const struct vals *s, const struct x86_insn *i,
                    struct val *to)
{
    const struct x86_opnd *o = i->opnd;

    if (!i->nopnds || o[0].kind != X86_OPND_GPR)
        return false;
    if (i->op == X86_OP_MOV && i->nopnds == 2 && o[1].kind == X86_OPND_IMM &&
        o[0].size >= 4 && !o[0].high) {
        *to = (struct val){
            VAL_CONST,
            (int64_t)(o[0].size == 4 ? (uint32_t)i->imm : (uint64_t)i->imm)};
        return true;
    }
    if (!is_reg(&o[0]))
        return false;
    switch (i->op) {
    case X86_OP_MOV:
        if (i->nopnds != 2 || !is_reg(&o[1]))
            return false;
        *to = s->v[o[1].reg];
        return true;
    case X86_OP_LEA:
        if (i->base >= 16 || i->index != X86_REG_NONE || i->adsize != 8)
            return false;
        *to = s->v[i->base];
        to->off += i->disp;
        return true;
    case X86_OP_ADD:
    case X86_OP_SUB:
        if (o[1].kind != X86_OPND_IMM)
            return false;
        *to = s->v[o[0].reg];
        to->off += i->op == X86_OP_ADD ? (int64_t)i->imm : -(int64_t)i->imm;
        return true;
    case X86_OP_INC:
    case X86_OP_DEC:
        *to = s->v[o[0].reg];
        to->off += i->op == X86_OP_INC ? 1 : -1;
        return true;
    default:
        return false;
    }
}

void vals_step(struct vals *s, const struct x86_insn *i, unsigned at)
{
    struct val to;
    bool known = follows(s, i, &to);

    written(s, i, at);
    if (known)
        s->v[i->opnd[0].reg] = to;
}

bool vals_meet(struct vals *to, const struct vals *from, unsigned at)
{
    bool less = false;

    for (unsigned r = 0; r < ARRAY_LEN(to->v); r++) {
        struct val met = {name_of(at, r, true), 0};

        if (to->v[r].name == from->v[r].name && to->v[r].off == from->v[r].off)
            continue;
        if (to->v[r].name == met.name && to->v[r].off == 0)
            continue;
        to->v[r] = met;
        less = true;
    }
    return less;
}
