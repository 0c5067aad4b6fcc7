// SPDX-License-Identifier: Apache-2.0
/*
 * Runs cases on the real CPU. A child process has the code region and the data
 * window at their addresses; one signal handler does everything: the trap that
 * ends a case (INT3 behind it, TF, or its fault) enters it, it notes the state
 * from the signal frame, puts the next case's state there and returns into it.
 *
 * The handler runs with the case's FS base, flags and data segments: it uses
 * no thread-local storage, no libc but memcpy, and is built without stack
 * protector and sanitizers (tests/build.mk). Memory is written through a
 * second mapping, so that read-only pages and code can be changed.
 * Source: Linux arch/x86/kernel/signal_64.c (frame), Intel SDM vol. 1 13.4.
 */
#include "tests/insn/corpus/corpus.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define FRAME_MAGIC_AT  464 /* _fpx_sw_bytes: magic1, size, features */
#define FRAME_MAGIC     0x46505853U
#define FRAME_FEATURES  472
#define XS_BV           512
#define ALT_STACK_BYTES (256U << 10)
#define FL_KEPT         (X86_FL_NT | X86_FL_ID) /* sigreturn leaves them */
#define TICK_US         100000

/* Shared by parent and child. */
struct shared {
    _Atomic uint32_t todo; /* batches asked for */
    _Atomic uint32_t done; /* batches finished */
    _Atomic uint32_t cur;  /* slot under way */
    uint32_t half, first, count;
    struct corpus_case c[2][CORPUS_BATCH];
    struct corpus_result r[2][CORPUS_BATCH];
};

/* The child's own. */
struct child {
    struct shared *sh;
    const uint64_t *pattern;
    uint8_t *code_alias;
    uint64_t *data_alias;
    bool running; /* a case is under way */
    uint32_t ticks, tick_cur, tick_done;
    uint64_t shadow[CORPUS_WORDS];
};

struct corpus_native {
    struct shared *sh;
    const uint64_t *pattern;
    pid_t pid;
};

/* The handler has nowhere else to find it. */
static struct child *self;

void corpus_signal_entry(void);
uint64_t corpus_signal(int signo, siginfo_t *info, ucontext_t *uc);

/* AC and NT would disturb the handler. The value returned are the flags that
 * sigreturn does not set. */
__asm__(".text\n"
        ".globl corpus_signal_entry\n"
        "corpus_signal_entry:\n"
        "  cld\n"
        "  push %rbp\n"
        "  pushfq; andq $~0x44000, (%rsp); popfq\n"
        "  call corpus_signal\n"
        "  pop %rbp\n"
        "  pushfq; andq $~0x204000, (%rsp); orq %rax, (%rsp); popfq\n"
        "  ret\n");

static long raw_call(long nr, long a, long b, long c, long d)
{
    long r;
    register long r10 __asm__("r10") = d;

    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return r;
}

static void futex_wait(_Atomic uint32_t *at, uint32_t val,
                       const struct timespec *ts)
{
    raw_call(SYS_futex, (long)at, FUTEX_WAIT, val, (long)ts);
}

static void futex_wake(_Atomic uint32_t *at)
{
    raw_call(SYS_futex, (long)at, FUTEX_WAKE, INT_MAX, 0);
}

/* ---- in the handler ---- */

static void load_patches(struct child *ch, const struct corpus_case *c)
{
    for (uint32_t i = 0; i < c->npatches; i++) {
        ch->data_alias[c->patch[i].at] = c->patch[i].v;
        ch->shadow[c->patch[i].at] = c->patch[i].v;
    }
    uint8_t *to = ch->code_alias + (c->rip - CORPUS_CODE);
    for (uint32_t i = 0; i < c->ncode; i++)
        if (c->rip + i < CORPUS_CODE + CORPUS_CODE_BYTES)
            to[i] = c->code[i];
}

static void unload_patches(struct child *ch, const struct corpus_case *c)
{
    uint8_t *to = ch->code_alias + (c->rip - CORPUS_CODE);

    for (uint32_t i = 0; i < c->npatches; i++) {
        uint32_t at = c->patch[i].at;
        ch->data_alias[at] = ch->pattern[at];
        ch->shadow[at] = ch->pattern[at];
    }
    for (uint32_t i = 0; i < c->ncode; i++)
        if (c->rip + i < CORPUS_CODE + CORPUS_CODE_BYTES)
            to[i] = 0xcc;
}

/* Words that are not what the case started with; puts them back. */
static void take_diffs(struct child *ch, struct corpus_result *r)
{
    r->ndiffs = 0;
    for (unsigned page = 0; page < CORPUS_PAGES; page++) {
        if (corpus_page_kind(page) != CORPUS_RW)
            continue;
        for (unsigned w = page * 512; w < page * 512 + 512; w += 8) {
            uint64_t *a = ch->data_alias + w, *b = ch->shadow + w;
            if (!((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) |
                  (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ b[5]) |
                  (a[6] ^ b[6]) | (a[7] ^ b[7])))
                continue;
            for (unsigned k = 0; k < 8; k++) {
                if (a[k] == b[k])
                    continue;
                if (r->ndiffs < CORPUS_DIFFS_MAX)
                    r->diff[r->ndiffs] = (struct corpus_word){w + k, 0, a[k]};
                r->ndiffs++;
                a[k] = b[k];
            }
        }
    }
}

static void take_regs(const greg_t *g, struct corpus_result *r)
{
    static const uint8_t where[16] = {
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
        REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    uint64_t sel = (uint64_t)g[REG_CSGSFS];

    for (unsigned i = 0; i < 16; i++)
        r->gpr[i] = (uint64_t)g[where[i]];
    r->rip = (uint64_t)g[REG_RIP];
    r->rflags = (uint64_t)g[REG_EFL];
    r->vector = (uint8_t)g[REG_TRAPNO];
    r->error = (uint32_t)g[REG_ERR];
    r->cr2 = (uint64_t)g[REG_CR2];
    r->sel[X86_SEG_CS] = (uint16_t)sel;
    r->sel[X86_SEG_SS] = (uint16_t)(sel >> 48);
    __asm__ volatile("mov %%ds, %0" : "=m"(r->sel[X86_SEG_DS]));
    __asm__ volatile("mov %%es, %0" : "=m"(r->sel[X86_SEG_ES]));
    __asm__ volatile("mov %%fs, %0" : "=m"(r->sel[X86_SEG_FS]));
    __asm__ volatile("mov %%gs, %0" : "=m"(r->sel[X86_SEG_GS]));
    __asm__ volatile("rdfsbase %0" : "=r"(r->fs_base));
    __asm__ volatile("rdgsbase %0" : "=r"(r->gs_base));
}

static void take_xstate(const uint8_t *fp, struct corpus_result *r)
{
    uint64_t bv;

    memcpy(&bv, fp + XS_BV, 8);
    memcpy(r->xs, fp, 416);
    memset(r->xs + 416, 0, 160);
    if (bv & X86_XCR0_AVX)
        memcpy(r->xs + X86_XSAVE_AVX_OFFSET, fp + X86_XSAVE_AVX_OFFSET, 256);
    else
        memset(r->xs + X86_XSAVE_AVX_OFFSET, 0, 256);
}

/* How the case ended, from the trap and where it was. */
static void classify(const struct corpus_case *c, struct corpus_result *r)
{
    bool int3 = r->vector == X86_VEC_BP && r->rip > CORPUS_CODE &&
                r->rip <= CORPUS_CODE + CORPUS_CODE_BYTES;

    bool own = r->rip - 1 - c->rip < c->ncode; /* not one behind it */

    if (own && (r->vector == X86_VEC_BP || r->vector == X86_VEC_OF)) {
        r->end = CORPUS_SOFT;
    } else if (int3) {
        r->rip--;
        r->end = CORPUS_DONE;
    } else if (r->vector == X86_VEC_DB) {
        r->end = CORPUS_DONE_TRAP;
    } else if (r->rip == c->rip) {
        r->end = CORPUS_FAULT;
    } else {
        r->end = CORPUS_DONE_FETCH;
    }
}

static void take(struct child *ch, const ucontext_t *uc, bool lost)
{
    struct shared *sh = ch->sh;
    uint32_t i = atomic_load(&sh->cur);
    struct corpus_result *r = &sh->r[sh->half][i];

    take_regs(uc->uc_mcontext.gregs, r);
    take_xstate((const uint8_t *)uc->uc_mcontext.fpregs, r);
    take_diffs(ch, r);
    unload_patches(ch, &sh->c[sh->half][i]);
    if (lost)
        r->end = CORPUS_LOST;
    else
        classify(&sh->c[sh->half][i], r);
}

static void give_regs(const struct corpus_case *c, greg_t *g)
{
    static const uint8_t where[16] = {
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
        REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

    for (unsigned i = 0; i < 16; i++)
        g[where[i]] = (greg_t)c->gpr[i];
    g[REG_RIP] = (greg_t)c->rip;
    g[REG_EFL] = (greg_t)c->rflags;
    g[REG_CSGSFS] = (greg_t)(UINT64_C(0x2b) << 48 | 0x33);
    __asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs"
                     :
                     : "r"(0));
    __asm__ volatile("wrfsbase %0" : : "r"(c->fs_base));
    __asm__ volatile("wrgsbase %0" : : "r"(c->gs_base));
}

static void give_xstate(const struct corpus_case *c, uint8_t *fp)
{
    uint64_t bv;

    memcpy(&bv, fp + XS_BV, 8);
    bv = (bv & BIT(9)) | 7; /* PKRU stays */
    memcpy(fp + XS_BV, &bv, 8);
    memcpy(fp, c->xs, 416);
    memcpy(fp + X86_XSAVE_AVX_OFFSET, c->xs + X86_XSAVE_AVX_OFFSET, 256);
}

/* The next case into the frame; waits for one if need be.
 * Return: the flags that sigreturn leaves as they are. */
static uint64_t give(struct child *ch, ucontext_t *uc)
{
    struct shared *sh = ch->sh;
    uint32_t i = atomic_load(&sh->cur);

    while (atomic_load(&sh->todo) == atomic_load(&sh->done))
        futex_wait(&sh->todo, atomic_load(&sh->done), NULL);
    if (!ch->running) {
        ch->running = true;
        i = sh->first;
        atomic_store(&sh->cur, i);
    }
    const struct corpus_case *c = &sh->c[sh->half][i];
    load_patches(ch, c);
    give_regs(c, uc->uc_mcontext.gregs);
    give_xstate(c, (uint8_t *)uc->uc_mcontext.fpregs);
    return c->rflags & FL_KEPT;
}

/* SIGALRM: the same case at two ticks doesn't end. Return: give up on it. */
static bool stuck(struct child *ch)
{
    struct shared *sh = ch->sh;
    uint32_t cur = atomic_load(&sh->cur), done = atomic_load(&sh->done);

    ch->ticks =
        cur == ch->tick_cur && done == ch->tick_done ? ch->ticks + 1 : 0;
    ch->tick_cur = cur;
    ch->tick_done = done;
    return ch->ticks >= 2 && atomic_load(&sh->todo) != done;
}

/* Called by corpus_signal_entry for every signal. */
uint64_t corpus_signal(int signo, siginfo_t *info, ucontext_t *uc)
{
    struct child *ch = self;
    struct shared *sh = ch->sh;
    bool lost = signo == SIGALRM;

    (void)info;
    if (lost && (!ch->running || !stuck(ch)))
        return (uint64_t)uc->uc_mcontext.gregs[REG_EFL] & FL_KEPT;
    if (ch->running) {
        take(ch, uc, lost);
        uint32_t next = atomic_load(&sh->cur) + 1;
        if (next == sh->count) {
            ch->running = false;
            atomic_store(&sh->cur, UINT32_MAX);
            atomic_fetch_add(&sh->done, 1);
            futex_wake(&sh->done);
        } else {
            atomic_store(&sh->cur, next);
        }
    }
    return give(ch, uc);
}

/* ---- the child ---- */

/* Map @bytes at @at and, writable, anywhere. */
static void *map_twice(uint64_t at, size_t bytes)
{
    int fd = memfd_create("corpus", MFD_CLOEXEC);
    void *alias;

    if (fd < 0 || ftruncate(fd, (off_t)bytes))
        return NULL;
    if (mmap((void *)(uintptr_t)at, bytes, PROT_NONE,
             MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) == MAP_FAILED)
        return NULL;
    alias = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                 fd, 0);
    close(fd);
    return alias == MAP_FAILED ? NULL : alias;
}

static bool map_regions(struct child *ch)
{
    ch->code_alias = map_twice(CORPUS_CODE, CORPUS_CODE_BYTES);
    ch->data_alias = map_twice(CORPUS_DATA, CORPUS_BYTES);
    if (!ch->code_alias || !ch->data_alias)
        return false;
    memset(ch->code_alias, 0xcc, CORPUS_CODE_BYTES);
    memcpy(ch->data_alias, ch->pattern, CORPUS_BYTES);
    memcpy(ch->shadow, ch->pattern, CORPUS_BYTES);
    if (mprotect((void *)(uintptr_t)CORPUS_CODE, CORPUS_CODE_BYTES,
                 PROT_READ | PROT_EXEC))
        return false;
    for (unsigned p = 0; p < CORPUS_PAGES; p++) {
        volatile uint8_t *at =
            (volatile uint8_t *)(uintptr_t)(CORPUS_DATA + p * 4096);
        enum corpus_page kind = corpus_page_kind(p);
        if (kind == CORPUS_ABSENT)
            continue;
        if (mprotect((void *)(uintptr_t)at, 4096,
                     kind == CORPUS_RW ? PROT_READ | PROT_WRITE : PROT_READ))
            return false;
        if (kind == CORPUS_RW)
            *at = *at; /* present and dirty from the beginning */
        else
            (void)*at;
    }
    for (unsigned i = 0; i < CORPUS_CODE_BYTES; i += 4096)
        (void)*(volatile uint8_t *)(uintptr_t)(CORPUS_CODE + i);
    return true;
}

static void handlers(void)
{
    static const int sigs[] = {SIGTRAP, SIGSEGV, SIGILL,
                               SIGFPE,  SIGBUS,  SIGALRM};
    struct sigaction sa = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t ss = {.ss_size = ALT_STACK_BYTES};
    struct itimerval tick = {{0, TICK_US}, {0, TICK_US}};

    ss.ss_sp = mmap(NULL, ALT_STACK_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    sigaltstack(&ss, NULL);
    sa.sa_sigaction =
        (void (*)(int, siginfo_t *, void *))(uintptr_t)corpus_signal_entry;
    sigfillset(&sa.sa_mask);
    for (unsigned i = 0; i < ARRAY_LEN(sigs); i++)
        sigaction(sigs[i], &sa, NULL);
    setitimer(ITIMER_REAL, &tick, NULL);
}

static void NORETURN child_main(struct shared *sh, const uint64_t *pattern)
{
    struct child *ch = calloc(1, sizeof *ch);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!ch)
        _exit(2);
    ch->sh = sh;
    ch->pattern = pattern;
    if (!map_regions(ch))
        _exit(3);
    self = ch;
    handlers();
    __asm__ volatile("int3");
    _exit(4); /* the handler never comes back here */
}

/* ---- the parent ---- */

static bool frame_has_avx(void)
{
    return __builtin_cpu_supports("avx");
}

static bool start_child(struct corpus_native *n)
{
    n->pid = fork();
    if (n->pid == 0)
        child_main(n->sh, n->pattern);
    return n->pid > 0;
}

static void end_child(struct corpus_native *n)
{
    if (n->pid > 0) {
        kill(n->pid, SIGKILL);
        waitpid(n->pid, NULL, 0);
    }
    n->pid = -1;
}

struct corpus_native *corpus_native_open(const uint64_t *pattern,
                                         const char **why)
{
    struct corpus_native *n = calloc(1, sizeof *n);

    *why = NULL;
    if (CC_SANITIZED)
        *why = "a sanitizer's shadow memory is where cases may reach";
    else if (!frame_has_avx())
        *why = "the CPU has no AVX";
    else if (!(getauxval(AT_HWCAP2) & 2))
        *why = "the kernel doesn't allow WRFSBASE";
    if (!n || *why)
        goto fail;
    n->pattern = pattern;
    n->pid = -1;
    n->sh = mmap(NULL, sizeof *n->sh, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (n->sh == MAP_FAILED || !start_child(n)) {
        *why = "no memory or no process";
        goto fail;
    }
    return n;
fail:
    free(n);
    return NULL;
}

void corpus_native_close(struct corpus_native *n)
{
    if (!n)
        return;
    end_child(n);
    munmap(n->sh, sizeof *n->sh);
    free(n);
}

struct corpus_case *corpus_native_case(struct corpus_native *n, unsigned half,
                                       unsigned i)
{
    return &n->sh->c[half][i];
}

void corpus_native_start(struct corpus_native *n, unsigned half, unsigned count)
{
    struct shared *sh = n->sh;

    sh->half = half;
    sh->first = 0;
    sh->count = count;
    atomic_fetch_add(&sh->todo, 1);
    futex_wake(&sh->todo);
}

/* The child is gone: mark its case, go on behind it with a new child. */
static void replace_child(struct corpus_native *n)
{
    struct shared *sh = n->sh;
    uint32_t cur = atomic_load(&sh->cur);

    end_child(n);
    if (cur == UINT32_MAX || cur >= sh->count)
        cur = sh->first;
    memset(&sh->r[sh->half][cur], 0, sizeof sh->r[0][0]);
    sh->r[sh->half][cur].end = CORPUS_LOST;
    sh->first = cur + 1;
    if (sh->first == sh->count)
        atomic_fetch_add(&sh->done, 1);
    if (!start_child(n))
        abort();
}

void corpus_native_wait(struct corpus_native *n)
{
    struct shared *sh = n->sh;
    const struct timespec ts = {.tv_nsec = 200000000};

    for (;;) {
        uint32_t done = atomic_load(&sh->done);
        if (done == atomic_load(&sh->todo))
            return;
        futex_wait(&sh->done, done, &ts);
        if (atomic_load(&sh->done) == done &&
            waitpid(n->pid, NULL, WNOHANG) == n->pid) {
            n->pid = -1;
            replace_child(n);
        }
    }
}

const struct corpus_result *corpus_native_result(const struct corpus_native *n,
                                                 unsigned half, unsigned i)
{
    return &n->sh->r[half][i];
}
