// SPDX-License-Identifier: Apache-2.0
/* pvpanic: the guest's kernel reports its crash; see pvpanic.h. */
#include "dev/pvpanic/pvpanic.h"

#include "base/err.h"
#include "base/log.h"
#include "vm/bus8.h"
#include "vm/vm.h"

#include <errno.h>
#include <stdlib.h>

#define PVPANIC_EVENTS (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)

struct pvpanic {
    struct vm *vm;
    struct bus_region region;
    struct log_limit misuse;
};

static uint8_t read_reg(void *dev, uint64_t off)
{
    (void)dev, (void)off;
    return PVPANIC_EVENTS;
}

static void write_reg(void *dev, uint64_t off, uint8_t val)
{
    struct pvpanic *p = dev;

    (void)off;
    if (!(val & PVPANIC_EVENTS)) {
        log_guest(&p->misuse, "pvpanic", "unknown event, 0x%x", val);
        return;
    }
    vm_request(p->vm, VM_REQ_PANIC, val & PVPANIC_EVENTS);
}

static uint64_t pvpanic_read(void *dev, uint64_t off, unsigned size)
{
    return bus8_read(read_reg, dev, off, size);
}

static void pvpanic_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    bus8_write(write_reg, dev, off, val, size);
}

static const struct bus_ops pvpanic_ops = {
    .read = pvpanic_read,
    .write = pvpanic_write,
};

int pvpanic_create(struct vm *vm, const struct pvpanic_conf *conf,
                   struct pvpanic **out, struct err *e)
{
    struct pvpanic *p = calloc(1, sizeof *p);
    int ret;

    if (!p)
        return err_set(e, -ENOMEM, "pvpanic: out of memory");
    p->vm = vm;
    p->region = (struct bus_region){
        .start = conf->port ? conf->port : PVPANIC_PORT,
        .len = 1,
        .ops = &pvpanic_ops,
        .dev = p,
        .name = "pvpanic",
    };
    ret = bus_add(vm->pio, &p->region, e);
    if (ret < 0) {
        free(p);
        return ret;
    }
    *out = p;
    return 0;
}

void pvpanic_destroy(struct pvpanic *p)
{
    if (!p)
        return;
    bus_remove(p->vm->pio, &p->region);
    free(p);
}

void pvpanic_reset(struct pvpanic *p)
{
    (void)p;
}
