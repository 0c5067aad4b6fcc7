// SPDX-License-Identifier: Apache-2.0
/* What this host offers, one check after the other; doctor prints them. */
#ifndef DOPPEL_CLI_HOSTCHECK_H
#define DOPPEL_CLI_HOSTCHECK_H

#include "base/cc.h"

#include <stdbool.h>

struct hostcheck {
    const char *name;
    const char *use; /* what doppel uses it for */
    bool ok;
    char detail[128]; /* one clause */
};

#define HOSTCHECKS_MAX 16

/** hostcheck_all() - run every check
 * @out: of HOSTCHECKS_MAX, filled. Return: how many. */
unsigned hostcheck_all(struct hostcheck *out);

/** hostcheck_jail() - which jail layers a monitor gets here
 * Closes the real jail around a child. Return: JAIL_* bits. */
unsigned hostcheck_jail(void);

#endif
