// SPDX-License-Identifier: Apache-2.0
/* Bits and alignment. */
#ifndef DOPPEL_BASE_BITS_H
#define DOPPEL_BASE_BITS_H

#include <stdbool.h>
#include <stdint.h>

#define BIT(n) (UINT64_C(1) << (n))
/* Bits hi..lo, both included. */
#define BITS(hi, lo) ((~UINT64_C(0) >> (63 - (hi))) & (~UINT64_C(0) << (lo)))

#define KIB          (UINT64_C(1) << 10)
#define MIB          (UINT64_C(1) << 20)
#define GIB          (UINT64_C(1) << 30)

/* @a must be a power of two. */
#define ALIGN_DOWN(x, a) ((x) & ~((uint64_t)(a)-1))
#define ALIGN_UP(x, a)   (((x) + (uint64_t)(a)-1) & ~((uint64_t)(a)-1))

static inline uint64_t bits_get(uint64_t v, unsigned hi, unsigned lo)
{
    return (v & BITS(hi, lo)) >> lo;
}

static inline uint64_t bits_set(uint64_t v, unsigned hi, unsigned lo,
                                uint64_t field)
{
    return (v & ~BITS(hi, lo)) | ((field << lo) & BITS(hi, lo));
}

/* Sign-extend the low @bits of @v. */
static inline int64_t bits_sext(uint64_t v, unsigned bits)
{
    return (int64_t)(v << (64 - bits)) >> (64 - bits);
}

#endif
