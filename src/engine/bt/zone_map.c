// SPDX-License-Identifier: Apache-2.0
/*
 * What is mapped in zones. Each fault walks the page tables anew, so an entry
 * is never older than the last flush. Large pages are mapped in pieces of
 * 2 MiB, whose pages that are code or watched are made read-only one by one.
 * Small pages take their neighbours along that the guest has used.
 */
#include "engine/bt/zone_priv.h"

#include "vm/mem.h"

#include <stdlib.h>
#include <sys/mman.h>

#define AROUND 32U /* pages that a fault looks at */

/* ---- mapping ---- */

uint64_t zone_offset(struct zones *z, uint64_t at)
{
    uint32_t word;
    uint8_t *p = mem_tlb_page(z->mem, gpa(at), MEM_READ, &word);

    return p ? (uint64_t)(p - z->ram) : UINT64_MAX;
}

/* Stores to it must be seen. */
static bool special(struct zones *z, uint64_t at)
{
    const _Atomic uint32_t *word = mem_page_word(z->mem, gpa(at));

    return !word || (atomic_load(word) & (MEM_CODE | MEM_WATCH));
}

bool zone_shut(const struct zones *z, uint64_t off)
{
    return z->shut[off >> 18] >> (off >> 12 & 63) & 1;
}

void zone_shut_set(struct zones *z, uint64_t off, bool on)
{
    if (on)
        z->shut[off >> 18] |= BIT(off >> 12 & 63);
    else
        z->shut[off >> 18] &= ~BIT(off >> 12 & 63);
}

static bool ro_get(const struct zentry *e, unsigned i)
{
    return i < 512 && (e->ro[i / 64] >> (i % 64) & 1);
}

/* Whether page @i of a big piece that may be written is kept from it. */
void zone_ro_set(struct zones *z, struct zentry *e, unsigned i, bool on)
{
    int beside = (int)ro_get(e, i - 1) + (int)ro_get(e, i + 1);
    int more = on ? 1 - beside : beside - 1;

    if (ro_get(e, i) == on)
        return;
    e->ro[i / 64] ^= BIT(i % 64);
    e->cuts = (uint16_t)(e->cuts + more);
    z->cuts += (uint32_t)more;
}

/* Nothing that is to be seen may be written unseen: rather not mapped. */
void zone_read_only(struct zones *z, struct zentry *e, uint64_t off, uint64_t n)
{
    uint8_t *at = zone_host(z, e->win, e->va);

    if (mprotect(at + off, n, PROT_READ) == 0)
        return;
    zone_unmap(at, zone_bytes(e));
    zone_entry_forget(z, e);
}

/* No page of it may be written. */
void zone_read_only_all(struct zones *z, struct zentry *e)
{
    zone_cuts_none(z, e);
    e->write = false;
    zone_read_only(z, e, 0, zone_bytes(e));
}

/* Return: false: it would be too many mappings. */
static bool specials(struct zones *z, struct zentry *e, uint64_t off)
{
    unsigned n = (unsigned)(zone_bytes(e) >> 12);
    uint32_t word;

    for (unsigned i = 0; i < n; i++)
        if (special(z, e->gpa + i * UINT64_C(4096)))
            zone_ro_set(z, e, i, true);
    if (z->cuts > z->cuts_max)
        return false;
    for (unsigned i = 0; i < n; i++)
        if (!ro_get(e, i)) {
            mem_tlb_page(z->mem, gpa(e->gpa + i * UINT64_C(4096)), MEM_WRITE,
                         &word);
            zone_shut_set(z, off + i * UINT64_C(4096), false);
        }
    return true;
}

/* Return: false: the host refuses. */
static bool shut_specials(const struct zentry *e, uint8_t *at)
{
    unsigned n = (unsigned)(zone_bytes(e) >> 12), from = 0;

    for (unsigned i = 0; i < n; i++) {
        if (!ro_get(e, i))
            continue;
        if (!i || !ro_get(e, i - 1))
            from = i;
        if ((i + 1 == n || !ro_get(e, i + 1)) &&
            mprotect(at + from * UINT64_C(4096),
                     (i + 1 - from) * UINT64_C(4096), PROT_READ))
            return false;
    }
    return true;
}

/* Whoever marks a page sets its mark first and then comes to revoke, for which
 * it waits for our lock: so either we see the mark, or it sees our mapping.
 * Return: false: the entry is to be dropped. True need not mean e->write. */
static bool entry_map(struct zones *z, struct zentry *e, bool write)
{
    uint8_t *at = zone_host(z, e->win, e->va);
    uint64_t off = zone_offset(z, e->gpa);

    zone_cuts_none(z, e);
    e->write = false;
    if (!at || off == UINT64_MAX)
        return false;
    if (write && !specials(z, e, off)) {
        zone_cuts_none(z, e);
        write = false;
    }
    if (mmap(at, zone_bytes(e), PROT_READ | (write ? PROT_WRITE : 0),
             MAP_SHARED | MAP_FIXED, z->fd, (off_t)off) == MAP_FAILED)
        return false;
    e->write = write;
    return !write || shut_specials(e, at);
}

static bool big_fits(struct zones *z, const struct x86_walk *w, uint64_t va)
{
    uint64_t at = w->gpa.v & ~(BIG - 1);

    return w->shift >= 21 && ((w->gpa.v ^ va) & (BIG - 1)) == 0 &&
           mem_is_ram(z->mem, gpa(at), BIG) &&
           zone_offset(z, at + BIG - 4096) == zone_offset(z, at) + BIG - 4096;
}

/* What was small pages when they were mapped is a large one now, and the guest
 * has not flushed. No entry's mapping lies in another's. */
static void make_room(struct zones *z, unsigned win, uint64_t va)
{
    uint64_t first = va & ~(BIG - 1);

    for (uint64_t at = first; at < first + BIG && z->win[win].n; at += 4096) {
        struct zentry *e = zone_find(z, win, at, false);

        if (e) {
            zone_unmap(zone_host(z, win, at), 4096);
            zone_entry_forget(z, e);
        }
    }
}

static bool entry_add(struct bt *bt, unsigned win, uint64_t va,
                      const struct x86_walk *w, bool write)
{
    struct zones *z = bt->part->zones;
    bool big = big_fits(z, w, va);
    uint64_t mask = (big ? BIG : 4096) - 1;
    struct zentry *e;

    if (win == ZONE_KERNEL && !zone_top_add(bt, va))
        return false;
    if (big)
        make_room(z, win, va);
    e = zone_entry_new(z, win);
    if (!e)
        return false;
    e->va = va & ~mask;
    e->gpa = w->gpa.v & ~mask;
    e->shift = w->shift;
    e->big = big;
    z->win[win].larger += zone_is_piece(e);
    zone_entry_chain(z, e);
    if ((win == ZONE_KERNEL && !w->global && !zone_local_add(bt, e)) ||
        !entry_map(z, e, write && (big || !special(z, e->gpa)))) {
        zone_entry_drop(bt, e);
        return false;
    }
    bt->st.zone_maps++;
    return true;
}

/* ---- page tables ---- */

/* Bits that must be 0. Source: Intel SDM vol. 3A tables 4-14 to 4-20. */
static uint64_t reserved(const struct x86_cpu *cpu, unsigned shift, bool last)
{
    uint64_t bad = BITS(51, X86_MAXPHYADDR);

    if (!(cpu->efer & X86_EFER_NXE))
        bad |= X86_PTE_NX;
    if (shift == 39)
        bad |= X86_PTE_PS;
    if (last && shift > 12)
        bad |= BITS(shift - 1, 13);
    return bad;
}

/* The leaf that translates @va, as the tables are now, and what all levels
 * allow; A, if all have it. Return: its shift; 0: none. */
unsigned zone_leaf(struct zones *z, const struct x86_cpu *cpu, uint64_t va,
                   uint64_t *pte)
{
    uint64_t at = cpu->cr3, e, all = X86_PTE_RW | X86_PTE_US | X86_PTE_A;

    for (unsigned shift = 39;; shift -= 9) {
        const uint8_t *table = zone_table(z, at);
        bool last;

        if (!table)
            return 0;
        e = zone_pte(table, va, shift);
        last = shift == 12 || (shift < 39 && (e & X86_PTE_PS));
        if (!(e & X86_PTE_P) || (e & reserved(cpu, shift, last)))
            return 0;
        all &= e;
        if (last) {
            *pte = (e & ~(X86_PTE_RW | X86_PTE_US | X86_PTE_A)) | all;
            return shift;
        }
        at = e;
    }
}

/* ---- faults ---- */

/* A page of a big piece that was code or watched, and is no more. */
static bool page_open(struct zones *z, struct zentry *e, uint64_t page)
{
    unsigned i = (unsigned)((page - e->va) >> 12);
    uint32_t word;

    if (!ro_get(e, i))
        return true; /* another vCPU was faster */
    zone_ro_set(z, e, i, false);
    if (z->cuts > z->cuts_max ||
        mprotect(zone_host(z, e->win, page), 4096, PROT_READ | PROT_WRITE)) {
        zone_ro_set(z, e, i, true);
        return false;
    }
    mem_tlb_page(z->mem, gpa(e->gpa + (page - e->va)), MEM_WRITE, &word);
    zone_shut_set(z, zone_offset(z, e->gpa + (page - e->va)), false);
    return true;
}

static bool entry_open(struct bt *bt, struct zentry *e)
{
    struct zones *z = bt->part->zones;

    if (e->big && z->cuts >= z->cuts_max)
        return false;
    if (!entry_map(z, e, true)) {
        zone_entry_drop(bt, e);
        return false;
    }
    return e->write;
}

static bool entry_fault(struct bt *bt, struct zentry *e, uint64_t va,
                        const struct x86_walk *w, bool write)
{
    uint64_t page = va & ~UINT64_C(4095), at = w->gpa.v & ~UINT64_C(4095);
    struct zones *z = bt->part->zones;
    bool other = e->win == ZONE_KERNEL && w->global != !e->path;

    if (e->gpa + (page - e->va) != at || e->shift != w->shift || other) {
        zone_entry_drop(bt, e);
        return true; /* once more */
    }
    if (!write)
        return true;
    if (special(z, at)) {
        bt->st.zone_code++;
        return false;
    }
    return e->write ? page_open(z, e, page) : entry_open(bt, e);
}

struct page {
    uint64_t gpa;
    bool ok, write;
};

/* @n pages in a row here and there, as one mapping. */
static void run_map(struct bt *bt, unsigned win, uint64_t va,
                    const struct page *p, unsigned n)
{
    struct zones *z = bt->part->zones;
    uint8_t *at = zone_host(z, win, va);
    uint64_t off = zone_offset(z, p->gpa);
    uint32_t word;

    if (!at)
        return;
    if (mmap(at, n * 4096UL, PROT_READ | (p->write ? PROT_WRITE : 0),
             MAP_SHARED | MAP_FIXED | MAP_POPULATE, z->fd,
             (off_t)off) == MAP_FAILED) {
        zone_unmap(at, n * 4096UL);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        struct zentry *e = zone_entry_new(z, win);

        if (!e) {
            zone_unmap(at + i * 4096UL, (n - i) * 4096UL);
            return;
        }
        e->va = va + i * 4096UL;
        e->gpa = p[i].gpa;
        e->shift = 12;
        e->write = p->write;
        zone_entry_chain(z, e);
        bt->st.zone_maps++;
        if (!p->write)
            continue;
        if (special(z, e->gpa)) { /* marked since */
            e->write = false;
            zone_read_only(z, e, 0, 4096);
        } else {
            mem_tlb_page(z->mem, gpa(e->gpa), MEM_WRITE, &word);
        }
    }
}

/* A user's page, and neighbours that the guest has used, too. */
static void around(struct bt *bt, unsigned win, uint64_t va)
{
    uint64_t first = va & ~(uint64_t)(AROUND * 4096 - 1), pte;
    struct zones *z = bt->part->zones;
    struct page p[AROUND];
    unsigned n;

    for (unsigned i = 0; i < AROUND; i++) {
        uint64_t at = first + i * UINT64_C(4096);

        p[i].ok = !zone_find(z, win, at, false) &&
                  zone_leaf(z, bt->cpu, at, &pte) == 12 && (pte & X86_PTE_A) &&
                  (pte & X86_PTE_US) && !(pte & X86_PTE_G) &&
                  mem_is_ram(z->mem, gpa(pte & X86_PTE_ADDR), 4096);
        if (!p[i].ok)
            continue;
        p[i].gpa = pte & X86_PTE_ADDR;
        p[i].write =
            (pte & X86_PTE_RW) && (pte & X86_PTE_D) && !special(z, p[i].gpa);
    }
    for (unsigned i = 0; i < AROUND; i += n) {
        for (n = 1; p[i].ok && i + n < AROUND && p[i + n].ok; n++)
            if (p[i + n].write != p[i].write ||
                zone_offset(z, p[i + n].gpa) !=
                    zone_offset(z, p[i].gpa) + n * 4096)
                break;
        if (p[i].ok)
            run_map(bt, win, first + i * UINT64_C(4096), &p[i], n);
    }
}

/* What holds @va: a large piece, a page, or nothing. */
static struct zentry *entry_at(struct zones *z, unsigned win, uint64_t va)
{
    struct zentry *e = zone_find(z, win, va, true);

    return e ? e : zone_find(z, win, va, false);
}

bool zone_map_fault(struct bt *bt, unsigned win, uint64_t va, bool write)
{
    uint32_t w_bit = win == ZONE_KERNEL ? X86_ALLOW_SUP_W : X86_ALLOW_USER_W;
    struct zones *z = bt->part->zones;
    struct x86_walk w;
    struct zentry *e;

    if (z->tables > TABLES_MAX)
        zone_unmap_all(z);
    if (x86_walk(bt->cpu, gva(va), write ? X86_LIN_WRITE : X86_LIN_READ, &w)) {
        bt->st.zone_walks++;
        return false;
    }
    /* INVLPG of a user's global page would concern all PCIDs' windows. A page
     * of the kernel's half that users may read is the kernel's only while SMAP
     * is off, on this vCPU. */
    if (!mem_is_ram(z->mem, gpa(w.gpa.v & ~UINT64_C(4095)), 4096) ||
        (win == ZONE_KERNEL ? (w.allow & X86_ALLOW_USER_R) != 0 : w.global)) {
        bt->st.zone_odd++;
        return false;
    }
    e = entry_at(z, win, va);
    if (e)
        return entry_fault(bt, e, va, &w, write);
    z->tables++;
    z->win[win].tables++;
    if (win != ZONE_KERNEL && w.shift == 12)
        around(bt, win, va);
    else
        (void)entry_add(bt, win, va, &w, w.dirty && (w.allow & w_bit));
    e = entry_at(z, win, va);
    if (!e) {
        bt->st.zone_odd++;
        return false;
    }
    if (e->big && e->write && win != ZONE_KERNEL)
        bt->zone_whole = zone_host(z, win, e->va);
    if (write && special(z, w.gpa.v & ~UINT64_C(4095))) {
        bt->st.zone_code++;
        return false;
    }
    return !write || e->write;
}
