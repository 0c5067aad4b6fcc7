// SPDX-License-Identifier: Apache-2.0
/*
 * A program that differs, dies or does not stop, made small: items, runs and
 * the programs before it are left out one after the other.
 */
#include "tests/bt/blocks_run.h"

#include <inttypes.h>
#include <stdio.h>

/* h->prog, after the @history programs before it; prints. */
static int show(struct blk_harness *h, uint64_t history)
{
    struct blk_prog keep = h->prog;

    for (uint64_t k = history; k; k--)
        blk_run_seed(h, keep.seed - k);
    h->prog = keep;
    h->verbose = true;
    printf("  made small:\n");
    blk_print(&h->prog);
    return blk_run(h) == BLK_DIFFERS;
}

static int quietly(struct blk_harness *h, uint64_t history)
{
    struct blk_prog keep = h->prog;

    for (uint64_t k = history; k; k--)
        blk_run_seed(h, keep.seed - k);
    h->prog = keep;
    return blk_run(h) == BLK_DIFFERS;
}

bool blk_still(struct blk_harness *h, unsigned history)
{
    return blk_assemble(&h->prog) && blk_in_child(h, quietly, history) != 0;
}

static bool drop(struct blk_harness *h, unsigned at, unsigned n,
                 unsigned history)
{
    bool was[BLK_ITEMS], any = false;

    for (unsigned i = 0; i < h->prog.n; i++)
        was[i] = h->prog.item[i].drop;
    for (unsigned i = at; i < at + n && i < h->prog.n; i++)
        if (!h->prog.item[i].drop && !h->prog.item[i].always)
            h->prog.item[i].drop = any = true;
    if (any && blk_still(h, history))
        return true;
    for (unsigned i = 0; i < h->prog.n; i++)
        h->prog.item[i].drop = was[i];
    return false;
}

static void smaller(struct blk_harness *h, unsigned history)
{
    bool again = true;

    for (unsigned runs = 1, was = h->prog.runs; runs < was; runs++) {
        h->prog.runs = runs;
        if (blk_still(h, history))
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
static int needed_history(struct blk_harness *h, unsigned max)
{
    for (unsigned k = 0;; k = k ? k * 4 : 1) {
        if (k > max)
            k = max;
        if (blk_still(h, k))
            return (int)k;
        if (k == max)
            return -1;
    }
}

void blk_report(struct blk_harness *h, uint64_t seed, unsigned max)
{
    struct blk_shared keep = *h->sh;
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
    how = blk_in_child(h, show, (uint64_t)history);
    if (how != 1) {
        printf("  made small: it %s %d\n",
               how < 0            ? "dies of signal"
               : how == BLK_STUCK ? "does not stop: status"
                                  : "differs no more: status",
               how < 0 ? -how : how);
    }
    *h->sh = keep;
}
