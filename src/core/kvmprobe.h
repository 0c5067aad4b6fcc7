// SPDX-License-Identifier: Apache-2.0
/* What this host's /dev/kvm is worth: absent, real, or emulating. */
#ifndef DOPPEL_CORE_KVMPROBE_H
#define DOPPEL_CORE_KVMPROBE_H

#include "abi/monitor.h"

/* Speeds are millions of instructions a second; 0: did not get that far. */
struct kvm_report {
    enum abi_kvm kind;
    double ring0_mips;
    double ring3_mips;
    double real_mips;
    double exit_us; /* one port write, there and back */
    char why[160];  /* one sentence */
};

/** kvmprobe_run() - time three loops and an exit in a tiny VM
 * In a child that is killed after 50 ms, since an emulating KVM can take
 * seconds. Cost: at most 60 ms. */
void kvmprobe_run(struct kvm_report *out);

#endif
