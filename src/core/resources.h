// SPDX-License-Identifier: Apache-2.0
/*
 * What core opens for a VM: files by path, guest RAM. Nothing is read. The
 * files stay open over resets; RAM is new, and zero, for each power cycle.
 */
#ifndef DOPPEL_CORE_RESOURCES_H
#define DOPPEL_CORE_RESOURCES_H

#include "abi/monitor.h"
#include "base/cc.h"
#include "base/err.h"
#include "core/core.h"

struct console;

/** resources_open() - check @conf against the host and open all its files
 * @con: borrows; a terminal's size goes to the default guest
 * @out: filled, RAM excepted; close it with resources_close
 * Return: 0, or negative errno with a sentence (nothing stays open). */
MUST_CHECK int resources_open(const struct core_conf *conf,
                              const struct console *con,
                              struct monitor_conf *out, struct err *e);
void resources_close(struct monitor_conf *mc);

/** resources_new_ram() - a fresh memfd of mc->ram_bytes, replacing mc->ram_fd
 * Not executable where the kernel can say so, and of fixed size. */
MUST_CHECK int resources_new_ram(struct monitor_conf *mc, struct err *e);

/** resources_perf_map() - a new /tmp/perf-@pid.map, replacing the open one
 * The name and the number are what perf looks for in this PID namespace. */
MUST_CHECK int resources_perf_map(struct monitor_conf *mc, int pid,
                                  struct err *e);

#endif
