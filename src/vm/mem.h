// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory: the one road from guest-physical to host addresses.
 *
 * mem_get pins and returns pieces, mem_put ends it; dirty marks and code
 * invalidation happen at the put. Small accesses use mem_read and mem_write.
 * Only an engine's TLB fill takes a single page's address (mem_tlb_page).
 *
 * Each guest page has one atomic 32-bit word (MEM_PAGE_*) that every writer
 * goes through: vCPU, device, page-table A/D updates, debugger, loader.
 *
 *   31            16 15   12 11        4   3       2       1 0
 *  | dirty epoch    | (0)   | pins       |SHARED |WATCH/CODE| where |
 *
 * RAM is a memfd. Linear: page n of RAM lies at offset n * 4096. Scatter: at a
 * random place, so that nothing can rely on neighbours. Guest-physical layout:
 * [0, low_bytes) and, when RAM is larger than the PCI hole allows,
 * [4 GiB, ...).
 */
#ifndef DOPPEL_VM_MEM_H
#define DOPPEL_VM_MEM_H

#include "base/cc.h"
#include "base/err.h"
#include "base/types.h"

#include <stdatomic.h>

#define MEM_PAGE_SHIFT 12
#define MEM_PAGE_BYTES 4096U
#define MEM_PAGE_MASK  4095U

/* The page word. */
#define MEM_WHERE_MASK   0x00000003U /* 0 absent (zero), 1 base, 2 own */
#define MEM_WHERE_ABSENT 0U
#define MEM_WHERE_BASE   1U
#define MEM_WHERE_OWN    2U
#define MEM_CODE         0x00000004U /* an engine holds code made from it */
#define MEM_WATCH        0x00000008U /* writes are reported */
#define MEM_SHARED       0x00000010U /* mapped by a process outside */
#define MEM_PIN_SHIFT    5
#define MEM_PIN_MASK     0x00007fe0U /* pieces handed out: 0-1023 */
#define MEM_EPOCH_SHIFT  16          /* last dirty epoch, 0 = never */

enum mem_access {
    MEM_READ,
    MEM_WRITE
};

/* A pinned piece of guest memory; never longer than one page. */
struct mem_iov {
    uint8_t *hva;
    size_t len;
    gpa_t gpa;
};

struct mem;

struct mem_conf {
    uint64_t ram_bytes; /* multiple of 4096, at least 1 MiB */
    uint64_t low_limit; /* RAM below this GPA at most; the rest at 4 GiB */
    bool scatter;       /* random host place for every page */
    uint64_t seed;      /* of the scatter permutation */
    int memfd;          /* takes: RAM of ram_bytes; -1: make one */
    bool fresh;         /* memfd was never written: all pages absent */
};

/* What listens to writes into pages marked CODE or WATCH. Thread: any; called
 * at the put, after the bytes are there, without locks of mem's held. */
struct mem_listener {
    void (*written)(void *ctx, gpa_t gpa, size_t len, uint32_t page_word);
    void *ctx;
};

/** mem_create() - guest RAM and its page words
 * Return: 0 and *out (gives), or -ENOMEM, -EINVAL with a sentence. */
MUST_CHECK int mem_create(const struct mem_conf *conf, struct mem **out,
                          struct err *e);
void mem_destroy(struct mem *mem);

uint64_t mem_ram_bytes(const struct mem *mem);
/* Bytes of RAM at GPA 0 and at 4 GiB. */
uint64_t mem_low_bytes(const struct mem *mem);
uint64_t mem_high_bytes(const struct mem *mem);

/** mem_is_ram() - whether all of [gpa, gpa+len) is RAM */
bool mem_is_ram(const struct mem *mem, gpa_t gpa, uint64_t len);

/** mem_get() - pin [gpa, gpa+len) and return its pieces in GPA order
 * @iov: filled; @n: its room. Pieces lie within a page each in scatter mode;
 *   adjacent ones may be merged in linear mode.
 * Return: the number of pieces; -EFAULT: not all of it is RAM, or it wraps;
 *   -E2BIG: more than @n pieces (nothing is pinned). Thread: any. */
MUST_CHECK int mem_get(struct mem *mem, gpa_t gpa, size_t len,
                       enum mem_access access, struct mem_iov *iov, unsigned n);

/** mem_put() - end what mem_get began
 * @written: the pieces were (or may have been) written: marks them dirty and
 *   tells the listeners of CODE and WATCH pages. Thread: any. */
void mem_put(struct mem *mem, const struct mem_iov *iov, unsigned n,
             bool written);

/** mem_read(), mem_write() - copy out of or into guest memory
 * Return: 0, or -EFAULT (nothing copied). Thread: any. */
MUST_CHECK int mem_read(struct mem *mem, gpa_t gpa, void *buf, size_t len);
MUST_CHECK int mem_write(struct mem *mem, gpa_t gpa, const void *buf,
                         size_t len);
/** mem_zero() - write @len zero bytes; Return: 0 or -EFAULT */
MUST_CHECK int mem_zero(struct mem *mem, gpa_t gpa, uint64_t len);

/** mem_tlb_page() - the host address of one page, for an engine's TLB only
 * @access: MEM_WRITE marks the page own and dirty in the current epoch; the
 *   caller must drop its write entries when mem_epoch_next or a CODE or WATCH
 *   mark asks for it (mem_set_revoke).
 * @word: filled with the page word after that; on MEM_WRITE the caller may
 *   keep a write entry only if neither CODE nor WATCH is set, else it stores
 *   through mem_write for each access.
 * Return: NULL when @gpa is not RAM. Thread: vcpu. */
uint8_t *mem_tlb_page(struct mem *mem, gpa_t gpa, enum mem_access access,
                      uint32_t *word);

/** mem_linear_hva() - where RAM lies as one piece, low part first, for an
 * engine whose hardware maps it; NULL in scatter mode. Writes that go there
 * unseen must be declared by mem_tlb_page(MEM_WRITE). */
uint8_t *mem_linear_hva(struct mem *mem);

/** mem_page_word() - the page's word, or NULL when @gpa is not RAM */
_Atomic uint32_t *mem_page_word(struct mem *mem, gpa_t gpa);

/** mem_mark(), mem_unmark() - set or clear MEM_CODE or MEM_WATCH on a page.
 * mem_mark revokes write entries of all engines' TLBs before it returns, so
 * that a write after it is reported. Return: 0 or -EFAULT. Thread: any. */
MUST_CHECK int mem_mark(struct mem *mem, gpa_t gpa, uint32_t bits);
void mem_unmark(struct mem *mem, gpa_t gpa, uint32_t bits);

/** mem_epoch_next() - begin a new dirty epoch; revokes write entries.
 * Return: the epoch that ended. Pages whose word shows an epoch > e were
 * written after epoch e ended. */
uint32_t mem_epoch_next(struct mem *mem);
bool mem_dirty_since(struct mem *mem, gpa_t gpa, uint32_t epoch);

/** mem_set_listener() - who hears of writes to CODE and WATCH pages */
void mem_set_listener(struct mem *mem, struct mem_listener l);

/** mem_set_revoke() - called to drop every write entry of page @gpa (or of all,
 * @all) in all vCPUs' TLBs; returns when no vCPU can write through one */
void mem_set_revoke(struct mem *mem,
                    void (*revoke)(void *ctx, gpa_t gpa, bool all), void *ctx);

/* ---- a view: what would be written ---- */

#define MEM_VIEW_PAGES 64
#define MEM_VIEW_MARKS 64

/** mem_view_create() - guest memory seen through copies
 * Reads of the view are reads of @base (keeps); the first write to a page takes
 * a copy that later reads and writes of the view go to. Nothing reaches @base,
 * its page words or its listeners. All functions but mem_destroy take a view;
 * a page beyond MEM_VIEW_PAGES cannot be written: mem_tlb_page gives NULL,
 * the others -EFAULT, and mem_view_full says so. Thread: one.
 * Return: 0 and *out (gives), or -ENOMEM. */
MUST_CHECK int mem_view_create(struct mem *base, struct mem **out);
void mem_view_destroy(struct mem *view);
/** mem_view_reset() - forget the copies */
void mem_view_reset(struct mem *view);
/** mem_view_rewind() - the copies again as they were taken; marks stay */
void mem_view_rewind(struct mem *view);
unsigned mem_view_count(const struct mem *view);
bool mem_view_full(const struct mem *view);

/* One copied page. */
struct mem_view_page {
    gpa_t gpa;
    uint8_t *copy;
    const uint8_t *before; /* as it was when it was copied */
    const uint8_t *base;   /* as it is now */
};

/** mem_view_page() - copy @i, in the order in which they were taken */
void mem_view_page(const struct mem *view, unsigned i,
                   struct mem_view_page *out);
/** mem_view_marked() - whether the 8 bytes at @gpa were given out by mem_get,
 * as page-table entries are to have their A and D bits set */
bool mem_view_marked(const struct mem *view, gpa_t gpa);

/** mem_hash() - a 64-bit hash of all RAM (state hash of --clock virtual) */
uint64_t mem_hash(struct mem *mem);

/** mem_dup_fd() - the RAM's memfd and what is needed to map it again: used to
 * rebuild a VM on the same RAM. Gives a dup of the descriptor, or -errno. */
int mem_dup_fd(const struct mem *mem);

#endif
