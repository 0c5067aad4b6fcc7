// SPDX-License-Identifier: Apache-2.0
/* How much memory this host, and the cgroups that we are in, can give. */
#ifndef DOPPEL_CORE_HOSTMEM_H
#define DOPPEL_CORE_HOSTMEM_H

#include "base/cc.h"
#include "base/err.h"

#include <stdint.h>

struct hostmem {
    uint64_t total_bytes; /* the host's RAM */
    uint64_t
        cgroup_bytes; /* the lowest limit on the way up; UINT64_MAX: none */
};

/** hostmem_get() - read both
 * @root: "" for the real system; a folder that holds proc/ and sys/ in tests
 * What cannot be read counts as no limit. */
void hostmem_get(const char *root, struct hostmem *out);

/** hostmem_check() - whether @bytes of guest RAM can be asked for at all
 * Return: 0, or -ENOMEM with the sentence. */
MUST_CHECK int hostmem_check(const struct hostmem *hm, uint64_t bytes,
                             struct err *e);

#endif
