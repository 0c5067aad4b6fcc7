// SPDX-License-Identifier: Apache-2.0
/* Asks for a reset as soon as it runs, again and again. */
#include "lib.h"

int test_main(void)
{
    print("READY\n");
    outb(0xcf9, 0x06);
    for (;;)
        __asm__ volatile("hlt");
}
