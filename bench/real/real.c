// SPDX-License-Identifier: Apache-2.0
/*
 * Real programs of Debian, timed: real [ROW...], as root in a Debian root file
 * system (make guest-debian), natively by chroot or as a guest's command. Files
 * are worked on in /tmp. For each row it prints, on lines of their own,
 *     begin NAME
 *     end NAME COUNT NS [VALUE]    CLOCK_MONOTONIC between the two lines;
 * VALUE, when there, is the row's figure in ns sum NAME TEXT equal wherever the
 * row worked A name that begins with + is left out of the reader's mean.
 */
#include "rows.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RESULT "/tmp/result" /* what a row's command printed */

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

/* Run a shell command, its output in @out. Return: whether it succeeded. */
static bool shell(const char *command, const char *out)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        int fd = open(out, O_CREAT | O_TRUNC | O_WRONLY, 0644);

        dup2(fd, 1);
        dup2(fd, 2);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return waitpid(pid, &status, 0) == pid && status == 0;
}

/* The first line of @out. */
static const char *first_line(const char *out, char *buf, int size)
{
    FILE *f = fopen(out, "r");

    buf[0] = 0;
    if (!f || !fgets(buf, size, f))
        buf[0] = 0;
    if (f)
        fclose(f);
    buf[strcspn(buf, "\n")] = 0;
    return buf;
}

static bool failed(const struct real_row *r)
{
    char line[256];

    printf("failed %s: %s\n", r->name, first_line(RESULT, line, sizeof line));
    return false;
}

/* What @command prints. */
static const char *ask(const char *command, char *buf, int size)
{
    return shell(command, "/tmp/answer") ? first_line("/tmp/answer", buf, size)
                                         : "0";
}

static bool run_row(const struct real_row *r)
{
    char line[256];
    uint64_t t;

    if (r->prepare && !shell(r->prepare, RESULT))
        return failed(r);
    printf("begin %s\n", r->name);
    t = now_ns();
    bool good = shell(r->command, RESULT);
    t = now_ns() - t;
    if (!good)
        return failed(r);
    printf("end %s %u %" PRIu64, r->name, r->count, t);
    if (r->value)
        printf(" %s", ask(r->value, line, sizeof line));
    printf("\n");
    if (r->sum)
        printf("sum %s %s\n", r->name, ask(r->sum, line, sizeof line));
    return true;
}

static bool wanted(const struct real_row *r, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], r->name) == 0)
            return true;
    return argc < 2;
}

int main(int argc, char **argv)
{
    static const char *const env[][2] = {
        {"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"},
        {"HOME", "/tmp"},
        {"LC_ALL", "C"},
        {"GIT_AUTHOR_DATE", "1000000000 +0000"},
        {"GIT_COMMITTER_DATE", "1000000000 +0000"},
    };
    bool good = true;

    clearenv();
    for (size_t i = 0; i < sizeof env / sizeof env[0]; i++)
        setenv(env[i][0], env[i][1], 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (const struct real_row *r = real_rows; r->name; r++)
        if (wanted(r, argc, argv))
            good &= run_row(r);
    printf("done\n");
    return good ? 0 : 1;
}
