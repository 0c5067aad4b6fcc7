// SPDX-License-Identifier: Apache-2.0
/*
 * Paging: linear addresses to guest-physical ones, and the accesses to linear
 * memory that every other part makes. All modes: none, 32-bit, PAE, 4-level.
 * Accesses that meet no RAM go to the MMIO bus (cpu/x86/phys.h).
 * Thread: the vCPU's. Source: Intel SDM vol. 3A chapter 4.
 */
#ifndef DOPPEL_CPU_X86_PAGING_H
#define DOPPEL_CPU_X86_PAGING_H

#include "cpu/x86/state.h"

/* Guest-physical address width, as CPUID 0x80000008 says; the linear one. */
#define X86_MAXPHYADDR 40
#define X86_VA_BITS    48

/* Page-table entry bits. */
#define X86_PTE_P    BIT(0)
#define X86_PTE_RW   BIT(1)
#define X86_PTE_US   BIT(2)
#define X86_PTE_PWT  BIT(3)
#define X86_PTE_PCD  BIT(4)
#define X86_PTE_A    BIT(5)
#define X86_PTE_D    BIT(6)
#define X86_PTE_PS   BIT(7)
#define X86_PTE_G    BIT(8)
#define X86_PTE_NX   BIT(63)
#define X86_PTE_ADDR BITS(X86_MAXPHYADDR - 1, 12)

/* #PF error code. */
#define X86_PF_P    0x01U
#define X86_PF_W    0x02U
#define X86_PF_U    0x04U
#define X86_PF_RSVD 0x08U
#define X86_PF_I    0x10U

/* What a translation allows, under CR0.WP, SMEP, SMAP, NXE as they are now.
 * USER: CPL 3. SUP: supervisor accesses with AC clear, and implicit ones.
 * SUPAC: explicit supervisor data accesses with AC set (SMAP lifted). */
#define X86_ALLOW_USER_R  0x01U
#define X86_ALLOW_USER_W  0x02U
#define X86_ALLOW_USER_X  0x04U
#define X86_ALLOW_SUP_R   0x08U
#define X86_ALLOW_SUP_W   0x10U
#define X86_ALLOW_SUP_X   0x20U
#define X86_ALLOW_SUPAC_R 0x40U
#define X86_ALLOW_SUPAC_W 0x80U

struct x86_walk {
    gpa_t gpa;      /* of the byte asked for */
    uint32_t allow; /* X86_ALLOW_*: rights only; mind .dirty for writes */
    uint8_t shift;  /* page size: 12, 21, 22 or 30 (12 without paging) */
    bool dirty;     /* D is set: a write may go ahead without a walk */
    bool global;
};

/** x86_walk() - translate @va for one access
 * @flags: X86_LIN_READ, _WRITE or _EXEC, with _IMPLICIT or _USER; CPL, CR0,
 *   CR4, EFER and RFLAGS.AC as they are in @cpu
 * @out: filled on success
 * Sets A (and for writes D) bits, atomically, only when the access is allowed.
 * @va must be canonical (x86_lin_check); without long mode the upper 32 bits
 * are ignored. Return: 0, or X86_FAULT with #PF raised. SDM vol. 3A 4.3-4.8 */
int x86_walk(struct x86_cpu *cpu, gva_t va, unsigned flags,
             struct x86_walk *out);

/** x86_walk_marked() - the same with paging on, if nothing is to be changed by
 * it: no fault, no A or D bit to set. Return: whether it is so. */
bool x86_walk_marked(struct x86_cpu *cpu, gva_t va, unsigned flags,
                     struct x86_walk *out);

/** x86_walk_peek() - translate as a debugger does: no rights, no A/D bits
 * Return: whether @va is mapped; *out then is its GPA. */
bool x86_walk_peek(struct x86_cpu *cpu, gva_t va, gpa_t *out);

/** x86_pae_load() - the four PAE PDPTEs at @cr3, checked and cached
 * Return: 0, or X86_FAULT with #GP(0): reserved bits. SDM vol. 3A 4.4.1 */
int x86_pae_load(struct x86_cpu *cpu, uint64_t cr3);

/** x86_access_allow() - which one X86_ALLOW_* bit an access of @flags needs */
uint32_t x86_access_allow(const struct x86_cpu *cpu, unsigned flags);

static inline bool x86_canonical(uint64_t va)
{
    return (uint64_t)bits_sext(va, X86_VA_BITS) == va;
}

/** x86_lin_check() - canonical check of [va, va+len) in long mode
 * Return: 0, or X86_FAULT: #GP(0), with X86_LIN_STACK #SS(0). */
int x86_lin_check(struct x86_cpu *cpu, gva_t va, size_t len, unsigned flags);

/* Linear memory by a walk for each access; its ctx is the struct x86_cpu. */
extern const struct x86_lin_ops x86_lin_walk_ops;

/* Shorthands for the engine's linear memory. */
static inline int x86_lin_read(struct x86_cpu *cpu, uint64_t va, void *buf,
                               size_t len, unsigned flags)
{
    return cpu->lin->read(cpu->lin_ctx, gva(va), buf, len, flags);
}

static inline int x86_lin_write(struct x86_cpu *cpu, uint64_t va,
                                const void *buf, size_t len, unsigned flags)
{
    return cpu->lin->write(cpu->lin_ctx, gva(va), buf, len, flags);
}

static inline int x86_lin_probe(struct x86_cpu *cpu, uint64_t va, size_t len,
                                unsigned flags)
{
    return cpu->lin->probe(cpu->lin_ctx, gva(va), len, flags);
}

#endif
