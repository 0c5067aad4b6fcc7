// SPDX-License-Identifier: Apache-2.0
/*
 * For tests: a block back end in memory. Synchronous, or with a thread that
 * completes what is queued in random order. Counts, and fails on demand.
 */
#ifndef DOPPEL_DEV_VIRTIO_BLK_RAMDISK_H
#define DOPPEL_DEV_VIRTIO_BLK_RAMDISK_H

#include "vm/blockdev.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define RAMDISK_QUEUE 512

struct ramdisk {
    uint8_t *data;
    uint64_t size;
    bool threaded;
    int fail; /* result of all requests, while not 0 */
    unsigned flushes, discards, transfers, niov_max;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    struct block_req *queue[RAMDISK_QUEUE];
    unsigned n, busy;
    bool stop;
    uint32_t seed;
};

static inline void ramdisk_copy(struct ramdisk *d, const struct block_req *req)
{
    uint8_t *at = d->data + req->off_bytes;

    d->transfers++;
    if ((unsigned)req->niov > d->niov_max)
        d->niov_max = (unsigned)req->niov;
    for (int i = 0; i < req->niov; i++) {
        if (req->op == BLOCK_READ)
            memcpy(req->iov[i].iov_base, at, req->iov[i].iov_len);
        else
            memcpy(at, req->iov[i].iov_base, req->iov[i].iov_len);
        at += req->iov[i].iov_len;
    }
    if (at != d->data + req->off_bytes + req->len_bytes)
        abort();
}

static inline int ramdisk_run(struct ramdisk *d, const struct block_req *req)
{
    if (d->fail)
        return d->fail;
    if (req->off_bytes > d->size || req->len_bytes > d->size - req->off_bytes ||
        req->off_bytes % 512 || req->len_bytes % 512)
        abort(); /* the device must not let that through */
    switch (req->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        ramdisk_copy(d, req);
        break;
    case BLOCK_FLUSH:
        d->flushes++;
        break;
    case BLOCK_DISCARD:
        d->discards++;
        break;
    case BLOCK_WRITE_ZEROES:
        memset(d->data + req->off_bytes, 0, req->len_bytes);
        break;
    }
    return 0;
}

static inline void *ramdisk_thread(void *arg)
{
    struct ramdisk *d = arg;

    pthread_mutex_lock(&d->lock);
    for (;;) {
        struct block_req *req;
        unsigned i;

        while (!d->n && !d->stop)
            pthread_cond_wait(&d->work, &d->lock);
        if (!d->n)
            break;
        d->seed = d->seed * 1664525U + 1013904223U;
        i = (d->seed >> 8) % d->n;
        req = d->queue[i];
        d->queue[i] = d->queue[--d->n];
        d->busy++;
        pthread_mutex_unlock(&d->lock);
        req->done(req, ramdisk_run(d, req));
        pthread_mutex_lock(&d->lock);
        d->busy--;
        if (!d->n && !d->busy)
            pthread_cond_broadcast(&d->idle);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static inline void ramdisk_submit(void *be, struct block_req *req)
{
    struct ramdisk *d = be;

    if (!d->threaded) {
        req->done(req, ramdisk_run(d, req));
        return;
    }
    pthread_mutex_lock(&d->lock);
    if (d->n == RAMDISK_QUEUE)
        abort();
    d->queue[d->n++] = req;
    pthread_cond_signal(&d->work);
    pthread_mutex_unlock(&d->lock);
}

static inline void ramdisk_drain(void *be)
{
    struct ramdisk *d = be;

    if (!d->threaded)
        return;
    pthread_mutex_lock(&d->lock);
    while (d->n || d->busy)
        pthread_cond_wait(&d->idle, &d->lock);
    pthread_mutex_unlock(&d->lock);
}

static inline struct blockdev ramdisk_init(struct ramdisk *d, uint64_t size,
                                           bool threaded)
{
    static const struct blockdev_ops ops = {ramdisk_submit, ramdisk_drain};

    memset(d, 0, sizeof *d);
    d->data = calloc(1, size);
    d->size = size;
    d->threaded = threaded;
    d->seed = 1;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->work, NULL);
    pthread_cond_init(&d->idle, NULL);
    if (!d->data ||
        (threaded && pthread_create(&d->thread, NULL, ramdisk_thread, d)))
        abort();
    return (struct blockdev){&ops, d, size, false};
}

static inline void ramdisk_fini(struct ramdisk *d)
{
    if (d->threaded) {
        pthread_mutex_lock(&d->lock);
        d->stop = true;
        pthread_cond_signal(&d->work);
        pthread_mutex_unlock(&d->lock);
        pthread_join(d->thread, NULL);
    }
    free(d->data);
}

#endif
