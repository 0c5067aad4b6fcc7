// SPDX-License-Identifier: Apache-2.0
/*
 * The block device: taking requests from the queue, giving them back, device
 * configuration, saved state.
 *
 * A notification takes at most a queue's worth of requests; if there may be
 * more, a timer of the VM's clock goes on, so that no guest holds a vCPU thread
 * in here for longer. The pool has a request for each descriptor, and a queue
 * has never more chains in flight, so that a request is always free.
 */
#include "dev/virtio-blk/virtio_blk.h"

#include "base/assert.h"
#include "dev/virtio-blk/virtio_blk_internal.h"

#include <errno.h>
#include <string.h>

#define DEVICE_ID 2 /* virtio 1.2, 5.2.1 */
#define RESUME_NS (10 * NS_PER_US)

/* ---- requests ---- */

/* The next free request; the caller takes it by req_take_locked. */
static struct blk_req *req_peek_locked(struct virtio_blk *blk)
{
    if (blk->free_head != BLK_NO_REQ)
        return &blk->pool[blk->free_head];
    return blk->fresh < blk->class.queue_size ? &blk->pool[blk->fresh] : NULL;
}

static void req_take_locked(struct virtio_blk *blk, struct blk_req *req)
{
    if (blk->free_head != BLK_NO_REQ)
        blk->free_head = req->next_free;
    else
        blk->fresh++;
    req->blk = blk;
}

static void req_free_locked(struct virtio_blk *blk, struct blk_req *req)
{
    req->next_free = blk->free_head;
    blk->free_head = (uint16_t)(req - blk->pool);
}

/* Whether a write must be on stable storage when it completes.
 * Source: virtio 1.2, 5.2.6.2. */
static bool writethrough_locked(const struct virtio_blk *blk)
{
    if (virtio_has(&blk->vd, BLK_F_CONFIG_WCE))
        return blk->vd.cfg[offsetof(struct blk_config, writeback)] == 0;
    return !virtio_has(&blk->vd, BLK_F_FLUSH);
}

void blk_req_complete(struct blk_req *req, uint32_t written)
{
    struct virtio_blk *blk = req->blk;
    struct vq *vq = &blk->vd.vq[0];

    pthread_mutex_lock(&blk->vd.lock);
    vq_push(vq, &req->chain, written);
    vq_signal(vq);
    req_free_locked(blk, req);
    pthread_mutex_unlock(&blk->vd.lock);
}

/* Take one request off the queue and check it. NULL: nothing to take. */
static struct blk_req *req_pop_locked(struct virtio_blk *blk)
{
    struct blk_req *req = req_peek_locked(blk);
    struct vq *vq = &blk->vd.vq[0];

    if (!req || vq_pop(vq, &req->chain) <= 0)
        return NULL;
    req_take_locked(blk, req);
    req->writethrough = writethrough_locked(blk);
    if (blk_req_parse(req) == 0)
        return req;
    virtio_misuse(&blk->vd, "request without a header or a status byte");
    vq_drop(vq, &req->chain);
    req_free_locked(blk, req);
    return NULL;
}

/* Guest time must pass in between, or clock_run would never return. */
static void resume_later(struct virtio_blk *blk)
{
    struct clock *clk = blk->vd.vm->clock;

    timer_arm(clk, &blk->resume, clock_now_ns(clk) + RESUME_NS);
}

static void process(struct virtio_blk *blk)
{
    struct virtio_dev *vd = &blk->vd;
    bool more = false;

    for (unsigned i = 0; i < blk->class.queue_size; i++) {
        struct blk_req *req;

        pthread_mutex_lock(&vd->lock);
        req = req_pop_locked(blk);
        pthread_mutex_unlock(&vd->lock);
        if (!req)
            return;
        blk_req_run(req);
    }
    pthread_mutex_lock(&vd->lock);
    more = virtio_running(vd) && !blk->resume_armed;
    if (more)
        blk->resume_armed = true;
    pthread_mutex_unlock(&vd->lock);
    if (more)
        resume_later(blk);
}

static void resume(void *ctx)
{
    struct virtio_blk *blk = ctx;

    pthread_mutex_lock(&blk->vd.lock);
    blk->resume_armed = false;
    pthread_mutex_unlock(&blk->vd.lock);
    process(blk);
}

/* ---- the class ---- */

static void notify(void *ctx, unsigned q)
{
    (void)q;
    process(ctx);
}

static void cfg_written(void *ctx, unsigned off, unsigned size)
{
    struct virtio_blk *blk = ctx;
    uint8_t *wb = &blk->vd.cfg[offsetof(struct blk_config, writeback)];

    (void)off;
    (void)size;
    *wb = *wb != 0;
}

static void reset(void *ctx)
{
    struct virtio_blk *blk = ctx;

    blk->vd.cfg[offsetof(struct blk_config, writeback)] = 1;
}

static const struct virtio_class class = {
    .name = "virtio-blk",
    .device_id = DEVICE_ID,
    .pci_class = PCI_CLASS_STORAGE_OTHER,
    .nqueues = 1,
    .queue_size = VQ_SIZE_MAX,
    .cfg_bytes = sizeof(struct blk_config),
    .notify = notify,
    .cfg_written = cfg_written,
    .reset = reset,
};

/* ---- saved state ---- */

static void pre_save(void *obj)
{
    struct virtio_blk *blk = obj;

    blk->writeback = blk->vd.cfg[offsetof(struct blk_config, writeback)];
}

/* capacity_sectors was loaded over our own: compare with the back end's. */
static int post_load(void *obj, uint32_t version, struct err *e)
{
    struct virtio_blk *blk = obj;
    uint64_t saved = blk->capacity_sectors;

    (void)version;
    blk->capacity_sectors = blk->bd.size_bytes >> BLK_SECTOR_SHIFT;
    if (saved != blk->capacity_sectors)
        return err_set(e, -EINVAL,
                       "virtio-blk: the saved disk has %llu sectors, this one "
                       "has %llu",
                       (unsigned long long)saved,
                       (unsigned long long)blk->capacity_sectors);
    if (blk->writeback > 1)
        return err_set(e, -EINVAL, "virtio-blk: saved cache mode %u cannot be",
                       blk->writeback);
    blk->vd.cfg[offsetof(struct blk_config, writeback)] = blk->writeback;
    if (blk->resume_armed)
        resume_later(blk);
    return 0;
}

static const struct state_field fields[] = {
    SF_U64(virtio_blk, capacity_sectors),
    SF_U8(virtio_blk, writeback),
    SF_BOOL(virtio_blk, resume_armed),
    SF_END,
};

static const struct state_desc blk_state = {
    .name = "virtio-blk",
    .version = 1,
    .min_version = 1,
    .fields = fields,
    .pre_save = pre_save,
    .post_load = post_load,
};

/* ---- construction ---- */

static void fill_config(const struct virtio_blk *blk, struct blk_config *c)
{
    memset(c, 0, sizeof *c);
    c->capacity = le64(blk->capacity_sectors);
    /* A header and a status byte have descriptors of their own. */
    c->seg_max =
        le32(blk->class.queue_size > 2 ? blk->class.queue_size - 2U : 1);
    c->blk_size = le32(BLK_SECTOR_BYTES);
    c->writeback = 1;
    c->max_discard_sectors = le32(BLK_RANGE_SECTORS);
    c->max_discard_seg = le32(BLK_RANGES_MAX);
    c->discard_sector_alignment = le32(1);
    c->max_write_zeroes_sectors = le32(BLK_RANGE_SECTORS);
    c->max_write_zeroes_seg = le32(BLK_RANGES_MAX);
}

static uint64_t offered(const struct virtio_blk *blk)
{
    uint64_t f = BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_FLUSH;

    if (blk->bd.read_only)
        return f | BLK_F_RO;
    return f | BLK_F_CONFIG_WCE | BLK_F_DISCARD | BLK_F_WRITE_ZEROES;
}

int virtio_blk_create(struct vm *vm, struct pci_bus *bus, unsigned devfn,
                      struct irq_line intx, const struct virtio_blk_conf *conf,
                      struct virtio_blk **out, struct err *e)
{
    struct virtio_blk *blk = calloc(1, sizeof *blk);
    struct blk_config config;
    int r;

    if (!blk)
        return err_set(e, -ENOMEM, "virtio-blk: no memory");
    blk->class = class;
    if (conf->queue_size)
        blk->class.queue_size = conf->queue_size;
    blk->bd = conf->bd;
    blk->capacity_sectors = conf->bd.size_bytes >> BLK_SECTOR_SHIFT;
    blk->free_head = BLK_NO_REQ;
    if (conf->serial)
        memcpy(blk->id, conf->serial, strnlen(conf->serial, sizeof blk->id));
    timer_init(&blk->resume, resume, blk);
    r = -ENOMEM;
    blk->pool = calloc(blk->class.queue_size, sizeof *blk->pool);
    if (!blk->pool) {
        err_set(e, r, "virtio-blk: no memory for %u requests",
                blk->class.queue_size);
        goto fail;
    }
    fill_config(blk, &config);
    r = virtio_init(&blk->vd, vm, bus, devfn, intx, &blk->class, blk,
                    offered(blk), &config, e);
    if (r < 0)
        goto fail;
    if (!conf->bd.read_only)
        blk->vd.cfg_wmask[offsetof(struct blk_config, writeback)] = 0xff;
    r = state_list_add(vm->state, &blk_state, devfn, blk);
    if (r == 0) {
        *out = blk;
        return 0;
    }
    err_set(e, r, "virtio-blk: no memory for the state list");
    virtio_fini(&blk->vd);
fail:
    free(blk->pool);
    free(blk);
    return r;
}

void virtio_blk_drain(struct virtio_blk *blk)
{
    virtio_drain(&blk->vd);
    blk->bd.ops->drain(blk->bd.be);
}

void virtio_blk_destroy(struct virtio_blk *blk)
{
    if (!blk)
        return;
    timer_disarm(blk->vd.vm->clock, &blk->resume);
    virtio_blk_drain(blk);
    virtio_fini(&blk->vd);
    free(blk->pool);
    free(blk);
}

struct virtio_dev *virtio_blk_dev(struct virtio_blk *blk)
{
    return &blk->vd;
}
