// SPDX-License-Identifier: Apache-2.0
/*
 * Translated code is position independent: two translators make the same bytes
 * wherever their memory lies, and a second process that has the same code
 * memory mapped elsewhere runs guest code with it, translating nothing anew.
 */
#include "engine/bt/bt.h"

#include "base/test.h"
#include "engine/bt/priv.h"
#include "engine/bt/testbt.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define DATA   (TVM_PAGED + 0x10000U)
#define WORDS  64
#define LOOPS  200
#define SECOND (TVM_CODE + 0x1000U) /* a function in another page */

/* rax = rcx = 0; for (edi = LOOPS; edi; edi--) { direct call, call through a
 * register, loads, stores, pushes, REP MOVS, flags that live over a load } */
#define PROGRAM                                                                \
    "\x31\xc0\x31\xc9\xbf\xc8\x00\x00\x00"     /* xor xor mov edi,200 */       \
    "\xe8\xf2\x0f\x00\x00"                     /* again: call SECOND */        \
    "\x4c\x8d\x15\xeb\x0f\x00\x00\x41\xff\xd2" /* lea r10,[..]; call r10 */    \
    "\x48\x01\x0b\x48\x8b\x53\x08"             /* add [rbx],rcx; mov rdx,.. */ \
    "\x55\x41\x57\x41\x56\x41\x5e\x41\x5f\x5d" /* pushes, pops */              \
    "\x48\x39\xd0\x48\x8b\x73\x10\x74\x03"     /* cmp; mov rsi,..; je */       \
    "\x48\xff\xc0"                             /* inc rax */                   \
    "\x57\x51\x48\x8d\x33\x48\x8d\x7b\x40"     /* push rdi, rcx; lea lea */    \
    "\xb9\x04\x00\x00\x00\xf3\x48\xa5\x59\x5f" /* rep movsq; pop pop */        \
    "\xff\xcf\x75\xbd\xf4"                     /* dec edi; jne again; hlt */
#define FUNCTION                                                               \
    "\x48\x83\xc1\x07\x48\x8b\x43\x18\x48\x01\xc1\x48\x89\x4b\x20\xc3"

struct world {
    struct tvm *t;
    struct engine_part *part;
    struct bt *bt;
};

static struct world make_world(void)
{
    struct engine_host host = {.kvm_fd = -1, .ncpus = 1};
    struct world w = {.t = tvm_create()};

    tbt_init(&w.part, &host);
    w.bt = tbt_take(w.t, w.part);
    tvm_poke(w.t, TVM_CODE, PROGRAM, sizeof PROGRAM - 1);
    tvm_poke(w.t, SECOND, FUNCTION, sizeof FUNCTION - 1);
    return w;
}

/* Run from the same start each time. Return: a hash of what it did. */
static uint64_t run(struct world *w)
{
    struct x86_cpu *cpu = w->t->cpu;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    struct exit_rec x;

    for (unsigned i = 0; i < WORDS; i++)
        tvm_poke64(w->t, DATA + i * 8, i * UINT64_C(0x9e3779b97f4a7c15));
    for (unsigned i = 0; i < 16; i++)
        cpu->gpr[i] = i;
    cpu->gpr[X86_RSP] = TVM_STACK;
    cpu->gpr[X86_RBX] = DATA;
    cpu->rip = TVM_CODE;
    cpu->rflags = X86_FL_ONE;
    cpu->activity = X86_ACT_RUN;
    bt_engine.vcpu_run(w->t->v[0], 0, &x);
    CHECK_EQ(x.reason, EXIT_HLT);
    CHECK_EQ(cpu->rip, TVM_CODE + sizeof PROGRAM - 1);
    for (unsigned i = 0; i < 16; i++)
        h = (h ^ cpu->gpr[i]) * UINT64_C(0x100000001b3);
    for (unsigned i = 0; i < WORDS; i++)
        h = (h ^ tvm_peek(w->t, DATA + i * 8, 8)) * UINT64_C(0x100000001b3);
    return h;
}

static bool host_ok(void)
{
    char why[120];

    return bt_host_ok(why, sizeof why);
}

TEST(same_bytes_wherever_it_lies)
{
    static struct world a, b; /* as in a monitor: till the end */

    if (!host_ok())
        SKIP("this host cannot run translated code");
    a = make_world();
    b = make_world();
    CHECK_EQ(run(&a), run(&b));
    CHECK(a.bt->rx != b.bt->rx && a.bt != b.bt);
    CHECK(a.bt->code_at > 100);
    CHECK_EQ(a.bt->code_at, b.bt->code_at);
    CHECK(memcmp(a.bt->rx, b.bt->rx, a.bt->code_at) == 0);
}

/* How many 8 bytes of @code, at any offset, are an address in [lo, hi). */
static unsigned addresses(const uint8_t *code, size_t n, uint64_t lo,
                          uint64_t hi)
{
    unsigned found = 0;

    for (size_t i = 0; i + 8 <= n; i++) {
        uint64_t v;

        memcpy(&v, code + i, 8);
        found += v >= lo && v < hi;
    }
    return found;
}

/* Addresses of the program and of libc are equal in both worlds above. */
TEST(code_holds_no_host_address)
{
    static struct world w;
    char line[512];
    unsigned maps = 0;
    FILE *f;

    if (!host_ok())
        SKIP("this host cannot run translated code");
    w = make_world();
    (void)run(&w);
    f = fopen("/proc/self/maps", "re");
    CHECK(f != NULL);
    while (f && fgets(line, sizeof line, f)) {
        unsigned long long lo, hi;

        if (sscanf(line, "%llx-%llx", &lo, &hi) != 2 || hi - lo > 1 << 30)
            continue; /* sanitizers have tables as large as all else */
        maps++;
        CHECK_EQ(addresses(w.bt->rx, w.bt->code_at, lo, hi), 0);
    }
    CHECK(maps > 10);
    if (f)
        fclose(f);
}

/* In the other process: the code and its own copy of the cells go elsewhere.
 * What leads into code, all of it data, is led to where it is now. */
static void move_code(struct world *w)
{
    struct bt *bt = w->bt;
    size_t code = w->part->slice, cells = sizeof *bt->cells * BT_CELLS_MAX;
    uint8_t *old = bt->rx, *to;

    to =
        mmap(NULL, code + cells, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(to != MAP_FAILED);
    CHECK(mremap(old, code, code, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    CHECK(mremap(old + code, cells, cells, MREMAP_MAYMOVE | MREMAP_FIXED,
                 to + code) == to + code);
    bt->rx = w->part->rx = to;
    bt->cells = (uint64_t *)(void *)(to + code);
    for (uint32_t i = 0; i < bt->ncells; i++)
        if (bt->cells[i] - (uintptr_t)old < code)
            bt->cells[i] += (uint64_t)(to - old);
    bt_tlb_flush(bt);
}

/* The other process. Return: whether all was as in the first. */
static bool child(struct world *w, uint64_t want)
{
    uint64_t blocks = w->bt->st.blocks;
    int before = test_failures;

    move_code(w);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(run(w), want);
    CHECK_EQ(w->bt->st.blocks, blocks); /* nothing was translated */
    CHECK_EQ(w->bt->st.host_faults, 0);
    return test_failures == before;
}

TEST(two_processes_run_one_cache)
{
    static struct world w;
    struct bt *kept = malloc(sizeof *kept);
    uint64_t want;
    int status = -1;
    pid_t pid;

    if (!host_ok())
        SKIP("this host cannot run translated code");
    w = make_world();
    want = run(&w);
    CHECK_EQ(run(&w), want);
    fflush(stdout);
    memcpy(kept, w.bt, sizeof *kept);
    pid = fork();
    if (pid == 0)
        _exit(child(&w, want) ? 0 : 1);
    CHECK(waitpid(pid, &status, 0) == pid); /* RAM is shared: by turns */
    CHECK_EQ(status, 0);
    memcpy(w.bt, kept, sizeof *kept); /* and so is this, a memfd */
    free(kept);
    CHECK_EQ(run(&w), want); /* after what the other has linked */
}

TEST_MAIN(CASE(same_bytes_wherever_it_lies), CASE(code_holds_no_host_address),
          CASE(two_processes_run_one_cache))
