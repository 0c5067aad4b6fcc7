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
 *
 * And what is emitted with one field of another kind of access in place of its
 * own must not be allowed.
 */
#include "base/test.h"
#include "engine/bt/priv.h"
#include "engine/bt/testbt.h"
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
#define AC_OFTEN      24U  /* of STAC, CLAC, to one of others */
#define SPOILT        6000 /* regions that are spoilt, each in all ways */

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
    unsigned forms[2 * X86_FORM_COUNT + 2 * AC_OFTEN], n = 0;

    for (unsigned f = 1; f < X86_FORM_COUNT; f++) {
        const struct x86_form_info *fi = x86_form_info(f);

        if (fi->attr & XA_NO64)
            continue;
        forms[n++] = f;
        if (fi->cls == X86_CLS_INT || fi->cls == X86_CLS_BRANCH)
            forms[n++] = f; /* twice */
        if (fi->op == X86_OP_STAC || fi->op == X86_OP_CLAC)
            for (unsigned i = 1; i < AC_OFTEN; i++)
                forms[n++] = f;
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

/* Where the next region goes. */
struct ends {
    uint32_t code, cold, sites, cells, maps;
};

static struct ends ends_of(const struct bt *bt)
{
    return (struct ends){bt->code_at, bt->cold_at, bt->nsites, bt->ncells,
                         bt->nmaps};
}

static void ends_back(struct bt *bt, const struct ends *e)
{
    bt->code_at = e->code;
    bt->cold_at = e->cold;
    bt->nsites = e->sites;
    bt->ncells = e->cells;
    bt->nmaps = e->maps;
}

/* The string of @seed, translated. Return: false: nothing was. */
static bool translate(struct run *r, uint64_t seed)
{
    struct rnd rnd = {.s = seed * UINT64_C(0x9e3779b97f4a7c15)};
    struct bt *bt = r->bt;
    struct bt_block *b = &bt->blocks[0];
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
    return bt_translate(bt, b, &r->text, r->len);
}

static void one(struct run *r, uint64_t seed)
{
    struct bt *bt = r->bt;
    struct bt_block *b = &bt->blocks[0];
    struct ends ends = ends_of(bt);
    const char *what = NULL;
    char text[160] = "";

    if (translate(r, seed)) {
        what = emitted_check(r->m, bt, b, ends.sites, text, sizeof text);
        r->strings++;
        r->insns += b->ninsns;
    }
    if (what && r->bad++ < REPORTS_MAX)
        report(r, seed, what, text);
    else if (r->verbose)
        report(r, seed, "nothing", "");
    ends_back(bt, &ends);
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

    memset(r, 0, sizeof *r);
    if (!bt_host_ok(why, sizeof why))
        return false;
    r->t = tvm_create();
    tbt_init(&part, &host);
    r->bt = tbt_take(r->t, part);
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

/* ---- of another kind ---- */

/* What takes the place of struct bt's field at @d for kind @k, if it is one of
 * kind @own's; 0: it is not. */
static uint32_t field_of_kind(uint32_t d, unsigned own, unsigned k)
{
    const struct {
        uint32_t at[2], n;
    } f[] = {
        {{BT_TLB_R(own), BT_TLB_R(k)}, 1},
        {{BT_TLB_W(own), BT_TLB_W(k)}, 1},
        {{BT_TLB_HOST(own), BT_TLB_HOST(k)}, 1},
        {{BT_STK(own), BT_STK(k)}, 3},
        {{BT_IBMASK(own), BT_IBMASK(k)}, 1},
        {{BT_IB(own), BT_IB(k)}, BT_IB_N},
        {{BT_ZONE(own), BT_ZONE(k)}, 256},
    };

    for (unsigned i = 0; i < ARRAY_LEN(f); i++)
        if (f[i].at[0] != f[i].at[1] && d - f[i].at[0] < 8 * f[i].n)
            return f[i].at[1] + (d - f[i].at[0]);
    return 0;
}

struct spoil {
    struct run *r;
    uint32_t site; /* first */
    uint64_t seed, tried, missed;
};

/* Whether the region is still allowed with @v in place of what is at @at. */
static void spoil32(struct spoil *q, uint32_t at, uint32_t v)
{
    struct bt *bt = q->r->bt;
    uint32_t was;
    char text[160];

    memcpy(&was, bt->rw + at, 4);
    if (was == v)
        return;
    memcpy(bt->rw + at, &v, 4);
    q->tried++;
    if (!emitted_check(q->r->m, bt, &bt->blocks[0], q->site, text,
                       sizeof text) &&
        q->missed++ < REPORTS_MAX)
        printf("  ALLOWED: %08x at %08x for %08x; see --seed %" PRIu64
               " --one\n",
               v, at, was, q->seed);
    memcpy(bt->rw + at, &was, 4);
}

/* A slot for another target's mode: of the other kind, of the other half. */
static void spoil_far(struct spoil *q, uint32_t disp, uint32_t d)
{
    const struct bt_fars *far = q->r->bt->cache->far;

    for (unsigned own = 0; own < 2; own++) {
        uint32_t i = (d - (uint32_t)BT_FAR(own)) / 8;

        if (d - (uint32_t)BT_FAR(own) >= 8 * BT_FAR_N)
            continue;
        spoil32(q, disp, (uint32_t)BT_FAR(!own) + 8 * i);
        for (unsigned k = 0, n = 0; k < 2048 && n < 3; k++)
            if (far[own].e[k].mode != far[own].e[i].mode) {
                spoil32(q, disp, (uint32_t)BT_FAR(own) + 8 * k);
                n++;
            }
    }
}

/* The mode word's store: another kind, another mode, left out (it becomes a
 * site's store, which may stand anywhere). */
static void spoil_mode(struct spoil *q, uint32_t disp, uint32_t imm)
{
    uint32_t was, site = q->site;
    uint8_t *p = q->r->bt->rw;

    memcpy(&was, p + imm, 4);
    spoil32(q, imm, was ^ (TLB_SUP ^ TLB_SUPAC));
    spoil32(q, imm, was & ~BT_MODE_KIND);
    spoil32(q, imm, was ^ BT_MODE_NOWIN);
    spoil32(q, imm, was ^ BT_MODE_ZONE);
    if (q->r->bt->nsites == site)
        return;
    memcpy(p + imm, &site, 4);
    spoil32(q, disp, BT_SITE);
    memcpy(p + imm, &was, 4);
}

static void spoil_insn(struct spoil *q, uint32_t at, const struct x86_insn *i)
{
    uint32_t imm = at + i->len - 4, disp = imm - i->imm_len, mode, rel;

    mode = q->r->bt->blocks[0].mode;
    if ((i->prefix & X86_PFX_SEG) && i->seg == X86_SEG_GS) {
        disp = at + i->len - i->imm_len - 4;
        for (unsigned own = 0; own < 3; own++)
            for (unsigned k = 0; k < 3; k++) {
                uint32_t to = field_of_kind((uint32_t)i->disp, own, k);

                if (to)
                    spoil32(q, disp, to);
            }
        if (i->op == X86_OP_JMP)
            spoil_far(q, disp, (uint32_t)i->disp);
        if (i->disp == (int64_t)offsetof(struct bt, mode))
            spoil_mode(q, disp, imm);
        if (i->disp == BT_ACL && i->imm_len && (mode & BT_MODE_SMAP))
            spoil32(q, imm, (uint32_t)i->imm ^ (uint32_t)X86_FL_AC);
    }
    if (i->op != X86_OP_JMP || i->opnd[0].kind != X86_OPND_REL)
        return;
    rel = (uint32_t)i->imm;
    for (unsigned k = 0; k < 6; k++)
        if (at + i->len + rel == BT_STK_THUNK(k / 2, k % 2))
            for (unsigned j = 0; j < 6; j++)
                spoil32(q, imm,
                        rel + (BT_STK_THUNK(j / 2, j % 2) -
                               BT_STK_THUNK(k / 2, k % 2)));
}

static void spoil_span(struct spoil *q, uint32_t at, uint32_t end)
{
    struct x86_insn i;

    for (; at < end; at += i.len) {
        if (x86_decode(q->r->bt->rw + at, end - at, X86_MODE_64, &i) !=
            X86_DEC_OK)
            return;
        spoil_insn(q, at, &i);
    }
}

TEST(other_kinds_are_found)
{
    static struct run r;
    struct spoil q = {.r = &r};

    if (!run_open(&r))
        SKIP("this host cannot run translated code");
    for (q.seed = 1; q.seed <= SPOILT; q.seed++) {
        struct ends ends = ends_of(r.bt);
        const struct bt_block *b = &r.bt->blocks[0];

        q.site = ends.sites;
        if (translate(&r, q.seed)) {
            spoil_span(&q, b->indirect, b->code_end);
            spoil_span(&q, b->cold, b->cold_end);
        }
        ends_back(r.bt, &ends);
    }
    printf("  fields of another kind: %" PRIu64 ", %" PRIu64 " allowed\n",
           q.tried, q.missed);
    CHECK(q.tried > SPOILT);
    CHECK_EQ(q.missed, 0);
    run_close(&r);
}

/* ---- empty entries ---- */

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
    static const struct test_case cases[] = {
        CASE(emitted_fixed_seed), CASE(emitted_random_seed),
        CASE(other_kinds_are_found), CASE(empty_entries_never_hit)};
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
