// SPDX-License-Identifier: Apache-2.0
/*
 * Walks an initrd's parts: archives and compressed streams one after the other,
 * zeros between them. Only framing is read (but gzip has none). A format that
 * is not known, or not understood any more, ends the walk without an opinion:
 * the kernel decides. Source: Linux
 * Documentation/driver-api/early-userspace/buffer-format.rst, lz4
 * lz4_Frame_format.md, RFC 8878 3.1.1 (zstd), xz-file-format.txt 2.
 */
#include "boot/linux/initrd.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "base/bits.h"
#include "base/check.h"
#include "boot/bytes.h"

#define CPIO_HEADER_BYTES 110U
#define CPIO_ALIGN        4U
#define CPIO_FILESIZE     54U /* hex digits at these offsets */
#define CPIO_NAMESIZE     94U
#define LZ4_MAGIC         0x184c2102U
#define ZSTD_MAGIC        0xfd2fb528U
#define XZ_FOOTER_BYTES   12U
#define GZIP_OUT_BYTES    16384U
#define GZIP_LIMIT        (4 * GIB) /* inflated; more is not looked at */

enum part {
    PART_WHOLE,  /* goes on at *next */
    PART_CUT,    /* the file ends inside it */
    PART_UNKNOWN /* no opinion on this and what follows */
};

/* Eight hexadecimal digits. */
static bool hex8(const uint8_t *p, uint32_t *out)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < 8; i++) {
        uint8_t c = p[i];
        unsigned digit = c >= '0' && c <= '9'   ? c - '0' + 0U
                         : c >= 'a' && c <= 'f' ? c - 'a' + 10U
                         : c >= 'A' && c <= 'F' ? c - 'A' + 10U
                                                : 16U;
        if (digit > 15)
            return false;
        v = v << 4 | digit;
    }
    *out = v;
    return true;
}

static bool cpio_at(const uint8_t *d, size_t len, size_t pos)
{
    return len - pos >= 6 && (memcmp(d + pos, "070701", 6) == 0 ||
                              memcmp(d + pos, "070702", 6) == 0);
}

/* One archive: entries up to the trailer. Positions count from the archive's
 * start, which is itself aligned. */
static enum part cpio_walk(const uint8_t *d, size_t len, size_t pos,
                           size_t *next)
{
    for (;;) {
        uint32_t name, file;
        if (len - pos < CPIO_HEADER_BYTES)
            return PART_CUT;
        if (!cpio_at(d, len, pos) || !hex8(d + pos + CPIO_FILESIZE, &file) ||
            !hex8(d + pos + CPIO_NAMESIZE, &name))
            return PART_UNKNOWN;
        uint64_t data = ALIGN_UP(pos + CPIO_HEADER_BYTES + name, CPIO_ALIGN);
        uint64_t end = data + file;
        if (end > len)
            return PART_CUT;
        if (name == sizeof "TRAILER!!!" &&
            memcmp(d + pos + CPIO_HEADER_BYTES, "TRAILER!!!", name) == 0) {
            *next = (size_t)end;
            return PART_WHOLE;
        }
        pos = (size_t)ALIGN_UP(end, CPIO_ALIGN);
        if (pos >= len)
            return PART_CUT; /* no trailer */
    }
}

/* Blocks of a 32-bit length each, up to the file's end or zeros. */
static enum part lz4_walk(const uint8_t *d, size_t len, size_t pos,
                          size_t *next)
{
    pos += 4;
    while (len - pos >= 4) {
        uint32_t n = bytes_get32(d + pos);
        if (n == 0)
            break;
        pos += 4;
        if (n == LZ4_MAGIC)
            continue;
        if (n > len - pos)
            return PART_CUT;
        pos += n;
    }
    *next = pos;
    return PART_WHOLE;
}

/* A zstd frame's header length (RFC 8878 3.1.1.1), 0: not all there. */
static size_t zstd_header(const uint8_t *d, size_t len)
{
    static const uint8_t dict_bytes[] = {0, 1, 2, 4};
    static const uint8_t size_bytes[] = {0, 2, 4, 8};
    if (len < 5)
        return 0;
    uint8_t desc = d[4];
    bool single = desc & 0x20;
    size_t n = 5 + (single ? 0U : 1U) + dict_bytes[desc & 3];
    n += (desc >> 6) == 0 ? (single ? 1U : 0U) : size_bytes[desc >> 6];
    return n <= len ? n : 0;
}

static enum part zstd_walk(const uint8_t *d, size_t len, size_t pos,
                           size_t *next)
{
    size_t header = zstd_header(d + pos, len - pos);
    if (header == 0)
        return PART_CUT;
    bool sum = d[pos + 4] & 4; /* content checksum */
    pos += header;
    for (bool last = false; !last;) {
        if (len - pos < 3)
            return PART_CUT;
        uint32_t block =
            d[pos] | (uint32_t)d[pos + 1] << 8 | (uint32_t)d[pos + 2] << 16;
        unsigned type = block >> 1 & 3;
        uint32_t n = type == 1 ? 1 : block >> 3; /* RLE: one byte */
        if (type == 3)
            return PART_UNKNOWN; /* reserved */
        last = block & 1;
        pos += 3;
        if (n > len - pos)
            return PART_CUT;
        pos += n;
    }
    if (sum && len - pos < 4)
        return PART_CUT;
    *next = pos + (sum ? 4 : 0);
    return PART_WHOLE;
}

/* Only inflating finds a gzip stream's end: 3 ms per MiB. */
static enum part gzip_walk(const uint8_t *d, size_t len, size_t pos,
                           size_t *next)
{
    uint8_t out[GZIP_OUT_BYTES];
    z_stream z = {.next_in = (Bytef *)(uintptr_t)(d + pos),
                  .avail_in = (uInt)(len - pos)};
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) /* 16: gzip header */
        return PART_UNKNOWN;
    int rc = Z_OK;
    while (rc == Z_OK && z.total_out < GZIP_LIMIT) {
        z.next_out = out;
        z.avail_out = sizeof out;
        rc = inflate(&z, Z_NO_FLUSH);
    }
    *next = len - z.avail_in;
    bool cut = rc == Z_BUF_ERROR && z.avail_in == 0;
    inflateEnd(&z);
    return cut ? PART_CUT : rc == Z_STREAM_END ? PART_WHOLE : PART_UNKNOWN;
}

/* A stream's end shows only from behind: the footer magic, maybe padding. */
static enum part xz_walk(const uint8_t *d, size_t len, size_t pos)
{
    size_t end = len;
    while (end > pos && d[end - 1] == 0)
        end--;
    if (end - pos < XZ_FOOTER_BYTES || memcmp(d + end - 2, "YZ", 2) != 0)
        return PART_CUT;
    return PART_UNKNOWN;
}

static enum part part_walk(const uint8_t *d, size_t len, size_t pos,
                           size_t *next)
{
    if (cpio_at(d, len, pos))
        return cpio_walk(d, len, pos, next);
    if (len - pos >= 4 && bytes_get32(d + pos) == LZ4_MAGIC)
        return lz4_walk(d, len, pos, next);
    if (len - pos >= 4 && bytes_get32(d + pos) == ZSTD_MAGIC)
        return zstd_walk(d, len, pos, next);
    if (len - pos >= 2 && d[pos] == 0x1f && d[pos + 1] == 0x8b)
        return gzip_walk(d, len, pos, next);
    if (len - pos >= 6 && memcmp(d + pos, "\3757zXZ\0", 6) == 0)
        return xz_walk(d, len, pos);
    return PART_UNKNOWN;
}

int initrd_check(const struct boot_image *img, struct err *e)
{
    size_t pos = 0;
    if (img->len == 0)
        return err_set(e, -EINVAL, "%s: the initrd is empty", img->name);
    for (;;) {
        while (pos < img->len && img->data[pos] == 0)
            pos++;
        if (pos == img->len)
            return 0;
        size_t next = img->len;
        enum part part = part_walk(img->data, img->len, pos, &next);
        if (part == PART_UNKNOWN)
            return 0;
        if (part == PART_CUT)
            return err_set(
                e, -EINVAL,
                "%s: truncated initrd: its part from byte %zu on does "
                "not end within the file's %zu bytes",
                img->name, pos, img->len);
        pos = next;
    }
}
