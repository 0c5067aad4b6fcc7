// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupt wiring between devices, interrupt controllers and vCPUs.
 *
 * A device raises a line (struct irq_line: level semantics, one owner) or sends
 * a message (MSI: an address and a data word). The machine decides where both
 * end: lines at the I/O APIC and the 8259 pair, messages at the local APICs.
 * A device knows neither. Lock order: vm > device > irq: a line may be driven
 * with the device's lock held; a sink takes only its own (irq class) lock.
 */
#ifndef DOPPEL_VM_IRQ_H
#define DOPPEL_VM_IRQ_H

#include <stdbool.h>
#include <stdint.h>

/* One input pin of interrupt controllers, as a device sees it. */
struct irq_line {
    void (*set)(void *ctx, unsigned pin, bool level); /* NULL: not connected */
    void *ctx;
    unsigned pin;
};

static inline void irq_line_set(const struct irq_line *l, bool level)
{
    if (l->set)
        l->set(l->ctx, l->pin, level);
}

/* Where message signalled interrupts go (the write to 0xfeexxxxx that a device
 * or the I/O APIC makes). Thread: any. Source: SDM vol. 3A 11.11. */
struct irq_msi {
    void (*send)(void *ctx, uint64_t addr, uint32_t data);
    void *ctx;
};

static inline void irq_msi_send(const struct irq_msi *m, uint64_t addr,
                                uint32_t data)
{
    if (m->send)
        m->send(m->ctx, addr, data);
}

#endif
