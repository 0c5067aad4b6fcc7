// SPDX-License-Identifier: Apache-2.0
/* Multiboot kernels by ELF and by the header's addresses, their information
 * structure, modules, and headers that lie. */
#include "boot/multiboot/multiboot.h"

#include <errno.h>

#include "base/test.h"
#include "boot/testimage.h"
#include "cpu/x86/state.h"

#define LOAD   0x100000U
#define HEADER 0x10U /* the header's place in the file */
#define LEN    0x2000U
#define BSS    0x3000U

static uint8_t kernel[LEN];
static struct x86_cpu cpu;

static void header(uint8_t *at, uint32_t flags)
{
    bytes_put32(at, 0x1badb002);
    bytes_put32(at + 4, flags);
    bytes_put32(at + 8, 0U - 0x1badb002U - flags);
}

/* A kernel with the addresses in its header. */
static void kludge_kernel(void)
{
    for (unsigned i = 0; i < LEN; i++)
        kernel[i] = (uint8_t)(i * 7);
    header(kernel + HEADER, 0x00010003);
    bytes_put32(kernel + HEADER + 12, LOAD + HEADER);
    bytes_put32(kernel + HEADER + 16, LOAD);
    bytes_put32(kernel + HEADER + 20, LOAD + LEN);
    bytes_put32(kernel + HEADER + 24, LOAD + BSS);
    bytes_put32(kernel + HEADER + 28, LOAD + 0x40);
}

/* An ELF32 with one segment: 0x800 bytes of the file from 0x1000. */
static void elf_kernel(void)
{
    memset(kernel, 0, sizeof kernel);
    memcpy(kernel, "\177ELF\1\1\1", 7);
    bytes_put16(kernel + 16, 2);
    bytes_put16(kernel + 18, 3);
    bytes_put32(kernel + 24, LOAD + 8);
    bytes_put32(kernel + 28, 52);
    bytes_put16(kernel + 42, 32);
    bytes_put16(kernel + 44, 1);
    uint8_t *ph = kernel + 52;
    bytes_put32(ph, 1);
    bytes_put32(ph + 4, 0x1000);
    bytes_put32(ph + 8, 0xc0000000U + LOAD);
    bytes_put32(ph + 12, LOAD);
    bytes_put32(ph + 16, 0x800);
    bytes_put32(ph + 20, BSS);
    header(kernel + 0x1000, 3);
    kernel[0x1123] = 0x77;
}

static int load(struct mem *mem, const struct boot_image *mods, unsigned n,
                struct boot_info *info, struct err *e)
{
    const struct boot_conf c = {.kernel = {kernel, LEN, "dir/kern.elf"},
                                .initrd = mods,
                                .ninitrds = n,
                                .cmdline = "a b"};
    CHECK(multiboot_is(&c.kernel));
    return multiboot_load(mem, &c, &cpu, info, e);
}

static uint32_t get(struct mem *mem, uint64_t at)
{
    uint32_t v = 0;
    CHECK_EQ(mem_read(mem, gpa(at), &v, sizeof v), 0);
    return v;
}

static bool text_is(struct mem *mem, uint64_t at, const char *want)
{
    char got[64] = "";
    CHECK_EQ(mem_read(mem, gpa(at), got, sizeof got - 1), 0);
    return strcmp(got, want) == 0;
}

TEST(by_addresses)
{
    struct mem *mem = ti_mem(4);
    struct boot_info info;
    uint8_t got[LEN];
    kludge_kernel();
    CHECK_EQ(load(mem, NULL, 0, &info, NULL), 0);
    CHECK_EQ(mem_read(mem, gpa(LOAD), got, sizeof got), 0);
    CHECK(memcmp(got, kernel, sizeof got) == 0);
    CHECK_EQ(info.entry.v, LOAD + 0x40);
    CHECK_EQ(info.kernel_end.v, LOAD + BSS);
    mem_destroy(mem);
}

TEST(by_elf)
{
    struct mem *mem = ti_mem(4);
    struct boot_info info;
    elf_kernel();
    CHECK_EQ(load(mem, NULL, 0, &info, NULL), 0);
    CHECK_EQ(get(mem, LOAD + 0x123) & 0xff, 0x77);
    CHECK_EQ(info.entry.v, LOAD + 8);
    mem_destroy(mem);
}

TEST(machine_state)
{
    struct mem *mem = ti_mem(4);
    kludge_kernel();
    CHECK_EQ(load(mem, NULL, 0, NULL, NULL), 0);
    CHECK_EQ(cpu.gpr[X86_RAX], 0x2badb002);
    CHECK_EQ(cpu.rip, LOAD + 0x40);
    CHECK_EQ(cpu.cr0 & (X86_CR0_PE | X86_CR0_PG), X86_CR0_PE);
    CHECK_EQ(x86_mode(&cpu), X86_MODE_32);
    CHECK_EQ(cpu.rflags & (X86_FL_IF | X86_FL_VM), 0);
    mem_destroy(mem);
}

TEST(information)
{
    struct mem *mem = ti_mem(8);
    static uint8_t data[5000] = "mod";
    const struct boot_image mods[] = {{data, sizeof data, "/x/one"},
                                      {data, 3, "two"}};
    kludge_kernel();
    CHECK_EQ(load(mem, mods, 2, NULL, NULL), 0);
    uint64_t i = cpu.gpr[X86_RBX];
    CHECK_EQ(get(mem, i), 0x24d);
    CHECK_EQ(get(mem, i + 4), 639);
    CHECK_EQ(get(mem, i + 8), 7 * 1024);
    CHECK(text_is(mem, get(mem, i + 16), "kern.elf a b"));
    CHECK_EQ(get(mem, i + 20), 2);
    uint64_t m = get(mem, i + 24);
    CHECK_EQ(get(mem, m), LOAD + BSS);
    CHECK_EQ(get(mem, m + 4) - get(mem, m), sizeof data);
    CHECK(text_is(mem, get(mem, m + 8), "one"));
    CHECK_EQ(get(mem, m + 16) % 4096, 0);
    CHECK(text_is(mem, get(mem, m + 24), "two"));
    CHECK_EQ(get(mem, get(mem, m + 16)) & 0xffffff, 0x646f6d);
    uint64_t map = get(mem, i + 48);
    CHECK_EQ(get(mem, i + 44), 4 * 24);
    CHECK_EQ(get(mem, map), 20);
    CHECK_EQ(get(mem, map + 3 * 24 + 4), 0x100000);
    CHECK_EQ(get(mem, map + 3 * 24 + 12), 7 << 20);
    CHECK(text_is(mem, get(mem, i + 64), "Doppel"));
    mem_destroy(mem);
}

struct lie {
    unsigned off;
    uint32_t value;
    int rc;
};

static const struct lie lies[] = {
    {HEADER + 12, LOAD - 1, -ENOEXEC},          /* header before load */
    {HEADER + 12, LOAD + HEADER + 1, -ENOEXEC}, /* load before the file */
    {HEADER + 16, UINT32_MAX, -ENOEXEC},
    {HEADER + 20, LOAD - 1, -ENOEXEC},
    {HEADER + 20, LOAD + LEN + 1, -ENOEXEC}, /* truncated */
    {HEADER + 20, UINT32_MAX, -ENOEXEC},
    {HEADER + 24, LOAD + LEN - 1, -ENOEXEC},
    {HEADER + 24, UINT32_MAX, -ENOMEM},
    {HEADER + 28, LOAD - 1, -ENOEXEC},
    {HEADER + 28, LOAD + BSS, -ENOEXEC},
};

TEST(headers_that_lie)
{
    struct mem *mem = ti_mem(4);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct err e = {{0}};
        kludge_kernel();
        bytes_put32(kernel + lies[i].off, lies[i].value);
        int rc = load(mem, NULL, 0, NULL, &e);
        if (rc != lies[i].rc)
            printf("%zu: %d %s\n", i, rc, e.text);
        CHECK(rc == lies[i].rc && e.text[0] != '\0');
    }
    struct err e;
    kludge_kernel();
    header(kernel + HEADER, 0x00010013); /* a feature that does not exist */
    CHECK_EQ(load(mem, NULL, 0, NULL, &e), (uint64_t)-ENOEXEC);
    mem_destroy(mem);
}

TEST(modules_that_do_not_fit)
{
    struct mem *mem = ti_mem(2);
    static uint8_t data[2 << 20];
    const struct boot_image mod = {data, sizeof data, "m"};
    struct err e;
    kludge_kernel();
    CHECK_EQ(load(mem, &mod, 1, NULL, &e), (uint64_t)-ENOMEM);
    CHECK(strstr(e.text, "at least 4 MiB") != NULL);
    mem_destroy(mem);
}

TEST_MAIN(CASE(by_addresses), CASE(by_elf), CASE(machine_state),
          CASE(information), CASE(headers_that_lie),
          CASE(modules_that_do_not_fit))
