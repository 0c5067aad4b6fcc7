// SPDX-License-Identifier: Apache-2.0
#include "tests/bt/ac_make.h"

#include "base/cc.h"
#include "cpu/x86/insn.h"

#include <string.h>

static void put(struct ac_prog *p, unsigned v)
{
    p->b[p->n++] = (uint8_t)v;
}

static void puts_(struct ac_prog *p, const char *s, unsigned n)
{
    memcpy(p->b + p->n, s, n);
    p->n += n;
}
#define PUT(p, s) puts_(p, s, sizeof(s) - 1)

static void put32(struct ac_prog *p, uint32_t v)
{
    memcpy(p->b + p->n, &v, 4);
    p->n += 4;
}

static unsigned pick(struct ac_prog *p, unsigned n)
{
    return rnd_n(&p->rnd, n);
}

static bool pct(struct ac_prog *p, unsigned n)
{
    return rnd_pct(&p->rnd, n);
}

/* A register that holds no address and counts nothing. */
static unsigned reg(struct ac_prog *p)
{
    static const uint8_t few[] = {0, 2, 10, 11},
                         all[] = {0, 1, 2, 8, 10, 11, 14, 15};

    return pct(p, 50) ? few[pick(p, 4)] : all[pick(p, 8)];
}

/* One that may be dereferenced, most often. */
static unsigned base(struct ac_prog *p)
{
    static const uint8_t any[] = {X86_RBX, X86_RBP, X86_R12, X86_R13};

    if (pct(p, 4))
        return any[pick(p, 4)];
    if ((p->ac || !p->smap) && pct(p, 70))
        return pct(p, 8) ? X86_RBP : X86_RBX;
    return pct(p, 4) ? X86_R13 : X86_R12;
}

/* [disp32] beside no base */
static void modrm_abs(struct ac_prog *p, unsigned r, uint32_t disp)
{
    put(p, 0x04 | r << 3);
    put(p, 0x25);
    put32(p, disp);
}

/* [base + index * scale + disp] */
static void modrm_base(struct ac_prog *p, unsigned rex_at, unsigned r)
{
    unsigned b = pct(p, 12) && !p->function ? X86_RSP : base(p), idx = 4;
    bool mod = pct(p, 80);

    if (b != X86_RSP && pct(p, 15)) { /* R9 is small */
        p->b[rex_at] |= 2;
        idx = 1;
    }
    p->b[rex_at] |= (uint8_t)(b >> 3);
    put(p, (mod ? 0x40U : 0x80U) | r << 3 |
               (idx == 4 && (b & 7) != 4 ? b & 7 : 4));
    if (idx != 4 || (b & 7) == 4)
        put(p, (idx == 4 ? 0 : pick(p, 4)) << 6 | idx << 3 | (b & 7));
    if (mod)
        put(p, pick(p, 64));
    else
        put32(p, pick(p, 200));
}

/* One instruction with memory. @rm: what stands in ModRM's register field, or
 * 16: any. */
static void mem(struct ac_prog *p, const char *op, unsigned n, unsigned rm,
                bool wide)
{
    unsigned r = rm == 16 ? reg(p) : rm, how = pick(p, 20), rex_at;
    uint64_t next;
    uint32_t near = pick(p, 0x200) * 8;

    if (how < 4)
        put(p, how < 3 ? 0x65 : 0x64);
    rex_at = p->n;
    put(p, (wide ? 0x48U : 0x40U) | (r >> 3) << 2);
    puts_(p, op, n);
    r &= 7;
    if (how < 4)
        modrm_abs(p, r, near & 0xff);
    else if (how == 4)
        modrm_abs(p, r, (uint32_t)AC_TOP + AC_CONST + near);
    else if (how == 5) {
        put(p, 0x05 | r << 3);
        next = p->va + p->n + 4;
        put32(p, (uint32_t)(AC_TOP + AC_CONST + near - next));
    } else {
        modrm_base(p, rex_at, r);
    }
}

static void access_one(struct ac_prog *p)
{
    static const struct {
        char op[3];
        uint8_t n, rm;
        bool wide;
    } ops[] = {
        {"\x8b", 1, 16, true},     {"\x89", 1, 16, true},
        {"\x8b", 1, 16, false},    {"\x89", 1, 16, false},
        {"\x8a", 1, 0, false},     {"\x88", 1, 2, false},
        {"\x03", 1, 16, true},     {"\x01", 1, 16, true},
        {"\x39", 1, 16, true},     {"\x0f\xb6", 2, 16, false},
        {"\xff", 1, 0, true},      {"\x0f\x10", 2, 0, false},
        {"\x0f\x11", 2, 0, false}, {"\x0f\xb1", 2, 16, true},
        {"\x0f\x45", 2, 16, true}, {"\x87", 1, 16, true},
        {"\x63", 1, 16, true},
    };
    unsigned k = pick(p, ARRAY_LEN(ops));

    if (pct(p, 12))
        PUT(p, "\x0f\xae\xe8"); /* lfence */
    mem(p, ops[k].op, ops[k].n, ops[k].rm, ops[k].wide);
}

static void set_ac(struct ac_prog *p, bool on)
{
    puts_(p, on ? "\x0f\x01\xcb" : "\x0f\x01\xca", 3);
    p->ac = on;
}

/* Perhaps STAC or CLAC; what one check may cover, on both ways. */
static void section(struct ac_prog *p)
{
    unsigned b = pct(p, 60) ? X86_RBX : pct(p, 60) ? X86_RBP : X86_R13;

    put(p, 0x70 | pick(p, 16)), put(p, 3);
    set_ac(p, pct(p, 50));
    for (unsigned n = 2 + pick(p, 2); n; n--) {
        put(p, 0x48 | b >> 3);
        put(p, pct(p, 70) ? 0x8b : 0x89);
        put(p, 0x50 | (b & 7)); /* RDX */
        put(p, pick(p, 60));
    }
}

/* pushf; change AC; popf */
static void popf(struct ac_prog *p)
{
    PUT(p, "\x9c\x81\x34\x24\x00\x00\x04\x00\x9d");
    p->ac = !p->ac;
}

/* CR4.SMAP is the other */
static void toggle_smap(struct ac_prog *p)
{
    PUT(p, "\x0f\x20\xe0\x35\x00\x00\x20\x00\x0f\x22\xe0");
    p->smap = !p->smap;
}

/* lea @r, [base + disp8] */
static void point(struct ac_prog *p, unsigned r)
{
    unsigned b = base(p);

    put(p, 0x48 | b >> 3);
    put(p, 0x8d);
    put(p, 0x44 | r << 3);
    if ((b & 7) == 4) {
        put(p, 0x24);
    } else {
        p->b[p->n - 1] = (uint8_t)(0x40 | r << 3 | (b & 7));
    }
    put(p, pick(p, 100));
}

static void string(struct ac_prog *p)
{
    static const uint8_t ops[] = {0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xae, 0xa6};
    bool down = pct(p, 5);

    point(p, X86_RSI);
    point(p, X86_RDI);
    put(p, 0xb9);
    put32(p, pct(p, 90) ? pick(p, 40) : pick(p, 300));
    if (down)
        put(p, 0xfd);
    if (pct(p, 85))
        put(p, 0xf3);
    if (pct(p, 40))
        put(p, 0x48);
    put(p, ops[pick(p, pct(p, 70) ? 4 : 7)]);
    if (down)
        put(p, 0xfc);
}

/* A jump to one of the places behind it, chosen later. */
static void jump(struct ac_prog *p)
{
    if (p->njumps == ARRAY_LEN(p->jump))
        return;
    switch (pick(p, 8)) {
    case 0:
        put(p, 0xe9);
        break;
    case 1: /* lea rax, target; jmp rax */
        PUT(p, "\x48\x8d\x05");
        break;
    default:
        put(p, 0x0f), put(p, 0x80 | pick(p, 16));
    }
    p->jump[p->njumps].disp = p->n;
    p->jump[p->njumps++].from = p->nat;
    put32(p, 0);
    if (p->b[p->n - 5] == 0x05 && p->b[p->n - 6] == 0x8d)
        PUT(p, "\xff\xe0");
}

static void call(struct ac_prog *p)
{
    if (p->ncalls == ARRAY_LEN(p->call))
        return;
    put(p, 0xe8);
    p->call[p->ncalls++] = p->n;
    put32(p, 0);
}

static void other(struct ac_prog *p)
{
    switch (pick(p, 7)) {
    case 0: /* push, pop */
        put(p, 0x50 | pick(p, 3)), put(p, 0x41), put(p, 0x53);
        put(p, 0x41), put(p, 0x5a), put(p, 0x58 | pick(p, 3));
        break;
    case 1: /* pushf; pop rdx */
        PUT(p, "\x9c\x5a");
        break;
    case 2: /* push [mem]; pop rax */
        mem(p, "\xff", 1, 6, false);
        put(p, 0x58);
        break;
    case 3: /* pointers move */
        puts_(p, pct(p, 50) ? "\x48\x83\xc3" : "\x49\x83\xc4", 3);
        put(p, pick(p, 24));
        break;
    case 4: /* add r, r */
        PUT(p, "\x4d\x01\xda");
        break;
    case 5: /* swapgs; perhaps mov rax, gs:[8]; swapgs */
        PUT(p, "\x0f\x01\xf8");
        if (p->ac)
            PUT(p, "\x65\x48\x8b\x04\x25\x08\x00\x00\x00");
        PUT(p, "\x0f\x01\xf8");
        break;
    default:
        PUT(p, "\x48\x31\xc2"); /* xor rdx, rax */
    }
}

static void piece(struct ac_prog *p, unsigned depth);

/* mov r9d, n; ...; dec r9; jg */
static void loop(struct ac_prog *p, unsigned depth)
{
    unsigned top, n = 1 + pick(p, 4);

    PUT(p, "\x41\xb9");
    put32(p, 1 + pick(p, 5));
    top = p->n;
    if (pct(p, 40)) { /* one of streams */
        PUT(p, "\x8a\x03\x41\x02\x04\x24\x88\x03\x48\xff\xc3\x49\xff\xc4");
    } else {
        while (n--)
            piece(p, depth + 1);
    }
    PUT(p, "\x49\xff\xc9\x0f\x8f");
    put32(p, top - (p->n + 4));
}

/* Something that one may jump to the beginning of. */
static void piece(struct ac_prog *p, unsigned depth)
{
    unsigned k = pick(p, 100);

    if (p->nat < ARRAY_LEN(p->at) && !depth)
        p->at[p->nat++] = p->n;
    if (k < 14)
        set_ac(p, pct(p, 50));
    else if (k < 60)
        access_one(p);
    else if (k < 68)
        jump(p);
    else if (k < 72 && !depth)
        call(p);
    else if (k < 78)
        string(p);
    else if (k < 82 && !depth)
        loop(p, depth);
    else if (k < 84)
        popf(p);
    else if (k < 88)
        section(p);
    else if (k < 89)
        toggle_smap(p);
    else
        other(p);
}

static void rel32(struct ac_prog *p, unsigned disp, unsigned to)
{
    uint32_t rel = to - (disp + 4);

    memcpy(p->b + disp, &rel, 4);
}

/* Pieces, HLT, two functions; then where jumps and calls lead. */
void ac_make(struct ac_prog *p, bool ac, bool smap)
{
    unsigned n = 3 + pick(p, pct(p, 70) ? 12 : 40), f[2];

    p->n = p->nat = p->njumps = p->ncalls = 0;
    p->function = false;
    p->ac = ac;
    p->smap = smap;
    PUT(p, "\x66\x0f\xef\xc0"); /* pxor xmm0, xmm0 */
    while (n-- && p->n < 600)
        piece(p, 0);
    p->at[p->nat++ % ARRAY_LEN(p->at)] = p->n;
    p->nat = p->nat > ARRAY_LEN(p->at) ? (unsigned)ARRAY_LEN(p->at) : p->nat;
    put(p, 0xf4);
    for (unsigned i = 0; i < p->njumps; i++) {
        unsigned from = p->jump[i].from, left = p->nat - from;

        rel32(p, p->jump[i].disp,
              p->at[left ? from + pick(p, left < 8 ? left : 8) : p->nat - 1]);
    }
    p->function = true;
    for (unsigned k = 0; k < 2; k++) {
        unsigned was = p->njumps;

        f[k] = p->n;
        n = pick(p, 5);
        while (n--)
            piece(p, 1);
        for (unsigned i = was; i < p->njumps; i++) /* to the end */
            rel32(p, p->jump[i].disp, p->n);
        put(p, 0xc3);
    }
    for (unsigned i = 0; i < p->ncalls; i++)
        rel32(p, p->call[i], f[pick(p, 2)]);
}
