// SPDX-License-Identifier: Apache-2.0
/*
 * From a row of the instruction table to random bytes of that form: prefixes
 * legal and illegal, REX and both VEX encodings, ModRM within the row's
 * constraints. SIB, displacement and immediate are random bytes; the decoder
 * says where they end.
 */
#include "tests/insn/corpus/make.h"

#include <string.h>

struct enc {
    uint8_t *b;
    unsigned n;
};

static void put(struct enc *e, unsigned byte)
{
    e->b[e->n++] = (uint8_t)byte;
}

static bool has_slot(const struct x86_form_info *fi, const char *letters)
{
    for (unsigned k = 0; k < fi->nopnds; k++)
        if (strchr(letters, x86_ot_name(fi->opnd[k].type)[0]))
            return true;
    return false;
}

/* Legacy prefixes in random order. */
static void put_prefixes(struct rnd *r, const struct x86_form_info *fi,
                         struct enc *e)
{
    static const uint8_t segs[] = {0x26, 0x2e, 0x36, 0x3e,
                                   0x64, 0x65, 0x64, 0x65};
    unsigned want = XS_GET_PFX(fi->spec), n = 0;
    bool string = fi->attr & (XA_REP | XA_REPZ);
    uint8_t p[16];

    if (want == 2 || (want != 1 && rnd_pct(r, 25)))
        p[n++] = 0x66;
    if (want == 3 || want == 4)
        p[n++] = want == 3 ? 0xf3 : 0xf2;
    if (want == 0 && rnd_pct(r, string ? 60 : 4))
        p[n++] = rnd_pct(r, 50) ? 0xf3 : 0xf2;
    if (rnd_pct(r, 12))
        p[n++] = segs[rnd_n(r, ARRAY_LEN(segs))];
    if (rnd_pct(r, 10))
        p[n++] = 0x67;
    if (rnd_pct(r, fi->attr & XA_LOCK ? 25 : 1))
        p[n++] = 0xf0;
    if (n && rnd_pct(r, 3)) /* the same again */
        for (unsigned k = rnd_n(r, 8); k; k--, n++)
            p[n] = p[0];
    for (unsigned i = n; i > 1; i--) {
        unsigned k = rnd_n(r, i);
        uint8_t t = p[i - 1];
        p[i - 1] = p[k];
        p[k] = t;
    }
    for (unsigned i = 0; i < n; i++)
        put(e, p[i]);
}

static void put_legacy(struct rnd *r, const struct x86_form_info *fi,
                       struct enc *e)
{
    unsigned map = fi->spec & XS_MAP_MASK, rex = rnd_n(r, 8);

    put_prefixes(r, fi, e);
    if ((fi->spec & XS_W1) || (!(fi->spec & XS_W0) && rnd_pct(r, 35)))
        rex |= 8;
    if (fi->spec & XS_B0)
        rex &= ~1U;
    if ((fi->spec & XS_W1) || rnd_pct(r, 45))
        put(e, 0x40 | rex);
    if (map != X86_MAP_1B)
        put(e, 0x0f);
    if (map == X86_MAP_0F38)
        put(e, 0x38);
    if (map == X86_MAP_0F3A)
        put(e, 0x3a);
    put(e, fi->opcode + (fi->spec & XS_PLUS ? rnd_n(r, 8) : 0));
}

static void put_vex(struct rnd *r, const struct x86_form_info *fi,
                    struct enc *e)
{
    static const uint8_t bad[] = {0x66, 0xf2, 0xf3, 0xf0, 0x40, 0x48};
    static const uint8_t good[] = {0x67, 0x64, 0x65, 0x2e, 0x36};
    unsigned map = fi->spec & XS_MAP_MASK, p = XS_GET_PFX(fi->spec);
    unsigned w = fi->spec & XS_W1 ? 1 : fi->spec & XS_W0 ? 0 : rnd_n(r, 2);
    unsigned l = fi->spec & XS_L1 ? 1 : fi->spec & XS_L0 ? 0 : rnd_n(r, 2);
    unsigned v = has_slot(fi, "HB") || rnd_pct(r, 1) ? rnd_n(r, 16) : 0;
    unsigned rxb = rnd_n(r, 8), low;

    if (rnd_pct(r, 15))
        put(e, good[rnd_n(r, ARRAY_LEN(good))]);
    if (rnd_pct(r, 1))
        put(e, bad[rnd_n(r, ARRAY_LEN(bad))]);
    low = (~v & 15) << 3 | l << 2 | (p ? p - 1 : 0);
    if (map == X86_MAP_0F && !(fi->spec & XS_W1) && rnd_pct(r, 50)) {
        put(e, 0xc5);
        put(e, (rxb & 4) << 5 | low);
    } else {
        put(e, 0xc4);
        put(e, rxb << 5 | map);
        put(e, w << 7 | low);
    }
    put(e, fi->opcode);
}

/* Most bytes of immediates and displacements: edges. */
static void put_tail(struct rnd *r, struct enc *e)
{
    static const uint8_t edge[] = {0,    0xff, 0x7f, 0x80, 1,
                                   0x20, 0x40, 0x1f, 0x3f, 8};

    while (e->n < CORPUS_INSN_ROOM)
        put(e, rnd_pct(r, 35) ? edge[rnd_n(r, ARRAY_LEN(edge))]
                              : (unsigned)rnd_u64(r) & 0xff);
}

static unsigned modrm(struct rnd *r, const struct x86_form_info *fi)
{
    unsigned mod = rnd_n(r, 2) ? 3 : rnd_n(r, 3), reg = rnd_n(r, 8);
    unsigned rm = rnd_n(r, 8);

    if (fi->spec & XS_MEM)
        mod = rnd_n(r, 3);
    if (fi->spec & XS_REG)
        mod = 3;
    if (fi->spec & XS_R_GIVEN)
        reg = XS_GET_REG(fi->spec);
    if (fi->spec & XS_RM_GIVEN)
        rm = XS_GET_RM(fi->spec);
    if (fi->cls == X86_CLS_GATHER)
        rm = 4;
    return mod << 6 | reg << 3 | rm;
}

static void try_encode(struct rnd *r, const struct x86_form_info *fi,
                       uint8_t *bytes)
{
    struct enc e = {.b = bytes};

    if (fi->spec & XS_VEX)
        put_vex(r, fi, &e);
    else
        put_legacy(r, fi, &e);
    put(&e, modrm(r, fi)); /* where there is none, an immediate's byte */
    put_tail(r, &e);
}

bool corpus_encode(struct rnd *r, unsigned form, uint8_t *bytes)
{
    const struct x86_form_info *fi = x86_form_info(form);

    for (unsigned i = 0; i < 60; i++) {
        struct x86_insn insn;
        enum x86_dec d;

        try_encode(r, fi, bytes);
        memset(&insn, 0, sizeof insn);
        d = x86_decode(bytes, CORPUS_INSN_ROOM, X86_MODE_64, &insn);
        if (d == X86_DEC_OK && insn.form == form)
            return true;
        /* LOCK, vvvv, gather's registers and the like: #UD by the operands */
        if (d == X86_DEC_UD && insn.form == form && rnd_pct(r, 30))
            return true;
        if (d == X86_DEC_TOO_LONG && rnd_pct(r, 10))
            return true;
    }
    return false;
}

void corpus_junk(struct rnd *r, unsigned form, uint8_t *bytes)
{
    struct enc e = {.b = bytes};

    if (rnd_pct(r, 60)) { /* one bit or byte of a good one */
        try_encode(r, x86_form_info(form), bytes);
        if (rnd_pct(r, 50))
            bytes[rnd_n(r, 6)] ^= (uint8_t)(1U << rnd_n(r, 8));
        else
            bytes[rnd_n(r, 6)] = (uint8_t)rnd_u64(r);
        return;
    }
    for (unsigned k = rnd_n(r, 4); k; k--) {
        static const uint8_t pfx[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x64,
                                      0x65, 0x2e, 0x36, 0x48, 0x41, 0x44};
        put(&e, pfx[rnd_n(r, ARRAY_LEN(pfx))]);
    }
    if (rnd_pct(r, 70))
        put(&e, 0x0f);
    while (e.n < CORPUS_INSN_ROOM)
        put(&e, (unsigned)rnd_u64(r) & 0xff);
}
