// SPDX-License-Identifier: Apache-2.0
/*
 * Near and far branches, software interrupts, system calls. Targets are
 * checked before anything changes: a jump to a non-canonical address faults at
 * the jump. Source: Intel SDM vol. 2, vol. 3A chapters 5 and 6.
 */
#include "engine/interp/ops.h"

/* Near branches in 64-bit mode have 64-bit operands whatever 66 says (Intel;
 * the decoder's opsize says so). */
static int branch_rel(struct interp *in, const struct op *o)
{
    return branch_to(in, in->cpu->rip + o->len + o->insn->imm, o->size);
}

/* Not taken: past the instruction. */
static int branch_not(struct interp *in, const struct op *o)
{
    in->cpu->rip = rip_next(in, o);
    return OP_JUMP;
}

int op_jcc(struct interp *in, const struct op *o)
{
    return fl_cond(in->cpu->rflags, o->cc) ? branch_rel(in, o)
                                           : branch_not(in, o);
}

int op_jcxz(struct interp *in, const struct op *o)
{
    uint64_t c = in->cpu->gpr[X86_RCX] & size_mask(o->adsize);

    return c ? branch_not(in, o) : branch_rel(in, o);
}

int op_loop(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t c = (cpu->gpr[X86_RCX] - 1) & size_mask(o->adsize);
    bool zf = cpu->rflags & X86_FL_ZF, go = c != 0;
    int r;

    if (o->insn->op == X86_OP_LOOPE)
        go = go && zf;
    else if (o->insn->op == X86_OP_LOOPNE)
        go = go && !zf;
    r = go ? branch_rel(in, o) : branch_not(in, o);
    if (r >= 0)
        reg_wr(cpu, X86_RCX, o->adsize, c);
    return r;
}

static int target_of(struct interp *in, const struct op *o, uint64_t *to)
{
    if (o->insn->opnd[0].kind == X86_OPND_REL) {
        *to = in->cpu->rip + o->len + o->insn->imm;
        return 0;
    }
    return opnd_rd(in, o, 0, to);
}

int op_jmp(struct interp *in, const struct op *o)
{
    uint64_t to;

    if (target_of(in, o, &to))
        return X86_FAULT;
    return branch_to(in, to, o->size);
}

/* In 64-bit mode the return address is stored before the target is found not
 * to be canonical (observed on Intel); rSP stays then. */
static int call64(struct interp *in, uint64_t to, uint64_t next)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t sp = cpu->gpr[X86_RSP];

    if (stack_push(in, 8, next) < 0)
        return X86_FAULT;
    if (branch_to(in, to, 8) < 0) {
        cpu->gpr[X86_RSP] = sp;
        return X86_FAULT;
    }
    return OP_JUMP;
}

int op_call(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t rip = cpu->rip, next = rip_next(in, o), to;

    if (target_of(in, o, &to))
        return X86_FAULT;
    if (in->mode64)
        return call64(in, to, next);
    if (branch_to(in, to, o->size) < 0)
        return X86_FAULT;
    to = cpu->rip;
    cpu->rip = rip;
    if (stack_push(in, o->size, next) < 0)
        return X86_FAULT;
    cpu->rip = to;
    return OP_JUMP;
}

int op_ret(struct interp *in, const struct op *o)
{
    uint64_t to, n = o->insn->nopnds ? o->insn->imm & 0xffff : 0;

    if (stack_peek(in, 0, o->size, &to) || branch_to(in, to, o->size) < 0)
        return X86_FAULT;
    stack_drop(in, o->size + n);
    return OP_JUMP;
}

/* ---- far ---- */

static int far_target(struct interp *in, const struct op *o, uint16_t *sel,
                      uint64_t *off)
{
    unsigned size = o->size, flags = op_lin_flags(o);
    uint64_t lin, s;

    if (o->insn->opnd[0].kind != X86_OPND_MEM) {
        *off = o->insn->imm & size_mask(size);
        *sel = (uint16_t)o->insn->imm2;
        return 0;
    }
    if (op_lin(in, o, size + 2, false, &lin) ||
        mem_ld(in, lin, size, flags, off) ||
        mem_ld(in, lin + size, 2, flags, &s))
        return X86_FAULT;
    *sel = (uint16_t)s;
    return 0;
}

int op_jmpf(struct interp *in, const struct op *o)
{
    uint64_t off;
    uint16_t sel;

    if (far_target(in, o, &sel, &off) ||
        x86_far_jmp(in->cpu, sel, off, o->size, rip_next(in, o)))
        return X86_FAULT;
    return sys_end(in, OP_JUMP);
}

int op_callf(struct interp *in, const struct op *o)
{
    uint64_t off;
    uint16_t sel;

    if (far_target(in, o, &sel, &off) ||
        x86_far_call(in->cpu, sel, off, o->size, rip_next(in, o)))
        return X86_FAULT;
    return sys_end(in, OP_JUMP);
}

int op_retf(struct interp *in, const struct op *o)
{
    uint16_t n = o->insn->nopnds ? (uint16_t)o->insn->imm : 0;

    if (x86_far_ret(in->cpu, o->size, n))
        return X86_FAULT;
    return sys_end(in, OP_JUMP);
}

/* ---- interrupts and system calls ---- */

int op_int_n(struct interp *in, const struct op *o)
{
    if (x86_int(in->cpu, (uint8_t)o->insn->imm, rip_next(in, o), X86_INT_N))
        return X86_FAULT;
    return sys_end(in, OP_JUMP);
}

int op_int3(struct interp *in, const struct op *o)
{
    if (x86_int(in->cpu, X86_VEC_BP, rip_next(in, o), X86_INT_3))
        return X86_FAULT;
    return sys_end(in, OP_JUMP);
}

int op_int1(struct interp *in, const struct op *o)
{
    if (x86_int(in->cpu, X86_VEC_DB, rip_next(in, o), X86_INT_1))
        return X86_FAULT;
    return sys_end(in, OP_JUMP);
}

int op_into(struct interp *in, const struct op *o)
{
    if (!(in->cpu->rflags & X86_FL_OF))
        return branch_not(in, o);
    if (x86_int(in->cpu, X86_VEC_OF, rip_next(in, o), X86_INT_INTO))
        return X86_FAULT;
    return sys_end(in, OP_JUMP);
}

int op_iret(struct interp *in, const struct op *o)
{
    if (x86_iret(in->cpu, o->size))
        return X86_FAULT;
    return sys_end(in, OP_JUMP);
}

int op_syscall(struct interp *in, const struct op *o)
{
    if (x86_syscall(in->cpu, rip_next(in, o)))
        return X86_FAULT;
    return sys_end(in, OP_JUMP);
}

int op_sysret(struct interp *in, const struct op *o)
{
    if (x86_sysret(in->cpu, o->size == 8 ? 8 : 4))
        return X86_FAULT;
    return sys_end(in, OP_JUMP);
}

int op_sysenter(struct interp *in, const struct op *o)
{
    (void)o;
    if (x86_sysenter(in->cpu))
        return X86_FAULT;
    return sys_end(in, OP_JUMP);
}

int op_sysexit(struct interp *in, const struct op *o)
{
    if (x86_sysexit(in->cpu, o->size == 8 ? 8 : 4))
        return X86_FAULT;
    return sys_end(in, OP_JUMP);
}
