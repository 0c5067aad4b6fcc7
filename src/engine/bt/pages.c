// SPDX-License-Identifier: Apache-2.0
/*
 * Guest pages that blocks were made from. Such a page is marked in its page
 * word: stores to it take the slow way and are told to bt_listen, on whatever
 * thread. The vCPU that stored drops the page's blocks before it goes on, and
 * so does whoever is in C before.
 */
#include "engine/bt/zone.h"

#include "vm/mem.h"

#define PAGE       (~UINT64_C(0xfff))
#define MISSES_MAX 64

static uint32_t *bucket(struct bt_cache *c, uint64_t gpa)
{
    return &c->phash[(gpa >> 12) * UINT64_C(0x9e3779b97f4a7c15) >>
                     (64 - BT_PHASH_BITS)];
}

static struct bt_page *find(struct bt_cache *c, uint64_t gpa)
{
    uint32_t i = *bucket(c, gpa);

    while (i && c->pages[i - 1].gpa != gpa)
        i = c->pages[i - 1].hash_next;
    return i ? &c->pages[i - 1] : NULL;
}

/* ---- marks ---- */

/* Changing a mark waits for other vCPUs, some of which may wait for us: out of
 * guest code. */
static bool mark(struct bt *bt, uint64_t at, bool on)
{
    struct mem *mem = bt->cpu->vm->mem;
    bool in = atomic_load(&bt->in->running), ok = true;

    if (in)
        interp_leave(bt->in);
    if (on)
        ok = !mem_mark(mem, gpa(at), MEM_CODE);
    else
        mem_unmark(mem, gpa(at), MEM_CODE);
    if (in)
        interp_enter(bt->in);
    return ok;
}

struct bt_page *bt_page_get(struct bt *bt, uint64_t gpa, uint8_t *host)
{
    struct bt_cache *c = bt->cache;
    struct bt_page *p = find(c, gpa);
    uint32_t i = c->free_page;

    if (p)
        return p;
    if (i)
        c->free_page = c->pages[i - 1].hash_next;
    else if (c->npages < BT_PAGES_MAX)
        i = ++c->npages;
    else
        return NULL;
    p = &c->pages[i - 1];
    *p = (struct bt_page){
        .gpa = gpa, .host = host, .hash_next = *bucket(c, gpa)};
    *bucket(c, gpa) = i;
    mark(bt, gpa, true);
    tlb_unwrite(bt->in, host);
    return p;
}

/* It has no blocks. */
static void forget(struct bt *bt, struct bt_page *p)
{
    struct bt_cache *c = bt->cache;
    uint32_t i = (uint32_t)(p - c->pages) + 1, *at = bucket(c, p->gpa);

    mark(bt, p->gpa, false);
    while (*at != i)
        at = &c->pages[*at - 1].hash_next;
    *at = p->hash_next;
    p->gpa = ~UINT64_C(0);
    p->hash_next = c->free_page;
    c->free_page = i;
}

/* ---- spots ---- */

static uint32_t *spot_bucket(struct bt_cache *c, uint32_t page, uint64_t va)
{
    return &c->shash[((va >> 12) + ((uint64_t)page << 40)) *
                         UINT64_C(0x9e3779b97f4a7c15) >>
                     (64 - BT_SHASH_BITS)];
}

static uint32_t spot_new(struct bt_cache *c, uint32_t page, uint64_t va)
{
    uint32_t i = c->free_spot, *at = spot_bucket(c, page, va);
    struct bt_page *p = &c->pages[page];

    if (i)
        c->free_spot = c->spots[i - 1].hash_next;
    else
        i = ++c->nspots;
    c->spots[i - 1] = (struct bt_spot){
        .va = va, .page = page, .hash_next = *at, .next = p->spots};
    if (p->spots)
        c->spots[p->spots - 1].prev = i;
    p->spots = *at = i;
    return i;
}

void bt_page_add(struct bt *bt, struct bt_block *b)
{
    struct bt_cache *c = bt->cache;
    uint64_t va = b->va & PAGE;
    uint32_t i = *spot_bucket(c, b->page, va);

    while (i && (c->spots[i - 1].va != va || c->spots[i - 1].page != b->page))
        i = c->spots[i - 1].hash_next;
    if (!i)
        i = spot_new(c, b->page, va);
    b->spot = i - 1;
    b->page_next = c->spots[i - 1].first;
    c->spots[i - 1].first = (uint32_t)(b - c->blocks) + 1;
}

/* ---- dropping ---- */

static void unhash(struct bt_cache *c, const struct bt_block *b)
{
    uint32_t *at = &c->hash[bt_hash(b->src, b->va)];

    while (*at && &c->blocks[*at - 1] != b)
        at = &c->blocks[*at - 1].hash_next;
    if (*at)
        __atomic_store_n(at, b->hash_next, __ATOMIC_RELEASE);
}

/* It ends in another page, which knows of it. */
static void untail(struct bt_cache *c, const struct bt_block *b)
{
    uint32_t *at;

    if (!b->tail)
        return;
    at = &c->pages[b->tail_page - 1].tails;
    while (*at && &c->blocks[*at - 1] != b)
        at = &c->blocks[*at - 1].tail_next;
    if (*at)
        *at = b->tail_next;
}

/* Links lead to their stubs again; the indirect entry compares with no target,
 * or with one that the branch caches have elsewhere. */
static void block_drop(struct bt *bt, struct bt_block *b)
{
    unhash(bt->cache, b);
    untail(bt->cache, b);
    while (!bt_links_try(bt->cache))
        __builtin_ia32_pause();
    __atomic_store_n(&b->valid, false, __ATOMIC_RELAXED);
    __atomic_store_n(&bt->cells[b->cell],
                     b->adcx ? BT_CELL_SPOILT : -(b->va ^ 8), __ATOMIC_RELEASE);
    while (b->in) {
        struct bt_site *s = &bt->sites[b->in];

        __atomic_store_n(&bt->cells[s->start], (uintptr_t)bt->rx + s->next,
                         __ATOMIC_RELEASE);
        b->in = s->in_next;
    }
    bt_far_gone(bt, b);
    bt_links_done(bt->cache);
}

/* Its blocks, and itself. */
static void spot_drop(struct bt *bt, uint32_t i)
{
    struct bt_cache *c = bt->cache;
    struct bt_spot *s = &c->spots[i - 1];
    uint32_t *at = spot_bucket(c, s->page, s->va);

    for (uint32_t k = s->first; k; k = c->blocks[k - 1].page_next)
        block_drop(bt, &c->blocks[k - 1]);
    while (*at != i)
        at = &c->spots[*at - 1].hash_next;
    *at = s->hash_next;
    if (s->prev)
        c->spots[s->prev - 1].next = s->next;
    else
        c->pages[s->page].spots = s->next;
    if (s->next)
        c->spots[s->next - 1].prev = s->prev;
    s->hash_next = c->free_spot;
    c->free_spot = i;
}

/* It has no spots. */
static void page_empty(struct bt *bt, struct bt_page *p)
{
    p->granules = 1;
    p->misses = 0;
    if (!p->tails)
        forget(bt, p);
}

static void drop(struct bt *bt, struct bt_page *p)
{
    while (p->spots)
        spot_drop(bt, p->spots);
    page_empty(bt, p);
}

void bt_spot_drop(struct bt *bt, const struct bt_block *b)
{
    struct bt_page *p = &bt->cache->pages[b->page];

    spot_drop(bt, b->spot + 1);
    if (!p->spots)
        page_empty(bt, p);
    atomic_fetch_add(&bt->cache->drops, 1);
}

void bt_page_drop(struct bt *bt, struct bt_page *p)
{
    struct bt_cache *c = bt->cache;

    while (p->tails) {
        struct bt_page *other = &c->pages[c->blocks[p->tails - 1].page];

        if (other == p) /* one page, one after the other */
            untail(c, &c->blocks[p->tails - 1]);
        else
            drop(bt, other);
    }
    drop(bt, p);
    atomic_fetch_add(&c->drops, 1);
}

static void written(struct bt *bt, uint64_t at, uint32_t len)
{
    struct bt_page *p = find(bt->cache, at & PAGE);
    uint64_t mask = 0;

    if (!p)
        return;
    for (uint64_t i = at & 0xfff; i < (at & 0xfff) + len && i < 4096;
         i = (i | 63) + 1)
        mask |= BIT(i >> 6);
    if (p->granules & mask) {
        bt->st.smc_hits++;
        bt_page_drop(bt, p);
        return;
    }
    bt->st.smc_misses++;
    if (++p->misses >= MISSES_MAX)
        bt_page_drop(bt, p);
}

void bt_block_again(struct bt *bt, uint32_t i)
{
    const struct bt_block *b = &bt->blocks[i];
    bool left = bt_cache_lock(bt);

    if (bt_block_valid(b))
        bt_page_drop(bt, &bt->pages[b->page]);
    bt_cache_look(bt);
    bt_cache_unlock(bt, left);
}

/* ---- what other threads say ---- */

/* A page is written from one end to the other, by words: one record. */
static bool inval_joins(struct bt_cache *c, uint64_t at, uint64_t end)
{
    uint32_t n = c->inval_n;
    uint64_t was, was_end;

    if (!n || n > BT_INVAL_MAX)
        return false;
    was = c->inval[n - 1].gpa;
    was_end = was + c->inval[n - 1].len;
    if ((was ^ at) >> 12 || ((was_end - 1) ^ at) >> 12 ||
        ((end - 1) ^ at) >> 12)
        return false;
    at = at < was ? at : was;
    c->inval[n - 1].gpa = at;
    c->inval[n - 1].len = (uint32_t)((end > was_end ? end : was_end) - at);
    return true;
}

void bt_listen(void *ctx, gpa_t at, size_t len, uint32_t word)
{
    struct engine_part *part = ctx;
    struct bt_cache *c = &part->cache;

    if (!(word & MEM_CODE))
        return;
    pthread_mutex_lock(&part->queue);
    if (!inval_joins(c, at.v, at.v + len)) {
        if (c->inval_n < BT_INVAL_MAX) {
            c->inval[c->inval_n].gpa = at.v;
            c->inval[c->inval_n].len = (uint32_t)len;
        }
        if (c->inval_n <= BT_INVAL_MAX)
            c->inval_n++;
    }
    atomic_fetch_add(&c->inval_posted, 1);
    for (unsigned i = 0; i < part->ncpus; i++)
        if (part->bt[i])
            bt_post(part->bt[i]);
    pthread_mutex_unlock(&part->queue);
}

void bt_inval_take(struct bt *bt)
{
    bool left = bt_cache_lock(bt);
    struct bt_cache *c = bt->cache;
    uint64_t at[BT_INVAL_MAX], posted;
    uint32_t len[BT_INVAL_MAX], n;

    pthread_mutex_lock(&bt->part->queue);
    n = c->inval_n;
    for (uint32_t i = 0; i < n && i < BT_INVAL_MAX; i++) {
        at[i] = c->inval[i].gpa;
        len[i] = c->inval[i].len;
    }
    c->inval_n = 0;
    posted = atomic_load(&c->inval_posted);
    pthread_mutex_unlock(&bt->part->queue);
    for (uint32_t i = 0; i < n && n <= BT_INVAL_MAX; i++)
        written(bt, at[i], len[i]);
    for (uint32_t i = 0; i < c->npages && n > BT_INVAL_MAX; i++)
        if (c->pages[i].spots)
            bt_page_drop(bt, &c->pages[i]);
    atomic_store(&c->inval_done, posted);
    bt_cache_look(bt);
    bt_cache_unlock(bt, left);
}

static void revoke_one(struct bt *bt, gpa_t at, bool all)
{
    bool own =
        atomic_load(&bt->in_run) && pthread_equal(bt->thread, pthread_self());

    tlb_revoke_ask(bt->in, at, all);
    if (own)
        return; /* when we are back */
    bt_post(bt);
    tlb_revoke_wait(bt->in);
}

void bt_revoke(void *ctx, gpa_t at, bool all)
{
    struct engine_part *part = ctx;

    bt_zones_revoke(part, at, all);
    for (unsigned i = 0; i < part->ncpus; i++)
        if (part->bt[i])
            revoke_one(part->bt[i], at, all);
}
