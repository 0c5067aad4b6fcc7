// SPDX-License-Identifier: Apache-2.0
/* --stats: what happened, on stderr at the end. */
#ifndef DOPPEL_MONITOR_STATS_H
#define DOPPEL_MONITOR_STATS_H

#include "machine/pc/pc.h"
#include "monitor/vcpus.h"

#include <stdint.h>

/** stats_print() - one line per counter, `doppel: stats: name value`
 * The engine's are sums; with more than one vCPU also each one's, as
 * vcpuN.name. With --clock virtual also the hash of all state and RAM. The VM
 * is stopped. Thread: main. */
void stats_print(struct pc *pc, const struct vcpus *vcpus, uint64_t thaws);

#endif
