// SPDX-License-Identifier: Apache-2.0
/*
 * Starting a monitor.
 *
 * The child is made by clone(2) with as many new namespaces as the host gives:
 * all of them below a new user namespace; as root without that, the others; or
 * none (a container that forbids them). Then it executes this program again,
 * so that nothing of core's memory is left in it.
 *
 * In a user namespace the parent maps ids: our own to 0, which the child needs
 * while it builds its jail, and as root also 65534 (nobody), which it becomes.
 * The child waits for a byte on a pipe until that is done; a closed pipe tells
 * it that core died before PR_SET_PDEATHSIG could take effect.
 */
#include "core/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "abi/monitor.h"

#define NOBODY 65534

struct ns_flag {
    uint64_t abi;
    unsigned long clone;
};

static const struct ns_flag ns_flags[] = {
    {ABI_NS_USER, CLONE_NEWUSER}, {ABI_NS_PID, CLONE_NEWPID},
    {ABI_NS_MOUNT, CLONE_NEWNS},  {ABI_NS_NET, CLONE_NEWNET},
    {ABI_NS_IPC, CLONE_NEWIPC},   {ABI_NS_UTS, CLONE_NEWUTS},
};

/* From the most to the least; the first that works is taken. */
static const uint64_t ns_attempts[] = {
    ABI_NS_ALL,
    ABI_NS_ALL & ~(uint64_t)ABI_NS_USER,
    0,
};

/* What the child needs; made before the fork, since after it only plain
 * system calls are made. */
struct child_plan {
    int exe;
    int sock; /* the child's end */
    int null;
    int sync_read; /* a byte comes when the ids are mapped */
    char argv0[ABI_NAME_BYTES + 16];
    void (*probe)(void *ctx, uint64_t ns); /* instead of an exec */
    void *probe_ctx;
};

static unsigned long clone_flags(uint64_t ns)
{
    unsigned long flags = 0;

    for (size_t i = 0; i < ARRAY_LEN(ns_flags); i++) {
        if (ns & ns_flags[i].abi)
            flags |= ns_flags[i].clone;
    }
    return flags;
}

/* Write @text to /proc/PID/@file in one write. */
static int write_proc(pid_t pid, const char *file, const char *text)
{
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    n = write(fd, text, strlen(text));
    close(fd);
    return n < 0 ? -EPERM : 0;
}

static int map_one(pid_t pid, const char *file, unsigned outside, bool root)
{
    char text[64];

    if (root) {
        snprintf(text, sizeof text, "0 %u 1\n%d %d 1\n", outside, NOBODY,
                 NOBODY);
        if (write_proc(pid, file, text) == 0)
            return 0;
    }
    snprintf(text, sizeof text, "0 %u 1\n", outside);
    return write_proc(pid, file, text);
}

static int map_ids(pid_t pid)
{
    bool root = geteuid() == 0;
    int rc = map_one(pid, "uid_map", geteuid(), root);

    if (rc == 0 && !root)
        (void)write_proc(pid, "setgroups", "deny");
    if (rc == 0)
        rc = map_one(pid, "gid_map", getegid(), root);
    if (rc && root) { /* without CAP_SETGID */
        (void)write_proc(pid, "setgroups", "deny");
        rc = map_one(pid, "gid_map", getegid(), false);
    }
    return rc;
}

static void child_signals(void)
{
    /* A terminal sends these to the whole group; core decides on them. */
    static const int ignored[] = {SIGINT,  SIGQUIT, SIGHUP, SIGTERM,
                                  SIGPIPE, SIGTSTP, SIGTTOU};
    sigset_t none;

    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Put @from at @to; both may be any descriptors, @to < 4. */
static void child_place_fds(struct child_plan *plan)
{
    int *moved[] = {&plan->exe, &plan->sock, &plan->null, &plan->sync_read};

    for (size_t i = 0; i < ARRAY_LEN(moved); i++) {
        if (*moved[i] <= ABI_SOCK_FD)
            *moved[i] = fcntl(*moved[i], F_DUPFD_CLOEXEC, ABI_SOCK_FD + 1);
    }
    dup2(plan->null, 0);
    dup2(plan->null, 1);
    if (fcntl(2, F_GETFD) < 0)
        dup2(plan->null, 2);
    dup2(plan->sock, ABI_SOCK_FD);
}

static NORETURN void child_probe(struct child_plan *plan, uint64_t ns)
{
    char byte;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(plan->sync_read, &byte, 1) == 1)
        plan->probe(plan->probe_ctx, ns);
    syscall(SYS_exit_group, 0);
    __builtin_unreachable();
}

static NORETURN void child_run(struct child_plan *plan)
{
    char role[] = SPAWN_ROLE_MONITOR;
    char *argv[] = {plan->argv0, role, NULL};
    char *envp[] = {NULL};
    char byte;

    child_place_fds(plan);
    child_signals();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(plan->sync_read, &byte, 1) != 1)
        _exit(127);
#ifdef CLOSE_RANGE_CLOEXEC
    close_range(ABI_SOCK_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC);
#endif
    syscall(SYS_execveat, plan->exe, "", argv, envp, AT_EMPTY_PATH);
    _exit(127);
}

/* One attempt. Return: the pid, or a negative errno. */
static pid_t try_clone(struct child_plan *plan, uint64_t ns)
{
    int sync[2];
    pid_t pid;
    int rc = 0;

    if (pipe2(sync, O_CLOEXEC) < 0)
        return -errno;
    plan->sync_read = sync[0];
    /* The raw call with a NULL stack behaves as fork; core has one thread. */
    pid = (pid_t)syscall(SYS_clone, clone_flags(ns) | SIGCHLD, NULL, NULL, NULL,
                         0L);
    if (pid == 0) {
        close(sync[1]);
        if (plan->probe)
            child_probe(plan, ns);
        child_run(plan);
    }
    if (pid < 0)
        rc = -errno;
    else if (ns & ABI_NS_USER)
        rc = map_ids(pid);
    if (rc == 0 && write(sync[1], "x", 1) != 1)
        rc = -errno;
    close(sync[0]);
    close(sync[1]);
    if (rc && pid > 0) /* it saw the closed pipe and exits */
        waitpid(pid, NULL, 0);
    return rc ? rc : pid;
}

static pid_t clone_most(struct child_plan *plan, uint64_t *ns)
{
    pid_t pid = -EINVAL;

    for (size_t i = 0; i < ARRAY_LEN(ns_attempts); i++) {
        *ns = ns_attempts[i];
        pid = try_clone(plan, *ns);
        if (pid > 0)
            break;
    }
    return pid;
}

int spawn_monitor(const char *name, struct spawned *out, struct err *e)
{
    struct child_plan plan = {.exe = -1};
    int pair[2];
    int rc;

    AUTO_FD int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    AUTO_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (exe < 0 || null < 0)
        return err_set(e, -errno, "cannot open %s: %s",
                       exe < 0 ? "/proc/self/exe" : "/dev/null",
                       strerror(errno));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_set(e, -errno, "cannot make a socket for the monitor: %s",
                       strerror(errno));
    plan.exe = exe;
    plan.null = null;
    plan.sock = pair[1];
    snprintf(plan.argv0, sizeof plan.argv0, "doppel: %s", name);
    out->pid = clone_most(&plan, &out->ns);
    close(pair[1]);
    if (out->pid < 0) {
        rc = err_set(e, out->pid, "cannot start the monitor process: %s",
                     strerror(-out->pid));
        close(pair[0]);
        return rc;
    }
    out->sock = pair[0];
    return 0;
}

int spawn_probe(void (*fn)(void *ctx, uint64_t ns), void *ctx)
{
    struct child_plan plan = {.probe = fn, .probe_ctx = ctx};
    uint64_t ns;
    pid_t pid = clone_most(&plan, &ns);

    if (pid < 0)
        return pid;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return 0;
}
