// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a Multiboot kernel, and as its module. */
#include "boot/multiboot/multiboot.h"

#include <stdlib.h>

#include "boot/testimage.h"
#include "cpu/x86/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct mem *mem;
    static struct x86_cpu cpu;
    struct err e = {{0}};
    struct boot_info info;
    const struct boot_image mod = {data, len, "m"};
    const struct boot_conf c = {.kernel = {data, len, "k"},
                                .initrd = &mod,
                                .ninitrds = 1,
                                .cmdline = "c"};
    if (!mem)
        mem = ti_mem(4);
    if (!multiboot_is(&c.kernel))
        return 0;
    int rc = multiboot_load(mem, &c, &cpu, &info, &e);
    if (rc == 0 ? !mem_is_ram(mem, info.entry, 1) : e.text[0] == '\0')
        abort();
    return 0;
}
