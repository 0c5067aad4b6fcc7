// SPDX-License-Identifier: Apache-2.0
/*
 * The interpreter engine: every mode, precise, the reference that the other
 * engines are compared with. Decoded instructions are cached in blocks; guest
 * memory is reached through a software TLB; arithmetic is done by the host's
 * own instructions, so that undefined flags agree with the host's.
 */
#ifndef DOPPEL_ENGINE_INTERP_INTERP_H
#define DOPPEL_ENGINE_INTERP_INTERP_H

#include "engine/engine.h"

#include <stdint.h>

/* Guest time per retired instruction with --clock virtual. */
#define INTERP_VIRTUAL_NS_PER_INSN 1

/* One line each in stats.def. */
struct interp_stats {
#define STAT(name, help) uint64_t name;
#include "engine/interp/stats.def"
#undef STAT
};

extern const struct engine_ops interp_engine;

/** interp_stats_get() - counters of one vCPU
 * @out: filled. Thread: any; exact only while the vCPU is parked. */
void interp_stats_get(const struct engine_vcpu *v, struct interp_stats *out);

/** interp_stats_name() - name and help of counter @i, in struct order
 * Return: NULL when there is no such counter. */
const char *interp_stats_name(unsigned i, const char **help);

#endif
