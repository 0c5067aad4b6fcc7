// SPDX-License-Identifier: Apache-2.0
/* Fuzzer: the clock's registers and time. */
#include "dev/rtc/rtc_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return devtest_fuzz(&rtc_class, data, size);
}
