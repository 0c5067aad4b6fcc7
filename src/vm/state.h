// SPDX-License-Identifier: Apache-2.0
/*
 * State descriptors: what a device or CPU must keep to be frozen and thawed,
 * as typed, versioned field lists. Never a struct dump: the stream names each
 * field with its type and count, so that readers can check and refuse.
 *
 * A stream is a sequence of sections, little endian:
 *
 *   magic "DSEC" u32 | name: u8 length + bytes | instance u32 | version u32
 *   | body length u32 | body
 *
 * and a body is a sequence of fields:
 *
 *   name: u8 length + bytes | type u8 | count u32 | count values
 *
 * A reader takes the fields in the descriptor's order. A field is missing,
 * foreign, of another type or count: refused with a sentence that says where,
 * unless the descriptor's field came with a later version than the stream's.
 * Incoming streams are hostile; post_load checks meaning.
 */
#ifndef DOPPEL_VM_STATE_H
#define DOPPEL_VM_STATE_H

#include "base/cc.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum state_type {
    STATE_END,
    STATE_U8,
    STATE_U16,
    STATE_U32,
    STATE_U64,
    STATE_BOOL,
    STATE_BYTES,   /* count bytes */
    STATE_STRUCT,  /* count elements of .stride bytes, each by .sub */
    STATE_VARBYTES /* pointer to bytes, length in a uint32_t at .len_offset,
                      at most .count; loaded with malloc (frees the old) */
};

struct state_field {
    const char *name;
    enum state_type type;
    size_t offset;
    uint32_t count; /* array elements; 1 for a scalar */
    uint32_t since; /* first version that has it; 0 = all */
    size_t stride;  /* STATE_STRUCT: bytes per element */
    size_t len_offset;
    const struct state_desc *sub;
};

struct state_desc {
    const char *name;
    uint32_t version;
    uint32_t min_version;             /* oldest that can be read */
    const struct state_field *fields; /* ends with type STATE_END */
    void (*pre_save)(void *obj);      /* may be NULL; locks are not held */
    /* Checks and acts on the loaded fields. Return: 0, or -EINVAL + sentence.
     */
    int (*post_load)(void *obj, uint32_t version, struct err *e);
};

/* clang-format off */
#define STATE_FIELD_(s, f, t, n, ...)                                          \
    {.name = #f, .type = t, .offset = offsetof(struct s, f), .count = n, __VA_ARGS__}
/* Scalars and arrays of struct @s; the size is checked at compile time. */
#define STATE_CHECK_(s, f, bytes)                                              \
    (0 * sizeof(char[sizeof(((struct s *)0)->f) == (bytes) ? 1 : -1]))
#define SF_U8(s, f)      STATE_FIELD_(s, f, STATE_U8, 1 + STATE_CHECK_(s, f, 1))
#define SF_U16(s, f)     STATE_FIELD_(s, f, STATE_U16, 1 + STATE_CHECK_(s, f, 2))
#define SF_U32(s, f)     STATE_FIELD_(s, f, STATE_U32, 1 + STATE_CHECK_(s, f, 4))
#define SF_U64(s, f)     STATE_FIELD_(s, f, STATE_U64, 1 + STATE_CHECK_(s, f, 8))
#define SF_BOOL(s, f)    STATE_FIELD_(s, f, STATE_BOOL, 1 + STATE_CHECK_(s, f, 1))
#define SF_U8A(s, f, n)  STATE_FIELD_(s, f, STATE_U8, (n) + STATE_CHECK_(s, f, (n)))
#define SF_U16A(s, f, n) STATE_FIELD_(s, f, STATE_U16, (n) + STATE_CHECK_(s, f, 2 * (n)))
#define SF_U32A(s, f, n) STATE_FIELD_(s, f, STATE_U32, (n) + STATE_CHECK_(s, f, 4 * (n)))
#define SF_U64A(s, f, n) STATE_FIELD_(s, f, STATE_U64, (n) + STATE_CHECK_(s, f, 8 * (n)))
#define SF_BYTES(s, f, n) STATE_FIELD_(s, f, STATE_BYTES, (n) + STATE_CHECK_(s, f, (n)))
#define SF_STRUCT(s, f, n, d)                                                  \
    STATE_FIELD_(s, f, STATE_STRUCT, n, .stride = sizeof(((struct s *)0)->f) / (n), .sub = &(d))
#define SF_VARBYTES(s, f, lenf, max)                                           \
    STATE_FIELD_(s, f, STATE_VARBYTES, max, .len_offset = offsetof(struct s, lenf))
#define SF_END {.name = NULL, .type = STATE_END}
/* clang-format on */

/* A growing buffer that state is written to, or a view that it is read from. */
struct state_buf {
    uint8_t *data;
    size_t len; /* bytes written, or bytes to read */
    size_t cap;
    size_t pos; /* read position */
};

void state_buf_fini(struct state_buf *b);

/** state_save() - append @obj's section. Return: 0 or -ENOMEM. */
MUST_CHECK int state_save(struct state_buf *b, const struct state_desc *d,
                          uint32_t instance, void *obj, struct err *e);

/** state_load() - read the next section into @obj; it must be @d's
 * Return: 0, or -EINVAL with a sentence: which section, which field, what. */
MUST_CHECK int state_load(struct state_buf *b, const struct state_desc *d,
                          uint32_t instance, void *obj, struct err *e);

/** state_hash() - a 64-bit hash of the bytes (FNV-1a) */
uint64_t state_hash(const struct state_buf *b);

/** state_compare() - whether two streams are the same bytes
 * Return: 0, or -EIO with a sentence: which section differs first, where. */
MUST_CHECK int state_compare(const struct state_buf *a,
                             const struct state_buf *b, struct err *e);

/* The VM's list of state: filled while the machine is built, in a fixed order.
 */
struct state_list;
struct state_list *state_list_create(void);
void state_list_destroy(struct state_list *l);

/** state_list_add() - keeps @d and @obj. Return: 0 or -ENOMEM. */
MUST_CHECK int state_list_add(struct state_list *l, const struct state_desc *d,
                              uint32_t instance, void *obj);
MUST_CHECK int state_list_save(struct state_list *l, struct state_buf *b,
                               struct err *e);
MUST_CHECK int state_list_load(struct state_list *l, struct state_buf *b,
                               struct err *e);

#endif
