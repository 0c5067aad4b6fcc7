// SPDX-License-Identifier: Apache-2.0
/*
 * The host processor against the named CPU levels; see hostcpu.h. Only what
 * the level promises is looked at: cpu/x86/cpuid.c, in the monitor, decides
 * what the guest sees.
 */
#include "core/hostcpu.h"

#include <cpuid.h>
#include <errno.h>

#include "base/log.h"

struct feature {
    const char *name;
    uint32_t leaf;
    enum {
        REG_EBX,
        REG_ECX,
        REG_EDX
    } reg;
    unsigned bit;
};

/* Source: Intel SDM vol. 2A, CPUID, leaves 1, 7 and 80000001H. */
/* clang-format off */
static const struct feature level_v2[] = {
    {"cx16",   1, REG_ECX, 13},
    {"pni",    1, REG_ECX, 0},
    {"ssse3",  1, REG_ECX, 9},
    {"sse4_1", 1, REG_ECX, 19},
    {"sse4_2", 1, REG_ECX, 20},
    {"popcnt", 1, REG_ECX, 23},
    {"lahf_lm", 0x80000001, REG_ECX, 0},
};
static const struct feature level_v3[] = {
    {"xsave",  1, REG_ECX, 26},
    {"avx",    1, REG_ECX, 28},
    {"fma",    1, REG_ECX, 12},
    {"movbe",  1, REG_ECX, 22},
    {"f16c",   1, REG_ECX, 29},
    {"avx2",   7, REG_EBX, 5},
    {"bmi1",   7, REG_EBX, 3},
    {"bmi2",   7, REG_EBX, 8},
    {"abm",    0x80000001, REG_ECX, 5},
};
/* clang-format on */

static bool has(const struct feature *f)
{
    unsigned a = 0, b = 0, c = 0, d = 0, r;

    if (!__get_cpuid_count(f->leaf, 0, &a, &b, &c, &d))
        return false;
    r = f->reg == REG_EBX ? b : f->reg == REG_ECX ? c : d;
    return (r >> f->bit) & 1;
}

static const char *first_missing(const struct feature *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!has(&list[i]))
            return list[i].name;
    }
    return NULL;
}

const char *hostcpu_missing(enum abi_cpu_level level)
{
    const char *missing = first_missing(level_v2, ARRAY_LEN(level_v2));

    if (missing || level != ABI_CPU_V3)
        return missing;
    missing = first_missing(level_v3, ARRAY_LEN(level_v3));
    if (missing)
        return missing;
    /* The processor has it; does this kernel save the registers? */
    return __builtin_cpu_supports("avx2") ? NULL : "avx2 (kernel support)";
}

const char *hostcpu_level_name(enum abi_cpu_level level)
{
    switch (level) {
    case ABI_CPU_V2:
        return "v2";
    case ABI_CPU_V3:
        return "v3";
    case ABI_CPU_HOST:
        return "host";
    }
    return "?";
}

int hostcpu_choose(enum abi_cpu_level level, bool given,
                   enum abi_cpu_level *out, struct err *e)
{
    const char *missing = hostcpu_missing(level);

    *out = level;
    if (!missing)
        return 0;
    if (level == ABI_CPU_V3 && !given && !hostcpu_missing(ABI_CPU_V2)) {
        log_warn("core", "this host's CPU lacks %s, so the guest gets --cpu v2",
                 missing);
        *out = ABI_CPU_V2;
        return 0;
    }
    return err_set(e, -ENOTSUP,
                   "--cpu %s needs %s, which this host's CPU does "
                   "not have",
                   hostcpu_level_name(level), missing);
}
