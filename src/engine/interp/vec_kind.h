// SPDX-License-Identifier: Apache-2.0
/*
 * How a vector form is run; shared with the generator vec_stub_gen.c.
 */
#ifndef DOPPEL_ENGINE_INTERP_VEC_KIND_H
#define DOPPEL_ENGINE_INTERP_VEC_KIND_H

enum vec_kind {
    VK_NONE, /* not a vector form */
    /* stubs; _MX: under the guest's MXCSR */
    VK_SSE,
    VK_SSE_MX,
    VK_AVX,
    VK_AVX_MX,
    VK_MMX,
    VK_X87,
    /* C */
    VK_EMMS,
    VK_FWAIT,
    VK_X87_ENV, /* FNSTENV FLDENV FNSAVE FRSTOR: a stub and a conversion */
    VK_LDMXCSR,
    VK_STMXCSR,
    VK_VZERO,
    VK_MASKMOVQ,
    VK_MASKMOVDQU,
    VK_VMASKMOV,
    VK_GATHER,
    VK_FXSAVE,
    VK_FXRSTOR,
    VK_XSAVE,
    VK_XRSTOR,
    VK_COUNT
};

/* struct vec_form.flags */
#define VF_IMM    0x001 /* the stub varies by imm8 */
#define VF_STI    0x002 /* ... by ModRM.rm's ST(i) */
#define VF_RX0    0x004 /* reads XMM0 unnamed */
#define VF_WX0    0x008 /* writes XMM0 unnamed */
#define VF_RAD    0x010 /* reads rAX and rDX unnamed */
#define VF_WC     0x020 /* writes rCX unnamed */
#define VF_FLIN   0x040 /* reads EFLAGS */
#define VF_FLOUT  0x080 /* writes EFLAGS */
#define VF_MEMREG 0x100 /* a memory operand goes through its register slot */
#define VF_L256   0x200 /* always 256 bits */
#define VF_KEEP                                                                \
    0x400 /* x87 control: FIP, FDP, FOP are operands, not results              \
           */
#define VF_NOWAIT 0x800  /* no check for pending x87 exceptions */
#define VF_ALIGN  0x1000 /* memory aligned to its size, else #GP(0) */
#define VF_MX     0x2000 /* MMX form that runs under the guest's MXCSR */

/* struct vec_form.slot: the register file, and in the low bits the index */
#define VS_VEC   0x00
#define VS_GPR   0x08
#define VS_MMX   0x10
#define VS_FILE  0x18
#define VS_INDEX 0x07

#endif
