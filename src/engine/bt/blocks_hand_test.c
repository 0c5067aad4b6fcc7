// SPDX-License-Identifier: Apache-2.0
/*
 * Programs by hand, translator against interpreter. What blocks_test makes of
 * differences (tests/bt/blocks_excuse.c): those that do what a deviation is
 * about are excused for that reason, and are not when anything else differs,
 * too. And what random programs meet too seldom.
 */
#include "base/test.h"
#include "tests/bt/blocks_run.h"

#define LOOKS   0U /* seeds: see zones_for() */
#define ZONES   1U
#define SCATTER 512U /* memory is looked up */
#define KERNEL  4096U
#define DATA    0x1200U

/* What came of a program, in a process' status. */
#define CAME(verdict, causes) ((verdict) | (causes) << 2)
#define EXCUSED(why)          CAME(BLK_EXCUSED, 1U << (why))

/* A program from the beginning of the code: bytes of instructions. RBX: data,
 * RDI: CHANGED, RDX: not canonical. */
struct by_hand {
    const char *insn[8];
    uint8_t len[8];
};

/* fld1; fnsave [rbx] */
static const struct by_hand saves = {{"\xd9\xe8", "\xdd\x33"}, {2, 2}};

/* mov ah,0xd5; sahf; mov word [rdi],0x909f; xor esi,esi: will be lahf; nop */
static const struct by_hand changes = {
    {"\xb4\xd5", "\x9e", "\x66\xc7\x07\x9f\x90", "\x31\xf6"}, {2, 1, 5, 2}};
#define CHANGED (BLK_UCODE + 8)

/* the same, but xor bl,bl; sbb esi,esi: its flags are read by both */
static const struct by_hand keeps = {
    {"\xb4\xd5", "\x9e", "\x66\xc7\x07\x19\xf6", "\x19\xf6"}, {2, 1, 5, 2}};

/* mov rdx,[rbx+BLK_SPOILT-0x200] */
static const struct by_hand loads = {{"\x48\x8b\x93\x23\xff\xff\xff"}, {7}};

static int run(struct blk_harness *h, uint64_t arg)
{
    enum blk_verdict v = blk_run(h);

    (void)arg;
    return (int)CAME(v, v == BLK_EXCUSED ? h->causes : 0);
}

static void put(struct blk_prog *p, const struct by_hand *from)
{
    for (unsigned i = 0; i < ARRAY_LEN(from->len) && from->len[i]; i++) {
        struct blk_item *it = &p->item[p->n++];

        *it = (struct blk_item){.len = from->len[i], .org = ~0U};
        memcpy(it->b, from->insn[i], it->len);
    }
}

/* @two: or NULL */
static void make(struct blk_prog *p, uint64_t seed, const struct by_hand *one,
                 const struct by_hand *two)
{
    static const struct by_hand hlt = {{"\xf4"}, {1}};

    p->seed = seed;
    p->kernel = seed & KERNEL;
    p->runs = 1;
    p->known = 0xffff;
    p->gpr[X86_RBX] = blk_data(p) + DATA;
    p->gpr[X86_RDX] = UINT64_C(1) << 63;
    p->gpr[X86_RDI] = CHANGED;
    p->gpr[X86_RSP] = blk_data(p) + DATA + 0x800;
    put(p, one);
    if (two)
        put(p, two);
    p->end = p->n;
    put(p, &hlt);
    p->item[0].org = 0;
    CHECK(blk_assemble(p));
}

/* @spoil: how many of its runs are made to differ. */
static unsigned came_of(uint64_t seed, const struct by_hand *one,
                        const struct by_hand *two, unsigned spoil)
{
    static struct blk_harness h;

    if (!blk_harness_open(&h)) {
        test_skip = "this host cannot run translated code";
        return ~0U;
    }
    make(&h.prog, seed, one, two);
    h.spoil = spoil;
    return (unsigned)blk_in_child(&h, run, 0);
}

#define CAME_OF(want, ...)                                                     \
    do {                                                                       \
        unsigned came_ = came_of(__VA_ARGS__);                                 \
        if (test_skip)                                                         \
            return;                                                            \
        CHECK_EQ(came_, want);                                                 \
    } while (0)

/* Time and random numbers are the same for both. */
TEST(blocks_same_inputs)
{
    /* rdrand eax; rdtsc; mov ecx,eax; rdseed esi; rdtscp */
    static const struct by_hand inputs = {{"\x0f\xc7\xf0", "\x89\xc5",
                                           "\x0f\x31", "\x89\xc1",
                                           "\x0f\xc7\xfe", "\x0f\x01\xf9"},
                                          {3, 2, 2, 2, 3, 3}};

    CAME_OF(CAME(BLK_SAME, 0U), ZONES, &inputs, NULL, 0);
    CAME_OF(CAME(BLK_SAME, 0U), SCATTER, &inputs, NULL, 0);
}

TEST(blocks_excuse_pointers)
{
    CAME_OF(EXCUSED(BLK_X87), ZONES, &saves, NULL, 0);
    CAME_OF(EXCUSED(BLK_X87), SCATTER, &saves, NULL, 0);
}

TEST(blocks_excuse_flags)
{
    CAME_OF(EXCUSED(BLK_FLAGS), SCATTER, &changes, NULL, 0);
    CAME_OF(CAME(BLK_SAME, 0U), ZONES, &changes, NULL, 0);
    CAME_OF(CAME(BLK_SAME, 0U), SCATTER, &keeps, NULL, 0);
}

TEST(blocks_excuse_both)
{
    CAME_OF(CAME(BLK_EXCUSED, 1U << BLK_X87 | 1U << BLK_FLAGS), SCATTER,
            &changes, &saves, 0);
}

TEST(blocks_excuse_jump)
{
    /* mov rax,0x8000000000000000; jmp rax */
    static const struct by_hand jumps = {
        {"\x48\xb8\0\0\0\0\0\0\0\x80", "\xff\xe0"}, {10, 2}};
    /* mov ah,0xd5; sahf; mov word [rdi],0xe2ff; xor esi,esi: will be jmp rdx */
    static const struct by_hand becomes = {
        {"\xb4\xd5", "\x9e", "\x66\xc7\x07\xff\xe2", "\x31\xf6"}, {2, 1, 5, 2}};

    CAME_OF(EXCUSED(BLK_JUMP), SCATTER, &jumps, NULL, 0);
    CAME_OF(CAME(BLK_DIFFERS, 0U), SCATTER, &loads, &jumps, 9);
    CAME_OF(CAME(BLK_EXCUSED, 1U << BLK_FLAGS | 1U << BLK_JUMP), SCATTER,
            &becomes, NULL, 0);
}

/* Beside a deviation something differs that is none. */
TEST(blocks_no_excuse)
{
    CAME_OF(CAME(BLK_DIFFERS, 0U), SCATTER, &loads, NULL, 9);
    CAME_OF(CAME(BLK_DIFFERS, 0U), SCATTER, &saves, &loads, 9);
    CAME_OF(CAME(BLK_DIFFERS, 0U), SCATTER, &changes, &loads, 9);
    CAME_OF(CAME(BLK_DIFFERS, 0U), ZONES, &keeps, &loads, 9);
}

/* A difference that is gone when asked again is a difference. */
TEST(blocks_once)
{
    CAME_OF(CAME(BLK_DIFFERS, 0U), SCATTER, &loads, NULL, 1);
    CAME_OF(CAME(BLK_DIFFERS, 0U), ZONES, &changes, &loads, 1);
}

static struct blk_prog later;

static int run_later(struct blk_harness *h, uint64_t arg)
{
    if (blk_run(h) == BLK_DIFFERS)
        return BLK_DIFFERS;
    h->prog = later;
    return run(h, arg);
}

/* A frame of the program before, which was excused, is none of this one's: it
 * goes to the HLT of a handler. */
TEST(blocks_old_frame)
{
    /* mov rax,-1; shr rax,1; jmp rax */
    static const struct by_hand jumps = {
        {"\x48\xc7\xc0\xff\xff\xff\xff", "\x48\xd1\xe8", "\xff\xe0"},
        {7, 3, 2}};
    /* push 0xffffffff8000f3c2; ret */
    static const struct by_hand goes = {{"\x68\xc2\xf3\x00\x80", "\xc3"},
                                        {5, 1}};
    static struct blk_harness h;

    if (!blk_harness_open(&h))
        SKIP("this host cannot run translated code");
    make(&h.prog, SCATTER | KERNEL, &jumps, NULL);
    make(&later, SCATTER | KERNEL, &goes, NULL);
    CHECK_EQ(blk_in_child(&h, run_later, 0), CAME(BLK_SAME, 0U));
}

/* A pointer that 16 bits are added to is another, not one moved by as much: it
 * stays below 64 KiB, where no page is. */
TEST(blocks_narrow_add)
{
    /* sub rdi,16; mov rax,[rdi+32]; add di,16; mov rcx,[rdi+32] */
    static const struct by_hand adds = {{"\x48\x83\xef\x10", "\x48\x8b\x47\x20",
                                         "\x66\x83\xc7\x10",
                                         "\x48\x8b\x4f\x20"},
                                        {4, 4, 4, 4}};

    CAME_OF(CAME(BLK_SAME, 0U), LOOKS, &adds, NULL, 0);
    CAME_OF(CAME(BLK_SAME, 0U), SCATTER, &adds, NULL, 0);
}

TEST_MAIN(CASE(blocks_same_inputs), CASE(blocks_excuse_pointers),
          CASE(blocks_excuse_flags), CASE(blocks_excuse_both),
          CASE(blocks_excuse_jump), CASE(blocks_no_excuse), CASE(blocks_once),
          CASE(blocks_old_frame), CASE(blocks_narrow_add))
