// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of zones (zone.h) share. All of it is under zones->lock, which
 * is held for no wait.
 */
#ifndef DOPPEL_ENGINE_BT_ZONE_PRIV_H
#define DOPPEL_ENGINE_BT_ZONE_PRIV_H

#include "engine/bt/zone.h"

#include "cpu/x86/paging.h"

#define ZONE_BITS  40
#define ZONE_BYTES (UINT64_C(1) << ZONE_BITS)
#define ZONE_GUARD (UINT64_C(4) << 30) /* displacements have 32 bits */
#define ZONES_MAX  64
#define ZONE_KERNEL                                                            \
    0U /* the kernel's window; others: 1 + cpu * slots + slot                  \
        */
#define ZONE_WINS     (1 + X86_CPUS_MAX * PCID_SLOTS)
#define ZONE_USER_MAX 4 /* zones of a user's window */
#define ENTRIES_MAX   24576U
#define ZHASH_BITS    15
#define BIG           (UINT64_C(2) << 20)
#define PATHS_MAX     32
#define TOPS_MAX      32
#define TOP_DROPS     64 /* of all, when roots differ: then no more */
#define LOCALS_MAX    2048U
#define TABLES_MAX    32768U
#define PINS          4096U

/* What is mapped: a page, or 2 MiB of a larger one. */
struct zentry {
    uint64_t va, gpa, pte;
    uint32_t next_va, next_gpa; /* index + 1 */
    uint32_t at;                /* its place in its window's list */
    uint32_t local;             /* ... in the list of pages not global */
    uint16_t win;
    uint8_t shift; /* of the guest's page */
    uint8_t path;  /* + 1: of a page of the kernel's that is not global */
    bool big, write;
    uint16_t cuts;  /* runs of pages that ro names */
    uint64_t ro[8]; /* big, write: pages that may not be written */
};

/* Page tables on the way to a piece of 2 MiB with pages that are not global:
 * entries as they were, and where the lower ones lie. */
struct zpath {
    uint64_t at; /* va >> 21 */
    uint64_t e[3];
    const uint8_t *table[3]; /* of e[1], of e[2], of the pages */
};

/* An entry of the roots that something of the kernel's is mapped by. */
struct ztop {
    uint64_t e;
    unsigned at;
};

struct zone {
    uint8_t *base; /* of the 1 TiB */
    uint16_t win;  /* + 1; 0: free */
    uint8_t guest; /* which it holds, by bits 40-47 */
};

/* One translation of addresses: the kernel's, or a PCID slot's of a vCPU. */
struct zwin {
    uint32_t *list; /* entries */
    uint32_t n, room;
    uint32_t larger; /* entries that are pieces of their page */
    uint32_t tables; /* of the host's, at most, since all was unmapped */
};

struct zones {
    pthread_mutex_t lock;
    struct mem *mem;
    uint8_t *ram;   /* mem_linear_hva */
    uint64_t *shut; /* pages of RAM that no big piece lets be written */
    int fd;
    uint8_t *nowhere;
    struct zone zone[ZONES_MAX];
    unsigned nzones;
    struct zwin win[ZONE_WINS];
    struct zentry entry[ENTRIES_MAX];
    uint32_t nentries, free; /* index + 1 */
    /* The host limits mappings (vm.max_map_count). An entry is two at most, and
     * so is each run of pages in it that may not be written. */
    uint32_t entries_max, cuts, cuts_max;
    uint32_t tables; /* of all windows */
    uint32_t by_va[1U << ZHASH_BITS], by_gpa[1U << ZHASH_BITS];
    struct zpath path[PATHS_MAX];
    unsigned npaths;
    uint32_t local[LOCALS_MAX]; /* entries */
    uint32_t nlocals;
    struct ztop top[TOPS_MAX];
    unsigned ntops, top_drops;
    bool no_locals; /* roots differ in what their upper halves hold */
    /* instructions that fault for nothing, by a hash of their address */
    uint64_t pin[PINS];
    uint8_t pin_faults[PINS];
};

static inline uint64_t zone_base(unsigned guest)
{
    uint64_t va = (uint64_t)guest << ZONE_BITS;

    return va >> 47 ? va | ~BITS(47, 0) : va;
}

static inline unsigned zone_guest(uint64_t va)
{
    return (unsigned)(va >> ZONE_BITS) & 255;
}

static inline uint64_t zone_nowhere(const struct zones *z, unsigned guest)
{
    return (uintptr_t)z->nowhere - zone_base(guest);
}

static inline unsigned zone_win_of(const struct bt *bt, uint64_t va)
{
    return va >> 63 ? ZONE_KERNEL : 1 + bt->cpu->index * PCID_SLOTS + bt->at;
}

/* ---- zone.c ---- */

/** zone_host() - where @va of window @win is mapped, or NULL */
uint8_t *zone_host(struct zones *z, unsigned win, uint64_t va);
/** zone_unmap() - the reservation again: never a hole that something else may
 * fill */
void zone_unmap(uint8_t *at, uint64_t n);
/** zone_win_unmap() - all of a window's; reservations stay */
void zone_win_unmap(struct zones *z, unsigned win);
/** zone_win_drop() - all of a window's, its reservations too */
void zone_win_drop(struct bt *bt, unsigned win);
/** zone_unmap_all() - nothing is mapped in any window; reservations stay */
void zone_unmap_all(struct zones *z);

/* ---- zone_entry.c ---- */

void zone_map_reset(struct zones *z);
uint64_t zone_bytes(const struct zentry *e);
/** zone_is_piece() - whether it is less than INVLPG drops: of a larger page */
bool zone_is_piece(const struct zentry *e);
struct zentry *zone_find(struct zones *z, unsigned win, uint64_t va, bool big);
/** zone_hash_gpa() - index of the chain in by_gpa */
unsigned zone_hash_gpa(uint64_t at, bool big);
/** zone_entry_new() - in the window's list only; NULL: no room */
struct zentry *zone_entry_new(struct zones *z, unsigned win);
/** zone_entry_chain() - va, gpa and big are set: it can be found */
void zone_entry_chain(struct zones *z, struct zentry *e);
/** zone_entry_forget() - it is unmapped already; _drop: it is not */
void zone_entry_forget(struct zones *z, struct zentry *e);
void zone_entry_drop(struct bt *bt, struct zentry *e);
/** zone_entries_forget() - a window's, which are unmapped already */
void zone_entries_forget(struct zones *z, unsigned win);
/** zone_cuts_none() - none of its pages is read-only by itself */
void zone_cuts_none(struct zones *z, struct zentry *e);

/* ---- zone_map.c ---- */

bool zone_map_fault(struct bt *bt, unsigned win, uint64_t va, bool write);
/** zone_offset() - of RAM at guest-physical @at in the memfd; UINT64_MAX: none
 */
uint64_t zone_offset(struct zones *z, uint64_t at);
/** zone_leaf() - what translates @va as the page tables are now, with what all
 * levels allow; Return: its shift; 0: nothing. */
unsigned zone_leaf(struct zones *z, const struct x86_cpu *cpu, uint64_t va,
                   uint64_t *pte);
/** zone_shut() - whether no big piece lets the page of RAM at @off be written
 */
bool zone_shut(const struct zones *z, uint64_t off);
void zone_shut_set(struct zones *z, uint64_t off, bool on);
/** zone_ro_set() - page @i of a big piece is, or is not, read-only by itself */
void zone_ro_set(struct zones *z, struct zentry *e, unsigned i, bool on);
/** zone_read_only() - what can't be made read-only is unmapped */
void zone_read_only(struct zones *z, struct zentry *e, uint64_t off,
                    uint64_t n);
void zone_read_only_all(struct zones *z, struct zentry *e);

/* ---- zone_local.c ---- */

/** zone_top_add() - whether all vCPUs' roots have the same entry for @va of the
 * kernel's half, or none; from now on bt_zones_root sees to it */
bool zone_top_add(struct bt *bt, uint64_t va);
bool zone_local_add(struct bt *bt, struct zentry *e);
void zone_local_drop(struct zones *z, const struct zentry *e);
const uint8_t *zone_table(struct zones *z, uint64_t at);

static inline uint64_t zone_pte(const uint8_t *table, uint64_t va,
                                unsigned shift)
{
    const uint64_t *e = (const uint64_t *)(const void *)table;

    return __atomic_load_n(&e[va >> shift & 511], __ATOMIC_RELAXED);
}

#endif
