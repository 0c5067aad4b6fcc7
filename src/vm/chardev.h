// SPDX-License-Identifier: Apache-2.0
/*
 * A byte stream between a device (UART) and the host (terminal, pipe).
 * Output: the device offers bytes, the back end takes as many as it has room
 * for and calls writable() when there is room again: no byte is lost, a slow
 * reader slows the guest. Input: the back end offers bytes, the device takes as
 * many as it has room for and calls the back end's input_ready() later.
 */
#ifndef DOPPEL_VM_CHARDEV_H
#define DOPPEL_VM_CHARDEV_H

#include <stddef.h>
#include <stdint.h>

struct chardev_ops {
    /* Device -> host: take up to @len bytes. Return: how many were taken.
     * Thread: any; the device's lock may be held. Never blocks. */
    size_t (*write)(void *be, const uint8_t *buf, size_t len);
    /* The device has room for input again: offer what was refused.
     * Thread: any; the device's lock may be held: must not call back inside. */
    void (*input_ready)(void *be);
};

/* What the back end calls; set by the device. Thread: the back end's, without
 * locks of its own held. */
struct chardev_client {
    size_t (*input)(void *dev, const uint8_t *buf, size_t len); /* taken */
    void (*writable)(void *dev);
    void *dev;
};

struct chardev {
    const struct chardev_ops *ops; /* NULL: output vanishes, no input */
    void *be;
    /* Set the client (copied). NULL detaches: when it returns, no callback is
     * under way and none follows. Thread: main; no locks held. */
    void (*attach)(void *be, const struct chardev_client *client);
};

#endif
