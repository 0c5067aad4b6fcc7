// SPDX-License-Identifier: Apache-2.0
/*
 * What the code generator's files share: one translation under way.
 */
#ifndef DOPPEL_ENGINE_BT_FRONT_H
#define DOPPEL_ENGINE_BT_FRONT_H

#include "cpu/x86/insn.h"
#include "engine/bt/emit.h"
#include "engine/bt/priv.h"

#define BT_COLD_MAX 192
/* What is emitted as 32 bits must not be more: displacements and the sums of
 * what a register has grown by. */
#define BT_REACH (INT64_C(1) << 30)
/* Farther from its register an access may be in another zone: an array's
 * address and a small index. */
#define BT_NEAR (INT64_C(1) << 20)
#define FL_ALL  ((uint32_t)X86_FL_ARITH)
#define ANY     X86_REG_NONE
#define R(r)    (1U << (r))

/* Slots of struct bt: who keeps what. */
#define SLOT_TMP BT_SLOT(0)
#define SLOT_CX  BT_SLOT(1)
#define SLOT_TGT BT_SLOT(2)

enum bt_cold_kind {
    COLD_MISS,  /* the access's or window's address to BT_VA, then the gate */
    COLD_LEAVE, /* give registers back, then the gate */
    COLD_LINK   /* what an unlinked cell leads to */
};

/* Code out of line, emitted behind the region. */
struct bt_cold {
    uint8_t kind;  /* enum bt_cold_kind */
    uint8_t gate;  /* BT_G_* */
    uint32_t from; /* the rel32 that leads here; 0: a cell does */
    uint32_t site;
    bool rcx;   /* MISS: RCX is in SLOT_CX */
    bool carry; /* LEAVE: CF is in bit 0 of the second scratch register */
    bool held;  /* registers are remapped at this place */
    uint8_t insn, nref; /* MISS: whose access */
    uint8_t win;        /* ... or which window */
};

/* What an access's address is made of. */
#define KEY_ABS  16 /* a constant */
#define KEY_FS   17 /* FS base and a constant */
#define KEY_GS   18
#define KEY_RIP  19   /* a constant that moves with the region */
#define KEY_NONE 0xff /* an index, 32-bit addresses: no window */
#define NO_WIN   0xff

/* One memory access of an instruction. */
struct bt_ref {
    uint8_t key; /* 0-15: register; KEY_* */
    uint8_t win; /* index of its window, or NO_WIN */
    uint8_t size;
    bool write;
    int64_t off; /* from what the key is worth at the instruction */
};

/* Several accesses that are checked as one: bytes [lo, hi) from the key's worth
 * where its register's version began. */
struct bt_win {
    int64_t lo, hi;
    int64_t delta; /* what the key's register has grown by at @at */
    uint16_t ver;  /* of the register */
    uint8_t key;
    uint8_t at; /* the check stands before this instruction */
    uint8_t count;
    uint8_t slot;
    uint8_t next; /* window, + 1, checked at the same place */
    bool write;
    bool hoisted; /* the check stands before the first access's instruction */
    bool stack;   /* by the stack page's entry; slot is not used */
    bool begun;   /* zones: an access was met */
    bool kept;    /* zones: the distance is kept in the slot */
};

/* Accesses of a loop whose addresses differ by constants, and move by the same
 * constant with each turn. */
#define BT_STREAMS 4
struct bt_stream {
    uint8_t key; /* as bt_ref's; KEY_NONE: base and index */
    uint8_t base, index, scale;
    uint8_t reg; /* holds what is to be added, while the loop runs */
    bool write;
    bool base_in; /* base, index are part of what reg holds */
    bool index_in;
    int64_t lo, hi; /* bytes, from the address at the turn's beginning */
    int64_t stride;
};

/* A loop of one straight piece: from a leader to the branch that leads there.
 */
struct bt_loop {
    uint8_t head, last;
    uint8_t by;   /* a register that each turn adds a constant to */
    uint8_t x[2]; /* registers that it does not use, or ANY */
    uint8_t nstreams;
    int64_t step; /* that constant */
    struct bt_stream s[BT_STREAMS];
    uint8_t of[BT_REGION_INSNS];  /* stream of each instruction's access */
    int32_t off[BT_REGION_INSNS]; /* its displacement from the registers */
};

/* How a decoded instruction is run. */
enum bt_how {
    HOW_CALLOUT,
    HOW_PLAIN, /* as it is, with at most one memory operand rewritten */
    HOW_NOTHING,
    HOW_LEA,
    HOW_PUSH,
    HOW_POP,
    HOW_LEAVE,
    HOW_SYSTEM,
    HOW_JMP,
    HOW_JCC,
    HOW_JCXZ,
    HOW_LOOP,
    HOW_CALL,
    HOW_RET
};

#define NO_LABEL 0xff /* target outside the region */

/* Each branch, again in the copy of a loop's body, and what is behind it. */
#define BT_JUMPS_MAX (2 * BT_REGION_INSNS + 2)

struct bt_tr {
    struct bt *bt;
    struct bt_block *b;
    struct emit e;        /* hot */
    struct emit cold;     /* its own arena */
    uint32_t block;       /* index */
    struct bt_text *text; /* its page */
    const uint8_t *bytes; /* its beginning there */
    unsigned nbytes;
    unsigned n;
    struct x86_insn insn[BT_REGION_INSNS];
    uint64_t va[BT_REGION_INSNS];
    uint8_t how[BT_REGION_INSNS];
    uint8_t kind[BT_REGION_INSNS];      /* enum tlb_kind of its accesses */
    uint32_t regs[BT_REGION_INSNS];     /* bt_regs() */
    uint32_t wrote[BT_REGION_INSNS];    /* bt_written() */
    uint8_t to[BT_REGION_INSNS];        /* direct jump: index in the region */
    bool leader[BT_REGION_INSNS];       /* a jump leads here */
    bool loop[BT_REGION_INSNS];         /* ... a later one: look at requests */
    uint32_t live[BT_REGION_INSNS + 1]; /* flags before instruction i */
    uint32_t label[BT_REGION_INSNS];    /* code offset */
    struct bt_ref ref[BT_REGION_INSNS][2];
    uint8_t nref[BT_REGION_INSNS];
    struct bt_win win[BT_REGION_INSNS];
    bool pin[BT_REGION_INSNS];      /* no zones: its memory is looked up */
    uint8_t check[BT_REGION_INSNS]; /* window, + 1, checked before it */
    unsigned nwins;
    struct {
        uint32_t from;
        uint8_t to;
    } fix[BT_JUMPS_MAX]; /* forward jumps inside */
    unsigned nfix;
    struct {
        uint32_t from;
        uint64_t va;
        uint8_t kind;
        bool held;
    } exit[BT_JUMPS_MAX]; /* jumps out of the region */
    unsigned nexits;
    struct bt_loop loops[2];
    unsigned nloops;
    const struct bt_loop *fast; /* its body is being made */
    unsigned at;                /* instruction being rewritten */
    uint8_t kind_now;           /* ... its kind of access, or what follows */
    uint32_t start;             /* its code offset */
    struct bt_cold colds[BT_COLD_MAX];
    unsigned ncold;
    bool full;
    uint8_t s1, s2;    /* scratch registers; the guest's are at home */
    bool held;         /* they are not R11 and R10 */
    bool zone;         /* memory by zones */
    uint16_t s2_has;   /* layout offset of the delta that s2 holds; 0: none */
    uint64_t granules; /* pieces of the page that were read */
};

/* A memory operand of the host's: [base + index + disp]; ANY: absent. */
struct bt_opnd {
    uint8_t base;
    uint16_t index; /* E_SCALED() */
    int32_t disp;
    bool s1_free; /* s1 is not part of it */
};

static inline unsigned bt_kind(const struct bt_tr *t)
{
    return t->kind_now;
}

/* The mode of code for accesses of @kind, otherwise as the region's. */
static inline uint32_t bt_mode_of(const struct bt_tr *t, unsigned kind)
{
    return (t->b->mode & ~(BT_MODE_KIND | BT_MODE_NOWIN)) | kind;
}

/* Whether instruction @i's access by @key and @off goes by zones. With SMAP
 * lifted most addresses are the user's, which the kernel's zones have not: only
 * what surely is the kernel's goes by them. */
static inline bool bt_by_zone(const struct bt_tr *t, unsigned i, unsigned key,
                              int64_t off)
{
    bool fixed = key == KEY_ABS || key == KEY_RIP;

    return t->zone && (t->kind[i] != TLB_SUPAC || key == X86_RSP ||
                       key == KEY_GS || (fixed && off < 0));
}

static inline bool bt_at_home(const struct bt_tr *t, unsigned r)
{
    return r == t->s1 || r == t->s2;
}

/* ---- how.c ---- */

enum bt_how bt_how(const struct bt_tr *t, const struct x86_insn *insn);

/* ---- front.c ---- */

/** bt_flags_at() - flags that may be read from @va of the same page on */
uint32_t bt_flags_at(struct bt_tr *t, uint64_t va);
/** bt_ends() - whether nothing falls through @i */
bool bt_ends(const struct bt_tr *t, unsigned i);
uint32_t bt_site_new(struct bt_tr *t, uint64_t va);
uint32_t bt_cell_new(struct bt_tr *t);
/** bt_reloc() - what stands at @at depends on where the region lies
 * @site: 0, or its number. */
void bt_reloc(const struct bt_tr *t, const struct emit *e,
              enum bt_reloc_kind kind, uint32_t at, uint32_t site);
/** bt_mov_va() - mov @r, @v, which moves with the region, whole or cut to 32
 * bits */
void bt_mov_va(const struct bt_tr *t, struct emit *e, unsigned r, uint64_t v);
struct bt_cold *bt_cold_new(struct bt_tr *t, enum bt_cold_kind kind,
                            uint32_t from, uint32_t site, unsigned gate);

/* ---- window.c ---- */

/** bt_windows() - every access of the region, and which are checked as one */
void bt_windows(struct bt_tr *t);
/** bt_regs() - registers that @insn names or implies, its address's too */
uint32_t bt_regs(const struct x86_insn *insn);
const struct x86_opnd *bt_mem_opnd(const struct x86_insn *insn);
uint32_t bt_written(const struct x86_insn *insn);
/** bt_adds() - whether instruction @i only adds a constant, *by, to @r */
bool bt_adds(const struct bt_tr *t, unsigned i, unsigned r, int64_t *by);
/** bt_check_at() - whether a window's check stands before instruction @i */
bool bt_check_at(const struct bt_tr *t, unsigned i);

/* ---- access.c ---- */

/** bt_access() - the host operand of access @k of the instruction at t->at
 * Uses s1 and s2 and, where flags are dead, those. */
void bt_access(struct bt_tr *t, unsigned k, struct bt_opnd *m);
/** bt_window_checks() - the checks that stand before the instruction */
void bt_window_checks(struct bt_tr *t);
/** bt_zone_of() - into s2 what is to be added to addresses near that in @reg */
void bt_zone_of(struct bt_tr *t, unsigned reg);
void bt_cold_miss(struct bt_tr *t, const struct bt_cold *c);
/** bt_load_home() - the guest's @r into host register @to, if it is at home */
void bt_load_home(struct bt_tr *t, unsigned to, unsigned r);
/** bt_from_home() - a host register with the guest's @r: itself, or @tmp */
unsigned bt_from_home(struct bt_tr *t, unsigned r, unsigned tmp);
/** bt_hold() - from the convention (R10 and R11 at home) to the region's own
 * scratch registers; bt_unhold: back */
void bt_hold(struct bt_tr *t);
void bt_unhold(struct bt_tr *t);
void bt_unhold_code(const struct bt_tr *t, struct emit *e);

/* ---- loop.c ---- */

/** bt_loops() - find loops whose accesses can be checked for many turns */
void bt_loops(struct bt_tr *t);
/** bt_loop() - at a loop's head: its checks, and its body without checks */
void bt_loop(struct bt_tr *t);
void bt_loop_access(struct bt_tr *t, struct bt_opnd *m);

/* ---- rewrite.c ---- */

void bt_rewrite_plain(struct bt_tr *t);
void bt_map_new(struct bt_tr *t);

void bt_rewrite(struct bt_tr *t);
/** bt_ea_store() - the memory operand's address into BT_VA, guest register
 * @reg (X86_REG_NONE: none) into @slot; scratch registers are used */
void bt_ea_store(struct bt_tr *t, unsigned reg, unsigned slot);
void bt_site_imm(struct bt_tr *t, struct emit *e, uint32_t site);
void bt_gate_jump(struct bt_tr *t, struct emit *e, uint32_t site,
                  unsigned gate);

/* ---- stack.c ---- */

void bt_push(struct bt_tr *t);
void bt_pop(struct bt_tr *t);
void bt_leave(struct bt_tr *t);
/** bt_push_next() - a call's push of @v */
void bt_push_next(struct bt_tr *t, uint64_t v);

/* ---- system.c ---- */

/** bt_kind_after() - the kind of access behind instruction @i: STAC, CLAC */
unsigned bt_kind_after(const struct bt_tr *t, unsigned i);
/** bt_how_system() - for a system instruction: HOW_SYSTEM or HOW_CALLOUT */
enum bt_how bt_how_system(const struct bt_tr *t, const struct x86_insn *insn);
void bt_system(struct bt_tr *t);
/** bt_rflags() - what PUSHF pushes, into SLOT_TGT; scratch registers are used
 */
void bt_rflags(struct bt_tr *t);
/** bt_quick_site() - fill in @s what the quick gate may do for @insn */
void bt_quick_site(const struct bt_tr *t, const struct x86_insn *insn,
                   struct bt_site *s);

/* ---- branch.c ---- */

void bt_rewrite_branch(struct bt_tr *t);
/** bt_entry() - the region's entries: b->indirect, b->code */
void bt_entry(struct bt_tr *t);
/** bt_exit_to() - leave for @va; registers are the convention's */
void bt_exit_to(struct bt_tr *t, struct emit *e, uint64_t va);
/** bt_lead() - have the rel32 at @from lead to label @to, or out, to @va */
void bt_lead(struct bt_tr *t, uint32_t from, unsigned to, uint64_t va);
/** bt_poll() - leave for C if a request stands, @va being next
 * @live: flags that are */
void bt_poll(struct bt_tr *t, struct emit *e, uint64_t va, uint32_t live);
/** bt_exits_emit() - the ways out of conditional jumps, behind the region */
void bt_exits_emit(struct bt_tr *t);
void bt_cold_emit(struct bt_tr *t);

#endif
