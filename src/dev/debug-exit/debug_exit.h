// SPDX-License-Identifier: Apache-2.0
/*
 * isa-debug-exit: a port that ends the VM with the value written, for test
 * kernels. Interface as other monitors have it: exit status value * 2 + 1 is
 * made by who serves the request.
 */
#ifndef DOPPEL_DEV_DEBUG_EXIT_H
#define DOPPEL_DEV_DEBUG_EXIT_H

#include "base/cc.h"

#include <stdint.h>

struct debug_exit;
struct err;
struct vm;

struct debug_exit_conf {
    uint16_t port; /* first of 4 ports, e.g. 0xf4 */
};

/** debug_exit_create() - a write of 1, 2 or 4 bytes requests
 * VM_REQ_DEBUG_EXIT with the value as code; reads give 0
 * @vm: keeps; @out: gives. Return: 0, -ENOMEM, or what bus_add says. */
MUST_CHECK int debug_exit_create(struct vm *vm,
                                 const struct debug_exit_conf *conf,
                                 struct debug_exit **out, struct err *e);
void debug_exit_destroy(struct debug_exit *d);

/** debug_exit_reset() - nothing to do: it has no state */
void debug_exit_reset(struct debug_exit *d);

#endif
