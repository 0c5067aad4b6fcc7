// SPDX-License-Identifier: Apache-2.0
/*
 * The x86 decoder: prefixes, opcode, form look-up, ModRM, operands. The forms
 * come from insn.def by way of the generated decode_tables.h. Every byte
 * string has an answer; bytes past the given end read as zero and are noticed
 * by position, so that the path has no bounds checks (see dec_verdict()).
 * Source: Intel SDM vol. 2, 2.1-2.3 and appendix A.
 */
#include "cpu/x86/decode.h"

#include "cpu/x86/decode_priv.h"

/* One node of the form look-up: leaf = base + sum of field * mul[field]. */
struct dec_node {
    uint32_t base;
    uint16_t mul[7]; /* 64-bit mode, prefix, mod==3, reg, rm, W, REX.B/VEX.L */
};

#include "cpu/x86/decode_tables.h" /* generated */

enum pfx_class {
    PC_NONE,
    PC_REX,
    PC_SEG,
    PC_OSZ,
    PC_ASZ,
    PC_LOCK,
    PC_REP,
    PC_REPNE
};

static const uint8_t pfx_class[256] = {
    [0x26] = PC_SEG,   [0x2e] = PC_SEG, [0x36] = PC_SEG,
    [0x3e] = PC_SEG,   [0x64] = PC_SEG, [0x65] = PC_SEG,
    [0x66] = PC_OSZ,   [0x67] = PC_ASZ, [0xf0] = PC_LOCK,
    [0xf2] = PC_REPNE, [0xf3] = PC_REP, [0x40 ... 0x4f] = PC_REX,
};

/* Reads all prefixes. Returns false when no opcode comes within 15 bytes. */
static bool dec_prefixes(struct dec *d)
{
    struct x86_insn *i = d->insn;
    unsigned at = 0, prefix = 0, rex = 0, seg = X86_SEG_DS;

    for (;; at++) {
        unsigned c = d->b[at], cls = pfx_class[c];
        if (LIKELY(cls == PC_NONE))
            break;
        if (cls == PC_REX) {
            if (!d->m64)
                break;
            rex = c;
        } else {
            rex = 0;
            switch (cls) {
            case PC_SEG:
                if (d->m64 && c < 0x64)
                    break;
                seg = c >= 0x64 ? c - 0x60 : (c >> 3) & 3;
                prefix |= X86_PFX_SEG;
                break;
            case PC_OSZ:
                prefix |= X86_PFX_OSZ;
                break;
            case PC_ASZ:
                prefix |= X86_PFX_ASZ;
                break;
            case PC_LOCK:
                prefix |= X86_PFX_LOCK;
                break;
            default:
                prefix &= ~(unsigned)(X86_PFX_REP | X86_PFX_REPNE);
                prefix |= cls == PC_REP ? X86_PFX_REP : X86_PFX_REPNE;
            }
        }
        if (at + 1 >= X86_INSN_MAX_BYTES) {
            d->at = X86_INSN_MAX_BYTES + 1;
            return false;
        }
    }
    d->at = at;
    d->seg_given = prefix & X86_PFX_SEG;
    i->prefix = (uint8_t)(prefix | (rex ? X86_PFX_REX : 0));
    i->rex = rex & 15;
    i->seg = (uint8_t)seg;
    return true;
}

/* Opcode map of a legacy opcode; consumes escape bytes and the opcode. */
static void dec_legacy_opcode(struct dec *d)
{
    struct x86_insn *i = d->insn;
    unsigned c = d->b[d->at++], map = X86_MAP_1B;

    if (c == 0x0f) {
        c = d->b[d->at++];
        map = X86_MAP_0F;
        if (UNLIKELY((c & 0xf8) == 0x38)) {
            /* 39 and 3B-3F are escapes too, to maps that hold nothing */
            map = (0x33u >> (c & 7) & 1) ? X86_MAP_0F38 : X86_MAP_0F3A;
            d->ud = c != 0x38 && c != 0x3a;
            c = d->b[d->at++];
        }
    }
    i->enc = X86_ENC_LEGACY;
    i->map = (uint8_t)map;
    i->opcode = (uint8_t)c;
    i->vex_l = 0;
    i->vvvv = 0;
    i->pp = i->prefix & X86_PFX_REP     ? 2
            : i->prefix & X86_PFX_REPNE ? 3
            : i->prefix & X86_PFX_OSZ   ? 1
                                        : 0;
}

static void dec_mem16(struct dec *d)
{
    static const uint8_t base[8] = {3, 3, 5, 5, 6, 7, 5, 3};
    static const uint8_t index[8] = {
        6, 7, 6, 7, X86_REG_NONE, X86_REG_NONE, X86_REG_NONE, X86_REG_NONE};
    struct x86_insn *i = d->insn;
    unsigned mod = i->modrm >> 6, rm = i->modrm & 7;

    i->base = base[rm];
    i->index = index[rm];
    i->scale = 0;
    i->disp_len = (uint8_t)mod;
    i->disp = 0;
    if (mod == 0 && rm == 6) {
        i->base = X86_REG_NONE;
        i->disp_len = 2;
    }
    if (i->disp_len == 1)
        i->disp = (int8_t)d->b[d->at];
    else if (i->disp_len == 2)
        i->disp = (int16_t)ld16(d->b + d->at);
    d->at += i->disp_len;
    if (i->base == 5 && !d->seg_given)
        i->seg = X86_SEG_SS;
}

static inline void dec_mem32(struct dec *d)
{
    struct x86_insn *i = d->insn;
    unsigned mod = i->modrm >> 6, rm = i->modrm & 7, rex = i->rex;
    unsigned base = rm | (rex & 1) << 3, index = X86_REG_NONE, scale = 0;
    unsigned disp_len = mod == 2 ? 4 : mod;

    if (rm == 4) {
        unsigned sib = d->b[d->at++];
        i->sib = (uint8_t)sib;
        rm = sib & 7;
        base = rm | (rex & 1) << 3;
        index = (sib >> 3 & 7) | (rex & 2) << 2;
        scale = sib >> 6;
        if (index == 4)
            index = X86_REG_NONE;
        if (rm == 5 && mod == 0) {
            base = X86_REG_NONE;
            disp_len = 4;
        }
    } else if (rm == 5 && mod == 0) {
        base = d->m64 ? X86_REG_RIP : X86_REG_NONE;
        disp_len = 4;
    }
    i->base = (uint8_t)base;
    i->index = (uint8_t)index;
    i->scale = (uint8_t)scale;
    i->disp_len = (uint8_t)disp_len;
    if (disp_len == 0)
        i->disp = 0;
    else if (disp_len == 1)
        i->disp = (int8_t)d->b[d->at];
    else
        i->disp = (int32_t)ld32(d->b + d->at);
    d->at += disp_len;
    if ((base == 4 || base == 5) && !d->seg_given)
        i->seg = X86_SEG_SS;
}

static inline void dec_mem(struct dec *d)
{
    if (LIKELY(d->insn->adsize != 2))
        dec_mem32(d);
    else
        dec_mem16(d);
}

/* VEX or EVEX with a map that is 0 modulo 4 (the CPU looks at two bits) is
 * measured as LES, LDS or BOUND with the second byte as ModRM; then #UD. */
static COLD NOINLINE bool dec_vex_bad_map(struct dec *d)
{
    struct x86_insn *i = d->insn;

    i->modrm = d->b[d->at - 1];
    if (i->modrm < 0xc0)
        dec_mem(d);
    return false;
}

/* C4 or C5 and what follows, to the opcode. Returns false: #UD. */
static bool dec_vex_opcode(struct dec *d)
{
    struct x86_insn *i = d->insn;
    bool three = d->b[d->at] == 0xc4;
    unsigned b1 = d->b[d->at + 1];
    unsigned b2 = three ? d->b[d->at + 2] : b1 & 0x7f;
    unsigned map = three ? b1 & 31 : X86_MAP_0F;

    d->at += 2;
    i->enc = X86_ENC_VEX;
    i->map = X86_MAP_1B;
    i->opcode = 0;
    if ((map & 3) == 0)
        return dec_vex_bad_map(d);
    d->ud = map > X86_MAP_0F3A;
    map &= 3;
    d->at += three ? 2 : 1;
    if (i->prefix & (X86_PFX_OSZ | X86_PFX_REP | X86_PFX_REPNE | X86_PFX_LOCK |
                     X86_PFX_REX))
        d->ud = true;
    i->map = (uint8_t)map;
    i->opcode = d->b[d->at - 1];
    i->rex = (uint8_t)((b2 >> 7) << 3 | (~b1 >> 7 & 1) << 2);
    if (three)
        i->rex |= (uint8_t)(~b1 >> 5 & 3);
    i->vvvv = ~b2 >> 3 & 15;
    i->vex_l = b2 >> 2 & 1;
    i->pp = b2 & 3;
    if (!d->m64)
        i->rex &= 8;
    return true;
}

/* EVEX is no instruction here (no AVX-512): reads it for its length. */
static bool dec_evex_opcode(struct dec *d)
{
    struct x86_insn *i = d->insn;
    unsigned map = d->b[d->at + 1] & 7;

    d->at += 2;
    i->enc = X86_ENC_EVEX;
    i->map = map & 3;
    i->opcode = 0;
    if ((map & 3) == 0)
        return dec_vex_bad_map(d);
    d->at += 3;
    d->ud = true;
    i->opcode = d->b[d->at - 1];
    return true;
}

/* The form of the opcode just read, or X86_FORM_INVALID. */
static inline unsigned dec_form_find(const struct dec *d)
{
    const struct x86_insn *i = d->insn;
    unsigned enc = i->enc, e = dec_entry[enc][i->map][i->opcode];
    unsigned pfx = i->pp, bl = i->vex_l;

    if (LIKELY(!(e & 0x8000)))
        return e;
    if (enc == X86_ENC_LEGACY) {
        if (pfx >= 2 && (i->prefix & X86_PFX_OSZ))
            pfx += 2;
        bl = i->rex & 1;
    }
    const struct dec_node *n = &dec_nodes[e & 0x7fff];
    const uint16_t *m = n->mul;
    unsigned leaf = n->base + d->m64 * m[0] + pfx * m[1] +
                    (i->modrm >= 0xc0) * m[2] + (i->modrm >> 3 & 7) * m[3] +
                    (i->modrm & 7) * m[4] + (i->rex >> 3) * m[5] + bl * m[6];
    return dec_leaves[leaf];
}

/* No form: the CPU still fetches ModRM, displacement and immediate before it
 * raises #UD, and a fault on the way comes first. Returns false. */
static COLD NOINLINE bool dec_ud_rest(struct dec *d)
{
    const struct x86_insn *i = d->insn;
    unsigned imm = dec_ud_imm[i->enc != 0][i->map][i->opcode];
    bool osz = i->enc == X86_ENC_LEGACY && (i->prefix & X86_PFX_OSZ);

    /* 0F 20-23, MOV CR and DR, have no memory operand, nor do they in VEX */
    if (i->has_modrm && i->modrm < 0xc0 &&
        !(i->map == X86_MAP_0F && (i->opcode & 0xfc) == 0x20))
        dec_mem(d);
    if (imm >= 4) {
        bool word = (i->opsize == 2) != osz && !(d->m64 && i->rex & 8);
        imm = (imm == 5 ? 2 : 0) + (word ? 2 : 4);
    }
    d->at += imm;
    return false;
}

static inline void dec_sizes(struct dec *d, unsigned flags)
{
    struct x86_insn *i = d->insn;
    bool osz = i->prefix & X86_PFX_OSZ;
    unsigned os;

    if (d->m64) {
        os = (i->rex & 8) || (flags & DF_F64) ? 2
             : osz                            ? 0
             : (flags & DF_D64)               ? 2
                                              : 1;
    } else {
        os = (i->opsize == 4) != osz;
    }
    i->opsize = (uint8_t)(2u << os);
    d->ctx = os + 3u * i->vex_l + 6u * d->m64;
}

static enum x86_dec dec_verdict(struct dec *d, size_t n, bool ud)
{
    d->insn->len = (uint8_t)d->at;
    if (LIKELY(d->at <= n && d->at <= X86_INSN_MAX_BYTES))
        return ud ? X86_DEC_UD : X86_DEC_OK;
    if (n >= X86_INSN_MAX_BYTES) {
        d->insn->len = X86_INSN_MAX_BYTES;
        return X86_DEC_TOO_LONG;
    }
    d->insn->len = (uint8_t)n;
    return X86_DEC_MORE;
}

/* From the opcode on; prefixes are read. Returns false: #UD. */
static bool dec_body(struct dec *d, enum x86_mode mode)
{
    struct x86_insn *i = d->insn;
    unsigned c = d->b[d->at];
    bool asz = i->prefix & X86_PFX_ASZ;

    i->adsize = d->m64 ? (asz ? 4 : 8) : (mode == X86_MODE_32) != asz ? 4 : 2;
    i->opsize = mode == X86_MODE_16 ? 2 : 4;
    i->imm_len = 0;
    i->imm = 0;
    i->base = X86_REG_NONE;
    i->index = X86_REG_NONE;
    i->disp_len = 0;
    i->disp = 0;
    if (UNLIKELY((c & 0xfe) == 0xc4 || c == 0x62) &&
        (d->m64 || d->b[d->at + 1] >= 0xc0)) {
        if (c == 0x62 ? !dec_evex_opcode(d) : !dec_vex_opcode(d))
            return false;
    } else {
        dec_legacy_opcode(d);
    }
    i->has_modrm = dec_modrm[i->enc != 0][i->map][i->opcode];
    i->modrm = 0;
    if (i->has_modrm)
        i->modrm = d->b[d->at++];
    i->reg = (uint8_t)((i->modrm >> 3 & 7) | (i->rex & 4) << 1);
    i->rm = (uint8_t)((i->modrm & 7) | (i->rex & 1) << 3);
    if (UNLIKELY(i->enc == X86_ENC_EVEX))
        return dec_ud_rest(d);
    i->form = (uint16_t)dec_form_find(d);
    if (UNLIKELY(i->form == X86_FORM_INVALID))
        return dec_ud_rest(d);

    const struct dec_form *f = &dec_forms[i->form];
    i->op = f->op;
    if (i->has_modrm && i->modrm < 0xc0 && !(f->flags & DF_MODREG))
        dec_mem(d);
    dec_sizes(d, f->flags);
    if (!dec_opnds(d, f) || (i->vvvv && !d->vvvv_used) || d->ud)
        return false;
    if (UNLIKELY(i->prefix & X86_PFX_LOCK))
        return (f->flags & DF_LOCK) && i->opnd[0].kind == X86_OPND_MEM;
    return true;
}

static inline enum x86_dec dec_run(const uint8_t *bytes, size_t n,
                                   enum x86_mode mode, struct x86_insn *insn)
{
    struct dec d = {.b = bytes, .m64 = mode == X86_MODE_64, .insn = insn};
    bool ok = dec_prefixes(&d) && dec_body(&d, mode);

    return dec_verdict(&d, n, !ok);
}

/* Fewer bytes than the decoder may touch: work on a zero-padded copy. */
static NOINLINE enum x86_dec dec_run_copy(const uint8_t *bytes, size_t n,
                                          enum x86_mode mode,
                                          struct x86_insn *insn)
{
    uint8_t copy[DEC_TOUCH];

    if (n > X86_INSN_MAX_BYTES)
        n = X86_INSN_MAX_BYTES;
    memset(copy, 0, sizeof(copy));
    if (n > 0)
        memcpy(copy, bytes, n);
    return dec_run(copy, n, mode, insn);
}

enum x86_dec x86_decode(const uint8_t *bytes, size_t n, enum x86_mode mode,
                        struct x86_insn *insn)
{
    if (LIKELY(n >= DEC_TOUCH))
        return dec_run(bytes, n, mode, insn);
    return dec_run_copy(bytes, n, mode, insn);
}
