// SPDX-License-Identifier: Apache-2.0
/*
 * Reading images. The file is copied, never mapped: a mapped file that is
 * truncated meanwhile would raise SIGBUS in the middle of a parser.
 */
#include "boot/boot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"

#define IMAGE_FIRST_BYTES (4 * MIB) /* room for a pipe at first */

/* read() for a pipe, pread() for a file (its position is shared with others).
 */
static ssize_t image_read_at(int fd, bool file, void *buf, size_t len,
                             size_t off)
{
    ssize_t n;
    do {
        n = file ? pread(fd, buf, len, (off_t)off) : read(fd, buf, len);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* One byte more than the file's size shows its end without a second buffer. */
static size_t image_first_room(const struct stat *st, bool file)
{
    return file ? (size_t)st->st_size + 1 : (size_t)IMAGE_FIRST_BYTES;
}

int boot_image_read(int fd, const char *name, struct boot_image *img,
                    struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set(e, -errno, "%s: %s", name, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return err_set(e, -EISDIR, "%s: it is a folder, not a file", name);
    bool file = S_ISREG(st.st_mode);
    if (file && (uint64_t)st.st_size > BOOT_IMAGE_MAX_BYTES)
        goto too_big;

    size_t room = image_first_room(&st, file), len = 0;
    uint8_t *data = malloc(room);
    while (data) {
        ssize_t n = image_read_at(fd, file, data + len, room - len, len);
        if (n < 0) {
            int err = errno;
            free(data);
            return err_set(e, -err, "%s: reading it: %s", name, strerror(err));
        }
        if (n == 0)
            break;
        len += (size_t)n;
        if (len < room)
            continue;
        if (len > BOOT_IMAGE_MAX_BYTES) {
            free(data);
            goto too_big;
        }
        uint8_t *more = realloc(data, room *= 2);
        if (!more)
            free(data);
        data = more;
    }
    if (!data)
        return err_set(e, -ENOMEM, "%s: no memory to read it into", name);
    *img = (struct boot_image){.data = data, .len = len, .name = name};
    return 0;

too_big:
    return err_set(e, -EFBIG,
                   "%s: larger than %llu MiB, which no kernel or "
                   "initrd is",
                   name, (unsigned long long)(BOOT_IMAGE_MAX_BYTES / MIB));
}

void boot_image_free(struct boot_image *img)
{
    free((void *)(uintptr_t)img->data);
    *img = (struct boot_image){0};
}
