// SPDX-License-Identifier: Apache-2.0
/* A failed invariant ends this process (a monitor: its VM alone). */
#include "base/assert.h"

#include <stdio.h>
#include <string.h>

void assert_fail(const char *file, int line, const char *what)
{
    char text[512];
    ssize_t done;

    /* No stdio: it asks about the descriptor, which the jail forbids. */
    snprintf(text, sizeof text, "doppel: bug: %s:%d: %s does not hold\n", file,
             line, what);
    done = write(2, text, strlen(text));
    (void)done; /* nowhere left to report it */
    abort();
}
