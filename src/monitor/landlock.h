// SPDX-License-Identifier: Apache-2.0
/* Landlock: no path may be used at all. */
#ifndef DOPPEL_MONITOR_LANDLOCK_H
#define DOPPEL_MONITOR_LANDLOCK_H

#include <stdbool.h>

/** landlock_abi() - the kernel's Landlock version; 0: it has none */
int landlock_abi(void);

/** landlock_deny_all() - refuse every file access right, TCP bind and connect,
 * and signals and abstract sockets to others, as far as the kernel knows them
 * For the calling thread and its children. Needs no_new_privs.
 * Return: whether the kernel obeys. */
bool landlock_deny_all(void);

#endif
