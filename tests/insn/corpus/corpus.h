// SPDX-License-Identifier: Apache-2.0
/*
 * The instruction corpus: one instruction with its start state, run natively
 * (native.c, in a child process) and by the interpreter (guest.c), and what
 * came out. Both see the same linear addresses: a code region, and a window of
 * data pages of which some are read-only and some absent. For tests only.
 *
 *   CORPUS_CODE  two executable pages full of INT3, nothing behind them
 *   CORPUS_DATA  eight pages: see corpus_page_kind()
 */
#ifndef DOPPEL_TESTS_INSN_CORPUS_CORPUS_H
#define DOPPEL_TESTS_INSN_CORPUS_CORPUS_H

#include "cpu/x86/cpuid.h"
#include "cpu/x86/insn.h"
#include "engine/engine.h"

#define CORPUS_CODE        UINT64_C(0x10000000)
#define CORPUS_CODE_BYTES  8192U
#define CORPUS_DATA        UINT64_C(0x20000000)
#define CORPUS_PAGES       8U
#define CORPUS_BYTES       (CORPUS_PAGES * 4096U)
#define CORPUS_WORDS       (CORPUS_BYTES / 8)

#define CORPUS_INSN_ROOM   32
#define CORPUS_PATCHES_MAX 160
#define CORPUS_DIFFS_MAX   160
#define CORPUS_XS_BYTES    832 /* x87, SSE, header, AVX: standard layout */
#define CORPUS_BATCH       256U

enum corpus_page {
    CORPUS_ABSENT,
    CORPUS_RO,
    CORPUS_RW
};

static inline enum corpus_page corpus_page_kind(unsigned page)
{
    static const uint8_t kind[CORPUS_PAGES] = {
        CORPUS_ABSENT, CORPUS_RW, CORPUS_RW,     CORPUS_ABSENT,
        CORPUS_RO,     CORPUS_RW, CORPUS_ABSENT, CORPUS_ABSENT};

    return kind[page];
}

/* One 64-bit word of the data window. */
struct corpus_word {
    uint32_t at; /* its number in the window */
    uint32_t pad;
    uint64_t v;
};

/* What a case starts from. Selectors are those of a 64-bit Linux process. */
struct corpus_case {
    uint64_t gpr[16];
    uint64_t rip, rflags, fs_base, gs_base;
    uint8_t xs[CORPUS_XS_BYTES] ALIGNED(64);
    uint8_t code[CORPUS_INSN_ROOM];
    uint32_t ncode;
    uint32_t npatches;
    struct corpus_word patch[CORPUS_PATCHES_MAX];
};

enum corpus_end {
    CORPUS_DONE,       /* completed */
    CORPUS_FAULT,      /* vector, error, cr2; rip at the instruction */
    CORPUS_DONE_TRAP,  /* completed, #DB after it (TF) */
    CORPUS_DONE_FETCH, /* completed, then no fetch at the new rip */
    CORPUS_SOFT,       /* a software interrupt, vector; rip behind it */
    CORPUS_LOST,       /* does not end, or ends the process */
    CORPUS_ODD         /* cannot be compared: runs into itself */
};

/* What a case ends with. */
struct corpus_result {
    uint64_t gpr[16];
    uint64_t rip, rflags, fs_base, gs_base;
    uint64_t cr2;
    uint32_t error;
    uint8_t end; /* enum corpus_end */
    uint8_t vector;
    uint16_t sel[6]; /* by enum x86_seg_id */
    uint32_t ndiffs; /* words that differ from the start; CORPUS_DIFFS_MAX
                        listed at most */
    uint8_t xs[CORPUS_XS_BYTES] ALIGNED(64);
    struct corpus_word diff[CORPUS_DIFFS_MAX];
};

/** corpus_pattern() - fill @w with what the data window holds between cases */
void corpus_pattern(uint64_t w[CORPUS_WORDS]);

/* ---- native.c ---- */

struct corpus_native;

/** corpus_native_open() - start the child process
 * @pattern: borrows; see corpus_pattern()
 * Return: NULL with *why set when this host cannot run cases. */
struct corpus_native *corpus_native_open(const uint64_t *pattern,
                                         const char **why);
void corpus_native_close(struct corpus_native *n);

/** corpus_native_case() - slot @i of half @half, to be filled */
struct corpus_case *corpus_native_case(struct corpus_native *n, unsigned half,
                                       unsigned i);

/** corpus_native_start() - run the first @count slots of @half */
void corpus_native_start(struct corpus_native *n, unsigned half,
                         unsigned count);

/** corpus_native_wait() - until the started half is done
 * A case that kills the child is CORPUS_LOST; a new child does the rest. */
void corpus_native_wait(struct corpus_native *n);

const struct corpus_result *corpus_native_result(const struct corpus_native *n,
                                                 unsigned half, unsigned i);

/* ---- guest.c ---- */

struct corpus_guest;

/** corpus_guest_open() - a VM whose linear addresses are the child's
 * Return: NULL with *why set. */
struct corpus_guest *corpus_guest_open(const uint64_t *pattern,
                                       const char **why);

/** corpus_guest_open_on() - the same on another engine; @part: its init's */
struct corpus_guest *corpus_guest_open_on(const struct engine_ops *ops,
                                          struct engine_part *part,
                                          const uint64_t *pattern,
                                          const char **why);
void corpus_guest_close(struct corpus_guest *g);
struct x86_cpu *corpus_guest_cpu(struct corpus_guest *g);
const struct x86_cpuid *corpus_guest_cpuid(const struct corpus_guest *g);

/** corpus_guest_run() - the interpreter's answer */
void corpus_guest_run(struct corpus_guest *g, const struct corpus_case *c,
                      struct corpus_result *r);

/** corpus_guest_run_on() - the engine's answer: runs into the HLT behind an
 * exception; CORPUS_LOST when it ends otherwise */
void corpus_guest_run_on(struct corpus_guest *g, const struct corpus_case *c,
                         struct corpus_result *r);

/* ---- make.c, state.c ---- */

/* One case under way, the parent's side. */
struct corpus_job {
    uint64_t index;
    unsigned form; /* enum x86_form; X86_FORM_INVALID: bytes that are none */
    bool ud;       /* the decoder says #UD, or too long */
    struct x86_insn insn;
    uint64_t lin; /* where a memory operand was aimed at; 0: none */
    struct corpus_result interp;
};

struct corpus_maker {
    const struct x86_cpuid *cpuid;
    const uint64_t *pattern;
    uint64_t seed;
    unsigned nforms;
    uint16_t form[X86_FORM_COUNT]; /* those to be covered */
    uint64_t shadow[CORPUS_WORDS]; /* the window as the case starts */
};

/** corpus_maker_init() - @cpuid, @pattern: keeps */
void corpus_maker_init(struct corpus_maker *m, const struct x86_cpuid *cpuid,
                       const uint64_t *pattern, uint64_t seed);

/** corpus_make() - case @index; the same for the same seed and index
 * Return: false when this index gives none. */
bool corpus_make(struct corpus_maker *m, uint64_t index, struct corpus_case *c,
                 struct corpus_job *job);

/** corpus_left_out() - why a form is not run natively, or NULL */
const char *corpus_left_out(const struct x86_cpuid *cpuid, unsigned form);

/* ---- diff.c ---- */

/** corpus_differ() - the first item that differs, or NULL */
const char *corpus_differ(const struct corpus_job *job,
                          const struct corpus_case *c,
                          const struct corpus_result *native);

/** corpus_report() - print one mismatch in full; @who gave @native */
void corpus_report(const char *what, const char *who,
                   const struct corpus_job *job, const struct corpus_case *c,
                   const struct corpus_result *native, uint64_t seed);

#endif
