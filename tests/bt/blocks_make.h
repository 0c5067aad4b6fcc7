// SPDX-License-Identifier: Apache-2.0
/*
 * A program being made: what blocks_make.c (single instructions) offers
 * blocks_flow.c (jumps, loops, system instructions, whole programs).
 */
#ifndef DOPPEL_TESTS_BT_BLOCKS_MAKE_H
#define DOPPEL_TESTS_BT_BLOCKS_MAKE_H

#include "tests/bt/blocks.h"

struct mk {
    struct blk_prog *p;
    const struct blk_forms *f;
    struct rnd r;
    uint16_t known; /* registers with a known value, as far as one can tell */
    uint64_t val[16];
    bool loop;  /* within one */
    bool heavy; /* on R10 and R11 */
    unsigned fn[2];
};

/** mk_add() - append an item; zeroed but for its bytes */
struct blk_item *mk_add(struct mk *m, const void *bytes, unsigned len);
/** mk_adds() - one item for each instruction of @bytes */
void mk_adds(struct mk *m, const char *bytes, unsigned len);
/** mk_room() - whether a step may still be made */
bool mk_room(const struct mk *m);
/** mk_any_reg_but_rsp() - the same without RSP */
unsigned mk_any_reg_but_rsp(struct mk *m);
/** mk_forget() - @r is not known any more */
void mk_forget(struct mk *m, unsigned r);
/** mk_set_reg() - MOV or LEA of @v */
void mk_set_reg(struct mk *m, unsigned r, uint64_t v);
/** mk_pick_lin() - where an access of @size bytes shall go */
uint64_t mk_pick_lin(struct mk *m, unsigned size);
/** mk_near() - whether @v is a pointer into or near the data */
bool mk_near(const struct mk *m, uint64_t v);
/** mk_some_form() - one instruction */
void mk_some_form(struct mk *m);
/** mk_pushes() - pushes, and pops of what was pushed */
void mk_pushes(struct mk *m);
/** mk_stack_edge() - RSP near a page's end */
void mk_stack_edge(struct mk *m);
/** mk_bump() - a constant added to a pointer */
void mk_bump(struct mk *m);

#endif
