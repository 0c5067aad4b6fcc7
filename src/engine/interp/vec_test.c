// SPDX-License-Identifier: Apache-2.0
/*
 * What the vector part of the interpreter promises beyond results: gates,
 * precise exceptions, restarts, formats of other modes, and that nothing of
 * the host shows. Results of all forms: vec_native_test.c.
 */
#include "engine/interp/vec.h"

#include "base/test.h"
#include "cpu/x86/exceptions.h"
#include "engine/interp/vec_int.h"

#include <pthread.h>
#include <stdlib.h>

/* --- a guest: two pages of memory at PAGE, the second may be missing --- */

#define PAGE  0x10000u
#define PAGE2 0x11000u

struct guest {
    struct x86_cpu cpu;
    uint8_t mem[0x2000];
    bool second;   /* the second page is present */
    bool readonly; /* writes fault */
    enum x86_mode mode;
};

static int g_check(struct guest *g, gva_t va, size_t len, unsigned flags)
{
    uint64_t end = g->second ? PAGE + sizeof(g->mem) : PAGE2;
    bool write = flags & X86_LIN_WRITE;

    if (va.v < PAGE || va.v + len > end || (write && g->readonly))
        return x86_raise_pf(
            &g->cpu,
            va.v < PAGE2 && va.v >= PAGE && !g->readonly ? gva(PAGE2) : va,
            write ? 6 : 4);
    return 0;
}

static int g_read(void *ctx, gva_t va, void *buf, size_t len, unsigned flags)
{
    struct guest *g = ctx;

    if (g_check(g, va, len, flags))
        return X86_FAULT;
    memcpy(buf, g->mem + (va.v - PAGE), len);
    return 0;
}

static int g_write(void *ctx, gva_t va, const void *buf, size_t len,
                   unsigned flags)
{
    struct guest *g = ctx;

    if (g_check(g, va, len, flags))
        return X86_FAULT;
    memcpy(g->mem + (va.v - PAGE), buf, len);
    return 0;
}

static int g_probe(void *ctx, gva_t va, size_t len, unsigned flags)
{
    return g_check(ctx, va, len, flags);
}

static const struct x86_lin_ops g_ops = {
    .read = g_read, .write = g_write, .probe = g_probe};

#define RIP 0x400123u

/* rbx = PAGE; user mode, everything enabled, registers as after FNINIT. */
static void g_init(struct guest *g, enum x86_mode mode)
{
    struct x86_cpu *cpu = &g->cpu;

    memset(g, 0, sizeof(*g));
    g->mode = mode;
    g->second = true;
    cpu->lin = &g_ops;
    cpu->lin_ctx = g;
    cpu->cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_MP;
    cpu->cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
    cpu->xcr0 = 7;
    cpu->rflags = X86_FL_ONE;
    cpu->rip = RIP;
    cpu->cpl = 3;
    for (unsigned i = 0; i < 6; i++) {
        cpu->seg[i].limit = 0xffffffff;
        cpu->seg[i].attr = 0xc0f3;
    }
    cpu->seg[X86_SEG_CS].attr = mode == X86_MODE_64 ? 0xa0fb : 0xc0fb;
    cpu->efer = mode == X86_MODE_64 ? X86_EFER_LMA | X86_EFER_LME : 0;
    if (mode == X86_MODE_16) {
        cpu->cr0 &= ~X86_CR0_PE;
        cpu->cpl = 0;
    }
    cpu->gpr[X86_RBX] = PAGE;
    fx_put16(cpu->xsave.b + FX_FCW, 0x37f);
    fx_put32(cpu->xsave.b + FX_MXCSR, MXCSR_INIT);
    cpu->xsave.b[XS_HDR] = 3;
    CHECK_EQ(interp_vec_init(), 0);
}

static int run(struct guest *g, const char *hex)
{
    struct x86_insn insn;
    uint8_t b[16];
    size_t n = strlen(hex) / 2;

    for (size_t i = 0; i < n; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        b[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    memset(&insn, 0, sizeof(insn));
    if (x86_decode(b, n, g->mode, &insn) != X86_DEC_OK || insn.len != n) {
        printf("%s does not decode\n", hex);
        test_failures++;
        return 0;
    }
    int r = interp_vec_gate(&g->cpu, &insn);
    return r ? r : interp_vec_exec(&g->cpu, &insn);
}

/* The vector raised, or 255. */
static unsigned vec_of(struct guest *g, const char *hex)
{
    return run(g, hex) ? g->cpu.exc.vector : 255;
}

#define NONE 255

static void set_sd(struct guest *g, unsigned r, double v)
{
    memcpy(vec_xmm(&g->cpu, r), &v, 8);
}

static double get_sd(struct guest *g, unsigned r)
{
    double v;
    memcpy(&v, vec_xmm(&g->cpu, r), 8);
    return v;
}

static uint32_t mxcsr(struct guest *g)
{
    return fx_get32(g->cpu.xsave.b + FX_MXCSR);
}

static void set_mxcsr(struct guest *g, uint32_t v)
{
    fx_put32(g->cpu.xsave.b + FX_MXCSR, v);
}

static unsigned fsw(struct guest *g)
{
    return fx_get16(g->cpu.xsave.b + FX_FSW);
}

static unsigned fsw_top(struct guest *g)
{
    return fsw(g) >> 11 & 7;
}

/* --- gates --- */

#define SSE_OP    "0f58ca"   /* addps xmm1, xmm2 */
#define AVX_OP    "c5e858ca" /* vaddps xmm1, xmm2, xmm2 */
#define MMX_OP    "0ffdca"   /* paddw mm1, mm2 */
#define MMX_XMM   "0f2aca"   /* cvtpi2ps xmm1, mm2 */
#define X87_OP    "d9e8"     /* fld1 */
#define FWAIT_OP  "9b"
#define FXSAVE_OP "0fae03"
#define XSAVE_OP  "0fae23"

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

/* --- x87 exceptions --- */

TEST(mf_comes_late)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    fx_put16(g.cpu.xsave.b + FX_FCW, 0x37b); /* ZM clear */
    CHECK_EQ(vec_of(&g, "d9e8"), NONE);      /* fld1 */
    CHECK_EQ(vec_of(&g, "d9ee"), NONE);      /* fldz */
    CHECK_EQ(vec_of(&g, "def9"), NONE);      /* fdivp: 1/0, noted */
    CHECK_EQ(fsw(&g) & (FSW_ES | 4), FSW_ES | 4);
    CHECK_EQ(vec_of(&g, "d9e8"), X86_VEC_MF);
    CHECK_EQ(vec_of(&g, MMX_OP), X86_VEC_MF);
    CHECK_EQ(vec_of(&g, "0f77"), X86_VEC_MF); /* emms */
    CHECK_EQ(vec_of(&g, FWAIT_OP), X86_VEC_MF);
    CHECK_EQ(vec_of(&g, SSE_OP), NONE);
    CHECK_EQ(vec_of(&g, "dd3b"), NONE); /* fnstsw [rbx] */
    CHECK_EQ(fx_get16(g.mem), fsw(&g));
    CHECK_EQ(vec_of(&g, "dbe2"), NONE); /* fnclex */
    CHECK_EQ(vec_of(&g, FWAIT_OP), NONE);
}

TEST(mf_ignored_without_ne)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    g.cpu.cr0 &= ~X86_CR0_NE;
    fx_put16(g.cpu.xsave.b + FX_FCW, 0x37b);
    run(&g, "d9e8");
    run(&g, "d9ee");
    run(&g, "def9");
    CHECK_EQ(vec_of(&g, FWAIT_OP), NONE);
    unsigned top = fsw_top(&g);
    CHECK_EQ(vec_of(&g, "d9eb"), NONE); /* fldpi goes on */
    CHECK_EQ(fsw_top(&g), (top - 1) & 7);
    CHECK_EQ(fsw(&g) & (FSW_ES | FSW_B | 4), FSW_ES | FSW_B | 4);
}

TEST(x87_pointers_are_the_guests)
{
    static struct guest g;
    const uint8_t *b = g.cpu.xsave.b;

    g_init(&g, X86_MODE_64);
    fx_put64(g.mem + 16, 0x7ff4000000000001); /* signalling NaN */
    fx_put16(g.cpu.xsave.b + FX_FCW, 0x37e);  /* IM clear */
    CHECK_EQ(vec_of(&g, "dd4310"), NONE);     /* fld qword [rbx+16] */
    CHECK_EQ(fx_get64(b + FX_FIP), RIP);
    CHECK_EQ(fx_get64(b + FX_FDP), PAGE + 16);
    CHECK_EQ(fx_get16(b + FX_FOP), 0x543);
    g.cpu.rip = 0x77;
    CHECK_EQ(vec_of(&g, "dbe2"), NONE); /* fnclex keeps them */
    CHECK_EQ(fx_get64(b + FX_FIP), RIP);
    CHECK_EQ(vec_of(&g, "d9f7"), NONE); /* fincstp */
    CHECK_EQ(fx_get64(b + FX_FIP), 0x77);
    CHECK_EQ(fx_get64(b + FX_FDP), PAGE + 16);
    CHECK_EQ(vec_of(&g, "dbe3"), NONE); /* fninit */
    CHECK_EQ(fx_get64(b + FX_FIP), 0);
    CHECK_EQ(fx_get64(b + FX_FDP), 0);
}

TEST(x87_store_that_faults_or_isnt_done)
{
    static struct guest g, old;

    g_init(&g, X86_MODE_64);
    run(&g, "d9e8");
    old = g;
    g.readonly = true;
    CHECK_EQ(vec_of(&g, "dd1b"), X86_VEC_PF); /* fstp qword [rbx] */
    CHECK(memcmp(g.cpu.xsave.b, old.cpu.xsave.b, FX_BYTES) == 0);
    g.readonly = false;
    fx_put64(g.mem, 0x1122334455667788);
    fx_put16(g.cpu.xsave.b + FX_FCW, 0x377); /* OM clear */
    fx_put16(g.cpu.xsave.b + FX_ST + 8, 0x7ffe);
    unsigned top = fsw_top(&g);
    CHECK_EQ(vec_of(&g, "dd1b"), NONE); /* overflow: not stored, no pop */
    CHECK_EQ(fx_get64(g.mem), 0x1122334455667788);
    CHECK_EQ(fsw_top(&g), top);
    CHECK_EQ(vec_of(&g, "dd1b"), X86_VEC_MF);
    run(&g, "dbe2");
    fx_put16(g.cpu.xsave.b + FX_FCW, 0x37f);
    CHECK_EQ(vec_of(&g, "dd1b"), NONE);
    CHECK_EQ(fx_get64(g.mem), 0x7ff0000000000000);
}

TEST(environment_formats)
{
    static struct guest g;
    uint8_t *b = g.cpu.xsave.b;

    g_init(&g, X86_MODE_16);
    g.cpu.gpr[X86_RBX] = 0; /* ds base gives the page */
    g.cpu.seg[X86_SEG_DS].base = PAGE;
    fx_put64(b + FX_FIP, 0x000a1234);
    fx_put64(b + FX_FDP, 0x000b5678);
    fx_put16(b + FX_FOP, 0x123);
    CHECK_EQ(vec_of(&g, "d937"), NONE); /* fnstenv [bx], 14 bytes */
    CHECK_EQ(fx_get16(g.mem), 0x37f);
    CHECK_EQ(fx_get16(g.mem + 4), 0xffff);
    CHECK_EQ(fx_get16(g.mem + 6), 0x1234);
    CHECK_EQ(fx_get16(g.mem + 8), 0xa123);
    CHECK_EQ(fx_get16(g.mem + 10), 0x5678);
    CHECK_EQ(fx_get16(g.mem + 12), 0xb000);
    CHECK_EQ(g.mem[14], 0);
    CHECK_EQ(vec_of(&g, "66d937"), NONE); /* 28 bytes */
    CHECK_EQ(fx_get32(g.mem + 16), 0x000a123);
    CHECK_EQ(fx_get16(g.mem + 12), 0x1234);
    CHECK_EQ(fx_get32(g.mem + 24), 0x000b000);
    fx_put64(b + FX_FIP, 0);
    fx_put64(b + FX_FDP, 0);
    fx_put16(b + FX_FOP, 0);
    CHECK_EQ(vec_of(&g, "66d927"), NONE); /* fldenv */
    CHECK_EQ(fx_get64(b + FX_FIP), 0x000a1234);
    CHECK_EQ(fx_get64(b + FX_FDP), 0x000b5678);
    CHECK_EQ(fx_get16(b + FX_FOP), 0x123);
    g_init(&g, X86_MODE_32);
    fx_put64(b + FX_FIP, 0x000a1234);
    CHECK_EQ(vec_of(&g, "d933"), NONE); /* fnstenv [ebx], protected */
    CHECK_EQ(fx_get32(g.mem + 12), 0x000a1234);
    CHECK_EQ(fx_get16(g.mem + 16), 0);
    CHECK_EQ(vec_of(&g, "66d933"), NONE);
    CHECK_EQ(fx_get16(g.mem + 6), 0x1234);
    CHECK_EQ(fx_get16(g.mem + 8), 0);
}

TEST(fnsave_and_back)
{
    static struct guest g;
    uint8_t old[FX_BYTES];

    g_init(&g, X86_MODE_32);
    run(&g, "d9eb"); /* fldpi */
    run(&g, "d9e8");
    memcpy(old, g.cpu.xsave.b, sizeof(old));
    CHECK_EQ(vec_of(&g, "dd33"), NONE); /* fnsave */
    CHECK_EQ(fsw(&g), 0);
    CHECK_EQ(g.cpu.xsave.b[FX_FTW], 0);
    CHECK_EQ(vec_of(&g, "dd23"), NONE); /* frstor */
    CHECK(memcmp(g.cpu.xsave.b, old, FX_X87_BYTES) == 0);
}

TEST(flags_of_compares)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    set_sd(&g, 1, 1.0);
    set_sd(&g, 2, 2.0);
    g.cpu.rflags |= X86_FL_OF | X86_FL_ZF | X86_FL_IF | X86_FL_DF;
    CHECK_EQ(vec_of(&g, "660f2fca"), NONE); /* comisd */
    CHECK_EQ(g.cpu.rflags, X86_FL_ONE | X86_FL_IF | X86_FL_DF | X86_FL_CF);
    run(&g, "d9eb"); /* fldpi */
    run(&g, "d9e8"); /* fld1 */
    g.cpu.rflags = X86_FL_ONE | X86_FL_ZF;
    CHECK_EQ(vec_of(&g, "dac9"), NONE); /* fcmove st0, st1 */
    CHECK_EQ(fx_get16(g.cpu.xsave.b + FX_ST + 8), 0x4000);
    CHECK_EQ(vec_of(&g, "dbf1"), NONE); /* fcomi st0, st1: equal */
    CHECK_EQ(g.cpu.rflags, X86_FL_ONE | X86_FL_ZF);
    g.cpu.gpr[X86_RAX] = 0x1111222233334444;
    CHECK_EQ(vec_of(&g, "dfe0"), NONE); /* fnstsw ax */
    CHECK_EQ(g.cpu.gpr[X86_RAX], 0x1111222233330000 | fsw(&g));
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
    CHECK_EQ(g.cpu.exc.cr2, PAGE2);
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
        CHECK_EQ(g.cpu.exc.cr2, PAGE2);
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

TEST(mmx_aliases_x87)
{
    static struct guest g;

    g_init(&g, X86_MODE_64);
    run(&g, "d9e8"); /* fld1: TOP 7, so it is physical register 7 */
    g.cpu.gpr[X86_RAX] = 0x12345678;
    CHECK_EQ(vec_of(&g, "0f6ec8"), NONE); /* movd mm1, eax */
    CHECK_EQ(fsw_top(&g), 0);
    CHECK_EQ(g.cpu.xsave.b[FX_FTW], 0xff);
    CHECK_EQ(fx_get64(g.cpu.xsave.b + FX_ST + 16), 0x12345678);
    CHECK_EQ(fx_get16(g.cpu.xsave.b + FX_ST + 24), 0xffff);
    CHECK_EQ(fx_get64(g.cpu.xsave.b + FX_ST + 7 * 16), BIT(63));
    CHECK_EQ(vec_of(&g, "0f77"), NONE);
    CHECK_EQ(g.cpu.xsave.b[FX_FTW], 0);
}

TEST(host_state_stays)
{
    static struct guest g;
    uint32_t mx;
    uint16_t cw;

    g_init(&g, X86_MODE_64);
    set_mxcsr(&g, 0x7f80 & ~0x200u); /* round to zero, ZM clear */
    fx_put16(g.cpu.xsave.b + FX_FCW, 0xc3b);
    run(&g, SSE_OP);
    run(&g, "d9e8");
    run(&g, "d9ee");
    run(&g, "def9"); /* pending #MF stays in the guest */
    run(&g, MMX_OP);
    run(&g, "f20f5eca");
    __asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mx), "=m"(cw));
    CHECK_EQ(mx & ~MXCSR_FLAGS, MXCSR_INIT);
    CHECK_EQ(cw, 0x37f);
    volatile long double third = 1.0L;
    third = third / 3; /* x87 is usable */
    CHECK(third > 0.33L && third < 0.34L);
}

TEST(host_addresses_do_not_show)
{
    static struct guest g;
    static const char *const ops[] = {"d9e8", "dd03", "d9c9", "dd1b",  "d933",
                                      "dd33", "df3b", "db2b", "0fae03"};

    g_init(&g, X86_MODE_64);
    fx_put16(g.cpu.xsave.b + FX_FCW, 0x340);
    for (unsigned i = 0; i < 200; i++) {
        fx_put64(g.mem, 0x7ff4000000000001 + i);
        run(&g, ops[i % ARRAY_LEN(ops)]);
        uint64_t fip = fx_get64(g.cpu.xsave.b + FX_FIP);
        uint64_t fdp = fx_get64(g.cpu.xsave.b + FX_FDP);
        CHECK(fip == 0 || fip == RIP);
        CHECK(fdp == 0 || fdp == PAGE);
        run(&g, "dbe2");
    }
}

TEST_MAIN(CASE(gates), CASE(fwait_needs_mp), CASE(xm_divide_by_zero),
          CASE(xm_denormal_invalid_precision), CASE(xm_avx_keeps_upper),
          CASE(xm_in_two_threads), CASE(mf_comes_late),
          CASE(mf_ignored_without_ne), CASE(x87_pointers_are_the_guests),
          CASE(x87_store_that_faults_or_isnt_done), CASE(environment_formats),
          CASE(fnsave_and_back), CASE(flags_of_compares), CASE(alignment),
          CASE(reads_no_more_than_it_should), CASE(masked_stores_at_a_page_end),
          CASE(maskmovdqu_stores_selected_bytes), CASE(gather_restarts),
          CASE(save_round_trips), CASE(saves_outside_long_mode),
          CASE(saves_touch_the_whole_area), CASE(xrstor_refuses),
          CASE(ldmxcsr_refuses), CASE(avx_in_use_is_tracked),
          CASE(upper_halves), CASE(mmx_aliases_x87), CASE(host_state_stays),
          CASE(host_addresses_do_not_show))
