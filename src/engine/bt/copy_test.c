// SPDX-License-Identifier: Apache-2.0
/*
 * Copies of regions: user code in one page of guest memory, run at several
 * guest addresses by the translator and by the interpreter. Counters tell
 * whether it was translated once; what it leaves must be the same.
 */
#include "engine/bt/bt.h"

#include "base/test.h"
#include "engine/bt/priv.h"
#include "engine/bt/quick_sys.h"
#include "engine/interp/testvm.h"

#define DATA  (TVM_CODE + 0x200000U)
#define FRAME 0x5ffd8U /* of an exception */

/* lea rbx,[data]; mov eax,[data+16]; add [data+24],rax; lea ebp,[data+1]
 * call f; call g; lea r10,[f]; call r10; mov ecx,20
 * again: add rdx,[rbx]; lea rbx,[rbx+8]; dec ecx; jnz again; mov ecx,7
 * turn: add [data+40],ecx; dec ecx; jnz turn
 * cmp rdx,rax; push r10; mov rsi,[data+8]; jb less; inc r8
 * less: pop r11; bts [data+64],r9; mov r14,[210060]; jmp ahead
 * back: div rdi; mov r12,rax; cmp r12,5; jne one; int3
 * one: mov edi,1; mov eax,5; xor edx,edx; jmp back */
#define MAIN                                                                   \
    "\x48\x8d\x1d\xf9\xff\x1f\x00\x8b\x05\x03\x00\x20\x00\x48\x01\x05"         \
    "\x04\x00\x20\x00\x8d\x2d\xe7\xff\x1f\x00\xe8\xe1\x02\x00\x00\xe8"         \
    "\xdc\x0f\x00\x00\x4c\x8d\x15\xd5\x02\x00\x00\x41\xff\xd2\xb9\x14"         \
    "\x00\x00\x00\x48\x03\x13\x48\x8d\x5b\x08\xff\xc9\x75\xf5\xb9\x07"         \
    "\x00\x00\x00\x01\x0d\xdf\xff\x1f\x00\xff\xc9\x75\xf6\x48\x39\xc2"         \
    "\x41\x52\x48\x8b\x35\xaf\xff\x1f\x00\x72\x03\x49\xff\xc0\x41\x5b"         \
    "\x4c\x0f\xab\x0d\xd8\xff\x1f\x00\x4c\x8b\x34\x25\x60\x00\x21\x00"         \
    "\xe9\x8b\x03\x00\x00\x48\xf7\xf7\x49\x89\xc4\x49\x83\xfc\x05\x75"         \
    "\x01\xcc\xbf\x01\x00\x00\x00\xb8\x05\x00\x00\x00\x31\xd2\xeb\xe5"
/* f: add rcx,7; mov rax,[data+32]; add rcx,rax; mov [data+48],rcx; ret */
#define F_AT 0x300U
#define F                                                                      \
    "\x48\x83\xc1\x07\x48\x8b\x05\x15\xfd\x1f\x00\x48\x01\xc1\x48\x89"         \
    "\x0d\x1b\xfd\x1f\x00\xc3"
/* ahead: lea rax,[back]; xor edx,edx; test r15,r15; jz back; jmp rax */
#define AHEAD_AT 0x400U
#define AHEAD                                                                  \
    "\x48\x8d\x05\x6e\xfc\xff\xff\x31\xd2\x4d\x85\xff\x0f\x84\x63\xfc"         \
    "\xff\xff\xff\xe0"
/* g: push rcx; lea r9,[main]; sub r9,rbx; and r9,63; pop rcx; jmp f */
#define G_AT 0x1000U
#define G                                                                      \
    "\x51\x4c\x8d\x0d\xf8\xef\xff\xff\x49\x29\xd9\x49\x83\xe1\x3f\x59"         \
    "\xe9\xeb\xf2\xff\xff"

#define SYSCALL_AT 0x600U

#define SLOTS      4U
static const uint8_t slot[SLOTS] = {1, 3, 0xab, 0xff};

/* Where the code lies in each of the user's aliases. */
static uint64_t base(unsigned i)
{
    return (uint64_t)slot[i] << 39;
}

struct world {
    struct tvm *a, *b; /* interpreter, translator */
    struct engine_part *part;
};

static void fill(struct tvm *t)
{
    for (unsigned i = 0; i < SLOTS; i++)
        tvm_poke64(t, 0x1000 + slot[i] * 8U, 0x2000 | 7);
    tvm_poke(t, TVM_CODE, MAIN, sizeof MAIN - 1);
    tvm_poke(t, TVM_CODE + F_AT, F, sizeof F - 1);
    tvm_poke(t, TVM_CODE + AHEAD_AT, AHEAD, sizeof AHEAD - 1);
    tvm_poke(t, TVM_CODE + G_AT, G, sizeof G - 1);
}

static struct world world(bool scatter, bool adx)
{
    static struct world kept[16]; /* as in a monitor: till the end */
    static unsigned n;
    struct engine_host host = {.kvm_fd = -1, .ncpus = 2};
    struct world w;
    struct err e;

    w.a = tvm_create_mem(CLOCK_MODE_REAL, 1, scatter);
    w.b = tvm_create_mem(CLOCK_MODE_REAL, 2, scatter);
    if (bt_engine.init(&host, &w.part, &e))
        abort();
    w.part->adx &= adx;
    w.part->zones_how = scatter ? ENGINE_ZONES_AUTO : ENGINE_ZONES_NOW;
    w.b->vm.engine = w.part;
    for (unsigned i = 0; i < 2; i++) {
        interp_engine.vcpu_destroy(w.b->v[i]);
        if (bt_engine.vcpu_create(&w.b->vm, &w.b->cpus[i], &w.b->v[i], &e))
            abort();
    }
    fill(w.a);
    fill(w.b);
    kept[n++ % ARRAY_LEN(kept)] = w;
    return w;
}

static void start(struct x86_cpu *cpu, uint64_t at, uint64_t divisor)
{
    for (unsigned i = 0; i < 16; i++)
        cpu->gpr[i] = i * UINT64_C(0x9e3779b97f4a7c15);
    cpu->gpr[X86_RSP] = TVM_STACK - 0x100;
    cpu->gpr[X86_RDI] = divisor;
    cpu->gpr[X86_R15] = divisor;
    cpu->cr4 |= X86_CR4_PGE; /* zones need it */
    tvm_seg(&cpu->seg[X86_SEG_CS], 0x23, 0xa0fb);
    tvm_seg(&cpu->seg[X86_SEG_SS], 0x1b, 0xc0f3);
    cpu->cpl = 3;
    cpu->rip = at + TVM_CODE;
    cpu->rflags = X86_FL_ONE;
    cpu->activity = X86_ACT_RUN;
}

static void memory(struct tvm *t)
{
    for (unsigned i = 0; i < 64; i++)
        tvm_poke64(t, DATA + i * 8, i * UINT64_C(0xc2b2ae3d27d4eb4f));
}

static void same_memory(const struct world *w, uint64_t at, unsigned n)
{
    for (unsigned i = 0; i < n; i += 8)
        CHECK_EQ(tvm_peek(w->a, at + i, 8), tvm_peek(w->b, at + i, 8));
}

/* By vCPU @cpu, at address @i; by the interpreter, too. */
static void run(const struct world *w, unsigned cpu, unsigned i,
                uint64_t divisor)
{
    struct x86_cpu *a = w->a->cpu, *b = &w->b->cpus[cpu];
    struct exit_rec x;

    memory(w->a);
    memory(w->b);
    start(a, base(i), divisor);
    start(b, base(i), divisor);
    interp_engine.vcpu_run(w->a->v[0], 0, &x);
    CHECK_EQ(x.reason, EXIT_HLT);
    bt_engine.vcpu_run(w->b->v[cpu], 0, &x);
    CHECK_EQ(x.reason, EXIT_HLT);
    CHECK_EQ(a->rip, TVM_VEC(divisor ? 3 : 0) + 1);
    CHECK_EQ(b->rip, a->rip);
    for (unsigned r = 0; r < 16; r++)
        CHECK_EQ(a->gpr[r], b->gpr[r]);
    same_memory(w, FRAME, 40);
    same_memory(w, DATA, 512);
    same_memory(w, TVM_STACK - 0x140, 0x40);
}

static uint64_t copies(const struct world *w)
{
    return w->part->bt[0]->st.copies + w->part->bt[1]->st.copies;
}

static uint64_t blocks(const struct world *w)
{
    return w->part->bt[0]->st.blocks + w->part->bt[1]->st.blocks;
}

/* Direct jumps in a page whose target had to be made. */
static uint64_t jumps(const struct world *w)
{
    return w->part->bt[0]->st.full_link + w->part->bt[1]->st.full_link;
}

static bool host_ok(void)
{
    char why[120];

    return bt_host_ok(why, sizeof why);
}

/* Of the second of two runs at address @i: branches that were looked up, and
 * faults of the host. */
static uint64_t trips(const struct world *w, unsigned i)
{
    const struct bt_stats *st = &w->part->bt[0]->st;
    uint64_t n;

    run(w, 0, i, 2);
    n = st->ib_misses + st->host_faults + st->zone_maps;
    run(w, 0, i, 2);
    return st->ib_misses + st->host_faults + st->zone_maps - n;
}

static void everywhere(bool scatter, bool adx)
{
    struct world w = world(scatter, adx);
    uint64_t made, n, direct;

    run(&w, 0, 0, 0);
    run(&w, 0, 0, 2);
    run(&w, 0, 0, 2);
    made = blocks(&w);
    CHECK(made >= 8);
    CHECK_EQ(copies(&w), 0);
    for (unsigned i = 1; i < SLOTS; i++) {
        n = copies(&w);
        direct = jumps(&w);
        run(&w, i & 1, i, 0);
        run(&w, i & 1, i, 2);
        CHECK(copies(&w) > n + 6);
        CHECK(jumps(&w) < direct + (scatter ? 1 : 3));
        run(&w, i & 1, i, 2); /* now by links */
        run(&w, 0, 0, 2);     /* ... which have stayed where they were */
        CHECK_EQ(trips(&w, i), trips(&w, 0));
    }
    CHECK(scatter || w.part->bt[0]->st.zone_maps);
    /* Zones: what names an absolute address is not copied. */
    CHECK(blocks(&w) <= made + (scatter ? 0 : 2 * SLOTS));
}

TEST(regions_are_copied_for_other_addresses)
{
    if (!host_ok())
        SKIP("this host cannot run translated code");
    everywhere(true, true);
}

TEST(regions_of_zones_are_copied)
{
    if (!host_ok())
        SKIP("this host cannot run translated code");
    everywhere(false, true);
}

TEST(regions_are_copied_on_hosts_without_adx)
{
    if (!host_ok())
        SKIP("this host cannot run translated code");
    everywhere(true, false);
}

/* mov ecx,20 becomes mov ecx,19: by a device, or the interpreter's store. */
TEST(no_copy_of_what_was_written)
{
    struct world w;
    uint64_t made;

    if (!host_ok())
        SKIP("this host cannot run translated code");
    w = world(true, true);
    run(&w, 0, 0, 2);
    run(&w, 0, 1, 2);
    for (unsigned i = 0; i < 8; i++) {
        uint8_t n = (uint8_t)(19 - i);

        tvm_poke(w.a, TVM_CODE + 0x2f, &n, 1);
        tvm_poke(w.b, TVM_CODE + 0x2f, &n, 1);
        made = blocks(&w);
        run(&w, i & 1, i % SLOTS, 2);
        CHECK(blocks(&w) > made);
        made = copies(&w);
        run(&w, i & 1, (i + 2) % SLOTS, 2);
        CHECK(copies(&w) > made);
        run(&w, i & 1, (i + 1) % SLOTS, 2);
    }
}

/* add eax, ebx; syscall: it says where it was. */
TEST(syscall_is_copied)
{
    struct world w;

    if (!host_ok())
        SKIP("this host cannot run translated code");
    w = world(true, true);
    tvm_poke(w.b, TVM_CODE + SYSCALL_AT, "\x01\xd8\x0f\x05", 4);
    for (unsigned i = 0; i < 2 * SLOTS; i++) {
        struct x86_cpu *cpu = &w.b->cpus[0];
        uint64_t made = copies(&w);
        struct exit_rec x;

        start(cpu, base(i / 2), 1);
        cpu->rip += SYSCALL_AT;
        cpu->msr.star = UINT64_C(0x0010000800000000);
        cpu->msr.lstar = TVM_VEC(40);
        cpu->msr.fmask = 0x257fd5;
        bt_engine.vcpu_run(w.b->v[0], 0, &x);
        CHECK_EQ(x.reason, EXIT_HLT);
        CHECK_EQ(cpu->rip, TVM_VEC(40) + 1);
        CHECK_EQ(cpu->gpr[X86_RCX], base(i / 2) + TVM_CODE + SYSCALL_AT + 4);
        CHECK_EQ(copies(&w), made + (i && i % 2 == 0));
    }
}

/* The segment is used again from its beginning, as after a turn through the
 * whole cache. */
static void turn(struct world *w, const struct bt_seg *fresh)
{
    struct bt_cache *c = &w->part->cache;

    bt_cache_flush(w->part->bt[0]);
    bt_far_close(w->part->bt[0], c->at[0]);
    bt_tlb_flush(w->part->bt[0]);
    c->seg[c->at[0]] = *fresh;
}

/* The same regions have the same records as before. */
TEST(no_copy_of_itself)
{
    struct bt_seg fresh;
    struct world w;
    uint64_t made;

    if (!host_ok())
        SKIP("this host cannot run translated code");
    w = world(true, true);
    fresh = w.part->cache.seg[w.part->cache.at[0]];
    for (unsigned i = 0; i < 3; i++) {
        made = blocks(&w);
        run(&w, 0, 0, 2);
        CHECK(blocks(&w) > made + 6);
        CHECK_EQ(copies(&w), 0);
        turn(&w, &fresh);
    }
}

/* By the translator alone; it ends at the handler of @vector. */
static void run_at(const struct world *w, uint64_t at, unsigned cpl,
                   unsigned vector)
{
    struct x86_cpu *cpu = &w->b->cpus[0];
    struct exit_rec x;

    start(cpu, base(0), 2);
    cpu->rip = base(0) + at;
    if (!cpl) {
        tvm_seg(&cpu->seg[X86_SEG_CS], 0x8, 0xa09b);
        tvm_seg(&cpu->seg[X86_SEG_SS], 0x10, 0xc093);
        cpu->cpl = 0;
    }
    bt_engine.vcpu_run(w->b->v[0], 0, &x);
    CHECK_EQ(x.reason, EXIT_HLT);
    CHECK_EQ(cpu->rip, TVM_VEC(vector) + 1);
}

/* The record of a region that could not be made is not copied, where it is that
 * of one that was: nop; int3, then an opcode that is none. */
TEST(no_copy_of_what_was_not_made)
{
    struct bt_seg fresh;
    struct world w;

    if (!host_ok())
        SKIP("this host cannot run translated code");
    w = world(true, true);
    fresh = w.part->cache.seg[w.part->cache.at[0]];
    tvm_poke(w.b, TVM_CODE + 0x2000, "\x06", 1);
    for (unsigned i = 0; i < 2; i++) {
        tvm_poke(w.b, TVM_CODE + SYSCALL_AT, i ? "\x06" : "\x90\xcc", 2 - i);
        run_at(&w, TVM_CODE + 0x2000, 3, 6); /* the handler has a record */
        for (unsigned k = 0; k < 3; k++)
            run_at(&w, TVM_CODE + SYSCALL_AT, 3, i ? 6 : 3);
        CHECK_EQ(copies(&w), 0);
        turn(&w, &fresh);
    }
}

/* C has gone on in another mode when it comes to link a jump. */
TEST(no_link_to_another_mode)
{
    unsigned tried = 0;
    struct world w;
    struct bt *bt;

    if (!host_ok())
        SKIP("this host cannot run translated code");
    w = world(true, true);
    bt = w.part->bt[0];
    run_at(&w, TVM_CODE, 0, 3);
    run_at(&w, TVM_CODE, 3, 3);
    for (uint32_t i = 1; i < w.part->cache.seg[0].nsites; i++) {
        const struct bt_block *from = &bt->blocks[bt->sites[i].block];
        uint64_t *cell = &bt->cells[bt->sites[i].start];
        uint64_t stub = (uintptr_t)bt->rx + bt->sites[i].next;

        if (!bt->sites[i].link || !(from->mode & BT_MODE_CPL3))
            continue;
        *cell = stub;
        bt->mode = (from->mode & ~(BT_MODE_CPL3 | BT_MODE_KIND)) | TLB_SUPAC;
        bt_quick_link(bt, i);
        CHECK(*cell == stub);
        bt->mode = from->mode;
        bt_quick_link(bt, i);
        tried += *cell != stub;
    }
    CHECK(tried);
}

/* Copies go round in their own part of the cache: when they are dropped, what
 * they were made from stays. */
TEST(copies_do_not_drop_what_was_translated)
{
    struct world w;
    uint64_t made;

    if (!host_ok())
        SKIP("this host cannot run translated code");
    w = world(true, true);
    w.part->cache.seg_blocks = 6;
    run(&w, 0, 0, 2);
    run(&w, 0, 1, 2);
    made = blocks(&w);
    for (unsigned i = 0; i < 40; i++)
        run(&w, i & 1, i % SLOTS, 2);
    /* Behind a drop regions begin where an instruction was called out. */
    CHECK(blocks(&w) < made + 8);
    CHECK(copies(&w) > 150);
    CHECK(w.part->bt[0]->st.segments + w.part->bt[1]->st.segments > 4);
}

/* mov rax,[0]; mov rax,[rsp]; iretq, the frame naming no selectors, in a GDT of
 * no length: nothing is known of any IRET. */
TEST(iret_before_any)
{
    struct exit_rec x;
    struct x86_cpu *cpu;
    struct world w;

    if (!host_ok())
        SKIP("this host cannot run translated code");
    w = world(true, true);
    cpu = &w.b->cpus[0];
    tvm_poke(w.b, TVM_CODE + 0x2000,
             "\x48\x8b\x04\x25\x00\x00\x00\x00\x48\x8b\x04\x24\x48\xcf", 14);
    tvm_poke(w.b, TVM_CODE + 0x3000, "\x0f\x0b", 2);
    tvm_poke64(w.b, 0, 0);
    start(cpu, 0, 2);
    tvm_seg(&cpu->seg[X86_SEG_CS], 0x8, 0xa09b);
    tvm_seg(&cpu->seg[X86_SEG_SS], 0x10, 0xc093);
    for (unsigned i = 0; i < 6; i++)
        if (i != X86_SEG_CS && i != X86_SEG_SS)
            cpu->seg[i].sel = 0;
    cpu->cpl = 0;
    cpu->efer |= X86_EFER_SCE;
    cpu->msr.fmask = ~UINT64_C(0) >> 32;
    cpu->gdtr.base = cpu->gdtr.limit = 0;
    cpu->rip = TVM_CODE + 0x2000;
    for (unsigned i = 0; i < 5; i++)
        tvm_poke64(w.b, cpu->gpr[X86_RSP] + 8 * i, i ? 0 : TVM_CODE + 0x3000);
    bt_engine.vcpu_run(w.b->v[0], 0, &x);
    CHECK(x.reason != EXIT_HLT);
    CHECK_EQ(cpu->rip, TVM_CODE + 0x200c);
}

TEST_MAIN(/* first: a later engine may find no room for zones */
          CASE(regions_of_zones_are_copied), CASE(syscall_is_copied),
          CASE(regions_are_copied_for_other_addresses),

          CASE(regions_are_copied_on_hosts_without_adx),
          CASE(no_copy_of_what_was_written), CASE(no_copy_of_itself),
          CASE(no_copy_of_what_was_not_made), CASE(no_link_to_another_mode),
          CASE(iret_before_any), CASE(copies_do_not_drop_what_was_translated))
