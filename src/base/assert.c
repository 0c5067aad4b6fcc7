// SPDX-License-Identifier: Apache-2.0
/* A failed invariant ends this process (a monitor: its VM alone). */
#include "base/assert.h"

#include <stdio.h>

void assert_fail(const char *file, int line, const char *what)
{
    dprintf(2, "doppel: bug: %s:%d: %s does not hold\n", file, line, what);
    abort();
}
