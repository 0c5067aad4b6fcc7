// SPDX-License-Identifier: Apache-2.0
/*
 * Writes seeds for the loaders' fuzzers, since they are binary:
 *     seeds_gen DIR    fills DIR/bzimage DIR/elf DIR/multiboot DIR/initrd
 * A host program; it links nothing of ours or of the compression libraries, so
 * that compressed seeds hold their bytes as they are (literals, stored blocks).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "boot/testimage.h"

static const char *top;

static void put(const char *fuzzer, const char *name, const void *p, size_t n)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", top, fuzzer);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/%s/%s", top, fuzzer, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

/* One LZ4 block of literals only (lz4_Block_format.md). */
static size_t lz4_literals(const uint8_t *in, size_t n, uint8_t *out)
{
    size_t at = 0, rest = n - 15;
    out[at++] = 0xf0;
    for (; rest >= 255; rest -= 255)
        out[at++] = 255;
    out[at++] = (uint8_t)rest;
    memcpy(out + at, in, n);
    return at + n;
}

static size_t lz4_legacy(const uint8_t *in, size_t n, uint8_t *out)
{
    bytes_put32(out, 0x184c2102);
    size_t len = lz4_literals(in, n, out + 8);
    bytes_put32(out + 4, (uint32_t)len);
    bytes_put32(out + 8 + len, (uint32_t)n);
    return 12 + len;
}

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t c = UINT32_MAX;
    while (n-- > 0) {
        c ^= *p++;
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0xedb88320U : 0);
    }
    return ~c;
}

/* One stored block (RFC 1951 3.2.4) in a gzip member (RFC 1952). */
static size_t gzip_stored(const uint8_t *in, size_t n, uint8_t *out)
{
    static const uint8_t head[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1};
    size_t at = sizeof head;
    memcpy(out, head, sizeof head);
    bytes_put16(out + at, (uint16_t)n);
    bytes_put16(out + at + 2, (uint16_t)~n);
    memcpy(out + at + 4, in, n);
    at += 4 + n;
    bytes_put32(out + at, crc32_of(in, n));
    bytes_put32(out + at + 4, (uint32_t)n);
    return at + 8;
}

static void bzimage(const char *name, const void *payload, size_t n)
{
    size_t len;
    uint8_t *bz = ti_bzimage(payload, n, &len);
    put("bzimage", name, bz, len);
    free(bz);
}

static void linux_seeds(void)
{
    static uint8_t elf[TI_ELF_BYTES], packed[2 * TI_ELF_BYTES];
    static const uint8_t zstd[64] = {0x28, 0xb5, 0x2f, 0xfd};
    ti_elf64(elf);
    put("elf", "vmlinux", elf, sizeof elf);
    put("bzimage", "vmlinux", elf, sizeof elf);
    bzimage("plain", elf, sizeof elf);
    bzimage("lz4", packed, lz4_legacy(elf, sizeof elf, packed));
    bzimage("gzip", packed, gzip_stored(elf, sizeof elf, packed));
    bzimage("zstd", zstd, sizeof zstd);
}

static void multiboot_seeds(void)
{
    static uint8_t k[0x200];
    const uint32_t load = 0x100000, flags = 0x10003;
    const uint32_t words[] = {
        0x1badb002,    flags,      0U - 0x1badb002U - flags,
        load,          load,       load + sizeof k,
        load + 0x1000, load + 0x40};
    memcpy(k, words, sizeof words);
    put("multiboot", "addresses", k, sizeof k);

    static uint8_t e[0x200];
    memcpy(e, "\177ELF\1\1\1", 7);
    bytes_put16(e + 16, 2);
    bytes_put16(e + 18, 3);
    bytes_put32(e + 24, load);
    bytes_put32(e + 28, 52);
    bytes_put16(e + 42, 32);
    bytes_put16(e + 44, 1);
    const uint32_t phdr[] = {1, 0x100, load, load, 0x100, 0x2000, 7, 4096};
    memcpy(e + 52, phdr, sizeof phdr);
    bytes_put32(e + 0x100, 0x1badb002);
    bytes_put32(e + 0x104, 3);
    bytes_put32(e + 0x108, 0U - 0x1badb002U - 3U);
    put("multiboot", "elf32", e, sizeof e);
    put("elf", "elf32", e, sizeof e);
}

static size_t cpio_entry(uint8_t *out, size_t at, const char *name, size_t size)
{
    at += (size_t)sprintf((char *)out + at,
                          "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X"
                          "%08X%08zX%08X%s",
                          1U, 0100644U, 0U, 0U, 1U, 0U, size, 0U, 0U, 0U, 0U,
                          strlen(name) + 1, 0U, name);
    at = ALIGN_UP(at + 1, 4);
    return ALIGN_UP(at + size, 4);
}

static void initrd_seeds(void)
{
    static uint8_t cpio[2048], packed[4096];
    static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x18,
                                   0,    0,    'a',  'b',  'c',  0x43, 0,
                                   0,    'x',  1,    2,    3,    4};
    size_t n = cpio_entry(cpio, 0, "init", 100);
    n = cpio_entry(cpio, n, "TRAILER!!!", 0);
    put("initrd", "cpio", cpio, n);
    put("initrd", "lz4", packed, lz4_legacy(cpio, n, packed));
    put("initrd", "gzip", packed, gzip_stored(cpio, n, packed));
    put("initrd", "zstd", zstd, sizeof zstd);
    put("initrd", "xz", "\3757zXZ\0\0\4 body YZ\0\0\0\0", 20);
    memcpy(packed, cpio, n);
    memcpy(packed + n + 64, zstd, sizeof zstd);
    put("initrd", "cpio-zstd", packed, n + 64 + sizeof zstd);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: seeds_gen DIR\n");
        return 2;
    }
    top = argv[1];
    mkdir(top, 0755);
    linux_seeds();
    multiboot_seeds();
    initrd_seeds();
    return 0;
}
