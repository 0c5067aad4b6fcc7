// SPDX-License-Identifier: Apache-2.0
/*
 * Loads an ELF executable's PT_LOAD segments at their physical addresses, from
 * pieces in file order (elf_sink): the file may be the output of a
 * decompressor. Used for vmlinux, for the ELF inside a bzImage, and for
 * Multiboot kernels. The file is hostile.
 * Source: System V ABI, ELF chapters 4 and 5 (Elf32_Ehdr .. Elf64_Phdr).
 */
#ifndef DOPPEL_BOOT_ELF_ELF_H
#define DOPPEL_BOOT_ELF_ELF_H

#include "base/cc.h"
#include "base/err.h"
#include "boot/sink.h"
#include "vm/mem.h"

#define ELF_MACHINE_386    3U
#define ELF_MACHINE_X86_64 62U
#define ELF_SEGS_MAX       32
#define ELF_PHDRS_MAX      128

struct elf_seg {
    uint64_t off, filesz; /* in the file */
    uint64_t paddr, memsz;
    uint64_t vaddr;
};

struct elf_load {
    struct mem *mem;  /* borrows; NULL: parse and check the file only */
    const char *name; /* borrows; for error sentences */
    uint64_t floor;   /* no segment may begin below this GPA */
    bool want64;      /* only ELF64 for x86-64; else ELF32 for i386 also */
    uint64_t extra; /* bytes to come behind it (initrd): for error sentences */

    /* filled */
    unsigned nsegs;
    struct elf_seg seg[ELF_SEGS_MAX];
    uint64_t entry;      /* GPA */
    uint64_t start, end; /* of all segments in guest memory */
    uint64_t seen;       /* bytes of the file that have passed */
};

/** elf_is() - whether @data begins like an ELF file */
bool elf_is(const uint8_t *data, size_t len);

/** elf_machine_name() - words for an ELF file's machine, for error sentences */
const char *elf_machine_name(const uint8_t *data, size_t len);

/** elf_sink() - loads what passes through; the first piece must hold the file
 * header and the program headers */
struct boot_sink elf_sink(struct elf_load *load);

/** elf_finish() - after the last piece: clear what the file does not hold
 * Return: 0; -ENOEXEC: the file ended before its segments did. */
MUST_CHECK int elf_finish(struct elf_load *load, struct err *e);

#endif
