// SPDX-License-Identifier: Apache-2.0
/* Console back end: bytes through pipes in both directions. */
#include "host/chr/chr_stdio.h"

#include "base/err.h"
#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#define BULK (1024U * 1024U)

static uint32_t rnd(uint32_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 17;
    *s ^= *s << 5;
    return *s;
}

static uint8_t pattern(size_t i)
{
    return (uint8_t)((i * 2654435761U) >> 13);
}

static void nap_us(unsigned us)
{
    struct timespec t = {.tv_nsec = (long)us * 1000};

    nanosleep(&t, NULL);
}

/* A device that takes input in random pieces into a buffer. */
struct dev {
    pthread_mutex_t lock;
    struct chardev chr;
    uint8_t *got;
    size_t got_len;
    size_t got_max;
    size_t room; /* what it takes at once before it refuses */
    bool refused;
    _Atomic unsigned writable;
    uint32_t seed;
};

static size_t dev_input(void *ctx, const uint8_t *buf, size_t len)
{
    struct dev *d = ctx;
    size_t n = len;

    pthread_mutex_lock(&d->lock);
    if (n > d->room) {
        n = d->room;
        d->refused = true;
    }
    if (n > d->got_max - d->got_len)
        n = d->got_max - d->got_len;
    memcpy(d->got + d->got_len, buf, n);
    d->got_len += n;
    d->room -= n;
    pthread_mutex_unlock(&d->lock);
    return n;
}

static void dev_writable(void *ctx)
{
    struct dev *d = ctx;

    atomic_fetch_add(&d->writable, 1);
}

static void dev_init(struct dev *d, struct chr_stdio *c, size_t max,
                     size_t room)
{
    const struct chardev_client client = {dev_input, dev_writable, d};

    memset(d, 0, sizeof *d);
    pthread_mutex_init(&d->lock, NULL);
    d->got = malloc(max);
    d->got_max = max;
    d->room = room;
    d->seed = 77;
    d->chr = chr_stdio_chardev(c);
    d->chr.attach(d->chr.be, &client);
}

static void dev_fini(struct dev *d)
{
    d->chr.attach(d->chr.be, NULL);
    free(d->got);
}

static size_t dev_got(struct dev *d)
{
    size_t n;

    pthread_mutex_lock(&d->lock);
    n = d->got_len;
    pthread_mutex_unlock(&d->lock);
    return n;
}

/* Up to 5 s for @n bytes to arrive, giving room on the way. */
static bool dev_wait(struct dev *d, size_t n)
{
    for (unsigned i = 0; i < 50000 && dev_got(d) < n; i++) {
        pthread_mutex_lock(&d->lock);
        if (d->refused) {
            d->refused = false;
            d->room = 1 + rnd(&d->seed) % 3000;
            d->chr.ops->input_ready(d->chr.be); /* lock held: allowed */
        }
        pthread_mutex_unlock(&d->lock);
        nap_us(100);
    }
    return dev_got(d) >= n;
}

/* A thread at the far end of a pipe. */
struct far {
    pthread_t thread;
    int fd;
    size_t len;
    unsigned nap_us;
    uint8_t *buf;
    size_t done;
};

static void *far_write(void *ctx)
{
    struct far *f = ctx;
    uint32_t seed = 5;

    while (f->done < f->len) {
        size_t n = 1 + rnd(&seed) % 9000;
        ssize_t w;

        if (n > f->len - f->done)
            n = f->len - f->done;
        w = write(f->fd, f->buf + f->done, n);
        if (w <= 0)
            break;
        f->done += (size_t)w;
        if (f->nap_us && rnd(&seed) % 8 == 0)
            nap_us(f->nap_us);
    }
    close(f->fd);
    return NULL;
}

static void *far_read(void *ctx)
{
    struct far *f = ctx;
    uint32_t seed = 6;

    while (f->done < f->len) {
        size_t n = 1 + rnd(&seed) % 9000;
        ssize_t r;

        if (n > f->len - f->done)
            n = f->len - f->done;
        r = read(f->fd, f->buf + f->done, n);
        if (r <= 0)
            break;
        f->done += (size_t)r;
        if (f->nap_us)
            nap_us(f->nap_us);
    }
    return NULL;
}

static struct chr_stdio *create(int in, int out, const struct chr_conf *conf)
{
    struct chr_stdio *c = NULL;
    struct err e = {.text = ""};

    if (chr_stdio_create(in, out, conf, &c, &e) < 0)
        printf("%s\n", e.text);
    return c;
}

TEST(input_bulk)
{
    struct far f = {.len = BULK, .nap_us = 50, .buf = malloc(BULK)};
    struct chr_stdio *c;
    struct dev d;
    int p[2];

    CHECK_EQ(pipe(p), 0);
    for (size_t i = 0; i < BULK; i++)
        f.buf[i] = pattern(i);
    f.fd = p[1];
    c = create(p[0], -1, NULL);
    dev_init(&d, c, BULK, 100);
    pthread_create(&f.thread, NULL, far_write, &f);
    CHECK(dev_wait(&d, BULK));
    pthread_join(f.thread, NULL);
    CHECK(memcmp(d.got, f.buf, BULK) == 0);
    CHECK_EQ(fcntl(p[0], F_GETFL) & O_NONBLOCK, 0);
    dev_fini(&d);
    chr_stdio_destroy(c);
    close(p[0]);
    free(f.buf);
}

/* Write all of it as a polite device does: wait for writable() when refused. */
static void put_all(struct dev *d, const uint8_t *buf, size_t len)
{
    size_t done = 0;
    unsigned patience = 100000;

    while (done < len && patience) {
        size_t n = 1 + rnd(&d->seed) % 5000, taken;
        unsigned seen = atomic_load(&d->writable);

        if (n > len - done)
            n = len - done;
        taken = d->chr.ops->write(d->chr.be, buf + done, n);
        done += taken;
        while (taken < n && atomic_load(&d->writable) == seen && patience) {
            nap_us(50);
            patience--;
        }
    }
    CHECK_EQ(done, len);
}

static void output_bulk_at(unsigned reader_nap_us, size_t len)
{
    struct far f = {.len = len, .nap_us = reader_nap_us, .buf = malloc(len)};
    uint8_t *bytes = malloc(len);
    struct chr_stdio *c;
    struct dev d;
    int p[2];

    CHECK_EQ(pipe(p), 0);
    for (size_t i = 0; i < len; i++)
        bytes[i] = pattern(i + 3);
    f.fd = p[0];
    c = create(-1, p[1], NULL);
    dev_init(&d, c, 1, 0);
    pthread_create(&f.thread, NULL, far_read, &f);
    put_all(&d, bytes, len);
    CHECK(chr_stdio_flush(c, 5000));
    pthread_join(f.thread, NULL);
    CHECK_EQ(f.done, len);
    CHECK(memcmp(f.buf, bytes, len) == 0);
    CHECK_EQ(fcntl(p[1], F_GETFL) & O_NONBLOCK, 0);
    dev_fini(&d);
    chr_stdio_destroy(c);
    close(p[0]);
    close(p[1]);
    free(bytes);
    free(f.buf);
}

TEST(output_bulk)
{
    output_bulk_at(0, BULK);
}

TEST(output_slow_reader)
{
    output_bulk_at(500, BULK);
}

/* A reader that takes nothing: the ring and the pipe fill, write() refuses,
 * destroy gives up after 2 s and drops the rest. */
TEST(output_stuck_reader)
{
    uint8_t buf[4096] = {0};
    struct chr_stdio *c;
    struct timespec t0, t1;
    struct dev d;
    size_t total = 0;
    int p[2];

    CHECK_EQ(pipe(p), 0);
    c = create(-1, p[1], NULL);
    dev_init(&d, c, 1, 0);
    for (unsigned i = 0; i < 2000; i++) {
        total += d.chr.ops->write(d.chr.be, buf, sizeof buf);
        if (i % 40 == 39)
            nap_us(1000);
    }
    CHECK(total >= CHR_STDIO_RING_BYTES);
    CHECK(total <= 2 * CHR_STDIO_RING_BYTES);
    CHECK(!chr_stdio_flush(c, 10));
    dev_fini(&d);
    clock_gettime(CLOCK_MONOTONIC, &t0);
    chr_stdio_destroy(c);
    clock_gettime(CLOCK_MONOTONIC, &t1);
    CHECK(t1.tv_sec - t0.tv_sec <= 4);
    close(p[0]);
    close(p[1]);
}

/* EPIPE: the process lives on, output vanishes, the device isn't stopped. */
TEST(output_closed_pipe)
{
    uint8_t buf[4096] = {0};
    struct chr_stdio *c;
    struct dev d;
    size_t total = 0;
    int p[2];

    CHECK_EQ(pipe(p), 0);
    close(p[0]);
    c = create(-1, p[1], NULL);
    dev_init(&d, c, 1, 0);
    put_all(&d, buf, sizeof buf);
    nap_us(20000);
    for (unsigned i = 0; i < 100; i++)
        total += d.chr.ops->write(d.chr.be, buf, sizeof buf);
    CHECK_EQ(total, 100 * sizeof buf);
    CHECK(chr_stdio_flush(c, 1000));
    dev_fini(&d);
    chr_stdio_destroy(c);
    close(p[1]);
}

/* Destroying writes out what is buffered. */
TEST(destroy_flushes)
{
    uint8_t buf[1000], back[1000];
    struct chr_stdio *c;
    struct chardev chr;
    int p[2];

    CHECK_EQ(pipe(p), 0);
    for (size_t i = 0; i < sizeof buf; i++)
        buf[i] = pattern(i);
    c = create(-1, p[1], NULL);
    chr = chr_stdio_chardev(c);
    for (size_t i = 0; i < sizeof buf; i++)
        CHECK_EQ(chr.ops->write(chr.be, buf + i, 1), 1);
    chr_stdio_destroy(c);
    CHECK_EQ(read(p[0], back, sizeof back), sizeof back);
    CHECK(memcmp(buf, back, sizeof buf) == 0);
    close(p[0]);
    close(p[1]);
}

/* End of input: reading stops, output goes on. */
TEST(end_of_input)
{
    uint8_t back[8] = {0};
    struct chr_stdio *c;
    struct dev d;
    int in[2], out[2];

    CHECK_EQ(pipe(in), 0);
    CHECK_EQ(pipe(out), 0);
    CHECK_EQ(write(in[1], "hello", 5), 5);
    close(in[1]);
    c = create(in[0], out[1], NULL);
    dev_init(&d, c, 100, 100);
    CHECK(dev_wait(&d, 5));
    CHECK(memcmp(d.got, "hello", 5) == 0);
    nap_us(5000);
    CHECK_EQ(d.chr.ops->write(d.chr.be, (const uint8_t *)"bye", 3), 3);
    CHECK_EQ(read(out[0], back, sizeof back), 3);
    CHECK(memcmp(back, "bye", 3) == 0);
    CHECK_EQ(dev_got(&d), 5);
    dev_fini(&d);
    chr_stdio_destroy(c);
    close(in[0]);
    close(out[0]);
    close(out[1]);
}

TEST(dev_null)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct chr_stdio *c = create(fd, fd, NULL);
    uint8_t buf[4096] = {0};
    struct dev d;

    dev_init(&d, c, 100, 100);
    for (unsigned i = 0; i < 256; i++)
        put_all(&d, buf, sizeof buf);
    CHECK(chr_stdio_flush(c, 2000));
    CHECK_EQ(dev_got(&d), 0);
    dev_fini(&d);
    chr_stdio_destroy(c);
    close(fd);
}

static void count(void *ctx)
{
    atomic_fetch_add((_Atomic unsigned *)ctx, 1);
}

/* What of @in arrives with or without the escape. */
static void escape_case(bool on, const char *in, size_t in_len,
                        const char *want, size_t want_len, unsigned want_quits)
{
    _Atomic unsigned quits = 0;
    const struct chr_conf conf = {.escape = on, .quit = count, .ctx = &quits};
    struct chr_stdio *c;
    struct dev d;
    int p[2];

    CHECK_EQ(pipe(p), 0);
    c = create(p[0], -1, &conf);
    dev_init(&d, c, 100, 1);
    for (size_t i = 0; i < in_len; i++) { /* each byte by itself */
        CHECK_EQ(write(p[1], in + i, 1), 1);
        nap_us(300);
    }
    close(p[1]);
    CHECK(dev_wait(&d, want_len));
    nap_us(3000);
    CHECK_EQ(dev_got(&d), want_len);
    CHECK(memcmp(d.got, want, want_len) == 0);
    CHECK_EQ(atomic_load(&quits), want_quits);
    dev_fini(&d);
    chr_stdio_destroy(c);
    close(p[0]);
}

TEST(escape)
{
    escape_case(true, "ab\x01xc", 5, "abc", 3, 1);
    escape_case(true,
                "\x01"
                "a.",
                3, "\x01.", 2, 0);
    escape_case(true, "\x01\x01.", 3, "\x01.", 2, 0);
    escape_case(true, "\x01q.", 3, "\x01q.", 3, 0);
    escape_case(true, "z\x01", 2, "z\x01", 2, 0);
    escape_case(false, "ab\x01xc", 5, "ab\x01xc", 5, 0);
}

/* Ctrl-A x works while the device takes nothing. */
TEST(quit_while_blocked)
{
    _Atomic unsigned quits = 0;
    const struct chr_conf conf = {.escape = true, .quit = count, .ctx = &quits};
    struct chr_stdio *c;
    struct dev d;
    int p[2];

    CHECK_EQ(pipe(p), 0);
    c = create(p[0], -1, &conf);
    dev_init(&d, c, 100, 0);
    CHECK_EQ(write(p[1], "typed\x01x", 7), 7);
    for (unsigned i = 0; i < 1000 && !atomic_load(&quits); i++)
        nap_us(1000);
    CHECK_EQ(atomic_load(&quits), 1);
    CHECK_EQ(dev_got(&d), 0);
    dev_fini(&d);
    chr_stdio_destroy(c);
    close(p[0]);
    close(p[1]);
}

/* Two consoles at once, and attach after the input came. */
TEST(two_and_late_attach)
{
    struct chr_stdio *c[2];
    struct dev d[2];
    int p[2][2];

    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(pipe(p[i]), 0);
        CHECK_EQ(write(p[i][1], i ? "two" : "one", 3), 3);
        c[i] = create(p[i][0], -1, NULL);
    }
    nap_us(2000);
    for (unsigned i = 0; i < 2; i++) {
        dev_init(&d[i], c[i], 10, 10);
        CHECK(dev_wait(&d[i], 3));
        CHECK(memcmp(d[i].got, i ? "two" : "one", 3) == 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        dev_fini(&d[i]);
        chr_stdio_destroy(c[i]);
        close(p[i][0]);
        close(p[i][1]);
    }
    CHECK(chr_null_chardev().ops == NULL);
}

TEST_MAIN(CASE(input_bulk), CASE(output_bulk), CASE(output_slow_reader),
          CASE(output_stuck_reader), CASE(output_closed_pipe),
          CASE(destroy_flushes), CASE(end_of_input), CASE(dev_null),
          CASE(escape), CASE(quit_while_blocked), CASE(two_and_late_attach))
