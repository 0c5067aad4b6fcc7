// SPDX-License-Identifier: Apache-2.0
/* Any bytes as an initrd. */
#include "boot/linux/initrd.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err e = {{0}};
    const struct boot_image img = {data, len, "i"};
    if (initrd_check(&img, &e) < 0 && e.text[0] == '\0')
        abort();
    return 0;
}
