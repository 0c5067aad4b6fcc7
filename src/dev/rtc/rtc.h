// SPDX-License-Identifier: Apache-2.0
/*
 * The MC146818 real-time clock with 128 bytes of CMOS RAM (ports 0x70, 0x71).
 * It shows the host's wall clock in UTC plus the offset that the guest set.
 * Specs: Motorola MC146818 data sheet (1984); the CMOS map of the IBM PC/AT
 * Technical Reference; century at 0x32 as the ACPI FADT names it.
 */
#ifndef DOPPEL_DEV_RTC_H
#define DOPPEL_DEV_RTC_H

#include "base/cc.h"
#include "vm/irq.h"

#include <stdint.h>

#define RTC_CENTURY_INDEX 0x32 /* for the FADT */

struct err;
struct rtc;
struct vm;

struct rtc_conf {
    struct irq_line irq; /* IRQ 8 */
    uint64_t ram_below_4g_bytes;
    uint64_t ram_above_4g_bytes;
};

/** rtc_create() - running, 24 hours, BCD; memory sizes as @conf says
 * @vm: keeps; @out: gives. Thread: main.
 * Return: 0, -ENOMEM, or what bus_add says. */
MUST_CHECK int rtc_create(struct vm *vm, const struct rtc_conf *conf,
                          struct rtc **out, struct err *e);
void rtc_destroy(struct rtc *rtc);

/** rtc_reset() - as by the RESET pin: interrupts off; time and CMOS stay */
void rtc_reset(struct rtc *rtc);

/** rtc_cmos_set() - preset a byte of CMOS RAM (index 0x0e-0x7f); main */
void rtc_cmos_set(struct rtc *rtc, uint8_t index, uint8_t val);

#endif
