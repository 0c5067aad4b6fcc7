// SPDX-License-Identifier: Apache-2.0
/* See zydis_check.h. Not compared, as conventions differ: operands of string
 * instructions, NOPs and UD0/UD1, sizes of cache hints and of sign-extended
 * immediates, "reads" of destinations that keep a part of their value. */
#include "tests/insn/zydis_check.h"

#if __has_include(<Zydis/Zydis.h>)

#    include "cpu/x86/insn.h"

#    include <Zydis/Zydis.h>
#    include <stdio.h>
#    include <string.h>

static ZydisRegister gpr(unsigned reg, unsigned size, bool high)
{
    static const ZydisRegister first[] = {[2] = ZYDIS_REGISTER_AX,
                                          [4] = ZYDIS_REGISTER_EAX,
                                          [8] = ZYDIS_REGISTER_RAX};

    if (reg == X86_REG_NONE)
        return ZYDIS_REGISTER_NONE;
    if (reg == X86_REG_RIP)
        return size == 8 ? ZYDIS_REGISTER_RIP : ZYDIS_REGISTER_EIP;
    if (size == 1) /* AL..BL, AH..BH, SPL.. */
        return (ZydisRegister)(ZYDIS_REGISTER_AL + reg +
                               (high || reg >= 4 ? 4 : 0));
    return size <= 8 ? (ZydisRegister)(first[size] + reg) : ZYDIS_REGISTER_NONE;
}

static ZydisRegister reg_of(const struct x86_opnd *o)
{
    unsigned base;

    switch (o->kind) {
    case X86_OPND_GPR:
        return gpr(o->reg, o->size, o->high);
    case X86_OPND_SEG:
        base = ZYDIS_REGISTER_ES;
        break;
    case X86_OPND_CR:
        base = ZYDIS_REGISTER_CR0;
        break;
    case X86_OPND_DR:
        base = ZYDIS_REGISTER_DR0;
        break;
    case X86_OPND_ST:
        base = ZYDIS_REGISTER_ST0;
        break;
    case X86_OPND_MMX:
        base = ZYDIS_REGISTER_MM0;
        break;
    case X86_OPND_XMM:
        base = ZYDIS_REGISTER_XMM0;
        break;
    case X86_OPND_YMM:
        base = ZYDIS_REGISTER_YMM0;
        break;
    default:
        return ZYDIS_REGISTER_NONE;
    }
    return (ZydisRegister)(base + o->reg);
}

static bool same_mem(const struct x86_insn *i, const struct x86_opnd *o,
                     const ZydisDecodedOperand *z, bool sized)
{
    uint64_t mask = i->adsize == 2 ? 0xffff : i->adsize == 4 ? ~0u : ~0ull;
    int64_t zdisp = z->mem.disp.has_displacement ? z->mem.disp.value : 0;
    /* Zydis 4.0 takes SIB base 101 with REX.B and 67 for r13d and drops the
     * displacement; the CPU does not */
    bool sib5 = i->adsize == 4 && (i->sib & 7) == 5 && i->modrm < 0x40 &&
                (i->modrm & 7) == 4;

    if (sib5 && (i->rex & 1))
        return true;
    if (gpr(i->base, i->adsize, false) != z->mem.base)
        return false;
    if (o->kind == X86_OPND_VSIB) {
        unsigned x = z->mem.index >= ZYDIS_REGISTER_YMM0
                         ? z->mem.index - ZYDIS_REGISTER_YMM0
                         : z->mem.index - ZYDIS_REGISTER_XMM0;
        if (x != i->index)
            return false;
    } else if (gpr(i->index, i->adsize, false) != z->mem.index) {
        return false;
    }
    if (i->index != X86_REG_NONE && i->adsize > 2 &&
        (1u << i->scale) != z->mem.scale)
        return false;
    if (((uint64_t)i->disp ^ (uint64_t)zdisp) & mask)
        return false;
    if (z->mem.type != ZYDIS_MEMOP_TYPE_MEM)
        return true;
    if (sized && o->size != 0 && o->size * 8u != z->size)
        return false;
    /* Zydis takes 3E before an indirect branch for NOTRACK only */
    return i->seg == X86_SEG_DS ||
           (ZydisRegister)(ZYDIS_REGISTER_ES + i->seg) == z->mem.segment;
}

static bool same_imm(const struct x86_insn *i, const struct x86_opnd *o,
                     const ZydisDecodedOperand *z)
{
    uint64_t mask = z->size >= 64 ? ~0ull : (1ull << z->size) - 1;

    if (o->kind == X86_OPND_ONE)
        return z->imm.value.u == 1;
    if (o->kind == X86_OPND_IMM2)
        return z->imm.value.u == i->imm2;
    return (o->kind == X86_OPND_IMM || o->kind == X86_OPND_REL) &&
           ((i->imm ^ z->imm.value.u) & mask) == 0;
}

static bool same_access(const struct x86_insn *i, const struct x86_opnd *o,
                        const ZydisDecodedOperand *z)
{
    unsigned a = 0;

    if (z->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        a |= X86_ACC_R;
    if (z->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        a |= X86_ACC_W;
    return (a & ~o->access) == 0 || i->op == X86_OP_FFREE ||
           i->op == X86_OP_FFREEP;
}

static bool same_opnd(const struct x86_insn *i, const struct x86_opnd *o,
                      const ZydisDecodedOperand *z, bool sized)
{
    switch (z->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        return reg_of(o) == z->reg.value && same_access(i, o, z);
    case ZYDIS_OPERAND_TYPE_MEMORY:
        return (o->kind == X86_OPND_MEM || o->kind == X86_OPND_VSIB) &&
               same_mem(i, o, z, sized) && same_access(i, o, z);
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        return same_imm(i, o, z);
    case ZYDIS_OPERAND_TYPE_POINTER:
        return o->kind == X86_OPND_IMM && i->imm == z->ptr.offset &&
               i->imm2 == z->ptr.segment;
    default:
        return false;
    }
}

static bool same_opnds(const struct x86_insn *i,
                       const ZydisDecodedInstruction *z,
                       const ZydisDecodedOperand *zo)
{
    const struct x86_form_info *f = x86_form_info(i->form);
    bool sized = i->op != X86_OP_CLFLUSH && i->op != X86_OP_CLFLUSHOPT &&
                 i->op != X86_OP_CLWB && i->op != X86_OP_MOVSXD;
    unsigned n = z->operand_count_visible;

    if (f->cls == X86_CLS_STRING || (f->attr & XA_NOMEM) ||
        f->feat == X86_FEAT_SVM || i->op == X86_OP_CLZERO ||
        i->op == X86_OP_XLAT || i->op == X86_OP_SENDUIPI || i->op == X86_OP_LSL)
        return true;
    bool hidden = f->cls == X86_CLS_X87; /* Zydis hides st0 */
    if (n == 1 && zo[0].type == ZYDIS_OPERAND_TYPE_POINTER)
        return same_opnd(i, &i->opnd[0], &zo[0], true);
    if (n != i->nopnds && !hidden)
        return false;
    unsigned skip = i->nopnds > n ? i->nopnds - n : 0;
    for (unsigned k = 0; k < n; k++) {
        const struct x86_opnd *o = &i->opnd[k + skip];
        /* a vector mask's source in 64 bits is the same register */
        if (i->op == X86_OP_MOVMSKPS || i->op == X86_OP_MOVMSKPD ||
            i->op == X86_OP_VMOVMSKPS || i->op == X86_OP_VMOVMSKPD)
            continue;
        if (!same_opnd(i, o, &zo[k], sized))
            return false;
    }
    return true;
}

enum zy_answer zydis_check(unsigned bits, const uint8_t *bytes,
                           enum x86_dec dec, const struct x86_insn *insn,
                           const char **isa)
{
    ZydisDecoder d;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand zo[ZYDIS_MAX_OPERAND_COUNT];
    bool ok = dec == X86_DEC_OK;

    ZydisDecoderInit(&d,
                     bits == 64   ? ZYDIS_MACHINE_MODE_LONG_64
                     : bits == 32 ? ZYDIS_MACHINE_MODE_LEGACY_32
                                  : ZYDIS_MACHINE_MODE_LEGACY_16,
                     bits == 64   ? ZYDIS_STACK_WIDTH_64
                     : bits == 32 ? ZYDIS_STACK_WIDTH_32
                                  : ZYDIS_STACK_WIDTH_16);
    bool zok = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, bytes, 15, &z, zo));
    if (!ok && !zok)
        return ZY_SAME;
    if (ok && !zok)
        return ZY_REFUSES;
    if (!ok) {
        *isa = ZydisISASetGetString(z.meta.isa_set);
        return ZY_DECODES;
    }
    if (z.length != insn->len)
        return ZY_LENGTH;
    return same_opnds(insn, &z, zo) ? ZY_SAME : ZY_OPERANDS;
}

#else

enum zy_answer zydis_check(unsigned bits, const uint8_t *bytes,
                           enum x86_dec dec, const struct x86_insn *insn,
                           const char **isa)
{
    (void)bits, (void)bytes, (void)dec, (void)insn, (void)isa;
    return ZY_NONE;
}

#endif
