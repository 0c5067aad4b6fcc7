// SPDX-License-Identifier: Apache-2.0
/*
 * The memory map that a kernel is told: the PC's own areas below 1 MiB, RAM
 * below and above the PCI hole, and the ranges that the machine reserves.
 * Source: ACPI 6.5 15 (system address map), entry type numbers as there.
 */
#ifndef DOPPEL_BOOT_E820_H
#define DOPPEL_BOOT_E820_H

#include "boot/boot.h"

/* Base memory ends below the extended BIOS data area; the BIOS area, where the
 * ACPI tables are, begins at 0xe0000. */
#define E820_BASE_END   0x9fc00U
#define E820_VGA_START  0xa0000U
#define E820_BIOS_START 0xe0000U
#define E820_HIGH_START 0x100000U

/** e820_build() - fill @out with the map, by ascending address
 * @reserved: ranges outside RAM, or inside (RAM is split around them)
 * Return: the number of entries, or -EINVAL (more than BOOT_E820_MAX, or a
 * range that wraps). */
MUST_CHECK int e820_build(const struct mem *mem,
                          const struct boot_range *reserved, unsigned nreserved,
                          struct boot_range out[BOOT_E820_MAX], struct err *e);

#endif
