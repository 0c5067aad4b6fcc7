// SPDX-License-Identifier: Apache-2.0
/*
 * The 8042 keyboard controller (ports 0x60, 0x64), single channel: self-tests,
 * command byte, output port with A20 gate and reset line, and, if asked for, an
 * AT keyboard. Without one, bytes to the keyboard time out as they do on a PC.
 * Spec: IBM PS/2 Hardware Interface Technical Reference (1991), keyboard and
 * auxiliary device controller; IBM PC/AT Technical Reference (1984), keyboard.
 */
#ifndef DOPPEL_DEV_I8042_H
#define DOPPEL_DEV_I8042_H

#include "base/cc.h"
#include "vm/irq.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct i8042;
struct vm;

struct i8042_conf {
    struct irq_line irq; /* output buffer full, keyboard: IRQ 1 */
    bool keyboard;       /* one is plugged in */
    /* The A20 gate changed; any thread, the lock is held. May be NULL. */
    void (*a20)(void *ctx, bool on);
    void *ctx;
};

/** i8042_create() - after power-on, A20 open
 * @vm: keeps; @out: gives. Thread: main.
 * Return: 0, -ENOMEM, or what bus_add says. */
MUST_CHECK int i8042_create(struct vm *vm, const struct i8042_conf *conf,
                            struct i8042 **out, struct err *e);
void i8042_destroy(struct i8042 *kbc);
void i8042_reset(struct i8042 *kbc);

/** i8042_key() - the keyboard sends scan codes (set 2, as on the wire)
 * Return: how many bytes the keyboard's buffer took (all or nothing), 0 without
 * a keyboard or while it does not scan. Thread: any. */
size_t i8042_key(struct i8042 *kbc, const uint8_t *codes, size_t n);

#endif
