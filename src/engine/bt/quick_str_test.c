// SPDX-License-Identifier: Apache-2.0
/*
 * What the quick gate runs beside system instructions, by the translator and
 * by the interpreter: the same instruction on the same registers and pages
 * (read-only, missing, with code, the same page twice), then registers, flags,
 * memory, the stack, CR2 and the page table are compared.
 */
#include "engine/bt/quick_str.h"

#include "base/test.h"
#include "engine/bt/testbt.h"

#include <pthread.h>

#define DATA     (TVM_PAGED + 0x10000U)
#define PAGES    8U
#define BYTES    (PAGES * 0x1000U)
#define RET_AT   0x7f8U /* in each page */
#define PTE(va)  (TVM_PT + ((va) >> 12 & 511) * 8)
#define NO_PAGE  0U
#define RO_PAGE  5U
#define RW_PAGE  7U
#define STACK_LO (TVM_STACK - 128)

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

/* ---- a case ---- */

struct test {
    uint64_t seed;
    uint8_t code[256];
    unsigned n;
    uint64_t gpr[16], fsbase, rflags;
    uint64_t pte[PAGES];
    uint8_t bytes[BYTES];
    uint8_t vec[832]; /* XSAVE image to begin with */
    unsigned phase;   /* XSAVE areas begin there in each 1024 bytes */
};

static void put(struct test *c, const char *s, unsigned n)
{
    memcpy(c->code + c->n, s, n);
    c->n += n;
}

static void put_mov(struct test *c, unsigned r, uint64_t v)
{
    char b[10] = {(char)(0x48 | r >> 3), (char)(0xb8 | (r & 7))};

    memcpy(b + 2, &v, 8);
    put(c, b, 10);
}

/* Frames: most pages are their own, a few are another's. */
static void make_pages(struct test *c, uint64_t *s)
{
    for (unsigned i = 0; i < PAGES; i++) {
        unsigned k = pick(s, 16), frame = i;

        if (k == 0)
            frame = pick(s, PAGES);
        c->pte[i] = (DATA + frame * 0x1000) | (k == 1   ? NO_PAGE
                                               : k == 2 ? RO_PAGE
                                                        : RW_PAGE);
    }
    /* long equal runs, for CMPS and SCAS */
    for (unsigned i = 0; i < BYTES; i++)
        c->bytes[i] = pick(s, 700) ? 0x40 : (uint8_t)rnd(s);
    for (unsigned i = 0; i < PAGES; i++)
        c->bytes[i * 0x1000 + RET_AT] = 0xc3;
}

static void begin(struct test *c, uint64_t seed, uint64_t *s)
{
    c->seed = seed;
    c->n = c->phase = 0;
    make_pages(c, s);
    put(c, "\x0f\x20\xd8\x0f\x22\xd8", 6); /* mov rax,cr3; mov cr3,rax */
}

static uint64_t address(uint64_t *s)
{
    unsigned page = pick(s, PAGES) * 0x1000;

    switch (pick(s, 3)) {
    case 0: /* near a page's end */
        return DATA + page + 0xff0 + pick(s, 24);
    case 1:
        return DATA + page + pick(s, 512) * 8;
    default:
        return DATA + page + pick(s, 4096);
    }
}

static uint64_t count(uint64_t *s)
{
    switch (pick(s, 4)) {
    case 0:
        return pick(s, 4);
    case 1:
        return pick(s, 100);
    case 2:
        return pick(s, 1200);
    default:
        return pick(s, 9000);
    }
}

static void make_registers(struct test *c, uint64_t *s, bool ad32)
{
    for (unsigned i = 0; i < 16; i++)
        c->gpr[i] = rnd(s);
    c->fsbase = pick(s, 2) ? 0 : pick(s, 0x3000);
    c->gpr[X86_RSI] = address(s);
    c->gpr[X86_RDI] =
        pick(s, 3) ? address(s) : c->gpr[X86_RSI] + pick(s, 64) - 32;
    c->gpr[X86_RCX] = count(s);
    if (pick(s, 4))
        c->gpr[X86_RAX] = UINT64_C(0x4040404040404040);
    if (ad32)
        for (unsigned r = X86_RCX; r <= X86_RDI; r++)
            c->gpr[r] |= rnd(s) << 32;
    c->gpr[X86_RSP] = TVM_STACK;
    c->rflags = X86_FL_ONE | (rnd(s) & X86_FL_ARITH);
}

/* Most pages are in the TLB: mov al,[page], or byte [page],0 */
static void touch(struct test *c, uint64_t *s)
{
    for (unsigned i = 0; i < PAGES; i++) {
        uint32_t at = DATA + i * 0x1000;
        bool write = (c->pte[i] & 2) && pick(s, 8);

        if (!(c->pte[i] & 1) || pick(s, 8) == 0)
            continue;
        put(c, write ? "\x80\x0c\x25" : "\x8a\x04\x25", 3);
        put(c, (const char *)&at, 4);
        if (write)
            put(c, "\0", 1);
    }
}

static void make_string(struct test *c, uint64_t seed)
{
    static const char op[] = "\xa4\xa5\xaa\xab\xac\xad\xa6\xa7\xae\xaf";
    uint64_t s = seed * UINT64_C(0x9e3779b97f4a7c15);
    bool ad32 = pick(&s, 4) == 0;

    begin(c, seed, &s);
    make_registers(c, &s, ad32);
    if (pick(&s, 4) == 0) { /* a page with code */
        unsigned i = pick(&s, PAGES);

        put_mov(c, X86_RAX, DATA + i * 0x1000 + RET_AT);
        if (c->pte[i] & 1)
            put(c, "\xff\xd0", 2);
    }
    touch(c, &s);
    put_mov(c, X86_RAX, c->gpr[X86_RAX]);
    put(c, pick(&s, 3) ? "\xfc" : "\xfd", 1);
    if (ad32)
        put(c, "\x67", 1);
    if (pick(&s, 4) == 0)
        put(c, "\x64", 1);
    if (pick(&s, 4) == 0)
        put(c, "\x66", 1);
    if (pick(&s, 8))
        put(c, pick(&s, 2) ? "\xf3" : "\xf2", 1);
    if (pick(&s, 2))
        put(c, "\x48", 1);
    put(c, op + pick(&s, sizeof op - 1), 1);
    put(c, "\xfc\xf4", 2);
}

/* Few elements, forwards, each byte another, at addresses that are near. */
static void make_short(struct test *c, uint64_t seed)
{
    uint64_t s = seed * UINT64_C(0x9e3779b97f4a7c15);

    begin(c, seed, &s);
    for (unsigned i = 0; i < BYTES; i++)
        if ((i & 0xfff) != RET_AT)
            c->bytes[i] = (uint8_t)rnd(&s);
    make_registers(c, &s, false);
    c->gpr[X86_RCX] = pick(&s, 40);
    c->gpr[X86_RDI] = c->gpr[X86_RSI] + pick(&s, 40) - 20;
    if (pick(&s, 4) == 0) /* the same page, perhaps */
        c->gpr[X86_RDI] += 0x1000 * pick(&s, 2);
    if (pick(&s, 2))
        c->gpr[X86_RAX] = pick(&s, 2) ? 0 : rnd(&s) << pick(&s, 64);
    put_mov(c, X86_RAX, c->gpr[X86_RAX]);
    for (unsigned i = 0; i < PAGES; i++) {
        uint32_t at = DATA + i * 0x1000;

        if ((c->pte[i] & 3) != 3)
            continue;
        put(c, "\x80\x0c\x25", 3); /* or byte [page], 0 */
        put(c, (const char *)&at, 4);
        put(c, "\0", 1);
    }
    put(c, "\xfc", 1);
    if (pick(&s, 4) == 0)
        put(c, "\x66", 1);
    put(c, "\xf3", 1);
    if (pick(&s, 2))
        put(c, "\x48", 1);
    put(c, pick(&s, 3) ? "\xa5" : "\xab", 1);
    put(c, "\xf4", 1);
}

/* ---- bits past the operand ---- */

static void put_opnd(struct test *c, uint64_t *s, unsigned reg)
{
    bool sib = pick(s, 2); /* [rsi+rdi*2+disp8] or [rsi+disp8] */

    put(c, (const char[]){(char)(0x40 | reg << 3 | (sib ? 4 : 6))}, 1);
    if (sib)
        put(c, "\x7e", 1);
    put(c, (const char[]){(char)pick(s, 256)}, 1);
}

static void make_bits(struct test *c, uint64_t seed)
{
    uint64_t s = seed * UINT64_C(0x9e3779b97f4a7c15);
    unsigned op = pick(&s, 4);

    begin(c, seed, &s);
    make_registers(c, &s, false);
    touch(c, &s);
    c->gpr[X86_RDI] = pick(&s, 2000);
    c->gpr[X86_RDX] = pick(&s, 60000) - (uint64_t)30000;
    if (pick(&s, 2))
        c->gpr[X86_RDX] &= 0xffffffff;
    if (op && pick(&s, 2))
        put(c, "\xf0", 1);
    if (pick(&s, 4) == 0)
        put(c, "\x64", 1);
    if (pick(&s, 4) == 0)
        put(c, "\x66", 1);
    if (pick(&s, 2))
        put(c, "\x48", 1);
    put(c, (const char[]){0x0f, (char)(0xa3 | op << 3)}, 2);
    put_opnd(c, &s, X86_RDX);
    put(c, "\xf4", 1);
}

/* ---- XSAVE and kin ---- */

static void fill_image(uint8_t *b, uint64_t *s)
{
    uint32_t mxcsr = pick(s, 3) ? 0x1f80 : rnd(s) & 0xffff;

    if (pick(s, 16) == 0)
        mxcsr |= 1U << pick(s, 32);
    for (unsigned i = 0; i < 832; i++)
        b[i] = (uint8_t)rnd(s);
    memset(b, 0, 32);
    memcpy(b, "\x7f\x03", 2);
    memcpy(b + 24, &mxcsr, 4);
    for (unsigned i = 0; i < 8; i++)
        memset(b + 32 + 16 * i + 10, 0, 6);
    if (pick(s, 2))
        memset(b + 32, 0, 128);
    if (pick(s, 3) == 0)
        memset(b + 160, 0, 256);
    if (pick(s, 3) == 0)
        memset(b + 576, 0, 256);
}

static void fill_header(uint8_t *h, uint64_t *s)
{
    uint64_t bv = pick(s, 8), comp = 0;

    if (pick(s, 3) == 0)
        comp = BIT(63) | (pick(s, 3) ? 7 : pick(s, 16));
    if (pick(s, 16) == 0)
        bv |= BIT(pick(s, 64));
    memset(h, 0, 64);
    memcpy(h, &bv, 8);
    memcpy(h + 8, &comp, 8);
    if (pick(s, 16) == 0)
        h[16 + pick(s, 48)] = 1;
}

/* What changes which components are in use, and what is no x87 after what is.
 */
static void put_vector(struct test *c, uint64_t *s)
{
    static const struct {
        uint8_t n;
        const char *b;
    } op[] = {
        {2, "\xd9\xe8"},             /* fld1 */
        {4, "\xd9\xe8\xdd\xd8"},     /* fld1; fstp st0 */
        {2, "\xdb\xe3"},             /* fninit */
        {3, "\x0f\x6e\xc6"},         /* movd mm0, esi */
        {3, "\x0f\x6e\xc3"},         /* movd mm0, ebx */
        {2, "\x0f\x77"},             /* emms */
        {4, "\x66\x0f\x6e\xf6"},     /* movd xmm6, esi */
        {4, "\xf3\x0f\x5a\xf6"},     /* cvtss2sd xmm6, xmm6 */
        {4, "\xc5\xc5\x76\xff"},     /* vpcmpeqd ymm7, ymm7, ymm7 */
        {3, "\xc5\xf8\x77"},         /* vzeroupper */
        {3, "\xc5\xfc\x77"},         /* vzeroall */
        {4, "\xc5\xf0\x57\xc9"},     /* vxorps xmm1, xmm1, xmm1 */
        {5, "\xc4\xc1\x3c\x57\xc0"}, /* vxorps ymm0, ymm8, ymm8 */
    };
    const unsigned n = sizeof op / sizeof op[0];
    unsigned k = pick(s, 2 * n);

    if (k < n)
        put(c, op[k].b, op[k].n);
}

static void put_xsave(struct test *c, uint64_t *s)
{
    static const char op[][3] = {"\xae\x26", "\xae\x36", "\xc7\x26",
                                 "\xae\x2e"};
    unsigned at = pick(s, BYTES / 1024 - 1) * 1024 + c->phase, k = pick(s, 6);
    uint64_t mask = pick(s, 2) ? 7 : rnd(s);

    if (pick(s, 32) == 0)
        at += 8;
    if (k >= 3) {
        k = 3;
        fill_image(c->bytes + at, s);
        fill_header(c->bytes + at + 512, s);
    }
    put_vector(c, s);
    put_mov(c, X86_RSI, DATA + at);
    put_mov(c, X86_RAX, mask);
    put_mov(c, X86_RDX, 0);
    put(c, pick(s, 2) ? "\x48\x0f" : "\x40\x0f", 2);
    put(c, op[k], 2);
}

static void make_xsave(struct test *c, uint64_t seed)
{
    static const uint8_t zero[128];
    uint64_t s = seed * UINT64_C(0x9e3779b97f4a7c15);

    begin(c, seed, &s);
    make_registers(c, &s, false);
    fill_image(c->vec, &s);
    c->vec[26] = c->vec[27] = 0;
    memset(c->vec + 512, 0, 64);
    c->vec[512] = 7;
    if (memcmp(c->vec + 32, zero, sizeof zero) == 0 && pick(&s, 2))
        c->vec[512] = 6; /* x87 is in its initial state */
    touch(c, &s);
    c->phase = 64 + pick(&s, 15) * 64; /* areas are the same, or apart */
    for (unsigned at = c->phase; at < BYTES - 24; at += 1024)
        memset(c->bytes + at + 8, 0, 16);
    for (unsigned i = 0; i < 3; i++)
        put_xsave(c, &s);
    put(c, "\xf4", 1);
}

/* ---- run ---- */

static void load(struct tvm *t, const struct test *c)
{
    static const uint8_t zero[128];

    for (unsigned i = 0; i < PAGES; i++)
        tvm_poke64(t, PTE(DATA + i * 0x1000), c->pte[i]);
    tvm_poke(t, DATA, c->bytes, BYTES);
    tvm_poke(t, STACK_LO, zero, sizeof zero);
    tvm_poke(t, TVM_CODE, c->code, c->n);
    memcpy(t->cpu->gpr, c->gpr, sizeof c->gpr);
    t->cpu->seg[X86_SEG_FS].base = c->fsbase;
    t->cpu->rip = TVM_CODE;
    t->cpu->rflags = c->rflags;
    t->cpu->cr2 = 0;
    t->cpu->cr4 |= X86_CR4_OSXSAVE;
    t->cpu->xcr0 = 7;
    memcpy(t->cpu->xsave.b, c->vec, sizeof c->vec);
    t->cpu->activity = X86_ACT_RUN;
}

static enum exit_reason run(const struct engine_ops *e, struct tvm *t)
{
    struct exit_rec x;

    e->vcpu_run(t->v[0], 0, &x);
    return x.reason;
}

static bool same_bytes(struct tvm *a, struct tvm *b, uint64_t at, unsigned n)
{
    for (unsigned i = 0; i < n; i += 8) {
        uint64_t x = tvm_peek(a, at + i, 8), y = tvm_peek(b, at + i, 8);

        if (x == y)
            continue;
        printf("at %llx: %016llx, bt %016llx\n", (unsigned long long)at + i,
               (unsigned long long)x, (unsigned long long)y);
        return false;
    }
    return true;
}

/* FIP and FDP are not kept, least of all the host's. */
static bool same_data(struct tvm *a, struct tvm *b, unsigned phase)
{
    for (unsigned at = phase; phase && at < BYTES - 24; at += 1024)
        for (unsigned i = 8; i < 24; i += 8)
            if (!tvm_peek(b, DATA + at + i, 8))
                tvm_poke64(a, DATA + at + i, 0);
    return same_bytes(a, b, DATA, BYTES);
}

static bool same(struct tvm *a, struct tvm *b, unsigned phase)
{
    bool ok = true;

    for (unsigned i = 0; i < 16; i++)
        if (a->cpu->gpr[i] != b->cpu->gpr[i]) {
            printf("r%u: %016llx, bt %016llx\n", i,
                   (unsigned long long)a->cpu->gpr[i],
                   (unsigned long long)b->cpu->gpr[i]);
            ok = false;
        }
    if (a->cpu->rip != b->cpu->rip || a->cpu->rflags != b->cpu->rflags ||
        a->cpu->cr2 != b->cpu->cr2) {
        printf("rip %llx rflags %llx cr2 %llx, bt %llx %llx %llx\n",
               (unsigned long long)a->cpu->rip,
               (unsigned long long)a->cpu->rflags,
               (unsigned long long)a->cpu->cr2, (unsigned long long)b->cpu->rip,
               (unsigned long long)b->cpu->rflags,
               (unsigned long long)b->cpu->cr2);
        ok = false;
    }
    for (unsigned i = 0; i < 832; i++)
        if ((i < 6 || (i >= 24 && i < 28) || (i >= 32 && i < 416) ||
             i >= 576) &&
            a->cpu->xsave.b[i] != b->cpu->xsave.b[i]) {
            printf("vector state at %u: %02x, bt %02x\n", i, a->cpu->xsave.b[i],
                   b->cpu->xsave.b[i]);
            ok = false;
        }
    return ok && same_data(a, b, phase) &&
           same_bytes(a, b, STACK_LO, TVM_STACK - STACK_LO) &&
           same_bytes(a, b, PTE(DATA), PAGES * 8);
}

static uint64_t seeds(uint64_t n)
{
    const char *v = getenv("STR_SEEDS");

    return v ? strtoull(v, NULL, 0) : n;
}

static void compare(void (*make)(struct test *, uint64_t), uint64_t n)
{
    static struct test c;
    struct tvm *a = tvm_create(), *b = tbt_create(&part);
    uint64_t faults = 0, quick;

    memset(c.vec, 0, sizeof c.vec);
    memcpy(c.vec, "\x7f\x03", 2);
    memcpy(c.vec + 24, "\x80\x1f", 2);
    for (uint64_t seed = 1; seed <= n; seed++) {
        make(&c, seed);
        load(a, &c);
        load(b, &c);
        CHECK_EQ(run(&interp_engine, a), EXIT_HLT);
        CHECK_EQ(run(&bt_engine, b), EXIT_HLT);
        faults += a->cpu->rip < TVM_CODE;
        if (same(a, b, c.phase))
            continue;
        printf("seed %llu:", (unsigned long long)seed);
        for (unsigned i = 0; i < c.n; i++)
            printf(" %02x", c.code[i]);
        printf("\n");
        CHECK(false);
    }
    quick = bt_of(b->v[0])->st.quick_ops;
    printf("%llu cases: %llu faulted, %llu in the quick gate\n",
           (unsigned long long)n, (unsigned long long)faults,
           (unsigned long long)quick);
    CHECK(quick > n / 2);
    tvm_destroy(a);
    tbt_destroy(b);
}

TEST(strings)
{
    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    compare(make_string, seeds(4000));
}

TEST(short_strings)
{
    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    compare(make_short, seeds(4000));
}

TEST(bits)
{
    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    compare(make_bits, seeds(4000));
}

TEST(xsave)
{
    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    compare(make_xsave, seeds(4000));
}

/* ---- wanted while it runs ---- */

struct kicker {
    struct tvm *t;
    _Atomic bool stop;
    uint64_t n;
};

static void *kick_often(void *arg)
{
    struct kicker *k = arg;

    while (!atomic_load(&k->stop)) {
        struct timespec d = {.tv_nsec = 20000};

        kick_request(&k->t->cpu->kick, KICK_EXIT);
        k->n++;
        nanosleep(&d, NULL);
    }
    return NULL;
}

/* A long copy that is left again and again, between two elements. */
TEST(kicked)
{
    struct kicker k = {0};
    struct exit_rec x;
    pthread_t th;
    unsigned left = 0;
    uint64_t c = 0;

    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    k.t = tbt_create(&part);
    for (unsigned i = 0; i < 0x100000; i += 8)
        tvm_poke64(k.t, TVM_PAGED + i, i * UINT64_C(0x123456789));
    /* rep movsq; dec rbx; jz out; sub rsi,N; sub rdi,N; mov ecx,..; jmp */
    TVM_PUT(k.t, "\xf3\x48\xa5"
                 "\xff\xcb\x74\x15"
                 "\x48\x81\xee\x00\x80\x0f\x00"
                 "\x48\x81\xef\x00\x80\x0f\x00"
                 "\xb9\x00\xf0\x01\x00"
                 "\xeb\xe4"
                 "\xf4");
    k.t->cpu->gpr[X86_RSI] = TVM_PAGED + 3;
    k.t->cpu->gpr[X86_RDI] = TVM_PAGED + 0x200005;
    k.t->cpu->gpr[X86_RCX] = 0x1f000;
    k.t->cpu->gpr[X86_RBX] = 100;
    CHECK_EQ(pthread_create(&th, NULL, kick_often, &k), 0);
    do {
        bt_engine.vcpu_run(k.t->v[0], 0, &x);
        kick_clear(&k.t->cpu->kick, KICK_EXIT);
        left += x.reason != EXIT_HLT;
        c++;
    } while (x.reason != EXIT_HLT && c < 1000000);
    atomic_store(&k.stop, true);
    pthread_join(th, NULL);
    CHECK_EQ(x.reason, EXIT_HLT);
    CHECK_EQ(k.t->cpu->gpr[X86_RCX], 0);
    CHECK_EQ(k.t->cpu->gpr[X86_RSI], TVM_PAGED + 3 + 0xf8000);
    for (unsigned i = 0; i < 0xf8000 - 8; i += 8)
        CHECK_EQ(tvm_peek(k.t, TVM_PAGED + 0x200005 + i, 8),
                 tvm_peek(k.t, TVM_PAGED + 3 + i, 8));
    CHECK(left > 0);
    tbt_destroy(k.t);
}

TEST_MAIN(CASE(strings), CASE(short_strings), CASE(bits), CASE(xsave),
          CASE(kicked))
