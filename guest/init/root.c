// SPDX-License-Identifier: Apache-2.0
/*
 * doppel.root=DEVICE[,ro] on the kernel's command line: go on in the ext4 file
 * system of that device. /proc, /sys, /dev, /run and /tmp go along; so does
 * /bench of the initrd where the new root has a folder of that name.
 */
#include "init.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NEW_ROOT     "/mnt"
#define WAIT_STEP_MS 20
#define WAIT_STEPS   250

/* Disks may be found by the kernel after their drivers are loaded. */
static bool device_wait(const char *dev)
{
    for (int i = 0; i < WAIT_STEPS; i++) {
        if (access(dev, F_OK) == 0)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = WAIT_STEP_MS * 1000000L}, NULL);
    }
    errno = ENODEV;
    return false;
}

static void mounts_take_along(void)
{
    static const char *const dirs[] = {"/proc", "/sys", "/dev", "/run", "/tmp"};

    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        char to[64];
        snprintf(to, sizeof to, NEW_ROOT "%s", dirs[i]);
        if (mount(dirs[i], to, NULL, MS_MOVE, NULL) < 0)
            say("moving %s: %s", dirs[i], strerror(errno));
    }
    if (access("/bench", F_OK) == 0 && access(NEW_ROOT "/bench", F_OK) == 0)
        (void)!mount("/bench", NEW_ROOT "/bench", NULL, MS_BIND, NULL);
}

void root_switch(void)
{
    char dev[256];

    if (!cmdline_get("doppel.root", dev, sizeof dev))
        return;
    char *comma = strchr(dev, ',');
    if (comma)
        *comma++ = '\0';
    unsigned long flags = comma && strcmp(comma, "ro") == 0 ? MS_RDONLY : 0;
    if (!device_wait(dev) ||
        mount(dev, NEW_ROOT, "ext4", flags | MS_NOATIME, NULL) < 0) {
        say("mounting %s: %s", dev, strerror(errno));
        return;
    }
    mounts_take_along();
    if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 ||
        chroot(".") < 0 || chdir("/") < 0)
        say("going to %s: %s", dev, strerror(errno));
}
