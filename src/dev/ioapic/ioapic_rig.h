// SPDX-License-Identifier: Apache-2.0
/* The I/O APIC in a test VM. */
#ifndef DOPPEL_DEV_IOAPIC_RIG_H
#define DOPPEL_DEV_IOAPIC_RIG_H

#include "dev/ioapic/ioapic.h"
#include "vm/devtest.h"

static inline void *rig_create(struct devtest *t)
{
    const struct ioapic_conf conf = {.id = 1};
    struct ioapic *io;

    return ioapic_create(&t->vm, &conf, &io, NULL) < 0 ? NULL : io;
}

static inline void rig_destroy(void *dev)
{
    ioapic_destroy(dev);
}

static inline void rig_poke(struct devtest *t, void *dev, uint32_t r)
{
    (void)t;
    if (r & 3)
        ioapic_set_line(dev, r >> 4 & 31, r & 8);
    else
        ioapic_eoi(dev, (uint8_t)(r >> 8));
}

static const struct devtest_class ioapic_class = {
    .create = rig_create,
    .destroy = rig_destroy,
    .poke = rig_poke,
    /* Index, window, EOI; and the whole page. */
    .win = {{true, IOAPIC_BASE, 1},
            {true, IOAPIC_BASE + 0x10, 1},
            {true, IOAPIC_BASE + 0x40, 1},
            {true, IOAPIC_BASE, IOAPIC_LEN_BYTES}},
};

#endif
