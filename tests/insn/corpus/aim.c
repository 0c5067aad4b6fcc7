// SPDX-License-Identifier: Apache-2.0
/*
 * Makes random operands meaningful: memory operands are aimed at the data
 * window (mostly inside a page, sometimes across one, at absent or read-only
 * pages, at non-canonical addresses), and what lies there suits the form:
 * numbers of its format, branch targets, descriptors, save areas.
 */
#include "tests/insn/corpus/make.h"

#include "engine/interp/vec_int.h"

#include <string.h>

struct aim {
    struct corpus_maker *m;
    struct rnd *r;
    struct corpus_case *c;
    struct corpus_job *job;
    const struct x86_form_info *fi;
    const struct x86_insn *i;
    enum rnd_flavor flavor;
    uint64_t lin; /* of the memory operand, when there is one */
};

void corpus_poke(struct corpus_maker *m, struct corpus_case *c, uint64_t lin,
                 const void *bytes, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        uint64_t off = lin + k - CORPUS_DATA;
        uint32_t p, at = (uint32_t)(off / 8);

        if (off >= CORPUS_BYTES)
            continue;
        if (corpus_page_kind((unsigned)(off / 4096)) == CORPUS_ABSENT)
            continue;
        memcpy((uint8_t *)m->shadow + off, (const uint8_t *)bytes + k, 1);
        for (p = c->npatches; p > 0; p--)
            if (c->patch[p - 1].at == at)
                break;
        if (p == 0) {
            if (c->npatches == CORPUS_PATCHES_MAX) {
                m->shadow[at] = m->pattern[at];
                return;
            }
            p = ++c->npatches;
            c->patch[p - 1].at = at;
        }
        c->patch[p - 1].v = m->shadow[at];
    }
}

static void poke64(struct aim *a, uint64_t lin, uint64_t v)
{
    corpus_poke(a->m, a->c, lin, &v, 8);
}

/* Offsets in the window where pages of a kind meet; see corpus_page_kind(). */
enum {
    EDGE_ABSENT_RW = 1 * 4096,
    EDGE_RW_RW = 2 * 4096,
    EDGE_RW_ABSENT = 3 * 4096,
    EDGE_ABSENT_RO = 4 * 4096,
    EDGE_RO_RW = 5 * 4096,
    EDGE_RW_END = 6 * 4096
};

/* Where an access of @size bytes shall go. */
static uint64_t pick_lin(struct rnd *r, unsigned size)
{
    static const uint16_t edges[] = {
        EDGE_RW_RW,     EDGE_RW_RW, EDGE_ABSENT_RW, EDGE_RW_ABSENT,
        EDGE_ABSENT_RO, EDGE_RO_RW, EDGE_RO_RW,     EDGE_RW_END};
    unsigned pct = rnd_n(r, 100), off;
    unsigned pow2 = 64;

    while (pow2 > size && pow2 > 1)
        pow2 /= 2;
    if (pct < 78) { /* inside pages 1 and 2, or 5 */
        off = rnd_pct(r, 80) ? 4096 + rnd_n(r, 8192 - size - 64)
                             : 5 * 4096 + rnd_n(r, 4096 - size - 64);
        if (pct < 62)
            off &= ~(pow2 - 1);
        return CORPUS_DATA + off;
    }
    if (pct < 91) /* across or just beside an edge */
        return CORPUS_DATA + edges[rnd_n(r, ARRAY_LEN(edges))] -
               rnd_n(r, size + 2);
    if (pct < 94)
        return CORPUS_DATA + 4 * 4096 + (rnd_n(r, 4096) & ~(pow2 - 1));
    if (pct < 96)
        return CORPUS_DATA + rnd_n(r, CORPUS_BYTES);
    if (pct < 98) /* not canonical */
        return BIT(47) + (rnd_u64(r) & 0x3fffffffffffffff);
    if (pct < 99)
        return 0x7fffffffffff - rnd_n(r, size + 8);
    return UINT64_MAX - rnd_n(r, size + 8);
}

static uint64_t seg_base(const struct aim *a)
{
    if (a->i->seg == X86_SEG_FS)
        return a->c->fs_base;
    return a->i->seg == X86_SEG_GS ? a->c->gs_base : 0;
}

/* Write the displacement field. */
static void patch_disp(struct aim *a, uint64_t disp)
{
    const struct x86_insn *i = a->i;

    memcpy(a->c->code + i->len - i->imm_len - i->disp_len, &disp, i->disp_len);
}

static void set_base(struct aim *a, unsigned reg, uint64_t v)
{
    if (a->i->adsize == 4 && rnd_pct(a->r, 60))
        v = (uint32_t)v | rnd_u64(a->r) << 32;
    a->c->gpr[reg] = v;
}

/* Make the ModRM or moffs operand's linear address @lin, as far as it goes. */
static void aim_mem(struct aim *a, uint64_t lin)
{
    const struct x86_insn *i = a->i;
    struct corpus_case *c = a->c;
    uint64_t ea = lin - seg_base(a);
    uint64_t idx = i->index == X86_REG_NONE ? 0 : c->gpr[i->index] << i->scale;

    if (i->base == X86_REG_RIP) {
        patch_disp(a, ea - (c->rip + i->len));
    } else if (i->base == X86_REG_NONE && i->index == X86_REG_NONE) {
        patch_disp(a, ea);
    } else if (i->base == X86_REG_NONE) {
        set_base(a, i->index, (ea - (uint64_t)i->disp) >> i->scale);
        patch_disp(a, ea - (c->gpr[i->index] << i->scale));
    } else if (i->base == i->index) {
        set_base(a, i->base, (ea - (uint64_t)i->disp) / (1 + BIT(i->scale)));
    } else {
        set_base(a, i->base, ea - (uint64_t)i->disp - idx);
    }
    a->lin = lin;
    a->job->lin = lin;
}

/* Bytes that suit @size at @lin. */
static void fill_mem(struct aim *a, uint64_t lin, unsigned size)
{
    uint8_t b[512 + 8];

    if (size > 512)
        size = 512;
    if (size == 10) {
        rnd_f80(a->r, b);
    } else {
        for (unsigned k = 0; k < size; k += 8) {
            uint64_t v = rnd_lane(a->r, a->flavor);
            memcpy(b + k, &v, 8);
        }
    }
    corpus_poke(a->m, a->c, lin, b, size);
}

/* A place for code to go on: INT3s, now and then anything. */
static uint64_t pick_target(struct rnd *r)
{
    unsigned pct = rnd_n(r, 100);

    if (pct < 75)
        return CORPUS_CODE + rnd_n(r, CORPUS_CODE_BYTES);
    if (pct < 85)
        return CORPUS_DATA + rnd_n(r, CORPUS_BYTES);
    return pct < 92 ? BIT(47) + rnd_u64(r) / 4 : rnd_int(r);
}

/* Not Linux's 0x78, whose limit is the CPU's number. */
static uint64_t pick_sel(struct rnd *r)
{
    static const uint16_t sels[] = {0,    1,    2,    3,    0x2b, 0x33,
                                    0x23, 0x2b, 0x28, 0x10, 0x13, 0x1b,
                                    0x43, 0x4b, 0x08, 0x3b};

    if (rnd_pct(r, 85))
        return sels[rnd_n(r, ARRAY_LEN(sels))];
    return rnd_u64(r) & 0xff87;
}

/* ---- implicit memory ---- */

static void aim_strings(struct aim *a, unsigned kind, unsigned size)
{
    unsigned reg = kind == X86_OPND_STRDST ? X86_RDI : X86_RSI;
    uint64_t base = kind == X86_OPND_STRDST ? 0 : seg_base(a);
    uint64_t lin = pick_lin(a->r, size);

    set_base(a, reg, lin - base);
    if (rnd_pct(a->r, 50))
        fill_mem(a, lin, size);
    if (a->i->prefix & (X86_PFX_REP | X86_PFX_REPNE)) {
        uint64_t n = rnd_pct(a->r, 90) ? rnd_n(a->r, 24) : rnd_n(a->r, 3000);
        if (rnd_pct(a->r, 3))
            n = rnd_int(a->r);
        set_base(a, X86_RCX, n);
        if (rnd_pct(a->r, 40)) { /* a run of equal bytes */
            uint8_t b[96];
            memset(b, (int)(a->c->fs_base & 0xff), sizeof b);
            memset(&a->c->gpr[X86_RAX], b[0], 8);
            corpus_poke(a->m, a->c, lin - 48, b, sizeof b);
        }
    }
}

/* The stack, and for returns what is on it. */
static void aim_stack(struct aim *a)
{
    struct corpus_case *c = a->c;
    uint64_t sp = pick_lin(a->r, 8);

    if (rnd_pct(a->r, 60))
        sp = CORPUS_DATA + 4096 + 1024 + (rnd_n(a->r, 6144) & ~7U);
    c->gpr[X86_RSP] = sp;
    if (a->fi->attr & XA_RBP)
        c->gpr[X86_RBP] = pick_lin(a->r, 8);
    switch (a->fi->op) {
    case X86_OP_RET:
        poke64(a, sp, pick_target(a->r));
        break;
    case X86_OP_RETF:
    case X86_OP_IRET:
        for (unsigned k = 0, n = a->i->opsize; k < 5; k++) {
            uint64_t v = k == 0   ? pick_target(a->r)
                         : k == 1 ? pick_sel(a->r)
                         : k == 2 ? rnd_u64(a->r)
                         : k == 3 ? pick_lin(a->r, 8)
                                  : pick_sel(a->r);
            if (k == 1 && rnd_pct(a->r, 70))
                v = 0x33;
            if (k == 4 && rnd_pct(a->r, 70))
                v = 0x2b;
            /* Linux takes an #AC without AC in the image for a split lock
             * and runs the instruction again, for ever */
            if (k == 2 && (sp & 15))
                v &= ~X86_FL_AC;
            corpus_poke(a->m, c, sp + (uint64_t)k * n, &v, n);
        }
        break;
    case X86_OP_POP:
        if (a->i->opnd[0].kind == X86_OPND_SEG)
            poke64(a, sp, pick_sel(a->r));
        break;
    default:
        break;
    }
}

/* ---- forms with needs of their own ---- */

static uint64_t host_xcr0(void)
{
    uint32_t lo, hi;

    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static void aim_save_area(struct aim *a)
{
    uint64_t host_only = host_xcr0() & ~UINT64_C(7);
    uint8_t area[CORPUS_XS_BYTES];
    struct corpus_case *c = a->c;

    if (a->fi->op != X86_OP_FXSAVE && a->fi->op != X86_OP_XSAVE &&
        a->fi->op != X86_OP_XSAVEOPT) {
        rnd_xstate(a->r, a->flavor, area);
        if (rnd_pct(a->r, 10))
            area[FX_MXCSR + 2] = 1;
        corpus_poke(a->m, c, a->lin, area, 416);
        if (a->fi->op == X86_OP_XRSTOR)
            corpus_poke(a->m, c, a->lin + 576, area + 576, 256);
    }
    if (a->fi->op == X86_OP_FXSAVE || a->fi->op == X86_OP_FXRSTOR)
        return;
    memset(area, 0, 64);
    area[0] = (uint8_t)(rnd_u64(a->r) & (rnd_pct(a->r, 90) ? 7 : 15));
    if (rnd_pct(a->r, 8)) /* compacted, or bits that must be 0 */
        area[rnd_n(a->r, 64)] |= (uint8_t)(1U << rnd_n(a->r, 8));
    /* components that the host has and the guest hasn't */
    for (unsigned k = 0; k < 16; k++)
        area[k] &= (uint8_t) ~(host_only >> 8 * (k % 8));
    corpus_poke(a->m, c, a->lin + 512, area, 64);
    c->gpr[X86_RAX] = rnd_u64(a->r) & 7;
    if (rnd_pct(a->r, 50))
        c->gpr[X86_RAX] |= rnd_u64(a->r) << 32;
    c->gpr[X86_RDX] = rnd_pct(a->r, 50) ? 0 : rnd_u64(a->r) << 32;
}

static void aim_gather(struct aim *a)
{
    const struct x86_insn *i = a->i;
    bool wide = a->fi->opcode & 1; /* 64-bit indexes */
    uint64_t mid = CORPUS_DATA + EDGE_RW_RW - seg_base(a);
    unsigned reach = rnd_pct(a->r, 85) ? 4096U >> i->scale : 20000;

    if (i->base != X86_REG_NONE)
        set_base(a, i->base, mid - (uint64_t)i->disp);
    else
        patch_disp(a, mid);
    for (unsigned k = 0; k < (wide ? 4U : 8U); k++) {
        int64_t v = (int64_t)rnd_n(a->r, 2 * reach) - (int64_t)reach;
        unsigned n = wide ? 8 : 4, at = k * n;
        uint8_t *to = at < 16 ? a->c->xs + FX_XMM + 16 * (size_t)i->index + at
                              : a->c->xs + X86_XSAVE_AVX_OFFSET +
                                    16 * (size_t)i->index + at - 16;
        if (rnd_pct(a->r, 2))
            v = (int64_t)rnd_u64(a->r);
        memcpy(to, &v, n);
    }
}

static void aim_divide(struct aim *a)
{
    struct corpus_case *c = a->c;

    if (rnd_pct(a->r, 30))
        return;
    if (a->i->opnd[0].size == 1)
        c->gpr[X86_RAX] &= ~UINT64_C(0xff00);
    else if (a->fi->op == X86_OP_DIV)
        c->gpr[X86_RDX] = rnd_n(a->r, 3);
    else
        c->gpr[X86_RDX] = (uint64_t)((int64_t)c->gpr[X86_RAX] >> 63);
}

/* The accumulator equal to what is compared, half of the time. */
static void aim_cmpxchg(struct aim *a)
{
    const struct x86_opnd *o = &a->i->opnd[0];
    struct corpus_case *c = a->c;
    uint64_t m[2] = {rnd_int(a->r), rnd_int(a->r)};

    if (o->kind == X86_OPND_MEM)
        corpus_poke(a->m, c, a->lin, m, o->size);
    else if (o->kind == X86_OPND_GPR)
        m[0] = o->high ? c->gpr[o->reg] >> 8 : c->gpr[o->reg];
    if (rnd_pct(a->r, 50))
        return;
    if (a->fi->op == X86_OP_CMPXCHG8B) {
        c->gpr[X86_RAX] = (uint32_t)m[0] | (rnd_u64(a->r) << 32);
        c->gpr[X86_RDX] = m[0] >> 32 | (rnd_u64(a->r) << 32);
    } else {
        c->gpr[X86_RAX] = m[0];
        if (a->fi->op == X86_OP_CMPXCHG16B)
            c->gpr[X86_RDX] = m[1];
    }
}

/* Branch displacements: mostly to INT3s. */
static void aim_rel(struct aim *a)
{
    const struct x86_insn *i = a->i;
    uint64_t rel = pick_target(a->r) - (a->c->rip + i->len);

    if (i->imm_len == 4 && rnd_pct(a->r, 75))
        memcpy(a->c->code + i->len - 4, &rel, 4);
}

static void aim_indirect(struct aim *a)
{
    const struct x86_opnd *o = &a->i->opnd[0];
    uint64_t to = pick_target(a->r), sel = pick_sel(a->r);

    if (o->kind == X86_OPND_GPR) {
        a->c->gpr[o->reg] = to;
        return;
    }
    corpus_poke(a->m, a->c, a->lin, &to, 8);
    if (a->fi->op == X86_OP_CALLF || a->fi->op == X86_OP_JMPF) {
        if (rnd_pct(a->r, 60))
            sel = 0x33;
        corpus_poke(a->m, a->c, a->lin + a->i->opsize, &sel, 2);
    }
}

/* A selector in the source, register or memory. */
static void aim_selector(struct aim *a, unsigned k)
{
    const struct x86_opnd *o = &a->i->opnd[k];
    uint64_t sel = pick_sel(a->r);

    if (o->kind == X86_OPND_GPR)
        a->c->gpr[o->reg] = sel | (rnd_u64(a->r) & ~UINT64_C(0xffff));
    else if (o->kind == X86_OPND_MEM)
        corpus_poke(a->m, a->c, a->lin, &sel, 2);
}

static void aim_control(struct aim *a)
{
    uint64_t v = rnd_u64(a->r);

    switch (a->fi->op) {
    case X86_OP_LDMXCSR:
    case X86_OP_VLDMXCSR:
        v &= rnd_pct(a->r, 80) ? 0xffff : 0x1ffff;
        corpus_poke(a->m, a->c, a->lin, &v, 4);
        break;
    case X86_OP_FLDENV:
    case X86_OP_FRSTOR:
        v &= 0x1f7f;
        if (rnd_pct(a->r, 80))
            v |= 0x3f;
        corpus_poke(a->m, a->c, a->lin, &v, 2);
        break;
    case X86_OP_FBLD:
        for (unsigned k = 0; k < 9; k++) {
            uint8_t bcd = (uint8_t)(rnd_n(a->r, 10) << 4 | rnd_n(a->r, 10));
            corpus_poke(a->m, a->c, a->lin + k, &bcd, 1);
        }
        break;
    default:
        break;
    }
}

/* Bit offsets that reach around the operand. */
static void aim_bit(struct aim *a)
{
    const struct x86_opnd *o = &a->i->opnd[1];
    int64_t bit = (int64_t)rnd_n(a->r, 2 * 8 * 4096) - 8 * 4096;

    if (o->kind == X86_OPND_GPR && a->i->opnd[0].kind == X86_OPND_MEM &&
        rnd_pct(a->r, 85) && o->reg != a->i->base && o->reg != a->i->index)
        a->c->gpr[o->reg] = (uint64_t)(rnd_pct(a->r, 40) ? bit % 64 : bit);
}

static void aim_special(struct aim *a)
{
    switch (a->fi->op) {
    case X86_OP_FXSAVE:
    case X86_OP_FXRSTOR:
    case X86_OP_XSAVE:
    case X86_OP_XSAVEOPT:
    case X86_OP_XRSTOR:
        aim_save_area(a);
        break;
    case X86_OP_DIV:
    case X86_OP_IDIV:
        aim_divide(a);
        break;
    case X86_OP_CMPXCHG:
    case X86_OP_CMPXCHG8B:
    case X86_OP_CMPXCHG16B:
        aim_cmpxchg(a);
        break;
    case X86_OP_JMP:
    case X86_OP_CALL:
    case X86_OP_JMPF:
    case X86_OP_CALLF:
        if (a->i->nopnds && a->i->opnd[0].kind != X86_OPND_REL)
            aim_indirect(a);
        break;
    case X86_OP_LAR:
    case X86_OP_LSL:
        aim_selector(a, 1);
        break;
    case X86_OP_VERR:
    case X86_OP_VERW:
        aim_selector(a, 0);
        break;
    case X86_OP_LSS:
    case X86_OP_LFS:
    case X86_OP_LGS: {
        uint64_t sel = pick_sel(a->r);
        corpus_poke(a->m, a->c, a->lin + a->i->opsize, &sel, 2);
        break;
    }
    case X86_OP_MOV:
        if (a->i->opnd[0].kind == X86_OPND_SEG)
            aim_selector(a, 1);
        break;
    case X86_OP_PCMPESTRI:
    case X86_OP_PCMPESTRM:
    case X86_OP_VPCMPESTRI:
    case X86_OP_VPCMPESTRM:
        a->c->gpr[X86_RAX] = (uint64_t)((int64_t)rnd_n(a->r, 40) - 20);
        a->c->gpr[X86_RDX] = (uint64_t)((int64_t)rnd_n(a->r, 40) - 20);
        break;
    case X86_OP_BZHI:
    case X86_OP_BEXTR:
        if (a->i->opnd[2].kind == X86_OPND_GPR && rnd_pct(a->r, 70) &&
            a->i->opnd[2].reg != a->i->base)
            a->c->gpr[a->i->opnd[2].reg] =
                rnd_n(a->r, 70) | (uint64_t)rnd_n(a->r, 70) << 8;
        break;
    case X86_OP_WRFSBASE:
    case X86_OP_WRGSBASE:
        if (rnd_pct(a->r, 60))
            a->c->gpr[a->i->opnd[0].reg] = rnd_u64(a->r) >> 17;
        break;
    case X86_OP_INT:
        if (rnd_pct(a->r, 20))
            a->c->code[a->i->len - 1] = (uint8_t)(3 + rnd_n(a->r, 2));
        break;
    default:
        aim_control(a);
        break;
    }
}

void corpus_aim(struct corpus_maker *m, struct rnd *r, struct corpus_case *c,
                struct corpus_job *job)
{
    struct aim a = {.m = m,
                    .r = r,
                    .c = c,
                    .job = job,
                    .i = &job->insn,
                    .fi = x86_form_info(job->insn.form),
                    .flavor = rnd_n(r, RND_FLAVORS)};

    aim_stack(&a);
    if (a.fi->attr & XA_RC)
        set_base(&a, X86_RCX, rnd_pct(r, 60) ? rnd_n(r, 3) : rnd_int(r));
    if (a.fi->attr & XA_RDI)
        set_base(&a, X86_RDI, pick_lin(r, 16) - seg_base(&a));
    for (unsigned k = 0; k < a.i->nopnds; k++) {
        const struct x86_opnd *o = &a.i->opnd[k];
        unsigned size = o->size ? o->size : 64;
        switch (o->kind) {
        case X86_OPND_MEM:
            if (!a.fi->op) /* never */
                break;
            if (a.fi->attr & XA_BITMEM)
                aim_bit(&a);
            if (size > 64 && rnd_pct(r, 70)) { /* save areas: room for all */
                aim_mem(&a, CORPUS_DATA + 4096 + (rnd_n(r, 4096) & ~63U));
            } else {
                aim_mem(&a, pick_lin(r, size));
            }
            fill_mem(&a, a.lin, size);
            break;
        case X86_OPND_STRSRC:
        case X86_OPND_STRDST:
            aim_strings(&a, o->kind, size);
            break;
        case X86_OPND_XLAT:
            set_base(&a, X86_RBX,
                     pick_lin(r, 1) - seg_base(&a) - (c->gpr[X86_RAX] & 0xff));
            break;
        case X86_OPND_VSIB:
            aim_gather(&a);
            break;
        case X86_OPND_REL:
            aim_rel(&a);
            break;
        default:
            break;
        }
    }
    aim_special(&a);
}
