// SPDX-License-Identifier: Apache-2.0
/*
 * The PC's ACPI tables: RSDP, XSDT, FADT, FACS, MADT, MCFG, DSDT. Fixed
 * hardware (PM timer, power button, SCI), soft-off, reset register, PCI routing
 * straight to I/O APIC pins, and the ISA devices. Addresses that do not vary
 * come from memmap.h.
 * Source: ACPI 6.5 ch. 5; PCI Firmware 3.3 4.1.2 (MCFG).
 */
#ifndef DOPPEL_MACHINE_PC_ACPI_H
#define DOPPEL_MACHINE_PC_ACPI_H

#include "base/cc.h"
#include "base/err.h"
#include "base/types.h"
#include "vm/mem.h"

#define ACPI_TABLES_MAX_BYTES 0x8000U /* from the RSDP on */

struct acpi_conf {
    unsigned ncpus;   /* APIC ids 0..ncpus-1, at most 255 */
    gpa_t rsdp;       /* the tables stand from here on; 64-byte aligned */
    uint16_t pm_port; /* base of the blocks (dev/acpi-pm) */
    unsigned sci_irq;
    uint16_t pvpanic_port; /* 0: none */
    bool no_i8042;         /* tell the guest not to look for one */
    bool no_ecam;          /* configuration space by ports only */
};

/** acpi_build() - the tables as they stand in memory from conf->rsdp on
 * @buf: filled; @room: its size, ACPI_TABLES_MAX_BYTES is enough for 255 CPUs
 * Return: bytes used, or -EINVAL, -ENOSPC. */
MUST_CHECK int acpi_build(const struct acpi_conf *conf, uint8_t *buf,
                          size_t room, struct err *e);

/** acpi_write() - acpi_build into guest memory
 * Return: 0; -EFAULT: that is not RAM; or as acpi_build. */
MUST_CHECK int acpi_write(struct mem *mem, const struct acpi_conf *conf,
                          struct err *e);

#endif
