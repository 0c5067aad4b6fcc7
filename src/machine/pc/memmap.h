// SPDX-License-Identifier: Apache-2.0
/*
 * The PC's physical map. One place for the numbers that devices, ACPI tables,
 * boot and tests share.
 *
 *   0           RAM up to PC_LOW_LIMIT
 *   0xb0000000  ECAM of bus 0 (1 MiB)
 *   0xc0000000  PCI memory window
 *   0xfec00000  I/O APIC            0xfee00000  local APICs
 *   4 GiB       the rest of RAM
 */
#ifndef DOPPEL_MACHINE_PC_MEMMAP_H
#define DOPPEL_MACHINE_PC_MEMMAP_H

#include <stdint.h>

#define PC_LOW_LIMIT       UINT64_C(0xb0000000)
#define PC_ECAM_BASE       UINT64_C(0xb0000000)
#define PC_ECAM_LEN        UINT64_C(0x00100000)
#define PC_PCI_WINDOW_BASE UINT64_C(0xc0000000)
#define PC_PCI_WINDOW_END  UINT64_C(0xfec00000)
#define PC_IOAPIC_BASE     UINT64_C(0xfec00000)
#define PC_LAPIC_BASE      UINT64_C(0xfee00000)
#define PC_RSDP            UINT64_C(0x000f0000) /* in the BIOS area */

#define PC_COM1_PORT       0x3f8
#define PC_COM1_IRQ        4
#define PC_PM_PORT         0x600
#define PC_SCI_IRQ         9
#define PC_RESET_PORT      0xcf9
#define PC_S5_SLP_TYP      5
#define PC_PIT_IRQ         0
#define PC_PIT_GSI         2
#define PC_RTC_IRQ         8
#define PC_KBD_IRQ         1
#define PC_PCI_GSI_BASE    16 /* INTA of slot s: GSI 16 + s % 8 */
#define PC_PCI_GSIS        8
#define PC_DISK_SLOT       2 /* the first disk's slot */

#endif
