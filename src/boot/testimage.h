// SPDX-License-Identifier: Apache-2.0
/* Kernel images made up for tests: an ELF with two segments, and a bzImage
 * around any payload. */
#ifndef DOPPEL_BOOT_TESTIMAGE_H
#define DOPPEL_BOOT_TESTIMAGE_H

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cc.h"
#include "boot/boot.h"
#include "boot/bytes.h"

/* The ELF: text of 0x1800 bytes at file offset 0x1000, physical 16 MiB, of
 * which the bytes are their offset's low 8 bits; data of 0x100 bytes in 0x5000
 * of memory at 17 MiB; entry 16 MiB + 0x40. */
#define TI_ELF_BYTES  0x3000U
#define TI_TEXT       (16 * MIB)
#define TI_TEXT_LEN   0x1800U
#define TI_DATA       (17 * MIB)
#define TI_DATA_LEN   0x100U
#define TI_DATA_MEM   0x5000U
#define TI_ENTRY      (TI_TEXT + 0x40)
#define TI_VIRT       UINT64_C(0xffffffff81000000)
#define TI_PHDR64     64U /* offset of the first program header */
#define TI_PHDR64_LEN 56U

static inline void ti_phdr64(uint8_t *p, uint64_t off, uint64_t paddr,
                             uint64_t filesz, uint64_t memsz)
{
    bytes_put32(p, 1); /* PT_LOAD */
    bytes_put64(p + 8, off);
    bytes_put64(p + 16, TI_VIRT + paddr - TI_TEXT);
    bytes_put64(p + 24, paddr);
    bytes_put64(p + 32, filesz);
    bytes_put64(p + 40, memsz);
}

static inline void ti_elf64(uint8_t elf[TI_ELF_BYTES])
{
    for (unsigned i = 0; i < TI_ELF_BYTES; i++)
        elf[i] = (uint8_t)i;
    memset(elf, 0, 0x1000);
    memcpy(elf, "\177ELF\2\1\1", 7);
    bytes_put16(elf + 16, 2);  /* ET_EXEC */
    bytes_put16(elf + 18, 62); /* EM_X86_64 */
    bytes_put64(elf + 24, TI_ENTRY);
    bytes_put64(elf + 32, TI_PHDR64);
    bytes_put16(elf + 54, TI_PHDR64_LEN);
    bytes_put16(elf + 56, 2);
    ti_phdr64(elf + TI_PHDR64, 0x1000, TI_TEXT, TI_TEXT_LEN, TI_TEXT_LEN);
    ti_phdr64(elf + TI_PHDR64 + TI_PHDR64_LEN, 0x2800, TI_DATA, TI_DATA_LEN,
              TI_DATA_MEM);
}

/* The bzImage: 5 sectors of real-mode part, then the payload at 0x300 of the
 * protected-mode part. */
#define TI_SETUP_BYTES (5 * 512U)
#define TI_PAYLOAD_OFF 0x300U
#define TI_BZ_EXTRA    (TI_SETUP_BYTES + TI_PAYLOAD_OFF + 16)
#define TI_INIT_SIZE   0x300000U

/** ti_bzimage() - wrap @payload. Gives the image; its length in *len. */
static inline uint8_t *ti_bzimage(const void *payload, size_t n, size_t *len)
{
    size_t pm = ALIGN_UP(TI_PAYLOAD_OFF + n, 16);
    uint8_t *bz = calloc(1, TI_SETUP_BYTES + pm);
    if (!bz)
        abort();
    bz[0x1f1] = 4;
    bytes_put32(bz + 0x1f4, (uint32_t)(pm / 16));
    bytes_put16(bz + 0x1fe, 0xaa55);
    bz[0x201] = 0x6a;
    memcpy(bz + 0x202, "HdrS", 4);
    bytes_put16(bz + 0x206, 0x020f);
    bz[0x211] = 0x03; /* LOADED_HIGH, KASLR_FLAG */
    bytes_put32(bz + 0x22c, 0x7fffffff);
    bz[0x234] = 1;
    bytes_put16(bz + 0x236, 1); /* XLF_KERNEL_64 */
    bytes_put32(bz + 0x238, 2047);
    bytes_put32(bz + 0x248, TI_PAYLOAD_OFF);
    bytes_put32(bz + 0x24c, (uint32_t)n);
    bytes_put64(bz + 0x258, 16 * MIB);
    bytes_put32(bz + 0x260, TI_INIT_SIZE);
    if (n > 0)
        memcpy(bz + TI_SETUP_BYTES + TI_PAYLOAD_OFF, payload, n);
    *len = TI_SETUP_BYTES + pm;
    return bz;
}

static inline struct mem *ti_mem(uint64_t mib)
{
    struct mem_conf c = {.ram_bytes = mib * MIB,
                         .low_limit = 3 * GIB,
                         .scatter = true,
                         .seed = 1,
                         .memfd = -1};
    struct mem *mem;
    if (mem_create(&c, &mem, NULL) < 0)
        abort();
    return mem;
}

#endif
