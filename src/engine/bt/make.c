// SPDX-License-Identifier: Apache-2.0
/*
 * Regions made when they are reached: translated, or copied from another
 * address, with what that leads to; and decoded instructions for callouts.
 */
#include "engine/bt/emit.h"
#include "engine/bt/priv.h"
#include "engine/bt/quick_sys.h"

#include "cpu/x86/paging.h"
#include "engine/interp/access.h"

#include <sys/mman.h>

#define PAGE      (~UINT64_C(0xfff))
#define HUGE_PAGE (UINT32_C(2) << 20)

/* Others may write there meanwhile: asm, as guest memory is read elsewhere. */
static void guest_read(uint8_t *to, const uint8_t *from, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        to[i] = (uint8_t)host_ld(from + i, 1);
}

#ifndef MADV_COLLAPSE
#    define MADV_COLLAPSE 25
#endif

/* Two full megabytes of hot code become one page of the host's TLB, where the
 * host can do that. */
static void collapse(const struct bt *bt, uint32_t from, uint32_t to)
{
    uint32_t end = to & ~(HUGE_PAGE - 1);

    if (from < end && end >= HUGE_PAGE)
        madvise(bt->rx + end - HUGE_PAGE, HUGE_PAGE, MADV_COLLAPSE);
}

/* Where an instruction's page lies and, where it goes on in the next, that. */
struct source {
    const struct xlat *x, *tail;
};

static bool translate(struct bt *bt, struct bt_block *b,
                      const struct source *src)
{
    UNINIT struct bt_text text;
    unsigned off = (unsigned)(b->va & 0xfff), n = 4096 - off;

    text.host = src->x->host - off;
    text.have = 0;
    if (src->tail) {
        guest_read(text.b + 4096, src->tail->host, X86_INSN_MAX_BYTES);
        n += X86_INSN_MAX_BYTES;
    }
    return bt_translate(bt, b, &text, n);
}

/* What is made is written to where the segment ends, and moves the end. */
static bool fill(struct bt *bt, struct bt_seg *s, struct bt_block *b,
                 const struct source *src, const struct bt_block *twin)
{
    bool ok = true;

    bt_cache_ends(bt, s);
    bt->tsc_inline = bt->cache->tsc_inline;
    if (twin)
        bt_copy(bt, b, twin);
    else
        ok = translate(bt, b, src);
    collapse(bt, s->code_at, bt->code_at);
    s->code_at = bt->code_at;
    s->cold_at = bt->cold_at;
    s->ncells = bt->ncells;
    s->nsites = bt->nsites;
    s->nmaps = bt->nmaps;
    s->nrelocs = bt->nrelocs;
    return ok;
}

void bt_text_need(struct bt_text *text, unsigned at)
{
    unsigned last = at + X86_INSN_MAX_BYTES - 1;

    for (unsigned k = at / 64; k <= last / 64 && k < 64; k++) {
        if (LIKELY(text->have >> k & 1))
            continue;
        for (unsigned i = 64 * k; i < 64 * k + 64; i += 8) {
            uint64_t v = host_ld(text->host + i, 8);

            memcpy(text->b + i, &v, 8);
        }
        text->have |= BIT(k);
    }
}

static void publish(struct bt *bt, struct bt_seg *s, struct bt_block *b)
{
    struct bt_cache *c = bt->cache;
    uint32_t *bucket = &c->hash[bt_hash(b->src, b->va)];

    bt_page_add(bt, b);
    if (b->tail) {
        struct bt_page *tail = &c->pages[b->tail_page - 1];

        tail->granules |= 1;
        b->tail_next = tail->tails;
        tail->tails = s->nblocks + 1;
    }
    b->hash_next = *bucket;
    __atomic_store_n(&s->nblocks, s->nblocks + 1, __ATOMIC_RELEASE);
    __atomic_store_n(bucket, s->nblocks, __ATOMIC_RELEASE);
    bt_twin_put(bt, b);
}

static struct bt_block *make_here(struct bt *bt, struct bt_seg *s, uint64_t va,
                                  const struct source *src)
{
    const struct xlat *x = src->x, *tail = src->tail;
    struct bt_cache *c = bt->cache;
    struct bt_block *b = &c->blocks[s->nblocks];
    struct bt_page *p, *p2 = NULL;
    const struct bt_block *twin; /* not @b, which is none yet */

    twin = tail ? NULL : bt_twin(bt, x->host, va, bt->mode);
    p = bt_page_get(bt, x->gpa.v & PAGE, x->host - (va & 0xfff));
    if (p && tail)
        p2 = bt_page_get(bt, tail->gpa.v & PAGE, tail->host);
    if (!p || (tail && !p2))
        return NULL;
    *b = (struct bt_block){.src = x->host,
                           .tail = tail ? tail->host : NULL,
                           .va = va,
                           .mode = bt->mode,
                           .page = (uint32_t)(p - c->pages),
                           .tail_page = p2 ? (uint32_t)(p2 - c->pages) + 1 : 0,
                           .moves = !tail && bt_moves(va, bt->mode),
                           .valid = true};
    if (!fill(bt, s, b, src, twin)) {
        b->valid = false; /* nor may it be copied */
        return NULL;
    }
    publish(bt, s, b);
    return b;
}

/* A region at @va of the same page, if it is there or can be copied. */
static struct bt_block *beside(struct bt *bt, uint64_t va,
                               const struct source *src, bool *fresh)
{
    struct bt_cache *c = bt->cache;
    struct xlat x = *src->x;
    struct source to = {.x = &x};
    struct bt_block *b;

    x.host += (va & 0xfff) - ((uintptr_t)x.host & 0xfff);
    x.gpa.v = (x.gpa.v & PAGE) | (va & 0xfff);
    b = bt_block_find(bt, x.host, va, bt->mode);
    *fresh = !b && bt_twin(bt, x.host, va, bt->mode) &&
             !bt_cache_full(bt->part, c->cur);
    if (*fresh)
        b = make_here(bt, &c->seg[c->cur], va, &to);
    *fresh = *fresh && b;
    return b;
}

/* @b was copied. What it leads to in its page, by jumps, calls and their
 * returns, was reached before, so most likely will be: it is copied, too. */
static void make_around(struct bt *bt, struct bt_block *b,
                        const struct source *src)
{
    struct bt_block *all[BT_COPY_BATCH];
    unsigned n = 0;
    bool fresh;

    all[n++] = b;
    for (unsigned at = 0; at < n; at++) {
        const struct bt_block *o = all[at];
        uint64_t end = o->va + o->len;

        for (unsigned i = 0; i < o->nsites && n < BT_COPY_BATCH; i++) {
            const struct bt_site *s = &bt->sites[o->sites + i];

            if (!s->link)
                continue;
            b = beside(bt, s->va, src, &fresh);
            if (b && !b->tail)
                bt_quick_link(bt, o->sites + i);
            if (fresh)
                all[n++] = b;
        }
        if (n == BT_COPY_BATCH || (end ^ o->va) >> 12)
            continue;
        b = beside(bt, end, src, &fresh);
        if (fresh)
            all[n++] = b;
    }
}

static struct bt_block *make(struct bt *bt, uint64_t va,
                             const struct source *src)
{
    bool left = bt_cache_lock(bt), copies;
    struct bt_cache *c = bt->cache;
    struct bt_block *b = NULL;

    /* It may be gone, or there, when there is room: that is no matter. */
    copies = !src->tail && bt_twin(bt, src->x->host, va, bt->mode);
    if (bt_cache_room(bt, copies, &left)) {
        b = bt_block_find(bt, src->x->host, va, bt->mode);
        c->cur = c->at[copies];
        if (!b) {
            b = make_here(bt, &c->seg[c->cur], va, src);
            if (b && copies && !(bt->mode & BT_MODE_NOWIN))
                make_around(bt, b, src);
        }
    }
    bt_cache_unlock(bt, left);
    return b;
}

bool bt_straddles(const uint8_t *p, uint64_t va)
{
    unsigned n = 4096 - (unsigned)(va & 0xfff);
    uint8_t bytes[X86_INSN_MAX_BYTES];
    struct x86_insn insn;

    if (n >= X86_INSN_MAX_BYTES)
        return false;
    guest_read(bytes, p, n);
    return x86_decode(bytes, n, X86_MODE_64, &insn) == X86_DEC_MORE;
}

struct bt_block *bt_block_at(struct bt *bt, uint64_t va, bool *fault)
{
    struct interp *in = bt->in;
    const struct tlb_ent *e = tlb_ent_of(in, bt->mode & BT_MODE_KIND, va);
    UNINIT struct xlat x, tail;
    struct source src = {.x = &x};
    struct bt_block *b;

    *fault = false;
    if (e->x == ((va & PAGE) | in->gen[va >> 63])) {
        b = bt_block_find(bt, e->host + (va & 0xfff), va, bt->mode);
        if (b)
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
    b = bt_block_find(bt, x.host, va, bt->mode);
    if (b)
        return b;
    if (bt->part->look || CC_SANITIZED)
        bt_vec_save(bt);
    return make(bt, va, &src);
}

const struct op *bt_site_op(struct bt *bt, struct bt_site *s)
{
    const struct op *have = __atomic_load_n(&s->op, __ATOMIC_ACQUIRE);
    const struct bt_block *b = &bt->blocks[s->block];
    unsigned n = 4096 - (unsigned)(s->va & 0xfff);
    struct bt_cache *c = bt->cache;
    struct bt_seg *seg = &c->seg[s->block / BT_SEG_BLOCKS];
    size_t end = BT_SEG_OPS * (s->block / BT_SEG_BLOCKS + 1);
    uint8_t bytes[X86_INSN_MAX_BYTES];
    struct x86_insn *insn;
    struct op *o = NULL;

    if (LIKELY(have))
        return have;
    if (n > sizeof bytes)
        n = sizeof bytes;
    guest_read(bytes, b->src + (s->va - b->va), n);
    while (!bt_links_try(c))
        __builtin_ia32_pause();
    if (!s->op && seg->ops_at + sizeof *insn + sizeof *o + 32 <= end) {
        insn = (struct x86_insn *)(void *)(c->ops + seg->ops_at);
        if (x86_decode(bytes, n, X86_MODE_64, insn) == X86_DEC_OK) {
            seg->ops_at += (sizeof *insn + 15) & ~15UL;
            o = (struct op *)(void *)(c->ops + seg->ops_at);
            seg->ops_at += (sizeof *o + 15) & ~15UL;
            memset(o, 0, sizeof *o);
            block_op(bt->in, insn, o);
            __atomic_store_n(&s->op, o, __ATOMIC_RELEASE);
        }
    }
    bt_links_done(c);
    return __atomic_load_n(&s->op, __ATOMIC_ACQUIRE);
}
