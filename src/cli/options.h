// SPDX-License-Identifier: Apache-2.0
/* The option table (options.def) and what reads it: a parser that knows no
 * option's meaning, and the help text. */
#ifndef DOPPEL_CLI_OPTIONS_H
#define DOPPEL_CLI_OPTIONS_H

#include "base/cc.h"
#include "base/err.h"

enum opt_verb {
    OPT_VERB_RUN,
    OPT_VERB_DOCTOR
};

enum opt_id {
#define OPT(verb, id, letter, name, value, help) OPT_##id,
#include "cli/options.def"
#undef OPT
    OPT_COUNT
};

struct opt {
    enum opt_verb verb;
    enum opt_id id;
    char letter;       /* 0: none */
    const char *name;  /* without the dashes */
    const char *value; /* NULL: takes none */
    const char *help;  /* NULL: hidden */
};

extern const struct opt opt_table[OPT_COUNT];

/* Where a parser stands in argv. */
struct opt_scan {
    enum opt_verb verb;
    char **argv;
    int argc;
    int at; /* the next word; when done, the first that is no option */
};

/** opt_next() - the next option of @scan
 * @opt: filled; @value: filled with its value, NULL when it takes none; both
 *   borrowed from the table and argv
 * Return: 1; 0 when the options end (at `--`, which is skipped, or at the
 *   first word that is no option); -EINVAL with a sentence, which names the
 *   nearest option when it is unknown. */
MUST_CHECK int opt_next(struct opt_scan *scan, const struct opt **opt,
                        const char **value, struct err *e);

/** opt_nearest() - the visible option of @verb whose name is nearest to @word
 * Return: NULL when none is near. */
const struct opt *opt_nearest(enum opt_verb verb, const char *word);

/** opt_distance() - edits (insert, delete, replace, swap) from @a to @b
 * Words longer than 63 bytes count as far from everything. */
unsigned opt_distance(const char *a, const char *b);

/** opt_print_help() - the table's options of @verb, wrapped, on stdout */
void opt_print_help(enum opt_verb verb);

#endif
