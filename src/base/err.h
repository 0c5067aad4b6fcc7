// SPDX-License-Identifier: Apache-2.0
/*
 * Host-side errors: a negative errno value and one sentence that says who,
 * what, which value and what to do. Only the top of the program prints it.
 */
#ifndef DOPPEL_BASE_ERR_H
#define DOPPEL_BASE_ERR_H

#include "base/cc.h"

#define ERR_TEXT_BYTES 512

struct err {
    char text[ERR_TEXT_BYTES]; /* one sentence, no newline, no final stop */
};

/** err_set() - record an error's sentence
 * @e: borrows; may be NULL; untouched on success paths
 * @code: the negative errno value to hand on
 * Return: @code, so that `return err_set(e, -EINVAL, ...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/** err_prefix() - put "prefix: " before the sentence of @e (may be NULL) */
void err_prefix(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
