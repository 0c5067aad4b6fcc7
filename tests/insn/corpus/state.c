// SPDX-License-Identifier: Apache-2.0
/*
 * Values that find faults: edges of each integer size, and for each
 * floating-point format zeros, denormals, infinities, quiet and signalling
 * NaNs, numbers at rounding and overflow edges; all control-word settings.
 */
#include "tests/insn/corpus/rnd.h"

#include "engine/interp/vec_int.h"

#include <string.h>

void corpus_pattern(uint64_t w[CORPUS_WORDS])
{
    struct rnd r = {.s = 0x0ddba11};

    for (unsigned i = 0; i < CORPUS_WORDS; i++)
        w[i] = rnd_lane(&r, rnd_n(&r, RND_FLAVORS));
}

uint64_t rnd_int(struct rnd *r)
{
    static const uint64_t edge[] = {0,
                                    1,
                                    2,
                                    0x7f,
                                    0x80,
                                    0xff,
                                    0x100,
                                    0x7fff,
                                    0x8000,
                                    0xffff,
                                    0x10000,
                                    0x7fffffff,
                                    0x80000000,
                                    0xffffffff,
                                    BIT(32),
                                    0x7fffffffffffffff,
                                    BIT(63),
                                    UINT64_MAX,
                                    UINT64_MAX - 1,
                                    0xffffffff80000000,
                                    0x5555555555555555,
                                    0xaaaaaaaaaaaaaaaa,
                                    0x8000800080008000,
                                    0x7f7f7f7f80808080};
    uint64_t v = rnd_u64(r);

    switch (rnd_n(r, 8)) {
    case 0:
    case 1:
        return edge[rnd_n(r, ARRAY_LEN(edge))];
    case 2:
        return v & 0xff;
    case 3:
        return -(v & 0xff);
    case 4:
        return v & 0xffffffff;
    case 5:
        return BIT(v & 63) - (v >> 8 & 1);
    default:
        return v;
    }
}

static uint32_t rnd_f32(struct rnd *r)
{
    static const uint32_t edge[] = {
        0,          0x80000000, 1,          0x80000001, 0x007fffff, 0x00800000,
        0x00800001, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000,
        0xffc00000, 0x7f800001, 0x7fa00001, 0xffbfffff, 0x3f800000, 0xbf800000,
        0x3f000000, 0x40000000, 0x4f000000, 0xcf000000, 0x4b800000, 0x4b7fffff,
        0x5f000000, 0xdf000000, 0x3f7fffff, 0x3f800001, 0x33800000, 0x47000000,
        0x38800000, 0x477fe000, 0x33000001};
    uint32_t v = (uint32_t)rnd_u64(r);

    switch (rnd_n(r, 8)) {
    case 0:
    case 1:
        return edge[rnd_n(r, ARRAY_LEN(edge))];
    case 2: /* denormal */
        return v & 0x807fffff;
    case 3: { /* a half-integer */
        float f = (float)((int)(v & 0xfff) - 2048) / 2;
        memcpy(&v, &f, 4);
        return v;
    }
    case 4:
        return v;
    case 5: /* very large or very small */
        return (v & 0x80ffffff) | (v & 0x01000000 ? 0x7e000000 : 0);
    default:
        return (v & 0x83ffffff) | 0x3c000000;
    }
}

static uint64_t rnd_f64(struct rnd *r)
{
    static const uint64_t edge[] = {0,
                                    0x8000000000000000,
                                    1,
                                    0x000fffffffffffff,
                                    0x0010000000000000,
                                    0x7fefffffffffffff,
                                    0xffefffffffffffff,
                                    0x7ff0000000000000,
                                    0xfff0000000000000,
                                    0x7ff8000000000000,
                                    0xfff8000000000000,
                                    0x7ff0000000000001,
                                    0xfff7ffffffffffff,
                                    0x3ff0000000000000,
                                    0xbff0000000000000,
                                    0x3fe0000000000000,
                                    0x41e0000000000000,
                                    0xc1e0000000000000,
                                    0x41dfffffffc00000,
                                    0x43e0000000000000,
                                    0xc3e0000000000000,
                                    0x43dfffffffffffff,
                                    0x41dfffffffe00000,
                                    0x3ca0000000000000,
                                    0x3ff0000000000001,
                                    0x3fefffffffffffff,
                                    0x47efffffe0000000,
                                    0x47f0000000000000,
                                    0x36a0000000000000,
                                    0x3810000000000000,
                                    0x380fffffffffffff,
                                    0x4340000000000000};
    uint64_t v = rnd_u64(r);
    double d;

    switch (rnd_n(r, 8)) {
    case 0:
    case 1:
        return edge[rnd_n(r, ARRAY_LEN(edge))];
    case 2:
        return v & 0x800fffffffffffff;
    case 3:
        d = (double)((int)(v & 0xfff) - 2048) / 2;
        memcpy(&v, &d, 8);
        return v;
    case 4:
        return v;
    case 5:
        return (v & 0x801fffffffffffff) | (v >> 60 & 1 ? 0x7fc0ULL << 48 : 0);
    case 6: /* in the range of singles and of 32-bit integers */
        return (v & 0x80ffffffffffffff) | 0x4100000000000000;
    default:
        return (v & 0x803fffffffffffff) | 0x3fc0000000000000;
    }
}

uint64_t rnd_lane(struct rnd *r, enum rnd_flavor f)
{
    switch (rnd_pct(r, 6) ? rnd_n(r, RND_FLAVORS) : f) {
    case RND_F32:
        return (uint64_t)rnd_f32(r) << 32 | rnd_f32(r);
    case RND_F64:
        return rnd_f64(r);
    case RND_INT:
        return rnd_int(r);
    default:
        return rnd_u64(r);
    }
}

void rnd_f80(struct rnd *r, uint8_t out[10])
{
    static const uint16_t exps[] = {0,      1,      0x3fff, 0x4005, 0x7fff,
                                    0x7ffe, 0x403e, 0x403d, 0x3bff, 0x43fe,
                                    0x3f80, 0x407e, 0x3fc0, 0x3ffe, 0x4000,
                                    0x401e, 0x403f, 0x7fff, 0x3f69, 0x3bcc};
    uint64_t man = rnd_u64(r) | BIT(63), v = rnd_u64(r);
    unsigned exp = 0x3ff8 + (unsigned)(v % 16);

    if (rnd_pct(r, 40))
        exp = exps[rnd_n(r, ARRAY_LEN(exps))];
    else if (rnd_pct(r, 10))
        exp = (unsigned)(v >> 8) & 0x7fff;
    if (rnd_pct(r, 25))
        man = BIT(63);
    else if (rnd_pct(r, 20))
        man = rnd_int(r); /* pseudo-denormals, unnormals, pseudo-NaNs too */
    else if (rnd_pct(r, 30))
        man &= ~UINT64_C(0x7ff); /* a double's precision */
    exp |= v >> 32 & 0x8000;
    fx_put64(out, man);
    fx_put16(out + 8, exp);
}

static void rnd_x87(struct rnd *r, uint8_t *b)
{
    unsigned fcw = 0x37f, fsw = (unsigned)rnd_u64(r) & 0x7f7f;

    if (rnd_pct(r, 60))
        fcw = 0x7f | rnd_n(r, 16) << 8;
    if (rnd_pct(r, 25))
        fcw &= ~(unsigned)(rnd_u64(r) & 0x3f);
    if (rnd_pct(r, 90)) /* nothing pending */
        fsw &= ~(~fcw & 0x3fU);
    fx_put16(b + FX_FCW, fcw);
    fx_put16(b + FX_FSW, fsw);
    b[FX_FTW] = rnd_pct(r, 65) ? 0xff : (uint8_t)rnd_u64(r);
    fx_put16(b + FX_FOP, rnd_u64(r) & 0x7ff);
    fx_put64(b + FX_FIP,
             rnd_u64(r) & (rnd_pct(r, 50) ? 0x7fffffffffff : 0xffff));
    fx_put64(b + FX_FDP, rnd_u64(r) & 0x7fffffffffff);
    for (unsigned i = 0; i < 8; i++)
        rnd_f80(r, b + FX_ST + 16 * (size_t)i);
}

void rnd_xstate(struct rnd *r, enum rnd_flavor f, uint8_t *xs)
{
    struct x86_cpu canon;
    uint32_t mx = MXCSR_INIT;

    memset(xs, 0, CORPUS_XS_BYTES);
    rnd_x87(r, xs);
    for (unsigned i = 0; i < 32; i++) {
        fx_put64(xs + FX_XMM + 8 * (size_t)i, rnd_lane(r, f));
        fx_put64(xs + X86_XSAVE_AVX_OFFSET + 8 * (size_t)i, rnd_lane(r, f));
    }
    if (rnd_pct(r, 70)) /* rounding, flush to zero, denormals are zero */
        mx |= (uint32_t)rnd_u64(r) & 0xe07f;
    if (rnd_pct(r, 50))
        mx &= ~UINT32_C(0x8040);
    if (rnd_pct(r, 25))
        mx &= ~((uint32_t)rnd_u64(r) & 0x1f80);
    fx_put32(xs + FX_MXCSR, mx);
    /* reserved bits and the summary bit as the CPU has them */
    memset(&canon, 0, sizeof canon);
    memcpy(canon.xsave.b, xs, CORPUS_XS_BYTES);
    vec_x87_canon(&canon);
    memcpy(xs, canon.xsave.b, FX_X87_BYTES);
}

uint64_t rnd_flags(struct rnd *r)
{
    uint64_t fl = X86_FL_ONE | X86_FL_IF | (rnd_u64(r) & X86_FL_ARITH);

    if (rnd_pct(r, 30))
        fl |= X86_FL_DF;
    if (rnd_pct(r, 8))
        fl |= X86_FL_AC;
    if (rnd_pct(r, 6))
        fl |= X86_FL_TF;
    if (rnd_pct(r, 4))
        fl |= X86_FL_NT;
    if (rnd_pct(r, 10))
        fl |= X86_FL_ID;
    return fl;
}
