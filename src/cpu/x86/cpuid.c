// SPDX-License-Identifier: Apache-2.0
/*
 * The CPUID tables of the levels; see cpuid.h.
 *
 * Where a feature of a level comes from stands in feats[]: always emulated
 * (every host), or run by the host and so asked of it. v3 asks for AES-NI and
 * PCLMULQDQ beyond psABI's list: all CPUs with AVX2 have them, disk encryption
 * and TLS crawl without. RDRAND and RDSEED are emulated (the input gate).
 * AVX-512, PKU, MPX, TSX, VMX, MONITOR are never shown.
 *
 * All levels say family 6 model 0xf0: a model that nobody has. Programs and
 * libraries that choose code by the model (target_clones) would take a known
 * one's AVX-512 for granted. Linux counts an unknown model as affected only by
 * bugs that have a "not affected" bit, so that what IA32_ARCH_CAPABILITIES says
 * decides about mitigations.
 */
#include "cpu/x86/cpuid.h"

#include "cpu/x86/insn.h"
#include "cpu/x86/paging.h"

#include <cpuid.h>
#include <errno.h>

#define SIGNATURE 0x000f0600U
#define MAX_BASIC 0x1fU
#define MAX_EXT   0x80000008U
#define MAX_KVM   0x40000010U

enum {
    EAX,
    EBX,
    ECX,
    EDX
};

/* Where a feature comes from. */
enum source {
    EMU, /* emulated: shown at every level */
    V2,  /* x86-64-v2 and its base: the host must have it */
    V3,  /* x86-64-v3 */
    HOST /* shown at level host if the host has it */
};

struct feat_row {
    const char *name;
    uint8_t feat; /* enum x86_feat; BASE: not an instruction's */
    uint8_t source;
    uint32_t leaf;
    uint8_t reg, bit;
};

#define NOFEAT X86_FEAT_BASE

/* clang-format off */
static const struct feat_row feats[] = {
    {"x87",        X86_FEAT_X87,        V2,   1, EDX, 0},
    {"de",         NOFEAT,              EMU,  1, EDX, 2},
    {"pse",        NOFEAT,              EMU,  1, EDX, 3},
    {"tsc",        X86_FEAT_TSC,        EMU,  1, EDX, 4},
    {"msr",        X86_FEAT_MSR,        EMU,  1, EDX, 5},
    {"pae",        NOFEAT,              EMU,  1, EDX, 6},
    {"mce",        NOFEAT,              EMU,  1, EDX, 7},
    {"cx8",        X86_FEAT_CX8,        V2,   1, EDX, 8},
    {"apic",       NOFEAT,              EMU,  1, EDX, 9},
    {"sep",        X86_FEAT_SEP,        EMU,  1, EDX, 11},
    {"mtrr",       NOFEAT,              EMU,  1, EDX, 12},
    {"pge",        NOFEAT,              EMU,  1, EDX, 13},
    {"mca",        NOFEAT,              EMU,  1, EDX, 14},
    {"cmov",       X86_FEAT_CMOV,       V2,   1, EDX, 15},
    {"pat",        NOFEAT,              EMU,  1, EDX, 16},
    {"pse36",      NOFEAT,              EMU,  1, EDX, 17},
    {"clflush",    X86_FEAT_CLFSH,      EMU,  1, EDX, 19},
    {"mmx",        X86_FEAT_MMX,        V2,   1, EDX, 23},
    {"fxsr",       X86_FEAT_FXSR,       V2,   1, EDX, 24},
    {"sse",        X86_FEAT_SSE,        V2,   1, EDX, 25},
    {"sse2",       X86_FEAT_SSE2,       V2,   1, EDX, 26},
    {"sse3",       X86_FEAT_SSE3,       V2,   1, ECX, 0},
    {"pclmulqdq",  X86_FEAT_PCLMUL,     V3,   1, ECX, 1},
    {"ssse3",      X86_FEAT_SSSE3,      V2,   1, ECX, 9},
    {"fma",        X86_FEAT_FMA,        V3,   1, ECX, 12},
    {"cx16",       X86_FEAT_CX16,       V2,   1, ECX, 13},
    {"pcid",       NOFEAT,              EMU,  1, ECX, 17},
    {"sse4_1",     X86_FEAT_SSE41,      V2,   1, ECX, 19},
    {"sse4_2",     X86_FEAT_SSE42,      V2,   1, ECX, 20},
    {"x2apic",     NOFEAT,              EMU,  1, ECX, 21},
    {"movbe",      X86_FEAT_MOVBE,      V3,   1, ECX, 22},
    {"popcnt",     X86_FEAT_POPCNT,     V2,   1, ECX, 23},
    {"tsc_deadline", NOFEAT,            EMU,  1, ECX, 24},
    {"aes",        X86_FEAT_AES,        V3,   1, ECX, 25},
    {"xsave",      X86_FEAT_XSAVE,      V3,   1, ECX, 26},
    {"avx",        X86_FEAT_AVX,        V3,   1, ECX, 28},
    {"f16c",       X86_FEAT_F16C,       V3,   1, ECX, 29},
    {"rdrand",     X86_FEAT_RDRAND,     EMU,  1, ECX, 30},
    {"hypervisor", NOFEAT,              EMU,  1, ECX, 31},
    {"arat",       NOFEAT,              EMU,  6, EAX, 2},
    {"fsgsbase",   X86_FEAT_FSGSBASE,   EMU,  7, EBX, 0},
    {"tsc_adjust", NOFEAT,              EMU,  7, EBX, 1},
    {"bmi1",       X86_FEAT_BMI1,       V3,   7, EBX, 3},
    {"avx2",       X86_FEAT_AVX2,       V3,   7, EBX, 5},
    {"smep",       NOFEAT,              EMU,  7, EBX, 7},
    {"bmi2",       X86_FEAT_BMI2,       V3,   7, EBX, 8},
    {"erms",       NOFEAT,              EMU,  7, EBX, 9},
    {"invpcid",    X86_FEAT_INVPCID,    EMU,  7, EBX, 10},
    {"rdseed",     X86_FEAT_RDSEED,     EMU,  7, EBX, 18},
    {"adx",        X86_FEAT_ADX,        HOST, 7, EBX, 19},
    {"smap",       X86_FEAT_SMAP,       EMU,  7, EBX, 20},
    {"clflushopt", X86_FEAT_CLFLUSHOPT, HOST, 7, EBX, 23},
    {"clwb",       X86_FEAT_CLWB,       HOST, 7, EBX, 24},
    {"sha_ni",     X86_FEAT_SHA,        HOST, 7, EBX, 29},
    {"umip",       NOFEAT,              EMU,  7, ECX, 2},
    {"gfni",       X86_FEAT_GFNI,       HOST, 7, ECX, 8},
    {"vaes",       X86_FEAT_VAES,       HOST, 7, ECX, 9},
    {"vpclmulqdq", X86_FEAT_VPCLMUL,    HOST, 7, ECX, 10},
    {"rdpid",      X86_FEAT_RDPID,      EMU,  7, ECX, 22},
    {"fsrm",       NOFEAT,              EMU,  7, EDX, 4},
    {"lahf_lm",    X86_FEAT_LAHF64,     V2,   0x80000001, ECX, 0},
    {"lzcnt",      X86_FEAT_LZCNT,      V3,   0x80000001, ECX, 5},
    {"prefetchw",  X86_FEAT_PREFETCHW,  HOST, 0x80000001, ECX, 8},
    {"syscall",    X86_FEAT_SYSCALL,    EMU,  0x80000001, EDX, 11},
    {"nx",         NOFEAT,              EMU,  0x80000001, EDX, 20},
    {"pdpe1gb",    NOFEAT,              EMU,  0x80000001, EDX, 26},
    {"rdtscp",     X86_FEAT_RDTSCP,     EMU,  0x80000001, EDX, 27},
    {"lm",         X86_FEAT_LM,         V2,   0x80000001, EDX, 29},
    {"nonstop_tsc", NOFEAT,             EMU,  0x80000007, EDX, 8},
};
/* clang-format on */

/* IA32_ARCH_CAPABILITIES (SDM vol. 4 table 2-2): RDCL_NO, IBRS_ALL, SKIP_L1DFL,
 * SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO,
 * BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO */
#define ARCH_CAPS_IMMUNE                                                       \
    (BIT(0) | BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(13) |  \
     BIT(14) | BIT(15) | BIT(20) | BIT(24) | BIT(26) | BIT(27) | BIT(62))

/* KVM paravirtual features: clocksource, no I/O delay, clocksource2, stable
 * clocksource. */
#define KVM_FEATURES (1U | 1U << 1 | 1U << 3 | 1U << 24)

/* ---- the host ---- */

static void host_leaf(uint32_t leaf, uint32_t r[4])
{
    r[0] = r[1] = r[2] = r[3] = 0;
    if ((uint32_t)__get_cpuid_max(leaf & 0x80000000U, NULL) >= leaf)
        __cpuid_count(leaf, 0, r[0], r[1], r[2], r[3]);
}

/* XCR0 as the host's OS has set it; 0 without OSXSAVE. */
static uint64_t host_xcr0(void)
{
    uint32_t r[4], lo, hi;

    host_leaf(1, r);
    if (!(r[ECX] >> 27 & 1))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static bool host_has(const struct feat_row *f)
{
    uint32_t r[4];
    bool avx = f->feat == X86_FEAT_AVX || f->feat == X86_FEAT_AVX2 ||
               f->feat == X86_FEAT_FMA || f->feat == X86_FEAT_F16C ||
               f->feat == X86_FEAT_VAES || f->feat == X86_FEAT_VPCLMUL;

    host_leaf(f->leaf, r);
    if (f->feat == X86_FEAT_LM || f->feat == X86_FEAT_X87)
        return true; /* we run */
    if (avx && (host_xcr0() & 7) != 7)
        return false;
    if (f->feat == X86_FEAT_XSAVE && !host_xcr0())
        return false;
    return r[f->reg] >> f->bit & 1;
}

/* ---- building ---- */

static struct x86_cpuid_leaf *leaf_find(struct x86_cpuid *c, uint32_t leaf,
                                        uint32_t sub)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->leaf[i].leaf == leaf &&
            (c->leaf[i].sub < 0 || c->leaf[i].sub == (int32_t)sub))
            return &c->leaf[i];
    return NULL;
}

static uint32_t *leaf_add(struct x86_cpuid *c, uint32_t leaf, int32_t sub)
{
    struct x86_cpuid_leaf *l = &c->leaf[c->n++];

    l->leaf = leaf;
    l->sub = sub;
    return l->r;
}

static void leaf_put(struct x86_cpuid *c, uint32_t leaf, int32_t sub,
                     const uint32_t r[4])
{
    memcpy(leaf_add(c, leaf, sub), r, 4 * sizeof *r);
}

#define R(a, b, c, d)                                                          \
    (const uint32_t[4])                                                        \
    {                                                                          \
        a, b, c, d                                                             \
    }

static uint32_t text4(const char *s)
{
    uint32_t v;

    memcpy(&v, s, sizeof v);
    return v;
}

/* Bits of APIC id below the package's. */
static unsigned core_shift(unsigned ncpus)
{
    unsigned s = 0;

    while ((1U << s) < ncpus)
        s++;
    return s;
}

/* Leaf 4: type, level, ways, sets of one cache shared by @sharing ids. */
static void cache_add(struct x86_cpuid *c, int32_t sub, unsigned type_level,
                      unsigned ways, unsigned sets, unsigned sharing)
{
    unsigned cores = 1U << core_shift(c->conf.ncpus);

    leaf_put(c, 4, sub,
             R(type_level | 1U << 8 | (sharing - 1) << 14 | (cores - 1) << 26,
               63U | (ways - 1) << 22, sets - 1, 0));
}

static void build_basic(struct x86_cpuid *c)
{
    unsigned n = c->conf.ncpus, cores = 1U << core_shift(n);

    leaf_put(c, 0, -1,
             R(MAX_BASIC, text4("Genu"), text4("ntel"), text4("ineI")));
    leaf_put(c, 1, -1,
             R(SIGNATURE, 8U << 8 | cores << 16, 0, n > 1 ? 1U << 28 : 0));
    leaf_put(c, 2, -1, R(0x00feff01, 0xf0, 0, 0)); /* see leaf 4 */
    cache_add(c, 0, 1 | 1 << 5, 8, 64, 1);         /* L1D 32 KiB */
    cache_add(c, 1, 2 | 1 << 5, 8, 64, 1);         /* L1I 32 KiB */
    cache_add(c, 2, 3 | 2 << 5, 16, 1024, 1);      /* L2 1 MiB */
    cache_add(c, 3, 3 | 3 << 5, 16, 16384, cores); /* L3 16 MiB */
    leaf_put(c, 6, -1, R(0, 0, 0, 0));
    leaf_put(c, 7, 0, R(2, 0, 0, 0)); /* subleaves to 2 */
    leaf_put(c, 7, 2, R(0, 0, 0, 0));
    for (unsigned l = 0xb; l <= 0x1f; l += 0x14) {
        leaf_put(c, l, 0, R(0, 1, 1U << 8, 0));
        leaf_put(c, l, 1, R(core_shift(n), n, 2U << 8 | 1, 0));
    }
    leaf_put(c, 0x15, -1,
             R(1, c->conf.tsc_khz / c->crystal_khz, c->crystal_khz * 1000U, 0));
    leaf_put(c, 0x16, -1,
             R(c->conf.tsc_khz / 1000, c->conf.tsc_khz / 1000, 100, 0));
}

static void build_ext(struct x86_cpuid *c)
{
    static const char *const names[] = {
        [X86_LEVEL_V2] = "Doppel vCPU, level v2",
        [X86_LEVEL_V3] = "Doppel vCPU, level v3",
        [X86_LEVEL_HOST] = "Doppel vCPU, level host"};
    char brand[48] = {0};

    memcpy(brand, names[c->conf.level], strlen(names[c->conf.level]));
    leaf_put(c, 0x80000000U, -1, R(MAX_EXT, 0, 0, 0));
    leaf_put(c, 0x80000001U, -1, R(0, 0, 0, 0));
    for (unsigned i = 0; i < 3; i++)
        memcpy(leaf_add(c, 0x80000002U + i, -1), brand + 16 * i, 16);
    /* L2: 1024 KiB, 16-way (code 8), 64-byte lines */
    leaf_put(c, 0x80000006U, -1, R(0, 0, 1024U << 16 | 8U << 12 | 64, 0));
    leaf_put(c, 0x80000007U, -1, R(0, 0, 0, 0));
    leaf_put(c, 0x80000008U, -1, R(X86_MAXPHYADDR | X86_VA_BITS << 8, 0, 0, 0));
}

static void build_xsave(struct x86_cpuid *c)
{
    if (!x86_cpuid_has(c, X86_FEAT_XSAVE))
        return;
    c->xcr0 = X86_XCR0_X87 | X86_XCR0_SSE;
    if (x86_cpuid_has(c, X86_FEAT_AVX))
        c->xcr0 |= X86_XCR0_AVX;
    /* EBX: by XCR0, see x86_cpuid_query */
    leaf_put(c, 0xd, 0,
             R((uint32_t)c->xcr0, 0, c->xcr0 & X86_XCR0_AVX ? 832 : 576, 0));
    leaf_put(c, 0xd, 1, R(1U | 1U << 2, 0, 0, 0)); /* XSAVEOPT, XGETBV(1) */
    c->feat[X86_FEAT_XSAVEOPT / 64] |= BIT(X86_FEAT_XSAVEOPT % 64);
    if (c->xcr0 & X86_XCR0_AVX)
        leaf_put(c, 0xd, 2, R(256, X86_XSAVE_AVX_OFFSET, 0, 0));
}

static void build_kvm(struct x86_cpuid *c)
{
    if (c->conf.no_kvm)
        return;
    c->max_kvm = MAX_KVM;
    leaf_put(c, 0x40000000U, -1,
             R(MAX_KVM, text4("KVMK"), text4("VMKV"), text4("M\0\0")));
    leaf_put(c, 0x40000001U, -1, R(KVM_FEATURES, 0, 0, 0));
    leaf_put(c, MAX_KVM, -1, R(c->conf.tsc_khz, c->crystal_khz, 0, 0));
}

/* Speculation: leaf 7 EDX says SPEC_CTRL with IBPB (26), STIBP (27) and
 * ARCH_CAPABILITIES (29) when immunity is claimed, none of it otherwise.
 * BHI_CTRL (subleaf 2) too: since 2025 Linux clears the branch history in
 * software at each system call, BHI_NO or not, unless BHI_DIS_S is there. */
static void build_speculation(struct x86_cpuid *c)
{
    if (c->conf.mitigations)
        return;
    c->arch_capabilities = ARCH_CAPS_IMMUNE;
    leaf_find(c, 7, 0)->r[EDX] |= 1U << 26 | 1U << 27 | 1U << 29;
    leaf_find(c, 7, 2)->r[EDX] |= 1U << 4;
}

static int build_feats(struct x86_cpuid *c, struct err *e)
{
    enum x86_level level = c->conf.level;

    c->feat[0] |= BIT(X86_FEAT_BASE);
    for (size_t i = 0; i < ARRAY_LEN(feats); i++) {
        const struct feat_row *f = &feats[i];
        bool must =
            f->source == V2 || (f->source == V3 && level == X86_LEVEL_V3);
        bool may = f->source == EMU || f->source == V2 ||
                   (f->source == V3 && level != X86_LEVEL_V2) ||
                   level == X86_LEVEL_HOST;

        if (!may)
            continue;
        if (f->source != EMU && !host_has(f)) {
            if (!must)
                continue;
            return err_set(e, -ENOTSUP,
                           "cpu: level %s needs %s, which this host lacks",
                           level == X86_LEVEL_V2   ? "v2"
                           : level == X86_LEVEL_V3 ? "v3"
                                                   : "host",
                           f->name);
        }
        leaf_find(c, f->leaf, 0)->r[f->reg] |= 1U << f->bit;
        c->feat[f->feat / 64] |= BIT(f->feat % 64);
    }
    return 0;
}

int x86_cpuid_build(const struct x86_cpuid_conf *conf, struct x86_cpuid *out,
                    struct err *e)
{
    int r;

    if (conf->ncpus == 0 || conf->ncpus > X86_CPUS_MAX)
        return err_set(e, -EINVAL, "cpu: %u vCPUs, of 1 to %u", conf->ncpus,
                       X86_CPUS_MAX);
    if (conf->tsc_khz < 1000)
        return err_set(e, -EINVAL, "cpu: a TSC of %u kHz is too slow",
                       conf->tsc_khz);
    memset(out, 0, sizeof *out);
    out->conf = *conf;
    out->max_basic = MAX_BASIC;
    out->max_ext = MAX_EXT;
    /* the crystal's Hz have to fit 32 bits */
    out->crystal_khz =
        conf->tsc_khz > UINT32_MAX / 1000 ? conf->tsc_khz / 2 : conf->tsc_khz;
    build_basic(out);
    build_ext(out);
    r = build_feats(out, e);
    if (r)
        return r;
    build_xsave(out);
    build_speculation(out);
    build_kvm(out);
    return 0;
}

enum x86_level x86_cpuid_best_level(void)
{
    for (size_t i = 0; i < ARRAY_LEN(feats); i++)
        if (feats[i].source == V3 && !host_has(&feats[i]))
            return X86_LEVEL_V2;
    return X86_LEVEL_V3;
}

int x86_cpuid_level_parse(const char *name, enum x86_level *out, struct err *e)
{
    static const char *const names[] = {[X86_LEVEL_V2] = "v2",
                                        [X86_LEVEL_V3] = "v3",
                                        [X86_LEVEL_HOST] = "host"};

    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (!strcmp(name, names[i])) {
            *out = i;
            return 0;
        }
    return err_set(e, -EINVAL, "cpu: no level '%s'; there are v2, v3, host",
                   name);
}

bool x86_cpuid_bit(const struct x86_cpuid *c, uint32_t leaf, uint32_t sub,
                   unsigned reg, unsigned bit)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->leaf[i].leaf == leaf &&
            (c->leaf[i].sub < 0 || c->leaf[i].sub == (int32_t)sub))
            return c->leaf[i].r[reg] >> bit & 1;
    return false;
}

/* ---- asking ---- */

/* What changes while the machine runs. */
static void query_dynamic(const struct x86_cpu *cpu, uint32_t leaf,
                          uint32_t sub, uint32_t r[4])
{
    switch (leaf) {
    case 1:
        r[EBX] |= cpu->lapic.id << 24;
        if (cpu->cr4 & X86_CR4_OSXSAVE)
            r[ECX] |= 1U << 27;
        if (!(cpu->lapic.apic_base & BIT(11)))
            r[EDX] &= ~(1U << 9);
        break;
    case 0xb:
    case 0x1f:
        if (sub > 1)
            r[ECX] = sub & 0xff;
        r[EDX] = cpu->lapic.id;
        break;
    case 0xd:
        if (sub < 2 && cpu->cpuid->xcr0)
            r[EBX] = cpu->xcr0 & X86_XCR0_AVX ? 832 : 576;
        break;
    default:
        break;
    }
}

void x86_cpuid_query(const struct x86_cpu *cpu, uint32_t leaf, uint32_t sub,
                     uint32_t r[4])
{
    const struct x86_cpuid *c = cpu->cpuid;
    bool kvm = leaf >= 0x40000000U && leaf <= c->max_kvm;
    bool ext = leaf >= 0x80000000U && leaf <= c->max_ext;

    r[0] = r[1] = r[2] = r[3] = 0;
    /* beyond the last leaf Intel CPUs answer as for the last basic one */
    if (!kvm && !ext && leaf > c->max_basic)
        leaf = c->max_basic;
    for (unsigned i = 0; i < c->n; i++)
        if (c->leaf[i].leaf == leaf &&
            (c->leaf[i].sub < 0 || c->leaf[i].sub == (int32_t)sub))
            memcpy(r, c->leaf[i].r, 4 * sizeof *r);
    query_dynamic(cpu, leaf, sub, r);
}
