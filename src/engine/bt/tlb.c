// SPDX-License-Identifier: Apache-2.0
/*
 * The first-level TLB that translated code looks into, and the branch caches.
 * Both are filled from what the interpreter's TLB (the second level, which
 * knows PCIDs, global pages and large pages) allows, and dropped by halves of
 * the address space when its generations change.
 *
 * A key is minus the page's address: address + key is the offset in the page,
 * or too large. An empty entry's key is that of a page that another index has:
 * page 0, or page 2 for the entries of page 0 and of the last page. It must not
 * be the page after one that has the index, either: an access of the last bytes
 * would wrap around and seem to be in it. Beside the keys stands
 * what is to be added to a guest address for the host's.
 *
 * The lower half, the user's branch cache and stack page are there once for
 * each slot that the interpreter has for PCIDs (view.c): a change of PCID
 * changes the view.
 */
#include "engine/bt/zone.h"

#include "cpu/x86/paging.h"

#define PAGE (~UINT64_C(0xfff))

static uint64_t no_key(unsigned i)
{
    return i == 0 || i == BT_TLB_N - 1 ? -UINT64_C(0x2000) : 0;
}

static void stk_drop(struct bt_stk *stk)
{
    stk->r = stk->w = BT_STK_NONE;
}

static void ib_clear(const struct bt *bt, uint64_t *ib, unsigned n,
                     struct bt_log *log)
{
    uint64_t thunk = (uintptr_t)bt->rx + BT_THUNK;

    if (log->n <= BT_LOG_MAX)
        for (unsigned i = 0; i < log->n; i++)
            ib[log->at[i]] = thunk;
    else
        for (unsigned i = 0; i < n; i++)
            ib[i] = thunk;
    log->n = 0;
}

/* One half of the table of a kind. */
static void keys_clear(struct bt *v, unsigned k, unsigned half,
                       struct bt_log *log)
{
    unsigned at = half * (BT_TLB_N / 2), odd = half ? BT_TLB_N - 1 : 0;

    if (log->n <= BT_LOG_MAX) {
        for (unsigned i = 0; i < log->n; i++)
            v->tlb[k].r[log->at[i]] = v->tlb[k].w[log->at[i]] = 0;
    } else {
        memset(&v->tlb[k].r[at], 0, BT_TLB_N / 2 * sizeof v->tlb[k].r[0]);
        memset(&v->tlb[k].w[at], 0, BT_TLB_N / 2 * sizeof v->tlb[k].w[0]);
    }
    v->tlb[k].r[odd] = v->tlb[k].w[odd] = no_key(odd);
    log->n = 0;
}

/* Drop what view @i holds of its own. */
static void view_clear(struct bt *bt, unsigned i)
{
    struct bt *v = bt_view_of(bt->part, bt->cpu->index, i);

    for (unsigned k = 0; k < 3; k++)
        keys_clear(v, k, 0, &bt->views[i].log[k]);
    stk_drop(&v->stk_user);
    v->here = (uintptr_t)v;
    ib_clear(bt, v->ib_user, BT_IB_USER_N, &bt->views[i].ib_log);
    bt_far_flush_view(bt, i);
}

static void upper_clear(struct bt *bt)
{
    for (unsigned k = 0; k < 3; k++) {
        keys_clear(bt, k, 1, &bt->upper_log[k]);
        stk_drop(bt_stk(bt, k));
    }
    bt_ib_flush(bt, TLB_SUP);
    bt_ib_flush(bt, TLB_SUPAC);
    bt_zones_sync(bt, true);
    bt->flushed++;
}

void bt_ib_flush(struct bt *bt, unsigned k)
{
    if (k != TLB_USER) {
        ib_clear(bt, bt_ib(bt, k), BT_IB_N, &bt->ib_log[k - 1]);
        bt_far_flush_sup(bt);
        return;
    }
    for (unsigned i = 0; i < PCID_SLOTS; i++)
        bt_ib_flush_view(bt, i);
}

/* One without a generation is emptied before it is used. */
void bt_ib_flush_view(struct bt *bt, unsigned i)
{
    if (!bt->views[i].gen)
        return;
    ib_clear(bt, bt_view_of(bt->part, bt->cpu->index, i)->ib_user, BT_IB_USER_N,
             &bt->views[i].ib_log);
    bt_far_flush_view(bt, i);
}

static uint64_t gen_now(const struct bt *bt, unsigned half)
{
    return bt->in->gen[half] | bt->in->wraps << 12;
}

/* Nothing is known of what the tables hold. Other views are emptied when they
 * are switched to. */
void bt_tlb_flush(struct bt *bt)
{
    for (unsigned i = 0; i < PCID_SLOTS; i++) {
        for (unsigned k = 0; k < 3; k++)
            bt->views[i].log[k].n = UINT32_MAX;
        bt->views[i].ib_log.n = bt->views[i].far_log.n = UINT32_MAX;
        bt->views[i].gen = 0;
    }
    view_clear(bt, bt->at);
    for (unsigned k = 0; k < 3; k++)
        bt->upper_log[k].n = UINT32_MAX;
    bt->ib_log[0].n = bt->ib_log[1].n = bt->far_log.n = UINT32_MAX;
    upper_clear(bt);
    bt->gen = gen_now(bt, 1);
}

/* To the view of the interpreter's slot. */
static void view_switch(struct bt *bt)
{
    unsigned i = bt->in->pcid_cur;
    uint64_t gen = gen_now(bt, 0);
    bool same = bt->views[i].gen == gen;

    bt_zones_late(bt);

    bt->at = i;
    bt->view = bt_view_of(bt->part, bt->cpu->index, i);
    atomic_store_explicit(&bt->view_used[i], 1, memory_order_relaxed);
    if (!same) {
        view_clear(bt, i);
        bt->views[i].gen = gen;
        bt->st.view_clears++;
    }
    for (unsigned k = TLB_SUP; k <= TLB_SUPAC; k++) {
        struct bt_stk *stk = bt_stk(bt, k);

        if (!(-stk->r >> 63) || !(-stk->w >> 63))
            stk_drop(stk);
    }
    if (bt->in_run)
        asm volatile("wrgsbase %0" : : "r"(bt->view));
    bt_zones_view(bt, same);
    bt->flushed++;
    bt->st.view_switches++;
}

/* Drop what the interpreter's TLB has dropped since. */
void bt_tlb_sync(struct bt *bt)
{
    if (UNLIKELY(bt->at != bt->in->pcid_cur ||
                 bt->views[bt->at].gen != gen_now(bt, 0)))
        view_switch(bt);
    if (UNLIKELY(bt->gen != gen_now(bt, 1))) {
        upper_clear(bt);
        bt->gen = gen_now(bt, 1);
    }
}

static void keys_drop(struct bt *bt, uint64_t va, unsigned shift)
{
    uint64_t first = va & ~(BIT(shift) - 1);
    unsigned at = bt_tlb_index(first), n = BT_TLB_N / 2;
    struct bt *v = bt->view;

    if (shift < 24)
        n = 1U << (shift - 12);
    else
        at &= BT_TLB_N / 2;
    for (unsigned k = 0; k < 3; k++) {
        struct bt_stk *stk = bt_stk(bt, k);

        if ((-stk->r ^ va) >> shift == 0 || (-stk->w ^ va) >> shift == 0)
            stk_drop(stk);
        if (!(va >> 63 ? bt->upper_log[k].n : bt->views[bt->at].log[k].n))
            continue;
        for (unsigned i = at; i < at + n; i++) {
            if ((-v->tlb[k].r[i] ^ va) >> shift == 0)
                v->tlb[k].r[i] = no_key(i);
            if ((-v->tlb[k].w[i] ^ va) >> shift == 0)
                v->tlb[k].w[i] = no_key(i);
        }
    }
    bt->flushed++;
}

static bool key_of(uint64_t key, uint64_t va)
{
    return key && (-key ^ va) >> 63 == 0 &&
           TLB_SEEN_OF(-key) == TLB_SEEN_OF(va);
}

/* The interpreter asks: is anything left that its filter takes for @va's? */
static bool holds(void *outer, uint64_t va)
{
    struct bt *bt = outer, *v = bt->view;
    unsigned at = bt_tlb_index(va) & (BT_TLB_N / 2);

    for (unsigned k = 0; k < 3; k++) {
        const struct bt_stk *stk = bt_stk(bt, k);

        for (unsigned i = at; i < at + BT_TLB_N / 2; i++)
            if (key_of(v->tlb[k].r[i], va) || key_of(v->tlb[k].w[i], va))
                return true;
        if (key_of(stk->r, va) || key_of(stk->w, va))
            return true;
    }
    return false;
}

/* Entries of one page's code lie next to each other; @va's page is that of the
 * current view. */
static void ib_drop(struct bt *bt, unsigned k, uint64_t va, unsigned shift)
{
    uint64_t *ib = bt_ib(bt, k);

    if (shift > 12) {
        ib_clear(bt, ib, bt_ib_n(k),
                 k == TLB_USER ? &bt->views[bt->at].ib_log
                               : &bt->ib_log[k - 1]);
        return;
    }
    /* from what begins in the page before and ends in this one */
    for (unsigned i = bt_ib_index(k, (va & PAGE) - 16), n = 4 + 4096 / 4; n;
         i++, n--)
        ib[i & (bt_ib_n(k) - 1)] = (uintptr_t)bt->rx + BT_THUNK;
}

/* The interpreter's TLB holds a page no longer. */
static void page_drop(void *outer, uint64_t va, unsigned shift, bool code)
{
    struct bt *bt = outer;

    keys_drop(bt, va, shift);
    if (!bt->in->locals_go)
        bt_zones_drop(bt, va, shift);
    if (!code)
        return;
    if ((va ^ bt->cpu->rip) >> shift == 0)
        bt->dropped = true; /* look up what is next */
    bt_far_drop(bt, va, shift);
    if (va >> 63) {
        ib_drop(bt, TLB_SUP, va, shift);
        ib_drop(bt, TLB_SUPAC, va, shift);
    } else {
        ib_drop(bt, TLB_USER, va, shift);
    }
}

/* The interpreter's TLB gave up write rights. */
static void unwrite(void *outer, uint64_t lin, unsigned slot,
                    const uint8_t *host)
{
    struct bt *bt = outer, *v = bt;
    unsigned i = bt_tlb_index(lin);
    bool held = false;

    if (slot < PCID_SLOTS)
        v = bt_view_of(bt->part, bt->cpu->index, slot);
    for (unsigned k = 0; k < 3; k++) {
        struct bt_stk *stk = k == TLB_USER ? &v->stk_user : bt_stk(bt, k);

        if (v->tlb[k].delta[i] - v->tlb[k].w[i] == (uintptr_t)host) {
            v->tlb[k].w[i] = no_key(i);
            held = true;
        }
        if (stk->delta - stk->w == (uintptr_t)host) {
            stk->w = BT_STK_NONE;
            held = true;
        }
    }
    bt->flushed += held;
}

/* ---- hooks of cpu/x86 ---- */

static void lin_flush(void *ctx, enum x86_flush kind, gva_t va, uint16_t pcid)
{
    struct interp *in = ctx;
    bool other = pcid != in->pcid[in->pcid_cur].pcid;

    tlb_lin_flush(ctx, kind, va, pcid);
    bt_tlb_sync(in->outer);
    if (kind != X86_FLUSH_PAGE || other)
        bt_zones_root(in->outer);
}

static void lin_root(void *ctx, bool keep)
{
    struct interp *in = ctx;

    tlb_lin_root(ctx, keep);
    bt_tlb_sync(in->outer);
    bt_zones_root(in->outer);
}

void bt_tlb_init(struct bt *bt)
{
    bt->lin = interp_lin_ops;
    bt->lin.flush = lin_flush;
    bt->lin.root = lin_root;
    bt->tlbmask = (BT_TLB_N / 4 - 1UL) << 12 | BIT(45) | BIT(63);
    bt->flpext = 0xd5 | BIT(56);
    bt->flpdep = X86_FL_ARITH;
    bt->himask = PAGE;
    bt->iret.cs_at = BT_STK_NONE; /* no IRET is known */
    bt_unpost(bt);
    bt->view = bt;
    bt->in->dropped = page_drop;
    bt->in->holds = holds;
    bt->in->unwrite = unwrite;
    bt_tlb_flush(bt);
    view_switch(bt);
}
