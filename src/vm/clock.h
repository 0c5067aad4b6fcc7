// SPDX-License-Identifier: Apache-2.0
/*
 * Guest time and timers.
 *
 * Guest time is nanoseconds since power-on; it stands still while the VM is
 * paused. In CLOCK_REAL it follows the host's monotonic clock; in
 * CLOCK_VIRTUAL it is driven by executed instructions (clock_virtual_add),
 * so that a run repeats exactly. A timer is a deadline and a callback. In
 * real mode the event loop's thread runs callbacks (clock_run when
 * clock_wait_ns has passed); in virtual mode the vCPU's thread does.
 *
 * Callbacks run without the clock's lock held; they may arm timers. A timer's
 * owner must tolerate a callback that was already under way when the timer was
 * disarmed: re-check the deadline under the device's own lock.
 */
#ifndef DOPPEL_VM_CLOCK_H
#define DOPPEL_VM_CLOCK_H

#include "base/cc.h"

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_NEVER UINT64_MAX
#define NS_PER_S    UINT64_C(1000000000)
#define NS_PER_MS   UINT64_C(1000000)
#define NS_PER_US   UINT64_C(1000)

enum clock_mode {
    CLOCK_MODE_REAL,
    CLOCK_MODE_VIRTUAL
};

struct clock;

struct timer {
    void (*fn)(void *ctx);
    void *ctx;
    uint64_t deadline_ns; /* guest time; CLOCK_NEVER = not armed */
    struct timer *next;   /* the clock's list, sorted by deadline */
};

/** clock_create() - a stopped clock at guest time 0
 * @tsc_khz: guest TSC rate; 0 = the host's (measured once); within a
 *   thousandth of the host's it is the host's, measured before
 * @wall_ns: in virtual mode the wall clock at guest time 0 (UNIX ns); in real
 *   mode ignored: the wall clock is the host's
 * Return: NULL when out of memory. */
struct clock *clock_create(enum clock_mode mode, uint32_t tsc_khz,
                           uint64_t wall_ns);
void clock_destroy(struct clock *clk);

/** clock_start(), clock_stop() - let guest time run, hold it. Thread: main. */
void clock_start(struct clock *clk);
void clock_stop(struct clock *clk);

/** clock_now_ns() - guest time. Thread: any. */
uint64_t clock_now_ns(struct clock *clk);

/** clock_set() - set guest time and TSC (state load; clock stopped) */
void clock_set(struct clock *clk, uint64_t now_ns, uint64_t tsc);

/** clock_wall_ns() - the wall clock, UNIX time in ns. Thread: any. */
uint64_t clock_wall_ns(struct clock *clk);

/** clock_tsc() - the guest's TSC before any per-vCPU offset
 * Real mode: the host's TSC, minus what passed while stopped, scaled when
 * rates differ. Thread: any. Cost: 20 ns. */
uint64_t clock_tsc(struct clock *clk);
uint32_t clock_tsc_khz(const struct clock *clk);

/** clock_tsc_base() - whether clock_tsc() is the host's TSC minus *@base, as
 * long as the clock runs */
bool clock_tsc_base(const struct clock *clk, uint64_t *base);

/** clock_tsc_to_ns() - when clock_tsc() will be @tsc, as guest time */
uint64_t clock_tsc_to_ns(struct clock *clk, uint64_t tsc);

enum clock_mode clock_mode(const struct clock *clk);

/** clock_virtual_add() - virtual mode: @ns have passed. Thread: vcpu. */
void clock_virtual_add(struct clock *clk, uint64_t ns);

/** timer_init() - @fn(@ctx) will be called when it expires */
void timer_init(struct timer *t, void (*fn)(void *ctx), void *ctx);

/** timer_arm() - (re)arm at @deadline_ns of guest time; any thread.
 * Wakes the event loop when this became the earliest deadline. */
void timer_arm(struct clock *clk, struct timer *t, uint64_t deadline_ns);
void timer_disarm(struct clock *clk, struct timer *t);

/** clock_run() - run the callbacks of expired timers
 * Not more than some dozens: a guest whose vCPUs arm faster than they run must
 * not keep the event loop from its other work.
 * Return: guest time of the next deadline (passed already when some are left),
 * or CLOCK_NEVER. */
uint64_t clock_run(struct clock *clk);

/** clock_next_ns() - the earliest deadline, or CLOCK_NEVER */
uint64_t clock_next_ns(struct clock *clk);

/** clock_set_wake() - @wake(@ctx) is called (any thread) when an earlier
 * deadline than all others was armed: the event loop must look again */
void clock_set_wake(struct clock *clk, void (*wake)(void *ctx), void *ctx);

#endif
