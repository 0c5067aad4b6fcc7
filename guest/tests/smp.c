// SPDX-License-Identifier: Apache-2.0
/* Two processors: INIT and SIPI, IPIs both ways, LOCKed counters, memory order.
 * Run with 2 CPUs. Source: Intel SDM vol. 3A 9.4, 8.2. */
#include "lib.h"

#define ROUNDS 20000

static volatile uint32_t ap_up, ap_got, bsp_got, go;
static volatile uint64_t counter, plain_x, plain_y, bad_order;

static void on_ap_ipi(struct frame *f)
{
    (void)f;
    ap_got++;
    apic_write(0xb0, 0);
    apic_icr(0, 0x62); /* answer the BSP (APIC id 0) */
}

static void on_bsp_ipi(struct frame *f)
{
    (void)f;
    bsp_got++;
    apic_write(0xb0, 0);
}

void ap_main(void)
{
    apic_enable();
    ap_up = (apic_read(0x20) >> (apic_is_x2() ? 0 : 24)) + 0x100;
    while (go < 1)
        __asm__ volatile("pause");
    for (unsigned i = 0; i < ROUNDS; i++)
        __asm__ volatile("lock incq %0" : "+m"(counter));
    for (unsigned i = 1; i <= ROUNDS; i++) { /* message passing */
        plain_x = i;
        plain_y = i;
    }
    go = 2;
    for (;;)
        __asm__ volatile("sti; hlt");
}

static bool wait_for(volatile uint32_t *p, uint32_t v)
{
    uint64_t end = rdtsc() + 20000000000ULL;

    while (*p < v && rdtsc() < end)
        __asm__ volatile("pause");
    return *p >= v;
}

int test_main(void)
{
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    apic_enable();
    on_vector(0x61, on_ap_ipi);
    on_vector(0x62, on_bsp_ipi);
    ap_boot(1);
    check("the second processor runs", wait_for(&ap_up, 1));
    check_eq("with its own APIC id", ap_up, 0x101);
    go = 1;
    for (unsigned i = 0; i < ROUNDS; i++)
        __asm__ volatile("lock incq %0" : "+m"(counter));
    while (go < 2) {
        uint64_t y = plain_y, x = plain_x;

        bad_order += x < y; /* y was written after x */
        __asm__ volatile("pause");
    }
    check_eq("LOCK INC loses nothing", counter, 2 * ROUNDS);
    check_eq("stores are seen in order", bad_order, 0);
    sti();
    for (unsigned i = 1; i <= 100; i++) {
        apic_icr(1, 0x61);
        if (!wait_for(&bsp_got, i))
            break;
    }
    cli();
    check_eq("a hundred IPIs there", ap_got, 100);
    check_eq("and back", bsp_got, 100);
    return failures();
}
