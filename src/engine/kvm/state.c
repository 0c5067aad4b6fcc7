// SPDX-License-Identifier: Apache-2.0
/*
 * struct x86_cpu to and from KVM; see priv.h. Thread: the vCPU's.
 *
 * Not moved: MP_STATE, which without KVM's own local APIC is always runnable
 * (HLT and waiting for SIPI are ours); the PAE page-directory-pointer entries,
 * which KVM loads again from memory, and so do we.
 * Source: Linux Documentation/virt/kvm/api.rst; Intel SDM vol. 3A 24.4 (what
 * a guest's segment registers must look like), vol. 1 13.4 (XSAVE layout).
 */
#include "cpu/x86/cpuid.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/kvmclock.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/msr.h"
#include "engine/kvm/priv.h"
#include "vm/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <x86intrin.h>

#define XSAVE_MXCSR_MASK 28
#define XSAVE_HEADER     512
/* Ticks: of a measurement that nothing disturbed; of two that mean the same. */
#define TSC_CLOSE     400
#define TSC_TRIES     10
#define TSC_TOLERANCE 20000

int kvm_fail(struct engine_vcpu *v, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(v->why, sizeof v->why, fmt, ap);
    va_end(ap);
    return code;
}

/* An ioctl on the vCPU that must work. */
static int must(struct engine_vcpu *v, unsigned long req, void *arg,
                const char *what)
{
    int r = kvm_call(v->part, v->fd, req, arg);

    return r < 0 ? kvm_fail(v, r, "kvm: %s: %s", what, strerror(-r)) : r;
}

/* ---- general registers ---- */

static void regs_push(const struct x86_cpu *c, struct kvm_regs *r)
{
    *r = (struct kvm_regs){.rax = c->gpr[X86_RAX],
                           .rbx = c->gpr[X86_RBX],
                           .rcx = c->gpr[X86_RCX],
                           .rdx = c->gpr[X86_RDX],
                           .rsi = c->gpr[X86_RSI],
                           .rdi = c->gpr[X86_RDI],
                           .rsp = c->gpr[X86_RSP],
                           .rbp = c->gpr[X86_RBP],
                           .r8 = c->gpr[X86_R8],
                           .r9 = c->gpr[X86_R9],
                           .r10 = c->gpr[X86_R10],
                           .r11 = c->gpr[X86_R11],
                           .r12 = c->gpr[X86_R12],
                           .r13 = c->gpr[X86_R13],
                           .r14 = c->gpr[X86_R14],
                           .r15 = c->gpr[X86_R15],
                           .rip = c->rip,
                           .rflags = c->rflags};
}

static void regs_pull(struct x86_cpu *c, const struct kvm_regs *r)
{
    const uint64_t gpr[16] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp,
                              r->rsi, r->rdi, r->r8,  r->r9,  r->r10, r->r11,
                              r->r12, r->r13, r->r14, r->r15};

    memcpy(c->gpr, gpr, sizeof gpr);
    c->rip = r->rip;
    c->rflags = r->rflags | X86_FL_ONE;
}

/* ---- segments, control registers ---- */

static struct kvm_segment seg_push(const struct x86_seg *s)
{
    uint32_t a = s->attr;
    bool present = (a & X86_SEG_P) && !(a & X86_SEG_UNUSABLE);

    return (struct kvm_segment){.base = s->base,
                                .limit = s->limit,
                                .selector = s->sel,
                                .type = X86_SEG_TYPE(a),
                                .present = present,
                                .dpl = X86_SEG_DPL(a),
                                .db = (a & X86_SEG_DB) != 0,
                                .s = (a & X86_SEG_S) != 0,
                                .l = (a & X86_SEG_L) != 0,
                                .g = (a & X86_SEG_G) != 0,
                                .avl = (a & X86_SEG_AVL) != 0,
                                .unusable = !present};
}

static struct x86_seg seg_pull(const struct kvm_segment *k)
{
    uint64_t a = k->type | (uint64_t)k->dpl << 5;

    a |= k->s ? X86_SEG_S : 0;
    a |= k->present && !k->unusable ? X86_SEG_P : 0;
    a |= k->avl ? X86_SEG_AVL : 0;
    a |= k->l ? X86_SEG_L : 0;
    a |= k->db ? X86_SEG_DB : 0;
    a |= k->g ? X86_SEG_G : 0;
    /* as a null selector leaves it: the DPL alone (SS: it is the CPL) */
    if (k->unusable)
        a = X86_SEG_UNUSABLE | (uint64_t)k->dpl << 5;
    return (struct x86_seg){.base = k->base,
                            .limit = k->limit,
                            .attr = (uint32_t)a,
                            .sel = k->selector};
}

static void sregs_push(const struct x86_cpu *c, struct kvm_sregs *s)
{
    struct kvm_segment *seg[6] = {&s->es, &s->cs, &s->ss,
                                  &s->ds, &s->fs, &s->gs};

    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < 6; i++)
        *seg[i] = seg_push(&c->seg[i]);
    s->ss.dpl = c->cpl; /* where KVM looks for the CPL */
    if (!(c->efer & X86_EFER_LMA))
        s->cs.l = 0; /* a reserved bit there, which KVM refuses */
    s->tr = seg_push(&c->tr);
    s->tr.type |= 2; /* busy, as a loaded one is */
    s->ldt = seg_push(&c->ldtr);
    s->gdt = (struct kvm_dtable){.base = c->gdtr.base, .limit = c->gdtr.limit};
    s->idt = (struct kvm_dtable){.base = c->idtr.base, .limit = c->idtr.limit};
    s->cr0 = c->cr0;
    s->cr2 = c->cr2;
    s->cr3 = c->cr3;
    s->cr4 = c->cr4;
    s->cr8 = x86_lapic_cr8(c);
    s->efer = c->efer;
    /* Its enable bit shows in CPUID; the rest is ours. */
    s->apic_base = X86_LAPIC_BASE_DEFAULT |
                   (c->lapic.apic_base & X86_APIC_BASE_BSP) |
                   (c->lapic.apic_base & X86_APIC_BASE_EN);
}

/* The four entries that a PAE CR3 load reads. SDM vol. 3A 4.4.1 */
static void pdpte_pull(struct x86_cpu *c)
{
    bool pae = (c->cr0 & X86_CR0_PG) && (c->cr4 & X86_CR4_PAE) &&
               !(c->efer & X86_EFER_LMA);
    uint64_t at = c->cr3 & UINT64_C(0xffffffe0);

    if (!pae ||
        mem_read(c->vm->mem, gpa(at), c->pae_pdpte, sizeof c->pae_pdpte))
        memset(c->pae_pdpte, 0, sizeof c->pae_pdpte);
}

static void sregs_pull(struct x86_cpu *c, const struct kvm_sregs *s)
{
    const struct kvm_segment *seg[6] = {&s->es, &s->cs, &s->ss,
                                        &s->ds, &s->fs, &s->gs};

    for (unsigned i = 0; i < 6; i++)
        c->seg[i] = seg_pull(seg[i]);
    c->tr = seg_pull(&s->tr);
    c->ldtr = seg_pull(&s->ldt);
    c->gdtr = (struct x86_dtr){.base = s->gdt.base, .limit = s->gdt.limit};
    c->idtr = (struct x86_dtr){.base = s->idt.base, .limit = s->idt.limit};
    c->cr0 = s->cr0;
    c->cr2 = s->cr2;
    c->cr3 = s->cr3;
    c->cr4 = s->cr4;
    c->efer = s->efer;
    c->cpl = s->ss.dpl & 3;
    if (!(c->cr0 & X86_CR0_PE))
        c->cpl = 0;
    else if (c->rflags & X86_FL_VM)
        c->cpl = 3;
    pdpte_pull(c);
}

/* ---- events ---- */

static void events_push(const struct x86_cpu *c, struct kvm_vcpu_events *k)
{
    const struct x86_event *ev = &c->event;

    memset(k, 0, sizeof *k);
    k->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    k->nmi.pending = c->nmi_pending;
    k->nmi.masked = c->nmi_blocked;
    k->interrupt.shadow =
        (uint8_t)((c->shadow & X86_SHADOW_STI ? KVM_X86_SHADOW_INT_STI : 0) |
                  (c->shadow & X86_SHADOW_MOVSS ? KVM_X86_SHADOW_INT_MOV_SS
                                                : 0));
    if (!ev->valid)
        return;
    if (ev->vector == X86_VEC_NMI) {
        k->nmi.injected = 1;
    } else if (ev->vector < 32) {
        k->exception.injected = 1;
        k->exception.nr = ev->vector;
        k->exception.has_error_code = ev->has_error;
        k->exception.error_code = ev->error;
    } else {
        k->interrupt.injected = 1;
        k->interrupt.nr = ev->vector;
        k->interrupt.soft = ev->soft;
    }
}

/* An event that KVM began: ours to finish. A software interrupt is not: RIP is
 * still at the instruction, which runs again. */
static void events_pull(struct x86_cpu *c, const struct kvm_vcpu_events *k)
{
    bool exc = k->exception.injected && k->exception.nr != X86_VEC_BP &&
               k->exception.nr != X86_VEC_OF;

    c->nmi_pending = k->nmi.pending;
    c->nmi_blocked = k->nmi.masked;
    c->shadow =
        (uint8_t)((k->interrupt.shadow & KVM_X86_SHADOW_INT_STI ? X86_SHADOW_STI
                                                                : 0) |
                  (k->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS
                       ? X86_SHADOW_MOVSS
                       : 0));
    memset(&c->event, 0, sizeof c->event);
    if (exc)
        c->event = (struct x86_event){.valid = true,
                                      .vector = k->exception.nr,
                                      .has_error = k->exception.has_error_code,
                                      .error = k->exception.error_code};
    else if (k->nmi.injected)
        c->event = (struct x86_event){.valid = true, .vector = X86_VEC_NMI};
    else if (k->interrupt.injected && !k->interrupt.soft)
        c->event = (struct x86_event){.valid = true, .vector = k->interrupt.nr};
}

/* ---- by ioctls: only what changed ---- */

static int msrs_push(struct engine_vcpu *v)
{
    struct kvm_msr_block b;
    int n = (int)v->part->nmsrs, r;

    memset(&b, 0, sizeof b);
    b.nmsrs = v->part->nmsrs;
    for (int i = 0; i < n; i++) {
        b.entry[i].index = v->part->msr[i];
        b.entry[i].data = *kvm_msr_at(v->cpu, v->part->msr[i]);
    }
    if (v->known && memcmp(&b, &v->had_msrs, sizeof b) == 0)
        return 0;
    r = must(v, KVM_SET_MSRS, &b, "writing MSRs");
    if (r >= 0 && r < n) /* it says how many it took */
        r = kvm_fail(v, -EINVAL, "kvm: MSR 0x%x does not take 0x%llx",
                     b.entry[r].index, b.entry[r].data);
    v->had_msrs = b;
    return r < 0 ? r : 0;
}

static int msrs_pull(struct engine_vcpu *v)
{
    struct kvm_msr_block b;
    int n = (int)v->part->nmsrs, r;

    memset(&b, 0, sizeof b);
    b.nmsrs = v->part->nmsrs;
    for (int i = 0; i < n; i++)
        b.entry[i].index = v->part->msr[i];
    r = must(v, KVM_GET_MSRS, &b, "reading MSRs");
    if (r >= 0 && r < n)
        r = kvm_fail(v, -EINVAL, "kvm: MSR 0x%x cannot be read",
                     b.entry[r].index);
    if (r < 0)
        return r;
    for (int i = 0; i < n; i++)
        *kvm_msr_at(v->cpu, v->part->msr[i]) = b.entry[i].data;
    v->had_msrs = b;
    return 0;
}

static int xcr_push(struct engine_vcpu *v)
{
    struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs = {{.value = v->cpu->xcr0}}};
    int r;

    if (v->known && v->had_xcr0 == v->cpu->xcr0)
        return 0;
    r = must(v, KVM_SET_XCRS, &x, "writing XCR0");
    v->had_xcr0 = v->cpu->xcr0;
    return r;
}

static int xcr_pull(struct engine_vcpu *v)
{
    struct kvm_xcrs x = {0};
    int r = must(v, KVM_GET_XCRS, &x, "reading XCR0");

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < x.nr_xcrs && i < KVM_MAX_XCRS; i++)
        if (x.xcrs[i].xcr == 0)
            v->had_xcr0 = v->cpu->xcr0 = x.xcrs[i].value;
    return 0;
}

/* x87 and SSE are always marked in use: else KVM would drop MXCSR. */
static int xsave_push(struct engine_vcpu *v)
{
    uint64_t bv;
    int r;

    if (v->known &&
        memcmp(v->had_xsave, v->cpu->xsave.b, sizeof v->had_xsave) == 0)
        return 0;
    memset(v->xsave, 0, sizeof v->xsave);
    memcpy(v->xsave, v->cpu->xsave.b, X86_XSAVE_BYTES);
    memset(v->xsave + XSAVE_HEADER + 8, 0, 56);
    memcpy(&bv, v->cpu->xsave.b + XSAVE_HEADER, sizeof bv);
    bv = (bv & v->cpu->cpuid->xcr0) | X86_XCR0_X87 | X86_XCR0_SSE;
    memcpy(v->xsave + XSAVE_HEADER, &bv, sizeof bv);
    r = must(v, KVM_SET_XSAVE, v->xsave, "writing vector registers");
    memcpy(v->had_xsave, v->cpu->xsave.b, sizeof v->had_xsave);
    return r;
}

static int xsave_pull(struct engine_vcpu *v)
{
    uint8_t *mask = v->xsave + XSAVE_MXCSR_MASK;
    int r = must(v, KVM_GET_XSAVE, v->xsave, "reading vector registers");

    if (r < 0)
        return r;
    /* The host's, in some answers: no state of the guest's. */
    memcpy(mask, v->cpu->xsave.b + XSAVE_MXCSR_MASK, 4);
    memcpy(v->cpu->xsave.b, v->xsave, X86_XSAVE_BYTES);
    memcpy(v->had_xsave, v->cpu->xsave.b, sizeof v->had_xsave);
    return 0;
}

static int debug_push(struct engine_vcpu *v)
{
    struct kvm_debugregs d = {.dr6 = v->cpu->dr6, .dr7 = v->cpu->dr7};
    int r;

    for (unsigned i = 0; i < 4; i++)
        d.db[i] = v->cpu->dr[i];
    if (v->known && memcmp(&d, &v->had_debug, sizeof d) == 0)
        return 0;
    r = must(v, KVM_SET_DEBUGREGS, &d, "writing debug registers");
    v->had_debug = d;
    return r;
}

static int debug_pull(struct engine_vcpu *v)
{
    struct kvm_debugregs d = {0};
    int r = must(v, KVM_GET_DEBUGREGS, &d, "reading debug registers");

    if (r < 0)
        return r;
    for (unsigned i = 0; i < 4; i++)
        v->cpu->dr[i] = d.db[i];
    v->cpu->dr6 = d.dr6;
    v->cpu->dr7 = d.dr7;
    v->had_debug = d;
    return 0;
}

/* ---- the whole ---- */

static bool near_enough(uint64_t a, uint64_t b)
{
    return a - b + TSC_TOLERANCE < 2 * TSC_TOLERANCE;
}

/* clock_tsc() minus the host's TSC, read as one as well as can be. */
static uint64_t tsc_measure(struct clock *clk)
{
    uint64_t best = UINT64_MAX, base = 0;

    for (unsigned i = 0; i < TSC_TRIES && best > TSC_CLOSE; i++) {
        uint64_t before = __rdtsc(), tsc = clock_tsc(clk), took;

        took = __rdtsc() - before;
        if (took < best) {
            best = took;
            base = tsc - before - took / 2;
        }
    }
    return base;
}

/* One number for all vCPUs: a guest sees a difference of some ticks between
 * them as an unstable TSC. */
static uint64_t tsc_base(struct engine_vcpu *v)
{
    uint64_t now = tsc_measure(v->cpu->vm->clock);
    uint64_t had = atomic_load(&v->part->tsc_base);

    if (near_enough(now, had))
        return had;
    return atomic_compare_exchange_strong(&v->part->tsc_base, &had, now)
               ? now
               : had; /* another vCPU has just measured it */
}

/* The guest sees the host's TSC: ours must say the same. */
static void tsc_follow(struct x86_cpu *c, uint64_t base)
{
    if (near_enough(c->tsc_offset, 0 - base))
        return;
    c->tsc_offset = 0 - base;
    x86_kvmclock_update(c);
    x86_lapic_timer_rearm(c);
}

static int tsc_write(struct engine_vcpu *v, uint64_t offset)
{
    struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL,
                                   .attr = KVM_VCPU_TSC_OFFSET,
                                   .addr = (uintptr_t)&offset};
    struct kvm_msr_block b;

    if (v->part->tsc_by == KVM_TSC_OFFSET)
        return must(v, KVM_SET_DEVICE_ATTR, &attr, "setting the TSC");
    memset(&b, 0, sizeof b);
    b.nmsrs = 1;
    b.entry[0].index = X86_MSR_TSC;
    b.entry[0].data = offset + __rdtsc();
    return must(v, KVM_SET_MSRS, &b, "setting the TSC");
}

int kvm_tsc(struct engine_vcpu *v)
{
    uint64_t base = tsc_base(v), offset = base + v->cpu->tsc_offset;
    int r = 0;

    if (v->part->tsc_by == KVM_TSC_HOSTS)
        tsc_follow(v->cpu, base);
    else if (!v->tsc_known || offset != v->had_tsc)
        r = tsc_write(v, offset);
    v->had_tsc = offset;
    v->tsc_known = true;
    return r < 0 ? r : 0;
}

int kvm_push(struct engine_vcpu *v)
{
    struct kvm_sync_regs *s = &v->run->s.regs;
    int r;

    regs_push(v->cpu, &s->regs);
    sregs_push(v->cpu, &s->sregs);
    events_push(v->cpu, &s->events);
    v->run->kvm_dirty_regs = KVM_SYNC_X86_VALID_FIELDS;
    r = kvm_tsc(v);
    r = r < 0 ? r : msrs_push(v);
    r = r < 0 ? r : xcr_push(v);
    r = r < 0 ? r : xsave_push(v);
    r = r < 0 ? r : debug_push(v);
    v->known = r >= 0;
    v->in_kvm = v->just_moved = true;
    v->st.pushes++;
    return r < 0 ? r : 0;
}

int kvm_pull(struct engine_vcpu *v)
{
    const struct kvm_sync_regs *s = &v->run->s.regs;
    int r;

    /* Never entered since the push: kvm_run holds what we put there. */
    regs_pull(v->cpu, &s->regs);
    sregs_pull(v->cpu, &s->sregs);
    events_pull(v->cpu, &s->events);
    v->run->kvm_dirty_regs = 0;
    r = msrs_pull(v);
    r = r < 0 ? r : xcr_pull(v);
    r = r < 0 ? r : xsave_pull(v);
    r = r < 0 ? r : debug_pull(v);
    v->in_kvm = false;
    v->st.pulls++;
    return r < 0 ? r : 0;
}
