// SPDX-License-Identifier: Apache-2.0
/*
 * The decoder's operand half: from a form's operand codes (insn_opnd.def) to
 * struct x86_opnd, and the immediates on the way. Source: Intel SDM vol. 2
 * appendix A.2.
 */
#include "cpu/x86/decode_priv.h"

#include "cpu/x86/insn.h"

/* clang-format off */
enum slot {
    SLOT_E, SLOT_EMw, SLOT_EMy, SLOT_EMb, SLOT_EMd, SLOT_G, SLOT_Z, SLOT_B,
    SLOT_R, SLOT_M, SLOT_rA, SLOT_rC, SLOT_rD, SLOT_sES, SLOT_sCS, SLOT_sSS,
    SLOT_sDS, SLOT_sFS, SLOT_sGS, SLOT_One, SLOT_Ib, SLOT_Ibs, SLOT_Iw,
    SLOT_Iz, SLOT_Iv, SLOT_Ib2, SLOT_Jb, SLOT_Jz, SLOT_Iap, SLOT_Iw2, SLOT_O,
    SLOT_X, SLOT_Y, SLOT_T, SLOT_S, SLOT_C, SLOT_D, SLOT_ST0, SLOT_STi,
    SLOT_P, SLOT_Q, SLOT_N, SLOT_V, SLOT_H, SLOT_W, SLOT_U, SLOT_L, SLOT_VMX,
    SLOT_VMx, SLOT_VMy
};

enum size {
    SZ_0, SZ_b, SZ_w, SZ_d, SZ_q, SZ_v, SZ_y, SZ_z, SZ_n, SZ_dq, SZ_qq, SZ_x,
    SZ_p, SZ_bnd, SZ_s, SZ_t, SZ_fenv, SZ_fsave, SZ_fx, SZ_m512, SZ_xh, SZ_xq,
    SZ_xe, SZ_xdup, SZ_y2, SZ_a, SZ_COUNT
};

/* Bytes by size code and context: operand size 2, 4, 8, plus 3 with VEX.L,
 * plus 6 in 64-bit mode. SZ_a is the address size, see size_of(). */
#define BY_OS(a, b, c) {a, b, c, a, b, c, a, b, c, a, b, c}
#define BY_L(a, b)     {a, a, a, b, b, b, a, a, a, b, b, b}
#define BY_MODE(a, b)  {a, a, a, a, a, a, b, b, b, b, b, b}
static const uint16_t size_tab[SZ_COUNT][12] = {
    [SZ_b] = BY_OS(1, 1, 1),      [SZ_w] = BY_OS(2, 2, 2),
    [SZ_d] = BY_OS(4, 4, 4),      [SZ_q] = BY_OS(8, 8, 8),
    [SZ_v] = BY_OS(2, 4, 8),      [SZ_y] = BY_OS(4, 4, 8),
    [SZ_z] = BY_OS(2, 4, 4),      [SZ_n] = BY_MODE(4, 8),
    [SZ_dq] = BY_OS(16, 16, 16),  [SZ_qq] = BY_OS(32, 32, 32),
    [SZ_x] = BY_L(16, 32),        [SZ_p] = BY_OS(4, 6, 10),
    [SZ_bnd] = BY_OS(4, 8, 16),   [SZ_s] = BY_MODE(6, 10),
    [SZ_t] = BY_OS(10, 10, 10),   [SZ_fenv] = BY_OS(14, 28, 28),
    [SZ_fsave] = BY_OS(94, 108, 108), [SZ_fx] = BY_OS(512, 512, 512),
    [SZ_m512] = BY_OS(64, 64, 64), [SZ_xh] = BY_L(8, 16),
    [SZ_xq] = BY_L(4, 8),         [SZ_xe] = BY_L(2, 4),
    [SZ_xdup] = BY_L(8, 32),      [SZ_y2] = BY_OS(8, 8, 16),
};

enum {
#define OT(code, slot, size) OTS_##code = SLOT_##slot, OTZ_##code = SZ_##size,
#include "cpu/x86/insn_opnd.def"
#undef OT
};

#define R(ot)  { OTS_##ot, OTZ_##ot, X86_ACC_R }
#define W(ot)  { OTS_##ot, OTZ_##ot, X86_ACC_W }
#define RW(ot) { OTS_##ot, OTZ_##ot, X86_ACC_R | X86_ACC_W }
#define COUNT(...)                                                             \
    (sizeof((const struct dec_opnd[]){{0, 0, 0}, ##__VA_ARGS__}) /             \
     sizeof(struct dec_opnd) - 1)
#define FLAGS(spec, attr)                                                      \
    (((attr)&XA_LOCK ? DF_LOCK : 0) | ((attr)&XA_D64 ? DF_D64 : 0) |           \
     ((attr)&XA_F64 ? DF_F64 : 0) | ((spec)&XS_MODREG ? DF_MODREG : 0))

const struct dec_form dec_forms[X86_FORM_COUNT] = {
    {0, 0, 0, {{0, 0, 0}}},
#define INSN(form, op, opc, spec, cls, feat, fl, attr, ...)                    \
    {X86_OP_##op, COUNT(__VA_ARGS__), FLAGS(spec, attr), {__VA_ARGS__}},
#include "cpu/x86/insn.def"
#undef INSN
};
/* clang-format on */

static inline unsigned size_of(const struct dec *d, unsigned size)
{
    return size == SZ_a ? d->insn->adsize : size_tab[size][d->ctx];
}

static inline void set_gpr(const struct dec *d, struct x86_opnd *o,
                           unsigned reg)
{
    o->kind = X86_OPND_GPR;
    o->reg = (uint8_t)reg;
    if (o->size == 1 && reg - 4 < 4 && !(d->insn->prefix & X86_PFX_REX)) {
        o->reg = (uint8_t)(reg - 4);
        o->high = true;
    }
}

static inline void set_vec(struct x86_opnd *o, unsigned reg, unsigned size,
                           unsigned l)
{
    bool ymm = size == SZ_qq || ((size == SZ_x || size == SZ_xdup) && l);

    o->kind = ymm ? X86_OPND_YMM : X86_OPND_XMM;
    o->size = ymm ? 32 : 16;
    o->reg = (uint8_t)reg;
}

/* An immediate of @len bytes at the cursor, sign-extended. */
static inline uint64_t take_simm(struct dec *d, unsigned len)
{
    const uint8_t *p = d->b + d->at;

    d->at += len;
    d->insn->imm_len += (uint8_t)len;
    switch (len) {
    case 1:
        return (uint64_t)(int64_t)(int8_t)p[0];
    case 2:
        return (uint64_t)(int64_t)(int16_t)ld16(p);
    case 4:
        return (uint64_t)(int64_t)(int32_t)ld32(p);
    default:
        return ld64(p);
    }
}

static void set_imm(struct dec *d, struct x86_opnd *o, unsigned slot)
{
    struct x86_insn *i = d->insn;
    unsigned z = i->opsize == 2 ? 2 : 4;

    o->kind = X86_OPND_IMM;
    switch (slot) {
    case SLOT_Ib:
        i->imm = (uint8_t)take_simm(d, 1);
        break;
    case SLOT_Ibs:
        i->imm = take_simm(d, 1);
        break;
    case SLOT_Iw:
        i->imm = (uint16_t)take_simm(d, 2);
        break;
    case SLOT_Iz:
        i->imm = take_simm(d, z);
        break;
    case SLOT_Iv:
        i->imm = take_simm(d, i->opsize);
        break;
    case SLOT_Iap:
        i->imm = take_simm(d, z);
        i->imm &= z == 2 ? 0xffff : 0xffffffff;
        break;
    case SLOT_Ib2:
        o->kind = X86_OPND_IMM2;
        i->imm2 = (uint8_t)take_simm(d, 1);
        break;
    case SLOT_Iw2:
        o->kind = X86_OPND_IMM2;
        i->imm2 = (uint16_t)take_simm(d, 2);
        break;
    case SLOT_Jb:
        o->kind = X86_OPND_REL;
        i->imm = take_simm(d, 1);
        break;
    default: /* SLOT_Jz */
        o->kind = X86_OPND_REL;
        i->imm = take_simm(d, z);
        break;
    }
}

static void set_moffs(struct dec *d, struct x86_opnd *o)
{
    struct x86_insn *i = d->insn;
    const uint8_t *p = d->b + d->at;

    o->kind = X86_OPND_MEM;
    i->disp_len = i->adsize;
    d->at += i->adsize;
    i->disp = i->adsize == 2   ? ld16(p)
              : i->adsize == 4 ? ld32(p)
                               : (int64_t)ld64(p);
}

/* Control registers that exist: 0 2 3 4 8; debug registers 0-7. */
static bool set_crdr(struct x86_opnd *o, unsigned slot, unsigned reg)
{
    o->kind = slot == SLOT_C ? X86_OPND_CR : X86_OPND_DR;
    o->reg = (uint8_t)reg;
    return slot == SLOT_C ? reg <= 8 && (0x11d >> reg & 1) : reg < 8;
}

static bool set_vsib(const struct dec *d, struct x86_opnd *o)
{
    struct x86_insn *i = d->insn;

    if ((i->modrm & 7) != 4 || i->adsize == 2)
        return false;
    o->kind = X86_OPND_VSIB;
    i->index = (uint8_t)((i->sib >> 3 & 7) | (i->rex & 2) << 2);
    o->reg = i->index;
    return true;
}

/* Fills one operand; size already stands in @o. Returns false: #UD. */
static inline bool set_opnd(struct dec *d, struct x86_opnd *o, unsigned slot,
                            unsigned size)
{
    struct x86_insn *i = d->insn;
    bool reg_form = i->modrm >= 0xc0;

    switch ((enum slot)slot) {
    case SLOT_E:
        if (reg_form)
            set_gpr(d, o, i->rm);
        else
            o->kind = X86_OPND_MEM;
        return true;
    case SLOT_G:
        set_gpr(d, o, i->reg);
        return true;
    case SLOT_EMw:
    case SLOT_EMy:
    case SLOT_EMb:
    case SLOT_EMd:
        if (reg_form) {
            set_gpr(d, o, i->rm);
            return true;
        }
        o->kind = X86_OPND_MEM;
        o->size = slot == SLOT_EMw ? 2 : slot == SLOT_EMb ? 1 : 4;
        return true;
    case SLOT_Z:
        set_gpr(d, o, (i->opcode & 7u) | (i->rex & 1u) << 3);
        return true;
    case SLOT_B:
        d->vvvv_used = true;
        set_gpr(d, o, d->m64 ? i->vvvv : i->vvvv & 7);
        return true;
    case SLOT_R:
        set_gpr(d, o, i->rm);
        return true;
    case SLOT_M:
        o->kind = X86_OPND_MEM;
        return true;
    case SLOT_rA:
    case SLOT_rC:
    case SLOT_rD:
        o->kind = X86_OPND_GPR;
        o->reg = (uint8_t)(slot - SLOT_rA);
        return true;
    case SLOT_sES:
    case SLOT_sCS:
    case SLOT_sSS:
    case SLOT_sDS:
    case SLOT_sFS:
    case SLOT_sGS:
        o->kind = X86_OPND_SEG;
        o->reg = (uint8_t)(slot - SLOT_sES);
        return true;
    case SLOT_One:
        o->kind = X86_OPND_ONE;
        return true;
    case SLOT_Ib:
    case SLOT_Ibs:
    case SLOT_Iw:
    case SLOT_Iz:
    case SLOT_Iv:
    case SLOT_Ib2:
    case SLOT_Jb:
    case SLOT_Jz:
    case SLOT_Iap:
    case SLOT_Iw2:
        set_imm(d, o, slot);
        return true;
    case SLOT_O:
        set_moffs(d, o);
        return true;
    case SLOT_X:
        o->kind = X86_OPND_STRSRC;
        return true;
    case SLOT_Y:
        o->kind = X86_OPND_STRDST;
        return true;
    case SLOT_T:
        o->kind = X86_OPND_XLAT;
        return true;
    case SLOT_S:
        o->kind = X86_OPND_SEG;
        o->reg = i->reg & 7;
        return true;
    case SLOT_C:
    case SLOT_D:
        return set_crdr(o, slot, i->reg);
    case SLOT_ST0:
    case SLOT_STi:
        o->kind = X86_OPND_ST;
        o->reg = slot == SLOT_STi ? i->modrm & 7 : 0;
        return true;
    case SLOT_Q:
    case SLOT_N:
        if (!reg_form) {
            o->kind = X86_OPND_MEM;
            return true;
        }
        o->kind = X86_OPND_MMX;
        o->reg = i->modrm & 7;
        o->size = 8;
        return true;
    case SLOT_P:
        o->kind = X86_OPND_MMX;
        o->reg = i->reg & 7;
        o->size = 8;
        return true;
    case SLOT_V:
        set_vec(o, i->reg, size, i->vex_l);
        return true;
    case SLOT_H:
        d->vvvv_used = true;
        set_vec(o, d->m64 ? i->vvvv : i->vvvv & 7, size, i->vex_l);
        return true;
    case SLOT_W:
    case SLOT_U:
        if (!reg_form) {
            o->kind = X86_OPND_MEM;
            return true;
        }
        set_vec(o, i->rm, size, i->vex_l);
        return true;
    case SLOT_L: {
        unsigned reg = d->b[d->at] >> 4;
        i->imm = (uint8_t)take_simm(d, 1);
        set_vec(o, d->m64 ? reg : reg & 7, size, i->vex_l);
        return true;
    }
    case SLOT_VMX:
    case SLOT_VMx:
    case SLOT_VMy:
        return set_vsib(d, o);
    }
    return false;
}

/* A gather's destination, index and mask must be three registers. */
static bool gather_regs_differ(const struct x86_insn *i)
{
    unsigned v = i->opnd[0].reg, x = i->opnd[1].reg, m = i->opnd[2].reg;
    return v != x && v != m && x != m;
}

bool dec_opnds(struct dec *d, const struct dec_form *f)
{
    struct x86_insn *i = d->insn;
    unsigned n = f->nopnds;

    i->nopnds = (uint8_t)n;
    for (unsigned k = 0; k < n; k++) {
        struct x86_opnd *o = &i->opnd[k];
        unsigned size = f->opnd[k].size;
        o->reg = 0;
        o->high = false;
        o->size = (uint16_t)size_of(d, size);
        o->access = f->opnd[k].access;
        if (!set_opnd(d, o, f->opnd[k].slot, size))
            return false;
    }
    if (UNLIKELY(n == 3 && i->opnd[1].kind == X86_OPND_VSIB))
        return gather_regs_differ(i);
    return true;
}
