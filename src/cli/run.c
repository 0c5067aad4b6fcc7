// SPDX-License-Identifier: Apache-2.0
/* The verb run; see run.h. */
#include "cli/run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "cli/options.h"
#include "cli/size.h"
#include "core/kvmprobe.h"
#include "monitor/engine_choice.h"

#define DEFAULT_RAM (512 * MIB)

/* One of several words. Return: its index, or -EINVAL with a sentence. */
static int one_of(const char *what, const char *value,
                  const char *const *choices, struct err *e)
{
    char list[128] = "";

    for (int i = 0; choices[i]; i++) {
        size_t n = strlen(list);

        if (strcmp(value, choices[i]) == 0)
            return i;
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", choices[i]);
    }
    return err_set(e, -EINVAL, "--%s takes one of %s, not '%.60s'", what, list,
                   value);
}

static int parse_name(const char *value, const char **out, struct err *e)
{
    static const char ok[] = "abcdefghijklmnopqrstuvwxyz"
                             "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strlen(value);

    if (n == 0 || n >= ABI_NAME_BYTES || strspn(value, ok) != n ||
        value[0] == '-' || value[0] == '.')
        return err_set(e, -EINVAL,
                       "--name takes 1 to %u letters, digits, dots, dashes and "
                       "underscores, beginning with a letter, digit or "
                       "underscore, not '%.70s'",
                       ABI_NAME_BYTES - 1, value);
    *out = value;
    return 0;
}

/* PATH or PATH,ro; the word is cut in place, as it is argv's. */
static int parse_disk(char *value, struct core_conf *c, struct err *e)
{
    char *comma = strrchr(value, ',');
    struct core_disk *d;

    if (c->ndisks >= ABI_DISKS_MAX)
        return err_set(e, -EINVAL, "more than %u --disk", ABI_DISKS_MAX);
    d = &c->disk[c->ndisks];
    d->read_only = comma && strcmp(comma, ",ro") == 0;
    if (d->read_only)
        *comma = 0;
    if (!*value)
        return err_set(e, -EINVAL, "--disk needs the path of a file");
    d->path = value;
    c->ndisks++;
    return 0;
}

static int parse_initrd(const char *value, struct core_conf *c, struct err *e)
{
    if (c->ninitrds >= ABI_INITRDS_MAX)
        return err_set(e, -EINVAL, "more than %u --initrd", ABI_INITRDS_MAX);
    c->initrd[c->ninitrds++] = value;
    return 0;
}

/* A guest address in hex, or all. */
static int parse_dump(const char *value, struct core_conf *c, struct err *e)
{
    char *end = NULL;
    uint64_t va = UINT64_MAX;

    if (c->ndumps >= ABI_DUMPS_MAX)
        return err_set(e, -EINVAL, "more than %u --dump-block", ABI_DUMPS_MAX);
    if (strcmp(value, "all") != 0) {
        errno = 0;
        va = strtoull(value, &end, 16);
        if (errno || end == value || *end)
            return err_set(e, -EINVAL,
                           "--dump-block takes a hexadecimal address or all, "
                           "not '%.60s'",
                           value);
    }
    c->dump_va[c->ndumps++] = va;
    return 0;
}

static int parse_jail_test(const char *value, struct core_conf *c,
                           struct err *e)
{
    static const char *const tests[] = {
        "none",          "open",     "execve", "socket", "ptrace", "mmap-exec",
        "mprotect-exec", "io-uring", "segv",   "exit",   NULL};
    int i = one_of("selftest-jail", value, tests, e);

    if (i >= 0)
        c->jail_test = (enum abi_jail_test)i;
    return i < 0 ? i : 0;
}

static void set_flag(struct core_conf *c, uint64_t flag, bool on)
{
    c->flags = on ? c->flags | flag : c->flags & ~flag;
}

/* Options whose value is one of a few words. */
static int apply_choice(struct core_conf *c, const struct opt *o,
                        const char *value, struct err *e)
{
    static const char *const cpu[] = {"v2", "v3", "host", NULL};
    static const char *const engine[] = {"auto", "interp", "bt", "kvm", NULL};
    static const char *const mem[] = {"linear", "scatter", NULL};
    static const char *const clk[] = {"real", "virtual", NULL};
    static const char *const zones[] = {"auto", "off", "now", NULL};
    static const char *const on[] = {"on", "off", NULL};
    const char *const *choices = o->id == OPT_CPU      ? cpu
                                 : o->id == OPT_ENGINE ? engine
                                 : o->id == OPT_MEM    ? mem
                                 : o->id == OPT_CLOCK  ? clk
                                 : o->id == OPT_ZONES  ? zones
                                                       : on;
    int i = one_of(o->name, value, choices, e);

    if (i < 0)
        return i;
    if (o->id == OPT_CPU) {
        c->cpu_level = (enum abi_cpu_level)i;
        c->cpu_level_given = true;
    } else if (o->id == OPT_ENGINE) {
        c->engine = engine[i];
    } else if (o->id == OPT_ZONES) {
        set_flag(c, ABI_FLAG_ZONES_OFF, i == 1);
        set_flag(c, ABI_FLAG_ZONES_NOW, i == 2);
    } else if (o->id == OPT_MEM) {
        set_flag(c, ABI_FLAG_SCATTER, i == 1);
    } else if (o->id == OPT_CLOCK) {
        c->clock = (enum abi_clock)i;
    } else {
        set_flag(c, ABI_FLAG_MITIGATIONS, i == 0);
    }
    return 0;
}

/* Options whose value is a number. */
static int apply_number(struct core_conf *c, const struct opt *o,
                        const char *value, struct err *e)
{
    bool is_cpus = o->id == OPT_CPUS;
    uint64_t min = is_cpus || o->id == OPT_SELFTEST_THAW ? 1 : 0;
    uint64_t max = is_cpus                   ? ABI_CPUS_MAX
                   : o->id == OPT_DEBUG_EXIT ? 0xffff
                                             : UINT64_MAX;
    uint64_t v = 0;
    int rc = number_parse(o->name, value, min, max, &v, e);

    if (rc)
        return rc;
    if (is_cpus) {
        c->cpus = (uint32_t)v;
    } else if (o->id == OPT_SELFTEST_THAW) {
        c->thaw_every = v;
    } else if (o->id == OPT_DEBUG_EXIT) {
        c->debug_exit_port = (int32_t)v;
    } else {
        c->seed = v;
        c->seed_given = true;
    }
    return 0;
}

static int apply(struct run_words *w, const struct opt *o, char *value,
                 struct err *e)
{
    struct core_conf *c = &w->conf;

    switch (o->id) {
    case OPT_KERNEL:
        c->kernel = value;
        return 0;
    case OPT_INITRD:
        return parse_initrd(value, c, e);
    case OPT_APPEND:
        c->append = value;
        return 0;
    case OPT_MEMORY:
        return size_parse(value, &c->ram_bytes, e);
    case OPT_CPU:
    case OPT_ENGINE:
    case OPT_MEM:
    case OPT_CLOCK:
    case OPT_ZONES:
    case OPT_MITIGATIONS:
        return apply_choice(c, o, value, e);
    case OPT_CPUS:
    case OPT_SELFTEST_THAW:
    case OPT_SEED:
    case OPT_DEBUG_EXIT:
        return apply_number(c, o, value, e);
    case OPT_DISK:
        return parse_disk(value, c, e);
    case OPT_NAME:
        return parse_name(value, &c->name, e);
    case OPT_TIMEOUT:
        return seconds_parse(o->name, value, &c->timeout_ms, e);
    case OPT_NO_REBOOT:
        c->no_reboot = true;
        return 0;
    case OPT_STATS:
        set_flag(c, ABI_FLAG_STATS, true);
        return 0;
    case OPT_CHECK:
        set_flag(c, ABI_FLAG_CHECK, true);
        return 0;
    case OPT_VERBOSE:
        c->verbose += c->verbose < 2;
        return 0;
    case OPT_PERF_MAP:
        c->perf_map = true;
        return 0;
    case OPT_SYMBOLS:
        c->symbols = value;
        return 0;
    case OPT_DUMP_BLOCK:
        return parse_dump(value, c, e);
    case OPT_DUMP_TO:
        c->dump_to = value;
        return 0;
    case OPT_SECCOMP_AUDIT:
        set_flag(c, ABI_FLAG_SECCOMP_AUDIT, true);
        return 0;
    case OPT_SELFTEST_JAIL:
        return parse_jail_test(value, c, e);
    case OPT_HELP:
        w->help = true;
        return 0;
    case OPT_DOCTOR_JSON:
    case OPT_DOCTOR_HELP:
    case OPT_COUNT:
        break;
    }
    return err_set(e, -EINVAL, "option --%s is not of run", o->name);
}

/* What no option alone can say. */
static int check_together(struct core_conf *c, struct err *e)
{
    if (c->ram_bytes % 4096 || c->ram_bytes < ABI_RAM_BYTES_MIN)
        return err_set(e, -EINVAL,
                       "-m must be at least 1M and a multiple of 4K");
    if (c->ram_bytes > UINT64_C(1) << 46)
        return err_set(e, -EINVAL, "-m is at most 64T");
    if ((c->flags & ABI_FLAG_CHECK) && strcmp(c->engine, "bt") != 0)
        return err_set(e, -EINVAL,
                       "--check compares translated code with the interpreter: "
                       "give it with --engine bt");
    if (c->clock == ABI_CLOCK_VIRTUAL && c->cpus != 1)
        return err_set(e, -EINVAL,
                       "--clock virtual needs one CPU, since the order of "
                       "several is not repeatable: leave out -c %u",
                       c->cpus);
    if (c->clock == ABI_CLOCK_VIRTUAL && strcmp(c->engine, "auto") == 0)
        c->engine = "interp";
    if (c->clock == ABI_CLOCK_VIRTUAL && strcmp(c->engine, "interp") != 0)
        return err_set(e, -EINVAL,
                       "--clock virtual needs the interpreter, which counts "
                       "instructions: leave out --engine %s",
                       c->engine);
    return 0;
}

int run_parse(int argc, char **argv, struct run_words *out, struct err *e)
{
    struct opt_scan scan = {OPT_VERB_RUN, argv, argc, 0};
    const struct opt *o = NULL;
    const char *value = NULL;
    int rc;

    memset(out, 0, sizeof *out);
    out->conf.ram_bytes = DEFAULT_RAM;
    out->conf.cpus = 1;
    out->conf.cpu_level = ABI_CPU_V3;
    out->conf.engine = "auto";
    out->conf.debug_exit_port = -1;
    set_flag(&out->conf, ABI_FLAG_SCATTER, DEBUG_BUILD);
    while ((rc = opt_next(&scan, &o, &value, e)) == 1) {
        rc = apply(out, o, (char *)(uintptr_t)value, e);
        if (rc)
            return rc;
        if (out->help)
            return 0;
    }
    if (rc)
        return rc;
    if (scan.at < argc)
        return err_set(e, -EINVAL,
                       "doppel run takes no image or command yet: '%.60s' (a "
                       "kernel is given with -k)",
                       argv[scan.at]);
    return check_together(&out->conf, e);
}

static int choose_engine(struct core_conf *c, struct engine_choice *choice,
                         struct err *e)
{
    struct kvm_report kvm = {.kind = ABI_KVM_ABSENT};
    int rc;

    /* Scattered RAM is not for hardware: auto looks for none then. */
    if (engine_needs_kvm(c->engine) &&
        !((c->flags & ABI_FLAG_SCATTER) && strcmp(c->engine, "auto") == 0))
        kvmprobe_run(&kvm);
    rc = engine_choose(c->engine, kvm.kind, choice, e);
    if (rc)
        return rc;
    if (choice->slow_kvm)
        log_warn("core",
                 "this host's KVM interprets guest code (%s), so "
                 "--engine kvm is slow here",
                 kvm.why);
    log_info("core", "engine %s: %s", choice->name, choice->why);
    c->engine = choice->name;
    return 0;
}

static void print_help(void)
{
    printf("Usage: doppel run [OPTION]...\n\n"
           "Run a virtual machine, its serial console on this terminal. "
           "Without -k it is\nthe default guest. Ctrl-A x ends it, Ctrl-A a "
           "sends Ctrl-A.\n\nOptions:\n");
    opt_print_help(OPT_VERB_RUN);
    printf("\nExit status: 0 power-off; 123 triple fault, panic or reset "
           "loop; 124 --timeout\npassed; 125 a failure of doppel's own; "
           "128+N ended by signal N.\n");
}

int run_main(int argc, char **argv)
{
    struct engine_choice choice;
    struct run_words w;
    struct err e = {.text = ""};
    int status = CORE_STATUS_FAILED;

    if (run_parse(argc, argv, &w, &e) == 0) {
        if (w.help) {
            print_help();
            return 0;
        }
        log_level_set(w.conf.verbose == 0   ? LOG_WARN
                      : w.conf.verbose == 1 ? LOG_INFO
                                            : LOG_DEBUG);
        if (choose_engine(&w.conf, &choice, &e) == 0)
            status = core_run(&w.conf, &e);
    }
    if (status && e.text[0])
        fprintf(stderr, "doppel: %s\n", e.text);
    return status;
}
