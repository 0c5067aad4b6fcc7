// SPDX-License-Identifier: Apache-2.0
/*
 * Which pages a supervisor reaches, with AC set and clear: random programs with
 * STAC and CLAC among accesses to user and kernel pages, jumps into what they
 * enclose and out of it, loops, calls, strings, PUSHF, POPF, CR4.SMAP; by
 * translated code and by the interpreter. With zones and without.
 *
 *   ac_test                      fixed and random seed
 *   ac_test --seed S [--count N] N programs, with and without zones
 */
#include "engine/bt/zone_priv.h"

#include "base/test.h"
#include "engine/bt/testbt.h"
#include "tests/bt/ac_make.h"

#include <time.h>

#define PROGRAMS 8000
#define BATCH    64 /* programs with the same pages */

/* The kernel's memory, and its code and constants: the same 8 MiB; behind the
 * first, pages of all sorts. */
#define KERN  UINT64_C(0xffff888000000000)
#define TOP   AC_TOP
#define ODD   (KERN + 0x800000)
#define USER  UINT64_C(0x200000)
#define KDATA AC_CONST /* kernel frames: data, GS's, stack, those of ODD */
#define GSPG  0x402000U
#define STACK 0x403000U
#define ODDPG 0x404000U
#define PT    0x24000U /* of ODD */
#define PAGES 8U       /* user's, of each */

/* ---- two VMs ---- */

/* What is compared of memory: user pages, the kernel's, those of ODD. */
static const struct {
    uint32_t at, n;
} areas[] = {
    {(uint32_t)USER, PAGES * 4096}, {KDATA, 4 * 4096}, {ODDPG, PAGES * 4096}};
#define AREA_MAX (PAGES * 4096U)

static void tables(struct tvm *t)
{
    const uint64_t way = X86_PTE_P | X86_PTE_RW | X86_PTE_US | X86_PTE_A;
    const uint64_t kern =
        X86_PTE_P | X86_PTE_RW | X86_PTE_A | X86_PTE_D | X86_PTE_PS | X86_PTE_G;

    tvm_poke64(t, 0x1000 + 8 * (KERN >> 39 & 511), 0x21000 | way);
    tvm_poke64(t, 0x1000 + 8 * (TOP >> 39 & 511), 0x22000 | way);
    tvm_poke64(t, 0x21000 + 8 * (KERN >> 30 & 511), 0x23000 | way);
    tvm_poke64(t, 0x22000 + 8 * (TOP >> 30 & 511), 0x23000 | way);
    for (unsigned i = 0; i < 4; i++)
        tvm_poke64(t, 0x23000 + 8 * i, i << 21 | kern);
    tvm_poke64(t, 0x23000 + 8 * 4, PT | way);
    for (unsigned v = 0; v < 256; v++) {
        uint64_t to = TOP + TVM_VEC(v);

        tvm_poke64(t, 0x6000 + 16 * v,
                   (to & 0xffff) | 8ULL << 16 | 0x8eULL << 40 |
                       (to >> 16 & 0xffff) << 48);
        tvm_poke64(t, 0x6008 + 16 * v, to >> 32);
    }
}

/* Rights of the user's pages 2 to 5 and of ODD. */
static void pages(struct tvm *t, uint64_t seed)
{
    static const uint64_t some[] = {
        X86_PTE_P | X86_PTE_US,
        X86_PTE_P | X86_PTE_US | X86_PTE_RW,
        X86_PTE_P | X86_PTE_US | X86_PTE_RW | X86_PTE_A | X86_PTE_D,
        X86_PTE_P | X86_PTE_RW | X86_PTE_A | X86_PTE_D,
        X86_PTE_P | X86_PTE_RW | X86_PTE_A | X86_PTE_D | X86_PTE_G,
        X86_PTE_P | X86_PTE_A | X86_PTE_G,
        X86_PTE_US | X86_PTE_RW,
    };
    struct rnd r = {.s = seed};

    for (unsigned i = 0; i < PAGES; i++) {
        bool any = i >= 2 && i < 6;

        tvm_page(t, USER + i * 4096, some[any ? rnd_n(&r, 7) : 2]);
        tvm_poke64(t, PT + 8 * i, (ODDPG + i * 4096) | some[rnd_n(&r, 7)]);
    }
}

static void fill(struct tvm *t, uint64_t seed)
{
    static uint64_t b[AREA_MAX / 8];
    struct rnd r = {.s = seed};

    for (unsigned k = 0; k < ARRAY_LEN(areas); k++) {
        for (unsigned i = 0; i < areas[k].n / 8; i++)
            b[i] = rnd_u64(&r);
        tvm_poke(t, areas[k].at, b, areas[k].n);
    }
}

static uint64_t near_end(struct rnd *r)
{
    return rnd_pct(r, 70) ? rnd_n(r, 0xe00) : 0x1000 - rnd_n(r, 80);
}

static void registers(struct tvm *t, const struct ac_prog *p, uint64_t seed)
{
    struct x86_cpu *cpu = t->cpu;
    struct rnd r = {.s = seed};

    for (unsigned i = 0; i < 16; i++)
        cpu->gpr[i] = rnd_u64(&r) >> rnd_n(&r, 64);
    cpu->gpr[X86_R9] = rnd_n(&r, 5);
    cpu->gpr[X86_RBX] = USER + rnd_n(&r, 2) * 4096 + near_end(&r);
    cpu->gpr[X86_RBP] = USER + rnd_n(&r, 6) * 4096 + near_end(&r);
    cpu->gpr[X86_R12] = KERN + KDATA + near_end(&r);
    cpu->gpr[X86_R13] = ODD + rnd_n(&r, PAGES - 1) * 4096 + near_end(&r);
    cpu->gpr[X86_RSI] = cpu->gpr[rnd_pct(&r, 50) ? X86_RBX : X86_R12];
    cpu->gpr[X86_RDI] = cpu->gpr[rnd_pct(&r, 50) ? X86_RBX : X86_R12];
    cpu->gpr[X86_RSP] =
        rnd_pct(&r, 4) ? USER + 0x7c00 : KERN + STACK + 0x200 + rnd_n(&r, 4);
    if (rnd_pct(&r, 10)) /* frames on two pages */
        cpu->gpr[X86_RSP] = KERN + STACK + rnd_n(&r, 60);
    cpu->seg[X86_SEG_GS].base =
        rnd_pct(&r, 4) ? USER + 64 : KERN + GSPG + 0x800;
    if (rnd_pct(&r, 4)) /* the kernel's half, perhaps the user's pages */
        cpu->seg[X86_SEG_GS].base = ODD + rnd_n(&r, PAGES) * 4096;
    cpu->seg[X86_SEG_FS].base = rnd_pct(&r, 50) ? USER + 64 : KERN + GSPG;
    cpu->msr.kernel_gs_base = USER + 0x40;
    cpu->cr2 = 0;
    cpu->rip = p->va;
    cpu->rflags =
        X86_FL_ONE | (rnd_u64(&r) & X86_FL_ARITH) | (p->ac ? X86_FL_AC : 0);
    cpu->activity = X86_ACT_RUN;
}

/* Other page tables, or another CR4. */
static void flush(const struct engine_ops *e, struct tvm *t, bool with_smap,
                  bool anew)
{
    struct x86_cpu *cpu = t->cpu;
    uint64_t was = cpu->cr4;

    cpu->cr4 = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT |
               X86_CR4_FSGSBASE | (with_smap ? X86_CR4_SMAP : 0);
    if (cpu->cr4 == was && !anew)
        return;
    cpu->gdtr.base = TOP + 0x5000;
    cpu->idtr.base = TOP + 0x6000;
    cpu->tr.base = TOP + 0x9800;
    e->vcpu_flush(t->v[0]);
    cpu->lin->mode(cpu->lin_ctx);
}

struct pair {
    struct tvm *a, *b; /* by the interpreter, translated */
    struct bt *bt;
    uint64_t ends, faults, bad;
};

/* In the frame of an exception arithmetic flags that are dead may be stale
 * (docs/translator.md): they are made the same. */
static void frame_flags(struct pair *q)
{
    uint64_t at = (q->a->cpu->gpr[X86_RSP] + 24) & 0x7fffff;
    uint64_t a = tvm_peek(q->a, at, 8), b = tvm_peek(q->b, at, 8);

    tvm_poke64(q->b, at, (b & ~X86_FL_ARITH) | (a & X86_FL_ARITH));
}

static bool memory_differs(struct pair *q)
{
    static uint64_t x[AREA_MAX / 8], y[AREA_MAX / 8];

    for (unsigned k = 0; k < ARRAY_LEN(areas); k++) {
        if (mem_read(q->a->vm.mem, gpa(areas[k].at), x, areas[k].n) ||
            mem_read(q->b->vm.mem, gpa(areas[k].at), y, areas[k].n))
            abort();
        for (unsigned i = 0; i < areas[k].n / 8; i++)
            if (x[i] != y[i]) {
                printf("  at %x: %" PRIx64 ", not %" PRIx64 "\n",
                       areas[k].at + 8 * i, y[i], x[i]);
                return true;
            }
    }
    return false;
}

static bool state_differs(const struct x86_cpu *a, const struct x86_cpu *b,
                          uint64_t flags)
{
    bool bad = a->rip != b->rip || a->cr2 != b->cr2 || a->cr4 != b->cr4 ||
               ((a->rflags ^ b->rflags) & flags) ||
               a->seg[X86_SEG_GS].base != b->seg[X86_SEG_GS].base ||
               a->msr.kernel_gs_base != b->msr.kernel_gs_base;

    for (unsigned i = 0; i < 16; i++)
        if (a->gpr[i] != b->gpr[i]) {
            printf("  r%u: %" PRIx64 ", not %" PRIx64 "\n", i, b->gpr[i],
                   a->gpr[i]);
            bad = true;
        }
    if (bad)
        printf("  rip %" PRIx64 ", not %" PRIx64 "; rflags %" PRIx64
               ", not %" PRIx64 "; cr2 %" PRIx64 ", not %" PRIx64 "\n",
               b->rip, a->rip, b->rflags, a->rflags, b->cr2, a->cr2);
    return bad;
}

static enum exit_reason run(const struct engine_ops *e, struct tvm *t)
{
    struct exit_rec x;

    e->vcpu_run(t->v[0], 0, &x);
    return x.reason;
}

/* Return: whether both did the same. */
static bool same(struct pair *q, const struct ac_prog *p)
{
    enum exit_reason a = run(&interp_engine, q->a);
    enum exit_reason b = run(&bt_engine, q->b);
    const struct x86_cpu *cpu = q->a->cpu;
    uint64_t flags = ~UINT64_C(0);

    if (a != b) {
        printf("  exit %d, not %d\n", b, a);
        return false;
    }
    if (a == EXIT_SHUTDOWN)
        return true;
    if (cpu->rip - p->va < p->n) {
        q->ends++;
    } else {
        q->faults++;
        if (!q->bt->part->flags_all) {
            flags = ~X86_FL_ARITH;
            frame_flags(q);
        }
    }
    return !state_differs(cpu, q->b->cpu, flags) && !memory_differs(q);
}

static void report(const struct ac_prog *p, uint64_t seed, unsigned turn)
{
    struct x86_insn i;
    char line[128];

    printf("  DIFFERS: seed %" PRIu64 ", turn %u, AC %d, SMAP %d\n", seed, turn,
           p->ac, p->smap);
    for (unsigned at = 0; at < p->n; at += i.len) {
        if (x86_decode(p->b + at, p->n - at, X86_MODE_64, &i) != X86_DEC_OK)
            break;
        x86_disasm(&i, p->va + at, line, sizeof line);
        printf("    %" PRIx64 " %s\n", p->va + at, line);
    }
}

static void one(struct pair *q, uint64_t seed)
{
    static struct ac_prog p;
    bool with_smap = seed / BATCH % 4 != 3, ac;
    bool anew = seed % 8 == 0 || !(q->b->cpu->gdtr.base >> 63);

    p.rnd.s = seed * UINT64_C(0x9e3779b97f4a7c15);
    p.va = TOP + TVM_CODE;
    if (rnd_pct(&p.rnd, 50)) /* on two pages */
        p.va += 4096 - rnd_n(&p.rnd, 150);
    ac = rnd_pct(&p.rnd, 40);
    ac_make(&p, ac, with_smap);
    q->bt->part->flags_all = seed % 3 == 0;
    for (unsigned v = 0; v < 2; v++) {
        struct tvm *t = v ? q->b : q->a;

        tvm_poke(t, p.va - TOP, p.b, p.n);
        if (anew)
            pages(t, seed / BATCH);
        fill(t, seed);
    }
    for (unsigned turn = 0; turn < 3; turn++) {
        p.ac = ac != (turn == 2);
        for (unsigned v = 0; v < 2; v++) {
            struct tvm *t = v ? q->b : q->a;

            flush(v ? &bt_engine : &interp_engine, t, with_smap,
                  turn == 0 && anew);
            registers(t, &p, seed + turn);
        }
        if (same(q, &p))
            continue;
        p.smap = with_smap;
        report(&p, seed, turn);
        q->bad++;
        return;
    }
}

/* ---- the test ---- */

static void bt_open(struct pair *q)
{
    static struct engine_part *part; /* as in a monitor: till the end */
    const struct engine_host host = {
        .kvm_fd = -1, .ncpus = 1, .zones = ENGINE_ZONES_NOW};

    tbt_init(&part, &host);
    q->bt = tbt_take(q->b, part);
}

/* Return: how many programs differed. */
static uint64_t sample(uint64_t seed, unsigned count, bool zones)
{
    struct pair q = {.ends = 0};
    char why[120];
    uint64_t bad;

    if (!bt_host_ok(why, sizeof why)) {
        test_skip = "this host cannot run translated code";
        return 0;
    }
    q.a = tvm_create_mem(CLOCK_MODE_REAL, 1, true);
    q.b = tvm_create_mem(CLOCK_MODE_REAL, 1, !zones);
    bt_open(&q);
    tables(q.a);
    tables(q.b);
    for (unsigned i = 0; i < count && q.bad < 3; i++) {
        struct zones *z = q.bt->part->zones;

        if (z && i % BATCH == 0) { /* all may be by zones again */
            memset(z->pin, 0, sizeof z->pin);
            memset(z->pin_faults, 0, sizeof z->pin_faults);
        }
        one(&q, seed + i);
    }
    printf("  %" PRIu64 " ran to the end, %" PRIu64 " faulted; %" PRIu64
           " zone maps, %" PRIu64 " quick faults; %" PRIu64 " differ\n",
           q.ends, q.faults, q.bt->st.zone_maps, q.bt->st.quick_faults, q.bad);
    bad = q.bad;
    if (!bad && count >= PROGRAMS / 4) {
        CHECK(q.ends > count / 2);
        CHECK(q.faults > count / 2);
        CHECK(!zones == !q.bt->st.zone_maps);
    }
    bt_engine.vcpu_destroy(q.b->v[0]);
    x86_cpu_fini(q.b->cpu);
    vm_fini(&q.b->vm);
    free(q.b);
    tvm_destroy(q.a);
    return bad;
}

TEST(without_zones)
{
    CHECK_EQ(sample(1, PROGRAMS, false), 0);
}

TEST(with_zones)
{
    CHECK_EQ(sample(1, PROGRAMS, true), 0);
}

TEST(random_seed)
{
    struct timespec ts;
    uint64_t seed;

    clock_gettime(CLOCK_REALTIME, &ts);
    seed = (uint64_t)ts.tv_sec << 16;
    printf("  seed %" PRIu64 "\n", seed);
    CHECK_EQ(sample(seed, PROGRAMS / 4, false), 0);
    CHECK_EQ(sample(seed, PROGRAMS / 4, true), 0);
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        CASE(without_zones), CASE(with_zones), CASE(random_seed)};
    uint64_t seed = 1, count = 1;

    if (argc < 3 || strncmp(argv[1], "--", 2) != 0)
        return test_main(argc, argv, cases, ARRAY_LEN(cases));
    for (int i = 1; i + 1 < argc; i += 2)
        *(strcmp(argv[i], "--seed") ? &count : &seed) =
            strtoull(argv[i + 1], NULL, 0);
    return sample(seed, (unsigned)count, false) ||
           sample(seed, (unsigned)count, true);
}
