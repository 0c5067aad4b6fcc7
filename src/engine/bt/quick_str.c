// SPDX-License-Identifier: Apache-2.0
/*
 * String instructions in the quick gate: by page pieces that the first-level
 * TLB has (filled from the second level), with registers brought up to date
 * after each, so that whatever stops the work stops it between two elements.
 * What the TLBs don't have, elements across pages of which one is missing, and
 * a standing request go to the interpreter, which goes on from there.
 * Compiled for general registers only and calling nothing outside the quick
 * files. Source: Intel SDM vol. 1 7.3.9, vol. 2B REP.
 */
#include "engine/bt/quick_str.h"

typedef uint16_t ANY_ALIGN host16;
typedef uint32_t ANY_ALIGN host32;
typedef uint64_t ANY_ALIGN host64;

/* A string instruction under way. */
struct str {
    unsigned shift; /* element: 1 << shift bytes */
    unsigned kind;  /* enum tlb_kind */
    uint64_t base;  /* of the source's segment */
    uint64_t mask;  /* of the address size */
    uint64_t count; /* elements left */
    bool rep, repne, down;
};

static ALWAYS_INLINE uint64_t count_of(const struct bt *bt, const struct str *q)
{
    return q->rep ? bt->lgpr[X86_RCX] & q->mask : 1;
}

static void str_open(const struct bt *bt, unsigned arg, struct str *q)
{
    unsigned seg = arg & BT_STR_SEG;

    q->shift = arg & BT_STR_SIZE;
    q->kind = bt->mode & BT_MODE_KIND;
    q->base = seg == BT_STR_FS ? bt->fsbase : seg == BT_STR_GS ? bt->gsbase : 0;
    q->mask = arg & BT_STR_AD32 ? UINT32_MAX : UINT64_MAX;
    q->rep = arg & BT_STR_REP;
    q->repne = arg & BT_STR_REPNE;
    q->down = bt->dfl;
    q->count = count_of(bt, q);
}

/* ---- where elements lie ---- */

/* A piece: elements from @p on, or an element across two pages in @b. */
struct piece {
    uint8_t *p;    /* NULL: across two pages */
    uint8_t *b[2]; /* its parts */
    unsigned n0;   /* bytes in the first */
};

/* The piece of seg:[@reg]. @n: cut to what lies in the page and doesn't wrap.
 * Return: false: the TLBs don't have it. */
static ALWAYS_INLINE bool piece(struct bt *bt, const struct str *q,
                                unsigned reg, uint64_t base, bool write,
                                uint64_t *n, struct piece *pc)
{
    uint64_t off = bt->lgpr[reg] & q->mask, va = off + base, at = va & 0xfff;
    unsigned size = 1U << q->shift;
    uint64_t room;

    pc->p = bt_quick_host(bt, q->kind, va, write);
    if (!pc->p)
        return false;
    if (UNLIKELY(at + size > 4096)) {
        pc->b[0] = pc->p;
        pc->n0 = 4096 - (unsigned)at;
        pc->b[1] = bt_quick_host(bt, q->kind, va + pc->n0, write);
        pc->p = NULL;
        *n = 1;
        return pc->b[1] != NULL;
    }
    room = q->down ? (at >> q->shift) + 1 : (4096 - at) >> q->shift;
    if (q->mask == UINT32_MAX) {
        uint64_t wrap = (q->down ? off : UINT32_MAX - off) >> q->shift;

        if (wrap < room)
            room = wrap + 1;
    }
    if (room < *n)
        *n = room;
    return true;
}

static ALWAYS_INLINE uint64_t ld(const uint8_t *p, unsigned shift)
{
    switch (shift) {
    case 0:
        return *(const volatile uint8_t *)p;
    case 1:
        return *(const volatile host16 *)p;
    case 2:
        return *(const volatile host32 *)p;
    default:
        return *(const volatile host64 *)p;
    }
}

/* The piece's first element. */
static uint64_t ld_first(const struct piece *pc, unsigned shift)
{
    uint64_t v = 0;

    if (LIKELY(pc->p != NULL))
        return ld(pc->p, shift);
    for (unsigned i = 0; i < 1U << shift; i++)
        v |= (uint64_t)(i < pc->n0 ? pc->b[0][i] : pc->b[1][i - pc->n0])
             << 8 * i;
    return v;
}

static void st_across(const struct piece *pc, unsigned shift, uint64_t v)
{
    for (unsigned i = 0; i < 1U << shift; i++)
        *(i < pc->n0 ? &pc->b[0][i] : &pc->b[1][i - pc->n0]) =
            (uint8_t)(v >> 8 * i);
}

/* ---- registers ---- */

static ALWAYS_INLINE void step(struct bt *bt, const struct str *q, unsigned reg,
                               uint64_t n)
{
    uint64_t d = n << q->shift;

    bt->lgpr[reg] = (bt->lgpr[reg] + (q->down ? 0 - d : d)) & q->mask;
}

static ALWAYS_INLINE void done(struct bt *bt, struct str *q, uint64_t n)
{
    q->count -= n;
    if (q->rep)
        bt->lgpr[X86_RCX] = q->count;
}

/* A repeated one with 32-bit addresses cuts @reg even if it does nothing. */
static ALWAYS_INLINE void narrow(struct bt *bt, const struct str *q,
                                 unsigned reg)
{
    if (q->rep)
        bt->lgpr[reg] &= q->mask;
}

/* ---- MOVS, STOS, LODS ---- */

static void copy_up(uint8_t *to, const uint8_t *from, uint64_t n,
                    unsigned shift)
{
    switch (shift) {
    case 0:
        asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    case 1:
        asm volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    case 2:
        asm volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    default:
        asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    }
}

static void copy_down(uint8_t *to, const uint8_t *from, uint64_t n,
                      unsigned shift)
{
    switch (shift) {
    case 0:
        asm volatile("std; rep movsb; cld"
                     : "+D"(to), "+S"(from), "+c"(n)
                     :
                     : "memory", "cc");
        break;
    case 1:
        asm volatile("std; rep movsw; cld"
                     : "+D"(to), "+S"(from), "+c"(n)
                     :
                     : "memory", "cc");
        break;
    case 2:
        asm volatile("std; rep movsl; cld"
                     : "+D"(to), "+S"(from), "+c"(n)
                     :
                     : "memory", "cc");
        break;
    default:
        asm volatile("std; rep movsq; cld"
                     : "+D"(to), "+S"(from), "+c"(n)
                     :
                     : "memory", "cc");
        break;
    }
}

/* One element after the other, as the guest asks: two guest pages may be the
 * same host page. Downwards is slow on hosts, so upwards where none shows. */
static void copy(const struct str *q, uint8_t *to, const uint8_t *from,
                 uint64_t n)
{
    uint64_t back = (n - 1) << q->shift, len = n << q->shift;
    uint64_t d = (uintptr_t)to - (uintptr_t)from;

    if (!q->down)
        copy_up(to, from, n, q->shift);
    else if (d >= len && 0 - d >= len)
        copy_up(to - back, from - back, n, q->shift);
    else
        copy_down(to, from, n, q->shift);
}

static bool movs(struct bt *bt, struct str *q)
{
    struct piece to, from;

    narrow(bt, q, X86_RCX);
    narrow(bt, q, X86_RSI);
    narrow(bt, q, X86_RDI);
    while (q->count) {
        uint64_t n = q->count;

        if (!piece(bt, q, X86_RSI, q->base, false, &n, &from) ||
            !piece(bt, q, X86_RDI, 0, true, &n, &to))
            return false;
        if (LIKELY(to.p && from.p)) {
            copy(q, to.p, from.p, n);
        } else {
            uint64_t v = ld_first(&from, q->shift);

            n = 1;
            if (to.p)
                copy_up(to.p, (const uint8_t *)&v, 1, q->shift);
            else
                st_across(&to, q->shift, v);
        }
        step(bt, q, X86_RSI, n);
        step(bt, q, X86_RDI, n);
        done(bt, q, n);
        if (UNLIKELY(bt->req) && q->count)
            return false;
    }
    return true;
}

static void fill(uint8_t *to, uint64_t v, uint64_t n, unsigned shift)
{
    switch (shift) {
    case 0:
        asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(v) : "memory");
        break;
    case 1:
        asm volatile("rep stosw" : "+D"(to), "+c"(n) : "a"(v) : "memory");
        break;
    case 2:
        asm volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(v) : "memory");
        break;
    default:
        asm volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(v) : "memory");
        break;
    }
}

static bool stos(struct bt *bt, struct str *q)
{
    uint64_t v = bt->lgpr[X86_RAX];
    struct piece to;

    narrow(bt, q, X86_RCX);
    narrow(bt, q, X86_RDI);
    while (q->count) {
        uint64_t n = q->count;

        if (!piece(bt, q, X86_RDI, 0, true, &n, &to))
            return false;
        if (LIKELY(to.p != NULL))
            fill(q->down ? to.p - ((n - 1) << q->shift) : to.p, v, n, q->shift);
        else
            st_across(&to, q->shift, v);
        step(bt, q, X86_RDI, n);
        done(bt, q, n);
        if (UNLIKELY(bt->req) && q->count)
            return false;
    }
    return true;
}

static bool lods(struct bt *bt, struct str *q)
{
    uint64_t low = ~UINT64_C(0) >> (64 - (8U << q->shift)), v;
    struct piece from;

    narrow(bt, q, X86_RCX);
    while (q->count) {
        uint64_t n = q->count, back;

        if (!piece(bt, q, X86_RSI, q->base, false, &n, &from))
            return false;
        /* all but the last are only read */
        if (from.p) {
            back = (n - 1) << q->shift;
            from.p = q->down ? from.p - back : from.p + back;
        }
        v = ld_first(&from, q->shift);
        if (q->shift < 2)
            v |= bt->lgpr[X86_RAX] & ~low;
        bt->lgpr[X86_RAX] = v;
        step(bt, q, X86_RSI, n);
        done(bt, q, n);
        if (UNLIKELY(bt->req) && q->count)
            return false;
    }
    return true;
}

/* ---- CMPS, SCAS ---- */

/* Flags of a - b, as struct bt's lflags. */
static uint64_t flags_of(uint64_t a, uint64_t b, unsigned shift)
{
    uint64_t v;

    switch (shift) {
    case 0:
        asm("cmpb %b2, %b1; lahf; seto %%al"
            : "=&a"(v)
            : "q"(a), "q"(b)
            : "cc");
        break;
    case 1:
        asm("cmpw %w2, %w1; lahf; seto %%al"
            : "=&a"(v)
            : "r"(a), "r"(b)
            : "cc");
        break;
    case 2:
        asm("cmpl %k2, %k1; lahf; seto %%al"
            : "=&a"(v)
            : "r"(a), "r"(b)
            : "cc");
        break;
    default:
        asm("cmpq %2, %1; lahf; seto %%al" : "=&a"(v) : "r"(a), "r"(b) : "cc");
        break;
    }
    return v & 0xffff;
}

/* How many of @n elements are compared before the repeat ends. The last
 * one's operands: *x, *y. */
static uint64_t cmps_run(const struct str *q, const uint8_t *a,
                         const uint8_t *b, uint64_t n, uint64_t *x, uint64_t *y)
{
    int64_t step = q->down ? -(1 << q->shift) : 1 << q->shift;
    uint64_t per = 8U >> q->shift, i = 0;

    if (!q->repne && !q->down) {
        while (i + per <= n && ld(a, 3) == ld(b, 3)) {
            i += per;
            a += 8;
            b += 8;
        }
        if (i == n) {
            i--;
            a -= step;
            b -= step;
        }
    }
    for (;; a += step, b += step) {
        *x = ld(a, q->shift);
        *y = ld(b, q->shift);
        if (++i == n || (*x == *y) == q->repne)
            return i;
    }
}

static uint64_t scas_run(const struct str *q, const uint8_t *b, uint64_t n,
                         uint64_t x, uint64_t *y)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    int64_t step = q->down ? -(1 << q->shift) : 1 << q->shift;
    uint64_t i = 0;

    /* look for a byte, eight at a time */
    if (q->repne && !q->down && q->shift == 0)
        for (; i + 8 < n; i += 8, b += 8) {
            uint64_t v = ld(b, 3) ^ x * ones;

            if ((v - ones) & ~v & ones << 7)
                break;
        }
    for (;; b += step) {
        *y = ld(b, q->shift);
        if (++i == n || (x == *y) == q->repne)
            return i;
    }
}

/* The repeat's end, if it is one: flags. */
static ALWAYS_INLINE bool ends(struct bt *bt, const struct str *q, uint64_t x,
                               uint64_t y)
{
    if (q->rep && q->count && (x == y) != q->repne)
        return false;
    bt->lflags = flags_of(x, y, q->shift);
    return true;
}

static bool cmps(struct bt *bt, struct str *q)
{
    struct piece a, b;
    uint64_t x, y;

    narrow(bt, q, X86_RCX);
    while (q->count) {
        uint64_t n = q->count;

        if (!piece(bt, q, X86_RDI, 0, false, &n, &b) ||
            !piece(bt, q, X86_RSI, q->base, false, &n, &a))
            return false;
        if (a.p && b.p) {
            n = cmps_run(q, a.p, b.p, n, &x, &y);
        } else {
            n = 1;
            x = ld_first(&a, q->shift);
            y = ld_first(&b, q->shift);
        }
        step(bt, q, X86_RSI, n);
        step(bt, q, X86_RDI, n);
        done(bt, q, n);
        if (ends(bt, q, x, y))
            return true;
        if (UNLIKELY(bt->req))
            return false;
    }
    return true;
}

static bool scas(struct bt *bt, struct str *q)
{
    uint64_t x = bt->lgpr[X86_RAX] & ~UINT64_C(0) >> (64 - (8U << q->shift));
    struct piece b;
    uint64_t y;

    narrow(bt, q, X86_RCX);
    while (q->count) {
        uint64_t n = q->count;

        if (!piece(bt, q, X86_RDI, 0, false, &n, &b))
            return false;
        if (b.p) {
            n = scas_run(q, b.p, n, x, &y);
        } else {
            n = 1;
            y = ld_first(&b, q->shift);
        }
        step(bt, q, X86_RDI, n);
        done(bt, q, n);
        if (ends(bt, q, x, y))
            return true;
        if (UNLIKELY(bt->req))
            return false;
    }
    return true;
}

/* ---- all ---- */

static bool run(struct bt *bt, const struct bt_site *s)
{
    struct str q;

    str_open(bt, s->arg, &q);
    switch (s->quick) {
    case BT_Q_MOVS:
        return movs(bt, &q);
    case BT_Q_STOS:
        return stos(bt, &q);
    case BT_Q_LODS:
        return lods(bt, &q);
    case BT_Q_CMPS:
        return cmps(bt, &q);
    case BT_Q_SCAS:
        return scas(bt, &q);
    default:
        bt->dfl = X86_FL_DF; /* STD */
        return true;
    }
}

const void *bt_quick_str(struct bt *bt, const struct bt_site *s)
{
    if (!run(bt, s))
        return NULL;
    bt->st.quick_ops++;
    return bt->rx + s->next;
}
