// SPDX-License-Identifier: Apache-2.0
// Start of every tiny test guest: Multiboot 1 entry in 32-bit protected mode,
// identity paging of 4 GiB, long mode, then test_main(). Also the interrupt
// stubs, which hand a struct frame (lib.h) to trap(), the way into ring 3, and
// the start of other processors.
// Source: Multiboot 0.6.96 3.1; Intel SDM vol. 3A 9.8.5.

        .set    MB_MAGIC, 0x1badb002
        .set    MB_FLAGS, 0

        .section .multiboot, "a"
        .align  4
        .long   MB_MAGIC, MB_FLAGS, -(MB_MAGIC + MB_FLAGS)

        .text
        .code32
        .globl  _start
_start:
        cli
        movl    $boot_stack_top, %esp
        call    enter_long
        .byte   0xea                    // jmp far into 64-bit code
        .long   bsp64
        .word   0x08

// Paging, EFER.LME, PG; keeps only the stack.
enter_long:
        movl    $pml4, %eax
        movl    %eax, %cr3
        movl    %cr4, %eax
        orl     $0x620, %eax            // PAE, OSFXSR, OSXMMEXCPT
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x901, %eax            // SCE, LME, NXE
        wrmsr
        movl    %cr0, %eax
        orl     $0x80010002, %eax       // PG, WP, MP
        andl    $~0x4, %eax             // EM
        movl    %eax, %cr0
        lgdt    gdt_ptr
        ret

        .code64
bsp64:
        movl    %ebx, mb_info(%rip)
        call    segments
        leaq    boot_stack_top(%rip), %rsp
        call    lib_init
        call    test_main
        movl    %eax, %edi
        call    finish
1:      hlt
        jmp     1b

segments:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        xorl    %eax, %eax
        movl    %eax, %fs
        movl    %eax, %gs
        ret

// Other processors begin in real mode at a page below 1 MiB that lib.c copies
// [ap_start, ap_end) to. The page is 0x8000.
        .code16
        .globl  ap_start, ap_end
ap_start:
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        lgdtl   0x8000 + (ap_gdt_ptr - ap_start)
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmpl   $0x18, $ap32
ap_gdt_ptr:
        .word   gdt_end - gdt - 1
        .long   gdt
ap_end:
        .code32
ap32:
        movw    $0x10, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $ap_stack_top, %esp
        call    enter_long
        .byte   0xea
        .long   ap64
        .word   0x08
        .code64
ap64:
        call    segments
        leaq    ap_stack_top(%rip), %rsp
        call    ap_init
        call    ap_main
1:      hlt
        jmp     1b

// void user_call(uint64_t rip, uint64_t rsp): run in ring 3 with interrupts
// off until user_return(). The kernel's registers wait on its stack.
        .globl  user_call, user_return
user_call:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        movq    %rsp, kernel_rsp(%rip)
        push    $0x33                   // SS: user data
        push    %rsi
        push    $0x2                    // RFLAGS
        push    $0x2b                   // CS: user code
        push    %rdi
        iretq
user_return:
        movq    kernel_rsp(%rip), %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret

// Interrupt stubs: 256 of 16 bytes each. A dummy error code where the CPU
// pushes none, so that all frames look alike.
        .globl  stubs
        .align  16
stubs:
        vec = 0
        .rept   256
        .align  16
        .if     (vec == 8) || ((vec >= 10) && (vec <= 14)) || (vec == 17) || (vec == 21)
        .else
        push    $0
        .endif
        push    $vec
        jmp     common
        vec = vec + 1
        .endr

common:
        push    %r15
        push    %r14
        push    %r13
        push    %r12
        push    %r11
        push    %r10
        push    %r9
        push    %r8
        push    %rdi
        push    %rsi
        push    %rbp
        push    %rbx
        push    %rdx
        push    %rcx
        push    %rax
        cld
        movq    %rsp, %rdi
        movq    %rsp, %rbx
        andq    $-16, %rsp
        call    trap
        movq    %rbx, %rsp
        pop     %rax
        pop     %rcx
        pop     %rdx
        pop     %rbx
        pop     %rbp
        pop     %rsi
        pop     %rdi
        pop     %r8
        pop     %r9
        pop     %r10
        pop     %r11
        pop     %r12
        pop     %r13
        pop     %r14
        pop     %r15
        addq    $16, %rsp
        iretq

        .data
        .globl  gdt, gdt_end, pml4, pdpt, pd
        .align  16
gdt:
        .quad   0
        .quad   0x00af9b000000ffff      // 0x08 kernel code, 64-bit
        .quad   0x00cf93000000ffff      // 0x10 kernel data
        .quad   0x00cf9b000000ffff      // 0x18 kernel code, 32-bit
        .quad   0x00cffb000000ffff      // 0x20 user code, 32-bit
        .quad   0x00affb000000ffff      // 0x28 user code, 64-bit
        .quad   0x00cff3000000ffff      // 0x30 user data
        .quad   0, 0                    // 0x38 TSS of the BSP
        .quad   0, 0                    // 0x48 TSS of the AP
        .quad   0, 0                    // 0x58 free for tests
gdt_end:
gdt_ptr:
        .word   gdt_end - gdt - 1
        .quad   gdt

        .align  4096
pml4:   .quad   pdpt + 0x7
        .fill   511, 8, 0
pdpt:   .quad   pd + 0x007, pd + 0x1007, pd + 0x2007, pd + 0x3007
        .fill   508, 8, 0
pd:
        page = 0
        .rept   2048
        .quad   page * 0x200000 + 0xe7  // P W U A D PS
        page = page + 1
        .endr

        .bss
        .align  16
kernel_rsp: .skip 8
        .globl  mb_info                 // where Multiboot's information lies
mb_info: .skip 8
        .align  16
        .skip   16384
boot_stack_top:
        .skip   16384
ap_stack_top:
        .section .note.GNU-stack, "", @progbits
