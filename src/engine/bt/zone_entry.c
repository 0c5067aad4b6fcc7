// SPDX-License-Identifier: Apache-2.0
/*
 * Records of what is mapped in zones: found by window and guest address, and by
 * guest-physical address.
 */
#include "engine/bt/zone_priv.h"

#include <stdlib.h>

static unsigned hash(uint64_t key)
{
    return (unsigned)(key * UINT64_C(0x9e3779b97f4a7c15) >> (64 - ZHASH_BITS));
}

/* Of small and big pieces at one address. */
unsigned zone_hash_gpa(uint64_t at, bool big)
{
    return hash(big ? ~(at >> 21) : at >> 12);
}

static unsigned hash_va(unsigned win, uint64_t at, bool big)
{
    return hash((big ? ~(at >> 21) : at >> 12) ^ (uint64_t)win << 40);
}

uint64_t zone_bytes(const struct zentry *e)
{
    return e->big ? BIG : 4096;
}

struct zentry *zone_find(struct zones *z, unsigned win, uint64_t va, bool big)
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

void zone_entry_chain(struct zones *z, struct zentry *e)
{
    uint32_t *v = &z->by_va[hash_va(e->win, e->va, e->big)];
    uint32_t *g = &z->by_gpa[zone_hash_gpa(e->gpa, e->big)];

    e->next_va = *v;
    e->next_gpa = *g;
    *v = *g = (uint32_t)(e - z->entry) + 1;
}

static void unchain(struct zones *z, const struct zentry *e)
{
    uint32_t i = (uint32_t)(e - z->entry) + 1;
    uint32_t *v = &z->by_va[hash_va(e->win, e->va, e->big)];
    uint32_t *g = &z->by_gpa[zone_hash_gpa(e->gpa, e->big)];

    while (*v != i)
        v = &z->entry[*v - 1].next_va;
    *v = e->next_va;
    while (*g != i)
        g = &z->entry[*g - 1].next_gpa;
    *g = e->next_gpa;
}

/* Whether it is less than what INVLPG drops. */
bool zone_is_piece(const struct zentry *e)
{
    return e->shift > (e->big ? 21 : 12);
}

void zone_cuts_none(struct zones *z, struct zentry *e)
{
    z->cuts -= e->cuts;
    e->cuts = 0;
    for (unsigned i = 0; i < 8; i++)
        e->ro[i] = 0;
}

void zone_entry_forget(struct zones *z, struct zentry *e)
{
    struct zwin *w = &z->win[e->win];
    uint32_t last = w->list[--w->n];

    unchain(z, e);
    w->list[e->at] = last;
    z->entry[last].at = e->at;
    w->larger -= zone_is_piece(e);
    zone_cuts_none(z, e);
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
        zone_unmap(at, zone_bytes(e));
    zone_entry_forget(z, e);
    bt->st.zone_drops++;
}

void zone_entries_forget(struct zones *z, unsigned win)
{
    while (z->win[win].n)
        zone_entry_forget(z, &z->entry[z->win[win].list[z->win[win].n - 1]]);
}

/* Return: NULL: no room. */
struct zentry *zone_entry_new(struct zones *z, unsigned win)
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
