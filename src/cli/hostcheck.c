// SPDX-License-Identifier: Apache-2.0
/* Looking at the host; see hostcheck.h. Each check tries the thing itself and
 * does not trust version numbers. */
#include "cli/hostcheck.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "core/spawn.h"
#include "monitor/jail.h"
#include "monitor/landlock.h"

#define HWCAP2_FSGSBASE_BIT 2UL /* Linux arch/x86 asm/hwcap2.h */
#define MAPS_WANTED         65530L

static void say(struct hostcheck *c, bool ok, const char *detail)
{
    c->ok = ok;
    snprintf(c->detail, sizeof c->detail, "%s", detail);
}

static void say_errno(struct hostcheck *c, bool ok)
{
    say(c, ok, ok ? "works" : strerror(errno));
}

static void check_pku(struct hostcheck *c)
{
    int key = (int)syscall(SYS_pkey_alloc, 0UL, 0UL);

    say(c, key >= 0,
        key >= 0 ? "works" : "the CPU or the kernel does not have it");
    if (key >= 0)
        syscall(SYS_pkey_free, key);
}

static void check_fsgsbase(struct hostcheck *c)
{
    bool ok = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT;

    say(c, ok, ok ? "works" : "the kernel does not enable it");
}

static void check_userfaultfd(struct hostcheck *c)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* user mode only */);

    say_errno(c, fd >= 0);
    if (fd >= 0)
        close(fd);
}

static void check_memfd(struct hostcheck *c)
{
    int fd = memfd_create("doppel-doctor", MFD_CLOEXEC);

    say_errno(c, fd >= 0);
    if (fd >= 0)
        close(fd);
}

static void check_landlock(struct hostcheck *c)
{
    int abi = landlock_abi();

    say(c, abi > 0, strerror(errno));
    if (abi > 0)
        snprintf(c->detail, sizeof c->detail, "version %d", abi);
}

static void check_seccomp(struct hostcheck *c)
{
    uint32_t kill = SECCOMP_RET_KILL_PROCESS;

    say_errno(c, syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &kill) == 0);
}

static void note_ns(void *ctx, uint64_t ns)
{
    *(volatile uint64_t *)ctx = ns | (UINT64_C(1) << 63);
}

static void *shared_page(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void check_namespaces(struct hostcheck *c)
{
    uint64_t *ns = shared_page();
    bool ok;

    if (!ns || spawn_probe(note_ns, ns)) {
        say(c, false, "no process can be made");
        return;
    }
    ok = *ns & ABI_NS_USER;
    say(c, ok,
        ok                 ? "works"
        : *ns & ABI_NS_PID ? "only the other namespaces, as root"
                           : "no namespace can be made");
    munmap(ns, 4096);
}

static void check_tun(struct hostcheck *c)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    say(c, fd >= 0, fd >= 0 ? "/dev/net/tun opens" : strerror(errno));
    if (fd >= 0)
        close(fd);
}

static void check_cgroup2(struct hostcheck *c)
{
    char line[1024];
    FILE *f = fopen("/proc/self/mountinfo", "re");

    say(c, false, "not mounted");
    if (!f)
        return;
    while (fgets(line, sizeof line, f)) {
        if (strstr(line, " - cgroup2 "))
            say(c, true, "mounted");
    }
    fclose(f);
}

static void check_map_count(struct hostcheck *c)
{
    FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
    long n = 0;

    if (f && fscanf(f, "%ld", &n) != 1)
        n = 0;
    if (f)
        fclose(f);
    c->ok = n >= MAPS_WANTED;
    snprintf(c->detail, sizeof c->detail, "%ld", n);
}

/* Written first and made executable then, as a translator does. */
static void check_exec(struct hostcheck *c)
{
    static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};
    int (*fn)(void);
    bool ok;
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        say_errno(c, false);
        return;
    }
    memcpy(p, code, sizeof code);
    ok = mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0;
    memcpy(&fn, &p, sizeof fn);
    say_errno(c, ok && fn() == 42);
    munmap(p, 4096);
}

struct plan {
    const char *name;
    const char *use;
    void (*run)(struct hostcheck *c);
};

static const struct plan plans[] = {
    {"pku", "the translator's memory windows", check_pku},
    {"fsgsbase", "the translator's memory windows", check_fsgsbase},
    {"userfaultfd", "clones and migration that fetch memory when it is used",
     check_userfaultfd},
    {"memfd", "guest memory", check_memfd},
    {"landlock", "the jail: no path may be used", check_landlock},
    {"seccomp", "the jail: few system calls", check_seccomp},
    {"user-namespaces", "the jail: namespaces without being root",
     check_namespaces},
    {"tun", "networks with an interface of the host's", check_tun},
    {"cgroup2", "limits for a VM", check_cgroup2},
    {"max_map_count", "the translator's memory windows, which need many maps",
     check_map_count},
    {"executable-memory", "the translator", check_exec},
};

unsigned hostcheck_all(struct hostcheck *out)
{
    for (size_t i = 0; i < ARRAY_LEN(plans); i++) {
        out[i].name = plans[i].name;
        out[i].use = plans[i].use;
        plans[i].run(&out[i]);
    }
    return ARRAY_LEN(plans);
}

static void try_jail(void *ctx, uint64_t ns)
{
    volatile unsigned *out = ctx;
    struct jail_conf conf = {.ns = ns};
    unsigned layers = 0;

    if (jail_enter(&conf, &layers, NULL) == 0)
        *out = layers;
}

unsigned hostcheck_jail(void)
{
    unsigned *shared = shared_page();
    unsigned layers = 0;

    if (!shared)
        return 0;
    if (spawn_probe(try_jail, shared) == 0)
        layers = *shared;
    munmap(shared, 4096);
    return layers;
}
