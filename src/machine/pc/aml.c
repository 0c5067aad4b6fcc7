// SPDX-License-Identifier: Apache-2.0
/* Writes AML. */
#include "machine/pc/aml.h"

#include <string.h>

#include "base/assert.h"
#include "base/cc.h"

#define OP_ZERO     0x00
#define OP_ONE      0x01
#define OP_NAME     0x08
#define OP_BYTE     0x0a
#define OP_WORD     0x0b
#define OP_DWORD    0x0c
#define OP_STRING   0x0d
#define OP_QWORD    0x0e
#define OP_SCOPE    0x10
#define OP_BUFFER   0x11
#define OP_PACKAGE  0x12
#define OP_EXT      0x5b
#define EXT_DEVICE  0x82

#define PKG_LEN_MAX 4 /* bytes of an encoded package length */
#define NAME_LEN    4

/* Resource descriptors (6.4.2, 6.4.3) */
#define RES_IO        0x47
#define RES_IRQ       0x22
#define RES_END       0x79
#define RES_MEM32     0x86
#define RES_DWORD     0x87
#define RES_WORD      0x88
#define RES_TYPE_MEM  0
#define RES_TYPE_IO   1
#define RES_TYPE_BUS  2
#define RES_FIXED     0x0c /* both ends are fixed; positive decode */
#define RES_IO_WHOLE  0x03 /* ISA and non-ISA ranges */
#define RES_MEM_RW    0x01 /* writable, not cacheable */
#define RES_DECODE_16 0x01

static void put(struct aml *a, const void *p, size_t n)
{
    if (n > a->room - a->len) {
        a->full = true;
        return;
    }
    memcpy(a->buf + a->len, p, n);
    a->len += n;
}

static void put8(struct aml *a, uint8_t v)
{
    put(a, &v, 1);
}

static void put16(struct aml *a, uint16_t v)
{
    put(a, &v, sizeof v);
}

static void put32(struct aml *a, uint32_t v)
{
    put(a, &v, sizeof v);
}

static void open_package(struct aml *a)
{
    ASSERT(a->depth < AML_DEPTH_MAX);
    a->open[a->depth++] = a->len;
}

/* 20.2.4: one byte up to 63; else the first byte's bits 7-6 count the bytes
 * behind it and its low four are the low four of the length. The length counts
 * its own bytes. */
static size_t length_encode(size_t body, uint8_t out[PKG_LEN_MAX])
{
    if (body + 1 < 64) {
        out[0] = (uint8_t)(body + 1);
        return 1;
    }
    size_t more = body + 2 < (1U << 12) ? 1 : body + 3 < (1U << 20) ? 2 : 3;
    size_t len = body + 1 + more;
    out[0] = (uint8_t)(more << 6 | (len & 0xf));
    for (size_t i = 0; i < more; i++)
        out[1 + i] = (uint8_t)(len >> (4 + 8 * i));
    return 1 + more;
}

void aml_end(struct aml *a)
{
    ASSERT(a->depth > 0);
    size_t at = a->open[--a->depth];
    uint8_t enc[PKG_LEN_MAX];
    size_t n = length_encode(a->len - at, enc);
    if (n > a->room - a->len) {
        a->full = true;
        return;
    }
    memmove(a->buf + at + n, a->buf + at, a->len - at);
    memcpy(a->buf + at, enc, n);
    a->len += n;
}

void aml_scope(struct aml *a, const char *root_name)
{
    put8(a, OP_SCOPE);
    open_package(a);
    put8(a, '\\');
    put(a, root_name, NAME_LEN);
}

void aml_device(struct aml *a, const char *name)
{
    put8(a, OP_EXT);
    put8(a, EXT_DEVICE);
    open_package(a);
    put(a, name, NAME_LEN);
}

void aml_package(struct aml *a, uint8_t count)
{
    put8(a, OP_PACKAGE);
    open_package(a);
    put8(a, count);
}

void aml_name(struct aml *a, const char *name)
{
    put8(a, OP_NAME);
    put(a, name, NAME_LEN);
}

void aml_root_name(struct aml *a, const char *name)
{
    put8(a, OP_NAME);
    put8(a, '\\');
    put(a, name, NAME_LEN);
}

void aml_int(struct aml *a, uint64_t v)
{
    if (v == 0) {
        put8(a, OP_ZERO);
    } else if (v == 1) {
        put8(a, OP_ONE);
    } else if (v <= UINT8_MAX) {
        put8(a, OP_BYTE);
        put(a, &v, 1);
    } else if (v <= UINT16_MAX) {
        put8(a, OP_WORD);
        put(a, &v, 2);
    } else if (v <= UINT32_MAX) {
        put8(a, OP_DWORD);
        put(a, &v, 4);
    } else {
        put8(a, OP_QWORD);
        put(a, &v, 8);
    }
}

void aml_string(struct aml *a, const char *s)
{
    put8(a, OP_STRING);
    put(a, s, strlen(s) + 1);
}

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* 19.3.4 EISAID: three letters of 5 bits, four hex digits, big-endian. */
void aml_eisaid(struct aml *a, const char *id)
{
    uint32_t v = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
                 (uint32_t)(id[2] - '@') << 16 | hex_digit(id[3]) << 12 |
                 hex_digit(id[4]) << 8 | hex_digit(id[5]) << 4 |
                 hex_digit(id[6]);
    put8(a, OP_DWORD);
    put32(a, __builtin_bswap32(v));
}

void aml_template(struct aml *a)
{
    put8(a, OP_BUFFER);
    open_package(a);
    /* The buffer's size, filled in at the end: always in two bytes. */
    put8(a, OP_WORD);
    put16(a, 0);
}

void aml_template_end(struct aml *a)
{
    size_t size_at = a->open[a->depth - 1] + 1;
    put8(a, RES_END);
    put8(a, 0); /* no checksum */
    if (!a->full) {
        uint16_t size = (uint16_t)(a->len - size_at - 2);
        memcpy(a->buf + size_at, &size, sizeof size);
    }
    aml_end(a);
}

void aml_res_io(struct aml *a, uint16_t port, uint8_t len)
{
    put8(a, RES_IO);
    put8(a, RES_DECODE_16);
    put16(a, port);
    put16(a, port);
    put8(a, 1); /* alignment */
    put8(a, len);
}

void aml_res_irq(struct aml *a, unsigned irq)
{
    put8(a, RES_IRQ); /* edge, active high, exclusive */
    put16(a, (uint16_t)(1U << irq));
}

void aml_res_memory(struct aml *a, uint32_t start, uint32_t len)
{
    put8(a, RES_MEM32);
    put16(a, 9);
    put8(a, 1); /* writable */
    put32(a, start);
    put32(a, len);
}

static void word_window(struct aml *a, uint8_t type, uint8_t flags,
                        uint16_t first, uint16_t last)
{
    const uint16_t words[] = {0, first, last, 0, (uint16_t)(last - first + 1)};
    put8(a, RES_WORD);
    put16(a, 3 + sizeof words);
    put8(a, type);
    put8(a, RES_FIXED);
    put8(a, flags);
    put(a, words, sizeof words);
}

void aml_res_bus_window(struct aml *a, uint16_t first, uint16_t last)
{
    word_window(a, RES_TYPE_BUS, 0, first, last);
}

void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last)
{
    word_window(a, RES_TYPE_IO, RES_IO_WHOLE, first, last);
}

void aml_res_memory_window(struct aml *a, uint32_t first, uint32_t last)
{
    const uint32_t words[] = {0, first, last, 0, last - first + 1};
    put8(a, RES_DWORD);
    put16(a, 3 + sizeof words);
    put8(a, RES_TYPE_MEM);
    put8(a, RES_FIXED);
    put8(a, RES_MEM_RW);
    put(a, words, sizeof words);
}
