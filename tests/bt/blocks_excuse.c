// SPDX-License-Identifier: Apache-2.0
/*
 * Differences that deviations make (docs/translator.md), told from others. A
 * program that differs is run again, the interpreter one instruction at a time,
 * to see whether it does what a deviation is about:
 *
 * - it saves x87 pointers that are not 0. Then it is run with pointers that
 *   are: both engines save the same.
 * - it stores into code, and flags that are dead before the store (so that the
 *   translator need not keep them) are read by the code behind it. Then it is
 *   run with every flag kept.
 *
 * It must differ before, in these VMs, and agree then. But whether flags count
 * as dead is a matter of the region that runs, with windows or without, so of
 * what is in the TLB: flags alone that differ need not do so again.
 */
#include "tests/bt/blocks_run.h"

#include "cpu/x86/paging.h"
#include "engine/bt/priv.h"
#include "engine/interp/vec_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* So many of 100,000 programs, and 2: twice what deviations make for jumps, ten
 * times for the rest. */
static const unsigned most[BLK_EXCUSES] = {
    [BLK_JUMP] = 2000, [BLK_TABLES] = 5, [BLK_X87] = 5, [BLK_FLAGS] = 5};

const char *const blk_excuse_name[BLK_EXCUSES] = {
    [BLK_JUMP] = "non-canonical jumps",
    [BLK_TABLES] = "changed page tables",
    [BLK_X87] = "x87 pointers",
    [BLK_FLAGS] = "flags that changed code reads"};

bool blk_too_many(const struct blk_shared *sh)
{
    for (unsigned i = 0; i < BLK_EXCUSES; i++)
        if (sh->n[BLK_EXCUSED_BY + i] >
            2 + sh->n[BLK_PROGRAMS] * most[i] / 100000)
            return true;
    return false;
}

/* ---- at sight ---- */

static bool decode_at(const struct blk_vm *v, uint64_t rip, struct x86_insn *i)
{
    uint8_t b[16];

    memset(b, BLK_FILL, sizeof b);
    return blk_vm_fetch(v, rip, b, 15) &&
           x86_decode(b, 15, X86_MODE_64, i) == X86_DEC_OK;
}

/* How far a jump that is @i moves RSP. Return: false: it is no such jump, or
 * does not lead to @target. */
static bool jump_moves(const struct blk_harness *h, const struct x86_insn *i,
                       uint64_t target, uint64_t *by)
{
    const struct x86_opnd *to = &i->opnd[0];

    switch (i->op) {
    case X86_OP_RET:
        *by = 8 + (i->nopnds ? (uint16_t)i->imm : 0U);
        return true;
    case X86_OP_JMP:
    case X86_OP_CALL:
        *by = i->op == X86_OP_CALL ? -UINT64_C(8) : 0;
        if (to->kind == X86_OPND_REL)
            return false;
        if (to->kind != X86_OPND_GPR)
            return true;
        return blk_vm_cpu(h->a)->gpr[to->reg] == target || to->reg == X86_RSP;
    default:
        return false;
    }
}

bool blk_jumped_away(const struct blk_harness *h)
{
    struct blk_exit x = h->xb;
    struct x86_insn i;
    char text[160];
    uint64_t by;

    if (h->xa.end != BLK_END_FAULT || h->xb.end != BLK_END_FAULT ||
        h->xa.vector != X86_VEC_GP || x86_canonical(h->xb.rip) ||
        !decode_at(h->a, h->xa.rip, &i) || !jump_moves(h, &i, h->xb.rip, &by) ||
        x.rsp != h->xa.rsp + by)
        return false;
    x.rip = h->xa.rip; /* and nothing else */
    x.rsp = h->xa.rsp;
    return !blk_differ(h->a, h->b, &h->xa, &x, text, sizeof text);
}

/* ---- observed ---- */

/* Before an instruction of the interpreter's. */
struct moment {
    bool ok; /* insn is one */
    struct x86_insn insn;
    uint64_t dead; /* flags that it, or what is behind it, overwrites */
    uint8_t code[BLK_CODE_BYTES];
};

static bool saves_pointers(const struct x86_insn *i)
{
    switch (i->op) {
    case X86_OP_FNSTENV:
    case X86_OP_FNSAVE:
    case X86_OP_FXSAVE:
    case X86_OP_XSAVE:
    case X86_OP_XSAVEC:
    case X86_OP_XSAVEOPT:
    case X86_OP_XSAVES:
        return true;
    default:
        return false;
    }
}

static void before(struct blk_harness *h, struct moment *m)
{
    struct x86_cpu *cpu = blk_vm_cpu(h->a);
    uint8_t *fx = cpu->xsave.b;

    m->ok = decode_at(h->a, cpu->rip, &m->insn);
    m->dead = X86_FL_ARITH & ~blk_flags_live(h->a, cpu->rip);
    for (unsigned i = 0; i < BLK_CODE_PAGES; i++)
        memcpy(m->code + i * 4096ULL, blk_vm_code(h->a, i), 4096);
    if (!m->ok || !saves_pointers(&m->insn) ||
        (fx_get64(fx + FX_FIP) | fx_get64(fx + FX_FDP)) == 0)
        return;
    h->causes |= 1U << BLK_X87;
    if (h->no_pointers)
        memset(fx + FX_FIP, 0, 16);
}

static bool code_is(const struct blk_vm *v, const uint8_t *code)
{
    for (unsigned i = 0; i < BLK_CODE_PAGES; i++)
        if (memcmp(blk_vm_code(v, i), code + i * 4096ULL, 4096) != 0)
            return false;
    return true;
}

/* It has come to @rip. */
static void after(struct blk_harness *h, const struct moment *m, uint64_t rip)
{
    uint64_t lost = m->dead;

    if (code_is(h->a, m->code))
        return;
    if (m->ok)
        lost &= ~blk_flags_set(&m->insn);
    if (lost & blk_flags_live(h->a, rip))
        h->causes |= 1U << BLK_FLAGS;
}

void blk_run_observed(struct blk_harness *h)
{
    struct moment m;

    for (unsigned n = 0; n < BLK_BUDGET; n++) {
        before(h, &m);
        blk_vm_run(h->a, 1, &h->xa);
        after(h, &m, h->xa.rip);
        if (h->xa.end != BLK_END_BUDGET)
            return;
    }
}

/* Run it in VMs as they are when they are made. */
static enum blk_verdict again(struct blk_harness *h)
{
    blk_vm_clean(h->a, true);
    blk_vm_clean(h->b, true);
    return blk_all_runs(h);
}

/* Whether the run that is over, with verdict @v, came by the place where it
 * differed: @run, @exit. What is there, or behind it, may be excused at sight:
 * changed code may jump away. */
static bool came_by(struct blk_harness *h, enum blk_verdict v, unsigned run,
                    unsigned exit)
{
    if (v == BLK_SAME)
        return true;
    if (v == BLK_DIFFERS || h->run < run || (h->run == run && h->exit < exit))
        return false;
    if (v == BLK_EXCUSED)
        h->causes |= 1U << h->excuse;
    return true;
}

static void say(const struct blk_harness *h, const char *what)
{
    if (h->verbose)
        printf("  %s\n", what);
}

/* It differs again; without what was seen to be a cause? */
static enum blk_verdict without(struct blk_harness *h)
{
    unsigned run = h->run, exit = h->exit, causes = h->causes;
    enum blk_verdict v;

    h->no_pointers = h->causes >> BLK_X87 & 1;
    h->part->flags_all = h->causes >> BLK_FLAGS & 1;
    if (h->no_pointers)
        say(h, "again, x87 pointers being 0:");
    if (h->part->flags_all)
        say(h, "again, all flags being kept:");
    v = again(h);
    h->part->flags_all = h->no_pointers = false;
    h->causes = causes;
    return came_by(h, v, run, exit) ? BLK_EXCUSED : BLK_DIFFERS;
}

/* Whether arithmetic flags of a frame are all that differs. */
static bool flags_alone(const struct blk_harness *h)
{
    struct blk_exit x = h->xb;
    char text[160];

    if (x.rflags == h->xa.rflags ||
        ((x.rflags ^ h->xa.rflags) & ~(uint64_t)X86_FL_ARITH))
        return false;
    x.rflags = h->xa.rflags;
    return !blk_differ(h->a, h->b, &h->xa, &x, text, sizeof text);
}

enum blk_verdict blk_excused(struct blk_harness *h)
{
    unsigned run = h->run, exit = h->exit;
    bool flags = flags_alone(h);
    enum blk_verdict v;

    h->observe = true;
    h->causes = 0;
    say(h, "again, observed:");
    v = again(h);
    if (v != BLK_DIFFERS)
        say(h, "it does not differ again");
    else if (!h->causes)
        say(h, "nothing excuses it");
    if (v == BLK_DIFFERS)
        v = h->causes ? without(h) : v;
    else if (flags && (h->causes >> BLK_FLAGS & 1) && came_by(h, v, run, exit))
        v = BLK_EXCUSED;
    else
        v = BLK_DIFFERS;
    say(h, v == BLK_DIFFERS ? "a MISMATCH" : "excused");
    h->observe = false;
    return v;
}
