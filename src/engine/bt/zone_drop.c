// SPDX-License-Identifier: Apache-2.0
/*
 * What is mapped in zones goes: when the guest drops pages from its TLB, when a
 * flush finds the page tables changed, and rights to write when a page is
 * marked.
 */
#include "engine/bt/zone_priv.h"

#include "vm/mem.h"

#include <sys/mman.h>

/* ---- flushes ---- */

static bool still(struct zones *z, const struct x86_cpu *cpu,
                  const struct zentry *e)
{
    uint64_t pte, need = X86_PTE_A, at;
    unsigned shift = zone_leaf(z, cpu, e->va, &pte);

    if (e->win != ZONE_KERNEL)
        need |= X86_PTE_US;
    else if (!e->path)
        need |= X86_PTE_G;
    if (e->write)
        need |= X86_PTE_RW | X86_PTE_D;
    if (shift != e->shift || (pte & need) != need)
        return false;
    if (e->win == ZONE_KERNEL && (pte & X86_PTE_US)) /* SMAP */
        return false;
    if (e->win != ZONE_KERNEL && (pte & X86_PTE_G))
        return false;
    at = pte & X86_PTE_ADDR & ~(BIT(shift) - 1);
    return at + (e->va & (BIT(shift) - 1) & ~(zone_bytes(e) - 1)) == e->gpa;
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

/* ---- drops ---- */

static void drop_one(struct bt *bt, unsigned win, uint64_t va, unsigned shift)
{
    struct zones *z = bt->part->zones;
    struct zwin *w = &z->win[win];
    struct zentry *e;

    if (shift == 12 && !w->larger) {
        for (unsigned big = 0; big < 2; big++) {
            e = zone_find(z, win, va, big);
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
        struct zentry *e = zone_find(z, win, va, false);

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
        zone_entry_forget(z, e);
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
        zone_read_only(z, e, 0, 4096);
        return;
    }
    zone_ro_set(z, e, (unsigned)((at - e->gpa) >> 12), true);
    if (z->cuts > z->cuts_max)
        zone_read_only_all(z, e);
    else
        zone_read_only(z, e, at - e->gpa, 4096);
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
                zone_read_only_all(z, e);
        }
    off = zone_offset(z, at);
    for (unsigned big = 0; big < 2 && !all && off != UINT64_MAX; big++) {
        uint64_t key = at & ~((big ? BIG : 4096) - 1);

        if (big && zone_shut(z, off))
            break;
        for (uint32_t i = z->by_gpa[zone_hash_gpa(key, big)]; i;
             i = z->entry[i - 1].next_gpa)
            if (z->entry[i - 1].gpa == key && z->entry[i - 1].big == big)
                unwrite(z, &z->entry[i - 1], at);
        if (big)
            zone_shut_set(z, off, true);
    }
    pthread_mutex_unlock(&z->lock);
}
