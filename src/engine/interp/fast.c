// SPDX-License-Identifier: Apache-2.0
/* Handlers for the frequent shapes. */
#include "engine/interp/ops.h"

op_fn op_fast(const struct x86_insn *insn, const struct op *o)
{
    (void)insn;
    (void)o;
    return NULL;
}
