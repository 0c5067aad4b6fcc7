// SPDX-License-Identifier: Apache-2.0
/*
 * XSAVE and its kin, and bit tests that reach past their operand, in the quick
 * gate: instructions whose operand's address the translated code has stored.
 * Each is done whole, or left to the interpreter, whose results these are: it
 * sees from the contents which components are in use. The host's XSAVE would be
 * slower than its parts, and never meets guest memory: vector registers go to
 * an area in one page, or come from it, by plain moves; x87, if it is in use at
 * all, and an area on two pages by way of an image in cpu->xsave, which holds
 * nothing while the vector state is in the host's registers.
 * Source: Intel SDM vol. 1 13.4-13.11, vol. 2.
 */
#include "engine/bt/quick_str.h"

typedef uint64_t ANY_ALIGN img64;

#define COMPS      (X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX)
#define MXCSR_AT   24U
#define HDR_AT     512U
#define HDR_END    576U
#define AVX_BYTES  256U
#define XCOMP      BIT(63)
#define MXCSR_INIT 0x1f80U
#define MXCSR_OK   0xffffU

/* ---- bits ---- */

static ALWAYS_INLINE bool bit_test(struct bt *bt, unsigned arg)
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

/* Words of an area from @at on, up to the next multiple of 64. */
static ALWAYS_INLINE volatile img64 *words(const struct bt_area *a, size_t at)
{
    return (volatile img64 *)(a->p[at >= a->n0] + at);
}

static ALWAYS_INLINE uint64_t get(const struct bt_area *a, size_t at)
{
    return *words(a, at);
}

static ALWAYS_INLINE void put(const struct bt_area *a, size_t at, uint64_t v)
{
    *words(a, at) = v;
}

/* @n words, at multiples of 8 that lie in one piece of 64. */
static ALWAYS_INLINE uint64_t any(const struct bt_area *a, size_t at, size_t n)
{
    const volatile img64 *w = words(a, at);
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++)
        v |= w[i];
    return v;
}

static ALWAYS_INLINE void clear(const struct bt_area *a, size_t at, size_t n)
{
    volatile img64 *w = words(a, at);

    for (size_t i = 0; i < n; i++)
        w[i] = 0;
}

static ALWAYS_INLINE void copy(const struct bt_area *to,
                               const struct bt_area *from, size_t at, size_t n)
{
    const volatile img64 *f = words(from, at);
    volatile img64 *t = words(to, at);

    for (size_t i = 0; i < n; i++)
        t[i] = f[i];
}

static ALWAYS_INLINE bool area_open(struct bt *bt, size_t len, bool write,
                                    struct bt_area *a)
{
    unsigned kind = bt->mode & BT_MODE_KIND;
    uint64_t va = bt->va;

    if (va & 63)
        return false;
    a->p[0] = a->p[1] = bt_quick_known(bt, kind, va, write);
    a->n0 = 4096 - (va & 0xfff);
    if (!a->p[0] || a->n0 >= len)
        return a->p[0] != NULL;
    a->p[1] = bt_quick_known(bt, kind, va + a->n0, write);
    if (!a->p[1])
        return false;
    a->p[1] -= a->n0;
    return true;
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

/* The vCPU's own image, as an area. */
static struct bt_area own(struct bt *bt)
{
    uint8_t *img = bt->cpu->xsave.b;

    return (struct bt_area){{img, img}, 4096};
}

/* ---- x87: bytes 0-23 and 32-159 ---- */

/* Whether it is there as FNINIT leaves it. */
static ALWAYS_INLINE bool x87_init(const struct bt_area *a)
{
    return !((get(a, 0) ^ 0x37f) | any(a, 32, 4) | any(a, 64, 8) |
             any(a, 128, 4));
}

static void x87_copy(const struct bt_area *to, const struct bt_area *from)
{
    put(to, 0, get(from, 0));
    clear(to, 8, 2); /* FIP and FDP are not kept */
    copy(to, from, 32, 4);
    copy(to, from, 64, 8);
    copy(to, from, 128, 4);
}

static void x87_put_init(const struct bt_area *a)
{
    put(a, 0, 0x37f);
    clear(a, 8, 2);
    clear(a, 32, 4);
    clear(a, 64, 8);
    clear(a, 128, 4);
}

/* The host's x87 into the vCPU's image. Return: whether it is in use. */
static NOINLINE bool x87_image(struct bt *bt)
{
    struct bt_area img = own(bt);

    asm volatile("xsave64 (%0)" : : "r"(img.p[0]), "a"(1), "d"(0) : "memory");
    return !x87_init(&img);
}

static NOINLINE void x87_put(struct bt *bt, const struct bt_area *a)
{
    struct bt_area img = own(bt);

    x87_copy(a, &img);
}

static NOINLINE void x87_get(struct bt *bt, const struct bt_area *a, bool init)
{
    struct bt_area img = own(bt);

    if (!init)
        x87_copy(&img, a);
    put(&img, HDR_AT, init ? 0 : X86_XCR0_X87);
    clear(&img, HDR_AT + 8, 7);
    asm volatile("xrstor64 (%0)" : : "r"(img.p[0]), "a"(1), "d"(0) : "memory");
    bt->x87 = !init;
}

/* ---- saving ---- */

/* Which of @rfbm's components are in use, by their contents. x87's are in the
 * image then, if it may be. */
static ALWAYS_INLINE uint64_t in_use(struct bt *bt, uint64_t rfbm)
{
    uint64_t use = 0;

    if ((rfbm & X86_XCR0_X87) && bt->x87 && x87_image(bt))
        use |= X86_XCR0_X87;
    if ((rfbm & X86_XCR0_SSE) && bt_xmm_any())
        use |= X86_XCR0_SSE;
    if ((rfbm & X86_XCR0_AVX) && bt_ymm_any())
        use |= X86_XCR0_AVX;
    return use;
}

static ALWAYS_INLINE uint32_t mxcsr_now(void)
{
    uint32_t v;

    asm volatile("stmxcsr %0" : "=m"(v));
    return v;
}

/* Components @data to the area. */
static ALWAYS_INLINE void parts(struct bt *bt, const struct bt_area *a,
                                uint64_t data, bool mxcsr)
{
    if ((data & X86_XCR0_X87) && bt->x87)
        x87_put(bt, a);
    else if (data & X86_XCR0_X87)
        x87_put_init(a);
    if (mxcsr)
        put(a, MXCSR_AT, mxcsr_now() | (uint64_t)MXCSR_OK << 32);
    if (data & X86_XCR0_SSE)
        bt_xmm_put(a);
    if (data & X86_XCR0_AVX)
        bt_ymm_put(a);
}

static NOINLINE bool save(struct bt *bt, unsigned quick)
{
    uint64_t rfbm = requested(bt), use, data;
    bool mxcsr = rfbm & (X86_XCR0_SSE | X86_XCR0_AVX);
    struct bt_area a;

    if (!area_open(bt, area_len(rfbm), true, &a))
        return false;
    use = in_use(bt, rfbm);
    data = quick == BT_Q_XSAVE ? rfbm : use;
    if (quick == BT_Q_XSAVEC) {
        if ((rfbm & X86_XCR0_SSE) && mxcsr_now() != MXCSR_INIT)
            use |= X86_XCR0_SSE;
        data = use;
        mxcsr = data & X86_XCR0_SSE;
        put(&a, HDR_AT + 8, XCOMP | rfbm);
    } else {
        use |= get(&a, HDR_AT) & ~rfbm;
    }
    parts(bt, &a, data, mxcsr);
    put(&a, HDR_AT, use);
    return true;
}

/* ---- restoring ---- */

static bool header_ok(const struct bt *bt, uint64_t bv, uint64_t comp)
{
    if (!(comp & XCOMP))
        return !(bv & ~bt->cpu->xcr0) && comp == 0;
    return !(comp & ~XCOMP & ~bt->cpu->xcr0) && !(bv & ~comp);
}

/* The MXCSR that XRSTOR loads, with SSE or AVX: @v is the area's. */
static uint32_t mxcsr_new(uint32_t v, uint64_t rfbm, uint64_t bv, uint64_t comp)
{
    if (!(comp & XCOMP))
        return v;
    if (!(rfbm & X86_XCR0_SSE))
        return mxcsr_now();
    return bv & X86_XCR0_SSE ? v : MXCSR_INIT;
}

static NOINLINE bool restore(struct bt *bt)
{
    uint64_t rfbm = requested(bt), bv, comp;
    struct bt_area a;
    uint32_t mxcsr;
    bool init;

    if (!area_open(bt, area_len(rfbm), false, &a))
        return false;
    bv = get(&a, HDR_AT);
    comp = get(&a, HDR_AT + 8);
    if (!header_ok(bt, bv, comp) || any(&a, HDR_AT + 16, 6))
        return false;
    mxcsr = mxcsr_new((uint32_t)get(&a, MXCSR_AT), rfbm, bv, comp);
    if (rfbm & (X86_XCR0_SSE | X86_XCR0_AVX)) {
        if (mxcsr & ~MXCSR_OK)
            return false;
        if (mxcsr != mxcsr_now())
            asm volatile("ldmxcsr %0" : : "m"(mxcsr));
    }
    if (rfbm & X86_XCR0_X87) { /* Linux's signal frames always have it */
        init = !(bv & X86_XCR0_X87) || x87_init(&a);
        if (!init || bt->x87)
            x87_get(bt, &a, init);
    }
    if (rfbm & X86_XCR0_AVX & bv)
        bt_ymm_get(&a);
    else if (rfbm & X86_XCR0_AVX)
        asm volatile("vzeroupper");
    if (rfbm & X86_XCR0_SSE & bv)
        bt_xmm_get(&a);
    else if (rfbm & X86_XCR0_SSE)
        bt_xmm_zero();
    return true;
}

const void *bt_quick_addr(struct bt *bt, const struct bt_site *s)
{
    const void *code = bt->rx + s->next;
    bool done;

    switch (s->quick) {
    case BT_Q_BITS:
        done = bit_test(bt, s->arg);
        break;
    case BT_Q_INVLPG:
        code = bt_quick_invlpg(bt, s);
        done = code != NULL;
        break;
    case BT_Q_XRSTOR: /* !vec: the state is in cpu->xsave */
        done = bt->vec && restore(bt);
        break;
    default:
        done = bt->vec && save(bt, s->quick);
        break;
    }
    bt->st.quick_ops += done;
    return done ? code : NULL;
}
