// SPDX-License-Identifier: Apache-2.0
/*
 * XSAVE and its kin, and bit tests that reach past their operand, in the quick
 * gate: instructions whose operand's address the translated code has stored.
 * Each is done whole, or left to the interpreter, whose results these are: it
 * sees from the contents which components are in use. The host's instruction
 * never meets guest memory: images are made, and checked, in cpu->xsave, which
 * holds nothing while the vector state is in the host's registers.
 * Source: Intel SDM vol. 1 13.4-13.11, vol. 2.
 */
#include "engine/bt/quick_str.h"

typedef uint32_t ANY_ALIGN img32;
typedef uint64_t ANY_ALIGN img64;

#define COMPS      (X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX)
#define MXCSR_AT   24U
#define ST_AT      32U
#define XMM_AT     160U
#define XMM_END    416U
#define HDR_AT     512U
#define HDR_END    576U
#define AVX_BYTES  256U
#define XCOMP      BIT(63)
#define MXCSR_INIT 0x1f80U
#define MXCSR_OK   0xffffU

/* ---- bits ---- */

bool bt_quick_bits(struct bt *bt, unsigned arg)
{
    unsigned shift = arg & BT_BITS_SIZE, op = arg & BT_BITS_OP,
             bits = 8U << shift;
    uint64_t i = bt->slot[BT_BITS_SLOT] << (64 - bits), va;
    int64_t index = (int64_t)i >> (64 - bits);
    uint8_t *p, m, old;

    va = bt->va + ((uint64_t)(index >> (3 + shift)) << shift);
    if ((va & 0xfff) + bits / 8 > 4096)
        return false;
    p = bt_quick_host(bt, bt->mode & BT_MODE_KIND, va, op != 0);
    if (!p)
        return false;
    p += ((uint64_t)index & (bits - 1)) >> 3;
    m = (uint8_t)(1U << ((uint64_t)index & 7));
    if (arg & BT_BITS_LOCK) {
        if (op == BT_BITS_SET)
            old = __atomic_fetch_or(p, m, __ATOMIC_SEQ_CST);
        else if (op == BT_BITS_CLR)
            old = __atomic_fetch_and(p, (uint8_t)~m, __ATOMIC_SEQ_CST);
        else
            old = __atomic_fetch_xor(p, m, __ATOMIC_SEQ_CST);
    } else {
        old = *(volatile uint8_t *)p;
        if (op)
            *(volatile uint8_t *)p = op == BT_BITS_SET   ? old | m
                                     : op == BT_BITS_CLR ? old & (uint8_t)~m
                                                         : old ^ m;
    }
    bt->lflags = (bt->lflags & ~UINT64_C(0x100)) | (old & m ? 0x100 : 0);
    return true;
}

/* ---- the guest's area ---- */

/* In one guest page or two. */
struct area {
    uint8_t *p[2];
    size_t n0; /* bytes in the first */
};

static bool area_open(struct bt *bt, size_t len, bool write, struct area *a)
{
    unsigned kind = bt->mode & BT_MODE_KIND;
    uint64_t va = bt->va;

    if (va & 63)
        return false;
    a->p[0] = bt_quick_known(bt, kind, va, write);
    a->n0 = 4096 - (va & 0xfff);
    a->p[1] = NULL;
    if (a->n0 >= len)
        return a->p[0] != NULL;
    a->p[1] = bt_quick_known(bt, kind, va + a->n0, write);
    return a->p[0] && a->p[1];
}

static void copy(void *to, const void *from, size_t n)
{
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static void words(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        *(volatile img64 *)((uint8_t *)to + i) =
            *(const volatile img64 *)((const uint8_t *)from + i);
}

static void area_move(const struct area *a, size_t at, uint8_t *img, size_t n,
                      bool out)
{
    while (n) {
        bool first = at < a->n0;
        uint8_t *p = first ? a->p[0] + at : a->p[1] + (at - a->n0);
        size_t k = first && a->n0 - at < n ? a->n0 - at : n;

        if (k <= 64) /* a header; all parts are of whole words */
            words(out ? p : img, out ? img : p, k);
        else if (out)
            copy(p, img, k);
        else
            copy(img, p, k);
        at += k;
        img += k;
        n -= k;
    }
}

/* The image's [at, end) to the area. */
static void area_put(const struct area *a, uint8_t *img, size_t at, size_t end)
{
    area_move(a, at, img + at, end - at, true);
}

static void area_get(const struct area *a, uint8_t *img, size_t at, size_t end)
{
    area_move(a, at, img + at, end - at, false);
}

static uint64_t requested(const struct bt *bt)
{
    return ((uint32_t)bt->lgpr[X86_RAX] | bt->lgpr[X86_RDX] << 32) &
           bt->cpu->xcr0 & COMPS;
}

static size_t area_len(uint64_t rfbm)
{
    return rfbm & X86_XCR0_AVX ? X86_XSAVE_AVX_OFFSET + AVX_BYTES : HDR_END;
}

/* ---- saving ---- */

static bool all_zero(const uint8_t *img, size_t at, size_t end)
{
    for (; at < end; at += 32) {
        const img64 *w = (const img64 *)(img + at);

        if (w[0] | w[1] | w[2] | w[3])
            return false;
    }
    return true;
}

/* The live state as an image, without the host's instruction pointer. Return:
 * the components that are not in their initial state. */
static uint64_t image_of_live(uint8_t *img)
{
    uint64_t use;

    asm volatile("xsave64 (%0)" : : "r"(img), "a"(7), "d"(0) : "memory");
    use =
        *(img64 *)(img + HDR_AT) & COMPS; /* others are in their first state */
    *(img64 *)(img + 8) = 0;
    *(img64 *)(img + 16) = 0;
    *(img32 *)(img + MXCSR_AT + 4) = MXCSR_OK;
    if ((use & X86_XCR0_X87) && *(img64 *)img == 0x37f &&
        all_zero(img, ST_AT, XMM_AT))
        use &= ~X86_XCR0_X87;
    if ((use & X86_XCR0_SSE) && all_zero(img, XMM_AT, XMM_END))
        use &= ~X86_XCR0_SSE;
    if ((use & X86_XCR0_AVX) &&
        all_zero(img, X86_XSAVE_AVX_OFFSET, X86_XSAVE_AVX_OFFSET + AVX_BYTES))
        use &= ~X86_XCR0_AVX;
    return use;
}

static void put_components(const struct area *a, uint8_t *img, uint64_t data,
                           bool mxcsr)
{
    const uint64_t legacy = X86_XCR0_X87 | X86_XCR0_SSE;

    if ((data & legacy) == legacy && mxcsr) {
        area_put(a, img, 0, XMM_END);
    } else {
        if (data & X86_XCR0_X87) {
            area_put(a, img, 0, MXCSR_AT);
            area_put(a, img, ST_AT, XMM_AT);
        }
        if (mxcsr)
            area_put(a, img, MXCSR_AT, ST_AT);
        if (data & X86_XCR0_SSE)
            area_put(a, img, XMM_AT, XMM_END);
    }
    if (data & X86_XCR0_AVX)
        area_put(a, img, X86_XSAVE_AVX_OFFSET,
                 X86_XSAVE_AVX_OFFSET + AVX_BYTES);
}

static bool save(struct bt *bt, unsigned quick)
{
    uint64_t rfbm = requested(bt), use, data, hdr[2];
    bool mxcsr = rfbm & (X86_XCR0_SSE | X86_XCR0_AVX);
    uint8_t *img = bt->cpu->xsave.b;
    struct area a;

    if (!area_open(bt, area_len(rfbm), true, &a))
        return false;
    use = image_of_live(img) & rfbm;
    data = quick == BT_Q_XSAVE ? rfbm : use;
    if (quick == BT_Q_XSAVEC) {
        if ((rfbm & X86_XCR0_SSE) && *(img32 *)(img + MXCSR_AT) != MXCSR_INIT)
            use |= X86_XCR0_SSE;
        data = use;
        mxcsr = data & X86_XCR0_SSE;
        hdr[0] = use;
        hdr[1] = XCOMP | rfbm;
    } else {
        area_move(&a, HDR_AT, (uint8_t *)hdr, 8, false);
        hdr[0] = (hdr[0] & ~rfbm) | use;
    }
    put_components(&a, img, data, mxcsr);
    area_move(&a, HDR_AT, (uint8_t *)hdr, quick == BT_Q_XSAVEC ? 16 : 8, true);
    return true;
}

/* ---- restoring ---- */

static bool header_ok(const struct bt *bt, const uint64_t *h)
{
    uint64_t bv = h[0], comp = h[1], any = h[2];

    if (!(comp & XCOMP))
        return !(bv & ~bt->cpu->xcr0) && comp == 0 && any == 0;
    for (unsigned i = 3; i < 8; i++)
        any |= h[i];
    return !(comp & ~XCOMP & ~bt->cpu->xcr0) && !(bv & ~comp) && !any;
}

/* What the image's MXCSR is to be for the host's XRSTOR, which loads it with
 * SSE or AVX. Return: whether it is valid. */
static bool mxcsr_ready(uint8_t *img, uint64_t rfbm, const uint64_t *h)
{
    img32 *v = (img32 *)(img + MXCSR_AT);

    if (!(rfbm & (X86_XCR0_SSE | X86_XCR0_AVX)))
        return true;
    if (h[1] & XCOMP) {
        if (!(rfbm & X86_XCR0_SSE))
            asm volatile("stmxcsr %0" : "=m"(*v));
        else if (!(h[0] & X86_XCR0_SSE))
            *v = MXCSR_INIT;
    }
    return !(*v & ~MXCSR_OK);
}

static bool restore(struct bt *bt)
{
    uint64_t rfbm = requested(bt), h[8];
    uint8_t *img = bt->cpu->xsave.b;
    struct area a;

    if (!area_open(bt, area_len(rfbm), false, &a))
        return false;
    area_move(&a, HDR_AT, (uint8_t *)h, sizeof h, false);
    if (!header_ok(bt, h))
        return false;
    if (rfbm & h[0] & X86_XCR0_SSE)
        area_get(&a, img, 0, XMM_END);
    else if (rfbm & h[0] & X86_XCR0_X87)
        area_get(&a, img, 0, XMM_AT);
    else
        area_get(&a, img, MXCSR_AT, MXCSR_AT + 8);
    if (rfbm & h[0] & X86_XCR0_AVX)
        area_get(&a, img, X86_XSAVE_AVX_OFFSET,
                 X86_XSAVE_AVX_OFFSET + AVX_BYTES);
    if (!mxcsr_ready(img, rfbm, h))
        return false;
    *(img64 *)(img + 8) = 0; /* FIP and FDP are not kept */
    *(img64 *)(img + 16) = 0;
    *(img64 *)(img + HDR_AT) = h[0] & COMPS;
    for (unsigned i = HDR_AT + 8; i < HDR_END; i += 8)
        *(img64 *)(img + i) = 0;
    asm volatile("xrstor64 (%0)"
                 :
                 : "r"(img), "a"((uint32_t)rfbm), "d"(0)
                 : "memory");
    return true;
}

bool bt_quick_xsave(struct bt *bt, unsigned quick)
{
    if (!bt->vec) /* the state is in cpu->xsave */
        return false;
    return quick == BT_Q_XRSTOR ? restore(bt) : save(bt, quick);
}
