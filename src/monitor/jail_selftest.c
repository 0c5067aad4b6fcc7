// SPDX-License-Identifier: Apache-2.0
/*
 * What a jailed monitor must not be able to do, tried: jail_test_run. The
 * calls are made by number, so that nothing of libc's stands before them.
 */
#include "monitor/jail.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static void try_io_uring(void)
{
    char params[120] = {0}; /* struct io_uring_params */

    (void)syscall(SYS_io_uring_setup, 4, params);
}

static void try_segv(void)
{
    volatile char *page = (volatile char *)syscall(
        SYS_mmap, NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);

    *page = 0;
}

static void try_mprotect_exec(void)
{
    long page = syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);

    (void)syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC);
}

void jail_test_run(enum abi_jail_test test)
{
    char *no_words[] = {NULL};

    switch (test) {
    case ABI_JAIL_TEST_NONE:
    case ABI_JAIL_TEST_COUNT:
        return;
    case ABI_JAIL_TEST_OPEN:
        (void)syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
        return;
    case ABI_JAIL_TEST_EXECVE:
        (void)syscall(SYS_execve, "/bin/true", no_words, no_words);
        return;
    case ABI_JAIL_TEST_SOCKET:
        (void)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
        return;
    case ABI_JAIL_TEST_PTRACE:
        (void)syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
        return;
    case ABI_JAIL_TEST_MMAP_EXEC:
        (void)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
        return;
    case ABI_JAIL_TEST_MPROTECT_EXEC:
        try_mprotect_exec();
        return;
    case ABI_JAIL_TEST_IO_URING:
        try_io_uring();
        return;
    case ABI_JAIL_TEST_SEGV:
        try_segv();
        return;
    case ABI_JAIL_TEST_EXIT:
        syscall(SYS_exit_group, 0);
        return;
    }
}
