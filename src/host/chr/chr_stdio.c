// SPDX-License-Identifier: Apache-2.0
/*
 * A character device on two descriptors; see chr_stdio.h.
 *
 * Theory of operation. Two rings of 64 KiB under one lock. The reader thread
 * polls the input descriptor and an eventfd; it goes on reading while the
 * device takes nothing, so that Ctrl-A x works on a guest that hangs. The
 * writer thread polls the output descriptor and writes at most 4 KiB after
 * each POLLOUT: a pipe that polls writable takes that much without blocking,
 * and a terminal or socket takes it soon. The descriptors' flags are never
 * touched. The writer waits a millisecond before it looks at a ring that was
 * empty, so that a UART's single bytes leave in batches.
 *
 * The device is called without the lock; `calls` counts callbacks under way,
 * so that detaching can wait for them.
 */
#include "host/chr/chr_stdio.h"

#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define RING     CHR_STDIO_RING_BYTES
#define CHUNK    4096U /* PIPE_BUF */
#define BATCH_MS 1
#define FLUSH_MS 2000U
#define JOIN_MS  200U
#define PREFIX   0x01 /* Ctrl-A */

struct ring {
    uint32_t first;
    uint32_t len;
    uint8_t buf[RING];
};

struct chr_stdio {
    int in_fd;
    int out_fd;
    struct chr_conf conf;
    int in_wake; /* eventfds */
    int out_wake;
    pthread_t reader;
    pthread_t writer;
    bool have_reader;
    bool have_writer;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* ring emptied, callback ended */
    pthread_cond_t work;    /* for the writer: bytes, or stop */
    struct chardev_client client;
    bool attached;
    unsigned calls;   /* callbacks under way */
    bool dev_room;    /* the device may take input */
    bool dev_refused; /* the device waits for writable() */
    bool out_dead;
    bool stop;
    bool prefix;    /* reader only: a Ctrl-A is held */
    struct ring in; /* changed by the reader alone, under the lock */
    struct ring out;
};

/* ---- rings ---- */

static size_t ring_put(struct ring *r, const uint8_t *buf, size_t len)
{
    size_t room = RING - r->len, at = (r->first + r->len) % RING, run;

    if (len > room)
        len = room;
    run = len < RING - at ? len : RING - at;
    memcpy(r->buf + at, buf, run);
    memcpy(r->buf, buf + run, len - run);
    r->len += (uint32_t)len;
    return len;
}

/* The first bytes, as far as they are contiguous, at most @max. */
static size_t ring_peek(const struct ring *r, uint8_t *buf, size_t max)
{
    size_t len = r->len;

    if (len > RING - r->first)
        len = RING - r->first;
    if (len > max)
        len = max;
    memcpy(buf, r->buf + r->first, len);
    return len;
}

static void ring_drop(struct ring *r, size_t n)
{
    r->first = (uint32_t)((r->first + n) % RING);
    r->len -= (uint32_t)n;
}

static void wake(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);

    (void)n; /* fails only when it is already signalled */
}

static void wake_clear(int fd)
{
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);

    (void)n;
}

/* ---- reading ---- */

/* The byte after a Ctrl-A. Return: how many bytes it makes, in @out. */
static size_t escape(struct chr_stdio *c, uint8_t byte, uint8_t out[2])
{
    /* No stdio: it asks about the descriptor, which the jail forbids. */
    static const char help[] = "\r\nCtrl-A x  quit\r\n"
                               "Ctrl-A a  send Ctrl-A\r\n"
                               "Ctrl-A h  this help\r\n";

    switch (byte) {
    case 'x':
        if (c->conf.quit)
            c->conf.quit(c->conf.ctx);
        return 0;
    case 'h':
    case '?':
        (void)!write(STDERR_FILENO, help, sizeof help - 1);
        return 0;
    case 'a':
    case PREFIX:
        out[0] = PREFIX;
        return 1;
    default:
        out[0] = PREFIX;
        out[1] = byte;
        return 2;
    }
}

/* Bytes from the descriptor into the ring; there is room for @len + 1: a
 * Ctrl-A may have been held since the last time. */
static void take_input(struct chr_stdio *c, const uint8_t *buf, size_t len)
{
    uint8_t bytes[CHUNK + 1];
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (c->prefix) {
            c->prefix = false;
            n += escape(c, buf[i], bytes + n);
        } else if (c->conf.escape && buf[i] == PREFIX) {
            c->prefix = true;
        } else {
            bytes[n++] = buf[i];
        }
    }
    pthread_mutex_lock(&c->lock);
    ring_put(&c->in, bytes, n);
    pthread_mutex_unlock(&c->lock);
}

/* Hand the device what it takes. */
static void deliver(struct chr_stdio *c)
{
    uint8_t buf[CHUNK];

    pthread_mutex_lock(&c->lock);
    while (c->attached && c->dev_room && c->in.len && !c->stop) {
        struct chardev_client client = c->client;
        size_t len = ring_peek(&c->in, buf, sizeof buf), taken;

        c->dev_room = false; /* input_ready() from now on counts */
        c->calls++;
        pthread_mutex_unlock(&c->lock);
        taken = client.input(client.dev, buf, len);
        pthread_mutex_lock(&c->lock);
        c->calls--;
        pthread_cond_broadcast(&c->changed);
        ring_drop(&c->in, taken);
        if (taken == len)
            c->dev_room = true;
    }
    pthread_mutex_unlock(&c->lock);
}

/* Read once. Return: false at the end of the input. */
static bool read_some(struct chr_stdio *c)
{
    uint8_t buf[CHUNK];
    size_t room = RING - c->in.len - 1;
    ssize_t n;
    int was;

    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &was);
    n = read(c->in_fd, buf, room < sizeof buf ? room : sizeof buf);
    pthread_setcancelstate(was, NULL);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    if (n > 0) {
        take_input(c, buf, (size_t)n);
        return true;
    }
    if (c->prefix) { /* a held Ctrl-A was the last byte */
        static const uint8_t prefix = PREFIX;

        c->prefix = false;
        pthread_mutex_lock(&c->lock);
        ring_put(&c->in, &prefix, 1);
        pthread_mutex_unlock(&c->lock);
    }
    return false;
}

static bool is_stopping(struct chr_stdio *c)
{
    bool stop;

    pthread_mutex_lock(&c->lock);
    stop = c->stop;
    pthread_mutex_unlock(&c->lock);
    return stop;
}

static void *reader_main(void *ctx)
{
    struct chr_stdio *c = ctx;
    bool open = c->in_fd >= 0;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    while (!is_stopping(c)) {
        /* Two bytes of room at least: a read of one, a held Ctrl-A. */
        struct pollfd fds[2] = {
            {.fd = c->in_wake, .events = POLLIN},
            {.fd = open && c->in.len + 2 <= RING ? c->in_fd : -1,
             .events = POLLIN},
        };

        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[0].revents)
            wake_clear(c->in_wake);
        if (fds[1].revents & POLLNVAL)
            open = false;
        else if (fds[1].revents)
            open = read_some(c);
        deliver(c);
    }
    return NULL;
}

/* ---- writing ---- */

/* With the lock held: tell the device when half the ring is free. */
static void call_writable(struct chr_stdio *c)
{
    struct chardev_client client = c->client;

    if (!c->dev_refused || !c->attached || c->out.len > RING / 2)
        return;
    c->dev_refused = false;
    c->calls++;
    pthread_mutex_unlock(&c->lock);
    client.writable(client.dev);
    pthread_mutex_lock(&c->lock);
    c->calls--;
    pthread_cond_broadcast(&c->changed);
}

/* Write @len bytes or fewer once the descriptor is ready. Only here may the
 * thread be cancelled: a terminal may block it in spite of POLLOUT.
 * Return: bytes written, 0 to try again, -1 when output is dead. */
static ssize_t write_some(struct chr_stdio *c, const uint8_t *buf, size_t len)
{
    struct pollfd fds[2] = {
        {.fd = c->out_wake, .events = POLLIN},
        {.fd = c->out_fd, .events = POLLOUT},
    };
    ssize_t n;
    int was;

    if (poll(fds, 2, -1) < 0)
        return 0;
    if (fds[0].revents)
        wake_clear(c->out_wake);
    if (!fds[1].revents)
        return 0;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &was);
    n = write(c->out_fd, buf, len);
    pthread_setcancelstate(was, NULL);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n < 0)
        log_info("chr", "output ends: %s", strerror(errno));
    return n;
}

/* Wait for bytes, a moment longer for more of them. Return: false to stop. */
static bool wait_for_output(struct chr_stdio *c)
{
    if (!c->out.len && !c->stop) {
        struct timespec nap = {.tv_nsec = BATCH_MS * 1000000L};

        while (!c->out.len && !c->stop)
            pthread_cond_wait(&c->work, &c->lock);
        pthread_mutex_unlock(&c->lock);
        nanosleep(&nap, NULL);
        pthread_mutex_lock(&c->lock);
    }
    return !c->stop;
}

static void *writer_main(void *ctx)
{
    struct chr_stdio *c = ctx;
    uint8_t buf[CHUNK];

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_mutex_lock(&c->lock);
    while (wait_for_output(c)) {
        size_t len = ring_peek(&c->out, buf, sizeof buf);
        ssize_t n;

        pthread_mutex_unlock(&c->lock);
        n = write_some(c, buf, len);
        pthread_mutex_lock(&c->lock);
        if (n < 0) {
            c->out_dead = true;
            c->out.len = 0;
        } else {
            ring_drop(&c->out, (size_t)n);
        }
        if (!c->out.len)
            pthread_cond_broadcast(&c->changed);
        call_writable(c);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- the device's side ---- */

static size_t stdio_write(void *be, const uint8_t *buf, size_t len)
{
    struct chr_stdio *c = be;
    size_t taken = len;

    pthread_mutex_lock(&c->lock);
    if (!c->out_dead) {
        if (!c->out.len && len)
            pthread_cond_signal(&c->work);
        taken = ring_put(&c->out, buf, len);
        if (taken < len)
            c->dev_refused = true;
    }
    pthread_mutex_unlock(&c->lock);
    return taken;
}

static void stdio_input_ready(void *be)
{
    struct chr_stdio *c = be;
    bool tell;

    pthread_mutex_lock(&c->lock);
    c->dev_room = true;
    tell = c->in.len;
    pthread_mutex_unlock(&c->lock);
    if (tell)
        wake(c->in_wake);
}

static void stdio_attach(void *be, const struct chardev_client *client)
{
    struct chr_stdio *c = be;

    pthread_mutex_lock(&c->lock);
    c->attached = client;
    c->dev_room = client;
    c->dev_refused = false;
    if (client)
        c->client = *client;
    while (!client && c->calls)
        pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
    wake(c->in_wake);
}

static const struct chardev_ops stdio_ops = {
    .write = stdio_write,
    .input_ready = stdio_input_ready,
};

struct chardev chr_stdio_chardev(struct chr_stdio *c)
{
    return (struct chardev){
        .ops = &stdio_ops,
        .be = c,
        .attach = stdio_attach,
    };
}

struct chardev chr_null_chardev(void)
{
    return (struct chardev){.ops = NULL};
}

/* ---- life ---- */

/* Signals are for the process's main thread; SIGPIPE for nobody. */
static int start_threads(struct chr_stdio *c)
{
    sigset_t all, old;
    int ret;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ret = pthread_create(&c->reader, NULL, reader_main, c);
    c->have_reader = ret == 0;
    if (ret == 0) {
        ret = pthread_create(&c->writer, NULL, writer_main, c);
        c->have_writer = ret == 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -ret;
}

int chr_stdio_create(int in_fd, int out_fd, const struct chr_conf *conf,
                     struct chr_stdio **out, struct err *e)
{
    struct chr_stdio *c = calloc(1, sizeof *c);
    pthread_condattr_t attr;
    int ret;

    if (!c)
        return err_set(e, -ENOMEM, "chr: out of memory");
    c->in_fd = in_fd;
    c->out_fd = out_fd;
    c->out_dead = out_fd < 0;
    if (conf)
        c->conf = *conf;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &attr);
    pthread_cond_init(&c->work, &attr);
    pthread_condattr_destroy(&attr);
    c->in_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->out_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->in_wake < 0 || c->out_wake < 0) {
        ret = err_set(e, -errno, "chr: no eventfd: %s", strerror(errno));
        goto fail;
    }
    ret = start_threads(c);
    if (ret < 0) {
        err_set(e, ret, "chr: no thread: %s", strerror(-ret));
        goto fail;
    }
    *out = c;
    return 0;
fail:
    chr_stdio_destroy(c);
    return ret;
}

static struct timespec deadline(clockid_t clock, unsigned ms)
{
    struct timespec t;

    clock_gettime(clock, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_nsec -= 1000000000L;
        t.tv_sec++;
    }
    return t;
}

bool chr_stdio_flush(struct chr_stdio *c, unsigned timeout_ms)
{
    struct timespec until = deadline(CLOCK_MONOTONIC, timeout_ms);
    bool empty;

    pthread_mutex_lock(&c->lock);
    while (c->out.len &&
           pthread_cond_timedwait(&c->changed, &c->lock, &until) == 0)
        ;
    empty = !c->out.len;
    pthread_mutex_unlock(&c->lock);
    return empty;
}

/* A thread that hangs in read or write (the descriptor is shared, somebody
 * else was faster) is cancelled there. */
static void join(pthread_t thread)
{
    struct timespec until = deadline(CLOCK_REALTIME, JOIN_MS);

    if (pthread_timedjoin_np(thread, NULL, &until) == 0)
        return;
    pthread_cancel(thread);
    pthread_join(thread, NULL);
}

void chr_stdio_destroy(struct chr_stdio *c)
{
    if (!c)
        return;
    if (c->have_writer)
        chr_stdio_flush(c, FLUSH_MS);
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->lock);
    wake(c->in_wake);
    wake(c->out_wake);
    if (c->have_reader)
        join(c->reader);
    if (c->have_writer)
        join(c->writer);
    if (c->in_wake >= 0)
        close(c->in_wake);
    if (c->out_wake >= 0)
        close(c->out_wake);
    pthread_cond_destroy(&c->work);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
