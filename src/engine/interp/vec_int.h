// SPDX-License-Identifier: Apache-2.0
/*
 * Inside the vector part of the interpreter: the stubs' calling convention,
 * the form table that vec_stub_gen.c makes, memory operands, handlers.
 *
 * A stub is one instruction and RET in eight bytes. ModRM.reg is xmm1, mm1 or
 * rax; VEX.vvvv xmm2; ModRM.rm xmm3, mm3, rcx or [rdi]; imm8[7:4] xmm4; what
 * is implicit (xmm0, rax, rcx, rdx) is itself. Stubs never touch r8, r9, rsp.
 */
#ifndef DOPPEL_ENGINE_INTERP_VEC_INT_H
#define DOPPEL_ENGINE_INTERP_VEC_INT_H

#include "cpu/x86/insn.h"
#include "cpu/x86/state.h"
#include "engine/interp/vec_kind.h"

/* Places of the legacy region (SDM vol. 1 table 10-2). */
#define FX_FCW        0
#define FX_FSW        2
#define FX_FTW        4
#define FX_FOP        6
#define FX_FIP        8
#define FX_FDP        16
#define FX_MXCSR      24
#define FX_MXCSR_MASK 28
#define FX_ST         32
#define FX_XMM        160
#define FX_BYTES      512
#define FX_X87_BYTES  160 /* with MXCSR among them */

#define XS_HDR        512 /* XSTATE_BV */

#define MXCSR_VALID   0xffffU
#define MXCSR_INIT    0x1f80U
#define MXCSR_FLAGS   0x3fU

#define FSW_FLAGS     0x3fU
#define FSW_SF        0x40U
#define FSW_ES        0x80U
#define FSW_TOP       0x3800U
#define FSW_B         0x8000U

struct vec128 {
    uint8_t b[16];
} ALIGNED(16);

#define VEC_SLOTS    5
#define VEC_MEM_ROOM 128

/* What goes into and comes out of a stub; vec_call.S knows the offsets. */
struct vec_frame {
    struct vec128 lo[VEC_SLOTS];
    struct vec128 hi[VEC_SLOTS];
    uint64_t gpr[3]; /* rax rcx rdx */
    uint64_t rflags; /* in: x87 only, CF PF ZF */
    uint64_t mm[2];  /* mm1 mm3 */
    uint32_t mxcsr;
    uint32_t host_mxcsr;
    uint8_t mem[VEC_MEM_ROOM] ALIGNED(64);
};

struct vec_x87_frame {
    struct vec_frame f;
    uint8_t fx[FX_BYTES] ALIGNED(64);
};

_Static_assert(offsetof(struct vec_frame, hi) == 80, "vec_call.S");
_Static_assert(offsetof(struct vec_frame, gpr) == 160, "vec_call.S");
_Static_assert(offsetof(struct vec_frame, rflags) == 184, "vec_call.S");
_Static_assert(offsetof(struct vec_frame, mm) == 192, "vec_call.S");
_Static_assert(offsetof(struct vec_frame, mxcsr) == 208, "vec_call.S");
_Static_assert(offsetof(struct vec_frame, mem) == 256, "vec_call.S");
_Static_assert(offsetof(struct vec_x87_frame, fx) == 384, "vec_call.S");

#define VEC_GPR_RAX 0
#define VEC_GPR_RCX 1
#define VEC_GPR_RDX 2

/* One form. The stub's number is base plus, for each of the four that the form
 * varies by, value * stride. */
struct vec_form {
    uint32_t base;
    uint16_t s_mem, s_l, s_w, s_imm; /* 0: doesn't vary by it */
    uint8_t kind;                    /* enum vec_kind */
    uint16_t flags;                  /* VF_* */
    uint8_t slot[X86_OPNDS]; /* of the operand: VS_* and the index there */
};

extern const struct vec_form vec_forms[X86_FORM_COUNT];
extern const uint64_t vec_stubs[];
extern const uint64_t vec_stubs_end[];

/* vec_call.S: run @stub on *@f. Return: 0, or the signal that it raised. */
int vec_call_sse(struct vec_frame *f, const void *stub);
int vec_call_sse_mx(struct vec_frame *f, const void *stub);
int vec_call_avx128(struct vec_frame *f, const void *stub);
int vec_call_avx128_mx(struct vec_frame *f, const void *stub);
int vec_call_avx256(struct vec_frame *f, const void *stub);
int vec_call_avx256_mx(struct vec_frame *f, const void *stub);
int vec_call_mmx(struct vec_frame *f, const void *stub);
int vec_call_mmx_mx(struct vec_frame *f, const void *stub);
int vec_call_x87(struct vec_x87_frame *f, const void *stub);

/* Guest registers in cpu->xsave. */
static inline uint8_t *vec_xmm(struct x86_cpu *cpu, unsigned r)
{
    return cpu->xsave.b + FX_XMM + 16 * (size_t)r;
}

static inline uint8_t *vec_ymmh(struct x86_cpu *cpu, unsigned r)
{
    return cpu->xsave.b + X86_XSAVE_AVX_OFFSET + 16 * (size_t)r;
}

/* To be called when an upper half is written. */
static inline void vec_avx_used(struct x86_cpu *cpu)
{
    cpu->xsave.b[XS_HDR] |= X86_XCR0_AVX;
}

static inline uint16_t fx_get16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint32_t fx_get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint64_t fx_get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline void fx_put16(uint8_t *p, unsigned v)
{
    uint16_t x = (uint16_t)v;
    memcpy(p, &x, sizeof(x));
}

static inline void fx_put32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof(v));
}

static inline void fx_put64(uint8_t *p, uint64_t v)
{
    memcpy(p, &v, sizeof(v));
}

/* --- vec.c --- */

/** vec_stub() - the form's stub for this instruction */
const void *vec_stub(const struct x86_insn *insn, const struct vec_form *vf);

/* A stub's memory operand under way. */
struct vec_mem {
    gva_t lin;
    uint64_t ea;
    void *place; /* in the frame */
    uint16_t len;
    bool write; /* to be written from place when the stub has run */
};

/** vec_mem_in() - check operand @k in memory and read it, if it is a source
 * @f: filled. Return: 0 or X86_FAULT. */
int vec_mem_in(struct x86_cpu *cpu, const struct x86_insn *insn,
               const struct vec_form *vf, unsigned k, struct vec_frame *f,
               struct vec_mem *m);

/** vec_stub_fault() - raise what a stub's signal stands for: #XM or #UD */
int vec_stub_fault(struct x86_cpu *cpu, int signo);

/* --- vec_mem.c --- */

/** vec_ea() - the memory operand's effective address (VSIB: without index) */
uint64_t vec_ea(const struct x86_cpu *cpu, const struct x86_insn *insn);

/** vec_lin() - the linear address of @len bytes at @ea, cut to the address
 * size, in the operand's segment. Return: 0 or X86_FAULT. */
int vec_lin(struct x86_cpu *cpu, const struct x86_insn *insn, uint64_t ea,
            size_t len, bool write, gva_t *lin);

/** vec_align_check() - #AC where the access layer can't know of it: operands of
 * more than eight bytes that are checked all the same; before it, #GP or #SS
 * when @lin isn't canonical. Return: 0 or X86_FAULT. */
int vec_align_check(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
                    unsigned align);

/** vec_range_check() - whether all of [lin, lin + len) is canonical */
int vec_range_check(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
                    size_t len);

/** vec_read10(), vec_write10() - an 80-bit number, as the CPU does in two
 * accesses (observed on Intel). Return: 0 or X86_FAULT. */
int vec_read10(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
               void *buf);
int vec_write10(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
                const void *buf);

/** vec_read(), vec_write(), vec_probe_*() - linear memory, with breakpoints
 * noted. @insn: for the stack segment's sake. Return: 0 or X86_FAULT. */
int vec_read(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
             void *buf, size_t len);
int vec_write(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
              const void *buf, size_t len);
int vec_probe_w(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
                size_t len);
int vec_probe_r(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
                size_t len);

static inline int vec_probe(struct x86_cpu *cpu, const struct x86_insn *insn,
                            gva_t lin, size_t len, bool write)
{
    return write ? vec_probe_w(cpu, insn, lin, len)
                 : vec_probe_r(cpu, insn, lin, len);
}

/* --- vec_x87.c --- */

/** vec_x87_pending() - raise #MF if an unmasked exception stands (CR0.NE) */
int vec_x87_pending(struct x86_cpu *cpu);

/** vec_x87_canon() - pass FCW, FSW, tags through the host's FXRSTOR, which
 * forces reserved bits and the summary bit */
void vec_x87_canon(struct x86_cpu *cpu);

/** vec_mmx_enter() - as an MMX instruction does: registers at their MMX
 * places, TOP 0, all tags valid */
void vec_mmx_enter(struct x86_cpu *cpu);

/** vec_mmx_set() - write MMX register @r; vec_mmx_enter() came before */
void vec_mmx_set(struct x86_cpu *cpu, unsigned r, uint64_t v);

/* MMX register @r as it is now, whatever TOP says. */
uint64_t vec_mmx_get(const struct x86_cpu *cpu, unsigned r);

int vec_x87_exec(struct x86_cpu *cpu, const struct x86_insn *insn,
                 const struct vec_form *vf);
int vec_mmx_exec(struct x86_cpu *cpu, const struct x86_insn *insn,
                 const struct vec_form *vf);

/* --- handlers in C, by enum vec_kind; see vec_kind.h --- */
typedef int vec_handler(struct x86_cpu *cpu, const struct x86_insn *insn);
vec_handler vec_emms, vec_fwait, vec_ldmxcsr, vec_stmxcsr, vec_vzero,
    vec_maskmovq, vec_maskmovdqu, vec_vmaskmov, vec_gather, vec_fxsave,
    vec_fxrstor, vec_xsave, vec_xrstor, vec_x87_env;

#endif
