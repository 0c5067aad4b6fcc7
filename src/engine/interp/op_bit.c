// SPDX-License-Identifier: Apache-2.0
/*
 * Bit tests and scans, double shifts, BMI1, BMI2, ADX, CRC32.
 * Source: Intel SDM vol. 2.
 */
#include "engine/interp/ops.h"

/* ---- BT BTS BTR BTC ---- */

static alu2_fn bt_fn(unsigned op)
{
    switch (op) {
    case X86_OP_BTS:
        return alu_bts;
    case X86_OP_BTR:
        return alu_btr;
    case X86_OP_BTC:
        return alu_btc;
    default:
        return alu_bt;
    }
}

/* A register bit index reaches past the operand: the access is to the operand
 * that holds the bit. */
static int bt_lin(struct interp *in, const struct op *o, unsigned size,
                  uint64_t b, bool write, uint64_t *lin)
{
    unsigned shift = size == 8 ? 6 : size == 4 ? 5 : 4;
    int64_t index = bits_sext(b, size * 8) >> shift;
    uint64_t off = op_off(in, o) + (uint64_t)index * size;

    return op_lin_at(in, o, off & size_mask(o->adsize), size, write, lin);
}

int op_bt(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    bool write = o->insn->op != X86_OP_BT;
    alu2_fn f = bt_fn(o->insn->op);
    struct x86_cpu *cpu = in->cpu;
    unsigned size = d->size;
    unsigned flags = op_lin_flags(o) | (is_locked(o) ? RMW_LOCK : 0);
    uint64_t b, lin, old, v;
    uint32_t fl = fl_pack(cpu->rflags), keep = fl;
    struct rmw m;
    int r = OP_NEXT;

    (void)opnd_rd(in, o, 1, &b); /* register or immediate */
    if (d->kind == X86_OPND_GPR) {
        v = f(reg_rd(cpu, d->reg, size), b & (size * 8 - 1), size, &fl);
        if (write)
            reg_wr(cpu, d->reg, size, v);
        cpu->rflags = fl_merge(cpu->rflags, fl);
        return OP_NEXT;
    }
    if (o->insn->opnd[1].kind != X86_OPND_GPR)
        r = op_lin(in, o, size, write, &lin);
    else
        r = bt_lin(in, o, size, b, write, &lin);
    if (r)
        return r;
    b &= size * 8 - 1;
    if (!write) {
        if (mem_ld(in, lin, size, flags, &old))
            return X86_FAULT;
        alu_bt(old, b, size, &fl);
        cpu->rflags = fl_merge(cpu->rflags, fl);
        return OP_NEXT;
    }
    if (rmw_open(in, lin, size, flags, &m))
        return X86_FAULT;
    old = rmw_read(in, &m);
    do {
        fl = keep;
        v = f(old, b, size, &fl) & size_mask(size);
        if (!is_locked(o)) {
            r = rmw_write(in, &m, v);
            break;
        }
    } while (!rmw_cas(in, &m, &old, v, &r));
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return r;
}

/* ---- scans and counts: register destination, its old value matters ---- */

static alu2_fn scan_fn(unsigned op)
{
    switch (op) {
    case X86_OP_BSF:
        return alu_bsf;
    case X86_OP_BSR:
        return alu_bsr;
    case X86_OP_TZCNT:
        return alu_tzcnt;
    case X86_OP_LZCNT:
        return alu_lzcnt;
    default:
        return alu_popcnt;
    }
}

/* TZCNT and LZCNT without their CPUID bit run as BSF and BSR: the choice was
 * made at decode time, by o->cc. */
int op_bit_scan(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    struct x86_cpu *cpu = in->cpu;
    unsigned op = o->insn->op;
    uint32_t fl = fl_pack(cpu->rflags);
    uint64_t b, v;

    if (opnd_rd(in, o, 1, &b))
        return X86_FAULT;
    if (o->cc == OP_ALT)
        op = op == X86_OP_TZCNT ? X86_OP_BSF : X86_OP_BSR;
    v = scan_fn(op)(cpu->gpr[d->reg], b, d->size, &fl);
    if (d->size == 4 && (op == X86_OP_BSF || op == X86_OP_BSR) && !b)
        cpu->gpr[d->reg] = v; /* the host's way with the upper half */
    else
        reg_wr(cpu, d->reg, d->size, v);
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

/* ---- SHLD SHRD ---- */

int op_shd(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    struct x86_cpu *cpu = in->cpu;
    unsigned size = d->size, n;
    uint64_t b = reg_rd(cpu, o->insn->opnd[1].reg, size), c, lin, old;
    uint32_t fl = fl_pack(cpu->rflags);
    bool left = o->insn->op == X86_OP_SHLD;
    struct rmw m;
    int r;

    (void)opnd_rd(in, o, 2, &c); /* CL or immediate */
    n = (unsigned)c & 0xff;
    if (d->kind == X86_OPND_GPR) {
        old = reg_rd(cpu, d->reg, size);
        old = left ? alu_shld(old, b, n, size, &fl)
                   : alu_shrd(old, b, n, size, &fl);
        reg_wr(cpu, d->reg, size, old);
        cpu->rflags = fl_merge(cpu->rflags, fl);
        return OP_NEXT;
    }
    if (op_lin(in, o, size, true, &lin) ||
        rmw_open(in, lin, size, op_lin_flags(o), &m))
        return X86_FAULT;
    old = rmw_read(in, &m);
    old =
        left ? alu_shld(old, b, n, size, &fl) : alu_shrd(old, b, n, size, &fl);
    r = rmw_write(in, &m, old & size_mask(size));
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return r;
}

/* ---- BMI ---- */

static alu2_fn bmi_fn(unsigned op)
{
    switch (op) {
    case X86_OP_ANDN:
        return alu_andn;
    case X86_OP_BEXTR:
        return alu_bextr;
    case X86_OP_BZHI:
        return alu_bzhi;
    case X86_OP_PDEP:
        return alu_pdep;
    case X86_OP_PEXT:
        return alu_pext;
    case X86_OP_BLSR:
        return alu_blsr;
    case X86_OP_BLSMSK:
        return alu_blsmsk;
    default:
        return alu_blsi;
    }
}

int op_bmi2src(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    struct x86_cpu *cpu = in->cpu;
    uint32_t fl = fl_pack(cpu->rflags);
    uint64_t a, b;

    if (opnd_rd(in, o, 1, &a) || opnd_rd(in, o, 2, &b))
        return X86_FAULT;
    reg_wr(cpu, d->reg, d->size, bmi_fn(o->insn->op)(a, b, d->size, &fl));
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

int op_bls(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    struct x86_cpu *cpu = in->cpu;
    uint32_t fl = fl_pack(cpu->rflags);
    uint64_t b;

    if (opnd_rd(in, o, 1, &b))
        return X86_FAULT;
    reg_wr(cpu, d->reg, d->size, bmi_fn(o->insn->op)(0, b, d->size, &fl));
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

int op_rorx(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    uint32_t fl = 0;
    uint64_t a;

    if (opnd_rd(in, o, 1, &a))
        return X86_FAULT;
    reg_wr(in->cpu, d->reg, d->size,
           alu_ror(a, o->insn->imm & 0xff, d->size, &fl));
    return OP_NEXT;
}

int op_shiftx(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    uint32_t fl = 0;
    uint64_t a, n;

    if (opnd_rd(in, o, 1, &a) || opnd_rd(in, o, 2, &n))
        return X86_FAULT;
    n &= 0xff;
    if (o->insn->op == X86_OP_SHLX)
        a = alu_shl(a, n, d->size, &fl);
    else if (o->insn->op == X86_OP_SHRX)
        a = alu_shr(a, n, d->size, &fl);
    else
        a = alu_sar(a, n, d->size, &fl);
    reg_wr(in->cpu, d->reg, d->size, a);
    return OP_NEXT;
}

/* With both destinations the same register the upper half stays. */
int op_mulx(struct interp *in, const struct op *o)
{
    const struct x86_insn *insn = o->insn;
    struct x86_cpu *cpu = in->cpu;
    unsigned size = insn->opnd[0].size;
    uint64_t lo = cpu->gpr[X86_RDX], hi = 0, b;
    uint32_t fl = 0;

    if (opnd_rd(in, o, 2, &b))
        return X86_FAULT;
    alu_mul(&lo, &hi, b, size, &fl);
    reg_wr(cpu, insn->opnd[1].reg, size, lo);
    reg_wr(cpu, insn->opnd[0].reg, size, hi);
    return OP_NEXT;
}

/* ---- ADCX ADOX CRC32 ---- */

int op_adx(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    struct x86_cpu *cpu = in->cpu;
    uint32_t fl = fl_pack(cpu->rflags);
    uint64_t a = reg_rd(cpu, d->reg, d->size), b;

    if (opnd_rd(in, o, 1, &b))
        return X86_FAULT;
    a = o->insn->op == X86_OP_ADCX ? alu_adcx(a, b, d->size, &fl)
                                   : alu_adox(a, b, d->size, &fl);
    reg_wr(cpu, d->reg, d->size, a);
    cpu->rflags = fl_merge(cpu->rflags, fl);
    return OP_NEXT;
}

int op_crc32(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0], *s = &o->insn->opnd[1];
    struct x86_cpu *cpu = in->cpu;
    uint64_t b;

    if (opnd_rd(in, o, 1, &b))
        return X86_FAULT;
    reg_wr(cpu, d->reg, d->size, alu_crc32(cpu->gpr[d->reg], b, s->size, NULL));
    return OP_NEXT;
}
