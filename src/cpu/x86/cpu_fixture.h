// SPDX-License-Identifier: Apache-2.0
/*
 * For unit tests and fuzzers of cpu/x86: a VM with 16 MiB of scattered RAM, a
 * stepped clock (1 GHz TSC) and up to 4 vCPUs, and helpers to build tables.
 */
#ifndef DOPPEL_CPU_X86_CPU_FIXTURE_H
#define DOPPEL_CPU_X86_CPU_FIXTURE_H

#include "base/assert.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/state.h"

#define FX_RAM_BYTES (16 * MIB)
#define FX_CPUS      4

struct fx {
    struct vm vm;
    struct x86_topology topo;
    struct x86_cpuid cpuid;
    struct x86_cpu cpu[FX_CPUS];
};

static inline void fx_init(struct fx *fx, unsigned ncpus)
{
    struct mem_conf mc = {.ram_bytes = FX_RAM_BYTES,
                          .low_limit = FX_RAM_BYTES,
                          .scatter = true,
                          .seed = 1,
                          .memfd = -1};
    struct x86_cpuid_conf cc = {
        .level = X86_LEVEL_V2, .ncpus = ncpus, .tsc_khz = 1000000};
    struct clock *clk = clock_create(CLOCK_MODE_VIRTUAL, 1000000, 0);
    struct mem *mem = NULL;
    int r = mem_create(&mc, &mem, NULL);

    memset(fx, 0, sizeof *fx);
    ASSERT(clk && r == 0);
    r = vm_init(&fx->vm, mem, clk, NULL);
    ASSERT(r == 0);
    r = x86_cpuid_build(&cc, &fx->cpuid, NULL);
    ASSERT(r == 0);
    for (unsigned i = 0; i < ncpus; i++)
        x86_cpu_init(&fx->cpu[i], i, &fx->vm, &fx->topo, &fx->cpuid);
    clock_start(clk);
}

static inline void fx_fini(struct fx *fx)
{
    for (unsigned i = 0; i < fx->topo.ncpus; i++)
        x86_cpu_fini(&fx->cpu[i]);
    vm_fini(&fx->vm);
}

static inline void fx_write(struct fx *fx, uint64_t at, const void *p, size_t n)
{
    int r = mem_write(fx->vm.mem, gpa(at), p, n);

    ASSERT(r == 0);
}

static inline void fx_put64(struct fx *fx, uint64_t at, uint64_t v)
{
    fx_write(fx, at, &v, sizeof v);
}

static inline void fx_put32(struct fx *fx, uint64_t at, uint32_t v)
{
    fx_write(fx, at, &v, sizeof v);
}

static inline uint64_t fx_get64(struct fx *fx, uint64_t at)
{
    uint64_t v = 0;
    int r = mem_read(fx->vm.mem, gpa(at), &v, sizeof v);

    ASSERT(r == 0);
    return v;
}

static inline uint32_t fx_get32(struct fx *fx, uint64_t at)
{
    return (uint32_t)fx_get64(fx, at);
}

/* A segment descriptor: @attr as in struct x86_seg, limit in units of G. */
static inline uint64_t fx_desc(uint32_t base, uint32_t limit, uint32_t attr)
{
    return (limit & 0xffffU) | (uint64_t)(base & 0xffffffU) << 16 |
           (uint64_t)(attr & 0xf0ffU) << 40 |
           (uint64_t)(limit >> 16 & 0xfU) << 48 | (uint64_t)(base >> 24) << 56;
}

/* The low eight bytes of a gate. */
static inline uint64_t fx_gate(uint16_t sel, uint32_t off, uint8_t attr,
                               uint8_t low)
{
    return (off & 0xffffU) | (uint64_t)sel << 16 | (uint64_t)low << 32 |
           (uint64_t)attr << 40 | (uint64_t)(off >> 16) << 48;
}

/* Attribute bytes of common descriptors. */
#define FX_CODE32(dpl) (0xc09bU | (uint32_t)(dpl) << 5)
#define FX_CODE64(dpl) (0xa09bU | (uint32_t)(dpl) << 5)
#define FX_CODE16(dpl) (0x009bU | (uint32_t)(dpl) << 5)
#define FX_DATA32(dpl) (0xc093U | (uint32_t)(dpl) << 5)

/* Where fx_tables puts things. */
#define FX_GDT   UINT64_C(0x10000)
#define FX_IDT   UINT64_C(0x11000)
#define FX_TSS   UINT64_C(0x12000)
#define FX_LDT   UINT64_C(0x13000)
#define FX_PML4  UINT64_C(0x14000)
#define FX_PDPT  UINT64_C(0x15000)
#define FX_PD    UINT64_C(0x16000)
#define FX_STACK UINT64_C(0x80000) /* ring 0's top */
#define FX_IST   UINT64_C(0x90000)
#define FX_USTK  UINT64_C(0xa0000) /* ring 3's top */

/* Selectors. */
enum {
    FX_CS0 = 0x08,
    FX_SS0 = 0x10,
    FX_CS3 = 0x1b,
    FX_SS3 = 0x23,
    FX_CSC = 0x28,  /* conforming, DPL 0 */
    FX_CS16 = 0x30, /* 16-bit code, DPL 0 */
    FX_TR = 0x40,   /* 16 bytes in long mode */
    FX_LDTR = 0x50,
    FX_NP0 = 0x60,  /* code, not present */
    FX_GATE = 0x70, /* free: call gates */
    FX_FREE = 0x80
};

/* GDT and TSS; the vCPU in ring 0, protected mode or long mode with the low
 * 1 GiB mapped 1:1 for user and supervisor in 2 MiB pages. */
static inline void fx_tables(struct fx *fx, bool lm)
{
    struct x86_cpu *cpu = &fx->cpu[0];
    uint32_t code0 = lm ? FX_CODE64(0) : FX_CODE32(0);
    uint32_t code3 = lm ? FX_CODE64(3) : FX_CODE32(3);

    fx_put64(fx, FX_GDT + FX_CS0, fx_desc(0, 0xfffff, code0));
    fx_put64(fx, FX_GDT + FX_SS0, fx_desc(0, 0xfffff, FX_DATA32(0)));
    fx_put64(fx, FX_GDT + (FX_CS3 & ~3), fx_desc(0, 0xfffff, code3));
    fx_put64(fx, FX_GDT + (FX_SS3 & ~3), fx_desc(0, 0xfffff, FX_DATA32(3)));
    fx_put64(fx, FX_GDT + FX_CSC, fx_desc(0, 0xfffff, code0 | 4));
    fx_put64(fx, FX_GDT + FX_CS16, fx_desc(0, 0xffff, FX_CODE16(0)));
    fx_put64(fx, FX_GDT + FX_TR, fx_desc((uint32_t)FX_TSS, 0x1ff, 0x89));
    fx_put64(fx, FX_GDT + FX_LDTR, fx_desc((uint32_t)FX_LDT, 0xff, 0x82));
    fx_put64(fx, FX_GDT + FX_NP0, fx_desc(0, 0xfffff, code0 & ~0x80U));
    if (lm) {
        fx_put64(fx, FX_TSS + 4, FX_STACK);
        fx_put64(fx, FX_TSS + 0x24, FX_IST);
    } else {
        fx_put32(fx, FX_TSS + 4, (uint32_t)FX_STACK);
        fx_put32(fx, FX_TSS + 8, FX_SS0);
    }
    cpu->gdtr = (struct x86_dtr){.base = FX_GDT, .limit = 0xfff};
    cpu->idtr = (struct x86_dtr){.base = FX_IDT, .limit = 0xfff};
    cpu->cr0 = X86_CR0_PE | X86_CR0_ET;
    if (lm) {
        fx_put64(fx, FX_PML4, FX_PDPT | 7);
        fx_put64(fx, FX_PDPT, FX_PD | 7);
        for (unsigned i = 0; i < 512; i++)
            fx_put64(fx, FX_PD + 8 * i, (uint64_t)i << 21 | 0xe7);
        cpu->cr3 = FX_PML4;
        cpu->cr4 = X86_CR4_PAE;
        cpu->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE | X86_EFER_NXE;
        cpu->cr0 |= X86_CR0_PG | X86_CR0_WP;
    }
    for (unsigned i = 0; i < 6; i++)
        cpu->seg[i] = (struct x86_seg){
            .limit = 0xffffffffU, .attr = FX_DATA32(0), .sel = FX_SS0};
    cpu->seg[X86_SEG_CS].attr = code0;
    cpu->seg[X86_SEG_CS].sel = FX_CS0;
    cpu->tr = (struct x86_seg){
        .base = FX_TSS, .limit = 0x1ff, .attr = 0x8b, .sel = FX_TR};
    cpu->ldtr = (struct x86_seg){.attr = (uint32_t)X86_SEG_UNUSABLE};
    cpu->gpr[X86_RSP] = FX_STACK - 0x100;
    cpu->rip = 0x1000;
}

/* Into ring 3 as a kernel would have left it. */
static inline void fx_user(struct fx *fx)
{
    struct x86_cpu *cpu = &fx->cpu[0];
    bool lm = cpu->efer & X86_EFER_LMA;

    cpu->cpl = 3;
    for (unsigned i = 0; i < 6; i++) {
        cpu->seg[i].attr = FX_DATA32(3);
        cpu->seg[i].sel = FX_SS3;
    }
    cpu->seg[X86_SEG_CS].attr = lm ? FX_CODE64(3) : FX_CODE32(3);
    cpu->seg[X86_SEG_CS].sel = FX_CS3;
    cpu->gpr[X86_RSP] = FX_USTK;
}

#endif
