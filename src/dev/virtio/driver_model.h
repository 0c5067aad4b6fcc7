// SPDX-License-Identifier: Apache-2.0
/*
 * For tests: a VM without a CPU, and a virtio driver that builds split rings in
 * guest memory and drives registers through the I/O buses, as a guest would.
 */
#ifndef DOPPEL_DEV_VIRTIO_DRIVER_MODEL_H
#define DOPPEL_DEV_VIRTIO_DRIVER_MODEL_H

#include "dev/virtio/virtio.h"

#include <stdlib.h>
#include <string.h>

#define DM_SLOT     3
#define DM_MSI_DATA 0x40 /* + vector */
#define DM_NEXT     1
#define DM_WRITE    2
#define DM_INDIRECT 4

struct dm_vm {
    struct vm vm;
    struct pci_bus *bus;
    _Atomic unsigned msis[4]; /* by vector */
    _Atomic bool line;
};

/* One queue's rings, as the driver keeps them. */
struct dm_queue {
    struct dm_vm *m;
    uint64_t bar;
    unsigned index;
    uint16_t size;
    uint64_t desc, avail, used;
    uint16_t avail_idx, used_seen;
};

static inline void dm_msi(void *ctx, uint64_t addr, uint32_t data)
{
    struct dm_vm *m = ctx;

    (void)addr;
    if (data - DM_MSI_DATA < 4)
        m->msis[data - DM_MSI_DATA]++;
}

static inline void dm_line(void *ctx, unsigned pin, bool level)
{
    (void)pin;
    ((struct dm_vm *)ctx)->line = level;
}

static inline struct irq_line dm_intx(struct dm_vm *m)
{
    return (struct irq_line){dm_line, m, 0};
}

static inline void dm_vm_init(struct dm_vm *m, uint64_t ram_bytes, bool scatter)
{
    struct mem_conf mc = {.ram_bytes = ram_bytes,
                          .low_limit = ram_bytes,
                          .scatter = scatter,
                          .seed = 1,
                          .memfd = -1};
    struct pci_bus_conf pc = {.mmio_base = 0xc0000000,
                              .mmio_limit = 0xfec00000};
    struct clock *clk = clock_create(CLOCK_MODE_VIRTUAL, 1000000, 0);
    struct mem *mem;

    memset(m, 0, sizeof *m);
    if (!clk || mem_create(&mc, &mem, NULL) < 0 ||
        vm_init(&m->vm, mem, clk, NULL) < 0 ||
        pci_bus_create(&m->vm, &pc, &m->bus, NULL) < 0)
        abort();
    m->vm.msi = (struct irq_msi){dm_msi, m};
}

static inline void dm_vm_fini(struct dm_vm *m)
{
    pci_bus_destroy(m->bus);
    vm_fini(&m->vm);
}

/* ---- registers ---- */

static inline void dm_cfg_write(struct dm_vm *m, unsigned reg, uint32_t val,
                                unsigned size)
{
    bus_write(m->vm.pio, 0xcf8, 0x80000000U | DM_SLOT << 11 | (reg & 0xfc), 4);
    bus_write(m->vm.pio, 0xcfc + (reg & 3), val, size);
}

static inline uint32_t dm_cfg_read(struct dm_vm *m, unsigned reg, unsigned size)
{
    bus_write(m->vm.pio, 0xcf8, 0x80000000U | DM_SLOT << 11 | (reg & 0xfc), 4);
    return (uint32_t)bus_read(m->vm.pio, 0xcfc + (reg & 3), size);
}

static inline uint64_t dm_read(struct dm_queue *q, uint64_t off, unsigned size)
{
    return bus_read(q->m->vm.mmio, q->bar + off, size);
}

static inline void dm_write(struct dm_queue *q, uint64_t off, uint64_t val,
                            unsigned size)
{
    bus_write(q->m->vm.mmio, q->bar + off, val, size);
}

static inline uint8_t dm_status(struct dm_queue *q)
{
    return (uint8_t)dm_read(q, VIRTIO_C_STATUS, 1);
}

/* The offset of the MSI-X capability, or 0. */
static inline unsigned dm_msix_cap(struct dm_vm *m)
{
    unsigned cap = dm_cfg_read(m, PCI_CAP_PTR, 1);

    while (cap && dm_cfg_read(m, cap, 1) != PCI_CAP_MSIX)
        cap = dm_cfg_read(m, cap + 1, 1);
    return cap;
}

/* Decoding, bus mastering and, with @msix, all vectors unmasked. */
static inline void dm_attach(struct dm_queue *q, struct dm_vm *m, bool msix)
{
    memset(q, 0, sizeof *q);
    q->m = m;
    if (pci_bus_assign(m->bus, NULL) < 0)
        abort();
    dm_cfg_write(m, PCI_COMMAND, PCI_CMD_MEM | PCI_CMD_MASTER, 2);
    q->bar = dm_cfg_read(m, PCI_BAR0, 4) & ~0xfULL;
    if (!msix)
        return;
    dm_cfg_write(m, dm_msix_cap(m) + PCI_MSIX_CTRL, PCI_MSIX_CTRL_ENABLE, 2);
    for (unsigned v = 0; v < 4; v++) {
        dm_write(q, VIRTIO_BAR_MSIX + 16 * v, 0xfee00000, 8);
        dm_write(q, VIRTIO_BAR_MSIX + 16 * v + 8, DM_MSI_DATA + v, 4);
        dm_write(q, VIRTIO_BAR_MSIX + 16 * v + 12, 0, 4);
    }
}

/* Steps 1 to 6 of virtio 1.2, 3.1.1. Return: whether FEATURES_OK stayed. */
static inline bool dm_negotiate(struct dm_queue *q, uint64_t features)
{
    dm_write(q, VIRTIO_C_STATUS, 0, 1);
    dm_write(q, VIRTIO_C_STATUS, VIRTIO_S_ACKNOWLEDGE, 1);
    dm_write(q, VIRTIO_C_STATUS, VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER, 1);
    for (unsigned i = 0; i < 2; i++) {
        dm_write(q, VIRTIO_C_GFSELECT, i, 4);
        dm_write(q, VIRTIO_C_GF, (uint32_t)(features >> (32 * i)), 4);
    }
    dm_write(q, VIRTIO_C_STATUS,
             VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_FEATURES_OK, 1);
    return (dm_status(q) & VIRTIO_S_FEATURES_OK) != 0;
}

/* Rings of @size at @base (page aligned), zeroed; MSI-X vectors 0 and 1. */
static inline void dm_queue_setup(struct dm_queue *q, unsigned index,
                                  uint16_t size, uint64_t base)
{
    q->index = index;
    q->size = size;
    q->desc = base;
    q->avail = q->desc + 16ULL * size;
    q->used = ALIGN_UP(q->avail + 6 + 2ULL * size, 4);
    q->avail_idx = q->used_seen = 0;
    if (mem_zero(q->m->vm.mem, gpa(base), q->used + 6 + 8ULL * size - base) < 0)
        abort();
    dm_write(q, VIRTIO_C_MSIX, 0, 2);
    dm_write(q, VIRTIO_C_QSELECT, index, 2);
    dm_write(q, VIRTIO_C_QSIZE, size, 2);
    dm_write(q, VIRTIO_C_QMSIX, 1, 2);
    dm_write(q, VIRTIO_C_QDESC, q->desc, 8);
    dm_write(q, VIRTIO_C_QAVAIL, (uint32_t)q->avail, 4);
    dm_write(q, VIRTIO_C_QAVAIL + 4, q->avail >> 32, 4);
    dm_write(q, VIRTIO_C_QUSED, q->used, 8);
    dm_write(q, VIRTIO_C_QENABLE, 1, 2);
}

static inline void dm_driver_ok(struct dm_queue *q)
{
    dm_write(q, VIRTIO_C_STATUS,
             VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_FEATURES_OK |
                 VIRTIO_S_DRIVER_OK,
             1);
}

/* All of it: reset, negotiation, one queue, DRIVER_OK. */
static inline bool dm_start(struct dm_queue *q, uint64_t features,
                            uint16_t size, uint64_t base)
{
    if (!dm_negotiate(q, features | VIRTIO_F_VERSION_1))
        return false;
    dm_queue_setup(q, 0, size, base);
    dm_driver_ok(q);
    return true;
}

/* ---- rings ---- */

static inline void dm_put(struct dm_queue *q, uint64_t at, const void *p,
                          size_t n)
{
    if (mem_write(q->m->vm.mem, gpa(at), p, n) < 0)
        abort();
}

static inline void dm_get(struct dm_queue *q, uint64_t at, void *p, size_t n)
{
    if (mem_read(q->m->vm.mem, gpa(at), p, n) < 0)
        abort();
}

static inline void dm_put16(struct dm_queue *q, uint64_t at, uint16_t v)
{
    struct mem_iov iov;

    if (mem_get(q->m->vm.mem, gpa(at), 2, MEM_WRITE, &iov, 1) != 1)
        abort();
    __atomic_store_n((uint16_t *)(void *)iov.hva, v, __ATOMIC_SEQ_CST);
    mem_put(q->m->vm.mem, &iov, 1, true);
}

static inline uint16_t dm_get16(struct dm_queue *q, uint64_t at)
{
    struct mem_iov iov;
    uint16_t v;

    if (mem_get(q->m->vm.mem, gpa(at), 2, MEM_READ, &iov, 1) != 1)
        abort();
    v = __atomic_load_n((uint16_t *)(void *)iov.hva, __ATOMIC_SEQ_CST);
    mem_put(q->m->vm.mem, &iov, 1, false);
    return v;
}

/* Write entry @i of the descriptor table at @table. */
static inline void dm_desc_at(struct dm_queue *q, uint64_t table, unsigned i,
                              uint64_t addr, uint32_t len, uint16_t flags,
                              uint16_t next)
{
    uint8_t d[16];

    memcpy(d, &addr, 8);
    memcpy(d + 8, &len, 4);
    memcpy(d + 12, &flags, 2);
    memcpy(d + 14, &next, 2);
    dm_put(q, table + 16ULL * i, d, sizeof d);
}

static inline void dm_desc(struct dm_queue *q, unsigned i, uint64_t addr,
                           uint32_t len, uint16_t flags, uint16_t next)
{
    dm_desc_at(q, q->desc, i, addr, len, flags, next);
}

/* Make the chain that begins at @head available (no notification). */
static inline void dm_offer(struct dm_queue *q, uint16_t head)
{
    dm_put16(q, q->avail + 4 + 2ULL * (q->avail_idx % q->size), head);
    dm_put16(q, q->avail + 2, ++q->avail_idx);
}

static inline void dm_kick(struct dm_queue *q)
{
    dm_write(q, VIRTIO_BAR_NOTIFY + VIRTIO_NOTIFY_MULT * q->index, q->index, 2);
}

/* The next used chain. Return: false: none. */
static inline bool dm_used(struct dm_queue *q, uint32_t *id, uint32_t *len)
{
    uint64_t at = q->used + 4 + 8ULL * (q->used_seen % q->size);

    if (dm_get16(q, q->used + 2) == q->used_seen)
        return false;
    dm_get(q, at, id, 4);
    dm_get(q, at + 4, len, 4);
    q->used_seen++;
    return true;
}

static inline void dm_used_event(struct dm_queue *q, uint16_t v)
{
    dm_put16(q, q->avail + 4 + 2ULL * q->size, v);
}

static inline uint16_t dm_avail_event(struct dm_queue *q)
{
    return dm_get16(q, q->used + 4 + 8ULL * q->size);
}

#endif
