// SPDX-License-Identifier: Apache-2.0
/* The keyboard controller by its two ports. */
#include "dev/i8042/i8042.h"

#include "base/test.h"
#include "vm/devtest.h"

#define RIG_A20 20

static void rig_a20(void *ctx, bool on)
{
    devtest_line(ctx, RIG_A20, on);
}

static void *create_with(struct devtest *t, bool keyboard)
{
    const struct i8042_conf conf = {
        .irq = devtest_irq(t, 1),
        .keyboard = keyboard,
        .a20 = rig_a20,
        .ctx = t,
    };
    struct i8042 *k;

    return i8042_create(&t->vm, &conf, &k, NULL) < 0 ? NULL : k;
}

static void *rig_create(struct devtest *t)
{
    return create_with(t, true);
}

static void rig_destroy(void *dev)
{
    i8042_destroy(dev);
}

static void rig_poke(struct devtest *t, void *dev, uint32_t r)
{
    const uint8_t codes[3] = {(uint8_t)(r >> 8), 0xf0, (uint8_t)(r >> 8)};

    devtest_note(t, i8042_key(dev, codes, 1 + r % 3));
}

static const struct devtest_class i8042_class = {
    .create = rig_create,
    .destroy = rig_destroy,
    .poke = rig_poke,
    .win = {{false, 0x60, 1}, {false, 0x64, 1}},
};

struct bench {
    struct devtest t;
    struct i8042 *k;
};

static void setup(struct bench *b, bool keyboard)
{
    devtest_init(&b->t);
    b->k = create_with(&b->t, keyboard);
    CHECK(b->k != NULL);
}

static void teardown(struct bench *b)
{
    i8042_destroy(b->k);
    devtest_fini(&b->t);
}

static void cmd(struct bench *b, unsigned val)
{
    devtest_outb(&b->t, 0x64, val);
}

static void data(struct bench *b, unsigned val)
{
    devtest_outb(&b->t, 0x60, val);
}

static uint8_t status(struct bench *b)
{
    return devtest_inb(&b->t, 0x64);
}

/* The next answer; there must be one. */
static uint8_t answer(struct bench *b)
{
    CHECK(status(b) & 1);
    return devtest_inb(&b->t, 0x60);
}

/* What Linux does to find the controller. */
TEST(probe)
{
    struct bench b;

    setup(&b, false);
    CHECK_EQ(status(&b), 0x10);
    cmd(&b, 0xaa);
    CHECK_EQ(status(&b), 0x1d);
    CHECK_EQ(answer(&b), 0x55);
    CHECK_EQ(status(&b) & 1, 0);
    cmd(&b, 0xab);
    CHECK_EQ(answer(&b), 0x00);
    cmd(&b, 0x20);
    CHECK_EQ(answer(&b), 0x34);
    cmd(&b, 0x60);
    data(&b, 0x65);
    cmd(&b, 0x20);
    CHECK_EQ(answer(&b), 0x65);
    cmd(&b, 0xad);
    cmd(&b, 0x20);
    CHECK_EQ(answer(&b), 0x75);
    cmd(&b, 0xae);
    cmd(&b, 0x20);
    CHECK_EQ(answer(&b), 0x65);
    /* No second channel: the loop-back comes without the AUX flag. */
    cmd(&b, 0xd3);
    data(&b, 0x5a);
    CHECK_EQ(status(&b) & 0x20, 0);
    CHECK_EQ(answer(&b), 0x5a);
    cmd(&b, 0xa9);
    CHECK(answer(&b) != 0);
    cmd(&b, 0xa8);
    cmd(&b, 0x20);
    CHECK_EQ(answer(&b) & 0x20, 0x20);
    cmd(&b, 0x2a);
    CHECK_EQ(answer(&b), 0);
    cmd(&b, 0x6a);
    data(&b, 0x99);
    cmd(&b, 0x2a);
    CHECK_EQ(answer(&b), 0x99);
    cmd(&b, 0xb7); /* unknown: nothing */
    CHECK_EQ(status(&b) & 1, 0);
    teardown(&b);
}

/* Bytes to a keyboard that isn't there time out. */
TEST(no_keyboard)
{
    const uint8_t code = 0x1c;
    struct bench b;

    setup(&b, false);
    data(&b, 0xff);
    CHECK_EQ(status(&b) & 0x41, 0x41);
    CHECK_EQ(answer(&b), 0xfe);
    CHECK_EQ(i8042_key(b.k, &code, 1), 0);
    teardown(&b);
}

TEST(reset_line)
{
    struct bench b;

    setup(&b, false);
    cmd(&b, 0xff); /* pulses nothing */
    CHECK_EQ(b.t.requests, 0);
    cmd(&b, 0xfe);
    CHECK_EQ(b.t.requests, 1);
    CHECK_EQ(b.t.request, VM_REQ_RESET);
    cmd(&b, 0xd1);
    data(&b, 0x02);
    CHECK_EQ(b.t.requests, 2);
    teardown(&b);
}

TEST(a20_gate)
{
    struct bench b;

    setup(&b, false);
    cmd(&b, 0xd0);
    CHECK_EQ(answer(&b), 0x03);
    cmd(&b, 0xd1);
    data(&b, 0x01);
    CHECK(!b.t.level[RIG_A20]);
    cmd(&b, 0xd1);
    data(&b, 0x03);
    CHECK(b.t.level[RIG_A20]);
    CHECK_EQ(b.t.rises[RIG_A20], 1);
    cmd(&b, 0xd1);
    data(&b, 0x01);
    i8042_reset(b.k);
    CHECK(b.t.level[RIG_A20]);
    CHECK_EQ(b.t.requests, 0);
    teardown(&b);
}

TEST(keyboard)
{
    const uint8_t a_key[3] = {0x1c, 0xf0, 0x1c}; /* A down, up */
    struct bench b;

    setup(&b, true);
    cmd(&b, 0x60);
    data(&b, 0x01); /* IRQ, no translation */
    data(&b, 0xff);
    CHECK_EQ(answer(&b), 0xfa);
    CHECK_EQ(answer(&b), 0xaa);
    CHECK_EQ(b.t.rises[1], 2);
    data(&b, 0xf2);
    CHECK_EQ(answer(&b), 0xfa);
    CHECK_EQ(answer(&b), 0xab);
    CHECK_EQ(answer(&b), 0x83);
    CHECK_EQ(b.t.rises[1], 5);
    data(&b, 0xed);
    CHECK_EQ(answer(&b), 0xfa);
    data(&b, 0x02);
    CHECK_EQ(answer(&b), 0xfa);
    data(&b, 0xf0);
    data(&b, 0x00);
    CHECK_EQ(answer(&b), 0xfa);
    CHECK_EQ(answer(&b), 0xfa);
    CHECK_EQ(answer(&b), 0x02);
    data(&b, 0xee);
    CHECK_EQ(answer(&b), 0xee);
    data(&b, 0x01);
    CHECK_EQ(answer(&b), 0xfe);
    CHECK_EQ(i8042_key(b.k, a_key, 3), 3);
    CHECK_EQ(answer(&b), 0x1c);
    CHECK_EQ(answer(&b), 0xf0);
    CHECK_EQ(answer(&b), 0x1c);
    cmd(&b, 0x60);
    data(&b, 0x41); /* translated to set 1 */
    CHECK_EQ(i8042_key(b.k, a_key, 3), 3);
    CHECK_EQ(answer(&b), 0x1e);
    CHECK_EQ(answer(&b), 0x9e);
    CHECK_EQ(status(&b) & 1, 0);
    data(&b, 0xf2);
    CHECK_EQ(answer(&b), 0xfa);
    CHECK_EQ(answer(&b), 0xab);
    CHECK_EQ(answer(&b), 0x41);
    data(&b, 0xf5);
    CHECK_EQ(answer(&b), 0xfa);
    CHECK_EQ(i8042_key(b.k, a_key, 3), 0);
    data(&b, 0xf4);
    CHECK_EQ(answer(&b), 0xfa);
    for (unsigned i = 0; i < 32; i++)
        CHECK_EQ(i8042_key(b.k, a_key, 1), 1);
    CHECK_EQ(i8042_key(b.k, a_key, 1), 0); /* full */
    CHECK(b.t.level[1]);
    teardown(&b);
}

TEST(random)
{
    CHECK(devtest_loop(&i8042_class, 1, 50, 5000));
}

TEST(roundtrip)
{
    CHECK(devtest_roundtrip(&i8042_class, 2, 200, 500));
}

TEST(damaged_state)
{
    CHECK(devtest_damage(&i8042_class, 3, 1000));
}

TEST_MAIN(CASE(probe), CASE(no_keyboard), CASE(reset_line), CASE(a20_gate),
          CASE(keyboard), CASE(random), CASE(roundtrip), CASE(damaged_state))
