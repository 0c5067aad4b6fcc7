// SPDX-License-Identifier: Apache-2.0
/*
 * The host's memory and the limits of our cgroups, versions 1 and 2. A limit
 * anywhere between our cgroup and the root binds, so each level is read.
 * Source: Linux Documentation/admin-guide/cgroup-v2.rst (memory.max),
 * cgroup-v1/memory.rst (memory.limit_in_bytes), proc(5) for mountinfo.
 */
#include "core/hostmem.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"

/* Version 1 says "none" by a number near 2^63. */
#define NO_LIMIT (1ULL << 60)

/* One cgroup hierarchy: where it is mounted and which file holds the limit. */
struct hierarchy {
    const char *root; /* of hostmem_get */
    bool v2;
    char mount[PATH_MAX];   /* mount point */
    char subtree[PATH_MAX]; /* what of the hierarchy is mounted there */
};

static uint64_t read_limit(const char *path)
{
    FILE *f = fopen(path, "re");
    unsigned long long v = 0;
    int n;

    if (!f)
        return UINT64_MAX;
    n = fscanf(f, "%llu", &v); /* "max": no number, no limit */
    fclose(f);
    return n == 1 && v < NO_LIMIT ? v : UINT64_MAX;
}

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);

    for (const char *p = list; (p = strstr(p, word)); p += len) {
        if ((p == list || p[-1] == ',') &&
            (p[len] == ',' || p[len] == 0 || p[len] == '\n'))
            return true;
    }
    return false;
}

/* mountinfo: id parent dev subtree mountpoint options [tags] - type source
 * superoptions. */
static bool mount_line(const char *line, struct hierarchy *h)
{
    char type[64], super[512];
    const char *dash = strstr(line, " - ");

    if (!dash ||
        sscanf(line, "%*s %*s %*s %4095s %4095s", h->subtree, h->mount) != 2)
        return false;
    if (sscanf(dash, " - %63s %*s %511s", type, super) != 2)
        return false;
    if (h->v2)
        return strcmp(type, "cgroup2") == 0;
    return strcmp(type, "cgroup") == 0 && has_word(super, "memory");
}

static bool find_mount(struct hierarchy *h)
{
    char path[PATH_MAX], line[2 * PATH_MAX + 1024];
    bool found = false;
    FILE *f;

    snprintf(path, sizeof path, "%s/proc/self/mountinfo", h->root);
    f = fopen(path, "re");
    if (!f)
        return false;
    while (!found && fgets(line, sizeof line, f))
        found = mount_line(line, h);
    fclose(f);
    return found;
}

/* The path of our group below the mount point: @group without the mounted
 * subtree; the mount point itself when it lies outside of that. */
static const char *below_mount(const struct hierarchy *h, const char *group)
{
    size_t n = strlen(h->subtree);

    if (strcmp(h->subtree, "/") == 0)
        return group;
    if (strncmp(group, h->subtree, n) == 0 &&
        (group[n] == '/' || group[n] == 0))
        return group + n;
    return "";
}

static uint64_t walk_up(const struct hierarchy *h, const char *group)
{
    const char *file = h->v2 ? "memory.max" : "memory.limit_in_bytes";
    char below[PATH_MAX], path[4 * PATH_MAX];
    uint64_t low = UINT64_MAX, limit;
    char *slash;

    snprintf(below, sizeof below, "%s", below_mount(h, group));
    for (;;) {
        snprintf(path, sizeof path, "%s%s%s/%s", h->root, h->mount, below,
                 file);
        limit = read_limit(path);
        if (limit < low)
            low = limit;
        slash = strrchr(below, '/');
        if (!slash)
            return low;
        *slash = 0;
    }
}

/* One line of /proc/self/cgroup: "0::/group" or "4:memory,x:/group". */
static uint64_t group_limit(const char *root, char *line)
{
    struct hierarchy h = {.root = root};
    char *list = strchr(line, ':');
    char *group = list ? strchr(list + 1, ':') : NULL;

    if (!group)
        return UINT64_MAX;
    *group++ = 0;
    list++;
    group[strcspn(group, "\n")] = 0;
    h.v2 = strncmp(line, "0:", 2) == 0 && !*list;
    if (!h.v2 && !has_word(list, "memory"))
        return UINT64_MAX;
    return find_mount(&h) ? walk_up(&h, group) : UINT64_MAX;
}

static uint64_t cgroup_limit(const char *root)
{
    char path[PATH_MAX], line[PATH_MAX + 256];
    uint64_t low = UINT64_MAX, limit;
    FILE *f;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    f = fopen(path, "re");
    if (!f)
        return UINT64_MAX;
    while (fgets(line, sizeof line, f)) {
        limit = group_limit(root, line);
        if (limit < low)
            low = limit;
    }
    fclose(f);
    return low;
}

static uint64_t host_total(const char *root)
{
    char path[PATH_MAX], line[256];
    unsigned long long kib = 0;
    bool found = false;
    FILE *f;

    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    f = fopen(path, "re");
    if (!f)
        return UINT64_MAX;
    while (!found && fgets(line, sizeof line, f))
        found = sscanf(line, "MemTotal: %llu kB", &kib) == 1;
    fclose(f);
    return found ? (uint64_t)kib * KIB : UINT64_MAX;
}

void hostmem_get(const char *root, struct hostmem *out)
{
    out->total_bytes = host_total(root);
    out->cgroup_bytes = cgroup_limit(root);
}

int hostmem_check(const struct hostmem *hm, uint64_t bytes, struct err *e)
{
    if (bytes > hm->total_bytes)
        return err_set(e, -ENOMEM,
                       "-m asks for %llu MiB of memory but this host has %llu "
                       "MiB: give a smaller -m",
                       (unsigned long long)(bytes / MIB),
                       (unsigned long long)(hm->total_bytes / MIB));
    if (bytes > hm->cgroup_bytes)
        return err_set(e, -ENOMEM,
                       "-m asks for %llu MiB of memory but the limit of this "
                       "process's cgroup is %llu MiB: give a smaller -m or "
                       "raise the limit",
                       (unsigned long long)(bytes / MIB),
                       (unsigned long long)(hm->cgroup_bytes / MIB));
    return 0;
}
