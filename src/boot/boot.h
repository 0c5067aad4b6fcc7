// SPDX-License-Identifier: Apache-2.0
/*
 * From a kernel image to a vCPU that stands at its first instruction.
 *
 * The monitor reads the images from descriptors that core opened and hands the
 * bytes to boot_load, which probes the format (Linux bzImage, ELF64 vmlinux,
 * Multiboot 1), checks everything before it relies on it, writes guest memory
 * and sets the BSP's registers. Every byte of an image is hostile. To boot
 * again after a reset: reset memory and CPUs, call boot_load again.
 */
#ifndef DOPPEL_BOOT_BOOT_H
#define DOPPEL_BOOT_BOOT_H

#include "base/cc.h"
#include "base/err.h"
#include "base/types.h"
#include "vm/mem.h"

struct x86_cpu;

/* Images longer than this are refused. */
#define BOOT_IMAGE_MAX_BYTES (UINT64_C(2) << 30)
#define BOOT_INITRDS_MAX     64

/* A whole image in memory. */
struct boot_image {
    const uint8_t *data;
    size_t len;
    const char *name; /* for error sentences: the path as the user gave it */
};

/* A GPA range that the guest must leave alone (ECAM, tables), or RAM. */
struct boot_range {
    uint64_t start;
    uint64_t len;
    uint32_t type; /* BOOT_E820_* */
};

#define BOOT_E820_RAM      1U
#define BOOT_E820_RESERVED 2U
#define BOOT_E820_ACPI     3U
#define BOOT_E820_MAX      32

struct boot_conf {
    struct boot_image kernel;
    const struct boot_image *initrd; /* Linux: one after the other in memory; */
    unsigned ninitrds;               /* Multiboot: one module each */
    const char *cmdline;
    gpa_t rsdp;                        /* where acpi_write put it; 0: none */
    const struct boot_range *reserved; /* besides the PC's own, see e820.h */
    unsigned nreserved;
};

enum boot_format {
    BOOT_LINUX_PAYLOAD, /* bzImage, unpacked here */
    BOOT_LINUX_BZIMAGE, /* bzImage, unpacks itself */
    BOOT_LINUX_ELF,     /* vmlinux */
    BOOT_MULTIBOOT
};

/* What was done, for --verbose. */
struct boot_info {
    enum boot_format format;
    const char *what; /* e.g. "Linux bzImage, lz4 payload" */
    gpa_t entry;
    gpa_t kernel_start, kernel_end;
    gpa_t initrd_start, initrd_end;
};

/** boot_image_read() - read all of @fd from its beginning
 * @fd: borrows; a file, or a pipe (read to its end)
 * @name: keeps; for error sentences
 * @img: filled; boot_image_free gives the memory back
 * A file that shrinks meanwhile gives what is there; no SIGBUS, no mapping.
 * Return: 0, -EFBIG (over BOOT_IMAGE_MAX_BYTES), -ENOMEM, or read's -errno. */
MUST_CHECK int boot_image_read(int fd, const char *name, struct boot_image *img,
                               struct err *e);
void boot_image_free(struct boot_image *img);

/** boot_load() - put @conf's kernel and initrds into @mem, the BSP at its entry
 * @conf: borrows
 * @bsp: borrows; freshly reset; its registers are set only on success
 * @info: filled; may be NULL
 * On an error guest memory may be partly written; the VM must not start.
 * Thread: main, vCPUs stopped. Return: 0, or -ENOEXEC (not a kernel that can be
 * booted, or damaged), -ENOMEM (guest memory too small), -E2BIG (command line
 * too long), -EINVAL; @e says what and, for memory, how many MiB are needed. */
MUST_CHECK int boot_load(struct mem *mem, const struct boot_conf *conf,
                         struct x86_cpu *bsp, struct boot_info *info,
                         struct err *e);

/** boot_cpu_firmware() - what firmware leaves behind in every CPU (BSP and APs,
 * after each reset): MTRRs on with write-back as the default type, so that
 * Linux does not discard RAM as uncached; the BSP's local APIC in virtual wire
 * mode. Source: SDM vol. 3A 11.11.2.1; MP specification 1.4 3.6.2.2. */
void boot_cpu_firmware(struct x86_cpu *cpu);

#endif
