// SPDX-License-Identifier: Apache-2.0
/* Fuzzer: the 8259 pair's registers, lines and acknowledges. */
#include "dev/i8259/i8259_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return devtest_fuzz(&i8259_class, data, size);
}
