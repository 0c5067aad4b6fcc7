// SPDX-License-Identifier: Apache-2.0
/*
 * The kvm engine against this host's KVM, in real mode and flat protected mode,
 * so that a KVM which emulates each instruction runs it too: exits, interrupts,
 * kicks, state both ways, and every ioctl failing in turn.
 */
#include "engine/kvm/kvm.h"

#include "base/test.h"
#include "cpu/x86/control.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/lapic.h"
#include "engine/kvm/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>

#define RAM_BYTES (2U << 20)
#define CODE      0x1000U
#define HANDLER   0x2000U /* inc bx; iret */
#define STACK     0x8000U
#define VECTOR    0x40U
#define PORT      0x80U
#define MMIO_GPA  UINT64_C(0xd0000000)

struct kvm_fixture {
    struct vm vm;
    struct x86_cpuid cpuid;
    struct x86_topology topo;
    struct x86_cpu cpu;
    struct engine_part *part;
    struct engine_vcpu *v;
    struct bus_region pio, mmio;
    uint32_t wrote; /* by the guest, to PORT or MMIO_GPA */
    /* what a write to PORT does besides */
    uint8_t post;
    uint32_t request;
    /* which ioctl fails */
    unsigned calls, fail_at;
    unsigned long failed_req;
};

static int open_kvm(void)
{
    return open("/dev/kvm", O_RDWR | O_CLOEXEC);
}

#define NEED_KVM()                                                             \
    do {                                                                       \
        int fd_ = open_kvm();                                                  \
        if (fd_ < 0)                                                           \
            SKIP("no usable /dev/kvm here");                                   \
        close(fd_);                                                            \
    } while (0)

static uint64_t dev_read(void *dev, uint64_t off, unsigned size)
{
    (void)dev;
    return 0x11223344U + off + size;
}

static void dev_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    struct kvm_fixture *t = dev;

    (void)off;
    (void)size;
    t->wrote = (uint32_t)val;
    if (t->post)
        kick_post(&t->cpu.kick, t->post, false);
    if (t->request)
        kick_request(&t->cpu.kick, t->request);
}

static const struct bus_ops dev_ops = {.read = dev_read, .write = dev_write};

static int counted_ioctl(void *ctx, int fd, unsigned long req, void *arg)
{
    struct kvm_fixture *t = ctx;

    if (++t->calls == t->fail_at) {
        t->failed_req = req;
        errno = EIO;
        return -1;
    }
    return ioctl(fd, req, arg);
}

static void poke(struct kvm_fixture *t, uint64_t at, const void *p, size_t n)
{
    if (mem_write(t->vm.mem, gpa(at), p, n))
        abort();
}

/* Real mode at CODE; vectors 2, 13 and from VECTOR on lead to HANDLER. */
static void start_real(struct kvm_fixture *t)
{
    struct x86_cpu *c = &t->cpu;

    for (unsigned v = 0; v < 256; v++)
        poke(t, v * 4U, "\x00\x20\x00\x00", 4);
    poke(t, HANDLER, "\x43\xcf", 2);
    c->seg[X86_SEG_CS].sel = 0;
    c->seg[X86_SEG_CS].base = 0;
    c->idtr = (struct x86_dtr){.limit = 0x3ff};
    c->rip = CODE;
    c->gpr[X86_RSP] = STACK;
    c->lapic.svr |= 0x100;
}

/* Flat 32-bit protected mode at CODE, without an IDT. */
static void start_flat(struct kvm_fixture *t)
{
    struct x86_cpu *c = &t->cpu;
    const struct x86_seg data = {
        .limit = 0xffffffff, .attr = 0xc093, .sel = 16};

    start_real(t);
    c->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE;
    for (unsigned i = 0; i < 6; i++)
        c->seg[i] = data;
    c->seg[X86_SEG_CS].attr = 0xc09b;
    c->seg[X86_SEG_CS].sel = 8;
    c->idtr.limit = 0;
}

static void fixture_vm(struct kvm_fixture *t)
{
    const struct mem_conf mc = {
        .ram_bytes = RAM_BYTES, .low_limit = UINT64_C(3) << 30, .memfd = -1};
    struct x86_cpuid_conf cc = {
        .level = x86_cpuid_best_level(), .ncpus = 1, .tsc_khz = 1000000};
    struct clock *clk = clock_create(CLOCK_MODE_REAL, 0, 0);
    struct mem *mem;
    struct err e;

    if (!clk || mem_create(&mc, &mem, &e) || vm_init(&t->vm, mem, clk, &e) ||
        x86_cpuid_build(&cc, &t->cpuid, &e)) {
        printf("the test's VM: %s\n", e.text);
        exit(1);
    }
    t->pio = (struct bus_region){
        .start = PORT, .len = 4, .ops = &dev_ops, .dev = t, .name = "port"};
    t->mmio = (struct bus_region){
        .start = MMIO_GPA, .len = 64, .ops = &dev_ops, .dev = t, .name = "mm"};
    if (bus_add(t->vm.pio, &t->pio, &e) || bus_add(t->vm.mmio, &t->mmio, &e))
        abort();
    x86_cpu_init(&t->cpu, 0, &t->vm, &t->topo, &t->cpuid);
    clock_start(clk);
}

/* @fail_at: which ioctl fails; 0: none. Return: what creating it gave. */
static int fixture_engine(struct kvm_fixture *t, unsigned fail_at,
                          struct err *e)
{
    const struct kvm_sys sys = {.ioctl = counted_ioctl, .ctx = t};
    int fd = open_kvm(), r;
    const struct engine_host host = {.kvm_fd = fd, .ncpus = 1};

    t->calls = 0;
    t->fail_at = fail_at;
    r = kvm_part_create(&host, &sys, &t->part, e);
    close(fd);
    if (r)
        return r;
    t->vm.engine = t->part;
    return kvm_engine.vcpu_create(&t->vm, &t->cpu, &t->v, e);
}

static struct kvm_fixture *fixture_bare(void)
{
    size_t room = (sizeof(struct kvm_fixture) + 63) & ~(size_t)63;
    struct kvm_fixture *t = aligned_alloc(64, room);

    memset(t, 0, sizeof *t);
    fixture_vm(t);
    return t;
}

static struct kvm_fixture *fixture_create(void)
{
    struct kvm_fixture *t = fixture_bare();
    struct err e = {{0}};

    if (fixture_engine(t, 0, &e)) {
        printf("the engine: %s\n", e.text);
        exit(1);
    }
    return t;
}

static void fixture_destroy(struct kvm_fixture *t)
{
    kvm_engine.vcpu_destroy(t->v);
    kvm_part_destroy(t->part);
    x86_cpu_fini(&t->cpu);
    vm_fini(&t->vm);
    free(t);
}

#define PUT(t, s) poke(t, CODE, s, sizeof(s) - 1)

static enum exit_reason run(struct kvm_fixture *t)
{
    struct exit_rec x = {0};

    kvm_engine.vcpu_run(t->v, 0, &x);
    if (x.reason == EXIT_FAILED)
        printf("%s\n", x.why);
    return x.reason;
}

TEST(ports)
{
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_create();
    start_real(t);
    PUT(t, "\xb0\x42\xe6\x80\xe4\x81\xf4"); /* mov al; out; in al; hlt */
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(t->wrote, 0x42);
    CHECK_EQ(t->cpu.gpr[X86_RAX], 0x46); /* 0x44 + offset 1 + size 1 */
    CHECK_EQ(t->cpu.rip, CODE + 7);
    CHECK_EQ(t->cpu.activity, X86_ACT_HLT);
    fixture_destroy(t);
}

TEST(mmio_and_local_apic)
{
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_create();
    start_flat(t);
    /* mov eax, [MMIO]; mov [MMIO + 4], eax; mov eax, [APIC version]; hlt */
    PUT(t, "\xa1\x00\x00\x00\xd0\xa3\x04\x00\x00\xd0\xa1\x30\x00\xe0\xfe\xf4");
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(t->wrote, 0x11223348);
    CHECK_EQ(t->cpu.gpr[X86_RAX], x86_lapic_mmio_read(&t->cpu, 0x30, 4));
    fixture_destroy(t);
}

TEST(msrs_are_ours)
{
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_create();
    start_real(t);
    /* mov ecx, IA32_MTRRCAP; rdmsr; hlt */
    PUT(t, "\x66\xb9\xfe\x00\x00\x00\x0f\x32\xf4");
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(t->cpu.gpr[X86_RAX], 0x508);
    /* an unknown one: #GP to HANDLER, whose IRET leads there again: cut that
     * short by a HLT in its place */
    poke(t, HANDLER, "\xf4", 1);
    PUT(t, "\x66\xb9\xff\xee\x00\x00\x0f\x32\xf4");
    t->cpu.rip = CODE;
    t->cpu.activity = X86_ACT_RUN;
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(t->cpu.rip, HANDLER + 1);
    CHECK_EQ(t->cpu.unknown_msr_count, 1);
    fixture_destroy(t);
}

TEST(interrupt_ends_hlt)
{
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_create();
    start_real(t);
    PUT(t, "\xfb\xf4\xf4"); /* sti; hlt; hlt */
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(t->cpu.rip, CODE + 2);
    CHECK_EQ(run(t), EXIT_HLT); /* nothing came */
    CHECK_EQ(t->cpu.rip, CODE + 2);
    kick_post(&t->cpu.kick, VECTOR, false);
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(t->cpu.rip, CODE + 3);
    CHECK_EQ(t->cpu.gpr[X86_RBX], 1);
    fixture_destroy(t);
}

/* sti; nop; out, which asks for what the fixture says; nops; cli; hlt */
#define ASKS "\xfb\x90\xe6\x80\x90\x90\x90\xfa\xf4"

TEST(interrupt_is_injected)
{
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_create();
    start_real(t);
    t->post = VECTOR;
    PUT(t, ASKS);
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(t->cpu.gpr[X86_RBX], 1);
    CHECK_EQ(t->cpu.gpr[X86_RSP], STACK);
    CHECK_EQ(t->v->st.irqs, 1);
    fixture_destroy(t);
}

TEST(nmi_is_injected)
{
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_create();
    start_real(t);
    t->request = KICK_NMI;
    PUT(t, ASKS);
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(t->cpu.gpr[X86_RBX], 1);
    CHECK_EQ(t->cpu.gpr[X86_RSP], STACK);
    CHECK(!t->cpu.nmi_blocked);
    fixture_destroy(t);
}

TEST(nmi_comes_before_an_interrupt)
{
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_create();
    start_real(t);
    t->post = VECTOR;
    t->request = KICK_NMI;
    poke(t, 2 * 4, "\x00\x30", 2);
    poke(t, 0x3000, "\x8b\xc3\x43\xcf", 4); /* mov ax, bx; inc bx; iret */
    /* as ASKS, with room: sti; nop; out; loop until bx = 2; hlt */
    PUT(t, "\xfb\x90\xe6\x80\x83\xfb\x02\x75\xfb\xfa\xf4");
    t->cpu.gpr[X86_RAX] = 7;
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(t->cpu.gpr[X86_RBX], 2);
    CHECK_EQ(t->cpu.gpr[X86_RAX], 0);
    CHECK_EQ(t->cpu.gpr[X86_RSP], STACK);
    CHECK_EQ(t->v->st.irqs, 1);
    fixture_destroy(t);
}

TEST(interrupt_waits_for_if)
{
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_create();
    start_real(t);
    t->post = VECTOR;
    /* out; mov ax, bx; sti; loop: or bx, bx; jz loop; cli; hlt */
    PUT(t, "\xe6\x80\x8b\xc3\xfb\x09\xdb\x74\xfc\xfa\xf4");
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(t->cpu.gpr[X86_RAX], 0); /* not before STI */
    CHECK_EQ(t->cpu.gpr[X86_RBX], 1);
    fixture_destroy(t);
}

static void *park_soon(void *arg)
{
    struct kvm_fixture *t = arg;

    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    kick_request(&t->cpu.kick, KICK_PARK);
    return NULL;
}

TEST(kick_leaves_a_loop)
{
    struct kvm_fixture *t;
    pthread_t thread;
    struct engine_part *part = NULL;
    struct err e = {{0}};

    NEED_KVM();
    /* init is what installs the signal's handler */
    CHECK(kvm_engine.init(&(struct engine_host){.kvm_fd = -1, .ncpus = 1},
                          &part, &e) < 0);
    CHECK(strstr(e.text, "/dev/kvm") != NULL);
    t = fixture_create();
    start_real(t);
    PUT(t, "\xeb\xfe");
    for (unsigned i = 0; i < 5; i++) {
        if (pthread_create(&thread, NULL, park_soon, t))
            abort();
        CHECK_EQ(run(t), EXIT_PARK);
        CHECK_EQ(t->cpu.rip, CODE);
        pthread_join(thread, NULL);
        CHECK_EQ(run(t), EXIT_PARK); /* it stands */
        kick_clear(&t->cpu.kick, KICK_PARK);
    }
    fixture_destroy(t);
}

TEST(park_in_the_middle_of_an_access)
{
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_create();
    start_real(t);
    t->request = KICK_PARK; /* by the port write itself */
    PUT(t, "\xb0\x42\xe6\x80\xe4\x81\xf4");
    CHECK_EQ(run(t), EXIT_PARK);
    CHECK_EQ(t->cpu.rip, CODE + 4); /* the OUT is complete */
    t->request = 0;
    kick_clear(&t->cpu.kick, KICK_PARK);
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(t->cpu.gpr[X86_RAX], 0x46);
    fixture_destroy(t);
}

TEST(triple_fault)
{
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_create();
    start_flat(t);
    PUT(t, "\x0f\x0b"); /* ud2 without an IDT */
    CHECK_EQ(run(t), EXIT_SHUTDOWN);
    CHECK_EQ(t->cpu.activity, X86_ACT_SHUTDOWN);
    CHECK_EQ(run(t), EXIT_SHUTDOWN);
    fixture_destroy(t);
}

static void fill(struct kvm_fixture *t)
{
    struct x86_cpu *c = &t->cpu;
    uint64_t bv = 3;

    for (unsigned i = 0; i < 8; i++)
        c->gpr[i] = 0x1000000 + i;
    for (unsigned i = 0; i < 4; i++)
        c->dr[i] = 0x2000 + i;
    c->cr2 = 0x12345000;
    c->seg[X86_SEG_FS].base = 0x3000;
    c->seg[X86_SEG_FS].limit = 0xfff;
    c->seg[X86_SEG_FS].attr = 0x4093; /* byte granular, as the limit needs */
    c->seg[X86_SEG_GS] = (struct x86_seg){.attr = X86_SEG_UNUSABLE};
    c->gdtr = (struct x86_dtr){.base = 0x5000, .limit = 0x37};
    c->msr.sysenter_cs = 8;
    c->msr.sysenter_esp = 0x7000;
    c->msr.sysenter_eip = 0x7100;
    c->msr.lstar = 0x7200;
    c->msr.star = UINT64_C(0x0010000800000000);
    c->msr.fmask = 0x300;
    c->msr.kernel_gs_base = 0x7300;
    c->msr.pat = UINT64_C(0x0007010600070406);
    c->msr.mtrr_def_type = 0xc06;      /* ours alone */
    for (unsigned i = 0; i < 256; i++) /* XMM0-15 */
        c->xsave.b[160 + i] = (uint8_t)(i * 7);
    memcpy(c->xsave.b + 512, &bv, 8);
    c->rflags = X86_FL_ONE | X86_FL_CF | X86_FL_ZF;
    c->nmi_blocked = true;
}

#define SAME(member)                                                           \
    CHECK(memcmp(&was->member, &c->member, sizeof c->member) == 0)

TEST(tsc_is_the_clocks)
{
    struct kvm_fixture *t;
    uint64_t before, after, tsc;

    NEED_KVM();
    t = fixture_create();
    start_real(t);
    PUT(t, "\x0f\x31\xf4\x0f\x31\xf4"); /* rdtsc; hlt; rdtsc; hlt */
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(kvm_push(t->v), 0); /* a first push may move tsc_offset */
        CHECK_EQ(kvm_pull(t->v), 0);
        before = x86_tsc(&t->cpu);
        CHECK_EQ(run(t), EXIT_HLT);
        after = x86_tsc(&t->cpu);
        tsc = t->cpu.gpr[X86_RDX] << 32 | t->cpu.gpr[X86_RAX];
        CHECK(tsc >= before && tsc <= after);
        /* time stands still for a while: the TSC must too */
        clock_stop(t->vm.clock);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        clock_start(t->vm.clock);
        t->cpu.activity = X86_ACT_RUN;
    }
    fixture_destroy(t);
}

TEST(code_outside_ram_ends_the_vm)
{
    struct exit_rec x = {0};
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_create();
    start_flat(t);
    t->cpu.rip = MMIO_GPA;
    kvm_engine.vcpu_run(t->v, 0, &x);
    CHECK_EQ(x.reason, EXIT_FAILED);
    CHECK(strstr(x.why, "0xd0000000") != NULL);
    fixture_destroy(t);
}

TEST(state_goes_there_and_back)
{
    struct x86_cpu *was = aligned_alloc(64, sizeof *was), *c;
    struct kvm_fixture *t;

    if (open_kvm() < 0)
        free(was);
    NEED_KVM();
    t = fixture_create();
    c = &t->cpu;
    start_flat(t);
    fill(t);
    PUT(t, "\xf4");
    memcpy(was, c, sizeof *was);
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(c->rip, CODE + 1);
    SAME(gpr);
    SAME(rflags);
    SAME(cr0);
    SAME(cr2);
    SAME(cr3);
    SAME(cr4);
    SAME(efer);
    SAME(xcr0);
    SAME(dr);
    SAME(dr7);
    SAME(cpl);
    SAME(nmi_blocked);
    SAME(nmi_pending);
    SAME(msr);
    for (unsigned i = 0; i < 6; i++) {
        SAME(seg[i].base);
        SAME(seg[i].attr);
        SAME(seg[i].sel);
        if (!(c->seg[i].attr & X86_SEG_UNUSABLE))
            SAME(seg[i].limit);
    }
    SAME(gdtr.base);
    SAME(gdtr.limit);
    SAME(idtr.limit);
    CHECK(memcmp(was->xsave.b, c->xsave.b, 416) == 0);
    CHECK_EQ(c->xsave.b[512] & 2, 2);
    CHECK(!c->event.valid);
    free(was);
    fixture_destroy(t);
}

TEST(an_event_under_way_is_kept)
{
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_create();
    start_real(t);
    PUT(t, "\xf4");
    t->cpu.rflags |= X86_FL_IF;
    t->cpu.event = (struct x86_event){.valid = true, .vector = VECTOR};
    /* moved in and out without an entry */
    CHECK_EQ(kvm_push(t->v), 0);
    CHECK_EQ(kvm_pull(t->v), 0);
    CHECK(t->cpu.event.valid);
    CHECK_EQ(t->cpu.event.vector, VECTOR);
    CHECK_EQ(run(t), EXIT_HLT);
    CHECK_EQ(t->cpu.gpr[X86_RBX], 1);
    fixture_destroy(t);
}

TEST(scattered_ram_is_refused)
{
    const struct mem_conf mc = {.ram_bytes = RAM_BYTES,
                                .low_limit = UINT64_C(3) << 30,
                                .scatter = true,
                                .memfd = -1};
    struct kvm_fixture *t;
    struct mem *mem, *kept;
    struct engine_vcpu *v;
    struct err e = {{0}};

    NEED_KVM();
    t = fixture_create();
    kvm_engine.vcpu_destroy(t->v);
    CHECK_EQ(mem_create(&mc, &mem, &e), 0);
    kept = t->vm.mem;
    t->vm.mem = mem;
    CHECK_EQ(kvm_engine.vcpu_create(&t->vm, &t->cpu, &v, &e), -ENOTSUP);
    CHECK(strstr(e.text, "scatter") != NULL);
    t->vm.mem = kept;
    mem_destroy(mem);
    fixture_destroy(t);
}

/* Two accesses, an MSR, an interrupt, an NMI, HLT: every kind of call. Return:
 * whether it reported a failure; false: it went well. */
static bool whole_life(struct kvm_fixture *t, unsigned fail_at)
{
    struct exit_rec x = {0};
    struct err e = {{0}};
    int r = fixture_engine(t, fail_at, &e);

    if (r) {
        CHECK(r < 0 && e.text[0]);
        return true;
    }
    start_real(t);
    t->post = VECTOR;
    t->request = KICK_NMI;
    PUT(t, "\xfb\x90\xe6\x80\x66\xb9\xfe\x00\x00\x00\x0f\x32\xfa\xf4");
    for (unsigned i = 0; i < 2; i++) {
        kvm_engine.vcpu_run(t->v, 0, &x);
        if (x.reason == EXIT_FAILED) {
            CHECK(x.why[0] && memchr(x.why, 0, sizeof x.why));
            CHECK(strstr(x.why, "Input/output error") != NULL);
            return true;
        }
        CHECK_EQ(x.reason, EXIT_HLT);
        /* something to move in again */
        t->cpu.msr.pat ^= 1;
        t->cpu.dr[0] += 4;
        t->cpu.xsave.b[160] ^= 1;
        t->cpu.activity = X86_ACT_RUN;
        t->cpu.rip = CODE + 12;
        t->cpu.tsc_offset += 1000000000;
    }
    return false;
}

/* What the engine does without. */
static bool tolerated(unsigned long req)
{
    return req == KVM_HAS_DEVICE_ATTR || req == KVM_GET_DEVICE_ATTR ||
           req == KVM_SET_DEVICE_ATTR || req == KVM_SET_USER_MEMORY_REGION;
}

TEST(every_call_may_fail)
{
    unsigned total, reported = 0;
    struct kvm_fixture *t;

    NEED_KVM();
    t = fixture_bare();
    CHECK(!whole_life(t, 0));
    total = t->calls;
    fixture_destroy(t);
    CHECK(total > 30);
    for (unsigned n = 1; n <= total; n++) {
        t = fixture_bare();
        if (whole_life(t, n)) {
            reported++;
        } else if (!tolerated(t->failed_req)) {
            printf("call %u (0x%lx) failed unseen\n", n, t->failed_req);
            test_failures++;
        }
        fixture_destroy(t);
    }
    printf("%u calls, %u failures reported\n", total, reported);
    CHECK(reported + 6 >= total);
}

TEST(speed_of_an_exit)
{
    struct timespec a, b;
    struct kvm_fixture *t;
    double us;

    NEED_KVM();
    t = fixture_create();
    start_real(t);
    /* mov cx, 1000; again: out; loop again; hlt */
    PUT(t, "\xb9\xe8\x03\xe6\x80\xe2\xfc\xf4");
    clock_gettime(CLOCK_MONOTONIC, &a);
    CHECK_EQ(run(t), EXIT_HLT);
    clock_gettime(CLOCK_MONOTONIC, &b);
    CHECK_EQ(t->v->st.pio, 1000);
    us = (double)(b.tv_sec - a.tv_sec) * 1e6 +
         (double)(b.tv_nsec - a.tv_nsec) / 1e3;
    printf("%.1f us for each port write, %.0f exits/s\n", us / 1000, 1e9 / us);
    fixture_destroy(t);
}

TEST_MAIN(CASE(ports), CASE(mmio_and_local_apic), CASE(msrs_are_ours),
          CASE(interrupt_ends_hlt), CASE(interrupt_is_injected),
          CASE(nmi_is_injected), CASE(nmi_comes_before_an_interrupt),
          CASE(interrupt_waits_for_if), CASE(kick_leaves_a_loop),
          CASE(park_in_the_middle_of_an_access), CASE(triple_fault),
          CASE(tsc_is_the_clocks), CASE(code_outside_ram_ends_the_vm),
          CASE(state_goes_there_and_back), CASE(an_event_under_way_is_kept),
          CASE(scattered_ram_is_refused), CASE(every_call_may_fail),
          CASE(speed_of_an_exit))
