// SPDX-License-Identifier: Apache-2.0
/*
 * What the vector part of the interpreter promises beyond results: gates,
 * precise SIMD exceptions, restarts, masks, saved state, upper halves. Results
 * of all forms: vec_native_test.c; x87 and MMX: vec_x87_test.c.
 */
#include "engine/interp/vec_guest.h"

#include <pthread.h>

/* --- gates --- */

static unsigned gated(uint64_t cr0_set, uint64_t cr4_clear, uint64_t xcr0,
                      const char *hex)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    g.cpu.cr0 |= cr0_set;
    g.cpu.cr4 &= ~cr4_clear;
    g.cpu.xcr0 = xcr0;
    return vec_of(&g, hex);
}

TEST(gates)
{
    const uint64_t em = X86_CR0_EM, ts = X86_CR0_TS;

    CHECK_EQ(gated(em, 0, 7, SSE_OP), X86_VEC_UD);
    CHECK_EQ(gated(ts, 0, 7, SSE_OP), X86_VEC_NM);
    CHECK_EQ(gated(em | ts, 0, 7, SSE_OP), X86_VEC_UD);
    CHECK_EQ(gated(0, X86_CR4_OSFXSR, 7, SSE_OP), X86_VEC_UD);
    CHECK_EQ(gated(0, X86_CR4_OSFXSR, 7, MMX_OP), NONE);
    CHECK_EQ(gated(0, X86_CR4_OSFXSR, 7, MMX_XMM), X86_VEC_UD);
    CHECK_EQ(gated(em, 0, 7, MMX_OP), X86_VEC_UD);
    CHECK_EQ(gated(ts, 0, 7, MMX_OP), X86_VEC_NM);
    CHECK_EQ(gated(em, 0, 7, X87_OP), X86_VEC_NM);
    CHECK_EQ(gated(ts, 0, 7, X87_OP), X86_VEC_NM);
    CHECK_EQ(gated(em, 0, 7, FWAIT_OP), NONE);
    CHECK_EQ(gated(ts, 0, 7, FWAIT_OP), X86_VEC_NM);
    CHECK_EQ(gated(ts, 0, 7, FXSAVE_OP), X86_VEC_NM);
    CHECK_EQ(gated(em, 0, 7, FXSAVE_OP), X86_VEC_NM);
    CHECK_EQ(gated(ts, 0, 7, XSAVE_OP), X86_VEC_NM);
    CHECK_EQ(gated(0, X86_CR4_OSXSAVE, 7, XSAVE_OP), X86_VEC_UD);
    CHECK_EQ(gated(0, X86_CR4_OSXSAVE, 7, AVX_OP), X86_VEC_UD);
    CHECK_EQ(gated(0, 0, 3, AVX_OP), X86_VEC_UD);
    CHECK_EQ(gated(ts, 0, 7, AVX_OP), X86_VEC_NM);
    CHECK_EQ(gated(em, 0, 7, AVX_OP), NONE);
    CHECK_EQ(gated(0, 0, 7, AVX_OP), NONE);
}

TEST(fwait_needs_mp)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    g.cpu.cr0 |= X86_CR0_TS;
    g.cpu.cr0 &= ~X86_CR0_MP;
    CHECK_EQ(vec_of(&g, FWAIT_OP), NONE);
}

/* --- SIMD exceptions --- */

TEST(xm_divide_by_zero)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    set_sd(&g, 1, 3.0);
    set_sd(&g, 2, 0.0);
    set_mxcsr(&g, MXCSR_INIT & ~0x200u);          /* ZM */
    CHECK_EQ(vec_of(&g, "f20f5eca"), X86_VEC_XM); /* divsd xmm1, xmm2 */
    CHECK(get_sd(&g, 1) == 3.0);
    CHECK_EQ(mxcsr(&g), (MXCSR_INIT & ~0x200u) | 4); /* ZE */
    g.cpu.cr4 &= ~X86_CR4_OSXMMEXCPT;
    CHECK_EQ(vec_of(&g, "f20f5eca"), X86_VEC_UD);
    set_mxcsr(&g, MXCSR_INIT);
    CHECK_EQ(vec_of(&g, "f20f5eca"), NONE);
    CHECK(__builtin_isinf(get_sd(&g, 1)));
    CHECK_EQ(mxcsr(&g), MXCSR_INIT | 4);
}

TEST(xm_denormal_invalid_precision)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    set_sd(&g, 1, 1.0);
    fx_put64(vec_xmm(&g.cpu, 2), 1); /* the smallest denormal */
    set_mxcsr(&g, MXCSR_INIT & ~0x100u);
    CHECK_EQ(vec_of(&g, "f20f58ca"), X86_VEC_XM);
    CHECK_EQ(mxcsr(&g) & MXCSR_FLAGS, 2); /* DE; no PE: before computing */
    fx_put64(vec_xmm(&g.cpu, 2), 0x7ff4000000000001); /* signalling NaN */
    set_mxcsr(&g, MXCSR_INIT & ~0x80u);
    CHECK_EQ(vec_of(&g, "f20f58ca"), X86_VEC_XM);
    CHECK_EQ(mxcsr(&g) & MXCSR_FLAGS, 1);
    set_sd(&g, 2, 3.0);
    set_mxcsr(&g, MXCSR_INIT & ~0x1000u);
    CHECK_EQ(vec_of(&g, "f20f5eca"), X86_VEC_XM); /* 1/3 */
    CHECK_EQ(mxcsr(&g) & MXCSR_FLAGS, 0x20);
    CHECK(get_sd(&g, 1) == 1.0);
}

TEST(xm_avx_keeps_upper)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    set_sd(&g, 2, 1.0);
    memset(vec_ymmh(&g.cpu, 1), 0x5a, 16);
    set_mxcsr(&g, MXCSR_INIT & ~0x200u);
    CHECK_EQ(vec_of(&g, "c5eb5ecb"), X86_VEC_XM); /* vdivsd xmm1,xmm2,xmm3 */
    CHECK_EQ(vec_ymmh(&g.cpu, 1)[15], 0x5a);
    set_mxcsr(&g, MXCSR_INIT);
    CHECK_EQ(vec_of(&g, "c5eb5ecb"), NONE);
    CHECK_EQ(vec_ymmh(&g.cpu, 1)[15], 0);
}

static void *raise_often(void *arg)
{
    struct guest *g = arg;

    for (unsigned i = 0; i < 2000; i++)
        g->second &= vec_of(g, "f20f5eca") == X86_VEC_XM;
    return NULL;
}

TEST(xm_in_two_threads)
{
    static struct guest g[2];
    pthread_t t[2];

    for (unsigned i = 0; i < 2; i++) {
        g_init(&g[i], X86_MODE_64);
        set_sd(&g[i], 1, 1.0 + i);
        set_mxcsr(&g[i], MXCSR_INIT & ~0x200u);
        pthread_create(&t[i], NULL, raise_often, &g[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(t[i], NULL);
        CHECK(g[i].second);
        CHECK(get_sd(&g[i], 1) == 1.0 + i);
    }
}

/* --- memory --- */

TEST(alignment)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    CHECK_EQ(vec_of(&g, "0f284b08"), X86_VEC_GP);   /* movaps xmm1, [rbx+8] */
    CHECK_EQ(vec_of(&g, "0f584b08"), X86_VEC_GP);   /* addps */
    CHECK_EQ(vec_of(&g, "0f104b08"), NONE);         /* movups */
    CHECK_EQ(vec_of(&g, "c5e8584b08"), NONE);       /* vaddps */
    CHECK_EQ(vec_of(&g, "c5fc284b10"), X86_VEC_GP); /* vmovaps ymm */
    CHECK_EQ(vec_of(&g, "c5fc284b20"), NONE);
    CHECK_EQ(vec_of(&g, "0fae4308"), X86_VEC_GP); /* fxsave */
    CHECK_EQ(vec_of(&g, "0fae6310"), X86_VEC_GP); /* xsave */
    CHECK_EQ(vec_of(&g, "c4e26d8e4b04"), NONE);   /* vpmaskmovd [rbx+4] */
    CHECK_EQ(g.cpu.exc.error, 0);
}

TEST(reads_no_more_than_it_should)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    g.second = false;
    CHECK_EQ(vec_of(&g, "f30f108bfc0f0000"), NONE); /* movss [rbx+ffc] */
    CHECK_EQ(vec_of(&g, "f30f108bfd0f0000"), X86_VEC_PF);
    CHECK_EQ(g.cpu.exc.cr2, PAGE2);
    CHECK_EQ(vec_of(&g, "660fc48bfe0f000003"), NONE); /* pinsrw */
    CHECK_EQ(vec_of(&g, "660f38208bf80f0000"), NONE); /* pmovsxbw: 8 */
    CHECK_EQ(vec_of(&g, "660f38228bfe0f0000"), NONE); /* pmovsxbq: 2 */
    CHECK_EQ(vec_of(&g, "c4e27d188bfc0f0000"), NONE); /* vbroadcastss */
    CHECK_EQ(vec_of(&g, "dbabf60f0000"), NONE);       /* fld m80 */
    CHECK_EQ(vec_of(&g, "dbabf70f0000"), X86_VEC_PF);
}

TEST(masked_stores_at_a_page_end)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    g.second = false;
    memset(vec_xmm(&g.cpu, 1), 0xab, 16);
    memset(vec_ymmh(&g.cpu, 1), 0xcd, 16);
    fx_put32(vec_xmm(&g.cpu, 2) + 4, 0x80000000);
    /* vmaskmovps [rbx+ff8], ymm2, ymm1: element 1 only */
    CHECK_EQ(vec_of(&g, "c4e26d2e8bf80f0000"), NONE);
    CHECK_EQ(fx_get64(g.mem + 0xff8), 0xabababab00000000);
    fx_put32(vec_xmm(&g.cpu, 2) + 8, 0x80000000);
    memset(g.mem, 0, sizeof(g.mem));
    CHECK_EQ(vec_of(&g, "c4e26d2e8bf80f0000"), X86_VEC_PF);
    CHECK_EQ(fx_get64(g.mem + 0xff8), 0); /* all or nothing */
    CHECK_EQ(g.cpu.exc.cr2, PAGE2 + 3);   /* the last byte selected */
    /* vmaskmovps ymm1, ymm2, [rbx+ff8]: the rest is zero */
    fx_put32(vec_xmm(&g.cpu, 2) + 8, 0);
    fx_put32(g.mem + 0xffc, 0x1234);
    CHECK_EQ(vec_of(&g, "c4e26d2c8bf80f0000"), NONE);
    CHECK_EQ(fx_get64(vec_xmm(&g.cpu, 1)), 0x123400000000);
    CHECK_EQ(fx_get64(vec_xmm(&g.cpu, 1) + 8), 0);
    CHECK_EQ(fx_get64(vec_ymmh(&g.cpu, 1) + 8), 0);
}

TEST(maskmovdqu_stores_selected_bytes)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    g.cpu.gpr[X86_RDI] = PAGE + 3;
    memset(vec_xmm(&g.cpu, 1), 0x77, 16);
    vec_xmm(&g.cpu, 2)[1] = 0x80;
    vec_xmm(&g.cpu, 2)[15] = 0xff;
    CHECK_EQ(vec_of(&g, "660ff7ca"), NONE);
    CHECK_EQ(g.mem[3], 0);
    CHECK_EQ(g.mem[4], 0x77);
    CHECK_EQ(g.mem[5], 0);
    CHECK_EQ(g.mem[18], 0x77);
    CHECK_EQ(g.mem[19], 0);
}

TEST(gather_restarts)
{
    static struct guest g;
    static const uint32_t index[4] = {0, 4, 0xffc / 4 + 1, 8};

    g_init(&g, X86_MODE_64);
    for (unsigned i = 0; i < 4; i++) {
        fx_put32(vec_xmm(&g.cpu, 3) + 4 * i, index[i]);
        fx_put32(g.mem + 4 * index[i], 0x100 + i);
        fx_put32(vec_xmm(&g.cpu, 1) + 4 * i, 0xeeeeeeee);
        fx_put32(vec_xmm(&g.cpu, 2) + 4 * i, i == 1 ? 0 : 0x80000000);
    }
    g.second = false;
    /* vpgatherdd xmm1, [rbx+xmm3*4], xmm2 */
    CHECK_EQ(vec_of(&g, "c4e269900c9b"), X86_VEC_PF);
    CHECK_EQ(g.cpu.exc.cr2, PAGE2);
    CHECK_EQ(fx_get32(vec_xmm(&g.cpu, 1)), 0x100);
    CHECK_EQ(fx_get32(vec_xmm(&g.cpu, 1) + 8), 0xeeeeeeee);
    CHECK_EQ(fx_get32(vec_xmm(&g.cpu, 2)), 0);
    CHECK_EQ(fx_get32(vec_xmm(&g.cpu, 2) + 8), 0xffffffff);
    CHECK_EQ(fx_get32(vec_xmm(&g.cpu, 2) + 12), 0xffffffff);
    g.second = true;
    fx_put32(g.mem, 0xbad); /* element 0 isn't read again */
    CHECK_EQ(vec_of(&g, "c4e269900c9b"), NONE);
    CHECK_EQ(fx_get32(vec_xmm(&g.cpu, 1)), 0x100);
    CHECK_EQ(fx_get32(vec_xmm(&g.cpu, 1) + 4), 0xeeeeeeee);
    CHECK_EQ(fx_get32(vec_xmm(&g.cpu, 1) + 8), 0x102);
    CHECK_EQ(fx_get32(vec_xmm(&g.cpu, 1) + 12), 0x103);
    CHECK_EQ(fx_get64(vec_xmm(&g.cpu, 2)), 0);
    CHECK_EQ(fx_get64(vec_xmm(&g.cpu, 2) + 8), 0);
}

/* --- saving --- */

static void fill(struct guest *g)
{
    run(g, "d9eb");
    for (unsigned r = 0; r < 16; r++) {
        memset(vec_xmm(&g->cpu, r), (int)(r + 1), 16);
        memset(vec_ymmh(&g->cpu, r), (int)(r + 0x41), 16);
    }
    g->cpu.xsave.b[XS_HDR] = 7;
    set_mxcsr(g, 0x1fa5);
}

static void wipe(struct guest *g)
{
    memset(g->cpu.xsave.b, 0, XS_HDR);
    memset(g->cpu.xsave.b + X86_XSAVE_AVX_OFFSET, 0, 256);
    fx_put16(g->cpu.xsave.b + FX_FCW, 0x37f);
    set_mxcsr(g, MXCSR_INIT);
}

static void round_trip(const char *save, const char *load, bool avx)
{
    static struct guest g;
    uint8_t old[X86_XSAVE_BYTES];

    g_init(&g, X86_MODE_64);
    fill(&g);
    memcpy(old, g.cpu.xsave.b, sizeof(old));
    g.cpu.gpr[X86_RAX] = ~0u;
    g.cpu.gpr[X86_RDX] = ~0u;
    CHECK_EQ(vec_of(&g, save), NONE);
    wipe(&g);
    CHECK_EQ(vec_of(&g, load), NONE);
    CHECK(memcmp(old, g.cpu.xsave.b, XS_HDR) == 0);
    if (avx)
        CHECK(memcmp(old + X86_XSAVE_AVX_OFFSET,
                     g.cpu.xsave.b + X86_XSAVE_AVX_OFFSET, 256) == 0);
}

TEST(save_round_trips)
{
    round_trip("480fae03", "480fae0b", false); /* fxsave64, fxrstor64 */
    round_trip("480fae23", "480fae2b", true);  /* xsave64, xrstor64 */
    round_trip("480fae33", "480fae2b", true);  /* xsaveopt64 */
    round_trip("480fc723", "480fae2b", true);  /* xsavec64 */
}

TEST(saves_outside_long_mode)
{
    static struct guest g;

    g_init(&g, X86_MODE_32);
    fill(&g);
    memset(g.mem, 0xee, sizeof(g.mem));
    CHECK_EQ(vec_of(&g, FXSAVE_OP), NONE);
    CHECK_EQ(g.mem[FX_XMM + 7 * 16], 8);
    CHECK_EQ(g.mem[FX_XMM + 8 * 16], 0xee);
    memset(g.mem, 0x55, FX_XMM + 256);
    fx_put16(g.mem, 0x37f);
    fx_put32(g.mem + FX_MXCSR, MXCSR_INIT);
    CHECK_EQ(vec_of(&g, "0fae0b"), NONE); /* fxrstor */
    CHECK_EQ(vec_xmm(&g.cpu, 7)[0], 0x55);
    CHECK_EQ(vec_xmm(&g.cpu, 8)[0], 9);
    CHECK_EQ(vec_of(&g, "c5fc77"), NONE); /* vzeroall */
    CHECK_EQ(vec_xmm(&g.cpu, 7)[0], 0);
    CHECK_EQ(vec_xmm(&g.cpu, 8)[0], 9);
    CHECK_EQ(vec_ymmh(&g.cpu, 7)[0], 0);
    CHECK_EQ(vec_ymmh(&g.cpu, 8)[0], 0x49);
}

TEST(saves_touch_the_whole_area)
{
    static struct guest g;
    static const char *const ops[] = {"480fae83100e0000", "480fae8b100e0000",
                                      "480faea3c00d0000", "480faeabc00d0000"};

    g_init(&g, X86_MODE_64);
    g.second = false;
    g.cpu.gpr[X86_RAX] = 4; /* the AVX part lies in the missing page */
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        /* fxsave, fxrstor [rbx+e10]; xsave, xrstor [rbx+dc0] */
        CHECK_EQ(vec_of(&g, ops[i]), X86_VEC_PF);
        /* the last byte is tried first */
        CHECK_EQ(g.cpu.exc.cr2, PAGE2 + (i < 2 ? 0xf : 0xff));
        CHECK_EQ(g.mem[0xe10], 0);
    }
}

static unsigned xrstor_with(uint64_t bv, uint64_t comp, uint64_t rest,
                            uint32_t mx)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    fx_put64(g.mem + 512, bv);
    fx_put64(g.mem + 520, comp);
    fx_put64(g.mem + 528, rest);
    fx_put32(g.mem + FX_MXCSR, mx);
    g.cpu.gpr[X86_RAX] = 7;
    return vec_of(&g, "480fae2b");
}

TEST(xrstor_refuses)
{
    CHECK_EQ(xrstor_with(7, 0, 0, MXCSR_INIT), NONE);
    CHECK_EQ(xrstor_with(15, 0, 0, MXCSR_INIT), X86_VEC_GP);
    CHECK_EQ(xrstor_with(7, 1, 0, MXCSR_INIT), X86_VEC_GP);
    CHECK_EQ(xrstor_with(7, 0, 1, MXCSR_INIT), X86_VEC_GP);
    CHECK_EQ(xrstor_with(7, 0, 0, 0x10000), X86_VEC_GP);
    CHECK_EQ(xrstor_with(7, BIT(63) | 7, 0, MXCSR_INIT), NONE);
    CHECK_EQ(xrstor_with(7, BIT(63) | 3, 0, MXCSR_INIT), X86_VEC_GP);
    CHECK_EQ(xrstor_with(0, BIT(63) | 15, 0, MXCSR_INIT), X86_VEC_GP);
    CHECK_EQ(xrstor_with(0, BIT(63) | 7, 1, MXCSR_INIT), X86_VEC_GP);
}

TEST(ldmxcsr_refuses)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    fx_put32(g.mem, 0x10000);
    CHECK_EQ(vec_of(&g, "0fae13"), X86_VEC_GP);
    CHECK_EQ(mxcsr(&g), MXCSR_INIT);
    fx_put32(g.mem, 0xffff);
    CHECK_EQ(vec_of(&g, "0fae13"), NONE);
    CHECK_EQ(vec_of(&g, "0fae5b08"), NONE);
    CHECK_EQ(fx_get32(g.mem + 8), 0xffff);
}

TEST(avx_in_use_is_tracked)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    CHECK_EQ(vec_of(&g, SSE_OP), NONE);
    CHECK_EQ(g.cpu.xsave.b[XS_HDR], 3);
    CHECK_EQ(vec_of(&g, "c5ed76ca"), NONE); /* vpcmpeqd ymm1, ymm2, ymm2 */
    CHECK_EQ(g.cpu.xsave.b[XS_HDR], 7);
    CHECK_EQ(vec_of(&g, "c5f877"), NONE); /* vzeroupper */
    CHECK_EQ(g.cpu.xsave.b[XS_HDR], 3);
}

/* --- widths, and the host's own state --- */

TEST(upper_halves)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    fill(&g);
    set_mxcsr(&g, MXCSR_INIT);
    CHECK_EQ(vec_of(&g, "660fefca"), NONE); /* pxor: legacy keeps */
    CHECK_EQ(vec_ymmh(&g.cpu, 1)[0], 0x42);
    CHECK_EQ(vec_of(&g, "c5e9efca"), NONE); /* vpxor xmm: zeroes */
    CHECK_EQ(vec_ymmh(&g.cpu, 1)[0], 0);
    CHECK_EQ(vec_of(&g, "c4e37d19da01"), NONE); /* vextractf128 xmm2, ymm3, 1 */
    CHECK_EQ(vec_xmm(&g.cpu, 2)[0], 0x44);
    CHECK_EQ(vec_ymmh(&g.cpu, 2)[0], 0);
    CHECK_EQ(vec_ymmh(&g.cpu, 3)[0], 0x44);
}

TEST_MAIN(CASE(gates), CASE(fwait_needs_mp), CASE(xm_divide_by_zero),
          CASE(xm_denormal_invalid_precision), CASE(xm_avx_keeps_upper),
          CASE(xm_in_two_threads), CASE(alignment),
          CASE(reads_no_more_than_it_should), CASE(masked_stores_at_a_page_end),
          CASE(maskmovdqu_stores_selected_bytes), CASE(gather_restarts),
          CASE(save_round_trips), CASE(saves_outside_long_mode),
          CASE(saves_touch_the_whole_area), CASE(xrstor_refuses),
          CASE(ldmxcsr_refuses), CASE(avx_in_use_is_tracked),
          CASE(upper_halves))
