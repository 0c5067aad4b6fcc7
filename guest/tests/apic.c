// SPDX-License-Identifier: Apache-2.0
/* Local APIC: x2APIC registers, self IPIs, priorities, the timer in its three
 * modes. Source: Intel SDM vol. 3A ch. 11. */
#include "lib.h"

#define X2(reg) (0x800 + ((reg) >> 4))

static volatile unsigned hits[256];
static volatile uint8_t order[8];
static volatile unsigned norder;

static void on_irq(struct frame *f)
{
    hits[f->vector]++;
    if (norder < 8)
        order[norder++] = (uint8_t)f->vector;
    wrmsr(X2(0xb0), 0);
}

static void wait_hits(unsigned v, unsigned n)
{
    uint64_t end = rdtsc() + 3000000000ULL;

    while (hits[v] < n && rdtsc() < end)
        __asm__ volatile("pause");
}

static void self_ipi(void)
{
    cli();
    wrmsr(X2(0x3f0), 0x51);
    wrmsr(X2(0x3f0), 0x61);
    wrmsr(X2(0x3f0), 0x41);
    check("IRR holds the vector", rdmsr(X2(0x220)) >> 1 & 1); /* 0x41 */
    sti();
    __asm__ volatile("nop; nop; nop");
    cli();
    check("three vectors came", hits[0x41] && hits[0x51] && hits[0x61]);
    check("the highest first",
          order[0] == 0x61 && order[1] == 0x51 && order[2] == 0x41);
    wrmsr(X2(0x80), 0x50); /* TPR */
    hits[0x51] = hits[0x61] = 0;
    sti();
    wrmsr(X2(0x3f0), 0x51);
    wrmsr(X2(0x3f0), 0x61);
    __asm__ volatile("nop; nop");
    check("TPR holds its class back", hits[0x51] == 0 && hits[0x61] == 1);
    CR_WRITE(8, 0);
    __asm__ volatile("nop; nop");
    check("CR8 lets it through", hits[0x51] == 1);
    cli();
}

static void icr_write(void *p)
{
    (void)p;
    wrmsr(X2(0x30), 1); /* the version register is read-only */
}

static void registers(void)
{
    check("x2APIC id is 0", rdmsr(X2(0x20)) == 0);
    check("logical id", rdmsr(X2(0xd0)) == 1);
    check("writing a read-only register is #GP",
          catch (icr_write, NULL, NULL) == 13);
}

static void timer(void)
{
    uint32_t r[4];

    wrmsr(X2(0x3e0), 0xb); /* divide by 1 */
    hits[0x52] = 0;
    sti();
    wrmsr(X2(0x320), 0x52);
    wrmsr(X2(0x380), 100000);
    check("the count runs down", rdmsr(X2(0x390)) <= 100000);
    wait_hits(0x52, 1);
    check_eq("one-shot fires once", hits[0x52], 1);
    check_eq("and stands at 0", rdmsr(X2(0x390)), 0);
    hits[0x53] = 0;
    wrmsr(X2(0x320), 0x20053);
    wrmsr(X2(0x380), 1000000);
    wait_hits(0x53, 5);
    check("periodic fires again and again", hits[0x53] >= 5);
    wrmsr(X2(0x320), 0x10053);
    cpuid(1, 0, r);
    if (r[2] >> 24 & 1) {
        hits[0x54] = 0;
        wrmsr(X2(0x320), 0x40054);
        wrmsr(0x6e0, rdtsc() + 1000000);
        check("deadline is armed", rdmsr(0x6e0) != 0 || hits[0x54]);
        wait_hits(0x54, 1);
        check_eq("TSC deadline fires", hits[0x54], 1);
        check_eq("and is disarmed", rdmsr(0x6e0), 0);
    } else {
        print("skip TSC deadline: not shown\n");
    }
    hits[0x55] = 0;
    wrmsr(X2(0x320), 0x55);
    wrmsr(X2(0x380), 1000000);
    while (!hits[0x55])
        __asm__ volatile("sti; hlt; cli");
    check("HLT wakes by the timer", hits[0x55] == 1);
}

int test_main(void)
{
    uint32_t r[4];

    cpuid(1, 0, r);
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    if (!(r[2] >> 21 & 1)) {
        print("skip apic: no x2APIC\nok x2APIC is not shown\n");
        return 0;
    }
    apic_enable();
    for (unsigned v = 0x41; v < 0x70; v++)
        on_vector(v, on_irq);
    registers();
    self_ipi();
    timer();
    return failures();
}
