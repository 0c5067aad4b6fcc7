// SPDX-License-Identifier: Apache-2.0
/*
 * Random programs, translator against interpreter: tests/bt/README.md.
 *
 *   blocks_test                             a sample, fixed and random seeds
 *   blocks_test --count N [--seed S] [--jobs J] [--resume FILE]
 *   blocks_test --seed S --one              one program; if it differs, made
 *                                           small and printed with both states
 *   ... --history K                         after the K programs before it
 *   ... --here                              in this process, for a debugger
 */
#include "base/test.h"
#include "cpu/x86/paging.h"
#include "engine/bt/bt.h"
#include "engine/bt/zone_priv.h"
#include "engine/interp/interp.h"
#include "tests/bt/blocks.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_FIXED  15000
#define SAMPLE_RANDOM 5000
#define BUDGET        3000U
#define EXITS_MAX     12U
#define STUCK         3 /* status of a process whose program does not stop */
#define SOAK_PIECE    32768U
#define VM_PROGRAMS   4096U /* then new VMs */
#define REPORTS_MAX   3U

enum verdict {
    SAME,
    DIFFERS,
    NO_PROGRAM /* too long, or a known deviation */
};

/* What the processes that run programs tell the one that reports. */
struct shared {
    uint64_t seed;  /* that runs */
    uint64_t first; /* of these VMs */
    uint64_t programs, exits, faults, none, differ;
    uint64_t new_flags;             /* programs whose new code looks at flags */
    uint64_t zone_maps, zone_fails; /* of VMs that are gone */
};

struct harness {
    struct engine_part *part;
    bool adx;             /* what it found of the host */
    struct blk_vm *a, *b; /* interpreter, translator */
    bool scatter;
    struct blk_forms forms;
    struct blk_prog prog;
    struct shared *sh;
    /* where it differed */
    const char *what;
    char text[160];
    unsigned run, exit;
    uint64_t from; /* rip where the last leg began */
    struct blk_exit xa, xb;
    bool verbose;
};

/* ---- programs that do not end ---- */

static struct x86_cpu *watched[2];
static volatile uint64_t watched_leg, ticked_leg;
static volatile sig_atomic_t ticks;

static void on_tick(int sig)
{
    (void)sig;
    ticks = watched_leg == ticked_leg ? ticks + 1 : 0;
    ticked_leg = watched_leg;
    for (unsigned i = 0; ticks == 2 && i < 2; i++)
        if (watched[i])
            kick_request(&watched[i]->kick, KICK_EXIT);
    if (ticks == 4) /* it does not look at requests: a finding, too */
        _exit(STUCK);
}

static void watch(void)
{
    const struct itimerval tick = {{0, 500000}, {0, 500000}};
    struct sigaction sa = {.sa_handler = on_tick,
                           .sa_flags = SA_RESTART | SA_ONSTACK};

    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &tick, NULL);
}

/* ---- two VMs ---- */

static void open_vms(struct harness *h)
{
    h->a = blk_vm_open(&interp_engine, NULL, true);
    h->b = blk_vm_open(&bt_engine, h->part, h->scatter);
    if (bt_signal_init()) /* the interpreter alone has taken them */
        exit(1);
    watched[0] = blk_vm_cpu(h->a);
    watched[1] = blk_vm_cpu(h->b);
}

static void count_zones(struct harness *h)
{
    const struct bt_stats *st = &h->part->bt[0]->st;

    h->sh->zone_maps += st->zone_maps;
    h->sh->zone_fails += st->zone_fails;
}

static void close_vms(struct harness *h)
{
    watched[0] = watched[1] = NULL;
    count_zones(h);
    blk_vm_close(h->a);
    blk_vm_close(h->b);
}

/* Half of the programs run by zones, most of these with a user's at once and
 * without an instruction that gets its look-ups back; half in memory that lies
 * anywhere. Which is a matter of the seed. */
static void zones_for(struct harness *h, uint64_t seed)
{
    bool scatter = seed >> 9 & 1;
    struct zones *z = h->part->zones;

    if (scatter != h->scatter) {
        close_vms(h);
        h->scatter = scatter;
        open_vms(h);
    }
    h->part->zones_how = seed % 4 ? ENGINE_ZONES_NOW : ENGINE_ZONES_AUTO;
    if (z && seed % 64 == 0)
        memset(z->pin, 0, sizeof z->pin);
}

/* Code memory is shared with a process's children: each has its own. */
static void open_part(struct harness *h)
{
    const struct engine_host host = {.kvm_fd = -1, .ncpus = 1};
    struct err e;

    if (bt_engine.init(&host, &h->part, &e)) {
        printf("bt: %s\n", e.text);
        exit(1);
    }
    h->adx = h->part->adx;
}

/* Return: false: this host cannot. VMs are opened by processes of their own,
 * so that one that dies is a finding like others. */
static bool open_harness(struct harness *h)
{
    struct blk_vm *v;
    char why[120];

    memset(h, 0, sizeof *h);
    if (!bt_host_ok(why, sizeof why))
        return false;
    h->sh = mmap(NULL, sizeof *h->sh, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    v = blk_vm_open(&interp_engine, NULL, true);
    blk_forms_init(&h->forms, blk_vm_cpuid(v));
    blk_vm_close(v);
    return h->sh != MAP_FAILED;
}

/* Run @fn in a process. Return: its status, or minus the signal. */
static int in_child(struct harness *h, int (*fn)(struct harness *, uint64_t),
                    uint64_t arg)
{
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        open_part(h);
        open_vms(h);
        watch();
        status = fn(h, arg);
        fflush(stdout);
        _exit(status);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        exit(1);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- one program ---- */

/* Where to go on after an exit. Return: 0: the run is over. */
static uint64_t next_rip(const struct harness *h, const struct blk_exit *x)
{
    const struct blk_prog *p = &h->prog;
    uint8_t b[16];
    struct x86_insn i;

    if (x->end == BLK_END_HLT)
        return x->rip == p->item[p->end].addr + 1 ? 0 : x->rip;
    if (x->end != BLK_END_FAULT || x->rip == p->item[p->end].addr ||
        (x->cs != 0x10 && x->cs != 0x33) || !x->ss)
        return 0;
    switch (x->vector) {
    case X86_VEC_BP:
    case X86_VEC_OF:
    case X86_VEC_DB:
    case 0x80:
        return x->rip;
    default:
        break;
    }
    memset(b, 0xcc, sizeof b);
    if (x->rip - blk_code(p) >= BLK_CODE_BYTES ||
        !blk_vm_fetch(h->a, x->rip, b, 15))
        return 0;
    if (x86_decode(b, 15, X86_MODE_64, &i) != X86_DEC_OK)
        i.len = i.len ? i.len : 1;
    return x->rip + i.len;
}

/* A jump to a non-canonical address faults there, not where it is. */
static bool jumped_away(const struct harness *h)
{
    return h->xa.end == BLK_END_FAULT && h->xb.end == BLK_END_FAULT &&
           h->xa.vector == h->xb.vector && h->xa.rip != h->xb.rip &&
           !x86_canonical(h->xb.rip);
}

/* Behind a #UD there may be an RDTSC; a store may have made one. */
static bool code_tells_time(const struct harness *h)
{
    uint64_t n = h->xa.rip - h->from;
    uint8_t b[256];

    if (n > sizeof b || !blk_vm_fetch(h->a, h->from, b, (unsigned)n))
        return false;
    for (unsigned i = 0; i + 1 < n; i++)
        if (b[i] == 0x0f && b[i + 1] == 0x31)
            return true;
    return false;
}

static enum verdict leg(struct harness *h)
{
    watched_leg++;
    blk_vm_run(h->a, BUDGET, &h->xa);
    if (h->xa.end == BLK_END_BUDGET)
        return NO_PROGRAM;
    if (h->xa.end == BLK_END_LOST) { /* a fault in its own handler, for ever */
        kick_clear(&blk_vm_cpu(h->a)->kick, KICK_EXIT);
        kick_clear(&blk_vm_cpu(h->b)->kick, KICK_EXIT);
        return NO_PROGRAM;
    }
    watched_leg++;
    blk_vm_run(h->b, 0, &h->xb);
    h->sh->exits++;
    h->sh->faults += h->xa.end == BLK_END_FAULT;
    if (h->verbose && blk_vm_code_changed(h->a, &h->prog)) {
        printf("  its code has changed; from %" PRIx64 " on now:\n", h->from);
        blk_print_code(h->a, h->from, 6);
    }
    if (h->verbose)
        printf("  run %u exit %u: from %" PRIx64 " to %" PRIx64
               " vector %u error %x cr2 %" PRIx64 "\n",
               h->run, h->exit, h->from, h->xa.rip, h->xa.vector, h->xa.error,
               blk_vm_cpu(h->a)->cr2);
    h->what = blk_differ(h->a, h->b, &h->xa, &h->xb, h->text, sizeof h->text);
    if (h->what &&
        (jumped_away(h) || code_tells_time(h) || blk_vm_tables_changed(h->a)))
        return NO_PROGRAM;
    return h->what ? DIFFERS : SAME;
}

static enum verdict one_run(struct harness *h)
{
    const struct blk_prog *p = &h->prog;

    blk_vm_state(h->a, p, h->run);
    blk_vm_state(h->b, p, h->run);
    h->from = p->item[0].addr;
    for (h->exit = 0; h->exit < EXITS_MAX; h->exit++) {
        enum verdict v = leg(h);
        uint64_t rip;

        if (v != SAME)
            return v;
        rip = next_rip(h, &h->xa);
        if (!rip)
            break;
        /* the same flags: the dead ones may differ */
        blk_vm_resume(h->a, &h->xa, rip, h->xa.rflags);
        blk_vm_resume(h->b, &h->xa, rip, h->xa.rflags);
        h->from = rip;
    }
    h->what = blk_differ_memory(h->a, h->b, h->text, sizeof h->text);
    /* code that became junk may save the x87's pointers: a deviation */
    if (h->what &&
        (blk_vm_code_changed(h->a, p) || blk_vm_tables_changed(h->a)))
        return NO_PROGRAM;
    return h->what ? DIFFERS : SAME;
}

static enum verdict all_runs(struct harness *h)
{
    enum verdict v = SAME;

    blk_vm_load(h->a, &h->prog);
    blk_vm_load(h->b, &h->prog);
    for (h->run = 0; h->run < h->prog.runs && v == SAME; h->run++)
        v = one_run(h);
    return v;
}

/* Again, translated so that no flags are lost. */
static enum verdict second_opinion(struct harness *h)
{
    enum verdict v;

    blk_vm_clean(h->a, true);
    blk_vm_clean(h->b, true);
    h->part->flags_all = true;
    v = all_runs(h);
    h->part->flags_all = false;
    return v;
}

/* Run h->prog, which is assembled. A store into code right behind it may have
 * the new code look at flags that were dead in the old one. */
static enum verdict run_prog(struct harness *h)
{
    enum verdict v;

    zones_for(h, h->prog.seed);
    v = all_runs(h);
    if (v == DIFFERS && blk_vm_code_changed(h->a, &h->prog) &&
        second_opinion(h) != DIFFERS) {
        h->sh->new_flags++;
        v = NO_PROGRAM;
    } else if (v == DIFFERS) {
        return v;
    }
    blk_vm_clean(h->a, v != SAME);
    blk_vm_clean(h->b, v != SAME);
    return v;
}

static enum verdict run_seed(struct harness *h, uint64_t seed)
{
    h->part->adx = h->adx && seed % 8; /* the other forms, too */
    blk_make(&h->forms, seed, &h->prog);
    return blk_assemble(&h->prog) ? run_prog(h) : NO_PROGRAM;
}

/* ---- making a program small ---- */

/* h->prog, after the @history programs before it; prints. */
static int show(struct harness *h, uint64_t history)
{
    struct blk_prog keep = h->prog;

    for (uint64_t k = history; k; k--)
        run_seed(h, keep.seed - k);
    h->prog = keep;
    h->verbose = true;
    if (run_prog(h) != DIFFERS)
        return 0;
    printf("  made small: %s (%s), run %u exit %u, from %" PRIx64 "\n", h->what,
           h->text, h->run, h->exit, h->from);
    blk_print(&h->prog);
    blk_print_states(h->a, h->b, &h->xa, &h->xb);
    return 1;
}

static int quietly(struct harness *h, uint64_t history)
{
    struct blk_prog keep = h->prog;

    for (uint64_t k = history; k; k--)
        run_seed(h, keep.seed - k);
    h->prog = keep;
    return run_prog(h) == DIFFERS;
}

/* Whether h->prog still differs, or dies. */
static bool still(struct harness *h, unsigned history)
{
    return blk_assemble(&h->prog) && in_child(h, quietly, history) != 0;
}

static bool drop(struct harness *h, unsigned at, unsigned n, unsigned history)
{
    bool was[BLK_ITEMS], any = false;

    for (unsigned i = 0; i < h->prog.n; i++)
        was[i] = h->prog.item[i].drop;
    for (unsigned i = at; i < at + n && i < h->prog.n; i++)
        if (!h->prog.item[i].drop && !h->prog.item[i].always)
            h->prog.item[i].drop = any = true;
    if (any && still(h, history))
        return true;
    for (unsigned i = 0; i < h->prog.n; i++)
        h->prog.item[i].drop = was[i];
    return false;
}

static void smaller(struct harness *h, unsigned history)
{
    bool again = true;

    for (unsigned runs = 1, was = h->prog.runs; runs < was; runs++) {
        h->prog.runs = runs;
        if (still(h, history))
            break;
        h->prog.runs = was;
    }
    for (unsigned pass = 0; again && pass < 4; pass++) {
        again = false;
        for (unsigned n = 32; n; n /= 2)
            for (unsigned i = 0; i < h->prog.n; i += n)
                again |= drop(h, i, n, history);
    }
    for (unsigned i = 0; i < h->prog.n; i++) /* what was kept for its loop */
        h->prog.item[i].always = i == h->prog.end;
    for (unsigned i = h->prog.n; i-- > 0;)
        drop(h, i, 1, history);
}

/* How many programs before it a program needs to differ. Return: -1: it does
 * not do so again. */
static int needed_history(struct harness *h, unsigned max)
{
    for (unsigned k = 0;; k = k ? k * 4 : 1) {
        if (k > max)
            k = max;
        if (still(h, k))
            return (int)k;
        if (k == max)
            return -1;
    }
}

/* The program of @seed differs after at most @max before it. */
static void report(struct harness *h, uint64_t seed, unsigned max)
{
    struct shared keep = *h->sh;
    int history, how;

    blk_make(&h->forms, seed, &h->prog);
    history = needed_history(h, max);
    if (history < 0) {
        printf("  seed %" PRIu64 " does not differ again\n", seed);
        return;
    }
    printf("  MISMATCH; again with: --seed %" PRIu64 " --one", seed);
    if (history)
        printf(" --history %d", history);
    printf("\n");
    smaller(h, (unsigned)history);
    blk_assemble(&h->prog);
    how = in_child(h, show, (uint64_t)history);
    if (how != 1) {
        printf("  made small: it %s %d\n",
               how < 0        ? "dies of signal"
               : how == STUCK ? "does not stop: status"
                              : "differs no more: status",
               how < 0 ? -how : how);
        blk_print(&h->prog);
    }
    *h->sh = keep;
}

/* ---- many programs ---- */

/* Programs of seeds [sh->seed, end). Return: 1: that of sh->seed differs. */
static int run_range(struct harness *h, uint64_t end)
{
    struct shared *sh = h->sh;

    for (sh->first = sh->seed; sh->seed < end; sh->seed++) {
        if (sh->seed - sh->first == VM_PROGRAMS) {
            close_vms(h);
            open_vms(h);
            sh->first = sh->seed;
        }
        sh->programs++;
        switch (run_seed(h, sh->seed)) {
        case SAME:
            break;
        case NO_PROGRAM:
            sh->none++;
            break;
        case DIFFERS:
            return 1;
        }
    }
    count_zones(h);
    return 0;
}

/* Seeds [from, end); stops after REPORTS_MAX differences. */
static void run_all(struct harness *h, uint64_t from, uint64_t end)
{
    struct shared *sh = h->sh;

    sh->seed = from;
    while (sh->seed < end && sh->differ < REPORTS_MAX) {
        if (!in_child(h, run_range, end))
            break;
        sh->differ++;
        report(h, sh->seed, (unsigned)(sh->seed - sh->first));
        sh->seed++;
    }
}

/* More than a deviation that needs a store right ahead would be. */
static bool many_new_flags(const struct shared *sh)
{
    return sh->new_flags > 1 + sh->programs / 20000;
}

static void totals(const struct shared *sh)
{
    printf("  programs: %" PRIu64 " (%" PRIu64 " dropped), %" PRIu64
           " exits, %" PRIu64 " of them faults; %" PRIu64 " mismatches\n",
           sh->programs, sh->none, sh->exits, sh->faults, sh->differ);
    if (sh->new_flags)
        printf("  flags that changed code reads: in %" PRIu64 " of them\n",
               sh->new_flags);
    if (sh->zone_maps)
        printf("  zones: %" PRIu64 " mapped, %" PRIu64 " faults were not\n",
               sh->zone_maps, sh->zone_fails);
}

static uint64_t sample(uint64_t seed, uint64_t count)
{
    static struct harness h;

    printf("  from seed %" PRIu64 "\n", seed);
    if (!open_harness(&h)) {
        test_skip = "this host cannot run translated code";
        return 0;
    }
    run_all(&h, seed, seed + count);
    totals(h.sh);
    CHECK(h.sh->exits > count || h.sh->differ);
    CHECK(h.sh->zone_maps > count / 8 || h.sh->differ);
    CHECK(!many_new_flags(h.sh));
    return h.sh->differ;
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

static void progress_load(const char *file, unsigned job, struct shared *sh)
{
    char name[256];
    FILE *f;

    file_name(name, sizeof name, file, job);
    f = fopen(name, "r");
    if (!f)
        return;
    if (fscanf(f,
               "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64 " %" SCNu64,
               &sh->seed, &sh->programs, &sh->none, &sh->exits, &sh->faults,
               &sh->differ, &sh->new_flags) != 7)
        memset(sh, 0, sizeof *sh);
    fclose(f);
}

static void progress_save(const char *file, unsigned job,
                          const struct shared *sh)
{
    char name[256], tmp[264];
    FILE *f;

    file_name(name, sizeof name, file, job);
    snprintf(tmp, sizeof tmp, "%s.tmp", name);
    f = fopen(tmp, "w");
    if (!f)
        return;
    fprintf(f,
            "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
            " %" PRIu64 " %" PRIu64 "\n",
            sh->seed, sh->programs, sh->none, sh->exits, sh->faults, sh->differ,
            sh->new_flags);
    fclose(f);
    rename(tmp, name);
}

/* One of several processes: seeds [from, end), in pieces. */
static int worker(const char *file, unsigned job, uint64_t from, uint64_t end,
                  struct shared *sum)
{
    static struct harness h;
    struct shared *sh;

    if (!open_harness(&h))
        return 2;
    sh = h.sh;
    if (file)
        progress_load(file, job, sh);
    if (sh->seed < from || sh->seed > end) {
        memset(sh, 0, sizeof *sh);
        sh->seed = from;
    }
    while (sh->seed < end && sh->differ < REPORTS_MAX) {
        uint64_t to = sh->seed + SOAK_PIECE;

        run_all(&h, sh->seed, to < end ? to : end);
        if (file)
            progress_save(file, job, sh);
    }
    *sum = *sh;
    return sh->differ > 0;
}

static int soak(const char *file, unsigned jobs, uint64_t seed, uint64_t count)
{
    struct shared *sum, all = {0};
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
    for (unsigned j = 0; j < jobs; j++) {
        all.programs += sum[j].programs;
        all.none += sum[j].none;
        all.exits += sum[j].exits;
        all.faults += sum[j].faults;
        all.differ += sum[j].differ;
        all.new_flags += sum[j].new_flags;
        all.zone_maps += sum[j].zone_maps;
        all.zone_fails += sum[j].zone_fails;
    }
    totals(&all);
    return bad || many_new_flags(&all);
}

static int verbosely(struct harness *h, uint64_t arg)
{
    (void)arg;
    h->verbose = true;
    printf("%s\n",
           run_prog(h) == SAME ? "ok, no difference" : "dropped: too long");
    return 0;
}

static int one(uint64_t seed, unsigned history)
{
    static struct harness h;

    if (!open_harness(&h)) {
        printf("skip: this host cannot run translated code\n");
        return 0;
    }
    blk_make(&h.forms, seed, &h.prog);
    if (!blk_assemble(&h.prog)) {
        printf("  this seed gives no program\n");
        return 0;
    }
    if (still(&h, history)) {
        report(&h, seed, history);
        return 1;
    }
    blk_print(&h.prog);
    in_child(&h, verbosely, 0);
    return 0;
}

/* The program as it is, in this process. */
static int in_debugger(uint64_t seed, unsigned history)
{
    static struct harness h;

    if (!open_harness(&h))
        return 0;
    open_part(&h);
    open_vms(&h);
    watch();
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
