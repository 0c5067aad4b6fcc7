// SPDX-License-Identifier: Apache-2.0
/* What the files of this folder share: wire layouts and the request. */
#ifndef DOPPEL_DEV_VIRTIO_BLK_VIRTIO_BLK_INTERNAL_H
#define DOPPEL_DEV_VIRTIO_BLK_VIRTIO_BLK_INTERNAL_H

#include "dev/virtio-blk/virtio_blk.h"

#include <assert.h>

#define BLK_SECTOR_SHIFT 9
#define BLK_SECTOR_BYTES 512U

/* Request types and status. Source: virtio 1.2, 5.2.6. */
#define BLK_T_IN           0U
#define BLK_T_OUT          1U
#define BLK_T_FLUSH        4U
#define BLK_T_GET_ID       8U
#define BLK_T_DISCARD      11U
#define BLK_T_WRITE_ZEROES 13U
#define BLK_S_OK           0
#define BLK_S_IOERR        1
#define BLK_S_UNSUPP       2

/* Features. Source: virtio 1.2, 5.2.3. */
#define BLK_F_SEG_MAX      BIT(2)
#define BLK_F_RO           BIT(5)
#define BLK_F_BLK_SIZE     BIT(6)
#define BLK_F_FLUSH        BIT(9)
#define BLK_F_CONFIG_WCE   BIT(11)
#define BLK_F_DISCARD      BIT(13)
#define BLK_F_WRITE_ZEROES BIT(14)

struct blk_header {
    le32_t type;
    le32_t reserved;
    le64_t sector;
};
static_assert(sizeof(struct blk_header) == 16, "virtio 1.2, 5.2.6");

/* One range of a DISCARD or WRITE_ZEROES request. */
struct blk_range {
    le64_t sector;
    le32_t sectors;
    le32_t flags; /* bit 0: unmap */
};
static_assert(sizeof(struct blk_range) == 16, "virtio 1.2, 5.2.6");
#define BLK_RANGE_UNMAP   1U
#define BLK_RANGES_MAX    16U
#define BLK_RANGE_SECTORS (UINT32_MAX >> BLK_SECTOR_SHIFT)

/* Device configuration. Source: virtio 1.2, 5.2.4. */
struct blk_config {
    le64_t capacity; /* sectors of 512 */
    le32_t size_max;
    le32_t seg_max;
    le16_t cylinders;
    uint8_t heads, sectors;
    le32_t blk_size;
    uint8_t physical_block_exp, alignment_offset;
    le16_t min_io_size;
    le32_t opt_io_size;
    uint8_t writeback, unused0;
    le16_t num_queues;
    le32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    le32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
};
static_assert(sizeof(struct blk_config) == 60, "virtio 1.2, 5.2.4");

/* Pieces of one transfer to the back end. Any chain fits into one if its
 * segments have at most a page each; others go in several rounds. */
#define BLK_PIECES (2U * VQ_SIZE_MAX)
#define BLK_NO_REQ UINT16_MAX

/* A request in flight. It advances in rounds: each is one submit to the back
 * end; who comes second, done() or the return from submit(), goes on. */
struct blk_req {
    struct block_req br;
    struct virtio_blk *blk;
    uint16_t next_free;
    bool writethrough; /* flush before completion */
    bool flushed;
    uint8_t status;
    uint32_t type;
    uint64_t off_bytes;      /* IN, OUT */
    uint64_t total_bytes;    /* IN, OUT: of data */
    uint64_t done_bytes;     /* IN, OUT: in earlier rounds */
    unsigned nranges, range; /* DISCARD, WRITE_ZEROES */
    unsigned pieces;         /* pinned in this round */
    int result;              /* of this round */
    _Atomic int met;         /* 1: done() or submit() has arrived */
    struct vq_chain chain;
    struct blk_range ranges[BLK_RANGES_MAX];
    struct mem_iov pins[BLK_PIECES];
    struct iovec iov[BLK_PIECES];
};

struct virtio_blk {
    struct virtio_dev vd;
    struct virtio_class class;
    struct blockdev bd;
    uint64_t capacity_sectors;
    uint8_t id[VIRTIO_BLK_ID_BYTES];
    struct blk_req *pool; /* class.queue_size of them */
    uint16_t free_head;   /* under vd.lock */
    uint16_t fresh;       /* pool entries from here on were never used */
    struct timer resume;  /* goes on with a queue that is too busy */
    bool resume_armed;    /* under vd.lock */
    uint8_t writeback;    /* for the saved state */
};

/* request.c. Check a popped request and prepare its first round.
 * Return: 0, or -EPROTO: it has no header or no status byte. */
MUST_CHECK int blk_req_parse(struct blk_req *req);
/* Run rounds until one waits for the back end or the request is complete. */
void blk_req_run(struct blk_req *req);

/* virtio_blk.c. Give the chain back with @written bytes, free the request. */
void blk_req_complete(struct blk_req *req, uint32_t written);

#endif
