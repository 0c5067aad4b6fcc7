// SPDX-License-Identifier: Apache-2.0
/*
 * Linux by its 64-bit boot protocol: a bzImage whose payload is unpacked here
 * and entered at vmlinux's own startup_64, a bzImage that unpacks itself, or
 * vmlinux. No address randomization: the kernel is where it was linked to be.
 * Source: Linux Documentation/arch/x86/boot.rst and zero-page.rst.
 */
#ifndef DOPPEL_BOOT_LINUX_LINUX_H
#define DOPPEL_BOOT_LINUX_LINUX_H

#include "boot/boot.h"

/** linux_is() - whether boot_linux_load knows the format */
bool linux_is(const struct boot_image *img);

/** linux_load() - boot_load for these formats */
MUST_CHECK int linux_load(struct mem *mem, const struct boot_conf *conf,
                          struct x86_cpu *bsp, struct boot_info *info,
                          struct err *e);

#endif
