// SPDX-License-Identifier: Apache-2.0
/*
 * Host generator, run at build time on insn.def:
 *   decode_gen ops     enum x86_op, sorted by name (insn_ops.h)
 *   decode_gen tables  the decoder's look-up tables (decode_tables.h)
 * The tables map an opcode to a form, or to a node that spreads over the
 * prefixes and ModRM fields that its rows look at; decode.c reads them.
 * Two rows that claim the same bytes with equal claim fail the build.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* decode.h without the generated header it includes */
#define DOPPEL_CPU_X86_INSN_IDS_H
enum x86_op {
    X86_OP_INVALID
};
enum x86_form {
    X86_FORM_INVALID,
#define INSN(form, ...) X86_FORM_##form,
#include "cpu/x86/insn.def"
#undef INSN
    X86_FORM_COUNT
};
#include "cpu/x86/insn.h"

/* clang-format off */
#define R(ot)  { X86_OT_##ot, X86_ACC_R }
#define W(ot)  { X86_OT_##ot, X86_ACC_W }
#define RW(ot) { X86_OT_##ot, X86_ACC_R | X86_ACC_W }

struct row {
    const char *name;
    const char *op;
    unsigned opcode;
    uint32_t spec;
    uint64_t attr;
    struct x86_form_opnd opnd[X86_OPNDS];
};

static const struct row rows[X86_FORM_COUNT] = {
    {.name = "INVALID", .op = "INVALID"},
#define INSN(form, op_, opc, spec_, cls, feat, fl, attr_, ...)                 \
    {#form, #op_, (opc), (spec_), (attr_), {__VA_ARGS__}},
#include "cpu/x86/insn.def"
#undef INSN
};

static const char *const slots[X86_OT_COUNT] = {
    "",
#define OT(code, slot, size) #slot,
#include "cpu/x86/insn_opnd.def"
#undef OT
};
/* clang-format on */

/* What a row may look at. Legacy: bw is REX.B, VEX: VEX.L; pfx: legacy 0
 * none, 1 66, 2 F3, 3 F2, 4 66+F3, 5 66+F2; VEX: pp. */
enum dim {
    D_M64,
    D_PFX,
    D_MOD3,
    D_REG,
    D_RM,
    D_W,
    D_BL,
    D_COUNT
};
static const unsigned dim_size[D_COUNT] = {2, 6, 2, 8, 8, 2, 2};

static bool has_slot(const struct row *r, const char *any_of)
{
    for (int i = 0; i < X86_OPNDS && r->opnd[i].type; i++) {
        const char *s = slots[r->opnd[i].type];
        char pat[16];
        snprintf(pat, sizeof(pat), " %s ", s);
        if (strstr(any_of, pat))
            return true;
    }
    return false;
}

static bool row_has_modrm(const struct row *r)
{
    return (r->spec & (XS_R_GIVEN | XS_MEM | XS_REG | XS_MODREG)) ||
           has_slot(
               r,
               " E EMw EMy EMb EMd G R M S C D STi P Q N V W U VMX VMx VMy ");
}

static bool row_matches_pfx(const struct row *r, unsigned pfx)
{
    static const unsigned rep[6] = {0, 0, 2, 3, 2, 3};

    if (r->spec & XS_VEX) {
        unsigned want = XS_GET_PFX(r->spec);
        return want == 0 || pfx == want - 1;
    }
    switch (r->spec & XS_PFX_MASK) {
    case XS_NP:
        return pfx == 0;
    case XS_66:
        return pfx == 1;
    case XS_F3:
        return rep[pfx] == 2;
    case XS_F2:
        return rep[pfx] == 3;
    case XS_NP66:
        return pfx <= 1;
    default:
        return true;
    }
}

/* MOV to CS and segment registers 6, 7 are no instructions; nor is a control
 * register without a meaning; REX.R is checked at decode time. */
static bool row_matches_reg(const struct row *r, unsigned reg)
{
    if ((r->spec & XS_R_GIVEN) && XS_GET_REG(r->spec) != reg)
        return false;
    for (int i = 0; i < X86_OPNDS && r->opnd[i].type; i++)
        if (strcmp(slots[r->opnd[i].type], "S") == 0)
            return reg <= 5 && !(reg == 1 && (r->opnd[i].access & X86_ACC_W));
    return true;
}

static bool row_matches(const struct row *r, const unsigned *k)
{
    bool mem = (r->spec & XS_MEM) || has_slot(r, " M VMX VMx VMy ");
    bool reg = (r->spec & XS_REG) ||
               (has_slot(r, " R N U ") && !(r->spec & XS_MODREG));

    if ((r->attr & XA_NO64) && k[D_M64])
        return false;
    if ((r->attr & XA_ONLY64) && !k[D_M64])
        return false;
    if (!row_matches_pfx(r, k[D_PFX]) || !row_matches_reg(r, k[D_REG]))
        return false;
    if ((mem && k[D_MOD3]) || (reg && !k[D_MOD3]))
        return false;
    if ((r->spec & XS_RM_GIVEN) && XS_GET_RM(r->spec) != k[D_RM])
        return false;
    unsigned w = k[D_M64] || (r->spec & XS_WX) ? k[D_W] : 0;
    if (((r->spec & XS_W0) && w) || ((r->spec & XS_W1) && !w))
        return false;
    if (r->spec & XS_VEX)
        return !((r->spec & XS_L0) && k[D_BL]) &&
               !((r->spec & XS_L1) && !k[D_BL]);
    return !((r->spec & XS_B0) && k[D_BL]);
}

static unsigned row_weight(const struct row *r)
{
    unsigned w = 0;

    w += (r->spec & XS_PFX_MASK) ? 2 : 0;
    w += (r->spec & XS_R_GIVEN) != 0;
    w += (r->spec & XS_RM_GIVEN) != 0;
    w += (r->spec & (XS_MEM | XS_REG)) != 0;
    w += (r->spec & (XS_W0 | XS_W1)) != 0;
    w += (r->spec & (XS_L0 | XS_L1)) != 0;
    w += (r->spec & XS_B0) != 0;
    return w;
}

/* The rows of one opcode. */
struct cands {
    unsigned n;
    unsigned form[160];
};

static void cands_find(struct cands *c, unsigned enc, unsigned map, unsigned op)
{
    c->n = 0;
    for (unsigned f = 1; f < X86_FORM_COUNT; f++) {
        const struct row *r = &rows[f];
        unsigned mask = r->spec & XS_PLUS ? 0xf8 : 0xff;
        if ((r->spec & XS_MAP_MASK) == map && !(r->spec & XS_VEX) == !enc &&
            (op & mask) == r->opcode)
            c->form[c->n++] = f;
    }
}

static unsigned pick(const struct cands *c, const unsigned *k)
{
    unsigned best = 0, best_w = 0, tie = 0;

    for (unsigned i = 0; i < c->n; i++) {
        const struct row *r = &rows[c->form[i]];
        if (!row_matches(r, k))
            continue;
        unsigned w = row_weight(r);
        if (!best || w > best_w) {
            best = c->form[i];
            best_w = w;
            tie = 0;
        } else if (w == best_w) {
            tie = c->form[i];
        }
    }
    if (tie) {
        fprintf(stderr, "insn.def: %s and %s claim the same bytes\n",
                rows[best].name, rows[tie].name);
        exit(1);
    }
    return best;
}

#define KEYS (2 * 6 * 2 * 8 * 8 * 2 * 2)

static unsigned full_index(const unsigned *k)
{
    unsigned i = 0;
    for (unsigned d = 0; d < D_COUNT; d++)
        i = i * dim_size[d] + k[d];
    return i;
}

static void key_of(unsigned i, unsigned *k)
{
    for (int d = D_COUNT - 1; d >= 0; d--) {
        k[d] = i % dim_size[d];
        i /= dim_size[d];
    }
}

static bool dim_matters(const uint16_t *pick_of, unsigned dim)
{
    for (unsigned i = 0; i < KEYS; i++) {
        unsigned k[D_COUNT];
        key_of(i, k);
        if (!k[dim])
            continue;
        k[dim] = 0;
        if (pick_of[full_index(k)] != pick_of[i])
            return true;
    }
    return false;
}

static uint16_t leaves[1 << 18];
static unsigned nleaves;
static char node_text[1 << 20];
static size_t node_len;
static unsigned nnodes;

/* Returns the opcode's entry: a form, or 0x8000 + node. */
static unsigned entry_make(const struct cands *c)
{
    static uint16_t pick_of[KEYS];
    unsigned mult[D_COUNT] = {0}, size = 1;

    for (unsigned i = 0; i < KEYS; i++) {
        unsigned k[D_COUNT];
        key_of(i, k);
        pick_of[i] = (uint16_t)pick(c, k);
    }
    for (int d = D_COUNT - 1; d >= 0; d--)
        if (dim_matters(pick_of, (unsigned)d)) {
            mult[d] = size;
            size *= dim_size[d];
        }
    if (size == 1)
        return pick_of[0];
    if (nleaves + size > sizeof(leaves) / sizeof(leaves[0]))
        exit(1);
    for (unsigned i = 0; i < KEYS; i++) {
        unsigned k[D_COUNT], at = nleaves;
        key_of(i, k);
        for (unsigned d = 0; d < D_COUNT; d++)
            at += k[d] * mult[d];
        leaves[at] = pick_of[i];
    }
    node_len += (size_t)snprintf(
        node_text + node_len, sizeof(node_text) - node_len,
        "    {%u, {%u, %u, %u, %u, %u, %u, %u}},\n", nleaves, mult[0], mult[1],
        mult[2], mult[3], mult[4], mult[5], mult[6]);
    nleaves += size;
    return 0x8000 + nnodes++;
}

/* Immediate bytes of a row: 0-3, 4: "2 or 4 by operand size", 5: the same and
 * a selector. */
static unsigned row_imm(const struct row *r)
{
    if (has_slot(r, " Iap "))
        return 5;
    return has_slot(r, " Ib Ibs L Jb ") ? 1 : has_slot(r, " Iz Jz ") ? 4 : 0;
}

/* What the CPU fetches of an opcode before it raises #UD, where the table has
 * no row: the three-byte maps always have ModRM, 0F 3A an immediate too.
 * Observed on Intel Sapphire Rapids. */
static bool extra_modrm(unsigned map, unsigned op)
{
    return map >= 2 ||
           (map == 1 && (op == 0x7a || op == 0x7b || (op & 0xfe) == 0xa6));
}

static void print_bytes(const char *name, unsigned char t[2][4][256])
{
    printf("static const uint8_t %s[2][4][256] = {\n", name);
    for (unsigned enc = 0; enc < 2; enc++) {
        puts("{");
        for (unsigned map = 0; map < 4; map++) {
            puts("{");
            for (unsigned op = 0; op < 256; op++)
                printf("%u,%s", t[enc][map][op], op % 32 == 31 ? "\n" : "");
            puts("},");
        }
        puts("},");
    }
    puts("};");
}

static int tables(void)
{
    static unsigned char modrm[2][4][256], ud_imm[2][4][256];

    puts("/* generated from insn.def */");
    puts("static const uint16_t dec_entry[2][4][256] = {");
    for (unsigned enc = 0; enc < 2; enc++) {
        puts("{");
        for (unsigned map = 0; map < 4; map++) {
            puts("{");
            for (unsigned op = 0; op < 256; op++) {
                struct cands c;
                cands_find(&c, enc, map, op);
                unsigned has = extra_modrm(map, op), imm = map == 3;
                for (unsigned i = 0; i < c.n; i++) {
                    has |= row_has_modrm(&rows[c.form[i]]);
                    imm |= row_imm(&rows[c.form[i]]);
                }
                /* VEX opcodes are measured by the legacy map */
                modrm[enc][map][op] = (uint8_t)(has | modrm[0][map][op]);
                ud_imm[enc][map][op] = (uint8_t)(imm | ud_imm[0][map][op]);
                printf("%u,%s", c.n ? entry_make(&c) : 0,
                       op % 16 == 15 ? "\n" : "");
            }
            puts("},");
        }
        puts("},");
    }
    puts("};");
    print_bytes("dec_modrm", modrm);
    print_bytes("dec_ud_imm", ud_imm);
    printf("static const struct dec_node dec_nodes[] = {\n%s};\n", node_text);
    puts("static const uint16_t dec_leaves[] = {");
    for (unsigned i = 0; i < nleaves; i++)
        printf("%u,%s", leaves[i], i % 16 == 15 ? "\n" : "");
    puts("};");
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int ops(void)
{
    const char *names[X86_FORM_COUNT];
    unsigned n = 0;

    for (unsigned f = 1; f < X86_FORM_COUNT; f++)
        names[n++] = rows[f].op;
    qsort(names, n, sizeof(names[0]), by_name);
    puts("/* generated from insn.def */\n#ifndef DOPPEL_CPU_X86_INSN_OPS_H\n"
         "#define DOPPEL_CPU_X86_INSN_OPS_H\n\n#define X86_OP_LIST(OP) \\");
    for (unsigned i = 0; i < n; i++)
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0)
            printf("    OP(%s) \\\n", names[i]);
    puts("\nenum x86_op {\n    X86_OP_INVALID,\n#define OP(x) X86_OP_##x,\n"
         "    X86_OP_LIST(OP)\n#undef OP\n    X86_OP_COUNT\n};\n\n#endif");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "ops") == 0)
        return ops();
    if (argc == 2 && strcmp(argv[1], "tables") == 0)
        return tables();
    fputs("usage: decode_gen ops|tables\n", stderr);
    return 2;
}
