// SPDX-License-Identifier: Apache-2.0
/* Tests of debug events and of what instruction boundaries take. */
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

static void setup64(void)
{
    fx_init(&fx, 1);
    fx_tables(&fx, true);
    for (unsigned v = 0; v < 64; v++)
        idt64(v, FX_CS0, 0x8e, 0);
}

/* ---- debug ---- */

TEST(code_breakpoints)
{
    setup64();
    cpu->dr[2] = 0x1000;
    cpu->dr7 = X86_DR7_FIXED | 1U << 4;
    CHECK_EQ(x86_check_code_bp(cpu), X86_FAULT);
    CHECK_EQ(cpu->exc.dr6, 4);
    cpu->rflags |= X86_FL_RF;
    CHECK_EQ(x86_check_code_bp(cpu), 0);
    cpu->rflags &= ~X86_FL_RF;
    cpu->dr7 |= 1U << 24; /* a data breakpoint now */
    CHECK_EQ(x86_check_code_bp(cpu), 0);
    cpu->dr7 = X86_DR7_FIXED;
    CHECK_EQ(x86_check_code_bp(cpu), 0);
    fx_fini(&fx);
}

TEST(data_breakpoints_and_step)
{
    setup64();
    cpu->dr[1] = 0x2004;
    /* L1, write, 4 bytes */
    cpu->dr7 = X86_DR7_FIXED | 1U << 2 | 1U << 20 | 3U << 22;
    x86_check_data_bp(cpu, 0x2000, 4, true);
    x86_check_data_bp(cpu, 0x2008, 1, true);
    x86_check_data_bp(cpu, 0x2004, 4, false);
    CHECK_EQ(x86_debug_trap(cpu, false), 0);
    x86_check_data_bp(cpu, 0x2003, 2, true);
    cpu->shadow = X86_SHADOW_MOVSS;
    CHECK_EQ(x86_debug_trap(cpu, true), 0); /* held back */
    cpu->shadow = 0;
    CHECK_EQ(x86_debug_trap(cpu, true), X86_FAULT);
    CHECK_EQ(cpu->exc.dr6, X86_DR6_BS | 2);
    cpu->dr6 = X86_DR6_FIXED | 9;
    cpu->dr7 |= X86_DR7_GD;
    x86_deliver(cpu);
    CHECK_EQ(cpu->dr6, X86_DR6_FIXED | X86_DR6_BS | 2);
    CHECK(!(cpu->dr7 & X86_DR7_GD));
    CHECK_EQ(cpu->rip, HANDLER + 16);
    CHECK_EQ(x86_debug_trap(cpu, false), 0);
    fx_fini(&fx);
}

/* ---- boundaries ---- */

TEST(boundary_interrupts)
{
    setup64();
    cpu->lapic.svr = 0x1ff;
    CHECK_EQ(x86_boundary(cpu), X86_BND_NONE);
    kick_post(&cpu->kick, 48, false);
    CHECK_EQ(x86_boundary(cpu), X86_BND_NONE); /* IF is clear */
    CHECK(!x86_irq_window(cpu));
    cpu->rflags |= X86_FL_IF;
    cpu->shadow = X86_SHADOW_STI;
    CHECK(!x86_irq_window(cpu));
    CHECK_EQ(x86_boundary(cpu), X86_BND_NONE);
    cpu->shadow = 0;
    CHECK(x86_irq_window(cpu));
    x86_lapic_cr8_write(cpu, 3);
    CHECK(!x86_irq_window(cpu));
    x86_lapic_cr8_write(cpu, 2);
    CHECK_EQ(x86_boundary(cpu), X86_BND_DELIVERED);
    CHECK_EQ(cpu->rip, HANDLER + 16 * 48);
    CHECK_EQ(cpu->lapic.isr[1], 1U << 16);
    CHECK_EQ(cpu->lapic.irr[1], 0);
    fx_fini(&fx);
}

TEST(boundary_nmi)
{
    setup64();
    kick_request(&cpu->kick, KICK_NMI);
    CHECK_EQ(x86_boundary(cpu), X86_BND_DELIVERED);
    CHECK_EQ(cpu->rip, HANDLER + 16 * 2);
    kick_request(&cpu->kick, KICK_NMI);
    CHECK_EQ(x86_boundary(cpu), X86_BND_NONE); /* until IRET */
    CHECK_EQ(x86_iret(cpu, 8), 0);
    CHECK(x86_irq_window(cpu));
    CHECK_EQ(x86_boundary(cpu), X86_BND_DELIVERED);
    fx_fini(&fx);
}

TEST(boundary_halt)
{
    setup64();
    cpu->lapic.svr = 0x1ff;
    CHECK_EQ(x86_hlt(cpu), 0);
    CHECK_EQ(x86_boundary(cpu), X86_BND_HALTED);
    kick_post(&cpu->kick, 50, false);
    CHECK_EQ(x86_boundary(cpu), X86_BND_HALTED);
    cpu->rflags |= X86_FL_IF;
    cpu->shadow = X86_SHADOW_STI; /* sti; hlt */
    CHECK_EQ(x86_boundary(cpu), X86_BND_DELIVERED);
    CHECK_EQ(cpu->activity, X86_ACT_RUN);
    kick_request(&cpu->kick, KICK_PARK);
    CHECK_EQ(x86_boundary(cpu), X86_BND_PARKED);
    fx_fini(&fx);
}

static uint8_t intack33(void *ctx)
{
    kick_clear(&((struct x86_cpu *)ctx)->kick, KICK_EXTINT);
    return 33;
}

TEST(boundary_extint)
{
    setup64();
    fx.topo.intack = intack33;
    fx.topo.ctx = cpu;
    cpu->rflags |= X86_FL_IF;
    kick_request(&cpu->kick, KICK_EXTINT);
    CHECK_EQ(x86_boundary(cpu), X86_BND_NONE); /* LINT0 is masked */
    cpu->lapic.lvt[X86_LVT_LINT0] = 0x700;
    CHECK_EQ(x86_boundary(cpu), X86_BND_DELIVERED);
    CHECK_EQ(cpu->rip, HANDLER + 16 * 33);
    CHECK_EQ(kick_pending(&cpu->kick), 0);
    fx_fini(&fx);
}

TEST(boundary_init_sipi)
{
    struct x86_cpu *ap = &fx.cpu[1];

    fx_init(&fx, 2);
    CHECK_EQ(x86_boundary(ap), X86_BND_HALTED);
    atomic_store(&ap->kick.sipi_vector, 0x9a);
    kick_request(&ap->kick, KICK_SIPI);
    CHECK_EQ(x86_boundary(ap), X86_BND_DELIVERED);
    CHECK_EQ(ap->activity, X86_ACT_RUN);
    CHECK_EQ(ap->seg[X86_SEG_CS].sel, 0x9a00);
    CHECK_EQ(ap->seg[X86_SEG_CS].base, 0x9a000);
    CHECK_EQ(ap->rip, 0);
    /* a second SIPI is nothing to a running CPU */
    ap->rip = 0x40;
    kick_request(&ap->kick, KICK_SIPI);
    CHECK_EQ(x86_boundary(ap), X86_BND_NONE);
    CHECK_EQ(ap->rip, 0x40);
    ap->msr.lstar = 0x1234;
    ap->xsave.b[160] = 0x77;
    kick_request(&ap->kick, KICK_INIT);
    CHECK_EQ(x86_boundary(ap), X86_BND_HALTED);
    CHECK_EQ(ap->activity, X86_ACT_WAIT_SIPI);
    CHECK_EQ(ap->msr.lstar, 0x1234);
    CHECK_EQ(ap->xsave.b[160], 0x77);
    /* INIT on the BSP starts it at the reset vector */
    kick_request(&cpu->kick, KICK_INIT);
    cpu->rip = 0x77;
    CHECK_EQ(x86_boundary(cpu), X86_BND_DELIVERED);
    CHECK_EQ(cpu->rip, 0xfff0);
    CHECK_EQ(cpu->seg[X86_SEG_CS].base, 0xffff0000U);
    fx_fini(&fx);
}

TEST_MAIN(CASE(code_breakpoints), CASE(data_breakpoints_and_step),
          CASE(boundary_interrupts), CASE(boundary_nmi), CASE(boundary_halt),
          CASE(boundary_extint), CASE(boundary_init_sipi))
