// SPDX-License-Identifier: Apache-2.0
/*
 * A function's interrupts: MSI-X vectors with their masks and pending bits,
 * and the INTA# pin. All under irq_lock, which a device may take with its own
 * lock held.
 *
 * A vector is held back (pending) while it or the function is masked, or while
 * the function may not write to memory at all (bus master off); it is sent when
 * the last reason goes away. Source: PCI 3.0 6.8.2, 6.8.3.5; 2.2.6, 6.2.2.
 */
#include "base/assert.h"
#include "dev/pci/pci_internal.h"

#include <string.h>

void pci_msix_add(struct pci_dev *dev, unsigned count, unsigned bar,
                  uint32_t table_off, uint32_t pba_off)
{
    unsigned off = pci_cap_add(dev, PCI_CAP_MSIX, PCI_MSIX_CAP_BYTES);
    uint8_t *c = dev->cfg_reset + off;

    ASSERT(count >= 1 && count <= PCI_MSIX_MAX && bar < PCI_BARS);
    ASSERT(!(table_off & 7) && !(pba_off & 7));
    pci_put16(c + PCI_MSIX_CTRL, (uint16_t)(count - 1));
    pci_put32(c + PCI_MSIX_TABLE, table_off | bar);
    pci_put32(c + PCI_MSIX_PBA, pba_off | bar);
    pci_put16(dev->wmask + off + PCI_MSIX_CTRL,
              PCI_MSIX_CTRL_ENABLE | PCI_MSIX_CTRL_MASK_ALL);
    dev->msix_cap = off;
    dev->msix_count = count;
}

static bool held_back(const struct pci_dev *dev, unsigned vec)
{
    uint16_t ctrl = atomic_load_explicit(&dev->msix_ctrl, memory_order_acquire);

    return (ctrl & PCI_MSIX_CTRL_MASK_ALL) || !pci_bus_master(dev) ||
           (dev->msix_table[4 * vec + 3] & PCI_MSIX_ENTRY_MASKED);
}

static void send_locked(struct pci_dev *dev, unsigned vec)
{
    const uint32_t *t = &dev->msix_table[4 * vec];

    irq_msi_send(&dev->bus->vm->msi, t[0] | (uint64_t)t[1] << 32, t[2]);
}

static void flush_pending_locked(struct pci_dev *dev)
{
    if (!pci_msix_enabled(dev))
        return;
    for (unsigned v = 0; v < dev->msix_count && dev->msix_pending; v++) {
        if ((dev->msix_pending & BIT(v)) && !held_back(dev, v)) {
            dev->msix_pending &= ~BIT(v);
            send_locked(dev, v);
        }
    }
}

void pci_msix_send(struct pci_dev *dev, unsigned vec)
{
    pthread_mutex_lock(&dev->irq_lock);
    if (pci_msix_enabled(dev) && vec < dev->msix_count) {
        if (held_back(dev, vec))
            dev->msix_pending |= BIT(vec);
        else
            send_locked(dev, vec);
    }
    pthread_mutex_unlock(&dev->irq_lock);
}

static void drive_locked(struct pci_dev *dev, bool force)
{
    uint16_t cmd = atomic_load_explicit(&dev->command, memory_order_acquire);
    bool out =
        dev->intx_level && !(cmd & PCI_CMD_INTX_OFF) && !pci_msix_enabled(dev);

    if (out == dev->intx_out && !force)
        return;
    dev->intx_out = out;
    irq_line_set(&dev->intx, out);
}

void pci_intx_set(struct pci_dev *dev, bool level)
{
    pthread_mutex_lock(&dev->irq_lock);
    dev->intx_level = level;
    drive_locked(dev, false);
    pthread_mutex_unlock(&dev->irq_lock);
}

void pci_irq_update(struct pci_dev *dev, bool force)
{
    pthread_mutex_lock(&dev->irq_lock);
    pci_mirror(dev);
    flush_pending_locked(dev);
    drive_locked(dev, force);
    pthread_mutex_unlock(&dev->irq_lock);
}

uint64_t pci_msix_table_read(struct pci_dev *dev, uint64_t off, unsigned size)
{
    uint64_t val = 0;

    if (size > 8 || off + size > dev->msix_count * PCI_MSIX_ENTRY_BYTES)
        return 0;
    pthread_mutex_lock(&dev->irq_lock);
    memcpy(&val, (uint8_t *)dev->msix_table + off, size);
    pthread_mutex_unlock(&dev->irq_lock);
    return val;
}

static void table_write4(struct pci_dev *dev, unsigned dword, uint32_t val)
{
    switch (dword & 3) {
    case 0: /* message address: bits 1-0 are always 0 */
        val &= ~3U;
        break;
    case 3: /* vector control: only the mask bit */
        val &= PCI_MSIX_ENTRY_MASKED;
        break;
    }
    dev->msix_table[dword] = val;
}

void pci_msix_table_write(struct pci_dev *dev, uint64_t off, uint64_t val,
                          unsigned size)
{
    if ((size != 4 && size != 8) || off % size ||
        off + size > dev->msix_count * PCI_MSIX_ENTRY_BYTES)
        return;
    pthread_mutex_lock(&dev->irq_lock);
    table_write4(dev, (unsigned)(off / 4), (uint32_t)val);
    if (size == 8)
        table_write4(dev, (unsigned)(off / 4 + 1), (uint32_t)(val >> 32));
    flush_pending_locked(dev);
    pthread_mutex_unlock(&dev->irq_lock);
}

uint64_t pci_msix_pba_read(struct pci_dev *dev, uint64_t off, unsigned size)
{
    uint64_t val = 0;

    if (off + size > sizeof dev->msix_pending)
        return 0;
    pthread_mutex_lock(&dev->irq_lock);
    memcpy(&val, (uint8_t *)&dev->msix_pending + off, size);
    pthread_mutex_unlock(&dev->irq_lock);
    return val;
}

static void or_set(void *ctx, unsigned input, bool level)
{
    struct pci_irq_or *gate = ctx;
    bool was, is;

    pthread_mutex_lock(&gate->lock);
    was = gate->levels != 0;
    if (level)
        gate->levels |= 1U << input;
    else
        gate->levels &= ~(1U << input);
    is = gate->levels != 0;
    if (is || was)
        irq_line_set(&gate->out, is);
    pthread_mutex_unlock(&gate->lock);
}

void pci_irq_or_init(struct pci_irq_or *gate, struct irq_line out)
{
    memset(gate, 0, sizeof *gate);
    pthread_mutex_init(&gate->lock, NULL);
    gate->out = out;
}

struct irq_line pci_irq_or_input(struct pci_irq_or *gate)
{
    if (gate->inputs >= 32)
        return (struct irq_line){0};
    return (struct irq_line){or_set, gate, gate->inputs++};
}
