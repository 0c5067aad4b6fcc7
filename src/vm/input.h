// SPDX-License-Identifier: Apache-2.0
/*
 * The input gate: the one door for everything that guest state does not
 * determine. Port and MMIO reads, TSC, random numbers, DMA completions and
 * interrupt arrivals pass here; lock-step checking, record-replay and migration
 * hang on it. Live (no ops): values pass and are counted.
 */
#ifndef DOPPEL_VM_INPUT_H
#define DOPPEL_VM_INPUT_H

#include "base/types.h"

#include <stdatomic.h>
#include <stdint.h>

enum input_kind {
    INPUT_PIO,  /* key: port | size << 16 */
    INPUT_MMIO, /* key: gpa */
    INPUT_TSC,
    INPUT_RANDOM, /* RDRAND, RDSEED */
    INPUT_DMA,    /* key: gpa, value: bytes; the completion became visible */
    INPUT_IRQ,    /* value: vector; taken at (icount, rip) */
    INPUT_KIND_COUNT
};

struct input_ops {
    /* May replace @value. @icount: instructions that @vcpu has retired. */
    uint64_t (*value)(void *ctx, enum input_kind kind, unsigned vcpu,
                      uint64_t key, uint64_t value, uint64_t icount);
};

struct input_gate {
    const struct input_ops *ops; /* NULL: live */
    void *ctx;
    _Atomic uint64_t count[INPUT_KIND_COUNT];
};

static inline uint64_t input_value(struct input_gate *g, enum input_kind kind,
                                   unsigned vcpu, uint64_t key, uint64_t value,
                                   uint64_t icount)
{
    atomic_fetch_add_explicit(&g->count[kind], 1, memory_order_relaxed);
    if (g->ops)
        return g->ops->value(g->ctx, kind, vcpu, key, value, icount);
    return value;
}

#endif
