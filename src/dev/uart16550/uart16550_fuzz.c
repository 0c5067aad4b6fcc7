// SPDX-License-Identifier: Apache-2.0
/* Fuzzer: the UART's registers, input and back pressure. */
#include "dev/uart16550/uart16550_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return devtest_fuzz(&uart_class, data, size);
}
