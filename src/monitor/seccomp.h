// SPDX-License-Identifier: Apache-2.0
/* The seccomp filter made from seccomp.def; jail.c installs it. */
#ifndef DOPPEL_MONITOR_SECCOMP_H
#define DOPPEL_MONITOR_SECCOMP_H

#include "base/cc.h"
#include "base/err.h"

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

#define SECCOMP_PROG_MAX 1024 /* BPF instructions */

/** seccomp_build() - the list as a BPF program
 * @prog: of SECCOMP_PROG_MAX instructions, filled
 * @own_pid: what OWN_PID compares with
 * @kvm: with the lines that only the kvm engine needs
 * @audit: each line that lets a call by answers SECCOMP_RET_TRACE with the
 *   line's number + 1 instead: a tracer counts it and lets it run; without
 *   one the call fails, so that the switch opens nothing
 * Return: how many instructions, or -E2BIG with a sentence. */
MUST_CHECK int seccomp_build(struct sock_filter *prog, int32_t own_pid,
                             bool kvm, bool audit, struct err *e);

/** seccomp_install() - build and install for all threads; no way back */
MUST_CHECK int seccomp_install(bool kvm, bool audit, struct err *e);

#endif
