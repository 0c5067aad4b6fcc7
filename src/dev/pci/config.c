// SPDX-License-Identifier: Apache-2.0
/*
 * One function's configuration space and what its BARs decode.
 *
 * cfg holds the bytes as the guest reads them; wmask says which bits a guest
 * may write. BAR sizing needs no special case: address bits below the size are
 * not writable, so all ones read back as the size's mask. After each write to
 * BARs or the command register the regions are brought in line.
 *
 * Source: PCI 3.0 6.1, 6.2.
 */
#include "base/assert.h"
#include "dev/pci/pci_internal.h"

#include <errno.h>
#include <string.h>

#define BAR_REG(i) (PCI_BAR0 + 4 * (i))
#define BARS_END   (PCI_BAR0 + 4 * PCI_BARS)
#define CMD_BITS                                                               \
    (PCI_CMD_MASTER | PCI_CMD_PARITY | PCI_CMD_SERR | PCI_CMD_INTX_OFF)

static bool overlaps(unsigned off, unsigned size, unsigned start, unsigned len)
{
    return off < start + len && start < off + size;
}

void pci_dev_init(struct pci_dev *dev, const char *name,
                  const struct pci_ids *ids, const struct pci_dev_ops *ops,
                  void *ctx)
{
    uint8_t *c = dev->cfg_reset;

    memset(dev, 0, sizeof *dev);
    dev->name = name;
    dev->ops = ops;
    dev->ctx = ctx;
    dev->cap_end = PCI_HEADER_END;
    pthread_mutex_init(&dev->irq_lock, NULL);
    pci_put16(c + PCI_VENDOR_ID, ids->vendor);
    pci_put16(c + PCI_DEVICE_ID, ids->device);
    c[PCI_REVISION] = ids->revision;
    c[PCI_CLASS_PROG] = (uint8_t)ids->class_code;
    pci_put16(c + PCI_CLASS_PROG + 1, (uint16_t)(ids->class_code >> 8));
    pci_put16(c + PCI_SUBSYS_VENDOR_ID, ids->subsys_vendor);
    pci_put16(c + PCI_SUBSYS_ID, ids->subsys);
    pci_put16(dev->wmask + PCI_COMMAND, CMD_BITS);
    dev->wmask[PCI_CACHE_LINE] = 0xff;
    dev->wmask[PCI_INT_LINE] = 0xff;
}

void pci_bar_add(struct pci_dev *dev, unsigned bar, enum pci_bar_type type,
                 uint64_t size, const struct bus_ops *bus_ops, void *ctx,
                 pthread_mutex_t *lock)
{
    struct pci_bar *b = &dev->bar[bar];
    unsigned reg = BAR_REG(bar);
    uint16_t cmd = pci_get16(dev->wmask + PCI_COMMAND);

    ASSERT(bar + (type == PCI_BAR_MEM64) < PCI_BARS);
    ASSERT(size >= (type == PCI_BAR_IO ? 4 : 16) && !(size & (size - 1)));
    b->type = type;
    b->size = size;
    b->region = (struct bus_region){.len = size,
                                    .ops = bus_ops,
                                    .dev = ctx,
                                    .lock = lock,
                                    .name = dev->name};
    pci_put32(dev->wmask + reg, (uint32_t) ~(size - 1));
    if (type == PCI_BAR_IO) {
        dev->cfg_reset[reg] = PCI_BAR_IS_IO;
        cmd |= PCI_CMD_IO;
    } else {
        cmd |= PCI_CMD_MEM;
    }
    if (type == PCI_BAR_MEM64) {
        dev->cfg_reset[reg] = PCI_BAR_IS_64;
        pci_put32(dev->wmask + reg + 4, (uint32_t)(~(size - 1) >> 32));
    }
    pci_put16(dev->wmask + PCI_COMMAND, cmd);
}

unsigned pci_cap_add(struct pci_dev *dev, uint8_t id, unsigned len)
{
    unsigned off = (dev->cap_end + 3) & ~3U;
    unsigned link = dev->cap_last ? dev->cap_last + 1 : PCI_CAP_PTR;

    ASSERT(off + len <= PCI_CFG_BYTES);
    dev->cfg_reset[link] = (uint8_t)off;
    dev->cfg_reset[off] = id;
    dev->cfg_reset[PCI_STATUS] |= PCI_STATUS_CAPS;
    dev->cap_last = off;
    dev->cap_end = off + len;
    return off;
}

/* Where BAR @i points to by its register, and whether that counts. Address 0
 * and the end of the address space (all ones while a driver sizes the BAR)
 * count as not assigned. */
static bool bar_wanted(const struct pci_dev *dev, unsigned i, uint64_t *base)
{
    const struct pci_bar *b = &dev->bar[i];
    uint64_t limit = UINT32_MAX;
    uint16_t need = PCI_CMD_MEM;

    *base = pci_get32(dev->cfg + BAR_REG(i));
    if (b->type == PCI_BAR_IO) {
        *base &= ~(uint64_t)PCI_BAR_IO_MASK;
        limit = UINT16_MAX;
        need = PCI_CMD_IO;
    } else {
        *base &= ~(uint64_t)PCI_BAR_MEM_MASK;
    }
    if (b->type == PCI_BAR_MEM64) {
        *base |= (uint64_t)pci_get32(dev->cfg + BAR_REG(i) + 4) << 32;
        limit = UINT64_MAX;
    }
    if (!(pci_get16(dev->cfg + PCI_COMMAND) & need) || *base == 0)
        return false;
    return *base < limit && b->size - 1 < limit - *base;
}

static struct bus *bar_bus(const struct pci_dev *dev, const struct pci_bar *b)
{
    struct vm *vm = dev->bus->vm;

    return b->type == PCI_BAR_IO ? vm->pio : vm->mmio;
}

static void bar_set_blocked(struct pci_dev *dev, struct pci_bar *b,
                            bool blocked)
{
    if (b->blocked == blocked)
        return;
    b->blocked = blocked;
    dev->bus->blocked += blocked ? 1U : -1U;
}

/* Return: whether a region went away (others may fit now). */
static bool bar_update(struct pci_dev *dev, unsigned i)
{
    struct pci_bar *b = &dev->bar[i];
    bool freed = false, wanted;
    uint64_t base;

    if (b->type == PCI_BAR_NONE)
        return false;
    wanted = bar_wanted(dev, i, &base);
    if (b->region.mapped && (!wanted || b->region.start != base)) {
        bus_remove(bar_bus(dev, b), &b->region);
        freed = true;
    }
    if (!wanted) {
        bar_set_blocked(dev, b, false);
    } else if (!b->region.mapped) {
        b->region.start = base;
        bar_set_blocked(dev, b, bus_add(bar_bus(dev, b), &b->region, NULL) < 0);
    }
    return freed;
}

static void retry_blocked(struct pci_bus *bus)
{
    for (unsigned d = 0; d < PCI_FUNCTIONS && bus->blocked; d++) {
        for (unsigned i = 0; bus->dev[d] && i < PCI_BARS; i++) {
            if (bus->dev[d]->bar[i].blocked)
                bar_update(bus->dev[d], i);
        }
    }
}

void pci_decode_update(struct pci_dev *dev)
{
    bool freed = false;

    if (!dev->bus)
        return;
    for (unsigned i = 0; i < PCI_BARS; i++)
        freed |= bar_update(dev, i);
    if (freed && dev->bus->blocked)
        retry_blocked(dev->bus);
}

void pci_decode_off(struct pci_dev *dev)
{
    for (unsigned i = 0; dev->bus && i < PCI_BARS; i++) {
        struct pci_bar *b = &dev->bar[i];

        if (b->type != PCI_BAR_NONE && b->region.mapped)
            bus_remove(bar_bus(dev, b), &b->region);
        bar_set_blocked(dev, b, false);
    }
}

uint64_t pci_bar_base(const struct pci_dev *dev, unsigned bar)
{
    const struct pci_bar *b = &dev->bar[bar];

    return b->region.mapped ? b->region.start : 0;
}

uint32_t pci_cfg_read(struct pci_dev *dev, unsigned off, unsigned size)
{
    uint32_t val = 0;

    if (off + size > PCI_CFG_BYTES)
        return (uint32_t)BITS(size * 8 - 1, 0);
    if (dev->ops && dev->ops->cfg_read)
        dev->ops->cfg_read(dev->ctx, off, size);
    for (unsigned i = 0; i < size; i++)
        val |= (uint32_t)dev->cfg[off + i] << (8 * i);
    if (overlaps(off, size, PCI_STATUS, 1)) {
        pthread_mutex_lock(&dev->irq_lock);
        if (dev->intx_level && !pci_msix_enabled(dev))
            val |= (uint32_t)PCI_STATUS_INTX << (8 * (PCI_STATUS - off));
        pthread_mutex_unlock(&dev->irq_lock);
    }
    return val;
}

void pci_mirror(struct pci_dev *dev)
{
    atomic_store_explicit(&dev->command, pci_get16(dev->cfg + PCI_COMMAND),
                          memory_order_release);
    if (dev->msix_cap)
        atomic_store_explicit(
            &dev->msix_ctrl,
            pci_get16(dev->cfg + dev->msix_cap + PCI_MSIX_CTRL),
            memory_order_release);
}

void pci_cfg_write(struct pci_dev *dev, unsigned off, uint32_t val,
                   unsigned size)
{
    uint16_t old_cmd = pci_get16(dev->cfg + PCI_COMMAND);
    bool cmd_changed;

    if (off + size > PCI_CFG_BYTES)
        return;
    for (unsigned i = 0; i < size; i++) {
        uint8_t m = dev->wmask[off + i];
        uint8_t b = (uint8_t)(val >> (8 * i));

        dev->cfg[off + i] = (uint8_t)((dev->cfg[off + i] & ~m) | (b & m));
    }
    cmd_changed = pci_get16(dev->cfg + PCI_COMMAND) != old_cmd;
    if (cmd_changed || overlaps(off, size, PCI_BAR0, BARS_END - PCI_BAR0))
        pci_decode_update(dev);
    if (cmd_changed ||
        (dev->msix_cap && overlaps(off, size, dev->msix_cap, PCI_MSIX_TABLE)))
        pci_irq_update(dev, false);
    if (cmd_changed && dev->ops && dev->ops->command_changed)
        dev->ops->command_changed(dev->ctx);
    if (dev->ops && dev->ops->cfg_written)
        dev->ops->cfg_written(dev->ctx, off, size);
}

void pci_dev_reset(struct pci_dev *dev)
{
    if (dev->ops && dev->ops->reset)
        dev->ops->reset(dev->ctx);
    pci_decode_off(dev);
    memcpy(dev->cfg, dev->cfg_reset, sizeof dev->cfg);
    pthread_mutex_lock(&dev->irq_lock);
    memset(dev->msix_table, 0, sizeof dev->msix_table);
    for (unsigned i = 0; i < PCI_MSIX_MAX; i++)
        dev->msix_table[4 * i + 3] = PCI_MSIX_ENTRY_MASKED;
    dev->msix_pending = 0;
    dev->intx_level = false;
    pthread_mutex_unlock(&dev->irq_lock);
    pci_irq_update(dev, true);
}

int pci_dev_add(struct pci_bus *bus, struct pci_dev *dev, unsigned devfn,
                struct irq_line intx, struct err *e)
{
    int r;

    if (devfn >= PCI_FUNCTIONS || bus->dev[devfn])
        return err_set(e, -EEXIST, "%s: PCI slot %u.%u is taken or absent",
                       dev->name, devfn >> 3, devfn & 7);
    r = state_list_add(bus->vm->state, &pci_dev_state, devfn, dev);
    if (r < 0)
        return err_set(e, r, "%s: no memory for the state list", dev->name);
    dev->bus = bus;
    dev->devfn = devfn;
    dev->intx = intx;
    if (intx.set)
        dev->cfg_reset[PCI_INT_PIN] = 1; /* INTA# */
    bus->dev[devfn] = dev;
    memcpy(dev->cfg, dev->cfg_reset, sizeof dev->cfg);
    for (unsigned i = 0; i < PCI_MSIX_MAX; i++)
        dev->msix_table[4 * i + 3] = PCI_MSIX_ENTRY_MASKED;
    pci_irq_update(dev, false);
    return 0;
}

void pci_dev_remove(struct pci_dev *dev)
{
    if (!dev->bus)
        return;
    pci_decode_off(dev);
    dev->bus->dev[dev->devfn] = NULL;
    dev->bus = NULL;
    pthread_mutex_destroy(&dev->irq_lock);
}
