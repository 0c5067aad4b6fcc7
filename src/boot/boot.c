// SPDX-License-Identifier: Apache-2.0
/*
 * Probes a kernel image's format and hands it to that format's loader. Anything
 * else is refused with a sentence that says what it looks like.
 */
#include "boot/boot.h"

#include <errno.h>
#include <string.h>

#include "boot/bytes.h"
#include "boot/elf/elf.h"
#include "boot/linux/linux.h"
#include "boot/multiboot/multiboot.h"

struct lookalike {
    uint16_t off;
    uint8_t len;
    const char *magic;
    const char *what;
};

/* By the first that fits; the general ones last. */
static const struct lookalike lookalikes[] = {
    {0, 2, "\037\213", "a gzip file; unpack it first"},
    {0, 6, "\3757zXZ\0", "an xz file; unpack it first"},
    {0, 4, "\050\265\057\375", "a zstd file; unpack it first"},
    {0, 3, "BZh", "a bzip2 file; unpack it first"},
    {0, 4, "\002\041\114\030", "an lz4 file; unpack it first"},
    {0, 5, "07070", "a cpio archive; an initrd is given with --initrd"},
    {0, 8, "!<arch>\n", "an archive or a Debian package; take the kernel out"},
    {0, 4, "QFI\373", "a disk image (qcow2); disks are given with --disk"},
    {0, 2, "#!", "a script"},
    {56, 4, "ARM\144", "a Linux kernel for AArch64"},
    {0, 2, "MZ", "an EFI or Windows program without a Linux header"},
    {510, 2, "\125\252",
     "a boot sector or disk image; disks are given with "
     "--disk"},
};

static int refuse(const struct boot_image *k, struct err *e)
{
    if (elf_is(k->data, k->len))
        return err_set(e, -ENOEXEC,
                       "%s: not a kernel: an ELF file for %s, "
                       "without a Multiboot header",
                       k->name, elf_machine_name(k->data, k->len));
    for (size_t i = 0; i < ARRAY_LEN(lookalikes); i++) {
        const struct lookalike *l = &lookalikes[i];
        if (k->len >= (size_t)l->off + l->len &&
            memcmp(k->data + l->off, l->magic, l->len) == 0)
            return err_set(e, -ENOEXEC, "%s: not a kernel but %s", k->name,
                           l->what);
    }
    return err_set(e, -ENOEXEC,
                   "%s: not a kernel: neither a Linux bzImage or "
                   "vmlinux nor a Multiboot kernel",
                   k->name);
}

int boot_load(struct mem *mem, const struct boot_conf *conf,
              struct x86_cpu *bsp, struct boot_info *info, struct err *e)
{
    const struct boot_image *k = &conf->kernel;
    if (k->len == 0)
        return err_set(e, -ENOEXEC, "%s: not a kernel: the file is empty",
                       k->name);
    if (conf->ninitrds > BOOT_INITRDS_MAX)
        return err_set(e, -EINVAL, "%u initrds were given; %d can be",
                       conf->ninitrds, BOOT_INITRDS_MAX);
    if (multiboot_is(k))
        return multiboot_load(mem, conf, bsp, info, e);
    if (linux_is(k))
        return linux_load(mem, conf, bsp, info, e);
    return refuse(k, e);
}
