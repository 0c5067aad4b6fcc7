// SPDX-License-Identifier: Apache-2.0
/* Fuzz core's decoder of reports: what a monitor that was taken over sends. */
#include "core/message.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct message_report rep;

    if (message_decode(data, size, &rep))
        return 0;
    if (rep.kind < ABI_READY || rep.kind > ABI_FAILED)
        __builtin_trap();
    for (const char *p = rep.text; *p; p++) {
        if (*p < 0x20 || *p > 0x7e)
            __builtin_trap();
    }
    return 0;
}
