// SPDX-License-Identifier: Apache-2.0
/*
 * The small VM of engine/interp/testvm.h with the translator for an engine.
 * Included by tests only.
 */
#ifndef DOPPEL_ENGINE_BT_TESTBT_H
#define DOPPEL_ENGINE_BT_TESTBT_H

#include "engine/bt/bt.h"
#include "engine/bt/priv.h"
#include "engine/interp/testvm.h"

static inline bool tbt_host_ok(void)
{
    char why[120];

    return bt_host_ok(why, sizeof why);
}

/* The engine, once and till the end, as in a monitor. */
static inline void tbt_init(struct engine_part **part,
                            const struct engine_host *host)
{
    struct err e;

    if (!*part && bt_engine.init(host, part, &e)) {
        printf("bt: %s\n", e.text);
        exit(1);
    }
}

/* vCPU 0 becomes the translator's. */
static inline struct bt *tbt_take(struct tvm *t, struct engine_part *part)
{
    struct err e;

    interp_engine.vcpu_destroy(t->v[0]);
    t->vm.engine = part;
    if (bt_engine.vcpu_create(&t->vm, t->cpu, &t->v[0], &e)) {
        printf("bt: %s\n", e.text);
        exit(1);
    }
    return bt_of(t->v[0]);
}

static inline struct tvm *tbt_create(struct engine_part **part)
{
    const struct engine_host host = {.kvm_fd = -1, .ncpus = 1};
    struct tvm *t = tvm_create();

    tbt_init(part, &host);
    tbt_take(t, *part);
    return t;
}

static inline void tbt_destroy(struct tvm *t)
{
    bt_engine.vcpu_destroy(t->v[0]);
    x86_cpu_fini(t->cpu);
    vm_fini(&t->vm);
    free(t);
}

#endif
