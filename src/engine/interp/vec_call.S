// SPDX-License-Identifier: Apache-2.0
/*
 * int vec_call_*(struct vec_frame *f, const void *stub): load the registers
 * that stubs use from *f, call the stub, store them, put the host's own state
 * back. Offsets: struct vec_frame in vec_int.h (checked there). r8 holds the
 * frame and r9 the signal that the stub raised (set by interp_vec_signal,
 * which lets the stub return); stubs touch neither. Upper halves are moved
 * separately: the frame was just written by halves, and a 32-byte load would
 * wait for both stores to leave the store buffer.
 */
#define LO(i)      (16 * (i))
#define HI(i)      (80 + 16 * (i))
#define GPR(i)     (160 + 8 * (i))
#define RFLAGS     184
#define MM(i)      (192 + 8 * (i))
#define MXCSR      208
#define HOST_MXCSR 212
#define MEM        256
#define FX         384
#define FX_MXCSR   (FX + 24)

    .text

.macro func name
    .globl \name
    .hidden \name
    .type \name, @function
    .balign 16
\name:
.endm

.macro endfunc name
    .size \name, . - \name
.endm

.macro gprs_in
    xorl %r9d, %r9d
    movq %rdi, %r8
    movq GPR(0)(%r8), %rax
    movq GPR(1)(%r8), %rcx
    movq GPR(2)(%r8), %rdx
    leaq MEM(%r8), %rdi
.endm

.macro gprs_out
    pushfq
    popq RFLAGS(%r8)
    movq %rax, GPR(0)(%r8)
    movq %rcx, GPR(1)(%r8)
    movq %rdx, GPR(2)(%r8)
    movl %r9d, %eax
.endm

/* The host goes on with the guest's status flags beside its own control bits:
 * nothing here looks at flags, and a LDMXCSR that changes them makes the next
 * STMXCSR 30 to 50 ns slower (measured on Sapphire Rapids). */
.macro mx_in
    stmxcsr HOST_MXCSR(%rdi)
    ldmxcsr MXCSR(%rdi)
.endm

.macro mx_out
    stmxcsr MXCSR(%r8)
    movl MXCSR(%r8), %ecx
    movl HOST_MXCSR(%r8), %edx
    andl $0x3f, %ecx
    andl $~0x3f, %edx
    orl %ecx, %edx
    movl %edx, HOST_MXCSR(%r8)
    ldmxcsr HOST_MXCSR(%r8)
.endm

.macro xmm_in op
    \op LO(0)(%rdi), %xmm0
    \op LO(1)(%rdi), %xmm1
    \op LO(2)(%rdi), %xmm2
    \op LO(3)(%rdi), %xmm3
    \op LO(4)(%rdi), %xmm4
.endm

.macro xmm_out op
    \op %xmm0, LO(0)(%r8)
    \op %xmm1, LO(1)(%r8)
    \op %xmm2, LO(2)(%r8)
    \op %xmm3, LO(3)(%r8)
.endm

.macro ymm_in
    xmm_in vmovaps
    vinsertf128 $1, HI(1)(%rdi), %ymm1, %ymm1
    vinsertf128 $1, HI(2)(%rdi), %ymm2, %ymm2
    vinsertf128 $1, HI(3)(%rdi), %ymm3, %ymm3
    vinsertf128 $1, HI(4)(%rdi), %ymm4, %ymm4
.endm

.macro ymm_out
    xmm_out vmovaps
    vextractf128 $1, %ymm1, HI(1)(%r8)
    vextractf128 $1, %ymm2, HI(2)(%r8)
    vextractf128 $1, %ymm3, HI(3)(%r8)
    vzeroupper
.endm

func vec_call_sse
    xmm_in movaps
    gprs_in
    call *%rsi
    gprs_out
    xmm_out movaps
    ret
endfunc vec_call_sse

func vec_call_sse_mx
    xmm_in movaps
    mx_in
    gprs_in
    call *%rsi
    gprs_out
    mx_out
    xmm_out movaps
    ret
endfunc vec_call_sse_mx

func vec_call_avx128
    xmm_in vmovaps
    gprs_in
    call *%rsi
    gprs_out
    xmm_out vmovaps
    ret
endfunc vec_call_avx128

func vec_call_avx128_mx
    xmm_in vmovaps
    mx_in
    gprs_in
    call *%rsi
    gprs_out
    mx_out
    xmm_out vmovaps
    ret
endfunc vec_call_avx128_mx

func vec_call_avx256
    ymm_in
    gprs_in
    call *%rsi
    gprs_out
    ymm_out
    ret
endfunc vec_call_avx256

func vec_call_avx256_mx
    ymm_in
    mx_in
    gprs_in
    call *%rsi
    gprs_out
    mx_out
    ymm_out
    ret
endfunc vec_call_avx256_mx

/* The host's x87 registers are empty here, as the ABI has them, and after. */
.macro mmx_in
    movq MM(0)(%rdi), %mm1
    movq MM(1)(%rdi), %mm3
    movaps LO(1)(%rdi), %xmm1
    movaps LO(3)(%rdi), %xmm3
.endm

.macro mmx_out
    movaps %xmm1, LO(1)(%r8)
    movaps %xmm3, LO(3)(%r8)
    movq %mm1, MM(0)(%r8)
    movq %mm3, MM(1)(%r8)
    emms
.endm

func vec_call_mmx
    mmx_in
    gprs_in
    call *%rsi
    gprs_out
    mmx_out
    ret
endfunc vec_call_mmx

func vec_call_mmx_mx
    mmx_in
    mx_in
    gprs_in
    call *%rsi
    gprs_out
    mx_out
    mmx_out
    ret
endfunc vec_call_mmx_mx

/* FXRSTOR loads the XMM registers from whatever lies in the image: all belong
 * to the callee in the ABI. After it the host's x87 registers are empty and its
 * control word is the default; sticky flags stay, masked. FNINIT would do that
 * too, 50 ns slower; EMMS and FLDCW need that no exception is pending. */
#define FSW_ES 0x80
func vec_call_x87
    stmxcsr FX_MXCSR(%rdi)
    fxrstor64 FX(%rdi)
    gprs_in
    movzbl RFLAGS(%r8), %eax
    movb %al, %ah
    sahf
    call *%rsi
    gprs_out
    fxsave64 FX(%r8)
    testb $FSW_ES, FX+2(%r8)
    jnz 1f
    emms
    cmpw $0x37f, FX(%r8)
    jne 2f
    ret
1:  fninit
    ret
2:  fldcw default_fcw(%rip)
    ret
endfunc vec_call_x87

    .section .rodata
    .balign 2
default_fcw:
    .short 0x37f

    .section .note.GNU-stack, "", @progbits
