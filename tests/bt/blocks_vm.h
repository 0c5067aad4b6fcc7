// SPDX-License-Identifier: Apache-2.0
/*
 * What the VM of random programs is made of: for blocks_vm.c, which makes it,
 * and blocks_state.c, which runs it. Others see blocks.h.
 *
 * Guest-physical: 0x1000 PML4, 0x2000 PDPT, 0x3000 PD, 0x4000-0x6fff tables of
 * code, data, cells of the lower half; 0x7000 PDPT, 0x8000 PD, 0x9000-0xbfff
 * the same of the upper one; 0xc000 GDT, 0xc800 TSS, 0xd000 IDT, 0xe000
 * interrupt stack, 0xf000 handlers, 0x10000 #PF handler, system call, 0x20000
 * code, 0x30000 data, 0x40000 cells.
 */
#ifndef DOPPEL_TESTS_BT_BLOCKS_VM_H
#define DOPPEL_TESTS_BT_BLOCKS_VM_H

#include "tests/bt/blocks.h"
#include "vm/vm.h"

#include <stdlib.h>

#define RAM          (2U << 20)
#define PAGES        (RAM / 4096)
#define GPA_PF       0x10000U
#define GPA_SYSC     0x10800U
#define GPA_CODE     0x20000U
#define GPA_DATA     0x30000U
#define GPA_CELLS    0x40000U
#define HANDLERS     (BLK_SYS + 0xf000)
#define IST_TOP      0xf000U
#define LAZY_PAGE    3U
#define SYSTEM_PAGES 0x12U
#define IST_PAGE     0xeU
#define PTE_P        1U
#define PTE_W        2U
#define PTE_U        4U
#define PTE_LARGE    0x80U
#define PTE_GLOBAL   0x100U
#define PTE_NX       BIT(63)

/* TSC and random numbers: what both engines' VMs are to get the same of. */
struct blk_inputs {
    uint64_t seed;
    uint64_t taken[INPUT_KIND_COUNT];
};

struct blk_vm {
    struct vm vm;
    struct x86_cpuid cpuid;
    struct x86_topology topo;
    struct x86_cpu cpu, start;
    const struct engine_ops *ops;
    struct engine_vcpu *v;
    struct blk_inputs in;
    uint8_t *page[PAGES];
    struct mem_iov pin[PAGES];
    uint8_t pattern[BLK_DATA_BYTES];
    uint8_t system[SYSTEM_PAGES * 4096]; /* page 0 and up, as made */
};

static inline void blk_poke(struct blk_vm *v, uint64_t at, const void *p,
                            size_t n)
{
    if (mem_write(v->vm.mem, gpa(at), p, n))
        abort();
}

static inline void blk_set_seg(struct x86_seg *s, uint16_t sel, uint32_t attr)
{
    *s = (struct x86_seg){.limit = 0xffffffff, .attr = attr, .sel = sel};
}

#endif
