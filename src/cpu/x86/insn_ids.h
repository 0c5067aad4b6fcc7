// SPDX-License-Identifier: Apache-2.0
/*
 * The numbers of mnemonics (enum x86_op, sorted by name, generated from
 * insn.def at build time) and of forms (enum x86_form, in table order).
 */
#ifndef DOPPEL_CPU_X86_INSN_IDS_H
#define DOPPEL_CPU_X86_INSN_IDS_H

#include "cpu/x86/insn_ops.h" /* generated: enum x86_op */

enum x86_form {
    X86_FORM_INVALID,
#define INSN(form, ...) X86_FORM_##form,
#include "cpu/x86/insn.def"
#undef INSN
    X86_FORM_COUNT
};

#endif
