// SPDX-License-Identifier: Apache-2.0
/*
 * The software TLB: direct-mapped tables of page addresses to host pages, one
 * per kind of access, flushed by raising the generation in the tags. Entries
 * are 4 KiB pieces whatever the guest's page size. Source: Intel SDM vol. 3A
 * 4.10.
 */
#include "engine/interp/priv.h"

#include "cpu/x86/paging.h"
#include "cpu/x86/phys.h"
#include "cpu/x86/segmentation.h"
#include "vm/mem.h"

#include <errno.h>

#define GEN_MAX UINT64_C(4095)
#define PAGE    (~UINT64_C(0xfff))

static void gens_load(struct interp *in);

/* ---- generations ---- */

/* Every tag is void: start over. */
static void tables_clear(struct interp *in)
{
    memset(in->tables, 0, sizeof *in->tables * (size_t)TLB_KINDS * TLB_ENTRIES);
    in->gen_last = 0;
    in->wraps++;
    for (unsigned i = 0; i < PCID_SLOTS; i++)
        in->pcid[i].valid = false;
}

static uint64_t gen_new(struct interp *in)
{
    return ++in->gen_last;
}

static void upper_new(struct interp *in)
{
    in->gen[1] = gen_new(in);
    in->epoch[1] = ++in->epoch_last;
    in->nlocal = 0;
    memset(&in->upper_seen, 0, sizeof in->upper_seen);
}

static void lower_new(struct interp *in)
{
    struct pcid_slot *s = &in->pcid[in->pcid_cur];

    s->valid = true;
    s->gen = gen_new(in);
    s->epoch = ++in->epoch_last;
    memset(&s->seen, 0, sizeof s->seen);
}

/* Room for @n more generations, or everything is cleared. */
static bool gens_room(struct interp *in, unsigned n)
{
    if (in->gen_last + n <= GEN_MAX)
        return true;
    tables_clear(in);
    upper_new(in);
    lower_new(in);
    return false;
}

static uint16_t pcid_now(const struct x86_cpu *cpu)
{
    return cpu->cr4 & X86_CR4_PCIDE ? (uint16_t)(cpu->cr3 & 0xfff) : 0;
}

void tlb_flush_all(struct interp *in)
{
    in->st.tlb_flushes++;
    for (unsigned i = 0; i < PCID_SLOTS; i++)
        in->pcid[i].valid = false;
    in->pcid[in->pcid_cur].pcid = pcid_now(in->cpu);
    if (gens_room(in, 2)) {
        upper_new(in);
        lower_new(in);
    }
    gens_load(in);
}

/* Make PCID @pcid the current one; @keep: find its entries again. */
static void pcid_switch(struct interp *in, uint16_t pcid, bool keep)
{
    unsigned i;

    for (i = 0; i < PCID_SLOTS; i++)
        if (in->pcid[i].valid && in->pcid[i].pcid == pcid)
            break;
    if (i < PCID_SLOTS && keep) {
        in->st.tlb_pcid_hits++;
        in->pcid_cur = i;
        return;
    }
    if (i == PCID_SLOTS) {
        in->pcid_victim = (in->pcid_victim + 1) % PCID_SLOTS;
        i = in->pcid_victim;
    }
    in->pcid_cur = i;
    in->pcid[i].pcid = pcid;
    if (gens_room(in, 1))
        lower_new(in);
}

/* ---- one page ---- */

/* Large pages are held as pieces, and INVLPG of one drops them all: a filter
 * (may say yes too often) tells where large pages were met. */
static void large_note(struct interp *in, uint64_t lin, unsigned shift)
{
    struct tlb_seen *s = tlb_seen_of(in, lin);
    unsigned m = TLB_SEEN_OF(lin), g = (unsigned)(lin >> 30) & 255;

    if (shift == 30)
        s->huge[g / 64] |= BIT(g % 64);
    else
        s->large[m / 64] |= BIT(m % 64);
}

/* How large a page that covers @lin may be: 12, 22 (2 or 4 MiB), 30. */
static unsigned large_maybe(const struct tlb_seen *s, uint64_t lin)
{
    unsigned m = TLB_SEEN_OF(lin), g = (unsigned)(lin >> 30) & 255;

    if (s->huge[g / 64] >> (g % 64) & 1)
        return 30;
    return s->large[m / 64] >> (m % 64) & 1 ? 22 : 12;
}

static bool code_maybe(const struct tlb_seen *s, uint64_t lin)
{
    unsigned p = (unsigned)(lin >> 12) & 4095;

    return s->code[p / 64] >> (p % 64) & 1;
}

static void ent_drop(struct tlb_ent *e, uint64_t lin, unsigned shift)
{
    if (((e->r | e->w | e->x) ^ lin) >> shift == 0)
        e->r = e->w = e->x = 0;
}

/* Drop what is held of the page of 2^@shift bytes around @lin. The tags of an
 * entry are of one page. */
static void pieces_drop(struct interp *in, uint64_t lin, unsigned shift)
{
    unsigned n = shift == 12 ? 1 : TLB_ENTRIES;
    unsigned at = shift == 12 ? tlb_index(in, lin) : 0;

    for (unsigned k = 0; k < TLB_NONE; k++)
        for (unsigned i = at; i < at + n; i++)
            ent_drop(&in->tables[k * TLB_ENTRIES + i], lin, shift);
}

/* Drop a page of 2^@shift bytes, and the links of blocks that it may hold. */
static void drop(struct interp *in, uint64_t lin, unsigned shift)
{
    bool code = shift > 12 || code_maybe(tlb_seen_of(in, lin), lin);

    pieces_drop(in, lin, shift);
    if (in->dropped)
        in->dropped(in->outer, lin, shift, code);
    if (!code)
        return;
    if (lin >> 63)
        in->epoch[1] = ++in->epoch_last;
    else
        in->pcid[in->pcid_cur].epoch = ++in->epoch_last;
    gens_load(in);
}

/* Whether anything is left that large_maybe would take for a piece of the 4 MiB
 * around @lin, which have just been dropped. */
static bool large_left(struct interp *in, uint64_t lin)
{
    for (unsigned i = 0; i < TLB_NONE * TLB_ENTRIES; i++) {
        const struct tlb_ent *e = &in->tables[i];
        uint64_t tag = e->r | e->w | e->x;

        if (tag && (tag ^ lin) >> 63 == 0 &&
            TLB_SEEN_OF(tag) == TLB_SEEN_OF(lin))
            return true;
    }
    return in->holds && in->holds(in->outer, lin);
}

static void page_drop(struct interp *in, uint64_t lin)
{
    struct tlb_seen *s = tlb_seen_of(in, lin);
    unsigned shift = large_maybe(s, lin), m = TLB_SEEN_OF(lin);

    in->st.tlb_large_drops += shift > 12;
    drop(in, lin, shift);
    if (shift == 22 && !large_left(in, lin))
        s->large[m / 64] &= ~BIT(m % 64);
}

/* The upper half holds a piece that is not global: a list is dropped with each
 * change of address space. */
static void local_note(struct interp *in, uint64_t lin)
{
    for (unsigned i = 0; i < in->nlocal && i < TLB_LOCALS; i++)
        if (in->local[i] == (lin & PAGE))
            return;
    if (in->nlocal < TLB_LOCALS)
        in->local[in->nlocal] = lin & PAGE;
    if (in->nlocal <= TLB_LOCALS)
        in->nlocal++;
}

static void locals_drop(struct interp *in)
{
    unsigned n = in->nlocal;

    in->nlocal = 0;
    if (n > TLB_LOCALS) {
        in->st.tlb_upper_flushes++;
        if (gens_room(in, 1))
            upper_new(in);
        return;
    }
    in->locals_go = true;
    for (unsigned i = 0; i < n; i++)
        drop(in, in->local[i], 12);
    in->locals_go = false;
}

void tlb_flush_page(struct interp *in, uint64_t lin)
{
    in->st.tlb_page_flushes++;
    page_drop(in, lin);
    if (lin >> 63)
        return;
    for (unsigned i = 0; i < PCID_SLOTS; i++)
        if (i != in->pcid_cur && in->pcid[i].seen.global)
            in->pcid[i].valid = false;
}

void tlb_lin_root(void *ctx, bool keep)
{
    struct interp *in = ctx;

    in->st.tlb_flushes++;
    pcid_switch(in, pcid_now(in->cpu), keep);
    locals_drop(in);
    gens_load(in);
}

void tlb_lin_flush(void *ctx, enum x86_flush kind, gva_t va, uint16_t pcid)
{
    struct interp *in = ctx;

    switch (kind) {
    case X86_FLUSH_PAGE:
        if (pcid == in->pcid[in->pcid_cur].pcid) {
            tlb_flush_page(in, va.v);
            return;
        }
        break; /* another PCID's page: drop all that PCID has */
    case X86_FLUSH_PCID:
        break;
    case X86_FLUSH_ALL:
    case X86_FLUSH_NONGLOBAL:
        tlb_flush_all(in);
        return;
    }
    in->st.tlb_flushes++;
    locals_drop(in);
    for (unsigned i = 0; i < PCID_SLOTS; i++)
        if (in->pcid[i].valid && in->pcid[i].pcid == pcid) {
            if (i != in->pcid_cur)
                in->pcid[i].valid = false;
            else if (gens_room(in, 1))
                lower_new(in);
        }
    gens_load(in);
}

/* ---- what follows from the CPU's mode ---- */

/* The link tag says under which translation and rights a successor was found:
 * epoch, CPL 3 or not, mode. */
static void gens_load(struct interp *in)
{
    const struct pcid_slot *s = &in->pcid[in->pcid_cur];
    uint64_t key =
        (in->kind == TLB_USER || in->cpu->cpl == 3 ? 4U : 0U) | in->mode;

    in->gen[0] = s->gen;
    in->epoch[0] = s->epoch;
    in->xtag[0] = in->epoch[0] << 3 | key;
    in->xtag[1] = in->epoch[1] << 3 | key;
}

static enum tlb_kind kind_now(const struct x86_cpu *cpu)
{
    if (x86_db_armed(cpu))
        return TLB_NONE;
    if (cpu->cpl == 3) {
        if ((cpu->cr0 & X86_CR0_AM) && (cpu->rflags & X86_FL_AC))
            return TLB_NONE;
        return TLB_USER;
    }
    if ((cpu->cr4 & X86_CR4_SMAP) && !(cpu->rflags & X86_FL_AC))
        return TLB_SUP;
    return TLB_SUPAC;
}

/* Outside 64-bit mode what rip means depends on CS, which links don't name. */
static void legacy_cs(struct interp *in)
{
    const struct x86_seg *cs = &in->cpu->seg[X86_SEG_CS];

    if (cs->base == in->cs_base && cs->limit == in->cs_limit)
        return;
    in->cs_base = cs->base;
    in->cs_limit = cs->limit;
    in->epoch[1] = ++in->epoch_last;
    in->pcid[in->pcid_cur].epoch = ++in->epoch_last;
}

void interp_mode_update(struct interp *in)
{
    const struct x86_cpu *cpu = in->cpu;

    in->mode = (uint8_t)x86_mode(cpu);
    in->mode64 = in->mode == X86_MODE_64;
    if (!in->mode64)
        legacy_cs(in);
    in->slow = x86_db_armed(cpu);
    in->kind = kind_now(cpu);
    in->tlb = in->tables + (size_t)in->kind * TLB_ENTRIES;
    gens_load(in);
}

void tlb_lin_mode(void *ctx)
{
    struct interp *in = ctx;

    interp_mode_update(in);
    in->check = true;
}

/* ---- filling ---- */

enum tlb_kind tlb_kind_of(const struct interp *in, unsigned flags)
{
    if (flags & X86_LIN_IMPLICIT)
        return in->cpu->cr4 & X86_CR4_SMAP ? TLB_SUP : TLB_SUPAC;
    if (flags & X86_LIN_USER)
        return TLB_USER;
    if (in->cpu->cpl == 3)
        return TLB_USER;
    return in->kind == TLB_NONE ? TLB_SUP : in->kind;
}

static void fill(struct interp *in, uint64_t lin, unsigned flags,
                 const struct x86_walk *w, uint8_t *page, bool direct)
{
    static const uint32_t allow[TLB_NONE][3] = {
        [TLB_USER] = {X86_ALLOW_USER_R, X86_ALLOW_USER_W, X86_ALLOW_USER_X},
        [TLB_SUP] = {X86_ALLOW_SUP_R, X86_ALLOW_SUP_W, X86_ALLOW_SUP_X},
        [TLB_SUPAC] = {X86_ALLOW_SUPAC_R, X86_ALLOW_SUPAC_W, X86_ALLOW_SUP_X},
    };
    enum tlb_kind kind = tlb_kind_of(in, flags);
    struct tlb_ent *e = tlb_ent_of(in, kind, lin);
    uint64_t tag = (lin & PAGE) | in->gen[lin >> 63];
    bool same = e->host == page && (e->r == tag || e->w == tag || e->x == tag);

    if (in->kind == TLB_NONE)
        return;
    if (!w->global && lin >> 63)
        local_note(in, lin);
    if (w->global && !(lin >> 63))
        tlb_seen_of(in, lin)->global = true;
    if (w->shift > 12)
        large_note(in, lin, w->shift);
    e->host = page;
    e->r = w->allow & allow[kind][0] ? tag : 0;
    e->x = w->allow & allow[kind][2] ? tag : 0;
    if ((w->allow & allow[kind][1]) && w->dirty && direct) {
        tlb_writer_note(in, page, lin);
        e->w = tag;
    } else if (!same || !(w->allow & allow[kind][1]))
        e->w = 0;
}

int tlb_xlat(struct interp *in, uint64_t lin, unsigned flags, struct xlat *x)
{
    struct mem *mem = in->cpu->vm->mem;
    bool write = flags & X86_LIN_WRITE;
    struct x86_walk w;
    uint32_t word = 0;
    uint8_t *page;

    if (!(in->cpu->efer & X86_EFER_LMA))
        lin = (uint32_t)lin;
    in->st.tlb_misses++;
    if (x86_walk(in->cpu, gva(lin), flags, &w)) {
        /* SDM vol. 3A 4.10.4.1: page faults do. Of a large page other pieces
         * may stay: they are dropped by faults of their own. */
        drop(in, lin, 12);
        return X86_FAULT;
    }
    page = mem_tlb_page(mem, gpa(w.gpa.v & PAGE), write ? MEM_WRITE : MEM_READ,
                        &word);
    x->gpa = w.gpa;
    if (!page) {
        x->host = NULL;
        x->direct = false;
        in->closed_hit = in->closed;
        return UNLIKELY(in->closed) ? X86_FAULT : 0;
    }
    x->host = page + (w.gpa.v & 0xfff);
    x->direct = !(word & (MEM_CODE | MEM_WATCH));
    fill(in, lin, flags, &w, page, write && x->direct);
    return 0;
}

bool tlb_ahead(struct interp *in, uint64_t lin, unsigned flags)
{
    bool write = flags & X86_LIN_WRITE;
    struct x86_walk w;
    uint32_t word = 0;
    uint8_t *page;

    if (!x86_walk_marked(in->cpu, gva(lin), flags, &w))
        return false;
    page = mem_tlb_page(in->cpu->vm->mem, gpa(w.gpa.v & PAGE),
                        write ? MEM_WRITE : MEM_READ, &word);
    if (!page)
        return false;
    fill(in, lin, flags, &w, page, write && !(word & (MEM_CODE | MEM_WATCH)));
    return true;
}

int tlb_init(struct interp *in)
{
    in->tables =
        aligned_alloc(64, sizeof *in->tables * (size_t)TLB_KINDS * TLB_ENTRIES);
    if (!in->tables || tlb_writers_init(in))
        return -ENOMEM;
    in->pcid[0].pcid = pcid_now(in->cpu);
    tables_clear(in);
    upper_new(in);
    lower_new(in);
    interp_mode_update(in);
    return 0;
}

void tlb_fini(struct interp *in)
{
    tlb_writers_fini(in);
    free(in->tables);
}
