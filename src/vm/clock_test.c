// SPDX-License-Identifier: Apache-2.0
/* Guest time: stepped and real clocks, timers in order, stop and go; kicks. */
#include "vm/clock.h"

#include "base/test.h"
#include "vm/kick.h"

#include <pthread.h>
#include <time.h>

static unsigned order[8], fired;

struct tagged {
    struct timer t;
    unsigned tag;
    struct clock *clk;
};

static void fire(void *ctx)
{
    struct tagged *g = ctx;

    order[fired++ % 8] = g->tag;
}

static void fire_again(void *ctx)
{
    struct tagged *g = ctx;

    fire(ctx);
    if (fired < 5)
        timer_arm(g->clk, &g->t, clock_now_ns(g->clk) + 10);
}

TEST(virtual_timers_in_order)
{
    struct clock *clk = clock_create(CLOCK_MODE_VIRTUAL, 0, 0);
    struct tagged a = {.tag = 1}, b = {.tag = 2}, c = {.tag = 3};

    timer_init(&a.t, fire, &a);
    timer_init(&b.t, fire, &b);
    timer_init(&c.t, fire, &c);
    fired = 0;
    timer_arm(clk, &a.t, 300);
    timer_arm(clk, &b.t, 100);
    timer_arm(clk, &c.t, 200);
    timer_arm(clk, &b.t, 250); /* moved */
    CHECK_EQ(clock_next_ns(clk), 200);
    clock_virtual_add(clk, 260);
    CHECK_EQ(clock_run(clk), 300);
    CHECK_EQ(fired, 2);
    CHECK_EQ(order[0], 3);
    CHECK_EQ(order[1], 2);
    timer_disarm(clk, &a.t);
    clock_virtual_add(clk, 100);
    CHECK_EQ(clock_run(clk), CLOCK_NEVER);
    CHECK_EQ(fired, 2);
    CHECK_EQ(clock_tsc(clk), 360);
    clock_destroy(clk);
}

TEST(callbacks_may_arm)
{
    struct clock *clk = clock_create(CLOCK_MODE_VIRTUAL, 0, 0);
    struct tagged a = {.tag = 1, .clk = clk};

    timer_init(&a.t, fire_again, &a);
    fired = 0;
    timer_arm(clk, &a.t, 1);
    for (int i = 0; i < 10; i++) {
        clock_virtual_add(clk, 10);
        clock_run(clk);
    }
    CHECK_EQ(fired, 5);
    timer_arm(clk, &a.t, CLOCK_NEVER); /* is a disarm */
    CHECK_EQ(clock_next_ns(clk), CLOCK_NEVER);
    clock_destroy(clk);
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

TEST(real_time_stops_and_goes)
{
    struct clock *clk = clock_create(CLOCK_MODE_REAL, 0, 0);
    uint64_t ns, tsc;

    CHECK_EQ(clock_now_ns(clk), 0);
    clock_set(clk, 5000, 12345);
    clock_start(clk);
    sleep_ms(5);
    ns = clock_now_ns(clk);
    CHECK(ns >= 5005000);
    clock_stop(clk);
    ns = clock_now_ns(clk);
    tsc = clock_tsc(clk);
    CHECK(tsc > 12345);
    sleep_ms(2);
    CHECK_EQ(clock_now_ns(clk), ns);
    CHECK_EQ(clock_tsc(clk), tsc);
    clock_start(clk);
    CHECK(clock_tsc(clk) >= tsc);
    CHECK(clock_now_ns(clk) >= ns);
    CHECK(clock_now_ns(clk) < ns + NS_PER_S);
    clock_destroy(clk);
}

TEST(tsc_and_ns_agree)
{
    struct clock *clk = clock_create(CLOCK_MODE_REAL, 1000000, 0);
    uint64_t in_1ms;

    clock_start(clk);
    in_1ms = clock_tsc(clk) + clock_tsc_khz(clk);
    CHECK(clock_tsc_to_ns(clk, in_1ms) <= clock_now_ns(clk) + NS_PER_MS + 1);
    CHECK(clock_tsc_to_ns(clk, 0) <= clock_now_ns(clk));
    CHECK(clock_tsc_to_ns(clk, UINT64_MAX) > NS_PER_S);
    sleep_ms(20);
    /* 1 GHz guest TSC: ticks are nanoseconds, within 1 % */
    CHECK(clock_tsc(clk) > clock_now_ns(clk) / 100 * 99);
    CHECK(clock_tsc(clk) < clock_now_ns(clk) / 100 * 101);
    clock_destroy(clk);
}

struct greedy {
    struct clock *clk;
    struct timer t;
    unsigned runs;
};

static void greedy_fn(void *ctx)
{
    struct greedy *g = ctx;

    if (++g->runs < 1000000) /* stands for a vCPU that arms all the time */
        timer_arm(g->clk, &g->t, clock_now_ns(g->clk));
}

TEST(run_is_bounded)
{
    struct greedy g = {.clk = clock_create(CLOCK_MODE_VIRTUAL, 0, 0)};

    timer_init(&g.t, greedy_fn, &g);
    timer_arm(g.clk, &g.t, 0);
    CHECK(clock_run(g.clk) <= clock_now_ns(g.clk)); /* there is more to do */
    CHECK(g.runs >= 8 && g.runs < 1000);
    timer_disarm(g.clk, &g.t);
    clock_destroy(g.clk);
}

static void *poster(void *arg)
{
    struct kick *k = arg;

    for (unsigned v = 0; v < 256; v++)
        kick_post(k, (uint8_t)v, v % 3 == 0);
    return NULL;
}

TEST(posted_vectors_arrive)
{
    struct kick k;
    pthread_t t;
    uint64_t seen[4] = {0};
    unsigned n = 0;

    kick_init(&k);
    CHECK_EQ(pthread_create(&t, NULL, poster, &k), 0);
    while (n < 256) {
        kick_wait(&k, KICK_POSTED, UINT64_MAX);
        kick_clear(&k, KICK_POSTED);
        for (unsigned i = 0; i < 4; i++) {
            uint64_t got = atomic_exchange(&k.posted[i], 0);

            CHECK_EQ(seen[i] & got, 0);
            seen[i] |= got;
            n += (unsigned)__builtin_popcountll(got);
        }
    }
    pthread_join(t, NULL);
    CHECK_EQ(n, 256);
    CHECK(atomic_load(&k.posted_tmr[0]) & 1);
    CHECK(!(atomic_load(&k.posted_tmr[0]) & 2));
}

TEST(wait_times_out)
{
    struct kick k;

    kick_init(&k);
    CHECK_EQ(kick_wait(&k, KICK_NMI, NS_PER_MS), 0);
    kick_request(&k, KICK_PARK);
    CHECK_EQ(kick_wait(&k, KICK_NMI, NS_PER_MS), KICK_PARK);
}

TEST_MAIN(CASE(virtual_timers_in_order), CASE(callbacks_may_arm),
          CASE(run_is_bounded), CASE(real_time_stops_and_goes),
          CASE(tsc_and_ns_agree), CASE(posted_vectors_arrive),
          CASE(wait_times_out))
