// SPDX-License-Identifier: Apache-2.0
/* The 8259 pair by its registers, lines and acknowledge cycles. */
#include "base/test.h"
#include "dev/i8259/i8259_rig.h"

struct bench {
    struct devtest t;
    struct i8259 *pic;
};

static void out(struct bench *b, unsigned port, unsigned val)
{
    devtest_outb(&b->t, port, val);
}

static uint8_t in(struct bench *b, unsigned port)
{
    return devtest_inb(&b->t, port);
}

static bool intr(struct bench *b)
{
    CHECK_EQ(i8259_intr(b->pic), b->t.level[RIG_INTR]);
    return i8259_intr(b->pic);
}

static void line(struct bench *b, unsigned pin, bool level)
{
    i8259_set_line(b->pic, pin, level);
}

static void pulse(struct bench *b, unsigned pin)
{
    line(b, pin, false);
    line(b, pin, true);
}

/* As a PC's kernel does: vectors 0x30 and 0x38, @icw4 for both. */
static void init(struct bench *b, unsigned icw4)
{
    out(b, 0x20, 0x11);
    out(b, 0x21, 0x30);
    out(b, 0x21, 0x04);
    out(b, 0x21, icw4);
    out(b, 0xa0, 0x11);
    out(b, 0xa1, 0x38);
    out(b, 0xa1, 0x02);
    out(b, 0xa1, icw4 & ~0x10U);
    out(b, 0x21, 0);
    out(b, 0xa1, 0);
}

static void setup(struct bench *b, unsigned icw4)
{
    devtest_init(&b->t);
    b->pic = rig_create(&b->t);
    CHECK(b->pic != NULL);
    init(b, icw4);
}

static void teardown(struct bench *b)
{
    i8259_destroy(b->pic);
    devtest_fini(&b->t);
}

/* Linux looks whether the mask register is there. */
TEST(probe)
{
    struct bench b;

    setup(&b, 1);
    out(&b, 0xa1, 0xff);
    out(&b, 0x21, 0xfb);
    CHECK_EQ(in(&b, 0x21), 0xfb);
    CHECK_EQ(in(&b, 0xa1), 0xff);
    /* ICW1 clears the mask; the status read is IRR. */
    out(&b, 0x20, 0x11);
    out(&b, 0x21, 0x30);
    out(&b, 0x21, 0x04);
    out(&b, 0x21, 0x01);
    CHECK_EQ(in(&b, 0x21), 0);
    CHECK_EQ(in(&b, 0x20), 0);
    teardown(&b);
}

TEST(one_interrupt)
{
    struct bench b;

    setup(&b, 1);
    CHECK(!intr(&b));
    line(&b, 0, true);
    CHECK(intr(&b));
    CHECK_EQ(in(&b, 0x20), 0x01);
    CHECK_EQ(i8259_intack(b.pic), 0x30);
    CHECK(!intr(&b));
    CHECK_EQ(in(&b, 0x20), 0);
    out(&b, 0x20, 0x0b);
    CHECK_EQ(in(&b, 0x20), 0x01); /* ISR */
    pulse(&b, 0);
    CHECK(!intr(&b)); /* in service */
    out(&b, 0x20, 0x20);
    CHECK(intr(&b));
    CHECK_EQ(i8259_intack(b.pic), 0x30);
    out(&b, 0x20, 0x60); /* specific EOI */
    CHECK_EQ(in(&b, 0x20), 0);
    teardown(&b);
}

TEST(cascade)
{
    struct bench b;

    setup(&b, 1);
    line(&b, 12, true);
    CHECK(intr(&b));
    CHECK_EQ(i8259_intack(b.pic), 0x3c);
    out(&b, 0x20, 0x0b);
    out(&b, 0xa0, 0x0b);
    CHECK_EQ(in(&b, 0x20), 0x04);
    CHECK_EQ(in(&b, 0xa0), 0x10);
    /* A higher one of the slave waits for the master's EOI of input 2. */
    line(&b, 8, true);
    CHECK(!intr(&b));
    out(&b, 0x20, 0x62);
    CHECK(intr(&b));
    CHECK_EQ(i8259_intack(b.pic), 0x38);
    out(&b, 0xa0, 0x60);
    out(&b, 0x20, 0x62);
    out(&b, 0xa0, 0x64);
    CHECK(!intr(&b));
    CHECK_EQ(in(&b, 0x20) | in(&b, 0xa0), 0);
    line(&b, 2, true); /* not an input on a PC */
    CHECK(!intr(&b));
    teardown(&b);
}

TEST(priorities)
{
    struct bench b;

    setup(&b, 1);
    line(&b, 6, true);
    line(&b, 3, true);
    line(&b, 15, true);
    CHECK_EQ(i8259_intack(b.pic), 0x3f); /* by input 2 */
    CHECK(!intr(&b));
    line(&b, 1, true);
    CHECK(intr(&b)); /* nests */
    CHECK_EQ(i8259_intack(b.pic), 0x31);
    out(&b, 0x20, 0x20);
    out(&b, 0xa0, 0x20);
    out(&b, 0x20, 0x20);
    CHECK_EQ(i8259_intack(b.pic), 0x33);
    out(&b, 0x20, 0x20);
    CHECK_EQ(i8259_intack(b.pic), 0x36);
    out(&b, 0x20, 0xa0); /* rotate: 6 is lowest now */
    pulse(&b, 6);
    pulse(&b, 7);
    CHECK_EQ(i8259_intack(b.pic), 0x37);
    out(&b, 0x20, 0xe7); /* specific EOI, 7 lowest again */
    CHECK_EQ(i8259_intack(b.pic), 0x36);
    out(&b, 0x20, 0x20);
    out(&b, 0x20, 0xc3); /* set priority: 4 is highest */
    pulse(&b, 0);
    pulse(&b, 4);
    CHECK_EQ(i8259_intack(b.pic), 0x34);
    teardown(&b);
}

/* The line fell before the acknowledge: IRQ 7 and IRQ 15, nothing in
 * service. */
TEST(spurious)
{
    struct bench b;

    setup(&b, 1);
    line(&b, 3, true);
    line(&b, 3, false);
    CHECK(!intr(&b));
    CHECK_EQ(i8259_intack(b.pic), 0x37);
    out(&b, 0x20, 0x0b);
    CHECK_EQ(in(&b, 0x20), 0);
    /* The slave's request goes away after the master's was latched: the
     * master's edge stays in IRR only while the slave holds its output. */
    line(&b, 9, true);
    line(&b, 9, false);
    CHECK(!intr(&b));
    teardown(&b);
}

TEST(level_triggered)
{
    struct bench b;

    setup(&b, 1);
    out(&b, 0x4d0, 0xff);
    out(&b, 0x4d1, 0xff);
    CHECK_EQ(in(&b, 0x4d0), 0xf8);
    CHECK_EQ(in(&b, 0x4d1), 0xde);
    line(&b, 10, true);
    CHECK_EQ(i8259_intack(b.pic), 0x3a);
    out(&b, 0xa0, 0x20);
    out(&b, 0x20, 0x20);
    CHECK(intr(&b)); /* still asserted */
    CHECK_EQ(i8259_intack(b.pic), 0x3a);
    line(&b, 10, false);
    out(&b, 0xa0, 0x20);
    out(&b, 0x20, 0x20);
    CHECK(!intr(&b));
    teardown(&b);
}

TEST(masks)
{
    struct bench b;

    setup(&b, 1);
    out(&b, 0x21, 0x10);
    line(&b, 4, true);
    CHECK(!intr(&b));
    CHECK_EQ(in(&b, 0x20), 0x10); /* the edge is remembered */
    out(&b, 0x21, 0);
    CHECK(intr(&b));
    CHECK_EQ(i8259_intack(b.pic), 0x34);
    /* Special mask mode: lower ones pass a masked one in service. */
    line(&b, 5, true);
    CHECK(!intr(&b));
    out(&b, 0x21, 0x10);
    CHECK(!intr(&b));
    out(&b, 0x20, 0x68);
    CHECK(intr(&b));
    CHECK_EQ(i8259_intack(b.pic), 0x35);
    out(&b, 0x20, 0x48);
    CHECK(!intr(&b));
    teardown(&b);
}

TEST(automatic_eoi)
{
    struct bench b;

    setup(&b, 3);
    line(&b, 5, true);
    CHECK_EQ(i8259_intack(b.pic), 0x35);
    out(&b, 0x20, 0x0b);
    CHECK_EQ(in(&b, 0x20), 0);
    pulse(&b, 5);
    CHECK(intr(&b));
    out(&b, 0x20, 0x80); /* rotate in AEOI mode */
    CHECK_EQ(i8259_intack(b.pic), 0x35);
    pulse(&b, 5);
    pulse(&b, 6);
    CHECK_EQ(i8259_intack(b.pic), 0x36);
    CHECK_EQ(i8259_intack(b.pic), 0x35);
    teardown(&b);
}

/* Special fully nested mode: the slave interrupts its own service. */
TEST(special_fully_nested)
{
    struct bench b;

    setup(&b, 0x11);
    line(&b, 12, true);
    CHECK_EQ(i8259_intack(b.pic), 0x3c);
    line(&b, 8, true);
    CHECK(intr(&b));
    CHECK_EQ(i8259_intack(b.pic), 0x38);
    teardown(&b);
}

TEST(poll)
{
    struct bench b;

    setup(&b, 1);
    out(&b, 0x20, 0x0c);
    CHECK_EQ(in(&b, 0x20), 0);
    line(&b, 6, true);
    out(&b, 0x20, 0x0c);
    CHECK_EQ(in(&b, 0x20), 0x86);
    CHECK(!intr(&b));
    out(&b, 0x20, 0x0b);
    CHECK_EQ(in(&b, 0x20), 0x40);
    teardown(&b);
}

/* A level that was there before ICW1 is no edge. */
TEST(init_forgets_edges)
{
    struct bench b;

    setup(&b, 1);
    line(&b, 4, true);
    CHECK(intr(&b));
    init(&b, 1);
    CHECK(!intr(&b));
    pulse(&b, 4);
    CHECK(intr(&b));
    i8259_reset(b.pic);
    CHECK(!intr(&b));
    CHECK_EQ(in(&b, 0x21), 0xff);
    teardown(&b);
}

TEST(random)
{
    CHECK(devtest_loop(&i8259_class, 1, 50, 5000));
}

TEST(roundtrip)
{
    CHECK(devtest_roundtrip(&i8259_class, 2, 200, 500));
}

TEST(damaged_state)
{
    CHECK(devtest_damage(&i8259_class, 3, 1000));
}

TEST_MAIN(CASE(probe), CASE(one_interrupt), CASE(cascade), CASE(priorities),
          CASE(spurious), CASE(level_triggered), CASE(masks),
          CASE(automatic_eoi), CASE(special_fully_nested), CASE(poll),
          CASE(init_forgets_edges), CASE(random), CASE(roundtrip),
          CASE(damaged_state))
