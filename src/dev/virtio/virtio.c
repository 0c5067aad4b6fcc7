// SPDX-License-Identifier: Apache-2.0
/*
 * The part of a virtio device that does not depend on PCI addresses: the
 * common configuration structure with feature negotiation, status and queue
 * set-up, reset, misuse, and the saved state.
 *
 * A write of a wrong width or at a wrong time is ignored and counted as misuse
 * only where going on would be unsafe. Source:
 * virtio 1.2, 2.1, 2.2, 3.1, 4.1.4.3.
 */
#include "dev/virtio/virtio.h"

#include "base/assert.h"
#include "dev/virtio/virtio_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define STATUS_DRIVER                                                          \
    (VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_DRIVER_OK |             \
     VIRTIO_S_FEATURES_OK | VIRTIO_S_FAILED)

/* ---- interrupts and misuse ---- */

static void interrupt(struct virtio_dev *vd, uint8_t isr_bit, uint16_t vector)
{
    bool msix = pci_msix_enabled(&vd->pci);

    atomic_fetch_add_explicit(&vd->stats.irqs, 1, memory_order_relaxed);
    if (!msix || isr_bit == VIRTIO_ISR_CONFIG)
        vd->isr |= isr_bit;
    if (!msix)
        pci_intx_set(&vd->pci, true);
    else if (vector != VIRTIO_NO_VECTOR)
        pci_msix_send(&vd->pci, vector);
}

void virtio_queue_irq(struct virtio_dev *vd, unsigned q)
{
    interrupt(vd, VIRTIO_ISR_QUEUE, vd->vq[q].vector);
}

void virtio_config_changed(struct virtio_dev *vd)
{
    vd->generation++;
    if (vd->status & VIRTIO_S_DRIVER_OK)
        interrupt(vd, VIRTIO_ISR_CONFIG, vd->config_vector);
}

void virtio_misuse(struct virtio_dev *vd, const char *fmt, ...)
{
    char what[160];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    log_guest(&vd->log_limit, vd->class->name, "driver error: %s", what);
    if (vd->status & VIRTIO_S_NEEDS_RESET)
        return;
    atomic_fetch_add_explicit(&vd->stats.misuses, 1, memory_order_relaxed);
    vd->status |= VIRTIO_S_NEEDS_RESET;
    if (vd->status & VIRTIO_S_DRIVER_OK)
        interrupt(vd, VIRTIO_ISR_CONFIG, vd->config_vector);
}

/* ---- reset ---- */

static bool busy(const struct virtio_dev *vd)
{
    for (unsigned i = 0; i < vd->class->nqueues; i++) {
        if (vd->vq[i].in_flight)
            return true;
    }
    return false;
}

static void wait_idle_locked(struct virtio_dev *vd)
{
    while (busy(vd))
        pthread_cond_wait(&vd->idle, &vd->lock);
}

void virtio_reset(struct virtio_dev *vd)
{
    vd->resetting = true;
    wait_idle_locked(vd);
    for (unsigned i = 0; i < vd->class->nqueues; i++)
        vq_reset(&vd->vq[i]);
    vd->status = vd->isr = 0;
    vd->driver_features = 0;
    vd->feature_select = vd->driver_feature_select = 0;
    vd->config_vector = VIRTIO_NO_VECTOR;
    vd->queue_select = 0;
    vd->resetting = false;
    if (vd->class->reset)
        vd->class->reset(vd->ctx);
    pci_intx_set(&vd->pci, false);
}

void virtio_drain(struct virtio_dev *vd)
{
    pthread_mutex_lock(&vd->lock);
    wait_idle_locked(vd);
    pthread_mutex_unlock(&vd->lock);
}

void virtio_notify_all(struct virtio_dev *vd)
{
    for (unsigned i = 0; i < vd->class->nqueues; i++)
        vd->class->notify(vd->ctx, i);
}

/* ---- the common configuration structure ---- */

static struct vq *selected(struct virtio_dev *vd)
{
    return vd->queue_select < vd->class->nqueues ? &vd->vq[vd->queue_select]
                                                 : NULL;
}

static uint32_t half(uint64_t bits, uint32_t select)
{
    return select > 1 ? 0 : (uint32_t)(bits >> (32 * select));
}

static void put(uint8_t *image, unsigned off, uint64_t val, unsigned size)
{
    memcpy(image + off, &val, size);
}

/* Reads may have any width: build the whole structure, hand out a part. */
static void common_image(struct virtio_dev *vd, uint8_t *image)
{
    const struct vq *vq = selected(vd);

    memset(image, 0, VIRTIO_C_BYTES);
    put(image, VIRTIO_C_DFSELECT, vd->feature_select, 4);
    put(image, VIRTIO_C_DF, half(vd->features, vd->feature_select), 4);
    put(image, VIRTIO_C_GFSELECT, vd->driver_feature_select, 4);
    put(image, VIRTIO_C_GF,
        half(vd->driver_features, vd->driver_feature_select), 4);
    put(image, VIRTIO_C_MSIX, vd->config_vector, 2);
    put(image, VIRTIO_C_NUMQ, vd->class->nqueues, 2);
    put(image, VIRTIO_C_STATUS, vd->status, 1);
    put(image, VIRTIO_C_CFGGEN, vd->generation, 1);
    put(image, VIRTIO_C_QSELECT, vd->queue_select, 2);
    if (!vq)
        return; /* size 0: no such queue */
    put(image, VIRTIO_C_QSIZE, vq->size, 2);
    put(image, VIRTIO_C_QMSIX, vq->vector, 2);
    put(image, VIRTIO_C_QENABLE, vq->enabled, 2);
    put(image, VIRTIO_C_QNOFF, vq->index, 2);
    put(image, VIRTIO_C_QDESC, vq->desc, 8);
    put(image, VIRTIO_C_QAVAIL, vq->driver, 8);
    put(image, VIRTIO_C_QUSED, vq->device, 8);
}

uint64_t virtio_common_read(struct virtio_dev *vd, unsigned off, unsigned size)
{
    uint8_t image[VIRTIO_C_BYTES];
    uint64_t val = 0;

    common_image(vd, image);
    memcpy(&val, image + off, size);
    return val;
}

static uint16_t valid_vector(const struct virtio_dev *vd, uint64_t val)
{
    return val < vd->pci.msix_count ? (uint16_t)val : VIRTIO_NO_VECTOR;
}

static void write_features(struct virtio_dev *vd, uint32_t val)
{
    unsigned shift = 32 * vd->driver_feature_select;

    if (vd->driver_feature_select > 1 || (vd->status & VIRTIO_S_FEATURES_OK))
        return;
    vd->driver_features = bits_set(vd->driver_features, shift + 31, shift, val);
}

/* Return: whether the device runs now and did not before. */
static bool write_status(struct virtio_dev *vd, uint8_t val)
{
    uint8_t rise;

    if (val == 0) {
        virtio_reset(vd);
        return false;
    }
    rise = val & (uint8_t)~vd->status & STATUS_DRIVER;
    if ((rise & VIRTIO_S_FEATURES_OK) &&
        ((vd->driver_features & ~vd->features) ||
         !virtio_has(vd, VIRTIO_F_VERSION_1)))
        rise &= (uint8_t)~VIRTIO_S_FEATURES_OK; /* 2.2.2: we don't accept */
    if ((rise & VIRTIO_S_DRIVER_OK) &&
        !((vd->status | rise) & VIRTIO_S_FEATURES_OK)) {
        rise &= (uint8_t)~VIRTIO_S_DRIVER_OK;
        virtio_misuse(vd, "DRIVER_OK before FEATURES_OK");
    }
    vd->status |= rise;
    return (rise & VIRTIO_S_DRIVER_OK) != 0;
}

static void write_enable(struct virtio_dev *vd, struct vq *vq, uint64_t val)
{
    const char *wrong;

    if (val != 1)
        return;
    wrong = vq_check_setup(vq);
    if (wrong)
        virtio_misuse(vd, "queue %u: %s", vq->index, wrong);
    else
        vq->enabled = true;
}

/* Ring addresses are written as two dwords (or, at once, as a qword that the
 * caller has split). */
static void write_ring(uint64_t *ring, unsigned off, uint32_t val)
{
    unsigned shift = off & 4 ? 32 : 0;

    *ring = bits_set(*ring, shift + 31, shift, val);
}

/* Registers of the selected queue. None but the vector may change once the
 * queue is enabled. Source: virtio 1.2, 4.1.4.3.2. */
static void write_queue(struct virtio_dev *vd, unsigned off, uint64_t val,
                        unsigned size)
{
    struct vq *vq = selected(vd);
    unsigned width = off >= VIRTIO_C_QDESC ? 4 : 2;

    if (!vq || size != width || off % width)
        return;
    if (off == VIRTIO_C_QMSIX)
        vq->vector = valid_vector(vd, val);
    if (vq->enabled)
        return;
    switch (off & ~7U) {
    case VIRTIO_C_QDESC:
        write_ring(&vq->desc, off, (uint32_t)val);
        return;
    case VIRTIO_C_QAVAIL:
        write_ring(&vq->driver, off, (uint32_t)val);
        return;
    case VIRTIO_C_QUSED:
        write_ring(&vq->device, off, (uint32_t)val);
        return;
    }
    if (off == VIRTIO_C_QENABLE)
        write_enable(vd, vq, val);
    else if (off == VIRTIO_C_QSIZE && val && val <= vq->size_max &&
             !(val & (val - 1)))
        vq->size = (uint16_t)val;
}

bool virtio_common_write(struct virtio_dev *vd, unsigned off, uint64_t val,
                         unsigned size)
{
    if (vd->resetting)
        return false;
    if (off >= VIRTIO_C_QSIZE) {
        write_queue(vd, off, val, size);
        return false;
    }
    if (off == VIRTIO_C_STATUS && size == 1)
        return write_status(vd, (uint8_t)val);
    if (off == VIRTIO_C_DFSELECT && size == 4)
        vd->feature_select = (uint32_t)val;
    else if (off == VIRTIO_C_GFSELECT && size == 4)
        vd->driver_feature_select = (uint32_t)val;
    else if (off == VIRTIO_C_GF && size == 4)
        write_features(vd, (uint32_t)val);
    else if (off == VIRTIO_C_MSIX && size == 2)
        vd->config_vector = valid_vector(vd, val);
    else if (off == VIRTIO_C_QSELECT && size == 2)
        vd->queue_select = (uint16_t)val;
    return false;
}

/* ---- construction ---- */

int virtio_init(struct virtio_dev *vd, struct vm *vm, struct pci_bus *bus,
                unsigned devfn, struct irq_line intx,
                const struct virtio_class *class, void *ctx, uint64_t features,
                const void *cfg, struct err *e)
{
    int r;

    ASSERT(class->nqueues >= 1 && class->nqueues <= VIRTIO_QUEUES_MAX);
    ASSERT(class->queue_size >= 1 && class->queue_size <= VQ_SIZE_MAX &&
           !(class->queue_size & (class->queue_size - 1)));
    ASSERT(class->cfg_bytes <= VIRTIO_CFG_MAX);
    memset(vd, 0, sizeof *vd);
    vd->vm = vm;
    vd->class = class;
    vd->ctx = ctx;
    vd->features = features | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC |
                   VIRTIO_F_EVENT_IDX;
    memcpy(vd->cfg, cfg, class->cfg_bytes);
    vd->config_vector = VIRTIO_NO_VECTOR;
    pthread_mutex_init(&vd->lock, NULL);
    pthread_cond_init(&vd->idle, NULL);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        vd->vq[i].vd = vd;
        vd->vq[i].index = (uint16_t)i;
        vd->vq[i].size_max = class->queue_size;
        vq_reset(&vd->vq[i]);
    }
    virtio_pci_setup(vd);
    r = pci_dev_add(bus, &vd->pci, devfn, intx, e);
    if (r < 0)
        goto fail;
    r = state_list_add(vm->state, &virtio_state, devfn, vd);
    if (r == 0)
        return 0;
    err_set(e, r, "%s: no memory for the state list", class->name);
fail:
    virtio_fini(vd);
    return r;
}

void virtio_fini(struct virtio_dev *vd)
{
    pci_dev_remove(&vd->pci);
    pthread_cond_destroy(&vd->idle);
    pthread_mutex_destroy(&vd->lock);
}
