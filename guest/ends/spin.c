// SPDX-License-Identifier: Apache-2.0
/* Spins with interrupts off: listens to nobody. */
#include "lib.h"

int test_main(void)
{
    print("READY\n");
    for (;;)
        __asm__ volatile("pause");
}
