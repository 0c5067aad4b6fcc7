// SPDX-License-Identifier: Apache-2.0
/*
 * The block device behind a driver model, over a disk in memory: each request
 * type, errors, large and scattered transfers, cache modes, and random load
 * against a model, with the machine saved and rebuilt in between.
 */
#include "dev/virtio-blk/virtio_blk.h"

#include "base/test.h"
#include "dev/virtio-blk/ramdisk.h"
#include "dev/virtio-blk/virtio_blk_internal.h"
#include "dev/virtio/driver_model.h"

#define RAM     (8 * MIB)
#define RINGS   0x10000U
#define HEADERS 0x40000U /* 32 bytes for each slot: header, status */
#define DATA    0x100000U
#define SECTORS 4096U
#define QSIZE   64
#define ALL                                                                    \
    (BLK_F_FLUSH | BLK_F_CONFIG_WCE | BLK_F_DISCARD | BLK_F_WRITE_ZEROES |     \
     VIRTIO_F_INDIRECT_DESC)

struct rig {
    struct dm_vm m;
    struct virtio_blk *blk;
    struct dm_queue q;
};

struct seg {
    uint64_t at;
    uint32_t len;
};

static void rig_init(struct rig *t, struct blockdev bd, uint64_t features)
{
    struct virtio_blk_conf conf = {.bd = bd,
                                   .serial = "a serial number too long"};

    dm_vm_init(&t->m, RAM, true);
    if (virtio_blk_create(&t->m.vm, t->m.bus, PCI_DEVFN(DM_SLOT, 0),
                          dm_intx(&t->m), &conf, &t->blk, NULL) < 0)
        abort();
    dm_attach(&t->q, &t->m, true);
    CHECK(dm_start(&t->q, features, QSIZE, RINGS));
}

static void rig_fini(struct rig *t)
{
    virtio_blk_destroy(t->blk);
    dm_vm_fini(&t->m);
}

/* Build a request from descriptor @head on; @n segments of data, all readable
 * or all writable. The status byte is set to 0xee. */
static void build(struct rig *t, uint16_t head, uint32_t type, uint64_t sector,
                  const struct seg *seg, unsigned n, bool writable)
{
    struct blk_header h = {le32(type), le32(0), le64(sector)};
    uint64_t hdr = HEADERS + 32U * head;
    uint16_t d = head;

    dm_put(&t->q, hdr, &h, sizeof h);
    dm_put(&t->q, hdr + 16, "\xee", 1);
    dm_desc(&t->q, d, hdr, sizeof h, DM_NEXT, (uint16_t)(d + 1));
    for (unsigned i = 0; i < n; i++) {
        d++;
        dm_desc(&t->q, d, seg[i].at, seg[i].len,
                (uint16_t)(DM_NEXT | (writable ? DM_WRITE : 0)),
                (uint16_t)(d + 1));
    }
    dm_desc(&t->q, (uint16_t)(d + 1), hdr + 16, 1, DM_WRITE, 0);
}

static uint8_t status_of(struct rig *t, uint16_t head)
{
    uint8_t s;

    dm_get(&t->q, HEADERS + 32U * head + 16, &s, 1);
    return s;
}

/* One request, waited for. Return: its status byte; *len: bytes written. */
static uint8_t request(struct rig *t, uint32_t type, uint64_t sector,
                       const struct seg *seg, unsigned n, bool writable,
                       uint32_t *len)
{
    uint32_t id = ~0U;

    build(t, 0, type, sector, seg, n, writable);
    dm_offer(&t->q, 0);
    dm_kick(&t->q);
    virtio_blk_drain(t->blk);
    if (!dm_used(&t->q, &id, len) || id != 0)
        return 0xff;
    return status_of(t, 0);
}

static uint8_t ranges(struct rig *t, uint32_t type, uint64_t sector, uint32_t n,
                      uint32_t flags)
{
    struct blk_range r[2] = {{le64(sector), le32(n), le32(flags)},
                             {le64(0), le32(1), le32(0)}};
    struct seg s = {DATA, sizeof r};
    uint32_t len;

    dm_put(&t->q, DATA, r, sizeof r);
    return request(t, type, 0, &s, 1, false, &len);
}

TEST(config_and_id)
{
    struct ramdisk d;
    struct rig t;
    struct seg s = {DATA, 32};
    uint8_t id[32];
    uint32_t len;

    rig_init(&t, ramdisk_init(&d, SECTORS * 512, false), ALL);
    CHECK_EQ(dm_cfg_read(&t.m, PCI_DEVICE_ID, 2), 0x1042);
    CHECK_EQ(dm_read(&t.q, VIRTIO_BAR_DEVICE, 8), SECTORS);
    CHECK_EQ(dm_read(&t.q, VIRTIO_BAR_DEVICE + 12, 4), VQ_SIZE_MAX - 2);
    CHECK_EQ(dm_read(&t.q, VIRTIO_BAR_DEVICE + 20, 4), 512);
    CHECK_EQ(dm_read(&t.q, VIRTIO_BAR_DEVICE + 32, 1), 1);
    CHECK_EQ(request(&t, BLK_T_GET_ID, 0, &s, 1, true, &len), BLK_S_OK);
    CHECK_EQ(len, 20);
    dm_get(&t.q, DATA, id, sizeof id);
    CHECK(memcmp(id, "a serial number too \0\0", 22) == 0);
    s.len = 20;
    CHECK_EQ(request(&t, BLK_T_GET_ID, 0, &s, 1, true, &len), BLK_S_OK);
    CHECK_EQ(len, 21);
    CHECK_EQ(request(&t, 99, 0, &s, 1, true, &len), BLK_S_UNSUPP);
    CHECK_EQ(len, 0);
    CHECK_EQ(request(&t, 2, 0, NULL, 0, true, &len), BLK_S_UNSUPP);
    CHECK_EQ(len, 1);
    rig_fini(&t);
    ramdisk_fini(&d);
}

TEST(read_and_write)
{
    struct ramdisk d;
    struct rig t;
    struct seg out[] = {{DATA + 0xff0, 40}, {DATA + 0x3001, 472}, {DATA, 512}};
    struct seg in[] = {{DATA + 0x10000, 1024}};
    uint8_t buf[1024];
    uint32_t len;

    rig_init(&t, ramdisk_init(&d, SECTORS * 512, false), ALL);
    for (unsigned i = 0; i < sizeof buf; i++)
        buf[i] = (uint8_t)(i * 7 + 1);
    dm_put(&t.q, out[0].at, buf, 40);
    dm_put(&t.q, out[1].at, buf + 40, 472);
    dm_put(&t.q, out[2].at, buf + 512, 512);
    CHECK_EQ(request(&t, BLK_T_OUT, 5, out, 3, false, &len), BLK_S_OK);
    CHECK_EQ(len, 1);
    CHECK(memcmp(d.data + 5 * 512, buf, sizeof buf) == 0);
    CHECK_EQ(request(&t, BLK_T_IN, 5, in, 1, true, &len), BLK_S_OK);
    CHECK_EQ(len, 1025);
    memset(buf, 0, sizeof buf);
    dm_get(&t.q, in[0].at, buf, sizeof buf);
    CHECK(memcmp(d.data + 5 * 512, buf, sizeof buf) == 0);
    CHECK_EQ(t.m.vm.gate.count[INPUT_DMA], 2);
    CHECK_EQ(t.m.msis[1], 2);
    rig_fini(&t);
    ramdisk_fini(&d);
}

TEST(header_and_status_share_descriptors)
{
    struct ramdisk d;
    struct rig t;
    struct blk_header h = {le32(BLK_T_OUT), le32(0), le64(1)};
    uint8_t buf[600], back[514];
    uint32_t id, len;

    rig_init(&t, ramdisk_init(&d, SECTORS * 512, false), ALL);
    /* Header and data in one descriptor, cut in the middle of the header. */
    memset(buf, 0x77, sizeof buf);
    memcpy(buf, &h, sizeof h);
    dm_put(&t.q, DATA, buf, 528);
    dm_desc(&t.q, 0, DATA, 7, DM_NEXT, 1);
    dm_desc(&t.q, 1, DATA + 7, 521, DM_NEXT, 2);
    dm_desc(&t.q, 2, DATA + 0x2000, 1, DM_WRITE, 0);
    dm_offer(&t.q, 0);
    dm_kick(&t.q);
    CHECK(dm_used(&t.q, &id, &len));
    CHECK_EQ(d.data[512], 0x77);
    CHECK_EQ(d.data[1023], 0x77);
    /* Data and status in one. */
    h.type = le32(BLK_T_IN);
    dm_put(&t.q, DATA, &h, sizeof h);
    memset(back, 0xee, sizeof back);
    dm_put(&t.q, DATA + 0x1000, back, sizeof back);
    dm_desc(&t.q, 0, DATA, 16, DM_NEXT, 1);
    dm_desc(&t.q, 1, DATA + 0x1000, 513, DM_WRITE, 0);
    dm_offer(&t.q, 0);
    dm_kick(&t.q);
    CHECK(dm_used(&t.q, &id, &len));
    CHECK_EQ(len, 513);
    dm_get(&t.q, DATA + 0x1000, back, sizeof back);
    CHECK_EQ(back[511], 0x77);
    CHECK_EQ(back[512], BLK_S_OK);
    CHECK_EQ(back[513], 0xee);
    rig_fini(&t);
    ramdisk_fini(&d);
}

TEST(out_of_range_and_odd_sizes)
{
    struct ramdisk d;
    struct rig t;
    struct seg one = {DATA, 512}, two = {DATA, 1024}, odd = {DATA, 511};
    uint32_t len;

    rig_init(&t, ramdisk_init(&d, SECTORS * 512, false), ALL);
    CHECK_EQ(request(&t, BLK_T_IN, SECTORS - 1, &one, 1, true, &len), 0);
    CHECK_EQ(request(&t, BLK_T_IN, SECTORS - 1, &two, 1, true, &len),
             BLK_S_IOERR);
    CHECK_EQ(len, 0);
    CHECK_EQ(request(&t, BLK_T_OUT, SECTORS, &one, 1, false, &len),
             BLK_S_IOERR);
    CHECK_EQ(request(&t, BLK_T_OUT, UINT64_MAX, &one, 1, false, &len),
             BLK_S_IOERR);
    CHECK_EQ(request(&t, BLK_T_OUT, UINT64_MAX / 512, &one, 1, false, &len),
             BLK_S_IOERR);
    CHECK_EQ(request(&t, BLK_T_IN, 1ULL << 55, &one, 1, true, &len),
             BLK_S_IOERR);
    CHECK_EQ(request(&t, BLK_T_IN, 0, &odd, 1, true, &len), BLK_S_IOERR);
    CHECK_EQ(request(&t, BLK_T_OUT, 0, &odd, 1, false, &len), BLK_S_IOERR);
    CHECK_EQ(request(&t, BLK_T_IN, 0, NULL, 0, true, &len), BLK_S_OK);
    CHECK_EQ(d.transfers, 1);
    CHECK_EQ(dm_status(&t.q), 0x0f);
    rig_fini(&t);
    ramdisk_fini(&d);
}

TEST(host_error)
{
    struct ramdisk d;
    struct rig t;
    struct seg s = {DATA, 512};
    uint32_t len;

    rig_init(&t, ramdisk_init(&d, SECTORS * 512, false), ALL);
    d.fail = -EIO;
    CHECK_EQ(request(&t, BLK_T_IN, 0, &s, 1, true, &len), BLK_S_IOERR);
    CHECK_EQ(len, 0);
    CHECK_EQ(request(&t, BLK_T_OUT, 0, &s, 1, false, &len), BLK_S_IOERR);
    CHECK_EQ(request(&t, BLK_T_FLUSH, 0, NULL, 0, false, &len), BLK_S_IOERR);
    CHECK_EQ(ranges(&t, BLK_T_DISCARD, 0, 1, 0), BLK_S_IOERR);
    d.fail = -ENOSPC;
    CHECK_EQ(ranges(&t, BLK_T_WRITE_ZEROES, 0, 1, 0), BLK_S_IOERR);
    d.fail = 0;
    CHECK_EQ(request(&t, BLK_T_IN, 0, &s, 1, true, &len), BLK_S_OK);
    CHECK_EQ(dm_status(&t.q), 0x0f);
    rig_fini(&t);
    ramdisk_fini(&d);
}

TEST(read_only)
{
    struct ramdisk d;
    struct blockdev bd = ramdisk_init(&d, SECTORS * 512, false);
    struct rig t;
    struct seg s = {DATA, 512};
    uint32_t len;

    bd.read_only = true;
    rig_init(&t, bd, BLK_F_RO | BLK_F_FLUSH);
    CHECK(!dm_negotiate(&t.q, VIRTIO_F_VERSION_1 | BLK_F_DISCARD));
    CHECK(dm_start(&t.q, BLK_F_RO | BLK_F_FLUSH, QSIZE, RINGS));
    CHECK_EQ(request(&t, BLK_T_IN, 0, &s, 1, true, &len), BLK_S_OK);
    CHECK_EQ(request(&t, BLK_T_OUT, 0, &s, 1, false, &len), BLK_S_IOERR);
    CHECK_EQ(ranges(&t, BLK_T_DISCARD, 0, 1, 0), BLK_S_UNSUPP);
    CHECK_EQ(request(&t, BLK_T_FLUSH, 0, NULL, 0, false, &len), BLK_S_OK);
    dm_write(&t.q, VIRTIO_BAR_DEVICE + 32, 0, 1);
    CHECK_EQ(dm_read(&t.q, VIRTIO_BAR_DEVICE + 32, 1), 1);
    rig_fini(&t);
    ramdisk_fini(&d);
}

TEST(discard_and_zeroes)
{
    struct ramdisk d;
    struct rig t;
    struct seg s = {DATA, 24};
    uint32_t len;

    rig_init(&t, ramdisk_init(&d, SECTORS * 512, false), ALL);
    memset(d.data, 0xaa, d.size);
    CHECK_EQ(ranges(&t, BLK_T_WRITE_ZEROES, 10, 3, BLK_RANGE_UNMAP), BLK_S_OK);
    CHECK_EQ(d.data[10 * 512 - 1], 0xaa);
    CHECK_EQ(d.data[10 * 512], 0);
    CHECK_EQ(d.data[13 * 512 - 1], 0);
    CHECK_EQ(d.data[13 * 512], 0xaa);
    CHECK_EQ(d.data[0], 0); /* the second range */
    CHECK_EQ(ranges(&t, BLK_T_DISCARD, 1, 3, 0), BLK_S_OK);
    CHECK_EQ(d.discards, 2);
    CHECK_EQ(ranges(&t, BLK_T_DISCARD, 1, 3, BLK_RANGE_UNMAP), BLK_S_UNSUPP);
    CHECK_EQ(ranges(&t, BLK_T_WRITE_ZEROES, 1, 3, 2), BLK_S_UNSUPP);
    CHECK_EQ(ranges(&t, BLK_T_DISCARD, SECTORS, 1, 0), BLK_S_IOERR);
    CHECK_EQ(ranges(&t, BLK_T_WRITE_ZEROES, UINT64_MAX, 2, 0), BLK_S_IOERR);
    CHECK_EQ(ranges(&t, BLK_T_WRITE_ZEROES, 0, UINT32_MAX, 0), BLK_S_IOERR);
    CHECK_EQ(d.discards, 2);
    CHECK_EQ(request(&t, BLK_T_DISCARD, 0, &s, 1, false, &len), BLK_S_IOERR);
    s.len = 17 * 16; /* empty ranges, right by themselves, but too many */
    CHECK_EQ(mem_zero(t.m.vm.mem, gpa(DATA), s.len), 0);
    CHECK_EQ(request(&t, BLK_T_DISCARD, 0, &s, 1, false, &len), BLK_S_IOERR);
    CHECK_EQ(request(&t, BLK_T_DISCARD, 0, NULL, 0, false, &len), BLK_S_IOERR);
    CHECK(dm_start(&t.q, 0, QSIZE, RINGS)); /* not negotiated */
    CHECK_EQ(ranges(&t, BLK_T_DISCARD, 1, 3, 0), BLK_S_UNSUPP);
    CHECK_EQ(ranges(&t, BLK_T_WRITE_ZEROES, 1, 3, 0), BLK_S_UNSUPP);
    rig_fini(&t);
    ramdisk_fini(&d);
}

TEST(cache_modes)
{
    struct ramdisk d;
    struct rig t;
    struct seg s = {DATA, 512};
    uint32_t len;

    rig_init(&t, ramdisk_init(&d, SECTORS * 512, false), ALL);
    request(&t, BLK_T_OUT, 0, &s, 1, false, &len);
    CHECK_EQ(d.flushes, 0);
    CHECK_EQ(request(&t, BLK_T_FLUSH, 0, NULL, 0, false, &len), BLK_S_OK);
    CHECK_EQ(d.flushes, 1);
    dm_write(&t.q, VIRTIO_BAR_DEVICE + 32, 0, 1); /* writethrough */
    request(&t, BLK_T_OUT, 0, &s, 1, false, &len);
    CHECK_EQ(d.flushes, 2);
    request(&t, BLK_T_IN, 0, &s, 1, true, &len);
    CHECK_EQ(d.flushes, 2);
    dm_write(&t.q, VIRTIO_BAR_DEVICE + 32, 2, 1);
    CHECK_EQ(dm_read(&t.q, VIRTIO_BAR_DEVICE + 32, 1), 1);
    /* A driver that cannot flush gets writethrough. */
    CHECK(dm_start(&t.q, 0, QSIZE, RINGS));
    request(&t, BLK_T_OUT, 0, &s, 1, false, &len);
    CHECK_EQ(d.flushes, 3);
    CHECK(dm_start(&t.q, BLK_F_FLUSH, QSIZE, RINGS));
    request(&t, BLK_T_OUT, 0, &s, 1, false, &len);
    CHECK_EQ(d.flushes, 3);
    rig_fini(&t);
    ramdisk_fini(&d);
}

/* More pages than fit into one round; odd starts, so that rounds are cut. */
TEST(large_transfers)
{
    struct ramdisk d;
    struct rig t;
    struct seg s[] = {{DATA + 1, 100}, {DATA + 0x1003, 3 * MIB + 412}};
    uint64_t total = 3 * MIB + 512;
    uint8_t *buf = malloc(total);
    uint32_t len;

    rig_init(&t, ramdisk_init(&d, 4 * MIB, false), ALL);
    for (uint64_t i = 0; i < total; i++)
        d.data[512 + i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
    CHECK_EQ(request(&t, BLK_T_IN, 1, s, 2, true, &len), BLK_S_OK);
    CHECK_EQ(len, total + 1);
    CHECK(d.transfers > 1);
    CHECK(d.niov_max <= BLK_PIECES);
    dm_get(&t.q, s[0].at, buf, s[0].len);
    dm_get(&t.q, s[1].at, buf + s[0].len, s[1].len);
    CHECK(memcmp(buf, d.data + 512, total) == 0);
    memset(d.data, 0, d.size);
    CHECK_EQ(request(&t, BLK_T_OUT, 1, s, 2, false, &len), BLK_S_OK);
    CHECK(memcmp(buf, d.data + 512, total) == 0);
    CHECK_EQ(d.data[511] | d.data[512 + total], 0);
    free(buf);
    rig_fini(&t);
    ramdisk_fini(&d);
}

TEST(misuse)
{
    struct ramdisk d;
    struct rig t;
    struct seg s = {DATA, 512};
    uint32_t id, len;

    rig_init(&t, ramdisk_init(&d, SECTORS * 512, false), ALL);
    dm_desc(&t.q, 0, DATA, 16, 0, 0); /* no status byte */
    dm_offer(&t.q, 0);
    dm_kick(&t.q);
    CHECK(dm_status(&t.q) & VIRTIO_S_NEEDS_RESET);
    CHECK(!dm_used(&t.q, &id, &len));
    CHECK(dm_start(&t.q, ALL, QSIZE, RINGS));
    dm_desc(&t.q, 0, DATA, 15, DM_NEXT, 1); /* a short header */
    dm_desc(&t.q, 1, DATA, 1, DM_WRITE, 0);
    dm_offer(&t.q, 0);
    dm_kick(&t.q);
    CHECK(dm_status(&t.q) & VIRTIO_S_NEEDS_RESET);
    CHECK(dm_start(&t.q, ALL, QSIZE, RINGS)); /* nothing was left in flight */
    CHECK_EQ(request(&t, BLK_T_IN, 0, &s, 1, true, &len), BLK_S_OK);
    CHECK_EQ(virtio_blk_dev(t.blk)->stats.misuses, 2);
    rig_fini(&t);
    ramdisk_fini(&d);
}

/* A read that feeds its own queue: sector n holds the next available index and
 * the next sector number, and the read puts them where they count. Each
 * notification must end all the same; the clock goes on with the rest. */
TEST(endless_queue_is_cut)
{
    struct ramdisk d;
    struct rig t;
    struct virtio_stats *stats;

    rig_init(&t, ramdisk_init(&d, SECTORS * 512, false), ALL);
    stats = &virtio_blk_dev(t.blk)->stats;
    for (uint64_t n = 0; n < SECTORS; n++) {
        le16_t idx = le16((uint16_t)(n + 2));
        le64_t next = le64(n + 1);

        memcpy(d.data + n * 512, &idx, 2);
        memcpy(d.data + n * 512 + 2, &next, 8);
    }
    build(&t, 0, BLK_T_IN, 0,
          (struct seg[]){{t.q.avail + 2, 2}, {HEADERS + 8, 8}, {DATA, 502}}, 3,
          true);
    dm_offer(&t.q, 0); /* all ring entries are 0: always the same chain */
    dm_kick(&t.q);
    CHECK_EQ(stats->chains, VQ_SIZE_MAX);
    clock_run(t.m.vm.clock); /* no time has passed */
    CHECK_EQ(stats->chains, VQ_SIZE_MAX);
    clock_virtual_add(t.m.vm.clock, NS_PER_MS);
    clock_run(t.m.vm.clock);
    CHECK_EQ(stats->chains, 2 * VQ_SIZE_MAX);
    dm_write(&t.q, VIRTIO_C_STATUS, 0, 1);
    clock_virtual_add(t.m.vm.clock, NS_PER_MS);
    clock_run(t.m.vm.clock);
    CHECK_EQ(stats->chains, 2 * VQ_SIZE_MAX);
    CHECK_EQ(clock_next_ns(t.m.vm.clock), CLOCK_NEVER);
    rig_fini(&t);
    ramdisk_fini(&d);
}

/* ---- random load against a model ---- */

#define SLOTS      16U /* requests in flight; descriptors 4*i to 4*i+3 */
#define SLOT_SECS  (SECTORS / SLOTS)
#define SLOT_BYTES 0x8000U
#define MAX_SECS   32U

struct load {
    struct ramdisk d;
    struct rig *t;
    uint8_t *model;
    uint32_t seed;
    bool busy[SLOTS];
    uint32_t type[SLOTS];
    uint32_t sector[SLOTS], secs[SLOTS];
    unsigned completed;
};

static uint32_t rnd(struct load *l, uint32_t n)
{
    l->seed = l->seed * 1664525U + 1013904223U;
    return (l->seed >> 8) % n;
}

static void load_submit(struct load *l, unsigned i)
{
    static const uint32_t types[] = {BLK_T_IN,           BLK_T_OUT,
                                     BLK_T_IN,           BLK_T_OUT,
                                     BLK_T_WRITE_ZEROES, BLK_T_FLUSH};
    uint64_t at = DATA + i * SLOT_BYTES + rnd(l, 4096);
    uint16_t head = (uint16_t)(4 * i);
    struct seg s[2];

    l->type[i] = types[rnd(l, ARRAY_LEN(types))];
    l->secs[i] = 1 + rnd(l, MAX_SECS);
    l->sector[i] = i * SLOT_SECS + rnd(l, SLOT_SECS - MAX_SECS);
    s[0] = (struct seg){at, 1 + rnd(l, l->secs[i] * 512 - 1)};
    s[1] = (struct seg){at + s[0].len, l->secs[i] * 512 - s[0].len};
    if (l->type[i] == BLK_T_OUT) {
        uint8_t *m = l->model + l->sector[i] * 512ULL;

        memset(m, (int)rnd(l, 256), l->secs[i] * 512ULL);
        dm_put(&l->t->q, at, m, l->secs[i] * 512ULL);
        build(l->t, head, BLK_T_OUT, l->sector[i], s, 2, false);
    } else if (l->type[i] == BLK_T_IN) {
        build(l->t, head, BLK_T_IN, l->sector[i], s, 2, true);
    } else if (l->type[i] == BLK_T_WRITE_ZEROES) {
        struct blk_range r = {le64(l->sector[i]), le32(l->secs[i]), le32(0)};

        memset(l->model + l->sector[i] * 512ULL, 0, l->secs[i] * 512ULL);
        s[0] = (struct seg){at, sizeof r};
        dm_put(&l->t->q, at, &r, sizeof r);
        build(l->t, head, BLK_T_WRITE_ZEROES, 0, s, 1, false);
    } else {
        build(l->t, head, BLK_T_FLUSH, 0, NULL, 0, false);
    }
    l->busy[i] = true;
    dm_offer(&l->t->q, head);
}

static void load_check(struct load *l, unsigned i, uint32_t len)
{
    uint8_t buf[MAX_SECS * 512];
    uint8_t desc[8];
    uint64_t at;

    CHECK_EQ(status_of(l->t, (uint16_t)(4 * i)), BLK_S_OK);
    l->busy[i] = false;
    l->completed++;
    if (l->type[i] != BLK_T_IN) {
        CHECK_EQ(len, 1);
        return;
    }
    CHECK_EQ(len, l->secs[i] * 512 + 1);
    dm_get(&l->t->q, l->t->q.desc + 16ULL * (4 * i + 1), desc, sizeof desc);
    memcpy(&at, desc, sizeof at);
    dm_get(&l->t->q, at, buf, l->secs[i] * 512ULL);
    CHECK(memcmp(buf, l->model + l->sector[i] * 512ULL, l->secs[i] * 512ULL) ==
          0);
}

static unsigned load_reap(struct load *l)
{
    uint32_t id, len;
    unsigned n = 0;

    while (dm_used(&l->t->q, &id, &len)) {
        if (id % 4 || id / 4 >= SLOTS || !l->busy[id / 4]) {
            CHECK_EQ(id, UINT32_MAX);
            return n;
        }
        load_check(l, id / 4, len);
        n++;
    }
    return n;
}

static void load_init(struct load *l, bool threaded)
{
    memset(l, 0, sizeof *l);
    l->t = malloc(sizeof *l->t);
    rig_init(l->t, ramdisk_init(&l->d, SECTORS * 512, threaded),
             ALL | VIRTIO_F_EVENT_IDX);
    l->model = calloc(1, SECTORS * 512);
    l->seed = 12345;
}

static void load_fini(struct load *l)
{
    virtio_blk_drain(l->t->blk);
    load_reap(l);
    for (unsigned i = 0; i < SLOTS; i++)
        CHECK(!l->busy[i]);
    CHECK(memcmp(l->model, l->d.data, SECTORS * 512) == 0);
    rig_fini(l->t);
    free(l->t);
    ramdisk_fini(&l->d);
    free(l->model);
}

/* Fill free slots at random, notify as a driver with EVENT_IDX does. */
static void load_step(struct load *l)
{
    struct dm_queue *q = &l->t->q;
    uint16_t old = q->avail_idx;

    for (unsigned i = 0; i < SLOTS; i++) {
        if (!l->busy[i] && rnd(l, 2))
            load_submit(l, i);
    }
    if ((uint16_t)(q->avail_idx - dm_avail_event(q) - 1) <
        (uint16_t)(q->avail_idx - old))
        dm_kick(q);
    dm_used_event(q, q->used_seen);
    load_reap(l);
}

TEST(random_load)
{
    for (unsigned threaded = 0; threaded < 2; threaded++) {
        struct load *l = malloc(sizeof *l);

        load_init(l, threaded);
        while (l->completed < 20000 && !test_failures)
            load_step(l);
        load_fini(l);
        free(l);
    }
}

/* Put the guest into a new machine: the state, and RAM as it is. */
static void rebuild(struct load *l)
{
    struct rig *t = l->t, *u = malloc(sizeof *u);
    struct state_buf b = {0}, c = {0};
    struct virtio_blk_conf conf = {.bd = t->blk->bd};
    uint8_t page[4096];
    struct err e = {{0}};

    virtio_blk_drain(t->blk);
    CHECK_EQ(state_list_save(t->m.vm.state, &b, NULL), 0);
    dm_vm_init(&u->m, RAM, true);
    if (virtio_blk_create(&u->m.vm, u->m.bus, PCI_DEVFN(DM_SLOT, 0),
                          dm_intx(&u->m), &conf, &u->blk, NULL) < 0)
        abort();
    for (uint64_t a = 0; a < RAM; a += sizeof page) {
        if (mem_read(t->m.vm.mem, gpa(a), page, sizeof page) < 0 ||
            mem_write(u->m.vm.mem, gpa(a), page, sizeof page) < 0)
            abort();
    }
    if (state_list_load(u->m.vm.state, &b, &e) < 0) {
        printf("%s\n", e.text);
        test_failures++;
    }
    CHECK_EQ(state_list_save(u->m.vm.state, &c, NULL), 0);
    CHECK_EQ(state_hash(&b), state_hash(&c));
    state_buf_fini(&b);
    state_buf_fini(&c);
    u->q = t->q;
    u->q.m = &u->m;
    rig_fini(t);
    free(t);
    l->t = u;
}

TEST(state_under_load)
{
    struct load *l = malloc(sizeof *l);

    load_init(l, true);
    for (unsigned i = 0; i < 30 && !test_failures; i++) {
        for (unsigned goal = l->completed + 50 + rnd(l, 200);
             l->completed < goal && !test_failures;)
            load_step(l);
        rebuild(l); /* with requests in flight and completions not seen */
    }
    CHECK(l->completed > 1000);
    load_fini(l);
    free(l);
}

TEST(state_of_another_disk)
{
    struct ramdisk d, f;
    struct rig t, u;
    struct state_buf b = {0};
    struct err e = {{0}};

    rig_init(&t, ramdisk_init(&d, SECTORS * 512, false), ALL);
    rig_init(&u, ramdisk_init(&f, SECTORS * 512 + 512, false), ALL);
    CHECK_EQ(state_list_save(t.m.vm.state, &b, NULL), 0);
    CHECK_EQ(state_list_load(u.m.vm.state, &b, &e), -EINVAL);
    CHECK(strstr(e.text, "saved disk has 4096 sectors, this one has 4097"));
    state_buf_fini(&b);
    rig_fini(&t);
    rig_fini(&u);
    ramdisk_fini(&d);
    ramdisk_fini(&f);
}

/* clang-format off */
TEST_MAIN(CASE(config_and_id), CASE(read_and_write),
          CASE(header_and_status_share_descriptors),
          CASE(out_of_range_and_odd_sizes), CASE(host_error), CASE(read_only),
          CASE(discard_and_zeroes), CASE(cache_modes), CASE(large_transfers),
          CASE(misuse), CASE(endless_queue_is_cut), CASE(random_load),
          CASE(state_under_load), CASE(state_of_another_disk))
