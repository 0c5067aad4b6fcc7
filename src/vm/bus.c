// SPDX-License-Identifier: Apache-2.0
/*
 * The I/O buses; see bus.h. Regions stand in an array sorted by start. A
 * lookup holds the read lock only while it searches; the callback runs under
 * the region's own lock. So a callback may itself map and unmap regions (a
 * write to a PCI BAR). A region that is unmapped just then may see one late
 * access, as hardware does; devices live as long as the VM.
 */
#include "vm/bus.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define BUS_REGIONS_MAX 512

struct bus {
    pthread_rwlock_t lock; /* of the array */
    uint64_t limit;
    unsigned n;
    struct bus_region *region[BUS_REGIONS_MAX];
};

struct bus *bus_create(uint64_t limit)
{
    struct bus *bus = calloc(1, sizeof *bus);

    if (!bus)
        return NULL;
    bus->limit = limit;
    pthread_rwlock_init(&bus->lock, NULL);
    return bus;
}

void bus_destroy(struct bus *bus)
{
    if (!bus)
        return;
    pthread_rwlock_destroy(&bus->lock);
    free(bus);
}

/* Index of the first region that ends after @addr. */
static unsigned lower_bound(const struct bus *bus, uint64_t addr)
{
    unsigned lo = 0, hi = bus->n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct bus_region *r = bus->region[mid];

        if (addr - r->start < r->len || addr < r->start)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

static int insert_locked(struct bus *bus, struct bus_region *r, struct err *e)
{
    unsigned i = lower_bound(bus, r->start);

    if (r->mapped || bus->n == BUS_REGIONS_MAX)
        return err_set(e, -ENOSPC, "bus: no room for %s", r->name);
    if (i < bus->n && bus->region[i]->start < r->start + r->len)
        return err_set(e, -EEXIST, "bus: %s at 0x%" PRIx64 " overlaps %s",
                       r->name, r->start, bus->region[i]->name);
    memmove(&bus->region[i + 1], &bus->region[i],
            (bus->n - i) * sizeof bus->region[0]);
    bus->region[i] = r;
    bus->n++;
    r->mapped = true;
    return 0;
}

int bus_add(struct bus *bus, struct bus_region *r, struct err *e)
{
    int ret;

    if (!r->len || r->start >= bus->limit || r->len > bus->limit - r->start)
        return err_set(e, -EINVAL, "bus: %s at 0x%" PRIx64 " lies outside",
                       r->name, r->start);
    pthread_rwlock_wrlock(&bus->lock);
    ret = insert_locked(bus, r, e);
    pthread_rwlock_unlock(&bus->lock);
    return ret;
}

void bus_remove(struct bus *bus, struct bus_region *r)
{
    pthread_rwlock_wrlock(&bus->lock);
    for (unsigned i = 0; i < bus->n; i++) {
        if (bus->region[i] != r)
            continue;
        memmove(&bus->region[i], &bus->region[i + 1],
                (bus->n - i - 1) * sizeof bus->region[0]);
        bus->n--;
        r->mapped = false;
        break;
    }
    pthread_rwlock_unlock(&bus->lock);
}

/* The region at @addr and @addr's offset in it, or NULL. */
static struct bus_region *find(struct bus *bus, uint64_t addr, uint64_t *off)
{
    struct bus_region *r = NULL;
    unsigned i;

    pthread_rwlock_rdlock(&bus->lock);
    i = lower_bound(bus, addr);
    if (i < bus->n && addr >= bus->region[i]->start) {
        r = bus->region[i];
        *off = addr - r->start;
    }
    pthread_rwlock_unlock(&bus->lock);
    return r;
}

const struct bus_region *bus_find(struct bus *bus, uint64_t addr)
{
    uint64_t off;

    return find(bus, addr, &off);
}

static uint64_t ones(unsigned size)
{
    return size >= 8 ? ~UINT64_C(0) : (UINT64_C(1) << (size * 8)) - 1;
}

uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned size)
{
    uint64_t off = 0, val = 0;
    struct bus_region *r = find(bus, addr, &off);

    if (!r && size == 1)
        return ones(1);
    if (!r || size > r->len - off) {
        for (unsigned i = 0; i < size; i++)
            val |= bus_read(bus, addr + i, 1) << (8 * i);
        return val;
    }
    if (r->lock)
        pthread_mutex_lock(r->lock);
    val = r->ops->read ? r->ops->read(r->dev, off, size) : ones(size);
    if (r->lock)
        pthread_mutex_unlock(r->lock);
    return val & ones(size);
}

void bus_write(struct bus *bus, uint64_t addr, uint64_t val, unsigned size)
{
    uint64_t off = 0;
    struct bus_region *r = find(bus, addr, &off);

    if (!r && size == 1)
        return;
    if (!r || size > r->len - off) {
        for (unsigned i = 0; i < size; i++)
            bus_write(bus, addr + i, (val >> (8 * i)) & 0xff, 1);
        return;
    }
    if (r->lock)
        pthread_mutex_lock(r->lock);
    if (r->ops->write)
        r->ops->write(r->dev, off, val & ones(size), size);
    if (r->lock)
        pthread_mutex_unlock(r->lock);
}
