// SPDX-License-Identifier: Apache-2.0
/*
 * A character device on two descriptors: the console on stdin and stdout.
 * Two threads of its own, one that reads and one that writes; bytes pass
 * unaltered. Terminal modes are not touched here (core does that).
 */
#ifndef DOPPEL_HOST_CHR_STDIO_H
#define DOPPEL_HOST_CHR_STDIO_H

#include "base/cc.h"
#include "vm/chardev.h"

#include <stdbool.h>
#include <stdint.h>

#define CHR_STDIO_RING_BYTES 65536u

struct chr_stdio;
struct err;

struct chr_conf {
    /* Ctrl-A is a prefix: x quits, a sends Ctrl-A, h prints help to stderr;
     * any other byte is sent as is, together with the Ctrl-A. */
    bool escape;
    void (*quit)(void *ctx); /* Ctrl-A x; on the reader's thread; may be NULL */
    void *ctx;
};

/** chr_stdio_create() - start both threads
 * @in_fd: read from; -1: no input. @out_fd: written to; -1: output vanishes.
 *   Both stay the caller's, must stay open until destroy, and keep their flags
 *   (a descriptor may be shared with the shell: never set to O_NONBLOCK).
 * @conf: copied; NULL: no escape. @out: gives.
 * End of file on @in_fd only ends the reading. A closed pipe (EPIPE) or any
 * other write error makes output vanish.
 * Return: 0, -ENOMEM, or what eventfd and pthread_create say. */
MUST_CHECK int chr_stdio_create(int in_fd, int out_fd,
                                const struct chr_conf *conf,
                                struct chr_stdio **out, struct err *e);

/** chr_stdio_destroy() - write out what is buffered (at most 2 s), then stop.
 * The device must be detached or gone silent. */
void chr_stdio_destroy(struct chr_stdio *c);

/** chr_stdio_chardev() - what a device is given; borrows @c */
struct chardev chr_stdio_chardev(struct chr_stdio *c);

/** chr_stdio_flush() - wait until all bytes are written, at most @timeout_ms
 * Return: whether they were. Thread: main. */
bool chr_stdio_flush(struct chr_stdio *c, unsigned timeout_ms);

/** chr_null_chardev() - output vanishes, no input ever comes */
struct chardev chr_null_chardev(void);

#endif
