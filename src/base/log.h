// SPDX-License-Identifier: Apache-2.0
/*
 * Log lines on stderr: `doppel: module: what, value`. The level is per
 * process; below LOG_INFO nothing is printed unless --verbose was given.
 * Thread: any. Never log guest memory or secrets.
 */
#ifndef DOPPEL_BASE_LOG_H
#define DOPPEL_BASE_LOG_H

#include "base/cc.h"

#include <stdatomic.h>
#include <stdint.h>

enum log_level {
    LOG_ERR,
    LOG_WARN,
    LOG_INFO, /* shown with --verbose */
    LOG_DEBUG /* shown with --verbose --verbose */
};

/** log_level_set() - print lines up to @level (default LOG_WARN) */
void log_level_set(enum log_level level);

/** log_line() - one line; @module is a folder's name */
void log_line(enum log_level level, const char *module, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

#define log_err(mod, ...)   log_line(LOG_ERR, mod, __VA_ARGS__)
#define log_warn(mod, ...)  log_line(LOG_WARN, mod, __VA_ARGS__)
#define log_info(mod, ...)  log_line(LOG_INFO, mod, __VA_ARGS__)
#define log_debug(mod, ...) log_line(LOG_DEBUG, mod, __VA_ARGS__)

/* What a guest can provoke goes through a limiter: LOG_GUEST_MAX lines per
 * limiter, then only the counter moves. */
#define LOG_GUEST_MAX 8
struct log_limit {
    _Atomic uint64_t count;
};

/** log_guest() - a rate-limited LOG_INFO line about guest misbehaviour */
void log_guest(struct log_limit *limit, const char *module, const char *fmt,
               ...) PRINTF_LIKE(3, 4);

#endif
