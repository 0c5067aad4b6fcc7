// SPDX-License-Identifier: Apache-2.0
/*
 * The PCI side of a virtio device: one 64-bit memory BAR with a page for each
 * structure, the capabilities that point to them, and the window through
 * configuration space (for firmware that has not mapped the BAR).
 *
 * Source: virtio 1.2, 4.1.
 */
#include "dev/virtio/virtio_internal.h"

#include <string.h>

#define REVISION       1
#define DEVICE_ID_BASE 0x1040

#define CAP_BYTES      16
#define CAP_MORE_BYTES 20 /* notify: multiplier; PCI window: data */
#define CAP_LEN        2
#define CAP_TYPE       3
#define CAP_BAR        4
#define CAP_OFFSET     8
#define CAP_LENGTH     12
#define CAP_DATA       16

/* ---- BAR accesses: no lock held on entry ---- */

static uint64_t isr_read(struct virtio_dev *vd)
{
    uint8_t isr = vd->isr;

    vd->isr = 0;
    pci_intx_set(&vd->pci, false);
    return isr;
}

static uint64_t device_read(const struct virtio_dev *vd, unsigned off,
                            unsigned size)
{
    uint64_t val = 0;

    if (off + size <= vd->class->cfg_bytes)
        memcpy(&val, vd->cfg + off, size);
    return val;
}

static void device_write(struct virtio_dev *vd, unsigned off, uint64_t val,
                         unsigned size)
{
    if (off + size > vd->class->cfg_bytes)
        return;
    for (unsigned i = 0; i < size; i++) {
        uint8_t m = vd->cfg_wmask[off + i];
        uint8_t b = (uint8_t)(val >> (8 * i));

        vd->cfg[off + i] = (uint8_t)((vd->cfg[off + i] & ~m) | (b & m));
    }
    if (vd->class->cfg_written)
        vd->class->cfg_written(vd->ctx, off, size);
}

static uint64_t bar_read(void *ctx, uint64_t off, unsigned size)
{
    struct virtio_dev *vd = ctx;
    unsigned in_page = (unsigned)(off & 0xfff);
    uint64_t val = 0;

    if (in_page + size > 0x1000)
        return 0;
    switch (off & ~UINT64_C(0xfff)) {
    case VIRTIO_BAR_MSIX:
        return pci_msix_table_read(&vd->pci, in_page, size);
    case VIRTIO_BAR_PBA:
        return pci_msix_pba_read(&vd->pci, in_page, size);
    }
    pthread_mutex_lock(&vd->lock);
    switch (off & ~UINT64_C(0xfff)) {
    case VIRTIO_BAR_COMMON:
        if (in_page + size <= VIRTIO_C_BYTES)
            val = virtio_common_read(vd, in_page, size);
        break;
    case VIRTIO_BAR_ISR:
        if (in_page == 0)
            val = isr_read(vd);
        break;
    case VIRTIO_BAR_DEVICE:
        val = device_read(vd, in_page, size);
        break;
    }
    pthread_mutex_unlock(&vd->lock);
    return val;
}

static void common_write(struct virtio_dev *vd, unsigned off, uint64_t val,
                         unsigned size)
{
    bool started = false;

    if (off + size > VIRTIO_C_BYTES)
        return;
    pthread_mutex_lock(&vd->lock);
    if (size == 8) {
        virtio_common_write(vd, off, (uint32_t)val, 4);
        virtio_common_write(vd, off + 4, val >> 32, 4);
    } else {
        started = virtio_common_write(vd, off, val, size);
    }
    pthread_mutex_unlock(&vd->lock);
    if (started)
        virtio_notify_all(vd);
}

static void bar_write(void *ctx, uint64_t off, uint64_t val, unsigned size)
{
    struct virtio_dev *vd = ctx;
    unsigned in_page = (unsigned)(off & 0xfff);

    if (in_page + size > 0x1000)
        return;
    switch (off & ~UINT64_C(0xfff)) {
    case VIRTIO_BAR_COMMON:
        common_write(vd, in_page, val, size);
        break;
    case VIRTIO_BAR_DEVICE:
        pthread_mutex_lock(&vd->lock);
        device_write(vd, in_page, val, size);
        pthread_mutex_unlock(&vd->lock);
        break;
    case VIRTIO_BAR_NOTIFY:
        atomic_fetch_add_explicit(&vd->stats.notifies, 1, memory_order_relaxed);
        if (in_page / VIRTIO_NOTIFY_MULT < vd->class->nqueues)
            vd->class->notify(vd->ctx, in_page / VIRTIO_NOTIFY_MULT);
        break;
    case VIRTIO_BAR_MSIX:
        pci_msix_table_write(&vd->pci, in_page, val, size);
        break;
    }
}

static const struct bus_ops bar_ops = {bar_read, bar_write};

/* ---- configuration space ---- */

static uint32_t cfg_u32(const struct virtio_dev *vd, unsigned off)
{
    uint32_t v;

    memcpy(&v, vd->pci.cfg + off, sizeof v);
    return v;
}

/* What the window's registers select. Return: false: nothing valid. */
static bool window(const struct virtio_dev *vd, unsigned off, unsigned size,
                   uint32_t *bar_off, unsigned *len)
{
    unsigned data = vd->pci_cfg_cap + CAP_DATA;

    *bar_off = cfg_u32(vd, vd->pci_cfg_cap + CAP_OFFSET);
    *len = cfg_u32(vd, vd->pci_cfg_cap + CAP_LENGTH);
    return off < data + 4 && data < off + size &&
           vd->pci.cfg[vd->pci_cfg_cap + CAP_BAR] == VIRTIO_BAR &&
           (*len == 1 || *len == 2 || *len == 4) && *bar_off % *len == 0 &&
           *bar_off <= VIRTIO_BAR_BYTES - *len;
}

static void cfg_read(void *ctx, unsigned off, unsigned size)
{
    struct virtio_dev *vd = ctx;
    uint32_t bar_off, val;
    unsigned len;

    if (!window(vd, off, size, &bar_off, &len))
        return;
    val = (uint32_t)bar_read(vd, bar_off, len);
    memcpy(vd->pci.cfg + vd->pci_cfg_cap + CAP_DATA, &val, sizeof val);
}

static void cfg_written(void *ctx, unsigned off, unsigned size)
{
    struct virtio_dev *vd = ctx;
    uint32_t bar_off;
    unsigned len;

    if (window(vd, off, size, &bar_off, &len))
        bar_write(vd, bar_off,
                  cfg_u32(vd, vd->pci_cfg_cap + CAP_DATA) &
                      BITS(8 * len - 1, 0),
                  len);
}

/* Work that waited for bus mastering. */
static void command_changed(void *ctx)
{
    struct virtio_dev *vd = ctx;

    if (pci_bus_master(&vd->pci))
        virtio_notify_all(vd);
}

static void pci_reset(void *ctx)
{
    struct virtio_dev *vd = ctx;

    pthread_mutex_lock(&vd->lock);
    virtio_reset(vd);
    pthread_mutex_unlock(&vd->lock);
}

static const struct pci_dev_ops pci_ops = {
    .command_changed = command_changed,
    .cfg_read = cfg_read,
    .cfg_written = cfg_written,
    .reset = pci_reset,
};

static unsigned add_cap(struct virtio_dev *vd, uint8_t type, uint32_t off,
                        uint32_t len, unsigned cap_bytes)
{
    unsigned cap = pci_cap_add(&vd->pci, PCI_CAP_VENDOR, cap_bytes);
    uint8_t *c = vd->pci.cfg_reset + cap;

    c[CAP_LEN] = (uint8_t)cap_bytes;
    c[CAP_TYPE] = type;
    c[CAP_BAR] = VIRTIO_BAR;
    memcpy(c + CAP_OFFSET, &off, sizeof off);
    memcpy(c + CAP_LENGTH, &len, sizeof len);
    return cap;
}

void virtio_pci_setup(struct virtio_dev *vd)
{
    const struct virtio_class *class = vd->class;
    uint16_t id = (uint16_t)(DEVICE_ID_BASE + class->device_id);
    struct pci_ids ids = {.vendor = VIRTIO_VENDOR,
                          .device = id,
                          .subsys_vendor = VIRTIO_VENDOR,
                          .subsys = id,
                          .revision = REVISION,
                          .class_code = class->pci_class};
    unsigned cap;

    pci_dev_init(&vd->pci, class->name, &ids, &pci_ops, vd);
    pci_bar_add(&vd->pci, VIRTIO_BAR, PCI_BAR_MEM64, VIRTIO_BAR_BYTES, &bar_ops,
                vd, NULL);
    add_cap(vd, VIRTIO_CAP_COMMON, VIRTIO_BAR_COMMON, VIRTIO_C_BYTES,
            CAP_BYTES);
    add_cap(vd, VIRTIO_CAP_ISR, VIRTIO_BAR_ISR, 1, CAP_BYTES);
    add_cap(vd, VIRTIO_CAP_DEVICE, VIRTIO_BAR_DEVICE, class->cfg_bytes,
            CAP_BYTES);
    cap = add_cap(vd, VIRTIO_CAP_NOTIFY, VIRTIO_BAR_NOTIFY,
                  VIRTIO_NOTIFY_MULT * class->nqueues, CAP_MORE_BYTES);
    vd->pci.cfg_reset[cap + CAP_DATA] = VIRTIO_NOTIFY_MULT;
    cap = add_cap(vd, VIRTIO_CAP_PCI_CFG, 0, 0, CAP_MORE_BYTES);
    vd->pci.wmask[cap + CAP_BAR] = 0xff;
    memset(vd->pci.wmask + cap + CAP_OFFSET, 0xff, 12);
    vd->pci_cfg_cap = cap;
    pci_msix_add(&vd->pci, class->nqueues + 1U, VIRTIO_BAR, VIRTIO_BAR_MSIX,
                 VIRTIO_BAR_PBA);
}
