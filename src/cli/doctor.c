// SPDX-License-Identifier: Apache-2.0
/* The verb doctor; see doctor.h. */
#include "cli/doctor.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/hostcheck.h"
#include "cli/options.h"
#include "core/core.h"
#include "core/hostcpu.h"
#include "core/hostmem.h"
#include "core/kvmprobe.h"
#include "monitor/engine_choice.h"
#include "monitor/jail.h"

struct findings {
    struct kvm_report kvm;
    struct hostcheck check[HOSTCHECKS_MAX];
    unsigned nchecks;
    unsigned layers; /* JAIL_* */
    struct hostmem mem;
    const char *cpu_missing_v3; /* NULL: nothing */
    struct engine_choice engine;
    bool has_engine;
    struct err engine_err;
};

static void look(struct findings *f)
{
    kvmprobe_run(&f->kvm);
    f->nchecks = hostcheck_all(f->check);
    f->layers = hostcheck_jail();
    hostmem_get("", &f->mem);
    f->cpu_missing_v3 = hostcpu_missing(ABI_CPU_V3);
    f->has_engine =
        engine_choose("auto", f->kvm.kind, &f->engine, &f->engine_err) == 0;
}

static const char *kvm_word(enum abi_kvm kind)
{
    switch (kind) {
    case ABI_KVM_ABSENT:
        return "absent";
    case ABI_KVM_EMULATING:
        return "emulating";
    case ABI_KVM_REAL:
        return "real";
    }
    return "?";
}

static unsigned long long mib(uint64_t bytes)
{
    return bytes >> 20;
}

/* ---- text --------------------------------------------------------------- */

static void print_row(const char *name, const char *state, const char *detail,
                      const char *use)
{
    printf("%-18s %-9s %s\n%29sfor %s\n", name, state, detail, "", use);
}

static void print_jail(unsigned layers)
{
    const char *comma = "";

    printf("\nThe jail of a monitor here: ");
    for (unsigned i = 0; i < JAIL_LAYERS; i++) {
        if (layers & (1U << i)) {
            printf("%s%s", comma, jail_layer_name(i));
            comma = ", ";
        }
    }
    printf("%s.\n", *comma ? "" : "none");
    comma = "";
    for (unsigned i = 0; i < JAIL_LAYERS; i++) {
        if (!(layers & (1U << i))) {
            printf("%s%s",
                   *comma ? comma : "It cannot have: ", jail_layer_name(i));
            comma = ", ";
        }
    }
    printf("%s", *comma ? ".\n" : "");
    printf("Its seccomp list has %zu lines.\n", seccomp_list_active(false));
}

static void print_text(const struct findings *f)
{
    print_row("kvm", kvm_word(f->kvm.kind), f->kvm.why,
              "the kvm engine, where it is real");
    print_row("cpu", f->cpu_missing_v3 ? "v2" : "v3",
              f->cpu_missing_v3 ? f->cpu_missing_v3 : "has all of x86-64-v3",
              "the CPU that a guest sees (--cpu)");
    for (unsigned i = 0; i < f->nchecks; i++)
        print_row(f->check[i].name, f->check[i].ok ? "yes" : "no",
                  f->check[i].detail, f->check[i].use);
    printf("%-18s %llu MiB", "memory", mib(f->mem.total_bytes));
    if (f->mem.cgroup_bytes < f->mem.total_bytes)
        printf(", of which this cgroup may use %llu MiB",
               mib(f->mem.cgroup_bytes));
    printf("\n");
    print_jail(f->layers);
    if (f->has_engine)
        printf("\n--engine auto takes %s: %s.\n", f->engine.name,
               f->engine.why);
    else
        printf("\n--engine auto fails: %s.\n", f->engine_err.text);
}

/* ---- JSON --------------------------------------------------------------- */

static void json_string(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            printf("\\u%04x", (unsigned)*s);
        else
            putchar(*s);
    }
    putchar('"');
}

static void json_pair(const char *key, const char *value, const char *after)
{
    json_string(key);
    printf(": ");
    json_string(value);
    printf("%s", after);
}

static void json_kvm(const struct kvm_report *k)
{
    printf("  \"kvm\": {");
    json_pair("state", kvm_word(k->kind), ", ");
    printf("\"ring0_mips\": %.3f, \"ring3_mips\": %.3f, "
           "\"real_mips\": %.3f, \"exit_us\": %.3f, ",
           k->ring0_mips, k->ring3_mips, k->real_mips, k->exit_us);
    json_pair("detail", k->why, "},\n");
}

static void json_checks(const struct findings *f)
{
    printf("  \"checks\": [\n");
    for (unsigned i = 0; i < f->nchecks; i++) {
        printf("    {");
        json_pair("name", f->check[i].name, ", ");
        printf("\"ok\": %s, ", f->check[i].ok ? "true" : "false");
        json_pair("detail", f->check[i].detail, ", ");
        json_pair("use", f->check[i].use, i + 1 < f->nchecks ? "},\n" : "}\n");
    }
    printf("  ],\n");
}

static void json_jail(unsigned layers)
{
    printf("  \"jail\": {");
    for (unsigned i = 0; i < JAIL_LAYERS; i++) {
        json_string(jail_layer_name(i));
        printf(": %s, ", layers & (1U << i) ? "true" : "false");
    }
    printf("\"seccomp lines\": %zu},\n", seccomp_list_active(false));
}

static void print_json(const struct findings *f)
{
    printf("{\n");
    json_pair("version", DOPPEL_VERSION, ",\n");
    json_kvm(&f->kvm);
    printf("  \"cpu\": {");
    json_pair("level", f->cpu_missing_v3 ? "v2" : "v3", ", ");
    json_pair("missing", f->cpu_missing_v3 ? f->cpu_missing_v3 : "", "},\n");
    printf("  \"memory_mib\": %llu,\n", mib(f->mem.total_bytes));
    if (f->mem.cgroup_bytes != UINT64_MAX)
        printf("  \"cgroup_memory_mib\": %llu,\n", mib(f->mem.cgroup_bytes));
    json_checks(f);
    json_jail(f->layers);
    printf("  \"engine\": {");
    json_pair("auto", f->has_engine ? f->engine.name : "", ", ");
    json_pair("why", f->has_engine ? f->engine.why : f->engine_err.text,
              "}\n}\n");
}

static void print_help(void)
{
    printf("Usage: doppel doctor [OPTION]...\n\n"
           "Say what this host offers, what doppel uses each thing for, which "
           "layers of the\njail a monitor gets, and which engine --engine auto "
           "takes and why.\n\nOptions:\n");
    opt_print_help(OPT_VERB_DOCTOR);
}

int doctor_main(int argc, char **argv)
{
    struct opt_scan scan = {OPT_VERB_DOCTOR, argv, argc, 0};
    struct findings f = {.nchecks = 0};
    const struct opt *o = NULL;
    const char *value = NULL;
    struct err e = {.text = ""};
    bool json = false;
    int rc;

    while ((rc = opt_next(&scan, &o, &value, &e)) == 1) {
        if (o->id == OPT_DOCTOR_HELP) {
            print_help();
            return 0;
        }
        json = true;
    }
    if (rc == 0 && scan.at < argc)
        rc = err_set(&e, -1, "doppel doctor takes options only: '%.60s'",
                     argv[scan.at]);
    if (rc) {
        fprintf(stderr, "doppel: %s\n", e.text);
        return CORE_STATUS_FAILED;
    }
    look(&f);
    if (json)
        print_json(&f);
    else
        print_text(&f);
    return 0;
}
