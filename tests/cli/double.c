// SPDX-License-Identifier: Apache-2.0
/*
 * A monitor without a machine, to test core and the command line: the file
 * given with -k is a script, one command a line, and nothing else is run. It
 * receives the configuration, closes the real jail and obeys:
 *
 *   poweroff | reset | triple | panic | user | debug N   report that end
 *   fail TEXT      report a failure        garbage   send what is no report
 *   echo TEXT      write a line to the console
 *   conf           write the configuration to the console
 *   cat            copy the console's input to its output until it ends
 *   sleep MS       wait; a power button ends with poweroff, unless deaf
 *   deaf           from now on the power button is not heard
 *   hang           wait for ever, hearing nothing
 *   close          close the socket and stay
 *   exit N | segv  go without a report
 */
#include "monitor/monitor.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "engine/engine.h"
#include "monitor/conf.h"
#include "monitor/jail.h"

struct play {
    int sock;
    struct monitor_conf conf;
    bool deaf;
};

const struct engine_ops *engine_find(const char *name)
{
    static const struct engine_ops interp = {.name = "interp"};

    return strcmp(name, "interp") == 0 ? &interp : NULL;
}

static void console_write(const struct play *p, const char *buf, size_t len)
{
    struct pollfd pfd = {.fd = p->conf.console_out, .events = POLLOUT};

    while (len) {
        ssize_t n = write(p->conf.console_out, buf, len);

        if (n > 0) {
            buf += n;
            len -= (size_t)n;
        } else {
            poll(&pfd, 1, -1);
        }
    }
}

static void do_cat(const struct play *p)
{
    struct pollfd pfd = {.fd = p->conf.console_in, .events = POLLIN};
    char buf[4096];
    ssize_t n;

    for (;;) {
        poll(&pfd, 1, -1);
        n = read(p->conf.console_in, buf, sizeof buf);
        if (n == 0)
            return;
        if (n > 0)
            console_write(p, buf, (size_t)n);
    }
}

static void do_conf(const struct play *p)
{
    const struct monitor_conf *c = &p->conf;
    char line[ABI_CMDLINE_BYTES + 512];

    snprintf(line, sizeof line,
             "name=%s engine=%s ram=%llu cpus=%u level=%d clock=%d "
             "verbose=%u flags=%llx seed=%llu thaw=%llu port=%d initrds=%u "
             "disks=%u cmdline=%s\n",
             c->name, c->engine, (unsigned long long)c->ram_bytes, c->cpus,
             (int)c->cpu_level, (int)c->clock, c->verbose,
             (unsigned long long)c->flags, (unsigned long long)c->seed,
             (unsigned long long)c->thaw_every, c->debug_exit_port, c->ninitrds,
             c->ndisks, c->cmdline);
    console_write(p, line, strlen(line));
}

/* Return: true when core asked for the end meanwhile. */
static bool do_sleep(struct play *p, int ms)
{
    struct pollfd pfd = {.fd = p->sock, .events = POLLIN};
    int got;

    if (poll(&pfd, p->deaf ? 0 : 1, ms) <= 0)
        return false;
    got = monitor_command(p->sock);
    return got == ABI_POWER_BUTTON || got == ABI_QUIT || got == 0;
}

/* Return: false when this was the last command. */
static bool do_end(struct play *p, const char *word, const char *rest)
{
    static const struct {
        const char *word;
        enum abi_exit reason;
    } ends[] = {
        {"poweroff", ABI_EXIT_POWEROFF},   {"reset", ABI_EXIT_RESET},
        {"triple", ABI_EXIT_TRIPLE_FAULT}, {"panic", ABI_EXIT_PANIC},
        {"user", ABI_EXIT_USER},           {"debug", ABI_EXIT_DEBUG_EXIT}};

    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        if (strcmp(word, ends[i].word) == 0) {
            monitor_report(p->sock, ends[i].reason, strtoull(rest, NULL, 0),
                           *rest ? rest : NULL);
            return false;
        }
    }
    monitor_failed(p->sock, *rest ? rest : "no such command in the script");
    return false;
}

static bool play_line(struct play *p, const char *word, const char *rest)
{
    if (strcmp(word, "echo") == 0) {
        console_write(p, rest, strlen(rest));
        console_write(p, "\n", 1);
    } else if (strcmp(word, "cat") == 0) {
        do_cat(p);
    } else if (strcmp(word, "conf") == 0) {
        do_conf(p);
    } else if (strcmp(word, "deaf") == 0) {
        p->deaf = true;
    } else if (strcmp(word, "sleep") == 0) {
        if (do_sleep(p, atoi(rest)))
            return do_end(p, "poweroff", "");
    } else if (strcmp(word, "hang") == 0) {
        for (;;)
            poll(NULL, 0, 1000);
    } else if (strcmp(word, "close") == 0) {
        close(p->sock);
        p->sock = -1;
    } else if (strcmp(word, "garbage") == 0) {
        (void)!write(p->sock, "this is no report", 17);
        poll(NULL, 0, 10000);
    } else if (strcmp(word, "exit") == 0) {
        _exit(atoi(rest));
    } else if (strcmp(word, "segv") == 0) {
        jail_test_run(ABI_JAIL_TEST_SEGV);
    } else {
        return do_end(p, word, rest);
    }
    return true;
}

static void play_script(struct play *p, char *script)
{
    char *save = NULL;

    for (char *line = strtok_r(script, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        char *rest = strchr(line, ' ');

        if (rest)
            *rest++ = 0;
        if (!play_line(p, line, rest ? rest : ""))
            return;
    }
}

static int start(struct play *p, struct err *e)
{
    int keep[] = {p->sock, p->conf.console_in, p->conf.console_out,
                  p->conf.ram_fd};
    struct jail_conf jail = {.ns = p->conf.jail_ns,
                             .keep = keep,
                             .nkeep = ARRAY_LEN(keep),
                             .audit = p->conf.flags & ABI_FLAG_SECCOMP_AUDIT};
    unsigned layers = 0;
    int rc;

    if (p->conf.verbose)
        log_level_set(LOG_INFO);
    rc = jail_enter(&jail, &layers, e);
    if (rc)
        return rc;
    for (unsigned i = 0; i < JAIL_LAYERS; i++) {
        if (!(layers & (1U << i)))
            log_info("jail", "no %s", jail_layer_name(i));
    }
    return 0;
}

int monitor_main(int sock)
{
    struct play p = {.sock = sock};
    static char script[8192];
    struct err e = {.text = ""};
    ssize_t n;

    if (monitor_conf_recv(sock, &p.conf, &e)) {
        monitor_failed(sock, e.text);
        return 1;
    }
    n = pread(p.conf.kernel.fd, script, sizeof script - 1, 0);
    if (n <= 0 || start(&p, &e)) {
        monitor_failed(sock, n <= 0 ? "an empty script" : e.text);
        return 1;
    }
    monitor_ready(sock);
    jail_test_run(p.conf.jail_test);
    play_script(&p, script);
    return 0;
}
