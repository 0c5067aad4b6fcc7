// SPDX-License-Identifier: Apache-2.0
/*
 * Host instructions as bytes: the few that the rewriter adds of its own, and
 * guest instructions encoded anew from their decoded fields. Everything is
 * position independent; GS-relative operands reach struct bt.
 */
#ifndef DOPPEL_ENGINE_BT_EMIT_H
#define DOPPEL_ENGINE_BT_EMIT_H

#include "cpu/x86/insn.h"
#include "cpu/x86/state.h"

#include <string.h>

#define CC_A  7
#define CC_C  2
#define CC_E  4
#define CC_NE 5

struct emit {
    uint8_t *base; /* offset 0, writable alias */
    uint32_t at;   /* offset of the next byte */
};

static inline void e8(struct emit *e, unsigned v)
{
    e->base[e->at++] = (uint8_t)v;
}

static inline void e32(struct emit *e, uint32_t v)
{
    memcpy(e->base + e->at, &v, 4);
    e->at += 4;
}

static inline void e64(struct emit *e, uint64_t v)
{
    memcpy(e->base + e->at, &v, 8);
    e->at += 8;
}

/* The first @n bytes of @v, at once: what follows is written over by the next.
 */
static inline void e_put(struct emit *e, uint64_t v, unsigned n)
{
    memcpy(e->base + e->at, &v, 8);
    e->at += n;
}

/* Five bytes, then a displacement. */
static inline void e_five(struct emit *e, uint64_t v, uint32_t disp)
{
    e_put(e, v, 5);
    e32(e, disp);
}

/* op r, gs:[disp] with REX.W */
static inline void e_gs_op(struct emit *e, unsigned opcode, unsigned r,
                           unsigned disp)
{
    e_five(e,
           UINT64_C(0x2504004865) | (uint64_t)((r >> 3) << 2) << 8 |
               (uint64_t)opcode << 16 | (uint64_t)((r & 7) << 3) << 24,
           disp);
}

static inline void e_save(struct emit *e, unsigned r, unsigned disp)
{
    e_gs_op(e, 0x89, r, disp);
}

static inline void e_load(struct emit *e, unsigned r, unsigned disp)
{
    e_gs_op(e, 0x8b, r, disp);
}

/* op r, gs:[idx*8+disp] with REX.W */
static inline void e_gsx_op(struct emit *e, unsigned opcode, unsigned r,
                            unsigned idx, unsigned disp)
{
    e_five(e,
           UINT64_C(0xc504004865) |
               (uint64_t)((r >> 3) << 2 | (idx >> 3) << 1) << 8 |
               (uint64_t)opcode << 16 | (uint64_t)((r & 7) << 3) << 24 |
               (uint64_t)((idx & 7) << 3) << 32,
           disp);
}

/* pext dst, src, gs:[disp] */
static inline void e_pext(struct emit *e, unsigned dst, unsigned src,
                          unsigned disp)
{
    e_put(e,
          UINT64_C(0x2504f58262c465) | (uint64_t)(dst < 8 ? 0x80 : 0) << 16 |
              (uint64_t)((~src & 15) << 3) << 24 |
              (uint64_t)((dst & 7) << 3) << 40,
          7);
    e32(e, disp);
}

/* rorx dst, src, n: no flag is touched */
static inline void e_rorx(struct emit *e, unsigned dst, unsigned src,
                          unsigned n)
{
    e_put(e,
          UINT64_C(0xc0f0fb43c4) |
              (uint64_t)((dst < 8 ? 0x80 : 0) | (src < 8 ? 0x20 : 0)) << 8 |
              (uint64_t)((dst & 7) << 3 | (src & 7)) << 32 | (uint64_t)n << 40,
          6);
}

/* movzx dst, low byte of r: 32 bits */
static inline void e_movzx8(struct emit *e, unsigned dst, unsigned r)
{
    e_put(e,
          UINT64_C(0xc0b60f40) | (dst >> 3) << 2 | r >> 3 |
              (uint64_t)((dst & 7) << 3 | (r & 7)) << 24,
          4);
}

static inline void e_mov_imm(struct emit *e, unsigned r, uint64_t v)
{
    if (v <= UINT32_MAX) {
        if (r >= 8)
            e8(e, 0x41);
        e8(e, 0xb8 | (r & 7));
        e32(e, (uint32_t)v);
    } else if ((uint64_t)(int64_t)(int32_t)v == v) {
        e8(e, 0x48 | r >> 3);
        e8(e, 0xc7);
        e8(e, 0xc0 | (r & 7));
        e32(e, (uint32_t)v);
    } else {
        e8(e, 0x48 | r >> 3);
        e8(e, 0xb8 | (r & 7));
        e64(e, v);
    }
}

static inline void e_mov(struct emit *e, unsigned dst, unsigned src)
{
    e_put(e,
          UINT64_C(0xc08948) | (src >> 3) << 2 | dst >> 3 |
              (uint64_t)((src & 7) << 3 | (dst & 7)) << 16,
          3);
}

/** e_lea() - lea dst, [base + index << scale + disp]; X86_REG_NONE: absent
 * @wide: 64 bits, else 32 zero-extended */
void e_lea(struct emit *e, unsigned dst, unsigned base, unsigned index,
           unsigned scale, int32_t disp, bool wide);

static inline void e_cmp_imm(struct emit *e, unsigned r, uint32_t imm)
{
    e_put(e,
          UINT64_C(0xf88148) | r >> 3 | (uint64_t)(r & 7) << 16 |
              (uint64_t)imm << 24,
          7);
}

/* jcc rel32, jmp rel32: Return: offset of the rel32. */
static inline uint32_t e_jcc(struct emit *e, unsigned cc)
{
    e_put(e, UINT64_C(0x800f) | cc << 8, 6);
    return e->at - 4;
}

static inline uint32_t e_jmp(struct emit *e)
{
    e8(e, 0xe9);
    e32(e, 0);
    return e->at - 4;
}

/* dst += src + CF, and CF alone is changed: it comes out, the old one stands in
 * bit 0 if that was 0. */
static inline void e_adcx(struct emit *e, unsigned dst, unsigned src)
{
    e_put(e,
          UINT64_C(0xc0f6380f4866) |
              (uint64_t)((dst >> 3) << 2 | src >> 3) << 8 |
              (uint64_t)((dst & 7) << 3 | (src & 7)) << 40,
          6);
}

/* The same with what rip + ... leads to @at. */
static inline void e_adcx_rip(struct emit *e, unsigned dst, uint32_t at)
{
    e_put(e,
          UINT64_C(0x05f6380f4866) | (uint64_t)((dst >> 3) << 2) << 8 |
              (uint64_t)((dst & 7) << 3) << 40,
          6);
    e32(e, at - (e->at + 4));
}

/* CF is bit 0 of @r, which is lost: rorx r, r, 1; adcx r, r */
static inline void e_carry_back(struct emit *e, unsigned r)
{
    e_rorx(e, r, r, 1);
    e_adcx(e, r, r);
}

/* jrcxz rel8. Return: offset of the rel8. */
static inline uint32_t e_jrcxz(struct emit *e)
{
    e8(e, 0xe3);
    e8(e, 0);
    return e->at - 1;
}

static inline void e_patch8(struct emit *e, uint32_t at)
{
    e->base[at] = (uint8_t)(e->at - at - 1);
}

static inline void e_patch32(struct emit *e, uint32_t at, uint32_t to)
{
    uint32_t rel = to - at - 4;

    memcpy(e->base + at, &rel, 4);
}

static inline void e_jmp_gs(struct emit *e, unsigned disp)
{
    e_put(e, UINT64_C(0x2524ff65) | (uint64_t)disp << 32, 8);
}

/* mov dword gs:[disp], imm */
static inline void e_gs_imm(struct emit *e, unsigned disp, uint32_t imm)
{
    e_put(e, UINT64_C(0x2504c765) | (uint64_t)disp << 32, 8);
    e32(e, imm);
}

/* cmp dword gs:[disp+4], 0 */
static inline void e_gs_cmp0(struct emit *e, unsigned disp)
{
    e8(e, 0x65);
    e8(e, 0x83);
    e8(e, 0x3c);
    e8(e, 0x25);
    e32(e, disp + 4);
    e8(e, 0);
}

#define E_SCALED(r, shift) ((unsigned)(r) | (unsigned)(shift) << 8)

/** e_modrm_mem() - ModRM, SIB, displacement of [base + index + disp]
 * X86_REG_NONE: absent; not both. E_SCALED(r, shift) may be an index. The REX
 * bits are the caller's. */
void e_modrm_mem(struct emit *e, unsigned reg, unsigned base, unsigned index,
                 int32_t disp);
/** e_mem_op() - opcode r, [base + index + disp] with REX.W */
void e_mem_op(struct emit *e, unsigned opcode, unsigned r, unsigned base,
              unsigned index, int32_t disp);

/** bt_thunks() - the code that blocks share, from offset 0 on: thunk.c */
void bt_thunks(struct emit *e);

/** e_insn() - @insn anew, its memory operand, if it has one, being [base +
 * index + disp]; both X86_REG_NONE: it has none
 * Without REX (AH and kin) base and index must be below 8. */
void e_insn(struct emit *e, const struct x86_insn *insn, unsigned base,
            unsigned index, int32_t disp);

/** e_insn_sub() - make @insn name register @to where it names @from as a
 * general register operand */
void e_insn_sub(struct x86_insn *insn, unsigned from, unsigned to);

/* jmp [rip + what leads to @at] */
static inline void e_jmp_rip(struct emit *e, uint32_t at)
{
    e8(e, 0xff);
    e8(e, 0x25);
    e32(e, at - (e->at + 4));
}

/* op r, [rip + what leads to @at] with REX.W */
static inline void e_rip_op(struct emit *e, unsigned opcode, unsigned r,
                            uint32_t at)
{
    e8(e, 0x48 | (r >> 3) << 2);
    e8(e, opcode);
    e8(e, 0x05 | (r & 7) << 3);
    e32(e, at - (e->at + 4));
}

/* jmp gs:[idx*8 + disp] */
static inline void e_jmp_gsx(struct emit *e, unsigned idx, unsigned disp)
{
    e8(e, 0x65);
    if (idx >= 8)
        e8(e, 0x42);
    e8(e, 0xff);
    e8(e, 0x24);
    e8(e, 0xc5 | (idx & 7) << 3);
    e32(e, disp);
}

#endif
