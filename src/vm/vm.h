// SPDX-License-Identifier: Apache-2.0
/*
 * One virtual machine's shared parts: what devices, CPUs and engines are built
 * on. Everything hangs from here; there is no file-scope state, and two VMs in
 * one process work.
 */
#ifndef DOPPEL_VM_VM_H
#define DOPPEL_VM_VM_H

#include "base/err.h"
#include "vm/bus.h"
#include "vm/clock.h"
#include "vm/input.h"
#include "vm/irq.h"
#include "vm/mem.h"
#include "vm/state.h"

/* What the guest asks of the machine as a whole. */
enum vm_request {
    VM_REQ_NONE,
    VM_REQ_POWEROFF,
    VM_REQ_RESET,
    VM_REQ_PANIC,      /* pvpanic: the guest says that it crashed */
    VM_REQ_SHUTDOWN,   /* triple fault; from the vCPU thread */
    VM_REQ_DEBUG_EXIT, /* isa-debug-exit; code = the value written */
    VM_REQ_FAILED      /* a vCPU's engine cannot go on; code = its index */
};

struct engine_part; /* engine/engine.h */

struct vm {
    struct mem *mem;
    struct bus *pio;  /* ports 0-0xffff */
    struct bus *mmio; /* what is not RAM */
    struct clock *clock;
    struct input_gate gate;
    struct irq_msi msi; /* to the local APICs; set by the machine */
    struct state_list *state;
    struct engine_part
        *engine; /* keeps; what the engine's init gave, or NULL */
    /* Told once per request; any thread, a device's lock may be held; must
     * only note it and wake the event loop. */
    void (*request)(void *ctx, enum vm_request req, uint32_t code);
    void *request_ctx;
};

static inline void vm_request(struct vm *vm, enum vm_request req, uint32_t code)
{
    if (vm->request)
        vm->request(vm->request_ctx, req, code);
}

/** vm_init() - buses and the state list; takes @mem and @clk
 * Return: 0 or -ENOMEM (then @mem and @clk stay the caller's). */
MUST_CHECK int vm_init(struct vm *vm, struct mem *mem, struct clock *clk,
                       struct err *e);
void vm_fini(struct vm *vm);

#endif
