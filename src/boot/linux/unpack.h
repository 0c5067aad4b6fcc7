// SPDX-License-Identifier: Apache-2.0
/*
 * Decompresses a bzImage's payload with the real libraries, in bounded memory.
 * Runs in the monitor: the payload is hostile.
 */
#ifndef DOPPEL_BOOT_LINUX_UNPACK_H
#define DOPPEL_BOOT_LINUX_UNPACK_H

#include "base/cc.h"
#include "base/err.h"
#include "boot/sink.h"

#include <stdbool.h>

enum unpack_kind {
    UNPACK_LZ4, /* legacy frame, as Linux's own build makes it */
    UNPACK_GZIP,
    UNPACK_ELF, /* not compressed */
    UNPACK_BZIP2,
    UNPACK_LZMA,
    UNPACK_XZ,
    UNPACK_LZO,
    UNPACK_ZSTD,
    UNPACK_UNKNOWN
};

/** unpack_probe() - what a payload is, by its first bytes */
enum unpack_kind unpack_probe(const uint8_t *data, size_t len);
const char *unpack_name(enum unpack_kind kind);

/** unpack_supported() - whether unpack() can read it */
bool unpack_supported(enum unpack_kind kind);

/** unpack_size() - the unpacked size that the payload claims: its last 4 bytes
 */
uint64_t unpack_size(enum unpack_kind kind, const uint8_t *data, size_t len);

/** unpack() - decompress all of @data into @sink
 * @limit: more output than this (the claimed size) is refused
 * @name: for error sentences
 * Return: 0; -ENOEXEC damaged or truncated; -ENOMEM; what the sink returned. */
MUST_CHECK int unpack(enum unpack_kind kind, const uint8_t *data, size_t len,
                      uint64_t limit, const struct boot_sink *sink,
                      const char *name, struct err *e);

#endif
