// SPDX-License-Identifier: Apache-2.0
/*
 * Builds the ACPI tables one behind the other in a buffer, RSDP first, XSDT
 * last (it needs the others' addresses).
 */
#include "machine/pc/acpi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "dev/acpi-pm/acpi_pm.h"
#include "machine/pc/aml.h"
#include "machine/pc/memmap.h"

#define HEADER_BYTES  36U
#define RSDP_BYTES    36U
#define RSDP_V1_BYTES 20U
#define FACS_BYTES    64U
#define FADT_BYTES    276U
#define TABLES_MAX    4U
#define CREATOR       "DPPL"

/* MADT entries (5.2.12) */
#define MADT_LAPIC      0
#define MADT_IOAPIC     1
#define MADT_OVERRIDE   2
#define MADT_LAPIC_NMI  4
#define MADT_PCAT       1U /* there is an 8259 pair */
#define INTI_CONFORMS   0U
#define INTI_HIGH_LEVEL 0x000dU /* active high, level-triggered */

/* FADT (5.2.9) */
#define BOOT_LEGACY_DEVICES BIT(0)
#define BOOT_8042           BIT(1)
#define BOOT_NO_VGA         BIT(2)
#define BOOT_NO_ASPM        BIT(4)
#define FADT_WBINVD         BIT(0)
#define FADT_PROC_C1        BIT(2)
#define FADT_SLP_BUTTON     BIT(5) /* none in the fixed hardware */
#define FADT_FIX_RTC        BIT(6) /* no RTC wake status there */
#define FADT_TMR_VAL_EXT    BIT(8)
#define FADT_RESET_REG      BIT(10)
#define NO_C2_US            0x0fffU /* over 100: there is no C2 state */
#define CMOS_CENTURY        0x32
#define GAS_IO              1
#define GAS_BYTE            1
#define GAS_WORD            2
#define GAS_DWORD           3

#define PCI_SLOTS           32U
#define PCI_PINS            4U

#define RTC_PORT            0x70
#define KBD_DATA            0x60
#define KBD_CMD             0x64

struct tables {
    uint8_t *buf;
    size_t len, room;
    uint64_t base; /* GPA of buf */
    bool full;
    unsigned n;
    uint64_t listed[TABLES_MAX]; /* GPAs for the XSDT */
};

static void put(struct tables *t, const void *p, size_t n)
{
    if (n > t->room - t->len) {
        t->full = true;
        return;
    }
    memcpy(t->buf + t->len, p, n);
    t->len += n;
}

static void put8(struct tables *t, unsigned v)
{
    put(t, &(uint8_t){(uint8_t)v}, 1);
}

static void put16(struct tables *t, unsigned v)
{
    put(t, &(uint16_t){(uint16_t)v}, 2);
}

static void put32(struct tables *t, uint64_t v)
{
    put(t, &(uint32_t){(uint32_t)v}, 4);
}

static void put64(struct tables *t, uint64_t v)
{
    put(t, &v, 8);
}

static void zeros(struct tables *t, size_t n)
{
    while (n-- > 0)
        put8(t, 0);
}

static void align(struct tables *t, size_t to)
{
    while (t->len % to != 0 && !t->full)
        put8(t, 0);
}

static uint8_t checksum(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum = (uint8_t)(sum + p[i]);
    return (uint8_t)-sum;
}

/* Begin a table with its header (5.2.6). Return: its offset. */
static size_t table_begin(struct tables *t, const char *sig, unsigned revision)
{
    align(t, 16);
    size_t at = t->len;
    put(t, sig, 4);
    put32(t, 0); /* length, at the end */
    put8(t, revision);
    put8(t, 0); /* checksum, at the end */
    put(t, "DOPPEL", 6);
    put(t, "DOPPELPC", 8);
    put32(t, 1);
    put(t, CREATOR, 4);
    put32(t, 1);
    return at;
}

/* Return: the table's GPA. */
static uint64_t table_end(struct tables *t, size_t at)
{
    if (t->full)
        return 0;
    uint32_t len = (uint32_t)(t->len - at);
    memcpy(t->buf + at + 4, &len, sizeof len);
    t->buf[at + 9] = checksum(t->buf + at, len);
    return t->base + at;
}

static void list(struct tables *t, uint64_t at)
{
    t->listed[t->n++] = at;
}

/* ---- DSDT ---- */

static void dsdt_prt(struct aml *a)
{
    aml_name(a, "_PRT");
    aml_package(a, PCI_SLOTS * PCI_PINS);
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
        for (unsigned pin = 0; pin < PCI_PINS; pin++) {
            aml_package(a, 4);
            aml_int(a, (uint64_t)slot << 16 | 0xffff); /* all functions */
            aml_int(a, pin);
            aml_int(a, 0); /* no link device: a GSI follows */
            aml_int(a, PC_PCI_GSI_BASE + (slot + pin) % PC_PCI_GSIS);
            aml_end(a);
        }
    aml_end(a);
}

static void dsdt_pci(struct aml *a, bool ecam)
{
    aml_device(a, "PCI0");
    aml_name(a, "_HID");
    aml_eisaid(a, ecam ? "PNP0A08" : "PNP0A03");
    aml_name(a, "_CID");
    aml_eisaid(a, "PNP0A03");
    aml_name(a, "_UID");
    aml_int(a, 0);
    aml_name(a, "_BBN");
    aml_int(a, 0);
    aml_name(a, "_CRS");
    aml_template(a);
    aml_res_bus_window(a, 0, 0);
    aml_res_io(a, 0xcf8, 8);
    aml_res_io_window(a, 0, 0xcf7);
    aml_res_io_window(a, 0xd00, 0xffff);
    aml_res_memory_window(a, (uint32_t)PC_PCI_WINDOW_BASE,
                          (uint32_t)(PC_PCI_WINDOW_END - 1));
    aml_template_end(a);
    dsdt_prt(a);
    aml_end(a);
}

/* An ISA device with one or two ports ranges and an IRQ (-1: none). */
struct isa_dev {
    const char *name, *id; /* @id: EISA id, or a string when longer */
    uint16_t port, port2;
    uint8_t len, len2;
    int irq;
};

static void dsdt_isa(struct aml *a, const struct isa_dev *d)
{
    aml_device(a, d->name);
    aml_name(a, "_HID");
    if (strlen(d->id) == 7)
        aml_eisaid(a, d->id);
    else
        aml_string(a, d->id);
    aml_name(a, "_UID");
    aml_int(a, 1);
    aml_name(a, "_STA");
    aml_int(a, 0xf); /* present, enabled, shown, working */
    aml_name(a, "_CRS");
    aml_template(a);
    aml_res_io(a, d->port, d->len);
    if (d->len2 > 0)
        aml_res_io(a, d->port2, d->len2);
    if (d->irq >= 0)
        aml_res_irq(a, (unsigned)d->irq);
    aml_template_end(a);
    aml_end(a);
}

/* What belongs to no device and must stay free. */
static void dsdt_motherboard(struct aml *a, const struct acpi_conf *c)
{
    aml_device(a, "MBRD");
    aml_name(a, "_HID");
    aml_eisaid(a, "PNP0C02");
    aml_name(a, "_CRS");
    aml_template(a);
    aml_res_io(a, c->pm_port, ACPI_PM_LEN);
    if (!c->no_ecam)
        aml_res_memory(a, (uint32_t)PC_ECAM_BASE, (uint32_t)PC_ECAM_LEN);
    aml_template_end(a);
    aml_end(a);
}

static void dsdt_devices(struct aml *a, const struct acpi_conf *c)
{
    static const struct isa_dev com1 = {"COM1", "PNP0501", PC_COM1_PORT, 0,
                                        8,      0,         PC_COM1_IRQ};
    static const struct isa_dev rtc = {"RTC0", "PNP0B00", RTC_PORT,  0,
                                       2,      0,         PC_RTC_IRQ};
    static const struct isa_dev kbd = {"KBD0", "PNP0303", KBD_DATA,  KBD_CMD,
                                       1,      1,         PC_KBD_IRQ};
    const struct isa_dev pvpanic = {"PEVT", "QEMU0001", c->pvpanic_port, 0, 1,
                                    0,      -1};
    aml_scope(a, "_SB_");
    dsdt_pci(a, !c->no_ecam);
    dsdt_motherboard(a, c);
    dsdt_isa(a, &com1);
    dsdt_isa(a, &rtc);
    if (!c->no_i8042)
        dsdt_isa(a, &kbd);
    if (c->pvpanic_port != 0)
        dsdt_isa(a, &pvpanic);
    aml_end(a);
}

static uint64_t build_dsdt(struct tables *t, const struct acpi_conf *c)
{
    size_t at = table_begin(t, "DSDT", 2);
    struct aml a = {.buf = t->buf, .len = t->len, .room = t->room};
    dsdt_devices(&a, c);
    aml_root_name(&a, "_S5_");
    aml_package(&a, 4);
    aml_int(&a, PC_S5_SLP_TYP); /* PM1a_CNT.SLP_TYP */
    aml_int(&a, 0);
    aml_int(&a, 0);
    aml_int(&a, 0);
    aml_end(&a);
    t->len = a.len;
    t->full = t->full || a.full;
    return table_end(t, at);
}

/* ---- the other tables ---- */

static uint64_t build_facs(struct tables *t)
{
    align(t, 64);
    uint64_t at = t->base + t->len;
    put(t, "FACS", 4);
    put32(t, FACS_BYTES);
    zeros(t, 24);
    put8(t, 2); /* version */
    zeros(t, FACS_BYTES - 33);
    return at;
}

static void put_gas(struct tables *t, unsigned port, unsigned bytes,
                    unsigned access)
{
    if (port == 0) {
        zeros(t, 12);
        return;
    }
    put8(t, GAS_IO);
    put8(t, bytes * 8);
    put8(t, 0);
    put8(t, access);
    put64(t, port);
}

/* The blocks as GASes, in the order of the FADT from offset 148. */
static void fadt_blocks(struct tables *t, const struct acpi_conf *c)
{
    put_gas(t, c->pm_port + ACPI_PM_EVT_OFF, ACPI_PM_EVT_LEN, GAS_WORD);
    put_gas(t, 0, 0, 0); /* PM1b_EVT */
    put_gas(t, c->pm_port + ACPI_PM_CNT_OFF, ACPI_PM_CNT_LEN, GAS_WORD);
    put_gas(t, 0, 0, 0); /* PM1b_CNT */
    put_gas(t, 0, 0, 0); /* PM2_CNT */
    put_gas(t, c->pm_port + ACPI_PM_TMR_OFF, ACPI_PM_TMR_LEN, GAS_DWORD);
    put_gas(t, c->pm_port + ACPI_PM_GPE0_OFF, ACPI_PM_GPE0_LEN, GAS_BYTE);
    put_gas(t, 0, 0, 0); /* GPE1 */
    put_gas(t, 0, 0, 0); /* sleep control, status: hardware-reduced only */
    put_gas(t, 0, 0, 0);
}

static uint64_t build_fadt(struct tables *t, const struct acpi_conf *c,
                           uint64_t facs, uint64_t dsdt)
{
    size_t at = table_begin(t, "FACP", 6);
    put32(t, facs);
    put32(t, dsdt);
    put8(t, 0);
    put8(t, 0); /* preferred profile: unspecified */
    put16(t, c->sci_irq);
    put32(t, 0); /* SMI_CMD: always in ACPI mode */
    zeros(t, 4);
    put32(t, c->pm_port + ACPI_PM_EVT_OFF);
    put32(t, 0);
    put32(t, c->pm_port + ACPI_PM_CNT_OFF);
    put32(t, 0);
    put32(t, 0);
    put32(t, c->pm_port + ACPI_PM_TMR_OFF);
    put32(t, c->pm_port + ACPI_PM_GPE0_OFF);
    put32(t, 0);
    put8(t, ACPI_PM_EVT_LEN);
    put8(t, ACPI_PM_CNT_LEN);
    put8(t, 0);
    put8(t, ACPI_PM_TMR_LEN);
    put8(t, ACPI_PM_GPE0_LEN);
    zeros(t, 3); /* GPE1 length and base, CST_CNT */
    put16(t, NO_C2_US);
    put16(t, NO_C2_US);
    zeros(t, 8); /* flush size and stride, duty cycle, alarms */
    put8(t, CMOS_CENTURY);
    put16(t, BOOT_LEGACY_DEVICES | (c->no_i8042 ? 0 : BOOT_8042) | BOOT_NO_VGA |
                 BOOT_NO_ASPM);
    put8(t, 0);
    /* PWR_BUTTON clear: the power button is in the fixed hardware. */
    put32(t, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC |
                 FADT_TMR_VAL_EXT | FADT_RESET_REG);
    put_gas(t, ACPI_PM_RESET_PORT, 1, GAS_BYTE);
    put8(t, ACPI_PM_RESET_VAL);
    put16(t, 0); /* Arm flags */
    put8(t, 5);  /* minor revision: 6.5 */
    put64(t, 0); /* X_FIRMWARE_CTRL: the 32-bit field is used */
    put64(t, dsdt);
    fadt_blocks(t, c);
    put(t, "DOPPEL\0", 8); /* hypervisor vendor */
    return table_end(t, at);
}

static void madt_override(struct tables *t, unsigned irq, unsigned gsi,
                          unsigned flags)
{
    put8(t, MADT_OVERRIDE);
    put8(t, 10);
    put8(t, 0); /* ISA */
    put8(t, irq);
    put32(t, gsi);
    put16(t, flags);
}

static uint64_t build_madt(struct tables *t, const struct acpi_conf *c)
{
    size_t at = table_begin(t, "APIC", 5);
    put32(t, PC_LAPIC_BASE);
    put32(t, MADT_PCAT);
    for (unsigned i = 0; i < c->ncpus; i++) {
        put8(t, MADT_LAPIC);
        put8(t, 8);
        put8(t, i);  /* processor UID */
        put8(t, i);  /* APIC id */
        put32(t, 1); /* enabled */
    }
    put8(t, MADT_IOAPIC);
    put8(t, 12);
    put8(t, 0); /* id */
    put8(t, 0);
    put32(t, PC_IOAPIC_BASE);
    put32(t, 0); /* first GSI */
    madt_override(t, PC_PIT_IRQ, PC_PIT_GSI, INTI_CONFORMS);
    madt_override(t, c->sci_irq, c->sci_irq, INTI_HIGH_LEVEL);
    put8(t, MADT_LAPIC_NMI);
    put8(t, 6);
    put8(t, 0xff); /* all processors */
    put16(t, INTI_CONFORMS);
    put8(t, 1); /* LINT1 */
    return table_end(t, at);
}

static uint64_t build_mcfg(struct tables *t)
{
    size_t at = table_begin(t, "MCFG", 1);
    zeros(t, 8);
    put64(t, PC_ECAM_BASE);
    put16(t, 0); /* segment */
    put8(t, 0);  /* first bus, last bus: 1 MiB each */
    put8(t, (unsigned)(PC_ECAM_LEN / MIB) - 1);
    put32(t, 0);
    return table_end(t, at);
}

static void build_xsdt(struct tables *t)
{
    size_t at = table_begin(t, "XSDT", 1);
    for (unsigned i = 0; i < t->n; i++)
        put64(t, t->listed[i]);
    uint64_t xsdt = table_end(t, at);
    if (t->full)
        return;
    uint8_t *rsdp = t->buf; /* 5.2.5.3 */
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, "DOPPEL", 6);
    rsdp[15] = 2; /* revision; no RSDT */
    rsdp[20] = RSDP_BYTES;
    memcpy(rsdp + 24, &xsdt, sizeof xsdt);
    rsdp[8] = checksum(rsdp, RSDP_V1_BYTES);
    rsdp[32] = checksum(rsdp, RSDP_BYTES);
}

int acpi_build(const struct acpi_conf *c, uint8_t *buf, size_t room,
               struct err *e)
{
    struct tables t = {.buf = buf, .room = room, .base = c->rsdp.v};
    if (c->rsdp.v % 64 != 0 || c->ncpus == 0 || c->ncpus > 255)
        return err_set(e, -EINVAL, "ACPI: %u CPUs, tables at 0x%llx", c->ncpus,
                       (unsigned long long)c->rsdp.v);
    zeros(&t, RSDP_BYTES);
    uint64_t facs = build_facs(&t);
    uint64_t dsdt = build_dsdt(&t, c);
    list(&t, build_fadt(&t, c, facs, dsdt));
    list(&t, build_madt(&t, c));
    if (!c->no_ecam)
        list(&t, build_mcfg(&t));
    build_xsdt(&t);
    if (t.full)
        return err_set(e, -ENOSPC, "ACPI: the tables need over %zu bytes",
                       room);
    return (int)t.len;
}

int acpi_write(struct mem *mem, const struct acpi_conf *conf, struct err *e)
{
    AUTO_FREE uint8_t *buf = malloc(ACPI_TABLES_MAX_BYTES);
    if (!buf)
        return err_set(e, -ENOMEM, "ACPI: no memory");
    int len = acpi_build(conf, buf, ACPI_TABLES_MAX_BYTES, e);
    if (len < 0)
        return len;
    if (mem_write(mem, conf->rsdp, buf, (size_t)len) < 0)
        return err_set(e, -EFAULT, "ACPI: no RAM for the tables at 0x%llx",
                       (unsigned long long)conf->rsdp.v);
    return 0;
}
