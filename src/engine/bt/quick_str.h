// SPDX-License-Identifier: Apache-2.0
/*
 * String instructions in the quick gate: what their sites say (string.c), and
 * who runs them (quick_str.c).
 */
#ifndef DOPPEL_ENGINE_BT_QUICK_STR_H
#define DOPPEL_ENGINE_BT_QUICK_STR_H

#include "engine/bt/front.h"

/* bt_site.quick, beside enum bt_quick_op. */
enum bt_quick_str_op {
    BT_Q_STR = 64,
    BT_Q_MOVS = BT_Q_STR,
    BT_Q_STOS,
    BT_Q_LODS,
    BT_Q_CMPS,
    BT_Q_SCAS,
    BT_Q_STD
};

/* bt_site.arg */
#define BT_STR_SIZE  3U /* element: 1 << bytes */
#define BT_STR_REP   4U /* F2 or F3 */
#define BT_STR_REPNE 8U
#define BT_STR_AD32  16U
#define BT_STR_SEG   96U /* the source's segment */
#define BT_STR_FS    32U
#define BT_STR_GS    64U

/** bt_str_site() - a callout's site, if the quick gate may run it */
void bt_str_site(struct bt_site *s, const struct x86_insn *insn);

/** bt_quick_str() - run a site's string instruction, as far as it goes
 * Return: host address to go on at; NULL: the interpreter goes on, from
 * registers that are right between two elements. */
const void *bt_quick_str(struct bt *bt, const struct bt_site *s);

#endif
