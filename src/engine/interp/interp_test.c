// SPDX-License-Identifier: Apache-2.0
/*
 * Small programs in a small VM: arithmetic and flags, faults in the middle of
 * instructions, self-modifying code, instructions across pages, repeats.
 */
#include "engine/interp/testvm.h"

/* ---- it runs ---- */

TEST(counts_and_halts)
{
    struct tvm *t = tvm_create();

    /* mov ecx, 1000; xor eax, eax; L: add eax, ecx; dec ecx; jnz L; hlt */
    TVM_PUT(t, "\xb9\xe8\x03\x00\x00\x31\xc0\x01\xc8\xff\xc9\x75\xfa\xf4");
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RAX], 500500);
    CHECK_EQ(t->cpu->rip, TVM_CODE + 14);
    CHECK_EQ(t->cpu->icount, 2 + 3000 + 1);
    tvm_destroy(t);
}

TEST(budget_is_exact)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\xff\xc0\xff\xc0\xff\xc0\xff\xc0\xff\xc0\xeb\xf4");
    for (unsigned n = 1; n < 200; n++) {
        uint64_t before = t->cpu->icount;

        CHECK_EQ(tvm_run(t, n), EXIT_BUDGET);
        CHECK_EQ(t->cpu->icount - before, n);
    }
    tvm_destroy(t);
}

TEST(inc_keeps_carry)
{
    struct tvm *t = tvm_create();

    /* stc; mov al, 0x7f; inc al; hlt */
    TVM_PUT(t, "\xf9\xb0\x7f\xfe\xc0\xf4");
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RAX] & 0xff, 0x80);
    CHECK_EQ(t->cpu->rflags & X86_FL_ARITH,
             X86_FL_CF | X86_FL_OF | X86_FL_SF | X86_FL_AF);
    tvm_destroy(t);
}

TEST(inc_of_memory_keeps_carry)
{
    struct tvm *t = tvm_create();

    /* stc; inc dword [0x20000]; lock inc dword [0x20000]; hlt */
    TVM_PUT(t, "\xf9\xff\x04\x25\x00\x00\x02\x00"
               "\xf0\xff\x04\x25\x00\x00\x02\x00\xf4");
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(tvm_peek(t, 0x20000, 4), 2);
    CHECK(t->cpu->rflags & X86_FL_CF);
    tvm_destroy(t);
}

TEST(rcl_goes_through_carry)
{
    struct tvm *t = tvm_create();

    /* stc; mov eax, 0x40000000; rcl eax, 1; hlt */
    TVM_PUT(t, "\xf9\xb8\x00\x00\x00\x40\xd1\xd0\xf4");
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RAX], 0x80000001);
    CHECK(!(t->cpu->rflags & X86_FL_CF));
    tvm_destroy(t);
}

TEST(shift_by_zero_keeps_flags)
{
    struct tvm *t = tvm_create();

    /* xor ecx, ecx; stc; mov eax, 1; shl eax, cl; hlt */
    TVM_PUT(t, "\x31\xc9\xf9\xb8\x01\x00\x00\x00\xd3\xe0\xf4");
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RAX], 1);
    CHECK_EQ(t->cpu->rflags & X86_FL_ARITH, X86_FL_CF | X86_FL_ZF | X86_FL_PF);
    tvm_destroy(t);
}

TEST(byte_writes_merge)
{
    struct tvm *t = tvm_create();

    /* mov rax, -1; mov ah, 0x12; mov al, 0x34; mov cx, ax; mov edx, eax */
    TVM_PUT(t, "\x48\xc7\xc0\xff\xff\xff\xff\xb4\x12\xb0\x34"
               "\x66\x89\xc1\x89\xc2\xf4");
    t->cpu->gpr[X86_RCX] = 0x1111222233334444;
    t->cpu->gpr[X86_RDX] = ~0ULL;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RAX], 0xffffffffffff1234);
    CHECK_EQ(t->cpu->gpr[X86_RCX], 0x1111222233331234);
    CHECK_EQ(t->cpu->gpr[X86_RDX], 0xffff1234);
    tvm_destroy(t);
}

TEST(cmov_clears_the_upper_half_either_way)
{
    struct tvm *t = tvm_create();

    /* xor ecx, ecx (ZF); cmovne eax, ecx; cmovne ebx, [rsi]; hlt */
    TVM_PUT(t, "\x31\xc9\x0f\x45\xc1\x0f\x45\x1e\xf4");
    t->cpu->gpr[X86_RAX] = t->cpu->gpr[X86_RBX] = ~0ULL;
    t->cpu->gpr[X86_RSI] = 0x20000;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RAX], 0xffffffff);
    CHECK_EQ(t->cpu->gpr[X86_RBX], 0xffffffff);
    tvm_destroy(t);
}

/* ---- faults leave exactly the state before ---- */

TEST(divide_error)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\x31\xc9\xf7\xf1\xf4"); /* xor ecx, ecx; div ecx */
    t->cpu->gpr[X86_RAX] = 7;
    CHECK_EQ(tvm_run_fault(t), X86_VEC_DE);
    CHECK_EQ(t->cpu->gpr[X86_RAX], 7);
    CHECK_EQ(tvm_peek(t, t->cpu->gpr[X86_RSP], 8), TVM_CODE + 2);
    tvm_destroy(t);
}

TEST(idiv_overflow)
{
    struct tvm *t = tvm_create();

    /* mov rax, 1<<63; cqo; mov rcx, -1; idiv rcx */
    TVM_PUT(t, "\x48\xb8\x00\x00\x00\x00\x00\x00\x00\x80\x48\x99"
               "\x48\xc7\xc1\xff\xff\xff\xff\x48\xf7\xf9\xf4");
    CHECK_EQ(tvm_run_fault(t), X86_VEC_DE);
    CHECK_EQ(t->cpu->gpr[X86_RAX], 1ULL << 63);
    tvm_destroy(t);
}

TEST(push_faults_before_rsp_moves)
{
    struct tvm *t = tvm_create();

    tvm_page(t, 0x201000, 0);
    TVM_PUT(t, "\x50\xf4"); /* push rax */
    t->cpu->gpr[X86_RSP] = 0x202004;
    CHECK_EQ(interp_single(t->cpu), X86_FAULT);
    CHECK_EQ(t->cpu->exc.vector, X86_VEC_PF);
    CHECK_EQ(t->cpu->exc.error, 2);
    CHECK_EQ(t->cpu->exc.cr2, 0x201ffc);
    CHECK_EQ(t->cpu->gpr[X86_RSP], 0x202004);
    CHECK_EQ(tvm_peek(t, 0x202000, 4), 0); /* nothing of it was written */
    tvm_destroy(t);
}

TEST(split_store_is_all_or_nothing)
{
    struct tvm *t = tvm_create();

    tvm_page(t, 0x203000, 5);       /* read-only */
    TVM_PUT(t, "\x48\x89\x03\xf4"); /* mov [rbx], rax */
    t->cpu->gpr[X86_RAX] = ~0ULL;
    t->cpu->gpr[X86_RBX] = 0x202ffa;
    CHECK_EQ(interp_single(t->cpu), X86_FAULT);
    CHECK_EQ(t->cpu->exc.cr2, 0x203000);
    CHECK_EQ(t->cpu->exc.error, 3);
    CHECK_EQ(tvm_peek(t, 0x202ff8, 8), 0);
    tvm_page(t, 0x203000, 7);
    interp_engine.vcpu_flush(t->v[0]);
    CHECK_EQ(interp_single(t->cpu), 0);
    CHECK_EQ(tvm_peek(t, 0x202ffa, 8), ~0ULL);
    tvm_destroy(t);
}

TEST(rmw_probes_for_write_first)
{
    struct tvm *t = tvm_create();

    tvm_page(t, 0x203000, 5);
    tvm_poke64(t, 0x203010, 5);
    TVM_PUT(t, "\x01\x03\xf4"); /* add [rbx], eax */
    t->cpu->gpr[X86_RAX] = 1;
    t->cpu->gpr[X86_RBX] = 0x203010;
    CHECK_EQ(interp_single(t->cpu), X86_FAULT);
    CHECK_EQ(t->cpu->exc.error, 3);
    CHECK_EQ(t->cpu->rflags, X86_FL_ONE);
    CHECK_EQ(tvm_peek(t, 0x203010, 8), 5);
    tvm_destroy(t);
}

TEST(pop_to_bad_memory_keeps_rsp)
{
    struct tvm *t = tvm_create();

    tvm_page(t, 0x203000, 0);
    TVM_PUT(t, "\x8f\x03\xf4"); /* pop qword [rbx] */
    t->cpu->gpr[X86_RBX] = 0x203010;
    CHECK_EQ(interp_single(t->cpu), X86_FAULT);
    CHECK_EQ(t->cpu->gpr[X86_RSP], TVM_STACK);
    tvm_destroy(t);
}

TEST(pop_uses_the_new_rsp_as_base)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\x8f\x04\x24\xf4"); /* pop qword [rsp] */
    tvm_poke64(t, TVM_STACK, 77);
    CHECK_EQ(interp_single(t->cpu), 0);
    CHECK_EQ(tvm_peek(t, TVM_STACK + 8, 8), 77);
    tvm_destroy(t);
}

TEST(jump_to_noncanonical_faults_at_the_jump)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\xff\xe0\xf4"); /* jmp rax */
    t->cpu->gpr[X86_RAX] = 1ULL << 47;
    CHECK_EQ(tvm_run_fault(t), X86_VEC_GP);
    CHECK_EQ(tvm_peek(t, t->cpu->gpr[X86_RSP], 8), 0);
    CHECK_EQ(tvm_peek(t, t->cpu->gpr[X86_RSP] + 8, 8), TVM_CODE);
    tvm_destroy(t);
}

TEST(stack_fault_for_rbp)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\x8b\x45\x00\xf4"); /* mov eax, [rbp] */
    t->cpu->gpr[X86_RBP] = 1ULL << 47;
    CHECK_EQ(interp_single(t->cpu), X86_FAULT);
    CHECK_EQ(t->cpu->exc.vector, X86_VEC_SS);
    tvm_destroy(t);
}

TEST(accessed_and_dirty_bits)
{
    struct tvm *t = tvm_create();
    uint64_t pte = TVM_PT + (0x205000 >> 12 & 511) * 8;

    TVM_PUT(t, "\x8b\x03\x89\x03\xf4"); /* mov eax,[rbx]; mov [rbx],eax */
    t->cpu->gpr[X86_RBX] = 0x205000;
    CHECK_EQ(interp_single(t->cpu), 0);
    CHECK_EQ(tvm_peek(t, pte, 8) & 0x60, 0x20);
    CHECK_EQ(interp_single(t->cpu), 0);
    CHECK_EQ(tvm_peek(t, pte, 8) & 0x60, 0x60);
    tvm_destroy(t);
}

/* ---- code that changes, code across pages ---- */

TEST(code_modifies_the_next_instruction)
{
    struct tvm *t = tvm_create();

    /* mov byte [rip+0x100], 0 (the page is in the TLB now);
     * mov byte [rip+1], 0x2a; mov al, 0 -> al = 0x2a; hlt */
    TVM_PUT(t, "\xc6\x05\x00\x01\x00\x00\x00"
               "\xc6\x05\x01\x00\x00\x00\x2a\xb0\x00\xf4");
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RAX] & 0xff, 0x2a);
    tvm_destroy(t);
}

TEST(code_modified_through_another_mapping)
{
    struct tvm *t = tvm_create();

    /* va 0x206000 maps TVM_CODE's page; mov byte [rbx+8], 0x2b; mov al, 0 */
    tvm_poke64(t, TVM_PT + (0x206000 >> 12 & 511) * 8, TVM_CODE | 7);
    TVM_PUT(t, "\xc6\x43\x05\x2b\xb0\x00\xf4");
    t->cpu->gpr[X86_RBX] = 0x206000;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RAX] & 0xff, 0x2b);
    tvm_destroy(t);
}

TEST(code_modified_from_outside)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\xb0\x01\xeb\xfc"); /* L: mov al, 1; jmp L */
    CHECK_EQ(tvm_run(t, 1000), EXIT_BUDGET);
    CHECK_EQ(t->cpu->gpr[X86_RAX] & 0xff, 1);
    tvm_poke(t, TVM_CODE + 1, "\x02", 1); /* as a device would */
    CHECK_EQ(tvm_run(t, 10), EXIT_BUDGET);
    CHECK_EQ(t->cpu->gpr[X86_RAX] & 0xff, 2);
    tvm_destroy(t);
}

TEST(rep_stos_over_its_own_block)
{
    struct tvm *t = tvm_create();

    /* rep stosb writes hlt over what follows it */
    TVM_PUT(t, "\xf3\xaa\xff\xc3\xff\xc3\xff\xc3\xf4");
    t->cpu->gpr[X86_RAX] = 0xf4;
    t->cpu->gpr[X86_RCX] = 6;
    t->cpu->gpr[X86_RDI] = TVM_CODE + 2;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RBX], 0);
    CHECK_EQ(t->cpu->rip, TVM_CODE + 3);
    tvm_destroy(t);
}

TEST(instruction_across_pages)
{
    struct tvm *t = tvm_create();

    /* mov eax, imm32 with two bytes in the next page */
    tvm_poke(t, 0x207ffd, "\xb8\x78\x56\x34\x12\xf4", 6);
    t->cpu->rip = 0x207ffd;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RAX], 0x12345678);
    /* the second page's bytes change */
    tvm_poke(t, 0x208000, "\x99\x99", 2);
    t->cpu->rip = 0x207ffd;
    t->cpu->activity = X86_ACT_RUN;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RAX], 0x99995678);
    /* the second page goes away: the fault names its first byte */
    tvm_page(t, 0x208000, 0);
    interp_engine.vcpu_flush(t->v[0]);
    t->cpu->rip = 0x207ffd;
    t->cpu->activity = X86_ACT_RUN;
    CHECK_EQ(tvm_run_fault(t), X86_VEC_PF);
    CHECK_EQ(t->cpu->cr2, 0x208000);
    tvm_destroy(t);
}

TEST(remapped_code_is_found_after_invlpg)
{
    struct tvm *t = tvm_create();

    tvm_poke(t, 0x209000, "\xb0\x01\xf4", 3); /* mov al, 1; hlt */
    tvm_poke(t, 0x20a000, "\xb0\x02\xf4", 3);
    t->cpu->rip = 0x209000;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    tvm_poke64(t, TVM_PT + (0x209000 >> 12 & 511) * 8, 0x20a000 | 7);
    /* mov ebx, 0x209000; invlpg [rbx]; jmp rbx */
    TVM_PUT(t, "\xbb\x00\x90\x20\x00\x0f\x01\x3b\xff\xe3");
    t->cpu->rip = TVM_CODE;
    t->cpu->activity = X86_ACT_RUN;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RAX] & 0xff, 2);
    tvm_destroy(t);
}

/* ---- repeats ---- */

TEST(rep_movs_stops_at_a_fault_and_goes_on)
{
    struct tvm *t = tvm_create();

    for (unsigned i = 0; i < 512; i++)
        tvm_poke64(t, 0x20000 + i * 8, i);
    tvm_page(t, 0x20c000, 0);
    TVM_PUT(t, "\xf3\x48\xa5\xf4"); /* rep movsq */
    t->cpu->gpr[X86_RSI] = 0x20000;
    t->cpu->gpr[X86_RDI] = 0x20bfc0; /* 8 fit */
    t->cpu->gpr[X86_RCX] = 20;
    CHECK_EQ(interp_single(t->cpu), X86_FAULT);
    CHECK_EQ(t->cpu->exc.cr2, 0x20c000);
    CHECK_EQ(t->cpu->gpr[X86_RCX], 12);
    CHECK_EQ(t->cpu->gpr[X86_RSI], 0x20040);
    CHECK_EQ(t->cpu->gpr[X86_RDI], 0x20c000);
    CHECK_EQ(t->cpu->rip, TVM_CODE);
    tvm_page(t, 0x20c000, 7);
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RCX], 0);
    CHECK_EQ(tvm_peek(t, 0x20c058, 8), 19);
    CHECK_EQ(t->cpu->icount, 2);
    tvm_destroy(t);
}

TEST(rep_movs_overlapping_repeats_the_pattern)
{
    struct tvm *t = tvm_create();

    tvm_poke(t, 0x20ffe, "ab", 2);
    TVM_PUT(t, "\xf3\xa4\xf4"); /* rep movsb */
    t->cpu->gpr[X86_RSI] = 0x20ffe;
    t->cpu->gpr[X86_RDI] = 0x21000;
    t->cpu->gpr[X86_RCX] = 6;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(tvm_peek(t, 0x21000, 6), 0x626162616261);
    tvm_destroy(t);
}

TEST(rep_movs_down)
{
    struct tvm *t = tvm_create();

    for (unsigned i = 0; i < 1200; i++)
        tvm_poke(t, 0x20000 + i * 4, &i, 4);
    TVM_PUT(t, "\xfd\xf3\xa5\xf4"); /* std; rep movsd */
    t->cpu->gpr[X86_RSI] = 0x20000 + 1199 * 4;
    t->cpu->gpr[X86_RDI] = 0x20006 + 1199 * 4;
    t->cpu->gpr[X86_RCX] = 1200;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    for (unsigned i = 0; i < 1200; i++)
        CHECK_EQ(tvm_peek(t, 0x20006 + i * 4, 4), i);
    CHECK_EQ(t->cpu->gpr[X86_RDI], 0x20002);
    tvm_destroy(t);
}

TEST(repne_scas_finds)
{
    struct tvm *t = tvm_create();

    tvm_poke(t, 0x20000, "hello", 6);
    TVM_PUT(t, "\xf2\xae\xf4"); /* repne scasb */
    t->cpu->gpr[X86_RDI] = 0x20000;
    t->cpu->gpr[X86_RCX] = ~0ULL;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(~t->cpu->gpr[X86_RCX], 6);
    CHECK(t->cpu->rflags & X86_FL_ZF);
    tvm_destroy(t);
}

TEST(repe_cmps_stops_at_a_difference)
{
    struct tvm *t = tvm_create();

    tvm_poke(t, 0x20000, "abcdef", 6);
    tvm_poke(t, 0x21000, "abcxef", 6);
    TVM_PUT(t, "\xf3\xa6\xf4"); /* repe cmpsb */
    t->cpu->gpr[X86_RSI] = 0x20000;
    t->cpu->gpr[X86_RDI] = 0x21000;
    t->cpu->gpr[X86_RCX] = 6;
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RCX], 2);
    CHECK(t->cpu->rflags & X86_FL_CF); /* 'd' < 'x' */
    CHECK(!(t->cpu->rflags & X86_FL_ZF));
    tvm_destroy(t);
}

TEST(rep_is_interruptible)
{
    struct tvm *t = tvm_create();

    TVM_PUT(t, "\xf3\xaa\xf4"); /* rep stosb, 1 MiB */
    t->cpu->gpr[X86_RDI] = 0x400000;
    t->cpu->gpr[X86_RCX] = 1 << 20;
    kick_request(&t->cpu->kick, KICK_PARK);
    CHECK_EQ(interp_single(t->cpu), 0);
    CHECK(t->cpu->gpr[X86_RCX] > 0 && t->cpu->gpr[X86_RCX] < 1 << 20);
    CHECK_EQ(t->cpu->rip, TVM_CODE);
    CHECK_EQ(tvm_run(t, 0), EXIT_PARK);
    kick_clear(&t->cpu->kick, KICK_PARK);
    CHECK_EQ(tvm_run(t, 0), EXIT_HLT);
    CHECK_EQ(t->cpu->gpr[X86_RDI], 0x500000);
    CHECK_EQ(t->cpu->icount, 2);
    tvm_destroy(t);
}

TEST_MAIN(CASE(counts_and_halts), CASE(budget_is_exact), CASE(inc_keeps_carry),
          CASE(inc_of_memory_keeps_carry), CASE(rcl_goes_through_carry),
          CASE(shift_by_zero_keeps_flags), CASE(byte_writes_merge),
          CASE(cmov_clears_the_upper_half_either_way), CASE(divide_error),
          CASE(idiv_overflow), CASE(push_faults_before_rsp_moves),
          CASE(split_store_is_all_or_nothing), CASE(rmw_probes_for_write_first),
          CASE(pop_to_bad_memory_keeps_rsp), CASE(pop_uses_the_new_rsp_as_base),
          CASE(jump_to_noncanonical_faults_at_the_jump),
          CASE(stack_fault_for_rbp), CASE(accessed_and_dirty_bits),
          CASE(code_modifies_the_next_instruction),
          CASE(code_modified_through_another_mapping),
          CASE(code_modified_from_outside), CASE(rep_stos_over_its_own_block),
          CASE(instruction_across_pages),
          CASE(remapped_code_is_found_after_invlpg),
          CASE(rep_movs_stops_at_a_fault_and_goes_on),
          CASE(rep_movs_overlapping_repeats_the_pattern), CASE(rep_movs_down),
          CASE(repne_scas_finds), CASE(repe_cmps_stops_at_a_difference),
          CASE(rep_is_interruptible))
