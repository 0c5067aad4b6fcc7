// SPDX-License-Identifier: Apache-2.0
/*
 * Where the bytes of an image go, piece by piece and in order, as they come out
 * of a decompressor: nothing needs the whole of an unpacked image in memory,
 * so that a decompression bomb costs time up to a limit and no memory.
 */
#ifndef DOPPEL_BOOT_SINK_H
#define DOPPEL_BOOT_SINK_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct boot_sink {
    /* The bytes at offset @off of the image; the pieces are adjacent, the first
     * begins at 0. Return: 0, or a negative errno, which ends the unpacking. */
    int (*piece)(void *ctx, uint64_t off, const uint8_t *data, size_t len,
                 struct err *e);
    void *ctx;
};

#endif
