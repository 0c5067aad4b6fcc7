// SPDX-License-Identifier: Apache-2.0
/* The verb run: from words to a checked struct core_conf, and the run. */
#ifndef DOPPEL_CLI_RUN_H
#define DOPPEL_CLI_RUN_H

#include "base/cc.h"
#include "base/err.h"
#include "core/core.h"

#include <stdbool.h>

struct run_words {
    struct core_conf conf;
    bool help; /* --help was among them */
};

/** run_parse() - decode `run`'s words (behind the verb) into @out
 * Touches nothing on the host. @out borrows from argv.
 * Return: 0, or -EINVAL with a sentence. */
MUST_CHECK int run_parse(int argc, char **argv, struct run_words *out,
                         struct err *e);

/** run_main() - the verb; Return: the exit status */
int run_main(int argc, char **argv);

#endif
