// SPDX-License-Identifier: Apache-2.0
/* Whole initrds pass, each cut of them is found. */
#include "boot/linux/initrd.h"

#include <stdlib.h>
#include <zlib.h>

#include "base/test.h"
#include "boot/testimage.h"

/* One cpio entry; the length so far grows. */
static size_t entry(uint8_t *out, size_t at, const char *name, size_t size)
{
    int n = sprintf((char *)out + at,
                    "070701%08X%08X%08X%08X%08X%08X%08zX%08X"
                    "%08X%08X%08X%08zX%08X%s",
                    1U, 0100644U, 0U, 0U, 1U, 0U, size, 0U, 0U, 0U, 0U,
                    strlen(name) + 1, 0U, name);
    at += (size_t)n + 1;
    while (at % 4 != 0)
        out[at++] = 0;
    memset(out + at, 'x', size);
    at += size;
    while (at % 4 != 0)
        out[at++] = 0;
    return at;
}

static size_t archive(uint8_t *out)
{
    size_t n = entry(out, 0, "init", 1001);
    n = entry(out, n, "etc/passwd", 0);
    return entry(out, n, "TRAILER!!!", 0);
}

static int check(const uint8_t *data, size_t len)
{
    struct err e = {{0}};
    struct boot_image img = {.data = data, .len = len, .name = "i"};
    int rc = initrd_check(&img, &e);
    CHECK((rc == 0) == (e.text[0] == '\0'));
    return rc;
}

/* Whether each proper prefix from @from bytes on is refused. */
static bool cuts_found(const uint8_t *data, size_t len, size_t from)
{
    for (size_t n = from; n < len; n++)
        if (check(data, n) == 0)
            return false;
    return true;
}

TEST(cpio)
{
    static uint8_t b[8192];
    size_t n = archive(b);
    CHECK_EQ(check(b, n), 0);
    /* The last padding may miss; shorter than 6 bytes it is no cpio. */
    CHECK(cuts_found(b, n - 3, 6));
    CHECK(check(b, 0) < 0);
    /* Zeros, then another one. */
    memset(b + n, 0, 512);
    static uint8_t one[8192];
    size_t m = archive(one);
    memcpy(b + n + 512, one, m);
    CHECK_EQ(check(b, n + 512 + m), 0);
    CHECK(check(b, n + 512 + m - 8) < 0);
    /* A size that reaches over the end. */
    memcpy(b + 54, "FFFFFFFF", 8);
    CHECK(check(b, n) < 0);
    memcpy(b + 54, "zzzzzzzz", 8);
    CHECK_EQ(check(b, n), 0); /* not ours to judge */
}

TEST(gzip)
{
    static uint8_t in[8192], out[8192];
    size_t n = archive(in);
    z_stream z = {.next_in = in,
                  .avail_in = (uInt)n,
                  .next_out = out,
                  .avail_out = sizeof out};
    CHECK_EQ(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), Z_OK);
    CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
    CHECK_EQ(check(out, z.total_out), 0);
    CHECK(cuts_found(out, z.total_out, 2));
    deflateEnd(&z);
}

TEST(zstd_and_lz4)
{
    /* A frame of one raw block of 3 bytes and one RLE block, with checksum. */
    static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x18,
                                   0,    0,    'a',  'b',  'c',  0x43, 0,
                                   0,    'x',  1,    2,    3,    4};
    CHECK_EQ(check(zstd, sizeof zstd), 0);
    CHECK(cuts_found(zstd, sizeof zstd, 4));
    static const uint8_t lz4[] = {2, 0x21, 0x4c, 0x18, 4, 0, 0, 0, 1,
                                  2, 3,    4,    1,    0, 0, 0, 9};
    CHECK_EQ(check(lz4, sizeof lz4), 0);
    CHECK(check(lz4, sizeof lz4 - 1) < 0);
    CHECK(check(lz4, 10) < 0);
}

TEST(xz_and_others)
{
    static const uint8_t xz[] = "\3757zXZ\0\0\4 body body YZ\0\0";
    CHECK_EQ(check(xz, sizeof xz), 0);
    CHECK(check(xz, sizeof xz - 6) < 0);
    CHECK_EQ(check((const uint8_t *)"whatever", 8), 0);
}

TEST_MAIN(CASE(cpio), CASE(gzip), CASE(zstd_and_lz4), CASE(xz_and_others))
