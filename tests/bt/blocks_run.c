// SPDX-License-Identifier: Apache-2.0
/*
 * One program by both engines: VMs in a process of their own with a watchdog,
 * legs from exit to exit, each compared.
 */
#include "tests/bt/blocks_run.h"

#include "engine/bt/bt.h"
#include "engine/bt/zone_priv.h"
#include "engine/interp/interp.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXITS_MAX 12U

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
        _exit(BLK_STUCK);
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

static void open_vms(struct blk_harness *h)
{
    h->a = blk_vm_open(&interp_engine, NULL, true);
    h->b = blk_vm_open(&bt_engine, h->part, h->scatter);
    if (bt_signal_init()) /* the interpreter alone has taken them */
        exit(1);
    watched[0] = blk_vm_cpu(h->a);
    watched[1] = blk_vm_cpu(h->b);
}

void blk_count_zones(struct blk_harness *h)
{
    const struct bt_stats *st = &h->part->bt[0]->st;

    h->sh->n[BLK_ZONE_MAPS] += st->zone_maps;
    h->sh->n[BLK_ZONE_FAILS] += st->zone_fails;
    h->sh->n[BLK_COPIES] += st->copies;
}

void blk_renew(struct blk_harness *h)
{
    watched[0] = watched[1] = NULL;
    blk_count_zones(h);
    blk_vm_close(h->a);
    blk_vm_close(h->b);
    open_vms(h);
}

/* Half of the programs run by zones, most of these with a user's at once and
 * without an instruction that gets its look-ups back; half in memory that lies
 * anywhere. Which is a matter of the seed. */
static void zones_for(struct blk_harness *h, uint64_t seed)
{
    bool scatter = seed >> 9 & 1;
    struct zones *z = h->part->zones;

    if (scatter != h->scatter) {
        h->scatter = scatter;
        blk_renew(h);
    }
    h->part->zones_how = seed % 4 ? ENGINE_ZONES_NOW : ENGINE_ZONES_AUTO;
    if (z && seed % 64 == 0)
        memset(z->pin, 0, sizeof z->pin);
}

/* Code memory is shared with a process's children: each has its own. */
void blk_begin(struct blk_harness *h)
{
    const struct engine_host host = {.kvm_fd = -1, .ncpus = 1};
    struct err e;

    if (bt_engine.init(&host, &h->part, &e)) {
        printf("bt: %s\n", e.text);
        exit(1);
    }
    h->adx = h->part->adx;
    open_vms(h);
    watch();
}

bool blk_harness_open(struct blk_harness *h)
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

int blk_in_child(struct blk_harness *h,
                 int (*fn)(struct blk_harness *, uint64_t), uint64_t arg)
{
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        blk_begin(h);
        status = fn(h, arg);
        fflush(stdout);
        _exit(status);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        exit(1);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- one program ---- */

/* Three quarters of the user's programs run at other addresses, so that what
 * was translated for a run is copied for the next. */
static uint64_t alias(const struct blk_prog *p, unsigned run)
{
    if (p->kernel || p->seed % 4 == 0)
        return 0;
    return blk_alias(1 + (unsigned)(p->seed / 4 + run) % (BLK_ALIASES - 1));
}

/* Where to go on after an exit. Return: 0: the run is over. */
static uint64_t next_rip(const struct blk_harness *h, const struct blk_exit *x)
{
    const struct blk_prog *p = &h->prog;
    uint64_t rip = blk_at_home(x->rip);
    uint8_t b[16];
    struct x86_insn i;

    if (x->end == BLK_END_HLT)
        return rip == p->item[p->end].addr + 1 ? 0 : x->rip;
    if (x->end != BLK_END_FAULT || rip == p->item[p->end].addr ||
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
    memset(b, BLK_FILL, sizeof b);
    if (rip - blk_code(p) >= BLK_CODE_BYTES ||
        !blk_vm_fetch(h->a, x->rip, b, 15))
        return 0;
    if (x86_decode(b, 15, X86_MODE_64, &i) != X86_DEC_OK)
        i.len = i.len ? i.len : 1;
    return x->rip + i.len;
}

static void say_leg(const struct blk_harness *h)
{
    if (blk_vm_code_changed(h->a, &h->prog)) {
        printf("  its code has changed; from %" PRIx64 " on now:\n", h->from);
        blk_print_code(h->a, h->from, 6);
    }
    printf("  run %u exit %u: from %" PRIx64 " to %" PRIx64
           " vector %u error %x cr2 %" PRIx64 "\n",
           h->run, h->exit, h->from, h->xa.rip, h->xa.vector, h->xa.error,
           blk_vm_cpu(h->a)->cr2);
}

/* What is excused at sight: see enum blk_excuse. */
static enum blk_verdict judge(struct blk_harness *h, bool jump)
{
    if (!h->what)
        return BLK_SAME;
    if (!jump && !blk_vm_tables_changed(h->a))
        return BLK_DIFFERS;
    h->excuse = jump ? BLK_JUMP : BLK_TABLES;
    return BLK_EXCUSED;
}

static enum blk_verdict leg(struct blk_harness *h)
{
    watched_leg++;
    if (h->observe)
        blk_run_observed(h);
    else
        blk_vm_run(h->a, BLK_BUDGET, &h->xa);
    if (h->xa.end == BLK_END_BUDGET)
        return BLK_DROPPED;
    if (h->xa.end == BLK_END_LOST) { /* a fault in its own handler, for ever */
        kick_clear(&blk_vm_cpu(h->a)->kick, KICK_EXIT);
        kick_clear(&blk_vm_cpu(h->b)->kick, KICK_EXIT);
        return BLK_DROPPED;
    }
    watched_leg++;
    blk_vm_run(h->b, 0, &h->xb);
    h->sh->n[BLK_EXITS]++;
    h->sh->n[BLK_FAULTS] += h->xa.end == BLK_END_FAULT;
    if (h->verbose)
        say_leg(h);
    h->what = blk_differ(h->a, h->b, &h->xa, &h->xb, h->text, sizeof h->text);
    return judge(h, blk_jumped_away(h));
}

static enum blk_verdict one_run(struct blk_harness *h)
{
    const struct blk_prog *p = &h->prog;

    blk_vm_state(h->a, p, h->run);
    blk_vm_state(h->b, p, h->run);
    h->from = p->item[0].addr + alias(p, h->run);
    blk_vm_cpu(h->a)->rip = blk_vm_cpu(h->b)->rip = h->from;
    for (h->exit = 0; h->exit < EXITS_MAX; h->exit++) {
        enum blk_verdict v = leg(h);
        uint64_t rip;

        if (v != BLK_SAME)
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
    return judge(h, false);
}

enum blk_verdict blk_all_runs(struct blk_harness *h)
{
    enum blk_verdict v = BLK_SAME;

    blk_vm_load(h->a, &h->prog);
    blk_vm_load(h->b, &h->prog);
    if (h->spoil && h->spoil--)
        blk_vm_spoil(h->b);
    for (h->run = 0; h->run < h->prog.runs; h->run++) {
        v = one_run(h);
        if (v != BLK_SAME)
            break;
    }
    return v;
}

static void say_difference(const struct blk_harness *h)
{
    printf("  differs: %s (%s), run %u exit %u, from %" PRIx64 "\n", h->what,
           h->text, h->run, h->exit, h->from);
    blk_print_states(h->a, h->b, &h->xa, &h->xb);
}

enum blk_verdict blk_run(struct blk_harness *h)
{
    enum blk_verdict v;

    zones_for(h, h->prog.seed);
    v = blk_all_runs(h);
    if (v == BLK_DIFFERS) {
        if (h->verbose)
            say_difference(h);
        v = blk_excused(h);
    } else if (v == BLK_EXCUSED) {
        h->causes = 1U << h->excuse;
    }
    if (v == BLK_DIFFERS)
        return v;
    for (unsigned i = 0; v == BLK_EXCUSED && i < BLK_EXCUSES; i++)
        h->sh->n[BLK_EXCUSED_BY + i] += h->causes >> i & 1;
    h->sh->n[BLK_NONE] += v == BLK_DROPPED;
    blk_vm_clean(h->a, v != BLK_SAME);
    blk_vm_clean(h->b, v != BLK_SAME);
    return v;
}

enum blk_verdict blk_run_seed(struct blk_harness *h, uint64_t seed)
{
    h->part->adx = h->adx && seed % 8; /* the other forms, too */
    blk_make(&h->forms, seed, &h->prog);
    if (blk_assemble(&h->prog))
        return blk_run(h);
    h->sh->n[BLK_NONE]++;
    return BLK_DROPPED;
}
