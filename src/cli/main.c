// SPDX-License-Identifier: Apache-2.0
/*
 * doppel: one binary, several roles. A user starts it with a verb; core starts
 * it again with a role. A role that is started by hand finds no socket and
 * ends; it has no more rights than the user who started it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "cli/doctor.h"
#include "cli/options.h"
#include "cli/run.h"
#include "core/core.h"
#include "core/spawn.h"
#include "monitor/monitor.h"

struct verb {
    const char *name;
    const char *help;
    int (*main)(int argc, char **argv); /* the words behind the verb */
};

static const struct verb verbs[] = {
    {"run", "run a virtual machine on this terminal", run_main},
    {"doctor", "say what this host offers and which engine is picked",
     doctor_main},
};

static void print_help(FILE *to)
{
    fprintf(to, "Usage: doppel VERB [OPTION]...\n\n"
                "A virtual machine monitor that needs no hardware "
                "virtualization.\n\nVerbs:\n");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        fprintf(to, "  %-8s %s\n", verbs[i].name, verbs[i].help);
    fprintf(to, "\ndoppel VERB --help says more; so does man doppel.\n"
                "doppel --version prints the version.\n");
}

/* At the socket that core left for us; see core/spawn.h. */
static NORETURN void role_monitor(const char *argv0)
{
    int type = 0;
    socklen_t len = sizeof type;

    if (getsockopt(ABI_SOCK_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
        type != SOCK_SEQPACKET) {
        fprintf(stderr, "doppel: a monitor is started by doppel itself: use "
                        "doppel run\n");
        exit(CORE_STATUS_FAILED);
    }
    prctl(PR_SET_NAME, argv0); /* cut at 15 bytes by the kernel */
    /* Its threads are there still, and the jail has no room for what runs at
     * an ordinary exit. */
    _exit(monitor_main(ABI_SOCK_FD));
}

static int unknown_verb(const char *word)
{
    const char *nearest = NULL;
    unsigned best = 3;

    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        unsigned d = opt_distance(word, verbs[i].name);

        if (d < best && d < strlen(verbs[i].name)) {
            best = d;
            nearest = verbs[i].name;
        }
    }
    fprintf(stderr, "doppel: unknown %s '%.60s': %s%s%s\n",
            word[0] == '-' ? "option" : "verb", word,
            nearest ? "did you mean " : "see doppel --help",
            nearest ? nearest : "", nearest ? "?" : "");
    return CORE_STATUS_FAILED;
}

/* A full disk or a closed pipe must not look like success. */
static int flushed(int status)
{
    if (fflush(stdout) == 0 || status)
        return status;
    fprintf(stderr, "doppel: cannot write to stdout: %s\n", strerror(errno));
    return CORE_STATUS_FAILED;
}

/* Descriptors 0 to 2 must exist before any file is opened: a disk that became
 * "stdout" of a caller who closed his would be written to. A reader who goes
 * away is an error of write's, not a signal. */
static void standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= 2 && fcntl(fd, F_SETFD, 0) == 0);
    if (fd > 2)
        close(fd);
    signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;

    standard_descriptors();
    if (argc == 2 && strcmp(word, SPAWN_ROLE_MONITOR) == 0)
        role_monitor(argv[0]);
    if (!word) {
        print_help(stderr);
        return CORE_STATUS_FAILED;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "help") == 0) {
        print_help(stdout);
        return flushed(0);
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "version") == 0) {
        printf("doppel %s\n", DOPPEL_VERSION);
        return flushed(0);
    }
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(word, verbs[i].name) == 0)
            return flushed(verbs[i].main(argc - 2, argv + 2));
    }
    return unknown_verb(word);
}
