// SPDX-License-Identifier: Apache-2.0
/* isa-debug-exit: a written value ends the VM; see debug_exit.h. */
#include "dev/debug-exit/debug_exit.h"

#include "base/err.h"
#include "vm/vm.h"

#include <errno.h>
#include <stdlib.h>

#define DEBUG_EXIT_PORTS 4

struct debug_exit {
    struct vm *vm;
    struct bus_region region;
};

static uint64_t debug_exit_read(void *dev, uint64_t off, unsigned size)
{
    (void)dev, (void)off, (void)size;
    return 0;
}

static void debug_exit_write(void *dev, uint64_t off, uint64_t val,
                             unsigned size)
{
    struct debug_exit *d = dev;

    (void)off, (void)size;
    vm_request(d->vm, VM_REQ_DEBUG_EXIT, (uint32_t)val);
}

static const struct bus_ops debug_exit_ops = {
    .read = debug_exit_read,
    .write = debug_exit_write,
};

int debug_exit_create(struct vm *vm, const struct debug_exit_conf *conf,
                      struct debug_exit **out, struct err *e)
{
    struct debug_exit *d = calloc(1, sizeof *d);
    int ret;

    if (!d)
        return err_set(e, -ENOMEM, "debug-exit: out of memory");
    d->vm = vm;
    d->region = (struct bus_region){
        .start = conf->port,
        .len = DEBUG_EXIT_PORTS,
        .ops = &debug_exit_ops,
        .dev = d,
        .name = "debug-exit",
    };
    ret = bus_add(vm->pio, &d->region, e);
    if (ret < 0) {
        free(d);
        return ret;
    }
    *out = d;
    return 0;
}

void debug_exit_destroy(struct debug_exit *d)
{
    if (!d)
        return;
    bus_remove(d->vm->pio, &d->region);
    free(d);
}

void debug_exit_reset(struct debug_exit *d)
{
    (void)d;
}
