// SPDX-License-Identifier: Apache-2.0
/*
 * Kicks and posted interrupts; see kick.h. A poster sets the vector's bit,
 * then KICK_POSTED; the vCPU's thread clears KICK_POSTED, then takes the bits:
 * a vector posted in between is seen now or raises the request again.
 */
#include "vm/kick.h"

#include "vm/clock.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void kick_init(struct kick *k)
{
    memset(k, 0, sizeof *k);
}

void kick_request(struct kick *k, uint32_t bits)
{
    uint32_t old = atomic_fetch_or(&k->request, bits);

    if ((old & bits) == bits)
        return;
    if (atomic_load(&k->sleeping))
        syscall(SYS_futex, &k->request, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    else if (k->wake)
        k->wake(k->ctx);
}

void kick_clear(struct kick *k, uint32_t bits)
{
    atomic_fetch_and(&k->request, ~bits);
}

void kick_post(struct kick *k, uint8_t vector, bool level)
{
    uint64_t bit = UINT64_C(1) << (vector & 63);

    if (level)
        atomic_fetch_or(&k->posted_tmr[vector >> 6], bit);
    else
        atomic_fetch_and(&k->posted_tmr[vector >> 6], ~bit);
    atomic_fetch_or(&k->posted[vector >> 6], bit);
    kick_request(k, KICK_POSTED);
}

uint32_t kick_wait(struct kick *k, uint32_t mask, uint64_t timeout_ns)
{
    struct timespec until, *ts = NULL;
    uint32_t now;

    if (timeout_ns != UINT64_MAX) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        timeout_ns += (uint64_t)until.tv_nsec;
        until.tv_sec += (time_t)(timeout_ns / NS_PER_S);
        until.tv_nsec = (long)(timeout_ns % NS_PER_S);
        ts = &until;
    }
    atomic_store(&k->sleeping, 1);
    while (!((now = atomic_load(&k->request)) & mask)) {
        long r = syscall(SYS_futex, &k->request, FUTEX_WAIT_BITSET_PRIVATE, now,
                         ts, NULL, FUTEX_BITSET_MATCH_ANY);
        struct timespec t;

        if (r == 0 || !ts)
            continue;
        clock_gettime(CLOCK_MONOTONIC, &t);
        if (t.tv_sec > until.tv_sec ||
            (t.tv_sec == until.tv_sec && t.tv_nsec >= until.tv_nsec))
            break;
    }
    atomic_store(&k->sleeping, 0);
    return now;
}
