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
 */
#include "engine/bt/priv.h"

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

static void half_clear(struct bt *bt, unsigned half)
{
    unsigned at = half * (BT_TLB_N / 2), odd = half ? BT_TLB_N - 1 : 0;

    for (unsigned k = 0; k < 3; k++) {
        struct bt_stk *stk = bt_stk(bt, k);

        memset(&bt->tlb[k].r[at], 0, BT_TLB_N / 2 * sizeof bt->tlb[k].r[0]);
        memset(&bt->tlb[k].w[at], 0, BT_TLB_N / 2 * sizeof bt->tlb[k].w[0]);
        bt->tlb[k].r[odd] = bt->tlb[k].w[odd] = no_key(odd);
        if (-stk->r >> 63 == half || -stk->w >> 63 == half)
            stk_drop(stk);
    }
    bt->flushed++;
}

void bt_ib_flush(struct bt *bt, unsigned k)
{
    uint64_t *ib = bt_ib(bt, k), thunk = (uintptr_t)bt->rx + BT_THUNK;
    unsigned n = k == TLB_USER ? BT_IB_USER_N : BT_IB_N;

    if (!bt->ib_used[k])
        return;
    bt->ib_used[k] = false;
    for (unsigned i = 0; i < n; i++)
        ib[i] = thunk;
}

static uint64_t gen_now(const struct bt *bt, unsigned half)
{
    return bt->in->gen[half] | bt->in->wraps << 12;
}

void bt_tlb_flush(struct bt *bt)
{
    half_clear(bt, 0);
    half_clear(bt, 1);
    for (unsigned k = 0; k < 3; k++) {
        bt->ib_used[k] = true;
        bt_ib_flush(bt, k);
    }
    bt->gen[0] = gen_now(bt, 0);
    bt->gen[1] = gen_now(bt, 1);
}

/* Drop what the interpreter's TLB has dropped since. */
void bt_tlb_sync(struct bt *bt)
{
    if (UNLIKELY(bt->gen[0] != gen_now(bt, 0))) {
        half_clear(bt, 0);
        bt_ib_flush(bt, TLB_USER);
        bt->gen[0] = gen_now(bt, 0);
    }
    if (UNLIKELY(bt->gen[1] != gen_now(bt, 1))) {
        half_clear(bt, 1);
        bt_ib_flush(bt, TLB_SUP);
        bt_ib_flush(bt, TLB_SUPAC);
        bt->gen[1] = gen_now(bt, 1);
    }
}

static void keys_drop(struct bt *bt, uint64_t va, unsigned shift)
{
    unsigned at = bt_tlb_index(va), n = 1;

    if (shift > 12) {
        at &= BT_TLB_N / 2;
        n = BT_TLB_N / 2;
    }
    for (unsigned k = 0; k < 3; k++)
        for (unsigned i = at; i < at + n; i++) {
            if ((-bt->tlb[k].r[i] ^ va) >> shift == 0)
                bt->tlb[k].r[i] = no_key(i);
            if ((-bt->tlb[k].w[i] ^ va) >> shift == 0)
                bt->tlb[k].w[i] = no_key(i);
        }
    for (unsigned k = 0; k < 3; k++) {
        struct bt_stk *stk = bt_stk(bt, k);

        if ((-stk->r ^ va) >> shift == 0 || (-stk->w ^ va) >> shift == 0)
            stk_drop(stk);
    }
    bt->flushed++;
}

/* Entries of one page's code lie next to each other. */
static void ib_drop(struct bt *bt, unsigned k, uint64_t va, unsigned shift)
{
    unsigned at = bt_ib_index(k, va & PAGE);

    if (shift > 12) {
        bt_ib_flush(bt, k);
        return;
    }
    for (unsigned i = at; i < at + 4096 / 4; i++)
        bt_ib(bt, k)[i] = (uintptr_t)bt->rx + BT_THUNK;
}

/* The interpreter's TLB holds a page no longer. */
static void page_drop(void *outer, uint64_t va, unsigned shift, bool code)
{
    struct bt *bt = outer;

    keys_drop(bt, va, shift);
    if (!code)
        return;
    if ((va ^ bt->cpu->rip) >> shift == 0)
        bt->dropped = true; /* look up what is next */
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
    struct bt *bt = outer;
    unsigned i = bt_tlb_index(lin);

    (void)slot;
    for (unsigned k = 0; k < 3; k++) {
        struct bt_stk *stk = bt_stk(bt, k);

        if (bt->tlb[k].delta[i] - bt->tlb[k].w[i] == (uintptr_t)host)
            bt->tlb[k].w[i] = no_key(i);
        if (stk->delta - stk->w == (uintptr_t)host)
            stk->w = BT_STK_NONE;
    }
    bt->flushed++;
}

/* ---- hooks of cpu/x86 ---- */

static void lin_flush(void *ctx, enum x86_flush kind, gva_t va, uint16_t pcid)
{
    struct interp *in = ctx;

    tlb_lin_flush(ctx, kind, va, pcid);
    bt_tlb_sync(in->outer);
}

static void lin_root(void *ctx, bool keep)
{
    struct interp *in = ctx;

    tlb_lin_root(ctx, keep);
    bt_tlb_sync(in->outer);
}

void bt_tlb_init(struct bt *bt)
{
    bt->lin = interp_lin_ops;
    bt->lin.flush = lin_flush;
    bt->lin.root = lin_root;
    bt->tlbmask = UINT64_C(0x1ff) << 12 | BIT(63);
    bt->himask = PAGE;
    bt_unpost(bt);
    for (unsigned k = 0; k < 3; k++)
        stk_drop(bt_stk(bt, k));
    bt->in->dropped = page_drop;
    bt->in->unwrite = unwrite;
    bt_tlb_flush(bt);
}
