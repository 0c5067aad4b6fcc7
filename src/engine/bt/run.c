// SPDX-License-Identifier: Apache-2.0
/*
 * The loop: translated code where it can run, the interpreter where not (other
 * modes, single steps, breakpoints), and what translated code asks of C when
 * the quick gate had no answer: callouts, faults, translation.
 */
#include "engine/bt/priv.h"

#include "cpu/x86/insn.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/paging.h"
#include "engine/interp/access.h"

uint32_t bt_mode_now(const struct bt *bt)
{
    const struct x86_cpu *cpu = bt->cpu;
    const struct interp *in = bt->in;
    uint32_t m = in->kind;

    if (!in->mode64 || in->kind == TLB_NONE || in->slow ||
        (cpu->cpl != 0 && cpu->cpl != 3))
        return BT_MODE_NONE;
    if (cpu->cpl == 3)
        m |= BT_MODE_CPL3;
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
        return true;
    default:
        return false;
    }
}

/* ---- from C back to translated code ---- */

static const void *resume(struct bt *bt, const void *code)
{
    bt_tlb_sync(bt);
    bt->fsbase = bt->cpu->seg[X86_SEG_FS].base;
    bt->gsbase = bt->cpu->seg[X86_SEG_GS].base;
    return code;
}

/* Whether the main loop must look first. Takes over a new mode. */
static bool must_leave(struct bt *bt)
{
    struct interp *in = bt->in;
    struct x86_cpu *cpu = bt->cpu;
    uint32_t mode;

    if (UNLIKELY(atomic_load_explicit(&bt->inval_n, memory_order_relaxed)))
        bt_inval_take(bt);
    if (kick_pending(&cpu->kick) || atomic_load(&in->attn) ||
        interp_must_step(in))
        return true;
    if (in->check) {
        if (cpu->event.valid || cpu->activity != X86_ACT_RUN ||
            x86_irq_window(cpu))
            return true;
        in->check = false;
    }
    mode = bt_mode_now(bt);
    if (mode == BT_MODE_NONE)
        return true;
    bt->mode = mode;
    return false;
}

/* Go on at cpu->rip. */
static const void *go_on(struct bt *bt)
{
    while (!must_leave(bt)) {
        bool fault;
        struct bt_block *b = bt_block_at(bt, bt->cpu->rip, &fault);

        if (fault) {
            bt->st.faults++;
            interp_faulted(bt->in);
            continue;
        }
        if (b)
            return resume(bt, bt->rx + b->code);
        bt->st.interp_insns++;
        bt_vec_save(bt);
        if (interp_step(bt->in)) {
            bt->st.faults++;
            interp_faulted(bt->in);
        }
    }
    return NULL;
}

/* ---- one instruction by the interpreter ---- */

/* The site's decoded instruction, made when it is first needed. */
static const struct op *site_op(struct bt *bt, struct bt_site *s)
{
    const struct bt_block *b = &bt->blocks[s->block];
    unsigned n = 4096 - (unsigned)(s->va & 0xfff);
    const uint8_t *p = b->src + (s->va - b->va);
    struct x86_insn *insn;
    struct op *o;

    if (s->op)
        return s->op;
    if (bt->ops_at + sizeof *insn + sizeof *o > bt->ops_bytes)
        return NULL;
    insn = (struct x86_insn *)(void *)(bt->ops + bt->ops_at);
    if (x86_decode(p, n, X86_MODE_64, insn) != X86_DEC_OK)
        return NULL;
    bt->ops_at += (sizeof *insn + 15) & ~15UL;
    o = (struct op *)(void *)(bt->ops + bt->ops_at);
    bt->ops_at += (sizeof *o + 15) & ~15UL;
    memset(o, 0, sizeof *o);
    block_op(bt->in, insn, o);
    s->op = o;
    return o;
}

static const void *callout(struct bt *bt, struct bt_site *s)
{
    struct x86_cpu *cpu = bt->cpu;
    struct interp *in = bt->in;
    const struct op *o = s == bt->sites ? NULL : site_op(bt, s);
    uint32_t mode = bt->mode;
    int r;

    bt->st.callouts++;
    cpu->rip = s->va;
    if (!o) {
        bt_vec_save(bt);
        if (interp_step(in)) {
            bt->st.faults++;
            interp_faulted(in);
        }
        return go_on(bt);
    }
    bt->callouts[o->insn->op]++;
    bt->dropped = false;
    if (!novec(o->insn))
        bt_vec_save(bt);
    in->code_page = NULL;
    r = o->fn(in, o);
    if (r < 0) {
        bt->st.faults++;
        interp_faulted(in);
        return go_on(bt);
    }
    if (r == OP_AGAIN) {
        cpu->rflags |= X86_FL_RF;
        in->check = true;
        return NULL;
    }
    if (r != OP_JUMP)
        cpu->rip += o->len;
    cpu->icount++;
    /* What STI's shadow would hold back isn't there. */
    if (cpu->shadow == X86_SHADOW_STI && !kick_pending(&cpu->kick) &&
        x86_lapic_pending(cpu) < 0 && !cpu->nmi_pending)
        cpu->shadow = 0;
    if (must_leave(bt))
        return NULL;
    if (r == OP_NEXT && !bt->dropped && !s->group && bt->mode == mode)
        return resume(bt, bt->rx + s->next);
    return go_on(bt);
}

/* Whether nothing else comes before the #PF of the site's access: operands of
 * vector instructions must be aligned, x87 exceptions may be pending. */
static bool fault_comes_first(struct bt *bt, struct bt_site *s)
{
    const struct op *o = site_op(bt, s);
    const struct x86_form_info *fi;

    if (!o)
        return false;
    fi = x86_form_info(o->insn->form);
    return (fi->cls == X86_CLS_INT || fi->cls == X86_CLS_BRANCH) &&
           !(fi->attr & (XA_ALIGN | XA_ALIGN16 | XA_ALIGN64));
}

static const void *miss(struct bt *bt, struct bt_site *s)
{
    unsigned flags = s->write ? X86_LIN_WRITE : X86_LIN_READ;
    uint64_t va = bt->va;
    struct xlat x;

    if ((va & 0xfff) + s->size > 4096 || !x86_canonical(va))
        return callout(bt, s);
    bt->cpu->rip = s->va;
    if (tlb_xlat(bt->in, va, flags, &x)) {
        if (!fault_comes_first(bt, s))
            return callout(bt, s);
        bt->st.faults++;
        interp_faulted(bt->in);
        return go_on(bt);
    }
    bt_tlb_sync(bt);
    if (!bt_tlb_fill(bt, (enum tlb_kind)s->kind, va, s->write))
        return callout(bt, s);
    return resume(bt, bt->rx + s->start);
}

static const void *dispatch(struct bt *bt)
{
    struct bt_site *s = &bt->sites[bt->site];

    bt->st.gates++;
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
    default:
        bt->cpu->rip = s->va;
        return go_on(bt);
    }
}

const void *bt_dispatch(struct bt *bt)
{
    const void *code = dispatch(bt);

    if (!code)
        bt_vec_save(bt);
    return code;
}

/* ---- the loop ---- */

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

    bt->mode = bt_mode_now(bt);
    if (bt->mode != BT_MODE_NONE && !interp_must_step(in)) {
        run_translated(bt);
        return;
    }
    bt->st.interp_runs++;
    if (interp_must_step(in)) {
        if (interp_step(in))
            interp_faulted(in);
    } else {
        interp_blocks(in);
    }
    bt->st.interp_insns += bt->cpu->icount - before;
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
    asm volatile("wrgsbase %0" : : "r"(bt));
    bt->thread = pthread_self();
    atomic_store(&bt->in_run, 1);
    in->budget_at = in->clock_at = in->stop_at = UINT64_MAX;
    interp_enter(in);
    interp_mode_update(in);
    for (;;) {
        atomic_store(&bt->req, 0);
        if (atomic_load(&bt->inval_n))
            bt_inval_take(bt);
        if (interp_attend(in, &exit->reason))
            break;
        run_some(bt);
    }
    atomic_store(&in->running, 0);
    atomic_store(&bt->in_run, 0);
    exit->insns = 0;
}
