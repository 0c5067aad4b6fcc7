// SPDX-License-Identifier: Apache-2.0
/*
 * The ACPI fixed hardware: PM1a event and control blocks, the PM timer, a GPE0
 * block and the reset register. ACPI mode only: there is no SMI command port
 * and SCI_EN always reads 1, so the FADT's SMI_CMD must be 0.
 * Spec: ACPI 6.5, 4.8.3 (fixed hardware), 4.8.3.6 (reset register).
 */
#ifndef DOPPEL_DEV_ACPI_PM_H
#define DOPPEL_DEV_ACPI_PM_H

#include "base/cc.h"
#include "vm/irq.h"

#include <stdbool.h>
#include <stdint.h>

/* Offsets from the base port, and lengths in bytes, for the FADT. */
#define ACPI_PM_EVT_OFF    0x00 /* PM1a_EVT_BLK: status, enable */
#define ACPI_PM_EVT_LEN    4
#define ACPI_PM_CNT_OFF    0x04 /* PM1a_CNT_BLK */
#define ACPI_PM_CNT_LEN    2
#define ACPI_PM_TMR_OFF    0x08 /* PM_TMR_BLK */
#define ACPI_PM_TMR_LEN    4
#define ACPI_PM_GPE0_OFF   0x20 /* GPE0_BLK: status, enable */
#define ACPI_PM_GPE0_LEN   4    /* 16 events */
#define ACPI_PM_LEN        0x40

#define ACPI_PM_RESET_PORT 0xcf9
#define ACPI_PM_RESET_VAL  0x06 /* the FADT's RESET_VALUE */
#define ACPI_PM_TIMER_HZ   3579545u

struct acpi_pm;
struct err;
struct vm;

struct acpi_pm_conf {
    uint16_t port;       /* base of the blocks, e.g. 0x600 */
    uint16_t reset_port; /* ACPI_PM_RESET_PORT; 0: not on the bus */
    uint8_t s5_slp_typ;  /* SLP_TYP that the DSDT's _S5 names, 0-7 */
    bool timer_32bit;    /* FADT TMR_VAL_EXT: 32 bits, else 24 */
    struct irq_line sci; /* level */
};

/** acpi_pm_create() - nothing enabled
 * @vm: keeps; @out: gives. Thread: main.
 * Return: 0, -ENOMEM, -EINVAL, or what bus_add says. */
MUST_CHECK int acpi_pm_create(struct vm *vm, const struct acpi_pm_conf *conf,
                              struct acpi_pm **out, struct err *e);
void acpi_pm_destroy(struct acpi_pm *pm);
void acpi_pm_reset(struct acpi_pm *pm);

/** acpi_pm_power_button() - somebody pressed it
 * Sets PWRBTN_STS and raises the SCI if the guest enabled it. Thread: any.
 * Return: whether the guest listens. */
bool acpi_pm_power_button(struct acpi_pm *pm);

/** acpi_pm_gpe() - general purpose event @n (0-15) happened. Thread: any. */
void acpi_pm_gpe(struct acpi_pm *pm, unsigned n);

/** acpi_pm_reset_read(), acpi_pm_reset_write() - the reset control register,
 * for a host bridge that owns ports 0xcf8-0xcff and hands byte accesses of
 * 0xcf9 on (conf.reset_port 0 then). Thread: vcpu. */
uint8_t acpi_pm_reset_read(struct acpi_pm *pm);
void acpi_pm_reset_write(struct acpi_pm *pm, uint8_t val);

#endif
