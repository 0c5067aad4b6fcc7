// SPDX-License-Identifier: Apache-2.0
/*
 * The first-level TLB that translated code looks into, and the branch caches.
 * Both are filled from what the interpreter's TLB (the second level, which
 * knows PCIDs, global pages and large pages) allows, and dropped by halves of
 * the address space when its generations change.
 *
 * A key is minus the page's address: address + key is the offset in the page,
 * or too large. An empty entry's key is that of a page that another index has:
 * page 0, or page 1 for the entries of page 0 and of the last page, from whose
 * last bytes an access would wrap around into page 0.
 */
#include "engine/bt/priv.h"

#include "cpu/x86/paging.h"

#define PAGE (~UINT64_C(0xfff))

static uint64_t no_key(unsigned i)
{
    return i == 0 || i == BT_TLB_N - 1 ? -UINT64_C(0x1000) : 0;
}

static void half_clear(struct bt *bt, unsigned half)
{
    unsigned at = half * (BT_TLB_N / 2), odd = half ? BT_TLB_N - 1 : 0;

    for (unsigned k = 0; k < 3; k++) {
        memset(&bt->tlb[k].r[at], 0, BT_TLB_N / 2 * sizeof bt->tlb[k].r[0]);
        memset(&bt->tlb[k].w[at], 0, BT_TLB_N / 2 * sizeof bt->tlb[k].w[0]);
        bt->tlb[k].r[odd] = bt->tlb[k].w[odd] = no_key(odd);
    }
}

/* Undo the direct jumps between kernel pages. */
static void unlink_all(struct bt *bt)
{
    for (uint32_t i = 0; i < bt->nxlinks; i++) {
        const struct bt_site *s = &bt->sites[bt->xlink[i]];
        uint32_t rel = s->next - s->start - 4;

        memcpy(bt->rw + s->start, &rel, 4);
    }
    bt->nxlinks = 0;
}

void bt_ib_flush(struct bt *bt, unsigned k)
{
    if (k != TLB_USER)
        unlink_all(bt);
    if (!bt->ib_used[k])
        return;
    bt->ib_used[k] = false;
    memset(bt->ib[k].key, 0,
           (k == TLB_USER ? BT_IB_USER_N : BT_IB_N) * sizeof bt->ib[k].key[0]);
    bt->ib[k].key[0] = 16; /* of minus 16, which another index has */
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
}

/* Entries of one page's code lie next to each other. */
static void ib_drop(struct bt *bt, unsigned k, uint64_t va, unsigned shift)
{
    unsigned at = bt_ib_index(k, va & PAGE);

    if (k != TLB_USER)
        unlink_all(bt);
    if (shift > 12) {
        bt_ib_flush(bt, k);
        return;
    }
    for (unsigned i = at; i < at + 4096 / 4; i++)
        if (((-bt->ib[k].key[i]) ^ va) >> 12 == 0)
            bt->ib[k].key[i] = i ? 0 : 16;
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
    for (unsigned k = 0; k < 3; k++)
        if (bt->tlb[k].host[i] == (uintptr_t)host)
            bt->tlb[k].w[i] = no_key(i);
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
    bt->ibmask[TLB_USER] = (BT_IB_USER_N - 1) << 2;
    bt->ibmask[TLB_SUP] = bt->ibmask[TLB_SUPAC] = (BT_IB_N - 1) << 2;
    bt->in->dropped = page_drop;
    bt->in->unwrite = unwrite;
    bt_tlb_flush(bt);
}
