// SPDX-License-Identifier: Apache-2.0
/*
 * Into translated code and out of it. While it runs, GS points at struct bt
 * and the registers, RSP too, are the guest's; nothing may be pushed. Two of
 * them are scratch: C finds the guest's in bt->home.
 *
 * The full gate stores all but the vector registers into struct x86_cpu, runs
 * bt_dispatch on the host's stack, and goes on where that says. Vector state
 * stays in the host's registers until bt_vec_save is called. Before it, the quick gate asks
 * bt_quick with only the registers saved that C may change: TLB fills and
 * branches that are known; it is C without vector registers and without calls.
 */
#include "engine/bt/layout.h"

#define GPR(i) (8 * (i))
#define XSTATE_BV 512
#define ARITH  0x8d5
#define HELD   0x40600 /* bt_sys_out has taken them */

    .text

    .macro func name
    .globl \name
    .hidden \name
    .type \name, @function
    .balign 16
\name:
    .endm

/* void bt_enter(struct bt *bt, const void *code) */
func bt_enter
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    subq $24, %rsp
    movq %rsp, %gs:BT_HOST_RSP
    movq %rsi, %gs:BT_JT
load:
    cmpl $0, %gs:BT_VEC
    jne 2f
    movl $1, %gs:BT_VEC
    movq %gs:BT_XSAVE, %rbx
    movl $7, %eax
    xorl %edx, %edx
    xrstor64 (%rbx)
    movl XSTATE_BV(%rbx), %eax
    andl $1, %eax
    orl %eax, %gs:BT_X87
2:  movq %gs:BT_CPU, %rcx
    movl X_RFLAGS(%rcx), %eax
    andl $~(ARITH | HELD), X_RFLAGS(%rcx)
    movl %eax, %edx
    movb %al, %ah
    shrl $11, %edx
    andl $1, %edx
    movb %dl, %al
    addb $0x7f, %al
    sahf
    movq %rcx, %rax
    movq GPR(1)(%rax), %rcx
    movq GPR(2)(%rax), %rdx
    movq GPR(3)(%rax), %rbx
    movq GPR(4)(%rax), %rsp
    movq GPR(5)(%rax), %rbp
    movq GPR(6)(%rax), %rsi
    movq GPR(7)(%rax), %rdi
    movq GPR(8)(%rax), %r8
    movq GPR(9)(%rax), %r9
    movq GPR(10)(%rax), %r10
    movq GPR(11)(%rax), %r11
    movq GPR(12)(%rax), %r12
    movq GPR(13)(%rax), %r13
    movq GPR(14)(%rax), %r14
    movq GPR(15)(%rax), %r15
    movq GPR(0)(%rax), %rax
    jmp *%gs:BT_JT

full:
    movq %rax, %gs:BT_LGPR
    movq %gs:BT_CPU, %rax
    movq %rcx, GPR(1)(%rax)
    movq %gs:BT_LGPR, %rcx
    movq %rcx, GPR(0)(%rax)
    movq %rdx, GPR(2)(%rax)
    movq %rbx, GPR(3)(%rax)
    movq %rsp, GPR(4)(%rax)
    movq %rbp, GPR(5)(%rax)
    movq %rsi, GPR(6)(%rax)
    movq %rdi, GPR(7)(%rax)
    movq %r8, GPR(8)(%rax)
    movq %r9, GPR(9)(%rax)
    movq %r10, GPR(10)(%rax)
    movq %r11, GPR(11)(%rax)
    movq %r12, GPR(12)(%rax)
    movq %r13, GPR(13)(%rax)
    movq %r14, GPR(14)(%rax)
    movq %r15, GPR(15)(%rax)
    movq %gs:BT_HOST_RSP, %rsp
    movq %rax, %rbx
    lahf
    seto %al
    movzbl %al, %ecx
    movzbl %ah, %edx
    shll $11, %ecx
    andl $ARITH, %edx
    orl %edx, %ecx
    movq X_RFLAGS(%rbx), %rdx
    andq $~ARITH, %rdx
    orq %rdx, %rcx
    movq %rcx, X_RFLAGS(%rbx)
    movq %gs:BT_SELF, %rdi
    call bt_dispatch
    testq %rax, %rax
    jz 1f
    movq %rax, %gs:BT_JT
    jmp load
1:  addq $24, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .macro gate n
    .balign 16
gate_\n:
    movl $\n, %gs:BT_REASON
    jmp quick
    .endm

    .balign 16
quick:
    movq %rax, %gs:BT_LGPR
    lahf
    seto %al
    movq %rax, %gs:BT_LFLAGS
    movq %rcx, %gs:BT_LGPR+8
    movq %rdx, %gs:BT_LGPR+16
    movq %rsi, %gs:BT_LGPR+48
    movq %rdi, %gs:BT_LGPR+56
    movq %r8, %gs:BT_LGPR+64
    movq %r9, %gs:BT_LGPR+72
    movq %r10, %gs:BT_LGPR+80
    movq %r11, %gs:BT_LGPR+88
    movq %rsp, %gs:BT_LGPR+32
    movq %gs:BT_HOST_RSP, %rsp
    movq %gs:BT_HERE, %rdi /* what was stored by GS is read by GS's addresses */
    call bt_quick
    movq %rax, %gs:BT_JT
    movq %rax, %rcx
    movq %gs:BT_LGPR+32, %rsp
    movq %gs:BT_LGPR+88, %r11
    movq %gs:BT_LGPR+80, %r10
    movq %gs:BT_LGPR+72, %r9
    movq %gs:BT_LGPR+64, %r8
    movq %gs:BT_LGPR+56, %rdi
    movq %gs:BT_LGPR+48, %rsi
    movq %gs:BT_LGPR+16, %rdx
    movq %gs:BT_LFLAGS, %rax
    addb $0x7f, %al
    sahf
    movq %gs:BT_LGPR, %rax
    jrcxz 1f
    movq %gs:BT_LGPR+8, %rcx
    jmp *%gs:BT_JT
1:  movq %gs:BT_LGPR+8, %rcx
    jmp full

    gate 0
    gate 1
    gate 2
    gate 3
    gate 4

/* The signal handler comes here, the state being the guest's. */
func bt_fault_gate
    movl $BT_G_CALLOUT, %gs:BT_REASON
    jmp full

    .section .data.rel.ro, "aw"
    .balign 16 # as compilers take an array of that size to be
    .globl bt_gate_table
    .hidden bt_gate_table
bt_gate_table:
    .quad gate_0, gate_1, gate_2, gate_3, gate_4
    .quad bt_sys_call, bt_sys_ret, bt_sys_iret

    .section .note.GNU-stack, "", @progbits
