// SPDX-License-Identifier: Apache-2.0
/*
 * The benchmark program: one static binary, the same bytes run natively, in a
 * guest of ours and in QEMU. Each row does one thing N times; the harness
 * finds N so that a row lasts as long as asked.
 */
#ifndef BENCH_SUITE_H
#define BENCH_SUITE_H

#include <stdint.h>

struct row {
    const char *name;
    const char *what;        /* one operation, for the table */
    void (*run)(uint64_t n); /* does it @n times */
    void (*prepare)(void);   /* once, not timed; may be NULL */
    uint64_t once;           /* not 0: exactly this N, no search */
};

extern const struct row rows_cpu[], rows_memory[],
    rows_kernel[]; /* end: NULL */

/** suite_use() - results go here, so that the compiler keeps the work */
void suite_use(uint64_t v);

/** suite_die() - a row that cannot run ends the program with a sentence */
void suite_die(const char *what) __attribute__((noreturn));

/** suite_tmp() - a folder on a RAM file system */
const char *suite_tmp(void);

#endif
