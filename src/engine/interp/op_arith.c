// SPDX-License-Identifier: Apache-2.0
/*
 * Two- and one-operand arithmetic, shifts, exchanges and compare-exchanges, in
 * every operand shape, locked or not. Source: Intel SDM vol. 2, vol. 3A 8.1.
 */
#include "engine/interp/ops.h"

#include "vm/mem.h"

/* ---- which host instruction a mnemonic is ---- */

static uint64_t un_inc(uint64_t a, uint64_t b, unsigned size, uint32_t *fl)
{
    (void)b;
    return alu_inc(a, size, fl);
}

static uint64_t un_dec(uint64_t a, uint64_t b, unsigned size, uint32_t *fl)
{
    (void)b;
    return alu_dec(a, size, fl);
}

static uint64_t un_neg(uint64_t a, uint64_t b, unsigned size, uint32_t *fl)
{
    (void)b;
    return alu_neg(a, size, fl);
}

static uint64_t un_not(uint64_t a, uint64_t b, unsigned size, uint32_t *fl)
{
    (void)b;
    (void)size;
    (void)fl;
    return ~a;
}

static alu2_fn alu2_of(unsigned op)
{
    static const alu2_fn fn[X86_OP_COUNT] = {
        [X86_OP_ADD] = alu_add, [X86_OP_OR] = alu_or,   [X86_OP_ADC] = alu_adc,
        [X86_OP_SBB] = alu_sbb, [X86_OP_AND] = alu_and, [X86_OP_SUB] = alu_sub,
        [X86_OP_XOR] = alu_xor, [X86_OP_ROL] = alu_rol, [X86_OP_ROR] = alu_ror,
        [X86_OP_RCL] = alu_rcl, [X86_OP_RCR] = alu_rcr, [X86_OP_SHL] = alu_shl,
        [X86_OP_SHR] = alu_shr, [X86_OP_SAR] = alu_sar, [X86_OP_INC] = un_inc,
        [X86_OP_DEC] = un_dec,  [X86_OP_NEG] = un_neg,  [X86_OP_NOT] = un_not,
    };

    return fn[op];
}

/* ---- destination op= source ---- */

static int rmw_mem(struct interp *in, const struct op *o, alu2_fn f, uint64_t b,
                   unsigned size)
{
    struct x86_cpu *cpu = in->cpu;
    unsigned flags = op_lin_flags(o) | (is_locked(o) ? RMW_LOCK : 0);
    uint32_t fl;
    uint64_t lin, old, v;
    struct rmw m;
    int r;

    if (op_lin(in, o, size, true, &lin) || rmw_open(in, lin, size, flags, &m))
        return X86_FAULT;
    old = rmw_read(in, &m);
    do {
        fl = fl_pack(cpu->rflags);
        v = f(old, b, size, &fl) & size_mask(size);
        if (!is_locked(o)) {
            r = rmw_write(in, &m, v);
            break;
        }
    } while (!rmw_cas(in, &m, &old, v, &r));
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return r;
}

static int rmw_any(struct interp *in, const struct op *o, uint64_t b)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    alu2_fn f = alu2_of(o->insn->op);
    struct x86_cpu *cpu = in->cpu;
    uint32_t fl = fl_pack(cpu->rflags);
    unsigned reg = opnd_reg(d);

    if (d->kind != X86_OPND_GPR)
        return rmw_mem(in, o, f, b, d->size);
    reg_wr(cpu, reg, d->size, f(reg_rd(cpu, reg, d->size), b, d->size, &fl));
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

int op_rmw2(struct interp *in, const struct op *o)
{
    uint64_t b;

    if (opnd_rd(in, o, 1, &b))
        return X86_FAULT;
    return rmw_any(in, o, b);
}

/* ROL and ROR of a register by an immediate other than 1 leave OF as it is
 * (observed on Intel; SDM vol. 2: undefined), those of memory or by CL don't.
 */
int op_rotate(struct interp *in, const struct op *o)
{
    const struct x86_insn *i = o->insn;
    uint64_t n = i->imm & (i->opnd[0].size == 8 ? 63 : 31);
    uint64_t of = in->cpu->rflags & X86_FL_OF;
    bool imm =
        i->opnd[0].kind == X86_OPND_GPR && i->opnd[1].kind == X86_OPND_IMM;
    int r = op_rmw2(in, o);

    if (r >= 0 && imm && n != 1)
        in->cpu->rflags = (in->cpu->rflags & ~X86_FL_OF) | of;
    return r;
}

int op_rmw1(struct interp *in, const struct op *o)
{
    return rmw_any(in, o, 0);
}

static int compare(struct interp *in, const struct op *o, alu2_fn f)
{
    struct x86_cpu *cpu = in->cpu;
    uint32_t fl;
    uint64_t a, b;

    if (opnd_rd(in, o, 0, &a) || opnd_rd(in, o, 1, &b))
        return X86_FAULT;
    f(a, b, o->insn->opnd[0].size, &fl);
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

int op_cmp(struct interp *in, const struct op *o)
{
    return compare(in, o, alu_sub);
}

int op_test(struct interp *in, const struct op *o)
{
    return compare(in, o, alu_and);
}

/* ---- exchanges ---- */

int op_xadd(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0], *s = &o->insn->opnd[1];
    unsigned size = d->size, dr = opnd_reg(d), sr = opnd_reg(s);
    unsigned flags = op_lin_flags(o) | (is_locked(o) ? RMW_LOCK : 0);
    struct x86_cpu *cpu = in->cpu;
    uint64_t b = reg_rd(cpu, sr, size), lin, old, v;
    uint32_t fl;
    struct rmw m;
    int r = OP_NEXT;

    if (d->kind == X86_OPND_GPR) {
        old = reg_rd(cpu, dr, size);
        v = alu_add(old, b, size, &fl);
        reg_wr(cpu, sr, size, old);
        reg_wr(cpu, dr, size, v);
        cpu->rflags = fl_merge(cpu->rflags, fl);
        return OP_NEXT;
    }
    if (op_lin(in, o, size, true, &lin) || rmw_open(in, lin, size, flags, &m))
        return X86_FAULT;
    old = rmw_read(in, &m);
    do {
        v = alu_add(old, b, size, &fl) & size_mask(size);
        if (!is_locked(o)) {
            r = rmw_write(in, &m, v);
            break;
        }
    } while (!rmw_cas(in, &m, &old, v, &r));
    reg_wr(cpu, sr, size, old);
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return r;
}

/* With memory XCHG is locked whether it says so or not. */
int op_xchg(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0], *s = &o->insn->opnd[1];
    unsigned size = d->size, dr = opnd_reg(d), sr = opnd_reg(s);
    struct x86_cpu *cpu = in->cpu;
    uint64_t b = reg_rd(cpu, sr, size), lin, old;
    struct rmw m;
    int r;

    if (d->kind == X86_OPND_GPR) {
        old = reg_rd(cpu, dr, size);
        reg_wr(cpu, dr, size, b);
        reg_wr(cpu, sr, size, old);
        return OP_NEXT;
    }
    if (op_lin(in, o, size, true, &lin) ||
        rmw_open(in, lin, size, op_lin_flags(o) | RMW_LOCK, &m))
        return X86_FAULT;
    old = rmw_read(in, &m);
    while (!rmw_cas(in, &m, &old, b, &r))
        ;
    reg_wr(cpu, sr, size, old);
    return r;
}

/* ---- compare-exchanges ---- */

/* Register destination. A 32-bit one that is not equal keeps its upper half
 * (observed: Sapphire Rapids). */
static int cmpxchg_reg(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0], *s = &o->insn->opnd[1];
    unsigned size = d->size, dr = opnd_reg(d), sr = opnd_reg(s);
    struct x86_cpu *cpu = in->cpu;
    uint64_t acc = reg_rd(cpu, X86_RAX, size), old = reg_rd(cpu, dr, size);
    uint64_t src = reg_rd(cpu, sr, size);
    uint32_t fl;

    alu_sub(acc, old, size, &fl);
    cpu->rflags = fl_merge(cpu->rflags, fl);
    if (acc == old)
        reg_wr(cpu, dr, size, src);
    else
        reg_wr(cpu, X86_RAX, size, old);
    return OP_NEXT;
}

int op_cmpxchg(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0], *s = &o->insn->opnd[1];
    unsigned flags = op_lin_flags(o) | (is_locked(o) ? RMW_LOCK : 0);
    struct x86_cpu *cpu = in->cpu;
    unsigned size = d->size;
    uint64_t lin, old, acc, src;
    uint32_t fl;
    struct rmw m;
    int r = OP_NEXT;

    if (d->kind == X86_OPND_GPR)
        return cmpxchg_reg(in, o);
    acc = reg_rd(cpu, X86_RAX, size);
    src = reg_rd(cpu, opnd_reg(s), size);
    if (op_lin(in, o, size, true, &lin) || rmw_open(in, lin, size, flags, &m))
        return X86_FAULT;
    old = rmw_read(in, &m);
    while (old == acc) {
        if (!is_locked(o)) {
            r = rmw_write(in, &m, src);
            break;
        }
        if (rmw_cas(in, &m, &old, src, &r))
            break;
    }
    alu_sub(acc, old, size, &fl);
    cpu->rflags = fl_merge(cpu->rflags, fl);
    if (old != acc) {
        rmw_close(in, &m);
        reg_wr(cpu, X86_RAX, size, old);
    }
    return r;
}

int op_cmpxchg8b(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    unsigned flags = op_lin_flags(o) | (is_locked(o) ? RMW_LOCK : 0);
    uint64_t acc = cpu->gpr[X86_RDX] << 32 | (uint32_t)cpu->gpr[X86_RAX];
    uint64_t src = cpu->gpr[X86_RCX] << 32 | (uint32_t)cpu->gpr[X86_RBX];
    uint64_t lin, old;
    struct rmw m;
    int r = OP_NEXT;

    if (op_lin(in, o, 8, true, &lin) || rmw_open(in, lin, 8, flags, &m))
        return X86_FAULT;
    old = rmw_read(in, &m);
    while (old == acc && !rmw_cas(in, &m, &old, src, &r))
        ;
    if (old == acc) {
        cpu->rflags |= X86_FL_ZF;
        return r;
    }
    rmw_close(in, &m);
    cpu->rflags &= ~X86_FL_ZF;
    cpu->gpr[X86_RAX] = (uint32_t)old;
    cpu->gpr[X86_RDX] = old >> 32;
    return r;
}

/* *old: what to compare with, then what was found. */
static bool host_cas16(uint8_t *p, uint64_t old[2], const uint64_t val[2])
{
    bool ok;

    asm volatile("lock cmpxchg16b %[m]"
                 : [m] "+m"(*(unsigned __int128 *)(void *)p), "+a"(old[0]),
                   "+d"(old[1]), "=@ccz"(ok)
                 : "b"(val[0]), "c"(val[1])
                 : "memory");
    return ok;
}

int op_cmpxchg16b(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t old[2] = {cpu->gpr[X86_RAX], cpu->gpr[X86_RDX]}, lin;
    const uint64_t val[2] = {cpu->gpr[X86_RBX], cpu->gpr[X86_RCX]};
    struct mem_iov iov;
    struct rmw m;
    bool ok;
    int r = OP_NEXT;

    if (op_lin(in, o, 16, true, &lin))
        return X86_FAULT;
    if (lin & 15)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    if (rmw_open(in, lin, 16, op_lin_flags(o), &m))
        return X86_FAULT;
    if (!m.host)
        return x86_raise_err(cpu, X86_VEC_GP, 0); /* no device takes this */
    if ((uint8_t *)((uintptr_t)m.host & PAGE_MASK) == in->code_page)
        r = OP_STOP;
    if (!m.watched) {
        ok = host_cas16(m.host, old, val);
    } else {
        if (mem_get(cpu->vm->mem, m.gpa, 16, MEM_WRITE, &iov, 1) != 1)
            return x86_raise_err(cpu, X86_VEC_GP, 0);
        ok = host_cas16(iov.hva, old, val);
        interp_leave(in);
        mem_put(cpu->vm->mem, &iov, 1, ok);
        interp_enter(in);
    }
    if (ok) {
        cpu->rflags |= X86_FL_ZF;
        return r;
    }
    cpu->rflags &= ~X86_FL_ZF;
    cpu->gpr[X86_RAX] = old[0];
    cpu->gpr[X86_RDX] = old[1];
    return r;
}
