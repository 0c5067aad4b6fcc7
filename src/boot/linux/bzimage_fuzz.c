// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a bzImage or vmlinux: refused with a sentence, or loaded with an
 * entry in RAM. */
#include "boot/linux/linux.h"

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
    const struct boot_conf c = {.kernel = {data, len, "k"}, .cmdline = "c"};
    if (!mem)
        mem = ti_mem(20);
    if (!linux_is(&c.kernel))
        return 0;
    int rc = linux_load(mem, &c, &cpu, &info, &e);
    if (rc == 0 ? !mem_is_ram(mem, info.entry, 1) : e.text[0] == '\0')
        abort();
    return 0;
}
