// SPDX-License-Identifier: Apache-2.0
/*
 * Places a Linux kernel, its initrd and boot_params. The kernel goes where its
 * headers say, the initrd to the high end of RAM below initrd_addr_max, the
 * rest into low memory (boot/cpu.h).
 */
#include "boot/linux/linux.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/check.h"
#include "boot/bytes.h"
#include "boot/cpu.h"
#include "boot/e820.h"
#include "boot/elf/elf.h"
#include "boot/linux/bzimage.h"
#include "boot/linux/initrd.h"
#include "boot/linux/unpack.h"

/* struct boot_params (zero-page.rst) */
#define BP_RSDP             0x070U
#define BP_EXT_RAMDISK      0x0c0U
#define BP_EXT_RAMDISK_SIZE 0x0c4U
#define BP_E820_ENTRIES     0x1e8U
#define BP_BOOT_FLAG        0x1feU
#define BP_MAGIC            0x202U
#define BP_VERSION          0x206U
#define BP_VID_MODE         0x1faU
#define BP_LOADER           0x210U
#define BP_LOADFLAGS        0x211U
#define BP_RAMDISK          0x218U
#define BP_RAMDISK_SIZE     0x21cU
#define BP_HEAP_END         0x224U
#define BP_CMDLINE          0x228U
#define BP_SETUP_DATA       0x250U
#define BP_E820_TABLE       0x2d0U
#define BP_BYTES            4096U
#define BP_E820_ENTRY       20U

#define LOADER_UNDEFINED    0xffU /* no id assigned */
#define LOADED_HIGH         0x01U
#define KASLR_FLAG          0x02U
#define CAN_USE_HEAP        0x80U
#define VID_MODE_NORMAL     0xffffU
#define PROTOCOL_VERSION    0x020fU

/* What a vmlinux without a setup header is taken to accept. */
#define DEFAULT_CMDLINE_MAX     2047U
#define DEFAULT_INITRD_ADDR_MAX 0x7fffffffU

#define ENTRY_64                0x200U /* in a bzImage's protected-mode part */

#define INITRD_ALIGN            4U

/* Where kernels are linked to be, for estimates (CONFIG_PHYSICAL_START). */
#define KERNEL_START (16 * MIB)

struct linux_boot {
    struct mem *mem;
    const struct boot_conf *conf;
    struct bzimage bz;
    bool has_header;
    uint64_t kernel_start, kernel_end; /* GPAs that must stay free */
    uint64_t entry;
    uint64_t initrd, initrd_len, initrd_room;
    uint64_t initrd_addr_max;
    uint32_t cmdline_max;
    enum boot_format format;
    const char *what;
};

bool linux_is(const struct boot_image *img)
{
    return bzimage_is(img->data, img->len) ||
           (elf_is(img->data, img->len) && img->len >= 20 &&
            bytes_get16(img->data + 18) == ELF_MACHINE_X86_64);
}

static int too_small(const struct linux_boot *b, uint64_t need,
                     const char *what, struct err *e)
{
    return err_set(e, -ENOMEM,
                   "%s: memory of %llu MiB is too small for %s; give at least "
                   "%llu MiB",
                   b->conf->kernel.name,
                   (unsigned long long)(mem_ram_bytes(b->mem) / MIB), what,
                   (unsigned long long)(ALIGN_UP(need, MIB) / MIB));
}

/* Load an ELF that arrives unpacked or as a payload. */
static int load_elf(struct linux_boot *b, enum unpack_kind kind,
                    const uint8_t *data, size_t len, struct err *e)
{
    const char *name = b->conf->kernel.name;
    struct elf_load elf = {.mem = b->mem,
                           .name = name,
                           .floor = MIB,
                           .want64 = true,
                           .extra = b->initrd_room};
    struct boot_sink sink = elf_sink(&elf);
    uint64_t size = unpack_size(kind, data, len);
    if (size > mem_ram_bytes(b->mem))
        return too_small(b, KERNEL_START + size + b->initrd_room,
                         "the kernel and its initrd", e);
    int rc = unpack(kind, data, len, size, &sink, name, e);
    if (rc == 0)
        rc = elf_finish(&elf, e);
    if (rc < 0)
        return rc;
    b->kernel_start = elf.start;
    b->kernel_end = elf.end;
    b->entry = elf.entry;
    return 0;
}

/* A payload that only the kernel's own code can unpack: load the image as it
 * is, where it prefers, with the room that it asks for. */
static int load_self_unpacking(struct linux_boot *b, struct err *e)
{
    const struct bzimage *bz = &b->bz;
    uint64_t at = bz->relocatable ? bz->pref_address : MIB;
    uint64_t end = at + bz->init_size;
    if (end > mem_low_bytes(b->mem) ||
        mem_write(b->mem, gpa(at), bz->pm, bz->pm_len) < 0)
        return too_small(b, end + b->initrd_room, "the kernel and its initrd",
                         e);
    b->format = BOOT_LINUX_BZIMAGE;
    b->what = "Linux bzImage that unpacks itself";
    b->kernel_start = at;
    b->kernel_end = end;
    b->entry = at + ENTRY_64;
    return 0;
}

static const char *payload_words(enum unpack_kind kind)
{
    switch (kind) {
    case UNPACK_LZ4:
        return "Linux bzImage, lz4 payload";
    case UNPACK_GZIP:
        return "Linux bzImage, gzip payload";
    case UNPACK_XZ:
        return "Linux bzImage, xz payload";
    default:
        return "Linux bzImage, uncompressed payload";
    }
}

static int load_bzimage(struct linux_boot *b, struct err *e)
{
    int rc = bzimage_parse(&b->conf->kernel, &b->bz, e);
    if (rc < 0)
        return rc;
    b->has_header = true;
    b->cmdline_max = b->bz.cmdline_max;
    b->initrd_addr_max = b->bz.initrd_addr_max;
    enum unpack_kind kind = unpack_probe(b->bz.payload, b->bz.payload_len);
    if (!b->bz.payload || !unpack_supported(kind))
        return load_self_unpacking(b, e);
    b->format = BOOT_LINUX_PAYLOAD;
    b->what = payload_words(kind);
    return load_elf(b, kind, b->bz.payload, b->bz.payload_len, e);
}

static int load_kernel(struct linux_boot *b, struct err *e)
{
    const struct boot_image *k = &b->conf->kernel;
    if (bzimage_is(k->data, k->len))
        return load_bzimage(b, e);
    b->format = BOOT_LINUX_ELF;
    b->what = "Linux vmlinux";
    b->cmdline_max = DEFAULT_CMDLINE_MAX;
    b->initrd_addr_max = DEFAULT_INITRD_ADDR_MAX;
    return load_elf(b, UNPACK_ELF, k->data, k->len, e);
}

/* Check the initrds, and how much room they need. */
static int check_initrds(struct linux_boot *b, struct err *e)
{
    const struct boot_conf *c = b->conf;
    for (unsigned i = 0; i < c->ninitrds; i++) {
        int rc = initrd_check(&c->initrd[i], e);
        if (rc < 0)
            return rc;
        b->initrd_len += ALIGN_UP(c->initrd[i].len, INITRD_ALIGN);
    }
    b->initrd_room = ALIGN_UP(b->initrd_len, MEM_PAGE_BYTES);
    return 0;
}

/* All initrds one after the other, each at a multiple of 4 (buffer-format.rst:
 * the kernel skips zeros between archives). */
static int load_initrds(struct linux_boot *b, struct err *e)
{
    static const char what[] = "the kernel and its initrd";
    const struct boot_conf *c = b->conf;
    if (b->initrd_room == 0)
        return 0;
    uint64_t top = mem_low_bytes(b->mem);
    if (top > b->initrd_addr_max + 1)
        top = b->initrd_addr_max + 1;
    top = ALIGN_DOWN(top, MEM_PAGE_BYTES);
    uint64_t floor = ALIGN_UP(b->kernel_end, MEM_PAGE_BYTES);
    if (top < floor || b->initrd_room > top - floor)
        return too_small(b, floor + b->initrd_room, what, e);
    b->initrd = top - b->initrd_room;
    uint64_t at = b->initrd;
    for (unsigned i = 0; i < c->ninitrds; i++) {
        if (mem_write(b->mem, gpa(at), c->initrd[i].data, c->initrd[i].len) < 0)
            return too_small(b, floor + b->initrd_room, what, e);
        at += ALIGN_UP(c->initrd[i].len, INITRD_ALIGN);
    }
    return 0;
}

static int load_cmdline(const struct linux_boot *b, struct err *e)
{
    const char *text = b->conf->cmdline ? b->conf->cmdline : "";
    size_t len = strlen(text);
    if (len > b->cmdline_max || len >= BOOT_STRINGS_BYTES)
        return err_set(e, -E2BIG,
                       "the kernel command line has %zu bytes; this kernel "
                       "takes %u",
                       len, b->cmdline_max);
    if (mem_write(b->mem, gpa(BOOT_STRINGS_GPA), text, len + 1) < 0)
        return too_small(b, MIB, "any kernel", e);
    return 0;
}

static void params_header(const struct linux_boot *b, uint8_t bp[BP_BYTES])
{
    if (b->has_header) {
        memcpy(bp + BZ_HEADER_START, b->conf->kernel.data + BZ_HEADER_START,
               b->bz.header_end - BZ_HEADER_START);
    } else {
        bytes_put16(bp + BP_BOOT_FLAG, 0xaa55);
        memcpy(bp + BP_MAGIC, "HdrS", 4);
        bytes_put16(bp + BP_VERSION, PROTOCOL_VERSION);
    }
    bp[BP_LOADER] = LOADER_UNDEFINED;
    bp[BP_LOADFLAGS] |= LOADED_HIGH;
    bp[BP_LOADFLAGS] &= (uint8_t) ~(KASLR_FLAG | CAN_USE_HEAP);
    bytes_put16(bp + BP_VID_MODE, VID_MODE_NORMAL);
    bytes_put16(bp + BP_HEAP_END, 0);
    bytes_put64(bp + BP_SETUP_DATA, 0);
}

static int load_params(const struct linux_boot *b, struct err *e)
{
    uint8_t bp[BP_BYTES] = {0};
    struct boot_range map[BOOT_E820_MAX];
    int n = e820_build(b->mem, b->conf->reserved, b->conf->nreserved, map, e);
    if (n < 0)
        return n;
    params_header(b, bp);
    bytes_put64(bp + BP_RSDP, b->conf->rsdp.v);
    bytes_put32(bp + BP_RAMDISK, (uint32_t)b->initrd);
    bytes_put32(bp + BP_EXT_RAMDISK, (uint32_t)(b->initrd >> 32));
    bytes_put32(bp + BP_RAMDISK_SIZE, (uint32_t)b->initrd_len);
    bytes_put32(bp + BP_EXT_RAMDISK_SIZE, (uint32_t)(b->initrd_len >> 32));
    bytes_put32(bp + BP_CMDLINE, BOOT_STRINGS_GPA);
    bp[BP_E820_ENTRIES] = (uint8_t)n;
    for (int i = 0; i < n; i++) {
        uint8_t *entry = bp + BP_E820_TABLE + (unsigned)i * BP_E820_ENTRY;
        bytes_put64(entry, map[i].start);
        bytes_put64(entry + 8, map[i].len);
        bytes_put32(entry + 16, map[i].type);
    }
    if (mem_write(b->mem, gpa(BOOT_PARAMS_GPA), bp, sizeof bp) < 0)
        return too_small(b, MIB, "any kernel", e);
    return 0;
}

int linux_load(struct mem *mem, const struct boot_conf *conf,
               struct x86_cpu *bsp, struct boot_info *info, struct err *e)
{
    struct linux_boot b = {.mem = mem, .conf = conf};
    int rc = check_initrds(&b, e);
    if (rc == 0)
        rc = load_kernel(&b, e);
    if (rc == 0)
        rc = load_initrds(&b, e);
    if (rc == 0)
        rc = load_cmdline(&b, e);
    if (rc == 0)
        rc = load_params(&b, e);
    if (rc == 0)
        rc = boot_cpu_enter64(mem, bsp, gpa(b.entry), gpa(BOOT_PARAMS_GPA), e);
    if (rc == 0 && info)
        *info = (struct boot_info){.format = b.format,
                                   .what = b.what,
                                   .entry = gpa(b.entry),
                                   .kernel_start = gpa(b.kernel_start),
                                   .kernel_end = gpa(b.kernel_end),
                                   .initrd_start = gpa(b.initrd),
                                   .initrd_end = gpa(b.initrd + b.initrd_len)};
    return rc;
}
