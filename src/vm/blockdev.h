// SPDX-License-Identifier: Apache-2.0
/*
 * A block back end, as a device sees it: a handful of function pointers.
 * Requests are asynchronous; their buffers stay the caller's until done().
 */
#ifndef DOPPEL_VM_BLOCKDEV_H
#define DOPPEL_VM_BLOCKDEV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum block_op {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH, /* everything completed before is on stable storage */
    BLOCK_DISCARD,
    BLOCK_WRITE_ZEROES
};

struct block_req {
    enum block_op op;
    uint64_t off_bytes;
    uint64_t len_bytes;
    const struct iovec *iov; /* READ, WRITE: sums up to len_bytes */
    int niov;
    /* Called once, from any thread (inside submit for a synchronous back end).
     * @result: 0, or a negative errno. */
    void (*done)(struct block_req *req, int result);
    void *ctx;
    struct block_req *next; /* the back end's own while in flight */
};

struct blockdev_ops {
    void (*submit)(void *be, struct block_req *req);
    /* Return when nothing is in flight. */
    void (*drain)(void *be);
};

struct blockdev {
    const struct blockdev_ops *ops;
    void *be;
    uint64_t size_bytes;
    bool read_only;
};

#endif
