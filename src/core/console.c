// SPDX-License-Identifier: Apache-2.0
/* The user's terminal; see console.h. Core alone changes its mode, so that it
 * is sane again however the monitor ends. */
#include "core/console.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

void console_init(struct console *c)
{
    struct winsize ws;

    memset(c, 0, sizeof *c);
    c->is_tty = tcgetattr(0, &c->saved) == 0;
    if (c->is_tty && ioctl(0, TIOCGWINSZ, &ws) == 0) {
        c->rows = ws.ws_row;
        c->columns = ws.ws_col;
    }
}

void console_raw(struct console *c)
{
    struct termios t = c->saved;

    if (!c->is_tty)
        return;
    cfmakeraw(&t);
    /* TCSANOW: what was typed ahead stays for the guest. */
    c->raw = tcsetattr(0, TCSANOW, &t) == 0;
}

void console_restore(struct console *c)
{
    struct sigaction ignore, old;

    if (!c->raw)
        return;
    /* A background job that sets a terminal is stopped by default. */
    memset(&ignore, 0, sizeof ignore);
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGTTOU, &ignore, &old);
    tcsetattr(0, TCSANOW, &c->saved);
    sigaction(SIGTTOU, &old, NULL);
    c->raw = false;
}

int console_dup(int fd)
{
    char path[64];
    struct stat st;
    int flags, own = -1;

    if (fstat(fd, &st) < 0)
        return -1;
    flags = fcntl(fd, F_GETFL);
    if (S_ISFIFO(st.st_mode) || isatty(fd)) {
        /* Regular files must share their offset, sockets cannot be opened. */
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        own = open(path, (fd == 0 ? O_RDONLY : O_WRONLY) | O_NONBLOCK |
                             O_NOCTTY | O_CLOEXEC | (flags & O_APPEND));
    }
    return own >= 0 ? own : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}
