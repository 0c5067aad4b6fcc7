// SPDX-License-Identifier: Apache-2.0
/*
 * One vCPU's blocks: found by the host address of their first byte, their
 * guest address and mode; listed by guest page, so that writes to the page
 * drop them. Code memory is handed out upwards and dropped as a whole.
 *
 * A page with blocks is marked in its page word: stores to it take the slow
 * way and are told to bt_listen, on whatever thread; each vCPU drops its own
 * blocks at its next trip to C. Links to a dropped block lead to their stubs
 * again; code is never changed after it was written.
 */
#include "engine/bt/emit.h"
#include "engine/bt/priv.h"

#include "cpu/x86/paging.h"
#include "vm/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE       (~UINT64_C(0xfff))
#define MISSES_MAX 64
#define CODE_ROOM  16384U
#define OPS_BYTES  (UINT64_C(64) << 20)

/* ---- memory ---- */

static void *take(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void give(void *p, size_t n)
{
    if (p)
        munmap(p, n);
}

/* Hot code from the beginning on, about twice as much as cold code. */
static uint32_t cold_begin(const struct bt *bt)
{
    return bt->code_bytes / 8 * 5;
}

static void code_begin(struct bt *bt)
{
    struct emit e = {bt->rw, BT_THUNK};

    e_save(&e, X86_R11, BT_RIP);
    e_jmp_gs(&e, BT_GATE(BT_G_IB));
    bt->code_at = 64;
    bt->cold_at = cold_begin(bt);
    bt->ncells = 0;
    bt->nsites = 1; /* 0: the fault handler's */
    bt->sites[0] = (struct bt_site){.s1 = X86_R11, .s2 = X86_R10};
}

int bt_cache_init(struct bt *bt, struct err *e)
{
    bt->blocks = take(sizeof *bt->blocks * (size_t)BT_BLOCKS_MAX);
    bt->pages = take(sizeof *bt->pages * (size_t)BT_PAGES_MAX);
    bt->sites = take(sizeof *bt->sites * (size_t)BT_SITES_MAX);
    bt->maps = take(sizeof *bt->maps * (size_t)BT_MAPS_MAX);
    bt->hash = take(sizeof *bt->hash << BT_HASH_BITS);
    bt->phash = take(sizeof *bt->phash << BT_PHASH_BITS);
    bt->ops = take(OPS_BYTES);
    bt->ops_bytes = OPS_BYTES;
    if (!bt->blocks || !bt->pages || !bt->sites || !bt->maps || !bt->hash ||
        !bt->phash || !bt->ops)
        return err_set(e, -ENOMEM, "bt: no memory for the translation cache");
    code_begin(bt);
    return 0;
}

void bt_cache_fini(struct bt *bt)
{
    give(bt->blocks, sizeof *bt->blocks * (size_t)BT_BLOCKS_MAX);
    give(bt->pages, sizeof *bt->pages * (size_t)BT_PAGES_MAX);
    give(bt->sites, sizeof *bt->sites * (size_t)BT_SITES_MAX);
    give(bt->maps, sizeof *bt->maps * (size_t)BT_MAPS_MAX);
    give(bt->hash, sizeof *bt->hash << BT_HASH_BITS);
    give(bt->phash, sizeof *bt->phash << BT_PHASH_BITS);
    give(bt->ops, OPS_BYTES);
}

/* ---- pages ---- */

uint64_t bt_page_index(const struct bt *bt, uint64_t gpa)
{
    uint64_t low = mem_low_bytes(bt->cpu->vm->mem);

    return (gpa < low ? gpa : gpa - (UINT64_C(4) << 30) + low) >> 12;
}

static uint32_t *page_bucket(struct bt *bt, uint64_t gpa)
{
    return &bt->phash[(gpa >> 12) * UINT64_C(0x9e3779b97f4a7c15) >>
                      (64 - BT_PHASH_BITS)];
}

static struct bt_page *page_find(struct bt *bt, uint64_t gpa)
{
    uint32_t i = *page_bucket(bt, gpa);

    while (i && bt->pages[i - 1].gpa != gpa)
        i = bt->pages[i - 1].hash_next;
    return i ? &bt->pages[i - 1] : NULL;
}

/* Whoever holds the lock may wait for us to drop write entries: while we wait
 * for it, we are out of guest code. Return: whether we were in it. */
static bool refs_lock(struct bt *bt)
{
    bool in = atomic_load(&bt->in->running);

    if (in)
        interp_leave(bt->in);
    pthread_mutex_lock(&bt->part->lock);
    return in;
}

static void refs_unlock(struct bt *bt, bool in)
{
    pthread_mutex_unlock(&bt->part->lock);
    if (in)
        interp_enter(bt->in);
}

/* From now on stores to the page are told. */
static void page_mark(struct bt *bt, struct bt_page *p)
{
    struct mem *mem = bt->cpu->vm->mem;
    uint8_t *refs = &bt->part->code_refs[bt_page_index(bt, p->gpa)];
    bool in;

    if (p->marked)
        return;
    p->marked = true;
    in = refs_lock(bt);
    ++*refs;
    if (mem_mark(mem, gpa(p->gpa), MEM_CODE))
        p->marked = false;
    refs_unlock(bt, in);
    tlb_unwrite(bt->in, p->host);
}

static void page_unmark(struct bt *bt, struct bt_page *p)
{
    uint8_t *refs = &bt->part->code_refs[bt_page_index(bt, p->gpa)];
    bool in;

    if (!p->marked)
        return;
    p->marked = false;
    in = refs_lock(bt);
    if (--*refs == 0)
        mem_unmark(bt->cpu->vm->mem, gpa(p->gpa), MEM_CODE);
    refs_unlock(bt, in);
}

static struct bt_page *page_get(struct bt *bt, uint64_t gpa, uint8_t *host)
{
    struct bt_page *p = page_find(bt, gpa);
    uint32_t *bucket;

    if (p) {
        p->host = host;
        return p;
    }
    if (bt->npages == BT_PAGES_MAX)
        return NULL;
    bucket = page_bucket(bt, gpa);
    p = &bt->pages[bt->npages++];
    *p = (struct bt_page){.gpa = gpa, .host = host, .hash_next = *bucket};
    *bucket = bt->npages;
    return p;
}

/* ---- dropping ---- */

static uint32_t *bucket_of(struct bt *bt, const struct bt_block *b)
{
    return &bt->hash[bt_hash(b->src, b->va)];
}

/* Links lead to their stubs again; the address cell is that of a target that
 * the branch cache has elsewhere. */
static void block_drop(struct bt *bt, struct bt_block *b)
{
    uint32_t *p = bucket_of(bt, b);

    while (*p && &bt->blocks[*p - 1] != b)
        p = &bt->blocks[*p - 1].hash_next;
    if (*p)
        *p = b->hash_next;
    b->valid = false;
    bt->cells[b->cell] = -(b->va ^ 4);
    while (b->in) {
        struct bt_site *s = &bt->sites[b->in];

        bt->cells[s->start] = (uintptr_t)bt->rx + s->next;
        b->in = s->in_next;
    }
}

static void page_drop(struct bt *bt, struct bt_page *p)
{
    for (uint32_t i = p->first; i; i = bt->blocks[i - 1].page_next)
        block_drop(bt, &bt->blocks[i - 1]);
    for (uint32_t i = p->tails; i; i = bt->blocks[i - 1].tail_next)
        block_drop(bt, &bt->blocks[i - 1]);
    p->first = p->tails = 0;
    p->granules = 0;
    p->misses = 0;
    page_unmark(bt, p);
    bt->dropped = true;
}

void bt_page_written(struct bt *bt, uint64_t at, uint32_t len)
{
    struct bt_page *p = page_find(bt, at & PAGE);
    uint64_t mask = 0;

    if (!p || !(p->first || p->tails))
        return;
    for (uint64_t i = at & 0xfff; i < (at & 0xfff) + len && i < 4096;
         i = (i | 63) + 1)
        mask |= BIT(i >> 6);
    if (p->granules & mask) {
        bt->st.smc_hits++;
        page_drop(bt, p);
        return;
    }
    bt->st.smc_misses++;
    if (++p->misses >= MISSES_MAX)
        page_drop(bt, p);
}

/* No translated code of this vCPU may be running or be returned to. */
void bt_cache_flush(struct bt *bt)
{
    for (uint32_t i = 0; i < bt->npages; i++)
        page_unmark(bt, &bt->pages[i]);
    memset(bt->hash, 0, sizeof *bt->hash << BT_HASH_BITS);
    memset(bt->phash, 0, sizeof *bt->phash << BT_PHASH_BITS);
    bt->nblocks = bt->npages = bt->nmaps = 0;
    bt->ops_at = 0;
    code_begin(bt);
    bt->dropped = true;
    for (unsigned k = 0; k < 3; k++)
        bt_ib_flush(bt, k);
    bt->st.flushes++;
}

/* ---- what other threads say ---- */

void bt_listen(void *ctx, gpa_t at, size_t len, uint32_t word)
{
    struct engine_part *part = ctx;

    if (!(word & MEM_CODE))
        return;
    pthread_mutex_lock(&part->queue);
    for (unsigned i = 0; i < part->ncpus; i++) {
        struct bt *bt = part->bt[i];
        uint32_t n;

        if (!bt)
            continue;
        n = atomic_load(&bt->inval_n);
        if (n < BT_INVAL_MAX) {
            bt->inval[n].gpa = at.v;
            bt->inval[n].len = (uint32_t)len;
        }
        if (n <= BT_INVAL_MAX)
            atomic_store(&bt->inval_n, n + 1);
        bt_post(bt);
    }
    pthread_mutex_unlock(&part->queue);
}

void bt_inval_take(struct bt *bt)
{
    uint64_t at[BT_INVAL_MAX];
    uint32_t len[BT_INVAL_MAX], n;

    pthread_mutex_lock(&bt->part->queue);
    n = atomic_load(&bt->inval_n);
    for (uint32_t i = 0; i < n && i < BT_INVAL_MAX; i++) {
        at[i] = bt->inval[i].gpa;
        len[i] = bt->inval[i].len;
    }
    atomic_store(&bt->inval_n, 0);
    pthread_mutex_unlock(&bt->part->queue);
    if (n > BT_INVAL_MAX) {
        bt_cache_flush(bt);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        bt_page_written(bt, at[i], len[i]);
}

static void revoke_one(struct bt *bt, gpa_t at, bool all)
{
    bool own = atomic_load(&bt->in_run) &&
               pthread_equal(bt->thread, pthread_self());

    tlb_revoke_ask(bt->in, at, all);
    if (own)
        return; /* when we are back */
    bt_post(bt);
    tlb_revoke_wait(bt->in);
}

void bt_revoke(void *ctx, gpa_t at, bool all)
{
    struct engine_part *part = ctx;

    for (unsigned i = 0; i < part->ncpus; i++)
        if (part->bt[i])
            revoke_one(part->bt[i], at, all);
}

/* ---- making ---- */

static bool full(const struct bt *bt)
{
    return bt->code_at + CODE_ROOM > cold_begin(bt) ||
           bt->cold_at + CODE_ROOM > bt->code_bytes ||
           bt->ncells + 256 > BT_CELLS_MAX || bt->nblocks == BT_BLOCKS_MAX ||
           bt->npages == BT_PAGES_MAX || bt->nsites + 512 > BT_SITES_MAX ||
           bt->nmaps + 128 > BT_MAPS_MAX;
}

/* Guest bytes from @va on: to the page's end, or, where @tail is given, a few of
 * the next page, too. */
struct source {
    const struct xlat *x, *tail;
    uint8_t bytes[4096 + X86_INSN_MAX_BYTES];
};

static void source_read(struct source *src, unsigned off)
{
    memcpy(src->bytes, src->x->host - off, 4096);
    if (src->tail)
        memcpy(src->bytes + 4096, src->tail->host, X86_INSN_MAX_BYTES);
}

/* The page that only the end of its instruction lies in. */
static struct bt_page *tail_page(struct bt *bt, const struct xlat *x)
{
    struct bt_page *p = page_get(bt, x->gpa.v & PAGE, x->host);

    if (p)
        page_mark(bt, p);
    return p;
}

static struct bt_block *make(struct bt *bt, uint64_t va, struct source *src)
{
    const struct xlat *x = src->x;
    unsigned off = (unsigned)(va & 0xfff);
    struct bt_page *p, *tail = NULL;
    struct bt_block *b;
    uint32_t *bucket;

    if (full(bt))
        bt_cache_flush(bt);
    p = page_get(bt, x->gpa.v & PAGE, x->host - off);
    if (!p)
        return NULL;
    page_mark(bt, p);
    b = &bt->blocks[bt->nblocks];
    *b = (struct bt_block){.src = x->host,
                           .tail = src->tail ? src->tail->host : NULL,
                           .va = va,
                           .mode = bt->mode,
                           .page = (uint32_t)(p - bt->pages),
                           .valid = true};
    if (src->tail) {
        tail = tail_page(bt, src->tail);
        if (!tail)
            return NULL;
    }
    source_read(src, off);
    if (!bt_translate(bt, b, src->bytes + off,
                      src->tail ? 4096 - off + X86_INSN_MAX_BYTES : 4096 - off))
        return NULL;
    bt->nblocks++;
    bucket = bucket_of(bt, b);
    b->hash_next = *bucket;
    *bucket = bt->nblocks;
    b->page_next = p->first;
    p->first = bt->nblocks;
    if (tail) { /* dropped with either */
        tail->granules |= 1;
        b->tail_next = tail->tails;
        tail->tails = bt->nblocks;
    }
    return b;
}

bool bt_straddles(const uint8_t *p, uint64_t va)
{
    unsigned n = 4096 - (unsigned)(va & 0xfff);
    uint8_t bytes[X86_INSN_MAX_BYTES];
    struct x86_insn insn;

    if (n >= X86_INSN_MAX_BYTES)
        return false;
    for (unsigned i = 0; i < n; i++)
        bytes[i] = p[i];
    return x86_decode(bytes, n, X86_MODE_64, &insn) == X86_DEC_MORE;
}

/* A block on two pages is found by the first: whether the second is still that.
 * Else it is dropped. */
static struct bt_block *whole(struct bt *bt, struct bt_block *b)
{
    if (!b || bt_tail_ok(bt, b))
        return b;
    block_drop(bt, b);
    bt->dropped = true;
    return NULL;
}

struct bt_block *bt_block_at(struct bt *bt, uint64_t va, bool *fault)
{
    struct interp *in = bt->in;
    const struct tlb_ent *e = tlb_ent_of(in, bt->mode & BT_MODE_KIND, va);
    struct xlat x, tail;
    struct source src = {.x = &x};
    struct bt_block *b;

    *fault = false;
    if (e->x == ((va & PAGE) | in->gen[va >> 63])) {
        b = bt_block_find(bt, e->host + (va & 0xfff), va, bt->mode);
        if (b && bt_tail_ok(bt, b))
            return b;
    }
    if (!x86_canonical(va)) {
        x86_raise_err(in->cpu, X86_VEC_GP, 0);
        *fault = true;
        return NULL;
    }
    if (tlb_xlat(in, va, X86_LIN_EXEC, &x)) {
        *fault = true;
        return NULL;
    }
    if (!x.host)
        return NULL;
    if (bt_straddles(x.host, va)) {
        if (!x86_canonical((va | 0xfff) + 1) || bt->check)
            return NULL;
        if (tlb_xlat(in, (va | 0xfff) + 1, X86_LIN_EXEC, &tail)) {
            *fault = true;
            return NULL;
        }
        if (!tail.host)
            return NULL;
        src.tail = &tail;
    }
    b = whole(bt, bt_block_find(bt, x.host, va, bt->mode));
    if (b)
        return b;
    if (bt->part->look)
        bt_vec_save(bt);
    return make(bt, va, &src);
}

struct bt_block *bt_block_of_code(struct bt *bt, uint32_t off)
{
    uint32_t lo = 0, hi = bt->nblocks;

    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;

        if (bt->blocks[mid].code_end <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < bt->nblocks && bt->blocks[lo].indirect <= off ? &bt->blocks[lo]
                                                              : NULL;
}
