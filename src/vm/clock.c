// SPDX-License-Identifier: Apache-2.0
/*
 * Guest time and timers; see clock.h. The list of timers is sorted by deadline;
 * a VM has about ten. The lock guards the list and the bases.
 */
#include "vm/clock.h"

#include "base/assert.h"

#include <cpuid.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <x86intrin.h>

#define VIRTUAL_TSC_KHZ 1000000U
#define CALIBRATE_NS    (10 * NS_PER_MS)
#define RUN_MAX         64 /* callbacks per clock_run */

struct clock {
    enum clock_mode mode;
    uint32_t tsc_khz;
    uint32_t host_khz;
    uint64_t wall_base_ns; /* virtual mode */
    pthread_mutex_t lock;
    _Atomic bool running;
    /* Real mode: guest = host - base while running, = held while not. */
    _Atomic uint64_t ns_base, tsc_base;
    uint64_t ns_held, tsc_held;
    _Atomic uint64_t virtual_ns;
    struct timer *first;
    void (*wake)(void *ctx);
    void *wake_ctx;
};

static uint64_t host_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* The host's TSC rate: what a hypervisor below says (leaf 0x40000010), what
 * the CPU says (0x15), else measured against CLOCK_MONOTONIC. */
static uint32_t host_tsc_khz(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    uint64_t t0, t1, n0, n1;

    __cpuid(1, a, b, c, d);
    if (c & 1U << 31) {
        __cpuid(0x40000000, a, b, c, d);
        if (a >= 0x40000010 && a < 0x40001000) {
            __cpuid(0x40000010, a, b, c, d);
            if (a)
                return a;
        }
    }
    if (__get_cpuid_max(0, NULL) >= 0x15) {
        __cpuid(0x15, a, b, c, d);
        if (a && b && c)
            return (uint32_t)((uint64_t)c * b / a / 1000);
    }
    n0 = host_ns(CLOCK_MONOTONIC);
    t0 = __rdtsc();
    do {
        n1 = host_ns(CLOCK_MONOTONIC);
        t1 = __rdtsc();
    } while (n1 - n0 < CALIBRATE_NS);
    return (uint32_t)((t1 - t0) * 1000000 / (n1 - n0));
}

/* Two measurements of one rate differ by some 30 millionths. */
static bool same_rate(uint32_t a, uint32_t b)
{
    return (a > b ? a - b : b - a) <= b / 1000;
}

struct clock *clock_create(enum clock_mode mode, uint32_t tsc_khz,
                           uint64_t wall_ns)
{
    struct clock *clk = calloc(1, sizeof *clk);

    if (!clk)
        return NULL;
    clk->mode = mode;
    clk->host_khz = mode == CLOCK_MODE_REAL ? host_tsc_khz() : VIRTUAL_TSC_KHZ;
    clk->tsc_khz = tsc_khz ? tsc_khz : clk->host_khz;
    if (same_rate(clk->host_khz, clk->tsc_khz))
        clk->host_khz = clk->tsc_khz;
    clk->wall_base_ns = wall_ns;
    pthread_mutex_init(&clk->lock, NULL);
    return clk;
}

void clock_destroy(struct clock *clk)
{
    if (!clk)
        return;
    pthread_mutex_destroy(&clk->lock);
    free(clk);
}

enum clock_mode clock_mode(const struct clock *clk)
{
    return clk->mode;
}

uint32_t clock_tsc_khz(const struct clock *clk)
{
    return clk->tsc_khz;
}

/* a * b / c without overflow of the product */
static uint64_t scale(uint64_t a, uint64_t b, uint64_t c)
{
    return (uint64_t)((unsigned __int128)a * b / c);
}

void clock_start(struct clock *clk)
{
    pthread_mutex_lock(&clk->lock);
    if (!clk->running) {
        atomic_store(&clk->ns_base, host_ns(CLOCK_MONOTONIC) - clk->ns_held);
        atomic_store(&clk->tsc_base,
                     __rdtsc() -
                         scale(clk->tsc_held, clk->host_khz, clk->tsc_khz));
        clk->running = true;
    }
    pthread_mutex_unlock(&clk->lock);
    if (clk->wake)
        clk->wake(clk->wake_ctx);
}

void clock_stop(struct clock *clk)
{
    pthread_mutex_lock(&clk->lock);
    if (clk->running) {
        clk->ns_held = host_ns(CLOCK_MONOTONIC) - atomic_load(&clk->ns_base);
        clk->tsc_held = scale(__rdtsc() - atomic_load(&clk->tsc_base),
                              clk->tsc_khz, clk->host_khz);
        clk->running = false;
    }
    pthread_mutex_unlock(&clk->lock);
}

uint64_t clock_now_ns(struct clock *clk)
{
    if (clk->mode == CLOCK_MODE_VIRTUAL)
        return atomic_load(&clk->virtual_ns);
    if (!clk->running)
        return clk->ns_held;
    return host_ns(CLOCK_MONOTONIC) - atomic_load(&clk->ns_base);
}

void clock_set(struct clock *clk, uint64_t now_ns, uint64_t tsc)
{
    ASSERT(!clk->running || clk->mode == CLOCK_MODE_VIRTUAL);
    clk->ns_held = now_ns;
    clk->tsc_held = tsc;
    atomic_store(&clk->virtual_ns, now_ns);
}

uint64_t clock_wall_ns(struct clock *clk)
{
    if (clk->mode == CLOCK_MODE_VIRTUAL)
        return clk->wall_base_ns + atomic_load(&clk->virtual_ns);
    return host_ns(CLOCK_REALTIME);
}

uint64_t clock_tsc(struct clock *clk)
{
    uint64_t t;

    if (clk->mode == CLOCK_MODE_VIRTUAL)
        return scale(atomic_load(&clk->virtual_ns), clk->tsc_khz, 1000000);
    if (!clk->running)
        return clk->tsc_held;
    t = __rdtsc() - atomic_load(&clk->tsc_base);
    if (clk->tsc_khz != clk->host_khz)
        t = scale(t, clk->tsc_khz, clk->host_khz);
    return t;
}

bool clock_tsc_base(const struct clock *clk, uint64_t *base)
{
    *base = atomic_load(&clk->tsc_base);
    return clk->mode == CLOCK_MODE_REAL && clk->running &&
           clk->tsc_khz == clk->host_khz;
}

uint64_t clock_tsc_to_ns(struct clock *clk, uint64_t tsc)
{
    uint64_t now = clock_tsc(clk), ns = clock_now_ns(clk), delta, r;

    if (tsc <= now)
        return ns;
    delta = tsc - now;
    if (delta > UINT64_MAX / 1000000) /* centuries */
        return CLOCK_NEVER - 1;
    r = ns + scale(delta, 1000000, clk->tsc_khz) + 1;
    return r < ns ? CLOCK_NEVER - 1 : r;
}

void clock_virtual_add(struct clock *clk, uint64_t ns)
{
    atomic_fetch_add(&clk->virtual_ns, ns);
}

/* ---- timers ---- */

void timer_init(struct timer *t, void (*fn)(void *ctx), void *ctx)
{
    t->fn = fn;
    t->ctx = ctx;
    t->deadline_ns = CLOCK_NEVER;
    t->next = NULL;
}

static void remove_locked(struct clock *clk, struct timer *t)
{
    for (struct timer **p = &clk->first; *p; p = &(*p)->next) {
        if (*p == t) {
            *p = t->next;
            break;
        }
    }
    t->deadline_ns = CLOCK_NEVER;
    t->next = NULL;
}

void timer_arm(struct clock *clk, struct timer *t, uint64_t deadline_ns)
{
    struct timer **p;
    bool earliest;

    if (deadline_ns == CLOCK_NEVER) {
        timer_disarm(clk, t);
        return;
    }
    pthread_mutex_lock(&clk->lock);
    remove_locked(clk, t);
    t->deadline_ns = deadline_ns;
    for (p = &clk->first; *p && (*p)->deadline_ns <= deadline_ns;
         p = &(*p)->next)
        ;
    t->next = *p;
    *p = t;
    earliest = clk->first == t;
    pthread_mutex_unlock(&clk->lock);
    if (earliest && clk->wake)
        clk->wake(clk->wake_ctx);
}

void timer_disarm(struct clock *clk, struct timer *t)
{
    pthread_mutex_lock(&clk->lock);
    if (t->deadline_ns != CLOCK_NEVER)
        remove_locked(clk, t);
    pthread_mutex_unlock(&clk->lock);
}

uint64_t clock_run(struct clock *clk)
{
    for (unsigned done = 0;; done++) {
        uint64_t now = clock_now_ns(clk);
        struct timer *t;
        void (*fn)(void *);
        void *ctx;

        pthread_mutex_lock(&clk->lock);
        t = clk->first;
        if (!t || t->deadline_ns > now || done == RUN_MAX) {
            uint64_t next = t ? t->deadline_ns : CLOCK_NEVER;

            pthread_mutex_unlock(&clk->lock);
            return next;
        }
        fn = t->fn;
        ctx = t->ctx;
        remove_locked(clk, t);
        pthread_mutex_unlock(&clk->lock);
        fn(ctx);
    }
}

uint64_t clock_next_ns(struct clock *clk)
{
    uint64_t next;

    pthread_mutex_lock(&clk->lock);
    next = clk->first ? clk->first->deadline_ns : CLOCK_NEVER;
    pthread_mutex_unlock(&clk->lock);
    return next;
}

void clock_set_wake(struct clock *clk, void (*wake)(void *ctx), void *ctx)
{
    clk->wake_ctx = ctx;
    clk->wake = wake;
}
