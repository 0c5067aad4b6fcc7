// SPDX-License-Identifier: Apache-2.0
/*
 * Text of a decoded instruction in Intel syntax, for logs, traces and tests.
 * Implicit operands are not shown. Everything comes from struct x86_insn.
 */
#include "cpu/x86/decode.h"
#include "cpu/x86/insn.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The text under construction; what does not fit is cut off. */
struct text {
    char *out;
    size_t n;
    size_t at;
};

static PRINTF_LIKE(2, 3) void put(struct text *t, const char *fmt, ...)
{
    va_list ap;

    if (t->at >= t->n)
        return;
    va_start(ap, fmt);
    int w = vsnprintf(t->out + t->at, t->n - t->at, fmt, ap);
    va_end(ap);
    if (w > 0)
        t->at += (size_t)w;
}

static void put_lower(struct text *t, const char *s)
{
    for (; *s; s++)
        put(t, "%c", *s >= 'A' && *s <= 'Z' ? *s + 32 : *s);
}

static void put_gpr(struct text *t, unsigned reg, unsigned size, bool high)
{
    static const char *const r8[] = {"al",  "cl",  "dl",  "bl",
                                     "spl", "bpl", "sil", "dil"};
    static const char *const hi[] = {"ah", "ch", "dh", "bh"};
    static const char *const r16[] = {"ax", "cx", "dx", "bx",
                                      "sp", "bp", "si", "di"};

    if (reg >= 8)
        put(t, "r%u%s", reg,
            size == 1   ? "b"
            : size == 2 ? "w"
            : size == 4 ? "d"
                        : "");
    else if (size == 1)
        put(t, "%s", high ? hi[reg & 3] : r8[reg]);
    else
        put(t, "%s%s", size == 8 ? "r" : size == 4 ? "e" : "", r16[reg]);
}

static const char *seg_name(unsigned seg)
{
    static const char *const names[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    return seg < ARRAY_LEN(names) ? names[seg] : "s?";
}

static const char *size_name(unsigned size)
{
    switch (size) {
    case 1:
        return "byte ptr ";
    case 2:
        return "word ptr ";
    case 4:
        return "dword ptr ";
    case 6:
        return "fword ptr ";
    case 8:
        return "qword ptr ";
    case 10:
        return "tbyte ptr ";
    case 16:
        return "xmmword ptr ";
    case 32:
        return "ymmword ptr ";
    default:
        return "";
    }
}

/* Index registers of gathers: YMM unless XMM elements address YMM data. */
static bool vsib_ymm(const struct x86_insn *i)
{
    const struct x86_form_info *f = x86_form_info(i->form);

    for (unsigned k = 0; k < f->nopnds; k++)
        if (f->opnd[k].type == X86_OT_VMqx)
            return false;
    return i->vex_l;
}

static void put_disp(struct text *t, const struct x86_insn *i, bool bare)
{
    uint64_t mask = i->adsize == 8 ? ~0ull : (1ull << 8 * i->adsize) - 1;
    uint64_t d = (uint64_t)i->disp;

    if (bare)
        put(t, "0x%" PRIx64, d & mask);
    else if (i->disp < 0)
        put(t, "-0x%" PRIx64, -d);
    else if (i->disp > 0)
        put(t, "+0x%" PRIx64, d);
}

static void put_mem(struct text *t, const struct x86_insn *i,
                    const struct x86_opnd *o)
{
    bool none = i->base == X86_REG_NONE && i->index == X86_REG_NONE;

    put(t, "%s", size_name(o->size));
    if (i->prefix & X86_PFX_SEG)
        put(t, "%s:", seg_name(i->seg));
    put(t, "[");
    if (i->base == X86_REG_RIP)
        put(t, "%s", i->adsize == 8 ? "rip" : "eip");
    else if (i->base != X86_REG_NONE)
        put_gpr(t, i->base, i->adsize, false);
    if (i->index != X86_REG_NONE) {
        put(t, "%s", i->base != X86_REG_NONE ? "+" : "");
        if (o->kind == X86_OPND_VSIB)
            put(t, "%cmm%u", vsib_ymm(i) ? 'y' : 'x', i->index);
        else
            put_gpr(t, i->index, i->adsize, false);
        if (i->scale)
            put(t, "*%u", 1u << i->scale);
    }
    put_disp(t, i, none);
    put(t, "]");
}

static void put_imm(struct text *t, uint64_t imm, unsigned size)
{
    uint64_t mask = size - 1 >= 7 ? ~0ull : (1ull << 8 * size) - 1;

    put(t, "0x%" PRIx64, imm & mask);
}

static void put_rel(struct text *t, const struct x86_insn *i, uint64_t rip)
{
    uint64_t to = rip + i->len + i->imm;

    put_imm(t, to, i->opsize);
}

static void put_str(struct text *t, const struct x86_insn *i,
                    const struct x86_opnd *o)
{
    unsigned reg = o->kind == X86_OPND_STRSRC   ? 6
                   : o->kind == X86_OPND_STRDST ? 7
                                                : 3;

    put(t, "%s", size_name(o->size));
    if (o->kind == X86_OPND_STRDST)
        put(t, "es:");
    else if (i->prefix & X86_PFX_SEG)
        put(t, "%s:", seg_name(i->seg));
    put(t, "[");
    put_gpr(t, reg, i->adsize, false);
    put(t, "%s]", o->kind == X86_OPND_XLAT ? "+al" : "");
}

static void put_opnd(struct text *t, const struct x86_insn *i,
                     const struct x86_opnd *o, uint64_t rip)
{
    switch ((enum x86_opnd_kind)o->kind) {
    case X86_OPND_NONE:
        break;
    case X86_OPND_GPR:
        put_gpr(t, o->reg, o->size, o->high);
        break;
    case X86_OPND_MEM:
    case X86_OPND_VSIB:
        put_mem(t, i, o);
        break;
    case X86_OPND_IMM:
        put_imm(t, i->imm, o->size);
        break;
    case X86_OPND_IMM2:
        put_imm(t, i->imm2, o->size);
        break;
    case X86_OPND_REL:
        put_rel(t, i, rip);
        break;
    case X86_OPND_SEG:
        put(t, "%s", seg_name(o->reg));
        break;
    case X86_OPND_CR:
    case X86_OPND_DR:
        put(t, "%cr%u", o->kind == X86_OPND_CR ? 'c' : 'd', o->reg);
        break;
    case X86_OPND_ST:
        put(t, "st%u", o->reg);
        break;
    case X86_OPND_MMX:
        put(t, "mm%u", o->reg);
        break;
    case X86_OPND_XMM:
    case X86_OPND_YMM:
        put(t, "%cmm%u", o->kind == X86_OPND_XMM ? 'x' : 'y', o->reg);
        break;
    case X86_OPND_STRSRC:
    case X86_OPND_STRDST:
    case X86_OPND_XLAT:
        put_str(t, i, o);
        break;
    case X86_OPND_ONE:
        put(t, "1");
        break;
    }
}

/* Mnemonics that carry a size in their name. */
static void put_mnemonic(struct text *t, const struct x86_insn *i)
{
    static const char *const cbw[] = {"cbw", "cwde", "cdqe"};
    static const char *const cwd[] = {"cwd", "cdq", "cqo"};
    static const char *const jcxz[] = {"jcxz", "jecxz", "jrcxz"};
    unsigned os = i->opsize >> 2, as = i->adsize >> 2;
    const struct x86_form_info *f = x86_form_info(i->form);

    if (i->op == X86_OP_CBW) {
        put(t, "%s", cbw[os]);
    } else if (i->op == X86_OP_CWD) {
        put(t, "%s", cwd[os]);
    } else if (i->op == X86_OP_JCXZ) {
        put(t, "%s", jcxz[as]);
    } else if (i->op == X86_OP_CALLF || i->op == X86_OP_JMPF) {
        put(t, "%s far", i->op == X86_OP_CALLF ? "call" : "jmp");
    } else if (i->op == X86_OP_PUSHA || i->op == X86_OP_POPA ||
               i->op == X86_OP_PUSHF || i->op == X86_OP_POPF ||
               i->op == X86_OP_IRET) {
        put_lower(t, x86_op_name(i->op));
        put(t, "%s", os == 0 ? "" : os == 1 ? "d" : "q");
    } else {
        put_lower(t, x86_op_name(i->op));
        if (f->cls == X86_CLS_STRING) {
            unsigned size = i->opnd[0].size;
            if (i->op == X86_OP_OUTS || i->op == X86_OP_SCAS)
                size = i->opnd[1].size;
            put(t, "%c", "bw_d___q"[(size - 1) & 7]);
        }
    }
}

static void put_prefix(struct text *t, const struct x86_insn *i)
{
    const struct x86_form_info *f = x86_form_info(i->form);

    if (i->prefix & X86_PFX_LOCK)
        put(t, "lock ");
    if (!(f->attr & (XA_REP | XA_REPZ)))
        return;
    if (i->prefix & X86_PFX_REP)
        put(t, "%s ", f->attr & XA_REPZ ? "repe" : "rep");
    if (i->prefix & X86_PFX_REPNE)
        put(t, "repne ");
}

void x86_disasm(const struct x86_insn *insn, uint64_t rip, char *out, size_t n)
{
    struct text t = {.out = out, .n = n};

    if (n == 0)
        return;
    out[0] = '\0';
    put_prefix(&t, insn);
    put_mnemonic(&t, insn);
    for (unsigned k = 0; k < insn->nopnds && k < X86_OPNDS; k++) {
        put(&t, "%s", k == 0 ? " " : ", ");
        put_opnd(&t, insn, &insn->opnd[k], rip);
    }
}
