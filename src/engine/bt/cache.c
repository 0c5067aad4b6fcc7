// SPDX-License-Identifier: Apache-2.0
/*
 * The blocks of all vCPUs: found by the host address of their first byte, their
 * guest address and mode. Look-ups take no lock. Translating and dropping take
 * one, out of guest code while they wait for it, since whoever has it may wait
 * for us to drop write entries.
 *
 * Code is never changed after it was written. A dropped block stays as it is,
 * but links lead to stubs again and no indirect jump finds it; its memory is
 * used again when each vCPU has been in C since. The cache is filled segment by
 * segment. While the second half of one is filled, the blocks of the next,
 * which are the oldest, are dropped little by little, so that nobody waits for
 * long.
 */
#include "engine/bt/emit.h"
#include "engine/bt/priv.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#define CODE_ROOM    16384U
#define EVICT        16 /* blocks at each translation */
#define EVICT_COPIES (4 * BT_COPY_BATCH)
#define HUGE_PAGE    (UINT32_C(2) << 20)
#define COPIES       (BT_SEGS - BT_COPY_SEGS) /* the first segment of copies */

/* ---- memory ---- */

void *bt_take(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* The same in a huge page, if the host has one: look-ups come from all over. */
static void *take_huge(size_t n)
{
    uint8_t *p = bt_take(n + HUGE_PAGE);

    if (!p)
        return NULL;
    p += -(uintptr_t)p & (HUGE_PAGE - 1);
    madvise(p, n, MADV_HUGEPAGE);
    return p;
}

/* Where hot and cold code of segment @i begin: hot code from the beginning on,
 * about twice as much as cold code. */
static uint32_t hot_begin(uint64_t slice, unsigned i)
{
    return (uint32_t)(slice / 8 * 5 / BT_SEGS * i);
}

static uint32_t cold_begin(uint64_t slice, unsigned i)
{
    return (uint32_t)(slice / 8 * 5 + slice / 8 * 3 / BT_SEGS * i);
}

/* The thunk is the first of the first segment. */
static void seg_begin(struct engine_part *part, unsigned i, struct bt_seg *s)
{
    *s = (struct bt_seg){.code_at = hot_begin(part->slice, i) +
                                    (i ? 0 : BT_CODE_BEGIN),
                         .cold_at = cold_begin(part->slice, i),
                         .ncells = BT_SEG_CELLS * i + (i ? 0 : BT_CELL_FIRST),
                         .nblocks = BT_SEG_BLOCKS * i,
                         .nsites = BT_SEG_SITES * i + (i ? 0 : 1),
                         .nmaps = BT_SEG_MAPS * i,
                         .nrelocs = BT_SEG_RELOCS * i,
                         .ops_at = BT_SEG_OPS * i};
    s->evicted = s->nblocks;
}

void bt_cache_reset(struct engine_part *part)
{
    struct bt_cache *c = &part->cache;
    uint64_t *cells = (uint64_t *)(void *)(part->rx + part->slice);
    struct emit e = {part->rw, BT_THUNK};

    bt_thunks(&e);
    cells[BT_CELL_MINUS1] = -UINT64_C(1);
    cells[BT_CELL_ONE] = 1;
    for (unsigned i = 0; i < BT_SEGS; i++)
        seg_begin(part, i, &c->seg[i]);
    c->at[0] = c->cur = 0;
    c->at[1] = COPIES;
    c->seg_blocks = BT_SEG_BLOCKS;
    c->npages = c->free_page = c->nspots = c->free_spot = 0;
    c->inval_n = 0;
    memset(c->hash, 0, sizeof *c->hash << BT_HASH_BITS);
    memset(c->phash, 0, sizeof *c->phash << BT_PHASH_BITS);
    memset(c->shash, 0, sizeof *c->shash << BT_SHASH_BITS);
    memset(c->twins, 0, sizeof *c->twins << BT_TWIN_BITS);
    bt_far_reset(c);
    c->sites[0] = (struct bt_site){.s1 = X86_R11, .s2 = X86_R10};
}

int bt_cache_make(struct engine_part *part, struct err *e)
{
    struct bt_cache *c = &part->cache;

    pthread_mutex_init(&c->lock, NULL);
    c->blocks = bt_take(sizeof *c->blocks * (size_t)BT_BLOCKS_MAX);
    c->pages = bt_take(sizeof *c->pages * (size_t)BT_PAGES_MAX);
    c->spots = bt_take(sizeof *c->spots * (size_t)BT_SPOTS_MAX);
    c->sites = bt_take(sizeof *c->sites * (size_t)BT_SITES_MAX);
    c->maps = bt_take(sizeof *c->maps * (size_t)BT_MAPS_MAX);
    c->relocs = bt_take(sizeof *c->relocs * (size_t)BT_RELOCS_MAX);
    c->hash = take_huge(sizeof *c->hash << BT_HASH_BITS);
    c->phash = bt_take(sizeof *c->phash << BT_PHASH_BITS);
    c->shash = bt_take(sizeof *c->shash << BT_SHASH_BITS);
    c->twins = bt_take(sizeof *c->twins << BT_TWIN_BITS);
    c->ops = bt_take(BT_SEG_OPS * BT_SEGS);
    if (!c->blocks || !c->pages || !c->spots || !c->sites || !c->maps ||
        !c->relocs || !c->hash || !c->phash || !c->shash || !c->twins ||
        !c->ops || !bt_far_make(c))
        return err_set(e, -ENOMEM, "bt: no memory for the translation cache");
    bt_cache_reset(part);
    return 0;
}

void bt_cache_ends(struct bt *bt, const struct bt_seg *s)
{
    bt->code_at = s->code_at;
    bt->cold_at = s->cold_at;
    bt->ncells = s->ncells;
    bt->nsites = s->nsites;
    bt->nmaps = s->nmaps;
    bt->nrelocs = s->nrelocs;
}

void bt_cache_join(struct bt *bt)
{
    struct engine_part *part = bt->part;
    struct bt_cache *c = &part->cache;

    bt->cache = c;
    bt->rx = part->rx;
    bt->rw = part->rw;
    bt->cells = (uint64_t *)(void *)(bt->rx + part->slice);
    bt->code_bytes = (uint32_t)part->slice;
    bt->blocks = c->blocks;
    bt->pages = c->pages;
    bt->sites = c->sites;
    bt->maps = c->maps;
    bt->relocs = c->relocs;
    bt->hash = c->hash;
    bt->fault = c->sites[0];
    bt_cache_ends(bt, &c->seg[c->at[0]]);
    atomic_store(&bt->idle, 1);
}

/* ---- who holds what ---- */

void bt_cache_look(struct bt *bt)
{
    struct bt_cache *c = bt->cache;
    uint64_t drops = atomic_load_explicit(&c->drops, memory_order_acquire);
    uint64_t epoch;

    if (LIKELY(bt->drops == drops))
        return;
    bt->drops = drops;
    bt->dropped = true;
    epoch = atomic_load(&c->epoch);
    if (atomic_load_explicit(&bt->epoch, memory_order_relaxed) == epoch)
        return;
    for (unsigned k = 0; k < 3; k++) /* they may lead to what is used again */
        bt_ib_flush(bt, k);
    atomic_store(&bt->epoch, epoch);
}

bool bt_cache_lock(struct bt *bt)
{
    struct bt_cache *c = bt->cache;
    uint32_t idle = atomic_load_explicit(&bt->idle, memory_order_relaxed);
    bool left = false;

    if (pthread_mutex_trylock(&c->lock)) {
        left = atomic_load(&bt->in->running);
        atomic_store(&bt->idle, 1);
        if (left)
            interp_leave(bt->in);
        pthread_mutex_lock(&c->lock);
        atomic_store(&bt->idle, idle);
        bt->st.lock_waits++;
    }
    bt_cache_look(bt);
    return left;
}

void bt_cache_unlock(struct bt *bt, bool left)
{
    pthread_mutex_unlock(&bt->cache->lock);
    if (left)
        interp_enter(bt->in);
}

/* Whether nobody may still hold what was dropped in @epoch or before. */
static bool nobody_holds(struct engine_part *part, uint64_t epoch)
{
    bool free = true;

    pthread_mutex_lock(&part->queue);
    for (unsigned i = 0; i < part->ncpus; i++) {
        struct bt *bt = part->bt[i];

        if (bt && !atomic_load(&bt->idle) && atomic_load(&bt->epoch) < epoch) {
            free = false;
            bt_post(bt);
        }
    }
    pthread_mutex_unlock(&part->queue);
    return free;
}

/* ---- eviction ---- */

/* The segment that is filled behind segment @i. */
static unsigned next_of(unsigned i)
{
    return i == COPIES - 1 ? 0 : i == BT_SEGS - 1 ? COPIES : i + 1;
}

/* @i: the segment that is being filled. */
bool bt_cache_full(const struct engine_part *part, unsigned i)
{
    const struct bt_cache *c = &part->cache;
    const struct bt_seg *s = &c->seg[i];
    unsigned end = i + 1;

    return s->code_at + CODE_ROOM > hot_begin(part->slice, end) ||
           s->cold_at + CODE_ROOM > cold_begin(part->slice, end) ||
           s->ncells + 256 > BT_SEG_CELLS * end ||
           s->nblocks - BT_SEG_BLOCKS * i >= c->seg_blocks ||
           s->nsites + 512 > BT_SEG_SITES * end ||
           s->nmaps + 128 > BT_SEG_MAPS * end ||
           s->nrelocs + BT_RELOCS > BT_SEG_RELOCS * end;
}

static bool half_full(const struct engine_part *part, unsigned i)
{
    const struct bt_cache *c = &part->cache;
    const struct bt_seg *s = &c->seg[i];

    return s->code_at > hot_begin(part->slice, 2 * i + 1) / 2 ||
           (s->cold_at - cold_begin(part->slice, i)) * 2 >
               cold_begin(part->slice, 1) - cold_begin(part->slice, 0) ||
           s->ncells - BT_SEG_CELLS * i > BT_SEG_CELLS / 2 ||
           s->nblocks - BT_SEG_BLOCKS * i > c->seg_blocks / 2 ||
           s->nsites - BT_SEG_SITES * i > BT_SEG_SITES / 2 ||
           s->nmaps - BT_SEG_MAPS * i > BT_SEG_MAPS / 2 ||
           s->nrelocs - BT_SEG_RELOCS * i > BT_SEG_RELOCS / 2;
}

/* Drop up to @n blocks of segment @i, which is filled next, and with each all
 * others of its spot: so no link is left that leads out of the segment. */
static void evict(struct bt *bt, unsigned i, unsigned n)
{
    struct bt_cache *c = bt->cache;
    struct bt_seg *s = &c->seg[i];

    if (s->evicted == s->nblocks)
        return;
    for (; n && s->evicted < s->nblocks; n--) {
        const struct bt_block *b = &c->blocks[s->evicted++];

        if (bt_block_valid(b)) {
            bt_spot_drop(bt, b);
            bt->st.evictions++;
        }
    }
    if (s->evicted < s->nblocks)
        return;
    bt_far_close(bt, i);
    s->epoch = atomic_fetch_add(&c->epoch, 1) + 1;
    atomic_fetch_add(&c->drops, 1);
    (void)nobody_holds(bt->part, s->epoch); /* ask them */
}

/* On to the next segment. Return: false: somebody may hold things of it. */
static bool advance(struct bt *bt, bool copies)
{
    struct bt_cache *c = bt->cache;
    unsigned next = next_of(c->at[copies]);

    evict(bt, next, UINT32_MAX);
    bt_cache_look(bt);
    if (!nobody_holds(bt->part, c->seg[next].epoch))
        return false;
    seg_begin(bt->part, next, &c->seg[next]);
    c->at[copies] = next;
    bt->st.segments++;
    return true;
}

bool bt_cache_room(struct bt *bt, bool copies, bool *left)
{
    struct bt_cache *c = bt->cache;

    while (bt_cache_full(bt->part, c->at[copies]) && !advance(bt, copies)) {
        uint32_t idle = atomic_exchange(&bt->idle, 1);

        bt_cache_unlock(bt, *left);
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
        atomic_store(&bt->idle, idle);
        *left = bt_cache_lock(bt);
        if (atomic_load(&bt->in->attn) || kick_pending(&bt->cpu->kick))
            return false; /* look again */
    }
    if (half_full(bt->part, c->at[copies]))
        evict(bt, next_of(c->at[copies]), copies ? EVICT_COPIES : EVICT);
    return true;
}

void bt_cache_flush(struct bt *bt)
{
    struct bt_cache *c = bt->cache;
    bool left = bt_cache_lock(bt);

    for (uint32_t i = 0; i < c->npages; i++)
        if (c->pages[i].spots)
            bt_page_drop(bt, &c->pages[i]);
    bt->st.flushes++;
    bt_cache_look(bt);
    bt_cache_unlock(bt, left);
}

struct bt_block *bt_block_of_code(struct bt *bt, uint32_t off)
{
    uint32_t seg = off / hot_begin(bt->code_bytes, 1), lo, hi;

    if (seg >= BT_SEGS)
        return NULL;
    lo = BT_SEG_BLOCKS * seg;
    hi = __atomic_load_n(&bt->cache->seg[seg].nblocks, __ATOMIC_ACQUIRE);
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;

        if (bt->blocks[mid].code_end <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < BT_SEG_BLOCKS * (seg + 1) && bt->blocks[lo].indirect <= off
               ? &bt->blocks[lo]
               : NULL;
}
