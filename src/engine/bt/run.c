// SPDX-License-Identifier: Apache-2.0
/*
 * The loop: translated code where it can run, the interpreter where not (other
 * modes, single steps, breakpoints), and what translated code asks of C when
 * the quick gate had no answer: callouts, faults, translation.
 */
#include "engine/bt/check.h"
#include "engine/bt/quick_sys.h"
#include "engine/bt/zone.h"

#include "cpu/x86/insn.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/paging.h"
#include "engine/interp/access.h"
#include "vm/clock.h"

#include <x86intrin.h>

/* Of the host's TSC: a millisecond or two, and some. */
#define TICK     (UINT64_C(1) << 22)
#define TICK_MAX (3 * TICK)

uint32_t bt_mode_now(const struct bt *bt)
{
    const struct x86_cpu *cpu = bt->cpu;
    const struct interp *in = bt->in;
    uint32_t m = in->kind | bt->zoned[in->kind != TLB_USER];

    if (!in->mode64 || in->kind == TLB_NONE || in->slow ||
        (cpu->cpl != 0 && cpu->cpl != 3))
        return BT_MODE_NONE;
    if (cpu->cpl == 3)
        m |= BT_MODE_CPL3;
    if (cpu->cr4 & X86_CR4_TSD)
        m |= BT_MODE_TSD;
    if (cpu->cr4 & X86_CR4_FSGSBASE)
        m |= BT_MODE_FSGS;
    if (cpu->cr4 & X86_CR4_SMAP)
        m |= BT_MODE_SMAP;
    if (cpu->cr0 & X86_CR0_TS)
        return m;
    if (!(cpu->cr0 & X86_CR0_EM)) {
        m |= BT_MODE_X87;
        if (cpu->cr4 & X86_CR4_OSFXSR)
            m |= BT_MODE_SSE;
    }
    if ((cpu->cr4 & X86_CR4_OSXSAVE) && (cpu->xcr0 & 6) == 6)
        m |= BT_MODE_AVX;
    return m;
}

/* ---- vector state ---- */

void bt_vec_save(struct bt *bt)
{
    static const uint32_t mxcsr = 0x1f80;
    uint8_t *x = bt->cpu->xsave.b;
    uint64_t bv;

    if (!bt->vec)
        return;
    bt->vec = 0;
    bt->st.vec_saves++;
    asm volatile("xsave64 (%0)" : : "r"(x), "a"(7), "d"(0) : "memory");
    /* a pending x87 exception must not meet C, nor the guest's control words */
    asm volatile("fninit; ldmxcsr %0; vzeroupper" : : "m"(mxcsr));
    memset(x + 8, 0, 16); /* FIP and FDP are the host's */
    memcpy(&bv, x + 512, 8);
    bv |= 3;
    memcpy(x + 512, &bv, 8);
}

/* Whether the handler of @insn leaves the host's vector registers alone. */
static bool novec(const struct x86_insn *insn)
{
    if (CC_SANITIZED) /* its own copies use vector registers */
        return false;
    switch (x86_form_info(insn->form)->cls) {
    case X86_CLS_INT:
    case X86_CLS_BRANCH:
    case X86_CLS_STRING:
        return true;
    case X86_CLS_SYSTEM:
        break;
    default:
        return false;
    }
    switch (insn->op) {
    case X86_OP_CLI:
    case X86_OP_STI:
    case X86_OP_CLAC:
    case X86_OP_STAC:
    case X86_OP_SWAPGS:
    case X86_OP_INVLPG:
    case X86_OP_RDTSC:
    case X86_OP_RDTSCP:
    case X86_OP_RDFSBASE:
    case X86_OP_RDGSBASE:
    case X86_OP_WRFSBASE:
    case X86_OP_WRGSBASE:
    case X86_OP_MOV:
    case X86_OP_CLTS:
    case X86_OP_HLT:
    case X86_OP_VERW:
    case X86_OP_CPUID:
    case X86_OP_INVPCID:
        return true;
    default:
        return false;
    }
}

/* rip, icount and RF after a handler returned @r >= 0. */
static void retire(struct bt *bt, const struct op *o, int r)
{
    struct x86_cpu *cpu = bt->cpu;

    if (r == OP_AGAIN) {
        cpu->rflags |= X86_FL_RF;
        bt->in->check = true;
        return;
    }
    if (r != OP_JUMP)
        cpu->rip += o->len;
    cpu->icount++;
}

/* What no block can be made of: an instruction on two pages, code that isn't in
 * RAM. As interp_step, without traps. */
static int step(struct bt *bt)
{
    struct interp *in = bt->in;
    const struct block *b = block_get_one(in);
    const struct op *o;
    int r;

    bt->st.interp_insns++;
    if (!b)
        return X86_FAULT;
    o = &b->ops[0];
    if (!novec(o->insn)) {
        bt_vec_save(bt);
        return interp_step(in);
    }
    in->code_page = NULL;
    r = o->fn(in, o);
    if (r < 0)
        return X86_FAULT;
    retire(bt, o, r);
    return 0;
}

/* ---- from C back to translated code ---- */

static const void *resume(struct bt *bt, const void *code)
{
    const uint64_t *gpr = bt->cpu->gpr;

    bt_tlb_sync(bt);
    bt->home[X86_R11] = gpr[X86_R11];
    bt->home[X86_R10] = gpr[X86_R10];
    bt_sys_out(bt);
    return code;
}

/* Within a region: its own scratch registers' values are at home. */
static const void *resume_in(struct bt *bt, const struct bt_site *s,
                             uint32_t at)
{
    const uint64_t *gpr = bt->cpu->gpr;

    bt->home[s->s1] = gpr[s->s1];
    bt->home[s->s2] = gpr[s->s2];
    return resume(bt, bt->rx + at);
}

/* The branch caches and links between pages hold blocks of one mode for each
 * kind of access. */
static void mode_take(struct bt *bt, uint32_t mode)
{
    if (UNLIKELY((bt->mode ^ mode) &
                 ~(BT_MODE_KIND | BT_MODE_CPL3 | BT_MODE_ZONE)))
        for (unsigned k = 0; k < 3; k++)
            bt_ib_flush(bt, k);
    bt->mode = mode;
}

/* RF without armed breakpoints: gone with the next instruction, whatever it
 * is; one that faults pushes it set. */
static void rf_drop(struct bt *bt)
{
    struct x86_cpu *cpu = bt->cpu;

    if ((cpu->rflags & X86_FL_RF) && !bt->in->slow && !bt->in->check)
        cpu->rflags &= ~X86_FL_RF;
}

/* Whether the main loop must look first. Takes over a new mode. */
static bool must_leave(struct bt *bt)
{
    struct interp *in = bt->in;
    struct x86_cpu *cpu = bt->cpu;
    uint32_t mode, kicks = kick_pending(&cpu->kick);

    if (UNLIKELY(bt_inval_waits(bt)))
        bt_inval_take(bt);
    bt_cache_look(bt);
    if ((kicks & ~KICK_EXTINT) || atomic_load(&in->attn))
        return true;
    if (kicks) /* a level, which may stand for long while it is masked */
        in->check = true;
    if (in->check) {
        if (cpu->event.valid || cpu->activity != X86_ACT_RUN ||
            x86_irq_window(cpu))
            return true;
        in->check = false;
    }
    rf_drop(bt);
    if (interp_must_step(in))
        return true;
    bt_zones_look(bt);
    if (cpu->cpl == 3)
        bt_zones_late(bt);
    mode = bt_mode_now(bt);
    if (mode == BT_MODE_NONE)
        return true;
    mode_take(bt, mode);
    return false;
}

/* Lock-step: translated code was left. Return: false: it did wrong. */
static bool checked(struct bt *bt)
{
    bt_vec_save(bt);
    return bt_check_end(bt);
}

/* Deliver cpu->exc. */
static void faulted(struct bt *bt)
{
    bt->st.faults++;
    if (UNLIKELY(bt->check)) {
        bt_vec_save(bt);
        bt_check_fault(bt);
    }
    interp_faulted(bt->in);
}

static const void *enter_block(struct bt *bt, const struct bt_block *b)
{
    if (UNLIKELY(bt->check)) {
        bt_vec_save(bt);
        bt_check_begin(bt, b);
    }
    return resume(bt, bt->rx + b->code);
}

/* Go on at cpu->rip. @how: BT_MODE_NOWIN or 0, for the first block. */
/* Whether the main loop must look first; in lock-step the turn is ours then. */
static bool must_leave_now(struct bt *bt)
{
    if (UNLIKELY(bt->check)) {
        bt_vec_save(bt);
        bt_check_turn(bt);
    }
    return must_leave(bt);
}

static const void *go_on_as(struct bt *bt, uint32_t how)
{
    if (UNLIKELY(bt->check) && !checked(bt))
        return NULL;
    while (!must_leave_now(bt)) {
        struct bt_block *b;
        bool fault;

        bt->mode |= how;
        b = bt_block_at(bt, bt->cpu->rip, &fault);
        bt->mode &= ~BT_MODE_NOWIN;
        how = 0;
        if (fault) {
            faulted(bt);
            continue;
        }
        if (b) {
            if (bt->reason == BT_G_IB && !b->tail && LIKELY(!bt->check))
                bt_ib_put(bt, bt->mode & BT_MODE_KIND, b->va,
                          bt->rx + b->indirect);
            return enter_block(bt, b);
        }
        if (UNLIKELY(bt->check))
            bt->chk->st.check_interp++;
        if (step(bt))
            faulted(bt);
    }
    return NULL;
}

static const void *go_on(struct bt *bt)
{
    return go_on_as(bt, 0);
}

/* ---- one instruction by the interpreter ---- */

/* The quick gate's IRET reads the GDT through the first level; its entry of the
 * second may be one that code drives out again and again. */
static void gdt_keep(struct bt *bt)
{
    const struct x86_cpu *cpu = bt->cpu;
    uint64_t at = cpu->gdtr.base + (cpu->seg[X86_SEG_CS].sel & 0xfff8U);

    bt_tlb_sync(bt);
    bt_tlb_fill(bt, cpu->cr4 & X86_CR4_SMAP ? TLB_SUP : TLB_SUPAC, at, false);
}

/* An instruction that often touches what zones can't have is made anew. */
static void zone_failed(struct bt *bt)
{
    uint32_t block = bt->zone_failed - 1;

    bt->zone_failed = 0;
    if (bt_zones_pin(bt, bt->fault.va))
        bt_block_again(bt, block);
}

static const void *callout(struct bt *bt, struct bt_site *s)
{
    struct x86_cpu *cpu = bt->cpu;
    struct interp *in = bt->in;
    const struct op *o = s == &bt->fault ? NULL : bt_site_op(bt, s);
    uint32_t mode = bt->mode;
    bool alone = false; /* the rest is entered anew */
    int r;

    bt->st.callouts++;
    cpu->rip = s->va;
    if (s == &bt->fault && bt->zone_failed)
        zone_failed(bt);
    if (UNLIKELY(bt->check)) {
        bt_vec_save(bt);
        alone = bt_check_callout(bt);
    }
    if (!o) {
        bt_vec_save(bt);
        if (interp_step(in))
            faulted(bt);
        return go_on(bt);
    }
    bt->callouts[o->insn->op]++;
    bt->dropped = false;
    if (!novec(o->insn))
        bt_vec_save(bt);
    in->code_page = NULL;
    r = o->fn(in, o);
    if (r < 0) {
        faulted(bt);
        return go_on(bt);
    }
    retire(bt, o, r);
    if (r == OP_AGAIN)
        return NULL;
    if (s->quick == BT_Q_IRET)
        gdt_keep(bt);
    /* What STI's shadow would hold back isn't there. */
    if (cpu->shadow == X86_SHADOW_STI && !kick_pending(&cpu->kick) &&
        x86_lapic_pending(cpu) < 0 && !cpu->nmi_pending)
        cpu->shadow = 0;
    if (must_leave(bt))
        return NULL;
    bt_tlb_sync(bt);
    /* Behind a miss windows may be open, and what was run is what the bytes are
     * now: it need not be what the region's rest was made for. */
    if (r == OP_NEXT && !bt->dropped && !alone && bt->mode == mode &&
        bt->reason == BT_G_CALLOUT)
        return resume_in(bt, s, s->next);
    return go_on(bt);
}

bool bt_fault_first(const struct op *o)
{
    const struct x86_form_info *fi = x86_form_info(o->insn->form);

    return (fi->cls == X86_CLS_INT || fi->cls == X86_CLS_BRANCH) &&
           !(fi->attr & (XA_ALIGN | XA_ALIGN16 | XA_ALIGN64));
}

static const void *page_fault(struct bt *bt, struct bt_site *s)
{
    const struct op *o = bt_site_op(bt, s);

    bt->cpu->rip = s->va;
    if (!o || !bt_fault_first(o))
        return callout(bt, s);
    faulted(bt);
    return go_on(bt);
}

/* A check for several accesses. What is looked up for it is only read: whether
 * any of them happens is not known yet. */
static const void *miss_window(struct bt *bt, const struct bt_site *s)
{
    uint64_t va = bt->va, flushed = bt->flushed;
    struct xlat x;

    if ((va & 0xfff) + s->size > 4096 || !x86_canonical(va) ||
        tlb_xlat(bt->in, va, X86_LIN_READ, &x))
        return go_on_as(bt, BT_MODE_NOWIN);
    bt_tlb_sync(bt);
    if (bt->flushed != flushed ||
        !bt_tlb_fill(bt, (enum tlb_kind)s->kind, va, s->write))
        return go_on_as(bt, BT_MODE_NOWIN);
    if (s->stack)
        bt_stk_fill(bt, (enum tlb_kind)s->kind, va);
    return resume_in(bt, s, s->start);
}

/* Whether the access must be aligned and isn't: the page's entry is not to
 * become dirty. */
static bool misaligned(struct bt *bt, struct bt_site *s, uint64_t va)
{
    const struct op *o;

    if (s->size < 16 || !(va & (s->size - 1U)))
        return false;
    o = bt_site_op(bt, s);
    return o && (x86_form_info(o->insn->form)->attr & (XA_ALIGN | XA_ALIGN16));
}

static const void *miss(struct bt *bt, struct bt_site *s)
{
    unsigned flags = s->write ? X86_LIN_WRITE : X86_LIN_READ;
    uint64_t va = bt->va;
    uint64_t flushed = bt->flushed;
    struct xlat x;

    bt->cpu->rip = s->va;
    if (s->window)
        return miss_window(bt, s);
    if ((va & 0xfff) + s->size > 4096 || !x86_canonical(va) ||
        misaligned(bt, s, va))
        return callout(bt, s);
    if (tlb_xlat(bt->in, va, flags, &x))
        return page_fault(bt, s);
    bt_tlb_sync(bt);
    if (!bt_tlb_fill(bt, (enum tlb_kind)s->kind, va, s->write))
        return callout(bt, s);
    return bt->flushed == flushed ? resume_in(bt, s, s->start) : go_on(bt);
}

/* A direct jump to what had to be made: now it can be linked, unless the site's
 * memory may have been used again meanwhile. */
static const void *link_made(struct bt *bt, uint32_t site, uint64_t va)
{
    uint64_t epoch = atomic_load(&bt->epoch);
    const void *code;

    bt->cpu->rip = va;
    code = go_on(bt);
    if (code && bt->cpu->rip == va && atomic_load(&bt->epoch) == epoch)
        bt_quick_link(bt, site);
    return code;
}

static const void *dispatch(struct bt *bt)
{
    struct bt_site *s =
        bt->reason == BT_G_IB || !bt->site ? &bt->fault : &bt->sites[bt->site];

    bt->st.gates++;
    bt->cpu->gpr[s->s1] = bt->home[s->s1];
    bt->cpu->gpr[s->s2] = bt->home[s->s2];
    bt_count(&bt->st.full_callout, bt->reason);
    switch (bt->reason) {
    case BT_G_CALLOUT:
        return callout(bt, s);
    case BT_G_MISS:
        return miss(bt, s);
    case BT_G_IB:
        bt->cpu->rip = bt->rip;
        return go_on(bt);
    case BT_G_LEAVE:
        bt->st.leaves++;
        bt->cpu->rip = s->va;
        return NULL;
    case BT_G_FAULT:
        return page_fault(bt, s);
    case BT_G_AGAIN:
        bt->cpu->rip = s->va;
        return go_on_as(bt, s->window ? BT_MODE_NOWIN : 0);
    case BT_G_LINK:
        return link_made(bt, bt->site, s->va);
    default:
        bt->cpu->rip = s->va;
        return go_on(bt);
    }
}

const void *bt_dispatch(struct bt *bt)
{
    const void *code;

    bt_sys_in(bt);
    code = dispatch(bt);
    if (!code) {
        bt_vec_save(bt);
        if (UNLIKELY(bt->check))
            (void)bt_check_end(bt);
    }
    return code;
}

/* ---- the loop ---- */

/* How the guest's TSC follows from the host's, until this run ends. */
static void tsc_look(struct bt *bt)
{
    struct vm *vm = bt->cpu->vm;
    bool inl = clock_tsc_base(vm->clock, &bt->tsc_base) && !vm->gate.ops;

    if (inl != bt->cache->tsc_inline)
        bt_cache_flush(bt);
    bt->cache->tsc_inline = bt->tsc_inline = inl;
}

static void run_translated(struct bt *bt)
{
    const void *code = go_on(bt);

    if (!code)
        return;
    bt->st.entries++;
    bt_enter(bt, code);
}

static void run_some(struct bt *bt)
{
    struct interp *in = bt->in;
    uint64_t before = bt->cpu->icount;

    rf_drop(bt);
    if (bt_mode_now(bt) != BT_MODE_NONE && !interp_must_step(in)) {
        run_translated(bt);
        return;
    }
    bt->st.interp_runs++;
    if (UNLIKELY(bt->check))
        bt_check_leave(bt);
    atomic_store(&bt->idle, 1);
    if (interp_must_step(in)) {
        if (interp_step(in))
            interp_faulted(in);
    } else {
        interp_blocks(in);
    }
    atomic_store(&bt->idle, 0);
    bt->st.interp_insns += bt->cpu->icount - before;
}

/* The guest's timer ends translated code some hundred times a second: if that
 * was user code, much of the time since went into it. */
static void user_time(struct bt *bt)
{
    uint64_t now = __rdtsc(), ran = now - bt->ticked;

    if (bt->cpu->cpl != 3 || ran < TICK)
        return;
    bt->ticked = now;
    bt_zones_tick(bt, ran < TICK_MAX ? ran : TICK_MAX);
}

void bt_run(struct engine_vcpu *v, uint64_t max_insns, struct exit_rec *exit)
{
    struct bt *bt = bt_of(v);
    struct interp *in = bt->in;

    if (in->vclock || max_insns) {
        interp_run((struct engine_vcpu *)(void *)in, max_insns, exit);
        return;
    }
    bt_signal_thread(bt);
    asm volatile("wrgsbase %0" : : "r"(bt->view));
    bt->thread = pthread_self();
    atomic_store(&bt->in_run, 1);
    atomic_store(&bt->idle, 0);
    in->budget_at = in->clock_at = in->stop_at = UINT64_MAX;
    interp_enter(in);
    interp_mode_update(in);
    tsc_look(bt);
    for (;;) {
        bt_unpost(bt);
        if (bt_inval_waits(bt))
            bt_inval_take(bt);
        if (UNLIKELY(bt->check) && bt->chk->failed) {
            exit->reason = EXIT_FAILED;
            memcpy(exit->why, bt->chk->why, sizeof bt->chk->why);
            break;
        }
        if (interp_attend(in, &exit->reason))
            break;
        run_some(bt);
        user_time(bt);
    }
    if (UNLIKELY(bt->check))
        bt_check_leave(bt);
    atomic_store(&in->running, 0);
    atomic_store(&bt->idle, 1);
    atomic_store(&bt->in_run, 0);
    exit->insns = 0;
}
