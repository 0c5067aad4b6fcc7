// SPDX-License-Identifier: Apache-2.0
/*
 * Core's side of abi/monitor.h: send the configuration and commands, receive
 * reports. A report comes from a process that a guest may have taken over:
 * fixed sizes, every field checked, text made printable.
 */
#ifndef DOPPEL_CORE_MESSAGE_H
#define DOPPEL_CORE_MESSAGE_H

#include "abi/monitor.h"
#include "base/cc.h"
#include "base/err.h"

#include <stddef.h>

struct message_report {
    enum abi_kind kind; /* ABI_READY, ABI_EXIT or ABI_FAILED */
    enum abi_exit reason;
    uint64_t code;
    char text[ABI_TEXT_BYTES]; /* printable ASCII; "" when there is none */
};

/** message_encode() - build the CONF packet of @c
 * @buf: of ABI_MSG_BYTES_MAX bytes; @fds: of ABI_FDS_MAX; both filled
 * Return: the packet's length; -E2BIG with a sentence when it does not fit. */
MUST_CHECK int message_encode(const struct monitor_conf *c, void *buf, int *fds,
                              unsigned *nfds, struct err *e);

/** message_send_conf() - encode and send, descriptors included
 * Return: 0 or negative errno with a sentence. @c keeps its descriptors. */
MUST_CHECK int message_send_conf(int sock, const struct monitor_conf *c,
                                 struct err *e);

/** message_send_command() - ABI_POWER_BUTTON or ABI_QUIT; never blocks
 * Return: 0, or a negative errno (the monitor is gone or does not listen). */
int message_send_command(int sock, enum abi_kind kind);

/** message_receive() - one report, without waiting
 * Return: 1 and *out; 0: the monitor closed its end; -EAGAIN: nothing there;
 *   -EPROTO: it sent what is no report. */
MUST_CHECK int message_receive(int sock, struct message_report *out);

/** message_decode() - the pure part of message_receive; 0 or -EPROTO */
MUST_CHECK int message_decode(const void *msg, size_t len,
                              struct message_report *out);

#endif
