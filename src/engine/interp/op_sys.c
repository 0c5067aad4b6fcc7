// SPDX-License-Identifier: Apache-2.0
/*
 * System instructions that move control, debug and table registers, flags and
 * TLB contents: operands here, meaning in cpu/x86. Source: Intel SDM vol. 2.
 */
#include "engine/interp/ops.h"

#include "cpu/x86/control.h"

/* ---- control and debug registers ---- */

int op_mov_cr(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0], *s = &o->insn->opnd[1];
    unsigned size = in->mode64 ? 8 : 4;
    struct x86_cpu *cpu = in->cpu;
    uint64_t v;

    if (d->kind == X86_OPND_GPR) {
        if (x86_mov_from_cr(cpu, s->reg, &v))
            return X86_FAULT;
        reg_wr(cpu, d->reg, size, v);
        return OP_NEXT;
    }
    sys_begin(in);
    if (x86_mov_to_cr(cpu, d->reg, reg_rd(cpu, s->reg, size)))
        return X86_FAULT;
    return sys_end(in, OP_STOP);
}

int op_mov_dr(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0], *s = &o->insn->opnd[1];
    unsigned size = in->mode64 ? 8 : 4;
    struct x86_cpu *cpu = in->cpu;
    uint64_t v;

    if (d->kind == X86_OPND_GPR) {
        if (x86_mov_from_dr(cpu, s->reg, &v))
            return X86_FAULT;
        reg_wr(cpu, d->reg, size, v);
        return OP_NEXT;
    }
    if (x86_mov_to_dr(cpu, d->reg, reg_rd(cpu, s->reg, size)))
        return X86_FAULT;
    return sys_end(in, OP_STOP);
}

int op_lmsw(struct interp *in, const struct op *o)
{
    uint64_t v;

    if (opnd_rd(in, o, 0, &v) || x86_lmsw(in->cpu, (uint16_t)v))
        return X86_FAULT;
    return sys_end(in, OP_STOP);
}

int op_smsw(struct interp *in, const struct op *o)
{
    uint64_t v;

    if (x86_smsw(in->cpu, &v))
        return X86_FAULT;
    return opnd_wr(in, o, 0, v);
}

int op_clts(struct interp *in, const struct op *o)
{
    (void)o;
    if (x86_clts(in->cpu))
        return X86_FAULT;
    return sys_end(in, OP_STOP);
}

/* ---- descriptor table registers ---- */

/* SGDT, SIDT: limit, then base of 4 or 8 bytes. */
int op_sgdt(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    const struct x86_dtr *t =
        o->insn->op == X86_OP_SGDT ? &cpu->gdtr : &cpu->idtr;
    unsigned n = in->mode64 ? 10 : 6;
    uint8_t buf[10];
    uint64_t lin;

    memcpy(buf, &t->limit, 2);
    memcpy(buf + 2, &t->base, 8);
    if (x86_umip_check(cpu) || op_lin(in, o, n, true, &lin) ||
        x86_lin_write(cpu, lin, buf, n, op_lin_flags(o)))
        return X86_FAULT;
    return OP_STOP;
}

int op_lgdt(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    struct x86_dtr *t = o->insn->op == X86_OP_LGDT ? &cpu->gdtr : &cpu->idtr;
    unsigned n = in->mode64 ? 10 : 6;
    uint8_t buf[10] = {0};
    uint64_t lin, base;

    if (op_lin(in, o, n, false, &lin) ||
        x86_lin_read(cpu, lin, buf, n, op_lin_flags(o)))
        return X86_FAULT;
    memcpy(&base, buf + 2, 8);
    if (in->mode64 && !x86_canonical(base))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    if (!in->mode64 && o->size == 2)
        base &= 0xffffff;
    memcpy(&t->limit, buf, 2);
    t->base = base;
    return sys_end(in, OP_STOP);
}

/* SLDT, STR */
int op_sldt(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;

    if (x86_umip_check(cpu))
        return X86_FAULT;
    return opnd_wr(in, o, 0,
                   o->insn->op == X86_OP_SLDT ? cpu->ldtr.sel : cpu->tr.sel);
}

/* LLDT, LTR */
int op_lldt(struct interp *in, const struct op *o)
{
    uint64_t v;

    if (opnd_rd(in, o, 0, &v))
        return X86_FAULT;
    if (o->insn->op == X86_OP_LLDT ? x86_lldt(in->cpu, (uint16_t)v)
                                   : x86_ltr(in->cpu, (uint16_t)v))
        return X86_FAULT;
    return sys_end(in, OP_STOP);
}

static void zf_put(struct x86_cpu *cpu, bool on)
{
    cpu->rflags = on ? cpu->rflags | X86_FL_ZF : cpu->rflags & ~X86_FL_ZF;
}

/* VERR, VERW */
int op_ver(struct interp *in, const struct op *o)
{
    uint64_t v;
    bool ok;

    if (opnd_rd(in, o, 0, &v) ||
        x86_verx(in->cpu, (uint16_t)v, o->insn->op == X86_OP_VERW, &ok))
        return X86_FAULT;
    zf_put(in->cpu, ok);
    return OP_NEXT;
}

/* LAR, LSL: the source is a selector, 16 bits of memory or register. */
int op_lar(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    uint32_t out;
    uint64_t v;
    bool ok;

    if (opnd_rd(in, o, 1, &v))
        return X86_FAULT;
    if (o->insn->op == X86_OP_LAR ? x86_lar(in->cpu, (uint16_t)v, &out, &ok)
                                  : x86_lsl(in->cpu, (uint16_t)v, &out, &ok))
        return X86_FAULT;
    if (ok)
        reg_wr(in->cpu, d->reg, d->size, out);
    zf_put(in->cpu, ok);
    return OP_NEXT;
}

/* ---- TLB, caches, XCR0 ---- */

int op_invlpg(struct interp *in, const struct op *o)
{
    uint64_t lin = op_off(in, o);

    if (!in->mode64 || o->seg >= X86_SEG_FS)
        lin += in->cpu->seg[o->seg].base;
    if (x86_invlpg(in->cpu, in->mode64 ? lin : (uint32_t)lin))
        return X86_FAULT;
    return OP_STOP;
}

int op_invpcid(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t type = reg_rd(cpu, o->insn->opnd[0].reg, in->mode64 ? 8 : 4);
    uint64_t desc[2], lin;

    if (op_lin(in, o, 16, false, &lin) ||
        x86_lin_read(cpu, lin, desc, 16, op_lin_flags(o)) ||
        x86_invpcid(cpu, type, desc))
        return X86_FAULT;
    return OP_STOP;
}

/* WBINVD, INVD: guest memory is coherent. */
int op_wbinvd(struct interp *in, const struct op *o)
{
    (void)o;
    return x86_wbinvd(in->cpu);
}

int op_xgetbv(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t v;

    (void)o;
    if (x86_xgetbv(cpu, (uint32_t)cpu->gpr[X86_RCX], &v))
        return X86_FAULT;
    cpu->gpr[X86_RAX] = (uint32_t)v;
    cpu->gpr[X86_RDX] = v >> 32;
    return OP_NEXT;
}

int op_xsetbv(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t v = cpu->gpr[X86_RDX] << 32 | (uint32_t)cpu->gpr[X86_RAX];

    (void)o;
    if (x86_xsetbv(cpu, (uint32_t)cpu->gpr[X86_RCX], v))
        return X86_FAULT;
    return sys_end(in, OP_STOP);
}

int op_swapgs(struct interp *in, const struct op *o)
{
    (void)o;
    return x86_swapgs(in->cpu);
}

int op_hlt(struct interp *in, const struct op *o)
{
    (void)o;
    if (x86_hlt(in->cpu))
        return X86_FAULT;
    return sys_end(in, OP_STOP);
}

/* ---- IF and AC ---- */

/* v8086 mode needs IOPL 3, protected mode CPL <= IOPL; PVI and VME are not
 * shown to the guest. */
static int if_check(struct x86_cpu *cpu)
{
    unsigned iopl = (unsigned)(cpu->rflags >> 12) & 3;
    unsigned cpl = cpu->rflags & X86_FL_VM ? 3 : cpu->cpl;

    if (cpl > iopl)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    return 0;
}

int op_cli(struct interp *in, const struct op *o)
{
    (void)o;
    if (if_check(in->cpu))
        return X86_FAULT;
    in->cpu->rflags &= ~X86_FL_IF;
    return OP_NEXT;
}

/* The shadow comes only when IF was clear. */
int op_sti(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;

    (void)o;
    if (if_check(cpu))
        return X86_FAULT;
    if (cpu->rflags & X86_FL_IF)
        return OP_NEXT;
    cpu->rflags |= X86_FL_IF;
    cpu->shadow = X86_SHADOW_STI;
    in->check = true;
    return OP_STOP;
}

/* CLAC, STAC; CPL was checked by the gate. */
int op_clac(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;

    if (o->insn->op == X86_OP_STAC)
        cpu->rflags |= X86_FL_AC;
    else
        cpu->rflags &= ~X86_FL_AC;
    interp_mode_update(in);
    return OP_NEXT;
}
