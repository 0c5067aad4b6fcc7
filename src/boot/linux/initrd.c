// SPDX-License-Identifier: Apache-2.0
/* Checks that an initrd is whole. */
#include "boot/linux/initrd.h"

#include <errno.h>

int initrd_check(const struct boot_image *img, struct err *e)
{
    if (img->len == 0)
        return err_set(e, -EINVAL, "%s: the initrd is empty", img->name);
    return 0;
}
