// SPDX-License-Identifier: Apache-2.0
/*
 * Loads a Multiboot kernel, then its modules behind it at page boundaries, then
 * the information structure and its tables and strings into low memory.
 */
#include "boot/multiboot/multiboot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/check.h"
#include "boot/bytes.h"
#include "boot/cpu.h"
#include "boot/e820.h"
#include "boot/elf/elf.h"

/* The header (3.1) */
#define MB_MAGIC        0x1badb002U
#define MB_SEARCH_BYTES 8192U
#define MB_NEED_KNOWN   0x00000007U /* page-aligned modules, memory, video */
#define MB_NEED_MASK    0x0000ffffU
#define MB_KLUDGE       0x00010000U
#define MB_HEADER_BYTES 12U
#define MB_KLUDGE_BYTES 32U

/* The machine state (3.2) and information structure (3.3) */
#define MB_BOOT_MAGIC  0x2badb002U
#define MBI_MEM        BIT(0)
#define MBI_CMDLINE    BIT(2)
#define MBI_MODS       BIT(3)
#define MBI_MMAP       BIT(6)
#define MBI_LOADER     BIT(9)
#define MBI_BYTES      120U
#define MBI_MOD_BYTES  16U
#define MBI_MMAP_BYTES 24U /* with the size field */
#define MBI_MODS_GPA   (BOOT_PARAMS_GPA + 0x100U)
#define MBI_MMAP_GPA   (BOOT_PARAMS_GPA + 0x800U)
#define MB_NAME_MAX    255U

_Static_assert(BOOT_INITRDS_MAX *MBI_MOD_BYTES <= MBI_MMAP_GPA - MBI_MODS_GPA,
               "module table");
_Static_assert(BOOT_E820_MAX *MBI_MMAP_BYTES <= 0x800, "memory map");

struct mb {
    struct mem *mem;
    const struct boot_conf *conf;
    uint32_t header; /* offset in the file */
    uint32_t flags;
    uint64_t start, end, entry; /* of the kernel in guest memory */
    uint64_t mods_start, mods_end;
    uint64_t strings; /* where the next string goes */
    uint8_t mbi[MBI_BYTES];
};

static bool header_find(const struct boot_image *img, uint32_t *at)
{
    size_t end = img->len < MB_SEARCH_BYTES ? img->len : MB_SEARCH_BYTES;
    for (uint32_t i = 0; i + MB_HEADER_BYTES <= end; i += 4) {
        const uint8_t *p = img->data + i;
        if (bytes_get32(p) == MB_MAGIC &&
            bytes_get32(p) + bytes_get32(p + 4) + bytes_get32(p + 8) == 0) {
            *at = i;
            return true;
        }
    }
    return false;
}

bool multiboot_is(const struct boot_image *img)
{
    uint32_t at;
    return header_find(img, &at);
}

static int too_small(const struct mb *m, uint64_t need, const char *what,
                     struct err *e)
{
    return err_set(e, -ENOMEM,
                   "%s: memory of %llu MiB is too small for %s; give at least "
                   "%llu MiB",
                   m->conf->kernel.name,
                   (unsigned long long)(mem_ram_bytes(m->mem) / MIB), what,
                   (unsigned long long)(ALIGN_UP(need, MIB) / MIB));
}

/* The addresses in the header (3.1.3) say what to load where. */
static int load_kludge(struct mb *m, struct err *e)
{
    const struct boot_image *k = &m->conf->kernel;
    if (!check_range(m->header, MB_KLUDGE_BYTES, k->len))
        return err_set(e, -ENOEXEC, "%s: truncated Multiboot header", k->name);
    const uint8_t *h = k->data + m->header;
    uint64_t header_addr = bytes_get32(h + 12), load = bytes_get32(h + 16);
    uint64_t load_end = bytes_get32(h + 20), bss_end = bytes_get32(h + 24);
    m->entry = bytes_get32(h + 28);
    if (header_addr < load || header_addr - load > m->header)
        goto damaged;
    uint64_t off = m->header - (header_addr - load);
    if (load_end == 0)
        load_end = load + (k->len - off);
    if (bss_end == 0)
        bss_end = load_end;
    if (load_end < load || bss_end < load_end)
        goto damaged;
    if (!check_range(off, load_end - load, k->len))
        return err_set(e, -ENOEXEC,
                       "%s: truncated: it needs %llu bytes of a "
                       "file of %zu",
                       k->name, (unsigned long long)(off + (load_end - load)),
                       k->len);
    if (load < BOOT_LOW_END || m->entry < load || m->entry >= bss_end)
        goto damaged;
    if (!mem_is_ram(m->mem, gpa(load), bss_end - load) ||
        mem_write(m->mem, gpa(load), k->data + off, load_end - load) < 0 ||
        (bss_end > load_end &&
         mem_zero(m->mem, gpa(load_end), bss_end - load_end) < 0))
        return too_small(m, bss_end, "the kernel", e);
    m->start = load;
    m->end = bss_end;
    return 0;

damaged:
    return err_set(e, -ENOEXEC,
                   "%s: damaged Multiboot header: load 0x%llx-0x%llx, zero up "
                   "to 0x%llx, entry 0x%llx",
                   k->name, (unsigned long long)load,
                   (unsigned long long)load_end, (unsigned long long)bss_end,
                   (unsigned long long)m->entry);
}

static int load_elf(struct mb *m, struct err *e)
{
    const struct boot_image *k = &m->conf->kernel;
    struct elf_load elf = {
        .mem = m->mem, .name = k->name, .floor = BOOT_LOW_END};
    struct boot_sink sink = elf_sink(&elf);
    int rc = sink.piece(sink.ctx, 0, k->data, k->len, e);
    if (rc == 0)
        rc = elf_finish(&elf, e);
    m->start = elf.start;
    m->end = elf.end;
    m->entry = elf.entry;
    return rc;
}

static int load_kernel(struct mb *m, struct err *e)
{
    const struct boot_image *k = &m->conf->kernel;
    if (!header_find(k, &m->header))
        return err_set(e, -ENOEXEC, "%s: no Multiboot header", k->name);
    m->flags = bytes_get32(k->data + m->header + 4);
    uint32_t unknown = m->flags & MB_NEED_MASK & ~MB_NEED_KNOWN;
    if (unknown != 0)
        return err_set(e, -ENOEXEC,
                       "%s: this Multiboot kernel demands features "
                       "0x%x, which version 1 does not have",
                       k->name, unknown);
    return m->flags & MB_KLUDGE ? load_kludge(m, e) : load_elf(m, e);
}

/* Put a string (cut at @max) into low memory. Return: its GPA, 0: no room. */
static uint32_t put_string(struct mb *m, const char *text, size_t max)
{
    size_t len = strnlen(text, max);
    uint64_t at = m->strings;
    if (at + len + 1 > BOOT_LOW_END ||
        mem_write(m->mem, gpa(at), text, len) < 0 ||
        mem_zero(m->mem, gpa(at + len), 1) < 0)
        return 0;
    m->strings = at + len + 1;
    return (uint32_t)at;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int load_modules(struct mb *m, struct err *e)
{
    const struct boot_conf *c = m->conf;
    uint64_t at = ALIGN_UP(m->end, MEM_PAGE_BYTES);
    if (at < MIB) /* not into the video and BIOS areas */
        at = MIB;
    m->mods_start = at;
    for (unsigned i = 0; i < c->ninitrds; i++) {
        const struct boot_image *mod = &c->initrd[i];
        uint64_t end = at + mod->len;
        uint8_t entry[MBI_MOD_BYTES] = {0};
        uint32_t name = put_string(m, base_name(mod->name), MB_NAME_MAX);
        if (end > mem_low_bytes(m->mem) || name == 0 ||
            mem_write(m->mem, gpa(at), mod->data, mod->len) < 0)
            return too_small(m, end, "the kernel and its modules", e);
        bytes_put32(entry, (uint32_t)at);
        bytes_put32(entry + 4, (uint32_t)end);
        bytes_put32(entry + 8, name);
        uint64_t slot = MBI_MODS_GPA + (uint64_t)i * MBI_MOD_BYTES;
        if (mem_write(m->mem, gpa(slot), entry, sizeof entry) < 0)
            return too_small(m, MIB, "any kernel", e);
        m->mods_end = end;
        at = ALIGN_UP(end, MEM_PAGE_BYTES);
    }
    bytes_put32(m->mbi + 20, c->ninitrds);
    bytes_put32(m->mbi + 24, MBI_MODS_GPA);
    return 0;
}

static int load_mmap(struct mb *m, struct err *e)
{
    struct boot_range map[BOOT_E820_MAX];
    const struct boot_conf *c = m->conf;
    int n = e820_build(m->mem, c->reserved, c->nreserved, map, e);
    if (n < 0)
        return n;
    for (int i = 0; i < n; i++) {
        uint8_t entry[MBI_MMAP_BYTES];
        bytes_put32(entry, MBI_MMAP_BYTES - 4);
        bytes_put64(entry + 4, map[i].start);
        bytes_put64(entry + 12, map[i].len);
        bytes_put32(entry + 20, map[i].type);
        uint64_t slot = MBI_MMAP_GPA + (uint64_t)i * MBI_MMAP_BYTES;
        if (mem_write(m->mem, gpa(slot), entry, sizeof entry) < 0)
            return too_small(m, MIB, "any kernel", e);
    }
    bytes_put32(m->mbi + 44, (uint32_t)n * MBI_MMAP_BYTES);
    bytes_put32(m->mbi + 48, MBI_MMAP_GPA);
    bytes_put32(m->mbi + 4, E820_BASE_END / KIB);
    bytes_put32(m->mbi + 8, (uint32_t)((mem_low_bytes(m->mem) - MIB) / KIB));
    return 0;
}

/* The command line begins with the kernel's name, as other loaders have it. */
static int load_cmdline(struct mb *m, struct err *e)
{
    const char *args = m->conf->cmdline ? m->conf->cmdline : "";
    uint64_t at = m->strings;
    uint32_t ok = put_string(m, base_name(m->conf->kernel.name), MB_NAME_MAX);
    if (ok != 0 && args[0] != '\0') {
        m->strings--; /* over the NUL */
        ok = put_string(m, " ", 1);
        m->strings--;
        ok = ok != 0 ? put_string(m, args, BOOT_STRINGS_BYTES) : 0;
    }
    if (ok == 0)
        return err_set(e, -E2BIG,
                       "the kernel command line has %zu bytes; a "
                       "Multiboot kernel is given %u at most",
                       strlen(args), BOOT_STRINGS_BYTES / 2);
    bytes_put32(m->mbi + 16, (uint32_t)at);
    bytes_put32(m->mbi + 64, put_string(m, "Doppel", MB_NAME_MAX));
    return 0;
}

int multiboot_load(struct mem *mem, const struct boot_conf *conf,
                   struct x86_cpu *bsp, struct boot_info *info, struct err *e)
{
    struct mb m = {.mem = mem, .conf = conf, .strings = BOOT_STRINGS_GPA};
    if (mem_low_bytes(mem) < MIB)
        return too_small(&m, MIB, "any kernel", e);
    int rc = load_kernel(&m, e);
    if (rc == 0)
        rc = load_modules(&m, e);
    if (rc == 0)
        rc = load_mmap(&m, e);
    if (rc == 0)
        rc = load_cmdline(&m, e);
    if (rc < 0)
        return rc;
    bytes_put32(m.mbi,
                MBI_MEM | MBI_CMDLINE | MBI_MODS | MBI_MMAP | MBI_LOADER);
    if (mem_write(mem, gpa(BOOT_PARAMS_GPA), m.mbi, sizeof m.mbi) < 0)
        return too_small(&m, MIB, "any kernel", e);
    rc = boot_cpu_enter32(mem, bsp, gpa(m.entry), MB_BOOT_MAGIC,
                          BOOT_PARAMS_GPA, e);
    if (rc == 0 && info)
        *info = (struct boot_info){.format = BOOT_MULTIBOOT,
                                   .what = "Multiboot kernel",
                                   .entry = gpa(m.entry),
                                   .kernel_start = gpa(m.start),
                                   .kernel_end = gpa(m.end),
                                   .initrd_start = gpa(m.mods_start),
                                   .initrd_end = gpa(m.mods_end)};
    return rc;
}
