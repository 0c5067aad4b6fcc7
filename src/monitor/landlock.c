// SPDX-License-Identifier: Apache-2.0
/*
 * Landlock by system call number, so that it works with a C library that does
 * not know it. A right that the kernel does not know must not be asked for, so
 * the masks grow with its version.
 * Source: Linux Documentation/userspace-api/landlock.rst, "Compatibility".
 */
#include "monitor/landlock.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "base/bits.h"
#include "base/cc.h"

#define NR_CREATE_RULESET 444
#define NR_RESTRICT_SELF  446
#define FLAG_VERSION      1U

struct ruleset_attr {
    uint64_t handled_fs;
    uint64_t handled_net; /* version 4 */
    uint64_t scoped;      /* version 6 */
};

int landlock_abi(void)
{
    long v = syscall(NR_CREATE_RULESET, NULL, 0, FLAG_VERSION);

    return v > 0 ? (int)v : 0;
}

static size_t fill(struct ruleset_attr *attr, int abi)
{
    /* 13 rights in version 1, then REFER, TRUNCATE, IOCTL_DEV. */
    unsigned rights = abi >= 5 ? 16 : abi >= 3 ? 15 : abi >= 2 ? 14 : 13;

    attr->handled_fs = BITS(rights - 1, 0);
    if (abi < 4)
        return offsetof(struct ruleset_attr, handled_net);
    attr->handled_net = BITS(1, 0);
    if (abi < 6)
        return offsetof(struct ruleset_attr, scoped);
    attr->scoped = BITS(1, 0);
    return sizeof *attr;
}

bool landlock_deny_all(void)
{
    struct ruleset_attr attr = {0, 0, 0};
    int abi = landlock_abi();
    size_t size;
    int fd;
    bool ok;

    if (!abi)
        return false;
    size = fill(&attr, abi);
    fd = (int)syscall(NR_CREATE_RULESET, &attr, size, 0);
    if (fd < 0)
        return false;
    ok = syscall(NR_RESTRICT_SELF, fd, 0) == 0;
    close(fd);
    return ok;
}
