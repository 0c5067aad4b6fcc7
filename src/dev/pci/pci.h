// SPDX-License-Identifier: Apache-2.0
/*
 * A PCI bus (bus 0, type 0 functions) and what a function on it is made of:
 * configuration space, BARs, capabilities, MSI-X and the INTx pin.
 *
 * Locks, outermost first:
 *   vm  >  pci_bus.lock  >  a device's own lock  >  pci_dev.irq_lock  >  sinks
 * - pci_bus.lock: taken by the I/O bus around each configuration access. The
 *   callbacks of pci_dev_ops run under it and may take the device's lock. BARs
 *   are mapped and unmapped (bus_add, bus_remove) under it, without any
 *   device's lock: so a device must never touch configuration space, and the
 *   I/O bus must never wait for a configuration access, in between.
 * - pci_dev.irq_lock: the MSI-X table, pending bits and the pin. A device may
 *   call pci_msix_send and pci_intx_set with its own lock held.
 * - Command and MSI-X control are mirrored in atomics, so that a device reads
 *   them (pci_bus_master, pci_msix_enabled) without pci_bus.lock.
 *
 * Source: PCI Local Bus 3.0, chapter 6; 3.2.2.3.2 (mechanism #1).
 */
#ifndef DOPPEL_DEV_PCI_PCI_H
#define DOPPEL_DEV_PCI_PCI_H

#include "base/cc.h"
#include "base/err.h"
#include "dev/pci/pci_regs.h"
#include "vm/bus.h"
#include "vm/irq.h"
#include "vm/vm.h"

#include <pthread.h>
#include <stdatomic.h>

#define PCI_CFG_BYTES      256
#define PCI_CFG_EXT_BYTES  4096
#define PCI_BARS           6
#define PCI_FUNCTIONS      256
#define PCI_MSIX_MAX       64 /* vectors of one function; pending fits a word */
#define PCI_ECAM_BUS_BYTES (UINT64_C(1) << 20)

enum pci_bar_type {
    PCI_BAR_NONE,
    PCI_BAR_IO,
    PCI_BAR_MEM32,
    PCI_BAR_MEM64 /* also takes the BAR after it */
};

/* All may be NULL. Called with pci_bus.lock held, without other locks. */
struct pci_dev_ops {
    /* PCI_COMMAND was written with a new value. */
    void (*command_changed)(void *ctx);
    /* Bytes [off, off+size) are about to be read: refresh dev->cfg. */
    void (*cfg_read)(void *ctx, unsigned off, unsigned size);
    /* Bytes [off, off+size) were written. */
    void (*cfg_written)(void *ctx, unsigned off, unsigned size);
    /* Machine reset, before the configuration space goes to its defaults. */
    void (*reset)(void *ctx);
};

struct pci_bar {
    enum pci_bar_type type;
    uint64_t size; /* bytes, a power of two */
    struct bus_region region;
    bool blocked; /* decoded, but another region is in the way */
};

struct pci_bus;

/* One function. Embedded in its device; the fields are this module's. */
struct pci_dev {
    struct pci_bus *bus;
    const char *name;
    const struct pci_dev_ops *ops;
    void *ctx;
    unsigned devfn;
    uint8_t cfg[PCI_CFG_BYTES];
    uint8_t cfg_reset[PCI_CFG_BYTES]; /* contents after reset */
    uint8_t wmask[PCI_CFG_BYTES];     /* bits that the guest may write */
    unsigned cap_last;                /* last capability; 0: none */
    unsigned cap_end;                 /* first free byte */
    struct pci_bar bar[PCI_BARS];
    _Atomic uint16_t command;   /* mirrors PCI_COMMAND */
    _Atomic uint16_t msix_ctrl; /* mirrors the MSI-X control word */

    pthread_mutex_t irq_lock;
    struct irq_line intx;
    bool intx_level;   /* what the device asks for */
    bool intx_out;     /* what the line was last set to */
    unsigned msix_cap; /* offset; 0: no MSI-X */
    unsigned msix_count;
    uint64_t msix_pending;
    uint32_t msix_table[PCI_MSIX_MAX * 4];
};

struct pci_ids {
    uint16_t vendor, device;
    uint16_t subsys_vendor, subsys;
    uint8_t revision;
    uint32_t class_code; /* PCI_CLASS_* */
};

struct pci_bus_conf {
    uint64_t ecam_base;                /* GPA of 1 MiB for bus 0; 0: no ECAM */
    uint64_t mmio_base, mmio_limit;    /* window for BARs, below 4 GiB */
    uint64_t io_base, io_limit;        /* ports for BARs; 0, 0: none */
    uint16_t host_vendor, host_device; /* of 00:00.0; 0: a default */
};

/** pci_bus_create() - a bus with its host bridge at 00:00.0
 * Claims ports 0xcf8-0xcff and the ECAM window; port 0xcf9 is the reset
 * control register. Adds its sections to vm->state. @vm: keeps.
 * Return: 0 and *out (gives), or -ENOMEM, -EEXIST with a sentence. */
MUST_CHECK int pci_bus_create(struct vm *vm, const struct pci_bus_conf *conf,
                              struct pci_bus **out, struct err *e);
/* After all devices are gone. */
void pci_bus_destroy(struct pci_bus *bus);

/** pci_bus_assign() - give every BAR an address in the windows, as firmware
 * does, and turn memory and I/O decoding on (not bus mastering)
 * Thread: main, vCPUs stopped. Return: 0, -ENOSPC when the windows are full. */
MUST_CHECK int pci_bus_assign(struct pci_bus *bus, struct err *e);

/** pci_bus_reset() - RST#: every function to its defaults, all BARs unmapped
 * Thread: main, vCPUs stopped. The caller assigns again. */
void pci_bus_reset(struct pci_bus *bus);

/** pci_dev_init() - a function without BARs or capabilities
 * @name, @ops, @ctx: keeps; @ops may be NULL. */
void pci_dev_init(struct pci_dev *dev, const char *name,
                  const struct pci_ids *ids, const struct pci_dev_ops *ops,
                  void *ctx);

/** pci_bar_add() - describe a BAR; before pci_dev_add
 * @size: a power of two, at least 16 (io: 4, at most 256)
 * @bus_ops: answer accesses; called with @ctx, under @lock when it is given */
void pci_bar_add(struct pci_dev *dev, unsigned bar, enum pci_bar_type type,
                 uint64_t size, const struct bus_ops *bus_ops, void *ctx,
                 pthread_mutex_t *lock);

/** pci_cap_add() - append a capability of @len bytes, zeroed but for its head
 * Return: its offset. Fill cfg_reset and wmask behind it before pci_dev_add. */
unsigned pci_cap_add(struct pci_dev *dev, uint8_t id, unsigned len);

/** pci_msix_add() - the MSI-X capability
 * @count: vectors, 1 to PCI_MSIX_MAX; table and pending bits lie in @bar. The
 *   device hands accesses there to pci_msix_table_* and pci_msix_pba_read. */
void pci_msix_add(struct pci_dev *dev, unsigned count, unsigned bar,
                  uint32_t table_off, uint32_t pba_off);

/** pci_dev_add() - plug @dev in; keeps it until pci_dev_remove
 * @intx: where its INTA# goes. Adds a section to vm->state.
 * Return: 0, -EEXIST (slot taken), -ENOMEM. Thread: main. */
MUST_CHECK int pci_dev_add(struct pci_bus *bus, struct pci_dev *dev,
                           unsigned devfn, struct irq_line intx, struct err *e);
/** pci_dev_remove() - unmap its BARs, free the slot; fine if never added */
void pci_dev_remove(struct pci_dev *dev);

/** pci_bar_base() - where BAR @bar is decoded now; 0: nowhere. For tests. */
uint64_t pci_bar_base(const struct pci_dev *dev, unsigned bar);

/** pci_bus_master() - whether @dev may reach memory. Thread: any. */
static inline bool pci_bus_master(const struct pci_dev *dev)
{
    return (atomic_load_explicit(&dev->command, memory_order_acquire) &
            PCI_CMD_MASTER) != 0;
}

/** pci_msix_enabled() - messages are used, not the pin. Thread: any. */
static inline bool pci_msix_enabled(const struct pci_dev *dev)
{
    return (atomic_load_explicit(&dev->msix_ctrl, memory_order_acquire) &
            PCI_MSIX_CTRL_ENABLE) != 0;
}

/** pci_msix_send() - send vector @vec, or note it as pending while masked
 * Does nothing when MSI-X is off or there is no such vector. Thread: any. */
void pci_msix_send(struct pci_dev *dev, unsigned vec);

/** pci_intx_set() - drive INTA#. Thread: any. */
void pci_intx_set(struct pci_dev *dev, bool level);

/* The MSI-X table and pending bits; @off from their own start. Dwords and
 * qwords; narrower writes are ignored (PCI 3.0 6.8.2: undefined). */
uint64_t pci_msix_table_read(struct pci_dev *dev, uint64_t off, unsigned size);
void pci_msix_table_write(struct pci_dev *dev, uint64_t off, uint64_t val,
                          unsigned size);
uint64_t pci_msix_pba_read(struct pci_dev *dev, uint64_t off, unsigned size);

/* An access that is not naturally aligned, as byte accesses at rising
 * addresses: for the callbacks of regions whose registers have a width. */
static inline uint64_t pci_split_read(uint64_t (*read)(void *, uint64_t,
                                                       unsigned),
                                      void *dev, uint64_t off, unsigned size)
{
    uint64_t val = 0;

    for (unsigned i = 0; i < size; i++)
        val |= (read(dev, off + i, 1) & 0xff) << (8 * i);
    return val;
}

static inline void
pci_split_write(void (*write)(void *, uint64_t, uint64_t, unsigned), void *dev,
                uint64_t off, uint64_t val, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        write(dev, off + i, val >> (8 * i) & 0xff, 1);
}

/*
 * An OR gate: several functions on one interrupt controller pin. An irq_line
 * has one owner; this makes up to 32 of them out of one. Takes its lock (irq
 * class) around the line behind it.
 */
struct pci_irq_or {
    pthread_mutex_t lock;
    struct irq_line out;
    uint32_t levels;
    unsigned inputs;
};

void pci_irq_or_init(struct pci_irq_or *gate, struct irq_line out);
/** pci_irq_or_input() - the next input; an unconnected line when all are used*/
struct irq_line pci_irq_or_input(struct pci_irq_or *gate);

/* Configuration accesses of one function, @size 1, 2 or 4 bytes within a
 * dword. Caller holds pci_bus.lock or has stopped the vCPUs. */
uint32_t pci_cfg_read(struct pci_dev *dev, unsigned off, unsigned size);
void pci_cfg_write(struct pci_dev *dev, unsigned off, uint32_t val,
                   unsigned size);

#endif
