// SPDX-License-Identifier: Apache-2.0
/*
 * What the checker of emitted code knows of values: each register, and each
 * home and slot where one is kept, holds an unknown number, named by where it
 * came from, and a constant that was added to it.
 */
#ifndef DOPPEL_TESTS_BT_EMITTED_VAL_H
#define DOPPEL_TESTS_BT_EMITTED_VAL_H

#include "cpu/x86/insn.h"
#include "cpu/x86/state.h"

#include <stdbool.h>
#include <stdint.h>

#define VAL_NONE  0U
#define VAL_CONST 1U /* off is all of it */
#define VAL_ZONE  2U /* as a distance's: zone number off, whatever is there */
#define VAL_HOST  3U /* in a window's slot: by the TLB, not by zones */
#define VALS_HOME 16U
#define VALS_SLOT 32U

struct val {
    uint32_t name;
    int64_t off;
};

struct vals {
    struct val v[VALS_SLOT + 8]; /* registers, homes, slots */
};

/** vals_unknown() - anything, first seen at instruction @at */
void vals_unknown(struct vals *s, unsigned at);
void vals_set_unknown(struct vals *s, unsigned r, unsigned at);
/** vals_step() - after instruction @at, which is no access of GS */
void vals_step(struct vals *s, const struct x86_insn *i, unsigned at);
/** vals_meet() - what holds where @from joins @to, at instruction @at
 * Return: whether less than before. */
bool vals_meet(struct vals *to, const struct vals *from, unsigned at);

#endif
