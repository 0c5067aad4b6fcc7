// SPDX-License-Identifier: Apache-2.0
/*
 * Split virtqueues. Ring layouts, all little endian:
 *
 *   descriptor  addr u64 | len u32 | flags u16 | next u16
 *   avail       flags u16 | idx u16 | ring u16[size] | used_event u16
 *   used        flags u16 | idx u16 | {id u32, len u32}[size] | avail_event u16
 *
 * The driver writes idx after the entries that it covers, and so do we: loads
 * acquire, stores release. Both sides of the two event checks store one word
 * and then load another: so all of them are sequentially consistent.
 *
 * Source: virtio 1.2, 2.7.
 */
#include "dev/virtio/vq.h"

#include "base/bits.h"
#include "dev/virtio/virtio.h"

#include <errno.h>

#define DESC_BYTES      16U
#define DESC_NEXT       1
#define DESC_WRITE      2
#define DESC_INDIRECT   4

#define AVAIL_FLAGS     0
#define AVAIL_IDX       2
#define AVAIL_RING      4
#define AVAIL_NO_IRQ    1 /* in AVAIL_FLAGS */

#define USED_IDX        2
#define USED_RING       4
#define USED_ELEM_BYTES 8U

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

/* ---- ring words ---- */

/* One aligned 16-bit ring word: it never crosses a page. */
static bool ring_load(struct vq *vq, uint64_t at, uint16_t *val)
{
    struct mem *mem = vq->vd->vm->mem;
    struct mem_iov iov;

    if (mem_get(mem, gpa(at), sizeof *val, MEM_READ, &iov, 1) != 1)
        return false;
    *val = __atomic_load_n((uint16_t *)(void *)iov.hva, __ATOMIC_SEQ_CST);
    mem_put(mem, &iov, 1, false);
    return true;
}

static bool ring_store(struct vq *vq, uint64_t at, uint16_t val)
{
    struct mem *mem = vq->vd->vm->mem;
    struct mem_iov iov;

    if (mem_get(mem, gpa(at), sizeof val, MEM_WRITE, &iov, 1) != 1)
        return false;
    __atomic_store_n((uint16_t *)(void *)iov.hva, val, __ATOMIC_SEQ_CST);
    mem_put(mem, &iov, 1, true);
    return true;
}

static uint64_t used_event_at(const struct vq *vq)
{
    return vq->driver + AVAIL_RING + 2U * vq->size;
}

static uint64_t avail_event_at(const struct vq *vq)
{
    return vq->device + USED_RING + USED_ELEM_BYTES * vq->size;
}

static int ring_gone(struct vq *vq)
{
    virtio_misuse(vq->vd, "queue %u: its rings are not in RAM", vq->index);
    return -EPROTO;
}

/* ---- walking a chain ---- */

struct walk {
    const uint8_t *table; /* a copied indirect table; NULL: the ring's own */
    unsigned limit;       /* entries in the current table */
    unsigned taken;       /* descriptors so far */
};

static bool desc_load(struct vq *vq, const struct walk *w, unsigned i,
                      struct desc *d)
{
    uint8_t raw[DESC_BYTES];

    if (w->table)
        memcpy(raw, w->table + i * DESC_BYTES, DESC_BYTES);
    else if (mem_read(vq->vd->vm->mem, gpa(vq->desc + i * DESC_BYTES), raw,
                      DESC_BYTES) < 0)
        return false;
    memcpy(&d->addr, raw, 8);
    memcpy(&d->len, raw + 8, 4);
    memcpy(&d->flags, raw + 12, 2);
    memcpy(&d->next, raw + 14, 2);
    return true;
}

static int bad_chain(struct vq *vq, const char *why, uint64_t value)
{
    virtio_misuse(vq->vd, "queue %u: %s (0x%llx)", vq->index, why,
                  (unsigned long long)value);
    return -EPROTO;
}

/* Check the copied descriptor @d and append it. */
static int chain_append(struct vq *vq, struct vq_chain *c, const struct desc *d)
{
    bool writable = (d->flags & DESC_WRITE) != 0;

    if (!writable && c->nwrite)
        return bad_chain(vq, "readable descriptor after a writable one",
                         d->addr);
    if (d->len == 0)
        return 0;
    if (!mem_is_ram(vq->vd->vm->mem, gpa(d->addr), d->len))
        return bad_chain(vq, "buffer is not in RAM", d->addr);
    if (c->read_bytes + c->write_bytes + d->len > VQ_CHAIN_BYTES)
        return bad_chain(vq, "chain is longer than 4 GiB", d->len);
    c->seg[c->nread + c->nwrite] = (struct vq_seg){gpa(d->addr), d->len};
    if (writable) {
        c->nwrite++;
        c->write_bytes += d->len;
    } else {
        c->nread++;
        c->read_bytes += d->len;
    }
    return 0;
}

/* Copy the table that @d points to; the walk goes on at its entry 0.
 * Source: virtio 1.2, 2.7.5.3. */
static int enter_indirect(struct vq *vq, struct walk *w, const struct desc *d)
{
    uint8_t *copy = vq->vd->indirect;

    if (!virtio_has(vq->vd, VIRTIO_F_INDIRECT_DESC))
        return bad_chain(vq, "indirect descriptor without the feature",
                         d->addr);
    if (w->table)
        return bad_chain(vq, "indirect table inside an indirect table",
                         d->addr);
    if (d->flags & DESC_NEXT)
        return bad_chain(vq, "indirect descriptor with a next one", d->next);
    if (d->len == 0 || d->len % DESC_BYTES || d->len / DESC_BYTES > vq->size)
        return bad_chain(vq, "indirect table of a wrong size", d->len);
    if (mem_read(vq->vd->vm->mem, gpa(d->addr), copy, d->len) < 0)
        return bad_chain(vq, "indirect table is not in RAM", d->addr);
    w->table = copy;
    w->limit = d->len / DESC_BYTES;
    return 0;
}

static int chain_walk(struct vq *vq, unsigned i, struct vq_chain *out)
{
    struct walk w = {.limit = vq->size};
    struct desc d;
    int r;

    for (;;) {
        if (i >= w.limit)
            return bad_chain(vq, "descriptor index out of range", i);
        if (!desc_load(vq, &w, i, &d))
            return ring_gone(vq);
        if (d.flags & DESC_INDIRECT) {
            r = enter_indirect(vq, &w, &d);
            if (r < 0)
                return r;
            i = 0;
            continue;
        }
        if (w.taken++ >= vq->size)
            return bad_chain(vq, "chain is longer than the queue", i);
        r = chain_append(vq, out, &d);
        if (r < 0 || !(d.flags & DESC_NEXT))
            return r;
        i = d.next;
    }
}

/* ---- the device's side ---- */

static bool running(const struct vq *vq)
{
    return vq->enabled && virtio_running(vq->vd);
}

/* How many entries wait; when none does, ask to be notified of the next. */
static int waiting(struct vq *vq, uint16_t *n)
{
    uint16_t idx;

    if (!ring_load(vq, vq->driver + AVAIL_IDX, &idx))
        return ring_gone(vq);
    if (idx == vq->avail_idx && virtio_has(vq->vd, VIRTIO_F_EVENT_IDX)) {
        if (!ring_store(vq, avail_event_at(vq), vq->avail_idx))
            return ring_gone(vq);
        if (!ring_load(vq, vq->driver + AVAIL_IDX, &idx))
            return ring_gone(vq);
    }
    *n = (uint16_t)(idx - vq->avail_idx);
    return 0;
}

int vq_pop(struct vq *vq, struct vq_chain *out)
{
    uint16_t n, head;
    int r;

    if (!running(vq))
        return 0;
    r = waiting(vq, &n);
    if (r < 0 || n == 0)
        return r;
    if (n > vq->size)
        return bad_chain(vq, "available index jumps", n);
    if (vq->in_flight >= vq->size)
        return bad_chain(vq, "more chains than descriptors", vq->in_flight);
    if (!ring_load(vq,
                   vq->driver + AVAIL_RING +
                       2U * (vq->avail_idx & (vq->size - 1U)),
                   &head))
        return ring_gone(vq);
    out->id = head;
    out->nread = out->nwrite = 0;
    out->read_bytes = out->write_bytes = 0;
    r = chain_walk(vq, head, out);
    if (r < 0)
        return r;
    vq->avail_idx++;
    vq->in_flight++;
    atomic_fetch_add_explicit(&vq->vd->stats.chains, 1, memory_order_relaxed);
    return 1;
}

void vq_drop(struct vq *vq, const struct vq_chain *chain)
{
    (void)chain;
    if (--vq->in_flight == 0)
        pthread_cond_broadcast(&vq->vd->idle);
}

void vq_push(struct vq *vq, const struct vq_chain *chain, uint32_t written)
{
    struct virtio_dev *vd = vq->vd;
    uint64_t at = vq->device + USED_RING +
                  USED_ELEM_BYTES * (vq->used_idx & (vq->size - 1U));
    uint8_t elem[USED_ELEM_BYTES];
    uint32_t id = chain->id;

    vq_drop(vq, chain);
    written =
        (uint32_t)input_value(&vd->vm->gate, INPUT_DMA, 0, at, written, 0);
    memcpy(elem, &id, 4);
    memcpy(elem + 4, &written, 4);
    if (mem_write(vd->vm->mem, gpa(at), elem, sizeof elem) < 0 ||
        !ring_store(vq, vq->device + USED_IDX, (uint16_t)(vq->used_idx + 1))) {
        ring_gone(vq);
        return;
    }
    vq->used_idx++;
}

/* Source: virtio 1.2, 2.7.10: whether @event lies in (old, new]. */
static bool event_passed(uint16_t event, uint16_t new, uint16_t old)
{
    return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

static bool wants_signal(struct vq *vq, uint16_t old)
{
    uint16_t word;

    if (virtio_has(vq->vd, VIRTIO_F_EVENT_IDX))
        return ring_load(vq, used_event_at(vq), &word) &&
               event_passed(word, vq->used_idx, old);
    return ring_load(vq, vq->driver + AVAIL_FLAGS, &word) &&
           !(word & AVAIL_NO_IRQ);
}

void vq_signal(struct vq *vq)
{
    uint16_t old = vq->signalled;

    if (!vq->enabled || vq->used_idx == old)
        return;
    vq->signalled = vq->used_idx;
    if (wants_signal(vq, old))
        virtio_queue_irq(vq->vd, vq->index);
}

void vq_reset(struct vq *vq)
{
    vq->size = vq->size_max;
    vq->vector = VIRTIO_NO_VECTOR;
    vq->enabled = false;
    vq->desc = vq->driver = vq->device = 0;
    vq->avail_idx = vq->used_idx = vq->signalled = 0;
}

const char *vq_check_setup(const struct vq *vq)
{
    const struct mem *mem = vq->vd->vm->mem;
    uint64_t n = vq->size;

    if (n == 0 || n > vq->size_max || (n & (n - 1)))
        return "its size is no power of two in range";
    if ((vq->desc & 15) || (vq->driver & 1) || (vq->device & 3))
        return "a ring's address is not aligned";
    if (!mem_is_ram(mem, gpa(vq->desc), n * DESC_BYTES) ||
        !mem_is_ram(mem, gpa(vq->driver), AVAIL_RING + 2 * n + 2) ||
        !mem_is_ram(mem, gpa(vq->device), USED_RING + USED_ELEM_BYTES * n + 2))
        return "a ring is not in RAM";
    return NULL;
}
