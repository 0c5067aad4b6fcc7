// SPDX-License-Identifier: Apache-2.0
/*
 * The instructions' handlers and what they share. Each takes any operand shape
 * of its mnemonic from the full decode; op_fast() has quicker ones for the
 * frequent shapes. A handler that returns X86_FAULT has changed nothing.
 */
#ifndef DOPPEL_ENGINE_INTERP_OPS_H
#define DOPPEL_ENGINE_INTERP_OPS_H

#include "engine/interp/access.h"
#include "engine/interp/alu.h"

/* clang-format off */
#define OP_LIST(H)                                                             \
    /* select.c */                                                             \
    H(raise_ud) H(raise_gp) H(gated) H(nop) H(vec)                             \
    /* op_arith.c */                                                           \
    H(rmw2) H(rotate) H(rmw1) H(cmp) H(test) H(xadd) H(xchg) H(cmpxchg) H(cmpxchg8b)     \
    H(cmpxchg16b)                                                              \
    /* op_muldiv.c */                                                          \
    H(mul) H(imul) H(div) H(idiv) H(aam) H(aad) H(aaa) H(aas) H(daa) H(das)    \
    /* op_bit.c */                                                             \
    H(bt) H(bit_scan) H(shd) H(bmi2src) H(bls) H(rorx) H(shiftx) H(mulx)       \
    H(adx) H(crc32)                                                            \
    /* op_mov.c */                                                             \
    H(mov) H(movzx) H(movsx) H(movbe) H(cmov) H(setcc) H(lea) H(bswap)         \
    H(xlat) H(cbw) H(cwd) H(lahf) H(sahf) H(flag) H(salc) H(mov_sreg)          \
    H(mov_from_sreg) H(load_far) H(bound) H(arpl) H(movdir64b)                 \
    /* op_stack.c */                                                           \
    H(push) H(pop) H(pusha) H(popa) H(pushf) H(popf) H(enter) H(leave)         \
    /* op_branch.c */                                                          \
    H(jcc) H(jcxz) H(loop) H(jmp) H(call) H(ret) H(jmpf) H(callf) H(retf)      \
    H(int_n) H(int3) H(int1) H(into) H(iret)                                   \
    H(syscall) H(sysret) H(sysenter) H(sysexit)                                \
    /* op_string.c, op_strcmp.c, op_io.c */                                    \
    H(movs) H(stos) H(lods) H(cmps) H(scas) H(ins) H(outs) H(in) H(out)        \
    /* op_sys.c */                                                             \
    H(mov_cr) H(mov_dr) H(lmsw) H(smsw) H(clts) H(sgdt) H(lgdt) H(sldt)        \
    H(lldt) H(ver) H(lar) H(invlpg) H(invpcid) H(wbinvd) H(xgetbv) H(xsetbv)   \
    H(swapgs) H(hlt) H(cli) H(sti) H(clac)                                     \
    /* op_misc.c */                                                            \
    H(cpuid) H(rdtsc) H(rdtscp) H(rdpid) H(rdpmc) H(rdmsr) H(wrmsr)            \
    H(rdrand) H(fsgsbase) H(clflush) H(fence) H(pause) H(pkru)
/* clang-format on */

#define H(name) int op_##name(struct interp *in, const struct op *o);
OP_LIST(H)
#undef H

/* In op.cc of what has no condition: the CPUID feature is missing and the
 * instruction runs as its older namesake (XA_ALTIF). */
#define OP_ALT 0xff

/* Before an instruction that looks at time or devices. */
static inline void sys_begin(struct interp *in)
{
    if (UNLIKELY(in->vclock))
        interp_clock_sync(in);
}

/* After one that may have changed mode, flags, timers or interrupts.
 * Return: @r. */
static inline int sys_end(struct interp *in, int r)
{
    interp_mode_update(in);
    in->check = true;
    if (UNLIKELY(in->vclock))
        in->stop_at = 0;
    return r;
}

static ALWAYS_INLINE unsigned opnd_reg(const struct x86_opnd *p)
{
    return p->reg | (p->high ? REG_HIGH : 0);
}

/** opnd_rd() - read operand @i (register, memory, immediate, 1), zero-extended
 * to its size. Return: 0 or X86_FAULT. */
static ALWAYS_INLINE int opnd_rd(struct interp *in, const struct op *o,
                                 unsigned i, uint64_t *v)
{
    const struct x86_opnd *p = &o->insn->opnd[i];
    uint64_t lin;

    switch (p->kind) {
    case X86_OPND_GPR:
        *v = reg_rd(in->cpu, opnd_reg(p), p->size);
        return 0;
    case X86_OPND_IMM:
        *v = o->insn->imm;
        return 0;
    case X86_OPND_ONE:
        *v = 1;
        return 0;
    default:
        if (op_lin(in, o, p->size, false, &lin))
            return X86_FAULT;
        return mem_ld(in, lin, p->size, op_lin_flags(o), v);
    }
}

/** opnd_wr() - write operand @i (register, memory). Return: as mem_st. */
static ALWAYS_INLINE int opnd_wr(struct interp *in, const struct op *o,
                                 unsigned i, uint64_t v)
{
    const struct x86_opnd *p = &o->insn->opnd[i];
    uint64_t lin;

    if (p->kind == X86_OPND_GPR) {
        reg_wr(in->cpu, opnd_reg(p), p->size, v);
        return 0;
    }
    if (op_lin(in, o, p->size, true, &lin))
        return X86_FAULT;
    return mem_st(in, lin, p->size, op_lin_flags(o), v);
}

static ALWAYS_INLINE bool is_locked(const struct op *o)
{
    return (o->insn->prefix & X86_PFX_LOCK) != 0;
}

#endif
