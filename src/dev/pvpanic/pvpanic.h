// SPDX-License-Identifier: Apache-2.0
/*
 * pvpanic: a port by which a guest's kernel says that it crashed.
 * Spec: docs/specs/pvpanic in the QEMU documentation (ISA variant).
 */
#ifndef DOPPEL_DEV_PVPANIC_H
#define DOPPEL_DEV_PVPANIC_H

#include "base/cc.h"

#include <stdint.h>

#define PVPANIC_PORT         0x505
#define PVPANIC_PANICKED     0x01 /* the guest crashed */
#define PVPANIC_CRASH_LOADED 0x02 /* ... and its crash kernel takes over */

struct err;
struct pvpanic;
struct vm;

struct pvpanic_conf {
    uint16_t port; /* 0: PVPANIC_PORT */
};

/** pvpanic_create() - reads give the supported events; a written event
 * requests VM_REQ_PANIC with the event bits as code
 * @vm: keeps; @out: gives. Return: 0, -ENOMEM, or what bus_add says. */
MUST_CHECK int pvpanic_create(struct vm *vm, const struct pvpanic_conf *conf,
                              struct pvpanic **out, struct err *e);
void pvpanic_destroy(struct pvpanic *p);

/** pvpanic_reset() - nothing to do: it has no state */
void pvpanic_reset(struct pvpanic *p);

#endif
