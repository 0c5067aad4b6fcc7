// SPDX-License-Identifier: Apache-2.0
/*
 * SYSCALL, SYSRET and IRETQ to user code, of the usual kind, without C: what
 * quick_sys.c does for them. Translated code jumps here, BT_SITE and R11 (for
 * SYSCALL: what is behind it) being set; what is not usual goes on to the quick
 * gate with everything as it was. What C has looked at before is in the words
 * BT_SYS_* and BT_IRET_* (bt_sys_out, do_iret). The jump at the end is as any
 * indirect one of the new mode: a request makes it miss.
 * Source: Intel SDM vol. 2; docs/translator.md, System instructions.
 */
#include "engine/bt/layout.h"

#define TF    0x100
#define IF    0x200
#define DF    0x400
#define NT    0x4000
#define AC    0x40000
#define ARITH 0x8d5
#define HELD  (ARITH | IF | DF | AC)
/* what SYSRET loads; what IRET does, but TF, RF, AC */
#define SYSRET_FLAGS 0x3c7fd7
#define IRET_FLAGS   0x387ed5
/* kind, CPL and zones of the mode word */
#define MODE_PART (3 | 4 | 1024)
#define MODE_CPL3 4
/* limit and attributes of flat segments of 64-bit code, of data */
#define CODE(dpl) ((0xa09b | (dpl) << 5) << 32 | 0xffffffff)
#define DATA(dpl) ((0xc093 | (dpl) << 5) << 32 | 0xffffffff)
#define LIMIT     8
#define SEL       16

    .text

    .macro func name
    .globl \name
    .hidden \name
    .type \name, @function
    .balign 16
\name:
    .endm

/* RAX to BT_LGPR, flags to AH and AL, as the quick gate has them */
    .macro begin
    movq %rax, %gs:BT_LGPR
    lahf
    seto %al
    .endm

    .balign 16
decline_iret:
    movq %gs:BT_LGPR+8, %rcx
    movq %gs:BT_SLOT(4), %rax
decline:
    addb $0x7f, %al
    sahf
    movq %gs:BT_LGPR, %rax
    jmp *%gs:BT_GATE(BT_G_CALLOUT)

/* where zones have the bases of FS and GS; RAX, R10 are used */
    .macro bases zone
    movq %gs:BT_FSBASE, %rax
    rorxq $40, %rax, %r10
    movzbl %r10b, %r10d
    addq %gs:\zone(, %r10, 8), %rax
    movq %rax, %gs:BT_SEGHOST(0)
    movq %gs:BT_GSBASE, %rax
    rorxq $40, %rax, %r10
    movzbl %r10b, %r10d
    addq %gs:\zone(, %r10, 8), %rax
    movq %rax, %gs:BT_SEGHOST(1)
    .endm

func bt_sys_call
    begin
    cmpl $0, %gs:BT_SYS_KIND
    je decline
    movq %gs:BT_CPU, %r10
    movzbl %ah, %ecx
    movzbl %al, %eax
    andl $0xd5, %ecx
    shll $11, %eax
    orl %ecx, %eax
    movq %r11, %rcx
    movq X_RFLAGS(%r10), %r11
    orq %r11, %rax
    orq %gs:BT_IFL, %rax
    orq %gs:BT_ACL, %rax
    orq %gs:BT_DFL, %rax
    movq %rax, %gs:BT_HOME(11)
    movq X_FMASK(%r10), %rax
    andnq %r11, %rax, %rax
    orq $2, %rax
    movq %rax, X_RFLAGS(%r10)
    xorl %eax, %eax
    movq %rax, %gs:BT_IFL
    movq %rax, %gs:BT_ACL
    movq %rax, %gs:BT_DFL
    movb %al, X_CPL(%r10)
    movq %rax, X_CS(%r10)
    movq %rax, X_SS(%r10)
    movabsq $CODE(0), %rax
    movq %rax, X_CS+LIMIT(%r10)
    movabsq $DATA(0), %rax
    movq %rax, X_SS+LIMIT(%r10)
    movzwl X_STAR+4(%r10), %eax
    andl $0xfffc, %eax
    movw %ax, X_CS+SEL(%r10)
    addl $8, %eax
    movw %ax, X_SS+SEL(%r10)
    movq X_LSTAR(%r10), %r11
    movl %gs:BT_MODE_NOW, %eax
    andl $~MODE_PART, %eax
    orl %gs:BT_SYS_KIND, %eax
    orl %gs:BT_ZONED(1), %eax
    movl %eax, %gs:BT_MODE_NOW
    bases BT_ZONE_SUP
    pextq %gs:BT_IBMASK(1), %r11, %r10
    shlq $3, %r10
    addq %gs:BT_SYS_IB, %r10
    xorl %eax, %eax
    addl $1, %eax /* flags: none */
    movq %gs:BT_LGPR, %rax
    jmp *%gs:BT_IB(0)(%r10)

func bt_sys_ret
    begin
    cmpl $0, %gs:BT_SYS_KIND
    je decline
    cmpl $0, %gs:BT_LATE
    jne decline
    movq %rcx, %r11
    shrq $47, %r11
    jne decline
    movq %gs:BT_HOME(11), %r11
    testl $(TF | AC), %r11d
    jne decline
    movq %gs:BT_CPU, %r10
    testl $IF, %r11d
    je 1f
    cmpl $0, %gs:BT_IRQW
    jne decline
1:  andl $SYSRET_FLAGS, %r11d
    orl $2, %r11d
    movq %r11, %gs:BT_LFLAGS
    xorl %eax, %eax
    movq %rax, X_CS(%r10)
    movq %rax, X_SS(%r10)
    movabsq $CODE(3), %rax
    movq %rax, X_CS+LIMIT(%r10)
    movabsq $DATA(3), %rax
    movq %rax, X_SS+LIMIT(%r10)
    movzwl X_STAR+6(%r10), %eax
    addl $8, %eax
    orl $3, %eax
    movw %ax, X_SS+SEL(%r10)
    addl $8, %eax
    movw %ax, X_CS+SEL(%r10)
    movq %rcx, %r11

/* R11: where to; R10: struct x86_cpu; BT_LFLAGS: RFLAGS, AC being clear */
to_user:
    movl %gs:BT_LFLAGS, %eax
    andl $~HELD, %eax
    movq %rax, X_RFLAGS(%r10)
    movl %gs:BT_LFLAGS, %eax
    andl $IF, %eax
    movq %rax, %gs:BT_IFL
    movl %gs:BT_LFLAGS, %eax
    andl $DF, %eax
    movq %rax, %gs:BT_DFL
    movq $0, %gs:BT_ACL
    movb $3, X_CPL(%r10)
    movl %gs:BT_MODE_NOW, %eax
    andl $~MODE_PART, %eax
    orl $MODE_CPL3, %eax
    orl %gs:BT_ZONED(0), %eax
    movl %eax, %gs:BT_MODE_NOW
    bases BT_ZONE_USER
    movl %gs:BT_LFLAGS, %r10d
    movzbl %r10b, %eax
    shll $8, %eax
    btl $11, %r10d
    setc %al
    addb $0x7f, %al
    sahf
    movq %gs:BT_LGPR, %rax
    pextq %gs:BT_IBMASK(0), %r11, %r10
    jmp *%gs:BT_IB(0)(, %r10, 8)

/* Another page of the kernel's that the first-level TLB has: the entry's place
 * for %\va into \reg */
    .macro entry va, reg
    pextq %gs:BT_TLBMASK, \va, \reg
    shlq $3, \reg
    addq %gs:BT_SYS_TLB, \reg
    .endm

func bt_sys_iret
    begin
    movq %rax, %gs:BT_SLOT(4)
    movq %rcx, %gs:BT_LGPR+8
    cmpl $0, %gs:BT_SYS_KIND
    je decline_iret
    cmpl $0, %gs:BT_LATE
    jne decline_iret
    cmpl $0, %gs:BT_PF
    jne decline_iret
    movq %gs:BT_CPU, %r10
    testl $NT, X_RFLAGS(%r10)
    jne decline_iret
    cmpb $0, X_NMI_PENDING(%r10)
    jne decline_iret
    movzwl X_ES+SEL(%r10), %eax
    orw X_DS+SEL(%r10), %ax
    orw X_FS+SEL(%r10), %ax
    orw X_GS+SEL(%r10), %ax
    testl $0xfffc, %eax
    jne decline_iret
    /* the descriptors are still what they were */
    movq %gs:BT_IRET_CS, %rax
    entry %rax, %rcx
    addq %gs:BT_TLB_R(0)(%rcx), %rax
    cmpq $4095, %rax
    ja decline_iret
    movq %gs:BT_TLB_HOST(0)(%rcx), %rcx
    addq %gs:BT_IRET_CS, %rcx
    movq (%rcx), %rax
    cmpq %gs:BT_IRET_CSRAW, %rax
    jne decline_iret
    addq %gs:BT_IRET_SSOFF, %rcx
    movq (%rcx), %rax
    cmpq %gs:BT_IRET_SSRAW, %rax
    jne decline_iret
    /* the frame: each of its words is read once */
    entry %rsp, %rcx
    movq %gs:BT_TLB_R(0)(%rcx), %rax
    addq %rsp, %rax
    cmpq $(4096 - 40), %rax
    ja decline_iret
    movq %gs:BT_TLB_HOST(0)(%rcx), %r11
    addq %rsp, %r11
    movzwl 8(%r11), %eax
    movzwl 32(%r11), %ecx
    shll $16, %ecx
    orl %ecx, %eax
    cmpl %gs:BT_IRET_SEL, %eax
    jne decline_iret
    movl 16(%r11), %eax
    testl $(TF | AC), %eax
    jne decline_iret
    testl $IF, %eax
    je 1f
    cmpl $0, %gs:BT_IRQW
    jne decline_iret
1:  andl $IRET_FLAGS, %eax
    orl $2, %eax
    movq %rax, %gs:BT_LFLAGS
    movq 24(%r11), %rcx
    movq (%r11), %r11
    movq %r11, %rax
    shrq $47, %rax
    jne decline_iret
    movq %rcx, %rsp
    movq %gs:BT_LGPR+8, %rcx
    movb $0, X_NMI_BLOCKED(%r10)
    .irp i, 0, 8, 16
    movq %gs:BT_IRET_CSSEG+\i, %rax
    movq %rax, X_CS+\i(%r10)
    movq %gs:BT_IRET_SSSEG+\i, %rax
    movq %rax, X_SS+\i(%r10)
    .endr
    jmp to_user

    .section .note.GNU-stack, "", @progbits
