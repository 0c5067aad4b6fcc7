// SPDX-License-Identifier: Apache-2.0
/* Tests of the local APIC with a stepped clock; no instructions are run. */
#include "cpu/x86/lapic.h"

#include "base/test.h"
#include "cpu/x86/control.h"
#include "cpu/x86/cpu_fixture.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/msr.h"

static struct fx fx;
static struct x86_cpu *const cpu = &fx.cpu[0];

static void wr(struct x86_cpu *c, uint32_t off, uint32_t val)
{
    x86_lapic_mmio_write(c, off, val, 4);
}

static uint32_t rd(struct x86_cpu *c, uint32_t off)
{
    return (uint32_t)x86_lapic_mmio_read(c, off, 4);
}

static void setup(unsigned n)
{
    fx_init(&fx, n);
    for (unsigned i = 0; i < n; i++)
        wr(&fx.cpu[i], 0xf0, 0x1ff);
}

static void x2_on(struct x86_cpu *c)
{
    uint64_t b = c->lapic.apic_base;

    CHECK_EQ(x86_wrmsr(c, X86_MSR_APIC_BASE, b | X86_APIC_BASE_X2), 0);
}

static bool irr(const struct x86_cpu *c, unsigned v)
{
    return c->lapic.irr[v / 32] >> (v % 32) & 1;
}

/* Post, then let the vCPU look. */
static int pending(struct x86_cpu *c)
{
    x86_lapic_take_posted(c);
    return x86_lapic_pending(c);
}

static void step(uint64_t ns)
{
    clock_virtual_add(fx.vm.clock, ns);
    clock_run(fx.vm.clock);
    for (unsigned i = 0; i < fx.topo.ncpus; i++)
        if (kick_pending(&fx.cpu[i].kick) & KICK_TIMER) {
            kick_clear(&fx.cpu[i].kick, KICK_TIMER);
            x86_lapic_timer_expired(&fx.cpu[i]);
        }
}

TEST(reset_values)
{
    fx_init(&fx, 2);
    CHECK_EQ(rd(cpu, 0x20), 0);
    CHECK_EQ(rd(&fx.cpu[1], 0x20), 1U << 24);
    CHECK_EQ(rd(cpu, 0x30) & 0xff, 0x14);
    CHECK_EQ(rd(cpu, 0xf0), 0xff);
    CHECK_EQ(rd(cpu, 0xe0), 0xffffffffU);
    CHECK_EQ(rd(cpu, 0x320), 0x10000);
    CHECK_EQ(cpu->lapic.apic_base, UINT64_C(0xfee00900));
    CHECK_EQ(fx.cpu[1].lapic.apic_base, UINT64_C(0xfee00800));
    /* software-disabled: nothing is accepted, masks cannot be cleared */
    kick_post(&cpu->kick, 0x40, false);
    CHECK_EQ(pending(cpu), -1);
    CHECK(!irr(cpu, 0x40));
    wr(cpu, 0x320, 0x40);
    CHECK_EQ(rd(cpu, 0x320), 0x10040);
    fx_fini(&fx);
}

TEST(priorities_and_eoi)
{
    setup(1);
    kick_post(&cpu->kick, 0x45, false);
    kick_post(&cpu->kick, 0x51, false);
    kick_post(&cpu->kick, 0x58, false);
    CHECK_EQ(pending(cpu), 0x58);
    x86_lapic_ack(cpu, 0x58);
    CHECK_EQ(rd(cpu, 0xa0), 0x50); /* PPR */
    CHECK_EQ(pending(cpu), -1);    /* the same class waits */
    kick_post(&cpu->kick, 0x61, false);
    CHECK_EQ(pending(cpu), 0x61);
    x86_lapic_ack(cpu, 0x61);
    wr(cpu, 0xb0, 0);
    CHECK_EQ(pending(cpu), -1);
    wr(cpu, 0xb0, 0);
    CHECK_EQ(pending(cpu), 0x51);
    wr(cpu, 0x80, 0x4f);
    CHECK_EQ(pending(cpu), 0x51);
    wr(cpu, 0x80, 0x50);
    CHECK_EQ(pending(cpu), -1);
    CHECK_EQ(x86_lapic_cr8(cpu), 5);
    x86_lapic_cr8_write(cpu, 0);
    CHECK_EQ(rd(cpu, 0x80), 0);
    fx_fini(&fx);
}

static unsigned eois, eoi_vec;
static void on_eoi(void *ctx, uint8_t vec)
{
    (void)ctx;
    eois++;
    eoi_vec = vec;
}

TEST(level_eoi)
{
    setup(1);
    eois = 0;
    fx.topo.eoi = on_eoi;
    kick_post(&cpu->kick, 0x41, true);
    kick_post(&cpu->kick, 0x52, false);
    CHECK_EQ(pending(cpu), 0x52);
    x86_lapic_ack(cpu, 0x52);
    wr(cpu, 0xb0, 0);
    CHECK_EQ(eois, 0);
    CHECK_EQ(rd(cpu, 0x1a0), 2); /* TMR of 0x41 */
    x86_lapic_ack(cpu, 0x41);
    wr(cpu, 0xb0, 0);
    CHECK_EQ(eois, 1);
    CHECK_EQ(eoi_vec, 0x41);
    wr(cpu, 0xb0, 0); /* nothing in service: ignored */
    CHECK_EQ(eois, 1);
    fx_fini(&fx);
}

/* ---- messages ---- */

/* Which vCPUs have @v, as a bit mask; clears it. */
static unsigned got(unsigned v)
{
    unsigned m = 0;

    for (unsigned i = 0; i < fx.topo.ncpus; i++) {
        x86_lapic_take_posted(&fx.cpu[i]);
        if (irr(&fx.cpu[i], v))
            m |= 1U << i;
        fx.cpu[i].lapic.irr[v / 32] &= ~(1U << (v % 32));
    }
    return m;
}

static void msi(unsigned dest, unsigned mode, uint32_t data)
{
    x86_lapic_msi(&fx.topo, 0xfee00000U | dest << 12 | mode, data);
}

TEST(msi_destinations)
{
    setup(4);
    msi(2, 0, 0x40);
    CHECK_EQ(got(0x40), 4);
    msi(0xff, 0, 0x40);
    CHECK_EQ(got(0x40), 15);
    msi(9, 0, 0x40);
    CHECK_EQ(got(0x40), 0);
    /* flat logical */
    for (unsigned i = 0; i < 4; i++)
        wr(&fx.cpu[i], 0xd0, 1U << (24 + i));
    msi(0x0a, 4, 0x40);
    CHECK_EQ(got(0x40), 10);
    /* lowest priority: exactly one of them */
    msi(0x0c, 4, 0x140);
    CHECK_EQ(got(0x40), 4);
    msi(0x0a, 0xc, 0x40); /* redirection hint */
    CHECK_EQ(got(0x40), 2);
    /* clusters */
    for (unsigned i = 0; i < 4; i++) {
        wr(&fx.cpu[i], 0xe0, 0x0fffffff);
        wr(&fx.cpu[i], 0xd0, (i / 2) << 28 | 1U << (24 + i % 2));
    }
    msi(0x13, 4, 0x40);
    CHECK_EQ(got(0x40), 12);
    msi(0x01, 4, 0x40);
    CHECK_EQ(got(0x40), 1);
    /* x2APIC: logical ids follow from the APIC id */
    for (unsigned i = 0; i < 4; i++)
        x2_on(&fx.cpu[i]);
    msi(0x09, 4, 0x40);
    CHECK_EQ(got(0x40), 9);
    /* level, NMI */
    msi(1, 0, 0x8055 | 1U << 14);
    CHECK_EQ(got(0x55), 2);
    CHECK_EQ(fx.cpu[1].lapic.tmr[2], 1U << 21);
    msi(3, 0, 0x400);
    CHECK_EQ(kick_pending(&fx.cpu[3].kick) & KICK_NMI, KICK_NMI);
    fx_fini(&fx);
}

TEST(ipis)
{
    setup(4);
    wr(cpu, 0x310, 2U << 24);
    wr(cpu, 0x300, 0x40);
    CHECK_EQ(got(0x40), 4);
    CHECK_EQ(rd(cpu, 0x310), 2U << 24);
    CHECK_EQ(rd(cpu, 0x300), 0x40);
    wr(cpu, 0x300, 0x40 | 1U << 18); /* self */
    CHECK_EQ(got(0x40), 1);
    wr(cpu, 0x300, 0x40 | 2U << 18); /* all */
    CHECK_EQ(got(0x40), 15);
    wr(cpu, 0x300, 0x40 | 3U << 18); /* all but self */
    CHECK_EQ(got(0x40), 14);
    wr(cpu, 0x300, 0xc500); /* INIT to 2 */
    CHECK_EQ(kick_pending(&fx.cpu[2].kick), KICK_INIT);
    wr(cpu, 0x300, 0x8500); /* de-assert: nothing */
    wr(cpu, 0x300, 0x69a);  /* SIPI */
    CHECK_EQ(kick_pending(&fx.cpu[2].kick), KICK_INIT | KICK_SIPI);
    CHECK_EQ(fx.cpu[2].kick.sipi_vector, 0x9a);
    CHECK_EQ(kick_pending(&fx.cpu[1].kick), 0);
    /* an illegal vector is an error at the sender */
    wr(cpu, 0x300, 0x0f);
    wr(cpu, 0x280, 0);
    CHECK_EQ(rd(cpu, 0x280), 0x20);
    wr(cpu, 0x280, 0);
    CHECK_EQ(rd(cpu, 0x280), 0);
    fx_fini(&fx);
}

TEST(x2apic_registers)
{
    uint64_t v;

    setup(4);
    CHECK_EQ(x86_rdmsr(cpu, 0x802, &v), X86_FAULT); /* still xAPIC */
    x2_on(&fx.cpu[3]);
    CHECK_EQ(x86_lapic_page(&fx.cpu[3]), UINT64_MAX);
    CHECK_EQ(x86_rdmsr(&fx.cpu[3], 0x802, &v), 0);
    CHECK_EQ(v, 3);
    CHECK_EQ(x86_rdmsr(&fx.cpu[3], 0x80d, &v), 0);
    CHECK_EQ(v, 8);
    CHECK_EQ(x86_wrmsr(&fx.cpu[3], 0x830, UINT64_C(0x100000040)), 0);
    CHECK_EQ(got(0x40), 2);
    CHECK_EQ(x86_wrmsr(&fx.cpu[3], 0x83f, 0x66), 0);
    CHECK_EQ(got(0x66), 8);
    CHECK_EQ(x86_wrmsr(&fx.cpu[3], 0x80b, 0), 0);
    CHECK_EQ(x86_wrmsr(&fx.cpu[3], 0x80b, 1), X86_FAULT);
    CHECK_EQ(x86_wrmsr(&fx.cpu[3], 0x802, 1), X86_FAULT);
    CHECK_EQ(x86_wrmsr(&fx.cpu[3], 0x808, 0x100), X86_FAULT);
    CHECK_EQ(x86_rdmsr(&fx.cpu[3], 0x80b, &v), X86_FAULT);
    CHECK_EQ(x86_rdmsr(&fx.cpu[3], 0x80e, &v), X86_FAULT);
    CHECK_EQ(x86_rdmsr(&fx.cpu[3], 0x831, &v), X86_FAULT);
    CHECK_EQ(x86_rdmsr(&fx.cpu[3], 0x840, &v), X86_FAULT);
    CHECK_EQ(x86_wrmsr(&fx.cpu[3], 0x828, 1), X86_FAULT);
    CHECK_EQ(x86_wrmsr(&fx.cpu[3], 0x830, 0x40 | BIT(13)), X86_FAULT);
    fx_fini(&fx);
}

TEST(base_transitions)
{
    uint64_t b = X86_LAPIC_BASE_DEFAULT | X86_APIC_BASE_BSP;

    setup(1);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_APIC_BASE, b | X86_APIC_BASE_X2),
             X86_FAULT);
    x2_on(cpu);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_APIC_BASE, b | X86_APIC_BASE_EN),
             X86_FAULT);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_APIC_BASE, b), 0);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_APIC_BASE,
                       b | X86_APIC_BASE_EN | X86_APIC_BASE_X2),
             X86_FAULT);
    CHECK_EQ(cpu->lapic.svr, 0xff); /* disabling reset it */
    CHECK(x86_lapic_extint_ok(cpu));
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_APIC_BASE, b | X86_APIC_BASE_EN), 0);
    CHECK(!x86_lapic_extint_ok(cpu));
    CHECK_EQ(
        x86_wrmsr(cpu, X86_MSR_APIC_BASE, UINT64_C(0x1000) | X86_APIC_BASE_EN),
        0);
    CHECK_EQ(x86_lapic_page(cpu), 0x1000);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_APIC_BASE, BIT(45)), X86_FAULT);
    fx_fini(&fx);
}

/* ---- the timer: 1 GHz crystal ---- */

TEST(timer_oneshot)
{
    setup(1);
    wr(cpu, 0x320, 0x40);
    wr(cpu, 0x3e0, 3); /* divide by 16 */
    wr(cpu, 0x380, 1000);
    step(8000);
    CHECK_EQ(rd(cpu, 0x390), 500);
    CHECK_EQ(rd(cpu, 0x380), 1000);
    step(7999);
    CHECK(!irr(cpu, 0x40));
    step(1);
    CHECK(irr(cpu, 0x40));
    CHECK_EQ(rd(cpu, 0x390), 0);
    cpu->lapic.irr[2] = 0;
    step(100000);
    CHECK(!irr(cpu, 0x40));
    /* written with 0 it stops */
    wr(cpu, 0x380, 1000);
    wr(cpu, 0x380, 0);
    step(100000);
    CHECK(!irr(cpu, 0x40));
    fx_fini(&fx);
}

TEST(timer_periodic)
{
    unsigned n = 0;

    setup(1);
    wr(cpu, 0x3e0, 0xb); /* divide by 1 */
    wr(cpu, 0x320, 0x20040);
    wr(cpu, 0x380, 50000);
    for (unsigned i = 0; i < 100; i++) {
        step(10000);
        n += irr(cpu, 0x40);
        cpu->lapic.irr[2] = 0;
    }
    CHECK_EQ(n, 20);
    step(20000);
    CHECK_EQ(rd(cpu, 0x390), 30000);
    /* masked: counts on, silently */
    wr(cpu, 0x320, 0x30040);
    step(500000);
    CHECK(!irr(cpu, 0x40));
    CHECK_EQ(rd(cpu, 0x390), 30000);
    fx_fini(&fx);
}

TEST(timer_dividers)
{
    static const uint8_t dcr[] = {0xb, 0, 1, 2, 3, 8, 9, 0xa};

    setup(1);
    for (unsigned i = 0; i < 8; i++) {
        wr(cpu, 0x3e0, dcr[i]);
        wr(cpu, 0x380, 1000000);
        step(128000);
        CHECK_EQ(rd(cpu, 0x390), 1000000 - (128000 >> i));
    }
    fx_fini(&fx);
}

TEST(timer_deadline)
{
    uint64_t v;

    setup(1);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_TSC_DEADLINE, 5000), 0);
    CHECK_EQ(x86_rdmsr(cpu, X86_MSR_TSC_DEADLINE, &v), 0);
    CHECK_EQ(v, 0); /* not in that mode: ignored */
    wr(cpu, 0x320, 0x40040);
    step(1000);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_TSC, 1000000), 0);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_TSC_DEADLINE, 1005000), 0);
    step(4990);
    CHECK(!irr(cpu, 0x40));
    CHECK_EQ(x86_rdmsr(cpu, X86_MSR_TSC_DEADLINE, &v), 0);
    CHECK_EQ(v, 1005000);
    step(11);
    CHECK(irr(cpu, 0x40));
    CHECK_EQ(x86_rdmsr(cpu, X86_MSR_TSC_DEADLINE, &v), 0);
    CHECK_EQ(v, 0);
    cpu->lapic.irr[2] = 0;
    /* in the past: at once */
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_TSC_DEADLINE, 5), 0);
    step(0);
    CHECK(irr(cpu, 0x40));
    cpu->lapic.irr[2] = 0;
    /* later ones may reuse an earlier arming; disarming is quiet */
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_TSC_DEADLINE, 1010000), 0);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_TSC_DEADLINE, 1050000), 0);
    step(20000);
    CHECK(!irr(cpu, 0x40));
    step(30000);
    CHECK(irr(cpu, 0x40));
    cpu->lapic.irr[2] = 0;
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_TSC_DEADLINE, 1090000), 0);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_TSC_DEADLINE, 0), 0);
    step(100000);
    CHECK(!irr(cpu, 0x40));
    fx_fini(&fx);
}

TEST(mmio_page_through_linear_memory)
{
    uint32_t v = 0x1ff;

    fx_init(&fx, 1);
    CHECK_EQ(cpu->lin->write(cpu->lin_ctx, gva(0xfee000f0U), &v, 4, 0), 0);
    CHECK_EQ(cpu->lapic.svr, 0x1ff);
    v = 0;
    CHECK_EQ(cpu->lin->read(cpu->lin_ctx, gva(0xfee000f0U), &v, 4, 0), 0);
    CHECK_EQ(v, 0x1ff);
    v = 0;
    CHECK_EQ(cpu->lin->read(cpu->lin_ctx, gva(0xfee000f1U), &v, 1, 0), 0);
    CHECK_EQ(v, 1);
    fx_fini(&fx);
}

TEST_MAIN(CASE(reset_values), CASE(priorities_and_eoi), CASE(level_eoi),
          CASE(msi_destinations), CASE(ipis), CASE(x2apic_registers),
          CASE(base_transitions), CASE(timer_oneshot), CASE(timer_periodic),
          CASE(timer_dividers), CASE(timer_deadline),
          CASE(mmio_page_through_linear_memory))
