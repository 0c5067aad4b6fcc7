// SPDX-License-Identifier: Apache-2.0
/*
 * SIMD floating-point exceptions: an unmasked one is #XM at the instruction
 * that made it, with its flag in MXCSR and nothing written.
 * Source: Intel SDM vol. 1 11.5.2, vol. 3A 6.15 (interrupt 19).
 */
#include "lib.h"

#define VECTOR_XM  19
#define MXCSR_ZE   0x0004U
#define MXCSR_ZM   0x0200U
#define MXCSR_INIT 0x1f80U

static uint32_t mxcsr_get(void)
{
    uint32_t v;

    __asm__ volatile("stmxcsr %0" : "=m"(v));
    return v;
}

static void mxcsr_set(uint32_t v)
{
    __asm__ volatile("ldmxcsr %0" ::"m"(v));
}

static uint64_t quotient;

static void divide_by_zero(void *arg)
{
    uint64_t one = 0x3ff0000000000000, zero = 0;

    (void)arg;
    __asm__ volatile("movq %1, %%xmm0\n\t"
                     "movq %2, %%xmm1\n\t"
                     "divsd %%xmm1, %%xmm0\n\t"
                     "movq %%xmm0, %0"
                     : "=r"(quotient)
                     : "r"(one), "r"(zero));
}

static uint64_t xmm0(void)
{
    uint64_t v;

    __asm__ volatile("movq %%xmm0, %0" : "=r"(v));
    return v;
}

int test_main(void)
{
    struct caught c;

    mxcsr_set(MXCSR_INIT);
    check_eq("masked divide by zero raises nothing",
             (uint64_t) catch (divide_by_zero, NULL, &c), (uint64_t)-1);
    check_eq("its result is infinity", quotient, 0x7ff0000000000000);
    check_eq("its flag is set", mxcsr_get(), MXCSR_INIT | MXCSR_ZE);
    mxcsr_set(MXCSR_INIT & ~MXCSR_ZM);
    check_eq("unmasked divide by zero is XM",
             (uint64_t) catch (divide_by_zero, NULL, &c), VECTOR_XM);
    check_eq("the destination is unchanged", xmm0(), 0x3ff0000000000000);
    check_eq("the flag tells which", mxcsr_get(),
             (MXCSR_INIT & ~MXCSR_ZM) | MXCSR_ZE);
    mxcsr_set(MXCSR_INIT);
    return failures();
}
