// SPDX-License-Identifier: Apache-2.0
/*
 * The execution loop. Blocks run at full speed while nothing asks for
 * attention; between blocks the loop looks at kicks, revocations, limits and
 * the flags that make instructions run one by one (TF, RF, shadows, armed
 * breakpoints, a limit that is near).
 */
#include "engine/interp/access.h"

#include "cpu/x86/insn.h"
#include "vm/clock.h"

/* ---- virtual clock and limits ---- */

void interp_clock_sync(struct interp *in)
{
    uint64_t n = in->cpu->icount - in->clock_done;

    if (!in->vclock || !n)
        return;
    in->clock_done = in->cpu->icount;
    clock_virtual_add(in->cpu->vm->clock, n * INTERP_VIRTUAL_NS_PER_INSN);
}

/* Where the run must stop next, as an instruction count. */
static void limits_update(struct interp *in)
{
    struct clock *clk = in->cpu->vm->clock;
    uint64_t next, now;

    in->clock_at = UINT64_MAX;
    if (in->vclock) {
        interp_clock_sync(in);
        next = clock_next_ns(clk);
        now = clock_now_ns(clk);
        if (next != CLOCK_NEVER)
            in->clock_at =
                in->cpu->icount +
                (next > now ? (next - now + INTERP_VIRTUAL_NS_PER_INSN - 1) /
                                  INTERP_VIRTUAL_NS_PER_INSN
                            : 0);
    }
    in->stop_at = in->clock_at < in->budget_at ? in->clock_at : in->budget_at;
}

/* HLT with the virtual clock: time passes until the next timer.
 * Return: whether a timer was run. */
static bool clock_skip(struct interp *in)
{
    struct clock *clk = in->cpu->vm->clock;
    uint64_t next, now;

    interp_clock_sync(in);
    next = clock_next_ns(clk);
    now = clock_now_ns(clk);
    if (next == CLOCK_NEVER)
        return false;
    if (next > now)
        clock_virtual_add(clk, next - now);
    interp_leave(in);
    clock_run(clk);
    interp_enter(in);
    return true;
}

/* ---- one instruction ---- */

void interp_faulted(struct interp *in)
{
    in->st.faults++;
    x86_deliver(in->cpu);
    interp_mode_update(in);
    in->check = true;
}

/* rip, icount and RF after a handler returned @r >= 0. */
static void retire(struct interp *in, const struct op *o, int r)
{
    struct x86_cpu *cpu = in->cpu;

    if (r == OP_AGAIN) {
        cpu->rflags |= X86_FL_RF; /* the instruction is resumed */
        in->check = true;
        return;
    }
    if (r != OP_JUMP)
        cpu->rip = rip_next(in, o);
    cpu->icount++;
}

/* INT n and kin clear TF on their way: no single-step trap comes after them,
 * the handler's first instruction does not trap either (SDM vol. 3B 17.3.1.4).
 */
static bool tf_lost(const struct x86_cpu *cpu, unsigned op)
{
    return !(cpu->rflags & X86_FL_TF) &&
           (op == X86_OP_INT || op == X86_OP_INT3 || op == X86_OP_INT1 ||
            op == X86_OP_INTO);
}

int interp_step(struct interp *in)
{
    struct x86_cpu *cpu = in->cpu;
    bool tf = cpu->rflags & X86_FL_TF, rf = cpu->rflags & X86_FL_RF;
    const struct op *o;
    struct block *b;
    int r;

    if (in->slow && x86_check_code_bp(cpu))
        return X86_FAULT;
    b = block_get_one(in);
    if (!b)
        return X86_FAULT;
    in->code_page = NULL; /* one instruction: it can't run into its writes */
    o = &b->ops[0];
    cpu->shadow = 0;
    r = o->fn(in, o);
    if (r < 0)
        return X86_FAULT;
    retire(in, o, r);
    if (rf && r != OP_AGAIN && o->insn->op != X86_OP_IRET)
        cpu->rflags &= ~X86_FL_RF;
    if (tf || in->slow)
        return x86_debug_trap(cpu, tf && !tf_lost(cpu, o->insn->op));
    return 0;
}

/* ---- blocks ---- */

static bool link_hit(const struct block_link *l, uint64_t rip, uint64_t xtag)
{
    return l->rip == rip && l->xtag == xtag;
}

static struct block_link *jump_slot(struct interp *in, uint64_t rip)
{
    return &in->jump[(rip ^ rip >> JUMP_BITS) & ((1U << JUMP_BITS) - 1)];
}

/* The block at rip: by @prev's links, the jump cache, or a lookup. */
static struct block *next_block(struct interp *in, struct block *prev)
{
    uint64_t rip = in->cpu->rip, xtag = in->xtag[rip >> 63];
    uint64_t drops = in->st.arena_flushes;
    struct block_link *slot = jump_slot(in, rip);
    struct block *b = NULL;

    if (prev && link_hit(&prev->link[0], rip, xtag))
        b = prev->link[0].to;
    else if (prev && link_hit(&prev->link[1], rip, xtag))
        b = prev->link[1].to;
    else if (link_hit(slot, rip, xtag))
        b = slot->to;
    if (b && LIKELY(block_fresh(b)))
        return b;
    b = block_get(in);
    if (!b || b == in->one || b->src2)
        return b;
    xtag = in->xtag[rip >> 63]; /* a fill may have begun a new epoch */
    *slot = (struct block_link){rip, xtag, b};
    tlb_code_note(in, rip);
    if (prev && drops == in->st.arena_flushes) {
        prev->link[prev->victim] = *slot;
        prev->victim ^= 1;
    }
    return b;
}

/* Run @b's instructions. Return: false when an exception was delivered. */
static bool exec_block(struct interp *in, const struct block *b)
{
    const struct op *o = b->ops, *end = o + b->nops;
    struct x86_cpu *cpu = in->cpu;
    int r;

    in->code_page = (uint8_t *)((uintptr_t)b->src & PAGE_MASK);
    in->st.blocks++;
    do {
        r = o->fn(in, o);
        if (r)
            break;
        cpu->rip += o->len;
        cpu->icount++;
        o++;
    } while (o != end);
    if (UNLIKELY(r < 0)) {
        interp_faulted(in);
        return false;
    }
    if (r)
        retire(in, o, r);
    else if (!in->mode64)
        cpu->rip = (uint32_t)cpu->rip;
    return true;
}

/* ---- what interrupts the blocks ---- */

bool interp_must_step(const struct interp *in)
{
    const struct x86_cpu *cpu = in->cpu;

    return (cpu->rflags & (X86_FL_TF | X86_FL_RF)) || cpu->shadow || in->slow;
}

bool interp_attention(const struct interp *in)
{
    return kick_pending(&in->cpu->kick) ||
           atomic_load_explicit(&in->attn, memory_order_relaxed) || in->check ||
           in->cpu->icount + BLOCK_OPS_MAX > in->stop_at ||
           interp_must_step(in);
}

/* At least one: a request may stand for long (a level while IF is clear). */
void interp_blocks(struct interp *in)
{
    struct block *b = NULL;

    do {
        b = next_block(in, b);
        if (UNLIKELY(!b)) {
            interp_faulted(in);
            return;
        }
        if (UNLIKELY(!exec_block(in, b)) || b == in->one)
            b = NULL;
    } while (!interp_attention(in));
}

/* Interrupts, INIT, HLT. Return: true with *reason: leave the run. */
static bool boundary(struct interp *in, enum exit_reason *reason)
{
    struct x86_cpu *cpu = in->cpu;

    in->check = false;
    if (!kick_pending(&cpu->kick) && !cpu->event.valid &&
        cpu->activity == X86_ACT_RUN && !x86_irq_window(cpu))
        return false;
    for (;;) {
        enum x86_bnd bnd = x86_boundary(cpu);

        interp_mode_update(in);
        switch (bnd) {
        case X86_BND_NONE:
            return false;
        case X86_BND_DELIVERED:
            in->st.irqs++;
            in->check = true;
            return false;
        case X86_BND_HALTED:
            if (in->vclock && cpu->activity == X86_ACT_HLT && clock_skip(in))
                continue;
            *reason = EXIT_HLT;
            return true;
        case X86_BND_PARKED:
            *reason = EXIT_PARK;
            return true;
        case X86_BND_SHUTDOWN:
            *reason = EXIT_SHUTDOWN;
            return true;
        }
    }
}

/* Whatever stands before the next block. Return: true with *reason set. */
bool interp_attend(struct interp *in, enum exit_reason *reason)
{
    struct x86_cpu *cpu = in->cpu;

    if (atomic_load(&in->attn))
        tlb_revoke_take(in);
    if (cpu->icount + BLOCK_OPS_MAX > in->stop_at) {
        limits_update(in);
        if (cpu->icount >= in->clock_at) {
            interp_leave(in);
            clock_run(cpu->vm->clock);
            interp_enter(in);
            limits_update(in);
        }
    }
    if (boundary(in, reason))
        return true;
    if (cpu->icount >= in->budget_at) {
        *reason = EXIT_BUDGET;
        return true;
    }
    return false;
}

void interp_run(struct engine_vcpu *v, uint64_t max_insns,
                struct exit_rec *exit)
{
    struct interp *in = interp_of(v);
    struct x86_cpu *cpu = in->cpu;
    uint64_t begin = cpu->icount;

    in->clock_done = cpu->icount;
    in->budget_at = max_insns ? begin + max_insns : UINT64_MAX;
    in->stop_at = 0;
    interp_enter(in);
    interp_mode_update(in);
    while (!interp_attend(in, &exit->reason)) {
        if (interp_must_step(in) || cpu->icount + BLOCK_OPS_MAX > in->stop_at) {
            if (interp_step(in))
                interp_faulted(in);
        } else {
            interp_blocks(in);
        }
    }
    interp_clock_sync(in);
    atomic_store(&in->running, 0);
    exit->insns = cpu->icount - begin;
    in->st.insns += exit->insns;
    in->st.exits++;
}
