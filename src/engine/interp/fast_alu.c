// SPDX-License-Identifier: Apache-2.0
/*
 * Two-operand arithmetic in its five shapes, one body for each kind, shape and
 * size: the sizes are decided by a predictable branch, the arithmetic is
 * inlined. Register fields as in fast.c.
 */
#include "engine/interp/fast.h"

#include "engine/interp/ops.h"

static ALWAYS_INLINE uint64_t alu_do(enum alu_kind k, uint64_t a, uint64_t b,
                                     unsigned size, uint32_t *fl)
{
    switch (k) {
    case ALU_K_ADD:
        return alu_add(a, b, size, fl);
    case ALU_K_OR:
        return alu_or(a, b, size, fl);
    case ALU_K_ADC:
        return alu_adc(a, b, size, fl);
    case ALU_K_SBB:
        return alu_sbb(a, b, size, fl);
    case ALU_K_AND:
    case ALU_K_TEST:
        return alu_and(a, b, size, fl);
    case ALU_K_SUB:
    case ALU_K_CMP:
        return alu_sub(a, b, size, fl);
    case ALU_K_XOR:
        return alu_xor(a, b, size, fl);
    }
    return a;
}

static ALWAYS_INLINE bool alu_writes(enum alu_kind k)
{
    return k != ALU_K_CMP && k != ALU_K_TEST;
}

static ALWAYS_INLINE uint32_t alu_flags_in(enum alu_kind k,
                                           const struct x86_cpu *cpu)
{
    return k == ALU_K_ADC || k == ALU_K_SBB ? fl_pack(cpu->rflags) : 0;
}

/* ---- shapes: r,r  r,i  r,m  m,r  m,i ---- */

static ALWAYS_INLINE int alu_reg(struct interp *in, const struct op *o,
                                 enum alu_kind k, unsigned dst, uint64_t b,
                                 unsigned size)
{
    struct x86_cpu *cpu = in->cpu;
    uint32_t fl = alu_flags_in(k, cpu);
    uint64_t v;

    (void)o;
    v = alu_do(k, reg_rd(cpu, dst, size), b, size, &fl);
    if (alu_writes(k))
        reg_wr(cpu, dst, size, v);
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

/* Let the compiler make one body for each common size. */
static ALWAYS_INLINE int alu_rr(struct interp *in, const struct op *o,
                                enum alu_kind k)
{
    switch (o->size) {
    case 8:
        return alu_reg(in, o, k, o->rm, reg_rd(in->cpu, o->reg, 8), 8);
    case 4:
        return alu_reg(in, o, k, o->rm, reg_rd(in->cpu, o->reg, 4), 4);
    case 2:
        return alu_reg(in, o, k, o->rm, reg_rd(in->cpu, o->reg, 2), 2);
    default:
        return alu_reg(in, o, k, o->rm, reg_rd(in->cpu, o->reg, 1), 1);
    }
}

static ALWAYS_INLINE int alu_ri(struct interp *in, const struct op *o,
                                enum alu_kind k)
{
    switch (o->size) {
    case 8:
        return alu_reg(in, o, k, o->rm, o->imm, 8);
    case 4:
        return alu_reg(in, o, k, o->rm, o->imm, 4);
    case 2:
        return alu_reg(in, o, k, o->rm, o->imm, 2);
    default:
        return alu_reg(in, o, k, o->rm, o->imm, 1);
    }
}

static ALWAYS_INLINE int alu_rm_size(struct interp *in, const struct op *o,
                                     enum alu_kind k, unsigned size)
{
    uint64_t lin, b;

    if (op_lin(in, o, size, false, &lin) ||
        mem_ld(in, lin, size, op_lin_flags(o), &b))
        return X86_FAULT;
    return alu_reg(in, o, k, o->reg, b, size);
}

static ALWAYS_INLINE int alu_rm(struct interp *in, const struct op *o,
                                enum alu_kind k)
{
    switch (o->size) {
    case 8:
        return alu_rm_size(in, o, k, 8);
    case 4:
        return alu_rm_size(in, o, k, 4);
    default:
        return alu_rm_size(in, o, k, o->size == 2 ? 2 : 1);
    }
}

static ALWAYS_INLINE int alu_mem(struct interp *in, const struct op *o,
                                 enum alu_kind k, uint64_t b, unsigned size)
{
    struct x86_cpu *cpu = in->cpu;
    uint32_t fl = alu_flags_in(k, cpu);
    uint64_t lin, a;
    struct rmw m;
    int r = OP_NEXT;

    if (op_lin(in, o, size, alu_writes(k), &lin))
        return X86_FAULT;
    if (!alu_writes(k)) {
        if (mem_ld(in, lin, size, op_lin_flags(o), &a))
            return X86_FAULT;
        alu_do(k, a, b, size, &fl);
    } else {
        if (rmw_open(in, lin, size, op_lin_flags(o), &m))
            return X86_FAULT;
        a = rmw_read(in, &m);
        r = rmw_write(in, &m, alu_do(k, a, b, size, &fl));
    }
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return r;
}

static ALWAYS_INLINE int alu_mr(struct interp *in, const struct op *o,
                                enum alu_kind k)
{
    switch (o->size) {
    case 8:
        return alu_mem(in, o, k, reg_rd(in->cpu, o->reg, 8), 8);
    case 4:
        return alu_mem(in, o, k, reg_rd(in->cpu, o->reg, 4), 4);
    case 2:
        return alu_mem(in, o, k, reg_rd(in->cpu, o->reg, 2), 2);
    default:
        return alu_mem(in, o, k, reg_rd(in->cpu, o->reg, 1), 1);
    }
}

static ALWAYS_INLINE int alu_mi(struct interp *in, const struct op *o,
                                enum alu_kind k)
{
    switch (o->size) {
    case 8:
        return alu_mem(in, o, k, o->imm, 8);
    case 4:
        return alu_mem(in, o, k, o->imm, 4);
    case 2:
        return alu_mem(in, o, k, o->imm, 2);
    default:
        return alu_mem(in, o, k, o->imm, 1);
    }
}

/* clang-format off */
#define F(name, body) \
    static int name(struct interp *in, const struct op *o) { return body; }
#define ALU_SHAPES(n, k) \
    F(n##_rr, alu_rr(in, o, k)) F(n##_ri, alu_ri(in, o, k)) \
    F(n##_rm, alu_rm(in, o, k)) F(n##_mr, alu_mr(in, o, k)) \
    F(n##_mi, alu_mi(in, o, k))
ALU_SHAPES(add, ALU_K_ADD) ALU_SHAPES(or, ALU_K_OR) ALU_SHAPES(adc, ALU_K_ADC)
ALU_SHAPES(sbb, ALU_K_SBB) ALU_SHAPES(and, ALU_K_AND) ALU_SHAPES(sub, ALU_K_SUB)
ALU_SHAPES(xor, ALU_K_XOR) ALU_SHAPES(cmp, ALU_K_CMP)
ALU_SHAPES(test, ALU_K_TEST)
#undef ALU_SHAPES
#undef F

static const op_fn alu_table[][SHAPES] = {
#define ROW(k, n) [k] = {n##_rr, n##_ri, n##_rm, n##_mr, n##_mi}
    ROW(ALU_K_ADD, add), ROW(ALU_K_OR, or), ROW(ALU_K_ADC, adc),
    ROW(ALU_K_SBB, sbb), ROW(ALU_K_AND, and), ROW(ALU_K_SUB, sub),
    ROW(ALU_K_XOR, xor), ROW(ALU_K_CMP, cmp), ROW(ALU_K_TEST, test),
#undef ROW
};
/* clang-format on */

op_fn fast_alu_handler(enum alu_kind k, enum shape shape)
{
    return alu_table[k][shape];
}
