// SPDX-License-Identifier: Apache-2.0
/* Start a process of a role: this program again, in namespaces of its own. */
#ifndef DOPPEL_CORE_SPAWN_H
#define DOPPEL_CORE_SPAWN_H

#include "base/cc.h"
#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

#define SPAWN_ROLE_MONITOR "--role=monitor"

struct spawned {
    pid_t pid;
    int sock;    /* core's end of the socket; CLOEXEC */
    uint64_t ns; /* ABI_NS_*: what could be had */
};

/** spawn_monitor() - fork and exec the monitor role
 * @name: of the VM; shown by ps as `doppel: NAME`
 * The child dies with this process (its thread that called), has /dev/null at
 * 0 and 1, stderr at 2, the socket at ABI_SOCK_FD, nothing else, an empty
 * environment, and ignores the signals that a terminal sends.
 * Return: 0 and *out; negative errno with a sentence. */
MUST_CHECK int spawn_monitor(const char *name, struct spawned *out,
                             struct err *e);

/** spawn_probe() - call @fn in a child that is made as a monitor is, and wait
 * @fn: borrows @ctx; what it finds must lie in memory that is shared
 * For doctor. Return: 0, or a negative errno when no child could be made. */
MUST_CHECK int spawn_probe(void (*fn)(void *ctx, uint64_t ns), void *ctx);

#endif
