// SPDX-License-Identifier: Apache-2.0
/* Random numbers and interesting values for the corpus; state.c. */
#ifndef DOPPEL_TESTS_INSN_CORPUS_RND_H
#define DOPPEL_TESTS_INSN_CORPUS_RND_H

#include "tests/insn/corpus/corpus.h"

struct rnd {
    uint64_t s;
};

/* splitmix64 (Steele, Lea, Flood 2014) */
static inline uint64_t rnd_u64(struct rnd *r)
{
    uint64_t z = r->s += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* 0 to n - 1 */
static inline unsigned rnd_n(struct rnd *r, unsigned n)
{
    return (unsigned)((rnd_u64(r) >> 32) * n >> 32);
}

static inline bool rnd_pct(struct rnd *r, unsigned pct)
{
    return rnd_n(r, 100) < pct;
}

/* What memory and vector registers are filled with. */
enum rnd_flavor {
    RND_F32,
    RND_F64,
    RND_INT,
    RND_BITS,
    RND_FLAVORS
};

/** rnd_int() - an integer: edges of all sizes, small ones, any bits */
uint64_t rnd_int(struct rnd *r);

/** rnd_lane() - 64 bits of @f: two singles, a double, integers */
uint64_t rnd_lane(struct rnd *r, enum rnd_flavor f);

/** rnd_f80() - ten bytes: an 80-bit number of any class */
void rnd_f80(struct rnd *r, uint8_t out[10]);

/** rnd_xstate() - x87, SSE and AVX state
 * @fp: the x87 part matters: pending exceptions are rare */
void rnd_xstate(struct rnd *r, enum rnd_flavor f, uint8_t *xs);

/** rnd_flags() - RFLAGS as CPL 3 may have it; AC and NT seldom */
uint64_t rnd_flags(struct rnd *r);

#endif
