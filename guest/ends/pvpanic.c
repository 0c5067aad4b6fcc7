// SPDX-License-Identifier: Apache-2.0
/* Tells the pvpanic device that it crashed. */
#include "lib.h"

int test_main(void)
{
    print(inb(0x505) & 1 ? "READY\n" : "no pvpanic\n");
    outb(0x505, 1);
    for (;;)
        __asm__ volatile("hlt");
}
