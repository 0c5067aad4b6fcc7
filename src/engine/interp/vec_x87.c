// SPDX-License-Identifier: Apache-2.0
/*
 * x87 and MMX through stubs. The guest's x87 state is loaded whole (FXRSTOR),
 * one instruction runs, the state is taken back (FXSAVE).
 *
 * The host would note its own addresses: FIP is the stub's, FDP the bounce
 * buffer's. So an instruction runs with marks in FIP, FDP and FOP; what has
 * changed after it becomes the guest's rip, effective address and opcode. This
 * follows the host in when it updates them (FDP and FOP on recent Intel only
 * with an unmasked exception), and nothing of the host is ever seen. Control
 * instructions take the pointers as operands and run with the real ones.
 * Source: Intel SDM vol. 1 chapter 8, vol. 3A 12.2 (MMX and x87).
 */
#include "engine/interp/vec_int.h"

#include "cpu/x86/exceptions.h"

#include <signal.h>

#define MARK   1 /* no stub, no bounce buffer is at this address */

#define FSW_PE 0x20U

static unsigned x87_top(const struct x86_cpu *cpu)
{
    return fx_get16(cpu->xsave.b + FX_FSW) >> 11 & 7;
}

static bool x87_unmasked(const uint8_t *fx)
{
    return fx_get16(fx + FX_FSW) & ~fx_get16(fx + FX_FCW) & FSW_FLAGS;
}

int vec_x87_pending(struct x86_cpu *cpu)
{
    if (LIKELY(!x87_unmasked(cpu->xsave.b)))
        return 0;
    /* NE clear: FERR# goes out and, nobody listening, IGNNE# is taken as on */
    return cpu->cr0 & X86_CR0_NE ? x86_raise(cpu, X86_VEC_MF) : 0;
}

/* Copies all but MXCSR. */
static void x87_copy(uint8_t *to, const uint8_t *from)
{
    memcpy(to, from, FX_MXCSR);
    memcpy(to + FX_ST, from + FX_ST, FX_X87_BYTES - FX_ST);
}

static uint64_t mode_cut(const struct x86_cpu *cpu, uint64_t v)
{
    return x86_mode(cpu) == X86_MODE_64 ? v : (uint32_t)v;
}

/* Turns marks and host addresses into what the guest may see. */
static void x87_pointers(const struct x86_cpu *cpu, const struct x86_insn *insn,
                         struct vec_x87_frame *x, uint64_t ea)
{
    const uint8_t *old = cpu->xsave.b;
    uint64_t fip = fx_get64(x->fx + FX_FIP), fdp = fx_get64(x->fx + FX_FDP);

    fx_put64(x->fx + FX_FIP,
             fip == MARK ? fx_get64(old + FX_FIP) : mode_cut(cpu, cpu->rip));
    if (fdp == MARK)
        fdp = fx_get64(old + FX_FDP);
    else
        fdp = fdp == (uintptr_t)x->f.mem ? ea : 0;
    fx_put64(x->fx + FX_FDP, fdp);
    if (fx_get16(x->fx + FX_FOP))
        fx_put16(x->fx + FX_FOP, (insn->opcode & 7U) << 8 | insn->modrm);
    else
        fx_put16(x->fx + FX_FOP, fx_get16(old + FX_FOP));
}

/* Puts exceptions back that stood before an instruction which, with CR0.NE
 * clear, ran in spite of them. */
static void x87_hold(uint8_t *fx, unsigned held)
{
    unsigned fsw = fx_get16(fx + FX_FSW) | held;

    if (fsw & ~(unsigned)fx_get16(fx + FX_FCW) & FSW_FLAGS)
        fsw |= FSW_ES | FSW_B;
    fx_put16(fx + FX_FSW, fsw);
}

/* Runs a stub on the guest's x87 state; @x->fx holds the new state. @ea: what
 * FDP becomes if it becomes something. Return: 0 or the stub's signal. */
static int x87_run(struct x86_cpu *cpu, const struct x86_insn *insn,
                   const struct vec_form *vf, struct vec_x87_frame *x,
                   uint64_t ea)
{
    unsigned held = 0;

    if (vf->flags & VF_KEEP) {
        x87_copy(x->fx, cpu->xsave.b);
    } else {
        /* whole words, so that FXRSTOR's loads find each in one store */
        fx_put64(x->fx, fx_get64(cpu->xsave.b) & UINT64_C(0xffffffffffff));
        fx_put64(x->fx + FX_FIP, MARK);
        fx_put64(x->fx + FX_FDP, MARK);
        memcpy(x->fx + FX_ST, cpu->xsave.b + FX_ST, FX_X87_BYTES - FX_ST);
    }
    if (UNLIKELY(!(vf->flags & VF_NOWAIT) && x87_unmasked(x->fx))) {
        unsigned fsw = fx_get16(x->fx + FX_FSW);
        held = fsw & (FSW_FLAGS | FSW_SF);
        fx_put16(x->fx + FX_FSW, fsw & ~(held | FSW_ES | FSW_B));
    }
    x->f.rflags = cpu->rflags;
    int signo = vec_call_x87(x, vec_stub(insn, vf));
    if (!(vf->flags & VF_KEEP))
        x87_pointers(cpu, insn, x, ea);
    if (UNLIKELY(held) && vf->kind != VK_X87_ENV)
        x87_hold(x->fx, held);
    return signo;
}

void vec_x87_canon(struct x86_cpu *cpu)
{
    struct vec_x87_frame x UNINIT;

    x.f.rflags = 0;
    x87_copy(x.fx, cpu->xsave.b);
    vec_call_x87(&x, vec_stubs); /* RET alone */
    x87_copy(cpu->xsave.b, x.fx);
}

/* A store is not done when it raised an unmasked exception other than
 * precision (SDM vol. 1 8.5); exceptions are all new, or #MF had come. */
static bool x87_stored(const struct vec_form *vf, const uint8_t *fx)
{
    unsigned fsw = fx_get16(fx + FX_FSW), fcw = fx_get16(fx + FX_FCW);

    return (vf->flags & VF_KEEP) || !(fsw & ~fcw & (FSW_FLAGS & ~FSW_PE));
}

static int x87_fault(struct x86_cpu *cpu, int signo)
{
    return x86_raise(cpu, signo == SIGFPE ? X86_VEC_MF : X86_VEC_UD);
}

int vec_x87_exec(struct x86_cpu *cpu, const struct x86_insn *insn,
                 const struct vec_form *vf)
{
    struct vec_x87_frame x UNINIT;
    struct vec_mem m = {.write = false};
    bool to_gpr = false;

    if (!(vf->flags & VF_NOWAIT) && vec_x87_pending(cpu))
        return X86_FAULT;
    for (unsigned k = 0; k < insn->nopnds; k++) {
        to_gpr |= insn->opnd[k].kind == X86_OPND_GPR;
        if (insn->opnd[k].kind == X86_OPND_MEM &&
            vec_mem_in(cpu, insn, vf, k, &x.f, &m))
            return X86_FAULT;
    }
    int signo = x87_run(cpu, insn, vf, &x, m.ea);
    if (UNLIKELY(signo))
        return x87_fault(cpu, signo);
    if (m.write && x87_stored(vf, x.fx)) {
        if (m.len == 10 ? vec_write10(cpu, insn, m.lin, m.place)
                        : vec_write(cpu, insn, m.lin, m.place, m.len))
            return X86_FAULT;
    }
    x87_copy(cpu->xsave.b, x.fx);
    if (to_gpr) /* FNSTSW AX */
        memcpy(&cpu->gpr[X86_RAX], &x.f.gpr[VEC_GPR_RAX], 2);
    if (vf->flags & VF_FLOUT)
        cpu->rflags =
            (cpu->rflags & ~X86_FL_ARITH) | (x.f.rflags & X86_FL_ARITH);
    return 0;
}

int vec_fwait(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    (void)insn;
    return vec_x87_pending(cpu);
}

/* --- environments --- */

/* The real-address formats (SDM vol. 1 figures 8-10 and 8-12) and back to the
 * protected ones, in place. Pointers are linear there; the selectors are
 * deprecated, so the offset is all there is. */
static void env_to_real(uint8_t *b, unsigned opsize, const uint8_t *fx)
{
    uint32_t fip = fx_get32(fx + FX_FIP), fdp = fx_get32(fx + FX_FDP);
    uint32_t fop = fx_get16(fx + FX_FOP) & 0x7ffU;

    if (opsize == 2) {
        fx_put16(b + 6, fip & 0xffff);
        fx_put16(b + 8, (fip >> 4 & 0xf000) | fop);
        fx_put16(b + 10, fdp & 0xffff);
        fx_put16(b + 12, fdp >> 4 & 0xf000);
        return;
    }
    fx_put32(b + 12, 0xffff0000U | (fip & 0xffff));
    fx_put32(b + 16, (fip >> 4 & 0x0ffff000) | fop);
    fx_put32(b + 20, 0xffff0000U | (fdp & 0xffff));
    fx_put32(b + 24, fdp >> 4 & 0x0ffff000);
}

static void env_from_real(const uint8_t *b, unsigned opsize, uint8_t *fx)
{
    uint32_t fip, fdp, fop;

    if (opsize == 2) {
        fip = fx_get16(b + 6) | (fx_get16(b + 8) & 0xf000U) << 4;
        fdp = fx_get16(b + 10) | (fx_get16(b + 12) & 0xf000U) << 4;
        fop = fx_get16(b + 8) & 0x7ffU;
    } else {
        fip = fx_get16(b + 12) | (fx_get32(b + 16) & 0x0ffff000) << 4;
        fdp = fx_get16(b + 20) | (fx_get32(b + 24) & 0x0ffff000) << 4;
        fop = fx_get32(b + 16) & 0x7ffU;
    }
    fx_put64(fx + FX_FIP, fip);
    fx_put64(fx + FX_FDP, fdp);
    fx_put16(fx + FX_FOP, fop);
}

/* The first word is tried, then the last byte (observed on Intel: CR2). */
static int env_check(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    const struct x86_opnd *o = &insn->opnd[0];
    unsigned word = insn->opsize == 2 ? 2 : 4;
    bool write = o->access & X86_ACC_W;
    gva_t lin;

    if (vec_lin(cpu, insn, vec_ea(cpu, insn), o->size, write, &lin) ||
        vec_align_check(cpu, insn, lin, word) ||
        vec_probe(cpu, insn, lin, word, write) ||
        vec_probe(cpu, insn, gva(lin.v + o->size - 1), 1, write))
        return X86_FAULT;
    return 0;
}

int vec_x87_env(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    const struct vec_form *vf = &vec_forms[insn->form];
    bool real = !(cpu->cr0 & X86_CR0_PE) || (cpu->rflags & X86_FL_VM);
    struct vec_x87_frame x UNINIT;
    struct vec_mem m;
    /* the stubs come in two: with an operand-size prefix and without */
    struct x86_insn sized = *insn;

    sized.opsize = insn->opsize == 2 ? 2 : 8;
    if (!(vf->flags & VF_NOWAIT) && vec_x87_pending(cpu))
        return X86_FAULT;
    if (env_check(cpu, insn) || vec_mem_in(cpu, insn, vf, 0, &x.f, &m))
        return X86_FAULT;
    int signo = x87_run(cpu, &sized, vf, &x, m.ea);
    if (UNLIKELY(signo))
        return x87_fault(cpu, signo);
    if (m.write) {
        if (real)
            env_to_real(x.f.mem, sized.opsize, cpu->xsave.b);
        if (vec_write(cpu, insn, m.lin, x.f.mem, m.len))
            return X86_FAULT;
    } else if (real) {
        env_from_real(x.f.mem, sized.opsize, x.fx);
    }
    x87_copy(cpu->xsave.b, x.fx);
    return 0;
}

/* --- MMX --- */

static uint8_t *st_at(struct x86_cpu *cpu, unsigned i)
{
    return cpu->xsave.b + FX_ST + 16 * (size_t)(i & 7);
}

uint64_t vec_mmx_get(const struct x86_cpu *cpu, unsigned r)
{
    unsigned i = (r - x87_top(cpu)) & 7;

    return fx_get64(cpu->xsave.b + FX_ST + 16 * (size_t)i);
}

void vec_mmx_enter(struct x86_cpu *cpu)
{
    unsigned top = x87_top(cpu), fsw = fx_get16(cpu->xsave.b + FX_FSW);
    uint8_t old[8 * 16];

    cpu->xsave.b[FX_FTW] = 0xff;
    if (LIKELY(top == 0))
        return;
    fx_put16(cpu->xsave.b + FX_FSW, fsw & ~FSW_TOP);
    memcpy(old, cpu->xsave.b + FX_ST, sizeof(old));
    for (unsigned r = 0; r < 8; r++)
        memcpy(st_at(cpu, r), old + 16 * (size_t)((r - top) & 7), 16);
}

void vec_mmx_set(struct x86_cpu *cpu, unsigned r, uint64_t v)
{
    fx_put64(st_at(cpu, r), v);
    fx_put16(st_at(cpu, r) + 8, 0xffff);
}

int vec_emms(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    (void)insn;
    if (vec_x87_pending(cpu))
        return X86_FAULT;
    vec_mmx_enter(cpu);
    cpu->xsave.b[FX_FTW] = 0;
    return 0;
}

/* CVTPI2PS and CVTPI2PD from memory touch no MMX register: they neither enter
 * MMX mode nor look for pending x87 exceptions (observed). */
static bool has_mmx_operand(const struct x86_insn *insn)
{
    for (unsigned k = 0; k < insn->nopnds; k++)
        if (insn->opnd[k].kind == X86_OPND_MMX)
            return true;
    return false;
}

static int mmx_in(struct x86_cpu *cpu, const struct x86_insn *insn,
                  const struct vec_form *vf, struct vec_frame *f,
                  struct vec_mem *m)
{
    for (unsigned k = 0; k < insn->nopnds; k++) {
        const struct x86_opnd *o = &insn->opnd[k];
        unsigned at = vf->slot[k] & VS_INDEX;
        if (o->kind == X86_OPND_MMX) {
            f->mm[at] = vec_mmx_get(cpu, o->reg);
        } else if (o->kind == X86_OPND_XMM) {
            memcpy(&f->lo[at], vec_xmm(cpu, o->reg), 16);
        } else if (o->kind == X86_OPND_GPR) {
            f->gpr[at] = cpu->gpr[o->reg];
        } else if (o->kind == X86_OPND_MEM) {
            if (vec_mem_in(cpu, insn, vf, k, f, m))
                return X86_FAULT;
        }
    }
    return 0;
}

static void mmx_out(struct x86_cpu *cpu, const struct x86_insn *insn,
                    const struct vec_form *vf, const struct vec_frame *f)
{
    for (unsigned k = 0; k < insn->nopnds; k++) {
        const struct x86_opnd *o = &insn->opnd[k];
        unsigned at = vf->slot[k] & VS_INDEX;
        if (!(o->access & X86_ACC_W))
            continue;
        if (o->kind == X86_OPND_MMX)
            vec_mmx_set(cpu, o->reg, f->mm[at]);
        else if (o->kind == X86_OPND_XMM)
            memcpy(vec_xmm(cpu, o->reg), &f->lo[at], 16);
        else if (o->kind == X86_OPND_GPR)
            cpu->gpr[o->reg] = f->gpr[at];
    }
}

int vec_mmx_exec(struct x86_cpu *cpu, const struct x86_insn *insn,
                 const struct vec_form *vf)
{
    struct vec_frame f UNINIT;
    struct vec_mem m = {.write = false};
    bool mmx = has_mmx_operand(insn);

    if (mmx && vec_x87_pending(cpu))
        return X86_FAULT;
    if (mmx_in(cpu, insn, vf, &f, &m))
        return X86_FAULT;
    f.mxcsr = fx_get32(cpu->xsave.b + FX_MXCSR);
    int signo = vf->flags & VF_MX ? vec_call_mmx_mx(&f, vec_stub(insn, vf))
                                  : vec_call_mmx(&f, vec_stub(insn, vf));
    uint8_t ftw = cpu->xsave.b[FX_FTW];
    if (mmx) /* also when #XM comes (observed) */
        vec_mmx_enter(cpu);
    if (signo == 0 && m.write && vec_write(cpu, insn, m.lin, m.place, m.len)) {
        cpu->xsave.b[FX_FTW] = ftw; /* TOP is 0 all the same (observed) */
        return X86_FAULT;
    }
    fx_put32(cpu->xsave.b + FX_MXCSR, f.mxcsr);
    if (UNLIKELY(signo))
        return vec_stub_fault(cpu, signo);
    mmx_out(cpu, insn, vf, &f);
    return 0;
}
