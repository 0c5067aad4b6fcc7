// SPDX-License-Identifier: Apache-2.0
/*
 * The default guest's PID 1. Mounts what a shell needs, loads the modules of
 * the devices that are there, runs an interactive shell on the console (or,
 * with doppel.exec="COMMAND" on the kernel's command line, that command), reaps
 * orphans, and powers off when the shell or the command ends, when busybox's
 * poweroff, reboot or halt signal it, or when the power button is pressed.
 * doppel.root=DEVICE makes that device's file system the root first. LINES=,
 * COLUMNS= and TERM= on the command line describe the terminal.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

struct mount_entry {
    const char *type, *dir, *options;
    unsigned long flags;
};

static const struct mount_entry mounts[] = {
    {"proc", "/proc", "", MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"sysfs", "/sys", "", MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"devtmpfs", "/dev", "mode=0755", MS_NOSUID},
    {"devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666", MS_NOSUID},
    {"tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV},
    {"tmpfs", "/run", "mode=0755", MS_NOSUID | MS_NODEV},
    {"tmpfs", "/tmp", "mode=1777", MS_NOSUID | MS_NODEV},
};

void say(const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    dprintf(STDERR_FILENO, "init: %s\r\n", line);
}

ssize_t read_file(const char *path, char *buf, size_t size)
{
    buf[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, buf, size - 1);
    close(fd);
    buf[n > 0 ? n : 0] = '\0';
    return n;
}

/* Linux lib/cmdline.c next_arg: blanks end an argument except inside double
 * quotes; quotes around the whole argument or its value are taken off. */
bool cmdline_get(const char *key, char *out, size_t size)
{
    char line[4096];
    size_t keylen = strlen(key);
    if (read_file("/proc/cmdline", line, sizeof line) <= 0)
        return false;
    for (char *p = line; *p != '\0';) {
        p += strspn(p, " \t\n");
        char *arg = p;
        bool quoted = false;
        for (; *p != '\0' && (quoted || !strchr(" \t\n", *p)); p++)
            if (*p == '"')
                quoted = !quoted;
        if (*p != '\0')
            *p++ = '\0';
        if (*arg == '"')
            arg++;
        if (strncmp(arg, key, keylen) != 0 || arg[keylen] != '=')
            continue;
        char *val = arg + keylen + 1;
        if (*val == '"')
            val++;
        size_t len = strlen(val);
        if (len > 0 && val[len - 1] == '"')
            val[len - 1] = '\0';
        snprintf(out, size, "%s", val);
        return true;
    }
    return false;
}

static void mount_all(void)
{
    for (size_t i = 0; i < sizeof mounts / sizeof mounts[0]; i++) {
        const struct mount_entry *m = &mounts[i];
        mkdir(m->dir, 0755);
        if (mount(m->type, m->dir, m->type, m->flags, m->options) < 0 &&
            errno != EBUSY)
            say("mounting %s: %s", m->dir, strerror(errno));
    }
    (void)!symlink("/proc/self/fd", "/dev/fd");
    (void)!symlink("/proc/self/fd/0", "/dev/stdin");
    (void)!symlink("/proc/self/fd/1", "/dev/stdout");
    (void)!symlink("/proc/self/fd/2", "/dev/stderr");
}

/* The real terminal behind /dev/console (a console cannot become a controlling
 * terminal by being opened, and /dev/tty should name the real one). */
static int console_open(void)
{
    char names[128], path[160];
    if (read_file("/sys/class/tty/console/active", names, sizeof names) > 0) {
        names[strcspn(names, "\n")] = '\0';
        const char *last = strrchr(names, ' ');
        snprintf(path, sizeof path, "/dev/%s", last ? last + 1 : names);
        int fd = open(path, O_RDWR | O_NOCTTY);
        if (fd >= 0)
            return fd;
    }
    int fd = open("/dev/console", O_RDWR | O_NOCTTY);
    return fd >= 0 ? fd : open("/dev/null", O_RDWR);
}

static void console_attach(void)
{
    int fd = console_open();
    if (fd < 0)
        return;
    for (int i = 0; i < 3; i++)
        if (fd != i)
            dup2(fd, i);
    if (fd > 2)
        close(fd);
    setsid();
    ioctl(0, TIOCSCTTY, 1);
    const char *lines = getenv("LINES"), *columns = getenv("COLUMNS");
    struct winsize ws = {0};
    if (lines && columns) {
        ws.ws_row = (unsigned short)strtoul(lines, NULL, 10);
        ws.ws_col = (unsigned short)strtoul(columns, NULL, 10);
        ioctl(0, TIOCSWINSZ, &ws);
    }
    /* The shell asks the terminal; a resize must not find stale copies. */
    unsetenv("LINES");
    unsetenv("COLUMNS");
}

static void banner(void)
{
    struct utsname u;
    struct sysinfo si;
    if (uname(&u) < 0 || sysinfo(&si) < 0)
        return;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned long mib = (unsigned long)(si.totalram * si.mem_unit >> 20);
    printf("Doppel guest: Linux %s, %ld CPU%s, %lu MiB. `exit` or `poweroff` "
           "ends it.\n",
           u.release, cpus, cpus == 1 ? "" : "s", mib);
    fflush(stdout);
}

/* Start a shell in the terminal's foreground: interactive, or for @command.
 * PID 1 stays the session's leader: the end of a leader hangs the terminal up,
 * and with it goes output that is still in the UART's buffer. */
static pid_t spawn(const char *name, const char *command)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    setpgid(0, 0);
    tcsetpgrp(0, getpid()); /* SIGTTOU is ignored here */
    signal(SIGTTOU, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    const char *shell = "/bin/busybox";
    if (access(shell, X_OK) < 0)
        shell = "/bin/sh"; /* a root of doppel.root= */
    if (command)
        execl(shell, name, "-c", command, (char *)NULL);
    else
        execl(shell, name, (char *)NULL);
    say("starting %s: %s", shell, strerror(errno));
    _exit(127);
}

static pid_t spawn_main(bool *interactive)
{
    char command[4096];
    *interactive = !cmdline_get("doppel.exec", command, sizeof command);
    if (*interactive) {
        banner();
        return spawn("-sh", NULL);
    }
    return spawn("sh", command);
}

/* Reap all that ended. Return: whether @main_pid did. */
static bool reap(pid_t main_pid, int *status)
{
    bool ended = false;
    for (;;) {
        int st;
        pid_t pid = waitpid(-1, &st, WNOHANG);
        if (pid <= 0)
            return ended;
        if (pid == main_pid) {
            ended = true;
            *status = st;
        }
    }
}

static void tell_status(int status)
{
    if (WIFSIGNALED(status))
        say("the command was ended by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        say("the command ended with status %d", WEXITSTATUS(status));
}

/* Wait until something ends the guest. Return: how (a reboot() command). */
static int run(int sigfd, int buttonfd, pid_t main_pid, bool interactive)
{
    struct pollfd pfd[2] = {{.fd = sigfd, .events = POLLIN},
                            {.fd = buttonfd, .events = POLLIN}};
    for (;;) {
        if (poll(pfd, 2, -1) < 0)
            continue;
        if ((pfd[1].revents & POLLIN) && button_pressed(buttonfd))
            return RB_POWER_OFF;
        struct signalfd_siginfo si;
        if (!(pfd[0].revents & POLLIN) ||
            read(sigfd, &si, sizeof si) != (ssize_t)sizeof si)
            continue;
        int status = 0;
        switch (si.ssi_signo) {
        case SIGCHLD:
            if (!reap(main_pid, &status))
                break;
            if (!interactive)
                tell_status(status);
            return RB_POWER_OFF;
        case SIGUSR1: /* busybox halt */
            return RB_HALT_SYSTEM;
        case SIGUSR2: /* busybox poweroff */
            return RB_POWER_OFF;
        case SIGTERM: /* busybox reboot */
            return RB_AUTOBOOT;
        default:
            break;
        }
    }
}

int main(void)
{
    if (getpid() != 1) {
        say("this is the guest's first process; it does nothing as another");
        return 1;
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGTTOU, SIG_IGN);
    int sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

    mount_all();
    console_attach();
    sethostname("doppel", strlen("doppel"));
    setenv("PATH", "/sbin:/usr/sbin:/bin:/usr/bin", 1);
    setenv("HOME", "/root", 1);
    setenv("PS1", "\\u@\\h:\\w\\$ ", 1);
    modules_load();
    root_switch();
    (void)!chdir("/root");

    int buttonfd = button_open();
    bool interactive;
    pid_t main_pid = spawn_main(&interactive);
    if (main_pid < 0) {
        say("starting a process: %s", strerror(errno));
        power_down(RB_POWER_OFF);
    }
    power_down(run(sigfd, buttonfd, main_pid, interactive));
}
