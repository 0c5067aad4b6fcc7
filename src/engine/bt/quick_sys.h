// SPDX-License-Identifier: Apache-2.0
/*
 * What the quick gate's files share (quick.c, quick_sys.c): C for general
 * registers only that calls nothing outside them.
 */
#ifndef DOPPEL_ENGINE_BT_QUICK_SYS_H
#define DOPPEL_ENGINE_BT_QUICK_SYS_H

#include "engine/bt/priv.h"

#define PAGE (~UINT64_C(0xfff))

typedef uint16_t ANY_ALIGN unaligned16;
typedef uint32_t ANY_ALIGN unaligned32;
typedef uint64_t ANY_ALIGN unaligned64;

/** bt_quick_jump() - code of the block at @va in bt->mode, or NULL */
const void *bt_quick_jump(struct bt *bt, uint64_t va);

/** bt_quick_sys() - run a system instruction: all of it or, with NULL, nothing
 * Return: host address to go on at. */
const void *bt_quick_sys(struct bt *bt, const struct bt_site *s);

#endif
