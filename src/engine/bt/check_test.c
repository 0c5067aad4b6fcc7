// SPDX-License-Identifier: Apache-2.0
/*
 * Lock-step checking: programs that run without a difference, what is counted
 * as not checked, and faults planted in translated code, each of which must be
 * found and named.
 */
#include "engine/bt/check.h"

#include "base/test.h"
#include "engine/bt/testbt.h"

#define DATA (TVM_PAGED + 0x10000U)

static struct tvm *vm_make(void)
{
    static struct engine_part *part; /* as in a monitor: till the end */
    struct engine_host host = {.kvm_fd = -1, .ncpus = 1, .check = true};
    struct tvm *t = tvm_create();

    tbt_init(&part, &host);
    tbt_take(t, part);
    t->cpu->gpr[X86_RBX] = DATA;
    return t;
}

static bool host_ok(void)
{
    char why[120];

    return bt_host_ok(why, sizeof why);
}

#define NEED_HOST()                                                            \
    if (!host_ok())                                                            \
    SKIP("this host cannot run translated code")

/* From TVM_CODE on until HLT, or a difference. */
static enum exit_reason run(struct tvm *t, struct exit_rec *x)
{
    t->cpu->rip = TVM_CODE;
    t->cpu->gpr[X86_RSP] = TVM_STACK;
    t->cpu->activity = X86_ACT_RUN;
    bt_engine.vcpu_run(t->v[0], 0, x);
    return x->reason;
}

static const struct bt_check_stats *stats(const struct tvm *t)
{
    return &((const struct bt *)(const void *)t->v[0])->chk->st;
}

/* ---- no difference ---- */

static void same(struct tvm *t)
{
    struct exit_rec x;

    for (unsigned i = 0; i < 3; i++) {
        if (run(t, &x) != EXIT_HLT)
            printf("%s\n", x.why);
        CHECK_EQ(x.reason, EXIT_HLT);
    }
}

TEST(plain)
{
    struct tvm *t;

    NEED_HOST();
    t = vm_make();
    /* fninit; mov ecx,50; l: add [rbx],ecx; push rcx; pop rdx; call f; dec ecx;
     * jnz l; hlt; f: stc; adc rax,[rbx]; lock xadd [rbx+8],rax; movups
     * xmm1,[rbx]; addps xmm1,xmm1; movups [rbx+16],xmm1; fld1; fstp qword
     * [rbx+32]; ret */
    TVM_PUT(t, "\xdb\xe3\xb9\x32\x00\x00\x00"
               "\x01\x0b\x51\x5a\xe8\x05\x00\x00\x00\xff\xc9\x75\xf3\xf4"
               "\xf9\x48\x13\x03\xf0\x48\x0f\xc1\x43\x08\x0f\x10\x0b\x0f\x58"
               "\xc9\x0f\x11\x4b\x10\xd9\xe8\xdd\x5b\x20\xc3");
    same(t);
    CHECK(stats(t)->check_whole >= 3 * 150);
    CHECK(stats(t)->check_insns >= 3 * 50 * 13);
    CHECK_EQ(stats(t)->check_others + stats(t)->check_full, 0);
    tbt_destroy(t);
}

/* Flags that are read behind a memory access. */
TEST(flags_kept)
{
    struct tvm *t;

    NEED_HOST();
    t = vm_make();
    /* stc; mov [rbx],ecx; setc dl; cmp ecx,0; mov eax,[rbx+64]; jle l; nop;
     * l: stc; push rax; adc eax,ecx; hlt */
    TVM_PUT(t, "\xf9\x89\x0b\x0f\x92\xc2\x83\xf9\x00\x8b\x43\x40\x7e\x01\x90"
               "\xf9\x50\x11\xc8\xf4");
    t->cpu->gpr[X86_RCX] = 5;
    same(t);
    tbt_destroy(t);
}

/* The clock and random numbers are what the reference was given. */
TEST(inputs)
{
    struct tvm *t;

    NEED_HOST();
    t = vm_make();
    /* mov esi,20; l: rdtsc; mov [rbx],rax; rdrand rdi; xor [rbx+8],rdi;
     * rdtsc; dec esi; jnz l; hlt */
    TVM_PUT(t, "\xbe\x14\x00\x00\x00"
               "\x0f\x31\x48\x89\x03\x48\x0f\xc7\xf7\x48\x31\x7b\x08\x0f\x31"
               "\xff\xce\x75\xed\xf4");
    same(t);
    CHECK(stats(t)->check_whole >= 3 * 20);
    tbt_destroy(t);
}

/* A port is read once; the comparison is made before it. */
TEST(external)
{
    struct tvm *t;

    NEED_HOST();
    t = vm_make();
    /* inc eax; in al,0x61; inc ebx; out 0x80,al; hlt */
    TVM_PUT(t, "\xff\xc0\xe4\x61\xff\xc3\xe6\x80\xf4");
    same(t);
    CHECK_EQ(stats(t)->check_part, 3 * 2);
    CHECK_EQ(stats(t)->check_external, 3);
    CHECK_EQ(atomic_load(&t->vm.gate.count[INPUT_PIO]), 3);
    tbt_destroy(t);
}

TEST(faults)
{
    static const char *const code[] = {
        "\x31\xc9\xf7\xf1\xf4", /* xor ecx,ecx; div ecx */
        "\xff\x03\xa1\x00\x00\x00\x00\x00\x80\x00\x00", /* not canonical */
        "\x53\x8f\x04\x25\x00\x00\x30\x00", /* push; pop [not present] */
        "\x0f\x0b",                         /* ud2 */
        "\xb0\x05\x48\xc7\xc1\x80\x00\x00\x00\xbf\xc0\xff\x2f\x00\xf3\xaa",
        /* mov al,5; mov rcx,128; mov edi,0x2fffc0; rep stosb into nothing */
    };
    static const uint8_t len[] = {5, 11, 8, 2, 16};

    NEED_HOST();
    for (unsigned i = 0; i < ARRAY_LEN(code); i++) {
        struct tvm *t = vm_make();
        struct exit_rec x;

        tvm_page(t, 0x300000, 0);
        tvm_poke(t, TVM_CODE, code[i], len[i]);
        for (unsigned k = 0; k < 2; k++) {
            if (run(t, &x) != EXIT_HLT)
                printf("%u: %s\n", i, x.why);
            CHECK_EQ(x.reason, EXIT_HLT);
            CHECK(t->cpu->rip < TVM_CODE); /* a handler's */
        }
        CHECK(stats(t)->check_part + stats(t)->check_whole >= 1);
        tbt_destroy(t);
    }
}

/* Code that changes itself, behind and ahead in the same block. */
TEST(own_code)
{
    struct tvm *t;

    NEED_HOST();
    t = vm_make();
    /* mov ecx,100; l: inc byte [rip+2]; (imm:) add eax,1; dec ecx; jnz l; hlt
     */
    TVM_PUT(t, "\xb9\x64\x00\x00\x00"
               "\xfe\x05\x02\x00\x00\x00\x83\xc0\x01\xff\xc9\x75\xf3\xf4");
    same(t);
    tbt_destroy(t);
}

/* ---- planted faults ---- */

/* Replace the only place of @from in what was translated by @to. */
static void plant(struct tvm *t, const void *from, const void *to, size_t n)
{
    struct bt *bt = bt_of(t->v[0]);
    unsigned found = 0;

    for (uint8_t *p = bt->rw; p + n <= bt->rw + bt->code_bytes; p++)
        if (!memcmp(p, from, n)) {
            memcpy(p, to, n);
            found++;
            p += n;
        }
    CHECK(found >= 1);
}

/* @code runs; then, with @from as @to in its translation, @what differs. */
static void planted(const char *code, size_t ncode, const char *from,
                    const char *to, size_t n, const char *what)
{
    struct tvm *t = vm_make();
    struct exit_rec x;

    tvm_poke(t, TVM_CODE, code, ncode);
    CHECK_EQ(run(t, &x), EXIT_HLT);
    plant(t, from, to, n);
    CHECK_EQ(run(t, &x), EXIT_FAILED);
    if (!strstr(x.why, what))
        printf("%s\n", x.why);
    CHECK(strstr(x.why, what) != NULL);
    tbt_destroy(t);
}

#define PLANTED(code, from, to, what)                                          \
    planted(code, sizeof(code) - 1, from, to, sizeof(from) - 1, what)

TEST(planted_register)
{
    NEED_HOST();
    /* add edx,0x12345678; hlt */
    PLANTED("\x81\xc2\x78\x56\x34\x12\xf4", "\x81\xc2\x78\x56\x34\x12",
            "\x81\xc2\x78\x56\x34\x13", "rdx differs");
    /* call f; hlt; f: mov esi,0x12345678; ret */
    PLANTED("\xe8\x01\x00\x00\x00\xf4\xbe\x78\x56\x34\x12\xc3",
            "\xbe\x78\x56\x34\x12", "\xbe\x79\x56\x34\x12", "rsi differs");
}

TEST(planted_store)
{
    NEED_HOST();
    /* mov dword [rbx],0x12345678; hlt */
    PLANTED("\xc7\x03\x78\x56\x34\x12\xf4", "\x78\x56\x34\x12",
            "\x78\x56\x34\x13", "memory differs");
}

TEST(planted_vector)
{
    NEED_HOST();
    /* addps xmm3,xmm3 (as mulps); hlt: 1.5 */
    PLANTED("\xb8\x00\x00\xc0\x3f\x66\x0f\x6e\xd8\x0f\x58\xdb\xf4",
            "\x0f\x58\xdb", "\x0f\x59\xdb", "xmm3 differs");
}

/* Flags where nobody can know who reads them next. */
TEST(planted_flags)
{
    NEED_HOST();
    /* call f; hlt; f: mov eax,0x12345678; stc (as clc); ret */
    PLANTED("\xe8\x01\x00\x00\x00\xf4\xb8\x78\x56\x34\x12\xf9\xc3",
            "\xb8\x78\x56\x34\x12\xf9", "\xb8\x78\x56\x34\x12\xf8",
            "rflags differs");
}

/* Flags that a block ahead reads: found there. */
TEST(planted_flags_ahead)
{
    NEED_HOST();
    /* mov eax,0x12345678; stc (as clc); jmp l; l: setc dl; hlt */
    PLANTED("\xb8\x78\x56\x34\x12\xf9\xeb\x00\x0f\x92\xc2\xf4",
            "\xb8\x78\x56\x34\x12\xf9", "\xb8\x78\x56\x34\x12\xf8",
            "rdx differs");
}

TEST(planted_jump)
{
    NEED_HOST();
    /* mov eax,0x12345678; stc (as clc); jc l; nop; l: hlt */
    PLANTED("\xb8\x78\x56\x34\x12\xf9\x72\x01\x90\xf4",
            "\xb8\x78\x56\x34\x12\xf9", "\xb8\x78\x56\x34\x12\xf8",
            "rip differs");
}

TEST_MAIN(CASE(plain), CASE(flags_kept), CASE(inputs), CASE(external),
          CASE(faults), CASE(own_code), CASE(planted_register),
          CASE(planted_store), CASE(planted_vector), CASE(planted_flags),
          CASE(planted_flags_ahead), CASE(planted_jump))
