// SPDX-License-Identifier: Apache-2.0
/* Which named CPU level this host's processor can carry. */
#ifndef DOPPEL_CORE_HOSTCPU_H
#define DOPPEL_CORE_HOSTCPU_H

#include "abi/monitor.h"
#include "base/cc.h"
#include "base/err.h"

#include <stdbool.h>

/** hostcpu_missing() - the first feature of @level that the host lacks
 * Return: its name in /proc/cpuinfo's words, or NULL when none is missing.
 * Source: x86-64 psABI, section 3.1.1 (micro-architecture levels). */
const char *hostcpu_missing(enum abi_cpu_level level);

/** hostcpu_choose() - the level to run with
 * @level: asked for; @given: by name
 * v3 by default falls to v2, with one line on stderr; by name it is refused.
 * Return: 0 and *out, or -ENOTSUP with a sentence. */
MUST_CHECK int hostcpu_choose(enum abi_cpu_level level, bool given,
                              enum abi_cpu_level *out, struct err *e);

/** hostcpu_level_name() - "v2", "v3", "host" */
const char *hostcpu_level_name(enum abi_cpu_level level);

#endif
