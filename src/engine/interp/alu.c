// SPDX-License-Identifier: Apache-2.0
/*
 * The less frequent arithmetic, executed by the host's own instructions; see
 * alu.h. BMI, ADX, POPCNT, LZCNT and CRC32 run only when the guest's CPUID
 * shows them, which it does only if the host has them.
 */
#include "engine/interp/alu.h"

/* a op= b for operand sizes 2, 4, 8; flags go in and come out. */
#define WIDE_SIZES(X)                                                          \
    switch (size) {                                                            \
    case 8:                                                                    \
        X("q", "q");                                                           \
        break;                                                                 \
    case 4:                                                                    \
        X("l", "k");                                                           \
        break;                                                                 \
    default:                                                                   \
        X("w", "w");                                                           \
        break;                                                                 \
    }
#define WIDE(name, insn)                                                       \
    uint64_t name(uint64_t a, uint64_t b, unsigned size, uint32_t *fl)         \
    {                                                                          \
        uint32_t f = *fl;                                                      \
        WIDE_SIZES(WIDE_##insn)                                                \
        *fl = f;                                                               \
        return a;                                                              \
    }
#define WIDE_ASM(insn, s, m)                                                   \
    asm(ALU_IN insn s " %" m "[b], %" m "[a]\n\t" ALU_OUT                      \
        : [a] "+r"(a), "+&a"(f)                                                \
        : [b] "r"(b)                                                           \
        : "cc")
#define WIDE_imul(s, m)   WIDE_ASM("imul", s, m)
#define WIDE_bt(s, m)     WIDE_ASM("bt", s, m)
#define WIDE_bts(s, m)    WIDE_ASM("bts", s, m)
#define WIDE_btr(s, m)    WIDE_ASM("btr", s, m)
#define WIDE_btc(s, m)    WIDE_ASM("btc", s, m)
#define WIDE_bsf(s, m)    WIDE_ASM("bsf", s, m)
#define WIDE_bsr(s, m)    WIDE_ASM("bsr", s, m)
#define WIDE_tzcnt(s, m)  WIDE_ASM("tzcnt", s, m)
#define WIDE_lzcnt(s, m)  WIDE_ASM("lzcnt", s, m)
#define WIDE_popcnt(s, m) WIDE_ASM("popcnt", s, m)
WIDE(alu_imul2, imul)
WIDE(alu_bt, bt)
WIDE(alu_bts, bts)
WIDE(alu_btr, btr)
WIDE(alu_btc, btc)
WIDE(alu_bsf, bsf)
WIDE(alu_bsr, bsr)
WIDE(alu_tzcnt, tzcnt)
WIDE(alu_lzcnt, lzcnt)
WIDE(alu_popcnt, popcnt)

#define DOUBLE(name, insn)                                                     \
    uint64_t name(uint64_t a, uint64_t b, unsigned n, unsigned size,           \
                  uint32_t *fl)                                                \
    {                                                                          \
        uint32_t f = *fl;                                                      \
        WIDE_SIZES(DOUBLE_##insn)                                              \
        *fl = f;                                                               \
        return a;                                                              \
    }
#define DOUBLE_ASM(insn, s, m)                                                 \
    asm(ALU_IN insn s " %%cl, %" m "[b], %" m "[a]\n\t" ALU_OUT                \
        : [a] "+r"(a), "+&a"(f)                                                \
        : [b] "r"(b), "c"(n)                                                   \
        : "cc")
#define DOUBLE_shld(s, m) DOUBLE_ASM("shld", s, m)
#define DOUBLE_shrd(s, m) DOUBLE_ASM("shrd", s, m)
DOUBLE(alu_shld, shld)
DOUBLE(alu_shrd, shrd)

/* BMI and ADX: operand sizes 4, 8. */
#define LONG_SIZES(X)                                                          \
    switch (size) {                                                            \
    case 8:                                                                    \
        X("q");                                                                \
        break;                                                                 \
    default:                                                                   \
        X("k");                                                                \
        break;                                                                 \
    }
#define LONG(name, insn)                                                       \
    uint64_t name(uint64_t a, uint64_t b, unsigned size, uint32_t *fl)         \
    {                                                                          \
        uint32_t f = *fl;                                                      \
        LONG_SIZES(LONG_##insn)                                                \
        *fl = f;                                                               \
        return a;                                                              \
    }
/* a = insn(a, b), Intel order a, a, b */
#define LONG3_ASM(insn, m)                                                     \
    asm(ALU_IN insn " %" m "[b], %" m "[a], %" m "[a]\n\t" ALU_OUT             \
        : [a] "+r"(a), "+&a"(f)                                                \
        : [b] "r"(b)                                                           \
        : "cc")
/* a = insn(b) or a = insn(a, b) in two-operand form */
#define LONG2_ASM(insn, m)                                                     \
    asm(ALU_IN insn " %" m "[b], %" m "[a]\n\t" ALU_OUT                        \
        : [a] "+r"(a), "+&a"(f)                                                \
        : [b] "r"(b)                                                           \
        : "cc")
#define LONG_andn(m)   LONG3_ASM("andn", m)
#define LONG_pdep(m)   LONG3_ASM("pdep", m)
#define LONG_pext(m)   LONG3_ASM("pext", m)
#define LONG_bextr(m)  LONG3_ASM("bextr", m)
#define LONG_bzhi(m)   LONG3_ASM("bzhi", m)
#define LONG_blsr(m)   LONG2_ASM("blsr", m)
#define LONG_blsmsk(m) LONG2_ASM("blsmsk", m)
#define LONG_blsi(m)   LONG2_ASM("blsi", m)
#define LONG_adcx(m)   LONG2_ASM("adcx", m)
#define LONG_adox(m)   LONG2_ASM("adox", m)
LONG(alu_andn, andn) /* ~a & b */
LONG(alu_pdep, pdep) /* a: source, b: mask */
LONG(alu_pext, pext)
LONG(alu_bextr, bextr) /* a: source, b: control */
LONG(alu_bzhi, bzhi)
LONG(alu_blsr, blsr)
LONG(alu_blsmsk, blsmsk)
LONG(alu_blsi, blsi)
LONG(alu_adcx, adcx)
LONG(alu_adox, adox)

/* @size is the source's, 1 2 4 8; the flags stay. */
uint64_t alu_crc32(uint64_t a, uint64_t b, unsigned size, uint32_t *fl)
{
    (void)fl;
    switch (size) {
    case 8:
        asm("crc32q %1, %0" : "+r"(a) : "r"(b));
        return a;
    case 4:
        asm("crc32l %k1, %k0" : "+r"(a) : "r"(b));
        return (uint32_t)a;
    case 2:
        asm("crc32w %w1, %k0" : "+r"(a) : "r"(b));
        return (uint32_t)a;
    default:
        asm("crc32b %b1, %k0" : "+r"(a) : "q"(b));
        return (uint32_t)a;
    }
}

/* One-operand multiplications and divisions work on rDX:rAX, so the flags are
 * brought in through RAX before it is loaded. */
#define RDX_RAX(insn, m)                                                       \
    asm("movl %k[f], %%eax\n\t" ALU_IN "movq %[lo], %%rax\n\t" insn " %" m     \
        "[b]\n\tmovq %%rax, %[lo]\n\t" ALU_OUT "\n\tmovl %%eax, %k[f]"         \
        : [lo] "+&r"(*lo), "+&d"(*hi), [f] "+&r"(f)                            \
        : [b] "r"(b)                                                           \
        : "rax", "cc")

void alu_mul(uint64_t *lo, uint64_t *hi, uint64_t b, unsigned size,
             uint32_t *fl)
{
    uint32_t f = *fl;

    switch (size) {
    case 8:
        RDX_RAX("mulq", "q");
        break;
    case 4:
        RDX_RAX("mull", "k");
        break;
    case 2:
        RDX_RAX("mulw", "w");
        break;
    default:
        RDX_RAX("mulb", "b");
        break;
    }
    *fl = f;
}

void alu_imul(uint64_t *lo, uint64_t *hi, uint64_t b, unsigned size,
              uint32_t *fl)
{
    uint32_t f = *fl;

    switch (size) {
    case 8:
        RDX_RAX("imulq", "q");
        break;
    case 4:
        RDX_RAX("imull", "k");
        break;
    case 2:
        RDX_RAX("imulw", "w");
        break;
    default:
        RDX_RAX("imulb", "b");
        break;
    }
    *fl = f;
}

/* Whether the quotient of the unsigned division fits. */
static bool div_fits(uint64_t lo, uint64_t hi, uint64_t b, unsigned size)
{
    switch (size) {
    case 8:
        return b && hi < b;
    case 4:
        return (uint32_t)b && (uint32_t)hi < (uint32_t)b;
    case 2:
        return (uint16_t)b && (uint16_t)hi < (uint16_t)b;
    default:
        return (uint8_t)b && (uint8_t)(lo >> 8) < (uint8_t)b;
    }
}

bool alu_div(uint64_t *lo, uint64_t *hi, uint64_t b, unsigned size,
             uint32_t *fl)
{
    uint32_t f = *fl;

    if (!div_fits(*lo, *hi, b, size))
        return false;
    switch (size) {
    case 8:
        RDX_RAX("divq", "q");
        break;
    case 4:
        RDX_RAX("divl", "k");
        break;
    case 2:
        RDX_RAX("divw", "w");
        break;
    default:
        RDX_RAX("divb", "b");
        break;
    }
    *fl = f;
    return true;
}

/* The signed quotient in 128 bits. Dividing by -1 is done first: the one case
 * that overflows even there. */
static bool idiv_fits(uint64_t lo, uint64_t hi, uint64_t b, unsigned size)
{
    __int128 n, q;
    int64_t d;
    unsigned bits = size * 8;

    switch (size) {
    case 8:
        n = (__int128)((unsigned __int128)hi << 64 | lo);
        d = (int64_t)b;
        break;
    case 4:
        n = (int64_t)(hi << 32 | (uint32_t)lo);
        d = (int32_t)b;
        break;
    case 2:
        n = (int32_t)((uint32_t)hi << 16 | (uint16_t)lo);
        d = (int16_t)b;
        break;
    default:
        n = (int16_t)lo;
        d = (int8_t)b;
        break;
    }
    if (d == 0)
        return false;
    if (d == -1 && n == (__int128)((unsigned __int128)1 << 127))
        return false;
    q = n / d;
    return q >= -((__int128)1 << (bits - 1)) && q < (__int128)1 << (bits - 1);
}

bool alu_idiv(uint64_t *lo, uint64_t *hi, uint64_t b, unsigned size,
              uint32_t *fl)
{
    uint32_t f = *fl;

    if (!idiv_fits(*lo, *hi, b, size))
        return false;
    switch (size) {
    case 8:
        RDX_RAX("idivq", "q");
        break;
    case 4:
        RDX_RAX("idivl", "k");
        break;
    case 2:
        RDX_RAX("idivw", "w");
        break;
    default:
        RDX_RAX("idivb", "b");
        break;
    }
    *fl = f;
    return true;
}
