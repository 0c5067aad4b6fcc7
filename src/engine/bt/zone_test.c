// SPDX-License-Identifier: Apache-2.0
/*
 * Zones against a model: two vCPUs with random page tables of 4 KiB, 2 MiB and
 * 1 GiB pages, faults, flushes of all kinds, PCIDs, pages marked as code or
 * watched, dirty epochs. After each step what is mapped, as /proc/self/maps
 * says, must be what the tables have said since it had to be dropped, and
 * writable only where stores need not be seen; the records must agree with it.
 *
 *   zone_test                          fixed and random seed
 *   zone_test --seed S [--count N]     N steps
 */
#include "engine/bt/zone_priv.h"

#include "base/test.h"
#include "engine/interp/testvm.h"
#include "tests/insn/corpus/rnd.h"

#include <time.h>

#define STEPS  8000
#define KERNEL UINT64_C(0xffff888000000000)
#define USER   (ZONE_BYTES - BIG) /* up to a zone's end, and on in the next */
#define PAGES  1024U              /* of either: 4 MiB */
#define ROOTS  3U
#define PCIDS  11U
#define TABLES 0x100000U
#define FRAMES 0x200000U
#define CPUS   2U
#define MAY    256U

/* A translation that may be cached. */
struct may {
    uint32_t gpn;
    uint8_t shift;
    bool write, global;
};

struct may_list {
    struct may m[MAY];
    unsigned n;
};

struct range {
    uint64_t lo, hi, off;
    bool read, write;
};

struct model {
    struct tvm *t;
    struct engine_part *part;
    struct zones *z;
    struct bt *bt[CPUS];
    struct rnd rnd;
    struct may_list may[1 + CPUS * PCID_SLOTS][PAGES];
    uint16_t pcid[CPUS][PCID_SLOTS]; /* that a slot was last seen with */
    struct range range[16384];
    unsigned nranges, most;
    uint32_t epoch; /* the last that has ended */
    bool late;      /* drops of users' pages wait: no user code may run */
    bool epochs;
    uint64_t step, mapped;
    const char *last;
};

/* ---- page tables ---- */

/* Of root @r: 0: PML4, 1-3: PDPT, PD, table below the zone's end, 4-6: behind
 * it. Of all: 7-10: the kernel's PDPT, PD, two tables. */
static uint64_t table_at(unsigned r, unsigned i)
{
    return TABLES + (i < 7 ? r * 7 + i : 7 * ROOTS + i - 7) * UINT64_C(4096);
}

static void put(struct model *m, uint64_t table, uint64_t i, uint64_t pte)
{
    tvm_poke64(m->t, table + 8 * (i & 511), pte);
}

static uint64_t rights(struct model *m, bool user)
{
    uint64_t us = user != rnd_pct(&m->rnd, 4) ? X86_PTE_US : 0;

    return (rnd_pct(&m->rnd, 90) ? X86_PTE_P : 0) | us |
           (rnd_pct(&m->rnd, 75) ? X86_PTE_RW : 0) |
           (rnd_pct(&m->rnd, 60) ? X86_PTE_A : 0) |
           (rnd_pct(&m->rnd, 50) ? X86_PTE_D : 0) |
           (rnd_pct(&m->rnd, user ? 10 : 60) ? X86_PTE_G : 0) |
           (rnd_pct(&m->rnd, 2) ? BIT(45) : 0) |
           (rnd_pct(&m->rnd, 20) ? X86_PTE_NX : 0);
}

static const unsigned page_of[] = {0, 1, 2, 5, 9, 31, 510, 511};

static uint64_t some_va(struct model *m, bool user)
{
    return (user ? USER : KERNEL) + rnd_n(&m->rnd, 2) * BIG +
           page_of[rnd_n(&m->rnd, 8)] * UINT64_C(4096) + rnd_n(&m->rnd, 4096);
}

/* The tables on the way to @va: i[0] PDPT, i[1] PD, i[2] page table. */
static void way(uint64_t va, unsigned i[3])
{
    unsigned high = va >> 63 ? 0 : va >> ZONE_BITS != 0;

    for (unsigned k = 0; k < 3; k++)
        i[k] = va >> 63 ? 7 + k : 1 + 3 * high + k;
    if (va >> 63 && (va >> 21 & 1))
        i[2]++;
}

static void change(struct model *m)
{
    unsigned r = rnd_n(&m->rnd, ROOTS), pct = rnd_n(&m->rnd, 100), i[3];
    bool user = rnd_pct(&m->rnd, 60);
    uint64_t va = some_va(m, user), x = rights(m, user);
    uint64_t above = user ? 0 : X86_PTE_US; /* the leaf says whose it is */

    way(va, i);
    if (pct < 65) {
        put(m, table_at(r, i[2]), va >> 12,
            (FRAMES + rnd_n(&m->rnd, 40) * UINT64_C(0x9000)) | x);
    } else if (pct < 80) { /* a large page, or its table again */
        bool large = rnd_pct(&m->rnd, 50);

        put(m, table_at(r, i[1]), va >> 21,
            large ? rnd_n(&m->rnd, 4) * BIG | X86_PTE_PS |
                        (rnd_pct(&m->rnd, 3) ? BIT(13) : 0) | x
                  : table_at(r, i[2]) | (x & ~X86_PTE_G) | X86_PTE_P | above);
    } else if (pct < 86) {
        bool huge = rnd_pct(&m->rnd, 40);

        put(m, table_at(r, i[0]), va >> 30,
            huge ? X86_PTE_PS | x
                 : table_at(r, i[1]) | (x & ~X86_PTE_G) | X86_PTE_P | above);
    } else { /* accessed, dirty, rights of what is there */
        uint64_t at = table_at(r, i[2]) + 8 * (va >> 12 & 511);
        static const uint64_t bit[] = {X86_PTE_A,  X86_PTE_D, X86_PTE_RW,
                                       X86_PTE_US, X86_PTE_P, X86_PTE_US,
                                       X86_PTE_G,  X86_PTE_G};

        tvm_poke64(m->t, at, tvm_peek(m->t, at, 8) ^ bit[rnd_n(&m->rnd, 8)]);
    }
}

static void make_tables(struct model *m)
{
    const uint64_t x = X86_PTE_P | X86_PTE_RW | X86_PTE_US | X86_PTE_A;

    for (unsigned r = 0; r < ROOTS; r++) {
        put(m, table_at(r, 0), KERNEL >> 39, table_at(r, 7) | x);
        for (unsigned h = 0; h < 2; h++) {
            uint64_t va = USER + h * BIG;

            put(m, table_at(r, 0), va >> 39, table_at(r, 1 + 3 * h) | x);
            put(m, table_at(r, 1 + 3 * h), va >> 30,
                table_at(r, 2 + 3 * h) | x);
            put(m, table_at(r, 2 + 3 * h), va >> 21,
                table_at(r, 3 + 3 * h) | x);
        }
    }
    put(m, table_at(0, 7), KERNEL >> 30, table_at(0, 8) | x);
    for (unsigned h = 0; h < 2; h++)
        put(m, table_at(0, 8), (KERNEL >> 21) + h, table_at(0, 9 + h) | x);
    for (unsigned i = 0; i < 2000; i++)
        change(m);
}

/* What the tables say of @va now. Return: whether it is to be had by a zone. */
static bool walk(struct model *m, uint64_t cr3, uint64_t va, struct may *to)
{
    uint64_t at = cr3 & X86_PTE_ADDR, all = ~UINT64_C(0), e;

    for (unsigned shift = 39;; shift -= 9) {
        uint64_t bad = BITS(51, X86_MAXPHYADDR);
        bool last;

        e = tvm_peek(m->t, at + 8 * (va >> shift & 511), 8);
        last = shift == 12 || (shift < 39 && (e & X86_PTE_PS));
        if (last && shift > 12)
            bad |= BITS(shift - 1, 13);
        if (!(e & X86_PTE_P) || (e & bad))
            return false;
        all &= e;
        at = e & X86_PTE_ADDR;
        if (!last)
            continue;
        at &= ~(BIT(shift) - 1);
        *to = (struct may){.gpn =
                               (uint32_t)((at + (va & (BIT(shift) - 1))) >> 12),
                           .shift = (uint8_t)shift,
                           .write = (all & X86_PTE_RW) && (e & X86_PTE_D),
                           .global = e & X86_PTE_G};
        return (all & X86_PTE_A) &&
               (va >> 63 != 0) != ((all & X86_PTE_US) != 0);
    }
}

/* ---- the model ---- */

static uint64_t va_of(bool user, unsigned page)
{
    return (user ? USER : KERNEL) + page * UINT64_C(4096);
}

static void note(struct model *m, unsigned win, uint64_t cr3)
{
    for (unsigned p = 0; p < PAGES; p++) {
        struct may_list *l = &m->may[win][p];
        struct may x;
        unsigned i = 0;

        if (!walk(m, cr3, va_of(win != ZONE_KERNEL, p), &x))
            continue;
        while (i < l->n &&
               (l->m[i].gpn != x.gpn || l->m[i].write != x.write ||
                l->m[i].shift != x.shift || l->m[i].global != x.global))
            i++;
        if (i == l->n && l->n == MAY) /* no test any more */
            abort();
        if (i == l->n)
            l->m[l->n++] = x;
    }
}

static void note_all(struct model *m)
{
    note(m, ZONE_KERNEL, m->t->cpus[0].cr3);
    for (unsigned c = 0; c < CPUS; c++)
        note(m, zone_win_of(m->bt[c], 0), m->t->cpus[c].cr3);
}

/* What must be dropped: of one address (or all: 1), global pages, others. */
static void forget(struct model *m, unsigned win, uint64_t va, bool global,
                   bool local)
{
    for (unsigned p = 0; p < PAGES; p++) {
        uint64_t at = va_of(win != ZONE_KERNEL, p);
        struct may_list *l = &m->may[win][p];
        unsigned n = 0;

        for (unsigned i = 0; i < l->n; i++) {
            bool hit = va == 1 || (at ^ va) >> l->m[i].shift == 0;

            if (!hit || !(l->m[i].global ? global : local))
                l->m[n++] = l->m[i];
        }
        l->n = n;
    }
}

/* ---- what is mapped ---- */

static void take_line(struct model *m, const char *line)
{
    struct range *g = &m->range[m->nranges];
    unsigned long long lo, hi, off;
    char r, w;

    if (sscanf(line, "%llx-%llx %c%c%*c%*c %llx", &lo, &hi, &r, &w, &off) != 5)
        return;
    *g = (struct range){lo, hi, off, r == 'r', w == 'w'};
    if ((g->read || g->write) && m->nranges + 1 < ARRAY_LEN(m->range) &&
        bt_zones_have(m->part, lo))
        m->nranges++;
}

static void look(struct model *m)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512];
    unsigned lines = 0;

    m->nranges = 0;
    while (f && fgets(line, sizeof line, f)) {
        take_line(m, line);
        lines++;
    }
    if (f)
        fclose(f);
    m->most = lines > m->most ? lines : m->most;
}

static const struct range *range_at(const struct model *m, uint64_t host)
{
    for (unsigned i = 0; i < m->nranges; i++)
        if (host >= m->range[i].lo && host < m->range[i].hi)
            return &m->range[i];
    return NULL;
}

static const struct zone *zone_at(const struct model *m, uint64_t host)
{
    for (unsigned i = 0; i < m->z->nzones; i++)
        if (m->z->zone[i].win &&
            host - (uintptr_t)m->z->zone[i].base < ZONE_BYTES)
            return &m->z->zone[i];
    return NULL;
}

/* Whether a vCPU's code may reach the window now; of others the TLB's flushes
 * still wait. */
static bool current(const struct model *m, unsigned win)
{
    for (unsigned c = 0; c < CPUS; c++)
        if (zone_win_of(m->bt[c], 0) == win)
            return !m->late;
    return win == ZONE_KERNEL;
}

static const char *page_wrong(struct model *m, const struct range *g,
                              const struct zone *q, uint64_t at)
{
    unsigned win = q->win - 1U, i = 0;
    uint64_t va = zone_base(q->guest) + at - (uintptr_t)q->base;
    uint64_t page = (va - va_of(win != ZONE_KERNEL, 0)) >> 12;
    uint64_t to = g->off + (at - g->lo);
    const _Atomic uint32_t *word = mem_page_word(m->z->mem, gpa(to));
    const struct may_list *l;

    m->mapped++;
    if (g->write && (!word || (atomic_load(word) & (MEM_CODE | MEM_WATCH))))
        return "a store would not be seen";
    if (g->write && m->epochs && !mem_dirty_since(m->z->mem, gpa(to), m->epoch))
        return "writable, but not dirty in this epoch";
    if (!current(m, win))
        return NULL;
    if (page >= PAGES)
        return "mapped where nothing ever was";
    l = &m->may[win][page];
    while (i < l->n &&
           (l->m[i].gpn != to >> 12 || (g->write && !l->m[i].write)))
        i++;
    return i < l->n ? NULL : "not what the tables say";
}

/* ---- the records ---- */

static bool chained(const struct zones *z, uint32_t i, const uint32_t *heads,
                    bool by_va)
{
    unsigned found = 0;

    for (unsigned h = 0; h < 1U << ZHASH_BITS; h++)
        for (uint32_t k = heads[h]; k;
             k = by_va ? z->entry[k - 1].next_va : z->entry[k - 1].next_gpa)
            found += k == i + 1;
    return found == 1;
}

static const char *entry_wrong(struct model *m, uint32_t i, bool deep)
{
    const struct zones *z = m->z;
    const struct zentry *e = &z->entry[i];
    uint64_t n = e->big ? BIG : 4096,
             host = (uintptr_t)zone_host(m->z, e->win, e->va);

    for (uint64_t off = 0; off < n; off += 4096) {
        const struct range *g = range_at(m, host + off);
        unsigned k = (unsigned)(off >> 12);
        bool ro = e->big && e->ro[k / 64] >> (k % 64) & 1;

        if (!g || g->off + (host + off - g->lo) != e->gpa + off)
            return "a record of what is not mapped";
        if (g->write != (e->write && !ro))
            return "a record of other rights";
        m->mapped--;
    }
    if (deep &&
        (!chained(z, i, z->by_va, true) || !chained(z, i, z->by_gpa, false)))
        return "not in its chains";
    if (e->path && (e->local >= z->nlocals || z->local[e->local] != i ||
                    e->path > z->npaths))
        return "not in the list of pages that are not global";
    return NULL;
}

static const char *records_wrong(struct model *m)
{
    const struct zones *z = m->z;
    unsigned used = 0, locals = 0, larger, cuts = 0, freed = 0;

    for (unsigned win = 0; win < ZONE_WINS; win++) {
        larger = 0;
        for (uint32_t k = 0; k < z->win[win].n; k++, used++) {
            uint32_t i = z->win[win].list[k];
            const struct zentry *e = &z->entry[i];
            const char *what = entry_wrong(m, i, m->step % 64 == 0);

            if (what)
                return what;
            if (e->at != k || e->win != win)
                return "not at its place in the window's list";
            larger += e->shift > (e->big ? 21 : 12);
            locals += e->path != 0;
            cuts += e->cuts;
        }
        if (larger != z->win[win].larger)
            return "the number of pieces of larger pages";
    }
    for (uint32_t i = z->free; i && freed <= ENTRIES_MAX; freed++)
        i = z->entry[i - 1].next_va;
    return m->mapped              ? "mapped, but without a record"
           : locals != z->nlocals ? "the number of pages that are not global"
           : cuts != z->cuts      ? "the number of cuts"
           : used + freed != z->nentries ? "records were lost"
                                         : NULL;
}

/* The first thing that is wrong. */
static const char *wrong(struct model *m, char *text, size_t n)
{
    m->mapped = 0;
    for (unsigned i = 0; i < m->nranges; i++) {
        const struct range *g = &m->range[i];
        const struct zone *q = zone_at(m, g->lo);

        for (uint64_t at = g->lo; at < g->hi; at += 4096) {
            const char *what =
                q ? page_wrong(m, g, q, at) : "mapped where no zone is";

            if (!what)
                continue;
            snprintf(
                text, n, "%s: host %" PRIx64 " va %" PRIx64 " %s gpa %" PRIx64,
                what, at, q ? zone_base(q->guest) + at - (uintptr_t)q->base : 0,
                g->write ? "rw" : "r", g->off + (at - g->lo));
            return text;
        }
    }
    return records_wrong(m);
}

/* ---- operations ---- */

static void load_cr3(struct model *m, unsigned c, bool keep)
{
    unsigned pcid = 1 + rnd_n(&m->rnd, PCIDS);
    struct x86_cpu *cpu = &m->t->cpus[c];
    struct bt *bt = m->bt[c];
    unsigned win;

    cpu->cr3 = table_at(pcid % ROOTS, 0) | pcid;
    cpu->lin->root(cpu->lin_ctx, keep);
    win = zone_win_of(bt, 0);
    if (!keep || m->pcid[c][bt->at] != pcid)
        forget(m, win, 1, false, true);
    m->pcid[c][bt->at] = (uint16_t)pcid;
    forget(m, ZONE_KERNEL, 1, false, true);
}

/* One page, or several in a row, most of them users'. */
static void invalidate(struct model *m, unsigned c)
{
    struct x86_cpu *cpu = &m->t->cpus[c];

    for (unsigned n = 1 + rnd_n(&m->rnd, 5); n; n--) {
        bool user = rnd_pct(&m->rnd, 70);
        uint64_t va = some_va(m, user);
        unsigned win = user ? zone_win_of(m->bt[c], 0) : ZONE_KERNEL;

        cpu->lin->flush(cpu->lin_ctx, X86_FLUSH_PAGE, gva(va),
                        (uint16_t)(cpu->cr3 & 0xfff));
        forget(m, win, va, true, true);
        for (unsigned s = 0; s < PCID_SLOTS && user; s++)
            forget(m, 1 + c * PCID_SLOTS + s, va, true, false);
    }
}

static void flush(struct model *m, unsigned c)
{
    struct x86_cpu *cpu = &m->t->cpus[c];
    bool all = rnd_pct(&m->rnd, 50);

    if (rnd_pct(&m->rnd, 20)) {
        bt_engine.vcpu_flush(m->t->v[c]);
        all = true;
    } else {
        cpu->lin->flush(cpu->lin_ctx, all ? X86_FLUSH_ALL : X86_FLUSH_NONGLOBAL,
                        gva(0), 0);
    }
    forget(m, ZONE_KERNEL, 1, all, true);
    for (unsigned s = 0; s < PCID_SLOTS; s++)
        forget(m, 1 + c * PCID_SLOTS + s, 1, all, true);
}

static void mark(struct model *m)
{
    uint64_t at = FRAMES + rnd_n(&m->rnd, 40) * UINT64_C(0x9000);
    uint32_t bit = rnd_pct(&m->rnd, 50) ? MEM_CODE : MEM_WATCH;

    if (rnd_pct(&m->rnd, 40))
        mem_unmark(m->t->vm.mem, gpa(at), bit);
    else if (mem_mark(m->t->vm.mem, gpa(at), bit))
        abort();
}

/* An access of translated code: faults until it is done or given up. */
static bool reach(struct model *m, unsigned c)
{
    bool user = rnd_pct(&m->rnd, 60), write = rnd_pct(&m->rnd, 50);
    struct bt *bt = m->bt[c];
    uint64_t va = some_va(m, user);

    bt->cpu->cpl = user ? 3 : 0;
    bt->mode = user ? TLB_USER | BT_MODE_CPL3 : TLB_SUP;
    bt->cpu->cr4 |= X86_CR4_SMAP;
    if (!user && rnd_pct(&m->rnd, 30)) { /* what is mapped is for others, too */
        bt->cpu->cr4 &= ~X86_CR4_SMAP;
        bt->mode = TLB_SUPAC;
    }
    if (!bt->zoned[!user])
        return true;
    if (user)
        bt_zones_late(bt);
    for (unsigned k = 0; k < 8; k++) {
        const uint64_t *table = user ? bt->view->zone_user : bt->zone_sup;
        uint64_t by = table[zone_guest(va)];
        const struct range *g;

        look(m);
        g = range_at(m, va + by);
        if (g && (g->write || !write))
            return true;
        if (!bt_zones_fault(bt, va + by, write, by))
            return true;
    }
    return false;
}

static const char *step(struct model *m)
{
    unsigned pct = rnd_n(&m->rnd, 100), c = rnd_n(&m->rnd, CPUS);

    if (pct < 50) {
        m->last = "access";
        return reach(m, c) ? NULL : "an access faults for ever";
    }
    m->t->cpus[c].cpl = 0;
    if (pct < 74) {
        m->last = "change", change(m);
        if (rnd_pct(&m->rnd, 6))
            flush(m, c);
    } else if (pct < 80)
        m->last = "CR3", load_cr3(m, c, rnd_pct(&m->rnd, 50));
    else if (pct < 89)
        m->last = "INVLPG", invalidate(m, c);
    else if (pct < 93)
        m->last = "flush", flush(m, c);
    else if (pct < 99)
        m->last = "mark", mark(m);
    else
        m->last = "epoch", m->epoch = mem_epoch_next(m->t->vm.mem),
        m->epochs = true;
    return NULL;
}

/* ---- the test ---- */

static bool start(struct model *m, uint64_t seed)
{
    static struct engine_part *part; /* as in a monitor: till the end */
    const struct engine_host host = {
        .kvm_fd = -1, .ncpus = CPUS, .zones = ENGINE_ZONES_NOW};
    char why[120];
    struct err e;

    if (!bt_host_ok(why, sizeof why))
        return false;
    memset(m, 0, sizeof *m);
    m->rnd.s = seed;
    m->t = tvm_create_mem(CLOCK_MODE_REAL, CPUS, false);
    for (unsigned c = 0; c < CPUS; c++)
        interp_engine.vcpu_destroy(m->t->v[c]);
    if (!part && bt_engine.init(&host, &part, &e)) {
        printf("bt: %s\n", e.text);
        exit(1);
    }
    m->t->vm.engine = m->part = part;
    m->z = part->zones;
    if (!m->z)
        return false;
    make_tables(m);
    for (unsigned c = 0; c < CPUS; c++) {
        struct x86_cpu *cpu = &m->t->cpus[c];

        if (bt_engine.vcpu_create(&m->t->vm, cpu, &m->t->v[c], &e)) {
            printf("bt: %s\n", e.text);
            exit(1);
        }
        m->bt[c] = bt_of(m->t->v[c]);
        cpu->cr4 |= X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_SMAP;
        cpu->cr3 = table_at(1, 0) | 1;
        m->pcid[c][0] = 1;
        bt_engine.vcpu_flush(m->t->v[c]);
        cpu->lin->mode(cpu->lin_ctx);
        bt_tlb_sync(m->bt[c]);
    }
    return true;
}

static void end(struct model *m)
{
    for (unsigned c = 0; c < CPUS; c++) {
        bt_engine.vcpu_destroy(m->t->v[c]);
        x86_cpu_fini(&m->t->cpus[c]);
    }
    vm_fini(&m->t->vm);
    free(m->t);
}

/* Return: whether all was right. */
static bool run(uint64_t seed, unsigned steps)
{
    static struct model m;
    const char *what = NULL;
    uint64_t maps, fails, drops;
    char text[200];

    printf("  seed %" PRIu64 "\n", seed);
    if (!start(&m, seed)) {
        test_skip = "this host has no zones";
        return true;
    }
    for (m.step = 0; m.step < steps && !what; m.step++) {
        for (unsigned c = 0; c < CPUS; c++)
            bt_zones_look(m.bt[c]);
        note_all(&m);
        what = step(&m);
        m.late = rnd_pct(&m.rnd, 40);
        for (unsigned c = 0; c < CPUS; c++) { /* as before code runs */
            bt_tlb_sync(m.bt[c]);
            if (!m.late)
                bt_zones_late(m.bt[c]);
        }
        note_all(&m);
        look(&m);
        if (!what)
            what = wrong(&m, text, sizeof text);
    }
    maps = m.bt[0]->st.zone_maps + m.bt[1]->st.zone_maps;
    fails = m.bt[0]->st.zone_fails + m.bt[1]->st.zone_fails;
    drops = m.bt[0]->st.zone_drops + m.bt[1]->st.zone_drops;
    printf("  %" PRIu64 " mapped, %" PRIu64 " dropped, %" PRIu64
           " faults were not; at most %u mappings\n",
           maps, drops, fails, m.most);
    if (what)
        printf("  WRONG at step %" PRIu64 ", %s: %s\n", m.step - 1, m.last,
               what);
    CHECK(what || maps > steps / 20);
    CHECK(m.most < 4000);
    end(&m);
    return !what;
}

TEST(model_fixed_seed)
{
    CHECK(run(1, STEPS));
}

TEST(model_random_seed)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    CHECK(run((uint64_t)ts.tv_sec ^ (uint64_t)ts.tv_nsec << 20, STEPS / 2));
}

/* Whether @host is in a reservation of @zone's own, or in its guards, or no
 * address. */
static bool stays(const struct model *m, uint64_t host, uint64_t by,
                  unsigned zone)
{
    uint64_t base = by + zone_base(zone);

    for (unsigned i = 0; i < m->z->nzones; i++)
        if (m->z->zone[i].win && (uintptr_t)m->z->zone[i].base == base &&
            m->z->zone[i].guest != zone)
            return false;
    return host >> 47 != 0 ||
           (host - (base - ZONE_GUARD) < ZONE_BYTES + 2 * ZONE_GUARD &&
            bt_zones_have(m->part, host));
}

/* Any number as an address, as far from it as an operand, or a loop's last
 * turn, may be. */
TEST(no_address_leaves)
{
    static struct model m;
    unsigned left = 0, in = 0;

    if (!start(&m, 5))
        SKIP("this host has no zones");
    for (unsigned c = 0; c < CPUS; c++)
        bt_zones_look(m.bt[c]);
    for (unsigned i = 0; i < 50; i++)
        (void)reach(&m, i % CPUS);
    for (unsigned i = 0; i < 2000000; i++) {
        const struct bt *bt = m.bt[i % CPUS];
        const uint64_t *table = i & 4 ? bt->zone_sup : bt->view->zone_user;
        uint64_t va = rnd_u64(&m.rnd), by, host;
        unsigned zone;

        if (i & 8) /* canonical, or with other bits above */
            va = (uint64_t)((int64_t)(va << 16) >> 16) ^
                 (i & 16 ? 0 : BIT(48 + i / 32 % 16));
        if (i & 512) /* the first and the last bytes of a zone */
            va = (va & ~(ZONE_BYTES - 1)) - (va & 63);
        zone = zone_guest(va);
        by = table[zone];
        host = va + by + (uint64_t)(int64_t)(int32_t)rnd_u64(&m.rnd);
        if (i & 1024) /* a loop: 1 GiB and what it has of its own */
            host = va + by + (i & 2048 ? 1 : -1) * (INT64_C(1) << 30);
        left += !stays(&m, host + rnd_n(&m.rnd, 64), by, zone);
        in += host >> 47 == 0;
    }
    CHECK_EQ(left, 0);
    CHECK(in > 100000);
    end(&m);
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {CASE(model_fixed_seed),
                                             CASE(model_random_seed),
                                             CASE(no_address_leaves)};
    uint64_t seed = 1, count = STEPS;

    if (argc < 3 || strncmp(argv[1], "--", 2) != 0)
        return test_main(argc, argv, cases, ARRAY_LEN(cases));
    for (int i = 1; i + 1 < argc; i += 2)
        *(strcmp(argv[i], "--seed") ? &count : &seed) =
            strtoull(argv[i + 1], NULL, 0);
    return !run(seed, (unsigned)count);
}
