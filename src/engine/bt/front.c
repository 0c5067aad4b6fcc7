// SPDX-License-Identifier: Apache-2.0
/*
 * The translator's front: which instructions make a region, where its jumps
 * lead inside it, and which flags are live before each instruction.
 */
#include "engine/bt/front.h"

#include "engine/bt/look.h"

/* ---- flags ---- */

static bool may_keep_flags(const struct x86_insn *insn,
                           const struct x86_form_info *fi)
{
    const struct x86_opnd *c = &insn->opnd[insn->nopnds - 1];

    if (!(fi->attr & XA_FCOND))
        return false;
    return c->kind != X86_OPND_IMM ||
           (insn->imm & (insn->opnd[0].size == 8 ? 63 : 31)) == 0;
}

/* What @insn sets whatever they were. Undefined ones too, but where Intel CPUs
 * leave them, and the interpreter, and code that looks, is to agree: divisions,
 * bit tests (OF SF AF PF), rotations by more than 1 (OF). */
static uint32_t kills(const struct x86_insn *insn,
                      const struct x86_form_info *fi)
{
    uint32_t all = (fi->fl_written | fi->fl_undef) & FL_ALL;

    if (may_keep_flags(insn, fi) ||
        (insn->prefix & (X86_PFX_REP | X86_PFX_REPNE) && fi->attr & XA_REPZ))
        return 0;
    switch (insn->op) {
    case X86_OP_DIV:
    case X86_OP_IDIV:
        return 0;
    case X86_OP_BT:
    case X86_OP_BTS:
    case X86_OP_BTR:
    case X86_OP_BTC:
        return fi->fl_written & FL_ALL;
    case X86_OP_ROL:
    case X86_OP_ROR:
    case X86_OP_RCL:
    case X86_OP_RCR:
        return insn->opnd[1].kind == X86_OPND_ONE ? all
                                                  : all & ~(uint32_t)X86_FL_OF;
    default:
        return all;
    }
}

/* Flags that must be right before @insn, @live being those after it. */
static uint32_t live_before(const struct x86_insn *insn, enum bt_how how,
                            uint32_t live)
{
    const struct x86_form_info *fi = x86_form_info(insn->form);

    if (how == HOW_CALLOUT)
        return FL_ALL;
    if (how == HOW_NOTHING)
        return live;
    live &= ~kills(insn, fi);
    return (live | fi->fl_read) & FL_ALL;
}

static bool ends_block(const struct x86_insn *insn, enum bt_how how)
{
    if (how == HOW_SYSTEM)
        return false;
    return (x86_form_info(insn->form)->attr &
            (XA_CTRL | XA_ENDTB | XA_SHADOW | XA_UD)) != 0 ||
           insn->op == X86_OP_STAC || insn->op == X86_OP_CLAC;
}

/* Instructions that are looked at outside the region. */
#define FLAGS_AHEAD 5

uint32_t bt_flags_at(struct bt_tr *t, uint64_t va)
{
    unsigned at = (unsigned)(va & 0xfff);
    uint32_t killed = 0, live = 0;
    struct x86_insn insn;

    if ((va ^ t->b->va) >> 12 || t->bt->part->flags_all)
        return FL_ALL;
    for (unsigned i = 0; i < FLAGS_AHEAD && at < 4096; i++) {
        const struct x86_form_info *fi;
        enum bt_how how;

        bt_text_need(t->text, at);
        if (x86_decode(t->text->b + at, 4096 - at, X86_MODE_64, &insn) !=
            X86_DEC_OK)
            break;
        t->granules |= BIT(at >> 6) | BIT((at + insn.len - 1U) >> 6 & 63);
        fi = x86_form_info(insn.form);
        how = bt_how(t, &insn);
        if (how == HOW_CALLOUT)
            break;
        live |= live_before(&insn, how, 0) & ~killed;
        if (how != HOW_NOTHING)
            killed |= kills(&insn, fi);
        if (killed == FL_ALL || fi->cls == X86_CLS_BRANCH)
            return live | (FL_ALL & ~killed);
        at += insn.len;
    }
    return live | (FL_ALL & ~killed);
}

bool bt_ends(const struct bt_tr *t, unsigned i)
{
    switch ((enum bt_how)t->how[i]) {
    case HOW_JMP:
    case HOW_CALL:
    case HOW_RET:
        return true;
    case HOW_CALLOUT: /* what changes the mode goes on elsewhere by itself */
        return (x86_form_info(t->insn[i].form)->attr & (XA_CTRL | XA_UD)) ||
               t->insn[i].op == X86_OP_STAC || t->insn[i].op == X86_OP_CLAC;
    default:
        return false;
    }
}

static bool direct(const struct bt_tr *t, unsigned i)
{
    return t->how[i] >= HOW_JMP && t->how[i] != HOW_RET &&
           t->insn[i].opnd[0].kind == X86_OPND_REL;
}

static uint64_t target(const struct bt_tr *t, unsigned i)
{
    return t->va[i] + t->insn[i].len + t->insn[i].imm;
}

/* Whether it makes no difference: a conditional jump right behind what sets all
 * flags, as most are, reads some of them, and nothing else stands between. */
static bool between_no_matter(const struct bt_tr *t, unsigned i)
{
    return i && t->how[i] == HOW_JCC && !t->leader[i] &&
           t->how[i - 1] == HOW_PLAIN &&
           t->va[i] == t->va[i - 1] + t->insn[i - 1].len &&
           kills(&t->insn[i - 1], x86_form_info(t->insn[i - 1].form)) == FL_ALL;
}

/* What may be read outside the region after instruction @i. */
static uint32_t live_outside(struct bt_tr *t, unsigned i)
{
    uint64_t next = t->va[i] + t->insn[i].len;
    uint32_t live = 0;

    if (t->how[i] == HOW_CALLOUT || t->how[i] == HOW_RET ||
        between_no_matter(t, i))
        return FL_ALL;
    if (direct(t, i)) {
        if (t->to[i] == NO_LABEL)
            live = bt_flags_at(t, target(t, i));
    } else if (t->how[i] == HOW_JMP || t->how[i] == HOW_CALL) {
        return FL_ALL;
    }
    if (!bt_ends(t, i) && (i + 1 == t->n || t->va[i + 1] != next))
        live |= bt_flags_at(t, next);
    return live;
}

static bool falls_to_next(const struct bt_tr *t, unsigned i)
{
    return i + 1 < t->n && !bt_ends(t, i) &&
           t->va[i + 1] == t->va[i] + t->insn[i].len;
}

static void liveness(struct bt_tr *t)
{
    uint32_t out[BT_REGION_INSNS];
    bool changed = true;

    for (unsigned i = 0; i < t->n; i++) {
        out[i] = live_outside(t, i);
        t->live[i] = 0;
    }
    t->live[t->n] = FL_ALL;
    while (changed) {
        changed = false;
        for (unsigned i = t->n; i-- > 0;) {
            uint32_t live = out[i];

            if (falls_to_next(t, i))
                live |= t->live[i + 1];
            if (direct(t, i) && t->to[i] != NO_LABEL)
                live |= t->live[t->to[i]];
            live = live_before(&t->insn[i], (enum bt_how)t->how[i], live);
            changed |= live != t->live[i];
            t->live[i] = live;
        }
    }
    for (unsigned i = 0; i < t->n && t->bt->part->flags_all; i++)
        t->live[i] = FL_ALL;
}

/* ---- the region ---- */

/* Jump targets that lie ahead, in the page. */
struct ahead {
    uint16_t off[BT_REGION_INSNS];
    uint8_t kind[BT_REGION_INSNS]; /* of the jump there */
    unsigned n;
};

/* The nearest target at or behind @at; 0xffff: none. */
static unsigned ahead_next(const struct ahead *h, unsigned at, unsigned *kind)
{
    unsigned best = 0xffff;

    for (unsigned i = 0; i < h->n; i++)
        if (h->off[i] >= at && h->off[i] < best) {
            best = h->off[i];
            *kind = h->kind[i];
        }
    return best;
}

static void ahead_note(const struct bt_tr *t, struct ahead *h)
{
    unsigned i = t->n - 1;
    uint64_t off = target(t, i) - t->b->va;

    if (off < t->nbytes && !(t->how[i] == HOW_CALL)) {
        h->kind[h->n] = t->kind[i];
        h->off[h->n++] = (uint16_t)off;
    }
}

/* A region without windows runs what one of them covers, hardly more. */
#define NOWIN_INSNS 8

/* Whether a region begins there already: that one is jumped to, not made once
 * more as a part of this. */
static bool begins_at(const struct bt_tr *t, unsigned at, unsigned kind)
{
    const struct bt_block *b = t->b;

    return t->n && !t->bt->check && !b->tail && !(b->mode & BT_MODE_NOWIN) &&
           bt_block_find(t->bt, b->src + at, b->va + at, bt_mode_of(t, kind));
}

static void decode_region(struct bt_tr *t)
{
    unsigned max = t->bt->check ? BT_BLOCK_INSNS : BT_REGION_INSNS, at = 0;
    unsigned kind = t->b->mode & BT_MODE_KIND;
    struct ahead h = {.n = 0};

    if (t->b->tail)
        max = 1;
    else if (t->b->mode & BT_MODE_NOWIN)
        max = NOWIN_INSNS;
    while (t->n < max && at < t->nbytes) {
        struct x86_insn *insn = &t->insn[t->n];

        if (begins_at(t, at, kind))
            break;
        bt_text_need(t->text, (unsigned)(t->b->va & 0xfff) + at);
        if (x86_decode(t->bytes + at, t->nbytes - at, X86_MODE_64, insn) !=
            X86_DEC_OK)
            break;
        t->va[t->n] = t->b->va + at;
        t->how[t->n] = (uint8_t)bt_how(t, insn);
        t->regs[t->n] = bt_regs(insn);
        t->wrote[t->n] = bt_written(insn);
        t->check[t->n] = 0;
        t->kind[t->n] = (uint8_t)kind;
        kind = bt_kind_after(t, t->n);
        t->n++;
        t->granules |= BIT(((t->b->va & 0xfff) + at) >> 6 & 63) |
                       BIT(((t->b->va & 0xfff) + at + insn->len - 1) >> 6 & 63);
        at += insn->len;
        if (t->bt->check) {
            if (ends_block(insn, (enum bt_how)t->how[t->n - 1]))
                break;
            continue;
        }
        if (direct(t, t->n - 1))
            ahead_note(t, &h);
        if (bt_ends(t, t->n - 1)) {
            if (t->how[t->n - 1] == HOW_CALL)
                break; /* what follows is entered by the return, too */
            at = ahead_next(&h, at, &kind);
            if (at == 0xffff)
                break;
        }
    }
    if (!t->n)
        return;
    t->b->len = (uint16_t)(t->va[t->n - 1] + t->insn[t->n - 1].len - t->b->va);
    t->b->ninsns = (uint16_t)t->n;
}

static unsigned index_of(const struct bt_tr *t, uint64_t va)
{
    unsigned lo = 0, hi = t->n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (t->va[mid] < va)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < t->n && t->va[lo] == va ? lo : NO_LABEL;
}

/* Where the region's own jumps lead inside it. */
static void labels(struct bt_tr *t)
{
    for (unsigned i = 0; i < t->n; i++) {
        t->leader[i] = t->loop[i] = false;
        t->to[i] = NO_LABEL;
    }
    if (t->bt->check)
        return;
    for (unsigned i = 0; i < t->n; i++) {
        unsigned to;

        if (!direct(t, i) || t->how[i] == HOW_CALL)
            continue;
        to = index_of(t, target(t, i));
        if (to != NO_LABEL && t->kind[to] != t->kind[i])
            to = NO_LABEL; /* made for the other */
        t->to[i] = (uint8_t)to;
        if (to == NO_LABEL)
            continue;
        t->leader[to] = true;
        t->loop[to] |= to <= i;
    }
}

uint32_t bt_site_new(struct bt_tr *t, uint64_t va)
{
    struct bt *bt = t->bt;
    struct bt_site *s;

    if (bt->nsites == BT_SITES_MAX) {
        t->full = true;
        return 0;
    }
    s = &bt->sites[bt->nsites];
    *s = (struct bt_site){.va = va,
                          .block = t->block,
                          .start = t->start,
                          .s1 = X86_R11,
                          .s2 = X86_R10};
    return bt->nsites++;
}

uint32_t bt_cell_new(struct bt_tr *t)
{
    if (t->bt->ncells == BT_CELLS_MAX) {
        t->full = true;
        return 0;
    }
    return t->bt->ncells++;
}

void bt_reloc(const struct bt_tr *t, const struct emit *e,
              enum bt_reloc_kind kind, uint32_t at, uint32_t site)
{
    bool cold = e == &t->cold;
    struct bt_block *b = t->b;
    struct bt *bt = t->bt;

    if (!b->moves)
        return;
    at -= cold ? b->cold : b->indirect;
    site -= site ? b->sites : 0;
    if (at > UINT16_MAX || site > UINT8_MAX ||
        bt->nrelocs - b->relocs == BT_RELOCS)
        b->moves = false;
    else
        bt->relocs[bt->nrelocs++] =
            site << 24 | ((uint32_t)kind | (cold ? BT_R_COLD : 0)) << 16 | at;
}

void bt_mov_va(const struct bt_tr *t, struct emit *e, unsigned r, uint64_t v)
{
    e_mov_imm(e, r, v);
    if (v <= UINT32_MAX)
        bt_reloc(t, e, BT_R_VA32, e->at - 4, 0);
    else
        bt_reloc(t, e, BT_R_VA, e->at - 8, 0);
}

struct bt_cold *bt_cold_new(struct bt_tr *t, enum bt_cold_kind kind,
                            uint32_t from, uint32_t site, unsigned gate)
{
    struct bt_cold *c = &t->colds[t->ncold];

    if (t->ncold == BT_COLD_MAX - 1)
        t->full = true;
    else
        t->ncold++;
    *c = (struct bt_cold){.kind = (uint8_t)kind,
                          .from = from,
                          .site = site,
                          .gate = (uint8_t)gate,
                          .held = t->held,
                          .win = NO_WIN};
    return c;
}

bool bt_translate(struct bt *bt, struct bt_block *b, struct bt_text *text,
                  unsigned n)
{
    UNINIT struct bt_tr t; /* large: arrays are filled as far as is used */

    t.s2_has = 0;
    t.start = 0;
    t.n = t.at = t.ncold = t.nwins = t.nfix = t.nexits = t.nloops = 0;
    t.fast = NULL;
    t.granules = 0;
    t.full = t.held = false;
    t.zone = b->mode & BT_MODE_ZONE;
    t.kind_now = b->mode & BT_MODE_KIND;
    t.s1 = X86_R11;
    t.s2 = X86_R10;
    t.bt = bt;
    t.b = b;
    t.block = (uint32_t)(b - bt->blocks);
    t.text = text;
    t.bytes = text->b + (b->va & 0xfff);
    t.nbytes = n;
    t.e = (struct emit){bt->rw, bt->code_at};
    t.cold = (struct emit){bt->rw, bt->cold_at};
    decode_region(&t);
    if (!t.n)
        return false;
    labels(&t);
    liveness(&t);
    bt_loops(&t);
    bt_windows(&t);
    b->map = bt->nmaps;
    b->sites = bt->nsites;
    b->relocs = bt->nrelocs;
    b->cold = t.cold.at;
    bt_rewrite(&t);
    b->nmap = bt->nmaps - b->map;
    b->nsites = (uint16_t)(bt->nsites - b->sites);
    b->ncells = (uint16_t)(bt->ncells - b->cell);
    if (!b->moves)
        bt->nrelocs = b->relocs;
    b->nrelocs = (uint16_t)(bt->nrelocs - b->relocs);
    b->code_end = t.e.at;
    b->cold_end = t.cold.at;
    bt->pages[b->page].granules |= t.granules;
    bt_look_block(&t, (struct bt_span){b->indirect, b->code_end},
                  (struct bt_span){b->cold, b->cold_end});
    bt->code_at = (t.e.at + 15) & ~15U;
    bt->cold_at = t.cold.at;
    return !t.full;
}
