// SPDX-License-Identifier: Apache-2.0
/*
 * x87 and MMX in the interpreter: late exceptions, pointers, environments of
 * all modes, MMX's view of the registers, and that nothing of the host shows.
 */
#include "engine/interp/vec_guest.h"

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

TEST_MAIN(CASE(mf_comes_late), CASE(mf_ignored_without_ne),
          CASE(x87_pointers_are_the_guests),
          CASE(x87_store_that_faults_or_isnt_done), CASE(environment_formats),
          CASE(fnsave_and_back), CASE(flags_of_compares), CASE(mmx_aliases_x87),
          CASE(host_state_stays), CASE(host_addresses_do_not_show))
