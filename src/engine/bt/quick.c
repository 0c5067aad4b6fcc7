// SPDX-License-Identifier: Apache-2.0
/*
 * What translated code asks most often, answered without saving the guest's
 * vector registers: TLB fills from the second level or the page tables, direct
 * jumps to blocks that exist, indirect jumps that missed. This and what it
 * calls are compiled for general registers only (build.mk).
 */
#include "engine/bt/quick_str.h"
#include "engine/bt/quick_sys.h"

const void *bt_quick(struct bt *bt);

static ALWAYS_INLINE uint64_t key_none(unsigned i)
{
    return i == 0 || i == BT_TLB_N - 1 ? -UINT64_C(0x2000) : 0;
}

/* Copy the second level's entry of @va. Return: whether the access may go. */
static ALWAYS_INLINE bool fill(struct bt *bt, unsigned kind, uint64_t va,
                               bool write)
{
    struct interp *in = bt->in;
    const struct tlb_ent *e = tlb_ent_of(in, kind, va);
    uint64_t tag = (va & PAGE) | in->gen[va >> 63];
    unsigned i = bt_tlb_index(va);
    struct bt *v = bt->view;
    bool r = e->r == tag, w = e->w == tag;

    if (!(write ? w : r))
        return false;
    if (v->tlb[kind].r[i] == key_none(i) && v->tlb[kind].w[i] == key_none(i))
        bt_log_add(
            va >> 63 ? &bt->upper_log[kind] : &bt->views[bt->at].log[kind], i);
    v->tlb[kind].r[i] = r ? -(va & PAGE) : key_none(i);
    v->tlb[kind].w[i] = w ? -(va & PAGE) : key_none(i);
    v->tlb[kind].delta[i] = (uintptr_t)e->host - (va & PAGE);
    bt->st.tlb_fills++;
    return true;
}

void bt_stk_fill(struct bt *bt, enum tlb_kind kind, uint64_t va)
{
    struct bt_stk *stk = bt_stk(bt, kind);
    unsigned i = bt_tlb_index(va);
    uint64_t key = -(va & PAGE);

    stk->r = bt->view->tlb[kind].r[i] == key ? key : BT_STK_NONE;
    stk->w = bt->view->tlb[kind].w[i] == key ? key : BT_STK_NONE;
    stk->delta = bt->view->tlb[kind].delta[i];
}

bool bt_tlb_fill(struct bt *bt, enum tlb_kind kind, uint64_t va, bool write)
{
    return fill(bt, kind, va, write);
}

void bt_ib_put(struct bt *bt, unsigned k, uint64_t va, const void *code)
{
    unsigned i = bt_ib_index(k, va);

    tlb_code_note(bt->in, va);
    if ((k == TLB_USER) != !(va >> 63) || !i)
        return; /* kernel code in the lower half: always looked up */
    if (bt_ib(bt, k)[i] == (uintptr_t)bt->rx + BT_THUNK)
        bt_log_add(
            k == TLB_USER ? &bt->views[bt->at].ib_log : &bt->ib_log[k - 1], i);
    bt_ib(bt, k)[i] = (uintptr_t)code;
}

/* Whether @b, if it lies on two pages, still does on these, as far as the TLB
 * knows. */
static bool tail_ok(const struct bt *bt, const struct bt_block *b)
{
    const struct interp *in = bt->in;
    const struct tlb_ent *e;
    uint64_t va = (b->va | 0xfff) + 1;

    if (!b->tail)
        return true;
    e = tlb_ent_of(in, bt->mode & BT_MODE_KIND, va);
    return e->x == (va | in->gen[va >> 63]) && e->host == b->tail;
}

static ALWAYS_INLINE struct bt_block *find(struct bt *bt, const uint8_t *src,
                                           uint64_t va, uint32_t mode)
{
    uint32_t i = __atomic_load_n(&bt->hash[bt_hash(src, va)], __ATOMIC_ACQUIRE);

    while (i) {
        struct bt_block *b = &bt->blocks[i - 1];

        if (b->src == src && b->va == va && b->mode == mode &&
            bt_block_valid(b) && tail_ok(bt, b))
            return b;
        i = __atomic_load_n(&b->hash_next, __ATOMIC_ACQUIRE);
    }
    return NULL;
}

struct bt_block *bt_block_find(struct bt *bt, const uint8_t *src, uint64_t va,
                               uint32_t mode)
{
    return find(bt, src, va, mode);
}

const void *bt_quick_jump(struct bt *bt, uint64_t va)
{
    struct interp *in = bt->in;
    unsigned kind = bt->mode & BT_MODE_KIND;
    const struct tlb_ent *e = tlb_ent_of(in, kind, va);
    struct bt_block *b;

    if (bt->req || bt->check)
        return NULL;
    if (e->x != ((va & PAGE) | in->gen[va >> 63]) &&
        (!bt_quick_walk(bt, va, X86_LIN_EXEC) ||
         e->x != ((va & PAGE) | in->gen[va >> 63])))
        return NULL;
    b = find(bt, e->host + (va & 0xfff), va, bt->mode);
    if (!b)
        return NULL;
    if (b->tail)
        tlb_code_note(in, va + X86_INSN_MAX_BYTES);
    if (bt_far_put(bt, b))
        tlb_code_note(in, va);
    else
        bt_ib_put(bt, kind, va, bt->rx + b->indirect);
    return bt->rx + b->code;
}

/* An indirect jump missed: or a request made it miss, that is over. Only
 * bt_run, which then looks at all that may be asked, may take a request back.
 */
static NOINLINE const void *indirect(struct bt *bt)
{
    bt->st.ib_misses++;
    if (!bt->req && bt_ib_shut(bt)) {
        bt_ib_open(bt);
        if (bt->req)
            bt_post(bt);
    }
    return bt_quick_jump(bt, bt->rip);
}

/* Have the cell of the link @s lead to @b. */
static void link_put(struct bt *bt, struct bt_site *s, struct bt_block *b)
{
    uint64_t *cell = &bt->cells[s->start];

    /* another vCPU may be faster; whoever drops may be about to */
    if (!bt_links_try(bt->cache))
        return;
    if (bt_block_valid(&bt->blocks[s->block]) && bt_block_valid(b) &&
        *cell == (uintptr_t)bt->rx + s->next) {
        __atomic_store_n(cell, (uintptr_t)bt->rx + b->code, __ATOMIC_RELEASE);
        s->in_next = b->in;
        b->in = (uint32_t)(s - bt->sites);
        bt->st.links++;
    }
    bt_links_done(bt->cache);
}

static NOINLINE const void *link_to(struct bt *bt, struct bt_site *s)
{
    struct bt_block *from = &bt->blocks[s->block], *b;

    if (bt->check)
        return NULL;
    b = find(bt,
             (const uint8_t *)((uintptr_t)from->src & PAGE) + (s->va & 0xfff),
             s->va, bt->mode);
    if (!b || b->tail)
        return b ? bt_quick_jump(bt, s->va) : NULL;
    link_put(bt, s, b);
    return bt->rx + b->code;
}

void bt_quick_link(struct bt *bt, uint32_t site)
{
    struct bt_site *s = &bt->sites[site];
    uint32_t mode = bt->blocks[s->block].mode & ~BT_MODE_NOWIN;

    /* C may have gone on in another mode: at the same address, too. */
    if (((mode & ~BT_MODE_KIND) | s->kind) == bt->mode)
        (void)link_to(bt, s);
}

/* ---- misses ---- */

/* To the full gate, in another matter. */
static const void *full(struct bt *bt, uint32_t reason)
{
    bt->reason = reason;
    return NULL;
}

/* The same instructions with each access checked by itself. */
static const void *no_window(struct bt *bt, const struct bt_site *s)
{
    const struct bt_block *from = &bt->blocks[s->block], *b;

    if (bt->check)
        return NULL;
    b = find(bt,
             (const uint8_t *)((uintptr_t)from->src & PAGE) + (s->va & 0xfff),
             s->va, bt->mode | BT_MODE_NOWIN);
    if (!b)
        return NULL;
    if (s->s1 != X86_R11) {
        if (!bt_quick_saved(s->s1) || !bt_quick_saved(s->s2))
            return NULL;
        bt->home[X86_R11] = bt->lgpr[X86_R11];
        bt->home[X86_R10] = bt->lgpr[X86_R10];
        bt->lgpr[s->s1] = bt->home[s->s1];
        bt->lgpr[s->s2] = bt->home[s->s2];
    }
    bt->st.window_fails++;
    return bt->rx + b->code;
}

/* A read that lies on two pages is made from a copy, which is as much out of
 * alignment as the original. */
static const void *on_two_pages(struct bt *bt, const struct bt_site *s)
{
    unsigned first = 4096 - (unsigned)(bt->va & 0xfff);
    uint8_t *to = bt->bounce + (bt->va & 63);
    const uint8_t *a, *b;

    if (s->write || !s->hit || s->size > 64)
        return NULL;
    if (s->s1 != X86_R11 && !(bt_quick_saved(s->s1) && bt_quick_saved(s->s2)))
        return NULL;
    a = bt_quick_known(bt, s->kind, bt->va, false);
    b = bt_quick_known(bt, s->kind, bt->va + first, false);
    if (!a || !b)
        return NULL;
    for (unsigned i = 0; i < s->size; i++)
        ((volatile uint8_t *)to)[i] = i < first ? a[i] : b[i - first];
    bt->lgpr[s->s1] = bt->va;
    bt->lgpr[s->s2] = (uintptr_t)to - bt->va;
    return bt->rx + s->hit;
}

/* The second level doesn't have it. A window is only read: whether any of its
 * accesses happens is not known yet. Other windows that stand are void when
 * entries were dropped. */
static const void *walk(struct bt *bt, const struct bt_site *s)
{
    uint64_t flushed = bt->flushed;
    bool write = s->write && !s->window;

    if (bt->check || (!s->window && s->size >= 16))
        return NULL; /* vectors: alignment comes first */
    if (!bt_quick_walk(bt, bt->va, write ? X86_LIN_WRITE : X86_LIN_READ)) {
        const void *code;

        if (s->window)
            code = no_window(bt, s);
        else
            code = bt_quick_fault(bt, s);
        if (code || bt->flushed == flushed)
            return code;
        return full(bt, s->window ? BT_G_AGAIN : BT_G_FAULT);
    }
    if (fill(bt, s->kind, bt->va, s->write)) {
        if (bt->flushed != flushed)
            return full(bt, BT_G_AGAIN);
        if (s->stack)
            bt_stk_fill(bt, (enum tlb_kind)s->kind, bt->va);
        return bt->rx + s->start;
    }
    if (bt->flushed == flushed)
        return s->window ? no_window(bt, s) : NULL;
    return full(bt, BT_G_AGAIN);
}

static NOINLINE const void *miss(struct bt *bt, const struct bt_site *s)
{
    bt->st.tlb_misses++;
    if ((bt->va & 0xfff) + s->size > 4096)
        return s->window ? no_window(bt, s) : on_two_pages(bt, s);
    if (!fill(bt, s->kind, bt->va, s->write))
        return walk(bt, s);
    if (s->stack)
        bt_stk_fill(bt, (enum tlb_kind)s->kind, bt->va);
    return bt->rx + s->start;
}

const void *bt_quick(struct bt *bt)
{
    struct bt_site *s = &bt->sites[bt->site];

    bt_count(&bt->st.quick_callout, bt->reason);
    switch (bt->reason) {
    case BT_G_CALLOUT:
        if (s->quick >= BT_Q_BITS)
            return bt_quick_addr(bt, s);
        if (s->quick >= BT_Q_STR)
            return bt_quick_str(bt, s);
        return bt_quick_sys(bt, s);
    case BT_G_MISS:
        return miss(bt, s);
    case BT_G_LINK:
        return link_to(bt, s);
    case BT_G_IB:
        return indirect(bt);
    default:
        return NULL;
    }
}
