// SPDX-License-Identifier: Apache-2.0
/*
 * The CPU that the guest sees: named levels, each with a fixed family, model
 * and stepping, so that clones and migrations fit other hosts.
 *   v2    x86-64-v2
 *   v3    x86-64-v3; both with what is emulated here on any host
 *   host  what the host has and this house can run
 * Built once per VM, read by CPUID, by feature checks and by MSR checks.
 * Source: Intel SDM vol. 2A CPUID; psABI x86-64 3.1.1 (levels); Linux
 * Documentation/virt/kvm/x86/cpuid.rst.
 */
#ifndef DOPPEL_CPU_X86_CPUID_H
#define DOPPEL_CPU_X86_CPUID_H

#include "base/cc.h"
#include "base/err.h"
#include "cpu/x86/state.h"

enum x86_level {
    X86_LEVEL_V2,
    X86_LEVEL_V3,
    X86_LEVEL_HOST
};

struct x86_cpuid_conf {
    enum x86_level level;
    unsigned ncpus;
    uint32_t tsc_khz;
    bool mitigations; /* true: don't claim immunity to speculation bugs */
    bool no_kvm;      /* leave out the 0x4000_0000 leaves */
};

/* One leaf; sub < 0: any subleaf. */
struct x86_cpuid_leaf {
    uint32_t leaf;
    int32_t sub;
    uint32_t r[4]; /* EAX EBX ECX EDX */
};

#define X86_CPUID_LEAVES_MAX 64

struct x86_cpuid {
    struct x86_cpuid_conf conf;
    uint32_t max_basic, max_ext, max_kvm; /* 0: no such range */
    unsigned n;
    struct x86_cpuid_leaf leaf[X86_CPUID_LEAVES_MAX];
    uint32_t crystal_khz;       /* leaf 0x15: TSC = crystal * 1 or 2; the
                                   local APIC's timer counts it */
    uint64_t xcr0;              /* bits that XSETBV takes */
    uint64_t arch_capabilities; /* IA32_ARCH_CAPABILITIES */
    uint64_t feat[4];           /* bit = enum x86_feat */
};

/** x86_cpuid_build() - the tables of @conf's level
 * Return: 0, or -ENOTSUP: the host lacks a feature (named) of the level;
 * -EINVAL: ncpus is 0 or above X86_CPUS_MAX. Thread: main. */
MUST_CHECK int x86_cpuid_build(const struct x86_cpuid_conf *conf,
                               struct x86_cpuid *out, struct err *e);

/** x86_cpuid_best_level() - v3 if the host has it, else v2 */
enum x86_level x86_cpuid_best_level(void);

/** x86_cpuid_level_parse() - "v2", "v3", "host"; 0 or -EINVAL */
MUST_CHECK int x86_cpuid_level_parse(const char *name, enum x86_level *out,
                                     struct err *e);

/** x86_cpuid_query() - what CPUID returns on @cpu now: r = EAX EBX ECX EDX */
void x86_cpuid_query(const struct x86_cpu *cpu, uint32_t leaf, uint32_t sub,
                     uint32_t r[4]);

/** x86_cpuid_has() - whether @feat (enum x86_feat of cpu/x86/insn.h) is shown
 */
static inline bool x86_cpuid_has(const struct x86_cpuid *c, unsigned feat)
{
    return feat < 256 && (c->feat[feat / 64] >> (feat % 64) & 1);
}

/** x86_cpuid_bit() - bit @bit of register @reg (0-3) of a leaf as built */
bool x86_cpuid_bit(const struct x86_cpuid *c, uint32_t leaf, uint32_t sub,
                   unsigned reg, unsigned bit);

#endif
