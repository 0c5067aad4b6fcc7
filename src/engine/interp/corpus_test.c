// SPDX-License-Identifier: Apache-2.0
/*
 * The instruction corpus: every form of the table that the guest's CPUID level
 * shows, with random prefixes, registers, operands and state, run by the
 * interpreter and by the CPU itself; everything must agree, faults included.
 * See tests/insn/corpus/README.md.
 *
 *   corpus_test                            a sample, fixed and random seed
 *   corpus_test --count N [--seed S] [--reports R]   a soak
 *   ... --form NAME                        that form alone
 *   corpus_test --seed S --case I          one case, printed in full
 */
#include "base/test.h"
#include "tests/insn/corpus/corpus.h"

#include <stdlib.h>
#include <time.h>

#define SAMPLE_FIXED  470000
#define SAMPLE_RANDOM 100000
#define REPORTS_MAX   20
#define PER_FORM      200 /* of a soak */

struct run {
    struct corpus_guest *guest;
    struct corpus_native *native;
    struct corpus_maker *maker;
    uint64_t *pattern;
    struct corpus_job *job[2];
    unsigned count[2]; /* jobs of each half */
    uint64_t cases, faults, ud, odd, none, mismatches;
    uint64_t by_form[X86_FORM_COUNT], bad_form[X86_FORM_COUNT];
    unsigned reports; /* mismatches to print */
    bool verbose;
};

static bool run_open(struct run *r, uint64_t seed, const char **why)
{
    *r = (struct run){.pattern = malloc(CORPUS_BYTES), .reports = REPORTS_MAX};
    corpus_pattern(r->pattern);
    r->native = corpus_native_open(r->pattern, why);
    if (!r->native)
        return false;
    r->guest = corpus_guest_open(r->pattern, why);
    if (!r->guest)
        return false;
    r->maker = calloc(1, sizeof *r->maker);
    corpus_maker_init(r->maker, corpus_guest_cpuid(r->guest), r->pattern, seed);
    for (unsigned h = 0; h < 2; h++)
        r->job[h] = aligned_alloc(64, CORPUS_BATCH * sizeof *r->job[h]);
    return true;
}

static void run_close(struct run *r)
{
    corpus_native_close(r->native);
    corpus_guest_close(r->guest);
    free(r->job[0]);
    free(r->job[1]);
    free(r->maker);
    free(r->pattern);
}

/* Make cases from *@index on and interpret them. */
static void fill_half(struct run *r, unsigned half, uint64_t *index,
                      uint64_t end)
{
    unsigned n = 0;

    while (n < CORPUS_BATCH && *index < end) {
        struct corpus_case *c = corpus_native_case(r->native, half, n);
        struct corpus_job *job = &r->job[half][n];
        if (!corpus_make(r->maker, (*index)++, c, job)) {
            r->none++;
            continue;
        }
        corpus_guest_run(r->guest, c, &job->interp);
        if (job->interp.end == CORPUS_ODD)
            r->odd++;
        else
            n++;
    }
    r->count[half] = n;
}

static void check_half(struct run *r, unsigned half)
{
    for (unsigned i = 0; i < r->count[half]; i++) {
        const struct corpus_case *c = corpus_native_case(r->native, half, i);
        const struct corpus_job *job = &r->job[half][i];
        const struct corpus_result *n =
            corpus_native_result(r->native, half, i);
        const char *what = corpus_differ(job, c, n);
        r->cases++;
        r->by_form[job->form]++;
        r->faults += n->end == CORPUS_FAULT;
        r->ud += job->ud;
        if (what) {
            r->mismatches++;
            r->bad_form[job->form]++;
            if (r->reports && r->reports--)
                corpus_report(what, "CPU", job, c, n, r->maker->seed);
        } else if (r->verbose) {
            corpus_report("none", "CPU", job, c, n, r->maker->seed);
        }
    }
}

/* Cases [from, end): one half runs natively while the other is made. */
static void run_range(struct run *r, uint64_t from, uint64_t end)
{
    unsigned half = 0;
    bool flying = false;

    for (;; half ^= 1) {
        fill_half(r, half, &from, end);
        if (flying) {
            corpus_native_wait(r->native);
            check_half(r, half ^ 1);
        }
        flying = r->count[half] > 0;
        if (!flying)
            break;
        corpus_native_start(r->native, half, r->count[half]);
    }
}

/* ---- the table ---- */

static void print_left_out(const struct x86_cpuid *cpuid)
{
    bool seen[X86_FORM_COUNT] = {false};

    for (unsigned f = 1; f < X86_FORM_COUNT; f++) {
        const char *why = corpus_left_out(cpuid, f);
        unsigned n = 0;
        if (!why || seen[f])
            continue;
        printf("  left out, %s:", why);
        for (unsigned k = f; k < X86_FORM_COUNT; k++) {
            const char *other = corpus_left_out(cpuid, k);
            if (!other || strcmp(why, other))
                continue;
            seen[k] = true;
            n++;
            printf(" %s", x86_form_info(k)->name);
        }
        printf(" (%u)\n", n);
    }
}

/* Forms of level v3, and those that only level host adds. */
static bool in_v3(unsigned form)
{
    const struct x86_cpuid_conf cc = {
        .level = X86_LEVEL_V3, .ncpus = 1, .tsc_khz = 1000000};
    static struct x86_cpuid v3;
    struct err e;

    if (!v3.n && x86_cpuid_build(&cc, &v3, &e))
        return false;
    return !corpus_left_out(&v3, form);
}

static void print_table(const struct run *r, bool full)
{
    const struct x86_cpuid *cpuid = corpus_guest_cpuid(r->guest);
    unsigned covered = 0, v3 = 0, v3_covered = 0, rare = 0;
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < r->maker->nforms; i++) {
        unsigned f = r->maker->form[i];
        uint64_t n = r->by_form[f];
        covered += n > 0;
        v3 += in_v3(f);
        v3_covered += in_v3(f) && n > 0;
        rare += n < PER_FORM;
        if (n < least)
            least = n;
        if (full || n == 0)
            printf("  %-20s %" PRIu64 "\n", x86_form_info(f)->name, n);
        if (r->bad_form[f])
            printf("  %-20s %" PRIu64 " of %" PRIu64 " differ\n",
                   x86_form_info(f)->name, r->bad_form[f], n);
    }
    if (full)
        print_left_out(cpuid);
    printf("  forms: %u known to the decoder, %u left out with a reason; "
           "covered %u of %u (level v3: %u of %u)\n",
           X86_FORM_COUNT - 1, X86_FORM_COUNT - 1 - r->maker->nforms, covered,
           r->maker->nforms, v3_covered, v3);
    printf("  cases per form: at least %" PRIu64 "; %u forms below %u\n", least,
           rare, PER_FORM);
    printf("  cases: %" PRIu64 " (%" PRIu64 " faulted, %" PRIu64
           " not an instruction; %" PRIu64 " dropped), %" PRIu64
           " mismatches\n",
           r->cases, r->faults, r->ud, r->odd + r->none, r->mismatches);
}

/* ---- ways to run ---- */

static void only_form(struct run *r, const char *name)
{
    struct corpus_maker *m = r->maker;
    unsigned n = 0;

    for (unsigned i = 0; i < m->nforms; i++)
        if (!strcmp(x86_form_info(m->form[i])->name, name))
            m->form[n++] = m->form[i];
    m->nforms = n;
    if (!n) {
        printf("no such form: %s\n", name);
        exit(2);
    }
}

/* Return: mismatches and uncovered forms, or -1: skipped. */
static int sample(uint64_t seed, uint64_t count, bool full, unsigned reports,
                  const char *form)
{
    struct run r;
    const char *why;
    int bad;

    printf("  seed %" PRIu64 "\n", seed);
    if (!run_open(&r, seed, &why)) {
        test_skip = why;
        return -1;
    }
    r.reports = reports;
    if (form)
        only_form(&r, form);
    run_range(&r, 0, count);
    print_table(&r, full);
    bad = r.mismatches > 0;
    for (unsigned i = 0; i < r.maker->nforms; i++)
        bad += r.by_form[r.maker->form[i]] == 0;
    run_close(&r);
    return bad;
}

TEST(same_as_the_cpu_fixed_seed)
{
    CHECK(sample(1, SAMPLE_FIXED, false, REPORTS_MAX, NULL) <= 0);
}

TEST(same_as_the_cpu_random_seed)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    CHECK(sample((uint64_t)ts.tv_sec ^ (uint64_t)ts.tv_nsec << 20,
                 SAMPLE_RANDOM, false, REPORTS_MAX, NULL) <= 0);
}

static int one_case(uint64_t seed, uint64_t index, const char *form)
{
    struct run r;
    const char *why;

    if (!run_open(&r, seed, &why)) {
        printf("skip: %s\n", why);
        return 0;
    }
    r.verbose = true;
    if (form)
        only_form(&r, form);
    run_range(&r, index, index + 1);
    if (r.cases == 0)
        printf("  this number gives no case\n");
    run_close(&r);
    return r.mismatches > 0;
}

static int soak(int argc, char **argv)
{
    uint64_t seed = 1, count = SAMPLE_FIXED;
    unsigned reports = REPORTS_MAX;
    const char *form = NULL;
    bool one = false;
    int bad;

    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t v = strtoull(argv[i + 1], NULL, 0);
        if (!strcmp(argv[i], "--seed"))
            seed = v;
        else if (!strcmp(argv[i], "--count"))
            count = v;
        else if (!strcmp(argv[i], "--case"))
            count = v, one = true;
        else if (!strcmp(argv[i], "--form"))
            form = argv[i + 1];
        else if (!strcmp(argv[i], "--reports"))
            reports = (unsigned)v;
    }
    if (one)
        return one_case(seed, count, form);
    bad = sample(seed, count, true, reports, form);
    if (bad < 0)
        printf("skip corpus: %s\n", test_skip);
    else
        printf("%s corpus\n", bad ? "FAIL" : "ok");
    return bad > 0;
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {CASE(same_as_the_cpu_fixed_seed),
                                             CASE(same_as_the_cpu_random_seed)};

    if (argc > 1 && !strncmp(argv[1], "--", 2))
        return soak(argc, argv);
    return test_main(argc, argv, cases, ARRAY_LEN(cases));
}
