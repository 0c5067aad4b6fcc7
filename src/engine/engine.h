// SPDX-License-Identifier: Apache-2.0
/*
 * What every engine implements. An engine runs vCPUs whose state it knows only
 * through its own architecture's format (cpu/x86/state.h here); the monitor
 * passes it as an opaque pointer.
 *
 * Port and MMIO accesses go straight to the VM's buses through the input gate;
 * run() returns only for what the monitor must decide.
 *
 * init() runs before the jail is closed: what an engine needs of the host it
 * takes there (the kvm engine its VM and vCPU descriptors) and gives back as
 * its part, which the monitor hangs into each struct vm that it builds.
 */
#ifndef DOPPEL_ENGINE_ENGINE_H
#define DOPPEL_ENGINE_ENGINE_H

#include "base/cc.h"
#include "base/err.h"
#include "base/types.h"
#include "vm/vm.h"

enum exit_reason {
    EXIT_PARK,     /* KICK_PARK or KICK_EXIT stands; at a boundary */
    EXIT_HLT,      /* waits for an interrupt: sleep with kick_wait, run again */
    EXIT_SHUTDOWN, /* triple fault */
    EXIT_BUDGET,   /* max_insns were retired */
    EXIT_DEBUG,    /* debugger stop */
    EXIT_FAILED    /* the engine cannot go on: why says it; state is lost */
};

struct exit_rec {
    enum exit_reason reason;
    uint64_t insns; /* retired by this call; 0 where it isn't counted */
    char why[240];  /* EXIT_FAILED: one sentence */
};

#define ENGINE_LOOK_MAX 16

/* To look at an engine that makes code, at work. */
struct engine_look {
    int map_fd;     /* keeps: perf's map of the code; -1: none */
    int dump_fd;    /* keeps: records of blocks; -1: none */
    int symbols_fd; /* borrows: lines as System.map's; -1: none */
    unsigned nva;
    uint64_t va[ENGINE_LOOK_MAX]; /* blocks to record; ~0: all */
};

/* bt: whether guest memory is mapped for translated code (engine/bt/zone.h). */
enum engine_zones {
    ENGINE_ZONES_AUTO, /* the kernel's at once, a user's when it has run long */
    ENGINE_ZONES_OFF,
    ENGINE_ZONES_NOW /* all at once, whatever it costs: for tests */
};

/* What the monitor was handed for its engine. */
struct engine_host {
    int kvm_fd; /* borrows: /dev/kvm; -1: none */
    unsigned ncpus;
    const struct engine_look *look; /* borrows; NULL: nothing is asked */
    bool check; /* bt: compare each block with the interpreter */
    enum engine_zones zones;
};

struct engine_part; /* what init made for the process; struct vm.engine */

struct engine_vcpu; /* an engine's private part of one vCPU */

/* What an engine says at probe. */
struct engine_probe {
    bool usable;
    char why[160]; /* one sentence: what it found */
};

struct engine_ops {
    const char *name;
    void (*probe)(struct engine_probe *p);
    /* Once per process, before the jail: signal handlers, descriptors. *part
     * lives as long as the process; it may stay NULL. */
    int (*init)(const struct engine_host *host, struct engine_part **part,
                struct err *e);
    /* @vm: its member engine is what init gave. @arch: keeps; a struct x86_cpu.
     * Gives *out. One VM at a time per part. */
    int (*vcpu_create)(struct vm *vm, void *arch, struct engine_vcpu **out,
                       struct err *e);
    void (*vcpu_destroy)(struct engine_vcpu *v);
    /* Run until an exit. @max_insns: 0 = no limit (kvm: never a limit, it
     * counts no instructions). All state is in @arch at return. Thread: the
     * vCPU's. */
    void (*vcpu_run)(struct engine_vcpu *v, uint64_t max_insns,
                     struct exit_rec *exit);
    /* Host-side changes: drop what is cached of the page (or of all). Called
     * with the vCPU parked, or by its own thread. */
    void (*vcpu_flush)(struct engine_vcpu *v);
    /* Drop write-through-TLB rights of page @gpa (all: every page) and return
     * when no access can be under way. Thread: any but the vCPU's. */
    void (*vcpu_revoke)(struct engine_vcpu *v, gpa_t gpa, bool all);
    /* At the end of a run, the vCPUs parked: print what there is to say of it.
     * The member may be NULL. */
    void (*last_words)(const struct engine_part *part);
    /* Counter @i of a parked vCPU: its name and *value, or NULL past the end.
     * A name that begins with a capital is one part of many, not shown when it
     * is 0. The member may be NULL. */
    const char *(*vcpu_stat)(const struct engine_vcpu *v, unsigned i,
                             uint64_t *value);
};

/* engines.def lists them; NULL-terminated. */
extern const struct engine_ops *const engine_table[];
const struct engine_ops *engine_find(const char *name);

#endif
