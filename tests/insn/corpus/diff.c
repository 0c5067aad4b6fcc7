// SPDX-License-Identifier: Apache-2.0
/*
 * Compares what the CPU and the interpreter made of a case, item by item, and
 * prints a mismatch so that it can be understood and run again.
 */
#include "tests/insn/corpus/corpus.h"

#include "engine/interp/vec_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What an instruction can change or leave; IF and IOPL are constant. */
#define FLAGS_COMPARED                                                         \
    (X86_FL_ARITH | X86_FL_TF | X86_FL_IF | X86_FL_DF | X86_FL_IOPL |          \
     X86_FL_NT | X86_FL_AC | X86_FL_ID)

/* Linux's TASK_SIZE_MAX */
#define USER_END (BIT(47) - 4096)

struct undefined {
    const char *form; /* a form's name, or a mnemonic */
    uint64_t mask;
    const char *source;
};

static const struct undefined undefined[] = {
#define UNDEFINED(form, mask, source) {#form, mask, source},
#include "tests/insn/corpus/undefined_flags.def"
#undef UNDEFINED
    {"", 0, ""}};

static uint64_t flags_mask(const struct corpus_job *job, unsigned end)
{
    const struct x86_form_info *fi = x86_form_info(job->form);
    uint64_t mask = FLAGS_COMPARED;

    /* RF: the CPU sets it in a fault's image, here delivery does; the INT3
     * behind an IRET clears it */
    if (end == CORPUS_DONE_TRAP || end == CORPUS_SOFT ||
        (end == CORPUS_DONE && fi->op != X86_OP_IRET))
        mask |= X86_FL_RF;
    for (size_t i = 0; i < ARRAY_LEN(undefined); i++)
        if (!strcmp(undefined[i].form, fi->name) ||
            !strcmp(undefined[i].form, x86_op_name(fi->op)))
            mask &= ~undefined[i].mask;
    return mask;
}

static const char *differ_end(const struct corpus_result *a,
                              const struct corpus_result *b)
{
    uint32_t errors = UINT32_MAX;

    if (b->end == CORPUS_LOST)
        return "the CPU does not come to an end";
    if (a->end != b->end)
        return "completed or faulted";
    if (a->end == CORPUS_DONE)
        return NULL;
    if (a->vector != b->vector)
        return "vector";
    /* Linux says of kernel addresses always that a page is there
     * (arch/x86/mm/fault.c, sanitize_error_code) */
    if (a->vector == X86_VEC_PF && b->cr2 >= USER_END)
        errors &= ~1U;
    if ((a->error ^ b->error) & errors)
        return "error code";
    if (a->vector == X86_VEC_PF && a->cr2 != b->cr2)
        return "CR2";
    return NULL;
}

static const char *differ_xstate(const uint8_t *a, const uint8_t *b)
{
    static const struct {
        const char *name;
        uint16_t at, len;
    } items[] = {{"MXCSR", FX_MXCSR, 4},
                 {"FCW", FX_FCW, 2},
                 {"FSW", FX_FSW, 2},
                 {"x87 tags", FX_FTW, 1},
                 {"FOP", FX_FOP, 2},
                 {"FIP", FX_FIP, 8},
                 {"FDP", FX_FDP, 8},
                 {"XMM", FX_XMM, 256},
                 {"YMM upper half", X86_XSAVE_AVX_OFFSET, 256}};

    for (unsigned i = 0; i < 8; i++)
        if (memcmp(a + FX_ST + 16 * (size_t)i, b + FX_ST + 16 * (size_t)i, 10))
            return "ST or MMX register";
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        if (memcmp(a + items[i].at, b + items[i].at, items[i].len))
            return items[i].name;
    return NULL;
}

/* Linux's way back from a trap makes null selectors 0 whatever their RPL (SDM
 * vol. 2 IRET: segments below the new CPL are nulled). */
static bool differ_selectors(const struct corpus_result *a,
                             const struct corpus_result *b)
{
    for (unsigned i = 0; i < 6; i++)
        if (a->sel[i] != b->sel[i] && (a->sel[i] > 3 || b->sel[i] > 3))
            return true;
    return false;
}

/* Out of compatibility mode the trap brings no upper half of rSP. */
static bool differ_gprs(const struct corpus_result *a,
                        const struct corpus_result *b)
{
    uint64_t sp = a->gpr[X86_RSP] ^ b->gpr[X86_RSP];

    if (b->sel[X86_SEG_CS] == 0x23)
        sp = (uint32_t)sp;
    return sp || memcmp(a->gpr, b->gpr, X86_RSP * 8) ||
           memcmp(a->gpr + X86_RBP, b->gpr + X86_RBP, 11 * 8);
}

const char *corpus_differ(const struct corpus_job *job,
                          const struct corpus_case *c,
                          const struct corpus_result *native)
{
    const struct corpus_result *a = &job->interp, *b = native;
    const char *what = differ_end(a, b);

    (void)c;
    if (what)
        return what;
    if (a->rip != b->rip)
        return "RIP";
    if (differ_gprs(a, b))
        return "general register";
    if ((a->rflags ^ b->rflags) & flags_mask(job, b->end))
        return "RFLAGS";
    if (differ_selectors(a, b))
        return "selector";
    if (a->fs_base != b->fs_base || a->gs_base != b->gs_base)
        return "FS or GS base";
    what = differ_xstate(a->xs, b->xs);
    if (what)
        return what;
    if (a->ndiffs != b->ndiffs ||
        memcmp(a->diff, b->diff,
               sizeof a->diff[0] * (a->ndiffs < CORPUS_DIFFS_MAX
                                        ? a->ndiffs
                                        : CORPUS_DIFFS_MAX)))
        return "memory";
    return NULL;
}

/* ---- printing ---- */

static void print_one(const char *name, uint64_t was, uint64_t a, uint64_t b)
{
    printf("    %-10s was %016" PRIx64 "  is %016" PRIx64 "%s", name, was, a,
           a == b ? "\n" : "");
    if (a != b)
        printf("  BUT %016" PRIx64 "\n", b);
}

static void print_gprs(const struct corpus_case *c,
                       const struct corpus_result *a,
                       const struct corpus_result *b)
{
    static const char *const names[16] = {
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

    for (unsigned i = 0; i < 16; i++)
        print_one(names[i], c->gpr[i], a->gpr[i], b->gpr[i]);
    print_one("rip", c->rip, a->rip, b->rip);
    print_one("rflags", c->rflags, a->rflags, b->rflags);
    print_one("fs base", c->fs_base, a->fs_base, b->fs_base);
    print_one("gs base", c->gs_base, a->gs_base, b->gs_base);
    for (unsigned i = 0; i < 6; i++)
        if (a->sel[i] != b->sel[i])
            printf("    selector %u is %04x  BUT %04x\n", i, a->sel[i],
                   b->sel[i]);
}

static void print_xstate(const struct corpus_case *c,
                         const struct corpus_result *a,
                         const struct corpus_result *b)
{
    for (unsigned i = 0; i < CORPUS_XS_BYTES; i += 8) {
        uint64_t v = fx_get64(a->xs + i), n = fx_get64(b->xs + i);
        char name[16];
        if (v == n || i / 64 == 8)
            continue;
        snprintf(name, sizeof name, "xsave+%u", i);
        print_one(name, fx_get64(c->xs + i), v, n);
    }
    print_one("control", fx_get64(c->xs), fx_get64(a->xs), fx_get64(b->xs));
    printf("    mxcsr was %04x\n", fx_get32(c->xs + FX_MXCSR));
}

static void print_words(const char *who, const struct corpus_result *r)
{
    uint32_t n = r->ndiffs < 12 ? r->ndiffs : 12;

    printf("    %s changed %u words:", who, r->ndiffs);
    for (uint32_t i = 0; i < n; i++)
        printf(" %" PRIx64 "=%" PRIx64, CORPUS_DATA + 8 * r->diff[i].at,
               r->diff[i].v);
    printf("\n");
}

static void print_end(const char *who, const struct corpus_result *r)
{
    static const char *const ends[] = {"completed",
                                       "faulted",
                                       "trapped",
                                       "could not fetch the next",
                                       "was a software interrupt",
                                       "lost",
                                       "odd"};

    printf("    %s %s: vector %u error %x cr2 %" PRIx64 "\n", who, ends[r->end],
           r->vector, r->error, r->cr2);
}

void corpus_report(const char *what, const char *who,
                   const struct corpus_job *job, const struct corpus_case *c,
                   const struct corpus_result *native, uint64_t seed)
{
    char text[128] = "(no instruction)";

    if (!job->ud)
        x86_disasm(&job->insn, c->rip, text, sizeof text);
    printf("  MISMATCH %s: %s (", what, text);
    for (unsigned i = 0; i < c->ncode; i++)
        printf("%02x", c->code[i]);
    printf(") %s; again with: --seed %" PRIu64 " --case %" PRIu64 "\n",
           x86_form_info(job->form)->name, seed, job->index);
    if (job->lin)
        printf("    operand at %" PRIx64 "\n", job->lin);
    print_end("interpreter", &job->interp);
    print_end(who, native);
    print_gprs(c, &job->interp, native);
    print_xstate(c, &job->interp, native);
    print_words("interpreter", &job->interp);
    print_words(who, native);
    for (unsigned i = 0; i < c->npatches && i < 10; i++)
        printf("    memory %" PRIx64 " was %016" PRIx64 "\n",
               CORPUS_DATA + 8 * c->patch[i].at, c->patch[i].v);
}
