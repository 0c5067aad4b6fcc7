// SPDX-License-Identifier: Apache-2.0
/* Fuzzer: the I/O APIC's registers, lines and EOIs. */
#include "dev/ioapic/ioapic_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return devtest_fuzz(&ioapic_class, data, size);
}
