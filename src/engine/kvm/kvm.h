// SPDX-License-Identifier: Apache-2.0
/*
 * The kvm engine: vCPUs run by the host's KVM, with the same devices, buses and
 * local APIC as under the other engines. It needs Linux 5.10 or later on the
 * host and RAM in one piece (no --mem scatter).
 */
#ifndef DOPPEL_ENGINE_KVM_KVM_H
#define DOPPEL_ENGINE_KVM_KVM_H

#include "engine/engine.h"

/* How the engine calls KVM; tests put failing calls in between. */
struct kvm_sys {
    /* As ioctl(2): negative with errno set. */
    int (*ioctl)(void *ctx, int fd, unsigned long req, void *arg);
    void *ctx;
};

extern const struct engine_ops kvm_engine;

/** kvm_part_create() - the VM and its vCPUs, before the jail
 * @host: borrows; @sys: copied, NULL: the real calls
 * Return: 0 and *out (gives); -ENOTSUP: a KVM without what is needed here, with
 *   the missing part's name; another negative errno with a sentence. */
MUST_CHECK int kvm_part_create(const struct engine_host *host,
                               const struct kvm_sys *sys,
                               struct engine_part **out, struct err *e);
void kvm_part_destroy(struct engine_part *part);

#endif
