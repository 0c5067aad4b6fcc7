// SPDX-License-Identifier: Apache-2.0
/*
 * Random supervisor programs for ac_test: STAC and CLAC among accesses to user
 * and kernel pages, and all that may come between.
 *
 * RBX, RBP point to user pages, R12 to the kernel's, R13 to any; RSI, RDI are
 * set before each string instruction. R9 counts turns and is small. A program
 * ends with HLT.
 */
#ifndef DOPPEL_TESTS_BT_AC_MAKE_H
#define DOPPEL_TESTS_BT_AC_MAKE_H

#include "tests/insn/corpus/rnd.h"

/* Where the code is, and constants. */
#define AC_TOP UINT64_C(0xffffffff80000000)
/* From there on: 4 KiB for accesses by constants. */
#define AC_CONST 0x400000U

struct ac_prog {
    uint8_t b[1024];
    unsigned n;
    uint64_t va;
    struct rnd rnd;
    bool ac, smap;    /* on the way straight through */
    unsigned at[128]; /* where one may jump to */
    unsigned nat;
    struct {
        unsigned disp, from; /* rel32; number of the places before it */
    } jump[64];
    unsigned njumps;
    unsigned call[16], ncalls;
    bool function; /* what it returns by is left alone */
};

/** ac_make() - another program; rnd and va are set
 * @ac, @smap: what it begins with, most often */
void ac_make(struct ac_prog *p, bool ac, bool smap);

#endif
