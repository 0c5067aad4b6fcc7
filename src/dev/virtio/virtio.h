// SPDX-License-Identifier: Apache-2.0
/*
 * A virtio device on PCI (modern interface only): registers, feature
 * negotiation, status, queues and interrupts. A device class embeds a struct
 * virtio_dev, gives it a struct virtio_class, and handles its queues.
 *
 * Locks: pci_bus.lock > virtio_dev.lock > pci_dev.irq_lock. The transport takes
 * virtio_dev.lock itself (its BAR has no lock on the I/O bus), so that a class
 * can start host I/O without it and a device reset can wait for that I/O.
 * Source: virtio 1.2, chapters 2, 3 and 4.1.
 */
#ifndef DOPPEL_DEV_VIRTIO_VIRTIO_H
#define DOPPEL_DEV_VIRTIO_VIRTIO_H

#include "base/bits.h"
#include "base/cc.h"
#include "base/err.h"
#include "base/log.h"
#include "dev/pci/pci.h"
#include "dev/virtio/vq.h"
#include "vm/vm.h"

#include <pthread.h>
#include <stdatomic.h>

#define VIRTIO_QUEUES_MAX 16
#define VIRTIO_CFG_MAX    128
#define VIRTIO_NO_VECTOR  0xffff
#define VIRTIO_VENDOR     0x1af4
#define VIRTIO_BAR        0
#define VIRTIO_BAR_BYTES  0x8000

/* Where the structures lie in the BAR; a page each. */
#define VIRTIO_BAR_COMMON  0x0000
#define VIRTIO_BAR_ISR     0x1000
#define VIRTIO_BAR_DEVICE  0x2000
#define VIRTIO_BAR_NOTIFY  0x3000
#define VIRTIO_BAR_MSIX    0x4000
#define VIRTIO_BAR_PBA     0x5000
#define VIRTIO_NOTIFY_MULT 4

/* Device status. Source: virtio 1.2, 2.1. */
#define VIRTIO_S_ACKNOWLEDGE 0x01
#define VIRTIO_S_DRIVER      0x02
#define VIRTIO_S_DRIVER_OK   0x04
#define VIRTIO_S_FEATURES_OK 0x08
#define VIRTIO_S_NEEDS_RESET 0x40
#define VIRTIO_S_FAILED      0x80

/* ISR status. Source: virtio 1.2, 4.1.4.5. */
#define VIRTIO_ISR_QUEUE  0x1
#define VIRTIO_ISR_CONFIG 0x2

/* Feature bits of every device. Source: virtio 1.2, chapter 6. */
#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX     BIT(29)
#define VIRTIO_F_VERSION_1     BIT(32)

/* Common configuration: byte offsets. Source: virtio 1.2, 4.1.4.3. */
#define VIRTIO_C_DFSELECT 0x00
#define VIRTIO_C_DF       0x04
#define VIRTIO_C_GFSELECT 0x08
#define VIRTIO_C_GF       0x0c
#define VIRTIO_C_MSIX     0x10
#define VIRTIO_C_NUMQ     0x12
#define VIRTIO_C_STATUS   0x14
#define VIRTIO_C_CFGGEN   0x15
#define VIRTIO_C_QSELECT  0x16
#define VIRTIO_C_QSIZE    0x18
#define VIRTIO_C_QMSIX    0x1a
#define VIRTIO_C_QENABLE  0x1c
#define VIRTIO_C_QNOFF    0x1e
#define VIRTIO_C_QDESC    0x20
#define VIRTIO_C_QAVAIL   0x28
#define VIRTIO_C_QUSED    0x30
#define VIRTIO_C_BYTES    0x38

/* Capability types. Source: virtio 1.2, 4.1.4. */
#define VIRTIO_CAP_COMMON  1
#define VIRTIO_CAP_NOTIFY  2
#define VIRTIO_CAP_ISR     3
#define VIRTIO_CAP_DEVICE  4
#define VIRTIO_CAP_PCI_CFG 5

struct virtio_class {
    const char *name;
    uint16_t device_id; /* virtio 1.2, chapter 5 */
    uint32_t pci_class;
    uint16_t nqueues;
    uint16_t queue_size; /* a power of two, at most VQ_SIZE_MAX */
    uint16_t cfg_bytes;
    /* Queue @q may have work. No lock held. Thread: any. */
    void (*notify)(void *ctx, unsigned q);
    /* The driver wrote device configuration. Lock held. May be NULL. */
    void (*cfg_written)(void *ctx, unsigned off, unsigned size);
    /* Device reset: nothing is in flight. Lock held. May be NULL. */
    void (*reset)(void *ctx);
};

struct virtio_stats {
    _Atomic uint64_t notifies;
    _Atomic uint64_t chains;
    _Atomic uint64_t irqs;
    _Atomic uint64_t misuses; /* times that NEEDS_RESET was set */
};

/* Embedded in its device. Classes use vm, lock, vq, cfg and driver_features;
 * the rest is the transport's. */
struct virtio_dev {
    struct vm *vm;
    const struct virtio_class *class;
    void *ctx;
    struct pci_dev pci;
    pthread_mutex_t lock;
    pthread_cond_t idle; /* a queue's in_flight became 0 */
    bool resetting;      /* waits for in_flight: nothing new is taken */
    uint64_t features;   /* offered */
    uint64_t driver_features;
    uint32_t feature_select, driver_feature_select;
    uint8_t status, isr, generation;
    uint16_t config_vector, queue_select;
    uint8_t cfg[VIRTIO_CFG_MAX];
    uint8_t cfg_wmask[VIRTIO_CFG_MAX]; /* bytes that the driver may write */
    unsigned pci_cfg_cap;
    struct vq vq[VIRTIO_QUEUES_MAX];
    uint8_t indirect[VQ_SIZE_MAX * 16]; /* the copied table of one walk */
    struct virtio_stats stats;
    struct log_limit log_limit;
};

/** virtio_init() - a device at @devfn of @bus
 * @class, @ctx: keeps; @features: those of the class (the transport adds
 *   VERSION_1, INDIRECT_DESC, EVENT_IDX); @cfg: class->cfg_bytes, copied
 * Adds its sections to vm->state. Return: 0, -EEXIST, -ENOMEM. */
MUST_CHECK int virtio_init(struct virtio_dev *vd, struct vm *vm,
                           struct pci_bus *bus, unsigned devfn,
                           struct irq_line intx,
                           const struct virtio_class *class, void *ctx,
                           uint64_t features, const void *cfg, struct err *e);
/* Nothing may be in flight. */
void virtio_fini(struct virtio_dev *vd);

/** virtio_drain() - wait until no chain is in flight. Lock not held. */
void virtio_drain(struct virtio_dev *vd);

/** virtio_misuse() - the driver broke the rules: NEEDS_RESET, a rate-limited
 * log line, a counter, a configuration interrupt. Lock held. */
void virtio_misuse(struct virtio_dev *vd, const char *fmt, ...)
    PRINTF_LIKE(2, 3);

/** virtio_queue_irq() - interrupt for queue @q, by MSI-X or pin. Lock held. */
void virtio_queue_irq(struct virtio_dev *vd, unsigned q);

/** virtio_config_changed() - cfg was changed by the device. Lock held. */
void virtio_config_changed(struct virtio_dev *vd);

/* Whether all bits of @feature were negotiated. Lock held. */
static inline bool virtio_has(const struct virtio_dev *vd, uint64_t feature)
{
    return (vd->driver_features & feature) == feature;
}

/* Whether queues may be worked on. Lock held. */
static inline bool virtio_running(const struct virtio_dev *vd)
{
    return (vd->status & VIRTIO_S_DRIVER_OK) &&
           !(vd->status & VIRTIO_S_NEEDS_RESET) && !vd->resetting &&
           pci_bus_master(&vd->pci);
}

#endif
