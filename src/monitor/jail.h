// SPDX-License-Identifier: Apache-2.0
/*
 * The monitor's jail, closed before the first guest instruction.
 *
 * Layers, from the outside in: namespaces (core creates the process in them
 * where the host allows), an empty root, no other descriptors, another user
 * where we were root, no capabilities, no_new_privs, not dumpable, resource
 * limits, Landlock (no path at all), and a seccomp allow list that kills. Each
 * layer but seccomp may be missing on a host; seccomp must stand alone.
 */
#ifndef DOPPEL_MONITOR_JAIL_H
#define DOPPEL_MONITOR_JAIL_H

#include "abi/monitor.h"
#include "base/cc.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Layers; jail_enter says which it had, doctor which can be had. */
#define JAIL_USERNS   0x001U /* a user namespace of its own */
#define JAIL_PIDNS    0x002U
#define JAIL_NETNS    0x004U
#define JAIL_IPCNS    0x008U
#define JAIL_UTSNS    0x010U
#define JAIL_ROOT     0x020U /* an empty, read-only root */
#define JAIL_FDS      0x040U /* what was not handed over is closed */
#define JAIL_NOROOT   0x080U /* does not run as the host's root */
#define JAIL_NOCAPS   0x100U
#define JAIL_LIMITS   0x200U /* no_new_privs, not dumpable, rlimits */
#define JAIL_LANDLOCK 0x400U
#define JAIL_SECCOMP  0x800U
#define JAIL_LAYERS   12U

struct jail_conf {
    uint64_t ns;     /* ABI_NS_*: what core created the process in */
    const int *keep; /* borrows: descriptors that stay open, any order */
    unsigned nkeep;  /* 2 (stderr) is always kept */
    bool kvm;        /* the engine's calls to KVM are let through */
    bool audit;      /* ABI_FLAG_SECCOMP_AUDIT */
};

/** jail_enter() - close the jail around this process
 * @layers: filled with JAIL_*: what could be had
 * Create threads after it: capabilities and Landlock are a thread's own, only
 * the seccomp filter reaches threads that exist. In a build with a sanitizer
 * seccomp is left out.
 * Return: 0; negative errno with a sentence when the seccomp layer (or one
 *   that cannot fail on a sane host) could not be closed: then the guest must
 *   not run. Thread: main. */
MUST_CHECK int jail_enter(const struct jail_conf *conf, unsigned *layers,
                          struct err *e);

/** jail_layer_name() - "user namespace", ... of one JAIL_ bit number */
const char *jail_layer_name(unsigned bit);

/** seccomp_list_length() - lines of seccomp.def */
size_t seccomp_list_length(void);

/** seccomp_list_name(), _why() - line @i; NULL past the end
 * seccomp_list_refuses() - the errno of a REFUSE line, else 0 */
const char *seccomp_list_name(size_t i);
const char *seccomp_list_why(size_t i);
int seccomp_list_refuses(size_t i);
/** seccomp_list_active() - how many lines are in force; @kvm: under that engine
 */
size_t seccomp_list_active(bool kvm);

/** seccomp_list_kvm() - whether line @i is for the kvm engine only */
bool seccomp_list_kvm(size_t i);

/** jail_test_run() - try what ABI_REC_JAIL_TEST asks for, after jail_enter.
 * Returns only when the jail let it pass (or the test is NONE): the monitor
 * then reports a failure. */
void jail_test_run(enum abi_jail_test test);

#endif
