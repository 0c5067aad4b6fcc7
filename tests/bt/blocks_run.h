// SPDX-License-Identifier: Apache-2.0
/*
 * Programs run by both engines and compared: blocks_run.c. A difference that
 * only a documented deviation can have made is excused, if that is proven:
 * blocks_excuse.c. Others are made small: blocks_small.c. For tests only.
 */
#ifndef DOPPEL_TESTS_BT_BLOCKS_RUN_H
#define DOPPEL_TESTS_BT_BLOCKS_RUN_H

#include "tests/bt/blocks.h"

#define BLK_BUDGET 3000U /* instructions up to an exit */
#define BLK_STUCK  3     /* status of a process whose program does not stop */

enum blk_verdict {
    BLK_SAME,
    BLK_DIFFERS,
    BLK_DROPPED, /* no program: it does not end, or is none */
    BLK_EXCUSED  /* a deviation, and that is proven */
};

/* Why a difference is excused: docs/translator.md, Deviations. */
enum blk_excuse {
    BLK_JUMP,   /* a jump to a non-canonical address faults there */
    BLK_TABLES, /* stored into page tables: a TLB may have what was */
    BLK_X87,    /* the x87's pointers, saved to memory */
    BLK_FLAGS,  /* flags that code reads which the program has changed */
    BLK_EXCUSES
};

enum blk_count {
    BLK_PROGRAMS,
    BLK_NONE, /* dropped */
    BLK_EXITS,
    BLK_FAULTS,
    BLK_MISMATCHES,
    BLK_EXCUSED_BY,
    BLK_KEPT = BLK_EXCUSED_BY + BLK_EXCUSES, /* in a soak's file: the above */
    BLK_ZONE_MAPS = BLK_KEPT,                /* of VMs that are gone */
    BLK_ZONE_FAILS,
    BLK_COPIES,
    BLK_COUNTS
};

/* What the processes that run programs tell the one that reports. */
struct blk_shared {
    uint64_t seed;  /* that runs */
    uint64_t first; /* of these VMs */
    uint64_t n[BLK_COUNTS];
};

struct blk_harness {
    struct engine_part *part;
    bool adx;             /* what it found of the host */
    struct blk_vm *a, *b; /* interpreter, translator */
    bool scatter;
    struct blk_forms forms;
    struct blk_prog prog;
    struct blk_shared *sh;
    /* where it differed */
    const char *what;
    char text[160];
    unsigned run, exit;
    uint64_t from; /* rip where the last leg began */
    struct blk_exit xa, xb;
    enum blk_excuse excuse;
    bool verbose;
    unsigned spoil; /* tests: how often the translator's data is changed */
    /* the interpreter's instructions are looked at, one by one */
    bool observe;
    bool no_pointers; /* ... FIP and FDP read as 0 */
    unsigned causes;  /* 1 << enum blk_excuse: what was seen that can differ */
};

/** blk_harness_open() - VMs are opened by processes of their own, so that one
 * that dies is a finding like others
 * Return: false: this host cannot. */
bool blk_harness_open(struct blk_harness *h);

/** blk_in_child() - run @fn in a process, with new VMs
 * Return: its status, or minus the signal. */
int blk_in_child(struct blk_harness *h,
                 int (*fn)(struct blk_harness *, uint64_t), uint64_t arg);

/** blk_begin() - engine, VMs, watchdog, in this process */
void blk_begin(struct blk_harness *h);

/** blk_renew() - other VMs */
void blk_renew(struct blk_harness *h);

/** blk_count_zones() - add this engine's counters to h->sh */
void blk_count_zones(struct blk_harness *h);

/** blk_run() - run h->prog, which is assembled */
enum blk_verdict blk_run(struct blk_harness *h);

/** blk_run_seed() - make a program and run it */
enum blk_verdict blk_run_seed(struct blk_harness *h, uint64_t seed);

/** blk_all_runs() - blk_run() in VMs that are ready, without excuses but
 * BLK_JUMP and BLK_TABLES */
enum blk_verdict blk_all_runs(struct blk_harness *h);

/* ---- excuses: blocks_excuse.c ---- */

/** blk_excused() - h->prog differs: find out why
 * Runs it again, the interpreter observed, to see whether it does what a
 * deviation is about; if so again, so that this deviation makes no difference.
 * Return: BLK_EXCUSED: it differed again, and then did not (or need not have
 * again: flags); h->causes. */
enum blk_verdict blk_excused(struct blk_harness *h);

/** blk_run_observed() - as blk_vm_run() of h->a, into h->xa */
void blk_run_observed(struct blk_harness *h);

/** blk_jumped_away() - whether the leg's exits differ by BLK_JUMP */
bool blk_jumped_away(const struct blk_harness *h);

extern const char *const blk_excuse_name[BLK_EXCUSES];

/** blk_too_many() - whether more is excused than deviations make */
bool blk_too_many(const struct blk_shared *sh);

/* ---- reports: blocks_small.c ---- */

/** blk_still() - whether h->prog differs, or dies, after @history others */
bool blk_still(struct blk_harness *h, unsigned history);

/** blk_report() - print the program of @seed, made small, which differs after
 * at most @max programs before it */
void blk_report(struct blk_harness *h, uint64_t seed, unsigned max);

#endif
