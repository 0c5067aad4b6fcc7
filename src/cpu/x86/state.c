// SPDX-License-Identifier: Apache-2.0
/*
 * vCPU set-up and reset; see state.h. The state descriptor is in
 * state_desc.c. Source: Intel SDM vol. 3A 9.1.1, table 9-1.
 */
#include "cpu/x86/state.h"

#include "cpu/x86/cpuid.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/msr.h"
#include "cpu/x86/paging.h"

#define FCW_RESET   0x0040U
#define MXCSR_RESET 0x1f80U

static void seg_reset(struct x86_seg *s, uint32_t type)
{
    *s = (struct x86_seg){.limit = 0xffff, .attr = (uint32_t)X86_SEG_P | type};
}

static void segs_reset(struct x86_cpu *cpu)
{
    for (unsigned i = 0; i < 6; i++)
        seg_reset(&cpu->seg[i], (uint32_t)X86_SEG_S | 3U);
    cpu->seg[X86_SEG_CS].sel = 0xf000;
    cpu->seg[X86_SEG_CS].base = 0xffff0000U;
    seg_reset(&cpu->ldtr, 2);
    seg_reset(&cpu->tr, 11);
    cpu->gdtr = (struct x86_dtr){.limit = 0xffff};
    cpu->idtr = (struct x86_dtr){.limit = 0xffff};
}

/* x87 and SSE as after RESET; FXSAVE layout (SDM vol. 1 table 10-2). */
static void fpu_reset(struct x86_cpu *cpu)
{
    uint64_t bv = X86_XCR0_X87 | X86_XCR0_SSE;
    uint16_t fcw = FCW_RESET;
    uint32_t mxcsr = MXCSR_RESET;

    memset(&cpu->xsave, 0, sizeof cpu->xsave);
    memcpy(cpu->xsave.b, &fcw, sizeof fcw);
    cpu->xsave.b[4] = 0xff; /* all tags valid: zeroes */
    memcpy(cpu->xsave.b + 24, &mxcsr, sizeof mxcsr);
    memcpy(cpu->xsave.b + 512, &bv, sizeof bv);
}

void x86_cpu_reset(struct x86_cpu *cpu, bool init)
{
    uint64_t cd_nw = X86_CR0_CD | X86_CR0_NW;
    uint32_t r[4];

    memset(cpu->gpr, 0, sizeof cpu->gpr);
    x86_cpuid_query(cpu, 1, 0, r);
    cpu->gpr[X86_RDX] = r[0]; /* the processor's signature */
    cpu->rip = 0xfff0;
    cpu->rflags = X86_FL_ONE;
    cpu->cr0 = X86_CR0_ET | (init ? cpu->cr0 & cd_nw : cd_nw);
    cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->efer = 0;
    memset(cpu->pae_pdpte, 0, sizeof cpu->pae_pdpte);
    segs_reset(cpu);
    memset(cpu->dr, 0, sizeof cpu->dr);
    cpu->dr6 = X86_DR6_FIXED;
    cpu->dr7 = X86_DR7_FIXED;
    cpu->db_pending = 0;
    cpu->cpl = 0;
    cpu->shadow = 0;
    cpu->activity = X86_ACT_RUN;
    cpu->nmi_blocked = cpu->nmi_pending = false;
    cpu->init_pending = cpu->sipi_pending = false;
    memset(&cpu->event, 0, sizeof cpu->event);
    memset(&cpu->exc, 0, sizeof cpu->exc);
    x86_lapic_reset(cpu, init);
    x86_msr_reset(cpu, init);
    if (!init) {
        cpu->xcr0 = X86_XCR0_X87;
        cpu->pkru = 0;
        cpu->tsc_offset = 0;
        fpu_reset(cpu);
        kick_clear(&cpu->kick, KICK_NMI | KICK_INIT | KICK_SIPI);
        if (cpu->index)
            cpu->activity = X86_ACT_WAIT_SIPI;
    }
    if (cpu->lin->flush)
        cpu->lin->flush(cpu->lin_ctx, X86_FLUSH_ALL, gva(0), 0);
    if (cpu->lin->mode)
        cpu->lin->mode(cpu->lin_ctx);
}

void x86_cpu_init(struct x86_cpu *cpu, unsigned index, struct vm *vm,
                  struct x86_topology *topo, const struct x86_cpuid *cpuid)
{
    memset(cpu, 0, sizeof *cpu);
    cpu->index = index;
    cpu->vm = vm;
    cpu->topo = topo;
    cpu->cpuid = cpuid;
    cpu->lin = &x86_lin_walk_ops;
    cpu->lin_ctx = cpu;
    kick_init(&cpu->kick);
    x86_lapic_init(cpu);
    topo->cpu[index] = cpu;
    if (topo->ncpus <= index)
        topo->ncpus = index + 1;
    x86_cpu_reset(cpu, false);
}

void x86_cpu_fini(struct x86_cpu *cpu)
{
    x86_lapic_fini(cpu);
    cpu->topo->cpu[cpu->index] = NULL;
}
