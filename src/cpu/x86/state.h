// SPDX-License-Identifier: Apache-2.0
/*
 * struct x86_cpu: the architectural state of one vCPU, the only vCPU format:
 * every engine runs from it and a VM stopped under one engine goes on under
 * another. No caches, no host addresses, nothing of an engine.
 * Source: Intel SDM vol. 1 ch. 3, vol. 3A ch. 2, vol. 4.
 */
#ifndef DOPPEL_CPU_X86_STATE_H
#define DOPPEL_CPU_X86_STATE_H

#include "base/bits.h"
#include "base/cc.h"
#include "base/log.h"
#include "base/types.h"
#include "vm/kick.h"
#include "vm/state.h"
#include "vm/vm.h"

#include "cpu/x86/decode.h" /* enum x86_mode, enum x86_seg_id */

enum x86_gpr {
    X86_RAX,
    X86_RCX,
    X86_RDX,
    X86_RBX,
    X86_RSP,
    X86_RBP,
    X86_RSI,
    X86_RDI,
    X86_R8,
    X86_R9,
    X86_R10,
    X86_R11,
    X86_R12,
    X86_R13,
    X86_R14,
    X86_R15
};

/* RFLAGS */
#define X86_FL_CF   BIT(0)
#define X86_FL_ONE  BIT(1)
#define X86_FL_PF   BIT(2)
#define X86_FL_AF   BIT(4)
#define X86_FL_ZF   BIT(6)
#define X86_FL_SF   BIT(7)
#define X86_FL_TF   BIT(8)
#define X86_FL_IF   BIT(9)
#define X86_FL_DF   BIT(10)
#define X86_FL_OF   BIT(11)
#define X86_FL_IOPL (BIT(12) | BIT(13))
#define X86_FL_NT   BIT(14)
#define X86_FL_RF   BIT(16)
#define X86_FL_VM   BIT(17)
#define X86_FL_AC   BIT(18)
#define X86_FL_VIF  BIT(19)
#define X86_FL_VIP  BIT(20)
#define X86_FL_ID   BIT(21)
#define X86_FL_ARITH                                                           \
    (X86_FL_CF | X86_FL_PF | X86_FL_AF | X86_FL_ZF | X86_FL_SF | X86_FL_OF)

/* CR0 */
#define X86_CR0_PE BIT(0)
#define X86_CR0_MP BIT(1)
#define X86_CR0_EM BIT(2)
#define X86_CR0_TS BIT(3)
#define X86_CR0_ET BIT(4)
#define X86_CR0_NE BIT(5)
#define X86_CR0_WP BIT(16)
#define X86_CR0_AM BIT(18)
#define X86_CR0_NW BIT(29)
#define X86_CR0_CD BIT(30)
#define X86_CR0_PG BIT(31)

/* CR4 */
#define X86_CR4_VME        BIT(0)
#define X86_CR4_PVI        BIT(1)
#define X86_CR4_TSD        BIT(2)
#define X86_CR4_DE         BIT(3)
#define X86_CR4_PSE        BIT(4)
#define X86_CR4_PAE        BIT(5)
#define X86_CR4_MCE        BIT(6)
#define X86_CR4_PGE        BIT(7)
#define X86_CR4_PCE        BIT(8)
#define X86_CR4_OSFXSR     BIT(9)
#define X86_CR4_OSXMMEXCPT BIT(10)
#define X86_CR4_UMIP       BIT(11)
#define X86_CR4_LA57       BIT(12)
#define X86_CR4_FSGSBASE   BIT(16)
#define X86_CR4_PCIDE      BIT(17)
#define X86_CR4_OSXSAVE    BIT(18)
#define X86_CR4_SMEP       BIT(20)
#define X86_CR4_SMAP       BIT(21)
#define X86_CR4_PKE        BIT(22)

/* EFER */
#define X86_EFER_SCE BIT(0)
#define X86_EFER_LME BIT(8)
#define X86_EFER_LMA BIT(10)
#define X86_EFER_NXE BIT(11)

/* Exception vectors (SDM vol. 3A 6.3.1). */
enum x86_vector {
    X86_VEC_DE = 0,
    X86_VEC_DB = 1,
    X86_VEC_NMI = 2,
    X86_VEC_BP = 3,
    X86_VEC_OF = 4,
    X86_VEC_BR = 5,
    X86_VEC_UD = 6,
    X86_VEC_NM = 7,
    X86_VEC_DF = 8,
    X86_VEC_TS = 10,
    X86_VEC_NP = 11,
    X86_VEC_SS = 12,
    X86_VEC_GP = 13,
    X86_VEC_PF = 14,
    X86_VEC_MF = 16,
    X86_VEC_AC = 17,
    X86_VEC_MC = 18,
    X86_VEC_XM = 19
};

/* A segment register: selector and the cached descriptor.
 * attr: bits 3-0 type, 4 S, 6-5 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G
 * (as in the descriptor's bits 55-40), 16 unusable (null selector loaded). */
struct x86_seg {
    uint64_t base;
    uint32_t limit; /* in bytes, G already applied */
    uint32_t attr;
    uint16_t sel;
};

#define X86_SEG_TYPE(a)  ((a)&0xfU)
#define X86_SEG_S        BIT(4)
#define X86_SEG_DPL(a)   (((a) >> 5) & 3U)
#define X86_SEG_P        BIT(7)
#define X86_SEG_AVL      BIT(12)
#define X86_SEG_L        BIT(13)
#define X86_SEG_DB       BIT(14)
#define X86_SEG_G        BIT(15)
#define X86_SEG_UNUSABLE BIT(16)

struct x86_dtr {
    uint64_t base;
    uint16_t limit;
};

/* x87, SSE and AVX state in the standard (non-compacted) XSAVE layout
 * (SDM vol. 1 13.4): legacy region, header, then AVX's upper halves at 576. */
#define X86_XSAVE_BYTES      2816 /* room up to AVX-512 and PKRU */
#define X86_XSAVE_AVX_OFFSET 576
#define X86_XCR0_X87         BIT(0)
#define X86_XCR0_SSE         BIT(1)
#define X86_XCR0_AVX         BIT(2)

struct x86_xsave {
    uint8_t b[X86_XSAVE_BYTES] ALIGNED(64);
};

/* Local APIC (SDM vol. 3A ch. 11). Registers as the guest sees them. Touched
 * by the vCPU's own thread only; others go through struct kick. */
struct x86_lapic {
    uint64_t apic_base; /* IA32_APIC_BASE: bit 11 enable, 10 x2APIC, 8 BSP */
    uint32_t id;        /* x2APIC id; the xAPIC id is id << 24 */
    uint32_t tpr;
    uint32_t ldr, dfr; /* xAPIC only; x2APIC's LDR follows from id */
    uint32_t svr;
    uint32_t isr[8], tmr[8], irr[8];
    uint32_t esr, esr_pending;
    uint64_t icr;
    uint32_t lvt[7];    /* CMCI timer thermal perf LINT0 LINT1 error */
    uint32_t timer_icr; /* initial count */
    uint32_t timer_dcr;
    uint64_t timer_start_ns; /* guest time when the count was loaded */
    uint64_t timer_due_ns;   /* ... when it ends; CLOCK_NEVER: stopped */
    uint64_t tsc_deadline;   /* IA32_TSC_DEADLINE, guest TSC; 0 = off */
};

#define X86_LVT_CMCI    0
#define X86_LVT_TIMER   1
#define X86_LVT_THERMAL 2
#define X86_LVT_PERF    3
#define X86_LVT_LINT0   4
#define X86_LVT_LINT1   5
#define X86_LVT_ERROR   6

/* What the vCPU is doing when it is not running instructions. */
enum x86_activity {
    X86_ACT_RUN,
    X86_ACT_HLT,
    X86_ACT_WAIT_SIPI, /* an AP after reset or INIT */
    X86_ACT_SHUTDOWN   /* triple fault */
};

/* An event whose delivery was begun but not finished (taken at the next
 * instruction boundary before anything else). */
struct x86_event {
    bool valid;
    bool has_error;
    bool soft; /* INT n, INT3, INTO: the gate's DPL is checked */
    uint8_t vector;
    uint32_t error;
};

#define X86_SHADOW_STI   1
#define X86_SHADOW_MOVSS 2

struct x86_msrs {
    uint64_t star, lstar, cstar, fmask, kernel_gs_base, tsc_aux;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, misc_enable, mtrr_def_type, spec_ctrl, debugctl;
    uint64_t mtrr_phys_base[8], mtrr_phys_mask[8];
    uint64_t mtrr_fix[11];
    uint64_t tsc_adjust;
    uint64_t feature_control;
    uint64_t mcg_status, mc_ctl[4], mc_status[4], mc_addr[4], mc_misc[4];
    uint64_t xss;
    /* KVM paravirtual (Linux Documentation/virt/kvm/x86/msr.rst) */
    uint64_t kvm_wall_clock, kvm_system_time, kvm_steal_time, kvm_pv_eoi,
        kvm_async_pf;
    uint64_t bios_sign_id; /* microcode revision as read back */
};

/* An exception that an instruction raised; filled by x86_raise and friends
 * (cpu/x86/exceptions.h), delivered by the engine at the instruction's end. */
struct x86_exc {
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t cr2; /* #PF */
    uint64_t dr6; /* #DB: bits to set in DR6 */
};

/* What functions return that may raise: 0, or X86_FAULT with cpu->exc set and
 * no architectural state changed. */
#define X86_FAULT (-1)

/* How linear memory is reached: by the engine's TLB, or (x86_lin_walk_ops in
 * cpu/x86/paging.h) by a page walk for each access. All or nothing: an access
 * that faults has changed nothing and has raised #PF (or #GP, #SS for a
 * non-canonical address, by X86_LIN_STACK). */
#define X86_LIN_READ  0U
#define X86_LIN_WRITE 1U
#define X86_LIN_EXEC  2U
#define X86_LIN_IMPLICIT                                                       \
    4U                   /* as supervisor whatever the CPL: GDT, IDT, TSS      \
                          */
#define X86_LIN_USER  8U /* as CPL 3: pushes onto an outer stack */
#define X86_LIN_STACK 16U
/* With _IMPLICIT: as CPL 0, but RFLAGS.AC counts (pushes onto inner stacks). */
#define X86_LIN_SUPER   32U
#define X86_LIN_NOALIGN 64U /* no #AC: gathers, VMASKMOV */

enum x86_flush {
    X86_FLUSH_ALL,       /* everything, global entries too */
    X86_FLUSH_NONGLOBAL, /* all PCIDs, global entries stay */
    X86_FLUSH_PCID,      /* one PCID's, global entries stay */
    X86_FLUSH_PAGE       /* INVLPG: va in this PCID, and global ones */
};

struct x86_lin_ops {
    int (*read)(void *ctx, gva_t va, void *buf, size_t len, unsigned flags);
    int (*write)(void *ctx, gva_t va, const void *buf, size_t len,
                 unsigned flags);
    /* Raise what an access (X86_LIN_READ or _WRITE in flags) would raise. */
    int (*probe)(void *ctx, gva_t va, size_t len, unsigned flags);
    void (*flush)(void *ctx, enum x86_flush kind, gva_t va, uint16_t pcid);
    /* CR3 was loaded. @keep: bit 63 (no flush of its PCID). */
    void (*root)(void *ctx, bool keep);
    /* CR0, CR4, EFER, CPL or CS changed in a way that changes how code runs. */
    void (*mode)(void *ctx);
};

struct x86_cpuid; /* cpu/x86/cpuid.h: the table that CPUID answers from */
struct x86_topology;

struct x86_cpu {
    /* hot: what every instruction touches */
    uint64_t gpr[16];
    uint64_t rip;
    uint64_t rflags; /* always exact between instructions; bit 1 set */
    uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
    struct x86_seg seg[6];
    struct x86_seg tr, ldtr;
    struct x86_dtr gdtr, idtr;
    uint64_t dr[4], dr6, dr7;
    uint32_t pkru;
    uint8_t cpl;
    uint8_t shadow;   /* X86_SHADOW_*: for the next instruction only */
    uint8_t activity; /* enum x86_activity */
    bool nmi_blocked;
    bool nmi_pending;
    /* the kick's requests, while state is saved and loaded */
    bool init_pending, sipi_pending;
    uint8_t sipi_vector;
    uint64_t tsc_offset; /* guest TSC = clock_tsc + tsc_offset */
    uint64_t icount;     /* instructions retired (a rep counts once) */
    struct x86_event event;
    struct x86_exc exc;    /* valid only after X86_FAULT */
    uint64_t db_pending;   /* DR6 bits of traps due at the instruction's end */
    uint64_t pae_pdpte[4]; /* loaded with CR3 in PAE paging */
    struct x86_msrs msr;
    struct x86_lapic lapic;
    struct x86_xsave xsave;

    /* wiring, not state */
    unsigned index; /* vCPU number = APIC id */
    struct vm *vm;
    struct x86_topology *topo; /* all vCPUs of the VM */
    const struct x86_cpuid *cpuid;
    const struct x86_lin_ops *lin; /* set by the engine; never NULL */
    void *lin_ctx;
    struct kick kick;
    struct timer lapic_timer;
    uint64_t lapic_armed_ns; /* what lapic_timer was last armed for */
    uint64_t unknown_msr_count;
    struct log_limit msr_log;
};

/* All vCPUs of a VM: who an interrupt message can reach. */
#define X86_CPUS_MAX 64
struct x86_topology {
    unsigned ncpus;
    struct x86_cpu *cpu[X86_CPUS_MAX];
    /* xAPIC logical ids as last written, for senders on other threads:
     * ldr in bits 31-24, dfr flat = bit 0, x2APIC mode = bit 1, software
     * enabled = bit 2 */
    _Atomic uint32_t logical[X86_CPUS_MAX];
    /* Held by a locked access that crosses pages (engine/interp). */
    _Atomic uint32_t split_lock;
    /* The 8259 pair's acknowledge cycle: gives the vector. */
    uint8_t (*intack)(void *ctx);
    /* A level-triggered vector was EOId: tells the I/O APIC. */
    void (*eoi)(void *ctx, uint8_t vector);
    void *ctx;
};

/** x86_cpu_init() - wiring and power-on reset of vCPU @index */
void x86_cpu_init(struct x86_cpu *cpu, unsigned index, struct vm *vm,
                  struct x86_topology *topo, const struct x86_cpuid *cpuid);
void x86_cpu_fini(struct x86_cpu *cpu);

/** x86_cpu_reset() - RESET, or INIT (@init: keeps x87/SSE state, MTRRs, TSC,
 * most MSRs). Source: SDM vol. 3A 9.1.1, table 9-1. Thread: vcpu. */
void x86_cpu_reset(struct x86_cpu *cpu, bool init);

/* The state descriptor of struct x86_cpu (version, typed fields). */
extern const struct state_desc x86_cpu_state;

/** x86_mode() - how instruction bytes read now */
static inline enum x86_mode x86_mode(const struct x86_cpu *cpu)
{
    if ((cpu->efer & X86_EFER_LMA) && (cpu->seg[X86_SEG_CS].attr & X86_SEG_L))
        return X86_MODE_64;
    if (!(cpu->cr0 & X86_CR0_PE) || (cpu->rflags & X86_FL_VM))
        return X86_MODE_16;
    return cpu->seg[X86_SEG_CS].attr & X86_SEG_DB ? X86_MODE_32 : X86_MODE_16;
}

#endif
