// SPDX-License-Identifier: Apache-2.0
/* The probe's sentences, reading images, the memory map. */
#include "boot/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/test.h"
#include "boot/e820.h"
#include "boot/testimage.h"
#include "cpu/x86/state.h"

static struct x86_cpu cpu;

struct probe {
    const char *bytes;
    size_t len, at;
    const char *want;
};

static const struct probe probes[] = {
    {"", 0, 0, "empty"},
    {"\037\213\010", 3, 0, "gzip"},
    {"070701", 6, 0, "cpio archive"},
    {"\050\265\057\375", 4, 0, "zstd"},
    {"#!/bin/sh\n", 10, 0, "a script"},
    {"\125\252", 2, 510, "boot sector"},
    {"MZ", 2, 0, "EFI or Windows"},
    {"ARM\144", 4, 56, "AArch64"},
    {"\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\267\0", 20, 0, "AArch64"},
    {"\177ELF\1\1\1\0\0\0\0\0\0\0\0\0\2\0\3\0", 20, 0, "32-bit x86"},
    {"hello, world", 12, 0, "neither a Linux bzImage"},
    {"!<arch>\n", 8, 0, "Debian package"},
};

TEST(sentences)
{
    struct mem *mem = ti_mem(4);
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        static uint8_t file[1024];
        struct err e = {{0}};
        memset(file, 0, sizeof file);
        memcpy(file + probes[i].at, probes[i].bytes, probes[i].len);
        struct boot_conf c = {
            .kernel = {file, probes[i].at + probes[i].len, "k"}};
        CHECK_EQ(boot_load(mem, &c, &cpu, NULL, &e), (uint64_t)-ENOEXEC);
        if (!strstr(e.text, probes[i].want) || !strstr(e.text, "k: not a kern"))
            printf("%s\n", e.text);
        CHECK(strstr(e.text, probes[i].want) != NULL);
    }
    mem_destroy(mem);
}

TEST(boots_again)
{
    size_t len;
    static uint8_t elf[TI_ELF_BYTES];
    struct mem *mem = ti_mem(32);
    ti_elf64(elf);
    uint8_t *bz = ti_bzimage(elf, sizeof elf, &len);
    struct boot_conf c = {.kernel = {bz, len, "k"}, .cmdline = ""};
    for (int i = 0; i < 2; i++) {
        struct boot_info info;
        CHECK_EQ(boot_load(mem, &c, &cpu, &info, NULL), 0);
        CHECK_EQ(info.entry.v, TI_ENTRY);
    }
    free(bz);
    mem_destroy(mem);
}

TEST(firmware_leaves_mtrrs_on)
{
    boot_cpu_firmware(&cpu);
    CHECK_EQ(cpu.msr.mtrr_def_type & 0xff, 6);
    CHECK(cpu.msr.mtrr_def_type & BIT(11));
}

TEST(reads_files_and_pipes)
{
    struct boot_image img;
    struct err e;
    int fd = memfd_create("image", MFD_CLOEXEC), p[2];
    CHECK_EQ(write(fd, "abcdef", 6), 6);
    CHECK_EQ(boot_image_read(fd, "f", &img, &e), 0);
    CHECK(img.len == 6 && memcmp(img.data, "abcdef", 6) == 0);
    boot_image_free(&img);
    /* Again, wherever the descriptor's position is. */
    CHECK_EQ(boot_image_read(fd, "f", &img, &e), 0);
    CHECK_EQ(img.len, 6);
    boot_image_free(&img);
    CHECK_EQ(ftruncate(fd, (off_t)(3 * GIB)), 0);
    CHECK_EQ(boot_image_read(fd, "f", &img, &e), (uint64_t)-EFBIG);
    close(fd);
    CHECK_EQ(pipe(p), 0);
    CHECK_EQ(write(p[1], "xyz", 3), 3);
    close(p[1]);
    CHECK_EQ(boot_image_read(p[0], "p", &img, &e), 0);
    CHECK(img.len == 3 && memcmp(img.data, "xyz", 3) == 0);
    boot_image_free(&img);
    close(p[0]);
    fd = open("/", O_RDONLY | O_CLOEXEC);
    CHECK_EQ(boot_image_read(fd, "d", &img, &e), (uint64_t)-EISDIR);
    close(fd);
}

TEST(map)
{
    struct boot_range m[BOOT_E820_MAX];
    struct mem_conf mc = {
        .ram_bytes = 64 * MIB, .low_limit = 32 * MIB, .memfd = -1};
    struct mem *mem;
    CHECK_EQ(mem_create(&mc, &mem, NULL), 0);
    /* In the middle of RAM, and in the hole. */
    const struct boot_range reserved[] = {
        {16 * MIB, MIB, BOOT_E820_ACPI}, {0xb0000000, MIB, BOOT_E820_RESERVED}};
    static const struct boot_range want[] = {
        {0, 0x9fc00, 1},      {0x9fc00, 0x400, 2},   {0xe0000, 0x20000, 2},
        {MIB, 15 * MIB, 1},   {16 * MIB, MIB, 3},    {17 * MIB, 15 * MIB, 1},
        {0xb0000000, MIB, 2}, {4 * GIB, 32 * MIB, 1}};
    int n = e820_build(mem, reserved, 2, m, NULL);
    CHECK_EQ(n, ARRAY_LEN(want));
    for (int i = 0; i < n && i < (int)ARRAY_LEN(want); i++) {
        CHECK_EQ(m[i].start, want[i].start);
        CHECK_EQ(m[i].len, want[i].len);
        CHECK_EQ(m[i].type, want[i].type);
    }
    struct err e;
    const struct boot_range wraps = {UINT64_MAX - 1, 4, 2};
    CHECK_EQ(e820_build(mem, &wraps, 1, m, &e), (uint64_t)-EINVAL);
    static struct boot_range many[2 * BOOT_E820_MAX];
    for (unsigned i = 0; i < ARRAY_LEN(many); i++)
        many[i] = (struct boot_range){2 * MIB + i * 0x10000, 0x1000, 2};
    CHECK_EQ(e820_build(mem, many, ARRAY_LEN(many), m, &e), (uint64_t)-EINVAL);
    mem_destroy(mem);
}

TEST_MAIN(CASE(sentences), CASE(boots_again), CASE(firmware_leaves_mtrrs_on),
          CASE(reads_files_and_pipes), CASE(map))
