// SPDX-License-Identifier: Apache-2.0
/*
 * Programs that tried to make checks and accesses differ: none may read what
 * the test maps beside guest memory.
 */
#include "engine/bt/bt.h"

#include "base/test.h"
#include "engine/bt/priv.h"
#include "engine/bt/testbt.h"

#include <sys/mman.h>

#define DATA (TVM_PAGED + 0x10000U)

static struct engine_part *part;

static struct tvm *go(void)
{
    struct tvm *b = tbt_create(&part);

    for (unsigned i = 0; i < 0x3000; i += 8)
        tvm_poke64(b, DATA + i, 0x1111111111111111ULL);
    b->cpu->activity = X86_ACT_RUN;
    return b;
}

/* Host memory of ours at @by from guest page DATA's. */
static void secret(struct tvm *b, int64_t by)
{
    struct mem_iov iov;
    uint64_t *p;

    if (mem_get(b->vm.mem, gpa(DATA), 4096, MEM_WRITE, &iov, 1) != 1)
        exit(1);
    p = mmap(iov.hva + by - 4096, 8192 + 4096, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    printf("secret at %p\n", (void *)p);
    for (unsigned i = 0; p != MAP_FAILED && i < 12288 / 8; i++)
        p[i] = 0x5ec5e75ec5e75ec5;
    mem_put(b->vm.mem, &iov, 1, false);
}

static void done(struct tvm *t)
{
    bt_engine.vcpu_destroy(t->v[0]);
    x86_cpu_fini(t->cpu);
    vm_fini(&t->vm);
    free(t);
}

static void run(struct tvm *b)
{
    struct exit_rec x;

    bt_engine.vcpu_run(b->v[0], 0, &x);
    printf("exit %d rip %llx rax %llx rcx %llx rbx %llx cr2 %llx\n", x.reason,
           (unsigned long long)b->cpu->rip, (unsigned long long)b->cpu->gpr[0],
           (unsigned long long)b->cpu->gpr[1],
           (unsigned long long)b->cpu->gpr[3], (unsigned long long)b->cpu->cr2);
    struct bt *bt = (struct bt *)(void *)b->v[0];
    printf("host faults %llu blocks %llu native %llu interp %llu\n",
           (unsigned long long)bt->st.host_faults,
           (unsigned long long)bt->st.blocks,
           (unsigned long long)bt->st.native_insns,
           (unsigned long long)bt->st.interp_insns);
}

/* window: lo - delta beyond int32; hoisted over LEA */
TEST(window_disp)
{
    struct tvm *b = go();

    /* cmp rcx,rdx; lea rbx,[rbx+0x7000]; mov rax,[rbx+0x7ffffff0]; jz +0; hlt
     */
    TVM_PUT(b, "\x48\x39\xd1"
               "\x48\x8d\x9b\x00\x70\x00\x00"
               "\x48\x8b\x83\xf0\xff\xff\x7f"
               "\x74\x00\xf4");
    /* the check: rbx + (int32)(0x7ffffff0 + 0x7000) = DATA */
    b->cpu->gpr[X86_RBX] = DATA - (uint64_t)(int64_t)(int32_t)0x80006ff0u;
    b->cpu->gpr[0] = 0x55;
    secret(b, INT64_C(1) << 32);
    run(b);
    CHECK_EQ(b->cpu->rip < TVM_CODE, true); /* a #PF: nothing is mapped there */
    done(b);
}

/* two accesses, the second lower than INT32_MIN */
TEST(window_low)
{
    struct tvm *b = go();

    /* mov rax,[rbx-0x80000000+8]; lea rbx,[rbx-32]; mov rcx,[rbx-0x7ffffff8];
     * hlt */
    TVM_PUT(b, "\x48\x8b\x83\x08\x00\x00\x80"
               "\x48\x8d\x5b\xe0"
               "\x48\x8b\x8b\x08\x00\x00\x80"
               "\xf4");
    b->cpu->gpr[X86_RBX] =
        DATA - (uint64_t)(int64_t)(int32_t)(0x80000008u - 32);
    secret(b, -(INT64_C(1) << 32));
    run(b);
    CHECK_EQ(b->cpu->rip < TVM_CODE, true);
    done(b);
}

/* loop: delta in the turn beyond int32 */
TEST(loop_disp)
{
    struct tvm *b = go();

    /* again: add rbx,0x7fffffff; mov rax,[rbx+0x11]; add rbx,-0x7ffffff7;
     * dec rcx; jnz again; hlt */
    b->cpu->gpr[X86_RSI] = DATA; /* its page into the TLB */
    TVM_PUT(b, "\x48\x8b\x16"
               "\x48\x81\xc3\xff\xff\xff\x7f"
               "\x48\x8b\x43\x11"
               "\x48\x81\xc3\x09\x00\x00\x80"
               "\x48\xff\xc9\x75\xe9\xf4");
    b->cpu->gpr[X86_RBX] =
        DATA - (uint64_t)(int64_t)(int32_t)(0x7fffffffu + 0x11u);
    b->cpu->gpr[X86_RCX] = 4;
    secret(b, INT64_C(1) << 32);
    run(b);
    CHECK_EQ(b->cpu->rip < TVM_CODE, true);
    done(b);
}

/* more than 32 exits of a region */
TEST(loop_exits)
{
    uint8_t c[256];
    unsigned n = 0;
    struct tvm *b = go();

    /* again: mov rax,[rbx]; add rbx,8; jo out x28; jnz again */
    memcpy(c, "\x48\x8b\x03\x48\x83\xc3\x08", 7);
    n = 7;
    for (unsigned i = 0; i < 28; i++) {
        memcpy(c + n, "\x0f\x80\x00\x04\x00\x00", 6);
        n += 6;
    }
    c[n] = 0x0f, c[n + 1] = 0x85;
    int32_t rel = -(int32_t)(n + 6);
    memcpy(c + n + 2, &rel, 4);
    n += 6;
    c[n++] = 0xf4;
    tvm_poke(b, TVM_CODE, c, n);
    b->cpu->rip = TVM_CODE;
    b->cpu->gpr[X86_RBX] = DATA;
    run(b);
    CHECK_EQ(b->cpu->rip < TVM_CODE, true);
    done(b);
}

/* A device writes code: seen by what a site decodes, told only when it ends. */
TEST(site_op)
{
    struct tvm *b = go();
    struct mem_iov iov;

    /* mov rax,[rbx]; mov [rdi],rcx; mov rdx,[rbx+8]; mov rax,rdx; hlt */
    TVM_PUT(b, "\x48\x8b\x03\x48\x89\x0f\x48\x8b\x53\x08"
               "\x48\x89\xd0\xf4");
    b->cpu->gpr[X86_RBX] = DATA;
    b->cpu->gpr[X86_RDI] = DATA + 0x100;
    b->cpu->gpr[8] = UINT64_C(1) << 32;
    secret(b, INT64_C(1) << 32);
    run(b);
    /* the device is about to write: add rbx,r8 */
    if (mem_get(b->vm.mem, gpa(TVM_CODE), 16, MEM_WRITE, &iov, 1) != 1)
        exit(1);
    memcpy(iov.hva + 3, "\x4c\x01\xc3", 3);
    b->cpu->rip = TVM_CODE;
    b->cpu->activity = X86_ACT_RUN;
    b->cpu->gpr[X86_RBX] = DATA;
    b->cpu->gpr[X86_RDI] = DATA + 0x1000 - 4; /* on two pages: called out */
    run(b);
    mem_put(b->vm.mem, &iov, 1, true);
    CHECK_EQ(b->cpu->gpr[0] != UINT64_C(0x5ec5e75ec5e75ec5), true);
    done(b);
}

TEST_MAIN(CASE(site_op), CASE(window_disp), CASE(window_low), CASE(loop_disp),
          CASE(loop_exits))
