// SPDX-License-Identifier: Apache-2.0
/*
 * The vCPU's state descriptor: every architectural field, and the checks of
 * what a hostile stream brings. Nothing that loads may break an engine's
 * assumptions: combinations that the instructions refuse are refused here too.
 */
#include "cpu/x86/control.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/kvmclock.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/paging.h"

#include <errno.h>
#include <inttypes.h>

#define SEG_ATTR_VALID 0x1f0ffU
#define RFLAGS_VALID   UINT64_C(0x3f7fd7)

static const struct state_field seg_fields[] = {
    SF_U64(x86_seg, base), SF_U32(x86_seg, limit), SF_U32(x86_seg, attr),
    SF_U16(x86_seg, sel), SF_END};
static const struct state_desc seg_state = {
    .name = "x86-seg", .version = 1, .min_version = 1, .fields = seg_fields};

static const struct state_field dtr_fields[] = {SF_U64(x86_dtr, base),
                                                SF_U16(x86_dtr, limit), SF_END};
static const struct state_desc dtr_state = {
    .name = "x86-dtr", .version = 1, .min_version = 1, .fields = dtr_fields};

static const struct state_field event_fields[] = {
    SF_BOOL(x86_event, valid), SF_BOOL(x86_event, has_error),
    SF_BOOL(x86_event, soft),  SF_U8(x86_event, vector),
    SF_U32(x86_event, error),  SF_END};
static const struct state_desc event_state = {.name = "x86-event",
                                              .version = 1,
                                              .min_version = 1,
                                              .fields = event_fields};

/* clang-format off */
static const struct state_field msr_fields[] = {
    SF_U64(x86_msrs, star), SF_U64(x86_msrs, lstar), SF_U64(x86_msrs, cstar),
    SF_U64(x86_msrs, fmask), SF_U64(x86_msrs, kernel_gs_base),
    SF_U64(x86_msrs, tsc_aux), SF_U64(x86_msrs, sysenter_cs),
    SF_U64(x86_msrs, sysenter_esp), SF_U64(x86_msrs, sysenter_eip),
    SF_U64(x86_msrs, pat), SF_U64(x86_msrs, misc_enable),
    SF_U64(x86_msrs, mtrr_def_type), SF_U64(x86_msrs, spec_ctrl),
    SF_U64(x86_msrs, debugctl), SF_U64A(x86_msrs, mtrr_phys_base, 8),
    SF_U64A(x86_msrs, mtrr_phys_mask, 8), SF_U64A(x86_msrs, mtrr_fix, 11),
    SF_U64(x86_msrs, tsc_adjust), SF_U64(x86_msrs, feature_control),
    SF_U64(x86_msrs, mcg_status), SF_U64A(x86_msrs, mc_ctl, 4),
    SF_U64A(x86_msrs, mc_status, 4), SF_U64A(x86_msrs, mc_addr, 4),
    SF_U64A(x86_msrs, mc_misc, 4), SF_U64(x86_msrs, xss),
    SF_U64(x86_msrs, kvm_wall_clock), SF_U64(x86_msrs, kvm_system_time),
    SF_U64(x86_msrs, kvm_steal_time), SF_U64(x86_msrs, kvm_pv_eoi),
    SF_U64(x86_msrs, kvm_async_pf), SF_U64(x86_msrs, bios_sign_id),
    SF_END};
static const struct state_desc msr_state = {
    .name = "x86-msrs", .version = 1, .min_version = 1, .fields = msr_fields};

static const struct state_field lapic_fields[] = {
    SF_U64(x86_lapic, apic_base), SF_U32(x86_lapic, id),
    SF_U32(x86_lapic, tpr), SF_U32(x86_lapic, ldr), SF_U32(x86_lapic, dfr),
    SF_U32(x86_lapic, svr), SF_U32A(x86_lapic, isr, 8),
    SF_U32A(x86_lapic, tmr, 8), SF_U32A(x86_lapic, irr, 8),
    SF_U32(x86_lapic, esr), SF_U32(x86_lapic, esr_pending),
    SF_U64(x86_lapic, icr), SF_U32A(x86_lapic, lvt, 7),
    SF_U32(x86_lapic, timer_icr), SF_U32(x86_lapic, timer_dcr),
    SF_U64(x86_lapic, timer_start_ns), SF_U64(x86_lapic, timer_due_ns),
    SF_U64(x86_lapic, tsc_deadline), SF_END};
static const struct state_desc lapic_state = {
    .name = "x86-lapic", .version = 1, .min_version = 1,
    .fields = lapic_fields};

static const struct state_field cpu_fields[] = {
    SF_U64A(x86_cpu, gpr, 16), SF_U64(x86_cpu, rip), SF_U64(x86_cpu, rflags),
    SF_U64(x86_cpu, cr0), SF_U64(x86_cpu, cr2), SF_U64(x86_cpu, cr3),
    SF_U64(x86_cpu, cr4), SF_U64(x86_cpu, efer), SF_U64(x86_cpu, xcr0),
    SF_STRUCT(x86_cpu, seg, 6, seg_state), SF_STRUCT(x86_cpu, tr, 1, seg_state),
    SF_STRUCT(x86_cpu, ldtr, 1, seg_state),
    SF_STRUCT(x86_cpu, gdtr, 1, dtr_state),
    SF_STRUCT(x86_cpu, idtr, 1, dtr_state), SF_U64A(x86_cpu, dr, 4),
    SF_U64(x86_cpu, dr6), SF_U64(x86_cpu, dr7), SF_U32(x86_cpu, pkru),
    SF_U8(x86_cpu, cpl), SF_U8(x86_cpu, shadow), SF_U8(x86_cpu, activity),
    SF_BOOL(x86_cpu, nmi_blocked), SF_BOOL(x86_cpu, nmi_pending),
    SF_BOOL(x86_cpu, init_pending), SF_BOOL(x86_cpu, sipi_pending),
    SF_U8(x86_cpu, sipi_vector), SF_U64(x86_cpu, tsc_offset),
    SF_U64(x86_cpu, icount), SF_STRUCT(x86_cpu, event, 1, event_state),
    SF_U64(x86_cpu, db_pending), SF_U64A(x86_cpu, pae_pdpte, 4),
    SF_STRUCT(x86_cpu, msr, 1, msr_state),
    SF_STRUCT(x86_cpu, lapic, 1, lapic_state),
    SF_BYTES(x86_cpu, xsave.b, X86_XSAVE_BYTES), SF_END};
/* clang-format on */

/* ---- saving ---- */

/* The vCPU is parked: what other threads posted becomes its own state. */
static void pre_save(void *obj)
{
    struct x86_cpu *cpu = obj;
    uint32_t req = kick_pending(&cpu->kick);

    if (req & KICK_NMI) {
        cpu->nmi_pending = true;
        kick_clear(&cpu->kick, KICK_NMI);
    }
    cpu->init_pending = req & KICK_INIT;
    cpu->sipi_pending = req & KICK_SIPI;
    cpu->sipi_vector = (uint8_t)atomic_load(&cpu->kick.sipi_vector);
    x86_lapic_take_posted(cpu);
    kick_request(&cpu->kick, KICK_POSTED); /* let the engine look again */
}

/* ---- checks of what was loaded; each names the first bad field ---- */

struct bad {
    const char *field; /* NULL: all good */
    uint64_t value;
};

static bool check(struct bad *b, bool good, const char *field, uint64_t value)
{
    if (!good && !b->field) {
        b->field = field;
        b->value = value;
    }
    return good;
}

static void check_control(const struct x86_cpu *cpu, struct bad *b)
{
    bool pg = cpu->cr0 & X86_CR0_PG, pe = cpu->cr0 & X86_CR0_PE;
    bool lma = cpu->efer & X86_EFER_LMA, lme = cpu->efer & X86_EFER_LME;
    bool vm = cpu->rflags & X86_FL_VM;

    check(b,
          !(cpu->cr0 & ~UINT64_C(0xe005003f)) && (!pg || pe) &&
              (!(cpu->cr0 & X86_CR0_NW) || (cpu->cr0 & X86_CR0_CD)),
          "cr0", cpu->cr0);
    check(b,
          !(cpu->cr4 & ~x86_cr4_valid(cpu)) &&
              (!lma || (cpu->cr4 & X86_CR4_PAE)) &&
              (lma || !(cpu->cr4 & X86_CR4_PCIDE)),
          "cr4", cpu->cr4);
    check(b,
          !(cpu->efer &
            ~(X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE)) &&
              lma == (lme && pg),
          "efer", cpu->efer);
    check(b, !(cpu->cr3 & BITS(63, X86_MAXPHYADDR)), "cr3", cpu->cr3);
    check(b,
          (cpu->xcr0 & X86_XCR0_X87) &&
              !(cpu->xcr0 & ~(cpu->cpuid->xcr0 | X86_XCR0_X87)) &&
              (!(cpu->xcr0 & X86_XCR0_AVX) || (cpu->xcr0 & X86_XCR0_SSE)),
          "xcr0", cpu->xcr0);
    check(b,
          !(cpu->rflags & ~RFLAGS_VALID) && (cpu->rflags & X86_FL_ONE) &&
              !(vm && (lma || !pe || cpu->cpl != 3)),
          "rflags", cpu->rflags);
    check(b, cpu->cpl <= 3 && (pe || cpu->cpl == 0), "cpl", cpu->cpl);
    check(b, cpu->shadow <= 3, "shadow", cpu->shadow);
    check(b, cpu->activity <= X86_ACT_SHUTDOWN, "activity", cpu->activity);
    check(b, lma ? x86_canonical(cpu->rip) : cpu->rip >> 32 == 0, "rip",
          cpu->rip);
    check(b, (cpu->dr6 & ~UINT64_C(0xe00f)) == X86_DR6_FIXED, "dr6", cpu->dr6);
    check(b, (cpu->dr7 & ~UINT64_C(0xffff23ff)) == X86_DR7_FIXED, "dr7",
          cpu->dr7);
    check(b, !(cpu->db_pending & ~UINT64_C(0xe00f)), "db_pending",
          cpu->db_pending);
    check(b, cpu->pkru == 0, "pkru", cpu->pkru);
    check(b, !cpu->event.valid || cpu->event.vector != 0xff, "event", 0xff);
}

static void check_seg(const struct x86_cpu *cpu, const struct x86_seg *s,
                      bool wide_base, const char *field, struct bad *b)
{
    bool lma = cpu->efer & X86_EFER_LMA;

    check(b, !(s->attr & ~SEG_ATTR_VALID), field, s->attr);
    check(b, wide_base ? x86_canonical(s->base) : s->base >> 32 == 0, field,
          s->base);
    check(b, lma || s->base >> 32 == 0 || wide_base, field, s->base);
}

static void check_segs(const struct x86_cpu *cpu, struct bad *b)
{
    static const char *const names[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    const struct x86_seg *cs = &cpu->seg[X86_SEG_CS];
    bool vm = cpu->rflags & X86_FL_VM;

    for (unsigned i = 0; i < 6; i++)
        check_seg(cpu, &cpu->seg[i], i >= X86_SEG_FS, names[i], b);
    check_seg(cpu, &cpu->tr, true, "tr", b);
    check_seg(cpu, &cpu->ldtr, true, "ldtr", b);
    check(b, x86_canonical(cpu->gdtr.base), "gdtr", cpu->gdtr.base);
    check(b, x86_canonical(cpu->idtr.base), "idtr", cpu->idtr.base);
    check(b, !((cs->attr & X86_SEG_L) && (cs->attr & X86_SEG_DB)), "cs",
          cs->attr);
    check(b, !vm || !(cs->attr & X86_SEG_L), "cs", cs->attr);
}

static void check_msrs(const struct x86_cpu *cpu, struct bad *b)
{
    const struct x86_msrs *m = &cpu->msr;

    check(b, x86_canonical(m->lstar), "lstar", m->lstar);
    check(b, x86_canonical(m->cstar), "cstar", m->cstar);
    check(b, x86_canonical(m->kernel_gs_base), "kernel_gs_base",
          m->kernel_gs_base);
    check(b, x86_canonical(m->sysenter_esp), "sysenter_esp", m->sysenter_esp);
    check(b, x86_canonical(m->sysenter_eip), "sysenter_eip", m->sysenter_eip);
    check(b, m->fmask >> 32 == 0, "fmask", m->fmask);
    check(b, m->tsc_aux >> 32 == 0, "tsc_aux", m->tsc_aux);
    check(b, m->debugctl <= 3, "debugctl", m->debugctl);
    for (unsigned i = 0; i < 8; i++) {
        unsigned type = m->pat >> (8 * i) & 0xff;

        check(b, type != 2 && type != 3 && type <= 7, "pat", m->pat);
    }
}

static void check_lapic(const struct x86_cpu *cpu, struct bad *b)
{
    const struct x86_lapic *l = &cpu->lapic;
    uint64_t x2 = X86_APIC_BASE_EN | X86_APIC_BASE_X2;
    uint64_t valid = BITS(X86_MAXPHYADDR - 1, 12) | x2 | X86_APIC_BASE_BSP;

    check(b,
          !(l->apic_base & ~valid) && (l->apic_base & x2) != X86_APIC_BASE_X2,
          "apic_base", l->apic_base);
    check(b, l->id == cpu->index, "lapic id", l->id);
    check(b, l->tpr <= 0xff, "tpr", l->tpr);
    check(b, !(l->svr & ~0x3ffU), "svr", l->svr);
    check(b, !(l->timer_dcr & ~0xbU), "timer_dcr", l->timer_dcr);
    check(b, !(l->isr[0] & 0xffff), "isr", l->isr[0]);
    check(b, !(l->irr[0] & 0xffff), "irr", l->irr[0]);
    for (unsigned i = 0; i < 7; i++)
        check(b, !(l->lvt[i] & ~0x7a7ffU), "lvt", l->lvt[i]);
}

/* What the host's XRSTOR would refuse. SDM vol. 1 13.8.1 */
static void check_xsave(const struct x86_cpu *cpu, struct bad *b)
{
    const uint8_t *x = cpu->xsave.b;
    uint64_t bv, any = 0, w;
    uint32_t mxcsr;

    memcpy(&mxcsr, x + 24, sizeof mxcsr);
    memcpy(&bv, x + 512, sizeof bv);
    for (size_t i = 520; i < X86_XSAVE_AVX_OFFSET; i += sizeof w) {
        memcpy(&w, x + i, sizeof w);
        any |= w;
    }
    check(b, !(mxcsr & ~0xffffU), "mxcsr", mxcsr);
    check(b, !(bv & ~(X86_XCR0_X87 | X86_XCR0_SSE | cpu->cpuid->xcr0)),
          "xstate_bv", bv);
    check(b, any == 0, "xsave header", any);
}

static int post_load(void *obj, uint32_t version, struct err *e)
{
    struct x86_cpu *cpu = obj;
    struct bad b = {0};

    (void)version;
    check_control(cpu, &b);
    check_segs(cpu, &b);
    check_msrs(cpu, &b);
    check_lapic(cpu, &b);
    check_xsave(cpu, &b);
    if (b.field)
        return err_set(e, -EINVAL, "vCPU %u: %s cannot be 0x%" PRIx64,
                       cpu->index, b.field, b.value);
    atomic_store(&cpu->kick.sipi_vector, cpu->sipi_vector);
    kick_request(&cpu->kick, KICK_POSTED | (cpu->init_pending ? KICK_INIT : 0) |
                                 (cpu->sipi_pending ? KICK_SIPI : 0));
    x86_lapic_publish(cpu);
    x86_lapic_timer_resume(cpu);
    x86_kvmclock_update(cpu);
    cpu->lin->flush(cpu->lin_ctx, X86_FLUSH_ALL, gva(0), 0);
    cpu->lin->mode(cpu->lin_ctx);
    return 0;
}

const struct state_desc x86_cpu_state = {.name = "x86-cpu",
                                         .version = 1,
                                         .min_version = 1,
                                         .fields = cpu_fields,
                                         .pre_save = pre_save,
                                         .post_load = post_load};
