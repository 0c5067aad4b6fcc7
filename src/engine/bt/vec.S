// SPDX-License-Identifier: Apache-2.0
/*
 * Vector registers, which are the guest's while the quick gate's C runs, to an
 * XSAVE area and from it: that C is compiled without them. An area, of the
 * standard form or the compacted one, has XMM0-15 at 160 and the upper halves
 * of YMM0-15 at 576. Where its second page begins is a multiple of 64.
 * Source: Intel SDM vol. 1 13.4.
 */
    .text

    .macro func name
    .globl \name
    .hidden \name
    .type \name, @function
    .balign 16
\name:
    .endm

#define ALL 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15

/* rax: what is to be added to offsets in the area from 0 on */
    .macro open
    movq (%rdi), %rax
    movq 8(%rdi), %rdx
    movq 16(%rdi), %rcx
    .endm

/* ... from @at on */
    .macro page at
    cmpq $(\at), %rcx
    cmovbeq %rdx, %rax
    .endm

/* void bt_xmm_put(const struct bt_area *a) */
func bt_xmm_put
    open
    .irp i, ALL
    .if \i == 0 || \i % 4 == 2
    page 160+16*\i
    .endif
    movaps %xmm\i, 160 + 16 * \i(%rax)
    .endr
    ret

/* void bt_xmm_get(const struct bt_area *a): upper halves stay */
func bt_xmm_get
    open
    .irp i, ALL
    .if \i == 0 || \i % 4 == 2
    page 160+16*\i
    .endif
    movaps 160 + 16 * \i(%rax), %xmm\i
    .endr
    ret

/* void bt_xmm_zero(void): upper halves stay */
func bt_xmm_zero
    .irp i, ALL
    xorps %xmm\i, %xmm\i
    .endr
    ret

/* bool bt_xmm_any(void): whether one is not zero */
func bt_xmm_any
    .irp i, ALL
    vptest %xmm\i, %xmm\i
    jnz 1f
    .endr
1:  setnz %al
    ret

/* bool bt_ymm_any(void): whether an upper half is not zero */
func bt_ymm_any
    .irp i, ALL
    vptest upper(%rip), %ymm\i
    jnz 1f
    .endr
1:  setnz %al
    ret

/* void bt_ymm_put(const struct bt_area *a) */
func bt_ymm_put
    open
    .irp i, ALL
    .if \i % 4 == 0
    page 576+16*\i
    .endif
    vextractf128 $1, %ymm\i, 576 + 16 * \i(%rax)
    .endr
    ret

/* void bt_ymm_get(const struct bt_area *a): XMM0-15 stay */
func bt_ymm_get
    open
    .irp i, ALL
    .if \i % 4 == 0
    page 576+16*\i
    .endif
    vinsertf128 $1, 576 + 16 * \i(%rax), %ymm\i, %ymm\i
    .endr
    ret

    .section .rodata
    .balign 32
upper:
    .quad 0, 0, -1, -1

    .section .note.GNU-stack, "", @progbits
