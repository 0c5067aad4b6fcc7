// SPDX-License-Identifier: Apache-2.0
/*
 * Lock-step checking; see check.h. The reference is an interpreter with its own
 * copy of the vCPU, its own TLB, emptied before each block, and a view of
 * memory (vm/mem.h). Its page walks set A and D bits in the view only, which
 * are not compared. What reaches beyond RAM and the vCPU is not run twice: the
 * comparison is made before it, and the rest of the block is a block by itself.
 */
#include "engine/bt/check.h"

#include "base/log.h"
#include "cpu/x86/insn.h"
#include "cpu/x86/paging.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* What is saved of the vector state: legacy, header, AVX. */
#define XSAVE_BYTES 832

/* So many times in a row a block may differ while others write. */
#define SUSPECT_MAX 16

/* A turn is so many blocks, or until the vCPU has nothing to run. */
#define TURN_BLOCKS 1000

/* Looks at whose turn it is before sleeping. */
#define SPINS   100

#define NOWHERE (UINT64_C(1) << 63) /* not canonical */

static void state_copy(struct x86_cpu *to, const struct x86_cpu *from)
{
    memcpy(to, from, offsetof(struct x86_cpu, xsave));
    memcpy(to->xsave.b, from->xsave.b, XSAVE_BYTES);
}

/* ---- inputs: taken by the reference, repeated for translated code ---- */

static uint64_t input_take(void *ctx, enum input_kind kind, unsigned vcpu,
                           uint64_t key, uint64_t value, uint64_t icount)
{
    struct bt_check *c = ctx;

    (void)vcpu;
    (void)key;
    (void)icount;
    if (c->at < c->ninputs) { /* the reference, once more */
        if (c->input[c->at].kind == kind)
            return c->input[c->at++].value;
        return value;
    }
    if (c->ninputs < CHECK_INPUTS) {
        c->input[c->ninputs].kind = kind;
        c->input[c->ninputs].value = value;
        c->at = ++c->ninputs;
    }
    return value;
}

static const struct input_ops take_ops = {input_take};

static uint64_t input_repeat(void *ctx, enum input_kind kind, unsigned vcpu,
                             uint64_t key, uint64_t value, uint64_t icount)
{
    const struct engine_part *part = ctx;
    struct bt_check *c;

    (void)key;
    (void)icount;
    if ((kind != INPUT_TSC && kind != INPUT_RANDOM) || vcpu >= part->ncpus ||
        !part->bt[vcpu])
        return value;
    c = part->bt[vcpu]->chk;
    if (!c || !c->pending || c->at == c->ninputs ||
        c->input[c->at].kind != kind)
        return value;
    return c->input[c->at++].value;
}

static const struct input_ops repeat_ops = {input_repeat};

/* ---- making ---- */

int bt_check_create(struct bt *bt, struct err *e)
{
    struct vm *vm = bt->cpu->vm;
    struct bt_check *c = aligned_alloc(64, (sizeof *c + 63) & ~(size_t)63);
    struct engine_vcpu *ev = NULL;
    int r;

    if (!c)
        return err_set(e, -ENOMEM, "bt: no memory to check vCPU %u",
                       bt->cpu->index);
    memset(c, 0, sizeof *c);
    bt->chk = c;
    c->vm = *vm;
    c->vm.gate = (struct input_gate){.ops = &take_ops, .ctx = c};
    c->vm.mem = NULL;
    if (mem_view_create(vm->mem, &c->vm.mem)) {
        bt_check_destroy(bt);
        return err_set(e, -ENOMEM, "bt: no memory to check vCPU %u",
                       bt->cpu->index);
    }
    c->cpu.index = bt->cpu->index;
    c->cpu.cpuid = bt->cpu->cpuid;
    c->cpu.vm = &c->vm;
    state_copy(&c->cpu, bt->cpu);
    r = interp_engine.vcpu_create(&c->vm, &c->cpu, &ev, e);
    if (r) {
        bt_check_destroy(bt);
        return r;
    }
    c->in = interp_of(ev);
    c->in->closed = true;
    vm->gate.ops = &repeat_ops;
    vm->gate.ctx = bt->part;
    return 0;
}

void bt_check_destroy(struct bt *bt)
{
    struct bt_check *c = bt->chk;

    if (!c)
        return;
    bt->chk = NULL;
    interp_engine.vcpu_destroy((struct engine_vcpu *)(void *)c->in);
    mem_view_destroy(c->vm.mem);
    free(c);
}

/* ---- one vCPU at a time ---- */

void bt_check_turn(struct bt *bt)
{
    struct engine_part *part = bt->part;
    uint32_t mine;

    if (part->ncpus == 1 || (bt->chk->turn && ++bt->chk->turns < TURN_BLOCKS))
        return;
    bt_check_leave(bt);
    mine = atomic_fetch_add(&part->turn_next, 1);
    bt->chk->turn = true;
    bt->chk->turns = 0;
    if (atomic_load(&part->turn_now) == mine)
        return;
    interp_leave(bt->in); /* whoever has it may wait for us */
    for (unsigned i = 0; atomic_load(&part->turn_now) != mine; i++)
        if (i < SPINS)
            __builtin_ia32_pause();
        else
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    interp_enter(bt->in);
}

void bt_check_leave(struct bt *bt)
{
    if (!bt->chk->turn)
        return;
    bt->chk->turn = false;
    atomic_fetch_add(&bt->part->turn_now, 1);
}

/* ---- the reference ---- */

/* What reaches beyond the vCPU and RAM, other than by memory. */
static bool external(const struct x86_insn *insn)
{
    switch (insn->op) {
    case X86_OP_IN:
    case X86_OP_OUT:
    case X86_OP_INS:
    case X86_OP_OUTS:
    case X86_OP_RDMSR:
    case X86_OP_WRMSR:
    case X86_OP_HLT:
        return true;
    case X86_OP_MOV: /* CR8 is the local APIC's */
        return insn->nopnds == 2 &&
               ((insn->opnd[0].kind == X86_OPND_CR && insn->opnd[0].reg == 8) ||
                (insn->opnd[1].kind == X86_OPND_CR && insn->opnd[1].reg == 8));
    default:
        return false;
    }
}

/* Run instructions of @b while they are in it. Return: false: stop. */
static bool reference_block(struct bt_check *c, const struct block *b,
                            unsigned n)
{
    struct interp *in = c->in;
    unsigned copies = mem_view_count(c->vm.mem);

    for (const struct op *o = b->ops; o < b->ops + b->nops && c->k < n; o++) {
        int r;

        c->ip[c->k] = c->cpu.rip;
        if (external(o->insn)) {
            c->stop = CHECK_EXTERNAL;
            return false;
        }
        c->exact = x86_form_info(o->insn->form)->cls == X86_CLS_BRANCH &&
                   o->insn->opnd[0].kind != X86_OPND_REL;
        r = o->fn(in, o);
        if (r < 0 || r == OP_AGAIN) {
            c->stop = in->closed_hit && mem_view_full(c->vm.mem) ? CHECK_FULL
                      : in->closed_hit || r == OP_AGAIN ? CHECK_EXTERNAL
                                                        : CHECK_FAULT;
            return false;
        }
        if (r != OP_JUMP)
            c->cpu.rip += o->len;
        c->k++;
        if (mem_view_count(c->vm.mem) != copies) {
            tlb_flush_all(in); /* other addresses of the same page */
            return true;
        }
        if (r)
            return true;
    }
    return true;
}

/* Run @n instructions from the start state. */
static void reference(struct bt_check *c, unsigned n)
{
    struct interp *in = c->in;

    state_copy(&c->cpu, &c->start);
    c->k = c->at = 0;
    c->stop = CHECK_DONE;
    in->closed_hit = false;
    in->code_page = NULL;
    tlb_flush_all(in);
    interp_mode_update(in);
    while (c->k < n) {
        const struct block *b = block_get(in);

        if (!b) {
            c->ip[c->k] = c->cpu.rip;
            c->stop = in->closed_hit ? CHECK_EXTERNAL : CHECK_FAULT;
            return;
        }
        if (!reference_block(c, b, n))
            return;
    }
    c->ip[c->k] = c->cpu.rip;
}

/* The state after @n instructions: the memory that they wrote is as it was. */
static void reference_again(struct bt_check *c, unsigned n)
{
    mem_view_rewind(c->vm.mem);
    reference(c, n);
}

void bt_check_begin(struct bt *bt, const struct bt_block *b)
{
    struct bt_check *c = bt->chk;
    const struct x86_cpu *cpu = bt->cpu;

    c->block = (uint32_t)(b - bt->blocks);
    c->va = b->va;
    c->n = b->ninsns;
    c->called = NOWHERE;
    c->dma_before = c->dma;
    c->dma = atomic_load(&cpu->vm->gate.count[INPUT_DMA]);
    state_copy(&c->start, cpu);
    if (c->carry && c->carry_rip == cpu->rip &&
        c->carry_real == (cpu->rflags & X86_FL_ARITH))
        c->start.rflags = (cpu->rflags & ~X86_FL_ARITH) | c->carry_true;
    c->carry = false;
    c->ninputs = 0;
    mem_view_reset(c->vm.mem);
    reference(c, c->n);
    c->at = 0;
    c->pending = true;
}

/* ---- comparing ---- */

static void fail(struct bt *bt, uint64_t live, const char *what)
{
    struct bt_check *c = bt->chk;

    c->failed = true;
    snprintf(c->why, sizeof c->why,
             "--check: the block at 0x%" PRIx64
             " does not do what the interpreter does: %s differs",
             c->va, what);
    bt_check_report(bt, live, c->why);
}

/* Whether a device or another vCPU may have written while the block ran. */
static bool others(const struct bt *bt)
{
    const struct bt_check *c = bt->chk;

    return bt->part->ncpus > 1 ||
           atomic_load(&bt->cpu->vm->gate.count[INPUT_DMA]) != c->dma_before;
}

/* @va's place in the table; counts how often it differed in a row. */
static bool suspect(struct bt_check *c)
{
    unsigned i = (unsigned)(c->va * UINT64_C(0x9e3779b97f4a7c15) >> 58);

    if (c->suspect[i].va != c->va)
        c->suspect[i].count = 0;
    c->suspect[i].va = c->va;
    return ++c->suspect[i].count >= SUSPECT_MAX;
}

static void unsuspect(struct bt_check *c)
{
    unsigned i = (unsigned)(c->va * UINT64_C(0x9e3779b97f4a7c15) >> 58);

    if (c->suspect[i].va == c->va)
        c->suspect[i].count = 0;
}

static void differs(struct bt *bt, uint64_t live, const char *what)
{
    struct bt_check *c = bt->chk;

    if (others(bt) && !suspect(c)) {
        c->st.check_others++;
        return;
    }
    fail(bt, live, what);
}

/* Both have run @k instructions; @live: flags that count. */
static void compare(struct bt *bt, unsigned k, uint64_t live)
{
    struct bt_check *c = bt->chk;
    const struct x86_cpu *cpu = bt->cpu;
    const char *what;

    if (bt_check_differ(bt, live, &what)) {
        differs(bt, live, what);
        return;
    }
    unsuspect(c);
    if (k == 0)
        return; /* not begun: the same again by other code */
    c->st.check_insns += k;
    if (k == c->n)
        c->st.check_whole++;
    else
        c->st.check_part++;
    c->last.block = c->block;
    c->last.k = k;
    c->carry_real = cpu->rflags & X86_FL_ARITH;
    c->carry_true = c->cpu.rflags & X86_FL_ARITH;
    c->carry_rip = cpu->rip;
    c->carry = c->carry_real != c->carry_true;
}

/* How many instructions come before the one at @va; n: it isn't one of them. */
static unsigned insn_at(const struct bt_check *c, uint64_t va)
{
    unsigned k = 0;

    while (k < c->k + (c->stop != CHECK_DONE) && c->ip[k] != va)
        k++;
    return k;
}

/* Translated code has run @k instructions and stopped. */
static void ended(struct bt *bt, unsigned k)
{
    struct bt_check *c = bt->chk;
    const struct x86_cpu *cpu = bt->cpu;

    /* Whatever stopped the reference may have been half done. */
    if (c->k > k || (c->k == k && c->stop != CHECK_DONE))
        reference_again(c, k);
    if (c->k == k) {
        /* Elsewhere the code that follows may be known not to read them. */
        compare(bt, k, k == c->n && c->exact ? X86_FL_ARITH : 0);
        return;
    }
    if (c->stop == CHECK_FULL)
        c->st.check_full++;
    else if (c->stop == CHECK_EXTERNAL)
        c->st.check_external++;
    else if (k == c->n && c->k == k - 1 && !x86_canonical(cpu->rip))
        c->st.check_target++;
    else
        differs(bt, 0, "an exception of the interpreter's");
}

bool bt_check_end(struct bt *bt)
{
    struct bt_check *c = bt->chk;
    const struct x86_cpu *cpu = bt->cpu;
    uint64_t va = bt->site ? bt->sites[bt->site].va : bt->fault.va;
    unsigned k;

    if (!c->pending)
        return !c->failed;
    if (bt->reason != BT_G_CALLOUT && bt->reason != BT_G_MISS) {
        ended(bt, c->n);
    } else if (cpu->rip == va && (cpu->rflags & X86_FL_RF)) {
        c->st.check_paused++;
    } else {
        k = insn_at(c, va) + (c->called == va);
        ended(bt, k);
    }
    c->pending = false;
    return !c->failed;
}

void bt_check_fault(struct bt *bt)
{
    struct bt_check *c = bt->chk;
    const struct x86_exc *a = &c->cpu.exc, *b = &bt->cpu->exc;
    unsigned k;

    if (!c->pending)
        return;
    k = insn_at(c, bt->cpu->rip);
    if (c->stop != CHECK_FAULT || c->k != k)
        differs(bt, 0, "an exception of translated code's");
    else if (a->vector != b->vector || a->has_error != b->has_error ||
             (a->has_error && a->error != b->error) ||
             (a->vector == X86_VEC_PF && a->cr2 != b->cr2))
        differs(bt, 0, "the exception");
    else
        compare(bt, k, 0);
    c->st.check_part += k == 0 && !c->failed;
    c->pending = false;
}

bool bt_check_callout(struct bt *bt)
{
    struct bt_check *c = bt->chk;
    uint64_t va = bt->cpu->rip;

    c->called = va;
    if (!c->pending || c->stop != CHECK_EXTERNAL || c->ip[c->k] != va)
        return false;
    if (c->k == 0)
        c->st.check_external++;
    else
        ended(bt, c->k);
    c->pending = false;
    return true;
}

/* ---- counters ---- */

const char *bt_check_stat(const struct bt *bt, unsigned i, uint64_t *value)
{
    static const char *const names[] = {
#define STAT(name, help) #name,
#include "engine/bt/check.def"
#undef STAT
    };

    if (!bt->chk || i >= ARRAY_LEN(names))
        return NULL;
    memcpy(value, (const uint8_t *)&bt->chk->st + i * sizeof *value,
           sizeof *value);
    return names[i];
}

void bt_check_say(const struct bt_check_stats *s)
{
    uint64_t not = s->check_external + s->check_others + s->check_paused +
                   s->check_full + s->check_target;
    uint64_t yes = s->check_whole + s->check_part, all = yes + not ;

    log_line(LOG_ERR, "bt",
             "checked %" PRIu64 " of %" PRIu64
             " executed blocks (%.3f %%), %" PRIu64
             " of them up to an instruction that ended them early; %" PRIu64
             " instructions",
             yes, all, all ? 100.0 * (double)yes / (double)all : 0.0,
             s->check_part, s->check_insns);
    log_line(LOG_ERR, "bt",
             "not checked: devices and MSRs %" PRIu64
             ", written by others %" PRIu64 ", interrupted strings %" PRIu64
             ", too many pages %" PRIu64 ", jumps to nowhere %" PRIu64
             "; interpreted %" PRIu64,
             s->check_external, s->check_others, s->check_paused, s->check_full,
             s->check_target, s->check_interp);
}
