// SPDX-License-Identifier: Apache-2.0
/*
 * Scalars with a meaning. Guest addresses are one-field structs, so that a
 * guest-physical address cannot be passed where a virtual one is meant and
 * neither can be dereferenced; the machine code is that of a uint64_t.
 */
#ifndef DOPPEL_BASE_TYPES_H
#define DOPPEL_BASE_TYPES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* A guest-physical address (GPA), bytes. */
typedef struct {
    uint64_t v;
} gpa_t;

/* A guest-linear address (GLA: virtual, after segmentation), bytes. */
typedef struct {
    uint64_t v;
} gva_t;

static inline gpa_t gpa(uint64_t v)
{
    return (gpa_t){v};
}

static inline gpa_t gpa_add(gpa_t a, uint64_t n)
{
    return (gpa_t){a.v + n};
}

static inline gva_t gva(uint64_t v)
{
    return (gva_t){v};
}

/* Little-endian integers of guest-visible layouts, of any alignment. */
typedef struct {
    uint8_t b[2];
} le16_t;
typedef struct {
    uint8_t b[4];
} le32_t;
typedef struct {
    uint8_t b[8];
} le64_t;

static inline uint16_t le16_get(le16_t x)
{
    uint16_t v;
    memcpy(&v, x.b, sizeof v);
    return v;
}

static inline uint32_t le32_get(le32_t x)
{
    uint32_t v;
    memcpy(&v, x.b, sizeof v);
    return v;
}

static inline uint64_t le64_get(le64_t x)
{
    uint64_t v;
    memcpy(&v, x.b, sizeof v);
    return v;
}

static inline le16_t le16(uint16_t v)
{
    le16_t x;
    memcpy(x.b, &v, sizeof v);
    return x;
}

static inline le32_t le32(uint32_t v)
{
    le32_t x;
    memcpy(x.b, &v, sizeof v);
    return x;
}

static inline le64_t le64(uint64_t v)
{
    le64_t x;
    memcpy(x.b, &v, sizeof v);
    return x;
}

#endif
