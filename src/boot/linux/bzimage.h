// SPDX-License-Identifier: Apache-2.0
/*
 * The Linux bzImage file format: the setup header and where the payload is.
 * The file is hostile: bzimage_parse checks all that others rely on.
 * Source: Linux Documentation/arch/x86/boot.rst.
 */
#ifndef DOPPEL_BOOT_LINUX_BZIMAGE_H
#define DOPPEL_BOOT_LINUX_BZIMAGE_H

#include "base/cc.h"
#include "base/err.h"
#include "boot/boot.h"

/* The setup header's place, the same in the file and in boot_params. */
#define BZ_HEADER_START 0x1f1U
#define BZ_HEADER_MAX   0x290U

struct bzimage {
    unsigned version;     /* 0x020c and later */
    uint32_t header_end;  /* file offset: the header is BZ_HEADER_START.. */
    uint32_t cmdline_max; /* bytes, without the NUL */
    uint64_t initrd_addr_max;
    uint64_t pref_address;
    uint64_t init_size; /* what the kernel needs from pref_address on */
    bool relocatable;
    const uint8_t *pm; /* the protected-mode part: what is loaded */
    size_t pm_len;
    const uint8_t *payload; /* inside it; NULL: the header names none */
    size_t payload_len;
};

/** bzimage_is() - whether @data begins like a bzImage (any age, any width) */
bool bzimage_is(const uint8_t *data, size_t len);

/** bzimage_parse() - check the header and fill @bz
 * @img: borrows; @bz points into it
 * Return: 0, or -ENOEXEC: truncated, too old, 32-bit, or a field that lies. */
MUST_CHECK int bzimage_parse(const struct boot_image *img, struct bzimage *bz,
                             struct err *e);

#endif
