// SPDX-License-Identifier: Apache-2.0
/* The real-time clock against a stepped clock. */
#include "base/test.h"
#include "dev/rtc/rtc_rig.h"

#include <time.h>

struct bench {
    struct devtest t;
    struct rtc *rtc;
};

static void setup(struct bench *b)
{
    devtest_init(&b->t);
    b->rtc = rig_create(&b->t);
    CHECK(b->rtc != NULL);
}

static void teardown(struct bench *b)
{
    rtc_destroy(b->rtc);
    devtest_fini(&b->t);
}

static uint8_t get(struct bench *b, unsigned index)
{
    devtest_outb(&b->t, 0x70, index);
    return devtest_inb(&b->t, 0x71);
}

static void set(struct bench *b, unsigned index, unsigned val)
{
    devtest_outb(&b->t, 0x70, index);
    devtest_outb(&b->t, 0x71, val);
}

static void run_ms(struct bench *b, uint64_t ms)
{
    devtest_run_ns(&b->t, ms * NS_PER_MS);
}

static unsigned unbcd(unsigned v)
{
    return (v >> 4) * 10 + (v & 15);
}

/* The clock's time as UNIX seconds, by the C library's calendar. */
static int64_t read_time(struct bench *b)
{
    bool bin = get(b, 0x0b) & 4, h24 = get(b, 0x0b) & 2;
    unsigned v[8], hour = get(b, 4);
    static const uint8_t index[8] = {0, 2, 4, 7, 8, 9, 0x32, 6};
    struct tm tm = {0};
    int64_t secs;

    for (unsigned i = 0; i < 8; i++)
        v[i] = bin ? get(b, index[i]) : unbcd(get(b, index[i]));
    if (!h24) {
        v[2] = bin ? hour & 0x7f : unbcd(hour & 0x7f);
        v[2] = v[2] % 12 + (hour & 0x80 ? 12 : 0);
    }
    tm.tm_sec = (int)v[0];
    tm.tm_min = (int)v[1];
    tm.tm_hour = (int)v[2];
    tm.tm_mday = (int)v[3];
    tm.tm_mon = (int)v[4] - 1;
    tm.tm_year = (int)(v[6] * 100 + v[5]) - 1900;
    secs = timegm(&tm);
    CHECK_EQ(tm.tm_wday + 1, v[7]);
    return secs;
}

#define WALL ((int64_t)(DEVTEST_WALL_NS / NS_PER_S))

TEST(shows_utc)
{
    struct bench b;

    setup(&b);
    CHECK_EQ(get(&b, 0x0b), 0x02);
    CHECK_EQ(get(&b, 0x0d), 0x80);
    CHECK_EQ(read_time(&b), WALL);
    run_ms(&b, 3600 * 1000 + 999);
    CHECK_EQ(read_time(&b), WALL + 3600);
    run_ms(&b, 1);
    CHECK_EQ(read_time(&b), WALL + 3601);
    set(&b, 0x0b, 0x06); /* binary */
    CHECK_EQ(read_time(&b), WALL + 3601);
    set(&b, 0x0b, 0x04); /* 12 hours */
    CHECK_EQ(read_time(&b), WALL + 3601);
    set(&b, 0x0b, 0x00);
    for (unsigned i = 0; i < 48; i++) {
        CHECK_EQ(read_time(&b), WALL + 3601 + i * 1800);
        run_ms(&b, 1800 * 1000);
    }
    teardown(&b);
}

/* Month ends, leap years: a day at a time for 30 years. */
TEST(calendar)
{
    struct bench b;

    setup(&b);
    for (unsigned i = 0; i < 30 * 366; i++) {
        clock_virtual_add(b.t.vm.clock, 86400 * NS_PER_S);
        CHECK_EQ(read_time(&b), WALL + (int64_t)(i + 1) * 86400);
    }
    teardown(&b);
}

/* As Linux sets it: SET, divider reset, registers, back. */
static void set_time(struct bench *b, const uint8_t v[7])
{
    static const uint8_t index[7] = {0, 2, 4, 7, 8, 9, 0x32};
    uint8_t reg_b = get(b, 0x0b), reg_a = get(b, 0x0a) & 0x7f;

    set(b, 0x0b, reg_b | 0x80);
    set(b, 0x0a, reg_a | 0x70);
    for (unsigned i = 0; i < 7; i++)
        set(b, index[i], v[i]);
    set(b, 0x0b, reg_b);
    set(b, 0x0a, reg_a);
}

TEST(setting)
{
    struct bench b;

    setup(&b);
    run_ms(&b, 123);
    set_time(&b, (const uint8_t[]){0x59, 0x59, 0x23, 0x29, 0x02, 0x96, 0x19});
    CHECK_EQ(get(&b, 0x00), 0x59);
    run_ms(&b, 499);
    CHECK_EQ(get(&b, 0x00), 0x59);
    run_ms(&b, 1); /* the first update is after half a second */
    CHECK_EQ(get(&b, 0x00), 0x00);
    CHECK_EQ(get(&b, 0x04), 0x00);
    CHECK_EQ(get(&b, 0x07), 0x01);
    CHECK_EQ(get(&b, 0x08), 0x03);
    run_ms(&b, 86400 * 1000);
    CHECK_EQ(get(&b, 0x07), 0x02);
    /* Far away: year 9999 and back to 1970. */
    set_time(&b, (const uint8_t[]){0x58, 0x59, 0x23, 0x31, 0x12, 0x99, 0x99});
    run_ms(&b, 600);
    CHECK_EQ(get(&b, 0x00), 0x59);
    CHECK_EQ(get(&b, 0x09), 0x99);
    CHECK_EQ(get(&b, 0x32), 0x99);
    set_time(&b, (const uint8_t[]){0x00, 0x00, 0x00, 0x01, 0x01, 0x70, 0x19});
    run_ms(&b, 600);
    CHECK_EQ(get(&b, 0x00), 0x01);
    CHECK_EQ(get(&b, 0x09), 0x70);
    /* A single register, without SET; the weekday by itself. */
    set(&b, 0x04, 0x13);
    CHECK_EQ(get(&b, 0x04), 0x13);
    CHECK_EQ(get(&b, 0x00), 0x01);
    set(&b, 0x06, 0x02);
    CHECK_EQ(get(&b, 0x06), 0x02);
    run_ms(&b, 86400 * 1000);
    CHECK_EQ(get(&b, 0x06), 0x03);
    CHECK_EQ(get(&b, 0x04), 0x13);
    /* Held: nothing moves, nothing updates. */
    set(&b, 0x0b, 0x82);
    run_ms(&b, 5000);
    CHECK_EQ(get(&b, 0x00), 0x01);
    set(&b, 0x00, 0x77); /* plain memory now */
    CHECK_EQ(get(&b, 0x00), 0x77);
    set(&b, 0x0b, 0x02);
    CHECK_EQ(get(&b, 0x00), 0x17); /* 77 s carry over */
    teardown(&b);
}

TEST(update_in_progress)
{
    struct bench b;

    setup(&b);
    CHECK_EQ(get(&b, 0x0a), 0x26);
    devtest_run_ns(&b.t, NS_PER_S - 245000);
    CHECK_EQ(get(&b, 0x0a), 0x26);
    devtest_run_ns(&b.t, 1000);
    CHECK_EQ(get(&b, 0x0a), 0xa6);
    devtest_run_ns(&b.t, 244000);
    CHECK_EQ(get(&b, 0x0a), 0x26);
    teardown(&b);
}

TEST(update_interrupt)
{
    struct bench b;

    setup(&b);
    run_ms(&b, 300);
    CHECK_EQ(get(&b, 0x0c) & 0xb0, 0);
    run_ms(&b, 1000);
    CHECK_EQ(get(&b, 0x0c) & 0x90, 0x10); /* the flag, not the line */
    set(&b, 0x0b, 0x12);
    CHECK(!b.t.level[8]);
    run_ms(&b, 699);
    CHECK(!b.t.level[8]);
    run_ms(&b, 1);
    CHECK(b.t.level[8]);
    run_ms(&b, 5000); /* not read: no more edges */
    CHECK_EQ(b.t.rises[8], 1);
    CHECK_EQ(get(&b, 0x0c) & 0x90, 0x90);
    CHECK(!b.t.level[8]);
    CHECK_EQ(get(&b, 0x0c), 0);
    run_ms(&b, 1000);
    CHECK_EQ(b.t.rises[8], 2);
    rtc_reset(b.rtc);
    CHECK(!b.t.level[8]);
    CHECK_EQ(get(&b, 0x0b), 0x02);
    teardown(&b);
}

TEST(alarm)
{
    struct bench b;

    setup(&b); /* 22:13:20 */
    set(&b, 0x01, 0x00);
    set(&b, 0x03, 0x15);
    set(&b, 0x05, 0x22);
    set(&b, 0x0b, 0x22);
    run_ms(&b, 99999);
    CHECK(!b.t.level[8]);
    run_ms(&b, 1);
    CHECK(b.t.level[8]);
    CHECK_EQ(get(&b, 0x0c) & 0xa0, 0xa0);
    run_ms(&b, 86400 * 1000 - 1); /* once a day */
    CHECK_EQ(get(&b, 0x0c) & 0x20, 0);
    run_ms(&b, 1);
    CHECK_EQ(get(&b, 0x0c) & 0x20, 0x20);
    /* Don't care: each minute at :30. */
    set(&b, 0x01, 0x30);
    set(&b, 0x03, 0xff);
    set(&b, 0x05, 0xc0);
    for (unsigned i = 0; i < 5; i++) {
        run_ms(&b, 60000);
        CHECK_EQ(get(&b, 0x0c) & 0x20, 0x20);
    }
    CHECK_EQ(b.t.rises[8], 7);
    /* Found later, too, when nobody waited for it. */
    set(&b, 0x0b, 0x02);
    clock_virtual_add(b.t.vm.clock, 60 * NS_PER_S);
    CHECK_EQ(get(&b, 0x0c) & 0x20, 0x20);
    teardown(&b);
}

TEST(periodic)
{
    struct bench b;

    setup(&b);
    set(&b, 0x0b, 0x42); /* 1024 Hz */
    for (unsigned i = 0; i < 1024; i++) {
        devtest_run_ns(&b.t, NS_PER_S / 1024 + 1);
        CHECK_EQ(get(&b, 0x0c) & 0xc0, 0xc0);
    }
    CHECK_EQ(b.t.rises[8], 1024);
    set(&b, 0x0a, 0x2f); /* 2 Hz */
    get(&b, 0x0c);
    run_ms(&b, 2000);
    CHECK_EQ(b.t.rises[8], 1025);
    set(&b, 0x0a, 0x21); /* 256 Hz */
    get(&b, 0x0c);
    devtest_run_ns(&b.t, NS_PER_S / 256 + 1);
    CHECK_EQ(b.t.rises[8], 1026);
    set(&b, 0x0a, 0x20); /* none */
    get(&b, 0x0c);
    run_ms(&b, 3000);
    CHECK_EQ(get(&b, 0x0c) & 0x40, 0);
    CHECK_EQ(b.t.rises[8], 1026);
    teardown(&b);
}

TEST(cmos)
{
    struct bench b;

    setup(&b);
    CHECK_EQ(get(&b, 0x15) | get(&b, 0x16) << 8, 640);
    CHECK_EQ(get(&b, 0x17) | get(&b, 0x18) << 8, 0xffff);
    CHECK_EQ(get(&b, 0x34) | get(&b, 0x35) << 8, (512 - 16) * 16);
    CHECK_EQ(get(&b, 0x5b) | get(&b, 0x5c) << 8 | get(&b, 0x5d) << 16, 0x4000);
    for (unsigned i = 0x0e; i < 0x80; i++)
        if (i != 0x32)
            set(&b, i | 0x80, i ^ 0x5a); /* with the NMI mask bit */
    for (unsigned i = 0x0e; i < 0x80; i++)
        if (i != 0x32)
            CHECK_EQ(get(&b, i), i ^ 0x5a);
    rtc_cmos_set(b.rtc, 0x40, 0x99);
    rtc_cmos_set(b.rtc, 0x0b, 0xff);
    rtc_cmos_set(b.rtc, 0xff, 0xff);
    CHECK_EQ(get(&b, 0x40), 0x99);
    CHECK_EQ(get(&b, 0x0b), 0x02);
    set(&b, 0x0c, 0xff);
    set(&b, 0x0d, 0);
    CHECK_EQ(get(&b, 0x0d), 0x80);
    CHECK_EQ(devtest_inb(&b.t, 0x70), 0xff);
    teardown(&b);
}

TEST(random)
{
    CHECK(devtest_loop(&rtc_class, 1, 20, 3000));
}

TEST(roundtrip)
{
    CHECK(devtest_roundtrip(&rtc_class, 2, 100, 300));
}

TEST(damaged_state)
{
    CHECK(devtest_damage(&rtc_class, 3, 500));
}

TEST_MAIN(CASE(shows_utc), CASE(calendar), CASE(setting),
          CASE(update_in_progress), CASE(update_interrupt), CASE(alarm),
          CASE(periodic), CASE(cmos), CASE(random), CASE(roundtrip),
          CASE(damaged_state))
