// SPDX-License-Identifier: Apache-2.0
/*
 * Random guest bytes, translated; what is emitted must be what tests/bt/
 * emitted.c allows. Strings are a few instructions of all forms, mutated, and
 * plain junk, in every mode that code can be translated for.
 *
 *   emitted_test                          a sample, fixed and random seed
 *   emitted_test --count N [--seed S] [--jobs J]
 *   emitted_test --seed S --one           one string, printed with its code
 *   emitted_test --hex BYTES              these bytes; --seed gives the mode
 */
#include "base/test.h"
#include "engine/bt/priv.h"
#include "engine/interp/testvm.h"
#include "tests/bt/emitted.h"
#include "tests/insn/corpus/make.h"

#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_FIXED  800000
#define SAMPLE_RANDOM 200000
#define POOL          16384U
#define STRING_MAX    96U
#define REPORTS_MAX   5U

struct run {
    struct tvm *t;
    struct bt *bt;
    struct emitted *m;
    uint8_t pool[POOL][16], pool_len[POOL];
    uint8_t page[4096];
    struct bt_text text; /* the same */
    unsigned at, len;    /* the string */
    uint64_t strings, insns, bad;
    bool verbose, given;
};

/* ---- strings ---- */

/* Operands that are registers more often R10 or R11: the translator treats
 * these specially. */
static void prefer_scratch(struct rnd *rnd, uint8_t *b,
                           const struct x86_insn *insn)
{
    unsigned at = (unsigned)(insn->len - insn->imm_len - insn->disp_len);

    if (!insn->has_modrm || insn->enc != X86_ENC_LEGACY ||
        !(insn->prefix & X86_PFX_REX) || insn->index != X86_REG_NONE ||
        (insn->modrm & 7) == 4 || rnd_pct(rnd, 50))
        return;
    at -= 1; /* ModRM */
    for (unsigned k = 0; k < at; k++)
        if ((b[k] & 0xf0) == 0x40 && k + 4 >= at) {
            b[k] |= (uint8_t)(1 + 4 * rnd_n(rnd, 2));
            b[at] = (uint8_t)((b[at] & 0xf8) | (2 + rnd_n(rnd, 2)));
            if (b[k] & 4)
                b[at] = (uint8_t)((b[at] & ~0x38) | (2 + rnd_n(rnd, 2)) << 3);
            return;
        }
}

static void fill_pool(struct run *r)
{
    struct rnd rnd = {.s = 7};
    unsigned forms[2 * X86_FORM_COUNT], n = 0;

    for (unsigned f = 1; f < X86_FORM_COUNT; f++) {
        const struct x86_form_info *fi = x86_form_info(f);

        if (fi->attr & XA_NO64)
            continue;
        forms[n++] = f;
        if (fi->cls == X86_CLS_INT || fi->cls == X86_CLS_BRANCH ||
            fi->op == X86_OP_STAC || fi->op == X86_OP_CLAC)
            forms[n++] = f; /* twice */
    }
    for (unsigned i = 0; i < POOL;) {
        uint8_t b[CORPUS_INSN_ROOM];
        struct x86_insn insn;

        if (!corpus_encode(&rnd, forms[rnd_n(&rnd, n)], b) ||
            x86_decode(b, sizeof b, X86_MODE_64, &insn) != X86_DEC_OK)
            continue;
        prefer_scratch(&rnd, b, &insn);
        if (x86_decode(b, sizeof b, X86_MODE_64, &insn) != X86_DEC_OK)
            continue;
        memcpy(r->pool[i], b, 15);
        r->pool_len[i++] = insn.len;
    }
}

/* add or sub r, imm8; jcc back to the beginning. Return: the new end. */
static unsigned close_loop(struct run *r, struct rnd *rnd, unsigned end)
{
    uint8_t *p = r->page;
    unsigned reg = rnd_n(rnd, 16);
    int32_t rel;

    p[end++] = (uint8_t)(0x48 | reg >> 3);
    p[end++] = 0x83;
    p[end++] = (uint8_t)((rnd_pct(rnd, 50) ? 0xc0 : 0xe8) | (reg & 7));
    p[end++] = (uint8_t)rnd_u64(rnd);
    p[end++] = 0x0f;
    p[end++] = (uint8_t)(0x80 | rnd_n(rnd, 16));
    rel = (int32_t)r->at - (int32_t)(end + 4);
    memcpy(p + end, &rel, 4);
    return end + 4;
}

static void make_string(struct run *r, struct rnd *rnd)
{
    unsigned n = 1 + rnd_n(rnd, rnd_pct(rnd, 10) ? 12 : 4), end;
    uint8_t *p = r->page;

    r->at = rnd_pct(rnd, 70) ? rnd_n(rnd, 4096 - STRING_MAX)
                             : 4096 - 1 - rnd_n(rnd, STRING_MAX);
    end = r->at;
    for (unsigned i = 0; i < n; i++) {
        unsigned k = rnd_n(rnd, POOL), len = r->pool_len[k];

        if (end + len > 4096 || end + len > r->at + STRING_MAX)
            break;
        memcpy(p + end, r->pool[k], len);
        if (rnd_pct(rnd, 25))
            p[end + rnd_n(rnd, len)] = (uint8_t)rnd_u64(rnd);
        end += len;
    }
    if (end > r->at && end + 10 < 4096 && rnd_pct(rnd, 12)) /* a loop */
        end = close_loop(r, rnd, end);
    if (end == r->at || rnd_pct(rnd, 5)) /* junk */
        for (unsigned i = 0; i < 24 && end < 4096; i++)
            p[end++] = (uint8_t)rnd_u64(rnd);
    r->len = end - r->at;
}

static uint32_t make_mode(struct rnd *rnd)
{
    uint32_t mode =
        (uint32_t)rnd_u64(rnd) & (BT_MODE_TSD | BT_MODE_FSGS | BT_MODE_SMAP |
                                  BT_MODE_NOWIN | BT_MODE_ZONE);

    if (rnd_pct(rnd, 85))
        mode |= BT_MODE_SSE | BT_MODE_AVX | BT_MODE_X87;
    switch (rnd_n(rnd, 3)) {
    case 0:
        return mode | TLB_USER | BT_MODE_CPL3;
    case 1:
        return mode | TLB_SUP;
    default:
        return mode | TLB_SUPAC;
    }
}

/* ---- one ---- */

static void report(struct run *r, uint64_t seed, const char *what,
                   const char *text)
{
    struct x86_insn i;
    char line[128];

    printf("  NOT ALLOWED %s: %s; again with: --seed %" PRIu64 " --one\n", what,
           text, seed);
    for (unsigned at = r->at; at < r->at + r->len; at += i.len) {
        if (x86_decode(r->page + at, r->at + r->len - at, X86_MODE_64, &i) !=
            X86_DEC_OK)
            break;
        x86_disasm(&i, at, line, sizeof line);
        printf("  guest %03x %s\n", at, line);
    }
    emitted_dump(r->m);
}

static void one(struct run *r, uint64_t seed)
{
    struct rnd rnd = {.s = seed * UINT64_C(0x9e3779b97f4a7c15)};
    struct bt *bt = r->bt;
    struct bt_block *b = &bt->blocks[0];
    uint32_t code = bt->code_at, cold = bt->cold_at, sites = bt->nsites;
    uint32_t cells = bt->ncells, maps = bt->nmaps;
    const char *what = NULL;
    char text[160] = "";
    uint64_t page;

    rnd_u64(&rnd);
    if (!r->given)
        make_string(r, &rnd);
    page = rnd_pct(&rnd, 50) ? 0x400000 : UINT64_C(0xffffffff81000000);
    *b = (struct bt_block){.src = r->page + r->at,
                           .va = page + r->at,
                           .mode = make_mode(&rnd),
                           .valid = true};
    bt->mode = b->mode;
    bt->tsc_inline = rnd_pct(&rnd, 50);
    bt->part->adx = rnd_pct(&rnd, 80);
    memcpy(r->text.b, r->page, sizeof r->page);
    r->text.have = ~UINT64_C(0);
    if (bt_translate(bt, b, &r->text, r->len)) {
        what = emitted_check(r->m, bt, b, sites, text, sizeof text);
        r->strings++;
        r->insns += b->ninsns;
    }
    if (what && r->bad++ < REPORTS_MAX)
        report(r, seed, what, text);
    else if (r->verbose)
        report(r, seed, "nothing", "");
    bt->code_at = code;
    bt->cold_at = cold;
    bt->nsites = sites;
    bt->ncells = cells;
    bt->nmaps = maps;
}

/* Bytes in hexadecimal, at the page's beginning. */
static void take_hex(struct run *r, const char *hex)
{
    unsigned v;

    r->given = true;
    r->at = r->len = 0;
    while (r->len < STRING_MAX && sscanf(hex + 2 * r->len, "%2x", &v) == 1)
        r->page[r->len++] = (uint8_t)v;
}

/* ---- many ---- */

static bool run_open(struct run *r)
{
    static struct engine_part *part; /* as in a monitor: till the end */
    const struct engine_host host = {.kvm_fd = -1, .ncpus = 1};
    char why[120];
    struct err e;

    memset(r, 0, sizeof *r);
    if (!bt_host_ok(why, sizeof why))
        return false;
    r->t = tvm_create();
    interp_engine.vcpu_destroy(r->t->v[0]);
    if (!part && bt_engine.init(&host, &part, &e)) {
        printf("bt: %s\n", e.text);
        exit(1);
    }
    r->t->vm.engine = part;
    if (bt_engine.vcpu_create(&r->t->vm, r->t->cpu, &r->t->v[0], &e)) {
        printf("bt: %s\n", e.text);
        exit(1);
    }
    r->bt = bt_of(r->t->v[0]);
    r->bt->cache->npages = 1;
    r->m = emitted_open();
    fill_pool(r);
    return true;
}

static void run_close(struct run *r)
{
    emitted_close(r->m);
    r->bt->cache->npages = 0;
    bt_engine.vcpu_destroy(r->t->v[0]);
    x86_cpu_fini(r->t->cpu);
    vm_fini(&r->t->vm);
    free(r->t);
}

static uint64_t sample(uint64_t seed, uint64_t count)
{
    static struct run r;

    if (!run_open(&r)) {
        test_skip = "this host cannot run translated code";
        return 0;
    }
    for (uint64_t i = 0; i < count && r.bad < REPORTS_MAX; i++)
        one(&r, seed + i);
    printf("  strings: %" PRIu64 " from seed %" PRIu64 ", %" PRIu64
           " guest instructions, %" PRIu64 " host instructions; %" PRIu64
           " not allowed\n",
           r.strings, seed, r.insns, emitted_insns(r.m), r.bad);
    run_close(&r);
    return r.bad;
}

TEST(emitted_fixed_seed)
{
    CHECK_EQ(sample(1, SAMPLE_FIXED), 0);
}

TEST(emitted_random_seed)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    CHECK_EQ(sample((uint64_t)ts.tv_sec << 20, SAMPLE_RANDOM), 0);
}

/* An empty entry's key lets no address of its index pass, also where adding
 * the size wraps around. */
static unsigned hits(uint64_t key, unsigned i)
{
    const uint64_t near = BT_TLB_N / 4 * UINT64_C(4096);
    const uint64_t above[] = {0, near, BIT(45) - near, BIT(46),
                              BIT(46) + BIT(45) - near};
    unsigned n = 0;

    for (unsigned k = 0; k < ARRAY_LEN(above); k++)
        for (unsigned off = 0; off < 4096; off += off < 4032 ? 576 : 1) {
            uint64_t va = above[k] | (i * UINT64_C(4096)) % near | off;

            va |= i & BT_TLB_N / 4 ? BIT(45) : 0;
            if (i >= BT_TLB_N / 2)
                va |= UINT64_C(0xffff800000000000);
            n += bt_tlb_index(va) != i;
            for (unsigned size = 1; size <= 256; size *= 4)
                n +=
                    va + key <= 4096 - size || (va + key + size - 1) >> 12 == 0;
        }
    return n;
}

TEST(empty_entries_never_hit)
{
    static struct run r;

    if (!run_open(&r))
        SKIP("this host cannot run translated code");
    for (unsigned k = 0; k < 3; k++)
        for (unsigned i = 0; i < BT_TLB_N; i++)
            CHECK_EQ(hits(r.bt->tlb[k].r[i], i) + hits(r.bt->tlb[k].w[i], i),
                     0);
    run_close(&r);
}

static int soak(uint64_t seed, uint64_t count, unsigned jobs)
{
    int bad = 0, status;

    if (jobs <= 1)
        return sample(seed, count) != 0;
    for (unsigned j = 0; j < jobs; j++) {
        pid_t pid = fork();

        if (pid == 0)
            exit(sample(seed + count / jobs * j, count / jobs) != 0);
        if (pid < 0)
            return 1;
    }
    while (wait(&status) > 0)
        bad |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    printf("  %" PRIu64 " strings in %u processes\n", count / jobs * jobs,
           jobs);
    return bad;
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {CASE(emitted_fixed_seed),
                                             CASE(emitted_random_seed),
                                             CASE(empty_entries_never_hit)};
    uint64_t seed = 1, count = SAMPLE_FIXED;
    unsigned jobs = 1;
    const char *hex = NULL;
    bool alone = false;
    int bad;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 2 || strncmp(argv[1], "--", 2) != 0)
        return test_main(argc, argv, cases, ARRAY_LEN(cases));
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "0";

        if (!strcmp(argv[i], "--seed"))
            seed = strtoull(v, NULL, 0);
        else if (!strcmp(argv[i], "--count"))
            count = strtoull(v, NULL, 0);
        else if (!strcmp(argv[i], "--jobs"))
            jobs = (unsigned)strtoul(v, NULL, 0);
        else if (!strcmp(argv[i], "--one"))
            alone = true;
        else if (!strcmp(argv[i], "--hex"))
            hex = v, alone = true;
    }
    if (alone) {
        static struct run r;

        if (run_open(&r)) {
            r.verbose = true;
            if (hex)
                take_hex(&r, hex);
            one(&r, seed);
        }
        return r.bad > 0;
    }
    bad = soak(seed, count, jobs);
    printf("%s emitted\n", bad ? "FAIL" : "ok");
    return bad;
}
