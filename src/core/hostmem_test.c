// SPDX-License-Identifier: Apache-2.0
/* Memory limits, read from made-up /proc and cgroup trees. */
#include "core/hostmem.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/bits.h"
#include "base/test.h"

struct tree {
    char root[PATH_MAX];
};

static void make(struct tree *t)
{
    snprintf(t->root, sizeof t->root, "/tmp/doppel-hostmem-XXXXXX");
    CHECK(mkdtemp(t->root) != NULL);
}

static void drop(struct tree *t)
{
    char cmd[PATH_MAX + 16];

    snprintf(cmd, sizeof cmd, "rm -rf '%s'", t->root);
    CHECK_EQ(system(cmd), 0);
}

/* Write @text to @path below the root, folders made on the way. */
static void put(const struct tree *t, const char *path, const char *text)
{
    char full[2 * PATH_MAX];
    FILE *f;

    snprintf(full, sizeof full, "%s%s", t->root, path);
    for (char *p = full + strlen(t->root) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(full, 0755);
        *p = '/';
    }
    f = fopen(full, "w");
    CHECK(f != NULL);
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

TEST(no_cgroup)
{
    struct tree t;
    struct hostmem hm;

    make(&t);
    put(&t, "/proc/meminfo", "MemFree: 5 kB\nMemTotal: 2097152 kB\n");
    hostmem_get(t.root, &hm);
    CHECK_EQ(hm.total_bytes, 2 * GIB);
    CHECK_EQ(hm.cgroup_bytes, UINT64_MAX);
    drop(&t);
}

TEST(v2_parent_binds)
{
    struct tree t;
    struct hostmem hm;

    make(&t);
    put(&t, "/proc/self/cgroup", "0::/a/b\n");
    put(&t, "/proc/self/mountinfo",
        "30 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n");
    put(&t, "/sys/fs/cgroup/a/b/memory.max", "max\n");
    put(&t, "/sys/fs/cgroup/a/memory.max", "104857600\n");
    hostmem_get(t.root, &hm);
    CHECK_EQ(hm.cgroup_bytes, 100 * MIB);
    drop(&t);
}

/* In a container the mount shows only our part of the tree. */
TEST(v2_container)
{
    struct tree t;
    struct hostmem hm;

    make(&t);
    put(&t, "/proc/self/cgroup", "0::/docker/xyz/in\n");
    put(&t, "/proc/self/mountinfo",
        "30 24 0:27 /docker/xyz /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    put(&t, "/sys/fs/cgroup/memory.max", "209715200\n");
    put(&t, "/sys/fs/cgroup/in/memory.max", "max\n");
    hostmem_get(t.root, &hm);
    CHECK_EQ(hm.cgroup_bytes, 200 * MIB);
    drop(&t);
}

TEST(v1_beside_v2)
{
    struct tree t;
    struct hostmem hm;

    make(&t);
    put(&t, "/proc/self/cgroup", "5:cpu:/c\n4:memory,x:/g/h\n0::/\n");
    put(&t, "/proc/self/mountinfo",
        "30 24 0:27 / /cg/unified rw - cgroup2 cgroup2 rw\n"
        "31 24 0:28 / /cg/cpu rw - cgroup cgroup rw,cpu\n"
        "32 24 0:29 / /cg/memory rw shared:9 - cgroup cgroup rw,memory\n");
    put(&t, "/cg/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put(&t, "/cg/memory/g/memory.limit_in_bytes", "314572800\n");
    put(&t, "/cg/memory/g/h/memory.limit_in_bytes", "1048576000\n");
    hostmem_get(t.root, &hm);
    CHECK_EQ(hm.cgroup_bytes, 300 * MIB);
    drop(&t);
}

TEST(check_says_which)
{
    struct hostmem hm = {4 * GIB, GIB};
    struct err e = {.text = ""};

    CHECK_EQ(hostmem_check(&hm, GIB, &e), 0);
    CHECK_EQ(hostmem_check(&hm, GIB + MIB, &e), -ENOMEM);
    CHECK(strstr(e.text, "cgroup") && strstr(e.text, "1024 MiB"));
    CHECK_EQ(hostmem_check(&hm, 5 * GIB, &e), -ENOMEM);
    CHECK(strstr(e.text, "this host has 4096 MiB"));
}

TEST_MAIN(CASE(no_cgroup), CASE(v2_parent_binds), CASE(v2_container),
          CASE(v1_beside_v2), CASE(check_says_which))
