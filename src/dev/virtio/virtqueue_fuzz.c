// SPDX-License-Identifier: Apache-2.0
/*
 * Fuzzer: input bytes become guest memory with its rings, and register
 * accesses. What must hold:
 *   - a chain is exactly what a second, simpler walk finds in memory;
 *   - memory changes only where a writable descriptor of a taken chain or the
 *     used ring permits;
 *   - a notification takes a bounded number of chains (and libFuzzer's own:
 *     nothing crashes, leaks or hangs).
 *
 * Input: features u8 | log2 of the queue size u8 | image length u16 | image,
 * copied to GPA 0 | operations: an opcode byte and its operands. The rings lie
 * at fixed places in the image: see RING_*.
 */
#include "dev/virtio/driver_model.h"

#include <stdio.h>

#define RAM        (MIB)
#define QSIZE      64
#define RING_DESC  0x0000U
#define RING_AVAIL 0x0400U
#define RING_USED  0x0800U
#define WRITE_MAX  8192U /* bytes that our device writes into one chain */
#define OPS_MAX    256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *p;
    size_t left;
};

struct fuzz {
    struct dm_vm m;
    struct virtio_dev vd;
    struct dm_queue q;
    struct input in;
    bool hold;
    struct vq_chain held[2 * QSIZE];
    uint16_t held_queue[2 * QSIZE];
    unsigned nheld;
    uint8_t shadow[RAM]; /* memory as it must be where it is not permitted */
    uint8_t permit[RAM];
};

static uint64_t take(struct input *in, unsigned n)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < n && in->left; i++, in->left--)
        v |= (uint64_t)*in->p++ << (8 * i);
    return v;
}

#define MUST(x)                                                                \
    do {                                                                       \
        if (!(x)) {                                                            \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__,   \
                    #x);                                                       \
            abort();                                                           \
        }                                                                      \
    } while (0)

/* ---- the second walk ---- */

static void guest_desc(struct fuzz *f, uint64_t table, unsigned i,
                       uint64_t *addr, uint32_t *len, uint16_t *flags,
                       uint16_t *next)
{
    uint8_t d[16];

    MUST(mem_read(f->m.vm.mem, gpa(table + 16ULL * i), d, sizeof d) == 0);
    memcpy(addr, d, 8);
    memcpy(len, d + 8, 4);
    memcpy(flags, d + 12, 2);
    memcpy(next, d + 14, 2);
}

static void compare(struct fuzz *f, const struct vq *vq,
                    const struct vq_chain *c)
{
    uint64_t table = vq->desc, addr, reads = 0, writes = 0;
    unsigned i = c->id, entries = vq->size, n = 0, steps = 0;
    uint32_t len;
    uint16_t flags, next;

    for (;;) {
        MUST(i < entries && steps <= vq->size);
        guest_desc(f, table, i, &addr, &len, &flags, &next);
        if (flags & DM_INDIRECT) {
            MUST(table == vq->desc &&
                 virtio_has(&f->vd, VIRTIO_F_INDIRECT_DESC));
            table = addr;
            entries = len / 16;
            i = 0;
            continue;
        }
        steps++;
        if (len) {
            MUST(n < c->nread + c->nwrite && c->seg[n].gpa.v == addr &&
                 c->seg[n].len == len && addr + len <= RAM);
            MUST((flags & DM_WRITE ? n >= c->nread : n < c->nread));
            *(flags & DM_WRITE ? &writes : &reads) += len;
            n++;
        }
        if (!(flags & DM_NEXT))
            break;
        i = next;
    }
    MUST(n == (unsigned)c->nread + c->nwrite && n <= vq->size);
    MUST(reads == c->read_bytes && writes == c->write_bytes);
}

/* ---- the device ---- */

static void permit(struct fuzz *f, uint64_t at, uint64_t len)
{
    MUST(at + len <= RAM);
    memset(f->permit + at, 1, len);
}

static void permit_used(struct fuzz *f, const struct vq *vq)
{
    if (vq->enabled)
        permit(f, vq->device, 6 + 8ULL * vq->size);
}

static void try_pins(struct fuzz *f, const struct vq_chain *c, bool writable)
{
    uint64_t all = writable ? c->write_bytes : c->read_bytes, bytes, sum = 0;
    uint64_t off = all ? (c->id * 977ULL) % all : 0, len = c->id * 331ULL + 1;
    struct mem_iov iov[5];
    unsigned n =
        vq_chain_pin(f->m.vm.mem, c, writable, off, len, iov, 5, &bytes);

    for (unsigned i = 0; i < n; i++)
        sum += iov[i].len;
    MUST(sum == bytes && bytes <= len && bytes <= all - off && (n || !all));
    mem_put(f->m.vm.mem, iov, n, false);
}

static void serve(struct fuzz *f, struct vq *vq, const struct vq_chain *c)
{
    uint8_t buf[WRITE_MAX];
    uint64_t left = sizeof buf;
    size_t n;

    try_pins(f, c, false);
    try_pins(f, c, true);
    n = vq_chain_read(f->m.vm.mem, c, 0, buf, sizeof buf);
    MUST(n == (c->read_bytes < sizeof buf ? c->read_bytes : sizeof buf));
    memset(buf + n, 0xa5, sizeof buf - n);
    for (unsigned i = c->nread; i < (unsigned)c->nread + c->nwrite && left;
         i++) {
        uint64_t here = c->seg[i].len < left ? c->seg[i].len : left;

        permit(f, c->seg[i].gpa.v, here);
        left -= here;
    }
    n = vq_chain_write(f->m.vm.mem, c, 0, buf, sizeof buf);
    MUST(n == sizeof buf - left);
    permit_used(f, vq);
    vq_push(vq, c, (uint32_t)n);
}

static void fuzz_notify(void *ctx, unsigned q)
{
    struct fuzz *f = ctx;
    struct vq *vq = &f->vd.vq[q];
    struct vq_chain c;

    pthread_mutex_lock(&f->vd.lock);
    for (unsigned i = 0; i < 2 * QSIZE; i++) { /* a class cuts endless ones */
        permit_used(f, vq);                    /* its avail_event */
        if (vq_pop(vq, &c) <= 0)
            break;
        MUST(virtio_running(&f->vd) && vq->in_flight <= vq->size);
        compare(f, vq, &c);
        if (f->hold) {
            f->held_queue[f->nheld] = (uint16_t)q;
            f->held[f->nheld++] = c;
        } else {
            serve(f, vq, &c);
        }
    }
    vq_signal(vq);
    pthread_mutex_unlock(&f->vd.lock);
}

/* Completions, last first. */
static void release(struct fuzz *f)
{
    pthread_mutex_lock(&f->vd.lock);
    while (f->nheld) {
        f->nheld--;
        serve(f, &f->vd.vq[f->held_queue[f->nheld]], &f->held[f->nheld]);
    }
    pthread_mutex_unlock(&f->vd.lock);
}

static const struct virtio_class fuzz_class = {
    .name = "fuzz",
    .device_id = 30,
    .pci_class = 0xff0000,
    .nqueues = 2,
    .queue_size = QSIZE,
    .cfg_bytes = 16,
    .notify = fuzz_notify,
};

/* ---- the guest ---- */

static void guest_write(struct fuzz *f, uint64_t at, const void *p, size_t n)
{
    at %= RAM;
    n = n < RAM - at ? n : RAM - at;
    MUST(mem_write(f->m.vm.mem, gpa(at), p, n) == 0);
    memcpy(f->shadow + at, p, n);
}

static void check_memory(struct fuzz *f)
{
    uint8_t page[MEM_PAGE_BYTES];

    for (uint64_t a = 0; a < RAM; a += sizeof page) {
        if (!mem_dirty_since(f->m.vm.mem, gpa(a), 0))
            continue;
        MUST(mem_read(f->m.vm.mem, gpa(a), page, sizeof page) == 0);
        for (unsigned i = 0; i < sizeof page; i++)
            MUST(page[i] == f->shadow[a + i] || f->permit[a + i]);
    }
}

static void offer(struct fuzz *f)
{
    uint8_t head[2] = {(uint8_t)take(&f->in, 1), 0}, idx[2];
    uint16_t n;

    memcpy(idx, f->shadow + RING_AVAIL + 2, 2);
    n = (uint16_t)(idx[0] | idx[1] << 8);
    guest_write(f, RING_AVAIL + 4 + 2U * (n % f->q.size), head, 2);
    n++;
    guest_write(f, RING_AVAIL + 2, &n, 2);
    if (f->q.index == 0)
        dm_kick(&f->q);
}

static void one_op(struct fuzz *f)
{
    static const unsigned sizes[] = {1, 2, 4, 8};
    unsigned op = (unsigned)take(&f->in, 1), n = sizes[op >> 4 & 3];
    uint64_t at, val;

    switch (op & 7) {
    case 0:
    case 1:
        offer(f);
        break;
    case 2:
        at = take(&f->in, 2);
        val = take(&f->in, 8);
        guest_write(f, at, &val, n);
        break;
    case 3: /* may reset, which waits */
        release(f);
        at = take(&f->in, 1);
        dm_write(&f->q, at, take(&f->in, n), n);
        break;
    case 4:
        at = take(&f->in, 2);
        val = dm_read(&f->q, at & 0x7fff, n);
        if ((at & 0x7fff) >= VIRTIO_BAR_DEVICE) {
            release(f);
            dm_write(&f->q, at & 0x7fff, val ^ take(&f->in, n), n);
        }
        break;
    case 5:
        release(f);
        at = take(&f->in, 1);
        n = n == 8 ? 1 : n;
        if (at < PCI_BAR0 || at >= PCI_BAR0 + 8)
            dm_cfg_write(&f->m, (unsigned)(at & ~(uint64_t)(n - 1)),
                         (uint32_t)take(&f->in, n), n);
        dm_cfg_read(&f->m, (unsigned)at & 0xfc, 4);
        break;
    case 6:
        f->hold = !f->hold;
        if (!f->hold)
            release(f);
        break;
    case 7:
        dm_write(&f->q, VIRTIO_BAR_NOTIFY + (op >> 4 & 7) * 2U, 0, 2);
        break;
    }
}

static void start(struct fuzz *f)
{
    uint8_t features = (uint8_t)take(&f->in, 1);
    uint16_t qsize = (uint16_t)(1U << take(&f->in, 1) % 7);
    size_t image = (size_t)take(&f->in, 2);
    uint64_t want = VIRTIO_F_VERSION_1;

    want |= features & 1 ? VIRTIO_F_INDIRECT_DESC : 0;
    want |= features & 2 ? VIRTIO_F_EVENT_IDX : 0;
    dm_attach(&f->q, &f->m, features & 4);
    MUST(dm_negotiate(&f->q, want));
    f->q.size = qsize;
    dm_write(&f->q, VIRTIO_C_QSIZE, qsize, 2);
    dm_write(&f->q, VIRTIO_C_QMSIX, 1, 2);
    dm_write(&f->q, VIRTIO_C_QDESC, RING_DESC, 8);
    dm_write(&f->q, VIRTIO_C_QAVAIL, RING_AVAIL, 8);
    dm_write(&f->q, VIRTIO_C_QUSED, RING_USED, 8);
    dm_write(&f->q, VIRTIO_C_QENABLE, 1, 2);
    image = image < f->in.left ? image : f->in.left;
    guest_write(f, 0, f->in.p, image);
    f->in.p += image;
    f->in.left -= image;
    dm_driver_ok(&f->q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t cfg[16] = {1, 2, 3, 4};
    struct fuzz *f = calloc(1, sizeof *f);

    if (!f)
        return 0;
    dm_vm_init(&f->m, RAM, false);
    f->in = (struct input){data, size};
    MUST(virtio_init(&f->vd, &f->m.vm, f->m.bus, PCI_DEVFN(DM_SLOT, 0),
                     dm_intx(&f->m), &fuzz_class, f, 0, cfg, NULL) == 0);
    memset(f->vd.cfg_wmask, 0xff, 8);
    start(f);
    for (unsigned i = 0; i < OPS_MAX && f->in.left; i++)
        one_op(f);
    release(f);
    check_memory(f);
    dm_write(&f->q, VIRTIO_C_STATUS, 0, 1);
    virtio_fini(&f->vd);
    dm_vm_fini(&f->m);
    free(f);
    return 0;
}
