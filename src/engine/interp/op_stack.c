// SPDX-License-Identifier: Apache-2.0
/*
 * Stack instructions. Memory is written (or read) before rSP moves, so that a
 * fault leaves rSP. Source: Intel SDM vol. 2, vol. 1 6.2, 6.5.
 */
#include "engine/interp/ops.h"

/* ---- PUSH, POP ---- */

/* A segment register is pushed as a word inside its slot: Intel CPUs write 16
 * bits of a 32-bit slot and zero-extend in 64-bit mode. */
static int push_sreg(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint16_t sel = cpu->seg[o->insn->opnd[0].reg].sel;
    uint64_t mask, sp, lin;
    int r;

    if (o->size != 4)
        return stack_push(in, o->size, sel);
    mask = x86_stack_mask(cpu);
    sp = (cpu->gpr[X86_RSP] - 4) & mask;
    if (stack_lin(in, sp, 2, true, &lin))
        return X86_FAULT;
    r = mem_st(in, lin, 2, X86_LIN_STACK, sel);
    if (r >= 0)
        cpu->gpr[X86_RSP] = (cpu->gpr[X86_RSP] & ~mask) | sp;
    return r;
}

int op_push(struct interp *in, const struct op *o)
{
    uint64_t v;

    if (o->insn->opnd[0].kind == X86_OPND_SEG)
        return push_sreg(in, o);
    if (opnd_rd(in, o, 0, &v))
        return X86_FAULT;
    return stack_push(in, o->size, v);
}

static int pop_sreg(struct interp *in, const struct op *o)
{
    unsigned seg = o->insn->opnd[0].reg;
    uint64_t v;

    /* no more than the selector is read (observed on Intel) */
    if (stack_peek(in, 0, 2, &v) || x86_seg_load(in->cpu, seg, (uint16_t)v))
        return X86_FAULT;
    stack_drop(in, o->size);
    if (seg != X86_SEG_SS)
        return OP_NEXT;
    in->cpu->shadow = X86_SHADOW_MOVSS;
    return sys_end(in, OP_STOP);
}

/* A memory destination's address is made with the rSP after the pop. */
int op_pop(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    struct x86_cpu *cpu = in->cpu;
    uint64_t v, sp = cpu->gpr[X86_RSP];
    int r;

    if (d->kind == X86_OPND_SEG)
        return pop_sreg(in, o);
    if (stack_peek(in, 0, o->size, &v))
        return X86_FAULT;
    stack_drop(in, o->size);
    r = opnd_wr(in, o, 0, v); /* POP rSP: the value wins */
    if (r < 0)
        cpu->gpr[X86_RSP] = sp;
    return r;
}

/* ---- PUSHA, POPA ---- */

int op_pusha(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t sp = cpu->gpr[X86_RSP];
    unsigned size = o->size;
    int r = OP_NEXT, last;

    for (unsigned i = 0; i < 8; i++) {
        last = stack_push(in, size, i == X86_RSP ? sp : reg_rd(cpu, i, size));
        if (last < 0) {
            cpu->gpr[X86_RSP] = sp;
            return X86_FAULT;
        }
        r |= last;
    }
    return r;
}

int op_popa(struct interp *in, const struct op *o)
{
    unsigned size = o->size;
    uint64_t v[8];

    for (unsigned i = 0; i < 8; i++)
        if (stack_peek(in, (uint64_t)i * size, size, &v[7 - i]))
            return X86_FAULT;
    stack_drop(in, 8U * size);
    for (unsigned i = 0; i < 8; i++)
        if (i != X86_RSP)
            reg_wr(in->cpu, i, size, v[i]);
    return OP_NEXT;
}

/* ---- PUSHF, POPF ---- */

static bool v86_no_iopl(const struct x86_cpu *cpu)
{
    return (cpu->rflags & X86_FL_VM) &&
           (cpu->rflags & X86_FL_IOPL) != X86_FL_IOPL;
}

int op_pushf(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;

    if (v86_no_iopl(cpu))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    return stack_push(in, o->size, cpu->rflags & ~(X86_FL_VM | X86_FL_RF));
}

/* What POPF may change: IOPL at CPL 0 only, IF when CPL <= IOPL, VIF and VIP
 * never here, VM never; RF is cleared. */
int op_popf(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t mask = X86_FL_ARITH | X86_FL_TF | X86_FL_DF | X86_FL_NT |
                    X86_FL_AC | X86_FL_ID;
    uint64_t v;

    if (v86_no_iopl(cpu))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    if (stack_peek(in, 0, o->size, &v))
        return X86_FAULT;
    stack_drop(in, o->size);
    if (cpu->cpl == 0)
        mask |= X86_FL_IOPL | X86_FL_IF;
    else if (cpu->cpl <= (cpu->rflags >> 12 & 3))
        mask |= X86_FL_IF;
    if (o->size == 2)
        mask &= 0xffff;
    cpu->rflags = (cpu->rflags & ~mask & ~X86_FL_RF) | (v & mask) | X86_FL_ONE;
    return sys_end(in, OP_STOP);
}

/* ---- ENTER, LEAVE ---- */

/* Copy the display of @level outer frames, then push the new frame pointer. */
static int enter_display(struct interp *in, unsigned size, unsigned level,
                         uint64_t frame)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t mask = x86_stack_mask(cpu), bp = cpu->gpr[X86_RBP], lin, v;

    for (unsigned i = 1; i < level; i++) {
        bp -= size;
        if (stack_lin(in, bp & mask, size, false, &lin) ||
            mem_ld(in, lin, size, X86_LIN_STACK, &v) ||
            stack_push(in, size, v) < 0)
            return X86_FAULT;
    }
    return stack_push(in, size, frame) < 0 ? X86_FAULT : 0;
}

int op_enter(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    unsigned size = o->size, level = o->insn->imm2 & 31;
    uint64_t sp = cpu->gpr[X86_RSP], mask = x86_stack_mask(cpu), frame, lin;
    uint64_t end;

    if (stack_push(in, size, cpu->gpr[X86_RBP]) < 0)
        return X86_FAULT;
    frame = cpu->gpr[X86_RSP];
    if (level && enter_display(in, size, level, frame))
        goto fault;
    end = (cpu->gpr[X86_RSP] - (o->insn->imm & 0xffff)) & mask;
    /* the new top of the stack must be writable (SDM vol. 2A ENTER) */
    if (stack_lin(in, end, size, true, &lin) ||
        x86_lin_probe(cpu, lin, size, X86_LIN_WRITE | X86_LIN_STACK))
        goto fault;
    cpu->gpr[X86_RSP] = (cpu->gpr[X86_RSP] & ~mask) | end;
    if (in->mode64 || mask == 0xffffffff)
        reg_wr(cpu, X86_RBP, size == 2 ? 2 : in->mode64 ? 8 : 4, frame);
    else
        reg_wr(cpu, X86_RBP, 2, frame);
    return OP_STOP;
fault:
    cpu->gpr[X86_RSP] = sp;
    return X86_FAULT;
}

int op_leave(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t mask = x86_stack_mask(cpu), bp = cpu->gpr[X86_RBP] & mask;
    uint64_t lin, v;

    if (stack_lin(in, bp, o->size, false, &lin) ||
        mem_ld(in, lin, o->size, X86_LIN_STACK, &v))
        return X86_FAULT;
    cpu->gpr[X86_RSP] = (cpu->gpr[X86_RSP] & ~mask) | ((bp + o->size) & mask);
    reg_wr(cpu, X86_RBP, o->size, v);
    return OP_NEXT;
}
