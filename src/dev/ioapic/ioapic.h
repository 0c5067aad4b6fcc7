// SPDX-License-Identifier: Apache-2.0
/*
 * The I/O APIC: 24 lines in, interrupt messages out.
 * It is an interrupt sink: its lock is of the irq class, so lines may be
 * driven with a device's lock held. Version 0x20: with an EOI register.
 * Specs: Intel 82093AA data sheet (1996); ICH9 data sheet 13.5 (EOI register).
 */
#ifndef DOPPEL_DEV_IOAPIC_H
#define DOPPEL_DEV_IOAPIC_H

#include "base/cc.h"

#include <stdbool.h>
#include <stdint.h>

#define IOAPIC_PINS      24
#define IOAPIC_BASE      0xfec00000u
#define IOAPIC_LEN_BYTES 0x1000u

struct err;
struct ioapic;
struct vm;

struct ioapic_conf {
    uint64_t base; /* GPA of the registers; 0: IOAPIC_BASE */
    uint8_t id;    /* at reset; 4 bits */
};

/** ioapic_create() - all pins masked; messages go to @vm's msi
 * @vm: keeps (its msi is read at each message, so it may be set later);
 * @out: gives. Thread: main.
 * Return: 0, -ENOMEM, or what bus_add says. */
MUST_CHECK int ioapic_create(struct vm *vm, const struct ioapic_conf *conf,
                             struct ioapic **out, struct err *e);
void ioapic_destroy(struct ioapic *io);

/** ioapic_reset() - all pins masked; the lines keep their levels */
void ioapic_reset(struct ioapic *io);

/** ioapic_set_line() - drive an input; fits struct irq_line's set
 * @ctx: a struct ioapic; @pin: 0-23, others are ignored; @level: true is
 * asserted (devices know no polarity; the RTE's polarity bit is stored only)
 * Thread: any; may hold a device's lock. */
void ioapic_set_line(void *ctx, unsigned pin, bool level);

/** ioapic_eoi() - a local APIC's EOI broadcast for @vector
 * Level pins with that vector and remote IRR set are done; one whose line is
 * still asserted delivers again. Thread: any. */
void ioapic_eoi(struct ioapic *io, uint8_t vector);

#endif
