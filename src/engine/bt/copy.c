// SPDX-License-Identifier: Apache-2.0
/*
 * Copies of regions. A program that is executed anew lies elsewhere (address
 * space randomization), in the same pages of guest memory: what was translated
 * of them for one address is copied for the next. The translator notes what of
 * a region's code depends on where that lies, or on its guest address (struct
 * bt_block, relocs); here it is made right. A region that stands was made from
 * the bytes that its page holds now: whoever writes there drops it.
 *
 * Only user code, at addresses so high and so far from the end of their half
 * that what is reached from them takes encodings of the same length.
 */
#include "engine/bt/look.h"
#include "engine/bt/zone.h"

#define PAGE (~UINT64_C(0xfff))
#define LOW  (UINT64_C(1) << 33)
#define HIGH ((UINT64_C(1) << 47) - LOW)
/* What an instruction names by its own address is nearer. */
#define NEAR (UINT64_C(1) << 32)

bool bt_moves(uint64_t va, uint32_t mode)
{
    return (mode & BT_MODE_CPL3) && va - LOW < HIGH - LOW;
}

/* ---- finding one ---- */

/* Two pairs of entries, each for a place and mode: the newest region, which
 * lies near others of its process, and an older one, which may have been
 * translated and will then stand for longer. Who finds none is translated. */
static uint32_t *pairs(struct bt_cache *c, const uint8_t *src, uint32_t mode)
{
    uint64_t key = (uint64_t)(uintptr_t)src >> 12 ^ (uint64_t)mode << 48;

    key = key * UINT64_C(0x9e3779b97f4a7c15) >> (64 - BT_TWIN_BITS);
    key += ((uintptr_t)src & 0xfff) >> 3;
    return &c->twins[key << 2 & ((1U << BT_TWIN_BITS) - 1)];
}

/* A record that was used again since is found out, too. */
static bool twins(const struct bt *bt, uint32_t i, const uint8_t *src,
                  uint32_t mode)
{
    const struct bt_block *o = &bt->blocks[i - 1];

    return i && bt_block_valid(o) && o->src == src && o->mode == mode &&
           o->moves;
}

static uint32_t twin_find(const struct bt *bt, const uint32_t *at,
                          const uint8_t *src, uint32_t mode)
{
    for (unsigned k = 0; k < 4; k++)
        if (twins(bt, at[k], src, mode))
            return at[k];
    return 0;
}

void bt_twin_put(struct bt *bt, const struct bt_block *b)
{
    uint32_t *at = pairs(bt->cache, b->src, b->mode), was;

    if (!b->moves)
        return;
    was = twin_find(bt, at, b->src, b->mode);
    if (was && (was == at[2] || was == at[3])) {
        at += 2;
    } else if (!was && at[0]) { /* somebody else's */
        at[2] = at[0];
        at[3] = at[1];
        at[1] = 0;
    }
    if (!twins(bt, at[1], b->src, b->mode))
        at[1] = was;
    at[0] = (uint32_t)(b - bt->blocks) + 1;
}

/* Zones: all that it names by its own address is in the zone that it is in. */
static bool zone_same(uint64_t va)
{
    return (va - NEAR) >> 40 == (va + NEAR) >> 40;
}

/* An instruction that has to look up there does so in no copy. */
static bool pinned(const struct bt *bt, const struct bt_block *o, uint64_t va)
{
    for (uint32_t i = 0; i < o->nmap; i++)
        if (bt_zones_pinned(bt, va + bt->maps[o->map + i].off))
            return true;
    return false;
}

const struct bt_block *bt_twin(struct bt *bt, const uint8_t *src, uint64_t va,
                               uint32_t mode)
{
    const struct bt_block *o;
    uint32_t i;

    if (!bt_moves(va, mode) || bt->check || bt_inval_waits(bt))
        return NULL;
    i = twin_find(bt, pairs(bt->cache, src, mode), src, mode);
    if (!i || bt_look_wants(bt->part->look, va))
        return NULL;
    o = &bt->blocks[i - 1];
    if ((mode & BT_MODE_ZONE) &&
        (!zone_same(va) || !zone_same(o->va) || pinned(bt, o, va)))
        return NULL;
    return o;
}

/* ---- copying ---- */

/* How far everything moves. */
struct way {
    struct bt *bt;
    struct bt_block *b;
    const struct bt_block *from;
    uint64_t va;
    uint32_t hot, cold, site, cell; /* numbers, modulo 2^32 */
};

/* Read where it runs: those pages may be large ones. */
static void copy_code(struct bt *bt, uint32_t to, uint32_t from, uint64_t n)
{
    const uint8_t *s = bt->rx + from;
    uint8_t *d = bt->rw + to;

    for (uint64_t i = 0; i < n; i += 32) {
        uint64_t v[4];

        memcpy(v, s + i, 32);
        memcpy(d + i, v, 32);
    }
}

/* A code offset of the old region's; 0 is none. */
static uint32_t moved(const struct way *w, uint32_t at)
{
    const struct bt_block *o = w->from;

    if (at >= o->indirect && at <= o->code_end)
        return at + w->hot;
    return at >= o->cold && at <= o->cold_end ? at + w->cold : at;
}

static void copy_sites(const struct way *w)
{
    struct bt *bt = w->bt;
    uint32_t block = (uint32_t)(w->b - bt->blocks);

    for (unsigned i = 0; i < w->from->nsites; i++) {
        struct bt_site *s = &bt->sites[w->b->sites + i];

        *s = bt->sites[w->from->sites + i];
        s->va += w->va;
        s->op = NULL;
        s->block = block;
        s->next = moved(w, s->next);
        if (s->link) {
            s->start += w->cell;
            s->in_next = 0;
            bt->cells[s->start] = (uintptr_t)bt->rx + s->next;
        } else {
            s->start = moved(w, s->start);
            s->hit = moved(w, s->hit);
        }
    }
}

static void copy_map(const struct way *w)
{
    struct bt *bt = w->bt;

    for (uint32_t i = 0; i < w->from->nmap; i++) {
        struct bt_map *m = &bt->maps[w->b->map + i];

        *m = bt->maps[w->from->map + i];
        m->host += w->hot;
    }
}

/* ---- what depends on the place ---- */

static void add32(uint8_t *at, uint32_t by)
{
    uint32_t v;

    memcpy(&v, at, 4);
    v += by;
    memcpy(at, &v, 4);
}

static uint64_t add64(uint8_t *at, uint64_t by)
{
    uint64_t v;

    memcpy(&v, at, 8);
    v += by;
    memcpy(at, &v, 8);
    return v;
}

/* mov r11, target; jmp gs:[branch cache's entry]: slots of its own (far.c)
 * would be taken and given back with each process. */
static void put_exit(const struct way *w, uint8_t *at)
{
    uint64_t va = add64(at, w->va);
    unsigned k = w->b->mode & BT_MODE_KIND;
    uint32_t disp = (uint32_t)BT_IB(k) + 8 * bt_ib_index(k, va);

    memcpy(at + 12, &disp, 4);
}

static void put_zone(const struct way *w, uint8_t *at)
{
    uint32_t disp = (uint32_t)BT_ZONE(w->b->mode & BT_MODE_KIND) +
                    8 * ((uint32_t)(w->b->va >> 40) & 255);

    memcpy(at, &disp, 4);
}

/* Straight to the region of the new address, if it is there, or by the site's
 * cell: the old one's may lead elsewhere. @at: the code offset of its rel32. */
static void put_jump(const struct way *w, uint32_t at, const struct bt_site *s)
{
    static const uint8_t straight[] = {0x40, 0xe9}, by_cell[] = {0xff, 0x25};
    const uint8_t *page = (const uint8_t *)((uintptr_t)w->b->src & PAGE);
    struct bt *bt = w->bt;
    const struct bt_block *to = NULL;
    uint32_t rel;

    if (!bt->cells_only)
        to = bt_block_find(bt, page + (s->va & 0xfff), s->va,
                           w->b->mode & ~BT_MODE_NOWIN);
    if (to && to->tail)
        to = NULL;
    rel = (to ? to->code : bt->code_bytes + 8 * s->start) - (at + 4);
    memcpy(bt->rw + at - 2, to ? straight : by_cell, 2);
    memcpy(bt->rw + at, &rel, 4);
    bt->st.links_made += to != NULL;
}

static void put(const struct way *w, bt_reloc_t r)
{
    bool cold = r >> 16 & BT_R_COLD;
    uint32_t by = cold ? w->cold : w->hot;
    uint32_t off = (cold ? w->b->cold : w->b->indirect) + (r & 0xffff);
    uint8_t *at = w->bt->rw + off;

    switch ((enum bt_reloc_kind)(r >> 16 & 15)) {
    case BT_R_VA:
        add64(at, w->va);
        break;
    case BT_R_VA32:
        add32(at, (uint32_t)w->va);
        break;
    case BT_R_MINUS:
        add64(at, -w->va);
        break;
    case BT_R_EXIT:
        put_exit(w, at);
        break;
    case BT_R_ZONE:
        put_zone(w, at);
        break;
    case BT_R_FIXED:
        add32(at, -by);
        break;
    case BT_R_CELL:
        add32(at, 8 * w->cell - by);
        break;
    case BT_R_CROSS:
        add32(at, (cold ? w->hot : w->cold) - by);
        break;
    case BT_R_SITE:
        add32(at, w->site);
        break;
    case BT_R_JUMP:
        put_jump(w, off, &w->bt->sites[w->b->sites + (r >> 24)]);
        break;
    case BT_R_COLD:
        break;
    }
}

static void ahead(const void *p, size_t n)
{
    for (size_t i = 0; i < n; i += 64)
        __builtin_prefetch((const uint8_t *)p + i, 1);
}

/* Where the next copy will lie, memory that was last written long ago. */
static void fetch_next(const struct bt *bt, const struct bt_block *b)
{
    ahead(bt->rw + bt->code_at, 512);
    ahead(bt->rw + bt->cold_at, 256);
    ahead(&bt->sites[bt->nsites], 640);
    ahead(&bt->maps[bt->nmaps], 192);
    ahead(&bt->relocs[bt->nrelocs], 128);
    ahead(b + 1, sizeof *b);
}

/* Numbers from where the segment is filled up to, as bt_translate() does. */
static void take(struct bt *bt, struct bt_block *b, const struct bt_block *o)
{
    b->indirect = bt->code_at;
    b->code = b->indirect + (o->code - o->indirect);
    b->code_end = b->indirect + (o->code_end - o->indirect);
    b->cold = bt->cold_at;
    b->cold_end = b->cold + (o->cold_end - o->cold);
    b->cell = bt->ncells;
    b->map = bt->nmaps;
    b->sites = bt->nsites;
    b->relocs = bt->nrelocs;
    b->adcx = o->adcx;
    b->len = o->len;
    b->ninsns = o->ninsns;
    b->ncells = o->ncells;
    b->nmap = o->nmap;
    b->nsites = o->nsites;
    b->nrelocs = o->nrelocs;
    bt->code_at = (b->code_end + 15) & ~15U;
    bt->cold_at = b->cold_end;
    bt->ncells += b->ncells;
    bt->nmaps += b->nmap;
    bt->nsites += b->nsites;
    bt->nrelocs += b->nrelocs;
}

void bt_copy(struct bt *bt, struct bt_block *b, const struct bt_block *from)
{
    struct way w = {.bt = bt, .b = b, .from = from, .va = b->va - from->va};

    take(bt, b, from);
    w.hot = b->indirect - from->indirect;
    w.cold = b->cold - from->cold;
    w.site = b->sites - from->sites;
    w.cell = b->cell - from->cell;
    copy_code(bt, b->indirect, from->indirect, b->code_end - b->indirect);
    copy_code(bt, b->cold, from->cold, b->cold_end - b->cold);
    copy_map(&w);
    bt->cells[b->cell] = b->adcx ? BT_CELL_HERE : -b->va;
    copy_sites(&w);
    for (uint32_t i = 0; i < b->nrelocs; i++) {
        bt_reloc_t r = bt->relocs[from->relocs + i];

        bt->relocs[b->relocs + i] = r;
        put(&w, r);
    }
    fetch_next(bt, b);
    bt->st.copies++;
    bt_look_copy(bt, b);
}
