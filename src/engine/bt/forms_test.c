// SPDX-License-Identifier: Apache-2.0
/*
 * The instruction corpus through the translator: each case is one instruction
 * that is translated and run into the INT3 behind it, or into its fault; the
 * interpreter, which agrees with the CPU (corpus_test), says what is right.
 * See tests/insn/corpus/README.md.
 *
 *   forms_test                            a sample, fixed and random seed
 *   forms_test --count N [--seed S] [--from I] [--form NAME]
 *   forms_test --seed S --case I          one case, printed in full
 */
#include "base/test.h"
#include "cpu/x86/paging.h"
#include "engine/bt/bt.h"
#include "engine/bt/priv.h"
#include "engine/interp/vec_int.h"
#include "tests/insn/corpus/corpus.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_FIXED  400000
#define SAMPLE_RANDOM 100000
#define REPORTS_MAX   20
#define HISTORY       4000

struct run {
    struct corpus_guest *interp, *bt;
    struct engine_part *part;
    struct corpus_maker *maker;
    uint64_t *pattern;
    struct corpus_case *c;
    struct corpus_job *job;
    struct corpus_result *got;
    uint64_t cases, faults, ud, dropped, mismatches;
    uint64_t by_form[X86_FORM_COUNT], bad_form[X86_FORM_COUNT];
    unsigned reports;
    bool verbose;
};

/* A case that does not end is asked to: twice means that it does not listen. */
static struct x86_cpu *watched;
static volatile sig_atomic_t ticks;
static volatile uint64_t watched_case, ticked_case;

static void on_tick(int sig)
{
    (void)sig;
    ticks = watched_case == ticked_case ? ticks + 1 : 0;
    ticked_case = watched_case;
    if (ticks == 2)
        kick_request(&watched->kick, KICK_EXIT);
    if (ticks == 4) {
        printf("  case %" PRIu64 " does not end\n", watched_case);
        fflush(stdout);
        _exit(1);
    }
}

static void watch(struct x86_cpu *cpu)
{
    const struct itimerval tick = {{1, 0}, {1, 0}};
    struct sigaction sa = {.sa_handler = on_tick,
                           .sa_flags = SA_RESTART | SA_ONSTACK};

    watched = cpu;
    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &tick, NULL);
}

static bool run_open(struct run *r, uint64_t seed, const char **why)
{
    static struct engine_part *part; /* as in a monitor: till the end */
    const struct engine_host host = {.kvm_fd = -1, .ncpus = 1};
    static char text[120];
    struct err e;

    *r = (struct run){.pattern = malloc(CORPUS_BYTES), .reports = REPORTS_MAX};
    *why = text;
    if (!bt_host_ok(text, sizeof text))
        return false;
    if (!part && bt_engine.init(&host, &part, &e)) {
        printf("bt: %s\n", e.text);
        exit(1);
    }
    corpus_pattern(r->pattern);
    r->part = part;
    r->interp = corpus_guest_open(r->pattern, why);
    r->bt = corpus_guest_open_on(&bt_engine, part, r->pattern, why);
    /* after the interpreter's, whose guests take the signals */
    if (!r->interp || !r->bt || bt_signal_init()) {
        printf("%s\n", *why);
        exit(1);
    }
    r->maker = calloc(1, sizeof *r->maker);
    corpus_maker_init(r->maker, corpus_guest_cpuid(r->interp), r->pattern,
                      seed);
    r->c = aligned_alloc(64, sizeof *r->c);
    r->job = aligned_alloc(64, sizeof *r->job);
    r->got = aligned_alloc(64, sizeof *r->got);
    watch(corpus_guest_cpu(r->bt));
    return true;
}

static void run_close(struct run *r)
{
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    corpus_guest_close(r->interp);
    corpus_guest_close(r->bt);
    free(r->maker);
    free(r->pattern);
    free(r->c);
    free(r->job);
    free(r->got);
}

/* FIP and FDP are not kept, and FOP says how the host's instruction was
 * encoded (docs/translator.md, Deviations). */
static void no_pointers(uint8_t *xs)
{
    memset(xs + FX_FOP, 0, 2);
    memset(xs + FX_FIP, 0, 16);
}

/* Whether a count may be 0, so that the flags stay. */
static bool maybe_none(const struct x86_insn *insn,
                       const struct x86_form_info *fi)
{
    const struct x86_opnd *count = &insn->opnd[insn->nopnds - 1];
    unsigned mask = insn->opnd[0].size == 8 ? 63 : 31;

    if (!(fi->attr & XA_FCOND) || count->kind == X86_OPND_ONE)
        return false;
    return count->kind != X86_OPND_IMM || (insn->imm & mask) == 0;
}

/* Flags that an instruction overwrites without reading are not kept over its
 * fault (docs/translator.md, Deviations). */
static void no_dead_flags(const struct corpus_job *job,
                          struct corpus_result *got)
{
    const struct x86_form_info *fi = x86_form_info(job->form);
    const struct corpus_result *right = &job->interp;
    uint64_t dead = (fi->fl_written | fi->fl_undef) & X86_FL_ARITH;

    if (right->end != CORPUS_FAULT || got->end != CORPUS_FAULT ||
        maybe_none(&job->insn, fi))
        return;
    dead &= ~(uint64_t)fi->fl_read;
    got->rflags = (got->rflags & ~dead) | (right->rflags & dead);
}

/* A non-canonical target of RET, JMP and CALL faults at the target, with the
 * jump done (docs/translator.md, Deviations). */
static bool jumped_away(const struct corpus_job *job,
                        const struct corpus_result *got)
{
    return x86_form_info(job->form)->cls == X86_CLS_BRANCH &&
           job->interp.end == CORPUS_FAULT &&
           job->interp.vector == X86_VEC_GP && got->end == CORPUS_DONE_FETCH &&
           got->vector == X86_VEC_GP && !x86_canonical(got->rip);
}

static void one(struct run *r, uint64_t index)
{
    const char *what;

    if (!corpus_make(r->maker, index, r->c, r->job)) {
        r->dropped++;
        return;
    }
    no_pointers(r->c->xs);
    corpus_guest_run(r->interp, r->c, &r->job->interp);
    if (r->job->interp.end == CORPUS_ODD) {
        r->dropped++;
        return;
    }
    watched_case = index;
    /* by zones, or by look-ups */
    r->part->zones_how = index >> 9 & 1 ? ENGINE_ZONES_NOW : ENGINE_ZONES_OFF;
    corpus_guest_run_on(r->bt, r->c, r->got);
    no_pointers(r->job->interp.xs);
    no_pointers(r->got->xs);
    no_dead_flags(r->job, r->got);
    r->cases++;
    r->by_form[r->job->form]++;
    r->faults += r->job->interp.end == CORPUS_FAULT;
    r->ud += r->job->ud;
    what = corpus_differ(r->job, r->c, r->got);
    if (what && jumped_away(r->job, r->got))
        what = NULL;
    if (what) {
        r->mismatches++;
        r->bad_form[r->job->form]++;
    }
    if (what ? r->reports && r->reports-- : r->verbose)
        corpus_report(what ? what : "none", "translator", r->job, r->c, r->got,
                      r->maker->seed);
}

static void print_table(const struct run *r)
{
    uint64_t least = UINT64_MAX;
    unsigned covered = 0;

    for (unsigned i = 0; i < r->maker->nforms; i++) {
        unsigned f = r->maker->form[i];

        covered += r->by_form[f] > 0;
        if (r->by_form[f] < least)
            least = r->by_form[f];
        if (r->by_form[f] == 0)
            printf("  %-20s no case\n", x86_form_info(f)->name);
        if (r->bad_form[f])
            printf("  %-20s %" PRIu64 " of %" PRIu64 " differ\n",
                   x86_form_info(f)->name, r->bad_form[f], r->by_form[f]);
    }
    printf("  forms: %u of %u, at least %" PRIu64 " cases each\n", covered,
           r->maker->nforms, least);
    printf("  cases: %" PRIu64 " (%" PRIu64 " faulted, %" PRIu64
           " not an instruction; %" PRIu64 " dropped), %" PRIu64
           " mismatches\n",
           r->cases, r->faults, r->ud, r->dropped, r->mismatches);
}

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
static int sample(uint64_t seed, uint64_t from, uint64_t count,
                  const char *form)
{
    static struct run r;
    const char *why;
    int bad;

    printf("  seed %" PRIu64 "\n", seed);
    if (!run_open(&r, seed, &why)) {
        test_skip = why;
        return -1;
    }
    if (form)
        only_form(&r, form);
    for (uint64_t i = from; i < from + count; i++)
        one(&r, i);
    print_table(&r);
    bad = r.mismatches > 0;
    if (r.part->zones && count > 1024 && !r.part->bt[0]->st.zone_maps) {
        printf("  nothing was reached by zones\n");
        bad++;
    }
    for (unsigned i = 0; i < r.maker->nforms; i++)
        bad += count >= SAMPLE_FIXED && !r.by_form[r.maker->form[i]];
    run_close(&r);
    return bad;
}

TEST(forms_fixed_seed)
{
    CHECK(sample(1, 0, SAMPLE_FIXED, NULL) <= 0);
}

TEST(forms_random_seed)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    CHECK(sample((uint64_t)ts.tv_sec ^ (uint64_t)ts.tv_nsec << 20, 0,
                 SAMPLE_RANDOM, NULL) <= 0);
}

/* With what ran before it: a case may depend on what it left translated. */
static int one_case(uint64_t seed, uint64_t index, const char *form)
{
    static struct run r;
    const char *why;

    if (!run_open(&r, seed, &why)) {
        printf("skip: %s\n", why);
        return 0;
    }
    if (form)
        only_form(&r, form);
    r.verbose = true;
    one(&r, index);
    if (!r.mismatches) {
        printf("  alone it does not differ; after those before it:\n");
        r.verbose = false;
        for (uint64_t i = index > HISTORY ? index - HISTORY : 0; i <= index;
             i++)
            one(&r, i);
    }
    run_close(&r);
    return r.mismatches > 0;
}

static int soak(int argc, char **argv)
{
    uint64_t seed = 1, count = SAMPLE_FIXED, from = 0;
    const char *form = NULL;
    bool alone = false;
    int bad;

    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t v = strtoull(argv[i + 1], NULL, 0);
        if (!strcmp(argv[i], "--seed"))
            seed = v;
        else if (!strcmp(argv[i], "--count"))
            count = v;
        else if (!strcmp(argv[i], "--from"))
            from = v;
        else if (!strcmp(argv[i], "--case"))
            count = v, alone = true;
        else if (!strcmp(argv[i], "--form"))
            form = argv[i + 1];
    }
    if (alone)
        return one_case(seed, count, form);
    bad = sample(seed, from, count, form);
    if (bad < 0)
        printf("skip forms: %s\n", test_skip);
    else
        printf("%s forms\n", bad ? "FAIL" : "ok");
    return bad > 0;
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {CASE(forms_fixed_seed),
                                             CASE(forms_random_seed)};

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && !strncmp(argv[1], "--", 2))
        return soak(argc, argv);
    return test_main(argc, argv, cases, ARRAY_LEN(cases));
}
