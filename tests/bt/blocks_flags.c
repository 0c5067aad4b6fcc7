// SPDX-License-Identifier: Apache-2.0
/*
 * Which flags code reads before it overwrites them: the others may hold
 * anything when a fault shows them (docs/translator.md, Deviations).
 */
#include "tests/bt/blocks.h"

#include <string.h>

#define DEAD_STEPS 200U

static bool maybe_none(const struct x86_insn *i, const struct x86_form_info *fi)
{
    const struct x86_opnd *count = &i->opnd[i->nopnds - 1];

    if (!(fi->attr & XA_FCOND) || count->kind == X86_OPND_ONE)
        return false;
    return count->kind != X86_OPND_IMM ||
           (i->imm & (i->opnd[0].size == 8 ? 63 : 31)) == 0;
}

static bool is_jcc(const struct x86_insn *i)
{
    return (i->map == X86_MAP_1B && (i->opcode & 0xf0) == 0x70) ||
           (i->map == X86_MAP_0F && (i->opcode & 0xf0) == 0x80);
}

uint64_t blk_flags_set(const struct x86_insn *i)
{
    const struct x86_form_info *fi = x86_form_info(i->form);
    uint64_t all = fi->fl_written | fi->fl_undef;

    if (maybe_none(i, fi) || fi->cls == X86_CLS_STRING)
        return 0;
    switch (i->op) {
    case X86_OP_DIV:
    case X86_OP_IDIV:
        return 0;
    case X86_OP_BT:
    case X86_OP_BTS:
    case X86_OP_BTR:
    case X86_OP_BTC:
        return fi->fl_written;
    case X86_OP_ROL:
    case X86_OP_ROR:
    case X86_OP_RCL:
    case X86_OP_RCR:
        return i->opnd[1].kind == X86_OPND_ONE ? all : all & ~X86_FL_OF;
    default:
        return all;
    }
}

struct walk {
    unsigned n;
    uint64_t seen[DEAD_STEPS];
};

/* Whether @rip was looked at before: going round reads nothing new. */
static bool seen(struct walk *w, uint64_t rip)
{
    for (unsigned i = 0; i < w->n; i++)
        if (w->seen[i] == rip)
            return true;
    w->seen[w->n++] = rip;
    return false;
}

/* Which of the flags @live, live or not yet known, may be read from @rip on
 * before they are overwritten. */
static uint64_t live_at(const struct blk_vm *v, uint64_t rip, uint64_t live,
                        struct walk *w)
{
    uint64_t read = 0;

    while (live && w->n < DEAD_STEPS) {
        const struct x86_form_info *fi;
        uint8_t b[16];
        struct x86_insn i;
        uint64_t next;

        if (seen(w, rip))
            return read;
        memset(b, BLK_FILL, sizeof b);
        if (!blk_vm_fetch(v, rip, b, 15) ||
            x86_decode(b, 15, X86_MODE_64, &i) != X86_DEC_OK)
            return read | live;
        fi = x86_form_info(i.form);
        next = rip + i.len;
        if (i.op == X86_OP_PUSHF || (fi->attr & XA_UD) ||
            (fi->cls == X86_CLS_SYSTEM && (fi->attr & XA_CTRL)))
            return read | live;
        read |= live & fi->fl_read;
        live &= ~(uint64_t)fi->fl_read;
        live &= ~blk_flags_set(&i);
        rip = next;
        if (fi->cls != X86_CLS_BRANCH)
            continue;
        if (i.nopnds != 1 || i.opnd[0].kind != X86_OPND_REL)
            return read | live;
        rip = next + i.imm;
        if (is_jcc(&i) || i.op == X86_OP_LOOP || i.op == X86_OP_JCXZ)
            read |= live_at(v, next, live, w);
        else if (i.op != X86_OP_JMP && i.op != X86_OP_CALL)
            return read | live;
    }
    return read | live;
}

uint64_t blk_flags_live(const struct blk_vm *v, uint64_t rip)
{
    struct walk w = {0};

    return live_at(v, rip, X86_FL_ARITH, &w);
}
