// SPDX-License-Identifier: Apache-2.0
/* What guest memory (mem.c) and views of it (mem_view.c) share. */
#ifndef DOPPEL_VM_MEM_PRIV_H
#define DOPPEL_VM_MEM_PRIV_H

#include "vm/mem.h"

#define HIGH_BASE (UINT64_C(1) << 32)

/* The copies of a view. */
struct mem_view {
    unsigned n, nmarks;
    bool full;
    int64_t idx[MEM_VIEW_PAGES];
    gpa_t at[MEM_VIEW_PAGES];
    gpa_t mark[MEM_VIEW_MARKS];
    uint8_t *copy, *before; /* MEM_VIEW_PAGES pages each */
};

struct mem {
    struct mem_view *view; /* NULL: the memory itself */
    uint8_t *hva;          /* the whole memfd, mapped once */
    uint64_t ram_bytes;
    uint64_t low_bytes;
    uint32_t *place; /* scatter: host page of RAM page n; NULL: linear */
    _Atomic uint32_t *word;
    _Atomic uint32_t epoch;
    int fd;
    struct mem_listener listener;
    void (*revoke)(void *ctx, gpa_t gpa, bool all);
    void *revoke_ctx;
};

/* Index of the RAM page at @a, or -1. */
static inline int64_t mem_page_index(const struct mem *mem, uint64_t a)
{
    if (a < mem->low_bytes)
        return (int64_t)(a >> MEM_PAGE_SHIFT);
    if (a >= HIGH_BASE && a - HIGH_BASE < mem->ram_bytes - mem->low_bytes)
        return (int64_t)((a - HIGH_BASE + mem->low_bytes) >> MEM_PAGE_SHIFT);
    return -1;
}

/* The memory's own page @i, whatever a view has copied. */
static inline uint8_t *mem_base_hva(const struct mem *mem, int64_t i)
{
    uint64_t host = mem->place ? mem->place[i] : (uint64_t)i;

    return mem->hva + (host << MEM_PAGE_SHIFT);
}

/* Bytes from @a to the end of its page, at most @len. */
static inline size_t mem_in_page(uint64_t a, size_t len)
{
    size_t room = MEM_PAGE_BYTES - (a & MEM_PAGE_MASK);

    return len < room ? len : room;
}

/* ---- mem_view.c ---- */

/** mem_view_hva() - where the view reads page @i */
uint8_t *mem_view_hva(const struct mem *mem, int64_t i);
/** mem_view_own() - its copy of page @i, taken now if need be; NULL: full */
uint8_t *mem_view_own(struct mem *mem, int64_t i, gpa_t at);
/** mem_view_get() - mem_get of a view; nothing is pinned */
int mem_view_get(struct mem *mem, gpa_t gpa, size_t len, enum mem_access access,
                 struct mem_iov *iov);

#endif
