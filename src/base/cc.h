// SPDX-License-Identifier: Apache-2.0
/* Compiler features: the one place where GNU extensions get a name. */
#ifndef DOPPEL_BASE_CC_H
#define DOPPEL_BASE_CC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define NORETURN          __attribute__((noreturn))
#define UNUSED            __attribute__((unused))
#define PACKED            __attribute__((packed))
#define ALIGNED(n)        __attribute__((aligned(n)))
#define ALWAYS_INLINE     inline __attribute__((always_inline))
#define NOINLINE          __attribute__((noinline))
#define HOT               __attribute__((hot))
#define COLD              __attribute__((cold))
/* For big buffers on hot paths: not zeroed by -ftrivial-auto-var-init. */
#define UNINIT __attribute__((uninitialized))

/* Whether a sanitizer's run-time is in this build. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define CC_SANITIZED 1
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#        define CC_SANITIZED 1
#    else
#        define CC_SANITIZED 0
#    endif
#else
#    define CC_SANITIZED 0
#endif

/* Whether this is a build with extra checks. */
#ifdef DOPPEL_DEBUG
#    define DEBUG_BUILD true
#else
#    define DEBUG_BUILD false
#endif

/* Unaligned integers in guest memory that alias everything. */
#define ANY_ALIGN    __attribute__((aligned(1), may_alias))

#define LIKELY(x)    __builtin_expect(!!(x), 1)
#define UNLIKELY(x)  __builtin_expect(!!(x), 0)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* The structure of type @type whose member @member is at @ptr. */
#define CONTAINER_OF(ptr, type, member)                                        \
    ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void cc_fd_cleanup(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void cc_free_cleanup(void *p)
{
    free(*(void **)p);
}

/* Scoped ownership, for set-up code only: `AUTO_FD int fd = open(...)`. */
#define AUTO_FD   __attribute__((cleanup(cc_fd_cleanup)))
#define AUTO_FREE __attribute__((cleanup(cc_free_cleanup)))

#endif
