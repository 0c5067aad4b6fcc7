// SPDX-License-Identifier: Apache-2.0
/*
 * The decoder against the host CPU and against Zydis: random, structured and
 * mutated byte strings in 64-, 32- and 16-bit mode; validity and length must
 * agree, and for #UD the byte at which the CPU gives up. Differences that may
 * be are in decode_diffs.def and counted by reason; the rest fails.
 *   decode_diff_test [--count N] [--seed S] [--no-cpu]
 */
#include "cpu/x86/insn.h"
#include "tests/insn/cpu_probe.h"
#include "tests/insn/zydis_check.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH     50000u
#define SHOWN_MAX 20u

static const struct reason {
    const char *what; /* who may differ */
    const char *key;  /* ISA set of Zydis */
    unsigned id;      /* feature or form */
    unsigned enc, map, from, to;
    const char *why;
} reasons[] = {
/* clang-format off */
#define CPU_UD(f, w)             {"cpu #UD", NULL, X86_FEAT_##f, 0, 0, 0, 0, w},
#define CPU_RUNS(e, m, a, b, w)  {"cpu runs", NULL, 0, e, m, a, b, w},
#define ZYDIS_RUNS(s, w)         {"zydis runs", s, 0, 0, 0, 0, 0, w},
#define ZYDIS_UD(f, w)           {"zydis #UD", NULL, X86_FORM_##f, 0, 0, 0, 0, w},
#include "cpu/x86/decode_diffs.def"
    /* clang-format on */
};

/* The run: what was asked, found and forgiven. */
struct run {
    uint64_t rng;
    uint64_t asked[3]; /* by mode: 64, 32, 16 */
    uint64_t probed, agreed_zydis, lost, once;
    uint64_t ok, ud, too_long;
    uint64_t always_ud; /* forms that raise #UD when run */
    uint64_t excused[ARRAY_LEN(reasons)];
    uint64_t failed;
};

struct item {
    struct x86_insn insn;
    enum x86_dec dec;
};

static const unsigned bits[3] = {64, 32, 16};
static const enum x86_mode modes[3] = {X86_MODE_64, X86_MODE_32, X86_MODE_16};

static uint32_t rnd(struct run *r, uint32_t below)
{
    r->rng ^= r->rng << 13;
    r->rng ^= r->rng >> 7;
    r->rng ^= r->rng << 17;
    return (uint32_t)((r->rng * 0x2545f4914f6cdd1dull) >> 32) % below;
}

static unsigned gen_legacy(struct run *r, uint8_t *b, bool m64)
{
    static const uint8_t pfx[] = {0x66, 0x66, 0xf2, 0xf3, 0x67,
                                  0xf0, 0x2e, 0x64, 0x36, 0x65};
    unsigned at = 0, n = rnd(r, 8) ? rnd(r, 4) : rnd(r, 12);

    while (n--)
        b[at++] = pfx[rnd(r, sizeof(pfx))];
    if (m64 && rnd(r, 2))
        b[at++] = (uint8_t)(0x40 + rnd(r, 16));
    unsigned map = rnd(r, 5);
    if (map >= 2)
        b[at++] = 0x0f;
    if (map >= 3)
        b[at++] = map == 3 ? 0x38 : 0x3a;
    return at;
}

static unsigned gen_vex(struct run *r, uint8_t *b, bool m64)
{
    unsigned at = 0;

    if (rnd(r, 40) == 0)
        b[at++] = rnd(r, 2) ? 0x66 : 0x64;
    b[at] = rnd(r, 2) ? 0xc5 : 0xc4;
    uint8_t *b1 = &b[at + 1];
    uint8_t *last = b1;
    if (!m64)
        *b1 |= 0xc0;
    if (b[at] == 0xc4) {
        if (rnd(r, 16))
            *b1 = (uint8_t)((*b1 & 0xe0) | (1 + rnd(r, 3)));
        last = b1 + 1;
    }
    if (rnd(r, 2))
        *last |= 0x78;
    return at + (b[at] == 0xc4 ? 3 : 2);
}

/* Bytes that decode as a row of the table, or nearly. */
static unsigned gen_row(struct run *r, uint8_t *b, bool m64)
{
    const struct x86_form_info *f =
        x86_form_info((enum x86_form)(1 + rnd(r, X86_FORM_COUNT - 1)));
    static const uint8_t pp[] = {0, 0x66, 0xf3, 0xf2};
    unsigned at = 0, p = XS_GET_PFX(f->spec), map = f->spec & XS_MAP_MASK;

    p = p >= 1 && p <= 4 ? p - 1 : 0;
    if (f->spec & XS_VEX) {
        b[at++] = 0xc4;
        b[at] = (uint8_t)(((m64 ? b[at] : 0xff) & 0xe0) | map);
        at++;
        b[at] = (uint8_t)((b[at] & 0xf8) | (f->spec & XS_L1 ? 4 : 0) | p);
        b[at] = (uint8_t)((b[at] & 0x7f) | (f->spec & XS_W1 ? 0x80 : 0));
        if (rnd(r, 2))
            b[at] |= 0x78;
        at++;
    } else {
        if (rnd(r, 4) == 0)
            b[at++] = 0x66;
        if (pp[p])
            b[at++] = pp[p];
        if (m64 && rnd(r, 2))
            b[at++] = (uint8_t)(0x40 + rnd(r, 16));
        if (map)
            b[at++] = 0x0f;
        if (map >= X86_MAP_0F38)
            b[at++] = map == X86_MAP_0F38 ? 0x38 : 0x3a;
    }
    b[at++] = f->opcode;
    if (f->spec & XS_R_GIVEN)
        b[at] = (uint8_t)((b[at] & 0xc7) | XS_GET_REG(f->spec) << 3);
    if (f->spec & XS_RM_GIVEN)
        b[at] = (uint8_t)((b[at] & 0xf8) | XS_GET_RM(f->spec));
    if (f->spec & XS_REG)
        b[at] |= 0xc0;
    return at;
}

static void gen(struct run *r, uint8_t *b, bool m64)
{
    for (unsigned i = 0; i < 15; i++)
        b[i] = (uint8_t)rnd(r, 256);
    switch (rnd(r, 8)) {
    case 0:
        break;
    case 1:
    case 2:
    case 3:
        gen_legacy(r, b, m64);
        break;
    case 4:
    case 5:
        gen_vex(r, b, m64);
        break;
    default:
        gen_row(r, b, m64);
        if (rnd(r, 4) == 0)
            b[rnd(r, 6)] ^= (uint8_t)(1u << rnd(r, 8));
    }
}

static bool excuse(struct run *r, size_t i)
{
    r->excused[i]++;
    return true;
}

static bool excuse_cpu_ud(struct run *r, const struct x86_insn *insn)
{
    const struct x86_form_info *f = x86_form_info(insn->form);

    if (f->attr & XA_UD) {
        r->always_ud++;
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (strcmp(reasons[i].what, "cpu #UD") == 0 && reasons[i].id == f->feat)
            return excuse(r, i);
    return false;
}

/* @insn of a #UD answer still says encoding, map and opcode. */
static bool excuse_cpu_runs(struct run *r, const struct x86_insn *insn)
{
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (strcmp(reasons[i].what, "cpu runs") == 0 &&
            reasons[i].enc == insn->enc &&
            (reasons[i].map == insn->map || insn->enc == X86_ENC_EVEX) &&
            reasons[i].from <= insn->opcode && insn->opcode <= reasons[i].to)
            return excuse(r, i);
    return false;
}

static void fail(struct run *r, const char *what, unsigned mode,
                 const uint8_t *b, const struct item *it)
{
    static const char *const names[] = {"ok", "#UD", "too long", "more"};
    char text[100] = "";

    if (r->failed++ >= SHOWN_MAX)
        return;
    if (it->dec == X86_DEC_OK)
        x86_disasm(&it->insn, 0, text, sizeof(text));
    printf("%s: %u-bit ", what, mode);
    for (unsigned i = 0; i < 15; i++)
        printf("%02x", b[i]);
    printf(": ours %s, %u bytes %s\n", names[it->dec], it->insn.len, text);
}

/* What is wrong with the CPU's answer to @p; NULL: it agrees, or differs for a
 * reason that is listed. */
static const char *cpu_verdict(struct run *r, const struct probe *p,
                               const struct item *it)
{
    bool lower_ok = p->n == 1 || p->lower_result == PROBE_MORE;

    if (p->result == PROBE_DIED)
        return NULL; /* counted as lost */
    if (it->dec == X86_DEC_TOO_LONG)
        return p->result == PROBE_RUNS && p->trapno == 13
                   ? NULL
                   : "cpu does not find it too long";
    if (it->dec == X86_DEC_OK) {
        if (p->result == PROBE_UD)
            return excuse_cpu_ud(r, &it->insn) ? NULL : "cpu says #UD";
        if (p->result == PROBE_MORE)
            return "longer on the cpu";
        return p->result == PROBE_RUNS && lower_ok ? NULL
                                                   : "shorter on the cpu";
    }
    if (p->result == PROBE_RUNS)
        return excuse_cpu_runs(r, &it->insn) ? NULL : "cpu runs it";
    return p->result == PROBE_MORE || !lower_ok
               ? "cpu fetches other bytes before #UD"
               : NULL;
}

/* An answer that disturbs the probing child (a signal from outside in between)
 * may be wrong once in a hundred million: a difference must repeat. */
static void check_cpu(struct run *r, struct probe *p, const struct item *it)
{
    const char *wrong = cpu_verdict(r, p, it);

    r->probed++;
    r->lost += p->result == PROBE_DIED;
    for (unsigned again = 0; wrong && again < 3; again++) {
        p->result = p->lower_result = PROBE_NONE;
        if (probe_run(p, 1))
            break;
        wrong = cpu_verdict(r, p, it);
        r->once += !wrong;
    }
    if (wrong)
        fail(r, wrong, p->mode, p->bytes, it);
}

static bool excuse_zydis(struct run *r, const char *isa, unsigned form)
{
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        const struct reason *e = &reasons[i];
        if (isa != NULL ? strcmp(e->what, "zydis runs") == 0 &&
                              strncmp(isa, e->key, strlen(e->key)) == 0
                        : strcmp(e->what, "zydis #UD") == 0 && e->id == form)
            return excuse(r, i);
    }
    return false;
}

static void check_zydis(struct run *r, unsigned m, const uint8_t *b,
                        const struct item *it)
{
    const char *isa = NULL;

    switch (zydis_check(bits[m], b, it->dec, &it->insn, &isa)) {
    case ZY_NONE:
        break;
    case ZY_SAME:
        r->agreed_zydis++;
        break;
    case ZY_REFUSES:
        if (!excuse_zydis(r, NULL, it->insn.form))
            fail(r, "Zydis refuses it", bits[m], b, it);
        break;
    case ZY_DECODES:
        if (!excuse_zydis(r, isa, 0))
            fail(r, "Zydis decodes it", bits[m], b, it);
        break;
    case ZY_LENGTH:
        fail(r, "other length in Zydis", bits[m], b, it);
        break;
    case ZY_OPERANDS:
        fail(r, "other operands in Zydis", bits[m], b, it);
        break;
    }
}

/* One batch of @n strings in mode @m. Returns false when no child runs. */
static bool batch(struct run *r, unsigned m, struct probe *p,
                  struct item *items, size_t n, bool cpu)
{
    for (size_t i = 0; i < n; i++) {
        struct item *it = &items[i];
        gen(r, p[i].bytes, m == 0);
        it->dec = x86_decode(p[i].bytes, 15, modes[m], &it->insn);
        p[i].n = it->insn.len;
        p[i].mode = (uint8_t)bits[m];
        p[i].lower = it->dec != X86_DEC_TOO_LONG;
        p[i].result = PROBE_NONE;
        p[i].lower_result = PROBE_NONE;
        r->ok += it->dec == X86_DEC_OK;
        r->ud += it->dec == X86_DEC_UD;
        r->too_long += it->dec == X86_DEC_TOO_LONG;
        check_zydis(r, m, p[i].bytes, it);
    }
    r->asked[m] += n;
    if (!cpu)
        return true;
    if (probe_run(p, n) != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        check_cpu(r, &p[i], &items[i]);
    return true;
}

static void report(const struct run *r)
{
    printf("strings: 64-bit %" PRIu64 ", 32-bit %" PRIu64 ", 16-bit %" PRIu64
           "; ours: %" PRIu64 " decoded, %" PRIu64 " #UD, %" PRIu64
           " too long\n",
           r->asked[0], r->asked[1], r->asked[2], r->ok, r->ud, r->too_long);
    printf("cpu asked: %" PRIu64 ", lost %" PRIu64 ", not repeatable %" PRIu64
           "; Zydis agrees: %" PRIu64 "\n",
           r->probed, r->lost, r->once, r->agreed_zydis);
    printf("  %8" PRIu64 " forms that raise #UD when run\n", r->always_ud);
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (r->excused[i])
            printf("  %8" PRIu64 " %s: %s%s%s\n", r->excused[i],
                   reasons[i].what, reasons[i].key ? reasons[i].key : "",
                   reasons[i].key ? ", " : "", reasons[i].why);
}

int main(int argc, char **argv)
{
    uint64_t count = 1000000, seed = 1;
    bool cpu = true;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--count") == 0 && i + 1 < argc)
            count = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--no-cpu") == 0)
            cpu = false;
    }
    struct run r = {.rng = seed * 0x9e3779b97f4a7c15ull + 1};
    struct probe *p = probe_alloc(BATCH);
    struct item *items = calloc(BATCH, sizeof(*items));
    if (p == NULL || items == NULL)
        return 1;
    bool can[3];
    for (unsigned m = 0; m < 3; m++) {
        can[m] = cpu && probe_supported(bits[m]);
        if (cpu && !can[m])
            printf("skip cpu in %u-bit mode: no such code here\n", bits[m]);
    }
    for (uint64_t k = 0; k * BATCH < count; k++) {
        unsigned m = k % 4 < 2 ? 0 : k % 4 == 2 ? 1 : 2;
        uint64_t n = count - k * BATCH < BATCH ? count - k * BATCH : BATCH;
        if (!batch(&r, m, p, items, n, can[m]))
            r.failed++;
    }
    report(&r);
    free(items);
    if (r.lost * 1000 > r.probed)
        r.failed++;
    printf("%s decode_diff\n%d passed, %d failed, 0 skipped\n",
           r.failed ? "FAIL" : "ok", r.failed == 0, r.failed != 0);
    return r.failed != 0;
}
