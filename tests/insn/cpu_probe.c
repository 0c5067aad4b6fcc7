// SPDX-License-Identifier: Apache-2.0
/*
 * Host CPU probing; see cpu_probe.h. How it works:
 *
 *   low page (execute, read)   ........ bytes |
 *   next page (no access)                     | fetch beyond faults here
 *
 * The child enters the bytes by returning from a signal handler with TF set;
 * the next signal says what happened, and its handler sets up the next
 * question in the context it returns to. Registers hold non-canonical values
 * (64-bit mode) or addresses where nothing is mapped, system call numbers are
 * invalid, segment selectors too: a random instruction finds nothing to harm.
 * Only WRFSBASE with a 32-bit operand succeeds; the handler's first
 * instructions undo it. The bytes are written through a second mapping.
 */
#include "tests/insn/cpu_probe.h"

#include <asm/ldt.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE    4096u
#define LOW     0x10000000ul /* code page: below 4 GiB, nothing else there */
#define BAD64   0x8f5a5a5a5a5afff0ull /* non-canonical; ax no valid selector */
#define BAD32   0xfa5afff0u
#define CS64    0x33
#define CS32    0x23
#define CS16    0x0f /* LDT entry 1, made by modify_ldt() */
#define SS_USER 0x2b

/* Process-wide: a signal handler has no other way to its state. */
static struct {
    struct probe *p;
    size_t n;
    volatile size_t *at; /* shared: survives the child */
    uint8_t *write;      /* the code page, writable */
    bool lower;          /* asking for n - 1 bytes */
    bool started;
} run;

unsigned long probe_fs_base; /* read by probe_entry() below */

void probe_handler(int sig, siginfo_t *info, void *context);
void probe_entry(int sig, siginfo_t *info, void *context);
void probe_entry_plain(int sig, siginfo_t *info, void *context);

__asm__(".text\n"
        ".globl probe_entry\n"
        "probe_entry:\n"
        "    mov probe_fs_base(%rip), %rax\n"
        "    wrfsbase %rax\n"
        ".globl probe_entry_plain\n"
        "probe_entry_plain:\n"
        "    jmp probe_handler\n");

static unsigned cur_len(void)
{
    const struct probe *q = &run.p[*run.at];
    return q->n - run.lower;
}

/* Notes what the signal says about the current question. */
static void note(const greg_t *r)
{
    struct probe *q = &run.p[*run.at];
    unsigned len = cur_len();
    uint64_t start = LOW + PAGE - len, end = LOW + PAGE;
    uint64_t ip = (uint64_t)r[REG_RIP], res = PROBE_RUNS;

    if (q->mode == 16)
        ip += LOW;
    if (r[REG_TRAPNO] == 6 && ip == start)
        res = PROBE_UD;
    else if (r[REG_TRAPNO] == 14 && ip == start &&
             (uint64_t)r[REG_CR2] == end && (r[REG_ERR] & 16))
        res = PROBE_MORE;
    if (run.lower) {
        q->lower_result = (uint8_t)res;
        run.lower = false;
        ++*run.at;
        return;
    }
    q->result = (uint8_t)res;
    q->trapno = (uint8_t)r[REG_TRAPNO];
    if (r[REG_TRAPNO] == 1 && ip == end) {
        q->lower_result = PROBE_MORE;
        ++*run.at;
    } else if (q->lower && q->n > 1 && res != PROBE_MORE) {
        run.lower = true;
    } else {
        ++*run.at;
    }
}

/* Makes the context enter the next question. */
static void enter(greg_t *r)
{
    const struct probe *q = &run.p[*run.at];
    unsigned len = cur_len();
    uint64_t bad = q->mode == 64 ? BAD64 : BAD32;
    uint64_t cs = q->mode == 64 ? CS64 : q->mode == 32 ? CS32 : CS16;

    memcpy(run.write + PAGE - len, q->bytes, len);
    for (int i = REG_R8; i <= REG_RSP; i++)
        r[i] = (greg_t)bad;
    r[REG_RIP] = (greg_t)((q->mode == 16 ? 0 : LOW) + PAGE - len);
    r[REG_EFL] = 0x302;
    r[REG_CSGSFS] = (greg_t)(cs | (uint64_t)SS_USER << 48);
}

void probe_handler(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    (void)sig;
    (void)info;
    if (run.started)
        note(uc->uc_mcontext.gregs);
    run.started = true;
    if (*run.at >= run.n)
        _exit(0);
    enter(uc->uc_mcontext.gregs);
}

static unsigned long fs_base(void)
{
    unsigned long v = 0;
    syscall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &v);
    return v;
}

static bool map_code(void)
{
    int fd = memfd_create("probe", MFD_CLOEXEC);
    void *low = (void *)LOW;

    if (fd < 0 || ftruncate(fd, PAGE) != 0)
        return false;
    run.write = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void *code = mmap(low, PAGE, PROT_READ | PROT_EXEC,
                      MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    void *end = mmap((uint8_t *)low + PAGE, PAGE, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    close(fd);
    return run.write != MAP_FAILED && code == low && end != MAP_FAILED;
}

static bool ldt_code16(void)
{
    struct user_desc d = {.entry_number = CS16 >> 3,
                          .base_addr = (unsigned)LOW,
                          .limit = 0xffff,
                          .contents = MODIFY_LDT_CONTENTS_CODE};

    return syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)) == 0;
}

static __attribute__((noreturn)) void child(void)
{
    static uint8_t stack[65536];
    static const int sigs[] = {SIGSEGV, SIGILL, SIGTRAP,
                               SIGBUS,  SIGFPE, SIGUSR1};
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
    bool fsgsbase = getauxval(AT_HWCAP2) & 2;
    struct sigaction sa = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

    probe_fs_base = fs_base();
    sa.sa_sigaction = fsgsbase ? probe_entry : probe_entry_plain;
    if (!map_code() || sigaltstack(&ss, NULL) != 0)
        _exit(1);
    ldt_code16();
    for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
        sigaction(sigs[i], &sa, NULL);
    alarm(300);
    raise(SIGUSR1);
    _exit(1);
}

struct probe *probe_alloc(size_t n)
{
    void *p = mmap(NULL, n * sizeof(struct probe), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int probe_run(struct probe *p, size_t n)
{
    size_t *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED)
        return -1;
    for (*at = 0; *at < n;) {
        run.p = p;
        run.n = n;
        run.at = at;
        size_t before = *at;
        pid_t pid = fork();
        int status = 0;
        if (pid == 0)
            child();
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            return -1;
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0 && *at == before)
            return -1; /* never got going */
        if (*at < n)
            p[(*at)++].result = PROBE_DIED;
    }
    munmap(at, PAGE);
    return 0;
}

int probe_supported(unsigned mode)
{
    struct probe *p = probe_alloc(1);

    if (p == NULL)
        return 0;
    *p = (struct probe){.bytes = {0x90}, .n = 1, .mode = (uint8_t)mode};
    int ok = probe_run(p, 1) == 0 && p->result == PROBE_RUNS &&
             p->lower_result == PROBE_MORE;
    munmap(p, sizeof(*p));
    return ok;
}
