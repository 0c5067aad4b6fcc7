// SPDX-License-Identifier: Apache-2.0
/*
 * The PC's 8254 interval timer (ports 0x40-0x43) and system control port B
 * (0x61). Counts are derived from guest time; only channel 0 uses a timer.
 * Specs: Intel 82C54 data sheet (1994); 82371SB (PIIX3) data sheet, port 61h.
 */
#ifndef DOPPEL_DEV_I8254_H
#define DOPPEL_DEV_I8254_H

#include "base/cc.h"
#include "vm/irq.h"

#include <stdint.h>

#define I8254_HZ 1193182u /* 14.31818 MHz / 12 */

struct err;
struct i8254;
struct vm;

struct i8254_conf {
    struct irq_line irq; /* channel 0's output; edges; IRQ 0 */
};

/** i8254_create() - three channels, none counting until programmed
 * @vm: keeps; @out: gives. Thread: main.
 * Return: 0, -ENOMEM, or what bus_add says. */
MUST_CHECK int i8254_create(struct vm *vm, const struct i8254_conf *conf,
                            struct i8254 **out, struct err *e);
void i8254_destroy(struct i8254 *pit);
void i8254_reset(struct i8254 *pit);

#endif
