// SPDX-License-Identifier: Apache-2.0
/*
 * Transport and split queues with a device that copies each chain's readable
 * part into its writable part: registers, negotiation, I/O, interrupts, and
 * every misuse that must end in NEEDS_RESET and heal by a reset.
 */
#include "base/test.h"
#include "dev/virtio/driver_model.h"

#include <errno.h>

#define RAM    (4 * MIB)
#define RINGS  0x10000U
#define BUF    0x100000U
#define TABLE  0x180000U
#define QSIZE  8
#define EVENT  VIRTIO_F_EVENT_IDX
#define INDIR  VIRTIO_F_INDIRECT_DESC
#define TEST_F BIT(5)

struct echo {
    struct dm_vm m;
    struct virtio_dev vd;
    struct dm_queue q;
    bool hold; /* keep chains in flight */
    struct vq_chain held[QSIZE];
    unsigned nheld;
    unsigned resets, cfg_writes;
};

static void echo_one(struct echo *t, struct vq *vq, struct vq_chain *c)
{
    uint8_t buf[4096];
    size_t n = vq_chain_read(t->m.vm.mem, c, 0, buf, sizeof buf);

    n = vq_chain_write(t->m.vm.mem, c, 0, buf, n);
    vq_push(vq, c, (uint32_t)n);
}

static void echo_notify(void *ctx, unsigned q)
{
    struct echo *t = ctx;
    struct vq *vq = &t->vd.vq[q];
    struct vq_chain c;

    pthread_mutex_lock(&t->vd.lock);
    while (vq_pop(vq, &c) > 0) {
        if (t->hold)
            t->held[t->nheld++] = c;
        else
            echo_one(t, vq, &c);
    }
    vq_signal(vq);
    pthread_mutex_unlock(&t->vd.lock);
}

static void echo_release(struct echo *t)
{
    pthread_mutex_lock(&t->vd.lock);
    while (t->nheld)
        echo_one(t, &t->vd.vq[0], &t->held[--t->nheld]);
    vq_signal(&t->vd.vq[0]);
    pthread_mutex_unlock(&t->vd.lock);
}

static void echo_reset(void *ctx)
{
    ((struct echo *)ctx)->resets++;
}

static void echo_cfg_written(void *ctx, unsigned off, unsigned size)
{
    (void)off;
    (void)size;
    ((struct echo *)ctx)->cfg_writes++;
}

static const struct virtio_class echo_class = {
    .name = "echo",
    .device_id = 30,
    .pci_class = 0xff0000,
    .nqueues = 2,
    .queue_size = QSIZE,
    .cfg_bytes = 12,
    .notify = echo_notify,
    .cfg_written = echo_cfg_written,
    .reset = echo_reset,
};

static struct echo *echo_new(bool msix)
{
    static const uint8_t cfg[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    struct echo *t = calloc(1, sizeof *t);

    dm_vm_init(&t->m, RAM, true);
    if (virtio_init(&t->vd, &t->m.vm, t->m.bus, PCI_DEVFN(DM_SLOT, 0),
                    dm_intx(&t->m), &echo_class, t, TEST_F, cfg, NULL) < 0)
        abort();
    t->vd.cfg_wmask[4] = 0xff;
    dm_attach(&t->q, &t->m, msix);
    return t;
}

static void echo_free(struct echo *t)
{
    virtio_fini(&t->vd);
    dm_vm_fini(&t->m);
    free(t);
}

/* One request of two descriptors; whether the answer is right. */
static bool echo_works(struct echo *t, uint16_t head)
{
    static const char text[] = "through the rings and back";
    char back[sizeof text] = "";
    struct dm_queue *q = &t->q;
    uint16_t next = (uint16_t)((head + 1) % q->size);
    uint32_t id = ~0U, len = 0;

    dm_put(q, BUF, text, sizeof text);
    dm_desc(q, head, BUF, sizeof text, DM_NEXT, next);
    dm_desc(q, next, BUF + 0x2ff8, 100, DM_WRITE, 0); /* crosses a page */
    dm_offer(q, head);
    dm_kick(q);
    if (!dm_used(q, &id, &len))
        return false;
    dm_get(q, BUF + 0x2ff8, back, sizeof back);
    return id == head && len == sizeof text && !memcmp(text, back, sizeof back);
}

TEST(pci_identity)
{
    struct echo *t = echo_new(true);
    unsigned cap = dm_cfg_read(&t->m, PCI_CAP_PTR, 1), seen = 0;

    CHECK_EQ(dm_cfg_read(&t->m, 0, 4), 0x105e1af4);
    CHECK(dm_cfg_read(&t->m, PCI_REVISION, 1) >= 1);
    for (; cap; cap = dm_cfg_read(&t->m, cap + 1, 1)) {
        if (dm_cfg_read(&t->m, cap, 1) != PCI_CAP_VENDOR)
            continue;
        seen |= 1U << dm_cfg_read(&t->m, cap + 3, 1);
        CHECK(dm_cfg_read(&t->m, cap + 2, 1) >= 16);
        CHECK_EQ(dm_cfg_read(&t->m, cap + 4, 1), VIRTIO_BAR);
    }
    CHECK_EQ(seen, 0x3e); /* types 1 to 5 */
    echo_free(t);
}

TEST(negotiation)
{
    struct echo *t = echo_new(true);
    struct dm_queue *q = &t->q;

    dm_write(q, VIRTIO_C_DFSELECT, 0, 4);
    CHECK_EQ(dm_read(q, VIRTIO_C_DF, 4), TEST_F | EVENT | INDIR);
    dm_write(q, VIRTIO_C_DFSELECT, 1, 4);
    CHECK_EQ(dm_read(q, VIRTIO_C_DF, 4), 1);
    dm_write(q, VIRTIO_C_DFSELECT, 2, 4);
    CHECK_EQ(dm_read(q, VIRTIO_C_DF, 4), 0);
    CHECK(!dm_negotiate(q, TEST_F));                      /* no VERSION_1 */
    CHECK(!dm_negotiate(q, VIRTIO_F_VERSION_1 | BIT(6))); /* not offered */
    CHECK(!dm_negotiate(q, VIRTIO_F_VERSION_1 | BIT(40)));
    CHECK(dm_negotiate(q, VIRTIO_F_VERSION_1 | TEST_F));
    /* Features are fixed now. */
    dm_write(q, VIRTIO_C_GFSELECT, 0, 4);
    dm_write(q, VIRTIO_C_GF, 0, 4);
    CHECK_EQ(dm_read(q, VIRTIO_C_GF, 4), TEST_F);
    CHECK_EQ(dm_status(q), 0x0b);
    dm_write(q, VIRTIO_C_STATUS, 1, 1); /* bits don't go away one by one */
    CHECK_EQ(dm_status(q), 0x0b);
    dm_write(q, VIRTIO_C_STATUS, 0, 1);
    CHECK_EQ(dm_status(q), 0);
    CHECK_EQ(dm_read(q, VIRTIO_C_GF, 4), 0);
    echo_free(t);
}

TEST(queue_registers)
{
    struct echo *t = echo_new(true);
    struct dm_queue *q = &t->q;

    CHECK_EQ(dm_read(q, VIRTIO_C_NUMQ, 2), 2);
    CHECK_EQ(dm_read(q, VIRTIO_C_QSIZE, 2), QSIZE);
    CHECK_EQ(dm_read(q, VIRTIO_C_QMSIX, 2), VIRTIO_NO_VECTOR);
    dm_write(q, VIRTIO_C_QMSIX, 2, 2);
    CHECK_EQ(dm_read(q, VIRTIO_C_QMSIX, 2), 2);
    dm_write(q, VIRTIO_C_QMSIX, 3, 2); /* there are three */
    CHECK_EQ(dm_read(q, VIRTIO_C_QMSIX, 2), VIRTIO_NO_VECTOR);
    dm_write(q, VIRTIO_C_MSIX, 99, 2);
    CHECK_EQ(dm_read(q, VIRTIO_C_MSIX, 2), VIRTIO_NO_VECTOR);
    for (unsigned bad = 0; bad < 20; bad++) {
        if (bad && !(bad & (bad - 1)) && bad <= QSIZE)
            continue;
        dm_write(q, VIRTIO_C_QSIZE, bad, 2);
        CHECK_EQ(dm_read(q, VIRTIO_C_QSIZE, 2), QSIZE);
    }
    dm_write(q, VIRTIO_C_QSIZE, 4, 2);
    CHECK_EQ(dm_read(q, VIRTIO_C_QSIZE, 2), 4);
    dm_write(q, VIRTIO_C_QDESC, 0x1122334455667788, 8);
    CHECK_EQ(dm_read(q, VIRTIO_C_QDESC + 4, 4), 0x11223344);
    dm_write(q, VIRTIO_C_QDESC + 2, 0, 2); /* a wrong width */
    CHECK_EQ(dm_read(q, VIRTIO_C_QDESC, 8), 0x1122334455667788);
    dm_write(q, VIRTIO_C_QSELECT, 1, 2);
    CHECK_EQ(dm_read(q, VIRTIO_C_QNOFF, 2), 1);
    CHECK_EQ(dm_read(q, VIRTIO_C_QSIZE, 2), QSIZE);
    dm_write(q, VIRTIO_C_QSELECT, 2, 2);
    CHECK_EQ(dm_read(q, VIRTIO_C_QSIZE, 2), 0);
    dm_write(q, VIRTIO_C_QSIZE, 8, 2);
    dm_write(q, VIRTIO_C_QENABLE, 1, 2);
    CHECK_EQ(dm_read(q, VIRTIO_C_QENABLE, 2), 0);
    echo_free(t);
}

TEST(device_config)
{
    struct echo *t = echo_new(true);
    struct dm_queue *q = &t->q;
    uint8_t gen = (uint8_t)dm_read(q, VIRTIO_C_CFGGEN, 1);

    CHECK_EQ(dm_read(q, VIRTIO_BAR_DEVICE, 8), 0x0807060504030201);
    CHECK_EQ(dm_read(q, VIRTIO_BAR_DEVICE + 11, 1), 12);
    CHECK_EQ(dm_read(q, VIRTIO_BAR_DEVICE + 12, 4), 0);
    dm_write(q, VIRTIO_BAR_DEVICE + 3, 0xffff, 2);
    CHECK_EQ(dm_read(q, VIRTIO_BAR_DEVICE + 3, 2), 0xff04);
    CHECK_EQ(t->cfg_writes, 1);
    pthread_mutex_lock(&t->vd.lock);
    virtio_config_changed(&t->vd);
    pthread_mutex_unlock(&t->vd.lock);
    CHECK_EQ(dm_read(q, VIRTIO_C_CFGGEN, 1), gen + 1);
    CHECK_EQ(t->m.msis[0], 0); /* no driver yet */
    CHECK(dm_start(q, 0, QSIZE, RINGS));
    pthread_mutex_lock(&t->vd.lock);
    virtio_config_changed(&t->vd);
    pthread_mutex_unlock(&t->vd.lock);
    CHECK_EQ(t->m.msis[0], 1);
    CHECK_EQ(dm_read(q, VIRTIO_BAR_ISR, 1), VIRTIO_ISR_CONFIG);
    CHECK_EQ(dm_read(q, VIRTIO_BAR_ISR, 1), 0);
    echo_free(t);
}

TEST(window_through_config_space)
{
    struct echo *t = echo_new(false);
    unsigned cap = dm_cfg_read(&t->m, PCI_CAP_PTR, 1);

    while (dm_cfg_read(&t->m, cap, 1) != PCI_CAP_VENDOR ||
           dm_cfg_read(&t->m, cap + 3, 1) != VIRTIO_CAP_PCI_CFG)
        cap = dm_cfg_read(&t->m, cap + 1, 1);
    dm_cfg_write(&t->m, PCI_COMMAND, 0, 2); /* works without decoding */
    dm_cfg_write(&t->m, cap + 8, VIRTIO_C_STATUS, 4);
    dm_cfg_write(&t->m, cap + 12, 1, 4);
    dm_cfg_write(&t->m, cap + 16, VIRTIO_S_ACKNOWLEDGE, 1);
    CHECK_EQ(dm_cfg_read(&t->m, cap + 16, 1), VIRTIO_S_ACKNOWLEDGE);
    CHECK_EQ(t->vd.status, VIRTIO_S_ACKNOWLEDGE);
    dm_cfg_write(&t->m, cap + 8, VIRTIO_C_NUMQ, 4);
    dm_cfg_write(&t->m, cap + 12, 2, 4);
    CHECK_EQ(dm_cfg_read(&t->m, cap + 16, 2), 2);
    /* Nonsense goes nowhere. */
    dm_cfg_write(&t->m, cap + 12, 3, 4);
    dm_cfg_read(&t->m, cap + 16, 4);
    dm_cfg_write(&t->m, cap + 12, 4, 4);
    dm_cfg_write(&t->m, cap + 8, 0xfffffffc, 4);
    dm_cfg_write(&t->m, cap + 16, 0, 4);
    dm_cfg_write(&t->m, cap + 8, VIRTIO_C_STATUS, 4);
    dm_cfg_write(&t->m, cap + 12, 1, 4);
    dm_cfg_write(&t->m, cap + 4, 5, 1); /* another BAR */
    dm_cfg_write(&t->m, cap + 16, 0, 1);
    CHECK_EQ(t->vd.status, VIRTIO_S_ACKNOWLEDGE);
    echo_free(t);
}

TEST(plain_io)
{
    struct echo *t = echo_new(true);

    CHECK(dm_start(&t->q, 0, QSIZE, RINGS));
    for (unsigned i = 0; i < 70000; i++) { /* the indices wrap */
        if (!echo_works(t, (uint16_t)(i % QSIZE))) {
            CHECK_EQ(i, UINT32_MAX);
            break;
        }
    }
    CHECK_EQ(t->m.msis[1], 70000);
    CHECK_EQ(t->vd.stats.misuses, 0);
    CHECK_EQ(t->m.vm.gate.count[INPUT_DMA], 70000);
    echo_free(t);
}

TEST(intx_without_msix)
{
    struct echo *t = echo_new(false);

    CHECK(dm_start(&t->q, 0, QSIZE, RINGS));
    CHECK(echo_works(t, 0));
    CHECK(t->m.line);
    CHECK_EQ(dm_read(&t->q, VIRTIO_BAR_ISR, 1), VIRTIO_ISR_QUEUE);
    CHECK(!t->m.line);
    CHECK_EQ(dm_read(&t->q, VIRTIO_BAR_ISR, 1), 0);
    dm_put16(&t->q, t->q.avail, 1); /* the driver wants no interrupts */
    CHECK(echo_works(t, 0));
    CHECK(!t->m.line);
    echo_free(t);
}

TEST(indirect)
{
    struct echo *t = echo_new(true);
    struct dm_queue *q = &t->q;
    uint64_t table = BUF + 0x10000;
    uint8_t out[QSIZE - 2], back[4] = {0};
    uint32_t id, len;

    CHECK(dm_start(q, INDIR, QSIZE, RINGS));
    memset(out, 0x5a, sizeof out);
    dm_put(q, BUF, out, sizeof out);
    /* One direct descriptor, then a table used back to front. */
    dm_desc(q, 3, BUF, 1, DM_NEXT, 5);
    dm_desc(q, 5, table, 7 * 16, DM_INDIRECT | DM_WRITE, 0);
    dm_desc_at(q, table, 0, BUF + 1, 1, DM_NEXT, 6);
    for (unsigned i = 6; i > 1; i--)
        dm_desc_at(q, table, i, BUF + 1, 1,
                   (uint16_t)(DM_NEXT | (i < 4 ? DM_WRITE : 0)),
                   (uint16_t)(i - 1));
    dm_desc_at(q, table, 1, BUF + 0x100, 2, DM_WRITE, 0);
    dm_offer(q, 3);
    dm_kick(q);
    CHECK(dm_used(q, &id, &len));
    CHECK_EQ(id, 3);
    CHECK_EQ(len, 4);
    dm_get(q, BUF + 0x100, back, 2);
    CHECK_EQ(back[0], 0x5a);
    CHECK_EQ(back[1], 0x5a);
    CHECK_EQ(dm_status(q), 0x0f);
    echo_free(t);
}

TEST(event_idx)
{
    struct echo *t = echo_new(true);
    struct dm_queue *q = &t->q;

    CHECK(dm_start(q, EVENT, QSIZE, RINGS));
    dm_used_event(q, 0);
    CHECK(echo_works(t, 0));
    CHECK_EQ(t->m.msis[1], 1);
    CHECK_EQ(dm_avail_event(q), 1); /* asks for the next one */
    CHECK(echo_works(t, 0));        /* used 2, event 0: passed long ago */
    CHECK_EQ(t->m.msis[1], 1);
    dm_used_event(q, 3);
    CHECK(echo_works(t, 0));
    CHECK_EQ(t->m.msis[1], 1);
    CHECK(echo_works(t, 0)); /* used goes from 3 to 4: passes 3 */
    CHECK_EQ(t->m.msis[1], 2);
    CHECK_EQ(dm_avail_event(q), 4);
    /* Three at once, the event in the middle: one interrupt. */
    dm_used_event(q, 5);
    dm_desc(q, 0, BUF, 1, 0, 0);
    dm_offer(q, 0);
    dm_offer(q, 0);
    dm_offer(q, 0);
    dm_kick(q);
    CHECK_EQ(t->m.msis[1], 3);
    CHECK_EQ(dm_avail_event(q), 7);
    echo_free(t);
}

TEST(nothing_before_driver_ok)
{
    struct echo *t = echo_new(true);
    struct dm_queue *q = &t->q;
    uint32_t id, len;

    CHECK(dm_negotiate(q, VIRTIO_F_VERSION_1));
    dm_queue_setup(q, 0, QSIZE, RINGS);
    dm_desc(q, 0, BUF, 4, 0, 0);
    dm_offer(q, 0);
    dm_kick(q);
    CHECK(!dm_used(q, &id, &len));
    dm_driver_ok(q); /* takes what waits */
    CHECK(dm_used(q, &id, &len));
    /* Without bus mastering nothing is read; it goes on when that is back. */
    dm_cfg_write(&t->m, PCI_COMMAND, PCI_CMD_MEM, 2);
    dm_offer(q, 0);
    dm_kick(q);
    CHECK(!dm_used(q, &id, &len));
    dm_cfg_write(&t->m, PCI_COMMAND, PCI_CMD_MEM | PCI_CMD_MASTER, 2);
    CHECK(dm_used(q, &id, &len));
    /* Notifications for queues that are not there. */
    dm_write(q, VIRTIO_BAR_NOTIFY + 4, 1, 2);
    dm_write(q, VIRTIO_BAR_NOTIFY + 8, 2, 2);
    dm_write(q, VIRTIO_BAR_NOTIFY + 0xffc, 1, 4);
    CHECK_EQ(dm_status(q), 0x0f);
    echo_free(t);
}

/* ---- misuse ---- */

static void m_out_of_ram(struct dm_queue *q)
{
    dm_desc(q, 0, RAM - 2, 4, 0, 0);
    dm_offer(q, 0);
}

static void m_wraps(struct dm_queue *q)
{
    dm_desc(q, 0, UINT64_MAX - 1, 4, DM_WRITE, 0);
    dm_offer(q, 0);
}

static void m_mmio(struct dm_queue *q)
{
    dm_desc(q, 0, q->bar, 4, 0, 0);
    dm_offer(q, 0);
}

static void m_head(struct dm_queue *q)
{
    dm_offer(q, QSIZE);
}

static void m_next(struct dm_queue *q)
{
    dm_desc(q, 0, BUF, 4, DM_NEXT, QSIZE);
    dm_offer(q, 0);
}

static void m_loop(struct dm_queue *q)
{
    dm_desc(q, 0, BUF, 4, DM_NEXT, 1);
    dm_desc(q, 1, BUF, 4, DM_NEXT, 0);
    dm_offer(q, 0);
}

static void m_self_loop_empty(struct dm_queue *q)
{
    dm_desc(q, 0, 0, 0, DM_NEXT, 0);
    dm_offer(q, 0);
}

static void m_order(struct dm_queue *q)
{
    dm_desc(q, 0, BUF, 4, DM_NEXT | DM_WRITE, 1);
    dm_desc(q, 1, BUF, 4, 0, 0);
    dm_offer(q, 0);
}

static void m_index_jump(struct dm_queue *q)
{
    dm_put16(q, q->avail + 2, (uint16_t)(q->avail_idx + QSIZE + 1));
}

/* A table that is right by itself, so that only what is wrong counts. */
static void good_table(struct dm_queue *q)
{
    for (unsigned i = 0; i <= QSIZE; i++)
        dm_desc_at(q, TABLE, i, BUF, 4, 0, 0);
}

static void m_nested(struct dm_queue *q)
{
    good_table(q);
    dm_desc(q, 0, TABLE, 16, DM_INDIRECT, 0);
    dm_desc_at(q, TABLE, 0, TABLE + 16, 16, DM_INDIRECT, 0);
    dm_offer(q, 0);
}

static void m_table_size(struct dm_queue *q)
{
    good_table(q);
    dm_desc(q, 0, TABLE, 17, DM_INDIRECT, 0);
    dm_offer(q, 0);
}

static void m_table_empty(struct dm_queue *q)
{
    good_table(q);
    dm_desc(q, 0, TABLE, 0, DM_INDIRECT, 0);
    dm_offer(q, 0);
}

static void m_table_large(struct dm_queue *q)
{
    good_table(q);
    dm_desc(q, 0, TABLE, 16 * (QSIZE + 1), DM_INDIRECT, 0);
    dm_offer(q, 0);
}

static void m_table_bad(struct dm_queue *q)
{
    dm_desc(q, 0, RAM - 8, 16, DM_INDIRECT, 0);
    dm_offer(q, 0);
}

static void m_table_and_next(struct dm_queue *q)
{
    good_table(q);
    dm_desc(q, 0, TABLE, 16, DM_INDIRECT | DM_NEXT, 1);
    dm_desc(q, 1, BUF, 4, 0, 0);
    dm_offer(q, 0);
}

static void m_table_index(struct dm_queue *q)
{
    good_table(q);
    dm_desc(q, 0, TABLE, 32, DM_INDIRECT, 0);
    dm_desc_at(q, TABLE, 0, BUF, 4, DM_NEXT, 2);
    dm_offer(q, 0);
}

static void m_table_loop(struct dm_queue *q)
{
    dm_desc(q, 0, TABLE, 16, DM_INDIRECT, 0);
    dm_desc_at(q, TABLE, 0, BUF, 4, DM_NEXT, 0);
    dm_offer(q, 0);
}

/* One descriptor more than the queue has; none comes twice. */
static void m_too_long(struct dm_queue *q)
{
    for (unsigned i = 0; i < QSIZE; i++)
        dm_desc_at(q, TABLE, i, BUF, 4, DM_NEXT, (uint16_t)(i + 1));
    dm_desc_at(q, TABLE, QSIZE - 1, BUF, 4, 0, 0);
    dm_desc(q, 0, BUF, 4, DM_NEXT, 1);
    dm_desc(q, 1, TABLE, 16 * QSIZE, DM_INDIRECT, 0);
    dm_offer(q, 0);
}

static void m_driver_ok_early(struct dm_queue *q)
{
    dm_write(q, VIRTIO_C_STATUS, 0, 1);
    dm_write(q, VIRTIO_C_STATUS, VIRTIO_S_DRIVER_OK, 1);
}

static void enable_at(struct dm_queue *q, uint64_t desc, uint64_t avail,
                      uint64_t used)
{
    dm_negotiate(q, VIRTIO_F_VERSION_1);
    dm_write(q, VIRTIO_C_QDESC, desc, 8);
    dm_write(q, VIRTIO_C_QAVAIL, avail, 8);
    dm_write(q, VIRTIO_C_QUSED, used, 8);
    dm_write(q, VIRTIO_C_QENABLE, 1, 2);
}

static void m_desc_place(struct dm_queue *q)
{
    enable_at(q, RAM - 64, RINGS, RINGS);
}

static void m_avail_place(struct dm_queue *q)
{
    enable_at(q, RINGS, RAM - 4, RINGS);
}

static void m_used_place(struct dm_queue *q)
{
    enable_at(q, RINGS, RINGS, UINT64_MAX - 3);
}

static void m_align(struct dm_queue *q)
{
    enable_at(q, RINGS + 8, RINGS, RINGS);
}

static void m_align_used(struct dm_queue *q)
{
    enable_at(q, RINGS, RINGS, RINGS + 2);
}

static const struct {
    const char *name;
    void (*spoil)(struct dm_queue *q);
} misuses[] = {
    {"buffer out of RAM", m_out_of_ram},
    {"buffer wraps", m_wraps},
    {"buffer in a BAR", m_mmio},
    {"head out of range", m_head},
    {"next out of range", m_next},
    {"loop", m_loop},
    {"loop of empty descriptors", m_self_loop_empty},
    {"readable after writable", m_order},
    {"available index jumps", m_index_jump},
    {"nested tables", m_nested},
    {"table of 17 bytes", m_table_size},
    {"empty table", m_table_empty},
    {"table larger than the queue", m_table_large},
    {"table out of RAM", m_table_bad},
    {"table and next", m_table_and_next},
    {"next beyond the table", m_table_index},
    {"loop in a table", m_table_loop},
    {"chain longer than the queue", m_too_long},
    {"DRIVER_OK before FEATURES_OK", m_driver_ok_early},
    {"descriptors out of RAM", m_desc_place},
    {"available ring out of RAM", m_avail_place},
    {"used ring out of RAM", m_used_place},
    {"descriptors not aligned", m_align},
    {"used ring not aligned", m_align_used},
};

TEST(misuse_needs_reset)
{
    struct echo *t = echo_new(true);
    struct dm_queue *q = &t->q;
    uint32_t id, len;

    for (unsigned i = 0; i < ARRAY_LEN(misuses); i++) {
        unsigned config_irqs;

        CHECK(dm_start(q, INDIR, QSIZE, RINGS));
        CHECK(echo_works(t, 2));
        config_irqs = t->m.msis[0];
        misuses[i].spoil(q);
        dm_kick(q);
        if (!(dm_status(q) & VIRTIO_S_NEEDS_RESET)) {
            printf("%s: status 0x%x\n", misuses[i].name, dm_status(q));
            test_failures++;
        }
        CHECK_EQ(t->vd.stats.misuses, i + 1);
        if (dm_status(q) & VIRTIO_S_DRIVER_OK)
            CHECK_EQ(t->m.msis[0], config_irqs + 1);
        /* Dead until reset. */
        dm_desc(q, 0, BUF, 4, 0, 0);
        dm_put16(q, q->avail + 2, 2);
        dm_kick(q);
        CHECK(!dm_used(q, &id, &len));
    }
    CHECK(dm_start(q, 0, QSIZE, RINGS));
    CHECK_EQ(dm_status(q), 0x0f);
    CHECK(echo_works(t, 0));
    good_table(q);
    dm_desc(q, 0, TABLE, 16, DM_INDIRECT, 0); /* not negotiated */
    dm_offer(q, 0);
    dm_kick(q);
    CHECK(dm_status(q) & VIRTIO_S_NEEDS_RESET);
    echo_free(t);
}

TEST(four_gib_chain)
{
    struct echo *t = echo_new(true);
    struct dm_queue *q = &t->q;

    /* RAM has 4 MiB: no descriptor reaches the limit before RAM's end. */
    CHECK(dm_start(q, 0, QSIZE, RINGS));
    dm_desc(q, 0, 0, RAM, DM_NEXT, 1);
    dm_desc(q, 1, 0, RAM + 1, 0, 0);
    dm_offer(q, 0);
    dm_kick(q);
    CHECK(dm_status(q) & VIRTIO_S_NEEDS_RESET);
    echo_free(t);
}

TEST(more_in_flight_than_descriptors)
{
    struct echo *t = echo_new(true);
    struct dm_queue *q = &t->q;

    t->hold = true;
    CHECK(dm_start(q, 0, QSIZE, RINGS));
    dm_desc(q, 0, BUF, 4, 0, 0);
    for (unsigned i = 0; i < QSIZE; i++)
        dm_offer(q, 0);
    dm_kick(q);
    CHECK_EQ(t->nheld, QSIZE);
    CHECK_EQ(dm_status(q), 0x0f);
    dm_offer(q, 0); /* a chain that is in flight, once more */
    dm_kick(q);
    CHECK_EQ(t->nheld, QSIZE);
    CHECK(dm_status(q) & VIRTIO_S_NEEDS_RESET);
    echo_release(t);
    echo_free(t);
}

static void *reset_thread(void *arg)
{
    struct echo *t = arg;

    dm_write(&t->q, VIRTIO_C_STATUS, 0, 1);
    return NULL;
}

TEST(reset_waits_for_what_is_in_flight)
{
    struct echo *t = echo_new(true);
    struct dm_queue *q = &t->q;
    pthread_t thread;
    bool resetting = false;

    t->hold = true;
    CHECK(dm_start(q, 0, QSIZE, RINGS));
    dm_desc(q, 0, BUF, 4, 0, 0);
    dm_offer(q, 0);
    dm_offer(q, 0);
    dm_kick(q);
    CHECK_EQ(t->nheld, 2);
    CHECK_EQ(pthread_create(&thread, NULL, reset_thread, t), 0);
    while (!resetting) {
        pthread_mutex_lock(&t->vd.lock);
        resetting = t->vd.resetting;
        pthread_mutex_unlock(&t->vd.lock);
    }
    CHECK_EQ(t->resets, 1); /* the one of dm_start */
    CHECK(dm_status(q) != 0);
    dm_offer(q, 0); /* not taken any more */
    dm_kick(q);
    CHECK_EQ(t->nheld, 2);
    echo_release(t);
    pthread_join(thread, NULL);
    CHECK_EQ(t->resets, 2);
    CHECK_EQ(dm_status(q), 0);
    CHECK_EQ(dm_get16(q, q->used + 2), 2);
    t->hold = false;
    CHECK(dm_start(q, 0, QSIZE, RINGS));
    CHECK(echo_works(t, 0));
    echo_free(t);
}

TEST(registers_are_fixed_while_enabled)
{
    struct echo *t = echo_new(true);
    struct dm_queue *q = &t->q;

    CHECK(dm_start(q, 0, QSIZE, RINGS));
    dm_write(q, VIRTIO_C_QDESC, 0, 8);
    dm_write(q, VIRTIO_C_QSIZE, 2, 2);
    dm_write(q, VIRTIO_C_QENABLE, 0, 2);
    CHECK_EQ(dm_read(q, VIRTIO_C_QDESC, 8), RINGS);
    CHECK_EQ(dm_read(q, VIRTIO_C_QSIZE, 2), QSIZE);
    CHECK_EQ(dm_read(q, VIRTIO_C_QENABLE, 2), 1);
    dm_write(q, VIRTIO_C_QMSIX, 2, 2); /* this one may change */
    CHECK(echo_works(t, 0));
    CHECK_EQ(t->m.msis[2], 1);
    CHECK_EQ(t->m.msis[1], 0);
    echo_free(t);
}

/* ---- saved state ---- */

static void copy_ram(struct dm_vm *from, struct dm_vm *to)
{
    uint8_t page[4096];

    for (uint64_t a = 0; a < RAM; a += sizeof page) {
        if (mem_read(from->vm.mem, gpa(a), page, sizeof page) < 0 ||
            mem_write(to->vm.mem, gpa(a), page, sizeof page) < 0)
            abort();
    }
}

TEST(state_round_trip)
{
    struct echo *t = echo_new(true), *u = echo_new(false);
    struct state_buf b = {0}, c = {0};

    CHECK(dm_start(&t->q, EVENT, QSIZE, RINGS));
    for (unsigned i = 0; i < 5; i++) {
        dm_used_event(&t->q, t->q.used_seen);
        CHECK(echo_works(t, (uint16_t)i));
    }
    copy_ram(&t->m, &u->m);
    CHECK_EQ(state_list_save(t->m.vm.state, &b, NULL), 0);
    CHECK_EQ(state_list_load(u->m.vm.state, &b, NULL), 0);
    CHECK_EQ(state_list_save(u->m.vm.state, &c, NULL), 0);
    CHECK_EQ(state_hash(&b), state_hash(&c));
    u->q = t->q;
    u->q.m = &u->m;
    CHECK_EQ(dm_status(&u->q), 0x0f);
    dm_used_event(&u->q, u->q.used_seen);
    CHECK(echo_works(u, 6));
    CHECK_EQ(u->m.msis[1], 1);
    state_buf_fini(&b);
    state_buf_fini(&c);
    echo_free(t);
    echo_free(u);
}

TEST(state_hostile)
{
    static const struct {
        const char *sentence;
        size_t at; /* in struct virtio_dev */
        uint64_t val;
        unsigned bytes;
    } bad[] = {
        {"features 0x2, which", offsetof(struct virtio_dev, driver_features),
         VIRTIO_F_VERSION_1 | 2, 8},
        {"saved status 0x4 ", offsetof(struct virtio_dev, status), 4, 1},
        {"configuration vector 3 of 3",
         offsetof(struct virtio_dev, config_vector), 3, 2},
        {"queue 0: its size is no power",
         offsetof(struct virtio_dev, vq[0].size), 3, 2},
        {"queue 1 has 0 entries", offsetof(struct virtio_dev, vq[1].size), 0,
         2},
        {"queue 0: a ring's address", offsetof(struct virtio_dev, vq[0].desc),
         1, 8},
        {"queue 0: a ring is not in RAM",
         offsetof(struct virtio_dev, vq[0].device), RAM, 8},
        {"queue 0 uses MSI-X vector 9",
         offsetof(struct virtio_dev, vq[0].vector), 9, 2},
    };

    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct echo *t = echo_new(true), *u = echo_new(true);
        struct state_buf b = {0};
        struct err e = {{0}};

        CHECK(dm_start(&t->q, 0, QSIZE, RINGS));
        memcpy((uint8_t *)&t->vd + bad[i].at, &bad[i].val, bad[i].bytes);
        CHECK_EQ(state_list_save(t->m.vm.state, &b, NULL), 0);
        CHECK_EQ(state_list_load(u->m.vm.state, &b, &e), -EINVAL);
        if (!strstr(e.text, bad[i].sentence)) {
            printf("%s: %s\n", bad[i].sentence, e.text);
            test_failures++;
        }
        state_buf_fini(&b);
        echo_free(t);
        echo_free(u);
    }
}

/* clang-format off */
TEST_MAIN(CASE(pci_identity), CASE(negotiation), CASE(queue_registers),
          CASE(device_config), CASE(window_through_config_space),
          CASE(plain_io), CASE(intx_without_msix), CASE(indirect),
          CASE(event_idx), CASE(nothing_before_driver_ok),
          CASE(misuse_needs_reset), CASE(four_gib_chain),
          CASE(more_in_flight_than_descriptors),
          CASE(reset_waits_for_what_is_in_flight),
          CASE(registers_are_fixed_while_enabled), CASE(state_round_trip),
          CASE(state_hostile))
