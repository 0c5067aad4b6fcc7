// SPDX-License-Identifier: Apache-2.0
/*
 * Writes a cpio archive (newc) for an initramfs, the same bytes for the same
 * input: fixed owner, time and inode numbers, in the order of the list.
 * Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
 *
 *     mkcpio < LIST > ARCHIVE      with lines
 *     dir PATH MODE
 *     file PATH SOURCE MODE
 *     link PATH TARGET
 *     char PATH MODE MAJOR MINOR
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_BYTES 512

struct entry {
    unsigned ino, mode, nlink, major, minor;
    unsigned long size;
};

static void fail(const char *what, const char *which)
{
    fprintf(stderr, "mkcpio: %s: %s\n", which, what);
    exit(1);
}

static void pad(unsigned long n)
{
    while (n++ % 4 != 0)
        putchar(0);
}

static void put_header(const struct entry *e, const char *path)
{
    const char *name = *path == '/' ? path + 1 : path;
    unsigned long namesize = strlen(name) + 1;
    printf("070701%08X%08X%08X%08X%08X%08X%08lX%08X%08X%08X%08X%08lX%08X",
           e->ino, e->mode, 0U, 0U, e->nlink, 0U, e->size, 0U, 0U, e->major,
           e->minor, namesize, 0U);
    fwrite(name, 1, namesize, stdout);
    pad(110 + namesize);
}

static void put_file(struct entry *e, const char *path, const char *source)
{
    FILE *f = fopen(source, "rb");
    if (!f || fseek(f, 0, SEEK_END) < 0)
        fail(strerror(errno), source);
    long size = ftell(f);
    char *data = malloc((size_t)size + 1);
    rewind(f);
    if (!data || fread(data, 1, (size_t)size, f) != (size_t)size)
        fail("cannot be read", source);
    e->size = (unsigned long)size;
    put_header(e, path);
    fwrite(data, 1, (size_t)size, stdout);
    pad(e->size);
    free(data);
    fclose(f);
}

static unsigned octal(const char *s)
{
    return (unsigned)strtoul(s, NULL, 8);
}

static void put_line(const char *line, unsigned ino)
{
    char kind[WORD_BYTES], a[WORD_BYTES],
        b[WORD_BYTES] = "", c[WORD_BYTES] = "", d[WORD_BYTES] = "";
    int n = sscanf(line, "%511s %511s %511s %511s %511s", kind, a, b, c, d);
    struct entry e = {.ino = ino, .nlink = 1};
    if (n == 3 && strcmp(kind, "dir") == 0) {
        e.mode = 0040000 | octal(b);
        e.nlink = 2;
        put_header(&e, a);
    } else if (n == 4 && strcmp(kind, "file") == 0) {
        e.mode = 0100000 | octal(c);
        put_file(&e, a, b);
    } else if (n == 3 && strcmp(kind, "link") == 0) {
        e.mode = 0120777;
        e.size = strlen(b);
        put_header(&e, a);
        fputs(b, stdout);
        pad(e.size);
    } else if (n == 5 && strcmp(kind, "char") == 0) {
        e.mode = 0020000 | octal(b);
        e.major = (unsigned)atoi(c);
        e.minor = (unsigned)atoi(d);
        put_header(&e, a);
    } else {
        fail("not a line that is known", line);
    }
}

int main(void)
{
    char line[4 * WORD_BYTES];
    unsigned ino = 1;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0')
            put_line(line, ino++);
    }
    put_header(&(struct entry){.nlink = 1}, "TRAILER!!!");
    if (fflush(stdout) != 0 || ferror(stdout))
        fail(strerror(errno), "output");
    return 0;
}
