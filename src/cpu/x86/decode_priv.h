// SPDX-License-Identifier: Apache-2.0
/* What decode.c (prefixes, opcode, form, ModRM) and decode_opnd.c (operands)
 * share. Nobody else includes this. */
#ifndef DOPPEL_CPU_X86_DECODE_PRIV_H
#define DOPPEL_CPU_X86_DECODE_PRIV_H

#include "cpu/x86/decode.h"

#include <string.h>

/* What decoding needs of a form: slot, size and access of each operand. */
#define DF_LOCK   1
#define DF_D64    2
#define DF_F64    4
#define DF_MODREG 8

struct dec_opnd {
    uint8_t slot;
    uint8_t size;
    uint8_t access;
};

struct dec_form {
    uint16_t op;
    uint8_t nopnds;
    uint8_t flags;
    struct dec_opnd opnd[X86_OPNDS];
};

extern const struct dec_form dec_forms[X86_FORM_COUNT];

/* No instruction makes the decoder look further: 14 prefixes, VEX and opcode,
 * ModRM, SIB, displacement, immediate. */
#define DEC_TOUCH 40

/* The bytes under decoding. */
struct dec {
    const uint8_t *b; /* DEC_TOUCH readable bytes */
    unsigned at;      /* next byte */
    unsigned ctx;     /* column of size_tab */
    bool m64;
    bool seg_given;
    bool vvvv_used; /* VEX.vvvv names an operand */
    bool ud;        /* #UD once the length is known */
    struct x86_insn *insn;
};

static inline uint16_t ld16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint32_t ld32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint64_t ld64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* dec_opnds() - fill operands and immediates; ModRM and sizes are known.
 * Return: false when they make it #UD. */
bool dec_opnds(struct dec *d, const struct dec_form *f);

#endif
