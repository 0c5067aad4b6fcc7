// SPDX-License-Identifier: Apache-2.0
/*
 * Arithmetic by the host's own instructions. Each function executes the
 * instruction it is named after at the operand size asked for and hands back
 * the host's flags, so that results and flags that the manual leaves undefined
 * are those of this CPU.
 *
 * Flags travel packed as LAHF and SETO leave them in AX: bits 15-8 are
 * SF ZF 0 AF 0 PF 1 CF, bits 7-0 are OF. LAHF and SAHF are written as bytes:
 * not every assembler takes the names in 64-bit code. No PUSHF: it costs
 * fifteen times as much, and writes below the stack pointer.
 *
 * Results may hold anything above the operand size; who stores them cuts them.
 * The macros exist because one instruction at four sizes is four asm
 * statements. Source: Intel SDM vol. 2.
 */
#ifndef DOPPEL_ENGINE_INTERP_ALU_H
#define DOPPEL_ENGINE_INTERP_ALU_H

#include "base/cc.h"
#include "cpu/x86/state.h"

#include <stdint.h>

static ALWAYS_INLINE uint32_t fl_pack(uint64_t rflags)
{
    return (uint32_t)((rflags & 0xd5) << 8 | (rflags >> 11 & 1));
}

static ALWAYS_INLINE uint64_t fl_merge(uint64_t rflags, uint32_t p)
{
    return (rflags & ~X86_FL_ARITH) | (p >> 8 & 0xd5) | (uint64_t)(p & 1) << 11;
}

#define ALU_OUT ".byte 0x9f\n\tseto %%al"
#define ALU_IN  "addb $0x7f, %%al\n\t.byte 0x9e\n\t"

#define ALU_SIZES(X)                                                           \
    switch (size) {                                                            \
    case 8:                                                                    \
        X("q", "q");                                                           \
        break;                                                                 \
    case 4:                                                                    \
        X("l", "k");                                                           \
        break;                                                                 \
    case 2:                                                                    \
        X("w", "w");                                                           \
        break;                                                                 \
    default:                                                                   \
        X("b", "b");                                                           \
        break;                                                                 \
    }

/* a op= b; all flags are results */
#define ALU_BIN(name, insn)                                                    \
    static ALWAYS_INLINE uint64_t name(uint64_t a, uint64_t b, unsigned size,  \
                                       uint32_t *fl)                           \
    {                                                                          \
        uint32_t f;                                                            \
        ALU_SIZES(ALU_BIN_##insn)                                              \
        *fl = f;                                                               \
        return a;                                                              \
    }
#define ALU_BIN_ASM(insn, s, m)                                                \
    asm(insn s " %" m "[b], %" m "[a]\n\t" ALU_OUT                             \
        : [a] "+r"(a), "=&a"(f)                                                \
        : [b] "r"(b)                                                           \
        : "cc")
#define ALU_BIN_add(s, m) ALU_BIN_ASM("add", s, m)
#define ALU_BIN_or(s, m)  ALU_BIN_ASM("or", s, m)
#define ALU_BIN_and(s, m) ALU_BIN_ASM("and", s, m)
#define ALU_BIN_sub(s, m) ALU_BIN_ASM("sub", s, m)
#define ALU_BIN_xor(s, m) ALU_BIN_ASM("xor", s, m)
ALU_BIN(alu_add, add)
ALU_BIN(alu_or, or)
ALU_BIN(alu_and, and)
ALU_BIN(alu_sub, sub)
ALU_BIN(alu_xor, xor)

/* a op= b; flags go in and come out */
#define ALU_BINF(name, insn)                                                   \
    static ALWAYS_INLINE uint64_t name(uint64_t a, uint64_t b, unsigned size,  \
                                       uint32_t *fl)                           \
    {                                                                          \
        uint32_t f = *fl;                                                      \
        ALU_SIZES(ALU_BINF_##insn)                                             \
        *fl = f;                                                               \
        return a;                                                              \
    }
#define ALU_BINF_ASM(insn, s, m)                                               \
    asm(ALU_IN insn s " %" m "[b], %" m "[a]\n\t" ALU_OUT                      \
        : [a] "+r"(a), "+&a"(f)                                                \
        : [b] "r"(b)                                                           \
        : "cc")
#define ALU_BINF_adc(s, m) ALU_BINF_ASM("adc", s, m)
#define ALU_BINF_sbb(s, m) ALU_BINF_ASM("sbb", s, m)
ALU_BINF(alu_adc, adc)
ALU_BINF(alu_sbb, sbb)

/* a = op a; flags go in and come out */
#define ALU_UN(name, insn)                                                     \
    static ALWAYS_INLINE uint64_t name(uint64_t a, unsigned size,              \
                                       uint32_t *fl)                           \
    {                                                                          \
        uint32_t f = *fl;                                                      \
        ALU_SIZES(ALU_UN_##insn)                                               \
        *fl = f;                                                               \
        return a;                                                              \
    }
#define ALU_UN_ASM(insn, s, m)                                                 \
    asm(ALU_IN insn s " %" m "[a]\n\t" ALU_OUT                                 \
        : [a] "+r"(a), "+&a"(f)                                                \
        :                                                                      \
        : "c"                                                                  \
          "c")
#define ALU_UN_inc(s, m) ALU_UN_ASM("inc", s, m)
#define ALU_UN_dec(s, m) ALU_UN_ASM("dec", s, m)
#define ALU_UN_neg(s, m) ALU_UN_ASM("neg", s, m)
ALU_UN(alu_inc, inc)
ALU_UN(alu_dec, dec)
ALU_UN(alu_neg, neg)

/* a op= cl; a count of 0 leaves the flags, as in hardware */
#define ALU_SHIFT(name, insn)                                                  \
    static ALWAYS_INLINE uint64_t name(uint64_t a, uint64_t n, unsigned size,  \
                                       uint32_t *fl)                           \
    {                                                                          \
        uint32_t f = *fl;                                                      \
        ALU_SIZES(ALU_SHIFT_##insn)                                            \
        *fl = f;                                                               \
        return a;                                                              \
    }
#define ALU_SHIFT_ASM(insn, s, m)                                              \
    asm(ALU_IN insn s " %%cl, %" m "[a]\n\t" ALU_OUT                           \
        : [a] "+r"(a), "+&a"(f)                                                \
        : "c"(n)                                                               \
        : "cc")
#define ALU_SHIFT_rol(s, m) ALU_SHIFT_ASM("rol", s, m)
#define ALU_SHIFT_ror(s, m) ALU_SHIFT_ASM("ror", s, m)
#define ALU_SHIFT_rcl(s, m) ALU_SHIFT_ASM("rcl", s, m)
#define ALU_SHIFT_rcr(s, m) ALU_SHIFT_ASM("rcr", s, m)
#define ALU_SHIFT_shl(s, m) ALU_SHIFT_ASM("shl", s, m)
#define ALU_SHIFT_shr(s, m) ALU_SHIFT_ASM("shr", s, m)
#define ALU_SHIFT_sar(s, m) ALU_SHIFT_ASM("sar", s, m)
ALU_SHIFT(alu_rol, rol)
ALU_SHIFT(alu_ror, ror)
ALU_SHIFT(alu_rcl, rcl)
ALU_SHIFT(alu_rcr, rcr)
ALU_SHIFT(alu_shl, shl)
ALU_SHIFT(alu_shr, shr)
ALU_SHIFT(alu_sar, sar)

/* Whether condition @cc (the opcode's low four bits) holds. SDM vol. 1 app. B:
 * bit 15 is made SF != OF; each pair of conditions is a mask of flags. */
static ALWAYS_INLINE bool fl_cond(uint64_t rflags, unsigned cc)
{
    static const uint16_t mask[8] = {0x800, 0x1, 0x40,   0x41,
                                     0x80,  0x4, 0x8000, 0x8040};
    uint64_t t = (rflags & 0xfff) | ((rflags << 8 ^ rflags << 4) & 0x8000);

    return ((t & mask[cc >> 1]) != 0) != (cc & 1);
}

/* alu.c: what is not hot. The last argument's flags go in and come out. */
typedef uint64_t (*alu2_fn)(uint64_t a, uint64_t b, unsigned size,
                            uint32_t *fl);

uint64_t alu_shld(uint64_t a, uint64_t b, unsigned n, unsigned size,
                  uint32_t *fl);
uint64_t alu_shrd(uint64_t a, uint64_t b, unsigned n, unsigned size,
                  uint32_t *fl);
/* One-operand MUL and IMUL: *hi:*lo = *lo * b (size 1: AX in *lo). */
void alu_mul(uint64_t *lo, uint64_t *hi, uint64_t b, unsigned size,
             uint32_t *fl);
void alu_imul(uint64_t *lo, uint64_t *hi, uint64_t b, unsigned size,
              uint32_t *fl);
/* Two-operand IMUL; size 2 4 8. */
uint64_t alu_imul2(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
/* DIV and IDIV of *hi:*lo (size 1: AX in *lo; quotient AL, remainder AH there)
 * Return: false, nothing done: #DE. */
bool alu_div(uint64_t *lo, uint64_t *hi, uint64_t b, unsigned size,
             uint32_t *fl);
bool alu_idiv(uint64_t *lo, uint64_t *hi, uint64_t b, unsigned size,
              uint32_t *fl);
uint64_t alu_bt(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_bts(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_btr(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_btc(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
/* a: the destination's old value, b: the source; size 2 4 8. */
uint64_t alu_bsf(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_bsr(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_tzcnt(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_lzcnt(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_popcnt(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
/* BMI, ADX; size 4 8. */
uint64_t alu_andn(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_bextr(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_bzhi(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_blsr(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_blsmsk(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_blsi(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_pdep(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_pext(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_adcx(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_adox(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);
uint64_t alu_crc32(uint64_t a, uint64_t b, unsigned size, uint32_t *fl);

#endif
