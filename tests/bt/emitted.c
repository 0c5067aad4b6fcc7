// SPDX-License-Identifier: Apache-2.0
/*
 * Checks a region of translated code by decoding it.
 *
 * Deny by default: each instruction is one that host_ok.def lists, with a
 * memory operand only where its address was looked up, or exactly one of the
 * translator's own: GS accesses to the fields below, jumps by gates, caches
 * and cells. Jumps within lead to instructions of the region.
 *
 * Registers carry tags, followed through the code: an index made by PEXT, which
 * becomes good when its key was used and a comparison passed; a distance or
 * address of host memory loaded by a good index or from a window; the guest's
 * CPU state. Host addresses must not get into the guest's registers. Where C
 * may come in nothing is known; where jumps lead, what all of them bring.
 *
 * Zones: a distance is that of a value's bits 40-47, from the table of the
 * region's kind; it may be added to that value and what is near to it, alone. A
 * register's value is followed through additions of constants and through homes
 * (emitted_val.h), a distance through its window's slot. Those of loops are
 * not.
 */
#include "tests/bt/emitted.h"

#include "tests/bt/emitted_val.h"

#include <stdio.h>
#include <stdlib.h>

#define INSNS    8192U
#define STREAMS  4U /* of the six BT_LOOP */
#define NONE     UINT16_MAX
#define FIELD(f) ((int64_t)offsetof(struct x86_cpu, f))

enum tag {
    T_NONE,
    T_INDEX, /* PEXT with the TLB's mask */
    T_KEYED, /* ... whose key was added or loaded */
    T_GOOD,  /* ... and compared */
    T_IB,    /* PEXT with the branch cache's mask */
    T_HOST,  /* an address of host memory, or a distance to it */
    T_MINUS, /* NOT of a distance */
    T_CPU,   /* struct x86_cpu */
    T_TOP,   /* a value's bits 40-47 are its lowest */
    T_TOP8,  /* ... and all it is */
    T_DIST,  /* to where that value's zone is */
    T_SEG,   /* where the base of FS or GS is, by its zone */
    T_PLACE, /* a value and its distance: where that is */
    T_MOVED  /* a T_DIST with a part of an address, for a loop */
};

/* Half a guard: displacements, and how far values move in a region. */
#define NEAR (INT64_C(3) << 30)

struct state {
    uint8_t tag[16];
    uint8_t other; /* the kind of access was changed to this; 0: not */
    uint8_t count; /* RCX: 1: less 1 in R11, 2: compared, 3: small */
    struct vals vals;
    struct val of[16];  /* T_TOP to T_DIST: of which value */
    struct val win[16]; /* distances in windows' slots; VAL_NONE: unknown */
};

struct insn {
    struct x86_insn i;
    uint32_t off;
    uint16_t to; /* direct jump: its target; NONE: elsewhere, or no jump */
    bool entry;  /* C comes in, having done anything */
    bool back;   /* C comes back, having done what stands before it */
    bool target; /* a jump leads here */
    bool head;   /* ... one backwards */
    bool known;  /* in was set */
    struct state in;
};

struct emitted {
    bool ok[X86_FORM_COUNT];
    const struct bt *bt;
    const struct bt_block *b;
    struct insn insn[INSNS];
    unsigned n, ncold;             /* hot ones, all */
    uint16_t at[2][EMITTED_BYTES]; /* instruction at an offset, + 1 */
    uint64_t count;
    bool again; /* a jump backwards brought less than was thought */
};

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
        *slot_of(m, at) = (uint16_t)++m->n;
        at += h->i.len;
    }
    return true;
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
                        const struct x86_insn *jump, uint32_t first_site)
{
    const struct bt_site *s;

    if (set->disp != BT_SITE || set->opcode != 0xc7 ||
        set->imm >= m->bt->nsites || set->imm < first_site)
        return;
    s = &m->bt->sites[set->imm];
    if (jump->disp == BT_GATE(BT_G_MISS))
        mark_entry(m, s->start, true);
    if (jump->disp == BT_GATE(BT_G_CALLOUT))
        mark_entry(m, s->next, false);
    if (jump->disp == BT_GATE(BT_G_MISS) && !s->window)
        mark_entry(m, s->next, true);
}

static uint32_t rip_target(const struct insn *h)
{
    return h->off + h->i.len + (uint32_t)h->i.disp;
}

/* lea r11, [rip + the check]: what the stack's thunk comes back to */
static bool is_way_back(const struct x86_insn *i)
{
    return i->op == X86_OP_LEA && i->reg == X86_R11 && i->base == X86_REG_RIP &&
           i->opsize == 8 && i->adsize == 8;
}

static const char *find_targets(struct emitted *m, uint32_t first_site)
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
    for (unsigned k = 0; k + 1 < m->n; k++)
        mark_return(m, &m->insn[k].i, &m->insn[k + 1].i, first_site);
    for (unsigned k = 0; k < m->n; k++)
        if (is_way_back(&m->insn[k].i))
            mark_entry(m, rip_target(&m->insn[k]), true);
    return NULL;
}

/* ---- GS ---- */

static bool in_array(int64_t disp, unsigned base, unsigned n)
{
    return disp >= base && disp < base + 8 * (int64_t)n && !((disp - base) % 8);
}

static unsigned kind(const struct emitted *m)
{
    return m->b->mode & BT_MODE_KIND;
}

/* SWAPGS looks for the new base's. */
static bool has_zones(const struct emitted *m)
{
    return m->b->mode & BT_MODE_ZONE;
}

/* Memory is reached by zones. */
static bool zoned(const struct emitted *m)
{
    return has_zones(m) && kind(m) != TLB_SUPAC;
}

/* Whether a register tells where the host's memory is. */
static bool secret(const struct state *s, unsigned r)
{
    switch ((enum tag)s->tag[r]) {
    case T_HOST:
    case T_CPU:
    case T_DIST:
    case T_SEG:
    case T_PLACE:
    case T_MOVED:
        return true;
    default:
        return false;
    }
}

/* A loop's streams; then numbers: where it ends, how many turns. */
static bool is_stream(int64_t d)
{
    return in_array(d, BT_LOOP(0), STREAMS);
}

static bool is_loop_number(int64_t d)
{
    return in_array(d, BT_LOOP(STREAMS), 2);
}

static bool may_load(const struct emitted *m, int64_t d)
{
    return is_stream(d) || is_loop_number(d) || in_array(d, BT_SLOT(0), 8) ||
           in_array(d, BT_HOME(0), 16) || in_array(d, BT_WIN(0), 16) ||
           d == BT_FSBASE || d == BT_GSBASE || d == BT_KGSBASE || d == BT_CPU ||
           d == BT_IFL || d == BT_ACL || d == BT_DFL || d == BT_TSCOFF ||
           d == BT_REQ || d == (int64_t)BT_STK(kind(m)) + BT_STK_DELTA ||
           (zoned(m) && (in_array(d, BT_ZONE(kind(m)), 256) ||
                         in_array(d, BT_SEGHOST(0), 2)));
}

static bool may_store(int64_t d)
{
    return is_stream(d) || is_loop_number(d) || in_array(d, BT_SLOT(0), 8) ||
           in_array(d, BT_HOME(0), 16) || in_array(d, BT_WIN(0), 16) ||
           d == BT_VA || d == BT_JT || d == BT_GSBASE || d == BT_KGSBASE;
}

static bool is_host(const struct emitted *m, int64_t d)
{
    return (in_array(d, BT_WIN(0), 16) && !zoned(m)) || is_stream(d) ||
           d == (int64_t)BT_STK(kind(m)) + BT_STK_DELTA;
}

static bool wide_mov(const struct x86_insn *i, unsigned opcode)
{
    return i->map == X86_MAP_1B && i->opcode == opcode && i->opsize == 8 &&
           i->prefix == (X86_PFX_SEG | X86_PFX_REX);
}

/* Where a field that keeps a register's value has it in vals; 0: nowhere. */
static unsigned kept_in(int64_t d)
{
    if (in_array(d, BT_HOME(0), 16))
        return VALS_HOME + (unsigned)(d - BT_HOME(0)) / 8;
    if (in_array(d, BT_SLOT(0), 8))
        return VALS_SLOT + (unsigned)(d - BT_SLOT(0)) / 8;
    return 0;
}

/* mov r, gs:[d] */
static const char *gs_load(const struct emitted *m, unsigned r, int64_t d,
                           struct state *s)
{
    if (!may_load(m, d))
        return "a load of another GS field";
    s->tag[r] = d == BT_CPU ? T_CPU : is_host(m, d) ? T_HOST : T_NONE;
    if (kept_in(d))
        s->vals.v[r] = s->vals.v[kept_in(d)];
    if (!zoned(m))
        return NULL;
    if (in_array(d, BT_WIN(0), 16)) {
        s->of[r] = s->win[(d - BT_WIN(0)) / 8];
        s->tag[r] = s->of[r].name == VAL_NONE   ? T_NONE
                    : s->of[r].name == VAL_HOST ? T_HOST
                                                : T_DIST;
    } else if (in_array(d, BT_ZONE(kind(m)), 256)) {
        s->of[r] = (struct val){VAL_ZONE, (d - BT_ZONE(kind(m))) / 8};
        s->tag[r] = T_DIST;
    } else if (in_array(d, BT_SEGHOST(0), 2)) {
        s->tag[r] = T_SEG;
    }
    return NULL;
}

/* mov gs:[d], r */
static const char *gs_store(const struct emitted *m, unsigned r, int64_t d,
                            struct state *s)
{
    bool dist = s->tag[r] == T_DIST && s->of[r].name != VAL_ZONE;

    if (has_zones(m) && d == BT_SEGHOST(1)) /* SWAPGS */
        return s->tag[r] == T_PLACE ? NULL : "a base that is no host address";
    if (!may_store(d))
        return "a store to another GS field";
    if (kept_in(d))
        s->vals.v[kept_in(d)] = s->vals.v[r];
    if (in_array(d, BT_WIN(0), 16) && zoned(m)) {
        bool host = s->tag[r] == T_HOST; /* of a string */

        s->win[(d - BT_WIN(0)) / 8] =
            host ? (struct val){VAL_HOST, 0} : s->of[r];
        return host || dist ? NULL : "a window that is no distance";
    }
    if (is_stream(d) && zoned(m) &&
        (dist || s->tag[r] == T_MOVED || s->tag[r] == T_PLACE))
        return NULL;
    if (in_array(d, BT_WIN(0), 16) || is_stream(d))
        return s->tag[r] == T_HOST ? NULL : "a window that is no host address";
    return secret(s, r) ? "a host address in a field of the guest's" : NULL;
}

/* gs:[disp] */
static const char *gs_field(const struct emitted *m, const struct x86_insn *i,
                            struct state *s)
{
    int64_t d = i->disp;

    if (wide_mov(i, 0x8b))
        return gs_load(m, i->reg, d, s);
    if (wide_mov(i, 0x89))
        return gs_store(m, i->reg, d, s);
    if (wide_mov(i, 0x03) && is_stream(d)) { /* the address to the distance */
        s->tag[i->reg] = T_HOST;
        return NULL;
    }
    if (wide_mov(i, 0x3b) && is_loop_number(d)) /* cmp r, gs: */
        return NULL;
    if (wide_mov(i, 0x03)) { /* add r, gs: */
        s->tag[i->reg] = T_NONE;
        return d == (int64_t)BT_STK(kind(m)) + BT_STK_R ||
                       d == (int64_t)BT_STK(kind(m)) + BT_STK_W
                   ? NULL
                   : "an addition of another GS field";
    }
    if (i->op == X86_OP_PEXT && i->opsize == 8) {
        s->tag[i->reg] = d == BT_TLBMASK           ? T_INDEX
                         : d == BT_IBMASK(kind(m)) ? T_IB
                                                   : T_NONE;
        return s->tag[i->reg] || d == BT_HIMASK || d == BT_FLPEXT
                   ? NULL
                   : "PEXT by another mask";
    }
    if (i->op == X86_OP_PDEP && i->opsize == 8 && d == BT_FLPDEP) {
        s->tag[i->reg] = T_NONE;
        return NULL;
    }
    if (i->map == X86_MAP_1B && i->opcode == 0x8b && i->opsize == 4 &&
        d == BT_IRQW && i->reg == X86_RCX) {
        s->tag[X86_RCX] = T_NONE;
        return NULL;
    }
    if (i->map == X86_MAP_1B && i->opcode == 0x83 && (i->reg & 7) == 7 &&
        i->opsize == 4 && (d == BT_REQ + 4 || d == BT_IRQW || d == BT_DFL) &&
        i->imm == 0)
        return NULL;
    if (i->map == X86_MAP_1B && i->opcode == 0xc7 && (i->reg & 7) == 0) {
        if (i->opsize == 4 && d == (int64_t)offsetof(struct bt, mode) &&
            kind(m) != TLB_USER && (i->imm & BT_MODE_KIND) != TLB_USER &&
            (((uint32_t)i->imm ^ m->b->mode) &
             ~(BT_MODE_KIND | BT_MODE_NOWIN)) == 0) {
            s->other = (uint8_t)(i->imm & BT_MODE_KIND);
            return NULL;
        }
        if (i->opsize == 4 && d == BT_SITE)
            return i->imm < m->bt->nsites ? NULL : "a site that is not there";
        if (i->opsize == 8 && d == BT_ACL &&
            (i->imm == 0 || i->imm == X86_FL_AC))
            return NULL;
        if ((i->opsize == 8 && d == BT_DFL && i->imm == 0) ||
            (i->opsize == 4 && d == BT_X87 && i->imm == 1))
            return NULL;
        if (i->opsize == 8 && d == BT_IFL &&
            (i->imm == 0 || i->imm == X86_FL_IF))
            return NULL;
    }
    if (i->op == X86_OP_JMP && (i->reg & 7) == 4 && i->opsize == 8) {
        unsigned k = s->other ? s->other : kind(m);

        if (in_array(d, BT_GATE(0), 8) ||
            in_array(d, BT_IB(k), k ? BT_IB_N : BT_IB_USER_N))
            return NULL;
        return "a jump through another GS field";
    }
    return "GS in another instruction";
}

/* gs:[index * 8 + disp] */
static const char *gs_table(const struct emitted *m, const struct x86_insn *i,
                            struct state *s)
{
    bool key = i->disp == BT_TLB_R(kind(m)) || i->disp == BT_TLB_W(kind(m));
    uint8_t *x = &s->tag[i->index];

    if (i->scale != 3)
        return "GS with an index of another scale";
    if (s->other)
        return "a table after the kind of access changed";
    if (i->op == X86_OP_JMP && (i->reg & 7) == 4 && *x == T_IB &&
        i->disp == BT_IB(kind(m)))
        return NULL;
    if (!wide_mov(i, 0x8b) && !wide_mov(i, 0x03) && !wide_mov(i, 0x2b))
        return "GS with an index in another instruction";
    if (has_zones(m) && i->opcode == 0x8b && *x == T_TOP8 &&
        i->disp == BT_ZONE(kind(m))) {
        s->of[i->reg] = s->of[i->index];
        s->tag[i->reg] = T_DIST;
        return NULL;
    }
    if (key && i->opcode != 0x2b && *x == T_INDEX) {
        if (i->reg != i->index)
            *x = T_KEYED;
        s->tag[i->reg] = T_NONE;
        return NULL;
    }
    if (key && i->opcode == 0x2b && *x == T_GOOD && i->reg != i->index) {
        s->tag[i->reg] = T_NONE;
        return NULL;
    }
    if (i->disp == BT_TLB_HOST(kind(m)) && i->opcode == 0x8b && *x == T_GOOD) {
        s->tag[i->reg] = T_HOST;
        return NULL;
    }
    return "a table by an index that was not checked, or another table";
}

static const char *gs(const struct emitted *m, const struct x86_insn *i,
                      struct state *s)
{
    if (i->adsize != 8 || i->base != X86_REG_NONE || i->disp < 0)
        return "GS with a base";
    return i->index == X86_REG_NONE ? gs_field(m, i, s) : gs_table(m, i, s);
}

/* ---- others of the translator's own ---- */

static const char *rip_relative(struct emitted *m, const struct insn *h)
{
    const struct x86_insn *i = &h->i;
    uint64_t at = h->off + i->len + (uint64_t)i->disp - m->bt->code_bytes;
    bool plain = !(i->prefix & ~X86_PFX_REX) && i->adsize == 8, number;
    const uint16_t *s;

    if (is_way_back(i)) {
        s = slot_of(m, rip_target(h));
        return s && *s ? NULL : "a way back to no instruction";
    }

    if (at % 8 || at / 8 >= m->bt->ncells)
        return "rip-relative, but no cell";
    number = at / 8 < BT_CELL_FIRST || at / 8 == m->b->cell;
    if (i->op == X86_OP_ADCX && i->opsize == 8 && i->adsize == 8 && number &&
        i->prefix == (X86_PFX_OSZ | X86_PFX_REX))
        return NULL;
    if (plain && i->op == X86_OP_JMP && (i->reg & 7) == 4 && !number)
        return NULL;
    if (plain && i->map == X86_MAP_1B && i->opsize == 8 && i->opcode == 0x8b &&
        i->reg == X86_RCX && at / 8 == m->b->cell)
        return NULL;
    return "rip-relative in another instruction";
}

/* A field of struct x86_cpu that instructions may read inline. */
static bool cpu_field(const struct x86_insn *i)
{
    static const int64_t wide[] = {FIELD(cr0),         FIELD(cr2),
                                   FIELD(cr3),         FIELD(cr4),
                                   FIELD(msr.tsc_aux), FIELD(rflags)};

    if (i->index != X86_REG_NONE || i->adsize != 8)
        return false;
    if ((i->op == X86_OP_MOVZX && i->opcode == 0xb7) ||
        (i->map == X86_MAP_1B && i->opcode == 0x8b && i->opsize == 2))
        for (unsigned k = 0; k < 6; k++)
            if (i->disp ==
                FIELD(seg[0].sel) + (int64_t)(k * sizeof(struct x86_seg)))
                return true;
    if (i->map == X86_MAP_1B && i->opcode == 0x8b && i->opsize == 8)
        for (size_t k = 0; k < ARRAY_LEN(wide); k++)
            if (i->disp == wide[k])
                return true;
    return false;
}

static const struct x86_opnd *memory(const struct x86_insn *i)
{
    for (unsigned k = 0; k < i->nopnds; k++) {
        unsigned kd = i->opnd[k].kind;

        if (kd == X86_OPND_MEM || kd == X86_OPND_VSIB ||
            kd == X86_OPND_STRSRC || kd == X86_OPND_STRDST ||
            kd == X86_OPND_XLAT)
            return &i->opnd[k];
    }
    return NULL;
}

static bool plain_prefixes(const struct x86_insn *i,
                           const struct x86_form_info *fi, bool mem)
{
    unsigned bad = X86_PFX_SEG | X86_PFX_ASZ, want = XS_GET_PFX(fi->spec);

    if (want != 3 && i->op != X86_OP_PAUSE)
        bad |= X86_PFX_REP;
    if (want != 4)
        bad |= X86_PFX_REPNE;
    if (!mem)
        bad |= X86_PFX_LOCK;
    return !(i->prefix & bad);
}

static bool host_operand(const struct x86_insn *i, const struct state *s)
{
    return (i->base < 16 && s->tag[i->base] == T_HOST) ||
           (i->index < 16 && s->tag[i->index] == T_HOST);
}

/* [value + distance + disp], near the value whose distance it is. */
static bool zone_operand(const struct x86_insn *i, const struct state *s)
{
    bool two = i->base < 16 && i->index < 16 && i->scale == 0;
    unsigned d, r;
    int64_t by;

    if (i->base < 16 && i->index == X86_REG_NONE) {
        const struct val *of = &s->of[i->base];

        return s->tag[i->base] == T_SEG ||
               (s->tag[i->base] == T_PLACE && i->disp == 0) ||
               (s->tag[i->base] == T_DIST && of->name == VAL_ZONE &&
                ((uint64_t)i->disp >> 40 & 255) == (uint64_t)of->off);
    }
    if (!two || (s->tag[i->base] == T_DIST) == (s->tag[i->index] == T_DIST))
        return false;
    d = s->tag[i->base] == T_DIST ? i->base : i->index;
    r = d == i->base ? i->index : i->base;
    by = s->vals.v[r].off + i->disp;
    if (s->of[d].name == VAL_ZONE)
        return s->vals.v[r].name == VAL_CONST &&
               ((uint64_t)by >> 40 & 255) == (uint64_t)s->of[d].off;
    by -= s->of[d].off;
    return s->of[d].name == s->vals.v[r].name && by > -NEAR && by < NEAR;
}

/* A store of what the guest must not know. */
static bool stores_secret(const struct x86_insn *i, const struct state *s,
                          const struct x86_opnd *mem)
{
    if (!(mem->access & X86_ACC_W))
        return false;
    for (unsigned k = 0; k < i->nopnds; k++)
        if (i->opnd[k].kind == X86_OPND_GPR && secret(s, i->opnd[k].reg))
            return true;
    return false;
}

/* REP MOVS, REP STOS between looked-up addresses. */
static bool host_string(const struct x86_insn *i, const struct state *s)
{
    if ((i->op != X86_OP_MOVS && i->op != X86_OP_STOS) || i->adsize != 8 ||
        (i->prefix & ~(X86_PFX_REP | X86_PFX_OSZ | X86_PFX_REX)) ||
        !(i->prefix & X86_PFX_REP))
        return false;
    return s->tag[X86_RDI] == T_HOST && s->count == 3 &&
           (i->op == X86_OP_STOS || s->tag[X86_RSI] == T_HOST);
}

static const char *guest_insn(const struct emitted *m, const struct x86_insn *i,
                              const struct state *s)
{
    const struct x86_form_info *fi = x86_form_info(i->form);
    const struct x86_opnd *mem = memory(i);

    if (host_string(i, s))
        return NULL;

    if (i->op == X86_OP_RDTSC)
        return i->prefix ? "RDTSC with prefixes" : NULL;
    if (!m->ok[i->form])
        return "an instruction that host_ok.def does not list";
    if (!plain_prefixes(i, fi, mem != NULL))
        return "a prefix";
    if (!mem || i->op == X86_OP_LEA)
        return NULL;
    if (mem->kind != X86_OPND_MEM || !i->has_modrm)
        return "memory by another operand than ModRM's";
    if ((fi->attr & XA_BITMEM) && i->opnd[1].kind == X86_OPND_GPR)
        return "bits past the operand";
    if (mem->size == 0 || mem->size > 32)
        return "an access of more than 32 bytes";
    if (i->base < 16 && s->tag[i->base] == T_CPU)
        return cpu_field(i) ? NULL : "a field of the CPU's state";
    if (stores_secret(i, s, mem))
        return "a host address in the guest's memory";
    return host_operand(i, s) || (zoned(m) && zone_operand(i, s))
               ? NULL
               : "memory that was not looked up";
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

/* lea r11, [rcx - 1]; cmp r11, at most 4095; ja: RCX is 1 to 4096. */
static void count(const struct x86_insn *i, struct state *s)
{
    bool lea = i->op == X86_OP_LEA && i->opsize == 8 && i->adsize == 8 &&
               i->reg == X86_R11 && i->base == X86_RCX &&
               i->index == X86_REG_NONE && i->disp == -1;
    bool cmp = i->op == X86_OP_CMP && i->opsize == 8 && !memory(i) &&
               i->opnd[0].reg == X86_R11 && i->opnd[1].kind == X86_OPND_IMM &&
               i->imm <= 4095;
    uint64_t a = x86_form_info(i->form)->attr;
    bool rcx = a & XA_WC;

    for (unsigned k = 0; k < i->nopnds; k++)
        rcx |= i->opnd[k].kind == X86_OPND_GPR &&
               (i->opnd[k].access & X86_ACC_W) && i->opnd[k].reg == X86_RCX;
    if (rcx)
        s->count = 0;
    else if (lea)
        s->count = 1;
    else if (s->count == 1)
        s->count = cmp ? 2 : 0;
    else if (s->count == 2)
        s->count = 0; /* the jump comes next: direct() */
}

/* rorx r, value, 40; movzx r, its lowest byte; LEA with a distance. */
static enum tag zone_step(const struct x86_insn *i, const struct state *s,
                          struct val *of)
{
    const struct x86_opnd *o = i->opnd;

    *of = (struct val){VAL_NONE, 0};
    if (i->op == X86_OP_RORX && o[0].size == 8 && !memory(i) && i->imm == 40) {
        *of = s->vals.v[o[1].reg];
        return T_TOP;
    }
    if (i->op == X86_OP_MOVZX && o[0].size == 4 && o[1].size == 1 &&
        !memory(i) && !o[1].high && s->tag[o[1].reg] == T_TOP) {
        *of = s->of[o[1].reg];
        return T_TOP8;
    }
    if (i->op != X86_OP_LEA || o[0].size != 8 || i->adsize != 8)
        return T_NONE;
    if (zone_operand(i, s))
        return T_PLACE;
    if ((i->base < 16 && s->tag[i->base] == T_DIST) ||
        (i->index < 16 && s->tag[i->index] == T_DIST))
        return T_MOVED;
    return T_NONE;
}

/* LEA of a looked-up operand gives a host address. */
static void follow(const struct x86_insn *i, struct state *s)
{
    struct val of;
    enum tag zone = zone_step(i, s, &of);
    bool host = i->op == X86_OP_LEA && i->adsize == 8 && i->opsize == 8 &&
                host_operand(i, s);
    bool back =
        host && i->disp == 1 && i->index < 16 && s->tag[i->index] == T_MINUS;
    bool minus = i->op == X86_OP_NOT && i->opsize == 8 && !memory(i) &&
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

static void good(struct state *s)
{
    for (unsigned r = 0; r < 16; r++)
        if (s->tag[r] == T_KEYED)
            s->tag[r] = T_GOOD;
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
    if (to->in.other != s->other)
        to->in.other = 0xff;
    return memcmp(&was, &to->in, sizeof was) != 0;
}

/* The guest's registers when the region is left: none knows the host. */
static const char *leaves_clean(const struct state *s)
{
    for (unsigned r = 0; r < 16; r++)
        if (r != X86_R10 && r != X86_R11 && secret(s, r))
            return "a host address in a guest register at an exit";
    return NULL;
}

static const char *direct(struct emitted *m, struct insn *h, struct state *s)
{
    const struct x86_insn *i = &h->i;
    unsigned op = i->map == X86_MAP_0F ? i->opcode & 0xf0U : i->opcode;
    struct state taken = *s;

    if (i->prefix & ~(i->op == X86_OP_JCXZ ? X86_PFX_ASZ : 0U))
        return "a jump with prefixes";
    if (i->op == X86_OP_JCXZ)
        good(&taken); /* nothing above the offset */
    else if (i->map == X86_MAP_0F && op == 0x80)
        op = 0x80;
    else if (i->op != X86_OP_JMP)
        return "another kind of jump";
    if (i->map == X86_MAP_0F && i->opcode == 0x87) {
        good(s); /* not above */
        s->count = s->count == 2 ? 3 : s->count;
    }
    if (h->to != NONE)
        m->again |= meet(m, &m->insn[h->to], &taken) && &m->insn[h->to] <= h;
    else
        return leaves_clean(s); /* the thunk */
    return NULL;
}

static bool ends(const struct x86_insn *i)
{
    return i->op == X86_OP_JMP;
}

/* Whether it moves a value that is followed. */
static bool keeps(const struct x86_insn *i)
{
    return i->index == X86_REG_NONE && kept_in(i->disp) &&
           (wide_mov(i, 0x8b) || wide_mov(i, 0x89));
}

static const char *check_one(struct emitted *m, struct insn *h, struct state *s)
{
    const struct x86_insn *i = &h->i;
    unsigned at = (unsigned)(h - m->insn);
    const char *what;

    if (is_direct(i))
        return direct(m, h, s);
    if (memory(i) && (i->prefix & X86_PFX_SEG) && i->seg == X86_SEG_GS) {
        if (!keeps(i))
            vals_step(&s->vals, i, at);
        what = gs(m, i, s);
    } else if (memory(i) && i->base == X86_REG_RIP) {
        what = rip_relative(m, h);
        if (!what && i->op != X86_OP_JMP)
            s->tag[i->reg] = T_NONE;
        vals_step(&s->vals, i, at);
    } else {
        what = guest_insn(m, i, s);
        count(i, s);
        follow(i, s);
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
    s->other = s->count = 0;
}

static const char *check_all(struct emitted *m, unsigned *at)
{
    const char *what = NULL;
    struct state s = {0};
    bool falls = false; /* the one before goes on here */

    for (unsigned k = 0; k < m->n && !what; k++) {
        struct insn *h = &m->insn[k];

        *at = k;
        if (k == m->ncold && falls)
            return "the hot part goes on behind its end";
        if (falls && h->target)
            meet(m, h, &s);
        if (h->entry || (!falls && !h->known))
            nothing_known(&s, k);
        else if (h->known)
            s = h->in;
        if (h->back)
            tags_unknown(&s, k);
        what = check_one(m, h, &s);
        falls = !ends(&h->i);
    }
    if (!what && falls)
        return "the region goes on behind its end";
    return what;
}

const char *emitted_check(struct emitted *m, const struct bt *bt,
                          const struct bt_block *b, uint32_t first_site,
                          char *text, size_t n)
{
    const char *what;
    unsigned at = 0;

    m->bt = bt;
    m->b = b;
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
    what = find_targets(m, first_site);
    do { /* until nothing changes at the heads of loops */
        m->again = false;
        for (unsigned k = 0; k < m->n; k++) /* what came round stays */
            m->insn[k].known &= m->insn[k].head;
        if (!what)
            what = check_all(m, &at);
    } while (!what && m->again);
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
