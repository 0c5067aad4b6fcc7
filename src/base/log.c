// SPDX-License-Identifier: Apache-2.0
/* Log lines; see log.h. One write per line, so that lines never mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES 1024

static _Atomic int level_shown = LOG_WARN;

void log_level_set(enum log_level level)
{
    atomic_store(&level_shown, (int)level);
}

static PRINTF_LIKE(2, 0) void emit(const char *module, const char *fmt,
                                   va_list ap)
{
    char line[LINE_BYTES];
    size_t n;
    ssize_t done;

    snprintf(line, sizeof line - 1, "doppel: %s: ", module);
    n = strlen(line);
    vsnprintf(line + n, sizeof line - 1 - n, fmt, ap);
    n = strlen(line);
    line[n++] = '\n';
    done = write(2, line, n);
    (void)done; /* nowhere left to report it */
}

void log_line(enum log_level level, const char *module, const char *fmt, ...)
{
    va_list ap;

    if ((int)level > atomic_load(&level_shown))
        return;
    va_start(ap, fmt);
    emit(module, fmt, ap);
    va_end(ap);
}

void log_guest(struct log_limit *limit, const char *module, const char *fmt,
               ...)
{
    uint64_t n = atomic_fetch_add(&limit->count, 1);
    va_list ap;

    if (n >= LOG_GUEST_MAX || LOG_INFO > atomic_load(&level_shown))
        return;
    va_start(ap, fmt);
    emit(module, fmt, ap);
    va_end(ap);
}
