// SPDX-License-Identifier: Apache-2.0
/*
 * Moves, conversions, conditional moves, flag instructions, segment register
 * loads. Source: Intel SDM vol. 2.
 */
#include "engine/interp/ops.h"

#include "cpu/x86/insn.h"

/* ---- MOV and kin ---- */

int op_mov(struct interp *in, const struct op *o)
{
    uint64_t v;

    if (opnd_rd(in, o, 1, &v))
        return X86_FAULT;
    return opnd_wr(in, o, 0, v);
}

int op_movzx(struct interp *in, const struct op *o)
{
    return op_mov(in, o);
}

/* MOVSX and MOVSXD. */
int op_movsx(struct interp *in, const struct op *o)
{
    uint64_t v;

    if (opnd_rd(in, o, 1, &v))
        return X86_FAULT;
    v = (uint64_t)bits_sext(v, o->insn->opnd[1].size * 8U);
    return opnd_wr(in, o, 0, v);
}

static uint64_t swap(uint64_t v, unsigned size)
{
    return __builtin_bswap64(v) >> (64 - 8 * size);
}

int op_movbe(struct interp *in, const struct op *o)
{
    uint64_t v;

    if (opnd_rd(in, o, 1, &v))
        return X86_FAULT;
    return opnd_wr(in, o, 0, swap(v, o->insn->opnd[0].size));
}

/* With 16 bits undefined; CPUs clear the word. */
int op_bswap(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    uint64_t v = reg_rd(in->cpu, d->reg, d->size);

    reg_wr(in->cpu, d->reg, d->size, d->size == 2 ? 0 : swap(v, d->size));
    return OP_NEXT;
}

/* The source is read whether the condition holds or not; a 32-bit destination
 * has its upper half cleared either way. */
int op_cmov(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    uint64_t v;

    if (opnd_rd(in, o, 1, &v))
        return X86_FAULT;
    if (!fl_cond(in->cpu->rflags, o->cc))
        v = reg_rd(in->cpu, d->reg, d->size);
    reg_wr(in->cpu, d->reg, d->size, v);
    return OP_NEXT;
}

int op_setcc(struct interp *in, const struct op *o)
{
    return opnd_wr(in, o, 0, fl_cond(in->cpu->rflags, o->cc));
}

int op_lea(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];

    reg_wr(in->cpu, d->reg, d->size, op_off(in, o));
    return OP_NEXT;
}

int op_xlat(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t off = cpu->gpr[X86_RBX] + (uint8_t)cpu->gpr[X86_RAX], lin, v;

    if (op_lin_at(in, o, off & size_mask(o->adsize), 1, false, &lin) ||
        mem_ld(in, lin, 1, op_lin_flags(o), &v))
        return X86_FAULT;
    reg_wr(cpu, X86_RAX, 1, v);
    return OP_NEXT;
}

/* CBW CWDE CDQE */
int op_cbw(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;

    reg_wr(cpu, X86_RAX, o->size,
           (uint64_t)bits_sext(cpu->gpr[X86_RAX], o->size * 4U));
    return OP_NEXT;
}

/* CWD CDQ CQO */
int op_cwd(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;

    reg_wr(cpu, X86_RDX, o->size,
           (uint64_t)(bits_sext(cpu->gpr[X86_RAX], o->size * 8U) >> 63));
    return OP_NEXT;
}

/* ---- flags ---- */

int op_lahf(struct interp *in, const struct op *o)
{
    (void)o;
    reg_wr(in->cpu, X86_RAX | REG_HIGH, 1,
           (in->cpu->rflags & 0xd5) | X86_FL_ONE);
    return OP_NEXT;
}

int op_sahf(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;

    (void)o;
    cpu->rflags =
        (cpu->rflags & ~UINT64_C(0xd5)) | (cpu->gpr[X86_RAX] >> 8 & 0xd5);
    return OP_NEXT;
}

/* CLC STC CMC CLD STD */
int op_flag(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;

    switch (o->insn->op) {
    case X86_OP_CLC:
        cpu->rflags &= ~X86_FL_CF;
        break;
    case X86_OP_STC:
        cpu->rflags |= X86_FL_CF;
        break;
    case X86_OP_CMC:
        cpu->rflags ^= X86_FL_CF;
        break;
    case X86_OP_CLD:
        cpu->rflags &= ~X86_FL_DF;
        break;
    default:
        cpu->rflags |= X86_FL_DF;
        break;
    }
    return OP_NEXT;
}

int op_salc(struct interp *in, const struct op *o)
{
    (void)o;
    reg_wr(in->cpu, X86_RAX, 1, in->cpu->rflags & X86_FL_CF ? 0xff : 0);
    return OP_NEXT;
}

/* ---- segment registers ---- */

int op_mov_sreg(struct interp *in, const struct op *o)
{
    unsigned seg = o->insn->opnd[0].reg;
    uint64_t v;

    if (seg == X86_SEG_CS || seg > X86_SEG_GS)
        return x86_raise(in->cpu, X86_VEC_UD);
    if (opnd_rd(in, o, 1, &v) || x86_seg_load(in->cpu, seg, (uint16_t)v))
        return X86_FAULT;
    if (seg != X86_SEG_SS)
        return OP_NEXT;
    in->cpu->shadow = X86_SHADOW_MOVSS;
    return sys_end(in, OP_STOP);
}

/* To a register of operand size, zero-extended; to memory 16 bits. */
int op_mov_from_sreg(struct interp *in, const struct op *o)
{
    const struct x86_opnd *s = &o->insn->opnd[1];

    if (s->reg > X86_SEG_GS)
        return x86_raise(in->cpu, X86_VEC_UD);
    return opnd_wr(in, o, 0, in->cpu->seg[s->reg].sel);
}

/* LDS LES LFS LGS LSS: offset first, then the selector after it. */
int op_load_far(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    unsigned size = d->size, seg, flags = op_lin_flags(o);
    uint64_t lin, off, sel;

    switch (o->insn->op) {
    case X86_OP_LDS:
        seg = X86_SEG_DS;
        break;
    case X86_OP_LES:
        seg = X86_SEG_ES;
        break;
    case X86_OP_LFS:
        seg = X86_SEG_FS;
        break;
    case X86_OP_LGS:
        seg = X86_SEG_GS;
        break;
    default:
        seg = X86_SEG_SS;
        break;
    }
    if (op_lin(in, o, size + 2, false, &lin) ||
        mem_ld(in, lin, size, flags, &off) ||
        mem_ld(in, lin + size, 2, flags, &sel) ||
        x86_seg_load(in->cpu, seg, (uint16_t)sel))
        return X86_FAULT;
    reg_wr(in->cpu, d->reg, size, off);
    return seg == X86_SEG_SS ? sys_end(in, OP_STOP) : OP_NEXT;
}

int op_bound(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    unsigned size = d->size, flags = op_lin_flags(o);
    int64_t i = bits_sext(in->cpu->gpr[d->reg], size * 8), low, high;
    uint64_t lin, lo, hi;

    if (op_lin(in, o, size * 2, false, &lin) ||
        mem_ld(in, lin, size, flags, &lo) ||
        mem_ld(in, lin + size, size, flags, &hi))
        return X86_FAULT;
    low = bits_sext(lo, size * 8);
    high = bits_sext(hi, size * 8);
    if (i < low || i > high)
        return x86_raise(in->cpu, X86_VEC_BR);
    return OP_NEXT;
}

int op_arpl(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    struct x86_cpu *cpu = in->cpu;
    uint64_t b = reg_rd(cpu, o->insn->opnd[1].reg, 2), a, lin;
    struct rmw m;
    int r = OP_NEXT;

    if (d->kind == X86_OPND_GPR) {
        a = reg_rd(cpu, d->reg, 2);
        if ((a & 3) < (b & 3))
            reg_wr(cpu, d->reg, 2, (a & ~UINT64_C(3)) | (b & 3));
    } else {
        if (op_lin(in, o, 2, true, &lin) ||
            rmw_open(in, lin, 2, op_lin_flags(o), &m))
            return X86_FAULT;
        a = rmw_read(in, &m);
        if ((a & 3) < (b & 3))
            r = rmw_write(in, &m, (a & ~UINT64_C(3)) | (b & 3));
        else
            rmw_close(in, &m);
    }
    if ((a & 3) < (b & 3))
        cpu->rflags |= X86_FL_ZF;
    else
        cpu->rflags &= ~X86_FL_ZF;
    return r;
}

/* 64 bytes from the source to es:[reg], which must be aligned. */
int op_movdir64b(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t to = cpu->gpr[o->insn->opnd[0].reg] & size_mask(o->adsize), lin;
    uint8_t buf[64];
    gva_t dst;

    if (op_lin(in, o, 64, false, &lin) ||
        x86_lin_read(cpu, lin, buf, 64, op_lin_flags(o)) ||
        x86_seg_check(cpu, X86_SEG_ES, to, 64, true, &dst))
        return X86_FAULT;
    if (dst.v & 63)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    if (x86_lin_write(cpu, dst.v, buf, 64, 0))
        return X86_FAULT;
    return OP_STOP;
}
