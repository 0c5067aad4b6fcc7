// SPDX-License-Identifier: Apache-2.0
/* The option parser and run's words. */
#include "cli/options.h"

#include <errno.h>

#include "base/bits.h"
#include "base/test.h"
#include "cli/run.h"

#define WORDS_MAX 16

/* Parse @line, cut at spaces, as the words of run. */
static int parse(const char *line, struct run_words *w, struct err *e)
{
    static char text[512]; /* conf borrows from it */
    char *argv[WORDS_MAX], *save = NULL;
    int argc = 0;

    snprintf(text, sizeof text, "%s", line);
    for (char *p = strtok_r(text, " ", &save); p && argc < WORDS_MAX;
         p = strtok_r(NULL, " ", &save))
        argv[argc++] = p;
    e->text[0] = 0;
    return run_parse(argc, argv, w, e);
}

static void refused(const char *line, const char *why)
{
    struct run_words w;
    struct err e;

    CHECK_EQ(parse(line, &w, &e), -EINVAL);
    if (!strstr(e.text, why)) {
        printf("'%s' says '%s', not '%s'\n", line, e.text, why);
        test_failures++;
    }
}

static void taken(const char *line, struct core_conf *c)
{
    struct run_words w;
    struct err e;

    if (parse(line, &w, &e)) {
        printf("'%s' is refused: %s\n", line, e.text);
        test_failures++;
    }
    *c = w.conf;
}

/* Debug builds scatter memory unless told otherwise. */
#define DEFAULT_FLAGS ((uint64_t)(DEBUG_BUILD ? ABI_FLAG_SCATTER : 0))

TEST(defaults)
{
    struct core_conf c;

    taken("", &c);
    CHECK_EQ(c.ram_bytes, 512 * MIB);
    CHECK_EQ(c.cpus, 1);
    CHECK_EQ(c.cpu_level, ABI_CPU_V3);
    CHECK(!c.cpu_level_given);
    CHECK(!c.kernel);
    CHECK_EQ(c.debug_exit_port, -1);
    CHECK(strcmp(c.engine, "auto") == 0);
    CHECK_EQ(c.flags, DEFAULT_FLAGS);
}

TEST(every_form)
{
    struct core_conf c;

    taken("-k K --initrd a --initrd=b --append=x=y -m128 -c 4", &c);
    CHECK(strcmp(c.kernel, "K") == 0);
    CHECK_EQ(c.ninitrds, 2);
    CHECK(strcmp(c.initrd[1], "b") == 0);
    CHECK(strcmp(c.append, "x=y") == 0);
    CHECK_EQ(c.ram_bytes, 128 * MIB);
    CHECK_EQ(c.cpus, 4);
    taken("--kernel=K --memory=1G --cpus=64 -m=2G", &c);
    CHECK_EQ(c.ram_bytes, 2 * GIB);
    CHECK_EQ(c.cpus, 64);
    taken("--disk d --disk=e,ro --disk f,g --no-reboot --stats", &c);
    CHECK_EQ(c.ndisks, 3);
    CHECK(!c.disk[0].read_only && c.disk[1].read_only);
    CHECK(strcmp(c.disk[1].path, "e") == 0);
    CHECK(strcmp(c.disk[2].path, "f,g") == 0);
    CHECK(c.no_reboot);
    CHECK_EQ(c.flags, DEFAULT_FLAGS | ABI_FLAG_STATS);
    taken("--mem scatter --mitigations on --verbose --verbose --verbose", &c);
    CHECK_EQ(c.flags, ABI_FLAG_SCATTER | ABI_FLAG_MITIGATIONS);
    CHECK_EQ(c.verbose, 2);
    taken("--debug-exit 0xf4 --seed 7 --selftest-thaw 100 --timeout 2.5", &c);
    CHECK_EQ(c.debug_exit_port, 0xf4);
    CHECK(c.seed_given && c.seed == 7);
    CHECK_EQ(c.thaw_every, 100);
    CHECK_EQ(c.timeout_ms, 2500);
    taken("--perf-map --symbols S --dump-block ffffffff81000000 "
          "--dump-block 0x10 --dump-block all --dump-to F",
          &c);
    CHECK(c.perf_map);
    CHECK(strcmp(c.symbols, "S") == 0 && strcmp(c.dump_to, "F") == 0);
    CHECK_EQ(c.ndumps, 3);
    CHECK_EQ(c.dump_va[0], 0xffffffff81000000);
    CHECK_EQ(c.dump_va[1], 16);
    CHECK_EQ(c.dump_va[2], UINT64_MAX);
    taken("--check --engine bt", &c);
    CHECK_EQ(c.flags, DEFAULT_FLAGS | ABI_FLAG_CHECK);
    taken("--zones off", &c);
    CHECK_EQ(c.flags, DEFAULT_FLAGS | ABI_FLAG_ZONES_OFF);
    taken("--zones off --zones now", &c);
    CHECK_EQ(c.flags, DEFAULT_FLAGS | ABI_FLAG_ZONES_NOW);
    taken("--zones now --zones auto", &c);
    CHECK_EQ(c.flags, DEFAULT_FLAGS);
    taken("--clock virtual --cpu v2 --name a-b_c.d", &c);
    CHECK(strcmp(c.engine, "interp") == 0);
    CHECK_EQ(c.cpu_level, ABI_CPU_V2);
    CHECK(c.cpu_level_given);
}

TEST(refusals)
{
    refused("--kernl x", "did you mean --kernel?");
    refused("--no-rebot", "did you mean --no-reboot?");
    refused("--memroy 5", "did you mean --memory?");
    refused("--time 5", "did you mean --timeout?");
    refused("--xyzzyplugh", "doppel run --help");
    refused("-K x", "did you mean --kernel?");
    refused("-kernel x y", "image or command"); /* as -k ernel, a word */
    refused("-t", "docker");
    refused("-i", "docker");
    refused("-d", "docker");
    refused("-Z", "unknown option -Z");
    refused("-m", "needs a value");
    refused("--append", "needs a value");
    refused("--no-reboot=1", "takes no value");
    refused("--check", "--engine bt");
    refused("--check --engine interp", "--engine bt");
    refused("-m 0", "too small");
    refused("-m -5", "negative");
    refused("-m 5x", "not a memory size");
    refused("-m 100K", "at least 1M");
    refused("-m 1025K", "multiple of 4K");
    refused("-c 0", "1 to 64");
    refused("-c 65", "1 to 64");
    refused("-c two", "1 to 64");
    refused("--dump-block 12z", "hexadecimal");
    refused("--cpu v4", "v2, v3, host");
    refused("--engine qemu", "auto, interp, bt, kvm");
    refused("--clock virtual -c 2", "needs one CPU");
    refused("--clock virtual --engine bt", "interpreter");
    refused("--timeout 0", "above 0");
    refused("--name a/b", "--name takes");
    refused("--name -x", "--name takes");
    refused("--debug-exit 70000", "65535");
    refused("--disk ,ro", "path of a file");
    refused("debian", "takes no image");
    refused("-- debian", "takes no image");
    refused("--rm", "unknown option --rm");
}

TEST(options_end_at_first_word)
{
    char a[] = "--json", b[] = "word", c[] = "--help";
    char *argv[] = {a, b, c};
    struct opt_scan scan = {OPT_VERB_DOCTOR, argv, 3, 0};
    const struct opt *o = NULL;
    const char *value = "";
    struct err e;

    CHECK_EQ(opt_next(&scan, &o, &value, &e), 1);
    CHECK_EQ(o->id, OPT_DOCTOR_JSON);
    CHECK(value == NULL);
    CHECK_EQ(opt_next(&scan, &o, &value, &e), 0);
    CHECK_EQ(scan.at, 1);
}

TEST(table_is_sane)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct opt *o = &opt_table[i];

        CHECK_EQ(o->id, i);
        CHECK(strlen(o->name) >= 3);
        /* Letters of docker's that we do not serve. */
        CHECK(!o->letter || !strchr("itdewuvp", o->letter));
        for (size_t j = 0; j < i; j++) {
            CHECK(opt_table[j].verb != o->verb ||
                  strcmp(opt_table[j].name, o->name) != 0);
            CHECK(!o->letter || opt_table[j].verb != o->verb ||
                  opt_table[j].letter != o->letter);
        }
    }
}

TEST(distance)
{
    CHECK_EQ(opt_distance("", ""), 0);
    CHECK_EQ(opt_distance("abc", ""), 3);
    CHECK_EQ(opt_distance("", "ab"), 2);
    CHECK_EQ(opt_distance("kitten", "sitting"), 3);
    CHECK_EQ(opt_distance("memroy", "memory"), 1);
    CHECK_EQ(opt_distance("run", "rnu"), 1);
}

TEST_MAIN(CASE(defaults), CASE(every_form), CASE(refusals),
          CASE(options_end_at_first_word), CASE(table_is_sane), CASE(distance))
