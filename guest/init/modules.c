// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel modules by need: /lib/modules/doppel.list (written by
 * tools/mkguest.sh) has lines `PATTERN FILE FILE...`; when the modalias of an
 * ACPI or PCI device matches the pattern, the files are loaded in that order.
 */
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALIASES_MAX 128
#define ALIAS_BYTES 128

struct aliases {
    unsigned n;
    char text[ALIASES_MAX][ALIAS_BYTES];
};

static void aliases_of_bus(struct aliases *a, const char *bus)
{
    char path[512];
    snprintf(path, sizeof path, "/sys/bus/%s/devices", bus);
    DIR *dir = opendir(path);
    if (!dir)
        return;
    struct dirent *d;
    while ((d = readdir(dir)) && a->n < ALIASES_MAX) {
        snprintf(path, sizeof path, "/sys/bus/%s/devices/%s/modalias", bus,
                 d->d_name);
        char *text = a->text[a->n];
        if (d->d_name[0] == '.' || read_file(path, text, ALIAS_BYTES) <= 0)
            continue;
        text[strcspn(text, "\n")] = '\0';
        a->n++;
    }
    closedir(dir);
}

static bool aliases_match(const struct aliases *a, const char *pattern)
{
    for (unsigned i = 0; i < a->n; i++)
        if (fnmatch(pattern, a->text[i], 0) == 0)
            return true;
    return false;
}

static void module_load(const char *file)
{
    char path[256];
    snprintf(path, sizeof path, "/lib/modules/%s", file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
        say("loading %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

void modules_load(void)
{
    static struct aliases present;
    static char list[8192];
    if (read_file("/lib/modules/doppel.list", list, sizeof list) <= 0)
        return;
    aliases_of_bus(&present, "acpi");
    aliases_of_bus(&present, "pci");
    char *lines;
    for (char *l = strtok_r(list, "\n", &lines); l;
         l = strtok_r(NULL, "\n", &lines)) {
        char *words;
        const char *pattern = strtok_r(l, " ", &words);
        if (!pattern || !aliases_match(&present, pattern))
            continue;
        const char *file;
        while ((file = strtok_r(NULL, " ", &words)))
            module_load(file);
    }
}
