// SPDX-License-Identifier: Apache-2.0
/*
 * The cache that vCPUs share, without running what is emitted: model threads in
 * the vCPUs' place look up, translate, link, write to code of their own and of
 * others, evict (segments are small here) and attend to requests, while one
 * more thread writes as a device does, takes write rights away and kicks.
 * Whatever a thread finds must be a block of what it wrote last.
 */
#include "engine/bt/bt.h"

#include "base/test.h"
#include "engine/bt/priv.h"
#include "engine/interp/testvm.h"

#include <pthread.h>
#include <time.h>

const void *bt_quick(struct bt *bt);

#define PAGES   24U /* of code; a third belongs to each thread */
#define SLOT    64U
#define SLOTS   (4096 / SLOT)
#define STEPS   60000U
#define THREADS 3U

struct model {
    struct tvm *t;
    struct bt *bt; /* NULL: the device */
    unsigned id;
    uint64_t rng;
    uint32_t version[PAGES][SLOTS]; /* what this thread wrote last */
    uint64_t lookups, made, linked, straight, wrote, far;
    unsigned bad;
};

static _Atomic unsigned left_running;

static unsigned rnd(struct model *m, unsigned n)
{
    m->rng ^= m->rng << 13;
    m->rng ^= m->rng >> 7;
    m->rng ^= m->rng << 17;
    return (unsigned)((m->rng * UINT64_C(0x2545f4914f6cdd1d) >> 33) % n);
}

static uint64_t va_of(unsigned page, unsigned slot)
{
    return TVM_PAGED + 4096ULL * page + SLOT * slot;
}

/* From @page's @slot, bytes into it, to another slot, now and then of another
 * page. */
static int32_t away(struct model *m, unsigned page, unsigned slot, int32_t at)
{
    unsigned to = rnd(m, 3) ? page : rnd(m, PAGES);

    return (int32_t)(va_of(to, rnd(m, SLOTS)) - va_of(page, slot)) - at;
}

/* mov eax, version; jne another slot; jmp another slot */
static void slot_write(struct model *m, unsigned page, unsigned slot,
                       uint32_t version)
{
    uint8_t b[16] = {0xb8, 0, 0, 0, 0, 0x0f, 0x85, 0, 0, 0, 0, 0xe9};
    int32_t a = away(m, page, slot, 11), c = away(m, page, slot, 16);

    memcpy(b + 1, &version, 4);
    memcpy(b + 7, &a, 4);
    memcpy(b + 12, &c, 4);
    tvm_poke(m->t, va_of(page, slot), b, sizeof b);
    m->version[page][slot] = version;
    m->wrote++;
}

/* As the main loop does. */
static void attend(struct bt *bt)
{
    bt_unpost(bt);
    if (bt_inval_waits(bt))
        bt_inval_take(bt);
    bt_cache_look(bt);
    if (atomic_load(&bt->in->attn))
        tlb_revoke_take(bt->in);
}

static void wrong(struct model *m, const char *what, uint64_t va)
{
    if (m->bad++ < 5)
        printf("  thread %u: %s at %#llx\n", m->id, what,
               (unsigned long long)va);
}

static bool has(const struct bt *bt, const struct bt_block *b, uint32_t v)
{
    for (uint32_t i = b->code; i + 4 <= b->code_end; i++)
        if (!memcmp(bt->rx + i, &v, 4))
            return true;
    return false;
}

static struct bt_block *lookup(struct model *m, unsigned page, unsigned slot)
{
    uint64_t va = va_of(page, slot);
    struct bt_block *b;
    bool fault;

    b = bt_block_at(m->bt, va, &fault);
    m->lookups++;
    if (fault)
        wrong(m, "a fault", va);
    else if (b && (b->va != va || b->mode != m->bt->mode))
        wrong(m, "another block", va);
    else if (b && page % THREADS == m->id &&
             !has(m->bt, b, m->version[page][slot]))
        wrong(m, "stale code", va);
    return b;
}

/* Take the ways out of a block, whose sites end before @end. */
static void links(struct model *m, const struct bt_block *b, uint32_t end)
{
    struct bt *bt = m->bt;
    uint32_t block = (uint32_t)(b - bt->blocks);

    for (uint32_t i = end - 1; i && bt->sites[i].block == block; i--) {
        const struct bt_site *s = &bt->sites[i];
        const struct bt_block *to;
        uint64_t code;

        if (s->next <= b->code_end) /* no way out: cold code is behind */
            continue;
        bt->site = i;
        bt->reason = BT_G_LINK;
        code = __atomic_load_n(&bt->cells[s->start], __ATOMIC_ACQUIRE);
        if (code == (uintptr_t)bt->rx + s->next)
            code = (uintptr_t)bt_quick(bt);
        if (!code)
            continue;
        m->linked++;
        to = bt_block_of_code(bt, (uint32_t)(code - (uintptr_t)bt->rx));
        if (!to || to->va != s->va)
            wrong(m, "a link elsewhere", s->va);
    }
}

static uint64_t sum(const struct bt *bt, const struct bt_block *b)
{
    uint64_t v = b->va;

    for (uint32_t i = b->code; i < b->code_end; i++)
        v = v * 31 + bt->rx[i];
    return v;
}

/* Stay in a block that this thread made, dropped or not, until a request; now
 * and then in a device's callback, for so long that the others come round to
 * the block's segment. */
static void stay(struct model *m, const struct bt_block *b, uint32_t end)
{
    bool callback = rnd(m, 64) == 0;
    unsigned n = callback ? 5000 : rnd(m, 200);
    uint64_t was = sum(m->bt, b);

    if (callback)
        interp_leave(m->bt->in);
    for (; n && (callback || !m->bt->req); n--) {
        if (sum(m->bt, b) != was) {
            wrong(m, "code that changed", b->va);
            break;
        }
        links(m, b, end);
    }
    if (callback)
        interp_enter(m->bt->in);
}

/* Jumps that are part of the code lead to blocks that are there. */
static void straight_jumps(struct model *m, const struct bt_block *b)
{
    struct bt *bt = m->bt;
    struct x86_insn insn;

    for (uint32_t i = b->code; i < b->code_end; i += insn.len) {
        const struct bt_block *to;
        uint32_t at;

        if (x86_decode(bt->rw + i, b->code_end - i, X86_MODE_64, &insn) !=
            X86_DEC_OK) {
            wrong(m, "code that is none", b->va);
            return;
        }
        at = i + insn.len + (uint32_t)insn.imm;
        if (insn.opcode != 0xe9 || insn.map != X86_MAP_1B ||
            (at > b->code && at < b->code_end))
            continue;
        m->straight++;
        to = bt_block_of_code(bt, at);
        if (!to || !bt_block_valid(to) || to->code != at ||
            to->page != b->page || to->mode != b->mode)
            wrong(m, "a jump elsewhere", b->va);
    }
}

/* Lists of links hold those of blocks that are there, and lead where they say:
 * what was dropped is used again. */
static void link_lists(struct model *m)
{
    struct bt *bt = m->bt;
    bool left = bt_cache_lock(bt);
    const struct bt_cache *c = bt->cache;

    while (!bt_links_try(bt->cache))
        __builtin_ia32_pause();
    for (unsigned k = 0; k < BT_SEGS; k++)
        for (uint32_t i = BT_SEG_BLOCKS * k; i < c->seg[k].nblocks; i++) {
            const struct bt_block *b = &bt->blocks[i];

            if (bt_block_valid(b))
                straight_jumps(m, b);
            for (uint32_t s = bt_block_valid(b) ? b->in : 0; s;
                 s = bt->sites[s].in_next)
                if (bt->sites[s].va != b->va ||
                    !bt_block_valid(&bt->blocks[bt->sites[s].block]))
                    wrong(m, "a list with a link elsewhere", b->va);
        }
    bt_links_done(bt->cache);
    bt_cache_unlock(bt, left);
}

/* ---- direct jumps to other pages ---- */

/* One of the targets that the newest segment's code has, of this mode. */
static bool far_pick(struct model *m, uint64_t *va)
{
    bool left = bt_cache_lock(m->bt), ok = false;
    const struct bt_cache *c = m->bt->cache;

    if (c->seg[c->cur].nfar[0]) {
        const struct bt_far *e =
            &c->far[0].e[BT_FAR_SEG * c->cur + rnd(m, c->seg[c->cur].nfar[0])];

        *va = e->va;
        ok = e->mode == m->bt->mode;
    }
    bt_cache_unlock(m->bt, left);
    return ok;
}

static void far_jump(struct model *m)
{
    struct bt *bt = m->bt;
    const struct bt_block *to;
    uint64_t va, code;

    if (bt->req || !far_pick(m, &va))
        return;
    bt->rip = va;
    bt->reason = BT_G_IB;
    code = (uintptr_t)bt_quick(bt);
    if (!code)
        return;
    to = bt_block_of_code(bt, (uint32_t)(code - (uintptr_t)bt->rx));
    if (!to || to->va != va)
        wrong(m, "a far jump elsewhere", va);
    m->far++;
}

/* Each vCPU's slot leads to a block that is there, or nowhere. @page: to none
 * of this one, of this vCPU's; 0: any. */
static void far_slots(struct model *m, uint64_t page)
{
    const struct bt_cache *c = m->bt->cache;
    uint64_t thunk = (uintptr_t)m->bt->rx + BT_THUNK;

    for (unsigned i = 0; i < BT_FAR_N; i++) {
        const struct bt_far *e = &c->far[0].e[i];
        bool there = i % BT_FAR_SEG < c->seg[i / BT_FAR_SEG].nfar[0];

        if (i % BT_FAR_SEG > c->seg[i / BT_FAR_SEG].nfar[0])
            continue;
        for (unsigned v = 0; v < 2; v++) {
            const struct bt *bt = bt_of(m->t->v[v]);
            uint64_t code =
                __atomic_load_n(&bt->view->far_user[i], __ATOMIC_RELAXED);
            const struct bt_block *to;

            if (code == thunk)
                continue;
            to = bt_block_of_code(m->bt, (uint32_t)(code - (uintptr_t)bt->rx));
            if (!there || !to || !bt_block_valid(to) || to->va != e->va ||
                to->mode != e->mode)
                wrong(m, "a slot that leads elsewhere", e->va);
            else if (bt == m->bt && page && e->va >> 12 == page >> 12)
                wrong(m, "a slot of a page that was flushed", e->va);
        }
    }
}

static void far_check(struct model *m, uint64_t page)
{
    struct bt *bt = m->bt;
    bool left = bt_cache_lock(bt);

    while (!bt_links_try(bt->cache))
        __builtin_ia32_pause();
    far_slots(m, page);
    bt_links_done(bt->cache);
    bt_cache_unlock(bt, left);
}

static void far_flush(struct model *m)
{
    uint64_t va = va_of(rnd(m, PAGES), 0);

    m->bt->lin.flush(m->bt->in, X86_FLUSH_PAGE, gva(va), 0);
    far_check(m, va);
}

static void vcpu_step(struct model *m)
{
    unsigned page = rnd(m, PAGES), slot = rnd(m, SLOTS);
    struct bt *bt = m->bt;
    uint64_t made = bt->st.blocks;
    struct bt_block *b;

    if (bt->req || rnd(m, 64) == 0)
        attend(bt);
    if (rnd(m, 12) == 0) {
        page = page / THREADS * THREADS + m->id;
        slot_write(m, page, slot, m->version[page][slot] + THREADS);
        attend(bt); /* a store to code is done in C */
        if (rnd(m, 16) == 0)
            link_lists(m);
        if (rnd(m, 32) == 0)
            far_check(m, 0);
        if (rnd(m, 32) == 0)
            far_flush(m);
    }
    for (unsigned i = rnd(m, 4); i; i--)
        far_jump(m);
    bt->cells_only = rnd(m, 2);
    b = lookup(m, page, slot);
    if (b && bt->st.blocks != made) {
        uint32_t end = bt->nsites;

        m->made++;
        links(m, b, end);
        if (rnd(m, 16) == 0)
            stay(m, b, end);
    }
}

static void *vcpu(void *arg)
{
    struct model *m = arg;
    struct bt *bt = m->bt;

    bt->thread = pthread_self();
    atomic_store(&bt->in_run, 1);
    atomic_store(&bt->idle, 0);
    interp_enter(bt->in);
    bt->cpu->cpl = 3;
    interp_mode_update(bt->in);
    bt_tlb_sync(bt);
    bt->mode = bt_mode_now(bt);
    for (unsigned i = 0; i < STEPS; i++)
        vcpu_step(m);
    atomic_store(&bt->in->running, 0);
    atomic_store(&bt->idle, 1);
    atomic_store(&bt->in_run, 0);
    atomic_fetch_sub(&left_running, 1);
    return NULL;
}

/* DMA, watches, kicks. */
static void *device(void *arg)
{
    struct model *m = arg;
    struct mem *mem = m->t->vm.mem;

    while (atomic_load(&left_running)) {
        unsigned page = rnd(m, PAGES), slot = rnd(m, SLOTS);

        switch (rnd(m, 3)) {
        case 0:
            page = page / THREADS * THREADS + m->id;
            slot_write(m, page, slot, m->version[page][slot] + THREADS);
            break;
        case 1:
            if (!mem_mark(mem, gpa(va_of(page, 0)), MEM_WATCH))
                mem_unmark(mem, gpa(va_of(page, 0)), MEM_WATCH);
            break;
        default:
            bt_post(bt_of(m->t->v[rnd(m, 2)]));
            break;
        }
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
    return NULL;
}

static struct tvm *make_vm(struct engine_part **part)
{
    static struct {
        struct tvm *t;
        struct engine_part *part;
    } kept[4];
    static unsigned n;
    struct engine_host host = {.kvm_fd = -1, .ncpus = 2};
    struct tvm *t = tvm_create_cpus(CLOCK_MODE_REAL, 2);
    struct err e;

    if (bt_engine.init(&host, part, &e)) {
        printf("bt: %s\n", e.text);
        exit(1);
    }
    t->vm.engine = *part;
    for (unsigned i = 0; i < 2; i++) {
        interp_engine.vcpu_destroy(t->v[i]);
        if (bt_engine.vcpu_create(&t->vm, &t->cpus[i], &t->v[i], &e)) {
            printf("bt: %s\n", e.text);
            exit(1);
        }
    }
    (*part)->cache.seg_blocks = 96;
    kept[n % ARRAY_LEN(kept)].t = t; /* as in a monitor: till the end */
    kept[n++ % ARRAY_LEN(kept)].part = *part;
    return t;
}

TEST(threads_share_a_cache)
{
    static struct model m[THREADS];
    struct engine_part *part;
    pthread_t th[THREADS];
    struct tvm *t;
    char why[120];

    if (!bt_host_ok(why, sizeof why))
        SKIP("this host cannot run translated code");
    t = make_vm(&part);
    for (unsigned i = 0; i < THREADS; i++) {
        m[i].t = t;
        m[i].bt = i < 2 ? bt_of(t->v[i]) : NULL;
        m[i].id = i;
        m[i].rng = 0x9e3779b97f4a7c15 + i;
    }
    for (unsigned p = 0; p < PAGES; p++)
        for (unsigned s = 0; s < SLOTS; s++)
            slot_write(&m[p % THREADS], p, s,
                       0x40000000 + (p << 20 | s << 12) + p % THREADS);
    atomic_store(&left_running, 2);
    for (unsigned i = 0; i < THREADS; i++)
        if (pthread_create(&th[i], NULL, i < 2 ? vcpu : device, &m[i]))
            abort();
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(th[i], NULL);
        CHECK_EQ(m[i].bad, 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        printf("  vCPU %u: %llu look-ups, %llu made, %llu links, %llu writes, "
               "%llu segments, %llu far\n",
               i, (unsigned long long)m[i].lookups,
               (unsigned long long)m[i].made, (unsigned long long)m[i].linked,
               (unsigned long long)m[i].wrote,
               (unsigned long long)m[i].bt->st.segments,
               (unsigned long long)m[i].far);
        CHECK(m[i].far > 1000 && m[i].bt->st.far_puts > 1000);
        CHECK(m[i].made > 1000 && m[i].linked > 100 && m[i].straight > 100);
    }
    CHECK(m[0].bt->st.segments + m[1].bt->st.segments > 8);
}

static unsigned bucket_length(const struct bt_fars *f, uint32_t i, bool page)
{
    unsigned n = 0;

    for (; i; i = page ? f->e[i - 1].page_next : f->e[i - 1].next)
        n++;
    return n;
}

/* Whoever chooses targets that meet gets no long lists: those are walked under
 * a spin lock. Multiples of the hash's inverse have small products. */
TEST(targets_that_meet)
{
    const uint64_t inverse = UINT64_C(0xf1de83e19937733d);
    const uint32_t mode = TLB_USER | BT_MODE_CPL3;
    struct engine_part *part;
    const struct bt_fars *f;
    unsigned met = 0, all = 0;
    char why[120];
    struct bt *bt;

    if (!bt_host_ok(why, sizeof why))
        SKIP("this host cannot run translated code");
    bt = bt_of(make_vm(&part)->v[0]);
    f = &part->cache.far[0];
    CHECK_EQ(inverse * UINT64_C(0x9e3779b97f4a7c15), 1);
    for (uint64_t k = 1; met < 200; k++) {
        uint64_t va = (k * inverse) ^ (uint64_t)mode << 48;

        if (va >> 47)
            continue;
        met++;
        all += bt_far_at(bt, va, mode) >= BT_FAR(0);
    }
    CHECK(all >= 16 && all <= 64);
    CHECK_EQ(bucket_length(f, f->hash[0], false), all);
    for (unsigned i = 0; i < 4096; i++)
        bt_far_at(bt, 0x7654321000 + i, mode);
    for (unsigned i = 0; i < 1U << BT_FAR_BITS; i++) {
        CHECK(bucket_length(f, f->hash[i], false) <= 64);
        CHECK(bucket_length(f, f->pages[i], true) <= 1100);
    }
}

TEST_MAIN(CASE(threads_share_a_cache), CASE(targets_that_meet))
