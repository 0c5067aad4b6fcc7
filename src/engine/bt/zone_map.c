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

static unsigned hash(uint64_t key)
{
    return (unsigned)(key * UINT64_C(0x9e3779b97f4a7c15) >> (64 - ZHASH_BITS));
}

/* Of small and big pieces at one address. */
static unsigned hash_gpa(uint64_t at, bool big)
{
    return hash(big ? ~(at >> 21) : at >> 12);
}

static unsigned hash_va(unsigned win, uint64_t at, bool big)
{
    return hash((big ? ~(at >> 21) : at >> 12) ^ (uint64_t)win << 40);
}

static uint64_t bytes_of(const struct zentry *e)
{
    return e->big ? BIG : 4096;
}

static struct zentry *find(struct zones *z, unsigned win, uint64_t va, bool big)
{
    uint64_t at = va & ~((big ? BIG : 4096) - 1);
    uint32_t i = z->by_va[hash_va(win, at, big)];

    while (i) {
        struct zentry *e = &z->entry[i - 1];

        if (e->va == at && e->big == big && e->win == win)
            return e;
        i = e->next_va;
    }
    return NULL;
}

/* ---- entries ---- */

void zone_map_reset(struct zones *z)
{
    for (unsigned i = 0; i < ZONE_WINS; i++) {
        free(z->win[i].list);
        z->win[i] = (struct zwin){.n = 0};
    }
    z->nentries = z->free = z->nlocals = z->cuts = z->tables = 0;
    z->npaths = z->ntops = z->top_drops = 0;
    z->no_locals = false;
    memset(z->by_va, 0, sizeof z->by_va);
    memset(z->by_gpa, 0, sizeof z->by_gpa);
    memset(z->pin, 0, sizeof z->pin);
    memset(z->pin_faults, 0, sizeof z->pin_faults);
}

static void chain(struct zones *z, struct zentry *e)
{
    uint32_t *v = &z->by_va[hash_va(e->win, e->va, e->big)];
    uint32_t *g = &z->by_gpa[hash_gpa(e->gpa, e->big)];

    e->next_va = *v;
    e->next_gpa = *g;
    *v = *g = (uint32_t)(e - z->entry) + 1;
}

static void unchain(struct zones *z, const struct zentry *e)
{
    uint32_t i = (uint32_t)(e - z->entry) + 1;
    uint32_t *v = &z->by_va[hash_va(e->win, e->va, e->big)];
    uint32_t *g = &z->by_gpa[hash_gpa(e->gpa, e->big)];

    while (*v != i)
        v = &z->entry[*v - 1].next_va;
    *v = e->next_va;
    while (*g != i)
        g = &z->entry[*g - 1].next_gpa;
    *g = e->next_gpa;
}

/* Whether it is less than what INVLPG drops. */
static bool is_piece(const struct zentry *e)
{
    return e->shift > (e->big ? 21 : 12);
}

static void cuts_none(struct zones *z, struct zentry *e)
{
    z->cuts -= e->cuts;
    e->cuts = 0;
    for (unsigned i = 0; i < 8; i++)
        e->ro[i] = 0;
}

static void forget(struct zones *z, struct zentry *e)
{
    struct zwin *w = &z->win[e->win];
    uint32_t last = w->list[--w->n];

    unchain(z, e);
    w->list[e->at] = last;
    z->entry[last].at = e->at;
    w->larger -= is_piece(e);
    cuts_none(z, e);
    if (e->path)
        zone_local_drop(z, e);
    e->next_va = z->free;
    z->free = (uint32_t)(e - z->entry) + 1;
}

void zone_entry_drop(struct bt *bt, struct zentry *e)
{
    struct zones *z = bt->part->zones;
    uint8_t *at = zone_host(z, e->win, e->va);

    if (at)
        zone_unmap(at, bytes_of(e));
    forget(z, e);
    bt->st.zone_drops++;
}

void zone_entries_forget(struct zones *z, unsigned win)
{
    while (z->win[win].n)
        forget(z, &z->entry[z->win[win].list[z->win[win].n - 1]]);
}

/* Return: NULL: no room. */
static struct zentry *entry_new(struct zones *z, unsigned win)
{
    struct zwin *w = &z->win[win];
    uint32_t i = z->free;

    if (w->n == w->room) {
        uint32_t room = w->room ? 2 * w->room : 256;
        uint32_t *p = realloc(w->list, room * sizeof *p);

        if (!p)
            return NULL;
        w->list = p;
        w->room = room;
    }
    if (i)
        z->free = z->entry[i - 1].next_va;
    else if (z->nentries < z->entries_max)
        i = ++z->nentries;
    else
        return NULL;
    z->entry[i - 1] = (struct zentry){.win = (uint16_t)win, .at = w->n};
    w->list[w->n++] = i - 1;
    return &z->entry[i - 1];
}

/* ---- mapping ---- */

static uint64_t offset_of(struct zones *z, uint64_t at)
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

static bool shut(const struct zones *z, uint64_t off)
{
    return z->shut[off >> 18] >> (off >> 12 & 63) & 1;
}

static void shut_set(struct zones *z, uint64_t off, bool on)
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
static void ro_set(struct zones *z, struct zentry *e, unsigned i, bool on)
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
static void read_only(struct zones *z, struct zentry *e, uint64_t off,
                      uint64_t n)
{
    uint8_t *at = zone_host(z, e->win, e->va);

    if (mprotect(at + off, n, PROT_READ) == 0)
        return;
    zone_unmap(at, bytes_of(e));
    forget(z, e);
}

/* No page of it may be written. */
static void read_only_all(struct zones *z, struct zentry *e)
{
    cuts_none(z, e);
    e->write = false;
    read_only(z, e, 0, bytes_of(e));
}

/* Return: false: it would be too many mappings. */
static bool specials(struct zones *z, struct zentry *e, uint64_t off)
{
    unsigned n = (unsigned)(bytes_of(e) >> 12);
    uint32_t word;

    for (unsigned i = 0; i < n; i++)
        if (special(z, e->gpa + i * UINT64_C(4096)))
            ro_set(z, e, i, true);
    if (z->cuts > z->cuts_max)
        return false;
    for (unsigned i = 0; i < n; i++)
        if (!ro_get(e, i)) {
            mem_tlb_page(z->mem, gpa(e->gpa + i * UINT64_C(4096)), MEM_WRITE,
                         &word);
            shut_set(z, off + i * UINT64_C(4096), false);
        }
    return true;
}

/* Return: false: the host refuses. */
static bool shut_specials(const struct zentry *e, uint8_t *at)
{
    unsigned n = (unsigned)(bytes_of(e) >> 12), from = 0;

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
    uint64_t off = offset_of(z, e->gpa);

    cuts_none(z, e);
    e->write = false;
    if (!at || off == UINT64_MAX)
        return false;
    if (write && !specials(z, e, off)) {
        cuts_none(z, e);
        write = false;
    }
    if (mmap(at, bytes_of(e), PROT_READ | (write ? PROT_WRITE : 0),
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
           offset_of(z, at + BIG - 4096) == offset_of(z, at) + BIG - 4096;
}

/* What was small pages when they were mapped is a large one now, and the guest
 * has not flushed. No entry's mapping lies in another's. */
static void make_room(struct zones *z, unsigned win, uint64_t va)
{
    uint64_t first = va & ~(BIG - 1);

    for (uint64_t at = first; at < first + BIG && z->win[win].n; at += 4096) {
        struct zentry *e = find(z, win, at, false);

        if (e) {
            zone_unmap(zone_host(z, win, at), 4096);
            forget(z, e);
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
    e = entry_new(z, win);
    if (!e)
        return false;
    e->va = va & ~mask;
    e->gpa = w->gpa.v & ~mask;
    e->shift = w->shift;
    e->big = big;
    z->win[win].larger += is_piece(e);
    chain(z, e);
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
static unsigned leaf(struct zones *z, const struct x86_cpu *cpu, uint64_t va,
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

static bool still(struct zones *z, const struct x86_cpu *cpu,
                  const struct zentry *e)
{
    uint64_t pte, need = X86_PTE_A, at;
    unsigned shift = leaf(z, cpu, e->va, &pte);

    if (e->win != ZONE_KERNEL)
        need |= X86_PTE_US;
    else if (!e->path)
        need |= X86_PTE_G;
    if (e->write)
        need |= X86_PTE_RW | X86_PTE_D;
    if (shift != e->shift || (pte & need) != need)
        return false;
    if (e->win == ZONE_KERNEL && (pte & X86_PTE_US)) /* SMAP is on */
        return false;
    at = pte & X86_PTE_ADDR & ~(BIT(shift) - 1);
    return at + (e->va & (BIT(shift) - 1) & ~(bytes_of(e) - 1)) == e->gpa;
}

void bt_zones_sync(struct bt *bt, bool upper)
{
    struct zones *z = bt->part ? bt->part->zones : NULL;
    unsigned win = upper ? ZONE_KERNEL : zone_win_of(bt, 0), gone = 0;

    /* into the kernel's window another vCPU may be about to put something */
    if (!z || (!upper && !__atomic_load_n(&z->win[win].n, __ATOMIC_RELAXED)))
        return;
    pthread_mutex_lock(&z->lock);
    bt->st.zone_syncs++;
    if (!upper && z->win[win].root != (bt->cpu->cr3 & X86_PTE_ADDR))
        zone_win_drop(bt, win);
    for (uint32_t i = z->win[win].n; i > 0; i--) {
        struct zentry *e = &z->entry[z->win[win].list[i - 1]];

        if (still(z, bt->cpu, e))
            continue;
        zone_entry_drop(bt, e);
        if (++gone > 64 && !upper) { /* one piece is cheaper */
            zone_win_drop(bt, win);
            break;
        }
    }
    pthread_mutex_unlock(&z->lock);
}

/* ---- faults ---- */

/* A page of a big piece that was code or watched, and is no more. */
static bool page_open(struct zones *z, struct zentry *e, uint64_t page)
{
    unsigned i = (unsigned)((page - e->va) >> 12);
    uint32_t word;

    if (!ro_get(e, i))
        return true; /* another vCPU was faster */
    ro_set(z, e, i, false);
    if (z->cuts > z->cuts_max ||
        mprotect(zone_host(z, e->win, page), 4096, PROT_READ | PROT_WRITE)) {
        ro_set(z, e, i, true);
        return false;
    }
    mem_tlb_page(z->mem, gpa(e->gpa + (page - e->va)), MEM_WRITE, &word);
    shut_set(z, offset_of(z, e->gpa + (page - e->va)), false);
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

    if (e->gpa + (page - e->va) != at || e->shift != w->shift) {
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

/* INVLPG of a user's global page concerns other PCIDs' windows, too. */
static void note_global(struct bt *bt, uint64_t va, bool global)
{
    if (global && !(va >> 63))
        tlb_seen_of(bt->in, va)->global = true;
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
    uint64_t off = offset_of(z, p->gpa);
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
        struct zentry *e = entry_new(z, win);

        if (!e) {
            zone_unmap(at + i * 4096UL, (n - i) * 4096UL);
            return;
        }
        e->va = va + i * 4096UL;
        e->gpa = p[i].gpa;
        e->shift = 12;
        e->write = p->write;
        chain(z, e);
        bt->st.zone_maps++;
        if (!p->write)
            continue;
        if (special(z, e->gpa)) { /* marked since */
            e->write = false;
            read_only(z, e, 0, 4096);
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

        p[i].ok = !find(z, win, at, false) &&
                  leaf(z, bt->cpu, at, &pte) == 12 && (pte & X86_PTE_A) &&
                  (pte & X86_PTE_US) &&
                  mem_is_ram(z->mem, gpa(pte & X86_PTE_ADDR), 4096);
        if (!p[i].ok)
            continue;
        p[i].gpa = pte & X86_PTE_ADDR;
        note_global(bt, at, pte & X86_PTE_G);
        p[i].write =
            (pte & X86_PTE_RW) && (pte & X86_PTE_D) && !special(z, p[i].gpa);
    }
    for (unsigned i = 0; i < AROUND; i += n) {
        for (n = 1; p[i].ok && i + n < AROUND && p[i + n].ok; n++)
            if (p[i + n].write != p[i].write ||
                offset_of(z, p[i + n].gpa) != offset_of(z, p[i].gpa) + n * 4096)
                break;
        if (p[i].ok)
            run_map(bt, win, first + i * UINT64_C(4096), &p[i], n);
    }
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
    if (!mem_is_ram(z->mem, gpa(w.gpa.v & ~UINT64_C(4095)), 4096)) {
        bt->st.zone_odd++;
        return false;
    }
    e = find(z, win, va, true);
    if (!e)
        e = find(z, win, va, false);
    if (e)
        return entry_fault(bt, e, va, &w, write);
    note_global(bt, va, w.global);
    z->tables++;
    z->win[win].tables++;
    if (win != ZONE_KERNEL && w.shift == 12) {
        around(bt, win, va);
    } else {
        (void)entry_add(bt, win, va, &w, w.dirty && (w.allow & w_bit));
    }
    e = find(z, win, va, true);
    if (e && e->write && win != ZONE_KERNEL)
        bt->zone_whole = zone_host(z, win, e->va);
    if (!e)
        e = find(z, win, va, false);
    if (!e) {
        bt->st.zone_odd++;
        return false;
    }
    if (write && special(z, w.gpa.v & ~UINT64_C(4095))) {
        bt->st.zone_code++;
        return false;
    }
    return !write || e->write;
}

/* ---- drops ---- */

static void drop_one(struct bt *bt, unsigned win, uint64_t va, unsigned shift)
{
    struct zones *z = bt->part->zones;
    struct zwin *w = &z->win[win];
    struct zentry *e;

    if (shift == 12 && !w->larger) {
        for (unsigned big = 0; big < 2; big++) {
            e = find(z, win, va, big);
            if (e)
                zone_entry_drop(bt, e);
        }
        return;
    }
    for (uint32_t i = w->n; i > 0; i--) {
        e = &z->entry[w->list[i - 1]];
        if ((e->va ^ va) >> (e->shift > shift ? e->shift : shift) == 0)
            zone_entry_drop(bt, e);
    }
}

/* User pages go one after the other while the kernel runs, which does not use
 * their zones. */
static bool wait(struct bt *bt, unsigned win, uint64_t va, unsigned shift)
{
    if (win == ZONE_KERNEL || shift != 12 || bt->cpu->cpl == 3)
        return false;
    if (bt->zone_late_n == BT_ZONE_LATE)
        bt_zones_late(bt);
    bt->zone_late[bt->zone_late_n++] = va & ~UINT64_C(4095);
    return true;
}

void bt_zones_drop(struct bt *bt, uint64_t va, unsigned shift)
{
    struct zones *z = bt->part->zones;
    unsigned win;

    if (!z)
        return;
    win = zone_win_of(bt, va);
    if (win != ZONE_KERNEL &&
        (!__atomic_load_n(&z->win[win].n, __ATOMIC_RELAXED) ||
         wait(bt, win, va, shift)))
        return;
    pthread_mutex_lock(&z->lock);
    drop_one(bt, win, va, shift);
    pthread_mutex_unlock(&z->lock);
}

/* qsort may use vector registers. */
static void sort(uint64_t *v, unsigned n)
{
    for (unsigned i = 1; i < n; i++) {
        uint64_t x = v[i];
        unsigned k = i;

        for (; k > 0 && v[k - 1] > x; k--)
            v[k] = v[k - 1];
        v[k] = x;
    }
}

/* Pages in a row are unmapped in one piece. */
void bt_zones_late(struct bt *bt)
{
    unsigned n = bt->zone_late_n, win = zone_win_of(bt, 0);
    struct zones *z = bt->part->zones;
    uint64_t at = 0, bytes = 0;

    if (!n)
        return;
    bt->zone_late_n = 0;
    sort(bt->zone_late, n);
    pthread_mutex_lock(&z->lock);
    for (unsigned i = 0; i < n; i++) {
        uint64_t va = bt->zone_late[i];
        struct zentry *e = find(z, win, va, false);

        if (!e || z->win[win].larger) {
            drop_one(bt, win, va, 12);
            continue;
        }
        if (at + bytes != va || !(va & (ZONE_BYTES - 1))) {
            if (bytes)
                zone_unmap(zone_host(z, win, at), bytes);
            at = va;
            bytes = 0;
        }
        bytes += 4096;
        forget(z, e);
        bt->st.zone_drops++;
    }
    if (bytes)
        zone_unmap(zone_host(z, win, at), bytes);
    pthread_mutex_unlock(&z->lock);
    bt->views[bt->at].credit -= 1 + (int32_t)n / 8;
}

static void unwrite(struct zones *z, struct zentry *e, uint64_t at)
{
    if (!e->write)
        return;
    if (!e->big) {
        e->write = false;
        read_only(z, e, 0, 4096);
        return;
    }
    ro_set(z, e, (unsigned)((at - e->gpa) >> 12), true);
    if (z->cuts > z->cuts_max)
        read_only_all(z, e);
    else
        read_only(z, e, at - e->gpa, 4096);
}

void bt_zones_revoke(struct engine_part *part, gpa_t g, bool all)
{
    struct zones *z = part->zones;
    uint64_t at = g.v & ~UINT64_C(4095), off;

    if (!z || z->fd < 0)
        return;
    pthread_mutex_lock(&z->lock);
    for (unsigned win = 0; all && win < ZONE_WINS; win++)
        for (uint32_t i = z->win[win].n; i > 0; i--) {
            struct zentry *e = &z->entry[z->win[win].list[i - 1]];

            if (e->write)
                read_only_all(z, e);
        }
    off = offset_of(z, at);
    for (unsigned big = 0; big < 2 && !all && off != UINT64_MAX; big++) {
        uint64_t key = at & ~((big ? BIG : 4096) - 1);

        if (big && shut(z, off))
            break;
        for (uint32_t i = z->by_gpa[hash_gpa(key, big)]; i;
             i = z->entry[i - 1].next_gpa)
            if (z->entry[i - 1].gpa == key && z->entry[i - 1].big == big)
                unwrite(z, &z->entry[i - 1], at);
        if (big)
            shut_set(z, off, true);
    }
    pthread_mutex_unlock(&z->lock);
}
