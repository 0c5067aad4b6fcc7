// SPDX-License-Identifier: Apache-2.0
/*
 * Multiplication, division and decimal adjustments. The adjustments exist in
 * no 64-bit host mode: they follow the manual's pseudocode, with the flags it
 * leaves undefined as Intel CPUs set them where that is known.
 * Source: Intel SDM vol. 2.
 */
#include "engine/interp/ops.h"

/* ---- MUL IMUL DIV IDIV ---- */

static void widen_out(struct x86_cpu *cpu, unsigned size, uint64_t lo,
                      uint64_t hi)
{
    if (size == 1) {
        reg_wr(cpu, X86_RAX, 2, lo);
        return;
    }
    reg_wr(cpu, X86_RAX, size, lo);
    reg_wr(cpu, X86_RDX, size, hi);
}

int op_mul(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    unsigned size = o->insn->opnd[0].size;
    uint64_t lo = cpu->gpr[X86_RAX], hi = cpu->gpr[X86_RDX], b;
    uint32_t fl = fl_pack(cpu->rflags);

    if (opnd_rd(in, o, 0, &b))
        return X86_FAULT;
    alu_mul(&lo, &hi, b, size, &fl);
    widen_out(cpu, size, lo, hi);
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

/* One, two and three operands. */
int op_imul(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    const struct x86_insn *insn = o->insn;
    unsigned size = insn->opnd[0].size;
    uint32_t fl = fl_pack(cpu->rflags);
    uint64_t a, b;

    if (insn->nopnds == 1) {
        uint64_t lo = cpu->gpr[X86_RAX], hi = cpu->gpr[X86_RDX];

        if (opnd_rd(in, o, 0, &b))
            return X86_FAULT;
        alu_imul(&lo, &hi, b, size, &fl);
        widen_out(cpu, size, lo, hi);
    } else {
        unsigned first = insn->nopnds == 3 ? 1 : 0;

        if (opnd_rd(in, o, first, &a) || opnd_rd(in, o, first + 1, &b))
            return X86_FAULT;
        reg_wr(cpu, opnd_reg(&insn->opnd[0]), size, alu_imul2(a, b, size, &fl));
    }
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

int op_div(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    unsigned size = o->insn->opnd[0].size;
    uint64_t lo = cpu->gpr[X86_RAX], hi = cpu->gpr[X86_RDX], b;
    uint32_t fl = fl_pack(cpu->rflags);

    if (opnd_rd(in, o, 0, &b))
        return X86_FAULT;
    if (!alu_div(&lo, &hi, b, size, &fl))
        return x86_raise(cpu, X86_VEC_DE);
    widen_out(cpu, size, lo, hi);
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

int op_idiv(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    unsigned size = o->insn->opnd[0].size;
    uint64_t lo = cpu->gpr[X86_RAX], hi = cpu->gpr[X86_RDX], b;
    uint32_t fl = fl_pack(cpu->rflags);

    if (opnd_rd(in, o, 0, &b))
        return X86_FAULT;
    if (!alu_idiv(&lo, &hi, b, size, &fl))
        return x86_raise(cpu, X86_VEC_DE);
    widen_out(cpu, size, lo, hi);
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

/* ---- decimal adjustments ---- */

/* SF ZF PF of AL as OR sets them (it clears OF CF, and AF). */
static void flags_of_al(struct x86_cpu *cpu)
{
    uint64_t al = cpu->gpr[X86_RAX] & 0xff;
    uint32_t fl;

    alu_or(al, al, 1, &fl);
    cpu->rflags = fl_merge(cpu->rflags, fl);
}

static void flag_put(struct x86_cpu *cpu, uint64_t flag, bool on)
{
    cpu->rflags = on ? cpu->rflags | flag : cpu->rflags & ~flag;
}

static int daa_das(struct interp *in, bool add)
{
    struct x86_cpu *cpu = in->cpu;
    uint8_t al = (uint8_t)cpu->gpr[X86_RAX], old = al;
    bool cf = cpu->rflags & X86_FL_CF, af = cpu->rflags & X86_FL_AF;
    bool low = (al & 15) > 9 || af, high = old > 0x99 || cf;
    bool carry = high;

    if (low) {
        carry |= !add && old < 6;
        al = (uint8_t)(add ? al + 6 : al - 6);
    }
    if (high)
        al = (uint8_t)(add ? al + 0x60 : al - 0x60);
    reg_wr(cpu, X86_RAX, 1, al);
    flags_of_al(cpu);
    flag_put(cpu, X86_FL_AF, low);
    flag_put(cpu, X86_FL_CF, carry);
    return OP_NEXT;
}

int op_daa(struct interp *in, const struct op *o)
{
    (void)o;
    return daa_das(in, true);
}

int op_das(struct interp *in, const struct op *o)
{
    (void)o;
    return daa_das(in, false);
}

static int aaa_aas(struct interp *in, bool add)
{
    struct x86_cpu *cpu = in->cpu;
    uint16_t ax = (uint16_t)cpu->gpr[X86_RAX];
    bool adjust = (ax & 15) > 9 || (cpu->rflags & X86_FL_AF);

    if (adjust)
        ax = (uint16_t)(add ? ax + 0x106 : ax - 0x106);
    ax &= 0xff0f;
    reg_wr(cpu, X86_RAX, 2, ax);
    flags_of_al(cpu);
    flag_put(cpu, X86_FL_AF, adjust);
    flag_put(cpu, X86_FL_CF, adjust);
    return OP_NEXT;
}

int op_aaa(struct interp *in, const struct op *o)
{
    (void)o;
    return aaa_aas(in, true);
}

int op_aas(struct interp *in, const struct op *o)
{
    (void)o;
    return aaa_aas(in, false);
}

int op_aam(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint8_t base = (uint8_t)o->insn->imm, al = (uint8_t)cpu->gpr[X86_RAX];

    if (!base)
        return x86_raise(cpu, X86_VEC_DE);
    reg_wr(cpu, X86_RAX, 2, (uint64_t)(al / base) << 8 | al % base);
    flags_of_al(cpu);
    return OP_NEXT;
}

int op_aad(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t ax = cpu->gpr[X86_RAX];

    reg_wr(cpu, X86_RAX, 2,
           (uint8_t)(ax + (ax >> 8 & 0xff) * (uint8_t)o->insn->imm));
    flags_of_al(cpu);
    return OP_NEXT;
}
