// SPDX-License-Identifier: Apache-2.0
/*
 * Whether an initrd is whole, as far as its own structure tells: a kernel that
 * is given half an archive panics much later and says little.
 */
#ifndef DOPPEL_BOOT_LINUX_INITRD_H
#define DOPPEL_BOOT_LINUX_INITRD_H

#include "boot/boot.h"

/** initrd_check() - walk the parts of an initrd
 * Knows cpio newc, gzip, lz4 (legacy), zstd and xz; others pass.
 * Return: 0; -EINVAL: empty or truncated. */
MUST_CHECK int initrd_check(const struct boot_image *img, struct err *e);

#endif
