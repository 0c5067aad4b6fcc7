// SPDX-License-Identifier: Apache-2.0
/*
 * Handlers for the frequent shapes of the frequent instructions: two thirds of
 * a kernel's. They read op's compact fields only. Sizes are decided by a
 * predictable branch; the arithmetic is inlined.
 *
 * Register fields as op_fast() sets them: rm is the r/m operand's or the only
 * register, reg the other one.
 */
#include "engine/interp/fast.h"

#include "engine/interp/ops.h"

#include "cpu/x86/insn.h"

/* ---- MOV ---- */

static int mov_rr(struct interp *in, const struct op *o)
{
    reg_wr(in->cpu, o->rm, o->size, reg_rd(in->cpu, o->reg, o->size));
    return OP_NEXT;
}

static int mov_ri(struct interp *in, const struct op *o)
{
    reg_wr(in->cpu, o->rm, o->size, o->imm);
    return OP_NEXT;
}

static ALWAYS_INLINE int mov_load(struct interp *in, const struct op *o,
                                  unsigned size)
{
    uint64_t lin, v;

    if (op_lin(in, o, size, false, &lin) ||
        mem_ld(in, lin, size, op_lin_flags(o), &v))
        return X86_FAULT;
    reg_wr(in->cpu, o->reg, size, v);
    return OP_NEXT;
}

static int mov_rm8(struct interp *in, const struct op *o)
{
    return mov_load(in, o, 8);
}

static int mov_rm4(struct interp *in, const struct op *o)
{
    return mov_load(in, o, 4);
}

static int mov_rm(struct interp *in, const struct op *o)
{
    return mov_load(in, o, o->size);
}

static ALWAYS_INLINE int mov_store(struct interp *in, const struct op *o,
                                   unsigned size, uint64_t v)
{
    uint64_t lin;

    if (op_lin(in, o, size, true, &lin))
        return X86_FAULT;
    return mem_st(in, lin, size, op_lin_flags(o), v);
}

static int mov_mr8(struct interp *in, const struct op *o)
{
    return mov_store(in, o, 8, in->cpu->gpr[o->reg]);
}

static int mov_mr(struct interp *in, const struct op *o)
{
    return mov_store(in, o, o->size, reg_rd(in->cpu, o->reg, o->size));
}

static int mov_mi(struct interp *in, const struct op *o)
{
    return mov_store(in, o, o->size, o->imm);
}

/* ---- MOVZX, MOVSX: ssize is the source's ---- */

static int movzx_rr(struct interp *in, const struct op *o)
{
    reg_wr(in->cpu, o->reg, o->size, reg_rd(in->cpu, o->rm, o->ssize));
    return OP_NEXT;
}

static int movzx_rm(struct interp *in, const struct op *o)
{
    uint64_t lin, v;

    if (op_lin(in, o, o->ssize, false, &lin) ||
        mem_ld(in, lin, o->ssize, op_lin_flags(o), &v))
        return X86_FAULT;
    reg_wr(in->cpu, o->reg, o->size, v);
    return OP_NEXT;
}

static int movsx_rr(struct interp *in, const struct op *o)
{
    uint64_t v = reg_rd(in->cpu, o->rm, o->ssize);

    reg_wr(in->cpu, o->reg, o->size, (uint64_t)bits_sext(v, o->ssize * 8U));
    return OP_NEXT;
}

static int movsx_rm(struct interp *in, const struct op *o)
{
    uint64_t lin, v;

    if (op_lin(in, o, o->ssize, false, &lin) ||
        mem_ld(in, lin, o->ssize, op_lin_flags(o), &v))
        return X86_FAULT;
    reg_wr(in->cpu, o->reg, o->size, (uint64_t)bits_sext(v, o->ssize * 8U));
    return OP_NEXT;
}

/* ---- other registers-only ones ---- */

/* 64-bit mode without a segment to add: what op_lin makes. */
static int lea_fast(struct interp *in, const struct op *o)
{
    uint64_t off = 0;

    (void)op_lin(in, o, 0, false, &off);
    reg_wr(in->cpu, o->reg, o->size, off);
    return OP_NEXT;
}

static int inc_r(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint32_t fl = fl_pack(cpu->rflags);

    reg_wr(cpu, o->rm, o->size,
           alu_inc(reg_rd(cpu, o->rm, o->size), o->size, &fl));
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

static int dec_r(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint32_t fl = fl_pack(cpu->rflags);

    reg_wr(cpu, o->rm, o->size,
           alu_dec(reg_rd(cpu, o->rm, o->size), o->size, &fl));
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

static int shl_ri(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint32_t fl = fl_pack(cpu->rflags);

    reg_wr(cpu, o->rm, o->size,
           alu_shl(reg_rd(cpu, o->rm, o->size), o->imm, o->size, &fl));
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

static int shr_ri(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint32_t fl = fl_pack(cpu->rflags);

    reg_wr(cpu, o->rm, o->size,
           alu_shr(reg_rd(cpu, o->rm, o->size), o->imm, o->size, &fl));
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

static int cmov_rr(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    unsigned from = fl_cond(cpu->rflags, o->cc) ? o->rm : o->reg;

    reg_wr(cpu, o->reg, o->size, reg_rd(cpu, from, o->size));
    return OP_NEXT;
}

static int setcc_r(struct interp *in, const struct op *o)
{
    reg_wr(in->cpu, o->rm, 1, fl_cond(in->cpu->rflags, o->cc));
    return OP_NEXT;
}

/* ---- stack and branches, 64-bit mode and operand ---- */

static int push_r8(struct interp *in, const struct op *o)
{
    return stack_push(in, 8, in->cpu->gpr[o->rm]);
}

static int push_i8(struct interp *in, const struct op *o)
{
    return stack_push(in, 8, o->imm);
}

static int pop_r8(struct interp *in, const struct op *o)
{
    uint64_t v;

    if (stack_peek(in, 0, 8, &v))
        return X86_FAULT;
    in->cpu->gpr[X86_RSP] += 8;
    in->cpu->gpr[o->rm] = v;
    return OP_NEXT;
}

static ALWAYS_INLINE int jump_rel8(struct interp *in, const struct op *o)
{
    uint64_t to = in->cpu->rip + o->len + o->imm;

    if (UNLIKELY(!x86_canonical(to)))
        return x86_raise_err(in->cpu, X86_VEC_GP, 0);
    in->cpu->rip = to;
    return OP_JUMP;
}

static int jmp8(struct interp *in, const struct op *o)
{
    return jump_rel8(in, o);
}

static int jcc8(struct interp *in, const struct op *o)
{
    if (fl_cond(in->cpu->rflags, o->cc))
        return jump_rel8(in, o);
    in->cpu->rip += o->len;
    return OP_JUMP;
}

static int call8(struct interp *in, const struct op *o)
{
    uint64_t next = in->cpu->rip + o->len, to = next + o->imm;

    if (UNLIKELY(!x86_canonical(to)))
        return x86_raise_err(in->cpu, X86_VEC_GP, 0);
    if (UNLIKELY(stack_push(in, 8, next) < 0))
        return X86_FAULT;
    in->cpu->rip = to;
    return OP_JUMP;
}

static int ret8(struct interp *in, const struct op *o)
{
    uint64_t to;

    (void)o;
    if (UNLIKELY(stack_peek(in, 0, 8, &to)))
        return X86_FAULT;
    if (UNLIKELY(!x86_canonical(to)))
        return x86_raise_err(in->cpu, X86_VEC_GP, 0);
    in->cpu->gpr[X86_RSP] += 8;
    in->cpu->rip = to;
    return OP_JUMP;
}

/* ---- choosing ---- */

static bool is_gpr(const struct x86_insn *insn, unsigned i)
{
    return insn->opnd[i].kind == X86_OPND_GPR;
}

static bool is_mem(const struct x86_insn *insn, unsigned i)
{
    return insn->opnd[i].kind == X86_OPND_MEM;
}

static bool is_imm(const struct x86_insn *insn, unsigned i)
{
    return insn->opnd[i].kind == X86_OPND_IMM;
}

/* The shape of a two-operand instruction; sets @o's registers and size.
 * Return: SHAPES when it is another one. */
static enum shape shape_of(const struct x86_insn *insn, struct op *o)
{
    const struct x86_opnd *a = &insn->opnd[0], *b = &insn->opnd[1];

    o->size = (uint8_t)a->size;
    if (is_gpr(insn, 0) && is_gpr(insn, 1)) {
        o->rm = (uint8_t)opnd_reg(a);
        o->reg = (uint8_t)opnd_reg(b);
        return SHAPE_RR;
    }
    if (is_gpr(insn, 0) && is_imm(insn, 1)) {
        o->rm = (uint8_t)opnd_reg(a);
        return SHAPE_RI;
    }
    if (is_gpr(insn, 0) && is_mem(insn, 1)) {
        o->reg = (uint8_t)opnd_reg(a);
        return SHAPE_RM;
    }
    if (is_mem(insn, 0) && is_gpr(insn, 1)) {
        o->reg = (uint8_t)opnd_reg(b);
        return SHAPE_MR;
    }
    return is_mem(insn, 0) && is_imm(insn, 1) ? SHAPE_MI : SHAPES;
}

static op_fn fast_mov(const struct x86_insn *insn, struct op *o)
{
    switch (shape_of(insn, o)) {
    case SHAPE_RR:
        return mov_rr;
    case SHAPE_RI:
        return mov_ri;
    case SHAPE_RM:
        return o->size == 8 ? mov_rm8 : o->size == 4 ? mov_rm4 : mov_rm;
    case SHAPE_MR:
        return o->size == 8 ? mov_mr8 : mov_mr;
    case SHAPE_MI:
        return mov_mi;
    case SHAPES:
        break;
    }
    return NULL;
}

/* Register destination in reg, r/m source in rm or memory. */
static op_fn fast_movx(const struct x86_insn *insn, struct op *o, op_fn rr,
                       op_fn rm)
{
    o->size = (uint8_t)insn->opnd[0].size;
    o->ssize = (uint8_t)insn->opnd[1].size;
    o->reg = insn->opnd[0].reg;
    if (is_mem(insn, 1))
        return rm;
    o->rm = (uint8_t)opnd_reg(&insn->opnd[1]);
    return rr;
}

/* One register operand; NULL for memory. */
static op_fn fast_reg(const struct x86_insn *insn, struct op *o, op_fn fn)
{
    if (!is_gpr(insn, 0))
        return NULL;
    o->rm = (uint8_t)opnd_reg(&insn->opnd[0]);
    o->size = (uint8_t)insn->opnd[0].size;
    return fn;
}

static op_fn fast_alu(const struct x86_insn *insn, struct op *o,
                      enum alu_kind k)
{
    enum shape s;

    if (insn->prefix & X86_PFX_LOCK)
        return NULL;
    s = shape_of(insn, o);
    return s == SHAPES ? NULL : fast_alu_handler(k, s);
}

static op_fn fast_branch(const struct x86_insn *insn, const struct op *o,
                         bool mode64)
{
    bool rel = insn->opnd[0].kind == X86_OPND_REL;

    if (!mode64 || o->size != 8)
        return NULL;
    switch (insn->op) {
    case X86_OP_JMP:
        return rel ? jmp8 : NULL;
    case X86_OP_CALL:
        return rel ? call8 : NULL;
    case X86_OP_RET:
        return insn->nopnds ? NULL : ret8;
    default:
        return jcc8;
    }
}

static op_fn fast_stack(const struct x86_insn *insn, struct op *o, bool mode64)
{
    if (!mode64 || o->size != 8)
        return NULL;
    if (insn->op == X86_OP_PUSH && is_imm(insn, 0))
        return push_i8;
    if (!is_gpr(insn, 0))
        return NULL;
    o->rm = insn->opnd[0].reg;
    return insn->op == X86_OP_PUSH ? push_r8 : pop_r8;
}

op_fn op_fast(const struct x86_insn *insn, struct op *o, bool mode64)
{
    switch (insn->op) {
    case X86_OP_ADD:
        return fast_alu(insn, o, ALU_K_ADD);
    case X86_OP_OR:
        return fast_alu(insn, o, ALU_K_OR);
    case X86_OP_ADC:
        return fast_alu(insn, o, ALU_K_ADC);
    case X86_OP_SBB:
        return fast_alu(insn, o, ALU_K_SBB);
    case X86_OP_AND:
        return fast_alu(insn, o, ALU_K_AND);
    case X86_OP_SUB:
        return fast_alu(insn, o, ALU_K_SUB);
    case X86_OP_XOR:
        return fast_alu(insn, o, ALU_K_XOR);
    case X86_OP_CMP:
        return fast_alu(insn, o, ALU_K_CMP);
    case X86_OP_TEST:
        return fast_alu(insn, o, ALU_K_TEST);
    case X86_OP_MOV:
        return fast_mov(insn, o);
    case X86_OP_MOVZX:
        return fast_movx(insn, o, movzx_rr, movzx_rm);
    case X86_OP_MOVSX:
    case X86_OP_MOVSXD:
        return fast_movx(insn, o, movsx_rr, movsx_rm);
    case X86_OP_LEA:
        o->reg = insn->opnd[0].reg;
        o->size = (uint8_t)insn->opnd[0].size;
        return o->ea == EA_GEN ? NULL : lea_fast;
    case X86_OP_INC:
        return fast_reg(insn, o, inc_r);
    case X86_OP_DEC:
        return fast_reg(insn, o, dec_r);
    case X86_OP_SHL:
        return is_imm(insn, 1) ? fast_reg(insn, o, shl_ri) : NULL;
    case X86_OP_SHR:
        return is_imm(insn, 1) ? fast_reg(insn, o, shr_ri) : NULL;
    case X86_OP_PUSH:
    case X86_OP_POP:
        return fast_stack(insn, o, mode64);
    case X86_OP_JMP:
    case X86_OP_CALL:
    case X86_OP_RET:
        return fast_branch(insn, o, mode64);
    default:
        break;
    }
    if (op_generic(insn) == op_jcc)
        return fast_branch(insn, o, mode64);
    if (op_generic(insn) == op_cmov && is_gpr(insn, 1))
        return fast_movx(insn, o, cmov_rr, NULL);
    if (op_generic(insn) == op_setcc)
        return fast_reg(insn, o, setcc_r);
    return NULL;
}
