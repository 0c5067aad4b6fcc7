// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel's half is one for all vCPUs, since their roots say the same of it:
 * that is looked at here, with each CR3 write.
 *
 * Pages of the kernel's half that are not global: Linux has a few where large
 * pages were split. They belong to an address space, but their mapping is the
 * same in all: the roots' entries are the same. So they stay mapped over CR3
 * writes as long as that is so, and each flush of any address space compares
 * them with the page tables. Source: Intel SDM vol. 3A 4.10.2.4, 4.10.4.
 */
#include "engine/bt/zone_priv.h"

#include "vm/mem.h"

/* What A and D are makes no other way of it. */
#define SAME (~(X86_PTE_A | X86_PTE_D))

/* ... but a walk would have set A. */
static bool same(uint64_t now, uint64_t was)
{
    return ((now ^ was) & SAME) == 0 && (now & X86_PTE_A);
}

const uint8_t *zone_table(struct zones *z, uint64_t at)
{
    uint32_t word;

    return mem_tlb_page(z->mem, gpa(at & X86_PTE_ADDR), MEM_READ, &word);
}

static bool root_same(struct zones *z, const struct zpath *p, uint64_t cr3)
{
    const uint8_t *root = zone_table(z, cr3);

    return root && same(zone_pte(root, p->at << 21, 39), p->e[0]);
}

static bool path_same(const struct zpath *p)
{
    return same(zone_pte(p->table[0], p->at << 21, 30), p->e[1]) &&
           same(zone_pte(p->table[1], p->at << 21, 21), p->e[2]);
}

/* Return: index + 1; 0: none. */
static unsigned path_get(struct zones *z, uint64_t cr3, uint64_t va)
{
    const uint8_t *table = zone_table(z, cr3);
    struct zpath *p;

    for (unsigned i = 0; i < z->npaths; i++)
        if (z->path[i].at == va >> 21 && root_same(z, &z->path[i], cr3) &&
            path_same(&z->path[i]))
            return i + 1;
    if (z->npaths == PATHS_MAX)
        return 0;
    p = &z->path[z->npaths];
    p->at = va >> 21;
    for (unsigned i = 0; i < 3; i++) {
        if (!table)
            return 0;
        p->e[i] = zone_pte(table, va, 39 - 9 * i);
        if (!(p->e[i] & X86_PTE_P) || (i && (p->e[i] & X86_PTE_PS)))
            return 0;
        table = p->table[i] = zone_table(z, p->e[i]);
    }
    return table ? ++z->npaths : 0;
}

/* ---- the roots' entries ---- */

static bool top_differs(const struct ztop *t, const uint8_t *root)
{
    uint64_t e = root ? zone_pte(root, (uint64_t)t->at << 39, 39) : 0;

    return (e & X86_PTE_P) && ((e ^ t->e) & SAME);
}

/* Global pages are a CPU's own: two may have others at one address. */
bool zone_top_add(struct bt *bt, uint64_t va)
{
    struct engine_part *part = bt->part;
    struct zones *z = part->zones;
    const uint8_t *root = zone_table(z, bt->cpu->cr3);
    unsigned at = (unsigned)(va >> 39) & 511;
    struct ztop *t = &z->top[z->ntops];

    for (unsigned i = 0; i < z->ntops; i++)
        if (z->top[i].at == at)
            return !top_differs(&z->top[i], root);
    if (z->ntops == TOPS_MAX || !root)
        return false;
    *t = (struct ztop){.e = zone_pte(root, va, 39), .at = at};
    z->ntops++;
    /* Either we see another's CR3, or it sees the entry (bt_zones_root). */
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < part->ncpus; i++)
        if (part->bt[i] && part->bt[i]->zoned[1] &&
            top_differs(t, zone_table(z, part->bt[i]->cpu->cr3))) {
            z->ntops--;
            return false;
        }
    return true;
}

static void tops_look(struct bt *bt)
{
    struct zones *z = bt->part->zones;
    const uint8_t *root = zone_table(z, bt->cpu->cr3);

    for (unsigned i = 0; i < z->ntops; i++)
        if (top_differs(&z->top[i], root)) {
            zone_win_unmap(z, ZONE_KERNEL);
            z->ntops = 0;
            z->top_drops++;
        }
}

/* ---- pages that are not global ---- */

/* Whether all vCPUs' roots agree on the way. */
static bool roots_agree(struct bt *bt, const struct zpath *p)
{
    struct engine_part *part = bt->part;

    for (unsigned i = 0; i < part->ncpus; i++)
        if (part->bt[i] && part->bt[i]->zoned[1] &&
            !root_same(part->zones, p, part->bt[i]->cpu->cr3))
            return false;
    return true;
}

bool zone_local_add(struct bt *bt, struct zentry *e)
{
    struct zones *z = bt->part->zones;
    unsigned path;

    if (z->no_locals || e->big || z->nlocals == LOCALS_MAX)
        return false;
    path = path_get(z, bt->cpu->cr3, e->va);
    /* Either we see another's CR3, or it sees the path (bt_zones_root). */
    atomic_thread_fence(memory_order_seq_cst);
    if (!path || !roots_agree(bt, &z->path[path - 1]))
        return false;
    e->pte = zone_pte(z->path[path - 1].table[2], e->va, 12);
    if ((e->pte & X86_PTE_ADDR) != e->gpa || !(e->pte & X86_PTE_P))
        return false;
    e->path = (uint8_t)path;
    e->local = z->nlocals;
    z->local[z->nlocals++] = (uint32_t)(e - z->entry);
    return true;
}

void zone_local_drop(struct zones *z, const struct zentry *e)
{
    uint32_t last = z->local[--z->nlocals];

    z->local[e->local] = last;
    z->entry[last].local = e->local;
}

static bool local_same(struct zones *z, const struct zentry *e)
{
    const struct zpath *p = &z->path[e->path - 1];
    uint64_t pte = zone_pte(p->table[2], e->va, 12), may = X86_PTE_D;

    if (!e->write)
        may |= X86_PTE_RW;
    return ((pte ^ e->pte) & ~may) == 0 && (!e->write || (pte & X86_PTE_D));
}

static void drop_all(struct bt *bt)
{
    struct zones *z = bt->part->zones;

    while (z->nlocals)
        zone_entry_drop(bt, &z->entry[z->local[z->nlocals - 1]]);
    z->npaths = 0;
}

void bt_zones_root(struct bt *bt)
{
    struct zones *z = bt->part->zones;

    atomic_thread_fence(memory_order_seq_cst);
    if (!z || (!__atomic_load_n(&z->ntops, __ATOMIC_RELAXED) &&
               !__atomic_load_n(&z->npaths, __ATOMIC_RELAXED)))
        return;
    pthread_mutex_lock(&z->lock);
    if (bt->zoned[1])
        tops_look(bt);
    for (unsigned i = 0; i < z->npaths; i++)
        if (!root_same(z, &z->path[i], bt->cpu->cr3)) {
            z->no_locals |=
                bt->zoned[1] != 0 && bt->part->zones_how == ENGINE_ZONES_AUTO;
            drop_all(bt);
        } else if (!path_same(&z->path[i])) {
            drop_all(bt);
        }
    for (uint32_t i = z->nlocals; i > 0; i--)
        if (!local_same(z, &z->entry[z->local[i - 1]]))
            zone_entry_drop(bt, &z->entry[z->local[i - 1]]);
    pthread_mutex_unlock(&z->lock);
}
