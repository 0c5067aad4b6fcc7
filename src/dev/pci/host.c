// SPDX-License-Identifier: Apache-2.0
/*
 * The host bridge: how a vCPU reaches configuration space. Mechanism #1 (ports
 * 0xcf8 and 0xcfc), the ECAM window, and the reset control register that
 * shares port 0xcf9 with them on PCs.
 *
 *   CONFIG_ADDRESS: 31 enable | 30-24 0 | 23-16 bus | 15-11 device |
 *                   10-8 function | 7-2 register | 1-0 0
 *
 * Source: PCI 3.0 3.2.2.3.2; PCI Express 3.0 7.2.2; 0xcf9: Intel ICH9
 * datasheet 13.7.5 (RST_CNT).
 */
#include "dev/pci/pci_internal.h"

#include <errno.h>

#define CONFIG_PORT     0xcf8
#define CONFIG_PORTS    8
#define CONFIG_ENABLE   0x80000000U
#define CONFIG_WRITABLE 0x80fffffcU

#define RESET_OFF       1 /* 0xcf9 */
#define RESET_SYS       0x02
#define RESET_CPU       0x04
#define RESET_FULL      0x08
#define RESET_WRITABLE  (RESET_SYS | RESET_CPU | RESET_FULL)

#define HOST_VENDOR     0x1b36
#define HOST_DEVICE     0x0008

static uint32_t all_ones(unsigned size)
{
    return (uint32_t)BITS(size * 8 - 1, 0);
}

static struct pci_dev *selected(struct pci_bus *bus)
{
    uint32_t a = bus->config_address;

    if (!(a & CONFIG_ENABLE) || (a >> 16 & 0xff) != 0)
        return NULL;
    return bus->dev[a >> 8 & 0xff];
}

static uint64_t pio_read(void *ctx, uint64_t off, unsigned size)
{
    struct pci_bus *bus = ctx;

    if (off & (size - 1))
        return pci_split_read(pio_read, ctx, off, size);
    if (off >= 4) {
        struct pci_dev *dev = selected(bus);
        unsigned reg = (bus->config_address & 0xfc) + (unsigned)(off & 3);

        return dev ? pci_cfg_read(dev, reg, size) : all_ones(size);
    }
    if (off == 0 && size == 4)
        return bus->config_address;
    if (off == RESET_OFF && size == 1)
        return bus->reset_control;
    return all_ones(size); /* byte and word accesses are not the register's */
}

static void reset_write(struct pci_bus *bus, uint8_t val)
{
    uint8_t old = bus->reset_control;

    bus->reset_control = val & RESET_WRITABLE;
    if (!(old & RESET_CPU) && (val & RESET_CPU))
        vm_request(bus->vm, VM_REQ_RESET, 0);
}

static void pio_write(void *ctx, uint64_t off, uint64_t val, unsigned size)
{
    struct pci_bus *bus = ctx;

    if (off & (size - 1)) {
        pci_split_write(pio_write, ctx, off, val, size);
        return;
    }
    if (off >= 4) {
        struct pci_dev *dev = selected(bus);
        unsigned reg = (bus->config_address & 0xfc) + (unsigned)(off & 3);

        if (dev)
            pci_cfg_write(dev, reg, (uint32_t)val, size);
    } else if (off == 0 && size == 4) {
        bus->config_address = (uint32_t)val & CONFIG_WRITABLE;
    } else if (off == RESET_OFF && size == 1) {
        reset_write(bus, (uint8_t)val);
    }
}

/* One ECAM access of at most a dword. Behind the 256 bytes a function of ours
 * has no extended capabilities: zeroes. */
static uint32_t ecam_read4(struct pci_bus *bus, uint64_t off, unsigned size)
{
    struct pci_dev *dev = bus->dev[off >> 12 & 0xff];
    unsigned reg = (unsigned)(off & (PCI_CFG_EXT_BYTES - 1));

    if (!dev)
        return all_ones(size);
    return reg < PCI_CFG_BYTES ? pci_cfg_read(dev, reg, size) : 0;
}

static uint64_t ecam_read(void *ctx, uint64_t off, unsigned size)
{
    if (off & (size - 1))
        return pci_split_read(ecam_read, ctx, off, size);
    if (size == 8)
        return ecam_read4(ctx, off, 4) | (uint64_t)ecam_read4(ctx, off + 4, 4)
                                             << 32;
    return ecam_read4(ctx, off, size);
}

static void ecam_write4(struct pci_bus *bus, uint64_t off, uint32_t val,
                        unsigned size)
{
    struct pci_dev *dev = bus->dev[off >> 12 & 0xff];
    unsigned reg = (unsigned)(off & (PCI_CFG_EXT_BYTES - 1));

    if (dev && reg < PCI_CFG_BYTES)
        pci_cfg_write(dev, reg, val, size);
}

static void ecam_write(void *ctx, uint64_t off, uint64_t val, unsigned size)
{
    if (off & (size - 1)) {
        pci_split_write(ecam_write, ctx, off, val, size);
    } else if (size == 8) {
        ecam_write4(ctx, off, (uint32_t)val, 4);
        ecam_write4(ctx, off + 4, (uint32_t)(val >> 32), 4);
    } else {
        ecam_write4(ctx, off, (uint32_t)val, size);
    }
}

static int bus_post_load(void *obj, uint32_t version, struct err *e)
{
    struct pci_bus *bus = obj;

    (void)version;
    if (bus->config_address & ~CONFIG_WRITABLE)
        return err_set(e, -EINVAL,
                       "pci: saved CONFIG_ADDRESS 0x%x has reserved bits set",
                       bus->config_address);
    bus->reset_control &= RESET_WRITABLE;
    return 0;
}

static const struct state_field bus_fields[] = {
    SF_U32(pci_bus, config_address),
    SF_U8(pci_bus, reset_control),
    SF_END,
};

static const struct state_desc bus_state = {
    .name = "pci-host",
    .version = 1,
    .min_version = 1,
    .fields = bus_fields,
    .post_load = bus_post_load,
};

static const struct bus_ops pio_ops = {pio_read, pio_write};
static const struct bus_ops ecam_ops = {ecam_read, ecam_write};

static int map_ports(struct pci_bus *bus, struct err *e)
{
    int r;

    bus->pio = (struct bus_region){.start = CONFIG_PORT,
                                   .len = CONFIG_PORTS,
                                   .ops = &pio_ops,
                                   .dev = bus,
                                   .lock = &bus->lock,
                                   .name = "pci-config"};
    r = bus_add(bus->vm->pio, &bus->pio, e);
    if (r < 0)
        return r;
    if (bus->conf.ecam_base == 0)
        return 0;
    bus->ecam = (struct bus_region){.start = bus->conf.ecam_base,
                                    .len = PCI_ECAM_BUS_BYTES,
                                    .ops = &ecam_ops,
                                    .dev = bus,
                                    .lock = &bus->lock,
                                    .name = "pci-ecam"};
    r = bus_add(bus->vm->mmio, &bus->ecam, e);
    if (r < 0) {
        bus_remove(bus->vm->pio, &bus->pio);
        return r;
    }
    bus->ecam_mapped = true;
    return 0;
}

int pci_bus_create(struct vm *vm, const struct pci_bus_conf *conf,
                   struct pci_bus **out, struct err *e)
{
    struct pci_bus *bus = calloc(1, sizeof *bus);
    struct pci_ids ids = {
        .vendor = conf->host_vendor ? conf->host_vendor : HOST_VENDOR,
        .device = conf->host_device ? conf->host_device : HOST_DEVICE,
        .class_code = PCI_CLASS_HOST_BRIDGE};
    int r;

    if (!bus)
        return err_set(e, -ENOMEM, "pci: no memory for the bus");
    bus->vm = vm;
    bus->conf = *conf;
    pthread_mutex_init(&bus->lock, NULL);
    pci_dev_init(&bus->host, "pci-host-bridge", &ids, NULL, bus);
    r = map_ports(bus, e);
    if (r < 0)
        goto fail_free;
    r = state_list_add(vm->state, &bus_state, 0, bus);
    if (r < 0) {
        err_set(e, r, "pci: no memory for the state list");
        goto fail_unmap;
    }
    r = pci_dev_add(bus, &bus->host, 0, (struct irq_line){0}, e);
    if (r < 0)
        goto fail_unmap;
    *out = bus;
    return 0;

fail_unmap:
    if (bus->ecam_mapped)
        bus_remove(vm->mmio, &bus->ecam);
    bus_remove(vm->pio, &bus->pio);
fail_free:
    pci_dev_remove(&bus->host);
    pthread_mutex_destroy(&bus->lock);
    free(bus);
    return r;
}

void pci_bus_destroy(struct pci_bus *bus)
{
    if (!bus)
        return;
    pci_dev_remove(&bus->host);
    if (bus->ecam_mapped)
        bus_remove(bus->vm->mmio, &bus->ecam);
    bus_remove(bus->vm->pio, &bus->pio);
    pthread_mutex_destroy(&bus->lock);
    free(bus);
}

void pci_bus_reset(struct pci_bus *bus)
{
    bus->config_address = 0;
    bus->reset_control = 0;
    for (unsigned i = 0; i < PCI_FUNCTIONS; i++) {
        if (bus->dev[i])
            pci_dev_reset(bus->dev[i]);
    }
}
