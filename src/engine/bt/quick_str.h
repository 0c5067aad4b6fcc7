// SPDX-License-Identifier: Apache-2.0
/*
 * String instructions in the quick gate: what their sites say (string.c), and
 * who runs them (quick_str.c).
 */
#ifndef DOPPEL_ENGINE_BT_QUICK_STR_H
#define DOPPEL_ENGINE_BT_QUICK_STR_H

#include "engine/bt/front.h"
#include "engine/bt/quick_sys.h"

/* bt_site.quick, beside enum bt_quick_op. */
enum bt_quick_str_op {
    BT_Q_STR = 64,
    BT_Q_MOVS = BT_Q_STR,
    BT_Q_STOS,
    BT_Q_LODS,
    BT_Q_CMPS,
    BT_Q_SCAS,
    BT_Q_STD,
    /* from here on: the operand's address is in bt->va */
    BT_Q_BITS, /* bt->slot[BT_BITS_SLOT]: the bit index */
    BT_Q_INVLPG,
    BT_Q_XSAVE,
    BT_Q_XSAVEOPT,
    BT_Q_XSAVEC,
    BT_Q_XRSTOR
};

/* bt_site.arg of string instructions */
#define BT_STR_SIZE  3U /* element: 1 << bytes */
#define BT_STR_REP   4U /* F2 or F3 */
#define BT_STR_REPNE 8U
#define BT_STR_AD32  16U
#define BT_STR_SEG   96U /* the source's segment */
#define BT_STR_FS    32U
#define BT_STR_GS    64U

/* bt_site.arg of BT BTS BTR BTC with a bit index in a register */
#define BT_BITS_SIZE 3U  /* operand: 1 << bytes */
#define BT_BITS_OP   12U /* what is done with the bit */
#define BT_BITS_SET  4U
#define BT_BITS_CLR  8U
#define BT_BITS_FLIP 12U
#define BT_BITS_LOCK 16U

#define BT_BITS_SLOT 7

/** bt_str_site() - the callout's site @site, if the quick gate may run the
 * instruction; what it needs is stored */
void bt_str_site(struct bt_tr *t, uint32_t site);

/** bt_str_inline() - a short repeated MOVS or STOS within its pages as it is
 * Return: a rel32 that is to lead behind the callout; 0: nothing was made. */
uint32_t bt_str_inline(struct bt_tr *t);

/** bt_quick_str() - run a site's string instruction, as far as it goes
 * Return: host address to go on at; NULL: the interpreter goes on, from
 * registers that are right between two elements. */
const void *bt_quick_str(struct bt *bt, const struct bt_site *s);

/** bt_quick_addr() - run an instruction whose operand's address is in bt->va:
 * bits, INVLPG, XSAVE and kin
 * Return: host address to go on at; NULL: nothing was done. */
const void *bt_quick_addr(struct bt *bt, const struct bt_site *s);

/* An XSAVE area in one guest page or two: its byte @at is p[at >= n0][at]. */
struct bt_area {
    uint8_t *p[2];
    size_t n0; /* bytes in the first page */
};

/* vec.S: the guest's vector registers from and to one */
void bt_xmm_put(const struct bt_area *a);
void bt_xmm_get(const struct bt_area *a);
void bt_xmm_zero(void);
bool bt_xmm_any(void);
bool bt_ymm_any(void);
void bt_ymm_put(const struct bt_area *a);
void bt_ymm_get(const struct bt_area *a);

/** bt_quick_known() - the host address of guest byte @va, if the TLBs have it
 * Return: NULL: they don't. */
static ALWAYS_INLINE uint8_t *bt_quick_known(struct bt *bt, unsigned kind,
                                             uint64_t va, bool write)
{
    unsigned i = bt_tlb_index(va);
    uint64_t off =
        va + (write ? bt->view->tlb[kind].w[i] : bt->view->tlb[kind].r[i]);

    if (UNLIKELY(off > 4095) &&
        !bt_tlb_fill(bt, (enum tlb_kind)kind, va, write))
        return NULL;
    return (uint8_t *)(uintptr_t)(bt->view->tlb[kind].delta[i] + va);
}

/** bt_quick_host() - the host address of guest byte @va
 * Return: NULL: the TLBs don't know it, nor the page tables, or not as RAM that
 * may be used so. */
static ALWAYS_INLINE uint8_t *bt_quick_host(struct bt *bt, unsigned kind,
                                            uint64_t va, bool write)
{
    unsigned i = bt_tlb_index(va);
    uint64_t off =
        va + (write ? bt->view->tlb[kind].w[i] : bt->view->tlb[kind].r[i]);

    if (UNLIKELY(off > 4095) && !bt_quick_reach(bt, kind, va, write))
        return NULL;
    return (uint8_t *)(uintptr_t)(bt->view->tlb[kind].delta[i] + va);
}

#endif
