// SPDX-License-Identifier: Apache-2.0
/*
 * Direct jumps that leave the page. Each target that code names has a slot in
 * a table of the vCPU's own, as the branch caches are: one for the kernel's
 * half, one in each view for the user's. It leads straight to the block, or to
 * the thunk of jumps that missed, and is emptied when the page leaves the TLB.
 * Unlike a branch cache's entry it has but one target and one mode, so nothing
 * is compared on arrival; so a block that is dropped is taken out of every
 * table at once.
 *
 * Which target has which slot is the cache's: slots are given out by segment,
 * to the code in it, and taken back with it. All of it is under the links'
 * spin lock.
 */
#include "engine/bt/priv.h"

#define PAGE (~UINT64_C(0xfff))
/* Targets that may meet in one bucket: the lists are walked under the lock, and
 * a guest can choose addresses. */
#define MEET_MAX 32U
#define PAGE_MAX 1024U

static unsigned far_kind(uint32_t mode)
{
    return (mode & BT_MODE_KIND) != TLB_USER;
}

static uint64_t thunk(const struct bt *bt)
{
    return (uintptr_t)bt->rx + BT_THUNK;
}

static uint32_t *bucket(const struct bt_fars *f, uint64_t va, uint32_t mode)
{
    uint64_t key = (va ^ (uint64_t)mode << 48) * UINT64_C(0x9e3779b97f4a7c15);

    return &f->hash[key >> (64 - BT_FAR_BITS)];
}

static uint32_t *page_bucket(const struct bt_fars *f, uint64_t va)
{
    uint64_t key = (va >> 12) * UINT64_C(0x9e3779b97f4a7c15);

    return &f->pages[key >> (64 - BT_FAR_BITS)];
}

static void take(struct bt_cache *c)
{
    while (!bt_links_try(c))
        __builtin_ia32_pause();
}

/* ---- who has which ---- */

bool bt_far_make(struct bt_cache *c)
{
    for (unsigned k = 0; k < 2; k++) {
        struct bt_fars *f = &c->far[k];

        f->e = bt_take(sizeof *f->e * BT_FAR_N);
        f->hash = bt_take(sizeof *f->hash << BT_FAR_BITS);
        f->pages = bt_take(sizeof *f->pages << BT_FAR_BITS);
        if (!f->e || !f->hash || !f->pages)
            return false;
    }
    return true;
}

void bt_far_reset(struct bt_cache *c)
{
    for (unsigned k = 0; k < 2; k++) {
        memset(c->far[k].hash, 0, sizeof *c->far[k].hash << BT_FAR_BITS);
        memset(c->far[k].pages, 0, sizeof *c->far[k].pages << BT_FAR_BITS);
    }
}

static bool page_has_room(const struct bt_fars *f, uint32_t i)
{
    unsigned n = 0;

    for (; i && n < PAGE_MAX; i = f->e[i - 1].page_next)
        n++;
    return n < PAGE_MAX;
}

static uint32_t add(struct bt_cache *c, unsigned k, uint64_t va, uint32_t mode)
{
    struct bt_fars *f = &c->far[k];
    uint32_t n = c->seg[c->cur].nfar[k], i = BT_FAR_SEG * c->cur + n;
    uint32_t *h = bucket(f, va, mode), *p = page_bucket(f, va);

    if (n == BT_FAR_SEG || !page_has_room(f, *p))
        return 0;
    c->seg[c->cur].nfar[k]++;
    f->e[i] =
        (struct bt_far){.va = va, .mode = mode, .next = *h, .page_next = *p};
    *p = i + 1;
    __atomic_store_n(h, i + 1, __ATOMIC_RELAXED);
    return i + 1;
}

/* Return: 0: none. */
static unsigned slot_of(struct bt *bt, uint64_t va, uint32_t mode)
{
    struct bt_cache *c = bt->cache;
    unsigned k = far_kind(mode);
    struct bt_fars *f = &c->far[k];
    unsigned met = 0;
    uint32_t i;

    if (k != va >> 63 || bt->check || bt->cells_only)
        return 0;
    take(c);
    for (i = *bucket(f, va, mode); i; i = f->e[i - 1].next, met++)
        if (f->e[i - 1].va == va && f->e[i - 1].mode == mode &&
            (i - 1) / BT_FAR_SEG == c->cur)
            break;
    if (!i && met < MEET_MAX)
        i = add(c, k, va, mode);
    bt_links_done(c);
    return i ? (unsigned)BT_FAR(k) + 8 * (i - 1) : 0;
}

unsigned bt_far_at(struct bt *bt, uint64_t va, uint32_t mode)
{
    unsigned kind = mode & BT_MODE_KIND, slot = slot_of(bt, va, mode);

    return slot ? slot : (unsigned)BT_IB(kind) + 8 * bt_ib_index(kind, va);
}

/* ---- the tables ---- */

static uint64_t *table(struct bt *bt, unsigned k)
{
    return k ? bt->far_sup : bt->view->far_user;
}

static struct bt_log *log_of(struct bt *bt, unsigned k)
{
    return k ? &bt->far_log : &bt->views[bt->at].far_log;
}

bool bt_far_put(struct bt *bt, const struct bt_block *b)
{
    unsigned k = far_kind(b->mode);
    struct bt_fars *f = &bt->cache->far[k];
    uint32_t *at = bucket(f, b->va, b->mode);
    bool put = false;

    if (!__atomic_load_n(at, __ATOMIC_RELAXED) || !bt_links_try(bt->cache))
        return false;
    for (uint32_t i = *at; i && bt_block_valid(b); i = f->e[i - 1].next) {
        struct bt_far *e = &f->e[i - 1];
        uint64_t *slot = &table(bt, k)[i - 1];

        if (e->va != b->va || e->mode != b->mode || *slot != thunk(bt))
            continue;
        bt_log_add(log_of(bt, k), i - 1);
        __atomic_store_n(slot, (uintptr_t)bt->rx + b->code, __ATOMIC_RELAXED);
        e->filled = put = true;
    }
    bt_links_done(bt->cache);
    bt->st.far_puts += put;
    return put;
}

static void clear(const struct bt *bt, uint64_t *t, struct bt_log *log)
{
    if (log->n <= BT_LOG_MAX)
        for (unsigned i = 0; i < log->n; i++)
            __atomic_store_n(&t[log->at[i]], thunk(bt), __ATOMIC_RELAXED);
    else
        for (unsigned i = 0; i < BT_FAR_N; i++)
            __atomic_store_n(&t[i], thunk(bt), __ATOMIC_RELAXED);
    log->n = 0;
}

void bt_far_flush_view(struct bt *bt, unsigned i)
{
    clear(bt, bt_view_of(bt->part, bt->cpu->index, i)->far_user,
          &bt->views[i].far_log);
}

void bt_far_flush_sup(struct bt *bt)
{
    clear(bt, bt->far_sup, &bt->far_log);
}

/* An instruction that begins in the page before may end in this one. */
static void page_empty(struct bt *bt, unsigned k, uint64_t page, unsigned from)
{
    struct bt_fars *f = &bt->cache->far[k];

    for (uint32_t i = *page_bucket(f, page); i; i = f->e[i - 1].page_next)
        if ((f->e[i - 1].va & PAGE) == page && (f->e[i - 1].va & ~PAGE) >= from)
            __atomic_store_n(&table(bt, k)[i - 1], thunk(bt), __ATOMIC_RELAXED);
}

void bt_far_drop(struct bt *bt, uint64_t va, unsigned shift)
{
    unsigned k = (unsigned)(va >> 63);

    if (!log_of(bt, k)->n)
        return;
    if (shift > 12) {
        clear(bt, table(bt, k), log_of(bt, k));
        return;
    }
    take(bt->cache);
    page_empty(bt, k, va & PAGE, 0);
    page_empty(bt, k, (va & PAGE) - 4096, 4096 - X86_INSN_MAX_BYTES);
    bt_links_done(bt->cache);
}

/* Out of every vCPU's tables. */
static void empty(struct bt *bt, unsigned k, uint32_t i)
{
    struct engine_part *part = bt->part;

    for (unsigned cpu = 0; cpu < part->ncpus; cpu++) {
        struct bt *o = bt_view_of(part, cpu, 0);

        if (k) {
            __atomic_store_n(&o->far_sup[i], thunk(bt), __ATOMIC_RELAXED);
            continue;
        }
        for (unsigned v = 0; v < PCID_SLOTS; v++)
            if (atomic_load_explicit(&o->view_used[v], memory_order_relaxed))
                __atomic_store_n(&bt_view_of(part, cpu, v)->far_user[i],
                                 thunk(bt), __ATOMIC_RELAXED);
    }
}

void bt_far_gone(struct bt *bt, const struct bt_block *b)
{
    unsigned k = far_kind(b->mode);
    struct bt_fars *f = &bt->cache->far[k];

    for (uint32_t i = *bucket(f, b->va, b->mode); i; i = f->e[i - 1].next) {
        struct bt_far *e = &f->e[i - 1];

        if (e->va != b->va || e->mode != b->mode || !e->filled)
            continue;
        empty(bt, k, i - 1);
        e->filled = false;
    }
}

static void unchain(struct bt_fars *f, uint32_t i)
{
    struct bt_far *e = &f->e[i];
    uint32_t *h = bucket(f, e->va, e->mode), *p = page_bucket(f, e->va);

    while (*h != i + 1)
        h = &f->e[*h - 1].next;
    __atomic_store_n(h, e->next, __ATOMIC_RELAXED);
    while (*p != i + 1)
        p = &f->e[*p - 1].page_next;
    *p = e->page_next;
}

/* A few at a time: others wait for the lock. */
void bt_far_close(struct bt *bt, unsigned seg)
{
    struct bt_cache *c = bt->cache;

    for (unsigned k = 0; k < 2; k++) {
        for (uint32_t n = 0; n < c->seg[seg].nfar[k]; n++) {
            uint32_t i = BT_FAR_SEG * seg + n;

            if (n % 64 == 0)
                take(c);
            unchain(&c->far[k], i);
            if (c->far[k].e[i].filled)
                empty(bt, k, i);
            if (n % 64 == 63 || n + 1 == c->seg[seg].nfar[k])
                bt_links_done(c);
        }
        c->seg[seg].nfar[k] = 0;
    }
}
