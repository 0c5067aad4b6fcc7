// SPDX-License-Identifier: Apache-2.0
/*
 * Runs vector instructions: the gate, the dispatch by kind of form, and SSE
 * and AVX through stubs. Operands go from cpu->xsave into a frame, the stub
 * runs on it, results go back; only named operands move, so a legacy SSE form
 * keeps upper halves and a VEX form zeroes them.
 * Source: Intel SDM vol. 2 2.3-2.5, vol. 1 10-14.
 */
#include "engine/interp/vec.h"

#include "cpu/x86/exceptions.h"
#include "engine/interp/vec_int.h"

/* clang-format off */
const struct vec_form vec_forms[X86_FORM_COUNT] = {
#include "engine/interp/vec_forms.h" /* generated */
};

static vec_handler *const handlers[VK_COUNT] = {
    [VK_EMMS] = vec_emms,             [VK_FWAIT] = vec_fwait,
    [VK_X87_ENV] = vec_x87_env,       [VK_LDMXCSR] = vec_ldmxcsr,
    [VK_STMXCSR] = vec_stmxcsr,       [VK_VZERO] = vec_vzero,
    [VK_MASKMOVQ] = vec_maskmovq,     [VK_MASKMOVDQU] = vec_maskmovdqu,
    [VK_VMASKMOV] = vec_vmaskmov,     [VK_GATHER] = vec_gather,
    [VK_FXSAVE] = vec_fxsave,         [VK_FXRSTOR] = vec_fxrstor,
    [VK_XSAVE] = vec_xsave,           [VK_XRSTOR] = vec_xrstor,
};
/* clang-format on */

bool interp_vec_has(unsigned form)
{
    return form < X86_FORM_COUNT && vec_forms[form].kind != VK_NONE;
}

const void *vec_stub(const struct x86_insn *insn, const struct vec_form *vf)
{
    unsigned n = vf->base;

    if (insn->modrm < 0xc0)
        n += vf->s_mem;
    if (insn->vex_l)
        n += vf->s_l;
    if (insn->opsize == 8)
        n += vf->s_w;
    if (vf->flags & VF_IMM)
        n += (uint8_t)insn->imm;
    else if (vf->flags & VF_STI)
        n += insn->modrm & 7;
    return vec_stubs + n;
}

/* --- gate --- */

static int gate_sse(struct x86_cpu *cpu, bool osfxsr)
{
    if ((cpu->cr0 & X86_CR0_EM) || (osfxsr && !(cpu->cr4 & X86_CR4_OSFXSR)))
        return x86_raise(cpu, X86_VEC_UD);
    if (cpu->cr0 & X86_CR0_TS)
        return x86_raise(cpu, X86_VEC_NM);
    return 0;
}

static int gate_avx(struct x86_cpu *cpu)
{
    const uint64_t need = X86_XCR0_SSE | X86_XCR0_AVX;

    if (!(cpu->cr4 & X86_CR4_OSXSAVE) || (cpu->xcr0 & need) != need)
        return x86_raise(cpu, X86_VEC_UD);
    if (cpu->cr0 & X86_CR0_TS)
        return x86_raise(cpu, X86_VEC_NM);
    return 0;
}

static bool has_xmm_operand(const struct x86_insn *insn)
{
    for (unsigned k = 0; k < insn->nopnds; k++)
        if (insn->opnd[k].kind == X86_OPND_XMM)
            return true;
    return false;
}

int interp_vec_gate(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    const struct x86_form_info *fi = x86_form_info(insn->form);
    const struct vec_form *vf = &vec_forms[insn->form];

    switch (vf->kind) {
    case VK_NONE:
        return 0;
    case VK_SSE:
    case VK_SSE_MX:
        return gate_sse(cpu, true);
    case VK_MMX:
    case VK_EMMS:
    case VK_MASKMOVQ:
        return gate_sse(cpu, has_xmm_operand(insn));
    case VK_LDMXCSR:
    case VK_STMXCSR:
    case VK_MASKMOVDQU:
        return insn->enc == X86_ENC_VEX ? gate_avx(cpu) : gate_sse(cpu, true);
    case VK_FWAIT:
        if ((cpu->cr0 & X86_CR0_MP) && (cpu->cr0 & X86_CR0_TS))
            return x86_raise(cpu, X86_VEC_NM);
        return 0;
    case VK_XSAVE:
    case VK_XRSTOR:
        if (!(cpu->cr4 & X86_CR4_OSXSAVE))
            return x86_raise(cpu, X86_VEC_UD);
        return cpu->cr0 & X86_CR0_TS ? x86_raise(cpu, X86_VEC_NM) : 0;
    case VK_X87:
    case VK_X87_ENV:
    case VK_FXSAVE:
    case VK_FXRSTOR:
        return cpu->cr0 & (X86_CR0_EM | X86_CR0_TS) ? x86_raise(cpu, X86_VEC_NM)
                                                    : 0;
    default:
        return fi->spec & XS_VEX ? gate_avx(cpu) : gate_sse(cpu, true);
    }
}

/* --- operands --- */

/* Where a memory operand's bytes lie: the frame's bounce buffer, or the
 * register that stands for it. */
static void *mem_place(struct vec_frame *f, const struct vec_form *vf,
                       unsigned slot)
{
    if (!(vf->flags & VF_MEMREG))
        return f->mem;
    if ((slot & VS_FILE) == VS_GPR)
        return &f->gpr[slot & VS_INDEX];
    return (slot & VS_FILE) == VS_MMX ? (void *)&f->mm[slot & VS_INDEX]
                                      : (void *)&f->lo[slot & VS_INDEX];
}

int vec_mem_in(struct x86_cpu *cpu, const struct x86_insn *insn,
               const struct vec_form *vf, unsigned k, struct vec_frame *f,
               struct vec_mem *m)
{
    const struct x86_opnd *o = &insn->opnd[k];
    bool write = o->access & X86_ACC_W;

    m->ea = vec_ea(cpu, insn);
    m->len = o->size;
    m->place = mem_place(f, vf, vf->slot[k]);
    m->write = write;
    if (vec_lin(cpu, insn, m->ea, m->len, write, &m->lin))
        return X86_FAULT;
    if ((vf->flags & VF_ALIGN) && (m->lin.v & (m->len - 1)))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    if (write) /* all or nothing, when the stub has run */
        return 0;
    if (m->place == &f->gpr[vf->slot[k] & VS_INDEX])
        *(uint64_t *)m->place = 0;
    if (m->len == 32 && m->place != f->mem) {
        /* a register's halves are apart */
        uint8_t both[32];
        if (vec_read(cpu, insn, m->lin, both, 32))
            return X86_FAULT;
        memcpy(&f->lo[vf->slot[k] & VS_INDEX], both, 16);
        memcpy(&f->hi[vf->slot[k] & VS_INDEX], both + 16, 16);
        return 0;
    }
    if (m->len == 10)
        return vec_read10(cpu, insn, m->lin, m->place);
    return vec_read(cpu, insn, m->lin, m->place, m->len);
}

/* Loads register operands; memory too, which may fault. */
static inline int opnds_in(struct x86_cpu *cpu, const struct x86_insn *insn,
                           const struct vec_form *vf, struct vec_frame *f,
                           struct vec_mem *m)
{
    for (unsigned k = 0; k < insn->nopnds; k++) {
        const struct x86_opnd *o = &insn->opnd[k];
        unsigned at = vf->slot[k] & VS_INDEX;
        switch (o->kind) {
        case X86_OPND_YMM:
            memcpy(&f->hi[at], vec_ymmh(cpu, o->reg), 16);
            memcpy(&f->lo[at], vec_xmm(cpu, o->reg), 16);
            break;
        case X86_OPND_XMM:
            memcpy(&f->lo[at], vec_xmm(cpu, o->reg), 16);
            break;
        case X86_OPND_GPR:
            f->gpr[at] = cpu->gpr[o->reg];
            break;
        case X86_OPND_MEM:
            if (vec_mem_in(cpu, insn, vf, k, f, m))
                return X86_FAULT;
            break;
        default:
            break;
        }
    }
    if (vf->flags & VF_RX0)
        memcpy(&f->lo[0], vec_xmm(cpu, 0), 16);
    if (vf->flags & VF_RAD) {
        f->gpr[VEC_GPR_RAX] = cpu->gpr[X86_RAX];
        f->gpr[VEC_GPR_RDX] = cpu->gpr[X86_RDX];
    }
    return 0;
}

static inline void xmm_out(struct x86_cpu *cpu, bool vex, unsigned reg,
                           const struct vec128 *lo)
{
    memcpy(vec_xmm(cpu, reg), lo, 16);
    if (vex)
        memset(vec_ymmh(cpu, reg), 0, 16);
}

static inline void opnds_out(struct x86_cpu *cpu, const struct x86_insn *insn,
                             const struct vec_form *vf,
                             const struct vec_frame *f)
{
    bool vex = insn->enc == X86_ENC_VEX;

    for (unsigned k = 0; k < insn->nopnds; k++) {
        const struct x86_opnd *o = &insn->opnd[k];
        unsigned at = vf->slot[k] & VS_INDEX;
        if (!(o->access & X86_ACC_W))
            continue;
        if (o->kind == X86_OPND_YMM) {
            memcpy(vec_xmm(cpu, o->reg), &f->lo[at], 16);
            memcpy(vec_ymmh(cpu, o->reg), &f->hi[at], 16);
            vec_avx_used(cpu);
        } else if (o->kind == X86_OPND_XMM) {
            xmm_out(cpu, vex, o->reg, &f->lo[at]);
        } else if (o->kind == X86_OPND_GPR) {
            cpu->gpr[o->reg] = f->gpr[at];
        }
    }
    if (vf->flags & VF_WX0)
        xmm_out(cpu, vex, 0, &f->lo[0]);
    if (vf->flags & VF_WC)
        cpu->gpr[X86_RCX] = f->gpr[VEC_GPR_RCX];
    if (vf->flags & VF_FLOUT)
        cpu->rflags =
            (cpu->rflags & ~X86_FL_ARITH) | (f->rflags & X86_FL_ARITH);
}

int vec_stub_fault(struct x86_cpu *cpu, int signo)
{
    if (signo != SIGFPE || !(cpu->cr4 & X86_CR4_OSXMMEXCPT))
        return x86_raise(cpu, X86_VEC_UD);
    return x86_raise(cpu, X86_VEC_XM);
}

/* --- SSE and AVX --- */

typedef int vec_call(struct vec_frame *f, const void *stub);

static int vec_xmm_exec(struct x86_cpu *cpu, const struct x86_insn *insn,
                        const struct vec_form *vf, vec_call *call)
{
    struct vec_frame f UNINIT;
    struct vec_mem m = {.write = false};
    bool mx = vf->kind == VK_SSE_MX || vf->kind == VK_AVX_MX;

    if (opnds_in(cpu, insn, vf, &f, &m))
        return X86_FAULT;
    if (mx)
        f.mxcsr = fx_get32(cpu->xsave.b + FX_MXCSR);
    int signo = call(&f, vec_stub(insn, vf));
    if (UNLIKELY(signo)) {
        if (mx)
            fx_put32(cpu->xsave.b + FX_MXCSR, f.mxcsr);
        return vec_stub_fault(cpu, signo);
    }
    if (mx) /* even if VCVTPS2PH's store faults (observed on Intel) */
        fx_put32(cpu->xsave.b + FX_MXCSR, f.mxcsr);
    if (m.write && vec_write(cpu, insn, m.lin, m.place, m.len))
        return X86_FAULT;
    opnds_out(cpu, insn, vf, &f);
    return 0;
}

int interp_vec_exec(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    const struct vec_form *vf = &vec_forms[insn->form];
    bool l256 = (vf->flags & VF_L256) || (vf->s_l && insn->vex_l);

    switch (vf->kind) {
    case VK_SSE:
        return vec_xmm_exec(cpu, insn, vf, vec_call_sse);
    case VK_SSE_MX:
        return vec_xmm_exec(cpu, insn, vf, vec_call_sse_mx);
    case VK_AVX:
        return vec_xmm_exec(cpu, insn, vf,
                            l256 ? vec_call_avx256 : vec_call_avx128);
    case VK_AVX_MX:
        return vec_xmm_exec(cpu, insn, vf,
                            l256 ? vec_call_avx256_mx : vec_call_avx128_mx);
    case VK_MMX:
        return vec_mmx_exec(cpu, insn, vf);
    case VK_X87:
        return vec_x87_exec(cpu, insn, vf);
    case VK_NONE:
        return x86_raise(cpu, X86_VEC_UD);
    default:
        return handlers[vf->kind](cpu, insn);
    }
}
