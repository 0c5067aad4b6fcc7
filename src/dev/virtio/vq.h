// SPDX-License-Identifier: Apache-2.0
/*
 * A virtqueue, as a device sees it: take a chain of buffers, use it, give it
 * back. The ring's format stays behind vq_pop and vq_push (split rings:
 * vq_split.c; packed ones would be a second file behind the same functions).
 *
 * Everything in the ring is hostile. A descriptor is copied, the copy is
 * checked, the copy is used; a chain has at most as many descriptors as the
 * queue, at most 4 GiB, lies in RAM, readable part first. Anything else makes
 * the device NEEDS_RESET (virtio_misuse), and nothing worse.
 *
 * Locking: everything here but vq_chain_* needs the device's lock
 * (struct virtio_dev). Source: virtio 1.2, 2.6 and 2.7.
 */
#ifndef DOPPEL_DEV_VIRTIO_VQ_H
#define DOPPEL_DEV_VIRTIO_VQ_H

#include "base/cc.h"
#include "base/types.h"
#include "vm/mem.h"

#define VQ_SIZE_MAX    256
#define VQ_CHAIN_BYTES (UINT64_C(1) << 32) /* virtio 1.2, 2.7.5.3.1 */

struct virtio_dev;

struct vq {
    struct virtio_dev *vd;
    uint16_t index;
    uint16_t size_max;
    /* What the driver set */
    uint16_t size;
    uint16_t vector; /* MSI-X, or VIRTIO_NO_VECTOR */
    bool enabled;
    uint64_t desc, driver, device; /* GPAs: descriptors, avail, used ring */
    /* Positions in the rings; they wrap at 65536 */
    uint16_t avail_idx; /* next entry to take */
    uint16_t used_idx;  /* next entry to fill */
    uint16_t signalled; /* used_idx at the last vq_signal */
    uint16_t in_flight; /* popped, not pushed; not saved: 0 then */
};

struct vq_seg {
    gpa_t gpa;
    uint32_t len;
};

struct vq_chain {
    uint16_t id;            /* the ring's name for it */
    uint16_t nread, nwrite; /* segments: readable ones stand first */
    uint64_t read_bytes, write_bytes;
    struct vq_seg seg[VQ_SIZE_MAX];
};

/** vq_pop() - take the next available chain
 * @out: filled; zero-length descriptors are left out
 * Tells the driver where notifications are wanted when it finds nothing.
 * Return: 1 chain taken (the caller pushes it), 0 nothing there or the queue
 *   does not run, -EPROTO misuse (device is NEEDS_RESET). Cost: O(segments).
 * Source: virtio 1.2, 2.7.5, 2.7.6, 2.7.10. */
MUST_CHECK int vq_pop(struct vq *vq, struct vq_chain *out);

/** vq_push() - give a chain back, @written bytes from the start of its
 * writable part on were written. Does not interrupt: see vq_signal.
 * Passes the input gate (INPUT_DMA). Source: virtio 1.2, 2.7.8. */
void vq_push(struct vq *vq, const struct vq_chain *chain, uint32_t written);

/** vq_drop() - forget a chain without giving it back: the device is
 * NEEDS_RESET because of it */
void vq_drop(struct vq *vq, const struct vq_chain *chain);

/** vq_signal() - interrupt the driver if it wants to hear of what was pushed
 * since the last call. Source: virtio 1.2, 2.7.7.2, 2.7.10. */
void vq_signal(struct vq *vq);

/** vq_reset() - as after device reset */
void vq_reset(struct vq *vq);

/** vq_check_setup() - whether the rings' addresses are aligned and in RAM
 * Return: NULL, or what is wrong. */
const char *vq_check_setup(const struct vq *vq);

/** vq_chain_read() - copy out of the readable part, from byte @off on
 * Return: bytes copied; fewer than @len only at the part's end. */
size_t vq_chain_read(struct mem *mem, const struct vq_chain *chain,
                     uint64_t off, void *buf, size_t len);

/** vq_chain_write() - copy into the writable part, from byte @off on
 * Return: bytes copied; fewer than @len only at the part's end. */
size_t vq_chain_write(struct mem *mem, const struct vq_chain *chain,
                      uint64_t off, const void *buf, size_t len);

/** vq_chain_pin() - mem_get on a stretch of one part
 * @writable: which part; @off, @len: bytes in it
 * @iov, @n: filled; @n pieces of room. A stretch that needs more is cut.
 * @bytes: filled; what is pinned, at most @len
 * Return: pieces (the caller puts them); 0: nothing at @off. */
unsigned vq_chain_pin(struct mem *mem, const struct vq_chain *chain,
                      bool writable, uint64_t off, uint64_t len,
                      struct mem_iov *iov, unsigned n, uint64_t *bytes);

#endif
