// SPDX-License-Identifier: Apache-2.0
/*
 * Which lines of the seccomp list does a real run use?
 *
 *   seccomp_audit run COUNTS [--no-vdso] -- doppel run --seccomp-audit ...
 *   seccomp_audit check COUNTS
 *
 * `run` traces doppel and all its processes and threads. With --seccomp-audit
 * the filter answers SECCOMP_RET_TRACE with the line's number, so each call
 * stops here, is counted, and goes on as the list says. The counts are added
 * to the file COUNTS. `check` prints them and fails when a line has none.
 * A call that no line allows is named, and ends the monitor as always.
 *
 * --no-vdso hides the vDSO from the programs, so that they ask the kernel for
 * the time, as on a host whose clock the vDSO cannot read.
 */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor/jail.h"

#define LINES_MAX 128
#define PIDS_MAX  (1U << 22) /* Linux's PID_MAX_LIMIT */

struct audit {
    uint64_t count[LINES_MAX];
    uint8_t seen[PIDS_MAX / 8]; /* pids that were told of */
    bool no_vdso;
    pid_t first;
    int status; /* of the first process */
    unsigned killed;
};

static bool counts_load(const char *path, struct audit *a)
{
    FILE *f = fopen(path, "re");
    unsigned long long n;
    char name[64];
    size_t i;

    if (!f)
        return false;
    while (fscanf(f, "%zu %63s %llu", &i, name, &n) == 3) {
        if (i < LINES_MAX)
            a->count[i] += n;
    }
    fclose(f);
    return true;
}

static bool counts_save(const char *path, const struct audit *a)
{
    FILE *f = fopen(path, "we");

    if (!f)
        return false;
    for (size_t i = 0; i < seccomp_list_length() && i < LINES_MAX; i++)
        fprintf(f, "%zu %s %llu\n", i, seccomp_list_name(i),
                (unsigned long long)a->count[i]);
    return fclose(f) == 0;
}

/* A seccomp stop: count the line; a REFUSE line is carried out here. */
static void on_seccomp(struct audit *a, pid_t pid)
{
    struct user_regs_struct regs;
    unsigned long msg = 0;
    size_t line;
    int err;

    if (ptrace(PTRACE_GETEVENTMSG, pid, NULL, &msg) < 0 || msg == 0 ||
        msg > LINES_MAX)
        return;
    line = msg - 1;
    a->count[line]++;
    err = seccomp_list_refuses(line);
    if (!err || ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
        return;
    regs.orig_rax = ~0ULL; /* skip the call */
    regs.rax = (unsigned long long)-(long long)err;
    ptrace(PTRACE_SETREGS, pid, NULL, &regs);
}

/* Blank AT_SYSINFO_EHDR on the new program's stack: argc, argv, NULL, envp,
 * NULL, then pairs. */
static void hide_vdso(pid_t pid)
{
    struct user_regs_struct regs;
    unsigned long at;
    long word;
    int nulls = 0;

    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
        return;
    for (at = regs.rsp + 8; nulls < 2; at += 8) {
        errno = 0;
        word = ptrace(PTRACE_PEEKDATA, pid, at, NULL);
        if (errno)
            return;
        nulls += word == 0;
    }
    for (;; at += 16) {
        errno = 0;
        word = ptrace(PTRACE_PEEKDATA, pid, at, NULL);
        if (errno || word == AT_NULL)
            return;
        if (word == AT_SYSINFO_EHDR)
            ptrace(PTRACE_POKEDATA, pid, at, AT_IGNORE);
    }
}

/* The filter's kill comes without a stop of its own: look at the exit. */
static void on_exit_stop(struct audit *a, pid_t pid)
{
    struct user_regs_struct regs;
    unsigned long status = 0;

    ptrace(PTRACE_GETEVENTMSG, pid, NULL, &status);
    if (!WIFSIGNALED((int)status) || WTERMSIG((int)status) != SIGSYS)
        return;
    a->killed++;
    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0 &&
        (long long)regs.orig_rax >= 0)
        printf("forbidden: system call %lld (0x%llx, 0x%llx, 0x%llx)\n",
               (long long)regs.orig_rax, (unsigned long long)regs.rdi,
               (unsigned long long)regs.rsi, (unsigned long long)regs.rdx);
}

/* The SIGSTOP of a new tracee, and the stop of a whole group, are ptrace's own;
 * another SIGSTOP was sent by someone. Return: the signal to deliver. */
static int on_sigstop(struct audit *a, pid_t pid)
{
    uint8_t *byte = &a->seen[((unsigned)pid % PIDS_MAX) / 8];
    uint8_t bit = (uint8_t)(1U << (pid % 8));
    siginfo_t si;

    if (!(*byte & bit)) {
        *byte |= bit;
        return 0;
    }
    return ptrace(PTRACE_GETSIGINFO, pid, NULL, &si) < 0 ? 0 : SIGSTOP;
}

/* Return: the signal to deliver. */
static int on_stop(struct audit *a, pid_t pid, int status)
{
    switch (status >> 16) {
    case PTRACE_EVENT_SECCOMP:
        on_seccomp(a, pid);
        return 0;
    case PTRACE_EVENT_EXEC:
        if (a->no_vdso)
            hide_vdso(pid);
        return 0;
    case PTRACE_EVENT_EXIT:
        on_exit_stop(a, pid);
        return 0;
    case 0:
        return WSTOPSIG(status) == SIGSTOP ? on_sigstop(a, pid)
                                           : WSTOPSIG(status);
    default:
        return 0;
    }
}

static void trace_all(struct audit *a)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
        if (WIFSTOPPED(status))
            ptrace(PTRACE_CONT, pid, NULL, (long)on_stop(a, pid, status));
        else if (pid == a->first)
            a->status = status;
    }
}

static int audit_run(const char *counts, struct audit *a, char **argv)
{
    const long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK |
                         PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                         PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT |
                         PTRACE_O_EXITKILL;
    int status;

    a->first = fork();
    if (a->first == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(77); /* skipped */
        raise(SIGSTOP);
        execv(argv[0], argv);
        _exit(127);
    }
    waitpid(a->first, &status, 0);
    if (!WIFSTOPPED(status)) {
        printf("skip seccomp_audit: ptrace is not allowed here\n");
        return 77;
    }
    ptrace(PTRACE_SETOPTIONS, a->first, NULL, options);
    ptrace(PTRACE_CONT, a->first, NULL, NULL);
    trace_all(a);
    counts_load(counts, a);
    if (!counts_save(counts, a)) {
        printf("cannot write %s\n", counts);
        return 1;
    }
    if (a->killed)
        return 1;
    return WIFEXITED(a->status) ? WEXITSTATUS(a->status) : 1;
}

static int audit_check(const char *counts, struct audit *a)
{
    unsigned unused = 0;
    size_t n = seccomp_list_length();

    if (!counts_load(counts, a)) {
        printf("cannot read %s\n", counts);
        return 1;
    }
    for (size_t i = 0; i < n && i < LINES_MAX; i++) {
        printf("%8llu %-16s %s\n", (unsigned long long)a->count[i],
               seccomp_list_name(i), seccomp_list_why(i));
        /* the guests of jail_test.sh run without KVM */
        unused += a->count[i] == 0 && !seccomp_list_kvm(i);
    }
    printf("seccomp list: %zu lines, %u never used\n", n, unused);
    return unused != 0;
}

int main(int argc, char **argv)
{
    static struct audit a;
    int i = 3;

    if (argc == 3 && strcmp(argv[1], "check") == 0)
        return audit_check(argv[2], &a);
    if (argc > 4 && strcmp(argv[1], "run") == 0) {
        if (strcmp(argv[i], "--no-vdso") == 0) {
            a.no_vdso = true;
            i++;
        }
        if (i + 1 < argc && strcmp(argv[i], "--") == 0)
            return audit_run(argv[2], &a, argv + i + 1);
    }
    fprintf(stderr, "usage: seccomp_audit run COUNTS [--no-vdso] -- PROGRAM "
                    "WORDS...\n       seccomp_audit check COUNTS\n");
    return 2;
}
