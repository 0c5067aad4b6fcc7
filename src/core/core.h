// SPDX-License-Identifier: Apache-2.0
/*
 * The trusted process: opens what the user named, starts the monitor, hands it
 * open descriptors, supervises it. It reads no byte that a guest, an image or
 * a network wrote.
 */
#ifndef DOPPEL_CORE_CORE_H
#define DOPPEL_CORE_CORE_H

#include "abi/monitor.h"
#include "base/cc.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Exit statuses of ours; 0 is the guest's power-off. */
#define CORE_STATUS_CRASHED 123 /* triple fault, panic, reset loop */
#define CORE_STATUS_TIMEOUT 124
#define CORE_STATUS_FAILED  125 /* our own failure */

struct core_disk {
    const char *path;
    bool read_only;
};

/* What the user asked for; strings are borrowed from argv. */
struct core_conf {
    const char *kernel; /* NULL: the default guest */
    const char *initrd[ABI_INITRDS_MAX];
    uint32_t ninitrds;
    const char *append; /* NULL: none */
    struct core_disk disk[ABI_DISKS_MAX];
    uint32_t ndisks;
    const char *name;   /* NULL: one is made up */
    const char *engine; /* chosen: a name of the engine table */
    uint64_t ram_bytes;
    uint32_t cpus;
    enum abi_cpu_level cpu_level;
    bool cpu_level_given; /* by name: no silent fall to v2 */
    enum abi_clock clock;
    uint64_t seed;
    bool seed_given;
    uint64_t timeout_ms; /* 0: none */
    uint64_t thaw_every;
    int32_t debug_exit_port; /* -1: none */
    uint32_t verbose;
    uint64_t flags; /* ABI_FLAG_SCATTER, _STATS, _MITIGATIONS, _AUDIT */
    bool no_reboot;
    bool perf_map;       /* /tmp/perf-PID.map */
    const char *symbols; /* NULL: none */
    const char *dump_to; /* NULL: stderr */
    uint64_t dump_va[ABI_DUMPS_MAX];
    uint32_t ndumps;
    enum abi_jail_test jail_test;
};

/** core_run() - one VM from power-on to its end
 * @conf: borrows
 * @e: the sentence to print when the status is not 0, or ""
 * Return: the exit status. Thread: main; uses signalfd, the terminal. */
int core_run(const struct core_conf *conf, struct err *e);

#endif
