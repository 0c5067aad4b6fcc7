// SPDX-License-Identifier: Apache-2.0
/*
 * A chain's bytes: copy out of its readable part, into its writable part, or
 * pin a stretch for host I/O. Segments were checked when the chain was popped,
 * so memory cannot refuse them; if it does, the copy ends there.
 */
#include "dev/virtio/vq.h"

/* The segments of one part. */
static const struct vq_seg *part(const struct vq_chain *chain, bool writable,
                                 unsigned *n)
{
    *n = writable ? chain->nwrite : chain->nread;
    return writable ? chain->seg + chain->nread : chain->seg;
}

/* Take @off bytes off the front: the index of the segment it lies in. */
static unsigned seek(const struct vq_seg *seg, unsigned n, uint64_t *off)
{
    unsigned i = 0;

    while (i < n && *off >= seg[i].len)
        *off -= seg[i++].len;
    return i;
}

static size_t min_size(uint64_t a, size_t b)
{
    return a < b ? (size_t)a : b;
}

size_t vq_chain_read(struct mem *mem, const struct vq_chain *chain,
                     uint64_t off, void *buf, size_t len)
{
    unsigned n;
    const struct vq_seg *seg = part(chain, false, &n);
    size_t done = 0;

    for (unsigned i = seek(seg, n, &off); i < n && done < len; i++, off = 0) {
        size_t here = min_size(seg[i].len - off, len - done);

        if (mem_read(mem, gpa_add(seg[i].gpa, off), (uint8_t *)buf + done,
                     here) < 0)
            break;
        done += here;
    }
    return done;
}

size_t vq_chain_write(struct mem *mem, const struct vq_chain *chain,
                      uint64_t off, const void *buf, size_t len)
{
    unsigned n;
    const struct vq_seg *seg = part(chain, true, &n);
    size_t done = 0;

    for (unsigned i = seek(seg, n, &off); i < n && done < len; i++, off = 0) {
        size_t here = min_size(seg[i].len - off, len - done);

        if (mem_write(mem, gpa_add(seg[i].gpa, off),
                      (const uint8_t *)buf + done, here) < 0)
            break;
        done += here;
    }
    return done;
}

unsigned vq_chain_pin(struct mem *mem, const struct vq_chain *chain,
                      bool writable, uint64_t off, uint64_t len,
                      struct mem_iov *iov, unsigned n, uint64_t *bytes)
{
    unsigned nseg, k = 0;
    const struct vq_seg *seg = part(chain, writable, &nseg);

    *bytes = 0;
    for (unsigned i = seek(seg, nseg, &off); i < nseg && *bytes < len && k < n;
         i++, off = 0) {
        gpa_t at = gpa_add(seg[i].gpa, off);
        uint64_t room =
            (uint64_t)(n - k) * MEM_PAGE_BYTES - (at.v & MEM_PAGE_MASK);
        uint64_t here = seg[i].len - off;
        bool cut = here > room;
        int r;

        here = cut ? room : here;
        here = here < len - *bytes ? here : len - *bytes;
        r = mem_get(mem, at, here, writable ? MEM_WRITE : MEM_READ, iov + k,
                    n - k);
        if (r <= 0)
            break;
        k += (unsigned)r;
        *bytes += here;
        if (cut)
            break;
    }
    return k;
}
