// SPDX-License-Identifier: Apache-2.0
/*
 * The PC: CPUs, chipset devices, ACPI, wired together. Owns all guest-visible
 * state of one VM; host resources (RAM's memfd, console, disks) are borrowed,
 * so that a PC can be destroyed and built again on the same ones.
 */
#ifndef DOPPEL_MACHINE_PC_PC_H
#define DOPPEL_MACHINE_PC_PC_H

#include "base/cc.h"
#include "base/err.h"
#include "boot/boot.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/state.h"
#include "vm/blockdev.h"
#include "vm/chardev.h"
#include "vm/vm.h"

#define PC_DISKS_MAX 8

struct pc_conf {
    uint64_t ram_bytes;
    int ram_fd;     /* borrows (dup'ed); -1: a fresh memfd */
    bool ram_fresh; /* ram_fd was never written */
    bool scatter;
    uint64_t seed;
    unsigned ncpus;
    enum x86_level level;
    bool mitigations;
    enum clock_mode clock;
    uint32_t tsc_khz;    /* 0: the host's, measured now */
    int debug_exit_port; /* -1: none */
    struct chardev console;
    const struct blockdev *disk; /* keeps; ndisks of them */
    unsigned ndisks;
    /* What the guest asks for: any thread, see struct vm. */
    void (*request)(void *ctx, enum vm_request req, uint32_t code);
    void *request_ctx;
};

struct pc;

/** pc_create() - a PC after power-on, its clock stopped
 * @conf: borrows, but for what it names as kept
 * Return: 0 and *out (gives), or a negative errno with a sentence. */
MUST_CHECK int pc_create(const struct pc_conf *conf, struct pc **out,
                         struct err *e);

/** pc_destroy() - vCPU threads must be gone, disks drained */
void pc_destroy(struct pc *pc);

/** pc_boot() - ACPI tables and kernel into memory, the BSP at its entry
 * @boot: borrows; .rsdp and .reserved are filled in here. Return: boot_load's.
 */
MUST_CHECK int pc_boot(struct pc *pc, struct boot_conf *boot,
                       struct boot_info *info, struct err *e);

struct vm *pc_vm(struct pc *pc);
unsigned pc_ncpus(const struct pc *pc);
struct x86_cpu *pc_cpu(struct pc *pc, unsigned i);

/** pc_power_button() - press it. Thread: any. Return: whether the guest
 * listens. */
bool pc_power_button(struct pc *pc);

/** pc_drain() - return when no disk request is in flight; vCPUs stopped */
void pc_drain(struct pc *pc);

#endif
