// SPDX-License-Identifier: Apache-2.0
/*
 * Loops over memory. Where a loop is one straight piece and each of its
 * accesses moves by a constant with every turn, one look at the TLB for each
 * stream of accesses tells for how many turns all of them stay in their pages.
 * So many turns are run by a copy of the body without checks; the body with
 * checks runs the turn that meets a page's end, or misses, or faults.
 *
 *     head:  look at requests
 *            each stream: look up; turns that it stays; the least of them
 *            where the counting register will be then -> BT_LOOP(LIMIT)
 *     fast:  cmp counting register, limit;  je again
 *            body, operands [register + distance of the stream]
 *            jcc fast;  jmp behind the loop
 *     again: jmp head
 *     slow:  body with checks;  jcc head
 */
#include "engine/bt/front.h"

#define NO_STREAM 0xff
#define LIMIT     BT_LOOP(4)
#define TURNS     BT_LOOP(5)
/* A stride of more leaves too few turns in a page. */
#define STRIDE_MAX 1024
#define BODY_MAX   40

/* ---- finding them ---- */

struct finder {
    struct bt_tr *t;
    struct bt_loop *l;
    int64_t turn[16]; /* what a turn adds; where it is only added to */
    bool steady[16];  /* ... it is (or not written) */
    uint32_t written;
    int64_t delta[16]; /* so far in the turn */
};

static bool plain_body(const struct bt_tr *t, unsigned head, unsigned last)
{
    for (unsigned i = head; i <= last; i++) {
        enum bt_how how = (enum bt_how)t->how[i];
        const struct x86_insn *insn = &t->insn[i];
        bool mem = how == HOW_PLAIN && bt_mem_opnd(insn);

        if (how != HOW_PLAIN && how != HOW_LEA && how != HOW_NOTHING &&
            how != HOW_JCC)
            return false;
        if (i > head &&
            (t->leader[i] || t->va[i] != t->va[i - 1] + t->insn[i - 1].len))
            return false;
        if (mem && !insn->has_modrm)
            return false;
        for (unsigned k = 0; mem && k < insn->nopnds; k++)
            if (insn->opnd[k].high)
                return false;
    }
    return true;
}

static void track_regs(struct finder *f)
{
    const struct bt_tr *t = f->t;
    int64_t by;

    for (unsigned r = 0; r < 16; r++) {
        f->turn[r] = f->delta[r] = 0;
        f->steady[r] = true;
    }
    for (unsigned i = f->l->head; i <= f->l->last; i++) {
        uint32_t m = t->how[i] == HOW_NOTHING ? 0 : t->wrote[i];

        f->written |= m;
        for (unsigned r = 0; r < 16; r++) {
            if (!(m >> r & 1))
                continue;
            if (bt_adds(t, i, r, &by))
                f->turn[r] += by;
            else
                f->steady[r] = false;
        }
    }
}

/* Key, base, index of an access; false: it can't be part of a stream. */
static bool describe(struct finder *f, unsigned i, struct bt_stream *s)
{
    const struct x86_insn *insn = &f->t->insn[i];
    bool rip = insn->base == X86_REG_RIP;

    *s = (struct bt_stream){.key = KEY_NONE,
                            .base = insn->base,
                            .index = insn->index,
                            .scale = insn->scale};
    if (insn->adsize != 8)
        return false;
    s->lo = insn->disp;
    if (rip || (insn->base == ANY && insn->index == ANY)) {
        if (rip && insn->seg >= X86_SEG_FS)
            return false;
        s->key = insn->seg == X86_SEG_FS   ? KEY_FS
                 : insn->seg == X86_SEG_GS ? KEY_GS
                 : rip                     ? KEY_RIP
                                           : KEY_ABS;
        s->base = s->index = ANY;
        if (rip)
            s->lo += (int64_t)(f->t->va[i] + insn->len);
        return s->key == KEY_ABS || rip || s->lo == (int32_t)s->lo;
    }
    if (insn->seg >= X86_SEG_FS)
        return false;
    if (s->base != ANY) {
        if (!f->steady[s->base] || s->base == X86_RSP)
            return s->base == X86_RSP && !(f->written >> X86_RSP & 1) &&
                   s->index == ANY; /* it can be no index beside the distance */
        s->lo += f->delta[s->base];
        s->stride += f->turn[s->base];
    }
    if (s->index != ANY) {
        if (!f->steady[s->index])
            return false;
        s->lo += f->delta[s->index] << s->scale;
        s->stride += f->turn[s->index] << s->scale;
        s->base_in = s->base != ANY && !(f->written >> s->base & 1);
        s->index_in =
            !s->base_in && s->base != ANY && !(f->written >> s->index & 1);
        return s->base == ANY || s->base_in || s->index_in;
    }
    return true;
}

static bool join(struct finder *f, unsigned i)
{
    const struct x86_opnd *m = bt_mem_opnd(&f->t->insn[i]);
    struct bt_loop *l = f->l;
    struct bt_stream s;

    if (!describe(f, i, &s) || s.stride > STRIDE_MAX || s.stride < -STRIDE_MAX)
        return false;
    if (s.key != KEY_ABS && s.key != KEY_RIP &&
        (s.lo < -BT_REACH || s.lo > BT_REACH))
        return false;
    s.hi = s.lo + m->size;
    s.write = (m->access & X86_ACC_W) != 0;
    for (unsigned k = 0; k < l->nstreams; k++) {
        struct bt_stream *o = &l->s[k];
        int64_t lo = s.lo < o->lo ? s.lo : o->lo;
        int64_t hi = s.hi > o->hi ? s.hi : o->hi;

        if (o->key != s.key || o->base != s.base || o->index != s.index ||
            o->scale != s.scale || hi - lo > 512)
            continue;
        o->lo = lo;
        o->hi = hi;
        o->write |= s.write;
        l->of[i] = (uint8_t)k;
        return true;
    }
    if (l->nstreams == BT_STREAMS)
        return false;
    l->of[i] = l->nstreams;
    l->s[l->nstreams++] = s;
    return true;
}

static bool streams(struct finder *f)
{
    const struct bt_tr *t = f->t;
    struct bt_loop *l = f->l;
    int64_t by;

    for (unsigned i = l->head; i <= l->last; i++) {
        l->of[i] = NO_STREAM;
        l->off[i] = (int32_t)t->insn[i].disp;
        if (t->how[i] == HOW_PLAIN && bt_mem_opnd(&t->insn[i]) && !join(f, i))
            return false;
        for (unsigned r = 0; r < 16; r++)
            if (f->steady[r] && t->how[i] != HOW_NOTHING &&
                (t->wrote[i] >> r & 1) && bt_adds(t, i, r, &by))
                f->delta[r] += by;
    }
    return l->nstreams != 0;
}

/* The register to count by, and two that the loop leaves alone. */
static bool registers(struct finder *f)
{
    struct bt_loop *l = f->l;
    uint32_t used = R(X86_RSP);
    unsigned n = 0;

    l->by = l->x[0] = l->x[1] = ANY;
    for (unsigned i = l->head; i <= l->last; i++)
        used |= f->t->regs[i];
    for (unsigned r = 0; r < 16; r++)
        if (r != X86_RSP && f->steady[r] && f->turn[r] &&
            f->turn[r] == (int32_t)f->turn[r]) {
            l->by = (uint8_t)r;
            l->step = f->turn[r];
            break;
        }
    used |= R(X86_R10) | R(X86_R11);
    for (unsigned r = 0; r < 16 && n + 2 < l->nstreams; r++)
        if (!(used & R(r)))
            l->x[n++] = (uint8_t)r;
    return l->by != ANY && n + 2 >= l->nstreams;
}

static void try_loop(struct bt_tr *t, unsigned head, unsigned last)
{
    struct bt_loop *l = &t->loops[t->nloops];
    struct finder f = {.t = t, .l = l};

    if (t->live[head] || last - head >= BODY_MAX ||
        t->nloops == sizeof t->loops / sizeof t->loops[0] ||
        !plain_body(t, head, last))
        return;
    l->head = (uint8_t)head;
    l->last = (uint8_t)last;
    l->nstreams = 0;
    track_regs(&f);
    if (!streams(&f) || !registers(&f))
        return;
    t->nloops++;
    if (last + 1 < t->n)
        t->leader[last + 1] = true;
}

void bt_loops(struct bt_tr *t)
{
    if (t->bt->check || (t->b->mode & BT_MODE_NOWIN))
        return;
    for (unsigned i = 0; i < t->n; i++)
        if (t->how[i] == HOW_JCC && t->to[i] <= i)
            try_loop(t, t->to[i], i);
}

/* ---- making them ---- */

/* Key, base, index and @off into s1; s2 is left alone. */
static void stream_ea(struct bt_tr *t, const struct bt_stream *s, int64_t off)
{
    struct emit *e = &t->e;

    if (s->key == KEY_RIP) {
        bt_mov_va(t, e, t->s1, (uint64_t)off);
    } else if (s->key == KEY_ABS) {
        e_mov_imm(e, t->s1, (uint64_t)off);
    } else if (s->key != KEY_NONE) {
        e_load(e, t->s1, s->key == KEY_FS ? BT_FSBASE : BT_GSBASE);
        e_lea(e, t->s1, t->s1, ANY, 0, (int32_t)off, true);
    } else {
        e_lea(e, t->s1, s->base, s->index, s->scale, (int32_t)off, true);
    }
}

/* op r, imm32 of the group 81 /@n */
static void op_imm(struct emit *e, unsigned n, unsigned r, int32_t imm)
{
    e8(e, 0x48 | r >> 3);
    e8(e, 0x81);
    e8(e, 0xc0 | n << 3 | (r & 7));
    e32(e, (uint32_t)imm);
}

static void shr(struct emit *e, unsigned r, unsigned n)
{
    e8(e, 0x48 | r >> 3);
    e8(e, 0xc1);
    e8(e, 0xe8 | (r & 7));
    e8(e, n);
}

static void neg(struct emit *e, unsigned r)
{
    e8(e, 0x48 | r >> 3);
    e8(e, 0xf7);
    e8(e, 0xd8 | (r & 7));
}

static unsigned log2_up(uint64_t v)
{
    unsigned n = 0;

    while (UINT64_C(1) << n < v)
        n++;
    return n;
}

/* s1 is where the stream begins in its page: how many turns after the first
 * it stays there; the least of all in TURNS. */
static void stream_turns(struct bt_tr *t, const struct bt_stream *s, bool first)
{
    struct emit *e = &t->e;
    int64_t size = s->hi - s->lo;

    if (s->stride > 0) {
        neg(e, t->s1);
        op_imm(e, 0, t->s1, (int32_t)(4096 - size));
    }
    if (s->stride)
        shr(e, t->s1,
            log2_up((uint64_t)(s->stride < 0 ? -s->stride : s->stride)));
    else
        e_mov_imm(e, t->s1, 4095);
    if (!first) {
        e_load(e, t->s2, TURNS);
        e8(e, 0x48 | (t->s1 >> 3) << 2 | t->s2 >> 3); /* cmp s1, s2 */
        e8(e, 0x3b);
        e8(e, 0xc0 | (t->s1 & 7) << 3 | (t->s2 & 7));
        e8(e, 0x48 | (t->s1 >> 3) << 2 | t->s2 >> 3); /* cmova s1, s2 */
        e8(e, 0x0f);
        e8(e, 0x47);
        e8(e, 0xc0 | (t->s1 & 7) << 3 | (t->s2 & 7));
    }
    e_save(e, t->s1, TURNS);
}

/* Look the stream up; @slow: the jump's rel32 where it fails. */
static void stream_check(struct bt_tr *t, const struct bt_stream *s, unsigned k,
                         uint32_t *slow)
{
    unsigned kind = bt_kind(t);
    unsigned key = s->write ? BT_TLB_W(kind) : BT_TLB_R(kind);
    struct emit *e = &t->e;

    stream_ea(t, s, s->lo);
    e_pext(e, t->s2, t->s1, BT_TLBMASK);
    e_gsx_op(e, 0x03, t->s1, t->s2, key);
    e_cmp_imm(e, t->s1, (uint32_t)(4096 - (s->hi - s->lo)));
    *slow = e_jcc(e, CC_A);
    e_gsx_op(e, 0x8b, t->s2, t->s2, BT_TLB_HOST(kind));
    if (s->base_in)
        e_lea(e, t->s2, t->s2, s->base, 0, 0, true);
    if (s->index_in)
        e_lea(e, t->s2, t->s2, s->index, s->scale, 0, true);
    e_save(e, t->s2, BT_LOOP(k));
    stream_turns(t, s, k == 0);
}

/* By zones: the distance holds for as long as the loop is let run. */
static void stream_zone(struct bt_tr *t, const struct bt_stream *s, unsigned k)
{
    struct emit *e = &t->e;

    stream_ea(t, s, s->lo);
    bt_zone_of(t, t->s1);
    if (s->base_in)
        e_lea(e, t->s2, t->s2, s->base, 0, 0, true);
    if (s->index_in)
        e_lea(e, t->s2, t->s2, s->index, s->scale, 0, true);
    e_save(e, t->s2, BT_LOOP(k));
}

/* Turns, so that no stream moves farther than BT_REACH. */
static uint64_t zone_turns(const struct bt_loop *l)
{
    int64_t most = 1;

    for (unsigned k = 0; k < l->nstreams; k++) {
        int64_t by = l->s[k].stride < 0 ? -l->s[k].stride : l->s[k].stride;

        most = by > most ? by : most;
    }
    return (uint64_t)(BT_REACH / most < 4095 ? BT_REACH / most : 4095);
}

static bool zoned(const struct bt_tr *t, const struct bt_loop *l)
{
    for (unsigned i = l->head; i <= l->last; i++)
        if (t->pin[i])
            return false;
    return t->zone && t->kind[l->head] != TLB_SUPAC;
}

static unsigned stream_reg(const struct bt_tr *t, const struct bt_loop *l,
                           unsigned k)
{
    return k == 0 ? t->s1 : k == 1 ? t->s2 : l->x[k - 2];
}

void bt_loop_access(struct bt_tr *t, struct bt_opnd *m)
{
    const struct bt_loop *l = t->fast;
    const struct bt_stream *s = &l->s[l->of[t->at]];
    unsigned d = stream_reg(t, l, l->of[t->at]);
    int32_t off = l->off[t->at];

    m->s1_free = false;
    m->disp = off;
    m->base = (uint8_t)d;
    m->index = ANY;
    if (s->key != KEY_NONE) { /* the whole address */
        int64_t abs = t->insn[t->at].disp;

        if (t->insn[t->at].base == X86_REG_RIP)
            abs += (int64_t)(t->va[t->at] + t->insn[t->at].len);
        m->disp = (int32_t)(abs - s->lo);
    } else if (s->index == ANY) {
        m->base = s->base;
        m->index = (uint16_t)d;
    } else if (s->index_in) {
        m->base = s->base;
        m->index = (uint16_t)d;
    } else {
        m->index = (uint16_t)E_SCALED(s->index, s->scale);
    }
}

static void x_save(struct bt_tr *t, const struct bt_loop *l)
{
    for (unsigned i = 0; i < 2; i++)
        if (l->x[i] != ANY)
            e_save(&t->e, l->x[i], BT_HOME(l->x[i]));
}

static void x_load(struct bt_tr *t, const struct bt_loop *l)
{
    for (unsigned i = 0; i < 2; i++)
        if (l->x[i] != ANY)
            e_load(&t->e, l->x[i], BT_HOME(l->x[i]));
}

/* To what a branch of the body leads, or what is behind the loop. */
static void leave_to(struct bt_tr *t, const struct bt_loop *l, unsigned to,
                     uint64_t va)
{
    x_load(t, l);
    bt_lead(t, e_jmp(&t->e), to, va);
}

static void fast_body(struct bt_tr *t, const struct bt_loop *l, uint32_t head)
{
    struct {
        uint32_t from;
        uint8_t insn;
    } out[BODY_MAX];
    struct emit *e = &t->e;
    uint32_t fast = e->at, again;
    uint64_t behind = t->va[l->last] + t->insn[l->last].len;
    unsigned n = 0;

    t->fast = l;
    e_gs_op(e, 0x3b, l->by, LIMIT);
    again = e_jcc(e, CC_E);
    for (t->at = l->head; t->at < l->last; t->at++) {
        bt_map_new(t);
        if (t->how[t->at] == HOW_JCC) {
            out[n].from = e_jcc(e, t->insn[t->at].opcode & 15);
            out[n++].insn = (uint8_t)t->at;
        } else {
            bt_rewrite_plain(t);
        }
    }
    e_patch32(e, e_jcc(e, t->insn[l->last].opcode & 15), fast);
    t->at = l->head;
    leave_to(t, l,
             l->last + 1U < t->n && t->va[l->last + 1] == behind ? l->last + 1U
                                                                 : NO_LABEL,
             behind);
    for (unsigned i = 0; i < n; i++) {
        unsigned k = out[i].insn;

        e_patch32(e, out[i].from, e->at);
        leave_to(t, l, t->to[k], t->va[k] + t->insn[k].len + t->insn[k].imm);
    }
    e_patch32(e, again, e->at);
    x_load(t, l);
    e_patch32(e, e_jmp(e), head);
    t->fast = NULL;
}

/* limit = by + (turns + 1) * step; then what each register holds */
static void fast_begin(struct bt_tr *t, const struct bt_loop *l)
{
    struct emit *e = &t->e;

    e8(e, 0x48 | (t->s1 >> 3) << 2 | t->s1 >> 3); /* imul s1, s1, step */
    e8(e, 0x69);
    e8(e, 0xc0 | (t->s1 & 7) << 3 | (t->s1 & 7));
    e32(e, (uint32_t)l->step);
    e_lea(e, t->s1, t->s1, l->by, 0, (int32_t)l->step, true);
    e_save(e, t->s1, LIMIT);
    x_save(t, l);
    for (unsigned k = 0; k < l->nstreams; k++) {
        if (l->s[k].key == KEY_NONE)
            continue;
        stream_ea(t, &l->s[k], l->s[k].lo);
        e_gs_op(e, 0x03, t->s1, BT_LOOP(k));
        e_save(e, t->s1, BT_LOOP(k));
    }
    for (unsigned k = 0; k < l->nstreams; k++)
        e_load(e, stream_reg(t, l, k), BT_LOOP(k));
}

void bt_loop(struct bt_tr *t)
{
    const struct bt_loop *l = NULL;
    uint32_t slow[BT_STREAMS], head = t->label[t->at], used = 0;

    for (unsigned i = 0; i < t->nloops; i++)
        if (t->loops[i].head == t->at)
            l = &t->loops[i];
    if (!l)
        return;
    for (unsigned i = l->head; i <= l->last; i++)
        used |= t->regs[i];
    for (unsigned i = 0; i < 2; i++)
        used |= l->x[i] == ANY ? 0 : R(l->x[i]);
    if (used & (R(t->s1) | R(t->s2)))
        return; /* the scratch registers are needed otherwise */
    if (zoned(t, l)) {
        for (unsigned k = 0; k < l->nstreams; k++)
            stream_zone(t, &l->s[k], k);
        e_mov_imm(&t->e, t->s1, zone_turns(l));
        fast_begin(t, l);
        fast_body(t, l, head);
        t->s2_has = 0;
        return;
    }
    for (unsigned k = 0; k < l->nstreams; k++)
        stream_check(t, &l->s[k], k, &slow[k]);
    fast_begin(t, l);
    fast_body(t, l, head);
    for (unsigned k = 0; k < l->nstreams; k++)
        e_patch32(&t->e, slow[k], t->e.at);
    t->s2_has = 0;
}
