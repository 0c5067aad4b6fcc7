// SPDX-License-Identifier: Apache-2.0
/*
 * What tlb.c knows of the machine under test, and its model: translations that
 * may be cached, and a journal of all that has changed.
 */
#ifndef DOPPEL_GUEST_TESTS_TLB_MODEL_H
#define DOPPEL_GUEST_TESTS_TLB_MODEL_H

#include "lib.h"

#define LOW       0x8000000000ULL       /* PML4 entry 1 */
#define HIGH      0xffffc00000000000ULL /* PML4 entry 384 */
#define CODE      0x10000000000ULL /* PML4 entry 2: user code, never changed */
#define POOL      0x4000000ULL     /* frames: 4 large pages from 64 MiB on */
#define FRAMES    2048U
#define ROOTS     4
#define RECS      160
#define ADDR      0xffffff000ULL

#define CR0_WP    0x10000ULL
#define CR4_PGE   0x80ULL
#define CR4_PCIDE 0x20000ULL
#define CR4_SMEP  0x100000ULL
#define CR4_SMAP  0x200000ULL
#define NOFLUSH   0x8000000000000000ULL

#define ERR_P     1
#define ERR_W     2
#define ERR_U     4
#define ERR_R     8
#define ERR_I     16

extern char mb_info[];

/* ---- the machine under test ---- */

static uint64_t roots[ROOTS][512] __attribute__((aligned(4096)));
/* by root and half: PDPT, 2 page directories, 2 * 4 page tables */
static uint64_t tabs[ROOTS][2][11][512] __attribute__((aligned(4096)));
static uint64_t stub_tabs[3][512] __attribute__((aligned(4096)));
static uint64_t seed = 1, steps = 200000, step, hash = 0xcbf29ce484222325;
static uint32_t code_id[FRAMES];
static unsigned root;
static uint16_t pcid;
static bool has_pcid, has_invpcid, has_smep, has_smap, has_1g;
/* QEMU 7.2: another error code for reserved bits; faults drop nothing */
static bool tcg;
static uint64_t cr0, cr4;

/* Pages of a page table that are used. */
static const unsigned page_of[4] = {0, 1, 9, 511};

static uint64_t rng_state;
static uint32_t rng(uint32_t n)
{
    rng_state = rng_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((rng_state >> 33) % n);
}

/* ---- accesses ---- */

enum how {
    RD,
    WR,
    XCHG,
    EX,
    CROSS,
    PUSH,
    POP,
    HOWS
};
enum who {
    SUP,
    SUPAC,
    USER
};

/* ---- the model ---- */

struct xl { /* a translation */
    bool present, reserved, user, write, nx, global, accessed, dirty;
    uint8_t shift;
    uint64_t base, pa; /* of the page */
};

struct rec { /* one that may be cached */
    struct xl x;
    uint16_t pcid;
    bool gone; /* a fault may have dropped it: not to be used any more */
};

static struct rec recs[RECS];
static unsigned nrecs;

/* The entries that a walk used, for the accessed bits. */
static uint64_t *used[4];
static unsigned nused;

static void walk_by(uint64_t va, struct xl *x, unsigned of,
                    uint64_t (*entry)(volatile uint64_t *, unsigned),
                    unsigned when)
{
    uint64_t *t = roots[of];
    unsigned shift = 39;

    *x = (struct xl){.user = true, .write = true, .accessed = true};
    for (nused = 0;; shift -= 9) {
        uint64_t *p = &t[va >> shift & 511], e = entry(p, when);

        used[nused++] = p;
        if (!(e & PTE_P))
            return;
        x->user = x->user && (e & PTE_U);
        x->write = x->write && (e & PTE_W);
        x->nx = x->nx || (e & PTE_NX);
        x->accessed = x->accessed && (e & PTE_A);
        if (e & 1ULL << 51) {
            x->reserved = true;
            return;
        }
        if (shift == 12 || (shift < 39 && (e & PTE_PS))) {
            x->present = true;
            x->shift = (uint8_t)shift;
            x->global = (e & PTE_G) && (cr4 & CR4_PGE);
            x->dirty = e & PTE_D;
            x->base = va >> shift << shift;
            x->pa = (e & ADDR) >> shift << shift;
            return;
        }
        t = (uint64_t *)(e & ADDR);
    }
}

static uint64_t entry_now(volatile uint64_t *at, unsigned when)
{
    (void)when;
    return *at;
}

static void walk(uint64_t va, struct xl *x)
{
    walk_by(va, x, root, entry_now, 0);
}

static bool writes(enum how how)
{
    return how == WR || how == XCHG || how == PUSH;
}

static bool permits(const struct xl *x, enum how how, enum who who)
{
    if (who == USER)
        return x->user && (!writes(how) || x->write) && (how != EX || !x->nx);
    if (how == EX)
        return !x->nx && !(x->user && (cr4 & CR4_SMEP));
    if (x->user && who == SUP && (cr4 & CR4_SMAP))
        return false;
    return !writes(how) || x->write || !(cr0 & CR0_WP);
}

static uint64_t fault_code(const struct xl *x, enum how how, enum who who)
{
    return (x->present    ? ERR_P
            : x->reserved ? ERR_P | ERR_R
                          : 0) |
           (writes(how) ? ERR_W : 0) | (who == USER ? ERR_U : 0) |
           (how == EX ? ERR_I : 0);
}

static bool covers(const struct rec *r, uint64_t va)
{
    return va >> r->x.shift << r->x.shift == r->x.base;
}

static bool usable(const struct rec *r, uint64_t va)
{
    return (r->pcid == pcid || r->x.global) && covers(r, va);
}

/* What has changed, for what might have been cached unasked. */
#define JOURNAL 65536U
static struct event {
    volatile uint64_t *at; /* an entry; NULL: another root, or a flush */
    uint64_t old;          /* entry, number of the root; the flush's address */
    bool (*drops)(const struct rec *, uint64_t, uint16_t);
    uint16_t pcid;
} journal[JOURNAL];
static unsigned nevents;

static void happens(struct event e)
{
    journal[nevents++ % JOURNAL] = e;
}

/* Forget records; one that an operation must drop. */
static void forget(bool (*which)(const struct rec *, uint64_t, uint16_t),
                   uint64_t va, uint16_t id)
{
    unsigned n = 0;

    happens((struct event){.drops = which, .old = va, .pcid = id});
    for (unsigned i = 0; i < nrecs; i++)
        if (!which(&recs[i], va, id))
            recs[n++] = recs[i];
    nrecs = n;
}

static bool f_all(const struct rec *r, uint64_t va, uint16_t id)
{
    (void)r, (void)va, (void)id;
    return true;
}
static bool f_nonglobal(const struct rec *r, uint64_t va, uint16_t id)
{
    (void)va, (void)id;
    return !r->x.global;
}
static bool f_pcid(const struct rec *r, uint64_t va, uint16_t id)
{
    (void)va;
    return !r->x.global && r->pcid == id;
}
static bool f_pcid_page(const struct rec *r, uint64_t va, uint16_t id)
{
    return !r->x.global && r->pcid == id && covers(r, va);
}
static bool f_page(const struct rec *r, uint64_t va, uint16_t id)
{
    return (r->x.global || r->pcid == id) && covers(r, va);
}

/* A fault drops what is cached there. */
static bool f_fault(const struct rec *r, uint64_t va, uint16_t id)
{
    return f_pcid_page(r, va, id) && r->x.shift == 12;
}

static bool same_xl(const struct xl *a, const struct xl *b)
{
    return a->base == b->base && a->pa == b->pa && a->shift == b->shift &&
           a->user == b->user && a->write == b->write && a->nx == b->nx &&
           a->global == b->global;
}

static void op_flush_all(void);

static void note(const struct xl *x)
{
    for (unsigned i = 0; i < nrecs; i++)
        if (recs[i].pcid == pcid && same_xl(&recs[i].x, x)) {
            recs[i].gone = false;
            recs[i].x.dirty |= x->dirty;
            return;
        }
    if (nrecs == RECS)
        op_flush_all();
    recs[nrecs++] = (struct rec){.x = *x, .pcid = pcid};
}

/* ---- what the tables have said ---- */

static uint64_t entry_then(volatile uint64_t *at, unsigned when)
{
    for (unsigned k = when; k < nevents; k++)
        if (journal[k % JOURNAL].at == at)
            return journal[k % JOURNAL].old;
    return *at;
}

static bool dropped_since(const struct rec *r, unsigned when)
{
    for (unsigned k = when; k < nevents; k++) {
        const struct event *e = &journal[k % JOURNAL];

        if (e->drops && e->drops(r, e->old, e->pcid))
            return true;
    }
    return false;
}

/* Whether a translation that the tables gave at some time, for the address
 * space that was the current one then, may still be cached and says @fits. */
static bool unasked(uint64_t va, bool (*fits)(const struct xl *, const void *),
                    const void *arg)
{
    unsigned k = nevents, r = root;
    uint16_t id = pcid;
    struct rec c = {.pcid = id};
    bool look = true;

    for (;; k--) {
        const struct event *e = &journal[(k - 1) % JOURNAL];

        if (look && (id == pcid || (cr4 & CR4_PGE))) {
            walk_by(va, &c.x, r, entry_then, k);
            c.pcid = id;
            if (c.x.present && c.x.accessed && (id == pcid || c.x.global) &&
                fits(&c.x, arg) && !dropped_since(&c, k))
                return true;
        }
        if (k == 0 || nevents - k == JOURNAL - 1 || e->drops == f_all)
            return false;
        look = !e->drops && !e->at;
        if (look) {
            r = (unsigned)e->old;
            id = e->pcid;
        }
        for (unsigned i = 0; i < nused; i++)
            look |= e->at && e->at == used[i];
    }
}

#endif
