// SPDX-License-Identifier: Apache-2.0
/*
 * A virtio block device: one queue in front of a struct blockdev.
 *
 * Requests are taken on the thread that notifies (a vCPU's) and run by the back
 * end, off that thread unless it is synchronous; completions come on the back
 * end's threads. Source: virtio 1.2, 5.2.
 */
#ifndef DOPPEL_DEV_VIRTIO_BLK_VIRTIO_BLK_H
#define DOPPEL_DEV_VIRTIO_BLK_VIRTIO_BLK_H

#include "base/cc.h"
#include "base/err.h"
#include "dev/virtio/virtio.h"
#include "vm/blockdev.h"

#define VIRTIO_BLK_ID_BYTES 20

struct virtio_blk_conf {
    struct blockdev bd;  /* the back end's; it must outlive the device */
    const char *serial;  /* borrows; cut at 20 bytes; NULL: empty */
    uint16_t queue_size; /* a power of two up to VQ_SIZE_MAX; 0: that */
};

struct virtio_blk;

/** virtio_blk_create() - a disk at @devfn of @bus
 * @intx: where INTA# goes. Adds its sections to vm->state.
 * Return: 0 and *out (gives), or -ENOMEM, -EEXIST with a sentence. */
MUST_CHECK int virtio_blk_create(struct vm *vm, struct pci_bus *bus,
                                 unsigned devfn, struct irq_line intx,
                                 const struct virtio_blk_conf *conf,
                                 struct virtio_blk **out, struct err *e);

/** virtio_blk_destroy() - drain and end; the back end stays the caller's */
void virtio_blk_destroy(struct virtio_blk *blk);

/** virtio_blk_drain() - wait until nothing is in flight: before state is read.
 * vCPUs parked, clock callbacks not running. */
void virtio_blk_drain(struct virtio_blk *blk);

/** virtio_blk_dev() - the transport, for counters and tests */
struct virtio_dev *virtio_blk_dev(struct virtio_blk *blk);

#endif
