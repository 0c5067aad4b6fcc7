// SPDX-License-Identifier: Apache-2.0
/* The user's terminal, or what stdin and stdout are instead. */
#ifndef DOPPEL_CORE_CONSOLE_H
#define DOPPEL_CORE_CONSOLE_H

#include "base/cc.h"

#include <stdbool.h>
#include <termios.h>

struct console {
    bool is_tty;                  /* stdin is a terminal */
    bool raw;                     /* and it was made raw by console_raw */
    unsigned short rows, columns; /* of the terminal; 0: unknown */
    struct termios saved;
};

/** console_init() - look at stdin; changes nothing */
void console_init(struct console *c);

/** console_raw() - make a terminal raw, so that each byte is the guest's */
void console_raw(struct console *c);

/** console_restore() - undo console_raw; harmless when it was not called */
void console_restore(struct console *c);

/** console_dup() - a descriptor of stdin or stdout for the monitor
 * @fd: 0 or 1
 * A terminal or a pipe is opened anew where allowed, so that O_NONBLOCK does
 * not reach other processes that share the description; else it is a dup.
 * Return: the descriptor (gives), or -1 when @fd is closed. */
int console_dup(int fd);

#endif
