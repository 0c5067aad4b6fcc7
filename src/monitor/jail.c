// SPDX-License-Identifier: Apache-2.0
/*
 * Closing the monitor's jail; see jail.h.
 *
 * Order matters: descriptors first (nothing else may be inherited), then what
 * needs privilege (mounts, changing the user), then the privilege itself, then
 * what only takes away (no_new_privs, limits, Landlock), seccomp last. Each
 * stage is best effort and says whether it worked, seccomp excepted.
 */
#include "monitor/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "monitor/landlock.h"
#include "monitor/seccomp.h"

#define NOBODY    65534
#define KEEP_MAX  128
#define SPARE_FDS 64 /* event descriptors made after the jail */

#ifndef PR_SET_MDWE
#    define PR_SET_MDWE              65
#    define PR_MDWE_REFUSE_EXEC_GAIN 1UL
#endif

static const char *const layer_names[JAIL_LAYERS] = {"user namespace",
                                                     "PID namespace",
                                                     "network namespace",
                                                     "IPC namespace",
                                                     "UTS namespace",
                                                     "empty root",
                                                     "no other descriptors",
                                                     "not root",
                                                     "no capabilities",
                                                     "limits",
                                                     "Landlock",
                                                     "seccomp"};

const char *jail_layer_name(unsigned bit)
{
    return bit < JAIL_LAYERS ? layer_names[bit] : NULL;
}

static void *idle(void *arg)
{
    return arg;
}

/* libc sets parts of itself up when they are first used, with calls that are
 * not on the list: the allocator's random key, the threads' signal handler. */
static void warm_libc(void)
{
    void *volatile first = malloc(1);
    pthread_t t;

    free(first);
    if (pthread_create(&t, NULL, idle, NULL) == 0)
        pthread_join(t, NULL);
}

/* ---- descriptors ------------------------------------------------------- */

static void sort(int *v, unsigned n)
{
    for (unsigned i = 1; i < n; i++) {
        int x = v[i];
        unsigned j = i;

        for (; j > 0 && v[j - 1] > x; j--)
            v[j] = v[j - 1];
        v[j] = x;
    }
}

/* Close what lies between the kept descriptors. Return: the highest kept one,
 * or -1 when the kernel has no close_range. */
static int close_others(const struct jail_conf *conf)
{
    int keep[KEEP_MAX + 1];
    unsigned n = 0;
    int last = -1;

    for (unsigned i = 0; i < conf->nkeep && n < KEEP_MAX; i++) {
        if (conf->keep[i] >= 0)
            keep[n++] = conf->keep[i];
    }
    keep[n++] = 2;
    sort(keep, n);
    for (unsigned i = 0; i < n; i++) {
        if (keep[i] > last + 1 &&
            close_range((unsigned)last + 1, (unsigned)keep[i] - 1, 0) < 0)
            return -1;
        last = keep[i];
    }
    return close_range((unsigned)last + 1, ~0U, 0) < 0 ? -1 : last;
}

/* ---- the root ---------------------------------------------------------- */

/* An empty, read-only tmpfs becomes the root; what was there is unmounted.
 * Needs a mount namespace of our own and CAP_SYS_ADMIN in it. */
static bool empty_root(uint64_t ns)
{
    static const char *const places[] = {"/tmp", "/var/tmp", "/run", "/mnt",
                                         "/proc"};
    unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;
    bool mounted = false;

    (void)!chdir("/"); /* let go of the user's folder, whatever follows */
    if (!(ns & ABI_NS_MOUNT) ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(places) && !mounted; i++) {
        mounted = mount("none", places[i], "tmpfs", flags,
                        "size=4k,nr_inodes=2,mode=555") == 0 &&
                  chdir(places[i]) == 0;
    }
    if (!mounted)
        return false;
    /* The old root is stacked on the new one, then detached. */
    if (syscall(SYS_pivot_root, ".", ".") == 0)
        return umount2(".", MNT_DETACH) == 0 && chdir("/") == 0;
    /* On an initramfs there is nothing to pivot from. */
    return chroot(".") == 0 && chdir("/") == 0;
}

/* ---- privileges -------------------------------------------------------- */

/* Return: whether this process is not the host's root. In a user namespace
 * whose only id is that of a plain user, 0 is that user. */
static bool become_nobody(bool host_root)
{
    if (!host_root)
        return true;
    (void)setgroups(0, NULL);
    return setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
           setresuid(NOBODY, NOBODY, NOBODY) == 0;
}

/* Whether id 0 here is id 0 outside: the map's only way to say so. */
static bool is_host_root(void)
{
    unsigned inside, outside;
    char text[256];
    ssize_t n;
    int fd;

    if (geteuid() != 0)
        return false;
    fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    if (sscanf(text, "%u %u", &inside, &outside) != 2)
        return true;
    return inside == 0 && outside == 0;
}

/* No way back to capabilities; needs CAP_SETPCAP, so before the user. */
static void bound_capabilities(void)
{
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned long cap = 0; cap < 64; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* unknown ones: EINVAL */
    (void)prctl(PR_SET_SECUREBITS,
                SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                    SECBIT_NO_SETUID_FIXUP_LOCKED,
                0, 0, 0);
}

static bool drop_capabilities(void)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2], got[2];

    memset(none, 0, sizeof none);
    memset(got, 0xff, sizeof got);
    (void)syscall(SYS_capset, &head, none);
    return syscall(SYS_capget, &head, got) == 0 &&
           memcmp(got, none, sizeof got) == 0;
}

static void limit(int what, rlim_t value)
{
    struct rlimit rl = {value, value};

    setrlimit(what, &rl);
}

static bool set_limits(int last_fd)
{
    if (last_fd >= 0)
        limit(RLIMIT_NOFILE, (rlim_t)last_fd + 1 + SPARE_FDS);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_MSGQUEUE, 0);
    /* Readable must not mean executable, whatever the user's shell set. */
    personality(PER_LINUX);
    (void)prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0);
    /* Changing ids cleared it; core's socket tells us if core went before. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 &&
           prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

static unsigned ns_layers(uint64_t ns)
{
    unsigned layers = 0;

    layers |= ns & ABI_NS_USER ? JAIL_USERNS : 0;
    layers |= ns & ABI_NS_PID ? JAIL_PIDNS : 0;
    layers |= ns & ABI_NS_NET ? JAIL_NETNS : 0;
    layers |= ns & ABI_NS_IPC ? JAIL_IPCNS : 0;
    layers |= ns & ABI_NS_UTS ? JAIL_UTSNS : 0;
    return layers;
}

int jail_enter(const struct jail_conf *conf, unsigned *layers, struct err *e)
{
    bool host_root = is_host_root();
    unsigned got = ns_layers(conf->ns);
    int last_fd, rc;

    warm_libc();
    if (conf->nkeep > KEEP_MAX)
        return err_set(e, -EINVAL, "more than %d descriptors to keep",
                       KEEP_MAX);
    last_fd = close_others(conf);
    got |= last_fd >= 0 ? JAIL_FDS : 0;
    got |= empty_root(conf->ns) ? JAIL_ROOT : 0;
    bound_capabilities();
    got |= become_nobody(host_root) ? JAIL_NOROOT : 0;
    got |= drop_capabilities() ? JAIL_NOCAPS : 0;
    if (!set_limits(last_fd))
        return err_set(e, -EPERM,
                       "cannot set no_new_privs (%s), so no guest "
                       "is run",
                       strerror(errno));
    got |= JAIL_LIMITS;
    got |= landlock_deny_all() ? JAIL_LANDLOCK : 0;
    if (CC_SANITIZED) { /* its run-time opens files and maps as it likes */
        *layers = got;
        return 0;
    }
    rc = seccomp_install(conf->kvm, conf->audit, e);
    if (rc)
        return rc;
    *layers = got | JAIL_SECCOMP;
    return 0;
}
