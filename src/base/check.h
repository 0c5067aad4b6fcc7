// SPDX-License-Identifier: Apache-2.0
/* Arithmetic on numbers from a guest or a file: false means overflow. */
#ifndef DOPPEL_BASE_CHECK_H
#define DOPPEL_BASE_CHECK_H

#include "base/cc.h"

#include <stdbool.h>
#include <stdint.h>

static inline MUST_CHECK bool check_add(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline MUST_CHECK bool check_mul(uint64_t a, uint64_t b, uint64_t *prod)
{
    return !__builtin_mul_overflow(a, b, prod);
}

/* Whether [off, off+len) lies in [0, size). */
static inline MUST_CHECK bool check_range(uint64_t off, uint64_t len,
                                          uint64_t size)
{
    return off <= size && len <= size - off;
}

#endif
