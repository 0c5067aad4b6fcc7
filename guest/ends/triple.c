// SPDX-License-Identifier: Apache-2.0
/* Ends by a triple fault: no IDT, then an exception. SDM vol. 3A 6.15. */
#include "lib.h"

int test_main(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) none = {0, 0};

    print("READY\n");
    __asm__ volatile("lidt %0; ud2" : : "m"(none));
    return 0;
}
