// SPDX-License-Identifier: Apache-2.0
/*
 * A 16550A UART, as PCs have it at 0x3f8: 16-byte FIFOs, level interrupt gated
 * by OUT2, a character device behind it. Baud rates are remembered, not paced.
 * RTS is honoured: a guest that uses it gets input only while it is asserted
 * (Linux with crtscts never overruns); see uart16550.c for guests that don't.
 * Spec: National Semiconductor PC16550D data sheet (1995).
 */
#ifndef DOPPEL_DEV_UART16550_H
#define DOPPEL_DEV_UART16550_H

#include "base/cc.h"
#include "vm/chardev.h"
#include "vm/irq.h"

#include <stdint.h>

struct err;
struct uart16550;
struct vm;

struct uart16550_conf {
    uint16_t port;       /* first of 8 ports: 0x3f8 */
    struct irq_line irq; /* level; pin 4 on a PC */
    struct chardev chr;  /* .ops NULL: output vanishes, no input */
    uint32_t instance;   /* number in the saved state: 0 for the first */
};

/** uart16550_create() - a UART in its reset state on @vm's port bus
 * @vm, @conf->chr: keeps; @conf itself is copied; @out: gives
 * Attaches itself to the character device. Thread: main.
 * Return: 0, -ENOMEM, or what bus_add says. */
MUST_CHECK int uart16550_create(struct vm *vm,
                                const struct uart16550_conf *conf,
                                struct uart16550 **out, struct err *e);

/** uart16550_destroy() - detach from the character device and the bus */
void uart16550_destroy(struct uart16550 *u);

/** uart16550_reset() - as by the MR pin; received bytes are dropped, bytes
 * that the character device refused so far are still sent. Thread: any. */
void uart16550_reset(struct uart16550 *u);

#endif
