// SPDX-License-Identifier: Apache-2.0
/*
 * Random programs run by two engines: a few dozen instructions with loops,
 * calls, faults and stores into their own code, run from the same state by the
 * interpreter and by the translator; whatever is left must be the same at each
 * exit. See tests/bt/README.md. For tests only.
 *
 * Both VMs map, for user code in the lower half and for kernel code in the
 * upper one, the same four pages of code and eight of data: see blk_page(). The
 * user's lie at several addresses: see blk_alias().
 */
#ifndef DOPPEL_TESTS_BT_BLOCKS_H
#define DOPPEL_TESTS_BT_BLOCKS_H

#include "cpu/x86/insn.h"
#include "cpu/x86/state.h"
#include "engine/engine.h"
#include "tests/insn/corpus/rnd.h"

#define BLK_UCODE      UINT64_C(0x10000000)
#define BLK_UDATA      UINT64_C(0x20000000)
#define BLK_UCELLS     UINT64_C(0x30000000)
#define BLK_KCODE      UINT64_C(0xffffffff81000000)
#define BLK_KDATA      UINT64_C(0xffffffff82000000)
#define BLK_KCELLS     UINT64_C(0xffffffff83000000)
#define BLK_SYS        UINT64_C(0xffffffff80000000) /* of guest-physical 0 */

#define BLK_CODE_PAGES 4U
#define BLK_CODE_BYTES (BLK_CODE_PAGES * 4096U)
#define BLK_DATA_PAGES 8U
#define BLK_DATA_BYTES (BLK_DATA_PAGES * 4096U)
#define BLK_FILL       0xccU /* of the code pages between programs */
#define BLK_SPOILT     0x123U

enum blk_page {
    BLK_ABSENT,
    BLK_RO,
    BLK_RW,
    BLK_LAZY /* made present by the guest's own #PF handler */
};

static inline enum blk_page blk_page(unsigned page)
{
    static const uint8_t kind[BLK_DATA_PAGES] = {BLK_ABSENT, BLK_RW,    BLK_RW,
                                                 BLK_LAZY,   BLK_RO,    BLK_RW,
                                                 BLK_RW,     BLK_ABSENT};

    return kind[page];
}

/* What is to be added to user addresses, and leaves the masked bits alone; the
 * first is 0. */
#define BLK_ALIAS_MASK ((UINT64_C(1) << 39) - 1)
#define BLK_ALIASES    6U
static inline uint64_t blk_alias(unsigned i)
{
    static const uint8_t slot[BLK_ALIASES] = {0, 1, 2, 3, 0xab, 0xff};

    return (uint64_t)slot[i] << 39;
}

/* @va in the alias that programs are assembled for. */
static inline uint64_t blk_at_home(uint64_t va)
{
    return va >> 47 ? va : va & BLK_ALIAS_MASK;
}

/* ---- programs ---- */

#define BLK_ITEMS 240U
#define BLK_CELLS 64U /* of 8 bytes: loop counters, jump tables */
#define BLK_RUNS  3U

enum blk_fix {
    BLK_FIX_NONE,
    BLK_FIX_REL8,   /* to an item */
    BLK_FIX_REL32,  /* to an item */
    BLK_FIX_ABS64,  /* an item's address */
    BLK_FIX_RIP,    /* a fixed address, relative to rip */
    BLK_FIX_RIPITEM /* an item's address plus off, relative to rip */
};

/* One instruction. */
struct blk_item {
    uint8_t b[32];
    uint8_t len;
    uint8_t fix; /* enum blk_fix */
    uint8_t at;  /* of the field that is fixed up */
    uint8_t off;
    uint16_t target; /* item; a dropped one: the next that is kept */
    bool drop;       /* not emitted: minimising */
    bool always;     /* never dropped */
    uint32_t org;    /* ~0, or: go on at this offset of the code region */
    uint64_t lin;    /* BLK_FIX_RIP */
    uint64_t addr;   /* where it lies; 0: nowhere */
};

struct blk_cell {
    uint64_t v;
    bool item; /* v is an item: its address */
};

struct blk_prog {
    uint64_t seed;
    bool kernel; /* at CPL 0 in the upper half */
    unsigned runs;
    unsigned n, end; /* items; the one that ends the main part */
    struct blk_item item[BLK_ITEMS];
    struct blk_cell cell[BLK_CELLS];
    unsigned ncells;
    /* start state: known registers are the same in each run */
    uint16_t known;
    uint64_t gpr[16], fs_base, gs_base, kernel_gs;
    bool ts, x87, saves;
    /* assembled */
    uint8_t code[BLK_CODE_BYTES];
    uint32_t lo, hi; /* bytes of it that are not fill */
};

static inline uint64_t blk_code(const struct blk_prog *p)
{
    return p->kernel ? BLK_KCODE : BLK_UCODE;
}

static inline uint64_t blk_data(const struct blk_prog *p)
{
    return p->kernel ? BLK_KDATA : BLK_UDATA;
}

static inline uint64_t blk_cells(const struct blk_prog *p)
{
    return p->kernel ? BLK_KCELLS : BLK_UCELLS;
}

/* Forms to choose from. */
struct blk_forms {
    unsigned ncommon, nany;
    uint16_t common[X86_FORM_COUNT];
    uint16_t any[X86_FORM_COUNT];
};

void blk_forms_init(struct blk_forms *f, const struct x86_cpuid *cpuid);

/** blk_make() - the program of @seed; blk_assemble() makes its bytes */
void blk_make(const struct blk_forms *f, uint64_t seed, struct blk_prog *p);

/** blk_assemble() - lay the kept items out
 * Return: false: a short jump does not reach; not a program. */
bool blk_assemble(struct blk_prog *p);

/** blk_rename() - name other registers in ModRM; X86_REG_NONE: leave it */
bool blk_rename(uint8_t *b, const struct x86_insn *i, unsigned reg,
                unsigned rm);

/** blk_aim() - re-encode the memory operand of @it as [base + index * scale +
 * disp], base and index X86_REG_NONE or registers
 * Return: false: it cannot be encoded. */
bool blk_aim(struct blk_item *it, const struct x86_insn *i, unsigned base,
             unsigned index, unsigned scale, int64_t disp);

/** blk_aim_rip() - ... as [rip + disp] that is @lin */
bool blk_aim_rip(struct blk_item *it, const struct x86_insn *i, uint64_t lin);

/* ---- running ---- */

enum blk_end {
    BLK_END_FAULT,  /* in a handler: vector, frame */
    BLK_END_HLT,    /* a HLT of the program */
    BLK_END_BUDGET, /* too long: no program */
    BLK_END_LOST    /* anything else */
};

struct blk_exit {
    enum blk_end end;
    unsigned reason; /* enum exit_reason, of LOST */
    unsigned vector;
    uint32_t error;
    uint64_t rip, rflags, rsp; /* interrupted */
    uint16_t cs, ss;
};

struct blk_vm;

/** blk_vm_open() - @part: bt's, or NULL for the interpreter. Never NULL.
 * @scatter: guest pages lie anywhere: no zones */
struct blk_vm *blk_vm_open(const struct engine_ops *ops,
                           struct engine_part *part, bool scatter);
void blk_vm_close(struct blk_vm *v);
struct x86_cpu *blk_vm_cpu(struct blk_vm *v);
const struct x86_cpuid *blk_vm_cpuid(const struct blk_vm *v);

/** blk_vm_load() - code, data and cells for a run of @p; TSC and random numbers
 * that its instructions get from now on are a matter of its seed alone */
void blk_vm_load(struct blk_vm *v, const struct blk_prog *p);

/** blk_vm_spoil() - flip a bit of each data page, at offset BLK_SPOILT */
void blk_vm_spoil(struct blk_vm *v);

/** blk_vm_state() - registers of run number @run */
void blk_vm_state(struct blk_vm *v, const struct blk_prog *p, unsigned run);

/** blk_vm_run() - up to the next exit; @budget: instructions, 0: no bound */
void blk_vm_run(struct blk_vm *v, uint64_t budget, struct blk_exit *x);

/** blk_vm_resume() - go on behind the exit @x, at @rip with @rflags */
void blk_vm_resume(struct blk_vm *v, const struct blk_exit *x, uint64_t rip,
                   uint64_t rflags);

/** blk_vm_code() - the bytes of a code page */
const uint8_t *blk_vm_code(const struct blk_vm *v, unsigned page);

/** blk_vm_code_changed() - whether the program has stored into its code */
bool blk_vm_code_changed(const struct blk_vm *v, const struct blk_prog *p);

/** blk_vm_tables_changed() - whether it has stored into page tables, Accessed
 * and Dirty bits apart: what a TLB still has is its own business then */
bool blk_vm_tables_changed(const struct blk_vm *v);

/** blk_vm_clean() - put the code pages back; @exact: the tables, too, with
 * Accessed and Dirty bits (one of the VMs has run what the other has not) */
void blk_vm_clean(struct blk_vm *v, bool exact);

/** blk_vm_bytes() - guest-physical page @page, host's; NULL: behind the end */
const uint8_t *blk_vm_page(const struct blk_vm *v, unsigned page);

/** blk_vm_fetch() - @n bytes of code at @va; false: nothing is mapped there */
bool blk_vm_fetch(const struct blk_vm *v, uint64_t va, uint8_t *out,
                  unsigned n);

/* ---- flags that nobody reads any more: blocks_flags.c ---- */

/** blk_flags_set() - flags that @i sets whatever they were, on Intel CPUs and
 * in the interpreter: undefined ones, too, but for those that they leave (found
 * by running each form with all flags set and with none) */
uint64_t blk_flags_set(const struct x86_insn *i);

/** blk_flags_live() - arithmetic flags that code at @rip may read before they
 * are overwritten, as far as 200 instructions tell */
uint64_t blk_flags_live(const struct blk_vm *v, uint64_t rip);

/* ---- comparing: blocks_diff.c ---- */

/** blk_differ() - what differs at an exit, or NULL
 * @text: may be filled with more of it */
const char *blk_differ(const struct blk_vm *a, const struct blk_vm *b,
                       const struct blk_exit *xa, const struct blk_exit *xb,
                       char *text, size_t n);

/** blk_differ_memory() - the first byte of memory that differs */
const char *blk_differ_memory(const struct blk_vm *a, const struct blk_vm *b,
                              char *text, size_t n);

/** blk_print() - the program's items and start state */
void blk_print(const struct blk_prog *p);

/** blk_print_code() - what stands at @va now */
void blk_print_code(const struct blk_vm *v, uint64_t va, unsigned count);

/** blk_print_states() - both engines' states */
void blk_print_states(struct blk_vm *a, struct blk_vm *b,
                      const struct blk_exit *xa, const struct blk_exit *xb);

#endif
