// SPDX-License-Identifier: Apache-2.0
/* Any bytes as an ELF file, whole and in pieces. */
#include "boot/elf/elf.h"

#include <stdlib.h>

#include "boot/testimage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct mem *mem;
    struct err e = {{0}};
    if (!mem)
        mem = ti_mem(20);
    struct elf_load l = {.mem = mem, .name = "k", .floor = MIB};
    struct boot_sink s = elf_sink(&l);
    /* Whole, then again in pieces: the outcome must be the same. */
    int whole = s.piece(s.ctx, 0, data, len, &e);
    if (whole == 0)
        whole = elf_finish(&l, &e);
    if (whole < 0 && e.text[0] == '\0')
        abort();
    if (whole < 0 || l.nsegs == 0)
        return 0;
    uint64_t entry = l.entry;
    size_t first = 64U + ELF_PHDRS_MAX * 56U, n;
    s = elf_sink(&l);
    for (size_t off = 0; off < len; off += n) {
        n = off == 0 ? first : 1000;
        n = len - off < n ? len - off : n;
        if (s.piece(s.ctx, off, data + off, n, &e) < 0)
            return 0; /* program headers behind the first piece */
    }
    if (elf_finish(&l, &e) < 0 || l.entry != entry)
        abort();
    return 0;
}
