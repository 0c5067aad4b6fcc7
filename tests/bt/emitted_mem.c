// SPDX-License-Identifier: Apache-2.0
/*
 * What an instruction of translated code may do with memory: the fields and
 * tables of struct bt, cells, guest memory by looked-up addresses and by zones.
 *
 * The kind of access is part of the state. AC and the mode word are stored one
 * behind the other; with that all that was looked up for the kind before is
 * void.
 */
#include "tests/bt/emitted_priv.h"

#define STREAMS  4U /* of the six BT_LOOP */
#define FIELD(f) ((int64_t)offsetof(struct x86_cpu, f))
#define MODE     ((int64_t)offsetof(struct bt, mode))

/* Half a guard: displacements, and how far values move in a region. */
#define NEAR (INT64_C(3) << 30)

/* ---- GS ---- */

static bool in_array(int64_t disp, unsigned base, unsigned n)
{
    return disp >= base && disp < base + 8 * (int64_t)n && !((disp - base) % 8);
}

static bool user(const struct emitted *m)
{
    return (m->b->mode & BT_MODE_KIND) == TLB_USER;
}

/* Memory may be reached by zones. */
static bool zoned(const struct emitted *m)
{
    return m->b->mode & BT_MODE_ZONE;
}

bool emitted_secret(const struct state *s, unsigned r)
{
    switch ((enum tag)s->tag[r]) {
    case T_HOST:
    case T_CPU:
    case T_DIST:
    case T_SEG:
    case T_PLACE:
    case T_MOVED:
    case T_STALE:
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

static bool stream_filled(const struct state *s, int64_t d)
{
    return s->stream >> (d - BT_LOOP(0)) / 8 & 1;
}

static bool may_load(const struct emitted *m, int64_t d, unsigned k)
{
    return is_stream(d) || is_loop_number(d) || in_array(d, BT_SLOT(0), 8) ||
           in_array(d, BT_HOME(0), 16) || in_array(d, BT_WIN(0), 16) ||
           d == BT_FSBASE || d == BT_GSBASE || d == BT_KGSBASE || d == BT_CPU ||
           d == BT_IFL || d == BT_ACL || d == BT_DFL || d == BT_TSCOFF ||
           d == BT_REQ || d == (int64_t)BT_STK(k) + BT_STK_DELTA ||
           (zoned(m) &&
            (in_array(d, BT_ZONE(k), 256) || in_array(d, BT_SEGHOST(0), 2)));
}

static bool may_store(int64_t d)
{
    return is_stream(d) || is_loop_number(d) || in_array(d, BT_SLOT(0), 8) ||
           in_array(d, BT_HOME(0), 16) || in_array(d, BT_WIN(0), 16) ||
           d == BT_VA || d == BT_JT || d == BT_GSBASE || d == BT_KGSBASE;
}

bool emitted_wide_mov(const struct x86_insn *i, unsigned opcode)
{
    return i->map == X86_MAP_1B && i->opcode == opcode && i->opsize == 8 &&
           i->prefix == (X86_PFX_SEG | X86_PFX_REX);
}

unsigned emitted_kept_in(int64_t d)
{
    if (in_array(d, BT_HOME(0), 16))
        return VALS_HOME + (unsigned)(d - BT_HOME(0)) / 8;
    if (in_array(d, BT_SLOT(0), 8))
        return VALS_SLOT + (unsigned)(d - BT_SLOT(0)) / 8;
    return 0;
}

/* What a window's slot holds. */
static enum tag win_tag(const struct val *v)
{
    return v->name == VAL_NONE ? T_NONE : v->name == VAL_HOST ? T_HOST : T_DIST;
}

/* mov r, gs:[d] */
static const char *gs_load(const struct emitted *m, unsigned r, int64_t d,
                           struct state *s)
{
    unsigned zone = BT_ZONE(s->kind);

    if (!may_load(m, d, s->kind))
        return "a load of another GS field";
    s->tag[r] = T_NONE;
    if (emitted_kept_in(d))
        s->vals.v[r] = s->vals.v[emitted_kept_in(d)];
    if (d == BT_CPU) {
        s->tag[r] = T_CPU;
    } else if (d == (int64_t)BT_STK(s->kind) + BT_STK_DELTA) {
        s->tag[r] = T_HOST;
    } else if (is_stream(d)) {
        s->tag[r] = stream_filled(s, d) ? T_HOST : T_NONE;
    } else if (in_array(d, BT_WIN(0), 16)) {
        s->of[r] = s->win[(d - BT_WIN(0)) / 8];
        s->tag[r] = (uint8_t)win_tag(&s->of[r]);
    } else if (zoned(m) && in_array(d, zone, 256)) {
        s->of[r] = (struct val){VAL_ZONE, (d - zone) / 8};
        s->tag[r] = T_DIST;
    } else if (zoned(m) && in_array(d, BT_SEGHOST(0), 2)) {
        s->tag[r] = T_SEG;
    }
    return NULL;
}

/* mov gs:[d], r */
static const char *gs_store(const struct emitted *m, unsigned r, int64_t d,
                            struct state *s)
{
    bool host = s->tag[r] == T_HOST;
    bool dist = zoned(m) && s->tag[r] == T_DIST && s->of[r].name != VAL_ZONE;
    bool moved =
        zoned(m) && (s->tag[r] == T_MOVED || s->tag[r] == T_PLACE || dist);

    if (zoned(m) && d == BT_SEGHOST(1)) /* SWAPGS */
        return s->tag[r] == T_PLACE ? NULL : "a base that is no host address";
    if (!may_store(d))
        return "a store to another GS field";
    if (emitted_kept_in(d))
        s->vals.v[emitted_kept_in(d)] = s->vals.v[r];
    if (in_array(d, BT_WIN(0), 16)) {
        s->win[(d - BT_WIN(0)) / 8] =
            host ? (struct val){VAL_HOST, 0} : s->of[r];
        return host || dist ? NULL : "a window that is no distance";
    }
    if (is_stream(d)) {
        s->stream |= (uint8_t)(1U << (d - BT_LOOP(0)) / 8);
        return host || moved ? NULL : "a stream that is no host address";
    }
    return emitted_secret(s, r) ? "a host address in a field of the guest's"
                                : NULL;
}

/* PEXT, PDEP with gs:[d] */
static const char *gs_bits(const struct x86_insn *i, int64_t d, struct state *s)
{
    s->tag[i->reg] = T_NONE;
    if (i->op == X86_OP_PDEP)
        return d == BT_FLPDEP ? NULL : "PDEP by another mask";
    s->tag[i->reg] = d == BT_TLBMASK           ? T_INDEX
                     : d == BT_IBMASK(s->kind) ? T_IB
                                               : T_NONE;
    return s->tag[i->reg] || d == BT_HIMASK || d == BT_FLPEXT
               ? NULL
               : "PEXT by another mask";
}

/* ---- the kind of access ---- */

bool emitted_sets_mode(const struct x86_insn *i)
{
    return i->map == X86_MAP_1B && i->opcode == 0xc7 && (i->reg & 7) == 0 &&
           i->opsize == 4 && i->base == X86_REG_NONE &&
           i->index == X86_REG_NONE && (i->prefix & X86_PFX_SEG) &&
           i->seg == X86_SEG_GS && i->disp == MODE;
}

/* AC is stored, then the mode word, if the kind of access changes with it. */
static const char *ac_store(const struct emitted *m, uint64_t imm,
                            struct state *s)
{
    unsigned kind = imm || !(m->b->mode & BT_MODE_SMAP) ? TLB_SUPAC : TLB_SUP;

    if (user(m) || (imm != 0 && imm != X86_FL_AC))
        return "AC by user code, or another number";
    s->due = kind == s->kind ? 0 : (uint8_t)kind;
    return NULL;
}

/* What was looked up for the other kind is nothing for this one. */
static const char *mode_store(const struct emitted *m, uint32_t imm,
                              struct state *s)
{
    uint32_t mode = m->b->mode & ~(BT_MODE_KIND | BT_MODE_NOWIN);

    if (user(m) || !s->due)
        return "another kind of access, but AC did not change";
    if (imm != (mode | s->due))
        return "a mode word that is not the region's with the kind that is due";
    for (unsigned r = 0; r < 16; r++)
        s->tag[r] = emitted_secret(s, r) ? T_STALE : T_NONE;
    for (unsigned w = 0; w < ARRAY_LEN(s->win); w++)
        s->win[w] = (struct val){VAL_NONE, 0};
    s->stream = 0;
    s->kind = s->due;
    s->due = 0;
    return NULL;
}

/* mov gs:[d], imm */
static const char *gs_imm(const struct emitted *m, const struct x86_insn *i,
                          struct state *s)
{
    int64_t d = i->disp;

    if (i->opsize == 4 && d == MODE)
        return mode_store(m, (uint32_t)i->imm, s);
    if (i->opsize == 4 && d == BT_SITE) {
        s->site = (uint32_t)i->imm + 1;
        return i->imm >= m->first_site && i->imm < m->bt->nsites
                   ? NULL
                   : "a site that is not the region's";
    }
    if (i->opsize == 8 && d == BT_ACL)
        return ac_store(m, i->imm, s);
    if (i->opsize == 8 && d == BT_DFL && i->imm == 0)
        return NULL;
    if (i->opsize == 4 && d == BT_X87 && i->imm == 1)
        return NULL;
    if (i->opsize == 8 && d == BT_IFL && (i->imm == 0 || i->imm == X86_FL_IF))
        return NULL;
    return "another number in another GS field";
}

/* jmp gs:[gate]: C is told the site, and what it may go on with. */
static const char *gate(struct emitted *m, const struct insn *h, unsigned n,
                        const struct state *s)
{
    const struct bt_site *site;

    if (!s->site)
        return "a gate without a site";
    site = &m->bt->sites[s->site - 1];
    switch (n) {
    case BT_G_MISS:
        if (site->kind != s->kind)
            return "a miss of another kind of access";
        return emitted_arrive(m, h, site->start, s->kind);
    case BT_W_SYSCALL:
    case BT_W_SYSRET:
    case BT_W_IRET:
        if (site->quick != BT_Q_SYSCALL + (n - BT_W_SYSCALL))
            return "a gate of another instruction";
        if (n != BT_W_SYSCALL && (m->b->mode & BT_MODE_CPL3))
            return "a supervisor's gate";
        return emitted_arrive(m, h, site->next, s->kind);
    case BT_G_CALLOUT:
        return emitted_arrive(m, h, site->next, s->kind);
    case BT_G_LINK:
    case BT_G_LEAVE:
        return NULL;
    default:
        return "another gate";
    }
}

const char *emitted_thunk(const struct emitted *m, uint32_t to,
                          const struct state *s)
{
    const struct bt_site *site = &m->bt->sites[s->site ? s->site - 1 : 0];

    if (to == BT_THUNK || to == BT_THUNK_CF)
        return NULL;
    if (!s->site || !site->stack || site->kind != s->kind)
        return "the stack's thunk without its site";
    return to == BT_STK_THUNK(s->kind, site->write)
               ? NULL
               : "the stack's thunk for another access";
}

/* The slot of a target in this place's mode. */
static bool far(const struct emitted *m, int64_t d, const struct state *s)
{
    unsigned k = s->kind != TLB_USER;
    uint32_t mode = m->b->mode & ~(BT_MODE_KIND | BT_MODE_NOWIN);

    return in_array(d, BT_FAR(k), BT_FAR_N) &&
           m->bt->cache->far[k].e[(d - BT_FAR(k)) / 8].mode == (mode | s->kind);
}

/* ---- all of GS ---- */

/* gs:[disp] */
static const char *gs_field(struct emitted *m, const struct insn *h,
                            struct state *s)
{
    const struct x86_insn *i = &h->i;
    int64_t d = i->disp, stk = (int64_t)BT_STK(s->kind);

    if (emitted_wide_mov(i, 0x8b))
        return gs_load(m, i->reg, d, s);
    if (emitted_wide_mov(i, 0x89))
        return gs_store(m, i->reg, d, s);
    if (emitted_wide_mov(i, 0x03) && is_stream(d)) { /* address to distance */
        s->tag[i->reg] = stream_filled(s, d) ? T_HOST : T_NONE;
        return NULL;
    }
    if (emitted_wide_mov(i, 0x3b) && is_loop_number(d)) /* cmp r, gs: */
        return NULL;
    if (emitted_wide_mov(i, 0x03)) { /* add r, gs: */
        s->tag[i->reg] = T_NONE;
        return d == stk + BT_STK_R || d == stk + BT_STK_W
                   ? NULL
                   : "an addition of another GS field";
    }
    if ((i->op == X86_OP_PEXT || i->op == X86_OP_PDEP) && i->opsize == 8)
        return gs_bits(i, d, s);
    if (i->map == X86_MAP_1B && i->opcode == 0x8b && i->opsize == 4 &&
        d == BT_IRQW && i->reg == X86_RCX) {
        s->tag[X86_RCX] = T_NONE;
        return NULL;
    }
    if (i->map == X86_MAP_1B && i->opcode == 0x83 && (i->reg & 7) == 7 &&
        i->opsize == 4 && (d == BT_REQ + 4 || d == BT_IRQW || d == BT_DFL) &&
        i->imm == 0)
        return NULL;
    if (i->map == X86_MAP_1B && i->opcode == 0xc7 && (i->reg & 7) == 0)
        return gs_imm(m, i, s);
    if (i->op == X86_OP_JMP && (i->reg & 7) == 4 && i->opsize == 8) {
        if (in_array(d, BT_GATE(0), 8))
            return gate(m, h, (unsigned)(d - BT_GATE(0)) / 8, s);
        return in_array(d, BT_IB(s->kind), bt_ib_n(s->kind)) || far(m, d, s)
                   ? NULL
                   : "a jump through another GS field";
    }
    return "GS in another instruction";
}

/* gs:[index * 8 + disp] */
static const char *gs_table(const struct emitted *m, const struct x86_insn *i,
                            struct state *s)
{
    unsigned k = s->kind;
    bool key = i->disp == BT_TLB_R(k) || i->disp == BT_TLB_W(k);
    uint8_t *x = &s->tag[i->index];

    if (i->scale != 3)
        return "GS with an index of another scale";
    if (i->op == X86_OP_JMP && (i->reg & 7) == 4 && *x == T_IB &&
        i->disp == BT_IB(k))
        return NULL;
    if (!emitted_wide_mov(i, 0x8b) && !emitted_wide_mov(i, 0x03) &&
        !emitted_wide_mov(i, 0x2b))
        return "GS with an index in another instruction";
    if (zoned(m) && i->opcode == 0x8b && *x == T_TOP8 &&
        i->disp == BT_ZONE(k)) {
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
    if (i->disp == BT_TLB_HOST(k) && i->opcode == 0x8b && *x == T_GOOD) {
        s->tag[i->reg] = T_HOST;
        return NULL;
    }
    return "a table by an index that was not checked, or another table";
}

const char *emitted_gs(struct emitted *m, const struct insn *h, struct state *s)
{
    const struct x86_insn *i = &h->i;

    if (i->adsize != 8 || i->base != X86_REG_NONE || i->disp < 0)
        return "GS with a base";
    return i->index == X86_REG_NONE ? gs_field(m, h, s) : gs_table(m, i, s);
}

/* ---- others of the translator's own ---- */

/* jmp [cell]: to its stub at first, which has C look for the target by the mode
 * word. */
static const char *cell_jump(struct emitted *m, const struct insn *h,
                             uint64_t cell, const struct state *s)
{
    uint64_t stub = m->bt->cells[cell] - (uintptr_t)m->bt->rx;

    return stub < UINT32_MAX ? emitted_arrive(m, h, (uint32_t)stub, s->kind)
                             : "a cell that leads to no code";
}

const char *emitted_rip(struct emitted *m, const struct insn *h,
                        const struct state *s)
{
    const struct x86_insn *i = &h->i;
    uint64_t at = h->off + i->len + (uint64_t)i->disp - m->bt->code_bytes;
    bool plain = !(i->prefix & ~X86_PFX_REX) && i->adsize == 8, number;

    if (emitted_way_back(i))
        return emitted_arrive(m, h, emitted_rip_target(h), s->kind);
    if (at % 8 || at / 8 >= m->bt->ncells)
        return "rip-relative, but no cell";
    number = at / 8 < BT_CELL_FIRST || at / 8 == m->b->cell;
    if (i->op == X86_OP_ADCX && i->opsize == 8 && i->adsize == 8 && number &&
        i->prefix == (X86_PFX_OSZ | X86_PFX_REX))
        return NULL;
    if (plain && i->op == X86_OP_JMP && (i->reg & 7) == 4 && !number)
        return cell_jump(m, h, at / 8, s);
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

const struct x86_opnd *emitted_memory(const struct x86_insn *i)
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

bool emitted_host_operand(const struct x86_insn *i, const struct state *s)
{
    return (i->base < 16 && s->tag[i->base] == T_HOST) ||
           (i->index < 16 && s->tag[i->index] == T_HOST);
}

/* [value + distance + disp], near the value whose distance it is. */
bool emitted_zone_operand(const struct emitted *m, const struct x86_insn *i,
                          const struct state *s)
{
    bool two = i->base < 16 && i->index < 16 && i->scale == 0;
    unsigned d, r;
    int64_t by;

    if (!zoned(m))
        return false;
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
        if (i->opnd[k].kind == X86_OPND_GPR &&
            emitted_secret(s, i->opnd[k].reg))
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
    return s->tag[X86_RDI] == T_HOST &&
           (s->count == C_SMALL || s->count == C_FEW ||
            (s->count == C_BYTES && i->opnd[0].size == 1)) &&
           (i->op == X86_OP_STOS || s->tag[X86_RSI] == T_HOST);
}

const char *emitted_guest(const struct emitted *m, const struct x86_insn *i,
                          const struct state *s)
{
    const struct x86_form_info *fi = x86_form_info(i->form);
    const struct x86_opnd *mem = emitted_memory(i);

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
    return emitted_host_operand(i, s) || emitted_zone_operand(m, i, s)
               ? NULL
               : "memory that was not looked up";
}
