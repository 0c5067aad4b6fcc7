// SPDX-License-Identifier: Apache-2.0
/*
 * One VM from power-on to its end: core_run.
 *
 * Theory of operation. A power cycle is one monitor process: core sends it the
 * configuration, then waits on three things only: its socket, a signalfd, and
 * the nearest deadline. A cycle ends with a report (EXIT or FAILED) or without
 * one (a crash). A reset starts a new cycle with a new process and new RAM and
 * the same open files, so nothing of the old guest is left.
 *
 * Deadlines: --timeout from power-on; 5 s after a first signal; LINGER_MS after
 * a report for the process to be gone. What ends the monitor is SIGKILL, to
 * process 1 of its namespace, so that all its threads go.
 */
#include "core/core.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>

#include "base/log.h"
#include "core/console.h"
#include "core/hostcpu.h"
#include "core/message.h"
#include "core/resources.h"
#include "core/spawn.h"

#define NEVER            INT64_MAX
#define POWER_BUTTON_MS  5000 /* then the guest is ended */
#define LINGER_MS        2000 /* from a report to the process's end */
#define RESETS_MAX       3    /* the third one within ... */
#define RESETS_WINDOW_MS 10000

/* How a cycle ended. */
enum cycle_end {
    CYCLE_RUNNING,
    CYCLE_REPORT,   /* rep holds EXIT */
    CYCLE_FAILED,   /* rep holds FAILED */
    CYCLE_CRASHED,  /* no report; wait_status holds why */
    CYCLE_PROTOCOL, /* it sent what is no report */
    CYCLE_SIGNAL,   /* we were told to end */
    CYCLE_TIMEOUT
};

struct supervisor {
    const struct core_conf *conf;
    struct monitor_conf mc;
    struct console con;
    int sigfd;
    struct spawned mon; /* pid 0: none */
    bool ready;         /* the monitor said that the guest runs */
    bool reaped;
    int wait_status;
    struct message_report rep;
    enum cycle_end end;
    int signal; /* the last that asked for the end; 0: none */
    int64_t signal_deadline_ms;
    int64_t timeout_deadline_ms;
    int64_t linger_deadline_ms;
    int64_t window_start_ms; /* of the reset count */
    unsigned resets;
};

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- signals ---------------------------------------------------------- */

static int signals_open(struct supervisor *s, struct err *e)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGCHLD);
    /* Stays blocked after the run: the process is about to exit, and a late
     * signal must not change its status. */
    sigprocmask(SIG_BLOCK, &set, NULL);
    s->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->sigfd < 0)
        return err_set(e, -errno, "cannot watch signals: %s", strerror(errno));
    return 0;
}

static void on_stop_signal(struct supervisor *s, int signo)
{
    if (s->end != CYCLE_RUNNING)
        return;
    if (s->signal) { /* the second one */
        s->signal = signo;
        s->end = CYCLE_SIGNAL;
        return;
    }
    s->signal = signo;
    s->signal_deadline_ms = now_ms() + POWER_BUTTON_MS;
    log_info("core", "signal %d: the power button is pressed", signo);
    (void)message_send_command(s->mon.sock, ABI_POWER_BUTTON);
}

static void on_child(struct supervisor *s)
{
    int status;

    if (s->mon.pid > 0 && !s->reaped &&
        waitpid(s->mon.pid, &status, WNOHANG) == s->mon.pid) {
        s->reaped = true;
        s->wait_status = status;
    }
}

static void on_signals(struct supervisor *s)
{
    struct signalfd_siginfo si;

    while (read(s->sigfd, &si, sizeof si) == sizeof si) {
        if (si.ssi_signo == SIGCHLD)
            on_child(s);
        else
            on_stop_signal(s, (int)si.ssi_signo);
    }
}

/* ---- one cycle -------------------------------------------------------- */

/* Take every report that is there. Return: false when the socket is done. */
static bool on_socket(struct supervisor *s)
{
    struct message_report rep;
    int rc;

    while ((rc = message_receive(s->mon.sock, &rep)) == 1) {
        if (rep.kind == ABI_READY && s->ready) {
            s->end = CYCLE_PROTOCOL; /* once; a flood would hold us here */
            return true;
        } else if (rep.kind == ABI_READY) {
            s->ready = true;
            log_info("core", "%s runs, process %d", s->mc.name,
                     (int)s->mon.pid);
        } else if (s->end == CYCLE_RUNNING) {
            s->rep = rep;
            s->end = rep.kind == ABI_EXIT ? CYCLE_REPORT : CYCLE_FAILED;
        }
    }
    if (rc == -EPROTO && s->end == CYCLE_RUNNING)
        s->end = CYCLE_PROTOCOL;
    return rc == -EAGAIN;
}

static int64_t nearest_deadline(const struct supervisor *s)
{
    int64_t t = s->timeout_deadline_ms;

    if (s->end != CYCLE_RUNNING)
        return s->linger_deadline_ms;
    if (s->signal_deadline_ms < t)
        t = s->signal_deadline_ms;
    return s->linger_deadline_ms < t ? s->linger_deadline_ms : t;
}

static void check_deadlines(struct supervisor *s)
{
    int64_t now = now_ms();

    if (s->end != CYCLE_RUNNING)
        return;
    if (now >= s->timeout_deadline_ms)
        s->end = CYCLE_TIMEOUT;
    else if (now >= s->signal_deadline_ms)
        s->end = CYCLE_SIGNAL;
}

static int wait_ms(const struct supervisor *s)
{
    int64_t deadline = nearest_deadline(s), left;

    if (deadline == NEVER)
        return -1;
    left = deadline - now_ms();
    return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

/* The process should be gone soon: it reported, or closed its socket.
 * Return: true when it has lingered too long. */
static bool lingers(struct supervisor *s)
{
    if (s->linger_deadline_ms == NEVER)
        s->linger_deadline_ms = now_ms() + LINGER_MS;
    if (now_ms() < s->linger_deadline_ms)
        return false;
    if (s->end == CYCLE_RUNNING)
        s->end = CYCLE_PROTOCOL;
    return true;
}

/* Wait until the cycle's end is known and, after a report, the process is
 * gone or has lingered too long. */
static void cycle_wait(struct supervisor *s)
{
    struct pollfd p[2] = {{.fd = s->sigfd, .events = POLLIN},
                          {.fd = s->mon.sock, .events = POLLIN}};

    s->linger_deadline_ms = NEVER;
    for (;;) {
        if (poll(p, ARRAY_LEN(p), wait_ms(s)) < 0 && errno != EINTR)
            return;
        on_signals(s);
        on_child(s);
        /* After on_child: what it sent before it went is there. */
        if (p[1].fd >= 0 && !on_socket(s))
            p[1].fd = -1;
        check_deadlines(s);
        if (s->reaped) {
            if (s->end == CYCLE_RUNNING)
                s->end = CYCLE_CRASHED;
            return;
        }
        if (s->end == CYCLE_RUNNING && p[1].fd >= 0)
            continue;
        if (s->end == CYCLE_SIGNAL || s->end == CYCLE_TIMEOUT ||
            s->end == CYCLE_PROTOCOL || lingers(s))
            return;
    }
}

static void cycle_end(struct supervisor *s)
{
    if (s->mon.pid > 0 && !s->reaped) {
        kill(s->mon.pid, SIGKILL);
        while (waitpid(s->mon.pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    if (s->mon.sock >= 0)
        close(s->mon.sock);
    s->mon.pid = 0;
    s->mon.sock = -1;
}

static int cycle_run(struct supervisor *s, struct err *e)
{
    int rc = resources_new_ram(&s->mc, e);

    if (rc)
        return rc;
    s->reaped = false;
    s->end = CYCLE_RUNNING;
    s->ready = false;
    rc = spawn_monitor(s->mc.name, &s->mon, e);
    if (rc)
        return rc;
    s->mc.jail_ns = s->mon.ns;
    if (s->conf->perf_map)
        rc = resources_perf_map(&s->mc, s->mon.pid, e);
    if (rc == 0)
        rc = message_send_conf(s->mon.sock, &s->mc, e);
    if (rc == 0)
        cycle_wait(s);
    cycle_end(s);
    return rc;
}

/* ---- what an end means ------------------------------------------------ */

/* Why a monitor that sent no report is gone. */
static int crash_sentence(const struct supervisor *s, struct err *e)
{
    int st = s->wait_status;

    if (WIFSIGNALED(st) && WTERMSIG(st) == SIGSYS)
        err_set(e, -EIO,
                "the monitor of %s was ended by signal %d (%s): it tried a "
                "system call that its seccomp list does not allow",
                s->mc.name, SIGSYS, strsignal(SIGSYS));
    else if (WIFSIGNALED(st))
        err_set(e, -EIO, "the monitor of %s was ended by signal %d (%s)",
                s->mc.name, WTERMSIG(st), strsignal(WTERMSIG(st)));
    else
        err_set(e, -EIO, "the monitor of %s left with status %d and no report",
                s->mc.name, WEXITSTATUS(st));
    return CORE_STATUS_FAILED;
}

/* Return: the status, or -1 when the machine starts again. */
static int on_reset(struct supervisor *s, struct err *e)
{
    int64_t now = now_ms();

    if (s->conf->no_reboot)
        return 0;
    if (s->signal) /* asked to end, not to start again */
        return 128 + s->signal;
    if (now - s->window_start_ms > RESETS_WINDOW_MS) {
        s->window_start_ms = now;
        s->resets = 0;
    }
    if (++s->resets < RESETS_MAX) {
        log_info("core", "%s resets", s->mc.name);
        return -1;
    }
    err_set(e, -EIO, "%s asked for %u resets within %d s, so it was ended",
            s->mc.name, s->resets, RESETS_WINDOW_MS / 1000);
    return CORE_STATUS_CRASHED;
}

static int on_exit_report(struct supervisor *s, struct err *e)
{
    const char *text = s->rep.text;

    switch (s->rep.reason) {
    case ABI_EXIT_POWEROFF:
    case ABI_EXIT_USER:
        return 0;
    case ABI_EXIT_RESET:
        return on_reset(s, e);
    case ABI_EXIT_TRIPLE_FAULT:
        err_set(e, -EIO, "%s shut down by a triple fault%s%s", s->mc.name,
                *text ? ": " : "", text);
        return CORE_STATUS_CRASHED;
    case ABI_EXIT_PANIC:
        err_set(e, -EIO, "the kernel of %s reported a panic%s%s", s->mc.name,
                *text ? ": " : "", text);
        return CORE_STATUS_CRASHED;
    case ABI_EXIT_DEBUG_EXIT:
        return (int)((s->rep.code * 2 + 1) & 0xff);
    case ABI_EXIT_QUIT:
        return s->signal ? 128 + s->signal : 0;
    }
    return CORE_STATUS_FAILED;
}

/* Return: the exit status, or -1 when the machine starts again. */
static int cycle_status(struct supervisor *s, struct err *e)
{
    switch (s->end) {
    case CYCLE_REPORT:
        return on_exit_report(s, e);
    case CYCLE_FAILED:
        err_set(e, -EIO, "%s",
                *s->rep.text ? s->rep.text : "the monitor gave no reason");
        return CORE_STATUS_FAILED;
    case CYCLE_CRASHED:
        return crash_sentence(s, e);
    case CYCLE_PROTOCOL:
        err_set(e, -EPROTO,
                "the monitor of %s sent what is no report, so it "
                "was ended",
                s->mc.name);
        return CORE_STATUS_FAILED;
    case CYCLE_SIGNAL:
        return 128 + s->signal;
    case CYCLE_TIMEOUT:
        err_set(e, -ETIMEDOUT,
                "%s ran for %g s, the --timeout, so it was "
                "ended",
                s->mc.name, (double)s->conf->timeout_ms / 1000);
        return CORE_STATUS_TIMEOUT;
    case CYCLE_RUNNING: /* poll failed */
        break;
    }
    err_set(e, -EIO, "cannot wait for the monitor of %s", s->mc.name);
    return CORE_STATUS_FAILED;
}

static void say_what_was_chosen(const struct monitor_conf *mc)
{
    log_info("core", "%s: kernel %s, %llu MiB, %u CPU(s), --cpu %s, engine %s",
             mc->name, mc->kernel.label,
             (unsigned long long)(mc->ram_bytes >> 20), mc->cpus,
             hostcpu_level_name(mc->cpu_level), mc->engine);
    log_info("core", "command line: %s", mc->cmdline);
}

static int run_cycles(struct supervisor *s, struct err *e)
{
    int64_t start = now_ms();
    int status;

    s->window_start_ms = start;
    s->signal_deadline_ms = NEVER;
    s->timeout_deadline_ms =
        s->conf->timeout_ms ? start + (int64_t)s->conf->timeout_ms : NEVER;
    console_raw(&s->con);
    do {
        if (cycle_run(s, e))
            status = CORE_STATUS_FAILED;
        else
            status = cycle_status(s, e);
    } while (status < 0);
    console_restore(&s->con);
    return status;
}

int core_run(const struct core_conf *conf, struct err *e)
{
    struct supervisor *s = calloc(1, sizeof *s);
    int status = CORE_STATUS_FAILED;

    if (!s) {
        err_set(e, -ENOMEM, "no memory to start");
        return status;
    }
    s->conf = conf;
    s->mon.sock = s->sigfd = -1;
    console_init(&s->con);
    if (resources_open(conf, &s->con, &s->mc, e) == 0) {
        say_what_was_chosen(&s->mc);
        if (signals_open(s, e) == 0)
            status = run_cycles(s, e);
        if (s->sigfd >= 0)
            close(s->sigfd);
        resources_close(&s->mc);
    }
    free(s);
    return status;
}
