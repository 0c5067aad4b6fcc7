// SPDX-License-Identifier: Apache-2.0
/*
 * The raw block back end: an open file or block device, read and written at
 * the offsets that the guest names. Opens no path and maps nothing: a file that
 * shrinks gives -EIO, not a signal.
 *
 * Requests run on a small pool of threads; two that overlap in time have no
 * order. Synchronous mode runs each inside submit, on the caller's thread, so
 * that a run on a virtual clock repeats exactly.
 */
#ifndef DOPPEL_HOST_BLOCK_RAW_H
#define DOPPEL_HOST_BLOCK_RAW_H

#include "base/cc.h"
#include "base/err.h"
#include "vm/blockdev.h"

#define BLOCK_SECTOR_BYTES 512U
#define BLOCK_THREADS_MAX  16U

/** block_raw_create() - a back end on @fd
 * @fd: takes on success: a regular file or a block device, open for reading
 *   and, unless @read_only, for writing; the size is read once, here
 * @threads: 1 to BLOCK_THREADS_MAX; ignored when @synchronous
 * Return: 0 and *out, to be ended by block_raw_destroy; -EINVAL: neither file
 *   nor block device, or its size is no multiple of 512; -ENOMEM; -EAGAIN: no
 *   threads to be had. On failure @fd stays the caller's. */
MUST_CHECK int block_raw_create(int fd, bool read_only, unsigned threads,
                                bool synchronous, struct blockdev *out,
                                struct err *e);

/** block_raw_destroy() - wait for what is in flight, end the threads, close
 * the descriptor; fine on a zeroed @bd */
void block_raw_destroy(struct blockdev *bd);

#endif
