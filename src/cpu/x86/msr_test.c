// SPDX-License-Identifier: Apache-2.0
/* Tests of MSRs, control registers and CPUID. */
#include "cpu/x86/msr.h"

#include "base/test.h"
#include "cpu/x86/control.h"
#include "cpu/x86/cpu_fixture.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/insn.h"
#include "cpu/x86/paging.h"

static struct fx fx;
static struct x86_cpu *const cpu = &fx.cpu[0];

/* Value written and what must come of it. */
static void wr(uint32_t msr, uint64_t val, bool ok)
{
    uint64_t back = ~val;
    int r = x86_wrmsr(cpu, msr, val);

    if ((r == 0) != ok)
        printf("MSR 0x%x = 0x%" PRIx64 "\n", msr, val);
    CHECK_EQ(r == 0, ok);
    if (!ok) {
        CHECK_EQ(cpu->exc.vector, X86_VEC_GP);
        CHECK_EQ(cpu->exc.error, 0);
        return;
    }
    CHECK_EQ(x86_rdmsr(cpu, msr, &back), 0);
    CHECK_EQ(back, val);
}

TEST(canonical_ones)
{
    static const uint32_t list[] = {
        X86_MSR_LSTAR,       X86_MSR_CSTAR,          X86_MSR_FS_BASE,
        X86_MSR_GS_BASE,     X86_MSR_KERNEL_GS_BASE, X86_MSR_SYSENTER_ESP,
        X86_MSR_SYSENTER_EIP};

    fx_init(&fx, 1);
    for (size_t i = 0; i < ARRAY_LEN(list); i++) {
        wr(list[i], UINT64_C(0xffff800000000000), true);
        wr(list[i], UINT64_C(0x00007fffffffffff), true);
        wr(list[i], UINT64_C(0x0000800000000000), false);
        wr(list[i], BIT(63), false);
    }
    fx_fini(&fx);
}

TEST(reserved_bits)
{
    fx_init(&fx, 1);
    wr(X86_MSR_STAR, ~UINT64_C(0), true);
    wr(X86_MSR_FMASK, 0x47700, true);
    wr(X86_MSR_FMASK, BIT(32), false);
    wr(X86_MSR_TSC_AUX, 0xffffffffU, true);
    wr(X86_MSR_TSC_AUX, BIT(32), false);
    wr(X86_MSR_PAT, UINT64_C(0x0007050600070106), true);
    wr(X86_MSR_PAT, 2, false);
    wr(X86_MSR_PAT, UINT64_C(8) << 56, false);
    wr(X86_MSR_MTRR_DEF_TYPE, 0xc06, true);
    wr(X86_MSR_MTRR_DEF_TYPE, 0xc02, false);
    wr(X86_MSR_MTRR_DEF_TYPE, 0x1c06, false);
    wr(X86_MSR_MTRR_PHYS, 0xc0000000U, true);
    wr(X86_MSR_MTRR_PHYS, 0xc0000007U, false);
    wr(X86_MSR_MTRR_PHYS + 15, UINT64_C(0xffc0000800), true);
    wr(X86_MSR_MTRR_PHYS + 15, BIT(40), false);
    wr(X86_MSR_MTRR_FIX4K + 7, UINT64_C(0x0505050505050505), true);
    wr(X86_MSR_EFER, X86_EFER_SCE | X86_EFER_LME | X86_EFER_NXE, true);
    wr(X86_MSR_EFER, BIT(12), false);
    wr(X86_MSR_DEBUGCTL, 0, true);
    wr(X86_MSR_DEBUGCTL, BIT(14), false);
    wr(X86_MSR_MC0_CTL, ~UINT64_C(0), true);
    wr(X86_MSR_MC0_CTL + 1, 0, true);
    wr(X86_MSR_MC0_CTL + 1, 1, false);
    wr(X86_MSR_MC0_CTL + 16, 0, false); /* four banks */
    wr(X86_MSR_FEATURE_CONTROL, 5, false);
    wr(X86_MSR_SPEC_CTRL, 1, true);
    wr(X86_MSR_SPEC_CTRL, 0x401, true);
    wr(X86_MSR_SPEC_CTRL, 4, false);
    wr(X86_MSR_ARCH_CAPABILITIES, 0, false);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_PRED_CMD, 1), 0);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_PRED_CMD, 2), X86_FAULT);
    CHECK_EQ(cpu->unknown_msr_count, 1); /* the fifth bank only */
    wr(0xc0010015, 0, false);
    CHECK_EQ(cpu->unknown_msr_count, 2);
    /* LME while paging is on; LMA is read only */
    cpu->efer = X86_EFER_LME;
    cpu->cr0 |= X86_CR0_PG | X86_CR0_PE;
    wr(X86_MSR_EFER, 0, false);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_EFER, X86_EFER_LME | X86_EFER_LMA), 0);
    CHECK_EQ(cpu->efer, X86_EFER_LME);
    cpu->cpl = 3;
    wr(X86_MSR_STAR, 0, false);
    fx_fini(&fx);
}

TEST(tsc)
{
    uint64_t v;

    fx_init(&fx, 1);
    clock_virtual_add(fx.vm.clock, 5000);
    CHECK_EQ(x86_rdmsr(cpu, X86_MSR_TSC, &v), 0);
    CHECK_EQ(v, 5000);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_TSC, 100), 0);
    CHECK_EQ(x86_rdmsr(cpu, X86_MSR_TSC_ADJUST, &v), 0);
    CHECK_EQ(v, (uint64_t)-4900);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_TSC_ADJUST, 0), 0);
    CHECK_EQ(x86_rdtsc(cpu, &v), 0);
    CHECK_EQ(v, 5000);
    cpu->cr4 |= X86_CR4_TSD;
    cpu->cpl = 3;
    CHECK_EQ(x86_rdtsc(cpu, &v), X86_FAULT);
    CHECK(fx.vm.gate.count[INPUT_TSC] >= 3);
    fx_fini(&fx);
}

/* The guest's arithmetic on struct pvclock_vcpu_time_info. */
static uint64_t guest_ns(uint64_t at, uint64_t tsc)
{
    uint64_t delta = tsc - fx_get64(&fx, at + 8);
    uint32_t mul = fx_get32(&fx, at + 24);
    int8_t shift = (int8_t)fx_get32(&fx, at + 28);

    delta = shift < 0 ? delta >> -shift : delta << shift;
    return fx_get64(&fx, at + 16) +
           (uint64_t)((unsigned __int128)delta * mul >> 32);
}

TEST(kvmclock)
{
    uint64_t v, ns;

    fx_init(&fx, 1);
    clock_virtual_add(fx.vm.clock, 7 * NS_PER_S);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_TSC, UINT64_C(123456789000)), 0);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_KVM_SYSTEM, 0x3000 | 1), 0);
    CHECK_EQ(fx_get32(&fx, 0x3000), 2); /* even: complete */
    CHECK_EQ(fx_get64(&fx, 0x3018) >> 40 & 0xff, 1);
    clock_virtual_add(fx.vm.clock, 3 * NS_PER_S);
    CHECK_EQ(x86_rdtsc(cpu, &v), 0);
    ns = guest_ns(0x3000, v);
    CHECK(ns - 9999999990U < 20);
    /* moving the TSC rewrites the structure: time goes on */
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_TSC, 1), 0);
    CHECK_EQ(fx_get32(&fx, 0x3000), 4);
    CHECK_EQ(x86_rdtsc(cpu, &v), 0);
    CHECK(guest_ns(0x3000, v) - 9999999990U < 20);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_KVM_WALL, 0x4000), 0);
    CHECK_EQ(fx_get32(&fx, 0x4004), 0); /* the wall clock began at 0 */
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_KVM_SYSTEM, UINT64_C(0xfffffff001)), 0);
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_KVM_STEAL_TIME, 0), X86_FAULT);
    fx_fini(&fx);
}

/* ---- control registers ---- */

TEST(cr0_cr4_rules)
{
    fx_init(&fx, 1);
    CHECK_EQ(x86_mov_to_cr(cpu, 0, X86_CR0_PG), X86_FAULT);
    CHECK_EQ(x86_mov_to_cr(cpu, 0, X86_CR0_PE | X86_CR0_NW), X86_FAULT);
    CHECK_EQ(x86_mov_to_cr(cpu, 0, BIT(32) | X86_CR0_PE), X86_FAULT);
    CHECK_EQ(x86_mov_to_cr(cpu, 1, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_UD);
    CHECK_EQ(x86_mov_to_cr(cpu, 4, X86_CR4_VME), X86_FAULT);
    CHECK_EQ(x86_mov_to_cr(cpu, 4, X86_CR4_LA57), X86_FAULT);
    CHECK_EQ(x86_mov_to_cr(cpu, 4, X86_CR4_PCIDE | X86_CR4_PAE), X86_FAULT);
    /* into long mode, as a trampoline does it */
    CHECK_EQ(x86_wrmsr(cpu, X86_MSR_EFER, X86_EFER_LME), 0);
    CHECK_EQ(x86_mov_to_cr(cpu, 0, X86_CR0_PE | X86_CR0_PG), X86_FAULT);
    CHECK_EQ(x86_mov_to_cr(cpu, 4, X86_CR4_PAE), 0);
    CHECK_EQ(x86_mov_to_cr(cpu, 3, 0x4000), 0);
    CHECK_EQ(x86_mov_to_cr(cpu, 0, X86_CR0_PE | X86_CR0_PG), 0);
    CHECK_EQ(cpu->efer, X86_EFER_LME | X86_EFER_LMA);
    CHECK_EQ(x86_mov_to_cr(cpu, 4, 0), X86_FAULT);
    CHECK_EQ(x86_mov_to_cr(cpu, 3, 0x4001), 0);
    CHECK_EQ(x86_mov_to_cr(cpu, 4, X86_CR4_PAE | X86_CR4_PCIDE), X86_FAULT);
    CHECK_EQ(x86_mov_to_cr(cpu, 3, BIT(63) | 0x4000), X86_FAULT);
    CHECK_EQ(x86_mov_to_cr(cpu, 3, 0x4000), 0);
    CHECK_EQ(x86_mov_to_cr(cpu, 4, X86_CR4_PAE | X86_CR4_PCIDE), 0);
    CHECK_EQ(x86_mov_to_cr(cpu, 3, BIT(63) | 0x5001), 0);
    CHECK_EQ(cpu->cr3, 0x5001);
    CHECK_EQ(x86_mov_to_cr(cpu, 3, BIT(41)), X86_FAULT);
    /* out again: PCIDE forbids, then compatibility mode may */
    CHECK_EQ(x86_mov_to_cr(cpu, 0, X86_CR0_PE), X86_FAULT);
    CHECK_EQ(x86_mov_to_cr(cpu, 4, X86_CR4_PAE), 0);
    cpu->seg[X86_SEG_CS].attr |= (uint32_t)X86_SEG_L;
    CHECK_EQ(x86_mov_to_cr(cpu, 0, X86_CR0_PE), X86_FAULT);
    cpu->seg[X86_SEG_CS].attr &= ~(uint32_t)X86_SEG_L;
    CHECK_EQ(x86_mov_to_cr(cpu, 0, X86_CR0_PE), 0);
    CHECK_EQ(cpu->efer, X86_EFER_LME);
    CHECK_EQ(x86_lmsw(cpu, 0), 0);
    CHECK(cpu->cr0 & X86_CR0_PE); /* LMSW cannot leave protected mode */
    fx_fini(&fx);
}

TEST(dr_rules)
{
    uint64_t v;

    fx_init(&fx, 1);
    CHECK_EQ(x86_mov_to_dr(cpu, 7, ~UINT64_C(0)), X86_FAULT);
    CHECK_EQ(x86_mov_to_dr(cpu, 7, 0xffffdfffU), 0); /* all but GD */
    CHECK_EQ(x86_mov_from_dr(cpu, 5, &v), 0);
    CHECK_EQ(v, 0xffff07ffU);
    CHECK_EQ(x86_mov_to_dr(cpu, 4, 0), 0);
    CHECK_EQ(x86_mov_from_dr(cpu, 6, &v), 0);
    CHECK_EQ(v, X86_DR6_FIXED);
    cpu->cr4 = X86_CR4_DE;
    CHECK_EQ(x86_mov_from_dr(cpu, 4, &v), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_UD);
    CHECK_EQ(x86_mov_to_dr(cpu, 7, X86_DR7_GD), 0);
    CHECK_EQ(x86_mov_from_dr(cpu, 0, &v), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_DB);
    CHECK_EQ(cpu->exc.dr6, X86_DR6_BD);
    fx_fini(&fx);
}

static struct bus_region bar;
static uint64_t bar_last;

static uint64_t bar_read(void *dev, uint64_t off, unsigned size)
{
    (void)dev;
    return off | (uint64_t)size << 8;
}

static void bar_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    (void)dev;
    bar_last = off | (uint64_t)size << 8 | val << 16;
}

/* What is not RAM goes to the bus in aligned pieces, reads by the gate. */
TEST(mmio)
{
    static const struct bus_ops ops = {.read = bar_read, .write = bar_write};
    uint64_t v = 0;

    fx_init(&fx, 1);
    bar = (struct bus_region){
        .start = 0x80000000U, .len = 0x1000, .ops = &ops, .name = "bar"};
    CHECK_EQ(bus_add(fx.vm.mmio, &bar, NULL), 0);
    CHECK_EQ(x86_lin_read(cpu, 0x80000010U, &v, 4, 0), 0);
    CHECK_EQ(v, 0x410);
    CHECK_EQ(x86_lin_read(cpu, 0x80000011U, &v, 2, 0), 0);
    CHECK_EQ(v & 0xffff, 0x1211); /* one byte at 0x11, one at 0x12 */
    CHECK_EQ(fx.vm.gate.count[INPUT_MMIO], 3);
    v = 0xabcd;
    CHECK_EQ(x86_lin_write(cpu, 0x80000020U, &v, 2, 0), 0);
    CHECK_EQ(bar_last, 0xabcd0220U);
    CHECK_EQ(x86_lin_read(cpu, 0x90000000U, &v, 8, 0), 0);
    CHECK_EQ(v, ~UINT64_C(0)); /* nobody there */
    bus_remove(fx.vm.mmio, &bar);
    fx_fini(&fx);
}

struct flushes {
    unsigned n;
    enum x86_flush kind;
    uint64_t va;
    uint16_t pcid;
};

static void note_flush(void *ctx, enum x86_flush kind, gva_t va, uint16_t pcid)
{
    struct flushes *f = ctx;

    *f =
        (struct flushes){.n = f->n + 1, .kind = kind, .va = va.v, .pcid = pcid};
}

static void note_mode(void *ctx)
{
    (void)ctx;
}

TEST(invpcid)
{
    static const struct {
        uint64_t type, desc0, desc1;
        bool pcide, ok;
        enum x86_flush kind;
    } rows[] = {
        {0, 5, 0x1000, true, true, X86_FLUSH_PAGE},
        {0, 5, BIT(47), true, false, 0},
        {0, 5, 0x1000, false, false, 0},
        {0, 0, 0x1000, false, true, X86_FLUSH_PAGE},
        {1, 0xfff, 0, true, true, X86_FLUSH_PCID},
        {1, 1, 0, false, false, 0},
        {2, 0, 0, false, true, X86_FLUSH_ALL},
        {3, 0, 0, false, true, X86_FLUSH_NONGLOBAL},
        {4, 0, 0, true, false, 0},
        {2, 0x1000, 0, true, false, 0},
    };
    struct x86_lin_ops ops = x86_lin_walk_ops;
    struct flushes f = {0};

    fx_init(&fx, 1);
    ops.flush = note_flush;
    ops.mode = note_mode;
    cpu->lin = &ops;
    cpu->lin_ctx = &f;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const uint64_t d[2] = {rows[i].desc0, rows[i].desc1};
        unsigned n = f.n;

        cpu->cr4 = rows[i].pcide ? X86_CR4_PCIDE : 0;
        CHECK_EQ(x86_invpcid(cpu, rows[i].type, d), rows[i].ok ? 0 : X86_FAULT);
        CHECK_EQ(f.n, n + rows[i].ok);
        if (rows[i].ok)
            CHECK_EQ(f.kind, rows[i].kind);
    }
    cpu->cr4 = X86_CR4_PCIDE;
    cpu->cr3 = 0x4007;
    CHECK_EQ(x86_invlpg(cpu, 0x12345), 0);
    CHECK_EQ(f.kind, X86_FLUSH_PAGE);
    CHECK_EQ(f.pcid, 7);
    cpu->lin = &x86_lin_walk_ops;
    fx_fini(&fx);
}

TEST(xsetbv)
{
    uint64_t v;

    fx_init(&fx, 1);
    CHECK_EQ(x86_xsetbv(cpu, 0, 1), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_UD);
    cpu->cr4 |= X86_CR4_OSXSAVE;
    fx.cpuid.xcr0 = 7;
    CHECK_EQ(x86_xsetbv(cpu, 0, 7), 0);
    CHECK_EQ(x86_xgetbv(cpu, 0, &v), 0);
    CHECK_EQ(v, 7);
    CHECK_EQ(x86_xsetbv(cpu, 0, 5), X86_FAULT);
    CHECK_EQ(x86_xsetbv(cpu, 0, 6), X86_FAULT);
    CHECK_EQ(x86_xsetbv(cpu, 0, 0xe7), X86_FAULT);
    CHECK_EQ(x86_xsetbv(cpu, 1, 1), X86_FAULT);
    fx_fini(&fx);
}

/* ---- CPUID ---- */

TEST(cpuid_levels)
{
    struct x86_cpuid_conf conf = {.ncpus = 4, .tsc_khz = 2500000};
    struct x86_cpuid *c = &fx.cpuid;
    uint32_t r[4];
    struct err e;

    fx_init(&fx, 2);
    conf.level = X86_LEVEL_V2;
    CHECK_EQ(x86_cpuid_build(&conf, c, &e), 0);
    CHECK(x86_cpuid_has(c, X86_FEAT_SSE42));
    CHECK(!x86_cpuid_has(c, X86_FEAT_AVX));
    CHECK(!x86_cpuid_has(c, X86_FEAT_XSAVE));
    CHECK(x86_cpuid_has(c, X86_FEAT_RDRAND));
    CHECK_EQ(c->xcr0, 0);
    x86_cpuid_query(&fx.cpu[1], 0, 0, r);
    CHECK_EQ(memcmp(&r[1], "Genu", 4) + memcmp(&r[3], "ineI", 4), 0);
    x86_cpuid_query(&fx.cpu[1], 1, 0, r);
    CHECK_EQ(r[1] >> 24, 1);
    CHECK_EQ(r[1] >> 16 & 0xff, 4);
    CHECK(r[2] >> 31);
    x86_cpuid_query(&fx.cpu[1], 0xb, 1, r);
    CHECK_EQ(r[0], 2);
    CHECK_EQ(r[1], 4);
    CHECK_EQ(r[2], 0x201);
    CHECK_EQ(r[3], 1);
    x86_cpuid_query(&fx.cpu[1], 0x15, 0, r);
    CHECK_EQ((uint64_t)r[2] * r[1] / r[0], UINT64_C(2500000000));
    x86_cpuid_query(&fx.cpu[1], 0x40000000, 0, r);
    CHECK_EQ(memcmp(&r[1], "KVMKVMKVM\0\0", 12), 0);
    x86_cpuid_query(&fx.cpu[1], 0x80000008, 0, r);
    CHECK_EQ(r[0], X86_MAXPHYADDR | 48 << 8);
    if (x86_cpuid_best_level() != X86_LEVEL_V3) {
        conf.level = X86_LEVEL_V3;
        CHECK_EQ(x86_cpuid_build(&conf, c, &e), -95); /* ENOTSUP */
        fx_fini(&fx);
        return;
    }
    conf.level = X86_LEVEL_V3;
    conf.mitigations = true;
    CHECK_EQ(x86_cpuid_build(&conf, c, &e), 0);
    CHECK(x86_cpuid_has(c, X86_FEAT_AVX2));
    CHECK(!x86_cpuid_bit(c, 7, 0, 3, 29));
    CHECK_EQ(c->xcr0, 7);
    fx.cpu[0].xcr0 = 3;
    x86_cpuid_query(&fx.cpu[0], 0xd, 0, r);
    CHECK_EQ(r[1], 576);
    CHECK_EQ(r[2], 832);
    fx.cpu[0].xcr0 = 7;
    x86_cpuid_query(&fx.cpu[0], 0xd, 0, r);
    CHECK_EQ(r[1], 832);
    fx_fini(&fx);
}

TEST(cpuid_refusals)
{
    struct x86_cpuid_conf conf = {.ncpus = 65, .tsc_khz = 2500000};
    enum x86_level l;
    struct err e;

    fx_init(&fx, 1);
    CHECK_EQ(x86_cpuid_build(&conf, &fx.cpuid, &e), -22);
    CHECK_EQ(x86_cpuid_level_parse("v3", &l, &e), 0);
    CHECK_EQ(l, X86_LEVEL_V3);
    CHECK_EQ(x86_cpuid_level_parse("v4", &l, &e), -22);
    fx_fini(&fx);
}

TEST_MAIN(CASE(canonical_ones), CASE(reserved_bits), CASE(tsc), CASE(kvmclock),
          CASE(mmio), CASE(cr0_cr4_rules), CASE(dr_rules), CASE(invpcid),
          CASE(xsetbv), CASE(cpuid_levels), CASE(cpuid_refusals))
