// SPDX-License-Identifier: Apache-2.0
/*
 * The vCPU threads: one per vCPU, around an engine's run loop. The world is
 * stopped by ending the threads at an instruction boundary and started again
 * by new ones; all state is in struct x86_cpu in between.
 */
#ifndef DOPPEL_MONITOR_VCPUS_H
#define DOPPEL_MONITOR_VCPUS_H

#include "base/cc.h"
#include "base/err.h"
#include "engine/engine.h"
#include "machine/pc/pc.h"

struct vcpus;

/** vcpus_create() - the engine's part of every vCPU of @pc; no thread yet
 * @engine, @pc: keeps. Return: 0 and *out (gives), or what vcpu_create says. */
MUST_CHECK int vcpus_create(const struct engine_ops *engine, struct pc *pc,
                            struct vcpus **out, struct err *e);
void vcpus_destroy(struct vcpus *v);

/** vcpus_start() - a thread for each vCPU. Return: 0 or -EAGAIN. */
MUST_CHECK int vcpus_start(struct vcpus *v, struct err *e);

/** vcpus_kick_out() - ask all threads to end at the next boundary, without
 * waiting. Thread: any, also a vCPU's own. */
void vcpus_kick_out(struct vcpus *v);

/** vcpus_stop() - vcpus_kick_out, then wait until all have ended. Thread: main.
 */
void vcpus_stop(struct vcpus *v);

/** vcpus_failure() - whether an engine gave up (EXIT_FAILED); stopped
 * Return: 0, or -EIO with its sentence. */
MUST_CHECK int vcpus_failure(const struct vcpus *v, struct err *e);

/** vcpus_exits() - returns from the engine so far, all vCPUs; stopped */
uint64_t vcpus_exits(const struct vcpus *v);

unsigned vcpus_count(const struct vcpus *v);

#define VCPUS_ALL ~0U

/** vcpus_stat() - the engine's counter @i of @vcpu, or their sum; stopped
 * Return: its name, or NULL past the end. */
const char *vcpus_stat(const struct vcpus *v, unsigned vcpu, unsigned i,
                       uint64_t *value);

#endif
