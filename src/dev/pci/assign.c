// SPDX-License-Identifier: Apache-2.0
/*
 * Addresses for BARs, as firmware would give them: largest first, each at a
 * multiple of its size, inside the windows that the machine set aside. Also the
 * function's state section, whose load maps BARs again.
 */
#include "dev/pci/pci_internal.h"

#include <errno.h>
#include <string.h>

struct window {
    const char *name;
    uint64_t next, limit; /* limit: one past the end */
};

static int assign_bar(struct pci_dev *dev, unsigned i, struct window *w,
                      struct err *e)
{
    struct pci_bar *b = &dev->bar[i];
    uint64_t base = ALIGN_UP(w->next, b->size);

    if (base < w->next || base > w->limit || b->size > w->limit - base)
        return err_set(e, -ENOSPC,
                       "%s: no room for BAR %u (0x%llx bytes) in the PCI %s "
                       "window that ends at 0x%llx",
                       dev->name, i, (unsigned long long)b->size, w->name,
                       (unsigned long long)w->limit);
    w->next = base + b->size;
    pci_cfg_write(dev, PCI_BAR0 + 4 * i, (uint32_t)base, 4);
    if (b->type == PCI_BAR_MEM64)
        pci_cfg_write(dev, PCI_BAR0 + 4 * i + 4, (uint32_t)(base >> 32), 4);
    return 0;
}

/* All BARs of @size bytes in the window of their kind. */
static int assign_size(struct pci_bus *bus, uint64_t size, struct window *mmio,
                       struct window *io, struct err *e)
{
    for (unsigned d = 0; d < PCI_FUNCTIONS; d++) {
        for (unsigned i = 0; bus->dev[d] && i < PCI_BARS; i++) {
            struct pci_bar *b = &bus->dev[d]->bar[i];
            int r;

            if (b->type == PCI_BAR_NONE || b->size != size)
                continue;
            r = assign_bar(bus->dev[d], i, b->type == PCI_BAR_IO ? io : mmio,
                           e);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

int pci_bus_assign(struct pci_bus *bus, struct err *e)
{
    struct window mmio = {"memory", bus->conf.mmio_base, bus->conf.mmio_limit};
    struct window io = {"I/O", bus->conf.io_base, bus->conf.io_limit};

    for (unsigned d = 0; d < PCI_FUNCTIONS; d++) {
        if (bus->dev[d])
            pci_cfg_write(bus->dev[d], PCI_COMMAND, 0, 2);
    }
    for (unsigned shift = 63; shift >= 2; shift--) {
        int r = assign_size(bus, BIT(shift), &mmio, &io, e);

        if (r < 0)
            return r;
    }
    for (unsigned d = 0; d < PCI_FUNCTIONS; d++) {
        if (bus->dev[d])
            pci_cfg_write(bus->dev[d], PCI_COMMAND, PCI_CMD_MEM | PCI_CMD_IO,
                          2);
    }
    return 0;
}

/* What a guest cannot write must be what this device has: else the state is
 * another device's. */
static int post_load(void *obj, uint32_t version, struct err *e)
{
    struct pci_dev *dev = obj;

    (void)version;
    for (unsigned i = 0; i < PCI_CFG_BYTES; i++) {
        if ((dev->cfg[i] ^ dev->cfg_reset[i]) & (uint8_t)~dev->wmask[i])
            return err_set(e, -EINVAL,
                           "%s: saved PCI configuration byte 0x%02x is "
                           "0x%02x, this device has 0x%02x",
                           dev->name, i, dev->cfg[i], dev->cfg_reset[i]);
    }
    if (dev->msix_count < PCI_MSIX_MAX && dev->msix_pending >> dev->msix_count)
        return err_set(e, -EINVAL,
                       "%s: saved MSI-X pending bits 0x%llx are beyond its %u "
                       "vectors",
                       dev->name, (unsigned long long)dev->msix_pending,
                       dev->msix_count);
    for (unsigned i = 0; i < PCI_MSIX_MAX; i++) {
        dev->msix_table[4 * i] &= ~3U;
        dev->msix_table[4 * i + 3] &= PCI_MSIX_ENTRY_MASKED;
    }
    pci_decode_update(dev);
    pci_irq_update(dev, true);
    return 0;
}

static const struct state_field fields[] = {
    SF_BYTES(pci_dev, cfg, PCI_CFG_BYTES),
    SF_BOOL(pci_dev, intx_level),
    SF_U64(pci_dev, msix_pending),
    SF_U32A(pci_dev, msix_table, PCI_MSIX_MAX * 4),
    SF_END,
};

const struct state_desc pci_dev_state = {
    .name = "pci-dev",
    .version = 1,
    .min_version = 1,
    .fields = fields,
    .post_load = post_load,
};
