// SPDX-License-Identifier: Apache-2.0
/* The engine choice; see engine_choice.h. */
#include "monitor/engine_choice.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"

/* Names that --engine knows, built or not, in the order of auto's liking. */
static const char *const known[] = {"kvm", "bt", "interp"};

static bool is_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(known[i], name) == 0)
            return true;
    }
    return false;
}

static void choose(struct engine_choice *out, const char *name, const char *why)
{
    snprintf(out->name, sizeof out->name, "%s", name);
    snprintf(out->why, sizeof out->why, "%s", why);
    out->slow_kvm = false;
}

static const char *kvm_word(enum abi_kvm kvm)
{
    switch (kvm) {
    case ABI_KVM_ABSENT:
        return engine_find("kvm") ? "there is no usable /dev/kvm"
                                  : "the kvm engine is not in this build";
    case ABI_KVM_EMULATING:
        return "this host's KVM interprets guest code";
    case ABI_KVM_REAL:
        return "the kvm engine is not in this build";
    }
    return "";
}

/* Whether translated code can run here; if not, why says what is missing. */
static bool bt_runs(char *why, size_t n)
{
    const struct engine_ops *bt = engine_find("bt");
    struct engine_probe p = {.usable = false};

    if (!bt) {
        snprintf(why, n, "the translator (bt) is not in this build");
        return false;
    }
    bt->probe(&p);
    snprintf(why, n, "translated code cannot run: %s", p.why);
    return p.usable;
}

static int choose_auto(enum abi_kvm kvm, struct engine_choice *out,
                       struct err *e)
{
    char lacks[192];
    char why[sizeof out->why];

    if (kvm == ABI_KVM_REAL && engine_find("kvm")) {
        choose(out, "kvm", "this host's KVM runs guest code at speed");
        return 0;
    }
    if (bt_runs(lacks, sizeof lacks)) {
        snprintf(why, sizeof why, "%s, so guest code is translated",
                 kvm_word(kvm));
        choose(out, "bt", why);
        return 0;
    }
    if (engine_find("interp")) {
        snprintf(why, sizeof why, "%s and %s", kvm_word(kvm), lacks);
        choose(out, "interp", why);
        return 0;
    }
    return err_set(e, -ENOTSUP, "this build has no engine that runs here");
}

static int choose_kvm(enum abi_kvm kvm, struct engine_choice *out,
                      struct err *e)
{
    if (kvm == ABI_KVM_ABSENT)
        return err_set(e, -ENOTSUP,
                       "--engine kvm needs a usable /dev/kvm, which this host "
                       "does not have: use --engine auto");
    choose(out, "kvm", "asked for by name");
    out->slow_kvm = kvm == ABI_KVM_EMULATING;
    return 0;
}

int engine_choose(const char *want, enum abi_kvm kvm, struct engine_choice *out,
                  struct err *e)
{
    if (strcmp(want, "auto") == 0)
        return choose_auto(kvm, out, e);
    if (!is_known(want))
        return err_set(e, -ENOTSUP,
                       "--engine %s is unknown: give auto, interp, bt or kvm",
                       want);
    if (!engine_find(want))
        return err_set(e, -ENOTSUP,
                       "--engine %s is not in this build: use --engine auto",
                       want);
    if (strcmp(want, "kvm") == 0)
        return choose_kvm(kvm, out, e);
    choose(out, want, "asked for by name");
    return 0;
}

bool engine_needs_kvm(const char *want)
{
    return engine_find("kvm") &&
           (strcmp(want, "auto") == 0 || strcmp(want, "kvm") == 0);
}
