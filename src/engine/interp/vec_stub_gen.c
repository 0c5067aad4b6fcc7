// SPDX-License-Identifier: Apache-2.0
/*
 * Host generator, run at build time on insn.def:
 *   vec_stub_gen stubs  the stubs, as assembler source (vec_stubs.S)
 *   vec_stub_gen forms  one struct vec_form initialiser per form (vec_forms.h)
 * A stub is one instruction, encoded anew in one canonical way, and RET, in
 * eight bytes; vec_int.h says which registers it uses. A form has as many as it
 * varies by register or memory, VEX.L, operand size 8, imm8 or ST(i).
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* decode.h without the generated header it includes */
#define DOPPEL_CPU_X86_INSN_IDS_H
enum x86_op {
    X86_OP_INVALID
};
enum x86_form {
    X86_FORM_INVALID,
#define INSN(form, ...) X86_FORM_##form,
#include "cpu/x86/insn.def"
#undef INSN
    X86_FORM_COUNT
};
#include "cpu/x86/insn.h"
#include "engine/interp/vec_kind.h"

/* clang-format off */
#define R(ot)  { X86_OT_##ot, X86_ACC_R }
#define W(ot)  { X86_OT_##ot, X86_ACC_W }
#define RW(ot) { X86_OT_##ot, X86_ACC_R | X86_ACC_W }

enum {
#define FLG(name, r, w, u) FLR_##name = (r), FLW_##name = (w) | (u),
#include "cpu/x86/insn_flags.def"
#undef FLG
};

struct row {
    const char *name;
    const char *op;
    unsigned opcode;
    unsigned cls;
    unsigned feat;
    uint32_t spec;
    uint64_t attr;
    uint32_t fl_read, fl_written;
    struct x86_form_opnd opnd[X86_OPNDS];
};

static const struct row rows[X86_FORM_COUNT] = {
    {.name = "INVALID", .op = "INVALID"},
#define INSN(form, op_, opc, spec_, cls_, feat_, fl, attr_, ...)               \
    {#form, #op_, (opc), X86_CLS_##cls_, X86_FEAT_##feat_, (spec_), (attr_),   \
     FLR_##fl, FLW_##fl, {__VA_ARGS__}},
#include "cpu/x86/insn.def"
#undef INSN
};

static const char *const slots[X86_OT_COUNT] = {
    "",
#define OT(code, slot, size) #slot,
#include "cpu/x86/insn_opnd.def"
#undef OT
};

static const char *const sizes[X86_OT_COUNT] = {
    "",
#define OT(code, slot, size) #size,
#include "cpu/x86/insn_opnd.def"
#undef OT
};

/* Forms that are C, by mnemonic. */
static const struct {
    const char *op;
    uint8_t kind;
} c_ops[] = {
    {"EMMS", VK_EMMS},
    {"FWAIT", VK_FWAIT},           {"WAIT", VK_FWAIT},
    {"FNSTENV", VK_X87_ENV},       {"FLDENV", VK_X87_ENV},
    {"FNSAVE", VK_X87_ENV},        {"FRSTOR", VK_X87_ENV},
    {"LDMXCSR", VK_LDMXCSR},       {"VLDMXCSR", VK_LDMXCSR},
    {"STMXCSR", VK_STMXCSR},       {"VSTMXCSR", VK_STMXCSR},
    {"VZEROALL", VK_VZERO},        {"VZEROUPPER", VK_VZERO},
    {"MASKMOVQ", VK_MASKMOVQ},
    {"MASKMOVDQU", VK_MASKMOVDQU}, {"VMASKMOVDQU", VK_MASKMOVDQU},
    {"VMASKMOVPS", VK_VMASKMOV},   {"VMASKMOVPD", VK_VMASKMOV},
    {"VPMASKMOVD", VK_VMASKMOV},   {"VPMASKMOVQ", VK_VMASKMOV},
    {"FXSAVE", VK_FXSAVE},         {"FXRSTOR", VK_FXRSTOR},
    {"XSAVE", VK_XSAVE},           {"XSAVEOPT", VK_XSAVE},
    {"XSAVEC", VK_XSAVE},          {"XRSTOR", VK_XRSTOR},
};

/* x87 control instructions: FIP, FDP and FOP don't say where they stand. */
static const char *const keep_ops[] = {
    "FNINIT", "FNCLEX", "FLDCW", "FNSTCW", "FNSTSW", "FNSTENV", "FLDENV",
    "FNSAVE", "FRSTOR", "FNENI", "FNDISI", "FNSETPM",
};
/* clang-format on */

enum {
    REG_REG = 1, /* ModRM.reg: xmm1, mm1; GPR: rax */
    REG_VVVV = 2,
    REG_RM = 3, /* xmm3, mm3; GPR: rcx */
    REG_IS4 = 4,
    GPR_REG = 0,
    GPR_RM = 1
};

#define RET_OPCODE 0xc3
#define STUB_BYTES 8

/* What a form's stubs look like. */
struct plan {
    unsigned kind;
    unsigned flags;
    bool reg, mem;       /* which of the two ModRM shapes are emitted */
    unsigned nl, nw, ni; /* variants by VEX.L, operand size, imm8 or ST(i) */
    bool has_imm;
    uint8_t slot[X86_OPNDS];
};

static bool is_slot(const struct row *r, int i, const char *any_of)
{
    char pat[16];
    snprintf(pat, sizeof(pat), " %s ", slots[r->opnd[i].type]);
    return r->opnd[i].type && strstr(any_of, pat);
}

static bool has_slot(const struct row *r, const char *any_of)
{
    for (int i = 0; i < X86_OPNDS; i++)
        if (is_slot(r, i, any_of))
            return true;
    return false;
}

static bool has_size(const struct row *r, const char *any_of)
{
    for (int i = 0; i < X86_OPNDS && r->opnd[i].type; i++) {
        char pat[16];
        snprintf(pat, sizeof(pat), " %s ", sizes[r->opnd[i].type]);
        if (strstr(any_of, pat))
            return true;
    }
    return false;
}

static unsigned kind_of(const struct row *r)
{
    for (unsigned i = 0; i < sizeof(c_ops) / sizeof(c_ops[0]); i++)
        if (strcmp(r->op, c_ops[i].op) == 0)
            return c_ops[i].kind;
    bool mx = r->attr & (XA_MXR | XA_MXW);
    switch (r->cls) {
    case X86_CLS_X87:
        return VK_X87;
    case X86_CLS_MMX:
        return VK_MMX;
    case X86_CLS_SSE:
        return mx ? VK_SSE_MX : VK_SSE;
    case X86_CLS_AVX:
        return mx ? VK_AVX_MX : VK_AVX;
    case X86_CLS_GATHER:
        return VK_GATHER;
    default:
        return VK_NONE;
    }
}

static bool has_stubs(unsigned kind)
{
    return (kind >= VK_SSE && kind <= VK_X87) || kind == VK_X87_ENV;
}

static uint8_t slot_of(const struct row *r, int i)
{
    if (is_slot(r, i, " V "))
        return REG_REG;
    if (is_slot(r, i, " H "))
        return REG_VVVV;
    if (is_slot(r, i, " W U "))
        return REG_RM;
    if (is_slot(r, i, " L "))
        return REG_IS4;
    if (is_slot(r, i, " E EMw EMy EMb EMd R "))
        return VS_GPR | GPR_RM;
    if (is_slot(r, i, " Q N "))
        return VS_MMX | 1;
    if (is_slot(r, i, " P "))
        return VS_MMX;
    return VS_GPR | GPR_REG; /* others have none */
}

/* Legacy SSE: what the exception class says of memory (SDM vol. 2 2.4). */
static bool wants_align(const struct row *r)
{
    return (r->attr & XA_ALIGN) != 0;
}

static unsigned flags_of(const struct row *r)
{
    unsigned f = 0;

    f |= r->attr & XA_RX0 ? VF_RX0 : 0;
    f |= r->attr & XA_WX0 ? VF_WX0 : 0;
    f |= r->attr & (XA_RA | XA_RD) ? VF_RAD : 0;
    f |= r->attr & XA_WC ? VF_WC : 0;
    f |= r->fl_read ? VF_FLIN : 0;
    f |= r->fl_written ? VF_FLOUT : 0;
    f |= r->attr & XA_NOWAIT ? VF_NOWAIT : 0;
    f |= wants_align(r) ? VF_ALIGN : 0;
    f |= r->attr & (XA_MXR | XA_MXW) ? VF_MX : 0;
    f |= (r->spec & XS_VEX) && (r->spec & XS_L1) ? VF_L256 : 0;
    for (unsigned i = 0; i < sizeof(keep_ops) / sizeof(keep_ops[0]); i++)
        if (strcmp(r->op, keep_ops[i]) == 0)
            f |= VF_KEEP;
    return f;
}

static void plan_make(const struct row *r, struct plan *p)
{
    memset(p, 0, sizeof(*p));
    p->kind = kind_of(r);
    p->flags = flags_of(r);
    for (int i = 0; i < X86_OPNDS && r->opnd[i].type; i++)
        p->slot[i] = slot_of(r, i);
    p->nl = p->nw = p->ni = 1;
    if (!has_stubs(p->kind))
        return;
    bool either = has_slot(r, " E EMw EMy EMb EMd W Q ");
    p->mem = (r->spec & XS_MEM) || has_slot(r, " M ") || either;
    p->reg = !((r->spec & XS_MEM) || has_slot(r, " M "));
    if ((r->spec & (XS_REG | XS_RM_GIVEN)) || has_slot(r, " R N U STi "))
        p->mem = false;
    p->has_imm = has_slot(r, " Ib L ");
    if (has_slot(r, " Ib ") && !has_slot(r, " L ")) {
        p->flags |= VF_IMM;
        p->ni = 256;
        /* INSERTPS reads its memory operand otherwise than its register */
        if (p->reg && p->mem && !strstr(r->op, "INSERTPS")) {
            p->mem = false;
            p->flags |= VF_MEMREG;
        }
    } else if (has_slot(r, " STi ") && !(r->spec & XS_RM_GIVEN)) {
        p->flags |= VF_STI;
        p->ni = 8;
    }
    if ((r->spec & XS_VEX) && !(r->spec & (XS_L0 | XS_L1)) &&
        has_size(r, " x xh xq xe xdup "))
        p->nl = 2;
    if (!(r->spec & (XS_W0 | XS_W1)) &&
        (has_size(r, " y ") || strstr(r->op, "PCMPESTR")))
        p->nw = 2;
    if (has_size(r, " fenv fsave "))
        p->nw = 2; /* 0: with 66; 1: without */
}

static unsigned modrm_of(const struct row *r, bool mem, unsigned sti)
{
    unsigned reg = 0, rm = mem ? 7 : 0;

    if (r->spec & XS_R_GIVEN)
        reg = XS_GET_REG(r->spec);
    else if (has_slot(r, " V P "))
        reg = REG_REG;
    else
        reg = GPR_REG;
    if (mem)
        return reg << 3 | rm;
    if (r->spec & XS_RM_GIVEN)
        rm = XS_GET_RM(r->spec);
    else if (has_slot(r, " W U Q N "))
        rm = REG_RM;
    else if (has_slot(r, " STi "))
        rm = sti;
    else
        rm = GPR_RM;
    return 0xc0 | reg << 3 | rm;
}

/* Prefixes, map and opcode; returns the number of bytes. */
static unsigned emit_legacy(const struct row *r, bool w, uint8_t *b)
{
    static const uint8_t pfx[] = {0, 0, 0x66, 0xf3, 0xf2, 0, 0, 0};
    unsigned n = 0, p = pfx[XS_GET_PFX(r->spec)];

    if (has_size(r, " fenv fsave ")) {
        p = w ? 0 : 0x66;
        w = false;
    }
    if (p)
        b[n++] = (uint8_t)p;
    if (w || (r->spec & XS_W1))
        b[n++] = 0x48;
    if ((r->spec & XS_MAP_MASK) != XS_1B)
        b[n++] = 0x0f;
    if ((r->spec & XS_MAP_MASK) == XS_0F38)
        b[n++] = 0x38;
    if ((r->spec & XS_MAP_MASK) == XS_0F3A)
        b[n++] = 0x3a;
    b[n++] = (uint8_t)r->opcode;
    return n;
}

static unsigned emit_vex(const struct row *r, bool w, bool l, uint8_t *b)
{
    unsigned pp = XS_GET_PFX(r->spec), vvvv = has_slot(r, " H ") ? REG_VVVV : 0;

    w = w || (r->spec & XS_W1);
    l = l || (r->spec & XS_L1);
    b[0] = 0xc4;
    b[1] = (uint8_t)(0xe0 | (r->spec & XS_MAP_MASK));
    b[2] = (uint8_t)(w << 7 | (~vvvv & 15) << 3 | l << 2 | (pp ? pp - 1 : 0));
    b[3] = (uint8_t)r->opcode;
    return 4;
}

static uint64_t stub_make(const struct row *r, const struct plan *p, bool mem,
                          bool l, bool w, unsigned i)
{
    uint8_t b[16];
    uint64_t word;
    unsigned n;

    memset(b, 0xcc, sizeof(b));
    n = r->spec & XS_VEX ? emit_vex(r, w, l, b) : emit_legacy(r, w, b);
    b[n++] = (uint8_t)modrm_of(r, mem, i);
    if (p->has_imm)
        b[n++] = (uint8_t)(p->flags & VF_IMM ? i : REG_IS4 << 4);
    b[n++] = RET_OPCODE;
    if (n > STUB_BYTES) {
        fprintf(stderr, "vec_stub_gen: %s takes %u bytes\n", r->name, n);
        exit(1);
    }
    memcpy(&word, b, sizeof(word));
    return word;
}

static unsigned plan_count(const struct plan *p)
{
    return has_stubs(p->kind)
               ? (unsigned)(p->reg + p->mem) * p->nl * p->nw * p->ni
               : 0;
}

static int stubs(void)
{
    puts("/* generated from insn.def */\n"
         "    .section .text.vec_stubs, \"ax\", @progbits\n"
         "    .balign 64\n    .globl vec_stubs, vec_stubs_end\n"
         "    .type vec_stubs, @object\n    .hidden vec_stubs\n"
         "    .hidden vec_stubs_end\nvec_stubs:\n"
         "    .quad 0xccccccccccccccc3");
    for (unsigned f = 1; f < X86_FORM_COUNT; f++) {
        const struct row *r = &rows[f];
        struct plan p;
        plan_make(r, &p);
        unsigned n = plan_count(&p);
        for (unsigned k = 0; k < n; k++) {
            unsigned i = k % p.ni, w = k / p.ni % p.nw;
            unsigned l = k / p.ni / p.nw % p.nl;
            bool mem = p.mem && (!p.reg || k >= n / 2);
            printf("    .quad 0x%016llx\n",
                   (unsigned long long)stub_make(r, &p, mem, l, w, i));
        }
    }
    puts("vec_stubs_end:\n"
         "    .section .note.GNU-stack, \"\", @progbits");
    return 0;
}

static int forms(void)
{
    unsigned base = 1; /* stub 0 is RET alone */

    puts("/* generated from insn.def: base, strides, kind, flags, slots */");
    for (unsigned f = 1; f < X86_FORM_COUNT; f++) {
        const struct row *r = &rows[f];
        struct plan p;
        plan_make(r, &p);
        unsigned n = plan_count(&p);
        if (p.kind == VK_NONE)
            continue;
        printf("[X86_FORM_%s] = {%u, %u, %u, %u, %u, %u, 0x%x, "
               "{%u, %u, %u, %u, %u}},\n",
               r->name, n ? base : 0, p.reg && p.mem ? n / 2 : 0,
               p.nl > 1 ? p.nw * p.ni : 0, p.nw > 1 ? p.ni : 0, p.ni > 1,
               p.kind, p.flags, p.slot[0], p.slot[1], p.slot[2], p.slot[3],
               p.slot[4]);
        base += n;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "stubs") == 0)
        return stubs();
    if (argc == 2 && strcmp(argv[1], "forms") == 0)
        return forms();
    fputs("usage: vec_stub_gen stubs|forms\n", stderr);
    return 2;
}
