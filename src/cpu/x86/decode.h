// SPDX-License-Identifier: Apache-2.0
/*
 * The instruction decoder's result: what the bytes say, before anything is
 * checked against privilege or the guest's CPUID. One table (the insn_*.def
 * files) feeds decoder, interpreter, translator, tests and disassembly.
 * Pure functions; thread: any. Source: Intel SDM vol. 2, chapters 2-6.
 */
#ifndef DOPPEL_CPU_X86_DECODE_H
#define DOPPEL_CPU_X86_DECODE_H

#include "base/cc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define X86_INSN_MAX_BYTES 15

/* Mnemonics: enum x86_op { X86_OP_INVALID, X86_OP_AAA, ... } and forms:
 * enum x86_form, one per table row. Both are expanded from insn.def. */
#include "cpu/x86/insn_ids.h"

/* The default sizes that CS and EFER.LMA give: what selects how bytes read. */
enum x86_mode {
    X86_MODE_16, /* real, v8086, 16-bit protected or compatibility */
    X86_MODE_32, /* 32-bit protected or compatibility */
    X86_MODE_64
};

enum x86_enc {
    X86_ENC_LEGACY,
    X86_ENC_VEX,
    X86_ENC_EVEX
};

enum x86_map {
    X86_MAP_1B,   /* one-byte opcodes */
    X86_MAP_0F,   /* two-byte */
    X86_MAP_0F38, /* three-byte */
    X86_MAP_0F3A,
    X86_MAP_COUNT
};

/* struct x86_insn.prefix: what stood before the opcode. */
#define X86_PFX_LOCK  0x01
#define X86_PFX_REP   0x02 /* F3, when it came last of F2/F3 */
#define X86_PFX_REPNE 0x04 /* F2, when it came last of F2/F3 */
#define X86_PFX_OSZ   0x08 /* 66 */
#define X86_PFX_ASZ   0x10 /* 67 */
#define X86_PFX_REX   0x20 /* a REX that counts (stands last) */
#define X86_PFX_SEG   0x40 /* a segment override that counts in this mode */

enum x86_seg_id {
    X86_SEG_ES,
    X86_SEG_CS,
    X86_SEG_SS,
    X86_SEG_DS,
    X86_SEG_FS,
    X86_SEG_GS
};

#define X86_REG_NONE 0xff
#define X86_REG_RIP  16 /* as .base: RIP-relative */

/* What an operand is. */
enum x86_opnd_kind {
    X86_OPND_NONE,
    X86_OPND_GPR, /* reg 0-15; size 1: without REX 4-7 are AH CH DH BH,
                     given as reg 0-3 with .high set */
    X86_OPND_MEM, /* the ModRM memory operand, or moffs: seg:[base+index*s+disp]
                   */
    X86_OPND_IMM, /* .imm, already sign- or zero-extended as the form says */
    X86_OPND_IMM2, /* .imm2 (ENTER, EXTRQ, far pointers' selector) */
    X86_OPND_REL,  /* branch displacement in .imm, sign-extended */
    X86_OPND_SEG,  /* segment register */
    X86_OPND_CR,
    X86_OPND_DR,
    X86_OPND_ST, /* x87 stack register i */
    X86_OPND_MMX,
    X86_OPND_XMM,    /* size 16 */
    X86_OPND_YMM,    /* size 32 */
    X86_OPND_VSIB,   /* memory with a vector index (gathers) */
    X86_OPND_STRSRC, /* seg:[rSI] */
    X86_OPND_STRDST, /* es:[rDI] */
    X86_OPND_XLAT,   /* seg:[rBX+AL] */
    X86_OPND_ONE     /* the constant 1 of shifts */
};

#define X86_ACC_R 1
#define X86_ACC_W 2

struct x86_opnd {
    uint8_t kind;   /* enum x86_opnd_kind */
    uint8_t reg;    /* register number, where the kind has one */
    uint16_t size;  /* bytes; 0: no data (LEA, REL) */
    uint8_t access; /* X86_ACC_* */
    bool high;      /* AH CH DH BH */
};

#define X86_OPNDS 5

struct x86_insn {
    uint16_t form;  /* enum x86_form: the table row */
    uint16_t op;    /* enum x86_op: the mnemonic */
    uint8_t len;    /* bytes, 1-15 */
    uint8_t enc;    /* enum x86_enc */
    uint8_t map;    /* enum x86_map */
    uint8_t opcode; /* the opcode byte itself */
    uint8_t prefix; /* X86_PFX_* */
    uint8_t rex;    /* W R X B of REX, or of VEX uninverted */
    uint8_t vex_l;  /* VEX.L: 0 = 128 bits, 1 = 256 */
    uint8_t vvvv;   /* VEX.vvvv, uninverted; outside 64-bit mode bit 3 of
                       a register number is ignored */
    uint8_t pp;     /* mandatory prefix: 0 none, 1 66, 2 F3, 3 F2 */
    uint8_t opsize; /* effective operand size in bytes: 2, 4, 8 */
    uint8_t adsize; /* effective address size in bytes: 2, 4, 8 */
    uint8_t seg;    /* enum x86_seg_id of the memory operand, also when it is
                       the default one */
    bool has_modrm;
    uint8_t modrm; /* raw */
    uint8_t sib;   /* raw */
    uint8_t reg;   /* ModRM.reg with REX.R */
    uint8_t rm;    /* ModRM.rm with REX.B; meaning a register when mod == 3 */
    uint8_t base;  /* memory operand: 0-15, X86_REG_RIP, X86_REG_NONE */
    uint8_t index; /* 0-15 or X86_REG_NONE; a vector register for VSIB */
    uint8_t scale; /* 0-3: shift */
    uint8_t disp_len; /* bytes of displacement as encoded: 0 1 2 4 8 */
    uint8_t imm_len;  /* bytes of immediates as encoded, both together */
    uint8_t nopnds;
    uint64_t imm;
    uint32_t imm2;
    int64_t disp;                    /* sign-extended; moffs: the address */
    struct x86_opnd opnd[X86_OPNDS]; /* Intel order: destination first;
                                        implicit operands are not listed */
};

/* Why bytes are no instruction. */
enum x86_dec {
    X86_DEC_OK,
    X86_DEC_UD,       /* #UD: not an instruction in this mode; .len = bytes
                         looked at so far */
    X86_DEC_TOO_LONG, /* more than 15 bytes: #GP(0) */
    X86_DEC_MORE      /* the bytes given end too early (page end): fetch more */
};

/** x86_decode() - decode one instruction
 * @bytes: borrows; @n bytes may be read (more than 15 are ignored)
 * @mode: enum x86_mode
 * @insn: filled on X86_DEC_OK (opnd[] only up to .nopnds); else only .len
 * Every byte string gets an answer. LOCK where the form or a register
 * destination does not allow it is X86_DEC_UD. CPUID, CPL and CRx are not
 * looked at: see x86_form_info. Cost: at most 40 ns. Thread: any.
 * Return: enum x86_dec */
enum x86_dec x86_decode(const uint8_t *bytes, size_t n, enum x86_mode mode,
                        struct x86_insn *insn);

/** x86_disasm() - Intel-syntax text of @insn as if at @rip
 * @out: filled, NUL-terminated, at most @n bytes. Thread: any. */
void x86_disasm(const struct x86_insn *insn, uint64_t rip, char *out, size_t n);

#endif
