// SPDX-License-Identifier: Apache-2.0
/*
 * Random programs, translator against interpreter: tests/bt/README.md.
 *
 *   blocks_test                             a sample, fixed and random seeds
 *   blocks_test --count N [--seed S] [--jobs J] [--resume FILE]
 *   blocks_test --seed S --one              one program; if it differs, made
 *                                           small and printed with both states;
 *                                           if that is excused: why
 *   ... --history K                         after the K programs before it
 *   ... --here                              in this process, for a debugger
 */
#include "base/test.h"
#include "tests/bt/blocks_run.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_FIXED  15000
#define SAMPLE_RANDOM 5000
#define SOAK_PIECE    32768U
#define VM_PROGRAMS   4096U /* then new VMs */
#define REPORTS_MAX   3U

/* ---- many programs ---- */

/* Programs of seeds [sh->seed, end). Return: 1: that of sh->seed differs. */
static int run_range(struct blk_harness *h, uint64_t end)
{
    struct blk_shared *sh = h->sh;

    for (sh->first = sh->seed; sh->seed < end; sh->seed++) {
        if (sh->seed - sh->first == VM_PROGRAMS) {
            blk_renew(h);
            sh->first = sh->seed;
        }
        sh->n[BLK_PROGRAMS]++;
        if (blk_run_seed(h, sh->seed) == BLK_DIFFERS)
            return 1;
    }
    blk_count_zones(h);
    return 0;
}

/* Seeds [from, end); stops after REPORTS_MAX differences. */
static void run_all(struct blk_harness *h, uint64_t from, uint64_t end)
{
    struct blk_shared *sh = h->sh;

    sh->seed = from;
    while (sh->seed < end && sh->n[BLK_MISMATCHES] < REPORTS_MAX) {
        if (!blk_in_child(h, run_range, end))
            break;
        sh->n[BLK_MISMATCHES]++;
        blk_report(h, sh->seed, (unsigned)(sh->seed - sh->first));
        sh->seed++;
    }
}

static void totals(const struct blk_shared *sh)
{
    uint64_t excused = 0;

    for (unsigned i = 0; i < BLK_EXCUSES; i++)
        excused += sh->n[BLK_EXCUSED_BY + i];
    printf("  programs: %" PRIu64 " (%" PRIu64 " dropped, %" PRIu64
           " excused), %" PRIu64 " exits, %" PRIu64 " of them faults; %" PRIu64
           " mismatches\n",
           sh->n[BLK_PROGRAMS], sh->n[BLK_NONE], excused, sh->n[BLK_EXITS],
           sh->n[BLK_FAULTS], sh->n[BLK_MISMATCHES]);
    printf("  excused:");
    for (unsigned i = 0; i < BLK_EXCUSES; i++)
        printf("%s %s %" PRIu64, i ? "," : "", blk_excuse_name[i],
               sh->n[BLK_EXCUSED_BY + i]);
    printf("%s\n", blk_too_many(sh) ? ": TOO MANY" : "");
    if (sh->n[BLK_ZONE_MAPS])
        printf("  zones: %" PRIu64 " mapped, %" PRIu64 " faults were not\n",
               sh->n[BLK_ZONE_MAPS], sh->n[BLK_ZONE_FAILS]);
    printf("  copies: %" PRIu64 "\n", sh->n[BLK_COPIES]);
}

static uint64_t sample(uint64_t seed, uint64_t count)
{
    static struct blk_harness h;

    printf("  from seed %" PRIu64 "\n", seed);
    if (!blk_harness_open(&h)) {
        test_skip = "this host cannot run translated code";
        return 0;
    }
    run_all(&h, seed, seed + count);
    totals(h.sh);
    if (h.sh->n[BLK_MISMATCHES])
        return h.sh->n[BLK_MISMATCHES];
    CHECK(h.sh->n[BLK_EXITS] > count);
    CHECK(h.sh->n[BLK_ZONE_MAPS] > count / 8);
    CHECK(h.sh->n[BLK_COPIES] > count / 8);
    CHECK(!blk_too_many(h.sh));
    return 0;
}

TEST(blocks_fixed_seeds)
{
    CHECK_EQ(sample(1, SAMPLE_FIXED), 0);
}

TEST(blocks_random_seeds)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    CHECK_EQ(sample((uint64_t)ts.tv_sec << 20, SAMPLE_RANDOM), 0);
}

/* ---- the soak ---- */

static void file_name(char *name, size_t n, const char *file, unsigned job)
{
    snprintf(name, n, "%s.%u", file, job);
}

static void progress_load(const char *file, unsigned job, struct blk_shared *sh)
{
    char name[256];
    bool good;
    FILE *f;

    file_name(name, sizeof name, file, job);
    f = fopen(name, "r");
    if (!f)
        return;
    good = fscanf(f, "%" SCNu64, &sh->seed) == 1;
    for (unsigned i = 0; i < BLK_KEPT; i++)
        good = good && fscanf(f, "%" SCNu64, &sh->n[i]) == 1;
    if (!good)
        memset(sh, 0, sizeof *sh);
    fclose(f);
}

static void progress_save(const char *file, unsigned job,
                          const struct blk_shared *sh)
{
    char name[256], tmp[264];
    FILE *f;

    file_name(name, sizeof name, file, job);
    snprintf(tmp, sizeof tmp, "%s.tmp", name);
    f = fopen(tmp, "w");
    if (!f)
        return;
    fprintf(f, "%" PRIu64, sh->seed);
    for (unsigned i = 0; i < BLK_KEPT; i++)
        fprintf(f, " %" PRIu64, sh->n[i]);
    fprintf(f, "\n");
    fclose(f);
    rename(tmp, name);
}

/* One of several processes: seeds [from, end), in pieces. */
static int worker(const char *file, unsigned job, uint64_t from, uint64_t end,
                  struct blk_shared *sum)
{
    static struct blk_harness h;
    struct blk_shared *sh;

    if (!blk_harness_open(&h))
        return 2;
    sh = h.sh;
    if (file)
        progress_load(file, job, sh);
    if (sh->seed < from || sh->seed > end) {
        memset(sh, 0, sizeof *sh);
        sh->seed = from;
    }
    while (sh->seed < end && sh->n[BLK_MISMATCHES] < REPORTS_MAX) {
        uint64_t to = sh->seed + SOAK_PIECE;

        run_all(&h, sh->seed, to < end ? to : end);
        if (file)
            progress_save(file, job, sh);
    }
    *sum = *sh;
    return sh->n[BLK_MISMATCHES] > 0;
}

static int soak(const char *file, unsigned jobs, uint64_t seed, uint64_t count)
{
    struct blk_shared *sum, all = {0};
    int bad = 0, status;

    sum = mmap(NULL, jobs * sizeof *sum, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sum == MAP_FAILED)
        return 1;
    for (unsigned j = 0; j < jobs; j++) {
        pid_t pid = fork();

        if (pid == 0)
            exit(worker(file, j, seed + count / jobs * j,
                        j + 1 == jobs ? seed + count
                                      : seed + count / jobs * (j + 1),
                        &sum[j]));
        if (pid < 0)
            return 1;
    }
    while (wait(&status) > 0)
        bad |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    for (unsigned j = 0; j < jobs; j++)
        for (unsigned i = 0; i < BLK_COUNTS; i++)
            all.n[i] += sum[j].n[i];
    totals(&all);
    return bad || blk_too_many(&all);
}

static int verbosely(struct blk_harness *h, uint64_t arg)
{
    static const char *const said[] = {[BLK_SAME] = "ok, no difference",
                                       [BLK_DIFFERS] = "differs",
                                       [BLK_DROPPED] = "dropped: too long",
                                       [BLK_EXCUSED] = "excused"};

    (void)arg;
    h->verbose = true;
    printf("%s\n", said[blk_run(h)]);
    return 0;
}

static int one(uint64_t seed, unsigned history)
{
    static struct blk_harness h;

    if (!blk_harness_open(&h)) {
        printf("skip: this host cannot run translated code\n");
        return 0;
    }
    blk_make(&h.forms, seed, &h.prog);
    if (!blk_assemble(&h.prog)) {
        printf("  this seed gives no program\n");
        return 0;
    }
    if (blk_still(&h, history)) {
        blk_report(&h, seed, history);
        return 1;
    }
    blk_print(&h.prog);
    blk_in_child(&h, verbosely, 0);
    return 0;
}

/* The program as it is, in this process. */
static int in_debugger(uint64_t seed, unsigned history)
{
    static struct blk_harness h;

    if (!blk_harness_open(&h))
        return 0;
    blk_begin(&h);
    h.sh->seed = seed - history;
    return run_range(&h, seed + 1);
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {CASE(blocks_fixed_seeds),
                                             CASE(blocks_random_seeds)};
    uint64_t seed = 1, count = SAMPLE_FIXED;
    unsigned jobs = 1, history = 0;
    const char *file = NULL;
    bool alone = false, here = false;
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
        else if (!strcmp(argv[i], "--history"))
            history = (unsigned)strtoul(v, NULL, 0);
        else if (!strcmp(argv[i], "--resume"))
            file = v;
        else if (!strcmp(argv[i], "--one"))
            alone = true;
        else if (!strcmp(argv[i], "--here"))
            here = true;
    }
    if (here)
        return in_debugger(seed, history);
    if (alone)
        return one(seed, history);
    bad = soak(file, jobs, seed, count);
    printf("%s blocks\n", bad ? "FAIL" : "ok");
    return bad;
}
