// SPDX-License-Identifier: Apache-2.0
/*
 * Lays a program's items out, fixes jumps up, and gives an instruction another
 * memory operand than the one it was encoded with.
 */
#include "tests/bt/blocks.h"

#include <string.h>

/* ---- layout ---- */

/* The first kept item from @i on; there always is one: the end is kept. */
static const struct blk_item *kept(const struct blk_prog *p, unsigned i)
{
    while (i + 1 < p->n && p->item[i].drop)
        i++;
    return &p->item[i];
}

static bool fix(const struct blk_prog *p, struct blk_item *it)
{
    uint64_t to = kept(p, it->target)->addr, next = it->addr + it->len;
    int64_t rel = (int64_t)(to - next);

    switch ((enum blk_fix)it->fix) {
    case BLK_FIX_NONE:
        return true;
    case BLK_FIX_REL8:
        it->b[it->at] = (uint8_t)rel;
        return rel == (int8_t)rel;
    case BLK_FIX_ABS64:
        memcpy(it->b + it->at, &to, 8);
        return true;
    case BLK_FIX_RIP:
        rel = (int64_t)(it->lin - next);
        break;
    case BLK_FIX_RIPITEM:
        rel += it->off;
        break;
    case BLK_FIX_REL32:
        break;
    }
    memcpy(it->b + it->at, &rel, 4);
    return rel == (int32_t)rel;
}

bool blk_assemble(struct blk_prog *p)
{
    uint32_t at = 0;

    memset(p->code, BLK_FILL, sizeof p->code);
    p->lo = BLK_CODE_BYTES;
    p->hi = 0;
    for (unsigned i = 0; i < p->n; i++) {
        struct blk_item *it = &p->item[i];

        if (it->org != ~0U) {
            if (it->org < at)
                return false;
            at = it->org;
        }
        it->addr = blk_code(p) + at;
        if (it->drop)
            continue;
        at += it->len;
        if (at > BLK_CODE_BYTES)
            return false;
    }
    for (unsigned i = 0; i < p->n; i++) {
        struct blk_item *it = &p->item[i];
        uint32_t off = (uint32_t)(it->addr - blk_code(p));

        if (it->drop)
            continue;
        if (!fix(p, it))
            return false;
        memcpy(p->code + off, it->b, it->len);
        p->lo = off < p->lo ? off : p->lo;
        p->hi = off + it->len > p->hi ? off + it->len : p->hi;
    }
    return true;
}

/* ---- memory operands ---- */

/* REX.X and REX.B, or VEX's. Return: false: they have no place. */
static bool set_xb(struct blk_item *it, const struct x86_insn *i, unsigned pre,
                   unsigned x, unsigned b)
{
    unsigned k = 0;

    if (i->enc == X86_ENC_VEX) {
        while (it->b[k] != 0xc4 && it->b[k] != 0xc5)
            k++;
        if (it->b[k] == 0xc5)
            return !x && !b;
        it->b[k + 1] = (uint8_t)((it->b[k + 1] | 0x60) ^ (x << 6 | b << 5));
        return true;
    }
    if (i->prefix & X86_PFX_REX) {
        unsigned opcode = i->map == X86_MAP_1B   ? 1
                          : i->map == X86_MAP_0F ? 2
                                                 : 3;

        k = pre - opcode - 1; /* REX stands right before the opcode */
        it->b[k] = (uint8_t)((it->b[k] & ~3U) | x << 1 | b);
        return true;
    }
    return !x && !b;
}

/* Replace ModRM's mode, SIB and displacement. */
static void put_operand(struct blk_item *it, const struct x86_insn *i,
                        unsigned pre, unsigned modrm, bool has_sib,
                        unsigned sib, unsigned disp_len, int64_t disp)
{
    uint8_t imm[8];

    memcpy(imm, it->b + i->len - i->imm_len, i->imm_len);
    it->b[pre] = (uint8_t)((i->modrm & 0x38) | modrm);
    it->len = (uint8_t)(pre + 1);
    if (has_sib)
        it->b[it->len++] = (uint8_t)sib;
    it->at = it->len;
    memcpy(it->b + it->len, &disp, disp_len);
    it->len = (uint8_t)(it->len + disp_len);
    memcpy(it->b + it->len, imm, i->imm_len);
    it->len = (uint8_t)(it->len + i->imm_len);
}

/* Bytes before ModRM. */
static unsigned before(const struct x86_insn *i)
{
    bool sib = i->modrm < 0xc0 && (i->modrm & 7) == 4;

    return (unsigned)(i->len - i->imm_len - i->disp_len - sib - 1);
}

bool blk_rename(uint8_t *b, const struct x86_insn *i, unsigned reg, unsigned rm)
{
    unsigned pre = before(i);
    unsigned opcode = i->map == X86_MAP_1B ? 1 : i->map == X86_MAP_0F ? 2 : 3;
    uint8_t *rex;

    if (!i->has_modrm || i->enc != X86_ENC_LEGACY || !(i->prefix & X86_PFX_REX))
        return false;
    rex = &b[pre - opcode - 1];
    if (reg != X86_REG_NONE) {
        *rex = (uint8_t)((*rex & ~4U) | (reg >> 3) << 2);
        b[pre] = (uint8_t)((b[pre] & 0xc7) | (reg & 7) << 3);
    }
    if (rm != X86_REG_NONE && i->modrm >= 0xc0) {
        *rex = (uint8_t)((*rex & ~1U) | rm >> 3);
        b[pre] = (uint8_t)((b[pre] & 0xf8) | (rm & 7));
    }
    return true;
}

bool blk_aim(struct blk_item *it, const struct x86_insn *i, unsigned base,
             unsigned index, unsigned scale, int64_t disp)
{
    unsigned pre = before(i), x = 0, b = 0, mode = 2, disp_len = 4;
    bool sib = index != X86_REG_NONE || base == X86_REG_NONE || (base & 7) == 4;

    if (index == X86_RSP || disp != (int32_t)disp || pre + 12U > 27)
        return false;
    if (index != X86_REG_NONE)
        x = index >> 3;
    if (base == X86_REG_NONE)
        mode = 0;
    else
        b = base >> 3;
    if (!set_xb(it, i, pre, x, b))
        return false;
    if (base != X86_REG_NONE && disp == (int8_t)disp) {
        mode = 1;
        disp_len = 1;
        if (disp == 0 && (base & 7) != 5)
            mode = disp_len = 0;
    }
    put_operand(it, i, pre, mode << 6 | (sib ? 4 : base & 7), sib,
                scale << 6 | (index == X86_REG_NONE ? 4 : index & 7) << 3 |
                    (base == X86_REG_NONE ? 5 : base & 7),
                disp_len, disp);
    it->fix = BLK_FIX_NONE;
    return true;
}

bool blk_aim_rip(struct blk_item *it, const struct x86_insn *i, uint64_t lin)
{
    unsigned pre = before(i);

    if (pre + 12U > 27)
        return false;
    set_xb(it, i, pre, 0, 0);
    put_operand(it, i, pre, 5, false, 0, 4, 0);
    it->fix = BLK_FIX_RIP;
    it->lin = lin;
    return true;
}
