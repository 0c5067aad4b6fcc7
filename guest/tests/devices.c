// SPDX-License-Identifier: Apache-2.0
/* Legacy devices as a kernel probes them: 8259, 8254, RTC, UART, PCI
 * configuration, and their interrupts through the 8259. */
#include "lib.h"

static volatile unsigned ticks, rtc_irqs, uart_irqs;

static void eoi(unsigned irq)
{
    if (irq >= 8)
        outb(0xa0, 0x20);
    outb(0x20, 0x20);
}

static void on_tick(struct frame *f)
{
    (void)f;
    ticks++;
    eoi(0);
}

static void on_rtc(struct frame *f)
{
    (void)f;
    outb(0x70, 0x0c);
    (void)inb(0x71);
    rtc_irqs++;
    eoi(8);
}

static void on_uart(struct frame *f)
{
    (void)f;
    (void)inb(0x3fa);
    uart_irqs++;
    eoi(4);
}

static void pic_init(void)
{
    outb(0x20, 0x11);
    outb(0xa0, 0x11);
    outb(0x21, 0x20);
    outb(0xa1, 0x28);
    outb(0x21, 4);
    outb(0xa1, 2);
    outb(0x21, 1);
    outb(0xa1, 1);
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    check_eq("8259 mask reads back", inb(0x21), 0xff);
}

static bool wait_for(volatile unsigned *p, unsigned n)
{
    uint64_t end = rdtsc() + 10000000000ULL;

    while (*p < n && rdtsc() < end)
        __asm__ volatile("pause");
    return *p >= n;
}

static void pit(void)
{
    unsigned a, b;

    on_vector(0x20, on_tick);
    outb(0x43, 0x34);
    outb(0x40, 0x9c); /* 1193182 / 11932 = 100 Hz */
    outb(0x40, 0x2e);
    outb(0x43, 0x00);
    a = inb(0x40);
    a |= (unsigned)inb(0x40) << 8;
    check("8254 counts below its reload", a <= 0x2e9c);
    do {
        outb(0x43, 0x00);
        b = inb(0x40);
        b |= (unsigned)inb(0x40) << 8;
    } while (b == a);
    outb(0x21, 0xfe);
    sti();
    check("8254 ticks through the 8259", wait_for(&ticks, 3));
    cli();
    outb(0x21, 0xff);
}

static uint8_t cmos(uint8_t i)
{
    outb(0x70, i);
    return inb(0x71);
}

static void rtc(void)
{
    on_vector(0x28, on_rtc);
    check("RTC has power", cmos(0x0d) & 0x80);
    check("RTC runs at 32768 Hz", (cmos(0x0a) & 0x70) == 0x20);
    check("month is sane", cmos(8) >= 1 && cmos(8) <= 0x12);
    outb(0x70, 0x0a);
    outb(0x71, 0x26); /* 1024 Hz */
    outb(0x70, 0x0b);
    outb(0x71, cmos(0x0b) | 0x42);
    outb(0x70, 0x0b);
    outb(0x71, 0x42);
    (void)cmos(0x0c);
    outb(0x21, 0xfb);
    outb(0xa1, 0xfe);
    sti();
    check("RTC periodic interrupt", wait_for(&rtc_irqs, 3));
    cli();
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    outb(0x70, 0x0b);
    outb(0x71, 0x02);
}

static void uart(void)
{
    uint8_t lines, data;

    outb(0x3ff, 0x5a);
    check_eq("UART scratch register", inb(0x3ff), 0x5a);
    outb(0x3fa, 0x01);
    check_eq("UART has FIFOs", inb(0x3fa) & 0xc0, 0xc0);
    /* nothing may be printed while it loops */
    outb(0x3fc, 0x1a); /* loop, RTS, OUT2 */
    lines = inb(0x3fe) & 0xf0;
    outb(0x3f8, 0x41);
    for (unsigned i = 0; i < 100000 && !(inb(0x3fd) & 1); i++)
        ;
    data = inb(0x3f8);
    outb(0x3fc, 0x0b);
    check_eq("UART loopback of modem lines", lines, 0x90);
    check_eq("UART loopback of data", data, 0x41);
    on_vector(0x24, on_uart);
    outb(0x21, 0xef);
    sti();
    outb(0x3f9, 0x02); /* THR empty interrupt */
    check("UART interrupts when empty", wait_for(&uart_irqs, 1));
    cli();
    outb(0x3f9, 0);
    outb(0x21, 0xff);
}

static uint32_t pci(unsigned devfn, unsigned off)
{
    outl(0xcf8, 0x80000000u | devfn << 8 | off);
    return inl(0xcfc);
}

static void pci_config(void)
{
    outl(0xcf8, 0x80000000u);
    check_eq("PCI mechanism 1", inl(0xcf8), 0x80000000u);
    check("a host bridge at 00:00.0",
          (pci(0, 0) & 0xffff) == 0x8086 || (pci(0, 0) & 0xffff) != 0xffff);
    check_eq("of class bridge", pci(0, 8) >> 16, 0x0600);
    check_eq("an empty slot reads ones", pci(0xf8 - 8 * 4, 0), 0xffffffff);
    outl(0xcf8, 0);
    check_eq("disabled: ones", inl(0xcfc), 0xffffffff);
}

int test_main(void)
{
    pic_init();
    pit();
    rtc();
    uart();
    pci_config();
    return failures();
}
