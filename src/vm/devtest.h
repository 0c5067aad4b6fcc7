// SPDX-License-Identifier: Apache-2.0
/*
 * For the tests and fuzzers of devices: a VM with a stepped clock and no CPU,
 * that records what a device does to the world (lines, messages, requests) in
 * a running hash; random register accesses from a seed or from a fuzzer's
 * bytes; and the state round trip. Included by *_test.c and *_fuzz.c only.
 */
#ifndef DOPPEL_VM_DEVTEST_H
#define DOPPEL_VM_DEVTEST_H

#include "vm/vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVTEST_LINES   32
#define DEVTEST_WALL_NS (UINT64_C(1700000000) * NS_PER_S) /* a Tuesday */

struct devtest {
    struct vm vm;
    uint64_t hash;
    bool level[DEVTEST_LINES];
    unsigned rises[DEVTEST_LINES];
    unsigned msis;
    uint64_t msi_addr; /* the last */
    uint32_t msi_data;
    unsigned requests;
    enum vm_request request; /* the last */
    uint32_t request_code;
    void *extra; /* the device test's own */
};

struct devtest_window {
    bool mmio;
    uint64_t start;
    uint32_t len;
};

struct devtest_class {
    void *(*create)(struct devtest *t); /* NULL on failure */
    void (*destroy)(void *dev);
    /* Something from outside (a line, input); @r is random. May be NULL. */
    void (*poke)(struct devtest *t, void *dev, uint32_t r);
    /* False when an invariant does not hold. May be NULL. */
    bool (*check)(struct devtest *t, void *dev);
    /* Make the world outside of @to that of @from. May be NULL. */
    void (*copy)(void *to, const void *from);
    struct devtest_window win[4]; /* len 0: unused */
};

static inline void devtest_note(struct devtest *t, uint64_t v)
{
    t->hash = (t->hash ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    t->hash ^= t->hash >> 29;
}

static inline void devtest_line(void *ctx, unsigned pin, bool level)
{
    struct devtest *t = ctx;

    if (pin >= DEVTEST_LINES)
        return;
    devtest_note(t, UINT64_C(0x10000) + pin * 2 + level);
    t->rises[pin] += level && !t->level[pin];
    t->level[pin] = level;
}

static inline struct irq_line devtest_irq(struct devtest *t, unsigned pin)
{
    return (struct irq_line){devtest_line, t, pin};
}

static inline void devtest_msi(void *ctx, uint64_t addr, uint32_t data)
{
    struct devtest *t = ctx;

    devtest_note(t, addr << 32 ^ data);
    t->msis++;
    t->msi_addr = addr;
    t->msi_data = data;
}

static inline void devtest_request(void *ctx, enum vm_request req,
                                   uint32_t code)
{
    struct devtest *t = ctx;

    devtest_note(t, UINT64_C(0x20000) + (uint64_t)req * 256 + code);
    t->requests++;
    t->request = req;
    t->request_code = code;
}

/** devtest_init() - a VM without memory, virtual clock at 0; exits on failure
 */
static inline void devtest_init(struct devtest *t)
{
    struct clock *clk =
        clock_create(CLOCK_MODE_VIRTUAL, 1000000, DEVTEST_WALL_NS);

    memset(t, 0, sizeof *t);
    if (!clk || vm_init(&t->vm, NULL, clk, NULL) < 0)
        exit(2);
    t->vm.msi = (struct irq_msi){devtest_msi, t};
    t->vm.request = devtest_request;
    t->vm.request_ctx = t;
}

static inline void devtest_fini(struct devtest *t)
{
    vm_fini(&t->vm);
}

/** devtest_run_ns() - let @ns of guest time pass, timer by timer */
static inline void devtest_run_ns(struct devtest *t, uint64_t ns)
{
    uint64_t end = clock_now_ns(t->vm.clock) + ns, next;

    while ((next = clock_run(t->vm.clock)) <= end) {
        uint64_t now = clock_now_ns(t->vm.clock);

        clock_virtual_add(t->vm.clock, next > now ? next - now : 0);
    }
    clock_virtual_add(t->vm.clock, end - clock_now_ns(t->vm.clock));
    clock_run(t->vm.clock);
}

static inline uint8_t devtest_inb(struct devtest *t, uint64_t port)
{
    return (uint8_t)bus_read(t->vm.pio, port, 1);
}

static inline void devtest_outb(struct devtest *t, uint64_t port, unsigned val)
{
    bus_write(t->vm.pio, port, val, 1);
}

/* ---- random accesses ---- */

static inline uint64_t devtest_rnd(uint64_t *s)
{
    uint64_t z = *s += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* One operation that the bits of @r describe: @val is what a write writes. */
static inline void devtest_op(struct devtest *t, const struct devtest_class *c,
                              void *dev, uint32_t r, uint64_t val)
{
    const struct devtest_window *w;
    struct bus *bus;
    unsigned n = 0, size;
    uint64_t addr;

    while (n < 4 && c->win[n].len)
        n++;
    w = &c->win[(r >> 8 & 15) % n];
    bus = w->mmio ? t->vm.mmio : t->vm.pio;
    addr = w->start + (r >> 16) % w->len;
    /* Bytes mostly, as drivers do; 8 only on MMIO. */
    size = r & 64 ? 1 : 1U << (r >> 4 & 3);
    if (size == 8 && !w->mmio)
        size = 1;
    switch (r & 15) {
    case 0: /* up to 4 ms, or once in 16 up to 2 s */
        devtest_run_ns(t, (val & 0xf0) ? val % 4000000 : val % 2000000000);
        break;
    case 1:
        if (c->poke)
            c->poke(t, dev, (uint32_t)val);
        break;
    case 2 ... 7:
        devtest_note(t, bus_read(bus, addr, size));
        break;
    default:
        bus_write(bus, addr, val, size);
        break;
    }
}

/* @n random operations. Return: whether the invariants held. */
static inline bool devtest_random(struct devtest *t,
                                  const struct devtest_class *c, void *dev,
                                  uint64_t *seed, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t r = devtest_rnd(seed), val = devtest_rnd(seed);

        if (r >> 62 == 0)
            val &= 0xff; /* a small one, so that bytes above are 0 */
        devtest_op(t, c, dev, (uint32_t)r, val);
        if (c->check && !c->check(t, dev))
            return false;
    }
    return true;
}

/** devtest_loop() - @runs of @n random accesses each. Return: success. */
static inline bool devtest_loop(const struct devtest_class *c, uint64_t seed,
                                unsigned runs, unsigned n)
{
    for (unsigned i = 0; i < runs; i++) {
        struct devtest t;
        void *dev;
        bool ok;

        devtest_init(&t);
        dev = c->create(&t);
        ok = dev && devtest_random(&t, c, dev, &seed, n);
        c->destroy(dev);
        devtest_fini(&t);
        if (!ok)
            return false;
    }
    return true;
}

/* One round trip; see devtest_roundtrip. */
static inline bool devtest_trip(const struct devtest_class *c, uint64_t seed,
                                unsigned n)
{
    struct devtest a, b;
    struct state_buf buf = {0}, again = {0};
    struct err e = {.text = ""};
    uint64_t seed_b;
    void *dev_a, *dev_b;
    bool ok;

    devtest_init(&a);
    dev_a = c->create(&a);
    devtest_random(&a, c, dev_a, &seed, n);
    devtest_init(&b);
    clock_set(b.vm.clock, clock_now_ns(a.vm.clock), clock_tsc(a.vm.clock));
    dev_b = c->create(&b);
    if (c->copy && dev_a && dev_b)
        c->copy(dev_b, dev_a);
    ok = dev_a && dev_b && state_list_save(a.vm.state, &buf, &e) == 0 &&
         state_list_load(b.vm.state, &buf, &e) == 0 &&
         state_list_save(b.vm.state, &again, &e) == 0;
    if (!ok)
        printf("state: %s\n", e.text);
    if (ok && (buf.len != again.len || memcmp(buf.data, again.data, buf.len))) {
        printf("state saved again differs\n");
        ok = false;
    }
    memcpy(b.level, a.level, sizeof b.level);
    a.hash = b.hash = 1;
    seed_b = seed;
    devtest_random(&a, c, dev_a, &seed, n);
    devtest_random(&b, c, dev_b, &seed_b, n);
    if (ok && a.hash != b.hash) {
        printf("behaves differently after the round trip\n");
        ok = false;
    }
    c->destroy(dev_a);
    c->destroy(dev_b);
    state_buf_fini(&buf);
    state_buf_fini(&again);
    devtest_fini(&a);
    devtest_fini(&b);
    return ok;
}

/** devtest_roundtrip() - @runs times: a device is driven at random, saved,
 * loaded into a new one in another VM; both then go on with the same random
 * accesses and must read and do the same. Return: success. */
static inline bool devtest_roundtrip(const struct devtest_class *c,
                                     uint64_t seed, unsigned runs, unsigned n)
{
    for (unsigned i = 0; i < runs; i++)
        if (!devtest_trip(c, seed + i * 1000003U, n)) {
            printf("seed %u\n", i);
            return false;
        }
    return true;
}

/** devtest_damage() - load streams with bytes changed at random: each is
 * refused or gives a device that stands random accesses. Return: success. */
static inline bool devtest_damage(const struct devtest_class *c, uint64_t seed,
                                  unsigned runs)
{
    bool ok = true;

    for (unsigned i = 0; i < runs && ok; i++) {
        struct devtest a, b;
        struct state_buf buf = {0};
        void *dev_a, *dev_b;

        devtest_init(&a);
        devtest_init(&b);
        dev_a = c->create(&a);
        dev_b = c->create(&b);
        devtest_random(&a, c, dev_a, &seed, 100);
        ok = state_list_save(a.vm.state, &buf, NULL) == 0 && buf.len;
        for (unsigned k = 0; ok && k <= i % 4; k++) {
            uint64_t r = devtest_rnd(&seed);

            buf.data[(r >> 8) % buf.len] = (uint8_t)r;
        }
        if (ok && state_list_load(b.vm.state, &buf, NULL) == 0)
            ok = devtest_random(&b, c, dev_b, &seed, 200);
        c->destroy(dev_a);
        c->destroy(dev_b);
        state_buf_fini(&buf);
        devtest_fini(&a);
        devtest_fini(&b);
    }
    return ok;
}

/** devtest_fuzz() - a fuzzer's bytes as operations: 4 bytes of what and where,
 * then 1 byte to write (bit 7 of the first: 8 bytes) */
static inline int devtest_fuzz(const struct devtest_class *c,
                               const uint8_t *data, size_t size)
{
    struct devtest t;
    void *dev;

    devtest_init(&t);
    dev = c->create(&t);
    while (dev && size >= 5) {
        size_t n = (data[0] & 128) && size >= 12 ? 8 : 1;
        uint64_t val = 0;
        uint32_t r;

        memcpy(&r, data, 4);
        memcpy(&val, data + 4, n);
        data += 4 + n;
        size -= 4 + n;
        devtest_op(&t, c, dev, r, val);
        if (c->check && !c->check(&t, dev))
            abort();
    }
    c->destroy(dev);
    devtest_fini(&t);
    return 0;
}

#endif
