// SPDX-License-Identifier: Apache-2.0
/*
 * Timing /dev/kvm; see kvmprobe.h.
 *
 * Some hosts offer a KVM that interprets guest code one instruction at a time,
 * and some only in certain modes: so a counting loop is timed in ring 0 and in
 * ring 3 of long mode, and in real mode, and the slowest says what this KVM
 * is. The code is ours; a child runs it and leaves its figures in a shared
 * page, so that they are there even when it had to be killed.
 *
 * Guest memory: 0x1000 code, 0x2000 PML4, 0x3000 PDPT, 0x4000 PD whose first
 * entry maps 2 MiB onto itself. Source: Linux Documentation/virt/kvm/api.rst;
 * Intel SDM vol. 3A 4.5 (paging), 3.4.5 (segment attributes).
 */
#include "core/kvmprobe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "base/cc.h"

#define PROBE_MS       50
#define GUEST_BYTES    0x10000
#define CODE_GPA       0x1000
#define PML4_GPA       0x2000
#define LOOP_NS_ENOUGH 1000000.0 /* a loop that long can be believed */
#define REAL_MIPS      50.0      /* slower than this is no hardware */
#define PORT           0x80

enum loop_mode {
    LOOP_RING0,
    LOOP_RING3,
    LOOP_REAL
};

struct probe {
    int vm, vcpu;
    uint8_t *mem;
    struct kvm_run *run;
    size_t run_bytes;
    struct kvm_sregs reset; /* as KVM_CREATE_VCPU leaves them */
};

/* mov ecx, N; loop: dec ecx; jnz loop; out PORT, al. The two-byte jump reads
 * the same in 16-bit and 64-bit code; dec is FF /1 with an operand-size prefix
 * in 16-bit code, and so is mov. */
static const uint8_t code64[] = {0xb9, 0,    0,    0,    0,   0xff,
                                 0xc9, 0x75, 0xfc, 0xe6, PORT};
static const uint8_t code16[] = {0x66, 0xb9, 0,    0,    0,    0,   0x66,
                                 0xff, 0xc9, 0x75, 0xfb, 0xe6, PORT};

static double now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static bool vm_create(struct probe *p, int kvm)
{
    struct kvm_userspace_memory_region slot = {.memory_size = GUEST_BYTES};
    int bytes;

    p->vm = ioctl(kvm, KVM_CREATE_VM, 0UL);
    bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0UL);
    p->mem = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p->vm < 0 || bytes < (int)sizeof *p->run || p->mem == MAP_FAILED)
        return false;
    slot.userspace_addr = (uintptr_t)p->mem;
    if (ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
        return false;
    p->vcpu = ioctl(p->vm, KVM_CREATE_VCPU, 0UL);
    if (p->vcpu < 0)
        return false;
    p->run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                  p->vcpu, 0);
    return p->run != MAP_FAILED &&
           ioctl(p->vcpu, KVM_GET_SREGS, &p->reset) == 0;
}

static void put_entry(struct probe *p, size_t at, uint64_t entry)
{
    memcpy(p->mem + at, &entry, sizeof entry);
}

static void map_pages(struct probe *p)
{
    put_entry(p, PML4_GPA, (PML4_GPA + 0x1000) | 7);
    put_entry(p, PML4_GPA + 0x1000, (PML4_GPA + 0x2000) | 7);
    put_entry(p, PML4_GPA + 0x2000, 0x87); /* present, write, user, 2 MiB */
}

static bool set_long_mode(struct probe *p, uint8_t cpl)
{
    struct kvm_sregs s = p->reset;
    struct kvm_segment seg = {
        .limit = 0xffffffff, .present = 1, .dpl = cpl, .s = 1, .g = 1};

    map_pages(p);
    seg.type = 3; /* data, read-write, accessed */
    seg.db = 1;
    seg.selector = (uint16_t)(0x10 | cpl);
    s.ds = s.es = s.fs = s.gs = s.ss = seg;
    seg.type = 11; /* code, readable, accessed */
    seg.db = 0;
    seg.l = 1;
    seg.selector = (uint16_t)(0x08 | cpl);
    s.cs = seg;
    s.tr = (struct kvm_segment){
        .limit = 0x67, .present = 1, .type = 11, .selector = 0x18};
    s.cr0 = 0x80000031; /* PG, NE, ET, PE */
    s.cr3 = PML4_GPA;
    s.cr4 = 0x20;   /* PAE */
    s.efer = 0x500; /* LMA, LME */
    return ioctl(p->vcpu, KVM_SET_SREGS, &s) == 0;
}

static bool set_real_mode(struct probe *p)
{
    struct kvm_sregs s = p->reset;

    s.cs.selector = 0;
    s.cs.base = 0;
    return ioctl(p->vcpu, KVM_SET_SREGS, &s) == 0;
}

static void put_code(struct probe *p, enum loop_mode mode, uint32_t n)
{
    bool is16 = mode == LOOP_REAL;

    memcpy(p->mem + CODE_GPA, is16 ? code16 : code64,
           is16 ? sizeof code16 : sizeof code64);
    memcpy(p->mem + CODE_GPA + (is16 ? 2 : 1), &n, sizeof n);
}

/* Run the loop @n times. Return: nanoseconds, or a negative number when the
 * VM did not reach the port write. */
static double time_loop(struct probe *p, enum loop_mode mode, uint32_t n)
{
    /* IOPL 3, so that ring 3 may write the port. */
    struct kvm_regs regs = {.rip = CODE_GPA, .rflags = 0x3002};
    double start;
    bool ok = mode == LOOP_REAL ? set_real_mode(p)
                                : set_long_mode(p, mode == LOOP_RING3 ? 3 : 0);

    put_code(p, mode, n);
    if (!ok || ioctl(p->vcpu, KVM_SET_REGS, &regs) < 0)
        return -1;
    start = now_ns();
    if (ioctl(p->vcpu, KVM_RUN, 0UL) < 0 || p->run->exit_reason != KVM_EXIT_IO)
        return -1;
    return now_ns() - start;
}

/* Longer and longer, until the clock's grain and the exit do not matter. */
static double loop_mips(struct probe *p, enum loop_mode mode)
{
    double ns = 0;

    for (uint32_t n = 1000; n < 100000000; n *= 8) {
        ns = time_loop(p, mode, n);
        if (ns < 0)
            return 0;
        if (ns >= LOOP_NS_ENOUGH)
            return 2.0 * n * 1e3 / ns;
    }
    return 1e6; /* faster than can be */
}

/* The shortest of a few: the loop itself is nothing then. */
static double exit_us(struct probe *p)
{
    double best = 1e12;

    for (int i = 0; i < 8; i++) {
        double ns = time_loop(p, LOOP_RING0, 1);

        if (ns >= 0 && ns < best)
            best = ns;
    }
    return best / 1e3;
}

static NORETURN void child_main(int kvm, struct kvm_report *shared)
{
    struct probe p = {.vm = -1, .vcpu = -1};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!vm_create(&p, kvm)) {
        snprintf(shared->why, sizeof shared->why, "/dev/kvm makes no VM: %s",
                 strerror(errno));
        _exit(1);
    }
    shared->kind = ABI_KVM_EMULATING; /* until it is shown to be real */
    shared->exit_us = exit_us(&p);
    shared->ring0_mips = loop_mips(&p, LOOP_RING0);
    shared->ring3_mips = loop_mips(&p, LOOP_RING3);
    shared->real_mips = loop_mips(&p, LOOP_REAL);
    _exit(0);
}

static double worst(const struct kvm_report *r)
{
    double w = r->ring0_mips < r->ring3_mips ? r->ring0_mips : r->ring3_mips;

    return w < r->real_mips ? w : r->real_mips;
}

static void judge(struct kvm_report *r, bool in_time)
{
    if (r->kind == ABI_KVM_ABSENT) {
        if (!r->why[0])
            snprintf(r->why, sizeof r->why, "/dev/kvm makes no VM");
        return;
    }
    if (in_time && worst(r) >= REAL_MIPS)
        r->kind = ABI_KVM_REAL;
    if (!in_time)
        snprintf(r->why, sizeof r->why, "short loops did not end within %d ms",
                 PROBE_MS);
    else
        snprintf(r->why, sizeof r->why,
                 "ring 0 %.2f, ring 3 %.2f, real mode %.2f million "
                 "instructions/s, an exit %.1f us",
                 r->ring0_mips, r->ring3_mips, r->real_mips, r->exit_us);
}

/* Wait for the child's end; the pipe's other end goes with it.
 * Return: false when it had to be killed. */
static bool wait_child(pid_t pid, int alive)
{
    struct pollfd p = {.fd = alive, .events = POLLIN};
    bool in_time = poll(&p, 1, PROBE_MS) > 0;

    if (!in_time)
        kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return in_time;
}

static void run_child(int kvm, struct kvm_report *shared,
                      struct kvm_report *out)
{
    int alive[2];
    bool in_time;
    pid_t pid;

    if (pipe2(alive, O_CLOEXEC) < 0)
        return;
    pid = fork();
    if (pid == 0) {
        close(alive[0]);
        child_main(kvm, shared);
    }
    close(alive[1]);
    in_time = pid > 0 && wait_child(pid, alive[0]);
    close(alive[0]);
    *out = *shared;
    out->why[sizeof out->why - 1] = 0;
    judge(out, in_time);
}

void kvmprobe_run(struct kvm_report *out)
{
    struct kvm_report *shared;

    memset(out, 0, sizeof *out);
    AUTO_FD int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) {
        snprintf(out->why, sizeof out->why, "cannot open /dev/kvm: %s",
                 strerror(errno));
        return;
    }
    if (ioctl(kvm, KVM_GET_API_VERSION, 0UL) != KVM_API_VERSION) {
        snprintf(out->why, sizeof out->why, "/dev/kvm is of another version");
        return;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return;
    run_child(kvm, shared, out);
    munmap(shared, sizeof *shared);
}
