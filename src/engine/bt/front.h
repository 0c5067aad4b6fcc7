// SPDX-License-Identifier: Apache-2.0
/*
 * What the rewriter's files share: one translation under way.
 */
#ifndef DOPPEL_ENGINE_BT_FRONT_H
#define DOPPEL_ENGINE_BT_FRONT_H

#include "cpu/x86/insn.h"
#include "engine/bt/emit.h"
#include "engine/bt/priv.h"

#define BT_COLD_MAX 128
#define FL_ALL      ((uint32_t)X86_FL_ARITH)

/* Slots of struct bt: who keeps what. */
#define SLOT_R1  BT_SLOT(0)
#define SLOT_R2  BT_SLOT(1)
#define SLOT_CX  BT_SLOT(2)
#define SLOT_JCX BT_SLOT(3)
#define SLOT_JAX BT_SLOT(4)
#define SLOT_JDX BT_SLOT(5)
#define SLOT_TGT BT_SLOT(6)

/* Code out of line, emitted at the block's end. */
struct bt_cold {
    uint32_t from; /* the rel32 that leads here */
    uint32_t site;
    uint8_t gate;
    bool miss; /* r1, r2 (and rcx) are to be put back, the EA made */
    bool rcx;  /* ... rcx too */
    uint8_t r1, r2;
    uint8_t insn; /* index: whose memory operand */
    uint8_t ea;   /* enum ea_kind */
    uint8_t group;
    bool borrowed; /* r1, r2 are the block's: taken again on the way back */
    uint32_t back; /* the access */
};

enum ea_kind {
    EA_OPND, /* the instruction's memory operand */
    EA_PUSH, /* [rsp-8] */
    EA_POP,  /* [rsp] */
    EA_LEAVE /* [rbp] */
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

struct bt_tr {
    struct bt *bt;
    struct bt_block *b;
    struct emit e;
    uint32_t block; /* index */
    const uint8_t *bytes;
    unsigned nbytes;
    unsigned n;
    struct x86_insn insn[BT_BLOCK_INSNS];
    uint64_t va[BT_BLOCK_INSNS];
    uint8_t how[BT_BLOCK_INSNS];
    uint32_t live[BT_BLOCK_INSNS + 1]; /* flags before instruction i */
    bool ended;                        /* the last one is a branch */
    unsigned at;                       /* instruction being rewritten */
    uint32_t start;                    /* its code offset */
    uint32_t sites_from;               /* sites of the instruction: first */
    struct bt_cold cold[BT_COLD_MAX];
    unsigned ncold;
    bool full;
    uint32_t cold_at;
    /* Two registers that no instruction of the block uses, X86_REG_NONE: held
     * over several accesses, given back before anything else may see them. */
    uint8_t b1, b2;
    bool held;
    unsigned group;    /* pushes or pops that are made as one, at least 1 */
    uint64_t granules; /* pieces of the page that were read */
};

/* One memory access being made. */
struct bt_acc {
    uint8_t r1, r2;
    bool keep_r1; /* r1 is the destination: not put back */
    bool borrowed;
};

/* ---- front.c ---- */

enum bt_how bt_how(const struct bt_tr *t, const struct x86_insn *insn);
/** bt_flags_at() - flags that may be read from @va of the same page on */
uint32_t bt_flags_at(struct bt_tr *t, uint64_t va);
uint32_t bt_site_new(struct bt_tr *t, uint64_t va);
struct bt_cold *bt_cold_new(struct bt_tr *t, uint32_t from, uint32_t site,
                            unsigned gate);

/* ---- rewrite.c ---- */

/** bt_give_back() - the guest's registers where they belong */
void bt_give_back(struct bt_tr *t);
/** bt_acc_open() - a register that holds the host address of an access
 * @avoid: registers that the instruction needs besides; @want: r1 is to be
 * this one, X86_REG_NONE: any; @low: r1 without REX */
void bt_acc_open(struct bt_tr *t, enum ea_kind ea, unsigned size, bool write,
                 uint32_t avoid, unsigned want, bool low, struct bt_acc *a);
/** bt_acc_ready() - put r2 back, before the access; _close: r1, after it */
void bt_acc_ready(struct bt_tr *t, const struct bt_acc *a);
void bt_acc_close(struct bt_tr *t, const struct bt_acc *a);
/** bt_ea_store() - the memory operand's address into BT_VA, guest register
 * @reg (X86_REG_NONE: none) into @slot; nothing else changes */
void bt_ea_store(struct bt_tr *t, unsigned reg, unsigned slot);
void bt_rewrite(struct bt_tr *t);
void bt_cold_emit(struct bt_tr *t);
void bt_gate_jump(struct bt_tr *t, uint32_t site, unsigned gate);

/* ---- stack.c ---- */

void bt_push(struct bt_tr *t);
void bt_pop(struct bt_tr *t);
void bt_leave(struct bt_tr *t);
void bt_push_imm(struct bt_tr *t, uint64_t v, uint32_t avoid);

/* ---- system.c ---- */

/** bt_how_system() - for a system instruction: HOW_SYSTEM or HOW_CALLOUT */
enum bt_how bt_how_system(const struct bt_tr *t, const struct x86_insn *insn);
void bt_system(struct bt_tr *t);
/** bt_quick_site() - fill in @s what the quick gate may do for @insn */
void bt_quick_site(const struct bt_tr *t, const struct x86_insn *insn,
                   struct bt_site *s);

/* ---- branch.c ---- */

void bt_rewrite_branch(struct bt_tr *t);
void bt_exit_to(struct bt_tr *t, uint64_t va);

#endif
