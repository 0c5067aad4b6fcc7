// SPDX-License-Identifier: Apache-2.0
/* The UART by its registers, as drivers use it. */
#include "base/test.h"
#include "dev/uart16550/uart16550_rig.h"

enum {
    DATA = RIG_PORT,
    IER,
    IIR,
    LCR,
    MCR,
    LSR,
    MSR,
    SCR,
    FCR = IIR
};

struct bench {
    struct devtest t;
    struct rigged *r;
};

static void setup(struct bench *b)
{
    devtest_init(&b->t);
    b->r = rig_create(&b->t);
    CHECK(b->r != NULL);
}

static void teardown(struct bench *b)
{
    rig_destroy(b->r);
    devtest_fini(&b->t);
}

static uint8_t in(struct bench *b, unsigned reg)
{
    return devtest_inb(&b->t, reg);
}

static void out(struct bench *b, unsigned reg, unsigned val)
{
    devtest_outb(&b->t, reg, val);
}

static size_t input(struct bench *b, const char *s)
{
    struct chardev_client *c = &b->r->rig.client;

    return c->input(c->dev, (const uint8_t *)s, strlen(s));
}

static bool irq(struct bench *b)
{
    return b->t.level[RIG_IRQ];
}

/* What Linux's 8250 driver looks at to tell a 16550A. */
TEST(probe)
{
    struct bench b;

    setup(&b);
    CHECK_EQ(in(&b, LSR), 0x60);
    CHECK_EQ(in(&b, IIR), 0x01);
    out(&b, SCR, 0xa5);
    CHECK_EQ(in(&b, SCR), 0xa5);
    out(&b, IER, 0xff);
    CHECK_EQ(in(&b, IER), 0x0f);
    out(&b, IER, 0);
    /* Loop: MSR's lines mirror MCR's outputs. */
    out(&b, MCR, 0x1a);
    CHECK_EQ(in(&b, MSR) & 0xf0, 0x90);
    CHECK_EQ(in(&b, MSR) & 0x0f, 0); /* deltas are gone */
    out(&b, MCR, 0x15);
    CHECK_EQ(in(&b, MSR), 0x60 | 0x0b); /* DCTS DDSR DDCD, RI rose: no TERI */
    out(&b, MCR, 0x10);
    CHECK_EQ(in(&b, MSR), 0x06); /* TERI and DDSR */
    out(&b, MCR, 0);
    /* FIFO there? And not a 16750's: bit 5 stays 0. */
    out(&b, FCR, 0x01);
    CHECK_EQ(in(&b, IIR), 0xc1);
    out(&b, LCR, 0x80);
    out(&b, FCR, 0x21);
    CHECK_EQ(in(&b, IIR), 0xc1);
    out(&b, DATA, 1);
    out(&b, IER, 2);
    CHECK_EQ(in(&b, DATA), 1);
    CHECK_EQ(in(&b, IER), 2);
    out(&b, LCR, 0x03);
    CHECK_EQ(in(&b, IER), 0);
    out(&b, FCR, 0);
    CHECK_EQ(in(&b, IIR), 0x01);
    teardown(&b);
}

TEST(transmit)
{
    struct bench b;

    setup(&b);
    for (unsigned i = 0; i < 256; i++)
        out(&b, DATA, i);
    CHECK_EQ(b.r->rig.out_len, 256);
    for (unsigned i = 0; i < 256; i++)
        CHECK_EQ(b.r->rig.out[i], i);
    CHECK_EQ(in(&b, LSR), 0x60);
    teardown(&b);
}

/* The THRE interrupt: on enabling, gone after IIR, back after a byte. */
TEST(transmit_interrupt)
{
    struct bench b;

    setup(&b);
    out(&b, MCR, 0x08);
    out(&b, IER, 0x02);
    CHECK(irq(&b));
    CHECK_EQ(in(&b, IIR), 0x02);
    CHECK(!irq(&b));
    CHECK_EQ(in(&b, IIR), 0x01);
    out(&b, DATA, 'x');
    CHECK(irq(&b));
    CHECK_EQ(in(&b, IIR), 0x02);
    /* Re-armed by disabling and enabling (Linux's test for buggy UARTs). */
    out(&b, IER, 0x00);
    out(&b, IER, 0x02);
    CHECK_EQ(in(&b, IIR), 0x02);
    /* Writing the same again is no new enabling. */
    out(&b, IER, 0x02);
    CHECK_EQ(in(&b, IIR), 0x01);
    teardown(&b);
}

/* A back end that takes nothing: THRE stays 0, all bytes come later. */
TEST(back_pressure)
{
    struct bench b;

    setup(&b);
    out(&b, FCR, 0x01);
    out(&b, MCR, 0x08);
    out(&b, IER, 0x02);
    CHECK_EQ(in(&b, IIR), 0xc2);
    b.r->rig.room = 1;
    out(&b, DATA, 'a');
    CHECK_EQ(in(&b, LSR), 0x60);
    CHECK_EQ(in(&b, IIR), 0xc2);
    out(&b, DATA, 'b');
    CHECK_EQ(in(&b, LSR), 0x00);
    CHECK_EQ(in(&b, IIR), 0xc1);
    CHECK(!irq(&b));
    /* A driver that does not wait for THRE, clears the FIFO or resets. */
    for (unsigned i = 0; i < 1000; i++)
        out(&b, DATA, 'c');
    out(&b, FCR, 0x07);
    CHECK_EQ(in(&b, LSR), 0x00);
    b.r->rig.room = 500;
    b.r->rig.client.writable(b.r->rig.client.dev);
    CHECK_EQ(in(&b, LSR), 0x00);
    b.r->rig.room = SIZE_MAX;
    b.r->rig.client.writable(b.r->rig.client.dev);
    CHECK_EQ(in(&b, LSR), 0x60);
    CHECK(irq(&b));
    CHECK_EQ(b.r->rig.out_len, 1002);
    CHECK(memcmp(b.r->rig.out, "abccc", 5) == 0);
    CHECK_EQ(b.r->rig.out[1001], 'c');
    /* 64 KiB wait; what is more is lost, nothing worse. */
    b.r->rig.room = 0;
    b.r->rig.out_len = 0;
    for (unsigned i = 0; i < 70000; i++)
        out(&b, DATA, i);
    uart16550_reset(b.r->uart);
    b.r->rig.room = SIZE_MAX;
    b.r->rig.client.writable(b.r->rig.client.dev);
    CHECK_EQ(b.r->rig.out_len, 65536);
    for (unsigned i = 0; i < 65536; i++)
        if (b.r->rig.out[i] != (uint8_t)i)
            CHECK_EQ(i, UINT32_MAX);
    teardown(&b);
}

/* Without FIFO: one byte, refused until it is read. */
TEST(receive_one)
{
    struct bench b;

    setup(&b);
    out(&b, MCR, 0x08);
    out(&b, IER, 0x01);
    CHECK_EQ(input(&b, "hello"), 1);
    CHECK(irq(&b));
    CHECK_EQ(in(&b, IIR), 0x04);
    CHECK_EQ(in(&b, LSR), 0x61);
    CHECK_EQ(input(&b, "ello"), 0);
    CHECK_EQ(b.r->rig.ready, 0);
    CHECK_EQ(in(&b, DATA), 'h');
    CHECK_EQ(b.r->rig.ready, 1);
    CHECK(!irq(&b));
    CHECK_EQ(in(&b, LSR), 0x60);
    teardown(&b);
}

/* FIFO: the trigger level interrupts, the timeout does for less. */
TEST(receive_fifo)
{
    struct bench b;

    setup(&b);
    out(&b, LCR, 0x80);
    out(&b, DATA, 1); /* 115200: 10 bits are 86.8 us */
    out(&b, IER, 0);
    out(&b, LCR, 0x03);
    out(&b, FCR, 0x81); /* trigger 8 */
    out(&b, MCR, 0x08);
    out(&b, IER, 0x01);
    CHECK_EQ(input(&b, "1234567"), 7);
    CHECK(!irq(&b));
    CHECK_EQ(in(&b, IIR), 0xc1);
    devtest_run_ns(&b.t, 340 * NS_PER_US);
    CHECK(!irq(&b));
    devtest_run_ns(&b.t, 10 * NS_PER_US); /* 347.2 us have passed */
    CHECK(irq(&b));
    CHECK_EQ(in(&b, IIR), 0xcc);
    CHECK_EQ(in(&b, DATA), '1');
    CHECK(!irq(&b)); /* reading clears it, and starts it anew */
    devtest_run_ns(&b.t, 350 * NS_PER_US);
    CHECK(irq(&b));
    CHECK_EQ(input(&b, "89"), 2);
    CHECK_EQ(in(&b, IIR), 0xc4);
    CHECK_EQ(input(&b, "abcdefghijklm"), 8);
    for (unsigned i = 0; i < 12; i++)
        CHECK_EQ(in(&b, DATA), "23456789abcd"[i]);
    CHECK_EQ(b.r->rig.ready, 1); /* 4 are left */
    CHECK_EQ(input(&b, "ijklm"), 5);
    CHECK_EQ(in(&b, IIR), 0xc4);
    out(&b, FCR, 0x83); /* clear */
    CHECK_EQ(in(&b, LSR), 0x60);
    devtest_run_ns(&b.t, NS_PER_S);
    CHECK(!irq(&b));
    teardown(&b);
}

TEST(trigger_levels)
{
    static const uint8_t level[4] = {1, 4, 8, 14};
    struct bench b;

    setup(&b);
    out(&b, IER, 0x01);
    for (unsigned i = 0; i < 4; i++) {
        out(&b, FCR, i << 6 | 3);
        for (unsigned n = 1; n <= 16; n++) {
            CHECK_EQ(input(&b, "x"), 1);
            CHECK_EQ(in(&b, IIR), n >= level[i] ? 0xc4 : 0xc1);
        }
        CHECK_EQ(input(&b, "x"), 0);
    }
    teardown(&b);
}

/* Loop mode: bytes come back, may overrun, and nothing leaves. */
TEST(loop)
{
    struct bench b;

    setup(&b);
    out(&b, MCR, 0x18);
    out(&b, IER, 0x05);
    out(&b, DATA, 'a');
    CHECK_EQ(in(&b, LSR), 0x61);
    CHECK_EQ(in(&b, IIR), 0x04);
    CHECK(!irq(&b)); /* OUT2's pin is inactive */
    out(&b, DATA, 'b');
    CHECK_EQ(in(&b, IIR), 0x06);
    CHECK_EQ(in(&b, LSR), 0x63);
    CHECK_EQ(in(&b, LSR), 0x61);
    CHECK_EQ(in(&b, DATA), 'b');
    out(&b, FCR, 0x01);
    for (unsigned i = 0; i < 17; i++)
        out(&b, DATA, i);
    CHECK_EQ(in(&b, LSR), 0x63);
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(in(&b, DATA), i);
    CHECK_EQ(in(&b, LSR), 0x60);
    CHECK_EQ(input(&b, "no"), 0);
    CHECK_EQ(b.r->rig.out_len, 0);
    CHECK_EQ(b.r->rig.ready, 0);
    out(&b, MCR, 0x08);
    CHECK_EQ(b.r->rig.ready, 1);
    CHECK_EQ(input(&b, "yes"), 3);
    CHECK(irq(&b)); /* trigger level 1 */
    teardown(&b);
}

/* Line status before data before THRE before modem status. */
TEST(priorities)
{
    struct bench b;

    setup(&b);
    out(&b, MCR, 0x10);
    in(&b, MSR);
    out(&b, IER, 0x0f);
    out(&b, DATA, 1);
    out(&b, DATA, 2); /* overrun */
    out(&b, MCR, 0x11);
    CHECK_EQ(in(&b, IIR), 0x06);
    in(&b, LSR);
    CHECK_EQ(in(&b, IIR), 0x04);
    in(&b, DATA);
    CHECK_EQ(in(&b, IIR), 0x02);
    CHECK_EQ(in(&b, IIR), 0x00);
    in(&b, MSR);
    CHECK_EQ(in(&b, IIR), 0x01);
    teardown(&b);
}

/* Input waits until the guest listens, and while it drops RTS. */
TEST(flow_control)
{
    struct bench b;

    setup(&b);
    CHECK_EQ(input(&b, "x"), 0);
    out(&b, FCR, 0x07);
    out(&b, MCR, 0x1a); /* RTS in loop mode is a probe */
    out(&b, MCR, 0x08);
    CHECK_EQ(input(&b, "x"), 0);
    out(&b, IER, 0x05);
    CHECK_EQ(b.r->rig.ready, 1);
    CHECK_EQ(input(&b, "x"), 1);
    CHECK_EQ(in(&b, DATA), 'x');
    out(&b, MCR, 0x0b); /* from now on RTS decides */
    CHECK_EQ(input(&b, "y"), 1);
    out(&b, MCR, 0x09);
    CHECK_EQ(input(&b, "z"), 0);
    CHECK_EQ(in(&b, DATA), 'y');
    CHECK_EQ(b.r->rig.ready, 1);
    out(&b, MCR, 0x0b);
    CHECK_EQ(b.r->rig.ready, 2);
    CHECK_EQ(input(&b, "z"), 1);
    uart16550_reset(b.r->uart);
    CHECK_EQ(input(&b, "x"), 0);
    teardown(&b);
}

/* A guest that knows no interrupts and no RTS, but polls. */
TEST(polling_guest)
{
    struct bench b;

    setup(&b);
    CHECK_EQ(input(&b, "x"), 0);
    for (unsigned i = 0; i < 999; i++)
        in(&b, LSR);
    out(&b, DATA, '?'); /* was output so far */
    for (unsigned i = 0; i < 999; i++)
        in(&b, LSR);
    CHECK_EQ(b.r->rig.ready, 0);
    in(&b, LSR);
    CHECK_EQ(b.r->rig.ready, 1);
    CHECK_EQ(input(&b, "x"), 1);
    out(&b, DATA, 'x');
    CHECK_EQ(in(&b, DATA), 'x');
    CHECK_EQ(input(&b, "y"), 1);
    teardown(&b);
}

TEST(out2_gates)
{
    struct bench b;

    setup(&b);
    out(&b, IER, 0x02);
    CHECK(!irq(&b));
    out(&b, MCR, 0x08);
    CHECK(irq(&b));
    out(&b, MCR, 0x00);
    CHECK(!irq(&b));
    teardown(&b);
}

/* No back end: output vanishes. Attached and detached as it should be. */
TEST(without_backend)
{
    struct devtest t;
    struct uart16550 *u, *second;
    struct uart16550_conf conf = {.port = RIG_PORT};
    struct err e = {.text = ""};
    struct rig *g;
    void *r;

    devtest_init(&t);
    CHECK_EQ(uart16550_create(&t.vm, &conf, &u, &e), 0);
    CHECK(uart16550_create(&t.vm, &conf, &second, &e) < 0);
    CHECK(e.text[0]);
    for (unsigned i = 0; i < 100; i++)
        devtest_outb(&t, RIG_PORT, i);
    CHECK_EQ(devtest_inb(&t, LSR), 0x60);
    uart16550_destroy(u);
    uart16550_destroy(NULL);
    r = rig_create(&t); /* the port is free again */
    CHECK(r != NULL);
    g = &((struct rigged *)r)->rig;
    CHECK(g->attached);
    uart16550_destroy(((struct rigged *)r)->uart);
    CHECK(!g->attached);
    free(r);
    devtest_fini(&t);
}

/* Two VMs in one process share nothing. */
TEST(two_vms)
{
    struct bench a, b;

    setup(&a);
    setup(&b);
    out(&a, SCR, 1);
    out(&b, SCR, 2);
    out(&a, DATA, 'a');
    CHECK_EQ(in(&a, SCR), 1);
    CHECK_EQ(in(&b, SCR), 2);
    CHECK_EQ(b.r->rig.out_len, 0);
    teardown(&a);
    teardown(&b);
}

/* Bytes that a back end refused travel with the state. */
TEST(backlog_travels)
{
    struct bench a, b;
    struct state_buf buf = {0};
    struct err e = {.text = ""};

    setup(&a);
    setup(&b);
    out(&a, MCR, 0x02);
    a.r->rig.room = 0;
    for (unsigned i = 0; i < 300; i++)
        out(&a, DATA, i);
    CHECK_EQ(state_list_save(a.t.vm.state, &buf, &e), 0);
    CHECK_EQ(state_list_load(b.t.vm.state, &buf, &e), 0);
    CHECK_EQ(b.r->rig.out_len, 300);
    CHECK_EQ(b.r->rig.out[299], 299 & 0xff);
    CHECK_EQ(b.r->rig.ready, 1);
    state_buf_fini(&buf);
    teardown(&a);
    teardown(&b);
}

TEST(random)
{
    CHECK(devtest_loop(&uart_class, 1, 50, 5000));
}

TEST(roundtrip)
{
    CHECK(devtest_roundtrip(&uart_class, 2, 100, 300));
}

TEST(damaged_state)
{
    CHECK(devtest_damage(&uart_class, 3, 300));
}

TEST_MAIN(CASE(probe), CASE(transmit), CASE(transmit_interrupt),
          CASE(back_pressure), CASE(receive_one), CASE(receive_fifo),
          CASE(trigger_levels), CASE(loop), CASE(priorities),
          CASE(flow_control), CASE(polling_guest), CASE(out2_gates),
          CASE(without_backend), CASE(two_vms), CASE(backlog_travels),
          CASE(random), CASE(roundtrip), CASE(damaged_state))
