// SPDX-License-Identifier: Apache-2.0
/* The ACPI fixed hardware by its registers. */
#include "dev/acpi-pm/acpi_pm.h"

#include "base/test.h"
#include "vm/devtest.h"

#define BASE 0x600
#define SCI  9

static struct acpi_pm *create_with(struct devtest *t, bool timer_32bit)
{
    const struct acpi_pm_conf conf = {
        .port = BASE,
        .reset_port = ACPI_PM_RESET_PORT,
        .s5_slp_typ = 5,
        .timer_32bit = timer_32bit,
        .sci = devtest_irq(t, SCI),
    };
    struct acpi_pm *pm;

    return acpi_pm_create(&t->vm, &conf, &pm, NULL) < 0 ? NULL : pm;
}

static void *rig_create(struct devtest *t)
{
    return create_with(t, false);
}

static void rig_destroy(void *dev)
{
    acpi_pm_destroy(dev);
}

static void rig_poke(struct devtest *t, void *dev, uint32_t r)
{
    if (r & 1)
        devtest_note(t, acpi_pm_power_button(dev));
    else
        acpi_pm_gpe(dev, r >> 4 & 31);
}

static const struct devtest_class acpi_pm_class = {
    .create = rig_create,
    .destroy = rig_destroy,
    .poke = rig_poke,
    .win = {{false, BASE, ACPI_PM_LEN},
            {false, BASE, 12},
            {false, ACPI_PM_RESET_PORT, 1}},
};

struct bench {
    struct devtest t;
    struct acpi_pm *pm;
};

static void setup(struct bench *b, bool timer_32bit)
{
    devtest_init(&b->t);
    b->pm = create_with(&b->t, timer_32bit);
    CHECK(b->pm != NULL);
}

static void teardown(struct bench *b)
{
    acpi_pm_destroy(b->pm);
    devtest_fini(&b->t);
}

static uint64_t in(struct bench *b, unsigned off, unsigned size)
{
    return bus_read(b->t.vm.pio, BASE + off, size);
}

static void out(struct bench *b, unsigned off, unsigned val, unsigned size)
{
    bus_write(b->t.vm.pio, BASE + off, val, size);
}

TEST(power_off)
{
    struct bench b;

    setup(&b, true);
    CHECK_EQ(in(&b, 4, 2), 1); /* SCI_EN */
    out(&b, 4, 5 << 10, 2);
    CHECK_EQ(b.t.requests, 0);
    CHECK_EQ(in(&b, 4, 2), 5 << 10 | 1);
    out(&b, 4, 5 << 10 | 1 << 13, 2);
    CHECK_EQ(b.t.requests, 1);
    CHECK_EQ(b.t.request, VM_REQ_POWEROFF);
    CHECK_EQ(in(&b, 4, 2), 5 << 10 | 1); /* SLP_EN reads 0 */
    out(&b, 4, 3 << 10 | 1 << 13, 2);    /* S3: not supported */
    CHECK_EQ(b.t.requests, 1);
    out(&b, 5, (5 << 10 | 1 << 13) >> 8, 1); /* by a byte access */
    CHECK_EQ(b.t.requests, 2);
    teardown(&b);
}

TEST(power_button)
{
    struct bench b;

    setup(&b, true);
    CHECK(!acpi_pm_power_button(b.pm));
    CHECK_EQ(in(&b, 0, 2), 0x100);
    CHECK(!b.t.level[SCI]);
    out(&b, 2, 0x100, 2);
    CHECK(b.t.level[SCI]);
    out(&b, 0, 0x100, 2); /* a one clears */
    CHECK(!b.t.level[SCI]);
    CHECK_EQ(in(&b, 0, 4), 0x01000000);
    CHECK(acpi_pm_power_button(b.pm));
    CHECK(b.t.level[SCI]);
    out(&b, 0, 0x001, 2); /* another's one does not */
    CHECK(b.t.level[SCI]);
    out(&b, 1, 0x01, 1);
    CHECK(!b.t.level[SCI]);
    out(&b, 2, 0xffff, 2);
    CHECK_EQ(in(&b, 2, 2), 0x0721);
    teardown(&b);
}

TEST(timer)
{
    struct bench b;

    setup(&b, true);
    devtest_run_ns(&b.t, NS_PER_S);
    CHECK_EQ(in(&b, 8, 4), 3579545);
    devtest_run_ns(&b.t, 9 * NS_PER_S);
    CHECK_EQ(in(&b, 8, 4), 35795450);
    CHECK_EQ(in(&b, 9, 1), 35795450 >> 8 & 0xff);
    out(&b, 8, 0, 4); /* read only */
    CHECK_EQ(in(&b, 8, 4), 35795450);
    teardown(&b);

    setup(&b, false);
    devtest_run_ns(&b.t, 10 * NS_PER_S);
    CHECK_EQ(in(&b, 8, 4), 35795450 & 0xffffff);
    teardown(&b);
}

/* Bit 23 toggles each 2.34 s: status always, an SCI if enabled. */
TEST(timer_carry)
{
    struct bench b;

    setup(&b, false);
    devtest_run_ns(&b.t, 2343 * NS_PER_MS);
    CHECK_EQ(in(&b, 0, 2), 0);
    devtest_run_ns(&b.t, 1 * NS_PER_MS);
    CHECK_EQ(in(&b, 0, 2), 1);
    out(&b, 0, 1, 2);
    CHECK_EQ(in(&b, 0, 2), 0);
    out(&b, 2, 1, 2);
    CHECK(!b.t.level[SCI]);
    devtest_run_ns(&b.t, 2342 * NS_PER_MS);
    CHECK(!b.t.level[SCI]);
    devtest_run_ns(&b.t, 2 * NS_PER_MS);
    CHECK(b.t.level[SCI]);
    out(&b, 0, 1, 2);
    CHECK(!b.t.level[SCI]);
    devtest_run_ns(&b.t, 2344 * NS_PER_MS);
    CHECK_EQ(b.t.rises[SCI], 2);
    acpi_pm_reset(b.pm);
    CHECK(!b.t.level[SCI]);
    CHECK_EQ(clock_next_ns(b.t.vm.clock), CLOCK_NEVER);
    teardown(&b);
}

TEST(gpe)
{
    struct bench b;

    setup(&b, true);
    acpi_pm_gpe(b.pm, 3);
    acpi_pm_gpe(b.pm, 9);
    acpi_pm_gpe(b.pm, 16);
    CHECK_EQ(in(&b, 0x20, 2), 0x0208);
    CHECK(!b.t.level[SCI]);
    out(&b, 0x22, 0x0200, 2);
    CHECK(b.t.level[SCI]);
    CHECK_EQ(in(&b, 0x22, 2), 0x0200);
    out(&b, 0x21, 0x02, 1);
    CHECK(!b.t.level[SCI]);
    CHECK_EQ(in(&b, 0x20, 2), 0x0008);
    teardown(&b);
}

TEST(reset_register)
{
    struct bench b;

    setup(&b, true);
    devtest_outb(&b.t, 0xcf9, 0x02);
    CHECK_EQ(b.t.requests, 0);
    CHECK_EQ(devtest_inb(&b.t, 0xcf9), 0x02);
    devtest_outb(&b.t, 0xcf9, 0x06);
    CHECK_EQ(b.t.requests, 1);
    CHECK_EQ(b.t.request, VM_REQ_RESET);
    devtest_outb(&b.t, 0xcf9, 0x0e);
    CHECK_EQ(b.t.requests, 2);
    acpi_pm_reset_write(b.pm, 0x06);
    CHECK_EQ(b.t.requests, 3);
    CHECK_EQ(acpi_pm_reset_read(b.pm), 0x02);
    teardown(&b);
}

TEST(refused)
{
    const struct acpi_pm_conf conf = {.port = BASE, .s5_slp_typ = 8};
    struct acpi_pm *pm;
    struct devtest t;
    struct err e = {.text = ""};

    devtest_init(&t);
    CHECK(acpi_pm_create(&t.vm, &conf, &pm, &e) < 0);
    CHECK(strstr(e.text, "8"));
    devtest_fini(&t);
}

TEST(random)
{
    CHECK(devtest_loop(&acpi_pm_class, 1, 50, 5000));
}

TEST(roundtrip)
{
    CHECK(devtest_roundtrip(&acpi_pm_class, 2, 200, 500));
}

TEST(damaged_state)
{
    CHECK(devtest_damage(&acpi_pm_class, 3, 1000));
}

TEST_MAIN(CASE(power_off), CASE(power_button), CASE(timer), CASE(timer_carry),
          CASE(gpe), CASE(reset_register), CASE(refused), CASE(random),
          CASE(roundtrip), CASE(damaged_state))
