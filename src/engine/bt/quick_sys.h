// SPDX-License-Identifier: Apache-2.0
/*
 * What the quick gate's files share: C for general registers only.
 */
#ifndef DOPPEL_ENGINE_BT_QUICK_SYS_H
#define DOPPEL_ENGINE_BT_QUICK_SYS_H

#include "engine/bt/priv.h"

#define PAGE (~UINT64_C(0xfff))

typedef uint16_t ANY_ALIGN unaligned16;
typedef uint32_t ANY_ALIGN unaligned32;
typedef uint64_t ANY_ALIGN unaligned64;

/** bt_quick_saved() - whether guest register @r is among those that the gate
 * saves, and that C changes: RAX RCX RDX RSI RDI R8 R9 */
static inline bool bt_quick_saved(unsigned r)
{
    return 0x3c7U >> r & 1;
}

/** bt_quick_link() - the direct jump of @site leads to its block, if that is
 * there, from now on */
void bt_quick_link(struct bt *bt, uint32_t site);
/** bt_quick_jump() - code of the block at @va in bt->mode, or NULL */
const void *bt_quick_jump(struct bt *bt, uint64_t va);

/** bt_quick_walk() - look for @va of the kind of access of now in the page
 * tables, and fill the TLBs
 * @flags: X86_LIN_READ, _WRITE or _EXEC. Return: false: cpu->exc is the #PF, or
 * nothing was looked up (lock-step, not canonical: then cpu->exc is none). */
bool bt_quick_walk(struct bt *bt, uint64_t va, unsigned flags);

/** bt_quick_reach() - have the first-level TLB know @va, from the second or the
 * page tables. Windows may be void then (bt->flushed). Return: whether it does.
 */
bool bt_quick_reach(struct bt *bt, unsigned kind, uint64_t va, bool write);

/** bt_quick_fault() - deliver the #PF in cpu->exc, of site @s's access
 * Return: host address to go on at; NULL: nothing was done. */
const void *bt_quick_fault(struct bt *bt, const struct bt_site *s);

/** bt_quick_ahead() - IRET goes back to what faulted, at CPL 3: the page is
 * likely to be there now, so have the TLBs know it */
void bt_quick_ahead(struct bt *bt);

/** bt_quick_invlpg() - INVLPG of bt->va, at CPL 0
 * Return: host address to go on at; NULL: nothing was done. */
const void *bt_quick_invlpg(struct bt *bt, const struct bt_site *s);

/** bt_quick_sys() - run a system instruction: all of it or, with NULL, nothing
 * Return: host address to go on at. */
const void *bt_quick_sys(struct bt *bt, const struct bt_site *s);

#endif
