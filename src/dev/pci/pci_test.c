// SPDX-License-Identifier: Apache-2.0
/* Configuration accesses, BARs, MSI-X and INTx, driven as a vCPU would. */
#include "dev/pci/pci.h"

#include "base/test.h"

#include <errno.h>

#define ECAM 0xb0000000U
#define WIN  0xc0000000U

struct rig {
    struct vm vm;
    struct pci_bus *bus;
    struct pci_dev dev;
    struct pci_dev other;
    unsigned msis;
    uint64_t msi_addr;
    uint32_t msi_data;
    bool line;
    unsigned line_edges;
    unsigned resets;
    unsigned reset_code;
    uint8_t reg[32];
    unsigned commands;
};

static uint64_t reg_read(void *ctx, uint64_t off, unsigned size)
{
    struct rig *r = ctx;
    uint64_t v = 0;

    memcpy(&v, r->reg + (off & 31), size);
    return v;
}

static void reg_write(void *ctx, uint64_t off, uint64_t val, unsigned size)
{
    struct rig *r = ctx;

    memcpy(r->reg + (off & 31), &val, size);
}

static const struct bus_ops reg_ops = {reg_read, reg_write};

static void msi_send(void *ctx, uint64_t addr, uint32_t data)
{
    struct rig *r = ctx;

    r->msis++;
    r->msi_addr = addr;
    r->msi_data = data;
}

static void line_set(void *ctx, unsigned pin, bool level)
{
    struct rig *r = ctx;

    (void)pin;
    r->line = level;
    r->line_edges++;
}

static void request(void *ctx, enum vm_request req, uint32_t code)
{
    struct rig *r = ctx;

    (void)code;
    r->resets += req == VM_REQ_RESET;
}

static void command_changed(void *ctx)
{
    ((struct rig *)ctx)->commands++;
}

static const struct pci_dev_ops dev_ops = {.command_changed = command_changed};

static void rig_devices(struct rig *r)
{
    struct pci_ids ids = {.vendor = 0x1af4,
                          .device = 0x1042,
                          .revision = 1,
                          .class_code = PCI_CLASS_STORAGE_OTHER};

    pci_dev_init(&r->dev, "test", &ids, &dev_ops, r);
    pci_bar_add(&r->dev, 0, PCI_BAR_MEM64, 0x8000, &reg_ops, r, NULL);
    pci_bar_add(&r->dev, 2, PCI_BAR_MEM32, 0x1000, &reg_ops, r, NULL);
    pci_bar_add(&r->dev, 3, PCI_BAR_IO, 0x20, &reg_ops, r, NULL);
    pci_msix_add(&r->dev, 3, 0, 0x4000, 0x5000);
    CHECK(pci_cap_add(&r->dev, PCI_CAP_VENDOR, 20) == 0x4c);
    CHECK_EQ(pci_dev_add(r->bus, &r->dev, PCI_DEVFN(3, 0),
                         (struct irq_line){line_set, r, 1}, NULL),
             0);
    pci_dev_init(&r->other, "other", &ids, NULL, r);
    pci_bar_add(&r->other, 0, PCI_BAR_MEM32, 0x1000, &reg_ops, r, NULL);
    CHECK_EQ(pci_dev_add(r->bus, &r->other, PCI_DEVFN(4, 0),
                         (struct irq_line){0}, NULL),
             0);
}

static struct rig *rig_new(void)
{
    struct rig *r = calloc(1, sizeof *r);
    struct mem_conf mc = {.ram_bytes = MIB, .low_limit = MIB, .memfd = -1};
    struct pci_bus_conf pc = {.ecam_base = ECAM,
                              .mmio_base = WIN,
                              .mmio_limit = 0xfec00000,
                              .io_base = 0xc000,
                              .io_limit = 0x10000};
    struct mem *mem;
    struct clock *clk = clock_create(CLOCK_MODE_VIRTUAL, 1000000, 0);

    if (mem_create(&mc, &mem, NULL) < 0 ||
        vm_init(&r->vm, mem, clk, NULL) < 0 ||
        pci_bus_create(&r->vm, &pc, &r->bus, NULL) < 0)
        abort();
    r->vm.msi = (struct irq_msi){msi_send, r};
    r->vm.request = request;
    r->vm.request_ctx = r;
    rig_devices(r);
    return r;
}

static void rig_free(struct rig *r)
{
    pci_dev_remove(&r->dev);
    pci_dev_remove(&r->other);
    pci_bus_destroy(r->bus);
    vm_fini(&r->vm);
    free(r);
}

static uint32_t cf_addr(unsigned slot, unsigned reg)
{
    return 0x80000000U | slot << 11 | (reg & 0xfc);
}

static uint32_t cf_read(struct rig *r, unsigned slot, unsigned reg,
                        unsigned size)
{
    bus_write(r->vm.pio, 0xcf8, cf_addr(slot, reg), 4);
    return (uint32_t)bus_read(r->vm.pio, 0xcfc + (reg & 3), size);
}

static void cf_write(struct rig *r, unsigned slot, unsigned reg, uint32_t val,
                     unsigned size)
{
    bus_write(r->vm.pio, 0xcf8, cf_addr(slot, reg), 4);
    bus_write(r->vm.pio, 0xcfc + (reg & 3), val, size);
}

TEST(mechanism_1)
{
    struct rig *r = rig_new();

    CHECK_EQ(cf_read(r, 3, 0, 4), 0x10421af4);
    CHECK_EQ(cf_read(r, 3, 2, 2), 0x1042);
    CHECK_EQ(cf_read(r, 3, 1, 1), 0x1a);
    CHECK_EQ(cf_read(r, 3, PCI_CLASS_PROG + 2, 1), 0x01);
    CHECK_EQ(cf_read(r, 0, 0x0a, 2), 0x0600);
    CHECK_EQ(cf_read(r, 5, 0, 4), 0xffffffff);
    CHECK_EQ(cf_read(r, 5, 1, 1), 0xff);
    /* Another bus; enable clear; reserved bits and low bits read as zero. */
    bus_write(r->vm.pio, 0xcf8, cf_addr(3, 0) | 1 << 16, 4);
    CHECK_EQ(bus_read(r->vm.pio, 0xcfc, 4), 0xffffffff);
    bus_write(r->vm.pio, 0xcf8, 3 << 11, 4);
    CHECK_EQ(bus_read(r->vm.pio, 0xcfc, 4), 0xffffffff);
    bus_write(r->vm.pio, 0xcf8, 0xffffffff, 4);
    CHECK_EQ(bus_read(r->vm.pio, 0xcf8, 4), 0x80fffffc);
    /* Narrow accesses are not the address register's. */
    bus_write(r->vm.pio, 0xcf8, cf_addr(3, 0), 4);
    bus_write(r->vm.pio, 0xcf8, 0, 1);
    bus_write(r->vm.pio, 0xcfa, 0, 2);
    CHECK_EQ(bus_read(r->vm.pio, 0xcf8, 4), cf_addr(3, 0));
    CHECK_EQ(bus_read(r->vm.pio, 0xcf8, 1), 0xff);
    CHECK_EQ(bus_read(r->vm.pio, 0xcf8, 2), 0xffff);
    /* Not aligned: bytes. */
    CHECK_EQ(bus_read(r->vm.pio, 0xcfd, 2), 0x421a);
    rig_free(r);
}

TEST(ecam_shows_the_same)
{
    struct rig *r = rig_new();
    uint64_t at = ECAM + (PCI_DEVFN(3, 0) << 12);

    CHECK_EQ(bus_read(r->vm.mmio, at, 4), 0x10421af4);
    CHECK_EQ(bus_read(r->vm.mmio, at, 8),
             cf_read(r, 3, 4, 4) * (1ULL << 32) + 0x10421af4);
    bus_write(r->vm.mmio, at + PCI_INT_LINE, 11, 1);
    CHECK_EQ(cf_read(r, 3, PCI_INT_LINE, 1), 11);
    CHECK_EQ(bus_read(r->vm.mmio, at + 0x100, 4), 0);
    CHECK_EQ(bus_read(r->vm.mmio, at + 0xffe, 2), 0);
    CHECK_EQ(bus_read(r->vm.mmio, ECAM + (PCI_DEVFN(9, 0) << 12), 4),
             0xffffffff);
    CHECK_EQ(bus_read(r->vm.mmio, at + 1, 2), 0x421a); /* not aligned */
    rig_free(r);
}

TEST(reset_register)
{
    struct rig *r = rig_new();

    bus_write(r->vm.pio, 0xcf9, 0x02, 1);
    CHECK_EQ(r->resets, 0);
    bus_write(r->vm.pio, 0xcf9, 0x06, 1);
    CHECK_EQ(r->resets, 1);
    CHECK_EQ(bus_read(r->vm.pio, 0xcf9, 1), 0x06);
    bus_write(r->vm.pio, 0xcf9, 0x06, 1);
    CHECK_EQ(r->resets, 1);
    rig_free(r);
}

TEST(read_only_bits_stay)
{
    struct rig *r = rig_new();

    for (unsigned reg = 0; reg < 256; reg += 4) {
        uint32_t before = cf_read(r, 3, reg, 4);

        if (reg == PCI_COMMAND || (reg >= 0x10 && reg < 0x20) || reg == 0x40)
            continue;
        cf_write(r, 3, reg, ~before, 4);
        if (reg == PCI_CACHE_LINE || reg == PCI_INT_LINE)
            CHECK_EQ(cf_read(r, 3, reg, 4) & ~0xffU, before & ~0xffU);
        else
            CHECK_EQ(cf_read(r, 3, reg, 4), before);
    }
    cf_write(r, 3, PCI_COMMAND, 0xffffffff, 4);
    CHECK_EQ(cf_read(r, 3, PCI_COMMAND, 2), 0x0547);
    CHECK_EQ(cf_read(r, 3, PCI_STATUS, 2), PCI_STATUS_CAPS);
    CHECK_EQ(r->commands, 1);
    cf_write(r, 0, PCI_COMMAND, 0xffff, 2);
    CHECK_EQ(cf_read(r, 0, PCI_COMMAND, 2), 0x0544); /* no BARs */
    rig_free(r);
}

TEST(capability_list)
{
    struct rig *r = rig_new();
    unsigned cap = cf_read(r, 3, PCI_CAP_PTR, 1);

    CHECK_EQ(cap, 0x40);
    CHECK_EQ(cf_read(r, 3, cap, 1), PCI_CAP_MSIX);
    CHECK_EQ(cf_read(r, 3, cap + PCI_MSIX_CTRL, 2), 2); /* three vectors */
    CHECK_EQ(cf_read(r, 3, cap + PCI_MSIX_TABLE, 4), 0x4000);
    CHECK_EQ(cf_read(r, 3, cap + PCI_MSIX_PBA, 4), 0x5000);
    cap = cf_read(r, 3, cap + 1, 1);
    CHECK_EQ(cap, 0x4c);
    CHECK_EQ(cf_read(r, 3, cap, 1), PCI_CAP_VENDOR);
    CHECK_EQ(cf_read(r, 3, cap + 1, 1), 0);
    rig_free(r);
}

TEST(bar_sizing)
{
    struct rig *r = rig_new();

    CHECK_EQ(pci_bus_assign(r->bus, NULL), 0);
    cf_write(r, 3, PCI_COMMAND, 0, 2);
    cf_write(r, 3, 0x10, 0xffffffff, 4);
    cf_write(r, 3, 0x14, 0xffffffff, 4);
    CHECK_EQ(cf_read(r, 3, 0x10, 4), 0xffff8004);
    CHECK_EQ(cf_read(r, 3, 0x14, 4), 0xffffffff);
    cf_write(r, 3, 0x18, 0xffffffff, 4);
    CHECK_EQ(cf_read(r, 3, 0x18, 4), 0xfffff000);
    cf_write(r, 3, 0x1c, 0xffffffff, 4);
    CHECK_EQ(cf_read(r, 3, 0x1c, 4), 0xffffffe1);
    cf_write(r, 3, 0x20, 0xffffffff, 4);
    CHECK_EQ(cf_read(r, 3, 0x20, 4), 0);
    CHECK_EQ(pci_bar_base(&r->dev, 0), 0);
    /* Sizing with decoding on maps nothing either. */
    cf_write(r, 3, PCI_COMMAND, 3, 2);
    for (unsigned i = 0; i < PCI_BARS; i++)
        CHECK_EQ(pci_bar_base(&r->dev, i), 0);
    rig_free(r);
}

TEST(assign_and_decode)
{
    struct rig *r = rig_new();
    uint64_t base, io;

    CHECK_EQ(pci_bus_assign(r->bus, NULL), 0);
    base = pci_bar_base(&r->dev, 0);
    io = pci_bar_base(&r->dev, 3);
    CHECK_EQ(base, WIN);
    CHECK_EQ(pci_bar_base(&r->dev, 2), WIN + 0x8000);
    CHECK_EQ(pci_bar_base(&r->other, 0), WIN + 0x9000);
    CHECK_EQ(io, 0xc000);
    bus_write(r->vm.mmio, base + 4, 0x12345678, 4);
    CHECK_EQ(bus_read(r->vm.pio, io + 4, 4), 0x12345678);
    /* Decoding off: nobody answers. */
    cf_write(r, 3, PCI_COMMAND, PCI_CMD_IO, 2);
    CHECK_EQ(bus_read(r->vm.mmio, base + 4, 4), 0xffffffff);
    CHECK_EQ(bus_read(r->vm.pio, io + 4, 4), 0x12345678);
    cf_write(r, 3, PCI_COMMAND, PCI_CMD_MEM, 2);
    CHECK_EQ(bus_read(r->vm.mmio, base + 4, 4), 0x12345678);
    CHECK_EQ(bus_read(r->vm.pio, io + 4, 4), 0xffffffff);
    /* Move; also above 4 GiB. */
    cf_write(r, 3, 0x10, 0xd0000000, 4);
    CHECK_EQ(bus_read(r->vm.mmio, base + 4, 4), 0xffffffff);
    CHECK_EQ(bus_read(r->vm.mmio, 0xd0000004, 4), 0x12345678);
    cf_write(r, 3, 0x14, 0x80, 4);
    CHECK_EQ(pci_bar_base(&r->dev, 0), 0x80d0000000);
    CHECK_EQ(bus_read(r->vm.mmio, 0x80d0000004, 4), 0x12345678);
    rig_free(r);
}

TEST(bar_conflict_heals)
{
    struct rig *r = rig_new();

    CHECK_EQ(pci_bus_assign(r->bus, NULL), 0);
    cf_write(r, 4, 0x10, WIN, 4); /* on top of the first device */
    CHECK_EQ(pci_bar_base(&r->other, 0), 0);
    CHECK_EQ(pci_bar_base(&r->dev, 0), WIN);
    cf_write(r, 3, 0x10, 0xd0000000, 4);
    CHECK_EQ(pci_bar_base(&r->dev, 0), 0xd0000000);
    CHECK_EQ(pci_bar_base(&r->other, 0), WIN);
    rig_free(r);
}

TEST(window_too_small)
{
    struct rig *r = rig_new();
    struct pci_dev big;
    struct pci_ids ids = {.vendor = 1};
    struct err e = {{0}};

    pci_dev_init(&big, "big", &ids, NULL, NULL);
    pci_bar_add(&big, 0, PCI_BAR_MEM32, GIB, &reg_ops, r, NULL);
    CHECK_EQ(
        pci_dev_add(r->bus, &big, PCI_DEVFN(9, 0), (struct irq_line){0}, NULL),
        0);
    CHECK_EQ(pci_bus_assign(r->bus, &e), -ENOSPC);
    CHECK(strstr(e.text, "big: no room for BAR 0") != NULL);
    CHECK_EQ(
        pci_dev_add(r->bus, &big, PCI_DEVFN(3, 0), (struct irq_line){0}, &e),
        -EEXIST);
    pci_dev_remove(&big);
    rig_free(r);
}

static void msix_on(struct rig *r, uint16_t ctrl)
{
    cf_write(r, 3, PCI_COMMAND, PCI_CMD_MEM | PCI_CMD_MASTER, 2);
    cf_write(r, 3, 0x42, ctrl, 2);
}

static void vector_write(struct rig *r, unsigned v, uint32_t data,
                         uint32_t mask)
{
    pci_msix_table_write(&r->dev, v * 16, 0xfee01000, 8);
    pci_msix_table_write(&r->dev, v * 16 + 8, data, 4);
    pci_msix_table_write(&r->dev, v * 16 + 12, mask, 4);
}

TEST(msix_masks)
{
    struct rig *r = rig_new();

    vector_write(r, 0, 0x41, 0);
    vector_write(r, 1, 0x42, 1);
    pci_msix_send(&r->dev, 0); /* off */
    CHECK_EQ(r->msis, 0);
    CHECK_EQ(pci_msix_pba_read(&r->dev, 0, 8), 0);
    msix_on(r, PCI_MSIX_CTRL_ENABLE);
    CHECK(pci_msix_enabled(&r->dev));
    pci_msix_send(&r->dev, 0);
    CHECK_EQ(r->msis, 1);
    CHECK_EQ(r->msi_addr, 0xfee01000);
    CHECK_EQ(r->msi_data, 0x41);
    pci_msix_send(&r->dev, 3); /* no such vector */
    pci_msix_send(&r->dev, 1); /* masked: pending, once */
    pci_msix_send(&r->dev, 1);
    CHECK_EQ(r->msis, 1);
    CHECK_EQ(pci_msix_pba_read(&r->dev, 0, 4), 2);
    pci_msix_table_write(&r->dev, 16 + 12, 0, 4);
    CHECK_EQ(r->msis, 2);
    CHECK_EQ(r->msi_data, 0x42);
    CHECK_EQ(pci_msix_pba_read(&r->dev, 0, 8), 0);
    /* The whole function masked. */
    cf_write(r, 3, 0x42, PCI_MSIX_CTRL_ENABLE | PCI_MSIX_CTRL_MASK_ALL, 2);
    pci_msix_send(&r->dev, 0);
    pci_msix_send(&r->dev, 1);
    CHECK_EQ(r->msis, 2);
    CHECK_EQ(pci_msix_pba_read(&r->dev, 0, 1), 3);
    cf_write(r, 3, 0x42, PCI_MSIX_CTRL_ENABLE, 2);
    CHECK_EQ(r->msis, 4);
    /* No bus mastering, no messages. */
    cf_write(r, 3, PCI_COMMAND, PCI_CMD_MEM, 2);
    pci_msix_send(&r->dev, 0);
    CHECK_EQ(r->msis, 4);
    cf_write(r, 3, PCI_COMMAND, PCI_CMD_MEM | PCI_CMD_MASTER, 2);
    CHECK_EQ(r->msis, 5);
    rig_free(r);
}

TEST(msix_table_rules)
{
    struct rig *r = rig_new();

    CHECK_EQ(pci_msix_table_read(&r->dev, 12, 4), 1); /* masked at reset */
    pci_msix_table_write(&r->dev, 0, UINT64_MAX, 8);
    pci_msix_table_write(&r->dev, 8, UINT64_MAX, 8);
    CHECK_EQ(pci_msix_table_read(&r->dev, 0, 8), 0xfffffffffffffffc);
    CHECK_EQ(pci_msix_table_read(&r->dev, 8, 8), 0x1ffffffff);
    pci_msix_table_write(&r->dev, 8, 0, 2); /* too narrow */
    pci_msix_table_write(&r->dev, 2, 0, 4); /* not aligned */
    CHECK_EQ(pci_msix_table_read(&r->dev, 0, 4), 0xfffffffc);
    CHECK_EQ(pci_msix_table_read(&r->dev, 8, 4), 0xffffffff);
    pci_msix_table_write(&r->dev, 48, 1, 4); /* beyond three vectors */
    CHECK_EQ(pci_msix_table_read(&r->dev, 48, 4), 0);
    CHECK_EQ(pci_msix_pba_read(&r->dev, 8, 8), 0);
    rig_free(r);
}

TEST(intx)
{
    struct rig *r = rig_new();

    CHECK_EQ(cf_read(r, 3, PCI_INT_PIN, 1), 1);
    CHECK_EQ(cf_read(r, 4, PCI_INT_PIN, 1), 0);
    pci_intx_set(&r->dev, true);
    CHECK(r->line);
    CHECK_EQ(cf_read(r, 3, PCI_STATUS, 2), PCI_STATUS_CAPS | PCI_STATUS_INTX);
    CHECK_EQ(cf_read(r, 3, PCI_COMMAND, 4) >> 16,
             PCI_STATUS_CAPS | PCI_STATUS_INTX);
    cf_write(r, 3, PCI_COMMAND, PCI_CMD_INTX_OFF, 2);
    CHECK(!r->line); /* but still reported */
    CHECK_EQ(cf_read(r, 3, PCI_STATUS, 1), PCI_STATUS_CAPS | PCI_STATUS_INTX);
    cf_write(r, 3, PCI_COMMAND, 0, 2);
    CHECK(r->line);
    msix_on(r, PCI_MSIX_CTRL_ENABLE);
    CHECK(!r->line);
    CHECK_EQ(cf_read(r, 3, PCI_STATUS, 1), PCI_STATUS_CAPS);
    msix_on(r, 0);
    CHECK(r->line);
    pci_intx_set(&r->dev, false);
    CHECK(!r->line);
    CHECK_EQ(r->line_edges, 6);
    rig_free(r);
}

TEST(or_gate)
{
    struct rig *r = rig_new();
    struct pci_irq_or gate;
    struct irq_line a, b;

    pci_irq_or_init(&gate, (struct irq_line){line_set, r, 0});
    a = pci_irq_or_input(&gate);
    b = pci_irq_or_input(&gate);
    irq_line_set(&a, true);
    irq_line_set(&b, true);
    irq_line_set(&a, false);
    CHECK(r->line);
    irq_line_set(&b, false);
    CHECK(!r->line);
    rig_free(r);
}

TEST(state_round_trip)
{
    struct rig *r = rig_new(), *s = rig_new();
    struct state_buf b = {0};
    struct err e = {{0}};

    CHECK_EQ(pci_bus_assign(r->bus, NULL), 0);
    cf_write(r, 3, 0x10, 0xd0000000, 4);
    msix_on(r, PCI_MSIX_CTRL_ENABLE);
    vector_write(r, 2, 0x55, 1);
    pci_msix_send(&r->dev, 2);
    bus_write(r->vm.pio, 0xcf8, cf_addr(3, 0x40), 4);
    CHECK_EQ(state_list_save(r->vm.state, &b, NULL), 0);
    CHECK_EQ(state_list_load(s->vm.state, &b, &e), 0);
    CHECK_EQ(pci_bar_base(&s->dev, 0), 0xd0000000);
    CHECK_EQ(bus_read(s->vm.pio, 0xcf8, 4), cf_addr(3, 0x40));
    pci_msix_table_write(&s->dev, 2 * 16 + 12, 0, 4);
    CHECK_EQ(s->msis, 1);
    CHECK_EQ(s->msi_data, 0x55);
    state_buf_fini(&b);
    rig_free(r);
    rig_free(s);
}

TEST(state_of_another_device)
{
    struct rig *r = rig_new(), *s = rig_new();
    struct state_buf b = {0};
    struct err e = {{0}};

    r->dev.cfg[PCI_DEVICE_ID] = 0x41;
    CHECK_EQ(state_list_save(r->vm.state, &b, NULL), 0);
    CHECK_EQ(state_list_load(s->vm.state, &b, &e), -EINVAL);
    CHECK(strstr(e.text, "byte 0x02 is 0x41, this device has 0x42") != NULL);
    state_buf_fini(&b);
    rig_free(r);
    rig_free(s);
}

TEST(bus_reset)
{
    struct rig *r = rig_new();

    CHECK_EQ(pci_bus_assign(r->bus, NULL), 0);
    msix_on(r, PCI_MSIX_CTRL_ENABLE);
    vector_write(r, 0, 1, 0);
    pci_intx_set(&r->dev, true);
    pci_bus_reset(r->bus);
    CHECK_EQ(pci_bar_base(&r->dev, 0), 0);
    CHECK_EQ(cf_read(r, 3, PCI_COMMAND, 2), 0);
    CHECK(!pci_msix_enabled(&r->dev));
    CHECK_EQ(pci_msix_table_read(&r->dev, 12, 4), 1);
    CHECK(!r->line);
    CHECK_EQ(pci_bus_assign(r->bus, NULL), 0);
    CHECK_EQ(pci_bar_base(&r->dev, 0), WIN);
    rig_free(r);
}

/* clang-format off */
TEST_MAIN(CASE(mechanism_1), CASE(ecam_shows_the_same), CASE(reset_register),
          CASE(read_only_bits_stay), CASE(capability_list), CASE(bar_sizing),
          CASE(assign_and_decode), CASE(bar_conflict_heals),
          CASE(window_too_small), CASE(msix_masks), CASE(msix_table_rules),
          CASE(intx), CASE(or_gate), CASE(state_round_trip),
          CASE(state_of_another_device), CASE(bus_reset))
