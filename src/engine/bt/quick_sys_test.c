// SPDX-License-Identifier: Apache-2.0
/*
 * System instructions by the translator and by the interpreter: the same
 * instruction from the same state, odd ones too, then the whole of struct
 * x86_cpu, the stack and the descriptor table are compared. Each case runs
 * twice: the first time there is no code to go to, so the quick gate declines.
 */
#include "engine/bt/priv.h"

#include "base/test.h"
#include "cpu/x86/paging.h"
#include "engine/bt/testbt.h"

#include <inttypes.h>
#include <pthread.h>
#include <unistd.h>

#define KERNEL   (TVM_CODE + 0x100U)  /* HLT */
#define USER     TVM_PAGED            /* SYSCALL */
#define LOOP     (TVM_PAGED + 0x100U) /* a jump to itself */
#define USER_SP  (TVM_PAGED + 0x8000U)
#define FRAME    (TVM_STACK - 0x800U)
#define STACK_LO (TVM_STACK - 0x1000U)
#define ACCESS   (TVM_PAGED + 0x800U)  /* a store and SYSCALL */
#define TARGET   (TVM_PAGED + 0x3000U) /* ... there */
#define FIX      (TVM_CODE + 0x1000U)  /* a handler: stores RBX as its PTE */
#define RSP0     0x60000U

/* ---- two VMs ---- */

static struct engine_part *part;

static uint64_t rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s * UINT64_C(0x2545f4914f6cdd1d);
}

static unsigned pick(uint64_t *s, unsigned n)
{
    return (unsigned)(rnd(s) >> 33) % n;
}

/* One of @n in @odds is true. */
static bool odd(uint64_t *s, unsigned odds)
{
    return pick(s, odds) == 0;
}

/* What is there already stays: a write would drop what was translated. */
static void code(struct tvm *t, uint64_t at, const void *p, size_t n)
{
    uint8_t now[64] = {0};

    if (n > sizeof now || mem_read(t->vm.mem, gpa(at), now, n) ||
        memcmp(now, p, n) != 0)
        tvm_poke(t, at, p, n);
}

/* ---- start states ---- */

/* Pages of the kernel's below 2 MiB are its own, so that SMAP lets it at its
 * stack and tables; user pages from 2 MiB on. */
static void tables(struct tvm *t)
{
    tvm_poke64(t, 0x3000, 0x83);
    for (unsigned i = 0; i < 12; i++) /* A and D are set */
        tvm_poke64(t, TVM_PT + 8 * i, (TVM_PAGED + i * 0x1000) | 0x67);
}

/* GDT: beside the VM's own, two descriptors of random types at 0x38, 0x40; the
 * user's data may have a limit or another bit, too. */
static void gdt(struct tvm *t, uint64_t *s)
{
    static const uint64_t base[] = {0x00af9b000000ffff, 0x00affb000000ffff,
                                    0x00cf93000000ffff, 0x00cff3000000ffff};

    for (unsigned i = 0; i < 2; i++) {
        uint64_t d = base[pick(s, 4)];

        if (odd(s, 2))
            d ^= (uint64_t)1 << (40 + pick(s, 16));
        if (odd(s, 4))
            d ^= rnd(s) & 0xff0f00ffffffffff;
        tvm_poke64(t, 0x5038 + 8 * i, d);
    }
    tvm_poke64(t, 0x5018,
               0x00cff3000000ffff ^
                   (odd(s, 6) ? (uint64_t)1 << pick(s, 56) : 0));
    t->cpu->gdtr.limit = (uint16_t)(odd(s, 12) ? 0x17 + pick(s, 0x30) : 0x47);
}

static uint64_t flags(uint64_t *s)
{
    uint64_t f = rnd(s) & (X86_FL_ARITH | X86_FL_DF | X86_FL_ID);

    if (odd(s, 4))
        f |= rnd(s) & (X86_FL_IOPL | X86_FL_AC | X86_FL_VIF | X86_FL_VIP);
    if (odd(s, 4))
        f |= X86_FL_IF;
    if (odd(s, 8))
        f |= rnd(s) & (X86_FL_TF | X86_FL_NT | X86_FL_RF | X86_FL_VM);
    return f | X86_FL_ONE;
}

static uint64_t target(uint64_t *s)
{
    switch (pick(s, 8)) {
    case 0:
        return rnd(s);
    case 1:
        return 0x1000000 | (rnd(s) & 0xffffff);
    case 2:
    case 3:
        return KERNEL;
    default:
        return USER;
    }
}

static uint64_t selector(uint64_t *s)
{
    static const uint16_t some[] = {8,    0x10, 0x1b, 0x23, 0,
                                    0x18, 0x20, 0x3b, 0x43, 0x38};

    return odd(s, 12) ? rnd(s) & 0xffff : some[pick(s, 10)];
}

static void system_regs(struct x86_cpu *cpu, uint64_t *s)
{
    struct x86_msrs *m = &cpu->msr;

    /* 0x20 and up: SYSRET's CS is 0x20 | 3, its SS 0x18 | 3 */
    m->star = UINT64_C(0x0010000800000000);
    if (odd(s, 8))
        m->star = rnd(s);
    m->lstar = odd(s, 16) ? target(s) : KERNEL;
    if (m->lstar == USER) /* a SYSCALL that leads to itself */
        m->lstar = KERNEL;
    m->fmask = odd(s, 2) ? 0x257fd5 : rnd(s) & 0xffffffff;
    m->kernel_gs_base = (uint64_t)((int64_t)rnd(s) >> 17);
    cpu->seg[X86_SEG_GS].base = (uint64_t)((int64_t)rnd(s) >> 17);
    cpu->seg[X86_SEG_FS].base = (uint64_t)((int64_t)rnd(s) >> 17);
    if (odd(s, 16))
        cpu->efer &= ~X86_EFER_SCE;
    if (odd(s, 16))
        cpu->cr0 |= X86_CR0_AM;
    cpu->nmi_blocked = odd(s, 4);
    if (cpu->nmi_blocked)
        cpu->nmi_pending = odd(s, 4);
    memset(cpu->lapic.irr, 0, sizeof cpu->lapic.irr);
    memset(cpu->lapic.isr, 0, sizeof cpu->lapic.isr);
    if (odd(s, 12)) /* an interrupt waits */
        cpu->lapic.irr[pick(s, 8)] = 1;
}

/* @at: where to begin. The same for the same @seed. */
static void start(struct tvm *t, uint64_t seed, uint64_t cr4, uint64_t *s)
{
    struct x86_cpu *cpu = t->cpu;

    *s = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    tvm_cpu_start(t, cpu);
    cpu->cr4 |= cr4;
    cpu->nmi_blocked = cpu->nmi_pending = false;
    cpu->cr2 = rnd(s);
    for (unsigned i = 0; i < 16; i++)
        cpu->gpr[i] = rnd(s) >> (rnd(s) & 63);
    cpu->gpr[X86_RSP] = FRAME;
    for (unsigned i = 0; i < 6; i++)
        if (i != X86_SEG_CS && i != X86_SEG_SS && !odd(s, 16))
            cpu->seg[i] = (struct x86_seg){.attr = X86_SEG_UNUSABLE};
    for (unsigned i = 0; i < 0x1000; i += 8)
        tvm_poke64(t, STACK_LO + i, rnd(s));
    for (unsigned i = 0; i < 0x60; i += 8)
        tvm_poke64(t, RSP0 - 0x40 + i, 0);
    system_regs(cpu, s);
    gdt(t, s);
    cpu->rflags = flags(s) & ~(X86_FL_TF | X86_FL_RF | X86_FL_VM);
    if (!odd(s, 16))
        cpu->rflags &= ~X86_FL_NT;
}

/* ---- comparing ---- */

static void compare_segs(const struct x86_cpu *a, const struct x86_cpu *b)
{
    for (unsigned i = 0; i < 6; i++) {
        CHECK_EQ(a->seg[i].sel, b->seg[i].sel);
        CHECK_EQ(a->seg[i].base, b->seg[i].base);
        CHECK_EQ(a->seg[i].limit, b->seg[i].limit);
        CHECK_EQ(a->seg[i].attr, b->seg[i].attr);
    }
}

static void compare(struct tvm *ta, struct tvm *tb, uint64_t seed)
{
    const struct x86_cpu *a = ta->cpu, *b = tb->cpu;
    int before = test_failures;

    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(a->gpr[i], b->gpr[i]);
    CHECK_EQ(a->rip, b->rip);
    CHECK_EQ(a->rflags, b->rflags);
    CHECK_EQ(a->cr0, b->cr0);
    CHECK_EQ(a->cr2, b->cr2);
    CHECK_EQ(a->cr3, b->cr3);
    CHECK_EQ(a->cr4, b->cr4);
    CHECK_EQ(a->efer, b->efer);
    CHECK_EQ(a->cpl, b->cpl);
    CHECK_EQ(a->shadow, b->shadow);
    CHECK_EQ(a->activity, b->activity);
    CHECK_EQ(a->nmi_blocked, b->nmi_blocked);
    CHECK_EQ(a->nmi_pending, b->nmi_pending);
    CHECK_EQ(a->event.valid, b->event.valid);
    CHECK_EQ(a->dr6, b->dr6);
    CHECK_EQ(a->dr7, b->dr7);
    CHECK(memcmp(&a->msr, &b->msr, sizeof a->msr) == 0);
    CHECK(memcmp(a->lapic.irr, b->lapic.irr, sizeof a->lapic.irr) == 0);
    CHECK(memcmp(a->lapic.isr, b->lapic.isr, sizeof a->lapic.isr) == 0);
    compare_segs(a, b);
    for (unsigned i = 0; i < 0x1000; i += 8)
        CHECK_EQ(tvm_peek(ta, STACK_LO + i, 8), tvm_peek(tb, STACK_LO + i, 8));
    for (unsigned i = 0; i < 0x48; i += 8)
        CHECK_EQ(tvm_peek(ta, 0x5000 + i, 8), tvm_peek(tb, 0x5000 + i, 8));
    for (unsigned i = 0; i < 0x60; i += 8) {
        CHECK_EQ(tvm_peek(ta, RSP0 - 0x40 + i, 8),
                 tvm_peek(tb, RSP0 - 0x40 + i, 8));
        CHECK_EQ(tvm_peek(ta, TVM_PT + i, 8), tvm_peek(tb, TVM_PT + i, 8));
    }
    CHECK_EQ(tvm_peek(ta, TARGET, 8), tvm_peek(tb, TARGET, 8));
    CHECK_EQ(tvm_peek(ta, TARGET + 0xff8, 8), tvm_peek(tb, TARGET + 0xff8, 8));
    if (test_failures != before)
        printf("seed %llu\n", (unsigned long long)seed);
}

/* ---- the rounds ---- */

typedef void (*prepare_fn)(struct tvm *t, uint64_t seed, uint64_t cr4);

static enum exit_reason run(const struct engine_ops *e, struct tvm *t)
{
    struct exit_rec x;

    e->vcpu_run(t->v[0], 0, &x);
    return x.reason;
}

static void prepare_fault(struct tvm *t, uint64_t seed, uint64_t cr4);

/* @n cases; @percent of them at least must not have taken the full gate, @bare
 * percent none (sys.S). */
static void rounds(prepare_fn prepare, const char *insn, size_t len,
                   uint64_t cr4, unsigned n, unsigned percent, unsigned bare)
{
    struct tvm *a = tvm_create(), *b = tbt_create(&part);
    struct bt *bt = bt_of(b->v[0]);
    uint64_t quick = 0, faults = 0, no_c = 0;

    for (unsigned i = 0; i < 2; i++) {
        struct tvm *t = i ? b : a;

        tables(t);
        code(t, TVM_CODE, insn, len);
        code(t, TVM_CODE + len, "\xf4", 1);
        code(t, KERNEL, "\xf4", 1);
        code(t, USER, "\x0f\x05", 2);
    }
    for (uint64_t seed = 1; seed <= n; seed++) {
        uint64_t ops, callouts, before;
        enum exit_reason ra;

        /* what was kept from another case must not matter, neither */
        prepare(b, seed % 3 ? seed : seed + 1, cr4);
        run(&bt_engine, b);
        prepare(a, seed, cr4);
        prepare(b, seed, cr4);
        ops = bt->st.quick_ops;
        before = bt->st.quick_faults;
        callouts = bt->st.callouts;
        ra = run(&interp_engine, a);
        CHECK_EQ(run(&bt_engine, b), ra);
        /* one callout is the HLT's */
        quick += bt->st.quick_ops != ops || bt->st.callouts <= callouts + 1;
        no_c += bt->st.quick_ops == ops && bt->st.callouts <= callouts + 1;
        faults += bt->st.quick_faults - before;
        compare(a, b, seed);
        if (test_failures > 20)
            break;
    }
    if (quick * 100 < n * percent)
        printf("quick: %" PRIu64 " of %u\n", quick, n);
    CHECK(quick * 100 >= n * percent);
    CHECK(no_c * 100 >= n * bare);
    CHECK(faults * 100 >= (prepare == prepare_fault ? n * 20 : 0));
    tvm_destroy(a);
    tbt_destroy(b);
}

static void prepare_sysret(struct tvm *t, uint64_t seed, uint64_t cr4)
{
    uint64_t s;

    start(t, seed, cr4, &s);
    t->cpu->gpr[X86_RCX] = odd(&s, 8) ? target(&s) : USER;
    t->cpu->gpr[X86_R11] = flags(&s);
    if (odd(&s, 8))
        t->cpu->gpr[X86_R11] = rnd(&s);
}

static void prepare_iret(struct tvm *t, uint64_t seed, uint64_t cr4)
{
    uint64_t s, rip, cs, ss;
    bool user;

    start(t, seed, cr4, &s);
    user = odd(&s, 2);
    rip = odd(&s, 8) ? target(&s) : user ? USER : KERNEL;
    cs = odd(&s, 4) ? selector(&s) : user ? 0x23 : 8;
    ss = odd(&s, 4) ? selector(&s) : user ? 0x1b : 0x10;
    if (odd(&s, 16))
        t->cpu->gpr[X86_RSP] = rnd(&s) & 0xffffff;
    tvm_poke64(t, FRAME, rip);
    tvm_poke64(t, FRAME + 8, cs | (odd(&s, 8) ? rnd(&s) << 16 : 0));
    tvm_poke64(t, FRAME + 16, odd(&s, 8) ? rnd(&s) : flags(&s));
    tvm_poke64(t, FRAME + 24, user ? USER_SP : STACK_LO + 0x500);
    tvm_poke64(t, FRAME + 32, ss | (odd(&s, 8) ? rnd(&s) << 16 : 0));
}

static void prepare_any(struct tvm *t, uint64_t seed, uint64_t cr4)
{
    uint64_t s;

    start(t, seed, cr4, &s);
    tvm_poke64(t, FRAME, odd(&s, 8) ? rnd(&s) : flags(&s));
}

static void prepare_user(struct tvm *t, uint64_t seed, uint64_t cr4)
{
    struct x86_cpu *cpu = t->cpu;
    uint64_t s;

    start(t, seed, cr4, &s);
    tvm_seg(&cpu->seg[X86_SEG_CS], 0x23, 0xa0fb);
    tvm_seg(&cpu->seg[X86_SEG_SS], 0x1b, 0xc0f3);
    cpu->cpl = 3;
    cpu->rip = USER;
    cpu->gpr[X86_RSP] = USER_SP;
    cpu->cr0 &= ~X86_CR0_AM;
}

/* ---- page faults ---- */

static uint64_t pte(uint64_t *s)
{
    static const uint64_t some[] = {0, 5, 3, 0x25, 0x65, 7, 0x27, 0x67};
    uint64_t p = TARGET | some[pick(s, 8)];

    if (odd(s, 12))
        p |= X86_PTE_NX;
    if (odd(s, 24))
        p |= BIT(45);
    return p;
}

/* The gate of #PF, the stack for it, and where these are said to be. */
static void prepare_gate(struct tvm *t, uint64_t *s)
{
    uint64_t to = odd(s, 2) ? FIX : TVM_VEC(14), lo, hi = to >> 32;
    uint64_t sp = RSP0 - pick(s, 40);

    lo = (to & 0xffff) | 8ULL << 16 | 0x8eULL << 40 | (to >> 16 & 0xffff) << 48;
    if (odd(s, 6))
        lo |= 1ULL << 40; /* a trap gate */
    if (odd(s, 6))
        lo ^= (uint64_t)1 << (32 + pick(s, 16));
    if (odd(s, 12))
        lo = (lo & ~0xffff0000ULL) | selector(s) << 16;
    if (odd(s, 16))
        hi = BIT(16 + pick(s, 16)); /* not canonical */
    tvm_poke64(t, 0x6000 + 14 * 16, lo);
    tvm_poke64(t, 0x6008 + 14 * 16, hi);
    if (odd(s, 16))
        sp = TVM_PAGED + 0x4000 + pick(s, 0x2000);
    if (odd(s, 16))
        sp = rnd(s) >> pick(s, 16) | BIT(40);
    tvm_poke64(t, 0x9804, sp);
    t->cpu->tr.limit = odd(s, 12) ? pick(s, 16) : 0x67;
    if (odd(s, 12))
        t->cpu->idtr.limit = (uint16_t)(0xd0 + pick(s, 0x20));
    if (odd(s, 24))
        t->cpu->tr.attr = (uint32_t)X86_SEG_UNUSABLE;
}

/* A handler that recurses writes over everything. What is code is only written
 * where it changed: so many writes would drop all translations. */
static void all_again(struct tvm *t)
{
    tvm_poke64(t, 0x1000, 0x2000 | 7);
    tvm_poke64(t, 0x2000, 0x3000 | 7);
    tables(t);
    tvm_poke64(t, 0x3008, TVM_PT | 7);
    for (unsigned i = 0; i < 512; i++)
        tvm_page(t, TVM_PAGED + i * 4096, 7);
    tvm_poke64(t, 0x5008, 0x00af9b000000ffff);
    tvm_poke64(t, 0x5010, 0x00cf93000000ffff);
    tvm_poke64(t, 0x5018, 0x00cff3000000ffff);
    tvm_poke64(t, 0x5020, 0x00affb000000ffff);
    for (unsigned v = 0; v < 32; v++) {
        tvm_poke64(t, 0x6000 + v * 16, TVM_VEC(v) | 8ULL << 16 | 0x8eULL << 40);
        tvm_poke64(t, 0x6008 + v * 16, 0);
        code(t, TVM_VEC(v), "\xf4", 1);
    }
}

/* From the kernel, which loads CR3, by IRET to a store. */
static void prepare_fault(struct tvm *t, uint64_t seed, uint64_t cr4)
{
    bool user = seed & 1;
    uint64_t s, f;

    all_again(t);
    code(t, USER, "\x0f\x05", 2);
    code(t, ACCESS, "\x88\x06\x0f\x05", 4); /* mov [rsi], al; syscall */
    /* mov [TARGET's entry], rbx; add rsp, 8; iretq */
    code(t, FIX, "\x48\x89\x1c\x25\x18\x40\0\0\x48\x83\xc4\x08\x48\xcf", 14);
    start(t, seed, cr4, &s);
    f = flags(&s) & ~(X86_FL_TF | X86_FL_RF | X86_FL_VM | X86_FL_NT);
    if (user)
        f &= ~X86_FL_AC;
    tvm_poke64(t, FRAME, ACCESS);
    tvm_poke64(t, FRAME + 8, user ? 0x23 : 8);
    tvm_poke64(t, FRAME + 16, f);
    tvm_poke64(t, FRAME + 24, user ? USER_SP : STACK_LO + 0x300 + pick(&s, 16));
    tvm_poke64(t, FRAME + 32, user ? 0x1b : 0x10);
    for (unsigned i = 0; i < 12; i++)
        tvm_page(t, TVM_PAGED + i * 4096, 7);
    tvm_page(t, TVM_PAGED + 0x4000, odd(&s, 2) ? 7 : 3);
    tvm_poke64(t, TVM_PT + 8 * 3, pte(&s));
    tvm_poke64(t, TARGET, 0x1122334455667788);
    tvm_poke64(t, TARGET + 0xff8, 0x1122334455667788);
    for (unsigned i = 0; i < 0x60; i += 8)
        tvm_poke64(t, RSP0 - 0x40 + i, i);
    t->cpu->gpr[X86_RSI] = TARGET + (odd(&s, 2) ? 0xff8 : 0);
    t->cpu->gpr[X86_RBX] = TARGET | (user ? 7 : 3) |
                           (odd(&s, 2) ? X86_PTE_A : 0) |
                           (odd(&s, 2) ? X86_PTE_D : 0);
    t->cpu->msr.lstar = KERNEL;
    t->cpu->msr.star = UINT64_C(0x0010000800000000);
    t->cpu->efer |= X86_EFER_SCE;
    t->cpu->cr0 &= ~X86_CR0_AM;
    if (odd(&s, 8))
        t->cpu->cr0 &= ~X86_CR0_WP;
    prepare_gate(t, &s);
}

/* What a start finds in CR3's source and in INVLPG's address register. */
static void prepare_cr3(struct tvm *t, uint64_t seed, uint64_t cr4)
{
    uint64_t s;

    start(t, seed, cr4, &s);
    t->cpu->gpr[X86_RSI] = 0x1000;
    if (odd(&s, 4))
        t->cpu->gpr[X86_RSI] |= pick(&s, 4096);
    if (odd(&s, 4))
        t->cpu->gpr[X86_RSI] |= BIT(63);
    if (odd(&s, 8))
        t->cpu->gpr[X86_RSI] |= BIT(40 + pick(&s, 24));
    t->cpu->gpr[X86_RDI] = target(&s);
}

#define ROUNDS(prepare, insn, cr4, percent)                                    \
    rounds(prepare, insn, sizeof(insn) - 1, cr4, 600, percent, 0)
#define BARE(prepare, insn, cr4, percent, bare)                                \
    rounds(prepare, insn, sizeof(insn) - 1, cr4, 1800, percent, bare)

TEST(syscall_and_sysret)
{
    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    BARE(prepare_user, "", 0, 60, 40);
    BARE(prepare_user, "", X86_CR4_SMAP, 60, 40);
    BARE(prepare_sysret, "\x48\x0f\x07", 0, 40, 25);
    BARE(prepare_sysret, "\x48\x0f\x07", X86_CR4_SMAP, 40, 25);
    ROUNDS(prepare_sysret, "\x0f\x07", 0, 0);
}

TEST(iret)
{
    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    BARE(prepare_iret, "\x48\xcf", 0, 30, 6);
    BARE(prepare_iret, "\x48\xcf", X86_CR4_SMAP, 30, 6);
    ROUNDS(prepare_iret, "\xcf", 0, 0);
}

TEST(page_fault)
{
    /* mov rax, cr3; mov cr3, rax; then let the TLB know the IDT, GDT, TSS and
     * stacks: mov al, [60e0]; mov al, [5008]; mov al, [9804];
     * or byte [5fff0], 0; or byte [6f2f0], 0; iretq */
    static const char begin[] =
        "\x0f\x20\xd8\x0f\x22\xd8\x8a\x04\x25\xe0\x60\0\0"
        "\x8a\x04\x25\x08\x50\0\0\x8a\x04\x25\x04\x98\0\0"
        "\x80\x0c\x25\xf0\xff\x05\0\0\x80\x0c\x25\xf0\xf2\x06\0\0\x48\xcf";

    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    ROUNDS(prepare_fault, begin, 0, 40);
    ROUNDS(prepare_fault, begin, X86_CR4_SMAP, 40);
}

TEST(translations)
{
    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    ROUNDS(prepare_cr3, "\x0f\x22\xde", 0, 60); /* mov cr3, rsi */
    ROUNDS(prepare_cr3, "\x0f\x22\xde", X86_CR4_PCIDE, 60);
    ROUNDS(prepare_cr3, "\x0f\x01\x3f", 0, 95); /* invlpg [rdi] */
    ROUNDS(prepare_cr3, "\x0f\x22\xde\x0f\x01\x3f", X86_CR4_PCIDE, 60);
}

TEST(flags_and_bases)
{
    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    ROUNDS(prepare_any, "\xfa", 0, 95);     /* cli */
    ROUNDS(prepare_any, "\xfb\x90", 0, 60); /* sti; nop */
    ROUNDS(prepare_any, "\xfc", 0, 95);     /* cld */
    ROUNDS(prepare_any, "\xfd", 0, 0);      /* std */
    ROUNDS(prepare_any, "\x9c", 0, 95);     /* pushf */
    ROUNDS(prepare_any, "\x9d", 0, 60);     /* popf */
    /* pushf; mov [rsp+16], r10; pushf; mov r11, [rsp]; push r11; pushf */
    ROUNDS(prepare_any,
           "\x9c\x4c\x89\x54\x24\x10\x9c\x4c\x8b\x1c\x24\x41\x53\x9c", 0, 90);
    /* push r10; push r11; inc r11; pushf; pop r10; inc r10; add r11, r10 */
    ROUNDS(prepare_any,
           "\x41\x52\x41\x53\x49\xff\xc3\x9c\x41\x5a\x49\xff\xc2\x4d\x01\xd3",
           0, 90);
    ROUNDS(prepare_any, "\x9d\x9c\x9d", X86_CR4_SMAP, 60);
    ROUNDS(prepare_any, "\x66\x9d", 0, 0); /* popfw */
    ROUNDS(prepare_any, "\x0f\x01\xf8", 0, 95);
    ROUNDS(prepare_any, "\x0f\x01\xcb\x9c", X86_CR4_SMAP, 90); /* stac */
    ROUNDS(prepare_any, "\x0f\x01\xca\x9c", X86_CR4_SMAP, 90); /* clac */
    ROUNDS(prepare_any, "\x0f\x01\xcb\x0f\x01\xca\x9c", 0, 90);
    /* wrfsbase rsi, wrgsbase edi, wrfsbase rbx */
    ROUNDS(prepare_any, "\xf3\x48\x0f\xae\xd6", X86_CR4_FSGSBASE, 40);
    ROUNDS(prepare_any, "\xf3\x0f\xae\xdf", X86_CR4_FSGSBASE, 90);
    ROUNDS(prepare_any, "\xf3\x48\x0f\xae\xd3", X86_CR4_FSGSBASE, 0);
    ROUNDS(prepare_any, "\xf3\x48\x0f\xae\xd6", 0, 0);
}

TEST(register_reads)
{
    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    /* mov rax,cr0; mov r12,cr2; mov r11,cr3; mov rsp,cr4 */
    ROUNDS(prepare_any,
           "\x0f\x20\xc0\x41\x0f\x20\xd4\x41\x0f\x20\xdb\x0f\x20\xe4", 0, 0);
    /* mov eax,ss; mov r11,cs; mov cx,ds; mov r12d,gs; mov r10,fs */
    ROUNDS(prepare_any,
           "\x8c\xd0\x49\x8c\xcb\x66\x8c\xd9\x41\x8c\xec\x49\x8c\xe2", 0, 0);
    /* mov r10w,ss; inc r10; inc r11; mov r11w,cs; add r10,r11; mov ax,es */
    ROUNDS(prepare_any,
           "\x66\x41\x8c\xd2\x49\xff\xc2\x49\xff\xc3\x66\x41\x8c\xcb\x4d\x01"
           "\xda\x66\x8c\xc0",
           0, 90);
    /* rdfsbase rcx, rdgsbase r10, rdfsbase esp */
    ROUNDS(prepare_any,
           "\xf3\x48\x0f\xae\xc1\xf3\x49\x0f\xae\xca\xf3\x0f\xae\xc4",
           X86_CR4_FSGSBASE, 0);
    ROUNDS(prepare_any, "\xf3\x48\x0f\xae\xc1", 0, 0);
}

/* ---- stopped in user mode ---- */

static void *stop_soon(void *arg)
{
    usleep(200);
    kick_request(arg, KICK_EXIT);
    return NULL;
}

static enum exit_reason run_a_while(const struct engine_ops *e, struct tvm *t)
{
    enum exit_reason r = EXIT_PARK;
    pthread_t th;

    /* on a busy host the request can be there before the first instruction */
    for (unsigned tries = 0; tries < 20; tries++) {
        pthread_create(&th, NULL, stop_soon, &t->cpu->kick);
        r = run(e, t);
        pthread_join(th, NULL);
        kick_clear(&t->cpu->kick, KICK_EXIT);
        if (r != EXIT_PARK || t->cpu->rip != TVM_CODE)
            break;
    }
    return r;
}

static void stopped(prepare_fn prepare, const char *insn, size_t len)
{
    struct tvm *a = tvm_create(), *b = tbt_create(&part);

    for (unsigned i = 0; i < 2; i++) {
        struct tvm *t = i ? b : a;

        tables(t);
        code(t, TVM_CODE, insn, len);
        code(t, KERNEL, "\xf4", 1);
        code(t, LOOP, "\xeb\xfe", 2);
    }
    for (uint64_t seed = 1; seed <= 100; seed++) {
        enum exit_reason ra;

        prepare(b, seed, 0);
        run_a_while(&bt_engine, b);
        prepare(a, seed, 0);
        prepare(b, seed, 0);
        ra = run_a_while(&interp_engine, a);
        CHECK_EQ(run_a_while(&bt_engine, b), ra);
        /* a loop that never reads the flags may have others */
        b->cpu->rflags =
            (b->cpu->rflags & ~X86_FL_ARITH) | (a->cpu->rflags & X86_FL_ARITH);
        compare(a, b, seed);
    }
    tvm_destroy(a);
    tbt_destroy(b);
}

static void prepare_sysret_loop(struct tvm *t, uint64_t seed, uint64_t cr4)
{
    prepare_sysret(t, seed, cr4);
    t->cpu->gpr[X86_RCX] = LOOP;
}

static void prepare_iret_loop(struct tvm *t, uint64_t seed, uint64_t cr4)
{
    prepare_iret(t, seed, cr4);
    tvm_poke64(t, FRAME, LOOP);
}

TEST(stopped_in_user_mode)
{
    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    stopped(prepare_sysret_loop, "\x48\x0f\x07", 3);
    stopped(prepare_iret_loop, "\x48\xcf", 2);
}

/* ---- the time stamp counter ---- */

static void host_clock(struct tvm *t)
{
    clock_destroy(t->vm.clock);
    t->vm.clock = clock_create(CLOCK_MODE_REAL, 0, 0);
    clock_start(t->vm.clock);
}

static void tsc_case(struct tvm *t, bool aux, uint64_t offset)
{
    struct x86_cpu *cpu = t->cpu;
    uint64_t s, before, after, tsc, callouts;
    struct bt *bt = bt_of(t->v[0]);

    start(t, 1 + offset, 0, &s);
    code(t, TVM_CODE, aux ? "\x0f\x01\xf9\xf4" : "\x0f\x31\xf4", aux ? 4 : 3);
    memset(cpu->lapic.irr, 0, sizeof cpu->lapic.irr);
    cpu->cr4 &= ~X86_CR4_TSD;
    cpu->tsc_offset = offset;
    cpu->msr.tsc_aux = UINT64_C(0x123456789);
    s = cpu->rflags;
    callouts = bt->callouts[X86_OP_RDTSC] + bt->callouts[X86_OP_RDTSCP];
    before = clock_tsc(t->vm.clock) + offset;
    CHECK_EQ(run(&bt_engine, t), EXIT_HLT);
    after = clock_tsc(t->vm.clock) + offset;
    CHECK_EQ(bt->callouts[X86_OP_RDTSC] + bt->callouts[X86_OP_RDTSCP],
             callouts);
    CHECK_EQ(cpu->gpr[X86_RAX] >> 32, 0);
    CHECK_EQ(cpu->gpr[X86_RDX] >> 32, 0);
    tsc = cpu->gpr[X86_RDX] << 32 | cpu->gpr[X86_RAX];
    CHECK(tsc - before <= after - before);
    CHECK_EQ(cpu->rflags, s);
    if (aux)
        CHECK_EQ(cpu->gpr[X86_RCX], 0x23456789);
}

TEST(tsc)
{
    struct tvm *b;

    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    b = tbt_create(&part);
    host_clock(b);
    for (uint64_t i = 0; i < 64; i++) {
        tsc_case(b, i & 1, UINT64_C(0x9e3779b97f4a7c15) * i);
        if (i == 32) { /* time stands still for a while */
            clock_stop(b->vm.clock);
            clock_set(b->vm.clock, 1000, 12345);
            clock_start(b->vm.clock);
        }
    }
    tbt_destroy(b);
}

/* CR4.TSD forbids it to user code. */
TEST(tsc_forbidden)
{
    static const uint8_t rdtsc[] = {0x0f, 0x31, 0x0f, 0x05};
    struct tvm *b;

    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    b = tbt_create(&part);
    host_clock(b);
    tables(b);
    code(b, USER, rdtsc, sizeof rdtsc);
    code(b, KERNEL, "\xf4", 1);
    for (unsigned i = 0; i < 6; i++) {
        prepare_user(b, 1, i & 1 ? X86_CR4_TSD : 0);
        b->cpu->msr.lstar = KERNEL;
        b->cpu->efer |= X86_EFER_SCE;
        CHECK_EQ(run(&bt_engine, b), EXIT_HLT);
        CHECK_EQ(b->cpu->rip, (i & 1 ? TVM_VEC(13) : KERNEL) + 1);
    }
    tbt_destroy(b);
}

TEST_MAIN(CASE(syscall_and_sysret), CASE(iret), CASE(page_fault),
          CASE(translations), CASE(flags_and_bases), CASE(register_reads),
          CASE(stopped_in_user_mode), CASE(tsc), CASE(tsc_forbidden))
