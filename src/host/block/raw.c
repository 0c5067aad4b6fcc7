// SPDX-License-Identifier: Apache-2.0
/*
 * The raw block back end; see raw.h. One queue (first in, first out) under one
 * mutex; each thread takes the oldest request, runs its system calls without
 * the mutex, and calls done().
 *
 * Discard punches a hole, write-zeroes asks the file system for zeroes; where
 * it knows neither, discard does nothing (it is advice) and zeroes are written.
 */
#include "host/block/raw.h"

#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>

#define IOV_BATCH        64 /* pieces per system call */
#define ZERO_CHUNK_BYTES 65536U

struct raw {
    int fd;
    bool read_only;
    bool synchronous;
    uint64_t size_bytes;
    pthread_mutex_t lock;
    pthread_cond_t work; /* the queue got longer, or stopping */
    pthread_cond_t idle; /* nothing queued or running */
    struct block_req *head, **tail;
    unsigned in_flight;
    bool stopping;
    unsigned nthreads;
    pthread_t thread[BLOCK_THREADS_MAX];
};

static const uint8_t zeroes[ZERO_CHUNK_BYTES];

/* ---- one request's system calls ---- */

/* Copy up to IOV_BATCH of the pieces that remain after @skip bytes. */
static int iov_window(const struct block_req *req, uint64_t skip,
                      struct iovec *out)
{
    int n = 0;

    for (int i = 0; i < req->niov && n < IOV_BATCH; i++) {
        struct iovec v = req->iov[i];

        if (skip >= v.iov_len) {
            skip -= v.iov_len;
            continue;
        }
        out[n].iov_base = (uint8_t *)v.iov_base + skip;
        out[n].iov_len = v.iov_len - skip;
        skip = 0;
        n++;
    }
    return n;
}

static uint64_t iov_total(const struct block_req *req)
{
    uint64_t sum = 0;

    for (int i = 0; i < req->niov; i++)
        sum += req->iov[i].iov_len;
    return sum;
}

/* Read or write all of @req, however small the kernel's portions are. */
static int transfer(struct raw *raw, const struct block_req *req)
{
    struct iovec iov[IOV_BATCH];
    uint64_t done = 0;

    if (iov_total(req) != req->len_bytes)
        return -EINVAL;
    while (done < req->len_bytes) {
        int n = iov_window(req, done, iov);
        off_t at = (off_t)(req->off_bytes + done);
        ssize_t r = req->op == BLOCK_READ ? preadv(raw->fd, iov, n, at)
                                          : pwritev(raw->fd, iov, n, at);

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            return -EIO; /* the file ends before its size */
        done += (uint64_t)r;
    }
    return 0;
}

static bool unsupported(int err)
{
    return err == -EOPNOTSUPP || err == -ENOSYS || err == -ENOTTY ||
           err == -EINVAL;
}

static int try_fallocate(struct raw *raw, int mode, const struct block_req *req)
{
    int r;

    do {
        r = fallocate(raw->fd, mode | FALLOC_FL_KEEP_SIZE,
                      (off_t)req->off_bytes, (off_t)req->len_bytes);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int write_zeroes_by_hand(struct raw *raw, const struct block_req *req)
{
    uint64_t done = 0;

    while (done < req->len_bytes) {
        uint64_t left = req->len_bytes - done;
        size_t n = left < ZERO_CHUNK_BYTES ? (size_t)left : ZERO_CHUNK_BYTES;
        ssize_t r = pwrite(raw->fd, zeroes, n, (off_t)(req->off_bytes + done));

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? -errno : -EIO;
        done += (uint64_t)r;
    }
    return 0;
}

static int write_zeroes(struct raw *raw, const struct block_req *req)
{
    int r = try_fallocate(raw, FALLOC_FL_ZERO_RANGE, req);

    if (unsupported(r))
        r = try_fallocate(raw, FALLOC_FL_PUNCH_HOLE, req);
    if (unsupported(r))
        r = write_zeroes_by_hand(raw, req);
    return r;
}

static int discard(struct raw *raw, const struct block_req *req)
{
    int r = try_fallocate(raw, FALLOC_FL_PUNCH_HOLE, req);

    return unsupported(r) ? 0 : r;
}

static int flush(struct raw *raw)
{
    int r;

    do {
        r = fdatasync(raw->fd);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int execute(struct raw *raw, const struct block_req *req)
{
    if (req->op == BLOCK_FLUSH)
        return raw->read_only ? 0 : flush(raw);
    if (!check_range(req->off_bytes, req->len_bytes, raw->size_bytes))
        return -EINVAL;
    if (raw->read_only && req->op != BLOCK_READ)
        return -EROFS;
    if (req->len_bytes == 0)
        return 0;
    switch (req->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        return transfer(raw, req);
    case BLOCK_DISCARD:
        return discard(raw, req);
    case BLOCK_WRITE_ZEROES:
        return write_zeroes(raw, req);
    case BLOCK_FLUSH:
        break;
    }
    return -EINVAL;
}

/* ---- queue and threads ---- */

static struct block_req *take_locked(struct raw *raw)
{
    struct block_req *req;

    while (!raw->head && !raw->stopping)
        pthread_cond_wait(&raw->work, &raw->lock);
    req = raw->head;
    if (req) {
        raw->head = req->next;
        if (!raw->head)
            raw->tail = &raw->head;
    }
    return req;
}

static void *worker(void *arg)
{
    struct raw *raw = arg;
    struct block_req *req;

    pthread_mutex_lock(&raw->lock);
    while ((req = take_locked(raw)) != NULL) {
        int result;

        pthread_mutex_unlock(&raw->lock);
        result = execute(raw, req);
        req->done(req, result); /* @req is the caller's again */
        pthread_mutex_lock(&raw->lock);
        if (--raw->in_flight == 0)
            pthread_cond_broadcast(&raw->idle);
    }
    pthread_mutex_unlock(&raw->lock);
    return NULL;
}

static void raw_submit(void *be, struct block_req *req)
{
    struct raw *raw = be;

    if (raw->synchronous) {
        req->done(req, execute(raw, req));
        return;
    }
    pthread_mutex_lock(&raw->lock);
    req->next = NULL;
    *raw->tail = req;
    raw->tail = &req->next;
    raw->in_flight++;
    pthread_cond_signal(&raw->work);
    pthread_mutex_unlock(&raw->lock);
}

static void raw_drain(void *be)
{
    struct raw *raw = be;

    pthread_mutex_lock(&raw->lock);
    while (raw->in_flight)
        pthread_cond_wait(&raw->idle, &raw->lock);
    pthread_mutex_unlock(&raw->lock);
}

static void stop_threads(struct raw *raw)
{
    pthread_mutex_lock(&raw->lock);
    raw->stopping = true;
    pthread_cond_broadcast(&raw->work);
    pthread_mutex_unlock(&raw->lock);
    for (unsigned i = 0; i < raw->nthreads; i++)
        pthread_join(raw->thread[i], NULL);
}

/* Signals belong to the threads that expect them, not to workers. */
static int start_threads(struct raw *raw, unsigned n, struct err *e)
{
    sigset_t all, old;
    int r = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (raw->nthreads < n && !r) {
        r = pthread_create(&raw->thread[raw->nthreads], NULL, worker, raw);
        if (!r)
            raw->nthreads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!r)
        return 0;
    stop_threads(raw);
    return err_set(e, -r, "cannot start I/O thread %u of %u: %s",
                   raw->nthreads + 1, n, strerror(r));
}

/* ---- construction ---- */

/* lseek says it of files and block devices alike; core handed over nothing
 * else. No stat: the jail is closed already. */
static int size_of(int fd, uint64_t *size, struct err *e)
{
    off_t end = lseek(fd, 0, SEEK_END);

    if (end < 0)
        return err_set(e, -EINVAL,
                       "the image is neither a regular file nor a "
                       "block device (%s)",
                       strerror(errno));
    *size = (uint64_t)end;
    if (*size == 0 || *size % BLOCK_SECTOR_BYTES)
        return err_set(e, -EINVAL,
                       "a raw image's size must be a multiple of 512 "
                       "bytes and not 0; this one has %" PRIu64
                       " bytes (truncate -s %%512 rounds it up)",
                       *size);
    return 0;
}

static int check_mode(int fd, bool read_only, struct err *e)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0)
        return err_set(e, -errno, "bad descriptor: %s", strerror(errno));
    if ((flags & O_ACCMODE) == O_WRONLY ||
        (!read_only && (flags & O_ACCMODE) != O_RDWR))
        return err_set(e, -EACCES, "the image is not open for %s",
                       read_only ? "reading" : "reading and writing");
    return 0;
}

static const struct blockdev_ops raw_ops = {raw_submit, raw_drain};

int block_raw_create(int fd, bool read_only, unsigned threads, bool synchronous,
                     struct blockdev *out, struct err *e)
{
    uint64_t size = 0;
    struct raw *raw;
    int r = check_mode(fd, read_only, e);

    r = r < 0 ? r : size_of(fd, &size, e);
    if (r < 0)
        return r;
    if (!synchronous && (threads < 1 || threads > BLOCK_THREADS_MAX))
        return err_set(e, -EINVAL, "%u I/O threads, not 1 to %u", threads,
                       BLOCK_THREADS_MAX);
    raw = calloc(1, sizeof *raw);
    if (!raw)
        return err_set(e, -ENOMEM, "no memory for the back end");
    raw->fd = fd;
    raw->read_only = read_only;
    raw->synchronous = synchronous;
    raw->size_bytes = size;
    raw->tail = &raw->head;
    pthread_mutex_init(&raw->lock, NULL);
    pthread_cond_init(&raw->work, NULL);
    pthread_cond_init(&raw->idle, NULL);
    r = synchronous ? 0 : start_threads(raw, threads, e);
    if (r < 0) {
        pthread_cond_destroy(&raw->idle);
        pthread_cond_destroy(&raw->work);
        pthread_mutex_destroy(&raw->lock);
        free(raw);
        return r;
    }
    *out = (struct blockdev){&raw_ops, raw, size, read_only};
    return 0;
}

void block_raw_destroy(struct blockdev *bd)
{
    struct raw *raw = bd->be;

    if (!raw)
        return;
    raw_drain(raw);
    stop_threads(raw);
    close(raw->fd);
    pthread_cond_destroy(&raw->idle);
    pthread_cond_destroy(&raw->work);
    pthread_mutex_destroy(&raw->lock);
    free(raw);
    *bd = (struct blockdev){0};
}
