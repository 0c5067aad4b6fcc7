// SPDX-License-Identifier: Apache-2.0
/* The default guest's files, found relative to the program; see guest.h. */
#include "core/guest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const places[] = {"../guest", "../share/doppel"};

static bool join(char *out, const char *bin, const char *place,
                 const char *file)
{
    int n = snprintf(out, PATH_MAX, "%s/%s/%s", bin, place, file);

    return n > 0 && n < PATH_MAX;
}

int guest_find_from(const char *bin, struct guest_files *out, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (join(out->kernel, bin, places[i], "vmlinuz") &&
            join(out->initrd, bin, places[i], "initrd.img") &&
            access(out->kernel, F_OK) == 0 && access(out->initrd, F_OK) == 0)
            return 0;
    }
    return err_set(e, -ENOENT,
                   "the default guest is not there (no vmlinuz and initrd.img "
                   "in %s/%s or %s/%s): run `make guest`, or give a kernel "
                   "with -k",
                   bin, places[0], bin, places[1]);
}

int guest_find(struct guest_files *out, struct err *e)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash;

    if (n < 0)
        return err_set(e, -errno,
                       "cannot read /proc/self/exe, so the default "
                       "guest is not found: give a kernel with -k");
    self[n] = 0;
    slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    return guest_find_from(self, out, e);
}
