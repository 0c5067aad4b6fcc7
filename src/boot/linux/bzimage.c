// SPDX-License-Identifier: Apache-2.0
/* Reads and checks a bzImage's setup header. */
#include "boot/linux/bzimage.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/check.h"
#include "boot/bytes.h"

/* Offsets in the file (boot.rst, "The Real-Mode Kernel Header"). */
#define BZ_SETUP_SECTS     0x1f1U
#define BZ_SYSSIZE         0x1f4U /* in 16 bytes */
#define BZ_BOOT_FLAG       0x1feU
#define BZ_JUMP_LEN        0x201U /* the header ends 0x202 + this */
#define BZ_MAGIC           0x202U
#define BZ_VERSION         0x206U
#define BZ_LOADFLAGS       0x211U
#define BZ_INITRD_ADDR_MAX 0x22cU
#define BZ_RELOCATABLE     0x234U
#define BZ_XLOADFLAGS      0x236U
#define BZ_CMDLINE_SIZE    0x238U
#define BZ_PAYLOAD_OFFSET  0x248U
#define BZ_PAYLOAD_LENGTH  0x24cU
#define BZ_PREF_ADDRESS    0x258U
#define BZ_INIT_SIZE       0x260U

#define BZ_LOADED_HIGH     0x01U
#define BZ_XLF_KERNEL_64   0x01U
#define BZ_VERSION_MIN     0x020cU /* the first with xloadflags: Linux 3.8 */
#define BZ_SECTOR_BYTES    512U
#define BZ_SYSSIZE_UNIT    16U
#define BZ_ENTRY_64        0x200U

bool bzimage_is(const uint8_t *data, size_t len)
{
    return len >= BZ_MAGIC + 4 && memcmp(data + BZ_MAGIC, "HdrS", 4) == 0 &&
           bytes_get16(data + BZ_BOOT_FLAG) == 0xaa55;
}

static int bz_check_kind(const struct boot_image *img, struct bzimage *bz,
                         struct err *e)
{
    const uint8_t *d = img->data;
    if (img->len < BZ_HEADER_MAX)
        return err_set(
            e, -ENOEXEC,
            "%s: truncated: a bzImage of %zu bytes, shorter than its "
            "header",
            img->name, img->len);
    bz->version = bytes_get16(d + BZ_VERSION);
    if (bz->version < BZ_VERSION_MIN)
        return err_set(e, -ENOEXEC,
                       "%s: a bzImage of boot protocol %u.%02u; 2.12 (Linux "
                       "3.8) or later is needed",
                       img->name, bz->version >> 8, bz->version & 0xffU);
    if (!(d[BZ_LOADFLAGS] & BZ_LOADED_HIGH))
        return err_set(e, -ENOEXEC, "%s: a zImage, not a bzImage", img->name);
    if (!(bytes_get16(d + BZ_XLOADFLAGS) & BZ_XLF_KERNEL_64))
        return err_set(e, -ENOEXEC,
                       "%s: a 32-bit Linux kernel; a 64-bit one is needed",
                       img->name);
    return 0;
}

static int bz_find_parts(const struct boot_image *img, struct bzimage *bz,
                         struct err *e)
{
    const uint8_t *d = img->data;
    unsigned sects = d[BZ_SETUP_SECTS] ? d[BZ_SETUP_SECTS] : 4;
    uint64_t pm_off = (sects + 1) * BZ_SECTOR_BYTES;
    uint64_t pm_len = (uint64_t)bytes_get32(d + BZ_SYSSIZE) * BZ_SYSSIZE_UNIT;
    /* syssize is rounded up; a signature may stand behind. */
    if (pm_len < BZ_ENTRY_64 + BZ_SYSSIZE_UNIT ||
        !check_range(pm_off, pm_len - BZ_SYSSIZE_UNIT, img->len))
        return err_set(e, -ENOEXEC, "%s: truncated kernel: %zu bytes of %llu",
                       img->name, img->len,
                       (unsigned long long)(pm_off + pm_len));
    bz->pm = d + pm_off;
    bz->pm_len = img->len - pm_off < pm_len ? img->len - pm_off : pm_len;

    uint64_t off = bytes_get32(d + BZ_PAYLOAD_OFFSET);
    uint64_t len = bytes_get32(d + BZ_PAYLOAD_LENGTH);
    if (!check_range(off, len, bz->pm_len))
        return err_set(e, -ENOEXEC,
                       "%s: damaged kernel: a payload of %llu bytes at %llu "
                       "in %zu bytes",
                       img->name, (unsigned long long)len,
                       (unsigned long long)off, bz->pm_len);
    bz->payload = len > 0 ? bz->pm + off : NULL;
    bz->payload_len = len;
    return 0;
}

int bzimage_parse(const struct boot_image *img, struct bzimage *bz,
                  struct err *e)
{
    const uint8_t *d = img->data;
    *bz = (struct bzimage){0};
    int rc = bz_check_kind(img, bz, e);
    if (rc < 0)
        return rc;
    rc = bz_find_parts(img, bz, e);
    if (rc < 0)
        return rc;
    bz->header_end = BZ_MAGIC + d[BZ_JUMP_LEN];
    if (bz->header_end > BZ_HEADER_MAX)
        bz->header_end = BZ_HEADER_MAX;
    bz->cmdline_max = bytes_get32(d + BZ_CMDLINE_SIZE);
    bz->initrd_addr_max = bytes_get32(d + BZ_INITRD_ADDR_MAX);
    bz->relocatable = d[BZ_RELOCATABLE] != 0;
    bz->pref_address = bytes_get64(d + BZ_PREF_ADDRESS);
    bz->init_size = bytes_get32(d + BZ_INIT_SIZE);
    if (bz->init_size < bz->pm_len)
        bz->init_size = bz->pm_len;
    if (bz->pref_address < MIB || bz->pref_address > 4 * GIB - bz->init_size ||
        bz->pref_address % MEM_PAGE_BYTES != 0)
        return err_set(e, -ENOEXEC,
                       "%s: damaged kernel: it wants to be loaded at 0x%llx",
                       img->name, (unsigned long long)bz->pref_address);
    return 0;
}
