// SPDX-License-Identifier: Apache-2.0
/*
 * A small VM for the interpreter's tests: 64-bit mode with identity paging in
 * 8 MiB of RAM, an IDT whose gates lead to HLT, code and data where a test
 * puts them. Included by tests only.
 *
 *   0x1000 PML4  0x2000 PDPT  0x3000 PD: 0-2 MiB and 4-8 MiB as large pages
 *   0x4000 page table of 2-4 MiB (4 KiB pages, for tests to change)
 *   0x5000 GDT   0x6000 IDT   0x8000 + 16 * v: handler of vector v (HLT)
 *   0x9800 TSS   0x10000 code  0x70000 top of the stack
 */
#ifndef DOPPEL_ENGINE_INTERP_TESTVM_H
#define DOPPEL_ENGINE_INTERP_TESTVM_H

#include "base/test.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/msr.h"
#include "cpu/x86/state.h"
#include "engine/interp/interp.h"
#include "engine/interp/single.h"
#include "vm/vm.h"

#include <stdlib.h>

#define TVM_CODE   0x10000U
#define TVM_STACK  0x70000U
#define TVM_PT     0x4000U
#define TVM_PAGED  0x200000U /* 4 KiB pages from here */
#define TVM_VEC(v) (0x8000U + 16U * (v))
#define TVM_CPUS   2

struct tvm {
    struct vm vm;
    struct x86_cpuid cpuid;
    struct x86_topology topo;
    struct x86_cpu *cpu; /* vCPU 0 */
    struct x86_cpu cpus[TVM_CPUS];
    struct engine_vcpu *v[TVM_CPUS];
};

static inline void tvm_poke(struct tvm *t, uint64_t at, const void *p, size_t n)
{
    if (mem_write(t->vm.mem, gpa(at), p, n))
        abort();
}

static inline void tvm_poke64(struct tvm *t, uint64_t at, uint64_t v)
{
    tvm_poke(t, at, &v, 8);
}

static inline uint64_t tvm_peek(struct tvm *t, uint64_t at, size_t n)
{
    uint64_t v = 0;

    if (mem_read(t->vm.mem, gpa(at), &v, n))
        abort();
    return v;
}

/* Set the page table entry of a page in 2-4 MiB. */
static inline void tvm_page(struct tvm *t, uint64_t va, uint64_t flags)
{
    tvm_poke64(t, TVM_PT + (va >> 12 & 511) * 8, (va & ~0xfffULL) | flags);
}

static inline void tvm_tables(struct tvm *t)
{
    tvm_poke64(t, 0x1000, 0x2000 | 7);
    tvm_poke64(t, 0x2000, 0x3000 | 7);
    for (unsigned i = 0; i < 4; i++)
        tvm_poke64(t, 0x3000 + i * 8,
                   i == 1 ? TVM_PT | 7 : (uint64_t)i << 21 | 0x87);
    for (unsigned i = 0; i < 512; i++)
        tvm_page(t, TVM_PAGED + i * 4096, 7);
    /* GDT: 8 code64, 16 data, 24 user data, 32 user code64, 40 TSS */
    tvm_poke64(t, 0x5008, 0x00af9b000000ffff);
    tvm_poke64(t, 0x5010, 0x00cf93000000ffff);
    tvm_poke64(t, 0x5018, 0x00cff3000000ffff);
    tvm_poke64(t, 0x5020, 0x00affb000000ffff);
    tvm_poke64(t, 0x5028, 0x0000890098000067);
    tvm_poke64(t, 0x9804, 0x60000); /* RSP0 */
    for (unsigned v = 0; v < 256; v++) {
        uint64_t to = TVM_VEC(v), type = v == 3 || v == 4 ? 0xee : 0x8e;

        tvm_poke64(t, 0x6000 + v * 16,
                   (to & 0xffff) | 8ULL << 16 | type << 40 |
                       (to >> 16 & 0xffff) << 48);
        tvm_poke64(t, 0x6008 + v * 16, to >> 32);
        if (to < 0x9800)
            tvm_poke(t, to, "\xf4", 1);
    }
}

static inline void tvm_seg(struct x86_seg *s, uint16_t sel, uint32_t attr)
{
    s->sel = sel;
    s->base = 0;
    s->limit = 0xffffffff;
    s->attr = attr;
}

/* 64-bit mode at TVM_CODE, CPL 0, interrupts off. */
static inline void tvm_cpu_start(struct tvm *t, struct x86_cpu *cpu)
{
    (void)t;
    cpu->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_NE | X86_CR0_ET | X86_CR0_MP |
               X86_CR0_WP;
    cpu->cr3 = 0x1000;
    cpu->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
    cpu->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE | X86_EFER_NXE;
    tvm_seg(&cpu->seg[X86_SEG_CS], 8, 0xa09b);
    tvm_seg(&cpu->seg[X86_SEG_SS], 16, 0xc093);
    for (unsigned i = 0; i < 6; i++)
        if (i != X86_SEG_CS && i != X86_SEG_SS)
            tvm_seg(&cpu->seg[i], 16, 0xc093);
    cpu->gdtr = (struct x86_dtr){0x5000, 0x37};
    cpu->idtr = (struct x86_dtr){0x6000, 0xfff};
    cpu->tr = (struct x86_seg){
        .base = 0x9800, .limit = 0x67, .attr = 0x8b, .sel = 40};
    cpu->rip = TVM_CODE;
    cpu->rflags = X86_FL_ONE;
    cpu->gpr[X86_RSP] = TVM_STACK;
    cpu->cpl = 0;
    cpu->activity = X86_ACT_RUN;
}

/* A VM with @ncpus vCPUs, all started. */
static inline struct tvm *tvm_create_mem(enum clock_mode mode, unsigned ncpus,
                                         bool scatter)
{
    const struct mem_conf mc = {.ram_bytes = 8 << 20,
                                .low_limit = 3ULL << 30,
                                .scatter = scatter,
                                .seed = 7,
                                .memfd = -1};
    struct x86_cpuid_conf cc = {
        .level = x86_cpuid_best_level(), .ncpus = ncpus, .tsc_khz = 1000000};
    struct tvm *t = aligned_alloc(64, (sizeof *t + 63) & ~(size_t)63);
    struct clock *clk = clock_create(mode, 1000000, 0);
    struct mem *mem;
    struct err e;

    memset(t, 0, sizeof *t);
    if (!clk || mem_create(&mc, &mem, &e) || vm_init(&t->vm, mem, clk, &e) ||
        x86_cpuid_build(&cc, &t->cpuid, &e)) {
        printf("the test's VM: %s\n", e.text);
        exit(1);
    }
    t->cpu = &t->cpus[0];
    t->topo.ncpus = ncpus;
    tvm_tables(t);
    for (unsigned i = 0; i < ncpus; i++) {
        t->topo.cpu[i] = &t->cpus[i];
        x86_cpu_init(&t->cpus[i], i, &t->vm, &t->topo, &t->cpuid);
        tvm_cpu_start(t, &t->cpus[i]);
        if (interp_engine.vcpu_create(&t->vm, &t->cpus[i], &t->v[i], &e)) {
            printf("the test's vCPU: %s\n", e.text);
            exit(1);
        }
    }
    clock_start(clk);
    return t;
}

static inline struct tvm *tvm_create_cpus(enum clock_mode mode, unsigned ncpus)
{
    return tvm_create_mem(mode, ncpus, true);
}

static inline struct tvm *tvm_create(void)
{
    return tvm_create_cpus(CLOCK_MODE_REAL, 1);
}

static inline void tvm_destroy(struct tvm *t)
{
    for (unsigned i = 0; i < t->topo.ncpus; i++) {
        interp_engine.vcpu_destroy(t->v[i]);
        x86_cpu_fini(&t->cpus[i]);
    }
    vm_fini(&t->vm);
    free(t);
}

/* Put code at TVM_CODE; a string literal's bytes. */
#define TVM_PUT(t, s) tvm_poke(t, TVM_CODE, s, sizeof(s) - 1)

/* Run vCPU 0 for at most @max instructions. */
static inline enum exit_reason tvm_run(struct tvm *t, uint64_t max)
{
    struct exit_rec x;

    interp_engine.vcpu_run(t->v[0], max, &x);
    return x.reason;
}

/* Run to the HLT in an exception's handler. Return: its vector, or -1. */
static inline int tvm_run_fault(struct tvm *t)
{
    uint64_t at;

    if (tvm_run(t, 100000) != EXIT_HLT)
        return -1;
    at = t->cpu->rip - 1;
    if (at < TVM_VEC(0) || at >= TVM_VEC(256) || at % 16)
        return -1;
    return (int)((at - TVM_VEC(0)) / 16);
}

#endif
