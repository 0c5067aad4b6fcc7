// SPDX-License-Identifier: Apache-2.0
/* Model specific registers; see msr.h. KVM's are in kvmclock.c. */
#include "cpu/x86/msr.h"

#include "cpu/x86/control.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/insn.h"
#include "cpu/x86/kvmclock.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/paging.h"

#define MTRRCAP           0x508U /* 8 variable, fixed, write-combining */
#define MCG_BANKS         4U
#define MISC_ENABLE_RESET UINT64_C(0x1801)
#define MISC_ENABLE_VALID UINT64_C(0x400c51889)
#define MISC_ENABLE_FIXED UINT64_C(0x400401880) /* reads as it is */
#define PAT_RESET         UINT64_C(0x0007040600070406)
#define BIOS_SIGN_ID      (UINT64_C(1) << 32)
#define EFER_WRITABLE     (X86_EFER_SCE | X86_EFER_LME | X86_EFER_NXE)

static int gp0(struct x86_cpu *cpu)
{
    return x86_raise_err(cpu, X86_VEC_GP, 0);
}

static int unknown(struct x86_cpu *cpu, uint32_t index, const char *what)
{
    cpu->unknown_msr_count++;
    log_guest(&cpu->msr_log, "cpu/x86", "vCPU %u: %s of MSR 0x%x", cpu->index,
              what, index);
    return gp0(cpu);
}

/* Speculation controls that CPUID shows: leaf 7 EDX. */
static bool spec_bit(const struct x86_cpu *cpu, unsigned bit)
{
    return x86_cpuid_bit(cpu->cpuid, 7, 0, 3, bit);
}

/* ---- plain storage, with the bits that may be written ---- */

enum check {
    CHECK_BITS,     /* only bits of .valid */
    CHECK_CANONICAL /* a canonical address */
};

struct slot {
    uint64_t *at;
    enum check check;
    uint64_t valid;
};

static bool slot_mtrr(struct x86_cpu *cpu, uint32_t index, struct slot *s)
{
    uint64_t addr = BITS(X86_MAXPHYADDR - 1, 12);
    unsigned i = index - X86_MSR_MTRR_PHYS;

    if (i < 16) {
        s->at = i & 1 ? &cpu->msr.mtrr_phys_mask[i / 2]
                      : &cpu->msr.mtrr_phys_base[i / 2];
        s->valid = addr | (i & 1 ? BIT(11) : 7);
        return true;
    }
    s->valid = ~UINT64_C(0);
    if (index == X86_MSR_MTRR_FIX64K)
        s->at = &cpu->msr.mtrr_fix[0];
    else if (index - X86_MSR_MTRR_FIX16K < 2)
        s->at = &cpu->msr.mtrr_fix[1 + index - X86_MSR_MTRR_FIX16K];
    else if (index - X86_MSR_MTRR_FIX4K < 8)
        s->at = &cpu->msr.mtrr_fix[3 + index - X86_MSR_MTRR_FIX4K];
    else
        return false;
    return true;
}

static bool slot_find(struct x86_cpu *cpu, uint32_t index, struct slot *s)
{
    struct x86_msrs *m = &cpu->msr;

    *s = (struct slot){.check = CHECK_CANONICAL, .valid = ~UINT64_C(0)};
    switch (index) {
    case X86_MSR_LSTAR:
        s->at = &m->lstar;
        return true;
    case X86_MSR_CSTAR:
        s->at = &m->cstar;
        return true;
    case X86_MSR_FS_BASE:
        s->at = &cpu->seg[X86_SEG_FS].base;
        return true;
    case X86_MSR_GS_BASE:
        s->at = &cpu->seg[X86_SEG_GS].base;
        return true;
    case X86_MSR_KERNEL_GS_BASE:
        s->at = &m->kernel_gs_base;
        return true;
    case X86_MSR_SYSENTER_ESP:
        s->at = &m->sysenter_esp;
        return true;
    case X86_MSR_SYSENTER_EIP:
        s->at = &m->sysenter_eip;
        return true;
    default:
        break;
    }
    s->check = CHECK_BITS;
    switch (index) {
    case X86_MSR_STAR:
        s->at = &m->star;
        return true;
    case X86_MSR_FMASK:
        s->at = &m->fmask;
        s->valid = 0xffffffffU;
        return true;
    case X86_MSR_TSC_AUX:
        s->at = &m->tsc_aux;
        s->valid = 0xffffffffU;
        return true;
    case X86_MSR_SYSENTER_CS:
        s->at = &m->sysenter_cs;
        s->valid = 0xffffffffU;
        return true;
    case X86_MSR_MTRR_DEF_TYPE:
        s->at = &m->mtrr_def_type;
        s->valid = 0xcff;
        return true;
    case X86_MSR_DEBUGCTL: /* LBR, BTF: kept, without effect */
        s->at = &m->debugctl;
        s->valid = 3;
        return true;
    case X86_MSR_MCG_STATUS:
        s->at = &m->mcg_status;
        s->valid = 7;
        return true;
    default:
        return slot_mtrr(cpu, index, s);
    }
}

static int slot_write(struct x86_cpu *cpu, uint32_t index, const struct slot *s,
                      uint64_t val)
{
    if (s->check == CHECK_CANONICAL ? !x86_canonical(val) : val & ~s->valid)
        return gp0(cpu);
    /* memory types of MTRRs: 2, 3, 7 and above are reserved */
    if (index == X86_MSR_MTRR_DEF_TYPE ||
        (index - X86_MSR_MTRR_PHYS < 16 && !(index & 1))) {
        unsigned type = val & 0xff;

        if (type == 2 || type == 3 || type > 6)
            return gp0(cpu);
    }
    *s->at = val;
    return 0;
}

/* Machine check banks: CTL is kept, the others take only 0. */
static uint64_t *mc_slot(struct x86_cpu *cpu, uint32_t index)
{
    uint32_t i = index - X86_MSR_MC0_CTL;

    if (i >= 4 * MCG_BANKS)
        return NULL;
    switch (i % 4) {
    case 0:
        return &cpu->msr.mc_ctl[i / 4];
    case 1:
        return &cpu->msr.mc_status[i / 4];
    case 2:
        return &cpu->msr.mc_addr[i / 4];
    default:
        return &cpu->msr.mc_misc[i / 4];
    }
}

/* ---- reading ---- */

static int read_special(struct x86_cpu *cpu, uint32_t index, uint64_t *val)
{
    switch (index) {
    case X86_MSR_TSC:
        *val = x86_tsc(cpu);
        return 0;
    case X86_MSR_TSC_ADJUST:
        *val = cpu->msr.tsc_adjust;
        return 0;
    case X86_MSR_TSC_DEADLINE:
        *val = cpu->lapic.tsc_deadline;
        return 0;
    case X86_MSR_APIC_BASE:
        *val = cpu->lapic.apic_base;
        return 0;
    case X86_MSR_EFER:
        *val = cpu->efer;
        return 0;
    case X86_MSR_PAT:
        *val = cpu->msr.pat;
        return 0;
    case X86_MSR_MISC_ENABLE:
        *val = cpu->msr.misc_enable;
        return 0;
    case X86_MSR_SPEC_CTRL:
        *val = cpu->msr.spec_ctrl;
        return spec_bit(cpu, 26) ? 0 : gp0(cpu);
    case X86_MSR_ARCH_CAPABILITIES:
        *val = cpu->cpuid->arch_capabilities;
        return spec_bit(cpu, 29) ? 0 : gp0(cpu);
    case X86_MSR_FEATURE_CONTROL:
        *val = cpu->msr.feature_control;
        return 0;
    case X86_MSR_MTRRCAP:
        *val = MTRRCAP;
        return 0;
    case X86_MSR_MCG_CAP:
        *val = MCG_BANKS;
        return 0;
    case X86_MSR_BIOS_SIGN_ID:
        *val = cpu->msr.bios_sign_id;
        return 0;
    case X86_MSR_PLATFORM_INFO: /* ratio of 100 MHz in bits 15-8 */
        *val = (uint64_t)(cpu->cpuid->conf.tsc_khz / 100000 & 0xff) << 8;
        return 0;
    case X86_MSR_PERF_STATUS:
        *val = (uint64_t)(cpu->cpuid->conf.tsc_khz / 100000 & 0xff) << 8;
        return 0;
    case X86_MSR_P5_MC_ADDR:
    case X86_MSR_P5_MC_TYPE:
    case X86_MSR_PLATFORM_ID:
    case X86_MSR_EBL_CR_POWERON:
    case X86_MSR_MISC_FEATURES:
        *val = 0;
        return 0;
    default:
        return unknown(cpu, index, "read");
    }
}

int x86_rdmsr(struct x86_cpu *cpu, uint32_t index, uint64_t *val)
{
    const uint64_t *mc;
    struct slot s;

    if (cpu->cpl)
        return gp0(cpu);
    if (index >= X86_MSR_X2APIC && index < X86_MSR_X2APIC + 0x100)
        return x86_lapic_msr_read(cpu, index, val);
    if (slot_find(cpu, index, &s)) {
        *val = *s.at;
        return 0;
    }
    mc = mc_slot(cpu, index);
    if (mc) {
        *val = *mc;
        return 0;
    }
    if (x86_kvm_msr(cpu, index))
        return x86_kvm_msr_read(cpu, index, val);
    return read_special(cpu, index, val);
}

/* ---- writing ---- */

static int efer_write(struct x86_cpu *cpu, uint64_t val)
{
    uint64_t old = cpu->efer, changed;

    val &= ~X86_EFER_LMA; /* read only */
    if (val & ~EFER_WRITABLE)
        return gp0(cpu);
    val |= old & X86_EFER_LMA;
    changed = old ^ val;
    if ((changed & X86_EFER_LME) && (cpu->cr0 & X86_CR0_PG))
        return gp0(cpu);
    cpu->efer = val;
    if (changed & X86_EFER_NXE)
        cpu->lin->flush(cpu->lin_ctx, X86_FLUSH_ALL, gva(0), 0);
    x86_mode_changed(cpu);
    return 0;
}

static int pat_write(struct x86_cpu *cpu, uint64_t val)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned type = val >> (8 * i) & 0xff;

        if (type == 2 || type == 3 || type > 7)
            return gp0(cpu);
    }
    cpu->msr.pat = val;
    return 0;
}

static void tsc_shift(struct x86_cpu *cpu, uint64_t delta)
{
    cpu->tsc_offset += delta;
    cpu->msr.tsc_adjust += delta;
    x86_kvmclock_update(cpu);
    x86_lapic_timer_rearm(cpu);
}

static int spec_ctrl_write(struct x86_cpu *cpu, uint64_t val)
{
    bool bhi = x86_cpuid_bit(cpu->cpuid, 7, 2, 3, 4);
    uint64_t valid = 1 | (spec_bit(cpu, 27) ? 2 : 0) |
                     (spec_bit(cpu, 31) ? 4 : 0) | (bhi ? BIT(10) : 0);

    if (!spec_bit(cpu, 26) || (val & ~valid))
        return gp0(cpu);
    cpu->msr.spec_ctrl = val;
    return 0;
}

static int misc_enable_write(struct x86_cpu *cpu, uint64_t val)
{
    if (val & ~MISC_ENABLE_VALID)
        return gp0(cpu);
    cpu->msr.misc_enable =
        (val & ~MISC_ENABLE_FIXED) | (cpu->msr.misc_enable & MISC_ENABLE_FIXED);
    return 0;
}

static int write_special(struct x86_cpu *cpu, uint32_t index, uint64_t val)
{
    switch (index) {
    case X86_MSR_TSC:
        tsc_shift(cpu, val - x86_tsc(cpu));
        return 0;
    case X86_MSR_TSC_ADJUST:
        tsc_shift(cpu, val - cpu->msr.tsc_adjust);
        return 0;
    case X86_MSR_TSC_DEADLINE:
        x86_lapic_deadline_write(cpu, val);
        return 0;
    case X86_MSR_APIC_BASE:
        return x86_lapic_base_write(cpu, val);
    case X86_MSR_EFER:
        return efer_write(cpu, val);
    case X86_MSR_PAT:
        return pat_write(cpu, val);
    case X86_MSR_MISC_ENABLE:
        return misc_enable_write(cpu, val);
    case X86_MSR_SPEC_CTRL:
        return spec_ctrl_write(cpu, val);
    case X86_MSR_PRED_CMD: /* nothing to flush: a command */
        return spec_bit(cpu, 26) && !(val & ~UINT64_C(1)) ? 0 : gp0(cpu);
    case X86_MSR_FLUSH_CMD:
        return spec_bit(cpu, 28) && !(val & ~UINT64_C(1)) ? 0 : gp0(cpu);
    case X86_MSR_MISC_FEATURES:
        return val ? gp0(cpu) : 0;
    case X86_MSR_BIOS_UPDT_TRIG: /* microcode: taken, ignored */
    case X86_MSR_BIOS_SIGN_ID:   /* cleared before CPUID fills it again */
    case X86_MSR_P5_MC_ADDR:
    case X86_MSR_P5_MC_TYPE:
        return 0;
    case X86_MSR_FEATURE_CONTROL: /* locked */
    case X86_MSR_ARCH_CAPABILITIES:
    case X86_MSR_MTRRCAP:
    case X86_MSR_MCG_CAP:
    case X86_MSR_PLATFORM_INFO:
    case X86_MSR_PLATFORM_ID:
    case X86_MSR_PERF_STATUS:
        return gp0(cpu); /* read only */
    default:
        return unknown(cpu, index, "write");
    }
}

int x86_wrmsr(struct x86_cpu *cpu, uint32_t index, uint64_t val)
{
    struct slot s;
    uint64_t *mc;

    if (cpu->cpl)
        return gp0(cpu);
    if (index >= X86_MSR_X2APIC && index < X86_MSR_X2APIC + 0x100)
        return x86_lapic_msr_write(cpu, index, val);
    if (slot_find(cpu, index, &s))
        return slot_write(cpu, index, &s, val);
    mc = mc_slot(cpu, index);
    if (mc) {
        if ((index & 3) && val)
            return gp0(cpu);
        *mc = val;
        return 0;
    }
    if (x86_kvm_msr(cpu, index))
        return x86_kvm_msr_write(cpu, index, val);
    return write_special(cpu, index, val);
}

void x86_msr_reset(struct x86_cpu *cpu, bool init)
{
    struct x86_msrs *m = &cpu->msr;

    if (init) /* INIT keeps them all but DEBUGCTL (SDM table 9-1) */ {
        m->debugctl = 0;
        return;
    }
    memset(m, 0, sizeof *m);
    m->pat = PAT_RESET;
    m->misc_enable = MISC_ENABLE_RESET;
    m->feature_control = 1; /* locked: no VMX */
    m->bios_sign_id = BIOS_SIGN_ID;
}
