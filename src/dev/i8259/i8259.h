// SPDX-License-Identifier: Apache-2.0
/*
 * The PC's two cascaded 8259A interrupt controllers with their edge/level
 * registers (ELCR). An interrupt sink: the lock is of the irq class.
 * Specs: Intel 8259A data sheet (1988); 82371SB (PIIX3) data sheet, ELCR.
 */
#ifndef DOPPEL_DEV_I8259_H
#define DOPPEL_DEV_I8259_H

#include "base/cc.h"

#include <stdbool.h>
#include <stdint.h>

struct err;
struct i8259;
struct vm;

struct i8259_conf {
    /* The master's INT output changed. Thread: any, the pair's lock is held:
     * must only note the level and kick. May be NULL. */
    void (*intr)(void *ctx, bool level);
    void *ctx;
};

/** i8259_create() - the pair at 0x20, 0xa0 and 0x4d0, not initialised yet
 * @vm: keeps; @out: gives. Thread: main.
 * Return: 0, -ENOMEM, or what bus_add says. */
MUST_CHECK int i8259_create(struct vm *vm, const struct i8259_conf *conf,
                            struct i8259 **out, struct err *e);
void i8259_destroy(struct i8259 *pic);

/** i8259_reset() - power-on state; the lines keep their levels */
void i8259_reset(struct i8259 *pic);

/** i8259_set_line() - drive an input; fits struct irq_line's set
 * @ctx: a struct i8259; @pin: 0-7 master, 8-15 slave; 2 and others are ignored
 * Thread: any; may hold a device's lock. */
void i8259_set_line(void *ctx, unsigned pin, bool level);

/** i8259_intack() - the CPU's interrupt acknowledge cycle
 * Return: the vector; a spurious one (IRQ 7 or 15) when nothing is pending.
 * Thread: vcpu. */
uint8_t i8259_intack(struct i8259 *pic);

/** i8259_intr() - the level of the INT output. Thread: any. */
bool i8259_intr(struct i8259 *pic);

#endif
