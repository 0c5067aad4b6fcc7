// SPDX-License-Identifier: Apache-2.0
/*
 * Let one call to KVM fail.
 *
 *   kvm_fault N doppel run --engine kvm ...
 *
 * The N-th KVM ioctl of the monitor (the process that doppel executes, its
 * threads included) gets a bad descriptor, so that the kernel refuses it with
 * EBADF. N = 0: none fails, they are counted. The exit status is doppel's; the
 * last line on standard error is `kvm_fault: calls N, failed NR`, NR the
 * ioctl's number or 0. Status 77: ptrace is not allowed here.
 */
#include <linux/kvm.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIDS_MAX (1U << 22) /* Linux's PID_MAX_LIMIT */

struct fault {
    uint8_t monitor[PIDS_MAX / 8]; /* pids of the monitor's threads */
    uint8_t seen[PIDS_MAX / 8];    /* pids whose first stop was seen */
    pid_t first;
    int status;
    unsigned calls, fail_at;
    uint64_t failed;
};

static bool bit_get(const uint8_t *map, pid_t pid)
{
    return map[(unsigned)pid % PIDS_MAX / 8] >> (pid % 8) & 1;
}

static void bit_set(uint8_t *map, pid_t pid)
{
    map[(unsigned)pid % PIDS_MAX / 8] |= (uint8_t)(1U << (pid % 8));
}

static void on_syscall(struct fault *f, pid_t pid)
{
    struct __ptrace_syscall_info info;
    struct user_regs_struct regs;

    if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) <= 0 ||
        info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr != SYS_ioctl ||
        (info.entry.args[1] >> 8 & 0xff) != KVMIO)
        return;
    if (++f->calls != f->fail_at ||
        ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
        return;
    f->failed = info.entry.args[1];
    regs.rdi = ~0ULL;
    ptrace(PTRACE_SETREGS, pid, NULL, &regs);
}

/* Return: the signal to deliver. */
static int on_stop(struct fault *f, pid_t pid, int status)
{
    unsigned long msg = 0;
    int sig = WSTOPSIG(status);

    if (sig == (SIGTRAP | 0x80)) {
        on_syscall(f, pid);
        return 0;
    }
    if (status >> 16 == PTRACE_EVENT_EXEC) {
        if (pid != f->first)
            bit_set(f->monitor, pid);
        return 0;
    }
    if (status >> 16) {
        ptrace(PTRACE_GETEVENTMSG, pid, NULL, &msg);
        if (bit_get(f->monitor, pid) && status >> 16 == PTRACE_EVENT_CLONE)
            bit_set(f->monitor, (pid_t)msg);
        return 0;
    }
    if (sig == SIGSTOP && !bit_get(f->seen, pid)) {
        bit_set(f->seen, pid);
        return 0;
    }
    return sig;
}

static void trace_all(struct fault *f)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
        if (WIFSTOPPED(status)) {
            int sig = on_stop(f, pid, status);

            ptrace(bit_get(f->monitor, pid) ? PTRACE_SYSCALL : PTRACE_CONT, pid,
                   NULL, (long)sig);
        } else if (pid == f->first) {
            f->status = status;
        }
    }
}

int main(int argc, char **argv)
{
    const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK |
                         PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                         PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    static struct fault f;
    int status;

    if (argc < 3) {
        fprintf(stderr, "usage: kvm_fault N PROGRAM WORDS...\n");
        return 2;
    }
    f.fail_at = (unsigned)atoi(argv[1]);
    f.first = fork();
    if (f.first == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(77);
        raise(SIGSTOP);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    waitpid(f.first, &status, 0);
    if (!WIFSTOPPED(status))
        return 77;
    ptrace(PTRACE_SETOPTIONS, f.first, NULL, options);
    ptrace(PTRACE_CONT, f.first, NULL, NULL);
    trace_all(&f);
    fprintf(stderr, "kvm_fault: calls %u, failed 0x%llx\n", f.calls,
            (unsigned long long)f.failed);
    return WIFEXITED(f.status) ? WEXITSTATUS(f.status) : 1;
}
