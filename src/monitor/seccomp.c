// SPDX-License-Identifier: Apache-2.0
/*
 * seccomp.def as a BPF program: a chain of comparisons, one block per line.
 *
 *   arch is not x86-64, or an x32 number -> kill
 *   for each line:  nr != line's -> next block
 *                   a check fails -> next block
 *                   return the line's answer
 *   kill
 *
 * The busiest calls stand first in the list. Arguments are 64-bit; checks look
 * at the low half, which is all that the kernel takes of an int.
 * Source: Linux Documentation/userspace-api/seccomp_filter.rst.
 */
#include "monitor/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "monitor/jail.h"

#define CHECKS_MAX 3
#define X32_BIT    0x40000000U
#define KILL       SECCOMP_RET_KILL_PROCESS
#define LINE_ALLOW SECCOMP_RET_ALLOW
/* What a thread must not ask for. */
#define JAIL_CLONE_NS                                                          \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |             \
     CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_PTRACE | CLONE_VFORK)

enum check_kind {
    CHECK_NONE,
    CHECK_MASKED,
    CHECK_OWN_PID
};

struct check {
    enum check_kind kind;
    unsigned arg;
    uint32_t mask;
    uint32_t value;
};

struct line {
    const char *name;
    const char *why;
    uint32_t nr;
    uint32_t answer; /* SECCOMP_RET_* */
    bool kvm;        /* only when the engine is kvm */
    struct check check[CHECKS_MAX];
};

/* clang-format off */
#define MASKED(arg, mask, v) {CHECK_MASKED, arg, (uint32_t)(mask), (uint32_t)(v)}
#define CLEAR(arg, bits)     MASKED(arg, bits, 0)
#define IS(arg, v)           MASKED(arg, UINT32_MAX, v)
#define OWN_PID(arg)         {CHECK_OWN_PID, arg, UINT32_MAX, 0}
#define ALLOW(call, why)                                                       \
    {#call, why, SYS_##call, LINE_ALLOW, false, {{CHECK_NONE, 0, 0, 0}}},
#define ALLOW_IF(call, why, ...)                                               \
    {#call, why, SYS_##call, LINE_ALLOW, false, {__VA_ARGS__}},
#define ALLOW_KVM(call, why, ...)                                              \
    {#call, why, SYS_##call, LINE_ALLOW, true, {__VA_ARGS__}},
#define REFUSE(call, why, err)                                                 \
    {#call, why, SYS_##call, SECCOMP_RET_ERRNO | (err), false,                 \
     {{CHECK_NONE, 0, 0, 0}}},
static const struct line list[] = {
#include "monitor/seccomp.def"
};
/* clang-format on */

struct builder {
    struct sock_filter *prog;
    unsigned n;
    bool overflow;
};

static void emit(struct builder *b, struct sock_filter insn)
{
    if (b->n >= SECCOMP_PROG_MAX)
        b->overflow = true;
    else
        b->prog[b->n++] = insn;
}

static void emit_load(struct builder *b, size_t offset)
{
    emit(b, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                         (uint32_t)offset));
}

static void emit_return(struct builder *b, uint32_t answer)
{
    emit(b, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer));
}

static void emit_prologue(struct builder *b)
{
    emit_load(b, offsetof(struct seccomp_data, arch));
    emit(b, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                         AUDIT_ARCH_X86_64, 1, 0));
    emit_return(b, KILL);
    emit_load(b, offsetof(struct seccomp_data, nr));
    emit(b, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0,
                                         1));
    emit_return(b, KILL);
}

/* Instructions of one check: load [, mask], compare. */
static unsigned check_size(const struct check *c)
{
    if (c->kind == CHECK_NONE)
        return 0;
    return c->mask == UINT32_MAX ? 2 : 3;
}

/* @skip: instructions to jump over when the check fails. */
static void emit_check(struct builder *b, const struct check *c, int32_t pid,
                       unsigned skip)
{
    uint32_t value = c->kind == CHECK_OWN_PID ? (uint32_t)pid : c->value;

    emit_load(b, offsetof(struct seccomp_data, args) + 8 * (size_t)c->arg);
    if (c->mask != UINT32_MAX)
        emit(b,
             (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, c->mask));
    emit(b, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0,
                                         (uint8_t)skip));
}

/* The accumulator holds the call's number at the start and at the end. */
static void emit_line(struct builder *b, const struct line *l, int32_t pid,
                      uint32_t answer)
{
    unsigned size = 1; /* the return; a reload follows when there are checks */
    bool checks = l->check[0].kind != CHECK_NONE;

    for (unsigned i = 0; i < CHECKS_MAX; i++)
        size += check_size(&l->check[i]);
    /* Another number: the accumulator is untouched, skip the reload too. */
    emit(b, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, l->nr, 0,
                                         (uint8_t)(size + checks)));
    for (unsigned i = 0; i < CHECKS_MAX; i++) {
        if (l->check[i].kind == CHECK_NONE)
            continue;
        size -= check_size(&l->check[i]);
        emit_check(b, &l->check[i], pid, size);
    }
    emit_return(b, answer);
    if (checks)
        emit_load(b, offsetof(struct seccomp_data, nr));
}

int seccomp_build(struct sock_filter *prog, int32_t own_pid, bool kvm,
                  bool audit, struct err *e)
{
    struct builder b = {.prog = prog};

    emit_prologue(&b);
    for (size_t i = 0; i < ARRAY_LEN(list); i++) {
        uint32_t answer = list[i].answer;

        if (list[i].kvm && !kvm)
            continue;
        if (audit)
            answer = SECCOMP_RET_TRACE | (uint32_t)(i + 1);
        emit_line(&b, &list[i], own_pid, answer);
    }
    emit_return(&b, KILL);
    if (b.overflow)
        return err_set(e, -E2BIG,
                       "the seccomp list needs more than %d BPF "
                       "instructions",
                       SECCOMP_PROG_MAX);
    return (int)b.n;
}

int seccomp_install(bool kvm, bool audit, struct err *e)
{
    struct sock_filter prog[SECCOMP_PROG_MAX];
    struct sock_fprog fprog = {.filter = prog};
    int n = seccomp_build(prog, (int32_t)getpid(), kvm, audit, e);

    if (n < 0)
        return n;
    fprog.len = (unsigned short)n;
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
                &fprog) != 0)
        return err_set(e, -EPERM,
                       "cannot install the seccomp filter (%s), so no guest "
                       "is run",
                       strerror(errno));
    return 0;
}

size_t seccomp_list_length(void)
{
    return ARRAY_LEN(list);
}

size_t seccomp_list_active(bool kvm)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(list); i++)
        n += kvm || !list[i].kvm;
    return n;
}

const char *seccomp_list_name(size_t i)
{
    return i < ARRAY_LEN(list) ? list[i].name : NULL;
}

const char *seccomp_list_why(size_t i)
{
    return i < ARRAY_LEN(list) ? list[i].why : NULL;
}

int seccomp_list_refuses(size_t i)
{
    if (i >= ARRAY_LEN(list) || list[i].answer == LINE_ALLOW)
        return 0;
    return (int)(list[i].answer & SECCOMP_RET_DATA);
}

bool seccomp_list_kvm(size_t i)
{
    return i < ARRAY_LEN(list) && list[i].kvm;
}
