// SPDX-License-Identifier: Apache-2.0
/*
 * The translator's own structures: one vCPU's part, its code cache, blocks and
 * sites. Private to src/engine/bt. Thread: the vCPU's, unless said.
 */
#ifndef DOPPEL_ENGINE_BT_PRIV_H
#define DOPPEL_ENGINE_BT_PRIV_H

#include "base/cc.h"
#include "cpu/x86/decode.h"
#include "cpu/x86/state.h"
#include "engine/bt/bt.h"
#include "engine/bt/layout.h"
#include "engine/interp/priv.h"

#include <pthread.h>
#include <stddef.h>

#define BT_REGION_INSNS 32
#define BT_BLOCK_INSNS  32 /* in check mode */
#define BT_ZONE_LATE    64
#define BT_WINDOWS      16

/* A place in translated code from where C is entered. */
struct bt_site {
    uint64_t va;         /* guest rip: of the instruction, or of the target */
    const struct op *op; /* made at the first callout */
    uint32_t start;      /* code offset: the access again; LINK: cell */
    uint32_t next;       /* code offset: after the instruction; LINK: stub */
    uint32_t block;      /* index */
    union {
        uint32_t in_next; /* LINK: list of links into a block; site */
        uint32_t hit;     /* MISS, one read: code offset, the check passed */
    };
    uint16_t size; /* bytes of the access or of the window */
    bool write;
    uint8_t kind;     /* enum tlb_kind of the access, or of a link */
    uint8_t s1, s2;   /* guest registers whose value is at home here */
    uint8_t quick;    /* enum bt_quick_op */
    uint8_t len, reg; /* quick: of the instruction, its first operand */
    uint8_t arg;      /* of a string instruction: quick_str.h */
    bool window;      /* a check for several accesses */
    bool stack;       /* ... by the stack page */
    bool link;        /* LINK */
};

/* Callouts that the quick gate may serve. */
enum bt_quick_op {
    BT_Q_NONE,
    BT_Q_POPF,
    BT_Q_SYSCALL,
    BT_Q_SYSRET,
    BT_Q_IRET,
    BT_Q_WRFSBASE,
    BT_Q_WRGSBASE,
    BT_Q_CR3
};

/* One translated block. Key: host address of its first byte, va, mode. What a
 * look-up reads lies in one cache line. */
struct bt_block {
    ALIGNED(64) const uint8_t *src;
    uint64_t va;
    uint32_t mode;
    uint32_t code;       /* offset of its entry for links */
    uint32_t indirect;   /* ... for indirect jumps, target in R11 */
    uint32_t hash_next;  /* index + 1 */
    const uint8_t *tail; /* the next page, where its one instruction ends */
    bool valid;
    bool adcx;    /* how its indirect entry compares */
    uint16_t len; /* guest bytes */
    uint16_t ninsns;
    uint32_t code_end;
    uint32_t cold, cold_end;
    uint32_t cell;      /* BT_CELL_HERE, or minus va; spoilt by a drop */
    uint32_t in;        /* links into it: site; 0: none */
    uint32_t page_next; /* index + 1: blocks of the same spot */
    uint32_t tail_next; /* index + 1: of those that end in the same one */
    uint32_t page;      /* index of struct bt_page */
    uint32_t spot;      /* ... of struct bt_spot */
    uint32_t tail_page; /* index + 1 */
    uint32_t map;       /* first of its struct bt_map */
    uint32_t nmap;
    uint32_t sites, relocs; /* the first ones */
    uint16_t nsites, ncells;
    uint16_t nrelocs;
    bool moves; /* it may be copied for another address: copy.c */
};

/* What of a region's code depends on its guest address, or on where it lies:
 * kind << 16 | code offset from the beginning of its hot or cold part | number
 * of a site, counted from the region's first, << 24. */
typedef uint32_t bt_reloc_t;
enum bt_reloc_kind {
    BT_R_VA,       /* imm64: a guest address */
    BT_R_VA32,     /* imm32: the low half of one */
    BT_R_MINUS,    /* imm64: minus a guest address */
    BT_R_EXIT,     /* imm64: a target; disp32 of its branch cache's entry */
    BT_R_ZONE,     /* disp32 of the entry of the zone that it lies in */
    BT_R_FIXED,    /* rel32: to what stays where it is */
    BT_R_CELL,     /* rel32: to a cell of the region */
    BT_R_CROSS,    /* rel32: to the other part */
    BT_R_SITE,     /* imm32: a site's number */
    BT_R_JUMP,     /* rel32 of a jump in the page: by the site's cell, or not */
    BT_R_COLD = 16 /* it lies in the cold part */
};
/* A region that has more does not move. */
#define BT_RELOCS 1024U

/* Host code of one guest instruction: for faults in translated code. */
struct bt_map {
    uint32_t host;  /* code offset where it begins */
    uint16_t off;   /* guest bytes from the block's start */
    uint8_t s1, s2; /* guest registers whose value is at home */
    uint8_t tmp;    /* register kept in SLOT_TMP; 0xff: none */
    uint8_t x[2];   /* others whose value is at home; 0xff: none */
};

/* A guest page that blocks were made from. */
struct bt_page {
    uint64_t gpa;
    uint8_t *host;
    uint32_t spots;     /* index + 1 */
    uint32_t tails;     /* block index + 1: blocks that only end here */
    uint32_t hash_next; /* index + 1 */
    uint64_t granules;  /* 64-byte pieces that blocks cover */
    uint32_t misses;    /* writes beside the blocks since the last hit */
    bool marked;
};

/* A page at one guest address: its blocks jump to each other, and are dropped
 * together. */
struct bt_spot {
    uint64_t va;
    uint32_t page;       /* index */
    uint32_t first;      /* block index + 1 */
    uint32_t hash_next;  /* index + 1 */
    uint32_t next, prev; /* index + 1: of the same page */
};

#define BT_BLOCKS_MAX 524288U
#define BT_SPOTS_MAX  BT_BLOCKS_MAX /* none is without a block */
#define BT_PAGES_MAX  65536U
#define BT_SITES_MAX  4194304U
#define BT_MAPS_MAX   4194304U
#define BT_RELOCS_MAX 16777216U
#define BT_HASH_BITS  19
#define BT_TWIN_BITS  19
#define BT_PHASH_BITS 14
#define BT_SHASH_BITS 16
#define BT_INVAL_MAX  64
#define BT_CELLS_MAX  4194304U
/* The first cells are numbers for ADCX. */
#define BT_CELL_MINUS1 0U
#define BT_CELL_ONE    1U
#define BT_CELL_FIRST  2U
/* What ADCX adds at an indirect entry; ... that always carries */
#define BT_CELL_HERE   (-UINT64_C(3))
#define BT_CELL_SPOILT (-UINT64_C(1))
#define BT_THUNK       0U  /* code offset: an indirect jump that missed */
#define BT_THUNK_CF    32U /* ... and CF is in bit 0 of R10 */
/* ... a window's check by the stack's page failed; reads, writes */
#define BT_STK_THUNK(k, w) (64U + 192U * (2U * (k) + (w)))
#define BT_CODE_BEGIN      BT_STK_THUNK(3, 0)

struct bt;

/* Which entries of a table were filled since it was empty, to empty it again.
 */
#define BT_LOG_MAX 2048U
struct bt_log {
    uint32_t n; /* more than BT_LOG_MAX: any */
    uint32_t at[BT_LOG_MAX];
};

static inline void bt_log_add(struct bt_log *log, unsigned i)
{
    if (log->n < BT_LOG_MAX)
        log->at[log->n] = i;
    if (log->n <= BT_LOG_MAX)
        log->n++;
}

/* The stack's page: keys and host minus guest address. */
struct bt_stk {
    uint64_t r, w, delta;
};
/* A key that only a page has whose accesses fault on the host, too. */
#define BT_STK_NONE BIT(63)

/* The last IRET to user code, for sys.S: layout.h. */
struct bt_iret {
    uint32_t sel;
    uint64_t cs_at, ss_off, cs_raw, ss_raw;
    struct x86_seg cs, ss;
    struct x86_dtr gdt; /* C only: where that was */
};

struct bt_check_stats {
#define STAT(name, help) uint64_t name;
#include "engine/bt/check.def"
#undef STAT
};

/* The cache is emptied by segments, the oldest first: those of what was
 * translated and those of copies go round by themselves. In each, the numbers
 * that are free next: of bytes of code and of records. */
#define BT_SEGS       16
#define BT_COPY_SEGS  3  /* the last ones */
#define BT_COPY_BATCH 32 /* blocks that are copied at once, at most */
struct bt_seg {
    uint32_t code_at, cold_at, ncells, nblocks, nsites, nmaps, nrelocs;
    size_t ops_at;
    uint32_t nfar[2]; /* slots: the user's, the kernel's */
    uint32_t evicted; /* blocks that were dropped, from the first on */
    uint64_t epoch;   /* when the last was; 0: it was not used before */
};

/* A target of direct jumps from other pages, whose slot is its index: far.c */
#define BT_FAR_SEG  (BT_FAR_N / BT_SEGS)
#define BT_FAR_BITS 16
struct bt_far {
    uint64_t va;
    uint32_t mode;
    uint32_t next, page_next; /* index + 1 */
    bool filled;              /* some vCPU's slot may lead to a block */
};

/* All vCPUs' blocks. What is found without the lock (hash, blocks, sites, maps,
 * decoded instructions) stays as it was published until each vCPU has been in
 * C, holding nothing, since it was dropped (epoch). */
struct bt_cache {
    pthread_mutex_t lock;     /* whoever makes or drops; bt_cache_lock */
    _Atomic uint32_t linking; /* links between blocks, sites' decoded
                                 instructions: a spin lock, held for no wait */
    _Atomic uint64_t epoch;   /* times that a segment was emptied */
    _Atomic uint64_t drops;   /* times that blocks were dropped */
    struct bt_seg seg[BT_SEGS];
    unsigned at[2];      /* segments that are filled: now, and of copies */
    unsigned cur;        /* the one of them in use */
    uint32_t seg_blocks; /* BT_SEG_BLOCKS; tests: fewer */
    struct bt_block *blocks;
    struct bt_page *pages;
    struct bt_spot *spots;
    struct bt_site *sites;
    struct bt_map *maps;
    bt_reloc_t *relocs;
    uint32_t *hash;  /* block index + 1 */
    uint32_t *twins; /* the same: ones that move; copy.c */
    uint32_t *phash; /* page index + 1 */
    uint32_t *shash; /* spot index + 1 */
    struct bt_fars {
        struct bt_far *e;
        uint32_t *hash, *pages; /* index + 1 */
    } far[2];                   /* the user's, the kernel's; under linking */
    uint8_t *ops;               /* decoded instructions for callouts */
    uint32_t npages;
    uint32_t free_page; /* index + 1: pages without blocks */
    uint32_t nspots, free_spot;
    bool tsc_inline; /* how RDTSC was translated */
    /* writes to code pages; part->queue */
    _Atomic uint64_t inval_posted, inval_done;
    uint32_t inval_n;
    struct {
        uint64_t gpa;
        uint32_t len;
    } inval[BT_INVAL_MAX];
};

/* What init made: the code memory of all vCPUs. */
struct engine_part {
    int fd;
    uint8_t *rx, *rw; /* slice bytes; rx: followed by the cells */
    size_t slice;
    unsigned ncpus;
    struct bt_cache cache;
    pthread_mutex_t queue; /* bt[], inval queue; held for no wait */
    struct vm *vm;
    struct bt *bt[X86_CPUS_MAX];
    struct bt_look *look; /* NULL: nobody looks */
    uint8_t *views;       /* every vCPU's struct bt, PCID_SLOTS times each */
    struct zones *zones;  /* NULL: none */
    enum engine_zones zones_how;
    bool check;     /* lock-step */
    bool adx;       /* the host has ADCX */
    bool fsrm;      /* ... starts short REP MOVSB fast */
    bool fsrs;      /* ... and REP STOSB */
    bool flags_all; /* tests: every flag counts as read, everywhere */
    _Atomic uint32_t turn_next, turn_now; /* ... one vCPU at a time */
    struct bt_check_stats checked;        /* by vCPUs that are gone */
};

struct bt_stats {
#define STAT(name, help) uint64_t name;
#include "engine/bt/stats.def"
#undef STAT
};

_Static_assert(BT_G_LEAVE == 4, "stats.def lists the gates");

/* Count a gate; @first: the counter of BT_G_CALLOUT. */
static inline void bt_count(uint64_t *first, uint32_t reason)
{
    if (reason <= BT_G_LEAVE)
        first[reason]++;
}

struct bt {
    /* reached through GS: layout.h */
    uint64_t self;
    struct x86_cpu *cpu;
    uint64_t host_rsp, jt, rip;
    uint32_t site, reason;
    uint64_t va;
    _Atomic uint64_t req;
    uint64_t fsbase, gsbase, tlbmask, himask, tscoff, lflags;
    uint64_t lgpr[16];
    uint64_t slot[8];
    uint64_t gate[8];
    void *xsave;
    uint32_t vec; /* vector state: in the host's registers */
    _Atomic uint64_t ibmask[3];
    uint64_t unused2;
    uint64_t home[16];
    uint64_t win[BT_WINDOWS];
    struct bt_stk stk_sup[2];
    uint8_t pad[0x300 - 0x2d0];
    uint64_t ifl, acl, kgsbase;
    uint32_t irqw, x87;
    uint64_t flpext, flpdep, dfl;
    uint8_t pad3[0x380 - 0x338];
    uint64_t seghost[2];
    uint32_t mode;        /* of the code that runs */
    uint32_t zone_late_n; /* user pages to be dropped before user code runs */
    uint32_t zoned[2];    /* BT_MODE_ZONE or 0: user's, supervisor's code */
    uint32_t pf_known;    /* pf_*: of a #PF in user code */
    uint32_t sys_kind;
    uint64_t sys_tlb, sys_ib;
    struct bt_iret iret;
    union {
        uint8_t pad4[0x800 - 0x420];
        struct { /* C's, near what it uses with them */
            /* the mapping whose pages of a user address space are in use: */
            struct bt *view; /* view.c */
            unsigned at; /* its number: the interpreter's slot of the PCID */
            bool check;  /* lock-step: units are blocks, nothing is linked */
            bool pf_write;
            uint64_t pf_rip, pf_va; /* the last #PF by the quick gate */
            uint64_t flushed;       /* times that TLB entries were dropped */
            struct interp *in;
            struct engine_part *part;
            /* the code cache: addresses, the same for all vCPUs */
            struct bt_cache *cache;
            uint8_t *rx;
            uint64_t *cells; /* behind rx; what code reads or jumps through */
            struct bt_block *blocks;
            struct bt_site *sites;
            uint32_t *hash;
            struct bt_stats st;
        };
    };
    uint64_t zone_sup[256];
    struct bt_stk stk_user;
    uint64_t here; /* this mapping's own address */
    uint8_t pad2[0x800 - 32];
    uint64_t zone_user[256];
    struct {
        uint64_t r[BT_TLB_N], w[BT_TLB_N], delta[BT_TLB_N];
    } tlb[3];
    uint64_t ib_user[BT_IB_USER_N];
    uint64_t ib_sup[2][BT_IB_N];
    uint64_t far_user[BT_FAR_N];
    uint64_t far_sup[BT_FAR_N];
    /* C only */
    struct bt_log ib_log[2], upper_log[3], far_log; /* of what views share */
    _Atomic uint8_t view_used[PCID_SLOTS];          /* by far_user[] of it */
    struct bt_view {
        uint64_t gen; /* the interpreter's generation that it holds */
        struct bt_log log[3], ib_log, far_log;
        uint64_t root;  /* CR3's page */
        uint32_t zoned; /* BT_MODE_ZONE or 0 */
        uint64_t hot;   /* host TSC that it ran for */
        uint32_t rest;  /* ticks */
        int32_t credit; /* faults that it may still have */
    } views[PCID_SLOTS];
    uint8_t bounce[128] ALIGNED(64); /* a read that lies on two pages */
    struct x86_lin_ops lin;
    bool tsc_inline;   /* RDTSC is the host's plus tscoff */
    uint64_t tsc_base; /* guest TSC without the vCPU's offset: host's - this */
    uint64_t gen;      /* interp's generation of the upper half in tlb[] */
    /* the code cache: addresses, the same for all vCPUs */
    uint8_t *rw;
    struct bt_page *pages;
    struct bt_map *maps;
    bt_reloc_t *relocs;
    uint32_t code_bytes;
    /* where the block that is being translated goes; under the lock */
    uint32_t code_at, cold_at, ncells, nsites, nmaps, nrelocs;
    uint64_t zone_late[BT_ZONE_LATE];
    void *zone_whole;     /* 2 MiB that had better be one page of the host's */
    uint32_t zone_failed; /* block + 1 whose zone faulted for good */
    uint32_t zone_row;    /* zone faults while a request stood */
    bool zone_lost;       /* ... being one that is not in use */
    uint64_t ticked;      /* host TSC: bt_zones_tick */
    bool dropped;         /* blocks were dropped since the flag was cleared */
    uint64_t drops;       /* cache->drops that this vCPU knows of */
    _Atomic uint64_t epoch; /* cache->epoch that it has seen, holding nothing */
    _Atomic uint32_t idle;  /* it holds no block nor site, and will look */
    struct bt_site fault;   /* site 0: the fault handler's */
    pthread_t thread;       /* that is in bt_run, when in_run */
    _Atomic uint32_t in_run;
    bool altstack;
    uint64_t callouts[X86_OP_COUNT];
    bool cells_only;      /* tests: each direct jump goes through a cell */
    struct bt_check *chk; /* then; check.h */
};

/* Bits of the mode word, beside the TLB kind in bits 1-0. */
#define BT_MODE_KIND  3U
#define BT_MODE_CPL3  4U
#define BT_MODE_SSE   8U
#define BT_MODE_AVX   16U
#define BT_MODE_X87   32U
#define BT_MODE_TSD   128U
#define BT_MODE_FSGS  256U        /* CR4.FSGSBASE */
#define BT_MODE_SMAP  512U        /* CR4.SMAP */
#define BT_MODE_NOWIN 64U         /* each access is checked by itself */
#define BT_MODE_ZONE  1024U       /* memory by zones; with SUPAC: some */
#define BT_MODE_NONE  0xffffffffU /* not translated: interpret */

/* What each segment has of all. */
#define BT_SEG_BLOCKS (BT_BLOCKS_MAX / BT_SEGS)
#define BT_SEG_SITES  (BT_SITES_MAX / BT_SEGS)
#define BT_SEG_MAPS   (BT_MAPS_MAX / BT_SEGS)
#define BT_SEG_RELOCS (BT_RELOCS_MAX / BT_SEGS)
#define BT_SEG_CELLS  (BT_CELLS_MAX / BT_SEGS)
#define BT_SEG_OPS    (UINT64_C(8) << 20)

static inline bool bt_inval_waits(struct bt *bt)
{
    struct bt_cache *c = bt->cache;

    return atomic_load_explicit(&c->inval_posted, memory_order_acquire) !=
           atomic_load_explicit(&c->inval_done, memory_order_acquire);
}

static inline bool bt_block_valid(const struct bt_block *b)
{
    return __atomic_load_n(&b->valid, __ATOMIC_RELAXED);
}

static inline bool bt_links_try(struct bt_cache *c)
{
    return !atomic_exchange_explicit(&c->linking, 1, memory_order_acquire);
}

static inline void bt_links_done(struct bt_cache *c)
{
    atomic_store_explicit(&c->linking, 0, memory_order_release);
}

static inline struct bt *bt_of(struct engine_vcpu *v)
{
    return (struct bt *)(void *)v;
}

/* ---- view.c ---- */

/** bt_views_make() - memory for the struct bt of part->ncpus vCPUs
 * Return: 0 or -errno. */
int bt_views_make(struct engine_part *part);
/** bt_view_of() - vCPU @cpu's struct bt as view @view sees it; 0: as C does */
struct bt *bt_view_of(struct engine_part *part, unsigned cpu, unsigned view);

/* ---- gate.S ---- */

/** bt_enter() - run translated code until C asks to leave */
void bt_enter(struct bt *bt, const void *code);
extern const uint64_t bt_gate_table[8];
void bt_fault_gate(void);

/* ---- quick_sys.c ---- */

/** bt_kind_take() - C's idea of the kind of access is that of the code that
 * runs */
void bt_kind_take(struct bt *bt);

/** bt_sys_in(), bt_sys_out() - C takes over state that translated code holds
 * beside struct x86_cpu (IF, AC, DF, the GS bases, the kind of access); gives
 * it back. RFLAGS in between are without IF, AC, DF and the arithmetic flags.
 */
void bt_sys_in(struct bt *bt);
void bt_sys_out(struct bt *bt);

/* ---- run.c ---- */

uint32_t bt_mode_now(const struct bt *bt);
/** bt_fault_first() - whether nothing else comes before a #PF of @o's access:
 * operands of vector instructions must be aligned, x87 exceptions may be
 * pending */
bool bt_fault_first(const struct op *o);
/** bt_dispatch() - called by the full gate, state in cpu
 * Return: host address to go on at, or NULL: leave. */
const void *bt_dispatch(struct bt *bt);
void bt_run(struct engine_vcpu *v, uint64_t max_insns, struct exit_rec *exit);

/** bt_vec_save() - the guest's vector registers into cpu->xsave, before
 * anything that may use the host's */
void bt_vec_save(struct bt *bt);

/* ---- cache.c ---- */

/** bt_take() - @n bytes of zeros, backed when they are used
 * Return: NULL: no memory. */
void *bt_take(size_t n);
int bt_cache_make(struct engine_part *part, struct err *e);
/** bt_cache_reset() - empty, for a new VM; no vCPU is there yet */
void bt_cache_reset(struct engine_part *part);
/** bt_cache_join() - @bt, just made, uses its part's cache */
void bt_cache_join(struct bt *bt);
/** bt_cache_flush() - drop every block */
void bt_cache_flush(struct bt *bt);
/** bt_cache_lock() - out of guest code while it waits; no block, site or
 * decoded instruction that was found before may be used after it
 * Return: for bt_cache_unlock. */
bool bt_cache_lock(struct bt *bt);
void bt_cache_unlock(struct bt *bt, bool left);
/** bt_cache_ends() - what is made goes to where segment @s ends */
void bt_cache_ends(struct bt *bt, const struct bt_seg *s);
/** bt_cache_full() - whether segment @i has no room for a block */
bool bt_cache_full(const struct engine_part *part, unsigned i);
/** bt_cache_room() - room for a block, a copy if @copies; under the lock, which
 * is given away while we wait (*left as bt_cache_lock's)
 * Return: false: the vCPU is wanted elsewhere. */
bool bt_cache_room(struct bt *bt, bool copies, bool *left);
/** bt_cache_look() - the vCPU holds nothing: take note of what was dropped */
void bt_cache_look(struct bt *bt);
struct bt_block *bt_block_find(struct bt *bt, const uint8_t *src, uint64_t va,
                               uint32_t mode);
struct bt_block *bt_block_of_code(struct bt *bt, uint32_t off);

/* ---- make.c ---- */

/** bt_block_at() - the block of guest address @va now, made if need be
 * Return: NULL with *fault: cpu->exc is set; without: interpret it. */
struct bt_block *bt_block_at(struct bt *bt, uint64_t va, bool *fault);
/** bt_straddles() - whether the instruction at @p, address @va, goes on in the
 * next page */
bool bt_straddles(const uint8_t *p, uint64_t va);
/** bt_site_op() - the site's decoded instruction, made when first asked for
 * Return: NULL: none. */
const struct op *bt_site_op(struct bt *bt, struct bt_site *s);

/* ---- far.c ---- */

/** bt_far_make() - room for @c's targets; bt_far_reset: none is known
 * Return: whether there is memory. */
bool bt_far_make(struct bt_cache *c);
void bt_far_reset(struct bt_cache *c);
/** bt_far_at() - layout offset of what code that is being made jumps by to
 * @va, whose code is of @mode; under the cache's lock
 * Return: a slot's; where none is left an entry's of the branch cache. */
unsigned bt_far_at(struct bt *bt, uint64_t va, uint32_t mode);
/** bt_far_put() - the slots for @b's address lead there
 * Return: whether there is one that did not. */
bool bt_far_put(struct bt *bt, const struct bt_block *b);
/** bt_far_flush_view(), bt_far_flush_sup() - empty a view's user slots, the
 * kernel's */
void bt_far_flush_view(struct bt *bt, unsigned i);
void bt_far_flush_sup(struct bt *bt);
/** bt_far_drop() - the TLB holds @va's page of BIT(@shift) no longer */
void bt_far_drop(struct bt *bt, uint64_t va, unsigned shift);
/** bt_far_gone() - @b is dropped: for all vCPUs; under the links' lock */
void bt_far_gone(struct bt *bt, const struct bt_block *b);
/** bt_far_close() - take back the slots of a segment without blocks; under the
 * cache's lock */
void bt_far_close(struct bt *bt, unsigned seg);

/* ---- pages.c: under the cache's lock, but for the last three ---- */

/** bt_page_get() - the record of a page that blocks are made from, its stores
 * told from now on. Nothing may be dropped until it has blocks.
 * Return: NULL: no room. */
struct bt_page *bt_page_get(struct bt *bt, uint64_t gpa, uint8_t *host);
/** bt_page_add() - note @b, whose page is set, as one of its blocks */
void bt_page_add(struct bt *bt, struct bt_block *b);
/** bt_page_drop() - drop all blocks of a page */
void bt_page_drop(struct bt *bt, struct bt_page *p);
/** bt_spot_drop() - drop @b and all others of its page and address */
void bt_spot_drop(struct bt *bt, const struct bt_block *b);
/** bt_block_again() - drop the page of block @i; not under the lock */
void bt_block_again(struct bt *bt, uint32_t i);
/** bt_inval_take() - drop what was written to; not under the lock */
void bt_inval_take(struct bt *bt);
void bt_listen(void *ctx, gpa_t gpa, size_t len, uint32_t word);
void bt_revoke(void *ctx, gpa_t gpa, bool all);

/* ---- copy.c: under the cache's lock ---- */

/** bt_moves() - whether a region of @va and @mode may be copied at all */
bool bt_moves(uint64_t va, uint32_t mode);
/** bt_twin_put() - @b, just made, may be copied from now on */
void bt_twin_put(struct bt *bt, const struct bt_block *b);
/** bt_twin() - a region of the same bytes that can be copied for @va
 * Return: NULL: none. */
const struct bt_block *bt_twin(struct bt *bt, const uint8_t *src, uint64_t va,
                               uint32_t mode);
/** bt_copy() - fill @b with what @from is at its address */
void bt_copy(struct bt *bt, struct bt_block *b, const struct bt_block *from);

/* ---- front.c, rewrite*.c ---- */

/* A copy of a guest page, made by pieces of 64 bytes as they are looked at, and
 * a few bytes of the next one. */
struct bt_text {
    const uint8_t *host; /* the page; not used when all is there */
    uint64_t have;       /* pieces */
    uint8_t b[4096 + X86_INSN_MAX_BYTES];
};

/** bt_text_need() - have an instruction's bytes from @at on in the copy */
void bt_text_need(struct bt_text *text, unsigned at);
/** bt_translate() - fill @b (src, va, mode are set) from @text
 * @n: bytes from b->va on that may be used. Return: false: cache full or
 * nothing to translate there (the first instruction straddles). */
bool bt_translate(struct bt *bt, struct bt_block *b, struct bt_text *text,
                  unsigned n);
/** bt_host_ok() - whether this host has what translated code needs */
bool bt_host_ok(char *why, size_t n);

/* ---- tlb.c ---- */

void bt_tlb_init(struct bt *bt);
void bt_tlb_sync(struct bt *bt);
void bt_tlb_flush(struct bt *bt);
/** bt_tlb_fill() - from the interpreter's TLB; whether an access may hit now */
bool bt_tlb_fill(struct bt *bt, enum tlb_kind kind, uint64_t va, bool write);
/** bt_stk_fill() - the stack's page is that of @va, whose entry was just filled
 */
void bt_stk_fill(struct bt *bt, enum tlb_kind kind, uint64_t va);
void bt_ib_put(struct bt *bt, unsigned k, uint64_t va, const void *code);
void bt_ib_flush(struct bt *bt, unsigned k);
void bt_ib_flush_view(struct bt *bt, unsigned i);
/* Bits 3 and up select: functions begin at multiples of 16; and bit 0, so that
 * an entry's addresses differ by 2 at least (branch.c). A page's entries lie
 * next to each other. Entry 0 is for requests: the masks are 0 then. */
static inline unsigned bt_ib_n(unsigned k)
{
    return k == TLB_USER ? BT_IB_USER_N : BT_IB_N;
}
static inline unsigned bt_ib_index(unsigned k, uint64_t va)
{
    return (unsigned)((va >> 2 & ~UINT64_C(1)) | (va & 1)) & (bt_ib_n(k) - 1);
}
static inline uint64_t bt_ib_mask(unsigned k)
{
    return (bt_ib_n(k) / 2 - UINT64_C(1)) << 3 | 1;
}
static inline uint64_t *bt_ib(struct bt *bt, unsigned k)
{
    return k == TLB_USER ? bt->view->ib_user : bt->ib_sup[k - 1];
}
/* A request: loops see req, indirect jumps fall into entry 0. */
static inline void bt_post(struct bt *bt)
{
    atomic_store(&bt->req, BT_REQ_SET);
    for (unsigned k = 0; k < 3; k++)
        atomic_store(&bt->ibmask[k], 0);
}
static inline bool bt_ib_shut(const struct bt *bt)
{
    return !bt->ibmask[0] || !bt->ibmask[1] || !bt->ibmask[2];
}
static inline void bt_ib_open(struct bt *bt)
{
    for (unsigned k = 0; k < 3; k++)
        atomic_store(&bt->ibmask[k], bt_ib_mask(k));
}
static inline void bt_unpost(struct bt *bt)
{
    atomic_store(&bt->req, 0);
    bt_ib_open(bt);
}
static inline struct bt_stk *bt_stk(struct bt *bt, unsigned k)
{
    return k == TLB_USER ? &bt->view->stk_user : &bt->stk_sup[k - 1];
}

/* Blocks of one page lie near each other, in 256 buckets; one page's code at
 * many addresses shall not meet in one bucket. */
static inline unsigned bt_hash(const uint8_t *src, uint64_t va)
{
    uint64_t key = (uint64_t)(uintptr_t)src >> 12 ^ (va >> 12) << 20;

    key = key * UINT64_C(0x9e3779b97f4a7c15) >> (64 - BT_HASH_BITS);
    return (unsigned)(key + (va >> 4 & 255)) & ((1U << BT_HASH_BITS) - 1);
}

/* Bits 12-23, 45 and 63: bit 45 tells the kernel's text and data from its
 * direct map, and libraries from a program's own heap. */
static inline unsigned bt_tlb_index(uint64_t va)
{
    return (unsigned)((va >> 12 & (BT_TLB_N / 4 - 1)) |
                      (va >> 45 & 1) * (BT_TLB_N / 4) |
                      (va >> 63) * (BT_TLB_N / 2));
}

/* ---- signal.c ---- */

int bt_signal_init(void);
/** bt_signal_thread() - an alternate stack for this thread, once */
void bt_signal_thread(struct bt *bt);

#endif
