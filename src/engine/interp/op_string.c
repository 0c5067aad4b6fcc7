// SPDX-License-Identifier: Apache-2.0
/* MOVS, STOS, LODS, CMPS, SCAS; see string.h. */
#include "engine/interp/string.h"

int str_lin(struct interp *in, unsigned seg, uint64_t off, unsigned size,
            bool write, uint64_t *lin)
{
    gva_t va;

    if (LIKELY(in->mode64)) {
        *lin = off;
        if (seg >= X86_SEG_FS)
            *lin += in->cpu->seg[seg].base;
        return 0;
    }
    if (x86_seg_check(in->cpu, seg, off, size, write, &va))
        return X86_FAULT;
    *lin = va.v;
    return 0;
}

uint8_t *str_run(struct interp *in, const struct str *s, unsigned seg,
                 uint64_t off, bool write, uint64_t *n)
{
    const struct tlb_ent *e;
    uint64_t lin, at, room;

    if (str_lin(in, seg, off, s->size, write, &lin))
        return NULL;
    e = tlb_slot(in, lin);
    if ((write ? e->w : e->r) != tlb_tag(in, lin, s->size))
        return NULL;
    at = lin & 0xfff;
    room = s->down ? at / s->size + 1 : (4096 - at) / s->size;
    if (s->adsize < 8 || !in->mode64) {
        uint64_t wrap =
            s->down ? off / s->size + 1 : (s->mask - off) / s->size + 1;

        if (wrap < room)
            room = wrap;
    }
    if (!in->mode64 && room > 1 && s->count > 1) {
        uint64_t first = s->down ? off - (room - 1) * s->size : off, l;

        if (str_lin(in, seg, first, (unsigned)(room * s->size), write, &l))
            room = 1;
    }
    if (room < *n)
        *n = room;
    return e->host + at;
}

/* ---- MOVS ---- */

/* Copy @n elements as the instruction does, one after the other; pages may be
 * the same under two addresses. */
static void copy_run(const struct str *s, uint8_t *to, const uint8_t *from,
                     uint64_t n)
{
    uint64_t len = n * s->size;
    ptrdiff_t step = s->down ? -(ptrdiff_t)s->size : (ptrdiff_t)s->size;

    if (!s->down && (to <= from || to >= from + len)) {
        memmove(to, from, len);
        return;
    }
    while (n--) {
        host_st(to, s->size, host_ld(from, s->size));
        to += step;
        from += step;
    }
}

static int movs_one(struct interp *in, const struct op *o, const struct str *s)
{
    uint64_t from, to, v;

    if (str_lin(in, o->seg, str_off(in, s, X86_RSI), s->size, false, &from) ||
        mem_ld(in, from, s->size, op_lin_flags(o), &v) ||
        str_lin(in, X86_SEG_ES, str_off(in, s, X86_RDI), s->size, true, &to))
        return X86_FAULT;
    return mem_st(in, to, s->size, 0, v);
}

int op_movs(struct interp *in, const struct op *o)
{
    struct str s;
    int r = OP_NEXT;

    str_open(in, o, o->insn->opnd[0].size, &s);
    str_narrow(in, &s, X86_RSI);
    str_narrow(in, &s, X86_RDI);
    str_narrow(in, &s, X86_RCX);
    while (s.count) {
        uint64_t n = s.one ? 1 : s.count;
        uint8_t *to =
            str_run(in, &s, X86_SEG_ES, str_off(in, &s, X86_RDI), true, &n);
        uint8_t *from =
            to ? str_run(in, &s, o->seg, str_off(in, &s, X86_RSI), false, &n)
               : NULL;

        if (from) {
            copy_run(&s, to, from, n);
            if ((uint8_t *)((uintptr_t)to & PAGE_MASK) == in->code_page)
                r = OP_STOP;
        } else {
            int one = movs_one(in, o, &s);

            if (one < 0)
                return X86_FAULT;
            r |= one;
            n = 1;
        }
        str_step(in, &s, X86_RSI, n);
        str_step(in, &s, X86_RDI, n);
        str_done(in, &s, n);
        if (str_pause(in, &s))
            return OP_AGAIN;
    }
    return r;
}

/* ---- STOS ---- */

static void fill_run(const struct str *s, uint8_t *to, uint64_t v, uint64_t n)
{
    if (s->down)
        to -= (n - 1) * s->size;
    switch (s->size) {
    case 8:
        asm volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(v) : "memory");
        break;
    case 4:
        asm volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(v) : "memory");
        break;
    case 2:
        asm volatile("rep stosw" : "+D"(to), "+c"(n) : "a"(v) : "memory");
        break;
    default:
        asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(v) : "memory");
        break;
    }
}

int op_stos(struct interp *in, const struct op *o)
{
    uint64_t v = in->cpu->gpr[X86_RAX], lin;
    struct str s;
    int r = OP_NEXT;

    str_open(in, o, o->insn->opnd[0].size, &s);
    str_narrow(in, &s, X86_RDI);
    str_narrow(in, &s, X86_RCX);
    while (s.count) {
        uint64_t n = s.one ? 1 : s.count;
        uint64_t off = str_off(in, &s, X86_RDI);
        uint8_t *to = str_run(in, &s, X86_SEG_ES, off, true, &n);

        if (to) {
            fill_run(&s, to, v, n);
            if ((uint8_t *)((uintptr_t)to & PAGE_MASK) == in->code_page)
                r = OP_STOP;
        } else {
            int one;

            if (str_lin(in, X86_SEG_ES, off, s.size, true, &lin))
                return X86_FAULT;
            one = mem_st(in, lin, s.size, 0, v);
            if (one < 0)
                return X86_FAULT;
            r |= one;
            n = 1;
        }
        str_step(in, &s, X86_RDI, n);
        str_done(in, &s, n);
        if (str_pause(in, &s))
            return OP_AGAIN;
    }
    return r;
}

/* ---- LODS ---- */

int op_lods(struct interp *in, const struct op *o)
{
    uint64_t lin, v;
    struct str s;

    str_open(in, o, o->insn->opnd[0].size, &s);
    str_narrow(in, &s, X86_RCX);
    while (s.count) {
        if (str_lin(in, o->seg, str_off(in, &s, X86_RSI), s.size, false,
                    &lin) ||
            mem_ld(in, lin, s.size, op_lin_flags(o), &v))
            return X86_FAULT;
        reg_wr(in->cpu, X86_RAX, s.size, v);
        str_step(in, &s, X86_RSI, 1);
        str_done(in, &s, 1);
        if (str_pause(in, &s))
            return OP_AGAIN;
    }
    return OP_NEXT;
}

/* ---- CMPS, SCAS ---- */

/* Whether the repeat goes on after a comparison: REPE while equal, REPNE while
 * not. */
static bool cmp_more(const struct op *o, uint64_t a, uint64_t b)
{
    return (a == b) == !(o->insn->prefix & X86_PFX_REPNE);
}

static void cmp_flags(struct interp *in, const struct str *s, uint64_t a,
                      uint64_t b)
{
    uint32_t fl;

    alu_sub(a, b, s->size, &fl);
    in->cpu->rflags = fl_merge(in->cpu->rflags, fl);
}

/* Load the element at seg:[reg]. */
static int str_ld(struct interp *in, const struct str *s, unsigned seg,
                  unsigned reg, uint64_t *v)
{
    uint64_t lin;

    if (str_lin(in, seg, str_off(in, s, reg), s->size, false, &lin))
        return X86_FAULT;
    return mem_ld(in, lin, s->size, seg == X86_SEG_SS ? X86_LIN_STACK : 0, v);
}

int op_cmps(struct interp *in, const struct op *o)
{
    uint64_t a, b;
    struct str s;

    str_open(in, o, o->insn->opnd[0].size, &s);
    str_narrow(in, &s, X86_RCX);
    while (s.count) {
        if (str_ld(in, &s, X86_SEG_ES, X86_RDI, &b) ||
            str_ld(in, &s, o->seg, X86_RSI, &a))
            return X86_FAULT;
        str_step(in, &s, X86_RSI, 1);
        str_step(in, &s, X86_RDI, 1);
        str_done(in, &s, 1);
        if (s.rep && s.count && cmp_more(o, a, b) && !s.one &&
            ((s.count & 63) || !str_pause(in, &s)))
            continue;
        if (s.rep && s.count && cmp_more(o, a, b))
            return OP_AGAIN; /* EFLAGS come with the last one */
        cmp_flags(in, &s, a, b);
        if (!s.rep || !cmp_more(o, a, b))
            break;
    }
    return OP_NEXT;
}

int op_scas(struct interp *in, const struct op *o)
{
    uint64_t a, b;
    struct str s;

    str_open(in, o, o->insn->opnd[0].size, &s);
    str_narrow(in, &s, X86_RCX);
    a = reg_rd(in->cpu, X86_RAX, s.size);
    while (s.count) {
        if (str_ld(in, &s, X86_SEG_ES, X86_RDI, &b))
            return X86_FAULT;
        str_step(in, &s, X86_RDI, 1);
        str_done(in, &s, 1);
        if (s.rep && s.count && cmp_more(o, a, b) && !s.one &&
            ((s.count & 63) || !str_pause(in, &s)))
            continue;
        if (s.rep && s.count && cmp_more(o, a, b))
            return OP_AGAIN; /* EFLAGS come with the last one */
        cmp_flags(in, &s, a, b);
        if (!s.rep || !cmp_more(o, a, b))
            break;
    }
    return OP_NEXT;
}
