// SPDX-License-Identifier: Apache-2.0
/* Rows about the kernel: calls, processes, signals, pipes, files, threads. */
#include "suite.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

static void call(uint64_t n)
{
    while (n--)
        suite_use((uint64_t)syscall(SYS_getppid));
}

static void clock_row(uint64_t n)
{
    struct timespec t;

    while (n--) {
        clock_gettime(CLOCK_MONOTONIC, &t);
        suite_use((uint64_t)t.tv_nsec);
    }
}

static void reap(pid_t pid)
{
    int status;

    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        suite_die("fork or its child");
}

static void fork_exit(uint64_t n)
{
    while (n--) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(0);
        reap(pid);
    }
}

static void fork_exec(uint64_t n)
{
    while (n--) {
        pid_t pid = fork();

        if (pid == 0) {
            execl("/proc/self/exe", "suite", "--exit", (char *)NULL);
            _exit(127);
        }
        reap(pid);
    }
}

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

static void signal_prepare(void)
{
    struct sigaction sa = {.sa_handler = on_signal};

    if (sigaction(SIGUSR1, &sa, NULL))
        suite_die("signal");
}

static void signal_row(uint64_t n)
{
    pid_t me = getpid();

    while (n--)
        kill(me, SIGUSR1);
}

/* One byte there and back between two processes. */
static void pipe_row(uint64_t n)
{
    int to[2], from[2];
    char c = 0;
    pid_t pid;

    if (pipe(to) || pipe(from))
        suite_die("pipe");
    pid = fork();
    if (pid == 0) {
        close(to[1]);
        while (read(to[0], &c, 1) == 1)
            if (write(from[1], &c, 1) != 1)
                break;
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    while (n--)
        if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1)
            suite_die("pipe");
    close(to[1]);
    close(from[0]);
    reap(pid);
}

static void mmap_row(uint64_t n)
{
    while (n--) {
        volatile char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            suite_die("mmap");
        p[0] = p[PAGE] = 1;
        if (mprotect((void *)p, 4 * PAGE, PROT_READ))
            suite_die("mprotect");
        munmap((void *)p, 4 * PAGE);
    }
}

static void file_row(uint64_t n)
{
    static char buf[PAGE];
    char path[64];

    snprintf(path, sizeof path, "%s/suite.%d", suite_tmp(), (int)getpid());
    while (n--) {
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

        if (fd < 0 || write(fd, buf, PAGE) != PAGE ||
            pread(fd, buf, PAGE, 0) != PAGE)
            suite_die("file");
        close(fd);
        unlink(path);
    }
}

static void stat_row(uint64_t n)
{
    struct stat st;

    while (n--) {
        if (stat("/proc/self", &st))
            suite_die("stat");
        suite_use((uint64_t)st.st_ino);
    }
}

static void *thread_fn(void *arg)
{
    return arg;
}

static void threads(uint64_t n)
{
    while (n--) {
        pthread_t t;

        if (pthread_create(&t, NULL, thread_fn, NULL))
            suite_die("pthread_create");
        pthread_join(t, NULL);
    }
}

const struct row rows_kernel[] = {
    {"syscall", "getppid", call, NULL, 0},
    {"clock", "clock_gettime", clock_row, NULL, 0},
    {"fork", "fork, exit, wait", fork_exit, NULL, 0},
    {"exec", "fork, exec, exit, wait", fork_exec, NULL, 0},
    {"signal", "kill self, handler, return", signal_row, signal_prepare, 0},
    {"pipe", "byte to a process and back", pipe_row, NULL, 0},
    {"mmap", "mmap, touch 2, mprotect, munmap", mmap_row, NULL, 0},
    {"file", "create, write and read 4 KiB, unlink", file_row, NULL, 0},
    {"stat", "stat of /proc/self", stat_row, NULL, 0},
    {"threads", "pthread_create and join", threads, NULL, 0},
    {NULL, NULL, NULL, NULL, 0},
};
