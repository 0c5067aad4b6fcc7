// SPDX-License-Identifier: Apache-2.0
/*
 * One block request: what the guest asks, checked; then rounds with the back
 * end until it is complete. The header and the ranges are copied out of guest
 * memory before they are looked at; data is pinned and moved in place.
 *
 * Source: virtio 1.2, 5.2.6.
 */
#include "base/check.h"
#include "dev/virtio-blk/virtio_blk_internal.h"

#include <errno.h>
#include <string.h>

#define HEADER_BYTES sizeof(struct blk_header)
#define STATUS_BYTES 1U

/* ---- checking ---- */

static uint8_t check_transfer(struct blk_req *req, uint64_t sector)
{
    const struct virtio_blk *blk = req->blk;
    bool in = req->type == BLK_T_IN;
    uint64_t len = in ? req->chain.write_bytes - STATUS_BYTES
                      : req->chain.read_bytes - HEADER_BYTES;

    if (len % BLK_SECTOR_BYTES || (!in && blk->bd.read_only) ||
        !check_range(sector, len >> BLK_SECTOR_SHIFT, blk->capacity_sectors))
        return BLK_S_IOERR;
    req->off_bytes = sector << BLK_SECTOR_SHIFT;
    req->total_bytes = len;
    return BLK_S_OK;
}

static uint8_t check_one_range(const struct blk_req *req,
                               const struct blk_range *r)
{
    uint32_t known = req->type == BLK_T_WRITE_ZEROES ? BLK_RANGE_UNMAP : 0;
    uint32_t n = le32_get(r->sectors);

    if (le32_get(r->flags) & ~known)
        return BLK_S_UNSUPP;
    if (n > BLK_RANGE_SECTORS ||
        !check_range(le64_get(r->sector), n, req->blk->capacity_sectors))
        return BLK_S_IOERR;
    return BLK_S_OK;
}

static uint8_t check_ranges(struct blk_req *req)
{
    uint64_t len = req->chain.read_bytes - HEADER_BYTES;
    uint8_t status = BLK_S_OK;

    if (len == 0 || len % sizeof(struct blk_range) ||
        len > sizeof req->ranges || req->blk->bd.read_only)
        return BLK_S_IOERR;
    req->nranges = (unsigned)(len / sizeof(struct blk_range));
    if (vq_chain_read(req->blk->vd.vm->mem, &req->chain, HEADER_BYTES,
                      req->ranges, (size_t)len) != len)
        return BLK_S_IOERR;
    for (unsigned i = 0; i < req->nranges && status == BLK_S_OK; i++)
        status = check_one_range(req, &req->ranges[i]);
    return status;
}

static uint8_t check(struct blk_req *req, uint64_t sector)
{
    const struct virtio_dev *vd = &req->blk->vd;

    switch (req->type) {
    case BLK_T_IN:
    case BLK_T_OUT:
        return check_transfer(req, sector);
    case BLK_T_FLUSH:
    case BLK_T_GET_ID:
        return BLK_S_OK;
    case BLK_T_DISCARD:
        return virtio_has(vd, BLK_F_DISCARD) ? check_ranges(req) : BLK_S_UNSUPP;
    case BLK_T_WRITE_ZEROES:
        return virtio_has(vd, BLK_F_WRITE_ZEROES) ? check_ranges(req)
                                                  : BLK_S_UNSUPP;
    }
    return BLK_S_UNSUPP;
}

int blk_req_parse(struct blk_req *req)
{
    struct blk_header h;

    if (req->chain.write_bytes < STATUS_BYTES ||
        vq_chain_read(req->blk->vd.vm->mem, &req->chain, 0, &h, sizeof h) !=
            sizeof h)
        return -EPROTO;
    req->type = le32_get(h.type);
    req->total_bytes = req->done_bytes = 0;
    req->nranges = req->range = req->pieces = 0;
    req->flushed = false;
    req->status = check(req, le64_get(h.sector));
    return 0;
}

/* ---- rounds ---- */

/* Pin the next stretch of data. A stretch that is not the last one ends at a
 * sector; it has at least one, because BLK_PIECES pages hold more than all the
 * segments of a chain do unless one of them is larger than a page. */
static bool next_transfer(struct blk_req *req)
{
    struct mem *mem = req->blk->vd.vm->mem;
    bool in = req->type == BLK_T_IN;
    uint64_t at = req->done_bytes + (in ? 0 : HEADER_BYTES);
    uint64_t left = req->total_bytes - req->done_bytes, got;
    unsigned n = vq_chain_pin(mem, &req->chain, in, at, left, req->pins,
                              BLK_PIECES, &got);

    if (got < left && got % BLK_SECTOR_BYTES) {
        mem_put(mem, req->pins, n, false);
        n = vq_chain_pin(mem, &req->chain, in, at,
                         ALIGN_DOWN(got, BLK_SECTOR_BYTES), req->pins,
                         BLK_PIECES, &got);
    }
    req->pieces = n;
    if (got == 0) {
        req->status = BLK_S_IOERR;
        return false;
    }
    for (unsigned i = 0; i < n; i++)
        req->iov[i] = (struct iovec){req->pins[i].hva, req->pins[i].len};
    req->br.op = in ? BLOCK_READ : BLOCK_WRITE;
    req->br.off_bytes = req->off_bytes + req->done_bytes;
    req->br.len_bytes = got;
    req->br.iov = req->iov;
    req->br.niov = (int)n;
    return true;
}

static bool next_range(struct blk_req *req)
{
    const struct blk_range *r = &req->ranges[req->range++];

    req->br.op =
        req->type == BLK_T_DISCARD ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES;
    req->br.off_bytes = le64_get(r->sector) << BLK_SECTOR_SHIFT;
    req->br.len_bytes = (uint64_t)le32_get(r->sectors) << BLK_SECTOR_SHIFT;
    return true;
}

/* Set up the next submit. Return: false: none is left. */
static bool next_round(struct blk_req *req)
{
    if (req->status != BLK_S_OK)
        return false;
    req->br.iov = NULL;
    req->br.niov = 0;
    if (req->done_bytes < req->total_bytes)
        return next_transfer(req);
    if (req->range < req->nranges)
        return next_range(req);
    if (req->flushed || !(req->type == BLK_T_FLUSH ||
                          (req->writethrough && req->type != BLK_T_IN &&
                           req->type != BLK_T_GET_ID)))
        return false;
    req->flushed = true;
    req->br.op = BLOCK_FLUSH;
    req->br.off_bytes = req->br.len_bytes = 0;
    return true;
}

static void end_round(struct blk_req *req)
{
    if (req->pieces) {
        mem_put(req->blk->vd.vm->mem, req->pins, req->pieces,
                req->type == BLK_T_IN);
        req->pieces = 0;
        req->done_bytes += req->br.len_bytes;
    }
    if (req->result < 0)
        req->status = BLK_S_IOERR;
}

/* The status byte is the last writable one. Written bytes are told only when
 * all of them up to it were written. */
static void finish(struct blk_req *req)
{
    struct mem *mem = req->blk->vd.vm->mem;
    uint64_t data = req->chain.write_bytes - STATUS_BYTES, written = 0;

    if (req->type == BLK_T_GET_ID && req->status == BLK_S_OK)
        written = vq_chain_write(
            mem, &req->chain, 0, req->blk->id,
            data < VIRTIO_BLK_ID_BYTES ? (size_t)data : VIRTIO_BLK_ID_BYTES);
    else if (req->type == BLK_T_IN && req->status == BLK_S_OK)
        written = data;
    vq_chain_write(mem, &req->chain, data, &req->status, STATUS_BYTES);
    if (written == data)
        written += STATUS_BYTES;
    blk_req_complete(req, (uint32_t)written);
}

static void round_done(struct block_req *br, int result)
{
    struct blk_req *req = br->ctx;

    req->result = result;
    if (atomic_exchange(&req->met, 1) == 0)
        return; /* submit() has not returned yet: its caller goes on */
    end_round(req);
    blk_req_run(req);
}

void blk_req_run(struct blk_req *req)
{
    const struct blockdev *bd = &req->blk->bd;

    while (next_round(req)) {
        atomic_store(&req->met, 0);
        req->br.done = round_done;
        req->br.ctx = req;
        bd->ops->submit(bd->be, &req->br);
        if (atomic_exchange(&req->met, 1) == 0)
            return; /* round_done() goes on; @req is not ours any more */
        end_round(req);
    }
    finish(req);
}
