// SPDX-License-Identifier: Apache-2.0
/*
 * Lock-step checking of translated code (--check): each block is run by an
 * interpreter of its own first, on a view of memory that keeps its stores
 * apart, then by translated code; the end states must be equal.
 *
 * The hooks are called by run.c, with the vector state saved (bt_vec_save).
 * Thread: the vCPU's.
 */
#ifndef DOPPEL_ENGINE_BT_CHECK_H
#define DOPPEL_ENGINE_BT_CHECK_H

#include "engine/bt/priv.h"
#include "vm/mem.h"

/* Why the reference run ended. */
enum bt_check_stop {
    CHECK_DONE,     /* all instructions were run */
    CHECK_FAULT,    /* cpu.exc says which */
    CHECK_EXTERNAL, /* the next instruction cannot be run twice */
    CHECK_FULL      /* ... it writes more pages than the view holds */
};

#define CHECK_INPUTS   64
#define CHECK_SUSPECTS 64

struct bt_check {
    struct x86_cpu cpu;   /* the reference's */
    struct x86_cpu start; /* where the block began */
    struct vm vm;         /* as the vCPU's, with a view of its memory */
    struct interp *in;
    /* the block under way */
    bool pending;
    uint32_t block; /* index */
    uint64_t va;
    unsigned n; /* instructions */
    bool exact; /* the last one run goes where no one can look ahead */
    unsigned k; /* how many the reference ran */
    enum bt_check_stop stop;
    uint64_t ip[BT_BLOCK_INSNS + 1];
    uint64_t called; /* rip of the last instruction that a callout ran */
    uint64_t dma, dma_before; /* inputs by DMA: now, at the block before */
    /* inputs that the reference took, for the second run */
    struct {
        enum input_kind kind;
        uint64_t value;
    } input[CHECK_INPUTS];
    unsigned ninputs, at;
    /* Flags that were dead at the last block's end hold anything in the vCPU;
     * what they should be goes on with the reference. */
    bool carry;
    struct {
        uint32_t block;
        unsigned k;
    } last; /* the block compared last */
    uint64_t carry_rip, carry_real, carry_true;
    struct {
        uint64_t va;
        unsigned count;
    } suspect[CHECK_SUSPECTS]; /* blocks that differed, perhaps by others */
    unsigned turns;            /* blocks since it is ours */
    bool turn;                 /* ours: no other vCPU runs code */
    bool failed;
    char why[200];
    struct bt_check_stats st;
};

/** bt_check_create() - begin checking: sets bt->chk
 * Return: 0, or -ENOMEM with a sentence. */
int bt_check_create(struct bt *bt, struct err *e);
void bt_check_destroy(struct bt *bt);

/** bt_check_turn() - wait until no other vCPU runs code; till the block's end,
 * or bt_check_leave, none does, so that both runs of it read the same memory */
void bt_check_turn(struct bt *bt);
void bt_check_leave(struct bt *bt);
/** bt_check_begin() - @b is entered next: run the reference */
void bt_check_begin(struct bt *bt, const struct bt_block *b);
/** bt_check_end() - translated code was left for good at cpu->rip: compare
 * Return: false: it differed, now or before; end the run. */
bool bt_check_end(struct bt *bt);
/** bt_check_fault() - cpu->exc is about to be delivered: compare */
void bt_check_fault(struct bt *bt);
/** bt_check_callout() - the instruction at cpu->rip is about to be run by the
 * interpreter; if that can be done once only, compare before it
 * Return: whether the block's rest must be entered anew. */
bool bt_check_callout(struct bt *bt);

/** bt_check_stat() - counter @i, NULL past the end */
const char *bt_check_stat(const struct bt *bt, unsigned i, uint64_t *value);
/** bt_check_say() - a line that sums @s up */
void bt_check_say(const struct bt_check_stats *s);

/* ---- check_diff.c ---- */

/** bt_check_differ() - compare @bt's vCPU and memory with the reference
 * @live: arithmetic flags that count
 * @what: filled with the name of the first difference; may be NULL
 * Return: whether they differ. */
bool bt_check_differ(struct bt *bt, uint64_t live, const char **what);
/** bt_check_report() - print the block, both states, all differences */
void bt_check_report(struct bt *bt, uint64_t live, const char *why);

#endif
