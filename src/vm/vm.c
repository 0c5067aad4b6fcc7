// SPDX-License-Identifier: Apache-2.0
/* The shared parts of one VM; see vm.h. */
#include "vm/vm.h"

#include <errno.h>

#define PIO_LIMIT  0x10000U
#define MMIO_LIMIT (UINT64_C(1) << 52)

int vm_init(struct vm *vm, struct mem *mem, struct clock *clk, struct err *e)
{
    memset(vm, 0, sizeof *vm);
    vm->pio = bus_create(PIO_LIMIT);
    vm->mmio = bus_create(MMIO_LIMIT);
    vm->state = state_list_create();
    if (!vm->pio || !vm->mmio || !vm->state) {
        vm_fini(vm);
        return err_set(e, -ENOMEM, "vm: out of memory");
    }
    vm->mem = mem;
    vm->clock = clk;
    return 0;
}

void vm_fini(struct vm *vm)
{
    bus_destroy(vm->pio);
    bus_destroy(vm->mmio);
    state_list_destroy(vm->state);
    mem_destroy(vm->mem);
    clock_destroy(vm->clock);
    memset(vm, 0, sizeof *vm);
}
