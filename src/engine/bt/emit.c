// SPDX-License-Identifier: Apache-2.0
/* Longer encodings; see emit.h. Source: Intel SDM vol. 2 chapter 2. */
#include "engine/bt/emit.h"

void e_lea(struct emit *e, unsigned dst, unsigned base, unsigned index,
           unsigned scale, int32_t disp, bool wide)
{
    unsigned b = base == X86_REG_NONE ? 5 : base;
    unsigned x = index == X86_REG_NONE ? 4 : index;
    unsigned mod = base == X86_REG_NONE        ? 0
                   : disp == 0 && (b & 7) != 5 ? 0
                   : disp == (int8_t)disp      ? 1
                                               : 2;
    unsigned rex = (wide ? 8U : 0) | (dst >> 3) << 2 | (x >> 3) << 1 | b >> 3;

    if (base == X86_REG_NONE)
        rex &= ~1U;
    if (rex)
        e8(e, 0x40 | rex);
    e8(e, 0x8d);
    if (index == X86_REG_NONE && base != X86_REG_NONE && (b & 7) != 4) {
        e8(e, mod << 6 | (dst & 7) << 3 | (b & 7));
    } else {
        e8(e, mod << 6 | (dst & 7) << 3 | 4);
        e8(e, scale << 6 | (x & 7) << 3 | (b & 7));
    }
    if (mod == 1)
        e8(e, (uint8_t)disp);
    else if (mod == 2 || base == X86_REG_NONE)
        e32(e, (uint32_t)disp);
}

/* 66, F2 and F3 only where they belong to the opcode or size operands. */
static void prefixes(struct emit *e, const struct x86_insn *insn,
                     const struct x86_form_info *fi)
{
    unsigned pfx = fi->spec & XS_PFX_MASK;
    bool sized = fi->cls == X86_CLS_INT || fi->cls == X86_CLS_BRANCH;

    if (insn->prefix & X86_PFX_LOCK)
        e8(e, 0xf0);
    if (pfx == XS_66 || (sized && (insn->prefix & X86_PFX_OSZ)))
        e8(e, 0x66);
    if (pfx == XS_F3)
        e8(e, 0xf3);
    else if (pfx == XS_F2)
        e8(e, 0xf2);
}

static void vex(struct emit *e, const struct x86_insn *insn, unsigned rex)
{
    e8(e, 0xc4);
    e8(e, (~rex & 7) << 5 | insn->map);
    e8(e, (rex & 8) << 4 | (~insn->vvvv & 15U) << 3 |
              (unsigned)insn->vex_l << 2 | insn->pp);
}

void e_modrm_mem(struct emit *e, unsigned reg, unsigned base, unsigned index,
                 int32_t disp)
{
    bool sib = index != X86_REG_NONE || base == X86_REG_NONE || (base & 7) == 4;
    unsigned x = index == X86_REG_NONE ? 4 : index & 7;
    unsigned scale = index == X86_REG_NONE ? 0 : index >> 8;
    unsigned mod = base == X86_REG_NONE           ? 0
                   : disp == 0 && (base & 7) != 5 ? 0
                   : disp == (int8_t)disp         ? 1
                                                  : 2;
    unsigned b = base == X86_REG_NONE ? 5 : base & 7;

    e8(e, mod << 6 | (reg & 7) << 3 | (sib ? 4 : b));
    if (sib)
        e8(e, scale << 6 | x << 3 | b);
    if (mod == 1)
        e8(e, (uint8_t)disp);
    else if (mod == 2 || base == X86_REG_NONE)
        e32(e, (uint32_t)disp);
}

static unsigned rex_of(unsigned base, unsigned index)
{
    unsigned rex = 0;

    if (base != X86_REG_NONE)
        rex |= base >> 3;
    if (index != X86_REG_NONE)
        rex |= (index >> 3 & 1) << 1;
    return rex;
}

void e_mem_op(struct emit *e, unsigned opcode, unsigned r, unsigned base,
              unsigned index, int32_t disp)
{
    e8(e, 0x48 | (r >> 3) << 2 | rex_of(base, index));
    e8(e, opcode);
    e_modrm_mem(e, r, base, index, disp);
}

void e_insn(struct emit *e, const struct x86_insn *insn, unsigned base,
            unsigned index, int32_t disp)
{
    const struct x86_form_info *fi = x86_form_info(insn->form);
    bool mem = base != X86_REG_NONE || index != X86_REG_NONE;
    unsigned rex = insn->rex;

    if (mem)
        rex = (rex & 12) | rex_of(base, index);
    if (insn->enc == X86_ENC_VEX) {
        vex(e, insn, rex);
    } else {
        prefixes(e, insn, fi);
        if (rex || (insn->prefix & X86_PFX_REX))
            e8(e, 0x40 | rex);
        if (insn->map != X86_MAP_1B)
            e8(e, 0x0f);
        if (insn->map == X86_MAP_0F38)
            e8(e, 0x38);
        else if (insn->map == X86_MAP_0F3A)
            e8(e, 0x3a);
    }
    e8(e, insn->opcode);
    if (insn->has_modrm) {
        if (mem)
            e_modrm_mem(e, insn->modrm >> 3 & 7U, base, index, disp);
        else
            e8(e, insn->modrm);
    }
    for (unsigned i = 0; i < insn->imm_len; i++)
        e8(e, (uint8_t)(insn->imm >> 8 * i));
}

/* Where an operand code's register number stands. */
enum field {
    FIELD_NONE,
    FIELD_REG,
    FIELD_RM,
    FIELD_OPCODE,
    FIELD_VVVV
};

static enum field field_of(unsigned type)
{
    switch (*x86_ot_name((enum x86_ot)type)) {
    case 'G':
        return FIELD_REG;
    case 'E':
    case 'R': /* RAXv and kin are never named by an extended number */
        return FIELD_RM;
    case 'Z':
        return FIELD_OPCODE;
    case 'B':
        return FIELD_VVVV;
    default:
        return FIELD_NONE;
    }
}

static void put_field(struct x86_insn *insn, enum field f, unsigned to)
{
    switch (f) {
    case FIELD_REG:
        insn->modrm = (uint8_t)((insn->modrm & ~0x38U) | (to & 7) << 3);
        insn->rex = (uint8_t)((insn->rex & ~4U) | (to >> 3) << 2);
        break;
    case FIELD_RM:
        insn->modrm = (uint8_t)((insn->modrm & ~7U) | (to & 7));
        insn->rex = (uint8_t)((insn->rex & ~1U) | to >> 3);
        break;
    case FIELD_OPCODE:
        insn->opcode = (uint8_t)((insn->opcode & ~7U) | (to & 7));
        insn->rex = (uint8_t)((insn->rex & ~1U) | to >> 3);
        break;
    case FIELD_VVVV:
        insn->vvvv = (uint8_t)to;
        break;
    case FIELD_NONE:
        break;
    }
}

void e_insn_sub(struct x86_insn *insn, unsigned from, unsigned to)
{
    const struct x86_form_info *fi = x86_form_info(insn->form);

    for (unsigned i = 0; i < insn->nopnds; i++) {
        const struct x86_opnd *p = &insn->opnd[i];

        if (p->kind == X86_OPND_GPR && p->reg == from && !p->high)
            put_field(insn, field_of(fi->opnd[i].type), to);
    }
}
