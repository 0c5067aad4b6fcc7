// SPDX-License-Identifier: Apache-2.0
/* A made-up bzImage by each road: payload, self-unpacking, vmlinux; what the
 * kernel is told; and images that lie. */
#include "boot/linux/linux.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/test.h"
#include "boot/linux/bzimage.h"
#include "boot/testimage.h"
#include "cpu/x86/state.h"

#define BP 0x2000U /* boot_params */

struct boot {
    struct mem *mem;
    struct boot_conf conf;
    struct boot_info info;
    struct err e;
    uint8_t *kernel;
};

static uint8_t bp8(struct boot *b, unsigned off)
{
    uint8_t v = 0;
    CHECK_EQ(mem_read(b->mem, gpa(BP + off), &v, sizeof v), 0);
    return v;
}

static uint32_t bp32(struct boot *b, unsigned off)
{
    uint32_t v = 0;
    CHECK_EQ(mem_read(b->mem, gpa(BP + off), &v, sizeof v), 0);
    return v;
}

static uint64_t bp64(struct boot *b, unsigned off)
{
    return bp32(b, off) | (uint64_t)bp32(b, off + 4) << 32;
}

/* An LZ4 legacy frame of blocks of @block bytes, with the size behind it. */
static uint8_t *pack_lz4(const uint8_t *in, size_t n, size_t block, size_t *len)
{
    uint8_t *out = malloc(2 * n + 4096);
    bytes_put32(out, 0x184c2102);
    size_t at = 4;
    for (size_t off = 0; off < n; off += block) {
        size_t take = n - off < block ? n - off : block;
        int got =
            LZ4_compress_default((const char *)in + off, (char *)out + at + 4,
                                 (int)take, (int)(2 * take + 64));
        bytes_put32(out + at, (uint32_t)got);
        at += 4 + (size_t)got;
    }
    bytes_put32(out + at, (uint32_t)n);
    *len = at + 4;
    return out;
}

static uint8_t *pack_gzip(const uint8_t *in, size_t n, size_t *len)
{
    uint8_t *out = malloc(2 * n + 4096);
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in,
                  .avail_in = (uInt)n,
                  .next_out = out,
                  .avail_out = (uInt)(2 * n + 4096)};
    CHECK_EQ(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), Z_OK);
    CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
    *len = z.total_out;
    deflateEnd(&z);
    return out;
}

/* As Linux's build has it: x86 filter, LZMA2, CRC32, the size behind. */
static uint8_t *pack_xz(const uint8_t *in, size_t n, size_t *len)
{
    uint8_t *out = malloc(2 * n + 4096);
    lzma_options_lzma opt;
    CHECK(!lzma_lzma_preset(&opt, 1));
    lzma_filter f[] = {{LZMA_FILTER_X86, NULL},
                       {LZMA_FILTER_LZMA2, &opt},
                       {LZMA_VLI_UNKNOWN, NULL}};
    *len = 0;
    CHECK_EQ(lzma_stream_buffer_encode(f, LZMA_CHECK_CRC32, NULL, in, n, out,
                                       len, 2 * n),
             LZMA_OK);
    bytes_put32(out + *len, (uint32_t)n);
    *len += 4;
    return out;
}

static void setup(struct boot *b, uint64_t mib, uint8_t *kernel, size_t len)
{
    *b = (struct boot){.mem = ti_mem(mib), .kernel = kernel};
    b->conf = (struct boot_conf){.kernel = {kernel, len, "k"},
                                 .cmdline = "console=ttyS0",
                                 .rsdp = gpa(0xf0000)};
}

/* With a payload of @kind. */
static void setup_payload(struct boot *b, uint64_t mib, char kind)
{
    static uint8_t elf[TI_ELF_BYTES];
    size_t n, len;
    ti_elf64(elf);
    uint8_t *payload = kind == 'l'   ? pack_lz4(elf, sizeof elf, 0x1100, &n)
                       : kind == 'x' ? pack_xz(elf, sizeof elf, &n)
                                     : pack_gzip(elf, sizeof elf, &n);
    uint8_t *bz = ti_bzimage(payload, n, &len);
    free(payload);
    setup(b, mib, bz, len);
}

static int load(struct boot *b)
{
    static struct x86_cpu cpu;
    return linux_load(b->mem, &b->conf, &cpu, &b->info, &b->e);
}

static void teardown(struct boot *b)
{
    mem_destroy(b->mem);
    free(b->kernel);
}

static void check_elf_there(struct boot *b)
{
    static uint8_t elf[TI_ELF_BYTES], got[TI_TEXT_LEN];
    ti_elf64(elf);
    CHECK_EQ(mem_read(b->mem, gpa(TI_TEXT), got, sizeof got), 0);
    CHECK(memcmp(got, elf + 0x1000, sizeof got) == 0);
    CHECK_EQ(b->info.entry.v, TI_ENTRY);
}

TEST(payloads)
{
    for (const char *k = "lgx"; *k != '\0'; k++) {
        struct boot b;
        setup_payload(&b, 32, *k);
        CHECK_EQ(load(&b), 0);
        CHECK_EQ(b.info.format, BOOT_LINUX_PAYLOAD);
        check_elf_there(&b);
        teardown(&b);
    }
}

TEST(vmlinux)
{
    struct boot b;
    uint8_t *elf = malloc(TI_ELF_BYTES);
    ti_elf64(elf);
    setup(&b, 32, elf, TI_ELF_BYTES);
    CHECK(linux_is(&b.conf.kernel));
    CHECK_EQ(load(&b), 0);
    CHECK_EQ(b.info.format, BOOT_LINUX_ELF);
    check_elf_there(&b);
    CHECK_EQ(bp32(&b, 0x202), 0x53726448); /* HdrS */
    teardown(&b);
}

TEST(self_unpacking)
{
    static const uint8_t zstd[64] = {0x28, 0xb5, 0x2f, 0xfd};
    struct boot b;
    size_t len;
    uint8_t *bz = ti_bzimage(zstd, sizeof zstd, &len), got[64];
    setup(&b, 32, bz, len);
    CHECK_EQ(load(&b), 0);
    CHECK_EQ(b.info.format, BOOT_LINUX_BZIMAGE);
    CHECK_EQ(b.info.entry.v, 16 * MIB + 0x200);
    CHECK_EQ(b.info.kernel_end.v, 16 * MIB + TI_INIT_SIZE);
    CHECK_EQ(mem_read(b.mem, gpa(16 * MIB + TI_PAYLOAD_OFF), got, 64), 0);
    CHECK(memcmp(got, zstd, 64) == 0);
    teardown(&b);
}

TEST(what_the_kernel_is_told)
{
    struct boot b;
    setup_payload(&b, 64, 'l');
    static const uint8_t cpio[600] = "x", more[5] = "more";
    const struct boot_image initrds[] = {{cpio, sizeof cpio - 1, "a"},
                                         {more, sizeof more, "b"}};
    const struct boot_range ecam = {0xb0000000, MIB, BOOT_E820_RESERVED};
    b.conf.initrd = initrds;
    b.conf.ninitrds = 2;
    b.conf.reserved = &ecam;
    b.conf.nreserved = 1;
    CHECK_EQ(load(&b), 0);
    CHECK_EQ(bp64(&b, 0x070), 0xf0000);
    CHECK_EQ(bp32(&b, 0x218), 64 * MIB - 4096);
    CHECK_EQ(bp32(&b, 0x21c), 608); /* 599 and 5, each to a multiple of 4 */
    CHECK_EQ(bp8(&b, 0x210), 0xff);
    CHECK_EQ(bp8(&b, 0x211), 1); /* LOADED_HIGH alone: no KASLR */
    CHECK_EQ(bp32(&b, 0x202), 0x53726448);
    CHECK_EQ(bp32(&b, 0x258), 16 * MIB); /* the header was copied */
    CHECK_EQ(bp8(&b, 0x1ef), 0);         /* the sentinel */
    char text[32] = "";
    CHECK_EQ(mem_read(b.mem, gpa(bp32(&b, 0x228)), text, 14), 0);
    CHECK(strcmp(text, "console=ttyS0") == 0);
    uint8_t got[8];
    CHECK_EQ(mem_read(b.mem, gpa(64 * MIB - 4096 + 600), got, 5), 0);
    CHECK(memcmp(got, "more", 5) == 0);
    /* RAM, EBDA, BIOS, RAM, ECAM */
    CHECK_EQ(bp8(&b, 0x1e8), 5);
    CHECK_EQ(bp64(&b, 0x2d0 + 8), 0x9fc00);
    CHECK_EQ(bp64(&b, 0x2d0 + 3 * 20), MIB);
    CHECK_EQ(bp64(&b, 0x2d0 + 3 * 20 + 8), 63 * MIB);
    CHECK_EQ(bp64(&b, 0x2d0 + 4 * 20), 0xb0000000);
    CHECK_EQ(bp32(&b, 0x2d0 + 4 * 20 + 16), BOOT_E820_RESERVED);
    teardown(&b);
}

/* Walk the page tables as the CPU does. */
static uint64_t translate(struct mem *mem, uint64_t cr3, uint64_t va)
{
    uint64_t e = 0, table = cr3;
    for (unsigned shift = 39; shift >= 21; shift -= 9) {
        CHECK_EQ(mem_read(mem, gpa(table + (va >> shift & 511) * 8), &e, 8), 0);
        if (!(e & 1))
            return UINT64_MAX;
        table = e & ~UINT64_C(0xfff);
    }
    CHECK(e & BIT(7));
    return (e & ~UINT64_C(0x1fffff)) | (va & 0x1fffff);
}

TEST(cpu_state)
{
    static struct x86_cpu cpu;
    struct boot b;
    setup_payload(&b, 32, 'l');
    CHECK_EQ(linux_load(b.mem, &b.conf, &cpu, NULL, &b.e), 0);
    CHECK_EQ(cpu.rip, TI_ENTRY);
    CHECK_EQ(cpu.gpr[X86_RSI], BP);
    CHECK_EQ(cpu.rflags, X86_FL_ONE);
    CHECK_EQ(x86_mode(&cpu), X86_MODE_64);
    CHECK_EQ(cpu.cr0 & (X86_CR0_PE | X86_CR0_PG), X86_CR0_PE | X86_CR0_PG);
    CHECK_EQ(cpu.seg[X86_SEG_CS].sel, 0x10);
    CHECK_EQ(cpu.seg[X86_SEG_DS].sel, 0x18);
    static const uint64_t vas[] = {0, 0x2345, TI_ENTRY, 3 * GIB + 5,
                                   4 * GIB - 1};
    for (size_t i = 0; i < ARRAY_LEN(vas); i++)
        CHECK_EQ(translate(b.mem, cpu.cr3, vas[i]), vas[i]);
    CHECK_EQ(translate(b.mem, cpu.cr3, 512 * GIB), UINT64_MAX);
    uint64_t gdt[4];
    CHECK_EQ(mem_read(b.mem, gpa(cpu.gdtr.base), gdt, sizeof gdt), 0);
    CHECK_EQ(gdt[2] >> 40 & 0xf0ff, cpu.seg[X86_SEG_CS].attr);
    CHECK_EQ(gdt[3] >> 40 & 0xf0ff, cpu.seg[X86_SEG_DS].attr);
    teardown(&b);
}

TEST(memory_and_cmdline_limits)
{
    struct boot b;
    setup_payload(&b, 17, 'l');
    CHECK_EQ(load(&b), (uint64_t)-ENOMEM);
    CHECK(strstr(b.e.text, "17 MiB") && strstr(b.e.text, "at least 18 MiB"));
    teardown(&b);

    static uint8_t big[20 << 20];
    const struct boot_image initrd = {big, sizeof big, "i"};
    big[0] = 'x';
    setup_payload(&b, 32, 'l');
    b.conf.initrd = &initrd;
    b.conf.ninitrds = 1;
    CHECK_EQ(load(&b), (uint64_t)-ENOMEM);
    CHECK(strstr(b.e.text, "initrd; give at least 38 MiB") != NULL);
    teardown(&b);

    static char text[2049];
    memset(text, 'a', sizeof text - 1);
    setup_payload(&b, 32, 'l');
    b.conf.cmdline = text;
    CHECK_EQ(load(&b), (uint64_t)-E2BIG);
    CHECK(strstr(b.e.text, "2048 bytes") && strstr(b.e.text, "2047"));
    text[2047] = '\0';
    CHECK_EQ(load(&b), 0);
    teardown(&b);
}

/* The initrd stays below what the header says, and below the hole. */
TEST(initrd_below_its_limit)
{
    static const uint8_t small[16] = "x";
    const struct boot_image initrd = {small, sizeof small, "i"};
    struct boot b;
    setup_payload(&b, 64, 'l');
    b.conf.initrd = &initrd;
    b.conf.ninitrds = 1;
    bytes_put32(b.kernel + 0x22c, 32 * MIB - 1);
    CHECK_EQ(load(&b), 0);
    CHECK_EQ(b.info.initrd_start.v, 32 * MIB - 4096);
    bytes_put32(b.kernel + 0x22c, 1 * MIB);
    CHECK_EQ(load(&b), (uint64_t)-ENOMEM);
    teardown(&b);
}

struct lie {
    const char *what;
    unsigned off, width;
    uint64_t value;
};

static const struct lie lies[] = {
    {"old protocol", 0x206, 2, 0x020b},
    {"zImage", 0x211, 1, 0},
    {"32-bit", 0x236, 2, 0},
    {"syssize huge", 0x1f4, 4, UINT32_MAX},
    {"syssize 0", 0x1f4, 4, 0},
    {"setup_sects", 0x1f1, 1, 0xff},
    {"payload behind", 0x248, 4, UINT32_MAX},
    {"payload long", 0x24c, 4, UINT32_MAX},
    {"pref 0", 0x258, 8, 0},
    {"pref odd", 0x258, 8, 16 * MIB + 1},
    {"pref high", 0x258, 8, UINT64_MAX - 4095},
    {"init_size", 0x260, 4, UINT32_MAX},
};

TEST(headers_that_lie)
{
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct boot b;
        setup_payload(&b, 32, 'l');
        memcpy(b.kernel + lies[i].off, &lies[i].value, lies[i].width);
        int rc = load(&b);
        if (rc != -ENOEXEC || b.e.text[0] == '\0')
            printf("%s: %d %s\n", lies[i].what, rc, b.e.text);
        CHECK(rc == -ENOEXEC);
        teardown(&b);
    }
}

TEST(truncated_kernel)
{
    for (const char *k = "lgx"; *k != '\0'; k++) {
        struct boot b;
        setup_payload(&b, 32, *k);
        size_t len = b.conf.kernel.len;
        for (size_t n = 0x206; n < len - 16; n += 61) {
            b.conf.kernel.len = n;
            CHECK_EQ(load(&b), (uint64_t)-ENOEXEC);
            CHECK(b.e.text[0] != '\0');
        }
        teardown(&b);
    }
}

TEST(payload_lies_about_its_size)
{
    for (const char *k = "lgx"; *k != '\0'; k++) {
        struct boot b;
        setup_payload(&b, 32, *k);
        uint8_t *tail = b.kernel + TI_SETUP_BYTES + TI_PAYLOAD_OFF +
                        bytes_get32(b.kernel + 0x24c) - 4;
        bytes_put32(tail, TI_ELF_BYTES / 2); /* less than comes out */
        CHECK_EQ(load(&b), (uint64_t)-ENOEXEC);
        bytes_put32(tail, UINT32_MAX); /* more than RAM */
        CHECK_EQ(load(&b), (uint64_t)-ENOMEM);
        teardown(&b);
    }
}

TEST(damaged_payload)
{
    for (const char *k = "lgx"; *k != '\0'; k++) {
        struct boot b;
        setup_payload(&b, 32, *k);
        uint8_t *p = b.kernel + TI_SETUP_BYTES + TI_PAYLOAD_OFF;
        uint32_t n = bytes_get32(b.kernel + 0x24c);
        int refused = 0;
        for (uint32_t i = 4; i < n; i++) { /* any outcome but a crash */
            p[i] ^= 0x55;
            refused += load(&b) < 0;
            p[i] ^= 0x55;
        }
        CHECK(refused > 0);
        CHECK_EQ(load(&b), 0);
        teardown(&b);
    }
}

TEST_MAIN(CASE(payloads), CASE(vmlinux), CASE(self_unpacking),
          CASE(what_the_kernel_is_told), CASE(cpu_state),
          CASE(memory_and_cmdline_limits), CASE(initrd_below_its_limit),
          CASE(headers_that_lie), CASE(truncated_kernel),
          CASE(payload_lies_about_its_size), CASE(damaged_payload))
