// SPDX-License-Identifier: Apache-2.0
/* Tests of event delivery, IRET, system calls. */
#include "cpu/x86/exceptions.h"

#include "base/test.h"
#include "cpu/x86/control.h"
#include "cpu/x86/cpu_fixture.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/paging.h"
#include "cpu/x86/segmentation.h"

#define HANDLER 0x5000U

static struct fx fx;
static struct x86_cpu *const cpu = &fx.cpu[0];

static void idt64(unsigned vec, uint16_t sel, uint8_t attr, uint8_t ist)
{
    fx_put64(&fx, FX_IDT + 16 * vec,
             fx_gate(sel, HANDLER + 16 * vec, attr, ist));
    fx_put64(&fx, FX_IDT + 16 * vec + 8, 0);
}

static void idt32(unsigned vec, uint16_t sel, uint8_t attr)
{
    fx_put64(&fx, FX_IDT + 8 * vec, fx_gate(sel, HANDLER + 16 * vec, attr, 0));
}

static void setup64(void)
{
    fx_init(&fx, 1);
    fx_tables(&fx, true);
    for (unsigned v = 0; v < 64; v++)
        idt64(v, FX_CS0, 0x8e, 0);
}

static void setup32(void)
{
    fx_init(&fx, 1);
    fx_tables(&fx, false);
    for (unsigned v = 0; v < 64; v++)
        idt32(v, FX_CS0, 0x8e);
}

static uint64_t stk64(unsigned i)
{
    return fx_get64(&fx, cpu->gpr[X86_RSP] + 8 * i);
}

static uint32_t stk32(unsigned i)
{
    return fx_get32(&fx, cpu->gpr[X86_RSP] + 4 * i);
}

/* ---- long mode ---- */

TEST(long_fault_from_user)
{
    setup64();
    fx_user(&fx);
    cpu->rflags |= X86_FL_IF | X86_FL_TF | X86_FL_NT | X86_FL_CF;
    cpu->rip = 0x1234;
    x86_raise_err(cpu, X86_VEC_GP, 0x58);
    x86_deliver(cpu);
    CHECK_EQ(cpu->rip, HANDLER + 16 * 13);
    CHECK_EQ(cpu->cpl, 0);
    CHECK_EQ(cpu->seg[X86_SEG_CS].sel, FX_CS0);
    CHECK_EQ(cpu->seg[X86_SEG_SS].sel, 0);
    CHECK(cpu->seg[X86_SEG_SS].attr & X86_SEG_UNUSABLE);
    CHECK_EQ(cpu->gpr[X86_RSP], FX_STACK - 48);
    CHECK_EQ(stk64(0), 0x58);
    CHECK_EQ(stk64(1), 0x1234);
    CHECK_EQ(stk64(2), FX_CS3);
    CHECK_EQ(stk64(3), X86_FL_ONE | X86_FL_IF | X86_FL_TF | X86_FL_NT |
                           X86_FL_CF | X86_FL_RF);
    CHECK_EQ(stk64(4), FX_USTK);
    CHECK_EQ(stk64(5), FX_SS3);
    CHECK_EQ(cpu->rflags, X86_FL_ONE | X86_FL_CF);
    fx_fini(&fx);
}

TEST(long_aligns_and_ist)
{
    setup64();
    cpu->gpr[X86_RSP] = FX_STACK - 0x103;
    x86_deliver_irq(cpu, 40);
    CHECK_EQ(cpu->gpr[X86_RSP], FX_STACK - 0x110 - 40);
    CHECK_EQ(stk64(3), FX_STACK - 0x103);
    CHECK_EQ(stk64(4), FX_SS0);
    CHECK_EQ(cpu->seg[X86_SEG_SS].sel, FX_SS0); /* same privilege: kept */
    CHECK_EQ(stk64(2) & X86_FL_RF, 0);          /* no fault: RF as it was */
    idt64(X86_VEC_NMI, FX_CS0, 0x8e, 1);
    x86_deliver_irq(cpu, X86_VEC_NMI);
    CHECK_EQ(cpu->gpr[X86_RSP], FX_IST - 40);
    fx_fini(&fx);
}

TEST(long_trap_gate_keeps_if)
{
    setup64();
    idt64(3, FX_CS0, 0xef, 0);
    cpu->rflags |= X86_FL_IF;
    CHECK_EQ(x86_int(cpu, 3, 0x1001, X86_INT_3), 0);
    CHECK(cpu->rflags & X86_FL_IF);
    CHECK_EQ(stk64(0), 0x1001);
    fx_fini(&fx);
}

/* Each way that a gate can be refused: vector and error code. */
TEST(gate_checks)
{
    static const struct {
        uint16_t sel;
        uint8_t attr;
        uint8_t vec;
        uint32_t err;
    } rows[] = {
        {FX_CS0, 0x0e, X86_VEC_NP, 8 * 33 + 2},   /* gate not present */
        {FX_CS0, 0x8c, X86_VEC_GP, 8 * 33 + 2},   /* no interrupt gate */
        {FX_CS0, 0x9e, X86_VEC_GP, 8 * 33 + 2},   /* S set */
        {0, 0x8e, X86_VEC_GP, 0},                 /* null code segment */
        {FX_SS0, 0x8e, X86_VEC_GP, FX_SS0},       /* no code */
        {FX_NP0, 0x8e, X86_VEC_NP, FX_NP0},       /* code not present */
        {FX_CS16, 0x8e, X86_VEC_GP, FX_CS16},     /* not a 64-bit segment */
        {FX_CS3, 0x8e, X86_VEC_GP, FX_CS3 & ~3U}, /* outer DPL */
        {0xff8, 0x8e, X86_VEC_GP, 0xff8},         /* empty descriptor */
        {0x1ff8, 0x8e, X86_VEC_GP, 0x1ff8},       /* outside the GDT */
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct x86_cpu before;

        setup64();
        idt64(33, rows[i].sel, rows[i].attr, 0);
        memcpy(&before, cpu, sizeof before);
        CHECK_EQ(x86_int(cpu, 33, 0x1002, X86_INT_N), X86_FAULT);
        CHECK_EQ(cpu->exc.vector, rows[i].vec);
        CHECK_EQ(cpu->exc.error, rows[i].err);
        before.exc = cpu->exc;
        CHECK_EQ(memcmp(&before, cpu, offsetof(struct x86_cpu, kick)), 0);
        /* the same from outside: EXT is set, #GP or #NP is delivered */
        x86_deliver_irq(cpu, 33);
        CHECK_EQ(cpu->rip, HANDLER + 16 * rows[i].vec);
        CHECK_EQ(stk64(0), rows[i].err | 1);
        fx_fini(&fx);
    }
    /* the IDT's limit */
    setup64();
    cpu->idtr.limit = 16 * 33 + 14;
    CHECK_EQ(x86_int(cpu, 33, 0x1002, X86_INT_N), X86_FAULT);
    CHECK_EQ(cpu->exc.error, 8 * 33 + 2);
    cpu->idtr.limit++;
    CHECK_EQ(x86_int(cpu, 33, 0x1002, X86_INT_N), 0);
    fx_fini(&fx);
}

TEST(gate_dpl)
{
    setup64();
    fx_user(&fx);
    CHECK_EQ(x86_int(cpu, 33, 0x1002, X86_INT_N), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_GP);
    CHECK_EQ(cpu->exc.error, 8 * 33 + 2);
    CHECK_EQ(x86_int(cpu, 3, 0x1002, X86_INT_3), X86_FAULT);
    /* INT1, interrupts and exceptions don't ask */
    CHECK_EQ(x86_int(cpu, 1, 0x1002, X86_INT_1), 0);
    CHECK_EQ(cpu->cpl, 0);
    fx_user(&fx);
    x86_deliver_irq(cpu, 33);
    CHECK_EQ(cpu->rip, HANDLER + 16 * 33);
    fx_user(&fx);
    idt64(33, FX_CS0, 0xee, 0);
    CHECK_EQ(x86_int(cpu, 33, 0x1002, X86_INT_N), 0);
    CHECK_EQ(cpu->rip, HANDLER + 16 * 33);
    fx_fini(&fx);
}

/* ---- double and triple faults: SDM vol. 3A table 6-5 ---- */

TEST(double_fault_table)
{
    static const uint8_t first[] = {X86_VEC_UD, X86_VEC_GP, X86_VEC_PF};
    /* what happens with a #NP (contributory), then a #PF on the way */
    static const uint8_t np[] = {X86_VEC_NP, X86_VEC_DF, X86_VEC_DF};
    static const uint8_t pf[] = {X86_VEC_PF, X86_VEC_PF, X86_VEC_DF};

    for (unsigned i = 0; i < 3; i++) {
        setup64();
        idt64(first[i], FX_CS0, 0x0e, 0);
        x86_raise(cpu, first[i]);
        x86_deliver(cpu);
        CHECK_EQ(cpu->rip, HANDLER + 16 * np[i]);
        CHECK_EQ(stk64(0), np[i] == X86_VEC_DF ? 0 : 8 * first[i] + 3);
        fx_fini(&fx);

        setup64();
        idt64(first[i], FX_CS0, 0x8e, 1);
        fx_put64(&fx, FX_TSS + 0x24, UINT64_C(0x4000000000));
        x86_raise(cpu, first[i]);
        x86_deliver(cpu);
        /* a #PF handler itself stands on the bad IST when it was first */
        CHECK_EQ(cpu->rip, HANDLER + 16 * pf[i]);
        CHECK_EQ(cpu->cr2,
                 UINT64_C(0x4000000000) - (first[i] == X86_VEC_UD ? 40 : 48));
        fx_fini(&fx);
    }
}

TEST(triple_fault)
{
    setup64();
    idt64(X86_VEC_GP, FX_CS0, 0x0e, 0);
    idt64(X86_VEC_DF, FX_CS0, 0x0e, 0);
    x86_raise(cpu, X86_VEC_GP);
    x86_deliver(cpu);
    CHECK_EQ(cpu->activity, X86_ACT_SHUTDOWN);
    CHECK_EQ(x86_boundary(cpu), X86_BND_SHUTDOWN);
    fx_fini(&fx);
    /* empty IDT, as kernels reboot */
    setup64();
    cpu->idtr.limit = 0;
    CHECK_EQ(x86_int(cpu, 3, 0x1001, X86_INT_3), X86_FAULT);
    x86_deliver(cpu);
    CHECK_EQ(cpu->activity, X86_ACT_SHUTDOWN);
    fx_fini(&fx);
}

TEST(pushed_rf)
{
    static const struct {
        uint8_t vec;
        bool rf;
    } rows[] = {{X86_VEC_DE, true},  {X86_VEC_UD, true}, {X86_VEC_NM, true},
                {X86_VEC_GP, true},  {X86_VEC_PF, true}, {X86_VEC_MF, true},
                {X86_VEC_DB, false}, {X86_VEC_MC, false}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        setup64();
        x86_raise(cpu, rows[i].vec);
        x86_deliver(cpu);
        CHECK_EQ(!!(stk64(cpu->exc.has_error ? 3 : 2) & X86_FL_RF), rows[i].rf);
        fx_fini(&fx);
    }
}

/* ---- 32-bit protected mode ---- */

TEST(prot_inner_and_back)
{
    setup32();
    fx_user(&fx);
    cpu->rip = 0x4321;
    cpu->rflags |= X86_FL_IF;
    x86_raise_pf(cpu, gva(0xdead000), 6);
    x86_deliver(cpu);
    CHECK_EQ(cpu->cr2, 0xdead000);
    CHECK_EQ(cpu->rip, HANDLER + 16 * 14);
    CHECK_EQ(cpu->seg[X86_SEG_SS].sel, FX_SS0);
    CHECK_EQ(cpu->gpr[X86_RSP], FX_STACK - 24);
    CHECK_EQ(stk32(0), 6);
    CHECK_EQ(stk32(1), 0x4321);
    CHECK_EQ(stk32(2), FX_CS3);
    CHECK_EQ(stk32(3), X86_FL_ONE | X86_FL_IF | X86_FL_RF);
    CHECK_EQ(stk32(4), FX_USTK);
    CHECK_EQ(stk32(5), FX_SS3);
    cpu->gpr[X86_RSP] += 4;
    CHECK_EQ(x86_iret(cpu, 4), 0);
    CHECK_EQ(cpu->cpl, 3);
    CHECK_EQ(cpu->rip, 0x4321);
    CHECK_EQ(cpu->gpr[X86_RSP], FX_USTK);
    CHECK_EQ(cpu->rflags, X86_FL_ONE | X86_FL_IF | X86_FL_RF);
    CHECK_EQ(cpu->seg[X86_SEG_SS].sel, FX_SS3);
    fx_fini(&fx);
}

TEST(prot_16_bit_gate)
{
    setup32();
    idt32(33, FX_CS0, 0x86);
    cpu->rip = 0x12345;
    x86_deliver_irq(cpu, 33);
    CHECK_EQ(cpu->gpr[X86_RSP], FX_STACK - 0x100 - 6);
    CHECK_EQ(fx_get32(&fx, cpu->gpr[X86_RSP]) & 0xffff, 0x2345);
    CHECK_EQ(cpu->rip, (HANDLER + 16 * 33) & 0xffff);
    fx_fini(&fx);
}

TEST(prot_bad_inner_stack)
{
    setup32();
    fx_user(&fx);
    fx_put32(&fx, FX_TSS + 8, FX_SS3); /* RPL and DPL 3 for ring 0 */
    x86_deliver_irq(cpu, 33);
    /* #TS cannot be delivered for the same reason: #DF, then shutdown */
    CHECK_EQ(cpu->activity, X86_ACT_SHUTDOWN);
    fx_fini(&fx);
    setup32();
    fx_user(&fx);
    fx_put32(&fx, FX_TSS + 8, FX_SS3);
    idt32(33, FX_CS0, 0xee);
    CHECK_EQ(x86_int(cpu, 33, 0x1002, X86_INT_N), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_TS);
    CHECK_EQ(cpu->exc.error, FX_SS3 & ~3U);
    fx_put32(&fx, FX_TSS + 8, 0);
    CHECK_EQ(x86_int(cpu, 33, 0x1002, X86_INT_N), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_TS);
    CHECK_EQ(cpu->exc.error, 0);
    cpu->tr.limit = 8;
    CHECK_EQ(x86_int(cpu, 33, 0x1002, X86_INT_N), X86_FAULT);
    CHECK_EQ(cpu->exc.error, FX_TR);
    fx_fini(&fx);
}

/* ---- real mode and v8086 ---- */

TEST(real_mode)
{
    fx_init(&fx, 1);
    fx_put32(&fx, 4 * 0x21, 0x12345678U);
    cpu->seg[X86_SEG_CS].sel = 0x100;
    cpu->seg[X86_SEG_CS].base = 0x1000;
    x86_seg_set_real(cpu, X86_SEG_SS, 0x2000);
    cpu->gpr[X86_RSP] = UINT64_C(0xaaaa0002); /* wraps at 64 KiB */
    cpu->rflags |= X86_FL_IF;
    CHECK_EQ(x86_int(cpu, 0x21, 0x55, X86_INT_N), 0);
    CHECK_EQ(cpu->rip, 0x5678);
    CHECK_EQ(cpu->seg[X86_SEG_CS].base, 0x12340);
    CHECK_EQ(cpu->gpr[X86_RSP], UINT64_C(0xaaaafffc));
    CHECK_EQ(fx_get32(&fx, 0x2fffc), 0x01000055U);
    CHECK_EQ(fx_get32(&fx, 0x20000) & 0xffff, X86_FL_ONE | X86_FL_IF);
    CHECK(!(cpu->rflags & X86_FL_IF));
    CHECK_EQ(x86_iret(cpu, 2), 0);
    CHECK_EQ(cpu->rip, 0x55);
    CHECK_EQ(cpu->seg[X86_SEG_CS].sel, 0x100);
    CHECK_EQ(cpu->gpr[X86_RSP], UINT64_C(0xaaaa0002));
    CHECK(cpu->rflags & X86_FL_IF);
    fx_fini(&fx);
}

TEST(v86_round_trip)
{
    uint32_t frame[9] = {0x77,   0x1000, 0,      0xfffe, 0x2000,
                         0x3000, 0x4000, 0x5000, 0x6000};

    setup32();
    frame[2] = (uint32_t)(X86_FL_VM | X86_FL_IF | X86_FL_ONE);
    cpu->gpr[X86_RSP] = FX_STACK - sizeof frame;
    fx_write(&fx, cpu->gpr[X86_RSP], frame, sizeof frame);
    CHECK_EQ(x86_iret(cpu, 4), 0);
    CHECK_EQ(cpu->cpl, 3);
    CHECK(cpu->rflags & X86_FL_VM);
    CHECK_EQ(cpu->rip, 0x77);
    CHECK_EQ(cpu->seg[X86_SEG_CS].base, 0x10000);
    CHECK_EQ(cpu->seg[X86_SEG_GS].base, 0x60000);
    CHECK_EQ(cpu->gpr[X86_RSP], 0xfffe);
    CHECK_EQ(x86_mode(cpu), X86_MODE_16);
    /* IOPL 0: INT n is the monitor's */
    CHECK_EQ(x86_int(cpu, 0x21, 0x79, X86_INT_N), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_GP);
    x86_deliver(cpu);
    CHECK_EQ(cpu->cpl, 0);
    CHECK(!(cpu->rflags & X86_FL_VM));
    CHECK_EQ(cpu->gpr[X86_RSP], FX_STACK - 40);
    CHECK_EQ(stk32(0), 0);
    CHECK_EQ(stk32(1), 0x77);
    CHECK_EQ(stk32(2), 0x1000);
    CHECK_EQ(stk32(4), 0xfffe);
    CHECK_EQ(stk32(5), 0x2000);
    CHECK_EQ(stk32(6), 0x3000); /* ES DS FS GS */
    CHECK_EQ(stk32(9), 0x6000);
    CHECK(cpu->seg[X86_SEG_DS].attr & X86_SEG_UNUSABLE);
    fx_fini(&fx);
}

/* ---- IRETQ ---- */

static void frame64(uint64_t rip, uint64_t cs, uint64_t fl, uint64_t rsp,
                    uint64_t ss)
{
    const uint64_t f[5] = {rip, cs, fl, rsp, ss};

    cpu->gpr[X86_RSP] = FX_STACK - 0x200;
    fx_write(&fx, cpu->gpr[X86_RSP], f, sizeof f);
}

TEST(iretq)
{
    static const struct {
        uint64_t rip, cs, ss;
        uint8_t vec;
        uint32_t err;
    } bad[] = {
        {0x1000, 0, FX_SS3, X86_VEC_GP, 0},
        {0x1000, FX_SS0, FX_SS0, X86_VEC_GP, FX_SS0},
        {0x1000, FX_CS3 & ~3, FX_SS0, X86_VEC_GP, FX_CS3 & ~3},
        {0x1000, FX_NP0, FX_SS0, X86_VEC_NP, FX_NP0},
        {0x1000, FX_CS3, FX_SS0, X86_VEC_GP, FX_SS0},
        {0x1000, FX_CS3, 0, X86_VEC_GP, 0},
        {0x1000, FX_CS3, 3, X86_VEC_GP, 0},
        {UINT64_C(0x800000000000), FX_CS3, FX_SS3, X86_VEC_GP, 0},
    };

    setup64();
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        frame64(bad[i].rip, bad[i].cs, 2, 0x9000, bad[i].ss);
        CHECK_EQ(x86_iret(cpu, 8), X86_FAULT);
        CHECK_EQ(cpu->exc.vector, bad[i].vec);
        CHECK_EQ(cpu->exc.error, bad[i].err);
        CHECK_EQ(cpu->cpl, 0);
    }
    /* to ring 0 with a null SS, which 64-bit mode allows */
    frame64(0x2000, FX_CS0, X86_FL_ONE | X86_FL_IF | X86_FL_IOPL, 0x9000, 0);
    cpu->nmi_blocked = true;
    CHECK_EQ(x86_iret(cpu, 8), 0);
    CHECK(!cpu->nmi_blocked);
    CHECK_EQ(cpu->gpr[X86_RSP], 0x9000);
    CHECK_EQ(cpu->rflags, X86_FL_ONE | X86_FL_IF | X86_FL_IOPL);
    /* to ring 3: data segments of ring 0 go, FS keeps nothing either */
    cpu->rflags = X86_FL_ONE;
    cpu->seg[X86_SEG_FS] =
        (struct x86_seg){.base = 0x1234, .attr = (uint32_t)X86_SEG_UNUSABLE};
    frame64(0x3000, FX_CS3, X86_FL_ONE | X86_FL_IF | X86_FL_VM, 0x8000, FX_SS3);
    CHECK_EQ(x86_iret(cpu, 8), 0);
    CHECK_EQ(cpu->cpl, 3);
    CHECK_EQ(cpu->rflags, X86_FL_ONE | X86_FL_IF); /* VM cannot come */
    CHECK(cpu->seg[X86_SEG_DS].attr & X86_SEG_UNUSABLE);
    CHECK_EQ(cpu->seg[X86_SEG_FS].base, 0x1234); /* null already: kept */
    /* ring 3 cannot change IOPL or IF */
    cpu->gpr[X86_RSP] = 0;
    frame64(0x3000, FX_CS3, X86_FL_ONE | X86_FL_IOPL, 0x8000, FX_SS3);
    CHECK_EQ(x86_iret(cpu, 8), 0);
    CHECK_EQ(cpu->rflags, X86_FL_ONE | X86_FL_IF);
    /* NT in long mode */
    cpu->rflags |= X86_FL_NT;
    CHECK_EQ(x86_iret(cpu, 8), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_GP);
    fx_fini(&fx);
}

/* ---- system calls ---- */

TEST(syscall_sysret)
{
    setup64();
    fx_user(&fx);
    cpu->msr.star = UINT64_C(0x0010000800000000);
    cpu->msr.lstar = UINT64_C(0xffffffff81000000);
    cpu->msr.fmask = X86_FL_IF | X86_FL_DF;
    cpu->rflags |= X86_FL_IF | X86_FL_DF | X86_FL_RF;
    CHECK_EQ(x86_syscall(cpu, 0x4002), 0);
    CHECK_EQ(cpu->rip, cpu->msr.lstar);
    CHECK_EQ(cpu->gpr[X86_RCX], 0x4002);
    CHECK_EQ(cpu->gpr[X86_R11], X86_FL_ONE | X86_FL_IF | X86_FL_DF);
    CHECK_EQ(cpu->rflags, X86_FL_ONE);
    CHECK_EQ(cpu->cpl, 0);
    CHECK_EQ(cpu->seg[X86_SEG_CS].sel, 8);
    CHECK_EQ(cpu->seg[X86_SEG_SS].sel, 16);
    CHECK_EQ(x86_mode(cpu), X86_MODE_64);
    cpu->gpr[X86_RCX] = BIT(47);
    CHECK_EQ(x86_sysret(cpu, 8), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_GP);
    CHECK_EQ(cpu->cpl, 0);
    cpu->gpr[X86_RCX] = UINT64_C(0x123456789a);
    cpu->gpr[X86_R11] = ~UINT64_C(0);
    CHECK_EQ(x86_sysret(cpu, 8), 0);
    CHECK_EQ(cpu->rip, UINT64_C(0x123456789a));
    CHECK_EQ(cpu->rflags, UINT64_C(0x3c7fd7));
    CHECK_EQ(cpu->cpl, 3);
    CHECK_EQ(cpu->seg[X86_SEG_CS].sel, 0x23);
    CHECK_EQ(cpu->seg[X86_SEG_SS].sel, 0x1b);
    CHECK_EQ(x86_sysret(cpu, 8), X86_FAULT); /* CPL 3 */
    cpu->cpl = 0;
    CHECK_EQ(x86_sysret(cpu, 4), 0);
    CHECK_EQ(cpu->rip, 0x3456789a);
    CHECK_EQ(cpu->seg[X86_SEG_CS].sel, 0x13);
    CHECK_EQ(x86_mode(cpu), X86_MODE_32);
    CHECK_EQ(x86_syscall(cpu, 1), X86_FAULT); /* compatibility mode */
    CHECK_EQ(cpu->exc.vector, X86_VEC_UD);
    fx_fini(&fx);
}

TEST(sysenter_sysexit)
{
    setup64();
    fx_user(&fx);
    CHECK_EQ(x86_sysenter(cpu), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_GP);
    cpu->msr.sysenter_cs = 8;
    cpu->msr.sysenter_esp = UINT64_C(0xffff880000001000);
    cpu->msr.sysenter_eip = UINT64_C(0xffffffff82000000);
    cpu->rflags |= X86_FL_IF;
    CHECK_EQ(x86_sysenter(cpu), 0);
    CHECK_EQ(cpu->rip, cpu->msr.sysenter_eip);
    CHECK_EQ(cpu->gpr[X86_RSP], cpu->msr.sysenter_esp);
    CHECK_EQ(cpu->rflags, X86_FL_ONE);
    CHECK_EQ(cpu->cpl, 0);
    cpu->gpr[X86_RDX] = UINT64_C(0x100001234);
    cpu->gpr[X86_RCX] = UINT64_C(0x100005678);
    CHECK_EQ(x86_sysexit(cpu, 4), 0);
    CHECK_EQ(cpu->rip, 0x1234);
    CHECK_EQ(cpu->gpr[X86_RSP], 0x5678);
    CHECK_EQ(cpu->seg[X86_SEG_CS].sel, 0x1b);
    CHECK_EQ(cpu->seg[X86_SEG_SS].sel, 0x23);
    CHECK_EQ(x86_sysexit(cpu, 4), X86_FAULT);
    fx_fini(&fx);
}

TEST_MAIN(CASE(long_fault_from_user), CASE(long_aligns_and_ist),
          CASE(long_trap_gate_keeps_if), CASE(gate_checks), CASE(gate_dpl),
          CASE(double_fault_table), CASE(triple_fault), CASE(pushed_rf),
          CASE(prot_inner_and_back), CASE(prot_16_bit_gate),
          CASE(prot_bad_inner_stack), CASE(real_mode), CASE(v86_round_trip),
          CASE(iretq), CASE(syscall_sysret), CASE(sysenter_sysexit))
