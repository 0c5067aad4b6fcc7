// SPDX-License-Identifier: Apache-2.0
/* Fuzzer: the 8254's registers and time. */
#include "dev/i8254/i8254_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return devtest_fuzz(&i8254_class, data, size);
}
