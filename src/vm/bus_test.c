// SPDX-License-Identifier: Apache-2.0
/* The I/O buses: who answers, splitting, maps that change. */
#include "vm/bus.h"

#include "base/test.h"

#include <errno.h>

struct log {
    uint64_t off, val;
    unsigned size, calls;
};

static uint64_t dev_read(void *dev, uint64_t off, unsigned size)
{
    struct log *l = dev;

    l->calls++;
    l->off = off;
    l->size = size;
    return UINT64_C(0x8877665544332211) >> (8 * off);
}

static void dev_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    struct log *l = dev;

    *l = (struct log){off, val, size, l->calls + 1};
}

static const struct bus_ops ops = {.read = dev_read, .write = dev_write};

TEST(nobody_answers)
{
    struct bus *bus = bus_create(0x10000);

    CHECK_EQ(bus_read(bus, 0x80, 1), 0xff);
    CHECK_EQ(bus_read(bus, 0x80, 4), 0xffffffff);
    CHECK_EQ(bus_read(bus, 0xffff, 2), 0xffff);
    bus_write(bus, 0x80, 1, 1);
    CHECK(bus_find(bus, 0x80) == NULL);
    bus_destroy(bus);
}

TEST(answers_and_splits)
{
    struct bus *bus = bus_create(0x10000);
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct log l = {0};
    struct bus_region r = {.start = 0x3f8,
                           .len = 8,
                           .ops = &ops,
                           .dev = &l,
                           .lock = &lock,
                           .name = "uart"};

    CHECK_EQ(bus_add(bus, &r, NULL), 0);
    CHECK_EQ(bus_read(bus, 0x3f9, 1), 0x22);
    CHECK_EQ(l.off, 1);
    CHECK_EQ(bus_read(bus, 0x3fa, 2), 0x4433);
    CHECK_EQ(l.size, 2);
    CHECK_EQ(bus_read(bus, 0x3fe, 4), 0xffff8877); /* runs over the end */
    CHECK_EQ(l.size, 1);
    bus_write(bus, 0x3f7, 0x1234, 2); /* only its upper byte is ours */
    CHECK_EQ(l.off, 0);
    CHECK_EQ(l.val, 0x12);
    CHECK_EQ(pthread_mutex_trylock(&lock), 0); /* given back */
    bus_destroy(bus);
}

TEST(refuses_overlap)
{
    struct bus *bus = bus_create(0x10000);
    struct bus_region a = {
        .start = 0x100, .len = 0x10, .ops = &ops, .name = "a"};
    struct bus_region b = {.start = 0x10f, .len = 1, .ops = &ops, .name = "b"};
    struct bus_region c = {.start = 0xfff8, .len = 9, .ops = &ops, .name = "c"};
    struct bus_region d = {.start = 0x110, .len = 4, .ops = &ops, .name = "d"};
    struct bus_region f = {
        .start = 0xf0, .len = 0x11, .ops = &ops, .name = "f"};

    CHECK_EQ(bus_add(bus, &a, NULL), 0);
    CHECK_EQ(bus_add(bus, &b, NULL), -EEXIST);
    CHECK_EQ(bus_add(bus, &f, NULL), -EEXIST);
    CHECK_EQ(bus_add(bus, &c, NULL), -EINVAL);
    CHECK_EQ(bus_add(bus, &d, NULL), 0);
    CHECK(bus_find(bus, 0x10f) == &a);
    CHECK(bus_find(bus, 0x110) == &d);
    bus_remove(bus, &a);
    CHECK(bus_find(bus, 0x10f) == NULL);
    CHECK_EQ(bus_add(bus, &b, NULL), 0);
    CHECK(bus_find(bus, 0x10f) == &b);
    bus_destroy(bus);
}

TEST_MAIN(CASE(nobody_answers), CASE(answers_and_splits), CASE(refuses_overlap))
