// SPDX-License-Identifier: Apache-2.0
/*
 * What may run on the host, and how: deny by default. An encoding that no rule
 * here names is run by the interpreter.
 */
#include "engine/bt/front.h"

#include "cpu/x86/cpuid.h"

/* Mnemonics of integer instructions whose forms with registers, immediates
 * and one plain memory operand run as they are. */
static bool int_native(unsigned op)
{
    switch (op) {
    case X86_OP_ADD:
    case X86_OP_OR:
    case X86_OP_ADC:
    case X86_OP_SBB:
    case X86_OP_AND:
    case X86_OP_SUB:
    case X86_OP_XOR:
    case X86_OP_CMP:
    case X86_OP_TEST:
    case X86_OP_MOV:
    case X86_OP_MOVZX:
    case X86_OP_MOVSX:
    case X86_OP_MOVSXD:
    case X86_OP_XCHG:
    case X86_OP_INC:
    case X86_OP_DEC:
    case X86_OP_NEG:
    case X86_OP_NOT:
    case X86_OP_ROL:
    case X86_OP_ROR:
    case X86_OP_RCL:
    case X86_OP_RCR:
    case X86_OP_SHL:
    case X86_OP_SHR:
    case X86_OP_SAR:
    case X86_OP_MUL:
    case X86_OP_IMUL:
    case X86_OP_DIV:
    case X86_OP_IDIV:
    case X86_OP_SHLD:
    case X86_OP_SHRD:
    case X86_OP_BSWAP:
    case X86_OP_CBW:
    case X86_OP_CWD:
    case X86_OP_XADD:
    case X86_OP_CMPXCHG:
    case X86_OP_CMPXCHG8B:
    case X86_OP_CMPXCHG16B:
    case X86_OP_MOVBE:
    case X86_OP_MOVNTI:
    case X86_OP_BT:
    case X86_OP_BTS:
    case X86_OP_BTR:
    case X86_OP_BTC:
    case X86_OP_BSF:
    case X86_OP_BSR:
    case X86_OP_TZCNT:
    case X86_OP_LZCNT:
    case X86_OP_POPCNT:
    case X86_OP_ANDN:
    case X86_OP_BEXTR:
    case X86_OP_BZHI:
    case X86_OP_PDEP:
    case X86_OP_PEXT:
    case X86_OP_BLSR:
    case X86_OP_BLSMSK:
    case X86_OP_BLSI:
    case X86_OP_RORX:
    case X86_OP_SHLX:
    case X86_OP_SHRX:
    case X86_OP_SARX:
    case X86_OP_MULX:
    case X86_OP_ADCX:
    case X86_OP_ADOX:
    case X86_OP_CRC32:
    case X86_OP_LAHF:
    case X86_OP_SAHF:
    case X86_OP_CLC:
    case X86_OP_STC:
    case X86_OP_CMC:
    case X86_OP_PAUSE:
    case X86_OP_LFENCE:
    case X86_OP_MFENCE:
    case X86_OP_SFENCE:
    case X86_OP_SETO:
    case X86_OP_SETNO:
    case X86_OP_SETB:
    case X86_OP_SETAE:
    case X86_OP_SETE:
    case X86_OP_SETNE:
    case X86_OP_SETBE:
    case X86_OP_SETA:
    case X86_OP_SETS:
    case X86_OP_SETNS:
    case X86_OP_SETP:
    case X86_OP_SETNP:
    case X86_OP_SETL:
    case X86_OP_SETGE:
    case X86_OP_SETLE:
    case X86_OP_SETG:
    case X86_OP_CMOVO:
    case X86_OP_CMOVNO:
    case X86_OP_CMOVB:
    case X86_OP_CMOVAE:
    case X86_OP_CMOVE:
    case X86_OP_CMOVNE:
    case X86_OP_CMOVBE:
    case X86_OP_CMOVA:
    case X86_OP_CMOVS:
    case X86_OP_CMOVNS:
    case X86_OP_CMOVP:
    case X86_OP_CMOVNP:
    case X86_OP_CMOVL:
    case X86_OP_CMOVGE:
    case X86_OP_CMOVLE:
    case X86_OP_CMOVG:
        return true;
    default:
        return false;
    }
}

/* Vector and x87 instructions that are not run as they are: implicit or masked
 * memory, the host's instruction pointer in memory, control words checked. */
static bool vec_denied(unsigned op)
{
    switch (op) {
    case X86_OP_MASKMOVDQU:
    case X86_OP_MASKMOVQ:
    case X86_OP_VMASKMOVDQU:
    case X86_OP_VMASKMOVPS:
    case X86_OP_VMASKMOVPD:
    case X86_OP_VPMASKMOVD:
    case X86_OP_VPMASKMOVQ:
    case X86_OP_FNSTENV:
    case X86_OP_FNSAVE:
    case X86_OP_FLDENV:
    case X86_OP_FRSTOR:
        return true;
    default:
        return false;
    }
}

static bool vec_native(const struct bt_tr *t, const struct x86_insn *insn,
                       unsigned cls)
{
    uint32_t mode = t->b->mode;

    if (vec_denied(insn->op))
        return false;
    switch (cls) {
    case X86_CLS_X87:
        return mode & BT_MODE_X87;
    case X86_CLS_MMX:
        return (mode & BT_MODE_X87) && (mode & BT_MODE_SSE);
    case X86_CLS_SSE:
        return mode & (insn->enc == X86_ENC_VEX ? BT_MODE_AVX : BT_MODE_SSE);
    case X86_CLS_AVX:
        return mode & BT_MODE_AVX;
    default:
        return false;
    }
}

/* Operands that are registers, immediates or one ModRM memory operand of a
 * size that a TLB check can cover. */
static bool plain_operands(const struct x86_insn *insn)
{
    for (unsigned i = 0; i < insn->nopnds; i++) {
        const struct x86_opnd *p = &insn->opnd[i];

        switch (p->kind) {
        case X86_OPND_GPR:
        case X86_OPND_IMM:
        case X86_OPND_ONE:
        case X86_OPND_ST:
        case X86_OPND_MMX:
        case X86_OPND_XMM:
        case X86_OPND_YMM:
            break;
        case X86_OPND_MEM:
            if (p->size == 0 || p->size > 32)
                return false;
            break;
        default:
            return false;
        }
    }
    return true;
}

static bool does_nothing(unsigned op)
{
    return op == X86_OP_NOP || op == X86_OP_ENDBR64 || op == X86_OP_ENDBR32 ||
           op == X86_OP_PREFETCHW || op == X86_OP_PREFETCHWT1 ||
           op == X86_OP_PREFETCHNTA || op == X86_OP_PREFETCHT0 ||
           op == X86_OP_PREFETCHT1 || op == X86_OP_PREFETCHT2;
}

static enum bt_how how_branch(const struct x86_insn *insn)
{
    switch (insn->op) {
    case X86_OP_JMP:
        return HOW_JMP;
    case X86_OP_CALL:
        /* RSP in the operand is read before the push */
        if (insn->opnd[0].kind == X86_OPND_GPR && insn->opnd[0].reg == X86_RSP)
            return HOW_CALLOUT;
        return HOW_CALL;
    case X86_OP_RET:
        return HOW_RET;
    case X86_OP_JCXZ:
        return HOW_JCXZ;
    case X86_OP_LOOP:
        return insn->adsize == 8 ? HOW_LOOP : HOW_CALLOUT;
    default:
        break;
    }
    if ((insn->map == X86_MAP_1B && (insn->opcode & 0xf0) == 0x70) ||
        (insn->map == X86_MAP_0F && (insn->opcode & 0xf0) == 0x80))
        return HOW_JCC;
    return HOW_CALLOUT;
}

static enum bt_how how_stack(const struct x86_insn *insn)
{
    const struct x86_opnd *p = &insn->opnd[0];

    if (insn->opsize != 8)
        return HOW_CALLOUT;
    if (insn->op == X86_OP_LEAVE)
        return HOW_LEAVE;
    if (insn->op == X86_OP_PUSH && p->kind != X86_OPND_SEG)
        return HOW_PUSH;
    if (insn->op == X86_OP_PUSHF)
        return HOW_PUSH;
    if (insn->op == X86_OP_POP && p->kind == X86_OPND_GPR)
        return HOW_POP;
    return HOW_CALLOUT;
}

enum bt_how bt_how(const struct bt_tr *t, const struct x86_insn *insn)
{
    const struct x86_form_info *fi = x86_form_info(insn->form);

    if (fi->feat != X86_FEAT_BASE &&
        !x86_cpuid_has(t->bt->cpu->cpuid, fi->feat))
        return fi->attr & XA_NOPIF ? HOW_NOTHING : HOW_CALLOUT;
    if (does_nothing(insn->op))
        return HOW_NOTHING;
    if (fi->attr & XA_UD)
        return HOW_CALLOUT;
    if (fi->cls == X86_CLS_BRANCH)
        return how_branch(insn);
    if (insn->op == X86_OP_PUSH || insn->op == X86_OP_POP ||
        insn->op == X86_OP_PUSHF || insn->op == X86_OP_LEAVE)
        return how_stack(insn);
    if (insn->op == X86_OP_LEA)
        return insn->opsize == 2 ? HOW_CALLOUT : HOW_LEA;
    if (fi->cls == X86_CLS_INT) {
        if (!int_native(insn->op) || !plain_operands(insn))
            return bt_how_system(t, insn);
        if ((fi->attr & XA_BITMEM) && insn->opnd[0].kind == X86_OPND_MEM)
            return HOW_CALLOUT;
        return HOW_PLAIN;
    }
    if (!vec_native(t, insn, fi->cls) || !plain_operands(insn))
        return bt_how_system(t, insn);
    return HOW_PLAIN;
}
