// SPDX-License-Identifier: Apache-2.0
/*
 * The monitor's side of abi/monitor.h: receive and check the configuration,
 * report to core, read core's commands. After the jail is closed only read,
 * write and poll are used on the socket.
 */
#ifndef DOPPEL_MONITOR_CONF_H
#define DOPPEL_MONITOR_CONF_H

#include "abi/monitor.h"
#include "base/cc.h"
#include "base/err.h"

#include <stddef.h>

/** monitor_conf_recv() - wait for CONF and decode it
 * @sock: borrows
 * @out: filled; its descriptors are the caller's (monitor_conf_close)
 * Return: 0; -EPIPE: core is gone; -EPROTO: not a valid message, with the
 *   sentence (nothing stays open). Thread: main, before the jail. */
MUST_CHECK int monitor_conf_recv(int sock, struct monitor_conf *out,
                                 struct err *e);

/** monitor_conf_decode() - the pure part of it: bytes and descriptors to conf
 * @msg: the whole packet, @len bytes; @fds: what came with it, @nfds
 * Takes no descriptor when it fails; else all of @fds that are named by a
 * record are @out's. Every descriptor must be named exactly once. */
MUST_CHECK int monitor_conf_decode(const void *msg, size_t len, const int *fds,
                                   unsigned nfds, struct monitor_conf *out,
                                   struct err *e);

/** monitor_conf_init() - all descriptors -1, the rest zero */
void monitor_conf_init(struct monitor_conf *c);

/** monitor_conf_close() - close every descriptor of @c that is not -1 */
void monitor_conf_close(struct monitor_conf *c);

/** monitor_report() - tell core how it ended (kind ABI_EXIT)
 * @code: of ABI_EXIT_DEBUG_EXIT, else 0
 * @text: one sentence, or NULL
 * Return: 0, or a negative errno (core is gone). Thread: main. */
int monitor_report(int sock, enum abi_exit reason, uint64_t code,
                   const char *text);

/** monitor_ready() - the jail is closed, the guest starts */
int monitor_ready(int sock);

/** monitor_failed() - a failure of ours: core prints @text, status 125 */
int monitor_failed(int sock, const char *text);

/** monitor_command() - read one command; call when poll says readable
 * Return: ABI_POWER_BUTTON or ABI_QUIT; 0: core is gone, end at once;
 *   -EAGAIN: nothing there; -EPROTO: not a command (ignore it). */
MUST_CHECK int monitor_command(int sock);

#endif
