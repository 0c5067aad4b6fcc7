// SPDX-License-Identifier: Apache-2.0
/* Unit tests of the decoder and of the table's own consistency. */
#include "base/test.h"
#include "cpu/x86/insn.h"

static const struct vector {
    unsigned bits;
    const char *hex;
    unsigned len;
    const char *text;
} vectors[] = {
#define V(bits, hex, len, text) {bits, hex, len, text},
#include "cpu/x86/decode_test.def"
};

static enum x86_mode mode_of(unsigned bits)
{
    return bits == 64 ? X86_MODE_64 : bits == 32 ? X86_MODE_32 : X86_MODE_16;
}

static size_t unhex(const char *hex, uint8_t *out, size_t max)
{
    size_t n = 0;
    unsigned v;

    for (; hex[0] && hex[1] && n < max; hex += 2, n++) {
        if (sscanf(hex, "%2x", &v) != 1)
            break;
        out[n] = (uint8_t)v;
    }
    return n;
}

/* Decodes @n bytes out of a buffer longer than the decoder looks, or not. */
static enum x86_dec decode(const uint8_t *b, size_t n, unsigned bits,
                           struct x86_insn *insn, char *text, size_t tn)
{
    enum x86_dec r = x86_decode(b, n, mode_of(bits), insn);

    snprintf(text, tn, "%s",
             r == X86_DEC_UD         ? "#UD"
             : r == X86_DEC_TOO_LONG ? "#GP"
                                     : "more");
    if (r == X86_DEC_OK)
        x86_disasm(insn, 0x1000, text, tn);
    return r;
}

TEST(vectors)
{
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        const struct vector *v = &vectors[i];
        uint8_t b[64] = {0};
        char text[100];
        struct x86_insn insn;
        size_t n = unhex(v->hex, b, sizeof(b));

        /* from the bytes alone, then with more behind them */
        for (unsigned pass = 0; pass < 2; pass++) {
            decode(b, pass ? sizeof(b) : n, v->bits, &insn, text, sizeof(text));
            if (insn.len == v->len && strcmp(text, v->text) == 0)
                continue;
            printf("%u-bit %s: %u bytes %s, not %u bytes %s\n", v->bits, v->hex,
                   insn.len, text, v->len, v->text);
            test_failures++;
        }
    }
}

/* Every shorter piece asks for more: the page behind may be absent. */
TEST(pieces_ask_for_more)
{
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        const struct vector *v = &vectors[i];
        uint8_t b[64];
        struct x86_insn insn;

        unhex(v->hex, b, sizeof(b));
        for (unsigned n = 0; n < v->len; n++) {
            int r = x86_decode(b, n, mode_of(v->bits), &insn);
            if (r == X86_DEC_MORE)
                continue;
            printf("%s: %u bytes give %d\n", v->hex, n, r);
            test_failures++;
        }
    }
}

/* What an earlier decode left in the result must not matter. */
TEST(stale_result)
{
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        const struct vector *v = &vectors[i];
        uint8_t b[64] = {0};
        char text[100];
        struct x86_insn insn;

        unhex(v->hex, b, sizeof(b));
        for (int fill = 0; fill <= X86_OPND_ONE; fill++) {
            memset(&insn, fill, sizeof(insn));
            decode(b, sizeof(b), v->bits, &insn, text, sizeof(text));
            if (insn.len == v->len && strcmp(text, v->text) == 0)
                continue;
            printf("%s over %d: %u bytes %s\n", v->hex, fill, insn.len, text);
            test_failures++;
        }
    }
}

TEST(high_byte_registers)
{
    struct x86_insn i;

    CHECK_EQ(x86_decode((const uint8_t *)"\x88\xfc", 2, X86_MODE_64, &i),
             X86_DEC_OK);
    CHECK_EQ(i.opnd[0].reg, 0);
    CHECK(i.opnd[0].high);
    CHECK_EQ(i.opnd[1].reg, 3);
    CHECK(i.opnd[1].high);
}

TEST(fields)
{
    static const uint8_t b[] = {0x64, 0xf0, 0x4c, 0x01, 0x84,
                                0x4d, 0x10, 0x20, 0x30, 0x80};
    struct x86_insn i;

    CHECK_EQ(x86_decode(b, sizeof(b), X86_MODE_64, &i), X86_DEC_OK);
    CHECK_EQ(i.form, X86_FORM_ADD_Ev_Gv);
    CHECK_EQ(i.op, X86_OP_ADD);
    CHECK_EQ(i.prefix, X86_PFX_LOCK | X86_PFX_REX | X86_PFX_SEG);
    CHECK_EQ(i.seg, X86_SEG_FS);
    CHECK_EQ(i.base, 5);
    CHECK_EQ(i.index, 1);
    CHECK_EQ(i.scale, 1);
    CHECK_EQ(i.disp_len, 4);
    CHECK_EQ((uint64_t)i.disp, 0xffffffff80302010);
    CHECK_EQ(i.opnd[0].kind, X86_OPND_MEM);
    CHECK_EQ(i.opnd[0].size, 8);
    CHECK_EQ(i.opnd[0].access, X86_ACC_R | X86_ACC_W);
    CHECK_EQ(i.opnd[1].reg, 8);
    CHECK_EQ(i.opsize, 8);
    CHECK_EQ(i.adsize, 8);
}

/* rBP and rSP bases mean SS unless overridden. */
TEST(default_segments)
{
    struct x86_insn i;

    x86_decode((const uint8_t *)"\x8b\x45\x00", 3, X86_MODE_32, &i);
    CHECK_EQ(i.seg, X86_SEG_SS);
    x86_decode((const uint8_t *)"\x8b\x04\x24", 3, X86_MODE_32, &i);
    CHECK_EQ(i.seg, X86_SEG_SS);
    x86_decode((const uint8_t *)"\x8b\x02", 2, X86_MODE_16, &i);
    CHECK_EQ(i.seg, X86_SEG_SS); /* [bp+si] */
    x86_decode((const uint8_t *)"\x8b\x06\x00\x00", 4, X86_MODE_16, &i);
    CHECK_EQ(i.seg, X86_SEG_DS);
    x86_decode((const uint8_t *)"\x3e\x8b\x45\x00", 4, X86_MODE_32, &i);
    CHECK_EQ(i.seg, X86_SEG_DS);
}

TEST(table_is_consistent)
{
    for (unsigned f = 1; f < X86_FORM_COUNT; f++) {
        const struct x86_form_info *i = x86_form_info((enum x86_form)f);
        bool vec = i->cls == X86_CLS_AVX || i->cls == X86_CLS_GATHER;

        CHECK(i->name != NULL && i->op != X86_OP_INVALID);
        CHECK(i->cls != X86_CLS_NONE);
        CHECK(i->nopnds <= X86_OPNDS);
        CHECK(!vec || (i->spec & XS_VEX));
        CHECK(!(i->attr & XA_NO64) || !(i->attr & XA_ONLY64));
        CHECK(!(i->attr & XA_PRIVUD) || (i->attr & XA_PRIV));
        CHECK(!(i->spec & XS_MEM) || !(i->spec & XS_REG));
        CHECK(!(i->fl_written & i->fl_undef));
        if (i->attr & XA_LOCK)
            CHECK(i->opnd[0].access & X86_ACC_W);
        if (test_failures) {
            printf("in %s\n", i->name);
            return;
        }
    }
}

TEST(disasm_cuts_off)
{
    struct x86_insn i;
    char out[8];

    x86_decode((const uint8_t *)"\x48\x89\x44\x24\x08", 5, X86_MODE_64, &i);
    for (size_t n = 0; n <= sizeof(out); n++) {
        memset(out, 'x', sizeof(out));
        x86_disasm(&i, 0, out, n);
        CHECK(n == 0 || strlen(out) == n - 1);
        CHECK(n == sizeof(out) || out[n] == 'x');
    }
}

TEST_MAIN(CASE(vectors), CASE(pieces_ask_for_more), CASE(stale_result),
          CASE(high_byte_registers), CASE(fields), CASE(default_segments),
          CASE(table_is_consistent), CASE(disasm_cuts_off))
