// SPDX-License-Identifier: Apache-2.0
/* Control and debug registers, TLB control, TSC; see control.h. */
#include "cpu/x86/control.h"

#include "cpu/x86/cpuid.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/insn.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/paging.h"

#define CR0_VALID                                                              \
    (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET |          \
     X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD |          \
     X86_CR0_PG)
/* CR4 bits that every level has; the others follow CPUID. */
#define CR4_ALWAYS                                                             \
    (X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_MCE |      \
     X86_CR4_PGE | X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT)
/* CR4 bits whose change flushes the TLB (SDM vol. 3A 4.10.4.1); SMAP because
 * engines keep rights as they were at the walk. */
#define CR4_FLUSH                                                              \
    (X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP | X86_CR4_SMAP)
#define CR3_KEEP BIT(63)
#define CR3_PCID UINT64_C(0xfff)

static int gp0(struct x86_cpu *cpu)
{
    return x86_raise_err(cpu, X86_VEC_GP, 0);
}

static int need_cpl0(struct x86_cpu *cpu)
{
    return cpu->cpl ? gp0(cpu) : 0;
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return (cr0 & X86_CR0_PG) && (cr4 & X86_CR4_PAE) && !(efer & X86_EFER_LME);
}

static void flush_all(struct x86_cpu *cpu)
{
    cpu->lin->flush(cpu->lin_ctx, X86_FLUSH_ALL, gva(0), 0);
}

/* ---- CR0 ---- */

static int cr0_check(struct x86_cpu *cpu, uint64_t val)
{
    bool pg = val & X86_CR0_PG;
    bool enter = pg && !(cpu->cr0 & X86_CR0_PG);

    if (val >> 32 || (pg && !(val & X86_CR0_PE)) ||
        ((val & X86_CR0_NW) && !(val & X86_CR0_CD)))
        return gp0(cpu);
    if (!pg && ((cpu->cr4 & X86_CR4_PCIDE) || x86_mode(cpu) == X86_MODE_64))
        return gp0(cpu);
    if (enter && (cpu->efer & X86_EFER_LME) &&
        (!(cpu->cr4 & X86_CR4_PAE) || (cpu->seg[X86_SEG_CS].attr & X86_SEG_L) ||
         /* a 16-bit TSS cannot come along (SDM vol. 3A 10.8.5.4) */
         (!(cpu->tr.attr & X86_SEG_UNUSABLE) &&
          !(X86_SEG_TYPE(cpu->tr.attr) & 8U))))
        return gp0(cpu);
    return 0;
}

static int cr0_write(struct x86_cpu *cpu, uint64_t val)
{
    uint64_t old = cpu->cr0, changed;

    if (cr0_check(cpu, val))
        return X86_FAULT;
    val = (val & CR0_VALID) | X86_CR0_ET;
    changed = old ^ val;
    if (pae_paging(val, cpu->cr4, cpu->efer) &&
        (changed & (X86_CR0_PG | X86_CR0_CD | X86_CR0_NW)) &&
        x86_pae_load(cpu, cpu->cr3))
        return X86_FAULT;
    cpu->cr0 = val;
    if (changed & X86_CR0_PG) {
        if ((val & X86_CR0_PG) && (cpu->efer & X86_EFER_LME))
            cpu->efer |= X86_EFER_LMA;
        else
            cpu->efer &= ~X86_EFER_LMA;
    }
    if (changed & (X86_CR0_PG | X86_CR0_WP | X86_CR0_PE))
        flush_all(cpu);
    if ((changed & X86_CR0_PE) && !(val & X86_CR0_PE))
        cpu->cpl = 0;
    x86_mode_changed(cpu);
    return 0;
}

/* ---- CR3 ---- */

static int cr3_write(struct x86_cpu *cpu, uint64_t val)
{
    bool pcide = cpu->cr4 & X86_CR4_PCIDE, keep = false;

    if (cpu->efer & X86_EFER_LMA) {
        if (pcide) {
            keep = val & CR3_KEEP;
            val &= ~CR3_KEEP;
        }
        if (val & BITS(63, X86_MAXPHYADDR))
            return gp0(cpu);
    }
    if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer) && x86_pae_load(cpu, val))
        return X86_FAULT;
    cpu->cr3 = val;
    cpu->lin->root(cpu->lin_ctx, keep);
    return 0;
}

/* ---- CR4 ---- */

uint64_t x86_cr4_valid(const struct x86_cpu *cpu)
{
    static const struct {
        uint64_t bit;
        uint8_t reg, n; /* of leaf 7 */
    } by7[] = {{X86_CR4_FSGSBASE, 1, 0},
               {X86_CR4_SMEP, 1, 7},
               {X86_CR4_SMAP, 1, 20},
               {X86_CR4_UMIP, 2, 2}};
    uint64_t v = CR4_ALWAYS;

    for (size_t i = 0; i < ARRAY_LEN(by7); i++)
        if (x86_cpuid_bit(cpu->cpuid, 7, 0, by7[i].reg, by7[i].n))
            v |= by7[i].bit;
    if (x86_cpuid_bit(cpu->cpuid, 1, 0, 2, 17))
        v |= X86_CR4_PCIDE;
    if (x86_cpuid_has(cpu->cpuid, X86_FEAT_XSAVE))
        v |= X86_CR4_OSXSAVE;
    return v;
}

static int cr4_check(struct x86_cpu *cpu, uint64_t val)
{
    uint64_t changed = cpu->cr4 ^ val;

    if (val & ~x86_cr4_valid(cpu))
        return gp0(cpu);
    if ((cpu->efer & X86_EFER_LMA) && !(val & X86_CR4_PAE))
        return gp0(cpu);
    if ((changed & val & X86_CR4_PCIDE) &&
        (!(cpu->efer & X86_EFER_LMA) || (cpu->cr3 & CR3_PCID)))
        return gp0(cpu);
    return 0;
}

static int cr4_write(struct x86_cpu *cpu, uint64_t val)
{
    uint64_t changed = cpu->cr4 ^ val;

    if (cr4_check(cpu, val))
        return X86_FAULT;
    if (pae_paging(cpu->cr0, val, cpu->efer) &&
        (changed & (X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PSE | X86_CR4_SMEP)) &&
        x86_pae_load(cpu, cpu->cr3))
        return X86_FAULT;
    cpu->cr4 = val;
    if ((changed & CR4_FLUSH) || (changed & ~val & X86_CR4_PCIDE))
        flush_all(cpu);
    x86_mode_changed(cpu);
    return 0;
}

int x86_mov_to_cr(struct x86_cpu *cpu, unsigned n, uint64_t val)
{
    if (n > 8 || n == 1 || (n > 4 && n < 8))
        return x86_raise(cpu, X86_VEC_UD);
    if (need_cpl0(cpu))
        return X86_FAULT;
    switch (n) {
    case 0:
        return cr0_write(cpu, val);
    case 2:
        cpu->cr2 = val;
        return 0;
    case 3:
        return cr3_write(cpu, val);
    case 4:
        return cr4_write(cpu, val);
    default:
        if (val & ~UINT64_C(15))
            return gp0(cpu);
        x86_lapic_cr8_write(cpu, val);
        return 0;
    }
}

int x86_mov_from_cr(struct x86_cpu *cpu, unsigned n, uint64_t *val)
{
    if (n > 8 || n == 1 || (n > 4 && n < 8))
        return x86_raise(cpu, X86_VEC_UD);
    if (need_cpl0(cpu))
        return X86_FAULT;
    switch (n) {
    case 0:
        *val = cpu->cr0;
        break;
    case 2:
        *val = cpu->cr2;
        break;
    case 3:
        *val = cpu->cr3;
        break;
    case 4:
        *val = cpu->cr4;
        break;
    default:
        *val = x86_lapic_cr8(cpu);
        break;
    }
    return 0;
}

int x86_lmsw(struct x86_cpu *cpu, uint16_t val)
{
    uint64_t low = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS;

    if (need_cpl0(cpu))
        return X86_FAULT;
    /* PE can be set, not cleared */
    return cr0_write(cpu, (cpu->cr0 & ~(low & ~X86_CR0_PE)) | (val & low));
}

int x86_umip_check(struct x86_cpu *cpu)
{
    return cpu->cpl && (cpu->cr4 & X86_CR4_UMIP) ? gp0(cpu) : 0;
}

int x86_smsw(struct x86_cpu *cpu, uint64_t *val)
{
    if (x86_umip_check(cpu))
        return X86_FAULT;
    *val = cpu->cr0;
    return 0;
}

int x86_clts(struct x86_cpu *cpu)
{
    if (need_cpl0(cpu))
        return X86_FAULT;
    cpu->cr0 &= ~X86_CR0_TS;
    x86_mode_changed(cpu);
    return 0;
}

/* ---- debug registers ---- */

/* The register's number after DR4/5 aliasing; checks order as in SDM vol. 2B
 * MOV DR. */
static int dr_check(struct x86_cpu *cpu, unsigned *n)
{
    if (*n > 7 || ((*n == 4 || *n == 5) && (cpu->cr4 & X86_CR4_DE)))
        return x86_raise(cpu, X86_VEC_UD);
    if (need_cpl0(cpu))
        return X86_FAULT;
    if (cpu->dr7 & X86_DR7_GD)
        return x86_raise_db(cpu, X86_DR6_BD);
    if (*n == 4 || *n == 5)
        *n += 2;
    return 0;
}

int x86_mov_to_dr(struct x86_cpu *cpu, unsigned n, uint64_t val)
{
    if (dr_check(cpu, &n))
        return X86_FAULT;
    if (n >= 6 && val >> 32)
        return gp0(cpu);
    if (n < 4)
        cpu->dr[n] = val;
    else if (n == 6)
        cpu->dr6 = (val & UINT64_C(0xe00f)) | X86_DR6_FIXED;
    else
        cpu->dr7 = (val & UINT64_C(0xffff23ff)) | X86_DR7_FIXED;
    x86_mode_changed(cpu);
    return 0;
}

int x86_mov_from_dr(struct x86_cpu *cpu, unsigned n, uint64_t *val)
{
    if (dr_check(cpu, &n))
        return X86_FAULT;
    *val = n < 4 ? cpu->dr[n] : n == 6 ? cpu->dr6 : cpu->dr7;
    return 0;
}

/* ---- TLB ---- */

int x86_invlpg(struct x86_cpu *cpu, uint64_t lin)
{
    if (need_cpl0(cpu))
        return X86_FAULT;
    if ((cpu->efer & X86_EFER_LMA) && !x86_canonical(lin))
        return 0; /* nothing can be cached there */
    cpu->lin->flush(
        cpu->lin_ctx, X86_FLUSH_PAGE, gva(lin),
        (uint16_t)(cpu->cr4 & X86_CR4_PCIDE ? cpu->cr3 & CR3_PCID : 0));
    return 0;
}

int x86_invpcid(struct x86_cpu *cpu, uint64_t type, const uint64_t desc[2])
{
    bool pcide = cpu->cr4 & X86_CR4_PCIDE;
    uint16_t pcid = desc[0] & CR3_PCID;

    if (need_cpl0(cpu))
        return X86_FAULT;
    if (type > 3 || desc[0] >> 12)
        return gp0(cpu);
    if (type < 2 && !pcide && pcid)
        return gp0(cpu);
    if (type == 0 && !x86_canonical(desc[1]))
        return gp0(cpu);
    switch (type) {
    case 0:
        cpu->lin->flush(cpu->lin_ctx, X86_FLUSH_PAGE, gva(desc[1]), pcid);
        break;
    case 1:
        cpu->lin->flush(cpu->lin_ctx, X86_FLUSH_PCID, gva(0), pcid);
        break;
    case 2:
        flush_all(cpu);
        break;
    default:
        cpu->lin->flush(cpu->lin_ctx, X86_FLUSH_NONGLOBAL, gva(0), 0);
        break;
    }
    return 0;
}

int x86_wbinvd(struct x86_cpu *cpu)
{
    return need_cpl0(cpu);
}

/* ---- XCR0 ---- */

int x86_xsetbv(struct x86_cpu *cpu, uint32_t index, uint64_t val)
{
    if (!(cpu->cr4 & X86_CR4_OSXSAVE))
        return x86_raise(cpu, X86_VEC_UD);
    if (need_cpl0(cpu))
        return X86_FAULT;
    if (index != 0 || !(val & X86_XCR0_X87) || (val & ~cpu->cpuid->xcr0) ||
        ((val & X86_XCR0_AVX) && !(val & X86_XCR0_SSE)))
        return gp0(cpu);
    cpu->xcr0 = val;
    x86_mode_changed(cpu);
    return 0;
}

/* XINUSE: components that are not in their initial state. */
static uint64_t xinuse(const struct x86_cpu *cpu)
{
    uint64_t v;

    memcpy(&v, cpu->xsave.b + 512, sizeof v);
    return (v | X86_XCR0_X87) & cpu->xcr0;
}

int x86_xgetbv(struct x86_cpu *cpu, uint32_t index, uint64_t *val)
{
    bool one = x86_cpuid_bit(cpu->cpuid, 0xd, 1, 0, 2);

    if (!(cpu->cr4 & X86_CR4_OSXSAVE))
        return x86_raise(cpu, X86_VEC_UD);
    if (index > 1 || (index == 1 && !one))
        return gp0(cpu);
    *val = index ? xinuse(cpu) : cpu->xcr0;
    return 0;
}

/* ---- TSC and others ---- */

uint64_t x86_tsc(struct x86_cpu *cpu)
{
    uint64_t t = clock_tsc(cpu->vm->clock) + cpu->tsc_offset;

    return input_value(&cpu->vm->gate, INPUT_TSC, cpu->index, 0, t,
                       cpu->icount);
}

int x86_rdtsc(struct x86_cpu *cpu, uint64_t *tsc)
{
    if ((cpu->cr4 & X86_CR4_TSD) && cpu->cpl)
        return gp0(cpu);
    *tsc = x86_tsc(cpu);
    return 0;
}

int x86_rdtscp(struct x86_cpu *cpu, uint64_t *tsc, uint32_t *aux)
{
    if (x86_rdtsc(cpu, tsc))
        return X86_FAULT;
    *aux = (uint32_t)cpu->msr.tsc_aux;
    return 0;
}

int x86_rdpmc(struct x86_cpu *cpu, uint32_t index, uint64_t *val)
{
    (void)index; /* no counters are shown */
    (void)val;
    return gp0(cpu);
}

int x86_swapgs(struct x86_cpu *cpu)
{
    uint64_t base = cpu->seg[X86_SEG_GS].base;

    if (x86_mode(cpu) != X86_MODE_64)
        return x86_raise(cpu, X86_VEC_UD);
    if (need_cpl0(cpu))
        return X86_FAULT;
    cpu->seg[X86_SEG_GS].base = cpu->msr.kernel_gs_base;
    cpu->msr.kernel_gs_base = base;
    return 0;
}

int x86_hlt(struct x86_cpu *cpu)
{
    if (need_cpl0(cpu))
        return X86_FAULT;
    cpu->activity = X86_ACT_HLT;
    return 0;
}

int x86_rdpkru(struct x86_cpu *cpu, uint64_t *val)
{
    (void)val;
    return x86_raise(cpu, X86_VEC_UD);
}

int x86_wrpkru(struct x86_cpu *cpu, uint32_t val)
{
    (void)val;
    return x86_raise(cpu, X86_VEC_UD);
}
