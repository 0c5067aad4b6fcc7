// SPDX-License-Identifier: Apache-2.0
/*
 * The ELF loader. First the headers are checked completely (sizes, overlaps,
 * RAM), then bytes are copied; copying has no bad input left except a file
 * that ends early.
 */
#include "boot/elf/elf.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/check.h"
#include "boot/bytes.h"

#define ELF_CLASS32    1
#define ELF_CLASS64    2
#define ELF_DATA_LE    1
#define ELF_TYPE_EXEC  2
#define ELF_TYPE_DYN   3
#define ELF_PT_LOAD    1U

#define ELF32_EHDR_LEN 52U
#define ELF64_EHDR_LEN 64U
#define ELF32_PHDR_LEN 32U
#define ELF64_PHDR_LEN 56U

/* Kernels are loaded and entered below this. */
#define ELF_GPA_LIMIT (4 * GIB)

struct elf_header {
    bool is64;
    unsigned type, machine, phentsize, phnum;
    uint64_t entry, phoff;
};

bool elf_is(const uint8_t *data, size_t len)
{
    return len >= 4 && memcmp(data, "\177ELF", 4) == 0;
}

const char *elf_machine_name(const uint8_t *data, size_t len)
{
    if (len < 20)
        return "a truncated header";
    switch (bytes_get16(data + 18)) {
    case ELF_MACHINE_386:
        return "32-bit x86";
    case ELF_MACHINE_X86_64:
        return "x86-64";
    case 8:
        return "MIPS";
    case 20:
    case 21:
        return "PowerPC";
    case 22:
        return "S/390";
    case 40:
        return "32-bit Arm";
    case 183:
        return "AArch64";
    case 243:
        return "RISC-V";
    case 258:
        return "LoongArch";
    default:
        return "another machine";
    }
}

/* Read the fields of the file header; they are not checked yet. */
static bool elf_header_read(const uint8_t *d, size_t len, struct elf_header *h)
{
    if (len < ELF32_EHDR_LEN || !elf_is(d, len) || d[5] != ELF_DATA_LE)
        return false;
    h->is64 = d[4] == ELF_CLASS64;
    if (!h->is64 && d[4] != ELF_CLASS32)
        return false;
    if (h->is64 && len < ELF64_EHDR_LEN)
        return false;
    h->type = bytes_get16(d + 16);
    h->machine = bytes_get16(d + 18);
    h->entry = h->is64 ? bytes_get64(d + 24) : bytes_get32(d + 24);
    h->phoff = h->is64 ? bytes_get64(d + 32) : bytes_get32(d + 28);
    h->phentsize = bytes_get16(d + (h->is64 ? 54 : 42));
    h->phnum = bytes_get16(d + (h->is64 ? 56 : 44));
    return true;
}

static void elf_phdr_read(const uint8_t *p, bool is64, struct elf_seg *s)
{
    *s = is64 ? (struct elf_seg){.off = bytes_get64(p + 8),
                                 .vaddr = bytes_get64(p + 16),
                                 .paddr = bytes_get64(p + 24),
                                 .filesz = bytes_get64(p + 32),
                                 .memsz = bytes_get64(p + 40)}
              : (struct elf_seg){.off = bytes_get32(p + 4),
                                 .vaddr = bytes_get32(p + 8),
                                 .paddr = bytes_get32(p + 12),
                                 .filesz = bytes_get32(p + 16),
                                 .memsz = bytes_get32(p + 20)};
}

static int elf_seg_check(const struct elf_load *l, const struct elf_seg *s,
                         struct err *e)
{
    uint64_t file_end, mem_end;
    if (s->filesz > s->memsz || !check_add(s->off, s->filesz, &file_end) ||
        !check_add(s->paddr, s->memsz, &mem_end) || mem_end > ELF_GPA_LIMIT)
        return err_set(
            e, -ENOEXEC,
            "%s: damaged ELF file: a segment of 0x%llx bytes at "
            "0x%llx holds 0x%llx bytes of the file from 0x%llx",
            l->name, (unsigned long long)s->memsz, (unsigned long long)s->paddr,
            (unsigned long long)s->filesz, (unsigned long long)s->off);
    if (s->paddr < l->floor)
        return err_set(e, -ENOEXEC,
                       "%s: a segment is loaded at 0x%llx, but memory below "
                       "0x%llx belongs to the loader",
                       l->name, (unsigned long long)s->paddr,
                       (unsigned long long)l->floor);
    for (unsigned i = 0; i < l->nsegs; i++) {
        const struct elf_seg *o = &l->seg[i];
        if (s->paddr < o->paddr + o->memsz && o->paddr < mem_end)
            return err_set(e, -ENOEXEC,
                           "%s: damaged ELF file: segments overlap at 0x%llx",
                           l->name, (unsigned long long)s->paddr);
    }
    return 0;
}

/* Whether guest memory has room for all segments; a sentence if not. */
static int elf_room_check(const struct elf_load *l, struct err *e)
{
    uint64_t need = ALIGN_UP(l->end, MEM_PAGE_BYTES) + l->extra;
    bool fits = true;
    for (unsigned i = 0; l->mem && i < l->nsegs; i++)
        fits =
            fits && mem_is_ram(l->mem, gpa(l->seg[i].paddr), l->seg[i].memsz);
    if (fits)
        return 0;
    return err_set(e, -ENOMEM,
                   "%s: memory of %llu MiB is too small for the kernel%s; give "
                   "at least %llu MiB",
                   l->name, (unsigned long long)(mem_ram_bytes(l->mem) / MIB),
                   l->extra > 0 ? " and its initrd" : "",
                   (unsigned long long)(ALIGN_UP(need, MIB) / MIB));
}

/* vmlinux is linked to the upper half of the address space, programs are not.
 */
static bool elf_is_kernel(const struct elf_header *h, const uint8_t *data)
{
    for (unsigned i = 0; i < h->phnum; i++) {
        const uint8_t *p = data + h->phoff + (uint64_t)i * h->phentsize;
        struct elf_seg s;
        elf_phdr_read(p, h->is64, &s);
        if (bytes_get32(p) == ELF_PT_LOAD && s.vaddr >> 63)
            return true;
    }
    return false;
}

static int elf_header_check(const struct elf_load *l, const uint8_t *data,
                            size_t len, struct elf_header *h, struct err *e)
{
    if (!elf_header_read(data, len, h))
        return err_set(e, -ENOEXEC, "%s: damaged or truncated ELF header",
                       l->name);
    bool x86 = (h->is64 && h->machine == ELF_MACHINE_X86_64) ||
               (!l->want64 && (h->machine == ELF_MACHINE_386 ||
                               h->machine == ELF_MACHINE_X86_64));
    if (!x86)
        return err_set(e, -ENOEXEC, "%s: an ELF file for %s%s, not for x86-64",
                       l->name, elf_machine_name(data, len),
                       h->is64 ? "" : " (ELF32)");
    if (h->type != ELF_TYPE_EXEC && h->type != ELF_TYPE_DYN)
        return err_set(e, -ENOEXEC,
                       "%s: an ELF file of type %u, not an executable", l->name,
                       h->type);
    unsigned want = h->is64 ? ELF64_PHDR_LEN : ELF32_PHDR_LEN;
    if (h->phentsize != want || h->phnum == 0 || h->phnum > ELF_PHDRS_MAX)
        return err_set(e, -ENOEXEC,
                       "%s: an ELF file with %u program headers of %u bytes; "
                       "1 to %d of %u can be loaded",
                       l->name, h->phnum, h->phentsize, ELF_PHDRS_MAX, want);
    if (!check_range(h->phoff, (uint64_t)h->phnum * want, len))
        return err_set(e, -ENOEXEC,
                       "%s: an ELF file whose program headers (at 0x%llx) are "
                       "not at its start, or that is truncated",
                       l->name, (unsigned long long)h->phoff);
    if (l->want64 && !elf_is_kernel(h, data))
        return err_set(e, -ENOEXEC,
                       "%s: not a kernel but an ordinary program for x86-64",
                       l->name);
    return 0;
}

/* The entry as a GPA: it is one in vmlinux; other kernels give a virtual one.
 */
static int elf_entry_find(struct elf_load *l, uint64_t entry, struct err *e)
{
    for (unsigned i = 0; i < l->nsegs; i++) {
        const struct elf_seg *s = &l->seg[i];
        if (entry - s->paddr < s->memsz) {
            l->entry = entry;
            return 0;
        }
    }
    for (unsigned i = 0; i < l->nsegs; i++) {
        const struct elf_seg *s = &l->seg[i];
        if (entry - s->vaddr < s->memsz) {
            l->entry = entry - s->vaddr + s->paddr;
            return 0;
        }
    }
    return err_set(e, -ENOEXEC,
                   "%s: damaged ELF file: the entry 0x%llx is in no segment",
                   l->name, (unsigned long long)entry);
}

static int elf_begin(struct elf_load *l, const uint8_t *data, size_t len,
                     struct err *e)
{
    struct elf_header h = {0};
    int rc = elf_header_check(l, data, len, &h, e);
    if (rc < 0)
        return rc;
    l->nsegs = 0;
    l->start = UINT64_MAX;
    l->end = 0;
    for (unsigned i = 0; i < h.phnum; i++) {
        const uint8_t *p = data + h.phoff + (uint64_t)i * h.phentsize;
        struct elf_seg s;
        elf_phdr_read(p, h.is64, &s);
        if (bytes_get32(p) != ELF_PT_LOAD || s.memsz == 0)
            continue;
        if (l->nsegs == ELF_SEGS_MAX)
            return err_set(e, -ENOEXEC, "%s: an ELF file with over %d segments",
                           l->name, ELF_SEGS_MAX);
        rc = elf_seg_check(l, &s, e);
        if (rc < 0)
            return rc;
        l->seg[l->nsegs++] = s;
        l->start = s.paddr < l->start ? s.paddr : l->start;
        l->end = s.paddr + s.memsz > l->end ? s.paddr + s.memsz : l->end;
    }
    if (l->nsegs == 0)
        return err_set(e, -ENOEXEC, "%s: an ELF file with nothing to load",
                       l->name);
    rc = elf_room_check(l, e);
    return rc < 0 ? rc : elf_entry_find(l, h.entry, e);
}

/* Copy what of segment @s lies in the file's [off, off+len). */
static int elf_seg_copy(const struct elf_load *l, const struct elf_seg *s,
                        uint64_t off, const uint8_t *data, size_t len)
{
    uint64_t from = s->off > off ? s->off : off;
    uint64_t to = s->off + s->filesz;
    if (to > off + len)
        to = off + len;
    if (from >= to || !l->mem)
        return 0;
    return mem_write(l->mem, gpa(s->paddr + (from - s->off)),
                     data + (from - off), (size_t)(to - from));
}

static int elf_piece(void *ctx, uint64_t off, const uint8_t *data, size_t len,
                     struct err *e)
{
    struct elf_load *l = ctx;
    if (off == 0) {
        int rc = elf_begin(l, data, len, e);
        if (rc < 0)
            return rc;
    }
    for (unsigned i = 0; i < l->nsegs; i++)
        if (elf_seg_copy(l, &l->seg[i], off, data, len) < 0)
            return err_set(e, -ENOMEM, "%s: a segment is not in guest memory",
                           l->name);
    l->seen = off + len;
    return 0;
}

struct boot_sink elf_sink(struct elf_load *load)
{
    load->nsegs = 0;
    load->seen = 0;
    return (struct boot_sink){.piece = elf_piece, .ctx = load};
}

int elf_finish(struct elf_load *l, struct err *e)
{
    if (l->nsegs == 0)
        return err_set(e, -ENOEXEC, "%s: an empty ELF file", l->name);
    for (unsigned i = 0; i < l->nsegs; i++) {
        const struct elf_seg *s = &l->seg[i];
        if (s->off + s->filesz > l->seen)
            return err_set(e, -ENOEXEC,
                           "%s: truncated: a segment needs the file up to byte "
                           "%llu, it ends at %llu",
                           l->name, (unsigned long long)(s->off + s->filesz),
                           (unsigned long long)l->seen);
        if (l->mem && s->memsz > s->filesz &&
            mem_zero(l->mem, gpa(s->paddr + s->filesz), s->memsz - s->filesz) <
                0)
            return err_set(e, -ENOMEM, "%s: a segment is not in guest memory",
                           l->name);
    }
    return 0;
}
