// SPDX-License-Identifier: Apache-2.0
/*
 * What the instruction table knows of a form beyond its decoding: class,
 * CPUID feature, privilege, EFLAGS and implicit registers. The interpreter
 * and the translator ask here; tests enumerate every form. Pure; thread: any.
 */
#ifndef DOPPEL_CPU_X86_INSN_H
#define DOPPEL_CPU_X86_INSN_H

#include "cpu/x86/decode.h"

/* Encoding constraints (x86_form_info.spec). Bits: 0-1 map, 2 VEX, 3-5
 * mandatory prefix, 6-9 ModRM.reg, 10-13 ModRM.rm, then single bits. */
enum x86_spec {
    XS_1B = X86_MAP_1B,
    XS_0F = X86_MAP_0F,
    XS_0F38 = X86_MAP_0F38,
    XS_0F3A = X86_MAP_0F3A,
    XS_MAP_MASK = 3,
    XS_VEX = 1 << 2,
    XS_NP = 1 << 3, /* none of 66 F2 F3 may stand before it */
    XS_66 = 2 << 3, /* mandatory 66 */
    XS_F3 = 3 << 3, /* mandatory F3 (66 only sizes operands) */
    XS_F2 = 4 << 3,
    XS_NP66 = 5 << 3,     /* 66 sizes operands, F2 F3 not allowed */
    XS_PFX_MASK = 7 << 3, /* 0: prefixes only have their usual meaning */
    XS_R_GIVEN = 1 << 6,
    XS_RM_GIVEN = 1 << 10,
    XS_MEM = 1 << 14,    /* mod != 3 */
    XS_REG = 1 << 15,    /* mod == 3 */
    XS_MODREG = 1 << 16, /* mod is ignored, rm is a register */
    XS_W0 = 1 << 17,     /* outside 64-bit mode W reads as 0 */
    XS_W1 = 1 << 18,
    XS_L0 = 1 << 19,
    XS_L1 = 1 << 20,
    XS_PLUS = 1 << 21, /* the opcode's low three bits are a register */
    XS_B0 = 1 << 22,   /* REX.B must be 0 */
    XS_WX = 1 << 23    /* W must be 0, 32-bit modes too (no WIG there) */
};
#define XS_R(r)       (XS_R_GIVEN | (r) << 7)
#define XS_RM(r, rm)  (XS_R(r) | XS_RM_GIVEN | (rm) << 11 | XS_REG)
#define XS_GET_PFX(s) (((s)&XS_PFX_MASK) >> 3)
#define XS_GET_REG(s) ((s) >> 7 & 7)
#define XS_GET_RM(s)  ((s) >> 11 & 7)

/* Attributes (x86_form_info.attr). */
#define XA_LOCK   (1ull << 0)  /* LOCK allowed with a memory destination */
#define XA_NO64   (1ull << 1)  /* #UD in 64-bit mode */
#define XA_ONLY64 (1ull << 2)  /* #UD outside 64-bit mode */
#define XA_D64    (1ull << 3)  /* 64-bit mode: operand size 8, or 2 with 66 */
#define XA_F64    (1ull << 4)  /* 64-bit mode: operand size 8 always */
#define XA_PRIV   (1ull << 5)  /* CPL 0 only, else #GP(0) */
#define XA_PRIVUD (1ull << 6)  /* with PRIV: #UD instead of #GP */
#define XA_PROT   (1ull << 7)  /* #UD in real and v8086 mode */
#define XA_UMIP   (1ull << 8)  /* #GP(0) at CPL > 0 when CR4.UMIP */
#define XA_IOPL   (1ull << 9)  /* subject to IOPL / the I/O bitmap */
#define XA_IOPL86 (1ull << 10) /* subject to IOPL in v8086 mode */
#define XA_TSD    (1ull << 11) /* #GP(0) at CPL > 0 when CR4.TSD */
#define XA_PCE    (1ull << 12) /* #GP(0) at CPL > 0 unless CR4.PCE */
#define XA_PUSH   (1ull << 13) /* writes the stack below rSP, moves rSP */
#define XA_POP    (1ull << 14) /* reads the stack at rSP, moves rSP */
#define XA_SHADOW (1ull << 15) /* may hold interrupts back for one insn */
#define XA_CTRL   (1ull << 16) /* may change rIP */
#define XA_COND   (1ull << 17) /* conditional: may fall through */
#define XA_REP    (1ull << 18) /* F2 or F3 repeats it */
#define XA_REPZ   (1ull << 19) /* F2/F3 repeat it and look at ZF */
#define XA_ENDTB  (1ull << 20) /* changes the mode or waits: end a block */
#define XA_FCOND  (1ull << 21) /* count 0 leaves EFLAGS unchanged */
#define XA_NOPIF  (1ull << 22) /* a NOP where the feature is missing */
#define XA_ALTIF                                                               \
    (1ull << 23)              /* where the feature is missing the F3 is        \
                                 ignored: TZCNT LZCNT WBNOINVD */
#define XA_NOMEM (1ull << 24) /* the memory operand is not accessed */
#define XA_UD    (1ull << 25) /* raises #UD when executed: UD0 UD1 UD2 RSM */
#define XA_ATOMIC                                                              \
    (1ull << 26) /* locked even without LOCK: XCHG with memory                 \
                  */
#define XA_BITMEM                                                              \
    (1ull << 27)                /* register bit index reaches past the operand \
                                 */
#define XA_NT      (1ull << 28) /* non-temporal */
#define XA_ALIGN   (1ull << 29) /* memory aligned to its size, else #GP(0) */
#define XA_ALIGN16 (1ull << 30)
#define XA_ALIGN64 (1ull << 31)
#define XA_NM      (1ull << 32) /* #NM when CR0.TS, though not class x87-avx */
#define XA_MXR     (1ull << 33) /* reads MXCSR */
#define XA_MXW     (1ull << 34) /* writes MXCSR (status flags too) */
#define XA_NOWAIT  (1ull << 35) /* x87 without pending-exception check: FN* */
/* implicit registers, not in the operand list: read, written */
#define XA_RA   (1ull << 36) /* rAX, by operand size; AL for byte forms */
#define XA_RC   (1ull << 37)
#define XA_RD   (1ull << 38)
#define XA_RB   (1ull << 39)
#define XA_RBP  (1ull << 40)
#define XA_RDI  (1ull << 41)
#define XA_RR11 (1ull << 42)
#define XA_RX0  (1ull << 43) /* XMM0 */
#define XA_RALL (1ull << 44) /* all eight: PUSHA */
#define XA_WA   (1ull << 45)
#define XA_WC   (1ull << 46)
#define XA_WD   (1ull << 47)
#define XA_WB   (1ull << 48)
#define XA_WBP  (1ull << 49)
#define XA_WR11 (1ull << 50)
#define XA_WX0  (1ull << 51)
#define XA_WALL (1ull << 52) /* all but rSP: POPA */
/* SSE/AVX exception class of SDM vol. 2 2.4 (1-8, 11, 12, 13), 4 bits */
#define XA_X(n)     ((unsigned long long)(n) << 56)
#define XA_GET_X(a) ((unsigned)((a) >> 56) & 15)

enum x86_cls {
    X86_CLS_NONE,
    X86_CLS_INT,
    X86_CLS_BRANCH,
    X86_CLS_STRING,
    X86_CLS_SYSTEM,
    X86_CLS_X87,
    X86_CLS_MMX, /* MMX registers are touched (SSE's MMX forms too) */
    X86_CLS_SSE,
    X86_CLS_AVX,
    X86_CLS_GATHER
};

/* clang-format off */
#define X86_FEAT_LIST(F)                                                       \
    F(BASE) F(X87) F(TSC) F(MSR) F(CX8) F(SEP) F(CMOV) F(CLFSH) F(MMX)         \
    F(FXSR) F(SSE) F(SSE2) F(SSE3) F(SSSE3) F(SSE41) F(SSE42) F(POPCNT)        \
    F(CX16) F(MOVBE) F(AES) F(PCLMUL) F(XSAVE) F(AVX) F(F16C) F(RDRAND)        \
    F(FMA) F(MONITOR) F(VMX) F(SMX) F(LM) F(SYSCALL) F(LAHF64) F(LZCNT)        \
    F(PREFETCHW) F(RDTSCP) F(SVM) F(MONITORX) F(CLZERO) F(RDPRU) F(WBNOINVD)   \
    F(FSGSBASE) F(SGX) F(BMI1) F(AVX2) F(BMI2) F(INVPCID) F(RTM) F(RDSEED)     \
    F(ADX) F(SMAP) F(CLFLUSHOPT) F(CLWB) F(SHA) F(PREFETCHWT1) F(PKU)          \
    F(WAITPKG) F(CET_SS) F(CET_IBT) F(GFNI) F(VAES) F(VPCLMUL) F(RDPID)        \
    F(CLDEMOTE) F(MOVDIRI) F(MOVDIR64B) F(ENQCMD) F(SERIALIZE) F(TSXLDTRK)     \
    F(PCONFIG) F(UINTR) F(PTWRITE) F(HRESET) F(XSAVEOPT) F(XSAVEC) F(XSAVES)
/* clang-format on */

enum x86_feat {
#define F(x) X86_FEAT_##x,
    X86_FEAT_LIST(F)
#undef F
    X86_FEAT_COUNT
};

/* Operand codes of insn_opnd.def: X86_OT_Eb, ... */
enum x86_ot {
    X86_OT_NONE,
#define OT(code, slot, size) X86_OT_##code,
#include "cpu/x86/insn_opnd.def"
#undef OT
    X86_OT_COUNT
};

struct x86_form_opnd {
    uint8_t type;   /* enum x86_ot */
    uint8_t access; /* X86_ACC_* */
};

struct x86_form_info {
    const char *name; /* "ADD_Eb_Gb" */
    uint16_t op;      /* enum x86_op */
    uint8_t opcode;   /* the first of eight with XS_PLUS */
    uint8_t cls;      /* enum x86_cls */
    uint8_t feat;     /* enum x86_feat */
    uint8_t nopnds;
    uint32_t spec; /* XS_* */
    uint64_t attr; /* XA_* */
    uint32_t fl_read;
    uint32_t fl_written;
    uint32_t fl_undef;
    struct x86_form_opnd opnd[X86_OPNDS];
};

extern const struct x86_form_info x86_forms[X86_FORM_COUNT];

/** x86_form_info() - facts of one form; @form < X86_FORM_COUNT
 * Return: static data, never NULL. Thread: any. */
static inline const struct x86_form_info *x86_form_info(enum x86_form form)
{
    return &x86_forms[form < X86_FORM_COUNT ? form : X86_FORM_INVALID];
}

/** x86_op_name() - the mnemonic in upper case, "ADD". Thread: any. */
const char *x86_op_name(enum x86_op op);

/** x86_feat_name() - "SSE2". Thread: any. */
const char *x86_feat_name(enum x86_feat feat);

/** x86_ot_name() - an operand code's name, "Eb". Thread: any. */
const char *x86_ot_name(enum x86_ot ot);

#endif
