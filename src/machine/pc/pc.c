// SPDX-License-Identifier: Apache-2.0
/*
 * The PC's wiring; see pc.h. Interrupt lines of the ISA devices go to the
 * 8259 pair and the I/O APIC at once, as on a board; PCI's go to the I/O APIC.
 * The 8259's INTR ends at LINT0 of the BSP.
 */
#include "machine/pc/pc.h"

#include "cpu/x86/lapic.h"
#include "dev/acpi-pm/acpi_pm.h"
#include "dev/debug-exit/debug_exit.h"
#include "dev/i8042/i8042.h"
#include "dev/i8254/i8254.h"
#include "dev/i8259/i8259.h"
#include "dev/ioapic/ioapic.h"
#include "dev/pci/pci.h"
#include "dev/pvpanic/pvpanic.h"
#include "dev/rtc/rtc.h"
#include "dev/uart16550/uart16550.h"
#include "dev/virtio-blk/virtio_blk.h"
#include "machine/pc/acpi.h"
#include "machine/pc/memmap.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

/* Virtual mode: 2024-01-01 00:00:00 UTC, so that a run repeats exactly. */
#define VIRTUAL_WALL_NS (UINT64_C(1704067200) * NS_PER_S)

struct pc {
    struct vm vm;
    struct x86_topology topo;
    struct x86_cpuid cpuid;
    struct i8259 *pic;
    struct ioapic *ioapic;
    struct i8254 *pit;
    struct i8042 *kbc;
    struct rtc *rtc;
    struct acpi_pm *pm;
    struct uart16550 *com1;
    struct pvpanic *pvpanic;
    struct debug_exit *debug_exit;
    struct pci_bus *pci;
    struct pci_irq_or pci_gsi[PC_PCI_GSIS];
    struct virtio_blk *blk[PC_DISKS_MAX];
    struct {
        uint64_t now_ns, tsc;
    } time; /* as saved */
};

/* ---- interrupt wiring ---- */

/* An ISA interrupt: IRQ 0 is pin 2 of the I/O APIC (MADT override). */
static void isa_irq(void *ctx, unsigned irq, bool level)
{
    struct pc *pc = ctx;

    i8259_set_line(pc->pic, irq, level);
    ioapic_set_line(pc->ioapic, irq == PC_PIT_IRQ ? PC_PIT_GSI : irq, level);
}

static struct irq_line isa_line(struct pc *pc, unsigned irq)
{
    return (struct irq_line){.set = isa_irq, .ctx = pc, .pin = irq};
}

/* INTR of the master 8259: a level at LINT0 of the BSP. */
static void intr(void *ctx, bool level)
{
    struct pc *pc = ctx;
    struct x86_cpu *bsp = pc->topo.cpu[0];

    if (!bsp)
        return; /* still being built */
    if (level)
        kick_request(&bsp->kick, KICK_EXTINT);
    else
        kick_clear(&bsp->kick, KICK_EXTINT);
}

/* An ExtINT message (from the I/O APIC, or by MSI) raises the same request bit
 * as the 8259's level does; it ends with the cycle that it caused. */
static uint8_t intack(void *ctx)
{
    struct pc *pc = ctx;
    uint8_t vector = i8259_intack(pc->pic);

    for (unsigned i = 0; i < pc->topo.ncpus; i++)
        if (pc->topo.cpu[i])
            kick_clear(&pc->topo.cpu[i]->kick, KICK_EXTINT);
    if (i8259_intr(pc->pic))
        kick_request(&pc->topo.cpu[0]->kick, KICK_EXTINT);
    return vector;
}

static void eoi(void *ctx, uint8_t vector)
{
    struct pc *pc = ctx;

    ioapic_eoi(pc->ioapic, vector);
}

/* A message elsewhere is a plain memory write, which no driver asks for and
 * which is dropped: locks are held here that memory's listeners may wait for.
 */
static void msi_send(void *ctx, uint64_t addr, uint32_t data)
{
    struct pc *pc = ctx;

    if (addr >> 20 == PC_LAPIC_BASE >> 20)
        x86_lapic_msi(&pc->topo, addr, data);
}

/* ---- construction ---- */

static int create_vm(struct pc *pc, const struct pc_conf *conf, struct err *e)
{
    struct mem_conf mc = {.ram_bytes = conf->ram_bytes,
                          .low_limit = PC_LOW_LIMIT,
                          .scatter = conf->scatter,
                          .seed = conf->seed,
                          .memfd = -1,
                          .fresh = conf->ram_fresh};
    struct clock *clk;
    struct mem *mem;
    int r;

    if (conf->ram_fd >= 0) {
        mc.memfd = fcntl(conf->ram_fd, F_DUPFD_CLOEXEC, 3);
        if (mc.memfd < 0)
            return err_set(e, -errno, "memory: dup: %m");
    }
    r = mem_create(&mc, &mem, e);
    if (r) {
        if (mc.memfd >= 0)
            close(mc.memfd);
        return r;
    }
    clk = clock_create(conf->clock, conf->tsc_khz, VIRTUAL_WALL_NS);
    r = clk ? vm_init(&pc->vm, mem, clk, e)
            : err_set(e, -ENOMEM, "clock: out of memory");
    if (r) {
        mem_destroy(mem);
        clock_destroy(clk);
        return r;
    }
    pc->vm.request = conf->request;
    pc->vm.request_ctx = conf->request_ctx;
    pc->vm.msi = (struct irq_msi){.send = msi_send, .ctx = pc};
    return 0;
}

static int create_cpus(struct pc *pc, const struct pc_conf *conf, struct err *e)
{
    struct x86_cpuid_conf cc = {.level = conf->level,
                                .ncpus = conf->ncpus,
                                .tsc_khz = clock_tsc_khz(pc->vm.clock),
                                .mitigations = conf->mitigations};
    int r = x86_cpuid_build(&cc, &pc->cpuid, e);

    if (r)
        return r;
    pc->topo.intack = intack;
    pc->topo.eoi = eoi;
    pc->topo.ctx = pc;
    pc->topo.ncpus = conf->ncpus;
    for (unsigned i = 0; i < conf->ncpus; i++) {
        struct x86_cpu *cpu = aligned_alloc(64, ALIGN_UP(sizeof *cpu, 64));

        if (!cpu)
            return err_set(e, -ENOMEM, "vcpu %u: out of memory", i);
        memset(cpu, 0, sizeof *cpu);
        x86_cpu_init(cpu, i, &pc->vm, &pc->topo, &pc->cpuid);
        boot_cpu_firmware(cpu);
        pc->topo.cpu[i] = cpu;
        if (state_list_add(pc->vm.state, &x86_cpu_state, i, cpu))
            return err_set(e, -ENOMEM, "vcpu %u: out of memory", i);
    }
    return 0;
}

static int create_irqchips(struct pc *pc, struct err *e)
{
    struct i8259_conf pic = {.intr = intr, .ctx = pc};
    struct ioapic_conf io = {.base = PC_IOAPIC_BASE};
    int r = i8259_create(&pc->vm, &pic, &pc->pic, e);

    return r ? r : ioapic_create(&pc->vm, &io, &pc->ioapic, e);
}

static int create_chipset(struct pc *pc, const struct pc_conf *conf,
                          struct err *e)
{
    struct i8254_conf pit = {.irq = isa_line(pc, PC_PIT_IRQ)};
    struct i8042_conf kbc = {.irq = isa_line(pc, PC_KBD_IRQ)};
    struct rtc_conf rtc = {.irq = isa_line(pc, PC_RTC_IRQ),
                           .ram_below_4g_bytes = mem_low_bytes(pc->vm.mem),
                           .ram_above_4g_bytes = mem_high_bytes(pc->vm.mem)};
    struct acpi_pm_conf pm = {.port = PC_PM_PORT,
                              .reset_port = 0, /* the PCI host bridge has it */
                              .s5_slp_typ = PC_S5_SLP_TYP,
                              .timer_32bit = true,
                              .sci = isa_line(pc, PC_SCI_IRQ)};
    struct uart16550_conf com1 = {.port = PC_COM1_PORT,
                                  .irq = isa_line(pc, PC_COM1_IRQ),
                                  .chr = conf->console};
    struct pvpanic_conf pv = {.port = PVPANIC_PORT};
    int r = i8254_create(&pc->vm, &pit, &pc->pit, e);

    r = r ? r : i8042_create(&pc->vm, &kbc, &pc->kbc, e);
    r = r ? r : rtc_create(&pc->vm, &rtc, &pc->rtc, e);
    r = r ? r : acpi_pm_create(&pc->vm, &pm, &pc->pm, e);
    r = r ? r : uart16550_create(&pc->vm, &com1, &pc->com1, e);
    r = r ? r : pvpanic_create(&pc->vm, &pv, &pc->pvpanic, e);
    if (!r && conf->debug_exit_port >= 0) {
        struct debug_exit_conf de = {.port = (uint16_t)conf->debug_exit_port};

        r = debug_exit_create(&pc->vm, &de, &pc->debug_exit, e);
    }
    return r;
}

/* ---- PCI ---- */

static int create_pci(struct pc *pc, const struct pc_conf *conf, struct err *e)
{
    struct pci_bus_conf bc = {.ecam_base = PC_ECAM_BASE,
                              .mmio_base = PC_PCI_WINDOW_BASE,
                              .mmio_limit = PC_PCI_WINDOW_END};
    int r = pci_bus_create(&pc->vm, &bc, &pc->pci, e);

    for (unsigned i = 0; i < PC_PCI_GSIS; i++)
        pci_irq_or_init(&pc->pci_gsi[i],
                        (struct irq_line){.set = ioapic_set_line,
                                          .ctx = pc->ioapic,
                                          .pin = PC_PCI_GSI_BASE + i});
    for (unsigned i = 0; i < conf->ndisks && !r; i++) {
        unsigned slot = PC_DISK_SLOT + i;
        struct virtio_blk_conf vc = {.bd = conf->disk[i]};
        struct irq_line intx =
            pci_irq_or_input(&pc->pci_gsi[slot % PC_PCI_GSIS]);

        r = virtio_blk_create(&pc->vm, pc->pci, slot << 3, intx, &vc,
                              &pc->blk[i], e);
    }
    return r ? r : pci_bus_assign(pc->pci, e);
}

/* ---- guest time as state ---- */

static void time_save(void *obj)
{
    struct pc *pc = obj;

    pc->time.now_ns = clock_now_ns(pc->vm.clock);
    pc->time.tsc = clock_tsc(pc->vm.clock);
}

static int time_load(void *obj, uint32_t version, struct err *e)
{
    struct pc *pc = obj;

    (void)version;
    (void)e;
    clock_set(pc->vm.clock, pc->time.now_ns, pc->time.tsc);
    return 0;
}

static const struct state_field time_fields[] = {
    SF_U64(pc, time.now_ns),
    SF_U64(pc, time.tsc),
    SF_END,
};

static const struct state_desc time_state = {.name = "pc.time",
                                             .version = 1,
                                             .min_version = 1,
                                             .fields = time_fields,
                                             .pre_save = time_save,
                                             .post_load = time_load};

/* ---- public ---- */

int pc_create(const struct pc_conf *conf, struct pc **out, struct err *e)
{
    struct pc *pc = calloc(1, sizeof *pc);
    int r;

    if (!pc)
        return err_set(e, -ENOMEM, "pc: out of memory");
    r = create_vm(pc, conf, e);
    if (r) {
        free(pc);
        return r;
    }
    /* Time first: what is loaded behind it arms timers by it. */
    if (state_list_add(pc->vm.state, &time_state, 0, pc))
        r = err_set(e, -ENOMEM, "pc: out of memory");
    r = r ? r : create_cpus(pc, conf, e);
    r = r ? r : create_irqchips(pc, e);
    r = r ? r : create_chipset(pc, conf, e);
    r = r ? r : create_pci(pc, conf, e);
    if (r) {
        pc_destroy(pc);
        return r;
    }
    *out = pc;
    return 0;
}

void pc_destroy(struct pc *pc)
{
    if (!pc)
        return;
    for (unsigned i = 0; i < PC_DISKS_MAX; i++)
        virtio_blk_destroy(pc->blk[i]);
    pci_bus_destroy(pc->pci);
    debug_exit_destroy(pc->debug_exit);
    pvpanic_destroy(pc->pvpanic);
    uart16550_destroy(pc->com1);
    acpi_pm_destroy(pc->pm);
    rtc_destroy(pc->rtc);
    i8042_destroy(pc->kbc);
    i8254_destroy(pc->pit);
    ioapic_destroy(pc->ioapic);
    i8259_destroy(pc->pic);
    for (unsigned i = 0; i < X86_CPUS_MAX; i++) {
        struct x86_cpu *cpu = pc->topo.cpu[i];

        if (cpu)
            x86_cpu_fini(cpu); /* takes it out of the topology */
        free(cpu);
    }
    vm_fini(&pc->vm);
    free(pc);
}

int pc_boot(struct pc *pc, struct boot_conf *boot, struct boot_info *info,
            struct err *e)
{
    static const struct boot_range ecam = {PC_ECAM_BASE, PC_ECAM_LEN,
                                           BOOT_E820_RESERVED};
    struct acpi_conf acpi = {.ncpus = pc->topo.ncpus,
                             .rsdp = gpa(PC_RSDP),
                             .pm_port = PC_PM_PORT,
                             .sci_irq = PC_SCI_IRQ,
                             .pvpanic_port = PVPANIC_PORT};
    int r = acpi_write(pc->vm.mem, &acpi, e);

    if (r)
        return r;
    boot->rsdp = gpa(PC_RSDP);
    boot->reserved = &ecam;
    boot->nreserved = 1;
    return boot_load(pc->vm.mem, boot, pc->topo.cpu[0], info, e);
}

struct vm *pc_vm(struct pc *pc)
{
    return &pc->vm;
}

unsigned pc_ncpus(const struct pc *pc)
{
    return pc->topo.ncpus;
}

struct x86_cpu *pc_cpu(struct pc *pc, unsigned i)
{
    return pc->topo.cpu[i];
}

bool pc_power_button(struct pc *pc)
{
    return acpi_pm_power_button(pc->pm);
}

void pc_drain(struct pc *pc)
{
    for (unsigned i = 0; i < PC_DISKS_MAX; i++)
        if (pc->blk[i])
            virtio_blk_drain(pc->blk[i]);
}
