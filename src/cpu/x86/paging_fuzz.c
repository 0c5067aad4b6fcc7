// SPDX-License-Identifier: Apache-2.0
/*
 * Fuzzer of the page walk: random tables, control bits and accesses. What must
 * hold: no crash; a translation lies within MAXPHYADDR; after success A is set
 * in the entries used and D for writes; a second walk agrees and allows what it
 * said; a fault leaves the tables as they were.
 */
#include "cpu/x86/paging.h"

#include "cpu/x86/cpu_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TABLES      8
#define TABLE_BASE  UINT64_C(0x100000)
#define ENTRIES_MAX 64

struct head {
    uint8_t mode;    /* bits 0-1: paging mode, 2-7 control bits */
    uint8_t control; /* more of them */
    uint8_t access;  /* X86_LIN_* and CPL */
    uint8_t n;       /* entries that follow */
    uint64_t va;
} PACKED;

/* An entry to put somewhere. */
struct entry {
    uint16_t where;  /* table and index */
    uint8_t to;      /* the table pointed to, or none */
    uint8_t flags;   /* low eight bits */
    uint64_t random; /* other bits, if .to says so */
} PACKED;

static struct fx *fixture(void)
{
    static struct fx fx;
    static bool ready;

    if (!ready)
        fx_init(&fx, 1);
    ready = true;
    return &fx;
}

static void set_mode(struct x86_cpu *cpu, const struct head *h)
{
    cpu->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_PG;
    cpu->cr4 = 0;
    cpu->efer = h->control & 1 ? X86_EFER_NXE : 0;
    switch (h->mode & 3) {
    case 0:
        cpu->cr0 &= ~X86_CR0_PG;
        break;
    case 1:
        cpu->cr4 |= h->mode & 4 ? X86_CR4_PSE : 0;
        break;
    case 2:
        cpu->cr4 |= X86_CR4_PAE;
        break;
    default:
        cpu->cr4 |= X86_CR4_PAE;
        cpu->efer |= X86_EFER_LME | X86_EFER_LMA;
        break;
    }
    cpu->cr0 |= h->control & 2 ? X86_CR0_WP : 0;
    cpu->cr4 |= h->control & 4 ? X86_CR4_SMEP : 0;
    cpu->cr4 |= h->control & 8 ? X86_CR4_SMAP : 0;
    cpu->cr4 |= h->control & 16 ? X86_CR4_PGE : 0;
    cpu->rflags = X86_FL_ONE | (h->control & 32 ? X86_FL_AC : 0);
    cpu->cpl = h->access >> 6;
    cpu->cr3 = TABLE_BASE;
}

/* Put the entries; the wide ones are 8 bytes. */
static void build(struct fx *fx, const struct head *h, const uint8_t *data,
                  size_t size)
{
    bool wide = (h->mode & 3) >= 2;
    int r = mem_zero(fx->vm.mem, gpa(TABLE_BASE), TABLES * 4096);

    ASSERT(r == 0);
    for (unsigned i = 0; i < h->n && i < ENTRIES_MAX; i++) {
        struct entry e;
        uint64_t pte, at;

        if (size < sizeof e)
            break;
        memcpy(&e, data, sizeof e);
        data += sizeof e;
        size -= sizeof e;
        pte = e.flags;
        if (e.to < TABLES)
            pte |= TABLE_BASE + e.to * UINT64_C(4096);
        else
            pte |= e.random & ~UINT64_C(0xff);
        at = TABLE_BASE + (e.where & (TABLES * 512 - 1)) * UINT64_C(8);
        if (wide)
            fx_put64(fx, at, pte);
        else
            fx_put32(fx, at + (e.where >> 13 & 4), (uint32_t)pte);
    }
}

static void check_success(struct x86_cpu *cpu, gva_t va, unsigned flags,
                          const struct x86_walk *w)
{
    struct x86_walk again;
    gpa_t peek;
    int r;

    ASSERT(w->gpa.v >> X86_MAXPHYADDR == 0);
    ASSERT(w->shift == 12 || w->shift == 21 || w->shift == 22 ||
           w->shift == 30);
    ASSERT(((w->gpa.v ^ va.v) & (BIT(w->shift) - 1)) == 0);
    ASSERT(w->allow & x86_access_allow(cpu, flags));
    ASSERT(!(flags & X86_LIN_WRITE) || w->dirty);
    /* a walk may write into what it walks: a table that is its own page.
     * All bits that can be set are set by now. */
    r = x86_walk(cpu, va, flags, &again);
    ASSERT(r == 0 && again.gpa.v == w->gpa.v);
    ASSERT(again.allow == w->allow && again.shift == w->shift);
    ASSERT(x86_walk_peek(cpu, va, &peek) && peek.v == w->gpa.v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t before[TABLES * 4096], after[TABLES * 4096];
    struct fx *fx = fixture();
    struct x86_cpu *cpu = &fx->cpu[0];
    struct x86_walk w;
    struct head h;
    unsigned flags;
    gva_t va;

    if (size < sizeof h)
        return 0;
    memcpy(&h, data, sizeof h);
    set_mode(cpu, &h);
    build(fx, &h, data + sizeof h, size - sizeof h);
    if ((h.mode & 3) == 2 && x86_pae_load(cpu, cpu->cr3))
        return 0;
    va = gva((uint64_t)bits_sext(h.va, X86_VA_BITS));
    flags = h.access % 3 | (h.access & 4 ? X86_LIN_IMPLICIT : 0) |
            (h.access & 8 ? X86_LIN_USER : 0);
    if (mem_read(fx->vm.mem, gpa(TABLE_BASE), before, sizeof before))
        return 0;
    if (x86_walk(cpu, va, flags, &w) == 0) {
        check_success(cpu, va, flags, &w);
        return 0;
    }
    ASSERT(cpu->exc.vector == X86_VEC_PF && cpu->exc.has_error);
    ASSERT((cpu->exc.error & ~0x1fU) == 0);
    if (mem_read(fx->vm.mem, gpa(TABLE_BASE), after, sizeof after))
        return 0;
    ASSERT(memcmp(before, after, sizeof before) == 0);
    return 0;
}
