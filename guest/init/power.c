// SPDX-License-Identifier: Apache-2.0
/*
 * The end: processes first (asked, then killed), then file systems, then the
 * machine.
 */
#include "init.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MOUNTS_MAX   64
#define PATH_BYTES   256
#define TERM_WAIT_MS 1000
#define TERM_STEP_MS 10

/* Reap until no child is left. Return: whether that came within @ms. */
static bool children_gone(int ms)
{
    for (;;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0 && errno == ECHILD)
            return true;
        if (pid > 0)
            continue;
        if (ms <= 0)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = TERM_STEP_MS * 1000000L}, NULL);
        ms -= TERM_STEP_MS;
    }
}

/* Take down what is mounted from a device, last mounted first; what is in
 * memory goes with it. */
static void unmount_disks(void)
{
    static char dirs[MOUNTS_MAX][PATH_BYTES];
    unsigned n = 0;
    char dev[PATH_BYTES];
    FILE *f = fopen("/proc/mounts", "re");
    if (!f)
        return;
    while (n < MOUNTS_MAX && fscanf(f, "%255s %255s%*[^\n]", dev, dirs[n]) == 2)
        if (dev[0] == '/')
            n++;
    fclose(f);
    while (n-- > 0)
        if (umount2(dirs[n], 0) < 0 &&
            mount(NULL, dirs[n], NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
            say("unmounting %s: %s", dirs[n], strerror(errno));
}

void power_down(int how)
{
    if (kill(-1, SIGTERM) == 0) {
        kill(-1, SIGCONT);
        kill(-1, SIGHUP); /* an interactive shell ignores SIGTERM */
        if (!children_gone(TERM_WAIT_MS)) {
            kill(-1, SIGKILL);
            children_gone(TERM_WAIT_MS);
        }
    }
    if (isatty(STDOUT_FILENO))
        tcdrain(STDOUT_FILENO);
    sync();
    (void)!chdir("/");
    unmount_disks();
    reboot(how);
    for (;;)
        pause();
}
