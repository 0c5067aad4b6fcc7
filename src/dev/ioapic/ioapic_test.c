// SPDX-License-Identifier: Apache-2.0
/* The I/O APIC: entries in, messages out. */
#include "base/test.h"
#include "dev/ioapic/ioapic_rig.h"

#define LEVEL   (UINT64_C(1) << 15)
#define IRR     (UINT64_C(1) << 14)
#define LOGICAL (UINT64_C(1) << 11)
#define MASK    (UINT64_C(1) << 16)
#define DEST(n) ((uint64_t)(n) << 56)

struct bench {
    struct devtest t;
    struct ioapic *io;
};

static void setup(struct bench *b)
{
    devtest_init(&b->t);
    b->io = rig_create(&b->t);
    CHECK(b->io != NULL);
}

static void teardown(struct bench *b)
{
    ioapic_destroy(b->io);
    devtest_fini(&b->t);
}

static uint32_t reg(struct bench *b, unsigned index)
{
    bus_write(b->t.vm.mmio, IOAPIC_BASE, index, 4);
    return (uint32_t)bus_read(b->t.vm.mmio, IOAPIC_BASE + 0x10, 4);
}

static void set_reg(struct bench *b, unsigned index, uint32_t val)
{
    bus_write(b->t.vm.mmio, IOAPIC_BASE, index, 4);
    bus_write(b->t.vm.mmio, IOAPIC_BASE + 0x10, val, 4);
}

static uint64_t rte(struct bench *b, unsigned pin)
{
    return reg(b, 0x10 + 2 * pin) | (uint64_t)reg(b, 0x11 + 2 * pin) << 32;
}

static void set_rte(struct bench *b, unsigned pin, uint64_t val)
{
    set_reg(b, 0x11 + 2 * pin, (uint32_t)(val >> 32));
    set_reg(b, 0x10 + 2 * pin, (uint32_t)val);
}

TEST(registers)
{
    struct bench b;

    setup(&b);
    CHECK_EQ(reg(&b, 0), 0x01000000);
    CHECK_EQ(reg(&b, 1), 0x00170020);
    set_reg(&b, 0, 0xffffffff);
    CHECK_EQ(reg(&b, 0), 0x0f000000);
    CHECK_EQ(reg(&b, 2), 0x0f000000);
    set_reg(&b, 1, 0);
    CHECK_EQ(reg(&b, 1), 0x00170020);
    CHECK_EQ(reg(&b, 0x0f), 0);
    CHECK_EQ(reg(&b, 0x40), 0);
    CHECK_EQ(reg(&b, 0xff), 0);
    for (unsigned pin = 0; pin < 24; pin++) {
        CHECK_EQ(rte(&b, pin), MASK);
        set_rte(&b, pin, ~UINT64_C(0));
        /* All but delivery status, remote IRR and the reserved ones. */
        CHECK_EQ(rte(&b, pin), UINT64_C(0xff0000000001afff));
    }
    CHECK_EQ(b.t.msis, 0);
    teardown(&b);
}

TEST(edge)
{
    struct bench b;

    setup(&b);
    set_rte(&b, 4, 0x34 | DEST(3));
    ioapic_set_line(b.io, 4, true);
    CHECK_EQ(b.t.msis, 1);
    CHECK_EQ(b.t.msi_addr, 0xfee03000);
    CHECK_EQ(b.t.msi_data, 0x34);
    ioapic_set_line(b.io, 4, true); /* no edge */
    CHECK_EQ(b.t.msis, 1);
    ioapic_set_line(b.io, 4, false);
    ioapic_set_line(b.io, 4, true);
    CHECK_EQ(b.t.msis, 2); /* no EOI needed */
    CHECK_EQ(rte(&b, 4) & IRR, 0);
    /* Masked: an edge is lost. */
    ioapic_set_line(b.io, 4, false);
    set_rte(&b, 4, 0x34 | MASK);
    ioapic_set_line(b.io, 4, true);
    set_rte(&b, 4, 0x34);
    CHECK_EQ(b.t.msis, 2);
    /* Logical, lowest priority. */
    ioapic_set_line(b.io, 4, false);
    set_rte(&b, 4, 0x0134 | LOGICAL | DEST(0xff));
    ioapic_set_line(b.io, 4, true);
    CHECK_EQ(b.t.msi_addr, 0xfeeff00c);
    CHECK_EQ(b.t.msi_data, 0x134);
    ioapic_set_line(b.io, 24, true);
    ioapic_set_line(b.io, 1000000, true);
    CHECK_EQ(b.t.msis, 3);
    teardown(&b);
}

TEST(level)
{
    struct bench b;

    setup(&b);
    set_rte(&b, 9, 0x59 | LEVEL | DEST(1));
    ioapic_set_line(b.io, 9, true);
    CHECK_EQ(b.t.msis, 1);
    CHECK_EQ(b.t.msi_addr, 0xfee01000);
    CHECK_EQ(b.t.msi_data, 0xc059);
    CHECK(rte(&b, 9) & IRR);
    ioapic_set_line(b.io, 9, false);
    ioapic_set_line(b.io, 9, true);
    CHECK_EQ(b.t.msis, 1);  /* in service */
    ioapic_eoi(b.io, 0x58); /* another's */
    CHECK_EQ(b.t.msis, 1);
    ioapic_eoi(b.io, 0x59); /* still asserted: again */
    CHECK_EQ(b.t.msis, 2);
    ioapic_set_line(b.io, 9, false);
    ioapic_eoi(b.io, 0x59);
    CHECK_EQ(b.t.msis, 2);
    CHECK_EQ(rte(&b, 9) & IRR, 0);
    /* Asserted while masked: delivered when opened. */
    set_rte(&b, 9, 0x59 | LEVEL | MASK);
    ioapic_set_line(b.io, 9, true);
    CHECK_EQ(b.t.msis, 2);
    set_rte(&b, 9, 0x59 | LEVEL);
    CHECK_EQ(b.t.msis, 3);
    /* Directed EOI by register, byte and word. */
    bus_write(b.t.vm.mmio, IOAPIC_BASE + 0x40, 0x59, 4);
    CHECK_EQ(b.t.msis, 4);
    ioapic_set_line(b.io, 9, false);
    bus_write(b.t.vm.mmio, IOAPIC_BASE + 0x40, 0x59, 1);
    CHECK_EQ(rte(&b, 9) & IRR, 0);
    teardown(&b);
}

/* Software may clear remote IRR by way of edge mode. */
TEST(edge_clears_remote_irr)
{
    struct bench b;

    setup(&b);
    set_rte(&b, 5, 0x55 | LEVEL);
    ioapic_set_line(b.io, 5, true);
    ioapic_set_line(b.io, 5, false);
    CHECK(rte(&b, 5) & IRR);
    set_rte(&b, 5, 0x55 | MASK);
    set_rte(&b, 5, 0x55 | LEVEL);
    CHECK_EQ(rte(&b, 5) & IRR, 0);
    CHECK_EQ(b.t.msis, 1);
    teardown(&b);
}

/* NMI with the level bit is an edge and never waits for an EOI. */
TEST(nmi)
{
    struct bench b;

    setup(&b);
    set_rte(&b, 0, 0x0400 | LEVEL);
    ioapic_set_line(b.io, 0, true);
    CHECK_EQ(b.t.msis, 1);
    CHECK_EQ(b.t.msi_data, 0x400);
    CHECK_EQ(rte(&b, 0) & IRR, 0);
    teardown(&b);
}

TEST(two_pins_one_vector)
{
    struct bench b;

    setup(&b);
    set_rte(&b, 10, 0x70 | LEVEL);
    set_rte(&b, 11, 0x70 | LEVEL);
    ioapic_set_line(b.io, 10, true);
    ioapic_set_line(b.io, 11, true);
    CHECK_EQ(b.t.msis, 2);
    ioapic_set_line(b.io, 10, false);
    ioapic_eoi(b.io, 0x70);
    CHECK_EQ(b.t.msis, 3);
    CHECK_EQ(rte(&b, 10) & IRR, 0);
    CHECK(rte(&b, 11) & IRR);
    teardown(&b);
}

TEST(reset)
{
    struct bench b;

    setup(&b);
    set_reg(&b, 0, 0x05000000);
    set_rte(&b, 9, 0x59 | LEVEL);
    ioapic_set_line(b.io, 9, true);
    ioapic_reset(b.io);
    CHECK_EQ(reg(&b, 0), 0x01000000);
    CHECK_EQ(rte(&b, 9), MASK);
    set_rte(&b, 9, 0x59 | LEVEL); /* the line is still there */
    CHECK_EQ(b.t.msis, 2);
    teardown(&b);
}

TEST(random)
{
    CHECK(devtest_loop(&ioapic_class, 1, 50, 5000));
}

TEST(roundtrip)
{
    CHECK(devtest_roundtrip(&ioapic_class, 2, 200, 500));
}

TEST(damaged_state)
{
    CHECK(devtest_damage(&ioapic_class, 3, 1000));
}

TEST_MAIN(CASE(registers), CASE(edge), CASE(level),
          CASE(edge_clears_remote_irr), CASE(nmi), CASE(two_pins_one_vector),
          CASE(reset), CASE(random), CASE(roundtrip), CASE(damaged_state))
