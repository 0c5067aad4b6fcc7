// SPDX-License-Identifier: Apache-2.0
/* Reading the option table; see options.h. */
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DOCKER_LETTERS "itdewuvp" /* theirs; -m is ours as well as theirs */
#define WORD_MAX       63
#define NEAR_MAX       3 /* edits that still count as a slip */

const struct opt opt_table[OPT_COUNT] = {
#define OPT(verb, id, letter, name, value, help)                               \
    {OPT_VERB_##verb, OPT_##id, letter, name, value, help},
#include "cli/options.def"
#undef OPT
};

static const char *verb_name(enum opt_verb verb)
{
    return verb == OPT_VERB_RUN ? "run" : "doctor";
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;

    return m < c ? m : c;
}

/* Source: the optimal string alignment distance, a restriction of Damerau,
 * CACM 7(3), 1964; the table is kept in three rows. */
unsigned opt_distance(const char *a, const char *b)
{
    unsigned rows[3][WORD_MAX + 1];
    size_t na = strlen(a), nb = strlen(b);

    if (na > WORD_MAX || nb > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= nb; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned *row = rows[i % 3], *up = rows[(i + 2) % 3];
        unsigned *up2 = rows[(i + 1) % 3];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            row[j] = min3(up[j] + 1, row[j - 1] + 1,
                          up[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
                a[i - 2] == b[j - 1] && up2[j - 2] + 1 < row[j])
                row[j] = up2[j - 2] + 1;
        }
    }
    return rows[na % 3][nb];
}

const struct opt *opt_nearest(enum opt_verb verb, const char *word)
{
    const struct opt *best = NULL;
    unsigned best_d = NEAR_MAX + 1;
    size_t len = strlen(word);

    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct opt *o = &opt_table[i];
        unsigned d;

        if (o->verb != verb || !o->help)
            continue;
        d = opt_distance(word, o->name);
        /* A beginning is near, however much of the word is missing. */
        if (len >= 2 && strncmp(word, o->name, len) == 0)
            d = 1;
        if (d < best_d && d < strlen(o->name)) {
            best = o;
            best_d = d;
        }
    }
    return best;
}

static const struct opt *find_name(enum opt_verb verb, const char *name,
                                   size_t len)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct opt *o = &opt_table[i];

        if (o->verb == verb && strlen(o->name) == len &&
            memcmp(o->name, name, len) == 0)
            return o;
    }
    return NULL;
}

static const struct opt *find_letter(enum opt_verb verb, char letter)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        if (opt_table[i].verb == verb && opt_table[i].letter == letter &&
            letter)
            return &opt_table[i];
    }
    return NULL;
}

static int unknown_name(enum opt_verb verb, const char *name, size_t len,
                        struct err *e)
{
    char word[WORD_MAX + 1];
    const struct opt *near;

    snprintf(word, sizeof word, "%.*s", (int)(len < 60 ? len : 60), name);
    near = opt_nearest(verb, word);
    if (near)
        return err_set(e, -EINVAL, "unknown option --%s: did you mean --%s?",
                       word, near->name);
    return err_set(e, -EINVAL, "unknown option --%s: see doppel %s --help",
                   word, verb_name(verb));
}

static int unknown_letter(enum opt_verb verb, const char *word, struct err *e)
{
    const struct opt *near;
    char letter = word[1];

    if (verb == OPT_VERB_RUN && strchr(DOCKER_LETTERS, letter))
        return err_set(e, -EINVAL,
                       "option -%c keeps its meaning of docker run and is not "
                       "there yet: see doppel run --help",
                       letter);
    near = word[2] ? opt_nearest(verb, word + 1) : NULL;
    if (!near)
        near = find_letter(verb, (char)tolower((unsigned char)letter));
    if (near)
        return err_set(e, -EINVAL, "unknown option %.60s: did you mean --%s?",
                       word, near->name);
    return err_set(e, -EINVAL, "unknown option %.60s: see doppel %s --help",
                   word, verb_name(verb));
}

/* @attached: what stood behind the name in the same word, or NULL. */
static int take_value(struct opt_scan *scan, const struct opt *o,
                      const char *attached, const char **value, struct err *e)
{
    *value = NULL;
    if (!o->value)
        return attached
                   ? err_set(e, -EINVAL, "option --%s takes no value", o->name)
                   : 1;
    if (!attached) {
        if (scan->at >= scan->argc)
            return err_set(e, -EINVAL, "option --%s needs a value: %s", o->name,
                           o->value);
        attached = scan->argv[scan->at++];
    }
    *value = attached;
    return 1;
}

static int next_long(struct opt_scan *scan, const char *word,
                     const struct opt **opt, const char **value, struct err *e)
{
    const char *eq = strchr(word, '=');
    size_t len = eq ? (size_t)(eq - word) : strlen(word);

    *opt = find_name(scan->verb, word, len);
    if (!*opt)
        return unknown_name(scan->verb, word, len, e);
    return take_value(scan, *opt, eq ? eq + 1 : NULL, value, e);
}

/* -m512, -m=512 or -m 512. */
static int next_short(struct opt_scan *scan, const char *word,
                      const struct opt **opt, const char **value, struct err *e)
{
    const char *attached = word[2] ? word + 2 : NULL;

    *opt = find_letter(scan->verb, word[1]);
    if (!*opt)
        return unknown_letter(scan->verb, word, e);
    if (attached && *attached == '=')
        attached++;
    return take_value(scan, *opt, attached, value, e);
}

int opt_next(struct opt_scan *scan, const struct opt **opt, const char **value,
             struct err *e)
{
    const char *word;

    if (scan->at >= scan->argc)
        return 0;
    word = scan->argv[scan->at];
    if (word[0] != '-' || word[1] == 0)
        return 0;
    scan->at++;
    if (strcmp(word, "--") == 0)
        return 0;
    if (word[1] == '-')
        return next_long(scan, word + 2, opt, value, e);
    return next_short(scan, word, opt, value, e);
}

/* Print @text in lines of at most 78 columns, indented by 8. */
static void print_wrapped(const char *text)
{
    size_t column = 0;

    while (*text) {
        size_t n = strcspn(text, " ");

        if (column && column + 1 + n > 78) {
            putchar('\n');
            column = 0;
        }
        if (column == 0)
            column = (size_t)printf("        %.*s", (int)n, text);
        else
            column += (size_t)printf(" %.*s", (int)n, text);
        text += n;
        text += *text == ' ';
    }
    putchar('\n');
}

void opt_print_help(enum opt_verb verb)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct opt *o = &opt_table[i];

        if (o->verb != verb || !o->help)
            continue;
        if (o->letter)
            printf("  -%c, --%s", o->letter, o->name);
        else
            printf("      --%s", o->name);
        printf("%s%s\n", o->value ? " " : "", o->value ? o->value : "");
        print_wrapped(o->help);
    }
}
