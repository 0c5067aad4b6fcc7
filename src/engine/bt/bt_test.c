// SPDX-License-Identifier: Apache-2.0
/*
 * Translated code against the interpreter: the same program in two VMs, then
 * registers, flags and memory are compared. Programs by hand, and random
 * blocks of integer instructions with memory operands, branches, faults.
 */
#include "engine/bt/bt.h"

#include "base/test.h"
#include "engine/bt/priv.h"
#include "engine/bt/testbt.h"

#include <errno.h>

#define DATA  (TVM_PAGED + 0x10000U)
#define BYTES 0x3000U

/* ---- two VMs ---- */

static uint64_t rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s * UINT64_C(0x2545f4914f6cdd1d);
}

/* ---- random programs ---- */

struct prog {
    uint8_t b[4096];
    unsigned n;
    uint64_t rng;
};

static void put(struct prog *p, unsigned v)
{
    p->b[p->n++] = (uint8_t)v;
}

static unsigned pick(struct prog *p, unsigned n)
{
    return (unsigned)(rnd(&p->rng) >> 33) % n;
}

/* Any register but RSP, RBX and RSI, which hold addresses. */
static unsigned reg(struct prog *p)
{
    static const uint8_t ok[] = {0, 1, 2, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15};

    return ok[pick(p, sizeof ok)];
}

/* ModRM of register @r and a register or [rbx+d8/d32], [rbx+rsi*s+d8]. */
static void modrm(struct prog *p, unsigned rex_at, unsigned r, bool mem)
{
    p->b[rex_at] |= (uint8_t)((r >> 3) << 2);
    r &= 7;
    if (!mem) {
        unsigned m = reg(p);

        p->b[rex_at] |= (uint8_t)(m >> 3);
        put(p, 0xc0 | r << 3 | (m & 7));
    } else if (pick(p, 3) == 0) {
        put(p, 0x44 | r << 3);
        put(p, pick(p, 4) << 6 | 6 << 3 | 3);
        put(p, pick(p, 128));
    } else {
        unsigned d = pick(p, BYTES - 16); /* crosses pages now and then */

        put(p, 0x83 | r << 3);
        for (unsigned i = 0; i < 4; i++)
            put(p, d >> 8 * i & 0xff);
    }
}

static void insn(struct prog *p)
{
    static const uint8_t two[] = {0x01, 0x03, 0x09, 0x0b, 0x11, 0x13, 0x19,
                                  0x1b, 0x21, 0x23, 0x29, 0x2b, 0x31, 0x33,
                                  0x39, 0x3b, 0x85, 0x87, 0x89, 0x8b, 0x00,
                                  0x02, 0x28, 0x38, 0x88, 0x8a};
    unsigned rex_at, k = pick(p, 16), r = reg(p);

    if (k == 0) { /* push, pop; a few */
        unsigned n = 1 + pick(p, 4);

        for (unsigned i = 0; i < n; i++)
            put(p, 0x41), put(p, 0x50 | pick(p, 8));
        for (unsigned i = 0; i < n; i++)
            put(p, 0x41), put(p, 0x58 | pick(p, 8));
        return;
    }
    if (k == 1) { /* jcc over a MOV */
        put(p, 0x70 | pick(p, 16)), put(p, 5);
        put(p, 0xb8), put(p, 1), put(p, 2), put(p, 3), put(p, 4);
        return;
    }
    if (pick(p, 8) == 0)
        put(p, 0x66);
    rex_at = p->n;
    put(p, 0x40 | pick(p, 2) << 3);
    switch (k) {
    case 2: /* setcc */
        put(p, 0x0f), put(p, 0x90 | pick(p, 16));
        modrm(p, rex_at, 0, pick(p, 2));
        break;
    case 3: /* cmovcc, movzx, movsx, imul */
        put(p, 0x0f);
        put(p, pick(p, 2) ? 0x40 | pick(p, 16)
                          : (unsigned)"\xb6\xb7\xbe\xbf\xaf"[pick(p, 5)] & 255);
        modrm(p, rex_at, r, pick(p, 2));
        break;
    case 4: /* shifts and rotates by an immediate or CL */
        put(p, pick(p, 2) ? 0xc1 : 0xd3);
        modrm(p, rex_at, pick(p, 8), pick(p, 2));
        if (p->b[rex_at + 1] == 0xc1)
            put(p, pick(p, 40));
        break;
    case 5: /* group 3: not neg mul imul div idiv */
        put(p, 0xf7);
        modrm(p, rex_at, 2 + pick(p, 6), pick(p, 2));
        break;
    case 6: /* inc dec */
        put(p, 0xff);
        modrm(p, rex_at, pick(p, 2), pick(p, 2));
        break;
    case 7: /* lea */
        put(p, 0x8d);
        modrm(p, rex_at, r, true);
        break;
    case 8: /* xadd, cmpxchg */
        put(p, 0x0f), put(p, pick(p, 2) ? 0xc1 : 0xb1);
        modrm(p, rex_at, r, pick(p, 2));
        break;
    case 9: /* ALU with an immediate */
        put(p, 0x83);
        modrm(p, rex_at, pick(p, 8), pick(p, 2));
        put(p, pick(p, 256));
        break;
    default:
        put(p, two[pick(p, sizeof two)]);
        modrm(p, rex_at, r, pick(p, 3) != 0);
        break;
    }
}

static void load(struct tvm *t, const struct prog *p, uint64_t seed)
{
    uint64_t s = seed | 1;

    tvm_poke(t, TVM_CODE, p->b, p->n);
    for (unsigned i = 0; i < 16; i++)
        t->cpu->gpr[i] = rnd(&s) >> (rnd(&s) & 63);
    t->cpu->gpr[X86_RSP] = TVM_STACK;
    t->cpu->gpr[X86_RBX] = DATA;
    t->cpu->gpr[X86_RSI] = rnd(&s) & 255;
    for (unsigned i = 0; i < BYTES + 0x1000; i += 8)
        tvm_poke64(t, DATA + i, rnd(&s));
    t->cpu->rip = TVM_CODE;
    t->cpu->rflags = X86_FL_ONE | (rnd(&s) & X86_FL_ARITH);
    t->cpu->activity = X86_ACT_RUN;
}

static enum exit_reason run(const struct engine_ops *e, struct tvm *t)
{
    struct exit_rec x;

    e->vcpu_run(t->v[0], 0, &x);
    return x.reason;
}

/* The arithmetic flags of the frame that an exception pushed may be stale:
 * they are dead in the program (docs/translator.md). */
static void compare(struct tvm *a, struct tvm *b, uint64_t seed)
{
    for (unsigned i = 0; i < 16; i++)
        if (a->cpu->gpr[i] != b->cpu->gpr[i]) {
            printf("seed %llu: r%u\n", (unsigned long long)seed, i);
            CHECK_EQ(a->cpu->gpr[i], b->cpu->gpr[i]);
        }
    CHECK_EQ(a->cpu->rip, b->cpu->rip);
    if (a->cpu->rip >= TVM_CODE)
        CHECK_EQ(a->cpu->rflags, b->cpu->rflags);
    for (unsigned i = 0; i < BYTES + 0x1000; i += 8)
        CHECK_EQ(tvm_peek(a, DATA + i, 8), tvm_peek(b, DATA + i, 8));
}

TEST(random_blocks)
{
    static struct engine_part *part; /* as in a monitor: till the end */
    struct tvm *a, *b;

    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    a = tvm_create();
    b = tbt_create(&part);
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        struct prog p = {.rng = seed * UINT64_C(0x9e3779b97f4a7c15)};
        unsigned n = 2 + pick(&p, 30);

        while (n--)
            insn(&p);
        put(&p, 0xf4);
        load(a, &p, seed);
        load(b, &p, seed);
        CHECK_EQ(run(&interp_engine, a), EXIT_HLT);
        CHECK_EQ(run(&bt_engine, b), EXIT_HLT);
        compare(a, b, seed);
    }
    /* (A rotation by more than 1 leaves OF undefined; the interpreter's helper
     * and the host's own instruction then differ in 2 of 80,000 programs.) */
    tvm_destroy(a);
    tbt_destroy(b);
}

/* A loop that rewrites an immediate of its own. */
TEST(own_code_rewritten)
{
    static struct engine_part *part; /* as in a monitor: till the end */
    struct tvm *b;

    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    b = tbt_create(&part);
    /* mov ecx,100; again: add eax,1; inc byte [rip-?]; dec ecx; jnz; hlt */
    TVM_PUT(b, "\xb9\x64\x00\x00\x00"
               "\x83\xc0\x01"
               "\xfe\x05\xf9\xff\xff\xff"
               "\xff\xc9\x75\xf3\xf4");
    b->cpu->gpr[X86_RAX] = 0;
    CHECK_EQ(run(&bt_engine, b), EXIT_HLT);
    CHECK_EQ(b->cpu->gpr[X86_RAX] & 0xffff, 5050);
    tbt_destroy(b);
}

/* A block that another jumps straight to changes. */
TEST(jumped_to_code_rewritten)
{
    static struct engine_part *part; /* as in a monitor: till the end */
    struct tvm *b;

    if (!tbt_host_ok())
        SKIP("this host cannot run translated code");
    b = tbt_create(&part);
    /* call f; call g; mov dword [f + 3], 2; call g; hlt */
    TVM_PUT(b, "\xe8\x39\x01\x00\x00\xe8\xf6\x01\x00\x00"
               "\xc7\x05\x2d\x01\x00\x00\x02\x00\x00\x00"
               "\xe8\xe7\x01\x00\x00\xf4");
    /* f: xor ecx, ecx; mov eax, 1; ret: flags are not looked for where the
     * store is. g: xor edx, edx; jmp f */
    tvm_poke(b, TVM_CODE + 0x13e, "\x31\xc9\xb8\x01\x00\x00\x00\xc3", 8);
    tvm_poke(b, TVM_CODE + 0x200, "\x31\xd2\xe9\x37\xff\xff\xff", 7);
    CHECK_EQ(run(&bt_engine, b), EXIT_HLT);
    CHECK_EQ(b->cpu->gpr[X86_RAX], 2);
    CHECK(bt_of(b->v[0])->st.links_made > 0);
    tbt_destroy(b);
}

TEST_MAIN(CASE(random_blocks), CASE(own_code_rewritten),
          CASE(jumped_to_code_rewritten))
