// SPDX-License-Identifier: Apache-2.0
/* The jail, tried from inside: each case closes it around a child, which then
 * makes a call; the parent looks at how the child ended. */
#include "monitor/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/test.h"
#include "monitor/seccomp.h"

#define SURVIVED  42 /* the call returned */
#define JAIL_FAIL 43
#define WRONG     44

/* Something that a child tries; false: what it saw is wrong. */
typedef bool (*attempt_fn)(void *arg);

static int in_jail(attempt_fn before, attempt_fn after, void *arg)
{
    struct jail_conf conf = {.ns = 0};
    unsigned layers = 0;
    int status = -1, keep[1];
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        if (before && !before(arg))
            _exit(WRONG);
        if (before) { /* what it opened is at *arg */
            keep[0] = *(int *)arg;
            conf.keep = keep;
            conf.nkeep = 1;
        }
        if (jail_enter(&conf, &layers, NULL) || !(layers & JAIL_SECCOMP))
            _exit(JAIL_FAIL);
        _exit(after(arg) ? SURVIVED : WRONG);
    }
    CHECK(pid > 0);
    waitpid(pid, &status, 0);
    return status;
}

static bool killed_by_filter(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static bool survived(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == SURVIVED;
}

#define NEED_SECCOMP()                                                         \
    do {                                                                       \
        if (CC_SANITIZED)                                                      \
            SKIP("a sanitizer's run-time does not live under the filter");     \
    } while (0)

static bool run_named(void *arg)
{
    jail_test_run(*(enum abi_jail_test *)arg);
    return true;
}

TEST(forbidden_calls_kill)
{
    NEED_SECCOMP();
    for (int t = ABI_JAIL_TEST_OPEN; t <= ABI_JAIL_TEST_IO_URING; t++) {
        enum abi_jail_test test = (enum abi_jail_test)t;
        int status = in_jail(NULL, run_named, &test);

        if (!killed_by_filter(status)) {
            printf("call %d: wait status 0x%x\n", t, status);
            test_failures++;
        }
    }
}

/* By number: none of these may return. */
static bool call_number(void *arg)
{
    syscall(*(long *)arg, 0, 0, 0, 0, 0, 0);
    return true;
}

TEST(numbers_kill)
{
    static const long nrs[] = {SYS_open,
                               SYS_openat,
                               SYS_openat2,
                               SYS_creat,
                               SYS_execve,
                               SYS_execveat,
                               SYS_fork,
                               SYS_vfork,
                               SYS_kill,
                               SYS_tkill,
                               SYS_ptrace,
                               SYS_process_vm_readv,
                               SYS_process_vm_writev,
                               SYS_socket,
                               SYS_connect,
                               SYS_bind,
                               SYS_sendmsg,
                               SYS_recvmsg,
                               SYS_io_uring_setup,
                               SYS_io_uring_enter,
                               SYS_io_uring_register,
                               SYS_io_setup,
                               SYS_bpf,
                               SYS_userfaultfd,
                               SYS_perf_event_open,
                               SYS_mount,
                               SYS_umount2,
                               SYS_pivot_root,
                               SYS_chroot,
                               SYS_unshare,
                               SYS_setns,
                               SYS_init_module,
                               SYS_kexec_load,
                               SYS_reboot,
                               SYS_keyctl,
                               SYS_add_key,
                               SYS_personality,
                               SYS_pkey_mprotect,

                               SYS_remap_file_pages,
                               SYS_shmat,
                               SYS_setuid,
                               SYS_capset,
                               SYS_seccomp,
                               SYS_unlinkat,
                               SYS_renameat2,
                               SYS_memfd_create,
                               SYS_pidfd_getfd,
                               SYS_modify_ldt,
                               SYS_arch_prctl,
                               0x40000000 + SYS_read, /* x32 */
                               100000};

    NEED_SECCOMP();
    for (size_t i = 0; i < ARRAY_LEN(nrs); i++) {
        long nr = nrs[i];
        int status = in_jail(NULL, call_number, &nr);

        if (!killed_by_filter(status)) {
            printf("call %ld: wait status 0x%x\n", nr, status);
            test_failures++;
        }
    }
}

/* 32-bit entry: another table of numbers, where 5 is open. */
static bool int80(void *arg)
{
    long ret;

    (void)arg;
    __asm__ volatile("int $0x80" : "=a"(ret) : "0"(20L) : "memory");
    return true;
}

TEST(compat_entry_kills)
{
    int status;

    NEED_SECCOMP();
    status = in_jail(NULL, int80, NULL);
    /* A kernel without 32-bit entry gives SIGSEGV. */
    CHECK(killed_by_filter(status) ||
          (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
}

/* A ring made before the filter could open files past it, which is why none
 * is handed over; and none of its calls is on the list either. */
static bool ring_before(void *arg)
{
    char params[120] = {0}; /* struct io_uring_params */
    int *fd = arg;

    *fd = (int)syscall(SYS_io_uring_setup, 4, params);
    if (*fd < 0) /* a host that refuses rings: any descriptor will do */
        *fd = open("/dev/null", O_RDWR);
    return *fd >= 0;
}

static bool ring_enter(void *arg)
{
    syscall(SYS_io_uring_enter, *(int *)arg, 1, 0, 0, NULL, 0UL);
    return true;
}

static bool ring_register(void *arg)
{
    syscall(SYS_io_uring_register, *(int *)arg, 0, NULL, 0);
    return true;
}

TEST(open_ring_is_of_no_use)
{
    int fd;

    NEED_SECCOMP();
    CHECK(killed_by_filter(in_jail(ring_before, ring_enter, &fd)));
    CHECK(killed_by_filter(in_jail(ring_before, ring_register, &fd)));
}

/* A descriptor that was not handed over is closed. */
static bool leak(void *arg)
{
    int other = open("/etc/passwd", O_RDONLY);

    *(int *)arg = open("/dev/null", O_RDWR);
    return other >= 0 && dup2(other, 200) == 200 && *(int *)arg >= 0;
}

static bool only_kept_is_open(void *arg)
{
    char c;

    return read(200, &c, 1) == -1 && errno == EBADF &&
           write(*(int *)arg, "x", 1) == 1;
}

TEST(other_descriptors_are_closed)
{
    int fd;

    NEED_SECCOMP();
    CHECK(survived(in_jail(leak, only_kept_is_open, &fd)));
}

static void *thread_main(void *arg)
{
    prctl(PR_SET_TIMERSLACK, 1);
    *(int *)arg = 7;
    return NULL;
}

static bool work(void *arg)
{
    pthread_t t;
    int got = 0;
    char *p = malloc(4 << 20);

    (void)arg;
    if (!p)
        return false;
    memset(p, 1, 4 << 20);
    free(p);
    return pthread_create(&t, NULL, thread_main, &got) == 0 &&
           pthread_join(t, NULL) == 0 && got == 7;
}

TEST(threads_and_memory_work)
{
    NEED_SECCOMP();
    CHECK(survived(in_jail(NULL, work, NULL)));
}

static bool new_process(void *arg)
{
    (void)arg;
    syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0L);
    return true;
}

static bool new_namespace(void *arg)
{
    (void)arg;
    syscall(SYS_clone,
            CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                CLONE_NEWUSER,
            NULL, NULL, NULL, 0L);
    return true;
}

static bool no_clone3(void *arg)
{
    (void)arg;
    return syscall(SYS_clone3, NULL, 0) == -1 && errno == ENOSYS;
}

TEST(clone_makes_threads_only)
{
    NEED_SECCOMP();
    CHECK(killed_by_filter(in_jail(NULL, new_process, NULL)));
    CHECK(killed_by_filter(in_jail(NULL, new_namespace, NULL)));
    CHECK(survived(in_jail(NULL, no_clone3, NULL)));
}

static bool look_outside(void *arg)
{
    unsigned layers = 0;
    struct jail_conf conf = {.ns = 0};
    struct rlimit rl;

    (void)arg;
    /* Without the filter, to see what the other layers did. */
    if (jail_enter(&conf, &layers, NULL))
        return false;
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 &&
           prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 &&
           getrlimit(RLIMIT_CORE, &rl) == 0 && rl.rlim_max == 0 &&
           geteuid() != 0 && (layers & JAIL_NOCAPS) && (layers & JAIL_FDS);
}

/* Only a sanitizer's build leaves the filter out. */
TEST(other_layers_stand)
{
    int status;
    pid_t pid;

    if (!CC_SANITIZED)
        SKIP("seen in sanitizer builds, where the filter is left out");
    pid = fork();
    if (pid == 0)
        _exit(look_outside(NULL) ? SURVIVED : WRONG);
    waitpid(pid, &status, 0);
    CHECK(survived(status));
}

/* An ioctl on no descriptor. Return: how the child ended. */
static int kvm_call_in_jail(bool kvm, unsigned long req)
{
    struct jail_conf conf = {.kvm = kvm};
    unsigned layers = 0;
    int status = -1;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        if (jail_enter(&conf, &layers, NULL))
            _exit(JAIL_FAIL);
        _exit(ioctl(-1, req, 0) < 0 && errno == EBADF ? SURVIVED : WRONG);
    }
    CHECK(pid > 0);
    waitpid(pid, &status, 0);
    return status;
}

TEST(kvm_calls_under_the_kvm_engine_only)
{
    NEED_SECCOMP();
    CHECK(survived(kvm_call_in_jail(true, KVM_RUN)));
    CHECK(survived(kvm_call_in_jail(true, KVM_SET_USER_MEMORY_REGION)));
    CHECK(killed_by_filter(kvm_call_in_jail(false, KVM_RUN)));
    CHECK(killed_by_filter(kvm_call_in_jail(true, KVM_CREATE_VM)));
    CHECK(killed_by_filter(kvm_call_in_jail(true, KVM_CREATE_VCPU)));
    CHECK(killed_by_filter(kvm_call_in_jail(true, KVM_CREATE_DEVICE)));
    CHECK(killed_by_filter(kvm_call_in_jail(true, FIONREAD)));
}

/* In audit mode a listed call fails without a tracer, the rest kills. */
TEST(audit_opens_nothing)
{
    struct sock_filter prog[SECCOMP_PROG_MAX];
    int n = seccomp_build(prog, 1, true, true, NULL);
    unsigned allows = 0, traces = 0;

    CHECK(n > 0);
    for (int i = 0; i < n; i++) {
        if (BPF_CLASS(prog[i].code) != BPF_RET)
            continue;
        allows += prog[i].k == 0x7fff0000U;
        traces += (prog[i].k & 0xffff0000U) == 0x7ff00000U;
    }
    CHECK_EQ(allows, 0);
    CHECK_EQ(traces, seccomp_list_length());
}

TEST(list_has_reasons)
{
    printf("seccomp list: %zu lines\n", seccomp_list_length());
    CHECK(seccomp_list_length() > 10 && seccomp_list_length() < 64);
    for (size_t i = 0; i < seccomp_list_length(); i++)
        CHECK(strlen(seccomp_list_why(i)) > 5);
    CHECK(seccomp_list_name(seccomp_list_length()) == NULL);
}

TEST_MAIN(CASE(forbidden_calls_kill), CASE(numbers_kill),
          CASE(compat_entry_kills), CASE(open_ring_is_of_no_use),
          CASE(other_descriptors_are_closed), CASE(threads_and_memory_work),
          CASE(clone_makes_threads_only), CASE(other_layers_stand),
          CASE(kvm_calls_under_the_kvm_engine_only), CASE(audit_opens_nothing),
          CASE(list_has_reasons))
