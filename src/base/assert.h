// SPDX-License-Identifier: Apache-2.0
/*
 * Invariants of ours, never of input: nothing that a guest, a file or a peer
 * sends may reach a failing ASSERT. No side effects inside.
 */
#ifndef DOPPEL_BASE_ASSERT_H
#define DOPPEL_BASE_ASSERT_H

#include "base/cc.h"

NORETURN COLD void assert_fail(const char *file, int line, const char *what);

#define ASSERT(x) (LIKELY(x) ? (void)0 : assert_fail(__FILE__, __LINE__, #x))

/* On hot paths: checked in debug builds only. */
#ifdef DOPPEL_DEBUG
#    define DASSERT(x) ASSERT(x)
#else
#    define DASSERT(x) ((void)sizeof(x))
#endif

#endif
