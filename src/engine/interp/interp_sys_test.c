// SPDX-License-Identifier: Apache-2.0
/*
 * The interpreter between instructions and between threads: interrupts and
 * shadows, single-step and breakpoints, LOCK from two vCPUs, revocation of
 * write rights, the virtual clock, the old modes.
 */
#include "engine/interp/testvm.h"

#include <pthread.h>

static void again(struct tvm *t, uint64_t rip)
{
    t->cpu->rip = rip;
    t->cpu->activity = X86_ACT_RUN;
}

static void apic_on(struct tvm *t)
{
    t->cpu->lapic.svr |= 0x100;
}

/* ---- interrupts ---- */

TEST(interrupt_waits_for_if)
{
    struct tvm *t = tvm_create();

    apic_on(t);
    TVM_PUT(t, "\xff\xc0\xff\xc0\xff\xc0\xf4"); /* inc eax, 3 times */
    kick_post(&t->cpu->kick, 0x40, false);
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->rip, TVM_CODE + 7);
    t->cpu->rflags |= X86_FL_IF;
    CHECK_EQ(tvm_run_fault(t), 0x40); /* ends the HLT */
    tvm_destroy(t);
}

TEST(sti_holds_for_one_instruction)
{
    struct tvm *t = tvm_create();

    apic_on(t);
    /* sti; mov al, 1; mov al, 2; hlt */
    TVM_PUT(t, "\xfb\xb0\x01\xb0\x02\xf4");
    kick_post(&t->cpu->kick, 0x40, false);
    CHECK_EQ(tvm_run_fault(t), 0x40);
    CHECK_EQ(t->cpu->gpr[X86_RAX] & 0xff, 1);
    CHECK_EQ(tvm_peek(t, t->cpu->gpr[X86_RSP], 8), TVM_CODE + 3);
    tvm_destroy(t);
}

TEST(sti_does_not_hold_when_if_was_set)
{
    struct tvm *t = tvm_create();

    apic_on(t);
    TVM_PUT(t, "\xfb\xb0\x01\xb0\x02\xf4");
    t->cpu->rflags |= X86_FL_IF;
    CHECK_EQ(tvm_run(t, 1), EXIT_BUDGET);
    kick_post(&t->cpu->kick, 0x40, false);
    CHECK_EQ(tvm_run_fault(t), 0x40);
    CHECK_EQ(t->cpu->gpr[X86_RAX] & 0xff, 0);
    tvm_destroy(t);
}

TEST(mov_ss_holds_for_one_instruction)
{
    struct tvm *t = tvm_create();

    apic_on(t);
    /* mov ss, ecx; mov al, 1; mov al, 2; hlt */
    TVM_PUT(t, "\x8e\xd1\xb0\x01\xb0\x02\xf4");
    t->cpu->gpr[X86_RCX] = 16;
    t->cpu->rflags |= X86_FL_IF;
    CHECK_EQ(tvm_run(t, 1), EXIT_BUDGET);
    CHECK_EQ(t->cpu->shadow, X86_SHADOW_MOVSS);
    kick_post(&t->cpu->kick, 0x40, false);
    CHECK_EQ(tvm_run_fault(t), 0x40);
    CHECK_EQ(t->cpu->gpr[X86_RAX] & 0xff, 1);
    tvm_destroy(t);
}

TEST(interrupt_inside_a_repeat_resumes_it)
{
    struct tvm *t = tvm_create();

    apic_on(t);
    TVM_PUT(t, "\xf3\xaa\xf4");                /* rep stosb */
    tvm_poke(t, TVM_VEC(0x40), "\x48\xcf", 2); /* iretq */
    t->cpu->gpr[X86_RDI] = 0x400000;
    t->cpu->gpr[X86_RCX] = 1 << 20;
    t->cpu->rflags |= X86_FL_IF;
    kick_post(&t->cpu->kick, 0x40, false);
    CHECK_EQ(interp_single(t->cpu), 0); /* begins, is interrupted */
    CHECK(t->cpu->rflags & X86_FL_RF);
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RDI], 0x500000);
    CHECK(!(t->cpu->rflags & X86_FL_RF));
    tvm_destroy(t);
}

/* The 8259's line is high and IF clear: the guest goes on. */
TEST(standing_request_does_not_stop_the_guest)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\xff\xc0\xff\xc0\xeb\xfa");
    kick_request(&t->cpu->kick, KICK_EXTINT);
    CHECK_EQ(tvm_run(t, 1000), EXIT_BUDGET);
    CHECK_EQ(t->cpu->icount, 1000);
    tvm_destroy(t);
}

/* ---- debugging ---- */

TEST(trap_flag_traps_after_the_next_instruction)
{
    struct tvm *t = tvm_create();

    /* push 0x102; popfq; mov al, 1; mov al, 2 */
    TVM_PUT(t, "\x68\x02\x01\x00\x00\x9d\xb0\x01\xb0\x02\xf4");
    CHECK_EQ(tvm_run_fault(t), X86_VEC_DB);
    CHECK_EQ(t->cpu->gpr[X86_RAX] & 0xff, 1);
    CHECK(t->cpu->dr6 & X86_DR6_BS);
    CHECK_EQ(tvm_peek(t, t->cpu->gpr[X86_RSP], 8), TVM_CODE + 8);
    tvm_destroy(t);
}

TEST(trap_flag_traps_each_round_of_a_repeat)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\xf3\xaa\xf4");
    t->cpu->gpr[X86_RDI] = 0x20000;
    t->cpu->gpr[X86_RCX] = 10;
    t->cpu->rflags |= X86_FL_TF;
    CHECK_EQ(tvm_run_fault(t), X86_VEC_DB);
    CHECK_EQ(t->cpu->gpr[X86_RCX], 9);
    CHECK_EQ(tvm_peek(t, t->cpu->gpr[X86_RSP], 8), TVM_CODE);
    tvm_destroy(t);
}

TEST(code_breakpoint_and_resume)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\xb0\x01\xb0\x02\xf4");
    /* inc ebx; or byte [rsp+18], 1 (RF of the image); iretq */
    tvm_poke(t, TVM_VEC(1), "\xff\xc3\x80\x4c\x24\x12\x01\x48\xcf", 9);
    t->cpu->dr[0] = TVM_CODE + 2;
    t->cpu->dr7 = X86_DR7_FIXED | 2;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RBX], 1); /* RF let it run */
    CHECK_EQ(t->cpu->gpr[X86_RAX] & 0xff, 2);
    CHECK_EQ(t->cpu->dr6 & 15, 1);
    tvm_destroy(t);
}

TEST(data_breakpoint_traps_after_the_store)
{
    struct tvm *t = tvm_create();

    /* mov [0x20004], eax; mov al, 1; hlt */
    TVM_PUT(t, "\x89\x04\x25\x04\x00\x02\x00\xb0\x01\xf4");
    t->cpu->dr[1] = 0x20004;
    t->cpu->dr7 = X86_DR7_FIXED | 8 | 0xdULL << 20; /* write, 4 bytes */
    CHECK_EQ(tvm_run_fault(t), X86_VEC_DB);
    CHECK_EQ(tvm_peek(t, t->cpu->gpr[X86_RSP], 8), TVM_CODE + 7);
    CHECK_EQ(t->cpu->dr6 & 15, 2);
    tvm_destroy(t);
}

/* ---- two threads ---- */

struct runner {
    struct tvm *t;
    unsigned i;
};

static void *run_to_halt(void *p)
{
    struct runner *r = p;
    struct exit_rec x;

    interp_engine.vcpu_run(r->t->v[r->i], 0, &x);
    return NULL;
}

/* Both vCPUs run the same code with rdi = @at. */
static void run_both(struct tvm *t, uint64_t at, uint64_t n)
{
    struct runner r[2] = {{t, 0}, {t, 1}};
    pthread_t th[2];

    for (unsigned i = 0; i < 2; i++) {
        t->cpus[i].rip = TVM_CODE;
        t->cpus[i].activity = X86_ACT_RUN;
        t->cpus[i].gpr[X86_RDI] = at;
        t->cpus[i].gpr[X86_RCX] = n;
        if (pthread_create(&th[i], NULL, run_to_halt, &r[i]))
            abort();
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(th[i], NULL);
}

TEST(locked_increments_add_up)
{
    struct tvm *t = tvm_create_cpus(CLOCK_MODE_REAL, 2);
    static const uint64_t at[] = {0x20000, 0x2003e, 0x20ffe, 0x20abc};

    /* L: lock inc dword [rdi]; dec ecx; jnz L; hlt */
    TVM_PUT(t, "\xf0\xff\x07\xff\xc9\x75\xf9\xf4");
    for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
        run_both(t, at[i], 50000);
        CHECK_EQ(tvm_peek(t, at[i], 4), 100000);
    }
    tvm_destroy(t);
}

TEST(exchanges_make_a_lock)
{
    struct tvm *t = tvm_create_cpus(CLOCK_MODE_REAL, 2);

    /* L: mov eax, 1; A: xchg [rdi], eax; test eax, eax; jnz A;
     *    inc dword [rdi+8]; mov dword [rdi], 0; dec ecx; jnz L; hlt */
    TVM_PUT(t, "\xb8\x01\x00\x00\x00\x87\x07\x85\xc0\x75\xfa"
               "\xff\x47\x08\xc7\x07\x00\x00\x00\x00\xff\xc9\x75\xe8\xf4");
    run_both(t, 0x20000, 20000);
    CHECK_EQ(tvm_peek(t, 0x20008, 4), 40000);
    tvm_destroy(t);
}

TEST(cmpxchg16b_counts)
{
    struct tvm *t = tvm_create_cpus(CLOCK_MODE_REAL, 2);

    /* L: mov rax,[rdi]; mov rdx,[rdi+8]; B: lea rbx,[rax+1]; lea r8,[rcx];
     *    lea rcx,[rdx+2]; lock cmpxchg16b [rdi]; mov rcx, r8; jnz B;
     *    dec ecx; jnz L; hlt */
    TVM_PUT(t, "\x48\x8b\x07\x48\x8b\x57\x08\x48\x8d\x58\x01\x4c\x8d\x01"
               "\x48\x8d\x4a\x02\xf0\x48\x0f\xc7\x0f\x4c\x89\xc1\x75\xeb"
               "\xff\xc9\x75\xe0\xf4");
    run_both(t, 0x20010, 20000);
    CHECK_EQ(tvm_peek(t, 0x20010, 8), 40000);
    CHECK_EQ(tvm_peek(t, 0x20018, 8), 80000);
    tvm_destroy(t);
}

static _Atomic unsigned reported;

static void on_written(void *ctx, gpa_t gpa, size_t len, uint32_t word)
{
    (void)ctx;
    (void)len;
    (void)word;
    if (gpa.v >> 12 == 0x20)
        atomic_fetch_add(&reported, 1);
}

static void on_revoke(void *ctx, gpa_t gpa, bool all)
{
    struct tvm *t = ctx;

    interp_engine.vcpu_revoke(t->v[0], gpa, all);
}

/* What the vCPU is counting, in one piece. */
static uint32_t count_now(struct tvm *t)
{
    uint32_t word;
    uint8_t *page = mem_tlb_page(t->vm.mem, gpa(0x20000), MEM_READ, &word);

    return atomic_load((_Atomic uint32_t *)(void *)page);
}

/* After mem_mark returns every store is reported, though the vCPU was storing
 * through its TLB a moment before. */
TEST(revocation_while_running)
{
    struct tvm *t = tvm_create();
    struct runner r = {t, 0};
    pthread_t th;
    uint32_t a, b;

    TVM_PUT(t, "\xff\x07\xeb\xfc"); /* L: inc dword [rdi]; jmp L */
    t->cpu->gpr[X86_RDI] = 0x20000;
    mem_set_revoke(t->vm.mem, on_revoke, t);
    mem_set_listener(t->vm.mem, (struct mem_listener){on_written, NULL});
    if (pthread_create(&th, NULL, run_to_halt, &r))
        abort();
    for (unsigned i = 0; i < 50; i++) {
        CHECK_EQ(mem_mark(t->vm.mem, gpa(0x20000), MEM_WATCH), 0);
        atomic_store(&reported, 0);
        a = count_now(t);
        do
            b = count_now(t);
        while (b - a < 5);
        CHECK(atomic_load(&reported) + 1 >= b - a);
        mem_unmark(t->vm.mem, gpa(0x20000), MEM_WATCH);
    }
    kick_request(&t->cpu->kick, KICK_EXIT);
    pthread_join(th, NULL);
    tvm_destroy(t);
}

/* ---- the virtual clock ---- */

static void on_timer(void *ctx)
{
    struct tvm *t = ctx;

    t->cpu->gpr[X86_R15] = t->cpu->icount;
}

TEST(virtual_time_is_the_instruction_count)
{
    struct tvm *t = tvm_create_cpus(CLOCK_MODE_VIRTUAL, 1);
    struct timer timer;

    /* nop x4; rdtsc; jmp self */
    TVM_PUT(t, "\x90\x90\x90\x90\x0f\x31\xeb\xfe");
    timer_init(&timer, on_timer, t);
    timer_arm(t->vm.clock, &timer, 1000 * INTERP_VIRTUAL_NS_PER_INSN);
    t->cpu->tsc_offset = 0;
    CHECK_EQ(tvm_run(t, 5000), EXIT_BUDGET);
    CHECK_EQ(t->cpu->gpr[X86_R15], 1000);
    CHECK_EQ(clock_now_ns(t->vm.clock), 5000 * INTERP_VIRTUAL_NS_PER_INSN);
    CHECK_EQ((uint32_t)t->cpu->gpr[X86_RAX], 4 * INTERP_VIRTUAL_NS_PER_INSN);
    tvm_destroy(t);
}

TEST(virtual_halt_skips_to_the_timer)
{
    struct tvm *t = tvm_create_cpus(CLOCK_MODE_VIRTUAL, 1);
    struct timer timer;

    TVM_PUT(t, "\xf4");
    timer_init(&timer, on_timer, t);
    timer_arm(t->vm.clock, &timer, NS_PER_S);
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(clock_now_ns(t->vm.clock), NS_PER_S);
    tvm_destroy(t);
}

/* ---- the old modes ---- */

static void real_mode(struct tvm *t)
{
    struct x86_cpu *cpu = t->cpu;

    cpu->cr0 = X86_CR0_ET;
    cpu->cr4 = 0;
    cpu->efer = 0;
    for (unsigned i = 0; i < 6; i++) {
        tvm_seg(&cpu->seg[i], 0x2000, 0x93);
        cpu->seg[i].base = 0x20000;
        cpu->seg[i].limit = 0xffff;
    }
    cpu->gpr[X86_RSP] = 0x8000;
    cpu->rip = 0;
    interp_engine.vcpu_flush(t->v[0]);
}

TEST(real_mode_calls_and_segments)
{
    struct tvm *t = tvm_create();

    real_mode(t);
    /* mov ax, 0x3000; mov ds, ax; mov byte [0x10], 0x5a; call L; hlt;
     * L: inc bx; ret */
    tvm_poke(t, 0x20000,
             "\xb8\x00\x30\x8e\xd8\xc6\x06\x10\x00\x5a\xe8\x01\x00\xf4"
             "\x43\xc3",
             16);
    t->cpu->gpr[X86_RBX] = 0xffff;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(tvm_peek(t, 0x30010, 1), 0x5a);
    CHECK_EQ(t->cpu->gpr[X86_RBX], 0);
    CHECK_EQ(t->cpu->gpr[X86_RSP], 0x8000);
    CHECK_EQ(tvm_peek(t, 0x27ffe, 2), 13);
    tvm_destroy(t);
}

TEST(real_mode_limit_faults)
{
    struct tvm *t = tvm_create();

    real_mode(t);
    tvm_poke(t, 0x20000, "\xa1\xff\xff", 3); /* mov ax, [0xffff] */
    CHECK_EQ(interp_single(t->cpu), X86_FAULT);
    CHECK_EQ(t->cpu->exc.vector, X86_VEC_GP);
    tvm_destroy(t);
}

static void flat32(struct tvm *t)
{
    t->cpu->efer = 0;
    t->cpu->cr0 &= ~(X86_CR0_PG | X86_CR0_WP);
    tvm_seg(&t->cpu->seg[X86_SEG_CS], 8, 0xc09b);
    interp_engine.vcpu_flush(t->v[0]);
}

TEST(protected_mode_decimal)
{
    struct tvm *t = tvm_create();

    flat32(t);
    /* mov al, 0x79; add al, 0x35; daa; pusha; popa; hlt */
    TVM_PUT(t, "\xb0\x79\x04\x35\x27\x60\x61\xf4");
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RAX] & 0xff, 0x14);
    CHECK(t->cpu->rflags & X86_FL_CF);
    CHECK_EQ(t->cpu->gpr[X86_RSP], TVM_STACK);
    tvm_destroy(t);
}

TEST(address_size_prefix_cuts)
{
    struct tvm *t = tvm_create();

    tvm_poke64(t, 0x20010, 0x1122334455667788);
    TVM_PUT(t, "\x67\x48\x8b\x43\x10\xf4"); /* mov rax, [ebx + 16] */
    t->cpu->gpr[X86_RBX] = 0xffffffff00020000;
    CHECK_EQ(interp_single(t->cpu), 0);
    CHECK_EQ(t->cpu->gpr[X86_RAX], 0x1122334455667788);
    tvm_destroy(t);
}

/* ---- privilege, alignment, missing features ---- */

TEST(user_mode_faults)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\xf4"); /* hlt */
    t->cpu->cpl = 3;
    tvm_seg(&t->cpu->seg[X86_SEG_CS], 35, 0xa0fb);
    tvm_seg(&t->cpu->seg[X86_SEG_SS], 27, 0xc0f3);
    CHECK_EQ(tvm_run_fault(t), X86_VEC_GP);
    CHECK_EQ(t->cpu->cpl, 0);
    CHECK_EQ(tvm_peek(t, t->cpu->gpr[X86_RSP] + 8, 8), TVM_CODE);
    tvm_destroy(t);
}

TEST(alignment_check)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\x8b\x03\x8b\x03"); /* mov eax, [rbx] twice */
    t->cpu->cpl = 3;
    t->cpu->cr0 |= X86_CR0_AM;
    t->cpu->rflags |= X86_FL_AC;
    tvm_seg(&t->cpu->seg[X86_SEG_CS], 35, 0xa0fb);
    tvm_seg(&t->cpu->seg[X86_SEG_SS], 27, 0xc0f3);
    t->cpu->gpr[X86_RBX] = 0x20004;
    CHECK_EQ(interp_single(t->cpu), 0);
    t->cpu->gpr[X86_RBX] = 0x20002;
    CHECK_EQ(interp_single(t->cpu), X86_FAULT);
    CHECK_EQ(t->cpu->exc.vector, X86_VEC_AC);
    tvm_destroy(t);
}

TEST(missing_features)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\x0f\x01\xc8"); /* monitor */
    CHECK_EQ(interp_single(t->cpu), X86_FAULT);
    CHECK_EQ(t->cpu->exc.vector, X86_VEC_UD);
    TVM_PUT(t, "\x0f\x01\xc1"); /* vmcall */
    again(t, TVM_CODE);
    CHECK_EQ(interp_single(t->cpu), X86_FAULT);
    CHECK_EQ(t->cpu->exc.vector, X86_VEC_UD);
    tvm_destroy(t);
}

TEST(smap_stops_supervisor_data)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\x8b\x03\x0f\x01\xcb\x8b\x03\x0f\x01\xca\x8b\x03\xf4");
    t->cpu->gpr[X86_RBX] = 0x20d000; /* a user page; code must not be one */
    tvm_poke64(t, 0x3000, 0x83);
    t->cpu->cr4 |= X86_CR4_SMAP;
    interp_engine.vcpu_flush(t->v[0]);
    CHECK_EQ(interp_single(t->cpu), X86_FAULT);
    CHECK_EQ(t->cpu->exc.error, 1);
    t->cpu->rip = TVM_CODE + 2;
    CHECK_EQ(interp_single(t->cpu), 0); /* stac */
    CHECK_EQ(interp_single(t->cpu), 0);
    CHECK_EQ(interp_single(t->cpu), 0); /* clac */
    CHECK_EQ(interp_single(t->cpu), X86_FAULT);
    tvm_destroy(t);
}

TEST_MAIN(CASE(interrupt_waits_for_if), CASE(sti_holds_for_one_instruction),
          CASE(sti_does_not_hold_when_if_was_set),
          CASE(mov_ss_holds_for_one_instruction),
          CASE(interrupt_inside_a_repeat_resumes_it),
          CASE(standing_request_does_not_stop_the_guest),
          CASE(trap_flag_traps_after_the_next_instruction),
          CASE(trap_flag_traps_each_round_of_a_repeat),
          CASE(code_breakpoint_and_resume),
          CASE(data_breakpoint_traps_after_the_store),
          CASE(locked_increments_add_up), CASE(exchanges_make_a_lock),
          CASE(cmpxchg16b_counts), CASE(revocation_while_running),
          CASE(virtual_time_is_the_instruction_count),
          CASE(virtual_halt_skips_to_the_timer),
          CASE(real_mode_calls_and_segments), CASE(real_mode_limit_faults),
          CASE(protected_mode_decimal), CASE(address_size_prefix_cuts),
          CASE(user_mode_faults), CASE(alignment_check), CASE(missing_features),
          CASE(smap_stops_supervisor_data))
