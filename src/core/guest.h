// SPDX-License-Identifier: Apache-2.0
/* The default guest: where its kernel and initrd are. */
#ifndef DOPPEL_CORE_GUEST_H
#define DOPPEL_CORE_GUEST_H

#include "base/cc.h"
#include "base/err.h"

#include <limits.h>
#include <stdbool.h>

/* The default guest's command line; --append and the terminal's size follow.
 * The kernel's self-tests of its cryptography are left out: they are half of
 * the instructions of a boot. */
/* norandmaps: a library then lies at one address in all processes, and its
 * translation serves all of them. */
#define GUEST_CMDLINE                                                          \
    "console=ttyS0 quiet panic=-1 cryptomgr.notests norandmaps"

struct guest_files {
    char kernel[PATH_MAX];
    char initrd[PATH_MAX];
};

/** guest_find() - the default guest that belongs to this program
 * Looks at ../guest (a build tree: o/MODE/doppel, o/guest) and at
 * ../share/doppel (an installation) from the program's own folder.
 * Return: 0, or -ENOENT with a sentence that says how to make it. */
MUST_CHECK int guest_find(struct guest_files *out, struct err *e);

/** guest_find_from() - the same for a program in folder @bin */
MUST_CHECK int guest_find_from(const char *bin, struct guest_files *out,
                               struct err *e);

#endif
