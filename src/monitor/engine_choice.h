// SPDX-License-Identifier: Apache-2.0
/* Which engine runs a VM: what was asked for against what is built and what
 * this host's KVM is worth. Used before a start and by doctor. */
#ifndef DOPPEL_MONITOR_ENGINE_CHOICE_H
#define DOPPEL_MONITOR_ENGINE_CHOICE_H

#include "abi/monitor.h"
#include "base/cc.h"
#include "base/err.h"

#include <stdbool.h>

struct engine_choice {
    char name[16]; /* of the engine table */
    char why[240]; /* one sentence */
    bool slow_kvm; /* kvm by name on an emulating KVM: warn */
};

/** engine_choose() - resolve --engine
 * @want: "auto" or an engine's name
 * @kvm: of this host; only looked at when it matters (engine_needs_kvm)
 * Return: 0 and *out; -ENOTSUP with a sentence when @want is unknown, not
 *   built, or not usable here. */
MUST_CHECK int engine_choose(const char *want, enum abi_kvm kvm,
                             struct engine_choice *out, struct err *e);

/** engine_needs_kvm() - whether the answer depends on the host's KVM */
bool engine_needs_kvm(const char *want);

#endif
