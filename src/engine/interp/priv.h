// SPDX-License-Identifier: Apache-2.0
/*
 * The interpreter's own structures: one vCPU's private part, its TLB, its
 * decoded blocks, and what an instruction's handler gets and returns.
 * Private to src/engine/interp. Thread: the vCPU's, unless said.
 */
#ifndef DOPPEL_ENGINE_INTERP_PRIV_H
#define DOPPEL_ENGINE_INTERP_PRIV_H

#include "base/cc.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/state.h"
#include "engine/interp/interp.h"
#include "vm/mem.h"

struct interp;
struct op;

/* What a handler returns. */
#define OP_NEXT  0         /* done; the next op follows */
#define OP_FAULT X86_FAULT /* cpu->exc is set, nothing changed */
#define OP_STOP  1 /* done; leave the block after it (code may have changed) */
#define OP_JUMP  2 /* done; cpu->rip is set */
#define OP_AGAIN 3 /* a repeated string instruction was interrupted */

typedef int (*op_fn)(struct interp *in, const struct op *o);

/* How the memory operand's address is made. */
enum op_ea {
    EA_GEN,   /* any mode: segment, address size, limits */
    EA_BASE,  /* 64-bit mode: base + disp */
    EA_INDEX, /* 64-bit mode: base + index << scale + disp */
    EA_RIP    /* 64-bit mode: rip + len + disp */
};

#define REG_HIGH 0x10 /* in a register number of size 1: AH CH DH BH */

/* One decoded instruction, 40 bytes. */
struct op {
    op_fn fn;
    const struct x86_insn *insn; /* the full decode; lives in the arena */
    uint64_t imm;
    int32_t disp;
    uint8_t len;
    uint8_t size; /* operand size in bytes */
    uint8_t reg;  /* ModRM.reg's register, or the only one; REG_HIGH */
    uint8_t rm;   /* ModRM.rm's register; REG_HIGH */
    uint8_t base; /* X86_REG_NONE, X86_REG_RIP possible with EA_GEN */
    uint8_t index;
    uint8_t scale;
    uint8_t seg;
    uint8_t ea;     /* enum op_ea */
    uint8_t adsize; /* 2 4 8 */
    uint8_t cc;     /* condition of Jcc SETcc CMOVcc */
    uint8_t ssize;  /* size of the source of MOVZX, MOVSX */
};

/* ---- decoded blocks ---- */

#define BLOCK_OPS_MAX   32
#define BLOCK_BYTES_MAX 64

struct block;

/* A successor: valid if rip and the vCPU's translation tag are the same. */
struct block_link {
    uint64_t rip;
    uint64_t xtag;
    struct block *to;
};

/* Instructions from consecutive bytes of one page (or one instruction that
 * straddles two). The bytes are compared on entry. */
struct block {
    const uint8_t *src;  /* host address of the first byte: the key */
    const uint8_t *src2; /* second page's first byte, if it straddles */
    struct block *next;  /* hash chain */
    struct op *ops;
    uint8_t mode; /* enum x86_mode */
    uint8_t nops;
    uint8_t nbytes;
    uint8_t nbytes1; /* bytes in the first page */
    struct block_link link[2];
    unsigned victim; /* which link is replaced next */
    uint8_t bytes[BLOCK_BYTES_MAX] ALIGNED(8);
};

#define BLOCK_HASH_BITS 15
#define JUMP_BITS       10

/* ---- TLB ---- */

#define TLB_BITS    11
#define TLB_ENTRIES (1U << TLB_BITS)

/* Tags: page address | generation; 0 never matches. */
struct tlb_ent {
    uint64_t r, w, x;
    uint8_t *host; /* the page */
};

/* One table per kind of access. */
enum tlb_kind {
    TLB_USER,
    TLB_SUP,   /* SMAP enforced, and implicit accesses */
    TLB_SUPAC, /* SMAP lifted (AC set, or CR4.SMAP clear) */
    TLB_NONE,  /* always empty: each access takes the slow path */
    TLB_KINDS
};

/* The lower half of the address space has a generation per PCID, so that
 * switching back without a flush finds its entries; the upper half has one for
 * its global entries. Non-global entries of the upper half share that one and
 * are dropped by the next CR3 load; global ones of the lower half are treated
 * as non-global. Both flush more than they must, which is allowed (SDM vol. 3A
 * 4.10.2.2). */
#define PCID_SLOTS 8
#define TLB_LOCALS 32

/* Filters over what a generation holds: bits by address, may say yes wrongly.
 */
#define TLB_SEEN_OF(lin) ((unsigned)((lin) >> 22) & 255) /* bit of large[] */
struct tlb_seen {
    uint64_t large[4]; /* pages of 2 and 4 MiB */
    uint64_t huge[4];  /* of 1 GiB */
    uint64_t code[64]; /* pages that code was fetched from */
    bool global;       /* lower half: INVLPG of any PCID concerns it */
};

struct pcid_slot {
    uint16_t pcid;
    bool valid;
    uint64_t gen;   /* 12 bits, for tags */
    uint64_t epoch; /* never reused, for block links */
    struct tlb_seen seen;
};

struct interp {
    struct x86_cpu *cpu;
    /* current translation; all follow from cpu by interp_mode_update() */
    struct tlb_ent *tlb;
    uint64_t gen[2];    /* by address bit 63 */
    uint64_t xtag[2];   /* for block links: epoch and mode */
    uint8_t *code_page; /* host page of the running block */
    bool mode64;
    uint8_t mode; /* enum x86_mode */
    bool slow;    /* DR7 armed: single-step through the slow loop */
    bool check;   /* call x86_boundary before the next block */
    enum tlb_kind kind;
    /* asked by other threads */
    _Atomic uint32_t attn;    /* TLB write rights must go */
    _Atomic uint32_t running; /* inside guest code */
    /* limits, as cpu->icount */
    uint64_t stop_at;    /* the nearer of the two below */
    uint64_t budget_at;  /* UINT64_MAX: none */
    uint64_t clock_at;   /* virtual clock: when the next timer is due */
    uint64_t clock_done; /* icount up to which guest time was advanced */
    bool vclock;
    /* TLB */
    struct tlb_ent *tables; /* TLB_KINDS * TLB_ENTRIES */
    struct tlb_writers *writers;
    uint64_t gen_last, epoch_last;
    uint64_t epoch[2];
    uint64_t local[TLB_LOCALS]; /* pieces of the upper half, not global */
    unsigned nlocal;            /* TLB_LOCALS + 1: more than fit */
    bool locals_go; /* these are being dropped for another address space */
    struct tlb_seen upper_seen;
    uint64_t cs_base; /* outside 64-bit mode: what links were made under */
    uint32_t cs_limit;
    struct pcid_slot pcid[PCID_SLOTS];
    unsigned pcid_cur, pcid_victim;
    /* decoded code */
    struct block **hash;
    struct block_link *jump;
    uint8_t *arena;
    size_t arena_used, arena_bytes;
    struct block *one; /* block_get_one's place */
    uint64_t rng;      /* virtual clock's RDRAND */
    bool host_rdrand;
    /* An engine that runs code twice: what is not RAM faults (cpu->exc is not
     * filled) and is noted. */
    bool closed, closed_hit;
    bool lin_stop;  /* cpu->lin wrote the running block's page */
    uint64_t wraps; /* times that generations began anew */
    void *outer;    /* the engine whose slow path this is, or NULL */
    void (*leaving)(void *outer); /* before callbacks; may be NULL */
    /* a page of 2^@shift bytes around @lin is held no longer; @code: code may
     * have been fetched from it; may be NULL */
    void (*dropped)(void *outer, uint64_t lin, unsigned shift, bool code);
    /* whether it holds anything that large_maybe takes for @lin's; may be NULL
     */
    bool (*holds)(void *outer, uint64_t lin);
    /* write rights at @lin, under that PCID's slot, are gone; may be NULL */
    void (*unwrite)(void *outer, uint64_t lin, unsigned slot,
                    const uint8_t *host);
    struct interp_stats st;
};

static inline struct interp *interp_of(struct engine_vcpu *v)
{
    return (struct interp *)(void *)v;
}

/* ---- tlb.c ---- */

/* Where one page's access goes. */
struct xlat {
    uint8_t *host; /* of the byte; NULL: not RAM */
    gpa_t gpa;
    bool direct; /* a store may go to host without mem_write */
};

/** tlb_xlat() - translate @lin (checked canonical); fills the TLB
 * @flags: X86_LIN_*. Return: 0 or X86_FAULT. */
int tlb_xlat(struct interp *in, uint64_t lin, unsigned flags, struct xlat *x);
/** tlb_kind_of() - the table whose rights an access of @flags has */
enum tlb_kind tlb_kind_of(const struct interp *in, unsigned flags);
/** tlb_ahead() - fill the TLB for an access that may come, as speculation may:
 * of pages whose entries need no change. @lin is canonical, paging is on.
 * Return: whether it did. */
bool tlb_ahead(struct interp *in, uint64_t lin, unsigned flags);
int tlb_init(struct interp *in);
void tlb_fini(struct interp *in);
void tlb_flush_all(struct interp *in);
void tlb_flush_page(struct interp *in, uint64_t lin);

static inline struct tlb_seen *tlb_seen_of(struct interp *in, uint64_t lin)
{
    return lin >> 63 ? &in->upper_seen : &in->pcid[in->pcid_cur].seen;
}

/** tlb_index_in() - where the tables hold @lin of that PCID's slot (any slot
 * for the upper half): PCIDs that map the same addresses lie apart, and so do
 * the kernel's views of one page */
static ALWAYS_INLINE unsigned tlb_index_in(unsigned slot, uint64_t lin)
{
    return (unsigned)(lin >> 12 ^ lin >> 22 ^ (lin >> 63 ? 0 : slot * 0x25bU)) &
           (TLB_ENTRIES - 1);
}

/** tlb_index() - the same for the current PCID */
static ALWAYS_INLINE unsigned tlb_index(const struct interp *in, uint64_t lin)
{
    return tlb_index_in(in->pcid_cur, lin);
}

/** tlb_ent_of() - the entry that would hold @lin for accesses of @kind */
static ALWAYS_INLINE struct tlb_ent *tlb_ent_of(const struct interp *in,
                                                unsigned kind, uint64_t lin)
{
    return &in->tables[kind * TLB_ENTRIES + tlb_index(in, lin)];
}

/** tlb_code_note() - code of @lin's page is found without the TLB from now */
static inline void tlb_code_note(struct interp *in, uint64_t lin)
{
    unsigned p = (unsigned)(lin >> 12) & 4095;

    tlb_seen_of(in, lin)->code[p / 64] |= BIT(p % 64);
}

/* ---- writers.c ---- */

int tlb_writers_init(struct interp *in);
void tlb_writers_fini(struct interp *in);
/** tlb_writer_note() - the tables get write rights to page @host at @lin */
void tlb_writer_note(struct interp *in, const uint8_t *host, uint64_t lin);
/** tlb_unwrite() - drop all write rights to page @host */
void tlb_unwrite(struct interp *in, const uint8_t *host);
/** tlb_revoke_ask() - have the vCPU drop write rights to page @at, or @all; an
 * engine that does not look at attn is kicked after it. Thread: any. */
void tlb_revoke_ask(struct interp *in, gpa_t at, bool all);
/** tlb_revoke_wait() - until it has, or is not in guest code */
void tlb_revoke_wait(struct interp *in);
/** tlb_revoke_take() - do what was asked for; attn falls */
void tlb_revoke_take(struct interp *in);

#define RMW_LOCK 0x100U /* in rmw_open's flags: LOCK, or XCHG */

/** interp_mode_update() - after CPL, CS, CR0, CR4, EFER, AC or DR7 changed */
void interp_mode_update(struct interp *in);
void tlb_lin_flush(void *ctx, enum x86_flush kind, gva_t va, uint16_t pcid);
void tlb_lin_root(void *ctx, bool keep);
void tlb_lin_mode(void *ctx);

/* ---- access.c: the slow ways; access.h has the fast ones ---- */

int mem_ld_slow(struct interp *in, uint64_t lin, unsigned size, unsigned flags,
                uint64_t *val);
int mem_st_slow(struct interp *in, uint64_t lin, unsigned size, unsigned flags,
                uint64_t val);

/* A read-modify-write access, begun by rmw_open (access.h). */
struct rmw {
    uint8_t *host; /* NULL: in pieces */
    uint64_t lin;
    unsigned size;
    unsigned flags;
    bool watched; /* host is good but the page's writes are reported */
    bool split;   /* locked and across pages: the split lock is held */
    gpa_t gpa;
};
int rmw_open_slow(struct interp *in, uint64_t lin, unsigned size,
                  unsigned flags, struct rmw *m);
uint64_t rmw_read_slow(struct interp *in, struct rmw *m);
int rmw_write_slow(struct interp *in, struct rmw *m, uint64_t val);
/* Called around callbacks that leave the engine: bus accesses. */
void interp_leave(struct interp *in);
void interp_enter(struct interp *in);
extern const struct x86_lin_ops interp_lin_ops;

/* ---- block.c ---- */

int block_init(struct interp *in);
void block_fini(struct interp *in);
/** block_drop_all() - forget all decoded code; no block may be running */
void block_drop_all(struct interp *in);
/** block_get() - the block at cpu->rip, decoding it if need be
 * Return: NULL with cpu->exc set: the fetch or the decode faults. */
struct block *block_get(struct interp *in);
/** block_get_one() - the same, if need be decoding one instruction only, into
 * a place that the next call uses again; only ops[0] is to be run */
struct block *block_get_one(struct interp *in);
/** block_op() - @o from @insn, which it keeps: for a caller that decodes */
void block_op(struct interp *in, const struct x86_insn *insn, struct op *o);
/** block_fresh() - whether the bytes are still those that were decoded */
bool block_fresh(const struct block *b);

/* ---- select.c ---- */

/** op_select() - choose @o's handler from the full decode */
void op_select(struct interp *in, const struct x86_insn *insn, struct op *o);
/** op_generic() - the handler of a mnemonic that takes any operand shape */
op_fn op_generic(const struct x86_insn *insn);
/** op_fast() - a handler for a frequent shape; sets @o's registers and size.
 * Return: NULL when there is none: @o's size then is as it was needed by
 * op_generic's. */
op_fn op_fast(const struct x86_insn *insn, struct op *o, bool mode64);

/* ---- run.c ---- */

void interp_run(struct engine_vcpu *v, uint64_t max_insns,
                struct exit_rec *exit);
/** interp_step() - run one instruction, without delivering its exception */
int interp_step(struct interp *in);
/** interp_attend() - whatever stands before the next block: kicks, revocations,
 * limits, interrupts. Return: true with *reason set: leave the run. */
bool interp_attend(struct interp *in, enum exit_reason *reason);
/** interp_must_step() - TF, RF, a shadow or a breakpoint: one at a time */
bool interp_must_step(const struct interp *in);
/** interp_attention() - whether interp_attend has something to look at */
bool interp_attention(const struct interp *in);
/** interp_blocks() - run blocks, one at least, until attention is asked for */
void interp_blocks(struct interp *in);
/** interp_faulted() - deliver cpu->exc */
void interp_faulted(struct interp *in);
/** interp_clock_sync() - virtual clock: guest time up to cpu->icount */
void interp_clock_sync(struct interp *in);

#endif
