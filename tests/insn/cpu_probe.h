// SPDX-License-Identifier: Apache-2.0
/*
 * Asks the host CPU how long a byte string is as an instruction, or that it is
 * none: the bytes are laid so that they end at an unmapped page and are run
 * for one single step in a child process whose registers point nowhere. For
 * tests only. Thread: one at a time per process.
 */
#ifndef DOPPEL_TESTS_INSN_CPU_PROBE_H
#define DOPPEL_TESTS_INSN_CPU_PROBE_H

#include <stddef.h>
#include <stdint.h>

enum probe_result {
    PROBE_NONE, /* not asked yet */
    PROBE_RUNS, /* decoded: ran, or faulted as an instruction */
    PROBE_UD,   /* #UD */
    PROBE_MORE, /* the fetch went past the bytes given */
    PROBE_DIED  /* the child was lost */
};

/* One question. @n bytes are laid at the page end. When they suffice and
 * @lower is set, n - 1 bytes are tried too, unless the single step ended
 * exactly behind the n bytes: then .lower_result is PROBE_MORE unasked. */
struct probe {
    uint8_t bytes[15];
    uint8_t n;
    uint8_t mode;  /* 16, 32, 64 */
    uint8_t lower; /* bool */
    uint8_t result;
    uint8_t lower_result;
    uint8_t trapno; /* x86 vector of the first answer */
};

/** probe_supported() - can this host run code of @mode bits this way? */
int probe_supported(unsigned mode);

/** probe_alloc() - @n questions in memory that children share; gives, freed
 * with the process. Return: NULL when memory is short. */
struct probe *probe_alloc(size_t n);

/** probe_run() - answer @n questions of an array from probe_alloc().
 * Return: 0, or -1 when children cannot be made. */
int probe_run(struct probe *p, size_t n);

#endif
