// SPDX-License-Identifier: Apache-2.0
/*
 * Included before everything in files that run while a guest's vector registers
 * are live in the host's (build.mk of engine/bt lists them): the C library's
 * memory functions use vector registers, these do not.
 */
#ifndef DOPPEL_ENGINE_INTERP_NOVEC_H
#define DOPPEL_ENGINE_INTERP_NOVEC_H

#include "base/cc.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void *novec_copy(void *to, const void *from, size_t n)
{
    typedef uint64_t ANY_ALIGN word;
    void *d = to;

    if (n <= 64) { /* REP takes its time to begin */
        uint8_t *a = to;
        const uint8_t *b = from;

        for (; n >= 8; n -= 8, a += 8, b += 8)
            *(volatile word *)a = *(const volatile word *)b;
        for (; n; n--)
            *(volatile uint8_t *)a++ = *(const volatile uint8_t *)b++;
        return to;
    }
    asm volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
    return to;
}

/* As memmove where the pieces overlap: backwards by single bytes. */
static inline void *novec_move(void *to, const void *from, size_t n)
{
    char *d = to;
    const char *s = from;

    if (d <= s || d >= s + n)
        return novec_copy(to, from, n);
    while (n--)
        ((volatile char *)d)[n] = s[n];
    return to;
}

static inline void *novec_set(void *to, int v, size_t n)
{
    void *d = to;

    asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(v) : "memory");
    return to;
}

#undef memcpy
#undef memmove
#undef memset
#define memcpy(d, s, n)                                                        \
    (__builtin_constant_p(n) && (n) <= 32 ? __builtin_memcpy((d), (s), (n))    \
                                          : novec_copy((d), (s), (n)))
#define memmove(d, s, n) novec_move((d), (s), (n))
#define memset(d, v, n)                                                        \
    (__builtin_constant_p(n) && (n) <= 32 ? __builtin_memset((d), (v), (n))    \
                                          : novec_set((d), (v), (n)))

#endif
