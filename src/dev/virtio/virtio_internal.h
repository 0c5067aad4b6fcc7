// SPDX-License-Identifier: Apache-2.0
/* What the files of this folder share. */
#ifndef DOPPEL_DEV_VIRTIO_VIRTIO_INTERNAL_H
#define DOPPEL_DEV_VIRTIO_VIRTIO_INTERNAL_H

#include "dev/virtio/virtio.h"

extern const struct state_desc virtio_state;

/* virtio.c: the common configuration structure. Lock held for both; @off and
 * @size lie inside it. */
uint64_t virtio_common_read(struct virtio_dev *vd, unsigned off, unsigned size);
/* Return: true when the queues must be looked at (after the lock is free). */
bool virtio_common_write(struct virtio_dev *vd, unsigned off, uint64_t val,
                         unsigned size);
/* Wait for what is in flight, then reset. Lock held; let go while waiting. */
void virtio_reset(struct virtio_dev *vd);
/* Look at all enabled queues. Lock not held. */
void virtio_notify_all(struct virtio_dev *vd);

/* virtio_pci.c */
void virtio_pci_setup(struct virtio_dev *vd);

#endif
