// SPDX-License-Identifier: Apache-2.0
/*
 * The I/O buses: who answers a port or an MMIO access.
 *
 * A device registers regions with callbacks. Accesses are 1, 2, 4 or 8 bytes
 * wide and lie inside one region; wider or straddling ones are split by the
 * bus into naturally aligned pieces. Nothing answers: reads give all ones,
 * writes vanish. The bus takes the region's lock around the callback, so a
 * device's registers are seen by one thread at a time.
 * Regions are added and removed with all vCPUs stopped, or under PCI BAR
 * moves (bus_region_move), which the bus makes safe against lookups.
 */
#ifndef DOPPEL_VM_BUS_H
#define DOPPEL_VM_BUS_H

#include "base/cc.h"
#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct bus_ops {
    /* @off: offset into the region; @size: 1, 2, 4 (mmio also 8) bytes */
    uint64_t (*read)(void *dev, uint64_t off, unsigned size);
    void (*write)(void *dev, uint64_t off, uint64_t val, unsigned size);
};

struct bus_region {
    uint64_t start; /* port number or GPA */
    uint64_t len;
    const struct bus_ops *ops;
    void *dev;
    pthread_mutex_t *lock; /* taken around callbacks; NULL: none */
    const char *name;
    bool mapped; /* maintained by the bus */
};

struct bus;

/** bus_create() - an empty bus; @limit: one past the last address */
struct bus *bus_create(uint64_t limit);
void bus_destroy(struct bus *bus);

/** bus_add() - map @r (keeps it until bus_remove)
 * Return: 0, or -EEXIST when it overlaps a mapped region, -EINVAL, -ENOSPC. */
MUST_CHECK int bus_add(struct bus *bus, struct bus_region *r, struct err *e);
void bus_remove(struct bus *bus, struct bus_region *r);

/** bus_read(), bus_write() - one access of @size bytes (1, 2, 4, 8)
 * Thread: any; must not be called with a device's lock held. */
uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned size);
void bus_write(struct bus *bus, uint64_t addr, uint64_t val, unsigned size);

/** bus_find() - the region that answers @addr, or NULL */
const struct bus_region *bus_find(struct bus *bus, uint64_t addr);

#endif
