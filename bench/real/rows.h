// SPDX-License-Identifier: Apache-2.0
/* The rows of bench/real: shell commands, worked off in /tmp. */
#ifndef BENCH_REAL_ROWS_H
#define BENCH_REAL_ROWS_H

struct real_row {
    const char *name;
    unsigned count; /* operations in one run of the command */
    const char
        *prepare; /* not timed: data, programs' pages read; may be NULL */
    const char *command; /* timed */
    const char *sum;     /* prints what must be equal everywhere; may be NULL */
    const char *value;   /* prints the figure in ns instead of time / count */
};

extern const struct real_row real_rows[]; /* end: name NULL */

#endif
