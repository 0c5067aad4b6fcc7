// SPDX-License-Identifier: Apache-2.0
/*
 * Checks a region of translated code by decoding it.
 *
 * Deny by default: each instruction is one that host_ok.def lists, with a
 * memory operand only where its address was looked up, or exactly one of the
 * translator's own: GS accesses to the fields of emitted_mem.c, jumps by gates,
 * caches and cells. Jumps within lead to instructions of the region.
 *
 * Registers carry tags, followed through the code: an index made by PEXT, which
 * becomes good when its key was used and a comparison passed; a distance or
 * address of host memory loaded by a good index or from a window; the guest's
 * CPU state. Host addresses must not get into the guest's registers. Where C
 * may come in nothing is known; where jumps lead, what all of them bring.
 *
 * The kind of access (user, supervisor, supervisor with AC) is known at each
 * place: all ways there, also those by C, must have the same. It changes where
 * the mode word is stored.
 *
 * Zones: a distance is that of a value's bits 40-47, from the table of the
 * present kind; it may be added to that value and what is near to it, alone. A
 * register's value is followed through additions of constants and through homes
 * (emitted_val.h), a distance through its window's slot. Those of loops are
 * not.
 */
#include "tests/bt/emitted_priv.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- which forms ---- */

struct emitted *emitted_open(void)
{
    static const char *const names[] = {
#define OK(form) #form,
#include "tests/bt/host_ok.def"
#undef OK
    };
    struct emitted *m = calloc(1, sizeof *m);

    if (!m)
        abort();
    for (size_t k = 0; k < ARRAY_LEN(names); k++)
        for (unsigned f = 1; f < X86_FORM_COUNT; f++)
            if (!strcmp(x86_form_info(f)->name, names[k]))
                m->ok[f] = true;
    return m;
}

void emitted_close(struct emitted *m)
{
    free(m);
}

uint64_t emitted_insns(const struct emitted *m)
{
    return m->count;
}

/* ---- decoding ---- */

static uint16_t *slot_of(struct emitted *m, uint32_t off)
{
    const struct bt_block *b = m->b;

    if (off >= b->indirect && off < b->code_end)
        return &m->at[0][off - b->indirect];
    if (off >= b->cold && off < b->cold_end)
        return &m->at[1][off - b->cold];
    return NULL;
}

/* Return: false: bytes that are no instruction. */
static bool decode_span(struct emitted *m, uint32_t at, uint32_t end)
{
    while (at < end) {
        struct insn *h = &m->insn[m->n];

        if (m->n == INSNS || x86_decode(m->bt->rw + at, end - at, X86_MODE_64,
                                        &h->i) != X86_DEC_OK)
            return false;
        h->off = at;
        h->to = NONE;
        h->entry = h->back = h->target = h->head = h->known = false;
        h->kind = NO_KIND;
        *slot_of(m, at) = (uint16_t)++m->n;
        at += h->i.len;
    }
    return true;
}

bool emitted_known_off(const struct emitted *m, uint32_t off)
{
    const uint16_t *s = slot_of((struct emitted *)m, off);

    return s && *s;
}

static bool is_direct(const struct x86_insn *i)
{
    return i->nopnds == 1 && i->opnd[0].kind == X86_OPND_REL;
}

static bool is_thunk(uint32_t to)
{
    for (unsigned i = 0; i < 6; i++)
        if (to == BT_STK_THUNK(i / 2, i % 2))
            return true;
    return to == BT_THUNK || to == BT_THUNK_CF;
}

static void mark_entry(struct emitted *m, uint32_t off, bool back)
{
    uint16_t *s = slot_of(m, off);

    if (s && *s && back)
        m->insn[*s - 1].back = true;
    else if (s && *s)
        m->insn[*s - 1].entry = true;
}

/* mov dword gs:[site], n; jmp gs:[gate]: where C may come back to. */
static void mark_return(struct emitted *m, const struct x86_insn *set,
                        const struct x86_insn *jump)
{
    const struct bt_site *s;

    if (set->disp != BT_SITE || set->opcode != 0xc7 ||
        set->imm >= m->bt->nsites || set->imm < m->first_site)
        return;
    s = &m->bt->sites[set->imm];
    if (jump->disp == BT_GATE(BT_G_MISS))
        mark_entry(m, s->start, true);
    if (jump->disp == BT_GATE(BT_G_CALLOUT))
        mark_entry(m, s->next, false);
    if (jump->disp == BT_GATE(BT_G_MISS) && !s->window)
        mark_entry(m, s->next, true);
}

uint32_t emitted_rip_target(const struct insn *h)
{
    return h->off + h->i.len + (uint32_t)h->i.disp;
}

bool emitted_way_back(const struct x86_insn *i)
{
    return i->op == X86_OP_LEA && i->reg == X86_R11 && i->base == X86_REG_RIP &&
           i->opsize == 8 && i->adsize == 8;
}

static const char *find_targets(struct emitted *m)
{
    for (unsigned k = 0; k < m->n; k++) {
        struct insn *h = &m->insn[k];
        uint32_t to = h->off + h->i.len + (uint32_t)h->i.imm;
        uint16_t *s;

        if (!is_direct(&h->i) || is_thunk(to))
            continue;
        s = slot_of(m, to);
        if (!s || !*s)
            return "a jump to what is no instruction of the region";
        h->to = (uint16_t)(*s - 1);
        m->insn[h->to].target = true;
        m->insn[h->to].head |= h->to <= k;
    }
    mark_entry(m, m->b->indirect, false);
    mark_entry(m, m->b->code, false);
    if (!emitted_known_off(m, m->b->indirect) ||
        !emitted_known_off(m, m->b->code))
        return "an entry that is no instruction";
    for (unsigned e = 0; e < 2; e++)
        m->insn[*slot_of(m, e ? m->b->code : m->b->indirect) - 1].kind =
            m->b->mode & BT_MODE_KIND;
    for (unsigned k = 0; k + 1 < m->n; k++)
        mark_return(m, &m->insn[k].i, &m->insn[k + 1].i);
    for (unsigned k = 0; k < m->n; k++)
        if (emitted_way_back(&m->insn[k].i))
            mark_entry(m, emitted_rip_target(&m->insn[k]), true);
    return NULL;
}

/* ---- following the tags ---- */

static void spoil(const struct x86_insn *i, struct state *s)
{
    uint64_t a = x86_form_info(i->form)->attr;

    for (unsigned k = 0; k < i->nopnds; k++)
        if (i->opnd[k].kind == X86_OPND_GPR && (i->opnd[k].access & X86_ACC_W))
            s->tag[i->opnd[k].reg] = T_NONE;
    if (a & XA_WA)
        s->tag[X86_RAX] = T_NONE;
    if (a & XA_WC)
        s->tag[X86_RCX] = T_NONE;
    if (a & XA_WD)
        s->tag[X86_RDX] = T_NONE;
    if (a & XA_WB)
        s->tag[X86_RBX] = T_NONE;
    if (a & (XA_WR11 | XA_WBP))
        s->tag[X86_R11] = s->tag[X86_RBP] = T_NONE;
}

static void good(struct state *s)
{
    for (unsigned r = 0; r < 16; r++)
        if (s->tag[r] == T_KEYED)
            s->tag[r] = T_GOOD;
}

static bool compares(const struct x86_insn *i, unsigned r, uint64_t most)
{
    return i->op == X86_OP_CMP && i->opsize == 8 && !emitted_memory(i) &&
           i->opnd[0].reg == r && i->opnd[1].kind == X86_OPND_IMM &&
           i->imm <= most;
}

/* lea r11, [rcx - 1]; cmp r11, at most 4095; ja: RCX is 1 to 4096. Then cmp
 * rcx, at most 32; ja; and lea rcx, [rcx * size]: so many bytes. */
static void count(const struct x86_insn *i, struct state *s)
{
    bool lea = i->op == X86_OP_LEA && i->opsize == 8 && i->adsize == 8 &&
               i->reg == X86_R11 && i->base == X86_RCX &&
               i->index == X86_REG_NONE && i->disp == -1;
    bool bytes = i->op == X86_OP_LEA && i->opsize == 8 && i->adsize == 8 &&
                 i->reg == X86_RCX && i->base == X86_REG_NONE &&
                 i->index == X86_RCX && i->disp == 0;
    uint64_t a = x86_form_info(i->form)->attr;
    bool rcx = a & XA_WC;

    for (unsigned k = 0; k < i->nopnds; k++)
        rcx |= i->opnd[k].kind == X86_OPND_GPR &&
               (i->opnd[k].access & X86_ACC_W) && i->opnd[k].reg == X86_RCX;
    if (rcx)
        s->count = bytes && s->count == C_FEW ? C_BYTES : C_NONE;
    else if (lea)
        s->count = C_LESS1;
    else if (s->count == C_LESS1)
        s->count = compares(i, X86_R11, 4095) ? C_COMPARED : C_NONE;
    else if (s->count == C_COMPARED) /* the jump comes next: direct() */
        s->count = C_NONE;
    else if (s->count == C_AGAIN)
        s->count = C_SMALL;
    else if (s->count == C_SMALL && compares(i, X86_RCX, 32))
        s->count = C_AGAIN;
}

/* Behind a JA: here, and at its target. */
static void not_above(struct state *s, struct state *taken)
{
    good(s);
    if (s->count == C_COMPARED)
        s->count = C_SMALL;
    if (s->count == C_AGAIN)
        s->count = C_FEW;
    if (taken->count == C_AGAIN)
        taken->count = C_SMALL;
}

/* rorx r, value, 40; movzx r, its lowest byte; LEA with a distance. */
static enum tag zone_step(const struct emitted *m, const struct x86_insn *i,
                          const struct state *s, struct val *of)
{
    const struct x86_opnd *o = i->opnd;

    *of = (struct val){VAL_NONE, 0};
    if (i->op == X86_OP_RORX && o[0].size == 8 && !emitted_memory(i) &&
        i->imm == 40) {
        *of = s->vals.v[o[1].reg];
        return T_TOP;
    }
    if (i->op == X86_OP_MOVZX && o[0].size == 4 && o[1].size == 1 &&
        !emitted_memory(i) && !o[1].high && s->tag[o[1].reg] == T_TOP) {
        *of = s->of[o[1].reg];
        return T_TOP8;
    }
    if (i->op != X86_OP_LEA || o[0].size != 8 || i->adsize != 8)
        return T_NONE;
    if (emitted_zone_operand(m, i, s))
        return T_PLACE;
    if ((i->base < 16 && s->tag[i->base] == T_DIST) ||
        (i->index < 16 && s->tag[i->index] == T_DIST))
        return T_MOVED;
    return T_NONE;
}

/* LEA of a looked-up operand gives a host address. */
static void follow(const struct emitted *m, const struct x86_insn *i,
                   struct state *s)
{
    struct val of;
    enum tag zone = zone_step(m, i, s, &of);
    bool host = i->op == X86_OP_LEA && i->adsize == 8 && i->opsize == 8 &&
                emitted_host_operand(i, s);
    bool back =
        host && i->disp == 1 && i->index < 16 && s->tag[i->index] == T_MINUS;
    bool minus = i->op == X86_OP_NOT && i->opsize == 8 && !emitted_memory(i) &&
                 s->tag[i->rm] == T_HOST;

    spoil(i, s);
    if (host && !back)
        s->tag[i->reg] = T_HOST;
    if (minus)
        s->tag[i->rm] = T_MINUS;
    if (zone != T_NONE) {
        s->tag[i->opnd[0].reg] = (uint8_t)zone;
        s->of[i->opnd[0].reg] = of;
    }
}

static bool few(const struct state *s)
{
    return s->count == C_SMALL || s->count == C_FEW;
}

/* Return: whether less is known at @to than before. */
static bool meet(struct emitted *m, struct insn *to, const struct state *s)
{
    struct state was = to->in;

    if (!to->known) {
        to->in = *s;
        to->known = true;
        return true;
    }
    vals_meet(&to->in.vals, &s->vals, (unsigned)(to - m->insn));
    for (unsigned r = 0; r < 16; r++) {
        const struct val *a = &to->in.of[r], *b = &s->of[r];
        bool zone = s->tag[r] >= T_TOP && s->tag[r] <= T_DIST;

        if (to->in.tag[r] != s->tag[r] ||
            (zone && (a->name != b->name || a->off != b->off)))
            to->in.tag[r] = T_NONE;
        a = &to->in.win[r], b = &s->win[r];
        if (a->name != b->name || a->off != b->off)
            to->in.win[r] = (struct val){VAL_NONE, 0};
        if (to->in.tag[r] < T_TOP || to->in.tag[r] > T_DIST)
            to->in.of[r] = (struct val){VAL_NONE, 0};
    }
    to->in.stream &= s->stream;
    if (to->in.count != s->count)
        to->in.count = few(&to->in) && few(s) ? C_SMALL : C_NONE;
    if (to->in.site != s->site)
        to->in.site = 0;
    return memcmp(&was, &to->in, sizeof was) != 0;
}

const char *emitted_arrive(struct emitted *m, const struct insn *from,
                           uint32_t off, unsigned kind)
{
    const uint16_t *s = slot_of(m, off);
    struct insn *to;

    if (!s || !*s)
        return "a way to what is no instruction of the region";
    to = &m->insn[*s - 1];
    if (to->kind == kind)
        return NULL;
    if (to->kind != NO_KIND)
        return "ways of two kinds of access meet";
    to->kind = (uint8_t)kind;
    m->again |= to <= from;
    return NULL;
}

/* The guest's registers when the region is left: none knows the host. */
static const char *leaves_clean(const struct state *s)
{
    for (unsigned r = 0; r < 16; r++)
        if (r != X86_R10 && r != X86_R11 && emitted_secret(s, r))
            return "a host address in a guest register at an exit";
    return NULL;
}

static const char *direct(struct emitted *m, struct insn *h, struct state *s)
{
    const struct x86_insn *i = &h->i;
    bool jcc = i->map == X86_MAP_0F ? (i->opcode & 0xf0U) == 0x80
                                    : (i->opcode & 0xf0U) == 0x70;
    struct state taken = *s;

    if (i->prefix & ~(i->op == X86_OP_JCXZ ? X86_PFX_ASZ : 0U))
        return "a jump with prefixes";
    if (i->op == X86_OP_JCXZ)
        good(&taken); /* nothing above the offset */
    else if (!jcc && i->op != X86_OP_JMP)
        return "another kind of jump";
    if (jcc && (i->opcode & 15) == 7) /* JA */
        not_above(s, &taken);
    if (h->to == NONE) {
        const char *what =
            emitted_thunk(m, h->off + i->len + (uint32_t)i->imm, s);

        return what ? what : leaves_clean(s);
    }
    m->again |= meet(m, &m->insn[h->to], &taken) && &m->insn[h->to] <= h;
    return emitted_arrive(m, h, m->insn[h->to].off, s->kind);
}

static bool ends(const struct x86_insn *i)
{
    return i->op == X86_OP_JMP;
}

/* Whether it moves a value that is followed. */
static bool keeps(const struct x86_insn *i)
{
    return i->index == X86_REG_NONE && emitted_kept_in(i->disp) &&
           (emitted_wide_mov(i, 0x8b) || emitted_wide_mov(i, 0x89));
}

static const char *check_one(struct emitted *m, struct insn *h, struct state *s)
{
    const struct x86_insn *i = &h->i;
    unsigned at = (unsigned)(h - m->insn);
    const char *what;

    if (s->due && !emitted_sets_mode(i))
        return "AC was stored, but not the mode word behind it";
    if (is_direct(i))
        return direct(m, h, s);
    if (emitted_memory(i) && (i->prefix & X86_PFX_SEG) &&
        i->seg == X86_SEG_GS) {
        if (!keeps(i))
            vals_step(&s->vals, i, at);
        what = emitted_gs(m, h, s);
    } else if (emitted_memory(i) && i->base == X86_REG_RIP) {
        what = emitted_rip(m, h, s);
        if (!what && i->op != X86_OP_JMP)
            s->tag[i->reg] = T_NONE;
        vals_step(&s->vals, i, at);
    } else {
        what = emitted_guest(m, i, s);
        count(i, s);
        follow(m, i, s);
        vals_step(&s->vals, i, at);
    }
    if (!what && ends(i))
        what = leaves_clean(s);
    return what;
}

static void nothing_known(struct state *s, unsigned at)
{
    *s = (struct state){0};
    vals_unknown(&s->vals, at);
}

/* C puts the guest's registers back, two of which are the region's scratch. */
static void tags_unknown(struct state *s, unsigned at)
{
    for (unsigned r = 0; r < 16; r++) {
        if (s->tag[r] != T_NONE || r == X86_R10 || r == X86_R11)
            vals_set_unknown(&s->vals, r, at);
        s->tag[r] = T_NONE;
        s->of[r] = (struct val){VAL_NONE, 0};
    }
    s->count = 0;
    s->site = 0;
}

/* What is known where instruction @h begins. @falls: @s leads here. */
static const char *begin(struct emitted *m, struct insn *h, bool falls,
                         struct state *s)
{
    unsigned k = (unsigned)(h - m->insn);
    const char *what = NULL;

    if (falls && k == m->ncold)
        return "the hot part goes on behind its end";
    if (falls && s->due && (h->entry || h->back || h->target))
        return "a way in between AC and the mode word";
    if (falls)
        what = emitted_arrive(m, h - 1, h->off, s->kind);
    if (falls && h->target)
        meet(m, h, s);
    if (h->entry || (!falls && !h->known))
        nothing_known(s, k);
    else if (h->known)
        *s = h->in;
    if (h->back)
        tags_unknown(s, k);
    s->kind = h->kind;
    return what;
}

/* Places that nothing is known to lead to wait for the next time round. */
static const char *check_all(struct emitted *m, unsigned *at)
{
    const char *what = NULL;
    struct state s = {0};
    bool falls = false; /* the one before goes on here */

    for (unsigned k = 0; k < m->n && !what; k++) {
        struct insn *h = &m->insn[k];

        *at = k;
        what = begin(m, h, falls, &s);
        falls = h->kind != NO_KIND && !ends(&h->i);
        if (!what && h->kind != NO_KIND)
            what = check_one(m, h, &s);
    }
    if (!what && falls)
        return "the region goes on behind its end";
    return what;
}

/* Code that nothing leads to (the checked body of a loop by zones) is made for
 * the same kind as what stands before it. Return: whether there is some. */
static bool dead_begins(struct emitted *m)
{
    for (unsigned k = 1; k < m->n; k++)
        if (m->insn[k].kind == NO_KIND) {
            m->insn[k].kind = m->insn[k - 1].kind;
            return true;
        }
    return false;
}

const char *emitted_check(struct emitted *m, const struct bt *bt,
                          const struct bt_block *b, uint32_t first_site,
                          char *text, size_t n)
{
    const char *what;
    unsigned at = 0;

    m->bt = bt;
    m->b = b;
    m->first_site = first_site;
    m->n = 0;
    *text = 0;
    if (b->code_end - b->indirect > EMITTED_BYTES ||
        b->cold_end - b->cold > EMITTED_BYTES)
        return "a region of more than 32 KiB";
    memset(m->at[0], 0, sizeof m->at[0][0] * (b->code_end - b->indirect));
    memset(m->at[1], 0, sizeof m->at[1][0] * (b->cold_end - b->cold));
    if (!decode_span(m, b->indirect, b->code_end))
        return "bytes that are no instruction";
    m->ncold = m->n;
    if (!decode_span(m, b->cold, b->cold_end))
        return "cold bytes that are no instruction";
    m->count += m->n;
    what = find_targets(m);
    do { /* until nothing changes at the heads of loops */
        m->again = false;
        for (unsigned k = 0; k < m->n; k++) /* what came round stays */
            m->insn[k].known &= m->insn[k].head;
        if (!what)
            what = check_all(m, &at);
    } while (!what && (m->again || dead_begins(m)));
    if (what) {
        int k = snprintf(text, n, "%08x ", m->insn[at].off);

        x86_disasm(&m->insn[at].i, m->insn[at].off, text + k, n - (size_t)k);
    }
    return what;
}

void emitted_dump(const struct emitted *m)
{
    for (unsigned k = 0; k < m->n; k++) {
        char text[128];

        x86_disasm(&m->insn[k].i, m->insn[k].off, text, sizeof text);
        printf("    %s%08x %c %s\n", k == m->ncold ? "cold\n    " : "",
               m->insn[k].off, m->insn[k].entry ? '>' : ' ', text);
    }
}
