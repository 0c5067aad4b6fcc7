// SPDX-License-Identifier: Apache-2.0
/*
 * The raw back end on a memfd: random requests, many at once, against an array
 * in memory; refusals; a file that shrinks.
 */
#include "host/block/raw.h"

#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define SIZE      (1U << 20)
#define SLOTS     32U
#define SLOT_SIZE (SIZE / SLOTS)
#define PIECES    200 /* more than go into one system call */

static int file_of(off_t size)
{
    int fd = memfd_create("raw-test", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, size) < 0)
        abort();
    return fd;
}

struct slot {
    struct block_req req;
    struct model *m;
    struct iovec iov[PIECES];
    uint8_t buf[SLOT_SIZE];
    _Atomic int state; /* 0 free, 1 in flight, 2 done */
    int result;
};

struct model {
    struct blockdev bd;
    int fd; /* a second descriptor of the file */
    uint8_t want[SIZE];
    struct slot slot[SLOTS];
    uint32_t seed;
    unsigned done;
};

static uint32_t rnd(struct model *m, uint32_t n)
{
    m->seed = m->seed * 1664525U + 1013904223U;
    return (m->seed >> 8) % n;
}

static void slot_done(struct block_req *req, int result)
{
    struct slot *s = req->ctx;

    s->result = result;
    atomic_store(&s->state, 2);
}

/* Cut @len bytes into random pieces. */
static int cut(struct model *m, struct slot *s, size_t len)
{
    int n = 0;
    size_t at = 0;

    while (at < len) {
        size_t here = n == PIECES - 1 ? len - at : rnd(m, 300);

        here = here < len - at ? here : len - at;
        s->iov[n++] = (struct iovec){s->buf + at, here};
        at += here;
    }
    return n;
}

static void start(struct model *m, unsigned i)
{
    static const enum block_op ops[] = {
        BLOCK_READ,    BLOCK_WRITE,        BLOCK_READ, BLOCK_WRITE,
        BLOCK_DISCARD, BLOCK_WRITE_ZEROES, BLOCK_FLUSH};
    struct slot *s = &m->slot[i];
    enum block_op op = ops[rnd(m, ARRAY_LEN(ops))];
    uint32_t off = 512 * rnd(m, SLOT_SIZE / 512);
    uint32_t len = 512 * (1 + rnd(m, (SLOT_SIZE - off) / 512));
    uint8_t *want = m->want + i * SLOT_SIZE + off;

    s->req = (struct block_req){.op = op,
                                .off_bytes = i * SLOT_SIZE + off,
                                .len_bytes = len,
                                .done = slot_done,
                                .ctx = s};
    if (op == BLOCK_WRITE) {
        for (uint32_t k = 0; k < len; k++)
            want[k] = s->buf[k] = (uint8_t)rnd(m, 256);
    } else if (op == BLOCK_READ) {
        memset(s->buf, 0xdd, len);
    } else if (op != BLOCK_FLUSH) {
        memset(want, 0, len); /* a hole in a memfd reads as zeroes */
    }
    if (op == BLOCK_READ || op == BLOCK_WRITE) {
        s->req.iov = s->iov;
        s->req.niov = cut(m, s, len);
    }
    atomic_store(&s->state, 1);
    m->bd.ops->submit(m->bd.be, &s->req);
}

static void finish(struct model *m, unsigned i)
{
    struct slot *s = &m->slot[i];

    CHECK_EQ(s->result, 0);
    if (s->req.op == BLOCK_READ)
        CHECK(memcmp(s->buf, m->want + s->req.off_bytes, s->req.len_bytes) ==
              0);
    s->state = 0;
    m->done++;
}

static void run_model(unsigned threads, bool synchronous, unsigned goal)
{
    struct model *m = calloc(1, sizeof *m);
    static uint8_t have[SIZE];

    m->seed = threads + 1;
    m->fd = file_of(SIZE);
    CHECK_EQ(
        block_raw_create(dup(m->fd), false, threads, synchronous, &m->bd, NULL),
        0);
    CHECK_EQ(m->bd.size_bytes, SIZE);
    while (m->done < goal && !test_failures) {
        unsigned i = rnd(m, SLOTS);
        int state = atomic_load(&m->slot[i].state);

        if (state == 0)
            start(m, i);
        else if (state == 2)
            finish(m, i);
        if (rnd(m, 500) == 0) {
            m->bd.ops->drain(m->bd.be);
            for (unsigned k = 0; k < SLOTS; k++)
                CHECK(m->slot[k].state != 1);
        }
    }
    block_raw_destroy(&m->bd); /* waits for the rest */
    for (unsigned i = 0; i < SLOTS; i++) {
        CHECK(m->slot[i].state != 1);
        if (m->slot[i].state == 2)
            finish(m, i);
    }
    CHECK_EQ(pread(m->fd, have, SIZE, 0), SIZE);
    CHECK(memcmp(have, m->want, SIZE) == 0);
    close(m->fd);
    free(m);
}

TEST(random_requests_one_thread)
{
    run_model(1, false, 3000);
}

TEST(random_requests_four_threads)
{
    run_model(4, false, 6000);
}

TEST(random_requests_synchronous)
{
    run_model(0, true, 3000);
}

/* One request on the caller's thread. */
static int once(struct blockdev *bd, enum block_op op, uint64_t off,
                uint64_t len, void *buf, size_t buf_len)
{
    struct slot s = {0};
    struct iovec v = {buf, buf_len};

    s.req = (struct block_req){.op = op,
                               .off_bytes = off,
                               .len_bytes = len,
                               .iov = buf ? &v : NULL,
                               .niov = buf ? 1 : 0,
                               .done = slot_done,
                               .ctx = &s};
    bd->ops->submit(bd->be, &s.req);
    bd->ops->drain(bd->be);
    CHECK_EQ(s.state, 2);
    return s.result;
}

TEST(refused_requests)
{
    struct blockdev bd;
    uint8_t buf[512];

    CHECK_EQ(block_raw_create(file_of(4096), false, 1, true, &bd, NULL), 0);
    CHECK_EQ(once(&bd, BLOCK_READ, 3584, 512, buf, 512), 0);
    CHECK_EQ(once(&bd, BLOCK_READ, 4096, 512, buf, 512), -EINVAL);
    CHECK_EQ(once(&bd, BLOCK_WRITE, UINT64_MAX - 511, 512, buf, 512), -EINVAL);
    CHECK_EQ(once(&bd, BLOCK_WRITE, 0, 1024, buf, 512), -EINVAL);
    CHECK_EQ(once(&bd, BLOCK_DISCARD, 0, 8192, NULL, 0), -EINVAL);
    block_raw_destroy(&bd);
    CHECK_EQ(block_raw_create(file_of(4096), true, 1, false, &bd, NULL), 0);
    CHECK(bd.read_only);
    CHECK_EQ(once(&bd, BLOCK_READ, 0, 512, buf, 512), 0);
    CHECK_EQ(once(&bd, BLOCK_WRITE, 0, 512, buf, 512), -EROFS);
    CHECK_EQ(once(&bd, BLOCK_WRITE_ZEROES, 0, 512, NULL, 0), -EROFS);
    CHECK_EQ(once(&bd, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
    block_raw_destroy(&bd);
    block_raw_destroy(&bd); /* once more is fine */
}

TEST(file_that_shrinks)
{
    struct blockdev bd;
    uint8_t buf[4096];
    int fd = file_of(8192);

    CHECK_EQ(block_raw_create(dup(fd), false, 2, false, &bd, NULL), 0);
    CHECK_EQ(ftruncate(fd, 2048), 0);
    CHECK_EQ(once(&bd, BLOCK_READ, 0, 4096, buf, 4096), -EIO);
    CHECK_EQ(once(&bd, BLOCK_READ, 4096, 4096, buf, 4096), -EIO);
    CHECK_EQ(once(&bd, BLOCK_READ, 0, 2048, buf, 2048), 0);
    block_raw_destroy(&bd);
    close(fd);
}

TEST(refused_files)
{
    struct blockdev bd = {0};
    struct err e = {{0}};
    int fd = file_of(1000), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int ro = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    CHECK_EQ(block_raw_create(fd, false, 1, false, &bd, &e), -EINVAL);
    CHECK(strstr(e.text, "multiple of 512") && strstr(e.text, "1000"));
    CHECK_EQ(ftruncate(fd, 0), 0);
    CHECK_EQ(block_raw_create(fd, false, 1, false, &bd, &e), -EINVAL);
    CHECK_EQ(ftruncate(fd, 1024), 0);
    CHECK_EQ(block_raw_create(fd, false, 0, false, &bd, &e), -EINVAL);
    CHECK_EQ(block_raw_create(fd, false, 17, false, &bd, &e), -EINVAL);
    CHECK_EQ(block_raw_create(null, false, 1, false, &bd, &e), -EINVAL);
    CHECK(strstr(e.text, "multiple of 512 bytes and not 0") != NULL);
    CHECK_EQ(block_raw_create(ro, false, 1, false, &bd, &e), -EACCES);
    CHECK(strstr(e.text, "not open for reading and writing") != NULL);
    CHECK_EQ(block_raw_create(-1, false, 1, false, &bd, &e), -EBADF);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC); /* still ours */
    close(fd);
    close(null);
    close(ro);
}

/* clang-format off */
TEST_MAIN(CASE(random_requests_one_thread), CASE(random_requests_four_threads),
          CASE(random_requests_synchronous), CASE(refused_requests),
          CASE(file_that_shrinks), CASE(refused_files))
