// SPDX-License-Identifier: Apache-2.0
/*
 * FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC, XRSTOR, LDMXCSR, STMXCSR, VZERO*,
 * in C on cpu->xsave. Only x87, SSE and AVX state exists here, whatever else
 * the host has. Whether a component is in its initial state (XINUSE) is seen
 * from its contents. XSAVEOPT leaves out what is initial, not what is
 * unmodified. Source: Intel SDM vol. 1 10.5 and 13.4-13.11, vol. 2.
 */
#include "engine/interp/vec_int.h"

#include "cpu/x86/exceptions.h"

#define COMPS      (X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX)
#define XS_HDR_LEN 64
#define XS_AVX     X86_XSAVE_AVX_OFFSET
#define XCOMP_BIT  BIT(63)

/* XMM registers that the mode can name. */
static unsigned nregs(const struct x86_cpu *cpu)
{
    return x86_mode(cpu) == X86_MODE_64 ? 16 : 8;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    uint8_t any = 0;

    for (size_t i = 0; i < n; i++)
        any |= p[i];
    return !any;
}

static bool x87_initial(const uint8_t *b)
{
    return fx_get16(b + FX_FCW) == 0x37f &&
           all_zero(b + FX_FSW, FX_MXCSR - FX_FSW) &&
           all_zero(b + FX_ST, FX_X87_BYTES - FX_ST);
}

/* XINUSE. Registers that the mode can't name count too. */
static uint64_t in_use(const struct x86_cpu *cpu)
{
    const uint8_t *b = cpu->xsave.b;
    uint64_t v = 0;

    v |= x87_initial(b) ? 0 : X86_XCR0_X87;
    v |= all_zero(b + FX_XMM, 256) ? 0 : X86_XCR0_SSE;
    v |= all_zero(b + XS_AVX, 256) ? 0 : X86_XCR0_AVX;
    return v;
}

/* After upper halves were zeroed or loaded. */
static void avx_track(struct x86_cpu *cpu)
{
    if (all_zero(cpu->xsave.b + XS_AVX, 256))
        cpu->xsave.b[XS_HDR] &= (uint8_t)~X86_XCR0_AVX;
    else
        vec_avx_used(cpu);
}

static void x87_init(uint8_t *b)
{
    memset(b, 0, FX_MXCSR);
    memset(b + FX_ST, 0, FX_X87_BYTES - FX_ST);
    fx_put16(b + FX_FCW, 0x37f);
}

/* The x87 part as it lies in memory: with REX.W the pointers are 64 bits wide,
 * else 32 and a selector, which is deprecated and zero. */
static void x87_to_mem(const struct x86_insn *insn, const uint8_t *b,
                       uint8_t *out)
{
    memcpy(out, b, FX_X87_BYTES);
    if (insn->opsize != 8) {
        fx_put32(out + FX_FIP + 4, 0);
        fx_put32(out + FX_FDP + 4, 0);
    }
    for (size_t i = 0; i < 8; i++)
        memset(out + FX_ST + 16 * i + 10, 0, 6);
    out[FX_FTW + 1] = 0;
}

static void x87_from_mem(const struct x86_insn *insn, const uint8_t *in,
                         uint8_t *b)
{
    memcpy(b, in, FX_MXCSR);
    memcpy(b + FX_ST, in + FX_ST, FX_X87_BYTES - FX_ST);
    if (insn->opsize != 8) {
        fx_put32(b + FX_FIP + 4, 0);
        fx_put32(b + FX_FDP + 4, 0);
    }
}

static void mxcsr_to_mem(const uint8_t *b, uint8_t *out)
{
    memcpy(out, b + FX_MXCSR, 4);
    fx_put32(out + 4, MXCSR_VALID);
}

/* One byte of the operand, its address cut to the address size. */
static int try_byte(struct x86_cpu *cpu, const struct x86_insn *insn,
                    size_t off, bool write)
{
    gva_t lin;

    if (vec_lin(cpu, insn, vec_ea(cpu, insn) + off, 1, write, &lin))
        return X86_FAULT;
    return vec_probe(cpu, insn, lin, 1, write);
}

/* The operand's linear address, aligned to @align: @len bytes. Its last byte is
 * tried, then the one at @first (SIZE_MAX: none), as observed on Intel; nothing
 * lies farther than one page boundary. */
static int area(struct x86_cpu *cpu, const struct x86_insn *insn, size_t len,
                unsigned align, bool write, size_t first, gva_t *lin)
{
    if (vec_lin(cpu, insn, vec_ea(cpu, insn), len, write, lin))
        return X86_FAULT;
    if (vec_align_check(cpu, insn, *lin, 4))
        return X86_FAULT;
    if (lin->v & (align - 1))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    if (insn->op == X86_OP_XRSTOR && try_byte(cpu, insn, XS_HDR + 8, false))
        return X86_FAULT;
    if (try_byte(cpu, insn, len - 1, write))
        return X86_FAULT;
    return first == SIZE_MAX ? 0 : try_byte(cpu, insn, first, write);
}

/* The first byte of the legacy region that XSAVE and XRSTOR touch. */
static size_t first_of(uint64_t rfbm)
{
    return rfbm & X86_XCR0_X87 ? 0 : rfbm ? FX_MXCSR : SIZE_MAX;
}

int vec_fxsave(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    uint8_t out[FX_XMM + 256];
    size_t len = FX_XMM + 16 * (size_t)nregs(cpu);
    gva_t lin;

    if (area(cpu, insn, FX_BYTES, 16, true, 0, &lin))
        return X86_FAULT;
    memcpy(out, cpu->xsave.b, sizeof(out));
    x87_to_mem(insn, cpu->xsave.b, out);
    mxcsr_to_mem(cpu->xsave.b, out + FX_MXCSR);
    return vec_write(cpu, insn, lin, out, len);
}

int vec_fxrstor(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    uint8_t in[FX_XMM + 256];
    size_t len = FX_XMM + 16 * (size_t)nregs(cpu);
    gva_t lin;

    if (area(cpu, insn, FX_BYTES, 16, false, 0, &lin) ||
        vec_read(cpu, insn, lin, in, len))
        return X86_FAULT;
    if (fx_get32(in + FX_MXCSR) & ~MXCSR_VALID)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    x87_from_mem(insn, in, cpu->xsave.b);
    memcpy(cpu->xsave.b + FX_MXCSR, in + FX_MXCSR, 4);
    memcpy(cpu->xsave.b + FX_XMM, in + FX_XMM, len - FX_XMM);
    vec_x87_canon(cpu);
    return 0;
}

/* --- XSAVE --- */

static uint64_t requested(const struct x86_cpu *cpu)
{
    uint64_t rfbm = (uint32_t)cpu->gpr[X86_RAX] | cpu->gpr[X86_RDX] << 32;

    return rfbm & cpu->xcr0 & COMPS;
}

/* A piece of the area: @len bytes of @p at @off. */
struct piece {
    size_t off, len;
    const uint8_t *p;
};

#define PIECES 6

/* What is written, by component. @data: components whose data goes out;
 * @mxcsr: MXCSR does. @img: filled, lives as long as the pieces. */
static unsigned pieces_make(struct x86_cpu *cpu, const struct x86_insn *insn,
                            uint64_t data, bool mxcsr, uint8_t *img,
                            struct piece *pc)
{
    const uint8_t *b = cpu->xsave.b;
    size_t regs = 16 * (size_t)nregs(cpu);
    unsigned n = 0;

    x87_to_mem(insn, b, img);
    mxcsr_to_mem(b, img + FX_MXCSR);
    if (data & X86_XCR0_X87) {
        pc[n++] = (struct piece){0, FX_MXCSR, img};
        pc[n++] = (struct piece){FX_ST, FX_X87_BYTES - FX_ST, img + FX_ST};
    }
    if (mxcsr)
        pc[n++] = (struct piece){FX_MXCSR, 8, img + FX_MXCSR};
    if (data & X86_XCR0_SSE)
        pc[n++] = (struct piece){FX_XMM, regs, b + FX_XMM};
    if (data & X86_XCR0_AVX)
        pc[n++] = (struct piece){XS_AVX, regs, b + XS_AVX};
    return n;
}

/* area() has found all of it writable. */
static int pieces_write(struct x86_cpu *cpu, const struct x86_insn *insn,
                        gva_t lin, const struct piece *pc, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (vec_write(cpu, insn, gva(lin.v + pc[i].off), pc[i].p, pc[i].len))
            return X86_FAULT;
    return 0;
}

static size_t area_len(uint64_t rfbm)
{
    return rfbm & X86_XCR0_AVX ? XS_AVX + 256 : XS_HDR + XS_HDR_LEN;
}

int vec_xsave(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    uint64_t rfbm = requested(cpu), use = in_use(cpu) & rfbm, hdr[2];
    bool compact = insn->op == X86_OP_XSAVEC;
    bool mxcsr = rfbm & (X86_XCR0_SSE | X86_XCR0_AVX);
    uint64_t data = insn->op == X86_OP_XSAVE ? rfbm : use;
    struct piece pc[PIECES];
    uint8_t img[FX_X87_BYTES];
    gva_t lin;

    if (area(cpu, insn, area_len(rfbm), 64, true, first_of(rfbm), &lin))
        return X86_FAULT;
    if (compact) {
        if ((rfbm & X86_XCR0_SSE) &&
            fx_get32(cpu->xsave.b + FX_MXCSR) != MXCSR_INIT)
            use |= X86_XCR0_SSE;
        data = use;
        mxcsr = data & X86_XCR0_SSE;
        hdr[0] = use;
        hdr[1] = XCOMP_BIT | rfbm;
    } else {
        if (vec_read(cpu, insn, gva(lin.v + XS_HDR), hdr, 8))
            return X86_FAULT;
        hdr[0] = (hdr[0] & ~rfbm) | use;
    }
    unsigned n = pieces_make(cpu, insn, data, mxcsr, img, pc);
    pc[n++] = (struct piece){XS_HDR, compact ? 16 : 8, (uint8_t *)hdr};
    return pieces_write(cpu, insn, lin, pc, n);
}

/* --- XRSTOR --- */

/* #GP conditions of the header (SDM vol. 1 13.8.1, 13.8.2). */
static bool header_ok(const struct x86_cpu *cpu, const uint64_t *h)
{
    uint64_t bv = h[0], comp = h[1];

    if (!(comp & XCOMP_BIT))
        return !(bv & ~cpu->xcr0) && comp == 0 && h[2] == 0;
    if (comp & ~XCOMP_BIT & ~cpu->xcr0)
        return false;
    if (bv & ~comp)
        return false;
    return all_zero((const uint8_t *)&h[2], XS_HDR_LEN - 16);
}

/* What XRSTOR reads, read before anything changes. */
struct xr {
    uint64_t rfbm, bv;
    bool mxcsr_load, mxcsr_init;
    uint8_t legacy[FX_XMM + 256], avx[256];
};

static int xr_read(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
                   struct xr *x)
{
    size_t regs = 16 * (size_t)nregs(cpu);
    uint64_t load = x->rfbm & x->bv;

    if ((load & X86_XCR0_X87) &&
        (vec_read(cpu, insn, lin, x->legacy, FX_MXCSR) ||
         vec_read(cpu, insn, gva(lin.v + FX_ST), x->legacy + FX_ST,
                  FX_X87_BYTES - FX_ST)))
        return X86_FAULT;
    if (x->mxcsr_load &&
        vec_read(cpu, insn, gva(lin.v + FX_MXCSR), x->legacy + FX_MXCSR, 4))
        return X86_FAULT;
    if ((load & X86_XCR0_SSE) &&
        vec_read(cpu, insn, gva(lin.v + FX_XMM), x->legacy + FX_XMM, regs))
        return X86_FAULT;
    if ((load & X86_XCR0_AVX) &&
        vec_read(cpu, insn, gva(lin.v + XS_AVX), x->avx, regs))
        return X86_FAULT;
    if (x->mxcsr_load && (fx_get32(x->legacy + FX_MXCSR) & ~MXCSR_VALID))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    return 0;
}

static void xr_apply(struct x86_cpu *cpu, const struct x86_insn *insn,
                     const struct xr *x)
{
    size_t regs = 16 * (size_t)nregs(cpu);
    uint8_t *b = cpu->xsave.b;

    if (x->mxcsr_load)
        memcpy(b + FX_MXCSR, x->legacy + FX_MXCSR, 4);
    else if (x->mxcsr_init)
        fx_put32(b + FX_MXCSR, MXCSR_INIT);
    if (x->rfbm & X86_XCR0_SSE) {
        if (x->bv & X86_XCR0_SSE)
            memcpy(b + FX_XMM, x->legacy + FX_XMM, regs);
        else
            memset(b + FX_XMM, 0, regs);
    }
    if (x->rfbm & X86_XCR0_AVX) {
        if (x->bv & X86_XCR0_AVX)
            memcpy(b + XS_AVX, x->avx, regs);
        else
            memset(b + XS_AVX, 0, regs);
        avx_track(cpu);
    }
    if (x->rfbm & X86_XCR0_X87) {
        if (x->bv & X86_XCR0_X87)
            x87_from_mem(insn, x->legacy, b);
        else
            x87_init(b);
        vec_x87_canon(cpu);
    }
}

int vec_xrstor(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    struct xr x UNINIT;
    uint64_t hdr[XS_HDR_LEN / 8];
    gva_t lin;

    x.rfbm = requested(cpu);
    if (area(cpu, insn, area_len(x.rfbm), 64, false, first_of(x.rfbm), &lin) ||
        vec_read(cpu, insn, gva(lin.v + XS_HDR), hdr, sizeof(hdr)))
        return X86_FAULT;
    if (!header_ok(cpu, hdr))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    x.bv = hdr[0];
    if (hdr[1] & XCOMP_BIT) {
        x.mxcsr_load = x.rfbm & x.bv & X86_XCR0_SSE;
        x.mxcsr_init = x.rfbm & X86_XCR0_SSE;
    } else {
        x.mxcsr_load = x.rfbm & (X86_XCR0_SSE | X86_XCR0_AVX);
        x.mxcsr_init = false;
    }
    if (xr_read(cpu, insn, lin, &x))
        return X86_FAULT;
    xr_apply(cpu, insn, &x);
    return 0;
}

/* --- MXCSR and the upper halves --- */

int vec_ldmxcsr(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    uint32_t v;
    gva_t lin;

    if (vec_lin(cpu, insn, vec_ea(cpu, insn), 4, false, &lin) ||
        vec_read(cpu, insn, lin, &v, 4))
        return X86_FAULT;
    if (v & ~MXCSR_VALID)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    fx_put32(cpu->xsave.b + FX_MXCSR, v);
    return 0;
}

int vec_stmxcsr(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    gva_t lin;

    if (vec_lin(cpu, insn, vec_ea(cpu, insn), 4, true, &lin))
        return X86_FAULT;
    return vec_write(cpu, insn, lin, cpu->xsave.b + FX_MXCSR, 4);
}

int vec_vzero(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    size_t regs = 16 * (size_t)nregs(cpu);

    memset(cpu->xsave.b + XS_AVX, 0, regs);
    if (insn->vex_l)
        memset(cpu->xsave.b + FX_XMM, 0, regs);
    avx_track(cpu);
    return 0;
}
