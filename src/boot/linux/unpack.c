// SPDX-License-Identifier: Apache-2.0
/*
 * LZ4's legacy frame is the magic 0x184c2102, then blocks of a 32-bit length
 * and that many bytes, each unpacking to at most 8 MiB on its own (lz4
 * lz4_Frame_format.md, "Legacy frame"); Linux appends the unpacked size in 4
 * bytes (scripts/Makefile.lib size_append), as it does behind an xz stream
 * (x86 filter, LZMA2). gzip carries it itself (RFC 1952).
 */
#include "boot/linux/unpack.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/bits.h"
#include "boot/bytes.h"

#define LZ4_MAGIC       0x184c2102U
#define LZ4_BLOCK_BYTES (8 * MIB)
#define SIZE_BYTES      4U          /* the size behind lz4 and xz */
#define OUT_BYTES       (1 * MIB)   /* at a time, of gzip and xz */
#define XZ_MEM_BYTES    (128 * MIB) /* dictionaries are 32 MiB in Linux */

static const struct {
    enum unpack_kind kind;
    uint8_t len;
    const char *magic;
    const char *name;
} formats[] = {
    {UNPACK_LZ4, 4, "\002\041\114\030", "lz4"},
    {UNPACK_GZIP, 2, "\037\213", "gzip"},
    {UNPACK_ELF, 4, "\177ELF", "uncompressed"},
    {UNPACK_BZIP2, 3, "BZh", "bzip2"},
    {UNPACK_LZMA, 3, "\135\0\0", "lzma"},
    {UNPACK_XZ, 6, "\3757zXZ\0", "xz"},
    {UNPACK_LZO, 4, "\211LZO", "lzo"},
    {UNPACK_ZSTD, 4, "\050\265\057\375", "zstd"},
};

enum unpack_kind unpack_probe(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (len >= formats[i].len &&
            memcmp(data, formats[i].magic, formats[i].len) == 0)
            return formats[i].kind;
    return UNPACK_UNKNOWN;
}

const char *unpack_name(enum unpack_kind kind)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (formats[i].kind == kind)
            return formats[i].name;
    return "unknown";
}

bool unpack_supported(enum unpack_kind kind)
{
    return kind == UNPACK_LZ4 || kind == UNPACK_GZIP || kind == UNPACK_XZ ||
           kind == UNPACK_ELF;
}

uint64_t unpack_size(enum unpack_kind kind, const uint8_t *data, size_t len)
{
    if (kind == UNPACK_ELF || len < SIZE_BYTES)
        return len;
    return bytes_get32(data + len - SIZE_BYTES);
}

static int damaged(struct err *e, const char *name, const char *what)
{
    return err_set(e, -ENOEXEC, "%s: the kernel's %s", name, what);
}

/* The sink, and how much went into it. */
struct out {
    const struct boot_sink *sink;
    uint64_t off, limit;
    const char *name;
};

static int out_put(struct out *o, const uint8_t *data, size_t len,
                   struct err *e)
{
    if (len > o->limit - o->off)
        return err_set(e, -ENOEXEC,
                       "%s: the kernel's payload unpacks to more than the %llu "
                       "bytes that it claims",
                       o->name, (unsigned long long)o->limit);
    if (len == 0)
        return 0;
    int rc = o->sink->piece(o->sink->ctx, o->off, data, len, e);
    o->off += len;
    return rc;
}

static int unpack_lz4(const uint8_t *data, size_t len, struct out *o,
                      struct err *e)
{
    AUTO_FREE uint8_t *block = malloc(LZ4_BLOCK_BYTES);
    if (!block)
        return err_set(e, -ENOMEM, "%s: no memory to unpack it", o->name);
    if (len < 4 + SIZE_BYTES)
        return damaged(e, o->name, "lz4 payload is truncated");
    size_t pos = 4, end = len - SIZE_BYTES;
    while (pos < end) {
        if (end - pos < 4)
            return damaged(e, o->name, "lz4 payload is truncated");
        uint32_t n = bytes_get32(data + pos);
        pos += 4;
        if (n == LZ4_MAGIC) /* frames one after the other */
            continue;
        if (n > end - pos || n > INT32_MAX)
            return damaged(e, o->name, "lz4 payload is truncated");
        int got = LZ4_decompress_safe((const char *)data + pos, (char *)block,
                                      (int)n, (int)LZ4_BLOCK_BYTES);
        if (got < 0)
            return damaged(e, o->name, "lz4 payload is damaged");
        int rc = out_put(o, block, (size_t)got, e);
        if (rc < 0)
            return rc;
        pos += n;
    }
    return 0;
}

static int inflate_all(z_stream *z, uint8_t *buf, struct out *o, struct err *e)
{
    int zrc = Z_OK;
    while (zrc != Z_STREAM_END) {
        z->next_out = buf;
        z->avail_out = (uInt)OUT_BYTES;
        while (z->avail_out > 0 && zrc == Z_OK)
            zrc = inflate(z, Z_NO_FLUSH);
        if (zrc == Z_BUF_ERROR)
            return damaged(e, o->name, "gzip payload is truncated");
        if (zrc != Z_OK && zrc != Z_STREAM_END)
            return damaged(e, o->name, "gzip payload is damaged");
        int rc = out_put(o, buf, OUT_BYTES - z->avail_out, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int unpack_gzip(const uint8_t *data, size_t len, struct out *o,
                       struct err *e)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)len};
    AUTO_FREE uint8_t *buf = malloc(OUT_BYTES);
    if (!buf || inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) /* 16: gzip header */
        return err_set(e, -ENOMEM, "%s: no memory to unpack it", o->name);
    int rc = inflate_all(&z, buf, o, e);
    inflateEnd(&z);
    return rc;
}

static int xz_all(lzma_stream *z, uint8_t *buf, struct out *o, struct err *e)
{
    lzma_ret zrc = LZMA_OK;
    while (zrc != LZMA_STREAM_END) {
        z->next_out = buf;
        z->avail_out = OUT_BYTES;
        while (z->avail_out > 0 && zrc == LZMA_OK)
            zrc = lzma_code(z, LZMA_RUN);
        if (zrc == LZMA_BUF_ERROR)
            return damaged(e, o->name, "xz payload is truncated");
        if (zrc == LZMA_MEMLIMIT_ERROR || zrc == LZMA_MEM_ERROR)
            return err_set(e, -ENOMEM, "%s: no memory to unpack it", o->name);
        if (zrc != LZMA_OK && zrc != LZMA_STREAM_END)
            return damaged(e, o->name, "xz payload is damaged");
        int rc = out_put(o, buf, OUT_BYTES - z->avail_out, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int unpack_xz(const uint8_t *data, size_t len, struct out *o,
                     struct err *e)
{
    lzma_stream z = LZMA_STREAM_INIT;
    AUTO_FREE uint8_t *buf = malloc(OUT_BYTES);
    if (!buf || lzma_stream_decoder(&z, XZ_MEM_BYTES, 0) != LZMA_OK)
        return err_set(e, -ENOMEM, "%s: no memory to unpack it", o->name);
    z.next_in = data;
    z.avail_in = len - SIZE_BYTES;
    int rc = xz_all(&z, buf, o, e);
    lzma_end(&z);
    return rc;
}

int unpack(enum unpack_kind kind, const uint8_t *data, size_t len,
           uint64_t limit, const struct boot_sink *sink, const char *name,
           struct err *e)
{
    struct out o = {.sink = sink, .limit = limit, .name = name};
    if (kind == UNPACK_LZ4)
        return unpack_lz4(data, len, &o, e);
    if (kind == UNPACK_GZIP)
        return unpack_gzip(data, len, &o, e);
    if (kind == UNPACK_XZ && len > SIZE_BYTES)
        return unpack_xz(data, len, &o, e);
    if (kind == UNPACK_ELF)
        return out_put(&o, data, len, e);
    return err_set(e, -ENOEXEC, "%s: a %s payload cannot be unpacked here",
                   name, unpack_name(kind));
}
