// SPDX-License-Identifier: Apache-2.0
/*
 * For the tests of the vector part: a vCPU with two pages of linear memory at
 * PAGE, of which the second may be missing, and instructions given in hex.
 */
#ifndef DOPPEL_ENGINE_INTERP_VEC_GUEST_H
#define DOPPEL_ENGINE_INTERP_VEC_GUEST_H

#include "engine/interp/vec.h"

#include "base/test.h"
#include "cpu/x86/exceptions.h"
#include "engine/interp/vec_int.h"

#include <stdlib.h>

#define PAGE  0x10000u
#define PAGE2 0x11000u

struct guest {
    struct x86_cpu cpu;
    uint8_t mem[0x2000];
    bool second;   /* the second page is present */
    bool readonly; /* writes fault */
    enum x86_mode mode;
};

static inline int g_check(struct guest *g, gva_t va, size_t len, unsigned flags)
{
    uint64_t end = g->second ? PAGE + sizeof(g->mem) : PAGE2;
    bool write = flags & X86_LIN_WRITE;

    if (va.v < PAGE || va.v + len > end || (write && g->readonly))
        return x86_raise_pf(
            &g->cpu,
            va.v < PAGE2 && va.v >= PAGE && !g->readonly ? gva(PAGE2) : va,
            write ? 6 : 4);
    return 0;
}

static inline int g_read(void *ctx, gva_t va, void *buf, size_t len,
                         unsigned flags)
{
    struct guest *g = ctx;

    if (g_check(g, va, len, flags))
        return X86_FAULT;
    memcpy(buf, g->mem + (va.v - PAGE), len);
    return 0;
}

static inline int g_write(void *ctx, gva_t va, const void *buf, size_t len,
                          unsigned flags)
{
    struct guest *g = ctx;

    if (g_check(g, va, len, flags))
        return X86_FAULT;
    memcpy(g->mem + (va.v - PAGE), buf, len);
    return 0;
}

static inline int g_probe(void *ctx, gva_t va, size_t len, unsigned flags)
{
    return g_check(ctx, va, len, flags);
}

static const struct x86_lin_ops g_ops = {
    .read = g_read, .write = g_write, .probe = g_probe};

#define RIP 0x400123u

/* rbx = PAGE; user mode, everything enabled, registers as after FNINIT. */
static inline void g_init(struct guest *g, enum x86_mode mode)
{
    struct x86_cpu *cpu = &g->cpu;

    memset(g, 0, sizeof(*g));
    g->mode = mode;
    g->second = true;
    cpu->lin = &g_ops;
    cpu->lin_ctx = g;
    cpu->cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_MP;
    cpu->cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
    cpu->xcr0 = 7;
    cpu->rflags = X86_FL_ONE;
    cpu->rip = RIP;
    cpu->cpl = 3;
    for (unsigned i = 0; i < 6; i++) {
        cpu->seg[i].limit = 0xffffffff;
        cpu->seg[i].attr = 0xc0f3;
    }
    cpu->seg[X86_SEG_CS].attr = mode == X86_MODE_64 ? 0xa0fb : 0xc0fb;
    cpu->efer = mode == X86_MODE_64 ? X86_EFER_LMA | X86_EFER_LME : 0;
    if (mode == X86_MODE_16) {
        cpu->cr0 &= ~X86_CR0_PE;
        cpu->cpl = 0;
    }
    cpu->gpr[X86_RBX] = PAGE;
    fx_put16(cpu->xsave.b + FX_FCW, 0x37f);
    fx_put32(cpu->xsave.b + FX_MXCSR, MXCSR_INIT);
    cpu->xsave.b[XS_HDR] = 3;
    CHECK_EQ(interp_vec_init(), 0);
}

static inline int run(struct guest *g, const char *hex)
{
    struct x86_insn insn;
    uint8_t b[16];
    size_t n = strlen(hex) / 2;

    for (size_t i = 0; i < n; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        b[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    memset(&insn, 0, sizeof(insn));
    if (x86_decode(b, n, g->mode, &insn) != X86_DEC_OK || insn.len != n) {
        printf("%s does not decode\n", hex);
        test_failures++;
        return 0;
    }
    int r = interp_vec_gate(&g->cpu, &insn);
    return r ? r : interp_vec_exec(&g->cpu, &insn);
}

/* The vector raised, or 255. */
static inline unsigned vec_of(struct guest *g, const char *hex)
{
    return run(g, hex) ? g->cpu.exc.vector : 255;
}

#define NONE 255

static inline void set_sd(struct guest *g, unsigned r, double v)
{
    memcpy(vec_xmm(&g->cpu, r), &v, 8);
}

static inline double get_sd(struct guest *g, unsigned r)
{
    double v;
    memcpy(&v, vec_xmm(&g->cpu, r), 8);
    return v;
}

static inline uint32_t mxcsr(struct guest *g)
{
    return fx_get32(g->cpu.xsave.b + FX_MXCSR);
}

static inline void set_mxcsr(struct guest *g, uint32_t v)
{
    fx_put32(g->cpu.xsave.b + FX_MXCSR, v);
}

static inline unsigned fsw(struct guest *g)
{
    return fx_get16(g->cpu.xsave.b + FX_FSW);
}

static inline unsigned fsw_top(struct guest *g)
{
    return fsw(g) >> 11 & 7;
}

/* Instructions without a memory operand, or on [rbx]. */
#define SSE_OP    "0f58ca"   /* addps xmm1, xmm2 */
#define AVX_OP    "c5e858ca" /* vaddps xmm1, xmm2, xmm2 */
#define MMX_OP    "0ffdca"   /* paddw mm1, mm2 */
#define MMX_XMM   "0f2aca"   /* cvtpi2ps xmm1, mm2 */
#define X87_OP    "d9e8"     /* fld1 */
#define FWAIT_OP  "9b"
#define FXSAVE_OP "0fae03"
#define XSAVE_OP  "0fae23"

#endif
