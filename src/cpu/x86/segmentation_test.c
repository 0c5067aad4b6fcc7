// SPDX-License-Identifier: Apache-2.0
/* Tests of segment checks and loads, far transfers, tasks, I/O rights. */
#include "cpu/x86/segmentation.h"

#include "base/test.h"
#include "cpu/x86/cpu_fixture.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/paging.h"

static struct fx fx;
static struct x86_cpu *const cpu = &fx.cpu[0];

static void setup(bool lm)
{
    fx_init(&fx, 1);
    fx_tables(&fx, lm);
}

static void put_desc(uint16_t sel, uint64_t raw)
{
    fx_put64(&fx, FX_GDT + (sel & ~7U), raw);
}

TEST(limits)
{
    static const struct {
        uint32_t limit, attr;
        uint64_t off;
        unsigned len;
        bool write, ok;
    } rows[] = {
        {0xfff, 0x4093, 0xffc, 4, true, true},
        {0xfff, 0x4093, 0xffd, 4, true, false},
        {0xfff, 0x4093, 0x1000, 1, false, false},
        {0xffffffffU, 0x4093, 0xfffffffcU, 4, true, true},
        {0xffffffffU, 0x4093, 0xfffffffdU, 4, true, false},
        {0xfff, 0x4091, 0, 1, true, false}, /* read-only */
        {0xfff, 0x4091, 0, 1, false, true},
        {0xfff, 0x4099, 0, 1, false, false}, /* execute-only */
        {0xfff, 0x409b, 0, 1, false, true},
        {0xfff, 0x409b, 0, 1, true, false},     /* code is never written */
        {0xfff, 0x4097, 0xfff, 1, true, false}, /* expand-down */
        {0xfff, 0x4097, 0x1000, 1, true, true},
        {0xfff, 0x4097, 0xfffffffcU, 4, true, true},
        {0xfff, 0x0097, 0xfffe, 2, true, true},
        {0xfff, 0x0097, 0xffff, 2, true, false},
        {0xfff, 0x14093, 0, 1, false, false}, /* null selector */
    };

    setup(false);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (unsigned s = 0; s < 2; s++) {
            enum x86_seg_id seg = s ? X86_SEG_SS : X86_SEG_DS;
            gva_t lin;
            int r;

            cpu->seg[seg] = (struct x86_seg){.base = 0x10000000,
                                             .limit = rows[i].limit,
                                             .attr = rows[i].attr};
            r = x86_seg_check(cpu, seg, rows[i].off, rows[i].len, rows[i].write,
                              &lin);
            CHECK_EQ(r, rows[i].ok ? 0 : X86_FAULT);
            if (r)
                CHECK_EQ(cpu->exc.vector, s ? X86_VEC_SS : X86_VEC_GP);
            else
                CHECK_EQ(lin.v, (0x10000000 + rows[i].off) & 0xffffffffU);
        }
    }
    fx_fini(&fx);
}

TEST(long_mode_is_flat)
{
    gva_t lin;

    setup(true);
    cpu->seg[X86_SEG_DS] = (struct x86_seg){.base = 0x1000, .limit = 0};
    cpu->seg[X86_SEG_GS].base = UINT64_C(0xffff888000000000);
    CHECK_EQ(x86_seg_check(cpu, X86_SEG_DS, 0x12345, 8, true, &lin), 0);
    CHECK_EQ(lin.v, 0x12345);
    CHECK_EQ(x86_seg_check(cpu, X86_SEG_GS, 0x28, 8, true, &lin), 0);
    CHECK_EQ(lin.v, UINT64_C(0xffff888000000028));
    fx_fini(&fx);
}

/* Loads into DS and SS for all DPL, RPL, CPL, against the rules' words. */
TEST(load_privileges)
{
    static const uint8_t types[] = {1, 3, 9, 11, 15, 13};

    setup(false);
    for (unsigned n = 0; n < ARRAY_LEN(types) * 64; n++) {
        unsigned type = types[n / 64], dpl = n & 3, rpl = n >> 2 & 3,
                 cpl = n >> 4 & 3;
        bool code = type & 8, conf = code && (type & 4);
        bool readable = !code || (type & 2);
        bool ds_ok = readable && (conf || (rpl <= dpl && cpl <= dpl));
        bool ss_ok = type == 3 && rpl == cpl && dpl == cpl;
        uint16_t sel = (uint16_t)(FX_FREE | rpl);

        put_desc(FX_FREE, fx_desc(0x1000, 0xff, 0x90 | type | dpl << 5));
        cpu->cpl = (uint8_t)cpl;
        CHECK_EQ(x86_seg_load(cpu, X86_SEG_DS, sel), ds_ok ? 0 : X86_FAULT);
        if (!ds_ok) {
            CHECK_EQ(cpu->exc.vector, X86_VEC_GP);
            CHECK_EQ(cpu->exc.error, FX_FREE);
        } else {
            CHECK_EQ(cpu->seg[X86_SEG_DS].sel, sel);
            CHECK_EQ(cpu->seg[X86_SEG_DS].base, 0x1000);
        }
        CHECK_EQ(x86_seg_load(cpu, X86_SEG_SS, sel), ss_ok ? 0 : X86_FAULT);
        /* absent: #NP for data, #SS for the stack, where all else is right */
        put_desc(FX_FREE, fx_desc(0x1000, 0xff, 0x10 | type | dpl << 5));
        CHECK_EQ(x86_seg_load(cpu, X86_SEG_DS, sel), X86_FAULT);
        CHECK_EQ(cpu->exc.vector, ds_ok ? X86_VEC_NP : X86_VEC_GP);
        CHECK_EQ(x86_seg_load(cpu, X86_SEG_SS, sel), X86_FAULT);
        CHECK_EQ(cpu->exc.vector, ss_ok ? X86_VEC_SS : X86_VEC_GP);
    }
    fx_fini(&fx);
}

TEST(load_null_and_accessed)
{
    setup(false);
    CHECK_EQ(x86_seg_load(cpu, X86_SEG_ES, 2), 0);
    CHECK(cpu->seg[X86_SEG_ES].attr & X86_SEG_UNUSABLE);
    CHECK_EQ(x86_seg_load(cpu, X86_SEG_SS, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.error, 0);
    put_desc(FX_FREE, fx_desc(0, 0xff, 0x92));
    CHECK_EQ(x86_seg_load(cpu, X86_SEG_ES, FX_FREE), 0);
    CHECK_EQ(fx_get64(&fx, FX_GDT + FX_FREE) >> 40 & 0xff, 0x93);
    CHECK_EQ(x86_seg_load(cpu, X86_SEG_ES, 0x1000), X86_FAULT);
    CHECK_EQ(cpu->exc.error, 0x1000);
    /* LDT: absent, then loaded */
    CHECK_EQ(x86_seg_load(cpu, X86_SEG_ES, 0xc), X86_FAULT);
    CHECK_EQ(cpu->exc.error, 0xc);
    fx_put64(&fx, FX_LDT + 8, fx_desc(0x5000, 0xff, 0x92));
    CHECK_EQ(x86_lldt(cpu, FX_LDTR), 0);
    CHECK_EQ(x86_seg_load(cpu, X86_SEG_ES, 0xc), 0);
    CHECK_EQ(cpu->seg[X86_SEG_ES].base, 0x5000);
    fx_fini(&fx);
    /* 64-bit mode: a null SS is fine in rings 0-2 */
    setup(true);
    CHECK_EQ(x86_seg_load(cpu, X86_SEG_SS, 0), 0);
    CHECK_EQ(x86_seg_load(cpu, X86_SEG_SS, 3), X86_FAULT);
    fx_user(&fx);
    CHECK_EQ(x86_seg_load(cpu, X86_SEG_SS, 3), X86_FAULT);
    fx_fini(&fx);
}

TEST(ltr_lldt)
{
    setup(true);
    /* a 64-bit base in 16 bytes */
    fx_put64(&fx, FX_GDT + FX_TR + 8, 0xffff8880U);
    CHECK_EQ(x86_ltr(cpu, FX_TR), 0);
    CHECK_EQ(cpu->tr.base, UINT64_C(0xffff888000012000));
    CHECK_EQ(X86_SEG_TYPE(cpu->tr.attr), X86_SYS_TSS_BUSY);
    CHECK_EQ(fx_get64(&fx, FX_GDT + FX_TR) >> 40 & 0xff, 0x8b);
    CHECK_EQ(x86_ltr(cpu, FX_TR), X86_FAULT); /* busy now */
    CHECK_EQ(cpu->exc.error, FX_TR);
    CHECK_EQ(x86_ltr(cpu, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.error, 0);
    CHECK_EQ(x86_ltr(cpu, FX_CS0), X86_FAULT);
    CHECK_EQ(x86_lldt(cpu, FX_TR), X86_FAULT);
    CHECK_EQ(x86_lldt(cpu, 0), 0);
    CHECK(cpu->ldtr.attr & X86_SEG_UNUSABLE);
    fx_user(&fx);
    CHECK_EQ(x86_lldt(cpu, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_GP);
    fx_fini(&fx);
}

TEST(lar_lsl_ver)
{
    uint32_t v = 0;
    bool ok;

    setup(true);
    CHECK_EQ(x86_lar(cpu, FX_CS0, &v, &ok), 0);
    CHECK(ok);
    CHECK_EQ(v, 0x00af9b00U);
    CHECK_EQ(x86_lsl(cpu, FX_CS0, &v, &ok), 0);
    CHECK_EQ(v, 0xffffffffU);
    CHECK_EQ(x86_lsl(cpu, FX_TR, &v, &ok), 0);
    CHECK(ok);
    CHECK_EQ(v, 0x1ff);
    cpu->exc.vector = 77;
    CHECK_EQ(x86_lar(cpu, 0x7ff8, &v, &ok), 0); /* outside: ZF = 0 only */
    CHECK(!ok);
    CHECK_EQ(cpu->exc.vector, 77);
    CHECK_EQ(x86_lar(cpu, 0, &v, &ok), 0);
    CHECK(!ok);
    put_desc(FX_GATE, fx_gate(FX_CS0, 0x1000, 0x8c, 0));
    put_desc(FX_GATE + 8, 0);
    CHECK_EQ(x86_lar(cpu, FX_GATE, &v, &ok), 0);
    CHECK(ok);
    CHECK_EQ(x86_lsl(cpu, FX_GATE, &v, &ok), 0);
    CHECK(!ok); /* gates have no limit */
    CHECK_EQ(x86_verx(cpu, FX_SS0, true, &ok), 0);
    CHECK(ok);
    CHECK_EQ(x86_verx(cpu, FX_CS0, true, &ok), 0);
    CHECK(!ok);
    CHECK_EQ(x86_verx(cpu, FX_CS0, false, &ok), 0);
    CHECK(ok);
    fx_user(&fx);
    CHECK_EQ(x86_verx(cpu, FX_SS0, false, &ok), 0);
    CHECK(!ok); /* DPL 0 from ring 3 */
    CHECK_EQ(x86_lar(cpu, FX_CSC, &v, &ok), 0);
    CHECK(ok); /* conforming */
    fx_fini(&fx);
}

/* ---- far transfers ---- */

TEST(far_real)
{
    fx_init(&fx, 1);
    cpu->gpr[X86_RSP] = 0x100;
    x86_seg_set_real(cpu, X86_SEG_SS, 0x2000);
    CHECK_EQ(x86_far_call(cpu, 0x1234, 0x5678, 2, 0x99), 0);
    CHECK_EQ(cpu->seg[X86_SEG_CS].base, 0x12340);
    CHECK_EQ(cpu->rip, 0x5678);
    CHECK_EQ(fx_get32(&fx, 0x200fc), 0xf0000099U);
    CHECK_EQ(x86_far_ret(cpu, 2, 6), 0);
    CHECK_EQ(cpu->seg[X86_SEG_CS].sel, 0xf000);
    CHECK_EQ(cpu->rip, 0x99);
    CHECK_EQ(cpu->gpr[X86_RSP], 0x106);
    CHECK_EQ(x86_far_jmp(cpu, 0, 0x10000, 4, 0), X86_FAULT); /* limit */
    fx_fini(&fx);
}

TEST(far_code)
{
    setup(true);
    CHECK_EQ(x86_far_jmp(cpu, FX_CSC, 0x2000, 8, 0), 0);
    CHECK_EQ(cpu->seg[X86_SEG_CS].sel, FX_CSC);
    CHECK_EQ(x86_far_jmp(cpu, 0, 0x2000, 8, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.error, 0);
    CHECK_EQ(x86_far_jmp(cpu, FX_CS3, 0x2000, 8, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.error, FX_CS3 & ~3);
    CHECK_EQ(x86_far_jmp(cpu, FX_SS0, 0x2000, 8, 0), X86_FAULT);
    CHECK_EQ(x86_far_jmp(cpu, FX_NP0, 0x2000, 8, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_NP);
    CHECK_EQ(x86_far_jmp(cpu, FX_CS0, BIT(47), 8, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.error, 0);
    /* to compatibility mode and its limit */
    CHECK_EQ(x86_far_jmp(cpu, FX_CS16, 0x10000, 4, 0), X86_FAULT);
    CHECK_EQ(x86_far_call(cpu, FX_CS16, 0x1000, 8, 0x1007), 0);
    CHECK_EQ(x86_mode(cpu), X86_MODE_16);
    CHECK_EQ(fx_get64(&fx, FX_STACK - 0x110), 0x1007);
    CHECK_EQ(fx_get64(&fx, FX_STACK - 0x108), FX_CSC);
    fx_fini(&fx);
}

TEST(ring3_conforming)
{
    setup(false);
    fx_user(&fx);
    CHECK_EQ(x86_far_jmp(cpu, FX_CSC | 3, 0x2000, 4, 0), 0);
    CHECK_EQ(cpu->cpl, 3);
    CHECK_EQ(cpu->seg[X86_SEG_CS].sel, FX_CSC | 3);
    CHECK_EQ(x86_far_jmp(cpu, FX_CS0, 0x2000, 4, 0), X86_FAULT);
    fx_fini(&fx);
}

TEST(call_gate_32)
{
    uint64_t rsp;

    setup(false);
    fx_user(&fx);
    put_desc(FX_GATE, fx_gate(FX_CS0, 0x6000, 0xec, 2));
    fx_put32(&fx, FX_USTK, 0x11111111);
    fx_put32(&fx, FX_USTK + 4, 0x22222222);
    CHECK_EQ(x86_far_call(cpu, FX_GATE | 3, 0xbad, 4, 0x1007), 0);
    CHECK_EQ(cpu->cpl, 0);
    CHECK_EQ(cpu->rip, 0x6000);
    CHECK_EQ(cpu->seg[X86_SEG_SS].sel, FX_SS0);
    rsp = cpu->gpr[X86_RSP];
    CHECK_EQ(rsp, FX_STACK - 24);
    CHECK_EQ(fx_get32(&fx, rsp), 0x1007);
    CHECK_EQ(fx_get32(&fx, rsp + 4), FX_CS3);
    CHECK_EQ(fx_get32(&fx, rsp + 8), 0x11111111);
    CHECK_EQ(fx_get32(&fx, rsp + 12), 0x22222222);
    CHECK_EQ(fx_get32(&fx, rsp + 16), FX_USTK);
    CHECK_EQ(fx_get32(&fx, rsp + 20), FX_SS3);
    CHECK_EQ(x86_far_ret(cpu, 4, 8), 0);
    CHECK_EQ(cpu->cpl, 3);
    CHECK_EQ(cpu->rip, 0x1007);
    CHECK_EQ(cpu->gpr[X86_RSP], FX_USTK + 8);
    /* the gate's DPL, and its presence */
    put_desc(FX_GATE, fx_gate(FX_CS0, 0x6000, 0x8c, 0));
    CHECK_EQ(x86_far_call(cpu, FX_GATE | 3, 0, 4, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.error, FX_GATE);
    put_desc(FX_GATE, fx_gate(FX_CS0, 0x6000, 0x6c, 0));
    CHECK_EQ(x86_far_call(cpu, FX_GATE | 3, 0, 4, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_NP);
    /* JMP through a gate does not go to an inner ring */
    put_desc(FX_GATE, fx_gate(FX_CS0, 0x6000, 0xec, 0));
    CHECK_EQ(x86_far_jmp(cpu, FX_GATE | 3, 0, 4, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.error, FX_CS0);
    fx_fini(&fx);
}

TEST(call_gate_64)
{
    setup(true);
    fx_user(&fx);
    put_desc(FX_GATE, fx_gate(FX_CS0, 0x6000, 0xec, 0));
    put_desc(FX_GATE + 8, 0xffffffffU);
    CHECK_EQ(x86_far_call(cpu, FX_GATE | 3, 0, 8, 0x1007), 0);
    CHECK_EQ(cpu->rip, UINT64_C(0xffffffff00006000));
    CHECK_EQ(cpu->gpr[X86_RSP], FX_STACK - 32);
    CHECK_EQ(fx_get64(&fx, FX_STACK - 8), FX_SS3);
    CHECK(cpu->seg[X86_SEG_SS].attr & X86_SEG_UNUSABLE);
    CHECK_EQ(x86_far_ret(cpu, 8, 0), 0);
    CHECK_EQ(cpu->cpl, 3);
    CHECK_EQ(cpu->gpr[X86_RSP], FX_USTK);
    /* the upper half's type bits must be zero */
    put_desc(FX_GATE + 8, BIT(40));
    CHECK_EQ(x86_far_call(cpu, FX_GATE | 3, 0, 8, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.error, FX_GATE);
    fx_fini(&fx);
}

/* ---- tasks ---- */

#define TSS2 UINT64_C(0x18000)

static void task_setup(void)
{
    setup(false);
    put_desc(FX_TR, fx_desc((uint32_t)FX_TSS, 0x1ff, 0x8b));
    put_desc(FX_FREE, fx_desc((uint32_t)TSS2, 0x67, 0x89));
    fx_put32(&fx, TSS2 + 32, 0x7000);  /* EIP */
    fx_put32(&fx, TSS2 + 36, 0x2);     /* EFLAGS */
    fx_put32(&fx, TSS2 + 40, 0xaaaa);  /* EAX */
    fx_put32(&fx, TSS2 + 56, 0x88000); /* ESP */
    fx_put32(&fx, TSS2 + 72, FX_SS0);  /* ES CS SS DS FS GS */
    fx_put32(&fx, TSS2 + 76, FX_CS0);
    fx_put32(&fx, TSS2 + 80, FX_SS0);
    fx_put32(&fx, TSS2 + 84, FX_SS0);
}

TEST(task_call_and_iret)
{
    task_setup();
    cpu->gpr[X86_RAX] = 0x1234;
    CHECK_EQ(x86_far_call(cpu, FX_FREE, 0, 4, 0x1007), 0);
    CHECK_EQ(cpu->rip, 0x7000);
    CHECK_EQ(cpu->gpr[X86_RAX], 0xaaaa);
    CHECK_EQ(cpu->tr.sel, FX_FREE);
    CHECK(cpu->rflags & X86_FL_NT);
    CHECK(cpu->cr0 & X86_CR0_TS);
    CHECK_EQ(fx_get32(&fx, TSS2) & 0xffff, FX_TR);
    CHECK_EQ(fx_get32(&fx, FX_TSS + 32), 0x1007);
    CHECK_EQ(fx_get32(&fx, FX_TSS + 40), 0x1234);
    CHECK_EQ(fx_get64(&fx, FX_GDT + FX_FREE) >> 40 & 0xf, 11);
    CHECK_EQ(fx_get64(&fx, FX_GDT + FX_TR) >> 40 & 0xf, 11);
    CHECK_EQ(x86_iret(cpu, 4), 0);
    CHECK_EQ(cpu->rip, 0x1007);
    CHECK_EQ(cpu->gpr[X86_RAX], 0x1234);
    CHECK_EQ(cpu->tr.sel, FX_TR);
    CHECK(!(cpu->rflags & X86_FL_NT));
    CHECK_EQ(fx_get64(&fx, FX_GDT + FX_FREE) >> 40 & 0xf, 9);
    fx_fini(&fx);
}

TEST(task_gate_and_jmp)
{
    task_setup();
    fx_put64(&fx, FX_IDT + 8 * 8, fx_gate(FX_FREE, 0, 0x85, 0));
    x86_raise(cpu, X86_VEC_DF);
    x86_deliver(cpu);
    CHECK_EQ(cpu->rip, 0x7000);
    CHECK_EQ(cpu->gpr[X86_RSP], 0x87ffc);
    CHECK_EQ(fx_get32(&fx, 0x87ffc), 0); /* the error code */
    fx_fini(&fx);
    task_setup();
    CHECK_EQ(x86_far_jmp(cpu, FX_FREE, 0, 4, 0x1007), 0);
    CHECK(!(cpu->rflags & X86_FL_NT));
    CHECK_EQ(fx_get64(&fx, FX_GDT + FX_TR) >> 40 & 0xf, 9);
    CHECK_EQ(x86_far_jmp(cpu, FX_FREE, 0, 4, 0x1007), X86_FAULT); /* busy */
    CHECK_EQ(cpu->exc.error, FX_FREE);
    fx_fini(&fx);
}

/* ---- I/O rights ---- */

TEST(io_rights)
{
    setup(true);
    CHECK_EQ(x86_io_check(cpu, 0x3f8, 1), 0);
    fx_user(&fx);
    cpu->rflags |= X86_FL_IOPL;
    CHECK_EQ(x86_io_check(cpu, 0x3f8, 1), 0);
    cpu->rflags &= ~X86_FL_IOPL;
    fx_put32(&fx, FX_TSS + 100, 0x68U << 16);
    for (unsigned i = 0; i < 0x80; i += 8)
        fx_put64(&fx, FX_TSS + 0x68 + i, ~UINT64_C(0));
    CHECK_EQ(x86_io_check(cpu, 0x3f8, 1), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_GP);
    fx_put64(&fx, FX_TSS + 0x68 + 0x80, ~UINT64_C(0));
    fx_put64(&fx, FX_TSS + 0x68 + 0x78, ~UINT64_C(0) >> 1); /* 0x3ff */
    CHECK_EQ(x86_io_check(cpu, 0x3fe, 1), X86_FAULT);
    CHECK_EQ(x86_io_check(cpu, 0x3ff, 1), 0);
    CHECK_EQ(x86_io_check(cpu, 0x3ff, 2), X86_FAULT);  /* 0x400 is not */
    CHECK_EQ(x86_io_check(cpu, 0xffff, 1), X86_FAULT); /* past the limit */
    fx_fini(&fx);
}

TEST_MAIN(CASE(limits), CASE(long_mode_is_flat), CASE(load_privileges),
          CASE(load_null_and_accessed), CASE(ltr_lldt), CASE(lar_lsl_ver),
          CASE(far_real), CASE(far_code), CASE(ring3_conforming),
          CASE(call_gate_32), CASE(call_gate_64), CASE(task_call_and_iret),
          CASE(task_gate_and_jmp), CASE(io_rights))
