// SPDX-License-Identifier: Apache-2.0
/* The 8254's modes against a stepped clock. */
#include "base/test.h"
#include "dev/i8254/i8254_rig.h"

struct bench {
    struct devtest t;
    struct i8254 *pit;
};

static void setup(struct bench *b)
{
    devtest_init(&b->t);
    b->pit = rig_create(&b->t);
    CHECK(b->pit != NULL);
}

static void teardown(struct bench *b)
{
    i8254_destroy(b->pit);
    devtest_fini(&b->t);
}

static void out(struct bench *b, unsigned port, unsigned val)
{
    devtest_outb(&b->t, port, val);
}

static uint8_t in(struct bench *b, unsigned port)
{
    return devtest_inb(&b->t, port);
}

/* Let time pass until @tick of the counter clock, since power-on. */
static void run_to(struct bench *b, uint64_t tick)
{
    uint64_t ns = (tick * NS_PER_S + I8254_HZ - 1) / I8254_HZ;

    devtest_run_ns(&b->t, ns - clock_now_ns(b->t.vm.clock));
}

static void program(struct bench *b, unsigned ch, unsigned mode, unsigned count)
{
    out(b, 0x43, ch << 6 | 0x30 | mode << 1);
    out(b, 0x40 + ch, count & 0xff);
    out(b, 0x40 + ch, count >> 8);
}

static unsigned read_latched(struct bench *b, unsigned ch)
{
    unsigned lo;

    out(b, 0x43, ch << 6);
    lo = in(b, 0x40 + ch);
    return lo | (unsigned)in(b, 0x40 + ch) << 8;
}

static unsigned status(struct bench *b, unsigned ch)
{
    out(b, 0x43, 0xe0 | 2U << ch);
    return in(b, 0x40 + ch);
}

/* Mode 2, HZ = 250: an interrupt each 4 ms for a second. */
TEST(periodic)
{
    struct bench b;

    setup(&b);
    program(&b, 0, 2, 4773);
    b.t.rises[0] = 0;
    run_to(&b, 4773);
    CHECK_EQ(b.t.rises[0], 0);
    run_to(&b, 4774);
    CHECK_EQ(b.t.rises[0], 1);
    run_to(&b, 1 + 4773 * 250);
    CHECK_EQ(b.t.rises[0], 250);
    CHECK_EQ(read_latched(&b, 0), 4773);
    run_to(&b, 1 + 4773 * 250 + 100);
    CHECK_EQ(read_latched(&b, 0), 4673);
    /* A new count takes over at the end of the period. */
    out(&b, 0x40, 1000 & 0xff);
    out(&b, 0x40, 1000 >> 8);
    CHECK_EQ(status(&b, 0), 0x80 | 0x40 | 0x34);
    CHECK_EQ(read_latched(&b, 0), 4673);
    run_to(&b, 1 + 4773 * 251);
    CHECK_EQ(b.t.rises[0], 251);
    CHECK_EQ(read_latched(&b, 0), 1000);
    CHECK_EQ(status(&b, 0), 0x80 | 0x34);
    run_to(&b, 1 + 4773 * 251 + 10000);
    CHECK_EQ(b.t.rises[0], 261);
    /* Another mode without a count: silence. */
    out(&b, 0x43, 0x30);
    b.t.rises[0] = 0;
    devtest_run_ns(&b.t, NS_PER_S);
    CHECK_EQ(b.t.rises[0], 0);
    teardown(&b);
}

/* Modes 0 and 4 as one-shots (Linux's clockevent). */
TEST(one_shot)
{
    struct bench b;

    setup(&b);
    program(&b, 0, 0, 1000);
    CHECK(!b.t.level[0]);
    CHECK_EQ(status(&b, 0), 0x40 | 0x30); /* not loaded before a tick */
    run_to(&b, 1);
    CHECK_EQ(status(&b, 0), 0x30);
    CHECK_EQ(read_latched(&b, 0), 1000);
    run_to(&b, 1000);
    CHECK_EQ(b.t.rises[0], 0);
    CHECK_EQ(read_latched(&b, 0), 1);
    run_to(&b, 1001);
    CHECK_EQ(b.t.rises[0], 1);
    CHECK_EQ(status(&b, 0), 0x80 | 0x30);
    CHECK_EQ(read_latched(&b, 0), 0);
    run_to(&b, 1002);
    CHECK_EQ(read_latched(&b, 0), 0xffff);
    devtest_run_ns(&b.t, NS_PER_S);
    CHECK_EQ(b.t.rises[0], 1);
    teardown(&b);

    setup(&b);
    program(&b, 0, 4, 1000);
    b.t.rises[0] = 0;
    run_to(&b, 1001); /* the strobe: low for one tick */
    CHECK_EQ(status(&b, 0), 0x38);
    CHECK_EQ(b.t.rises[0], 0);
    run_to(&b, 1002);
    CHECK_EQ(status(&b, 0), 0x80 | 0x38);
    CHECK_EQ(b.t.rises[0], 1);
    devtest_run_ns(&b.t, NS_PER_S);
    CHECK_EQ(b.t.rises[0], 1);
    teardown(&b);
}

TEST(square_wave)
{
    struct bench b;

    setup(&b);
    program(&b, 0, 3, 7);
    for (unsigned i = 0; i < 70; i++) {
        static const uint8_t count[7] = {6, 4, 2, 0, 6, 4, 2};

        run_to(&b, 1 + i);
        CHECK_EQ(read_latched(&b, 0), count[i % 7]);
        CHECK_EQ(status(&b, 0) >> 7, i % 7 < 4);
    }
    program(&b, 0, 3, 0); /* 65536: 18.2 Hz */
    b.t.rises[0] = 0;
    devtest_run_ns(&b.t, NS_PER_S);
    CHECK_EQ(b.t.rises[0], 18);
    teardown(&b);
}

/* Linux calibrates the TSC with channel 2: mode 0, gate by port 61h. */
TEST(calibration)
{
    struct bench b;

    setup(&b);
    out(&b, 0x61, 0x01);
    program(&b, 2, 0, 59659); /* 50 ms */
    CHECK_EQ(in(&b, 0x61) & 0x20, 0);
    devtest_run_ns(&b.t, 49 * NS_PER_MS);
    CHECK_EQ(in(&b, 0x61) & 0x20, 0);
    devtest_run_ns(&b.t, 1001 * NS_PER_US);
    CHECK_EQ(in(&b, 0x61) & 0x20, 0x20);
    /* quick_pit_calibrate: unlatched reads, low then high byte. */
    program(&b, 2, 0, 0xffff);
    devtest_run_ns(&b.t, 10 * NS_PER_MS);
    in(&b, 0x42);
    CHECK_EQ(in(&b, 0x42), (0xffff - 11931) >> 8);
    teardown(&b);
}

TEST(gate)
{
    struct bench b;
    unsigned left;

    setup(&b);
    program(&b, 2, 0, 10000); /* the gate is low: held */
    run_to(&b, 5000);
    CHECK_EQ(read_latched(&b, 2), 10000);
    out(&b, 0x61, 1);
    run_to(&b, 6000);
    left = read_latched(&b, 2);
    CHECK_EQ(left, 9000);
    out(&b, 0x61, 0);
    run_to(&b, 9000);
    CHECK_EQ(read_latched(&b, 2), left);
    out(&b, 0x61, 1);
    run_to(&b, 9500);
    CHECK_EQ(read_latched(&b, 2), left - 500);
    /* Mode 1: the gate's rise starts it, and again. */
    out(&b, 0x61, 0);
    program(&b, 2, 1, 100);
    CHECK_EQ(in(&b, 0x61) & 0x20, 0x20);
    out(&b, 0x61, 1);
    run_to(&b, 9510);
    CHECK_EQ(in(&b, 0x61) & 0x20, 0);
    run_to(&b, 9590);
    out(&b, 0x61, 0);
    out(&b, 0x61, 1);
    run_to(&b, 9690);
    CHECK_EQ(in(&b, 0x61) & 0x20, 0);
    run_to(&b, 9691);
    CHECK_EQ(in(&b, 0x61) & 0x20, 0x20);
    /* Mode 5: one tick low at the end. */
    out(&b, 0x61, 0);
    program(&b, 2, 5, 50);
    out(&b, 0x61, 1);
    run_to(&b, 9691 + 1 + 50);
    CHECK_EQ(in(&b, 0x61) & 0x20, 0);
    run_to(&b, 9691 + 1 + 51);
    CHECK_EQ(in(&b, 0x61) & 0x20, 0x20);
    /* Mode 2: a low gate stops it, output high; the rise reloads. */
    program(&b, 2, 2, 500);
    run_to(&b, 10000);
    out(&b, 0x61, 0);
    left = read_latched(&b, 2);
    run_to(&b, 11000);
    CHECK_EQ(read_latched(&b, 2), left);
    out(&b, 0x61, 1);
    run_to(&b, 11001 + 100);
    CHECK_EQ(read_latched(&b, 2), 400);
    teardown(&b);
}

TEST(latches)
{
    struct bench b;

    setup(&b);
    program(&b, 0, 2, 0x1234);
    run_to(&b, 1);
    out(&b, 0x43, 0x00);
    run_to(&b, 100);
    out(&b, 0x43, 0x00); /* a second latch is ignored */
    CHECK_EQ(in(&b, 0x40), 0x34);
    CHECK_EQ(in(&b, 0x40), 0x12);
    /* Read-back of count and status of two channels: status comes first. */
    program(&b, 2, 0, 0x4321);
    run_to(&b, 200);
    out(&b, 0x43, 0xc0 | 0x02 | 0x08);
    CHECK_EQ(in(&b, 0x40), 0xb4);
    CHECK_EQ(in(&b, 0x40), (0x1234 - 199) & 0xff);
    CHECK_EQ(in(&b, 0x40), (0x1234 - 199) >> 8);
    CHECK_EQ(in(&b, 0x42), 0x30);
    CHECK_EQ(in(&b, 0x42), 0x21); /* the gate is low */
    CHECK_EQ(in(&b, 0x42), 0x43);
    /* Low or high byte only. */
    out(&b, 0x43, 0x14);
    out(&b, 0x40, 0x20);
    run_to(&b, 201);
    CHECK_EQ(in(&b, 0x40), 0x20);
    out(&b, 0x43, 0x24);
    out(&b, 0x40, 0x20);
    run_to(&b, 202);
    CHECK_EQ(in(&b, 0x40), 0x20);
    CHECK_EQ(in(&b, 0x43), 0xff);
    teardown(&b);
}

TEST(bcd)
{
    struct bench b;

    setup(&b);
    out(&b, 0x43, 0x35);
    out(&b, 0x40, 0x00);
    out(&b, 0x40, 0x10); /* 1000 */
    run_to(&b, 1);
    CHECK_EQ(read_latched(&b, 0), 0x1000);
    run_to(&b, 2);
    CHECK_EQ(read_latched(&b, 0), 0x0999);
    b.t.rises[0] = 0;
    run_to(&b, 1 + 10000);
    CHECK_EQ(b.t.rises[0], 10);
    out(&b, 0x43, 0x31); /* mode 0 below 0 */
    out(&b, 0x40, 0x01);
    out(&b, 0x40, 0x00);
    run_to(&b, 10001 + 1 + 3);
    CHECK_EQ(read_latched(&b, 0), 0x9998);
    teardown(&b);
}

/* Refresh bit toggles; the other bits of port 61h read back. */
TEST(port_b)
{
    struct bench b;
    uint8_t first;

    setup(&b);
    out(&b, 0x61, 0xff);
    CHECK_EQ(in(&b, 0x61) & 0xcf, 0x0f);
    first = in(&b, 0x61) & 0x10;
    devtest_run_ns(&b.t, 15085);
    CHECK_EQ((in(&b, 0x61) & 0x10) ^ first, 0x10);
    teardown(&b);
}

/* The fastest a guest can ask for doesn't keep the host busy. */
TEST(too_fast)
{
    struct bench b;

    setup(&b);
    program(&b, 0, 2, 1);
    b.t.rises[0] = 0;
    devtest_run_ns(&b.t, NS_PER_S);
    CHECK(b.t.rises[0] <= 21000);
    CHECK(b.t.rises[0] >= 10000);
    program(&b, 0, 3, 2);
    devtest_run_ns(&b.t, NS_PER_S);
    CHECK(b.t.rises[0] <= 42000);
    i8254_reset(b.pit);
    CHECK_EQ(clock_next_ns(b.t.vm.clock), CLOCK_NEVER);
    teardown(&b);
}

TEST(random)
{
    CHECK(devtest_loop(&i8254_class, 1, 20, 2000));
}

TEST(roundtrip)
{
    CHECK(devtest_roundtrip(&i8254_class, 2, 100, 200));
}

TEST(damaged_state)
{
    CHECK(devtest_damage(&i8254_class, 3, 500));
}

TEST_MAIN(CASE(periodic), CASE(one_shot), CASE(square_wave), CASE(calibration),
          CASE(gate), CASE(latches), CASE(bcd), CASE(port_b), CASE(too_fast),
          CASE(random), CASE(roundtrip), CASE(damaged_state))
