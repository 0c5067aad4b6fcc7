// SPDX-License-Identifier: Apache-2.0
/*
 * Multiboot 1 kernels: ELF, or the header's own addresses (the "a.out kludge"),
 * entered in 32-bit protected mode with EAX = magic, EBX = information.
 * Source: Multiboot Specification version 0.6.96.
 */
#ifndef DOPPEL_BOOT_MULTIBOOT_MULTIBOOT_H
#define DOPPEL_BOOT_MULTIBOOT_MULTIBOOT_H

#include "boot/boot.h"

/** multiboot_is() - whether the first 8 KiB hold a valid header */
bool multiboot_is(const struct boot_image *img);

/** multiboot_load() - boot_load for Multiboot kernels; each initrd is a module
 * whose string is its name */
MUST_CHECK int multiboot_load(struct mem *mem, const struct boot_conf *conf,
                              struct x86_cpu *bsp, struct boot_info *info,
                              struct err *e);

#endif
