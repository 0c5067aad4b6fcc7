// SPDX-License-Identifier: Apache-2.0
/* What the parts of the case maker share: encode.c, aim.c, make.c. */
#ifndef DOPPEL_TESTS_INSN_CORPUS_MAKE_H
#define DOPPEL_TESTS_INSN_CORPUS_MAKE_H

#include "tests/insn/corpus/rnd.h"

/** corpus_encode() - random bytes that decode as @form, or are #UD by a prefix
 * or register that the form does not take
 * @bytes: CORPUS_INSN_ROOM, filled past the instruction too
 * Return: false when none was found. */
bool corpus_encode(struct rnd *r, unsigned form, uint8_t *bytes);

/** corpus_junk() - bytes that may be anything */
void corpus_junk(struct rnd *r, unsigned form, uint8_t *bytes);

/** corpus_aim() - registers, displacement and memory that suit the operands
 * @c: code, registers and xs are random; m->shadow is the window, kept up to
 *   date with c->patch */
void corpus_aim(struct corpus_maker *m, struct rnd *r, struct corpus_case *c,
                struct corpus_job *job);

/** corpus_poke() - put @n bytes at @lin in the window, as far as it is there */
void corpus_poke(struct corpus_maker *m, struct corpus_case *c, uint64_t lin,
                 const void *bytes, size_t n);

#endif
