// SPDX-License-Identifier: Apache-2.0
/* Numbers and sizes as users write them. */
#ifndef DOPPEL_CLI_SIZE_H
#define DOPPEL_CLI_SIZE_H

#include "base/cc.h"
#include "base/err.h"

#include <stdint.h>

/** size_parse() - "512" (MiB), "512M", "2g", "1536K", "1T"
 * Powers of 1024. Must be a positive whole number of KiB.
 * Return: 0 and *bytes; -EINVAL with a sentence. */
MUST_CHECK int size_parse(const char *text, uint64_t *bytes, struct err *e);

/** number_parse() - a decimal or 0x number from @min to @max
 * @what: the option's name, for the sentence */
MUST_CHECK int number_parse(const char *what, const char *text, uint64_t min,
                            uint64_t max, uint64_t *out, struct err *e);

/** seconds_parse() - "2", "0.5": more than 0, at most 10^9; to milliseconds */
MUST_CHECK int seconds_parse(const char *what, const char *text, uint64_t *ms,
                             struct err *e);

#endif
