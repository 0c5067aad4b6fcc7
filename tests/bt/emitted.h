// SPDX-License-Identifier: Apache-2.0
/*
 * What may stand in translated code, checked on the code itself: emitted.c
 * decodes a region and knows nothing of how it was made. For tests only.
 */
#ifndef DOPPEL_TESTS_BT_EMITTED_H
#define DOPPEL_TESTS_BT_EMITTED_H

#include "engine/bt/priv.h"

#define EMITTED_BYTES 32768U /* of a region's hot or cold part */

struct emitted;

struct emitted *emitted_open(void);
void emitted_close(struct emitted *m);

/** emitted_check() - every instruction of the region @b, hot and cold
 * @first_site: its sites begin there
 * @text, @n: filled with the instruction that is wrong
 * Return: what is wrong, or NULL. */
const char *emitted_check(struct emitted *m, const struct bt *bt,
                          const struct bt_block *b, uint32_t first_site,
                          char *text, size_t n);

/** emitted_dump() - print the region that was checked last */
void emitted_dump(const struct emitted *m);

/** emitted_insns() - host instructions checked so far */
uint64_t emitted_insns(const struct emitted *m);

#endif
