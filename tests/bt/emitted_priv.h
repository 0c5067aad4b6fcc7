// SPDX-License-Identifier: Apache-2.0
/*
 * What the checker's two files share: emitted.c follows the code, emitted_mem.c
 * judges what one instruction does with memory.
 */
#ifndef DOPPEL_TESTS_BT_EMITTED_PRIV_H
#define DOPPEL_TESTS_BT_EMITTED_PRIV_H

#include "tests/bt/emitted.h"
#include "tests/bt/emitted_val.h"

#define INSNS   8192U
#define NONE    UINT16_MAX
#define NO_KIND 0xffU

enum tag {
    T_NONE,
    T_INDEX, /* PEXT with the TLB's mask */
    T_KEYED, /* ... whose key was added or loaded */
    T_GOOD,  /* ... and compared */
    T_IB,    /* PEXT with the branch cache's mask */
    T_HOST,  /* an address of host memory, or a distance to it */
    T_MINUS, /* NOT of a distance */
    T_CPU,   /* struct x86_cpu */
    T_TOP,   /* a value's bits 40-47 are its lowest */
    T_TOP8,  /* ... and all it is */
    T_DIST,  /* to where that value's zone is */
    T_SEG,   /* where the base of FS or GS is, by its zone */
    T_PLACE, /* a value and its distance: where that is */
    T_MOVED, /* a T_DIST with a part of an address, for a loop */
    T_STALE  /* of another kind of access: good for nothing, and secret */
};

/* RCX, for REP MOVS and STOS */
enum count {
    C_NONE,
    C_LESS1,    /* R11 is it less 1 */
    C_COMPARED, /* ... and compared */
    C_SMALL,    /* it is 1 to 4096 */
    C_AGAIN,    /* ... and compared with a smaller one */
    C_FEW,      /* it is 1 to 32 */
    C_BYTES     /* it was, and counts bytes now */
};

struct state {
    uint8_t tag[16];
    uint8_t kind;   /* enum tlb_kind, as the mode word says */
    uint8_t due;    /* AC was stored: the kind that must follow; 0: none */
    uint8_t count;  /* what is known of RCX: enum count */
    uint8_t stream; /* BT_LOOP fields that were filled */
    uint32_t site;  /* BT_SITE, + 1; 0: unknown */
    struct vals vals;
    struct val of[16];  /* T_TOP to T_DIST: of which value */
    struct val win[16]; /* distances in windows' slots; VAL_NONE: unknown */
};

struct insn {
    struct x86_insn i;
    uint32_t off;
    uint16_t to;  /* direct jump: its target; NONE: elsewhere, or no jump */
    bool entry;   /* C comes in, having done anything */
    bool back;    /* C comes back, having done what stands before it */
    bool target;  /* a jump leads here */
    bool head;    /* ... one backwards */
    bool known;   /* in was set */
    uint8_t kind; /* on all ways here; NO_KIND: none is known */
    struct state in;
};

struct emitted {
    bool ok[X86_FORM_COUNT];
    const struct bt *bt;
    const struct bt_block *b;
    uint32_t first_site;
    struct insn insn[INSNS];
    unsigned n, ncold;             /* hot ones, all */
    uint16_t at[2][EMITTED_BYTES]; /* instruction at an offset, + 1 */
    uint64_t count;
    bool again; /* a jump backwards brought less than was thought */
};

/* ---- emitted.c ---- */

/** emitted_arrive() - a way leads from @from to code offset @off
 * Return: what is wrong, or NULL. */
const char *emitted_arrive(struct emitted *m, const struct insn *from,
                           uint32_t off, unsigned kind);
/** emitted_known_off() - whether an instruction of the region begins there */
bool emitted_known_off(const struct emitted *m, uint32_t off);
uint32_t emitted_rip_target(const struct insn *h);
/** emitted_way_back() - lea r11, [rip + the check]: what the stack's thunk
 * comes back to */
bool emitted_way_back(const struct x86_insn *i);

/* ---- emitted_mem.c; each returns what is wrong, or NULL ---- */

/** emitted_gs() - an access of struct bt */
const char *emitted_gs(struct emitted *m, const struct insn *h,
                       struct state *s);
/** emitted_rip() - cells, and the way back from a thunk */
const char *emitted_rip(struct emitted *m, const struct insn *h,
                        const struct state *s);
/** emitted_guest() - an instruction that may be the guest's */
const char *emitted_guest(const struct emitted *m, const struct x86_insn *i,
                          const struct state *s);
/** emitted_thunk() - a jump to the common code at @to */
const char *emitted_thunk(const struct emitted *m, uint32_t to,
                          const struct state *s);
const struct x86_opnd *emitted_memory(const struct x86_insn *i);
/** emitted_secret() - whether a register tells where the host's memory is */
bool emitted_secret(const struct state *s, unsigned r);
/** emitted_kept_in() - where a field that keeps a register's value has it in
 * vals; 0: nowhere */
unsigned emitted_kept_in(int64_t d);
bool emitted_wide_mov(const struct x86_insn *i, unsigned opcode);
bool emitted_sets_mode(const struct x86_insn *i);
bool emitted_host_operand(const struct x86_insn *i, const struct state *s);
bool emitted_zone_operand(const struct emitted *m, const struct x86_insn *i,
                          const struct state *s);

#endif
