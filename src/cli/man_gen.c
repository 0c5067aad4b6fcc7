// SPDX-License-Identifier: Apache-2.0
/*
 * Host tool: the man page from its template and the option table.
 *
 *   man_gen VERSION < docs/doppel.1.in > doppel.1
 *
 * A line @RUN_OPTIONS@ or @DOCTOR_OPTIONS@ becomes the table's options;
 * @VERSION@ within a line becomes the version.
 */
#include <stdio.h>
#include <string.h>

struct row {
    const char *verb;
    char letter;
    const char *name;
    const char *value;
    const char *help;
};

static const struct row rows[] = {
#define OPT(verb, id, letter, name, value, help)                               \
    {#verb, letter, name, value, help},
#include "cli/options.def"
#undef OPT
};

/* Text as roff wants it: a dash that is typed is \-, a dot or a quote at the
 * beginning of a line and a backslash mean something. */
static void put_text(const char *s)
{
    for (; *s; s++) {
        if (*s == '-')
            fputs("\\-", stdout);
        else if (*s == '\\')
            fputs("\\e", stdout);
        else
            putchar(*s);
    }
}

static void put_option(const struct row *r)
{
    puts(".TP");
    fputs(".B ", stdout);
    if (r->letter)
        printf("\\-%c\\fR, \\fB", r->letter);
    fputs("\\-\\-", stdout);
    put_text(r->name);
    if (r->value) {
        fputs(" \\fI", stdout);
        put_text(r->value);
    }
    puts("\\fR");
    put_text(r->help);
    putchar('\n');
}

static void put_options(const char *verb)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].help && strcmp(rows[i].verb, verb) == 0)
            put_option(&rows[i]);
    }
}

static void put_line(const char *line, const char *version)
{
    const char *at = strstr(line, "@VERSION@");

    if (at)
        printf("%.*s%s%s", (int)(at - line), line, version, at + 9);
    else
        fputs(line, stdout);
}

int main(int argc, char **argv)
{
    char line[1024];

    if (argc != 2) {
        fprintf(stderr, "usage: man_gen VERSION < template\n");
        return 2;
    }
    while (fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "@RUN_OPTIONS@\n") == 0)
            put_options("RUN");
        else if (strcmp(line, "@DOCTOR_OPTIONS@\n") == 0)
            put_options("DOCTOR");
        else
            put_line(line, argv[1]);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
