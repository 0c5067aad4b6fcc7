// SPDX-License-Identifier: Apache-2.0
/* Tests of reset values and of the state descriptor, hostile streams too. */
#include "cpu/x86/state.h"

#include "base/test.h"
#include "cpu/x86/cpu_fixture.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/msr.h"

static struct fx fx;
static struct x86_cpu *const cpu = &fx.cpu[0];

TEST(power_on)
{
    uint32_t mxcsr;
    uint16_t fcw;

    fx_init(&fx, 2);
    CHECK_EQ(cpu->rip, 0xfff0);
    CHECK_EQ(cpu->rflags, 2);
    CHECK_EQ(cpu->cr0, 0x60000010);
    CHECK_EQ(cpu->seg[X86_SEG_CS].sel, 0xf000);
    CHECK_EQ(cpu->seg[X86_SEG_CS].base, 0xffff0000U);
    CHECK_EQ(cpu->seg[X86_SEG_CS].limit, 0xffff);
    CHECK_EQ(cpu->seg[X86_SEG_DS].attr, 0x93);
    CHECK_EQ(cpu->gpr[X86_RDX] >> 8 & 0xf, 6);
    CHECK_EQ(cpu->dr6, 0xffff0ff0U);
    CHECK_EQ(cpu->dr7, 0x400);
    CHECK_EQ(cpu->idtr.limit, 0xffff);
    CHECK_EQ(cpu->xcr0, 1);
    CHECK_EQ(cpu->msr.pat, UINT64_C(0x0007040600070406));
    memcpy(&fcw, cpu->xsave.b, 2);
    memcpy(&mxcsr, cpu->xsave.b + 24, 4);
    CHECK_EQ(fcw, 0x40);
    CHECK_EQ(mxcsr, 0x1f80);
    CHECK_EQ(cpu->activity, X86_ACT_RUN);
    CHECK_EQ(fx.cpu[1].activity, X86_ACT_WAIT_SIPI);
    fx_fini(&fx);
}

static void busy_state(void)
{
    fx_tables(&fx, true);
    fx_user(&fx);
    for (unsigned i = 0; i < 16; i++)
        cpu->gpr[i] = 0x0101010101010101U * i;
    cpu->msr.lstar = UINT64_C(0xffffffff81000000);
    cpu->lapic.svr = 0x1ff;
    cpu->lapic.lvt[X86_LVT_TIMER] = 0x40040;
    cpu->tsc_offset = 77;
    cpu->icount = 123456;
    cpu->nmi_pending = true;
    cpu->xsave.b[160] = 0x5a;
    cpu->db_pending = X86_DR6_BS;
    x86_lapic_deadline_write(cpu, 100077);
}

TEST(round_trip)
{
    struct state_buf b = {0}, again = {0};
    struct err e = {{0}};

    fx_init(&fx, 1);
    busy_state();
    kick_post(&cpu->kick, 0x66, true);
    kick_request(&cpu->kick, KICK_INIT);
    CHECK_EQ(state_save(&b, &x86_cpu_state, 0, cpu, &e), 0);
    x86_cpu_reset(cpu, false);
    CHECK_EQ(state_load(&b, &x86_cpu_state, 0, cpu, &e), 0);
    if (e.text[0])
        printf("%s\n", e.text);
    CHECK_EQ(cpu->gpr[5], 0x0505050505050505U);
    CHECK_EQ(cpu->cpl, 3);
    CHECK_EQ(cpu->seg[X86_SEG_CS].sel, FX_CS3);
    CHECK_EQ(cpu->msr.lstar, UINT64_C(0xffffffff81000000));
    CHECK_EQ(cpu->xsave.b[160], 0x5a);
    CHECK(cpu->nmi_pending);
    CHECK_EQ(cpu->lapic.irr[3], 1U << 6);
    CHECK_EQ(cpu->lapic.tmr[3], 1U << 6);
    CHECK(kick_pending(&cpu->kick) & KICK_INIT);
    CHECK_EQ(fx.topo.logical[0] & 4, 4);
    /* the deadline is armed again */
    CHECK(clock_next_ns(fx.vm.clock) - 100000 < 10);
    CHECK_EQ(state_save(&again, &x86_cpu_state, 0, cpu, &e), 0);
    CHECK_EQ(again.len, b.len);
    CHECK_EQ(memcmp(again.data, b.data, b.len), 0);
    state_buf_fini(&b);
    state_buf_fini(&again);
    fx_fini(&fx);
}

/* A field spoilt, and the word that the refusal must name. */
struct spoil {
    size_t offset;
    unsigned bytes;
    uint64_t value;
    const char *names;
};

TEST(hostile_values)
{
#define S(f, v, n)                                                             \
    {                                                                          \
        offsetof(struct x86_cpu, f), sizeof(((struct x86_cpu *)0)->f), v, n    \
    }
    static const struct spoil rows[] = {
        S(rip, BIT(47), "rip"),
        S(rflags, 0, "rflags"),
        S(rflags, 2 | X86_FL_VM, "rflags"),
        S(rflags, 2 | BIT(40), "rflags"),
        S(cr0, X86_CR0_PG, "cr0"),
        S(cr0, X86_CR0_PE | X86_CR0_NW, "cr0"),
        S(cr0, BIT(33), "cr0"),
        S(cr4, 0, "cr4"),
        S(cr4, X86_CR4_LA57 | X86_CR4_PAE, "cr4"),
        S(cr3, BIT(45), "cr3"),
        S(efer, X86_EFER_LMA, "efer"),
        S(efer, BIT(14), "efer"),
        S(xcr0, 0, "xcr0"),
        S(xcr0, 0x201, "xcr0"),
        S(cpl, 4, "cpl"),
        S(activity, 9, "activity"),
        S(shadow, 9, "shadow"),
        S(dr7, 0, "dr7"),
        S(dr6, 0, "dr6"),
        S(seg[1].attr, 0xe09b, "cs"),
        S(seg[3].base, BIT(35), "ds"),
        S(seg[5].base, BIT(47), "gs"),
        S(seg[2].attr, 0x80000093, "ss"),
        S(gdtr.base, BIT(50), "gdtr"),
        S(tr.base, BIT(50), "tr"),
        S(msr.lstar, BIT(47), "lstar"),
        S(msr.pat, 2, "pat"),
        S(msr.tsc_aux, BIT(32), "tsc_aux"),
        S(lapic.id, 7, "lapic id"),
        S(lapic.apic_base, X86_APIC_BASE_X2, "apic_base"),
        S(lapic.isr[0], 1, "isr"),
        S(lapic.timer_dcr, 4, "timer_dcr"),
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct state_buf b = {0};
        struct err e = {{0}};

        fx_init(&fx, 1);
        fx_tables(&fx, true);
        memcpy((uint8_t *)cpu + rows[i].offset, &rows[i].value, rows[i].bytes);
        CHECK_EQ(state_save(&b, &x86_cpu_state, 0, cpu, &e), 0);
        CHECK_EQ(state_load(&b, &x86_cpu_state, 0, cpu, &e), -22);
        if (!strstr(e.text, rows[i].names)) {
            printf("row %zu: '%s' does not name %s\n", i, e.text,
                   rows[i].names);
            CHECK(false);
        }
        state_buf_fini(&b);
        fx_fini(&fx);
    }
}

TEST(hostile_xsave)
{
    static const struct {
        unsigned at;
        uint8_t byte;
        const char *names;
    } rows[] = {
        {26, 1, "mxcsr"}, {512, 0xff, "xstate_bv"}, {530, 1, "xsave header"}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct state_buf b = {0};
        struct err e = {{0}};

        fx_init(&fx, 1);
        cpu->xsave.b[rows[i].at] = rows[i].byte;
        CHECK_EQ(state_save(&b, &x86_cpu_state, 0, cpu, &e), 0);
        CHECK_EQ(state_load(&b, &x86_cpu_state, 0, cpu, &e), -22);
        CHECK(strstr(e.text, rows[i].names) != NULL);
        state_buf_fini(&b);
        fx_fini(&fx);
    }
}

TEST_MAIN(CASE(power_on), CASE(round_trip), CASE(hostile_values),
          CASE(hostile_xsave))
