// SPDX-License-Identifier: Apache-2.0
/*
 * Memory operands of the vector instructions: addresses, and linear accesses
 * through cpu->lin with data breakpoints noted.
 */
#include "engine/interp/vec_int.h"

#include "cpu/x86/exceptions.h"
#include "cpu/x86/paging.h"
#include "cpu/x86/segmentation.h"

static uint64_t cut(const struct x86_insn *insn, uint64_t ea)
{
    if (insn->adsize == 8)
        return ea;
    return insn->adsize == 4 ? (uint32_t)ea : (uint16_t)ea;
}

uint64_t vec_ea(const struct x86_cpu *cpu, const struct x86_insn *insn)
{
    uint64_t ea = (uint64_t)insn->disp;
    bool vsib = insn->nopnds > 1 && insn->opnd[1].kind == X86_OPND_VSIB;

    if (insn->base == X86_REG_RIP)
        ea += cpu->rip + insn->len;
    else if (insn->base != X86_REG_NONE)
        ea += cpu->gpr[insn->base & 15];
    if (insn->index != X86_REG_NONE && !vsib)
        ea += cpu->gpr[insn->index & 15] << insn->scale;
    return cut(insn, ea);
}

int vec_lin(struct x86_cpu *cpu, const struct x86_insn *insn, uint64_t ea,
            size_t len, bool write, gva_t *lin)
{
    return x86_seg_check(cpu, insn->seg, cut(insn, ea), len, write, lin);
}

/* Which accesses the CPU exempts from alignment checks, beside those of more
 * than eight bytes, was observed on Intel. */
static unsigned lin_flags(const struct x86_insn *insn)
{
    unsigned kind = vec_forms[insn->form].kind;
    bool free = kind == VK_VMASKMOV || kind == VK_GATHER ||
                kind == VK_MASKMOVQ || kind == VK_MASKMOVDQU ||
                insn->op == X86_OP_VCVTPS2PH || insn->op == X86_OP_VCVTPH2PS;

    return (insn->seg == X86_SEG_SS ? X86_LIN_STACK : 0) |
           (free ? X86_LIN_NOALIGN : 0);
}

int vec_align_check(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
                    unsigned align)
{
    if (x86_lin_check(cpu, lin, 1, lin_flags(insn)))
        return X86_FAULT;
    if ((cpu->rflags & X86_FL_AC) && (cpu->cr0 & X86_CR0_AM) && cpu->cpl == 3 &&
        (lin.v & (align - 1)))
        return x86_raise_err(cpu, X86_VEC_AC, 0);
    return 0;
}

int vec_read(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
             void *buf, size_t len)
{
    if (cpu->lin->read(cpu->lin_ctx, lin, buf, len,
                       X86_LIN_READ | lin_flags(insn)))
        return X86_FAULT;
    if (UNLIKELY(x86_db_armed(cpu)))
        x86_check_data_bp(cpu, lin.v, len, false);
    return 0;
}

int vec_write(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
              const void *buf, size_t len)
{
    if (cpu->lin->write(cpu->lin_ctx, lin, buf, len,
                        X86_LIN_WRITE | lin_flags(insn)))
        return X86_FAULT;
    if (UNLIKELY(x86_db_armed(cpu)))
        x86_check_data_bp(cpu, lin.v, len, true);
    return 0;
}

/* Two accesses: the significand, then sign and exponent. */
int vec_read10(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
               void *buf)
{
    return vec_read(cpu, insn, lin, buf, 8) ||
                   vec_read(cpu, insn, gva(lin.v + 8), (uint8_t *)buf + 8, 2)
               ? X86_FAULT
               : 0;
}

int vec_write10(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
                const void *buf)
{
    const uint8_t *p = buf;

    return vec_write(cpu, insn, lin, p, 8) ||
                   vec_write(cpu, insn, gva(lin.v + 8), p + 8, 2)
               ? X86_FAULT
               : 0;
}

int vec_range_check(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
                    size_t len)
{
    return x86_lin_check(cpu, lin, len, lin_flags(insn));
}

int vec_probe_w(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
                size_t len)
{
    return cpu->lin->probe(cpu->lin_ctx, lin, len,
                           X86_LIN_WRITE | lin_flags(insn));
}

int vec_probe_r(struct x86_cpu *cpu, const struct x86_insn *insn, gva_t lin,
                size_t len)
{
    return cpu->lin->probe(cpu->lin_ctx, lin, len,
                           X86_LIN_READ | lin_flags(insn));
}
