// SPDX-License-Identifier: Apache-2.0
/* Interrupt delivery: gates, IST, stack alignment, error codes, shadows, double
 * faults, debug exceptions. Source: Intel SDM vol. 3A ch. 6 and 18. */
#include "lib.h"

static struct frame seen;
static unsigned calls;

static void note(struct frame *f)
{
    seen = *f;
    calls++;
}

static void note_db(struct frame *f)
{
    seen = *f;
    seen.error = DR_READ(6);
    DR_WRITE(6, 0xffff0ff0);
    calls++;
    if (calls >= 4)
        f->rflags &= ~0x100ULL;
}

static uint64_t flags(void)
{
    uint64_t f;

    __asm__ volatile("pushf; pop %0" : "=r"(f));
    return f;
}

static uint64_t if_seen;
static void note_if(struct frame *f)
{
    (void)f;
    if_seen = flags() & 0x200;
}

static void gates(void)
{
    on_vector(0x40, note);
    __asm__ volatile("int $0x40");
    check("INT n is delivered", calls == 1 && seen.vector == 0x40);
    sti();
    on_vector(0x41, note_if);
    __asm__ volatile("int $0x41");
    check_eq("an interrupt gate clears IF", if_seen, 0);
    gate_set(0x41, stubs + 16 * 0x41, 0xf, 0, 0);
    __asm__ volatile("int $0x41");
    check_eq("a trap gate leaves IF", if_seen, 0x200);
    check("IRET gave IF back", flags() & 0x200);
    cli();
}

static uint8_t ist_stack[4096] __attribute__((aligned(16)));
static uint64_t handler_rsp;

static void note_rsp(struct frame *f)
{
    handler_rsp = (uint64_t)f;
}

static void ist(void)
{
    tss.ist[2] = (uint64_t)ist_stack + sizeof ist_stack;
    gate_set(0x42, stubs + 16 * 0x42, 0xe, 0, 3);
    on_vector(0x42, note_rsp);
    __asm__ volatile("int $0x42");
    check("IST 3 switches the stack",
          handler_rsp > (uint64_t)ist_stack &&
              handler_rsp < (uint64_t)ist_stack + sizeof ist_stack);
}

static void not_present(void *p)
{
    (void)p;
    __asm__ volatile("int $0x43");
}
static void load_bad_ss(void *p)
{
    (void)p;
    __asm__ volatile("mov %0, %%ss" : : "r"(0x5b));
}
static void load_beyond(void *p)
{
    (void)p;
    __asm__ volatile("mov %0, %%ds" : : "r"(0xfff8));
}
static void div_zero(void *p)
{
    (void)p;
    __asm__ volatile("xor %%ecx, %%ecx; div %%ecx" ::: "rax", "rcx", "rdx");
}

static void error_codes(void)
{
    struct caught c;

    gate_set(0x43, stubs + 16 * 0x43, 0xe, 0, 0);
    ((uint8_t *)stubs)[0] = ((uint8_t *)stubs)[0];
    check("divide error", catch (div_zero, NULL, &c) == 0);
    check("selector beyond the table",
          catch (load_beyond, NULL, &c) == 13 && c.error == 0xfff8);
    check("bad SS", catch (load_bad_ss, NULL, &c) == 13 && c.error == 0x58);
    (void)not_present;
}

/* A #PF whose handler's stack cannot be pushed to: #DF on an IST. */
static void bad_stack(void *p)
{
    (void)p;
    __asm__ volatile("mov $0x900000000000, %%rax\n" /* not canonical: #SS */
                     "mov %%rax, %%rsp\n"
                     "push %%rax" ::
                         : "rax", "memory");
}

static void double_fault(void)
{
    struct caught c;

    tss.ist[0] = (uint64_t)ist_stack + sizeof ist_stack;
    gate_set(8, stubs + 16 * 8, 0xe, 0, 1);
    check("a fault without a stack is #DF",
          catch (bad_stack, NULL, &c) == 8 && c.error == 0);
}

static void single_step(void)
{
    calls = 0;
    on_vector(1, note_db);
    __asm__ volatile("pushf; orl $0x100, (%%rsp); popf\n"
                     "nop; nop; nop; nop; nop" ::
                         : "memory", "cc");
    check_eq("TF traps after each instruction", calls, 4);
    check("DR6.BS", seen.error & 0x4000);
}

static volatile uint32_t watched;

static void note_bp(struct frame *f)
{
    seen.error = DR_READ(6);
    DR_WRITE(6, 0xffff0ff0);
    f->rflags |= 0x10000; /* RF: go over the breakpoint */
    calls++;
}

static void breakpoints(void)
{
    on_vector(1, note_bp);
    calls = 0;
    DR_WRITE(0, (uint64_t)&watched);
    DR_WRITE(7, 0x400 | 0x1 | 0xdULL << 16); /* write, 4 bytes */
    watched = 5;
    DR_WRITE(7, 0x400);
    check("data breakpoint", calls == 1 && (seen.error & 1));
    check_eq("the write was done", watched, 5);
    calls = 0;
    __asm__ volatile("lea 1f(%%rip), %%rax\n mov %%rax, %%dr0\n"
                     "mov $0x401, %%eax\n mov %%rax, %%dr7\n"
                     "nop\n 1: nop\n nop\n"
                     "mov $0x400, %%eax\n mov %%rax, %%dr7" ::
                         : "rax", "memory");
    check_eq("code breakpoint hits once", calls, 1);
    on_vector(1, NULL);
}

int test_main(void)
{
    gates();
    ist();
    error_codes();
    double_fault();
    single_step();
    breakpoints();
    return failures();
}
