// SPDX-License-Identifier: Apache-2.0
/* One instruction at a time; see single.h. */
#include "engine/interp/single.h"

#include "engine/interp/priv.h"

int interp_single(struct x86_cpu *cpu)
{
    struct interp *in = cpu->lin_ctx;
    int r;

    in->clock_done = cpu->icount;
    interp_enter(in);
    interp_mode_update(in);
    r = interp_step(in);
    interp_leave(in);
    return r;
}
