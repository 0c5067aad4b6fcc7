// SPDX-License-Identifier: Apache-2.0
/* Little-endian fields at byte offsets of a file or a table; the caller has
 * checked that they lie inside. */
#ifndef DOPPEL_BOOT_BYTES_H
#define DOPPEL_BOOT_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t bytes_get16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t bytes_get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t bytes_get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void bytes_put16(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void bytes_put32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void bytes_put64(uint8_t *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

#endif
