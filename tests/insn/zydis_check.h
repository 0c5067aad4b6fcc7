// SPDX-License-Identifier: Apache-2.0
/*
 * Compares a decode with the Zydis library's, operands included. Where Zydis
 * is not installed every answer is ZY_NONE. For tests only; thread: any.
 */
#ifndef DOPPEL_TESTS_INSN_ZYDIS_CHECK_H
#define DOPPEL_TESTS_INSN_ZYDIS_CHECK_H

#include "cpu/x86/decode.h"

enum zy_answer {
    ZY_NONE, /* not asked */
    ZY_SAME,
    ZY_REFUSES, /* ours decodes */
    ZY_DECODES, /* ours does not */
    ZY_LENGTH,
    ZY_OPERANDS, /* register, address, immediate, size or access differ */
};

/** zydis_check() - @bytes: borrows 15; @bits 16, 32 or 64; @dec and @insn are
 * our result; @isa: filled with Zydis's ISA set on ZY_DECODES, static text */
enum zy_answer zydis_check(unsigned bits, const uint8_t *bytes,
                           enum x86_dec dec, const struct x86_insn *insn,
                           const char **isa);

#endif
