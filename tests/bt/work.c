// SPDX-License-Identifier: Apache-2.0
/*
 * A fixed amount of work in a guest, for tests/bt/limits_test.sh:
 *     work KIND COUNT
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t taken;

static void on_signal(int s)
{
    (void)s;
    taken++;
}

static void getppids(unsigned n)
{
    while (n--)
        syscall(SYS_getppid);
}

static void forks(unsigned n)
{
    while (n--) {
        pid_t p = fork();

        if (p == 0)
            _exit(0);
        waitpid(p, NULL, 0);
    }
}

static void execs(unsigned n)
{
    while (n--) {
        pid_t p = vfork();

        if (p == 0) {
            execl("/bt/work", "work", "boot", "1", (char *)NULL);
            _exit(1);
        }
        waitpid(p, NULL, 0);
    }
}

static void pipes(unsigned n)
{
    int to[2], from[2];
    char c = 0;

    if (pipe(to) || pipe(from))
        exit(1);
    if (fork() == 0) {
        close(to[1]);
        while (read(to[0], &c, 1) == 1 && write(from[1], &c, 1) == 1)
            ;
        _exit(0);
    }
    while (n--)
        if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1)
            exit(1);
    close(to[1]);
    wait(NULL);
}

static void faults(unsigned n)
{
    size_t bytes = 4096 * 256;

    for (unsigned i = 0; i < n; i += 256) {
        char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            exit(1);
        madvise(p, bytes, MADV_NOHUGEPAGE);
        for (size_t at = 0; at < bytes; at += 4096)
            p[at] = 1;
        munmap(p, bytes);
    }
}

static void signals(unsigned n)
{
    struct sigaction sa = {.sa_handler = on_signal};

    sigaction(SIGUSR1, &sa, NULL);
    while (n--)
        raise(SIGUSR1);
}

static void nothing(unsigned n)
{
    (void)n;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(unsigned n);
    } kinds[] = {{"boot", nothing},  {"getppid", getppids}, {"fork", forks},
                 {"exec", execs},    {"pipe", pipes},       {"fault", faults},
                 {"signal", signals}};

    for (size_t i = 0; argc > 2 && i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(argv[1], kinds[i].name) == 0) {
            kinds[i].run((unsigned)atoi(argv[2]));
            if (kinds[i].run != nothing)
                printf("did %s\n", argv[1]);
            return 0;
        }
    return 2;
}
