// SPDX-License-Identifier: Apache-2.0
/* The ELF loader: what it puts where, piece sizes, and files that lie. */
#include "boot/elf/elf.h"

#include <errno.h>

#include "base/test.h"
#include "boot/testimage.h"

static int load(struct mem *mem, struct elf_load *l, const uint8_t *elf,
                size_t len, size_t piece, struct err *e)
{
    *l = (struct elf_load){
        .mem = mem, .name = "k", .floor = MIB, .want64 = true};
    struct boot_sink s = elf_sink(l);
    for (size_t off = 0; off < len; off += piece) {
        size_t n = len - off < piece ? len - off : piece;
        int rc = s.piece(s.ctx, off, elf + off, n, e);
        if (rc < 0)
            return rc;
    }
    return elf_finish(l, e);
}

TEST(segments_land)
{
    static uint8_t elf[TI_ELF_BYTES];
    ti_elf64(elf);
    static const size_t pieces[] = {TI_ELF_BYTES, 0x1000, 0xfff, 200, 4096 + 1};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct mem *mem = ti_mem(20);
        struct elf_load l;
        uint8_t b[TI_TEXT_LEN];
        /* What was there must not shine through the zeros. */
        memset(b, 0xee, sizeof b);
        CHECK_EQ(mem_write(mem, gpa(TI_DATA + TI_DATA_LEN), b, sizeof b), 0);
        CHECK_EQ(load(mem, &l, elf, sizeof elf, pieces[i], NULL), 0);
        CHECK_EQ(l.entry, TI_ENTRY);
        CHECK_EQ(l.start, TI_TEXT);
        CHECK_EQ(l.end, TI_DATA + TI_DATA_MEM);
        CHECK_EQ(mem_read(mem, gpa(TI_TEXT), b, sizeof b), 0);
        CHECK(memcmp(b, elf + 0x1000, sizeof b) == 0);
        CHECK_EQ(mem_read(mem, gpa(TI_DATA), b, sizeof b), 0);
        CHECK(memcmp(b, elf + 0x2800, TI_DATA_LEN) == 0);
        for (size_t k = TI_DATA_LEN; k < sizeof b; k++)
            CHECK_EQ(b[k], 0);
        mem_destroy(mem);
    }
}

TEST(virtual_entry)
{
    static uint8_t elf[TI_ELF_BYTES];
    struct mem *mem = ti_mem(20);
    struct elf_load l;
    ti_elf64(elf);
    bytes_put64(elf + 24, TI_VIRT + 0x123);
    CHECK_EQ(load(mem, &l, elf, sizeof elf, sizeof elf, NULL), 0);
    CHECK_EQ(l.entry, TI_TEXT + 0x123);
    mem_destroy(mem);
}

struct lie {
    const char *what;
    size_t off; /* of a 64-bit field, or 16-bit with @width 2 */
    unsigned width;
    uint64_t value;
    int rc;
};

#define PH(n, f) (TI_PHDR64 + (n)*TI_PHDR64_LEN + (f))

static const struct lie lies[] = {
    {"machine", 18, 2, 183, -ENOEXEC},
    {"type", 16, 2, 1, -ENOEXEC},
    {"phentsize", 54, 2, 57, -ENOEXEC},
    {"no phdrs", 56, 2, 0, -ENOEXEC},
    {"many phdrs", 56, 2, 0xffff, -ENOEXEC},
    {"phoff behind", 32, 8, TI_ELF_BYTES - 60, -ENOEXEC},
    {"phoff wraps", 32, 8, UINT64_MAX - 8, -ENOEXEC},
    {"entry outside", 24, 8, 5 * MIB, -ENOEXEC},
    {"offset wraps", PH(0, 8), 8, UINT64_MAX - 4, -ENOEXEC},
    {"offset behind", PH(0, 8), 8, TI_ELF_BYTES - 4, -ENOEXEC},
    {"filesz > memsz", PH(0, 32), 8, TI_TEXT_LEN + 1, -ENOEXEC},
    {"paddr wraps", PH(1, 24), 8, UINT64_MAX - 4, -ENOEXEC},
    {"paddr above 4G", PH(1, 24), 8, 5 * GIB, -ENOEXEC},
    {"paddr low", PH(1, 24), 8, 0x1000, -ENOEXEC},
    {"paddr not RAM", PH(1, 24), 8, 1 * GIB, -ENOMEM},
    {"memsz huge", PH(1, 40), 8, UINT64_MAX, -ENOEXEC},
    {"memsz over RAM", PH(1, 40), 8, 512 * MIB, -ENOMEM},
    {"overlap", PH(1, 24), 8, TI_TEXT + 0x17ff, -ENOEXEC},
};

TEST(lies_are_refused)
{
    static uint8_t elf[TI_ELF_BYTES];
    struct mem *mem = ti_mem(20);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct elf_load l;
        struct err e = {{0}};
        ti_elf64(elf);
        memcpy(elf + lies[i].off, &lies[i].value, lies[i].width);
        int rc = load(mem, &l, elf, sizeof elf, sizeof elf, &e);
        if (rc != lies[i].rc || e.text[0] == '\0') {
            printf("%s: %d, %s\n", lies[i].what, rc, e.text);
            CHECK(rc == lies[i].rc);
        }
    }
    mem_destroy(mem);
}

TEST(programs_are_no_kernels)
{
    static uint8_t elf[TI_ELF_BYTES];
    struct mem *mem = ti_mem(20);
    struct elf_load l;
    struct err e;
    ti_elf64(elf);
    bytes_put64(elf + PH(0, 16), 0x400000);
    CHECK_EQ(load(mem, &l, elf, sizeof elf, sizeof elf, &e), 0);
    bytes_put64(elf + PH(1, 16), 0x500000);
    CHECK_EQ(load(mem, &l, elf, sizeof elf, sizeof elf, &e),
             (uint64_t)-ENOEXEC);
    CHECK(strstr(e.text, "ordinary program") != NULL);
    mem_destroy(mem);
}

TEST(truncated)
{
    static uint8_t elf[TI_ELF_BYTES];
    struct mem *mem = ti_mem(20);
    ti_elf64(elf);
    for (size_t len = 0; len < 0x2900; len += len < 300 ? 1 : 97) {
        struct elf_load l;
        struct err e = {{0}};
        CHECK_EQ(load(mem, &l, elf, len, 0x1000, &e), (uint64_t)-ENOEXEC);
        CHECK(e.text[0] != '\0');
    }
    mem_destroy(mem);
}

TEST_MAIN(CASE(segments_land), CASE(virtual_entry), CASE(lies_are_refused),
          CASE(programs_are_no_kernels), CASE(truncated))
