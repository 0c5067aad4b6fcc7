// SPDX-License-Identifier: Apache-2.0
/* Guest memory: layout, get and put, page words, epochs, both providers. */
#include "vm/mem.h"

#include "base/bits.h"
#include "base/test.h"

#include <errno.h>

#define RAM_BYTES (8 * MIB)

static struct mem *ram(bool scatter, uint64_t low_limit)
{
    struct mem_conf c = {.ram_bytes = RAM_BYTES,
                         .low_limit = low_limit,
                         .scatter = scatter,
                         .seed = 42,
                         .memfd = -1};
    struct mem *mem = NULL;
    struct err e;

    if (mem_create(&c, &mem, &e))
        printf("%s\n", e.text);
    return mem;
}

struct heard {
    unsigned writes;
    gpa_t gpa;
    size_t len;
    unsigned revokes;
};

static void on_write(void *ctx, gpa_t gpa, size_t len, uint32_t word)
{
    struct heard *h = ctx;

    (void)word;
    h->writes++;
    h->gpa = gpa;
    h->len = len;
}

static void on_revoke(void *ctx, gpa_t gpa, bool all)
{
    struct heard *h = ctx;

    (void)gpa;
    (void)all;
    h->revokes++;
}

TEST(rejects_bad_sizes)
{
    struct mem_conf c = {.low_limit = GIB, .memfd = -1};
    struct mem *mem;
    struct err e;

    CHECK_EQ(mem_create(&c, &mem, &e), -EINVAL);
    c.ram_bytes = MIB + 1;
    CHECK_EQ(mem_create(&c, &mem, &e), -EINVAL);
    c.ram_bytes = MIB;
    c.low_limit = GIB + 1;
    CHECK_EQ(mem_create(&c, &mem, &e), -EINVAL);
}

TEST(splits_at_the_hole)
{
    struct mem *mem = ram(false, 4 * MIB);
    uint8_t b = 7;

    CHECK_EQ(mem_low_bytes(mem), 4 * MIB);
    CHECK_EQ(mem_high_bytes(mem), 4 * MIB);
    CHECK(mem_is_ram(mem, gpa(0), 4 * MIB));
    CHECK(!mem_is_ram(mem, gpa(0), 4 * MIB + 1));
    CHECK(mem_is_ram(mem, gpa(4 * GIB), 4 * MIB));
    CHECK(!mem_is_ram(mem, gpa(4 * GIB + 4 * MIB), 1));
    CHECK(!mem_is_ram(mem, gpa(UINT64_MAX), 2));
    CHECK_EQ(mem_read(mem, gpa(4 * MIB), &b, 1), -EFAULT);
    CHECK_EQ(mem_write(mem, gpa(4 * MIB - 1), "ab", 2), -EFAULT);
    CHECK_EQ(mem_read(mem, gpa(4 * MIB - 1), &b, 1), 0);
    CHECK_EQ(b, 0); /* nothing was written by halves */
    mem_destroy(mem);
}

static void check_copies(bool scatter)
{
    struct mem *mem = ram(scatter, GIB);
    uint8_t in[3 * MEM_PAGE_BYTES], out[sizeof in];

    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)(i * 7 + i / 256);
    CHECK_EQ(mem_write(mem, gpa(0x1ff1), in, sizeof in), 0);
    CHECK_EQ(mem_read(mem, gpa(0x1ff1), out, sizeof out), 0);
    CHECK(memcmp(in, out, sizeof in) == 0);
    CHECK_EQ(mem_zero(mem, gpa(0x2000), MEM_PAGE_BYTES), 0);
    CHECK_EQ(mem_read(mem, gpa(0x1ff1), out, sizeof out), 0);
    CHECK(memcmp(in, out, 15) == 0);
    CHECK_EQ(out[15], 0);
    CHECK_EQ(out[15 + MEM_PAGE_BYTES - 1], 0);
    CHECK_EQ(out[15 + MEM_PAGE_BYTES], in[15 + MEM_PAGE_BYTES]);
    mem_destroy(mem);
}

TEST(copies_linear)
{
    check_copies(false);
}

TEST(copies_scattered)
{
    check_copies(true);
}

TEST(scatter_has_no_neighbours)
{
    struct mem *mem = ram(true, GIB);
    unsigned neighbours = 0;
    uint32_t w;

    for (uint64_t a = 0; a + MEM_PAGE_BYTES < RAM_BYTES; a += MEM_PAGE_BYTES) {
        uint8_t *p = mem_tlb_page(mem, gpa(a), MEM_READ, &w);
        uint8_t *q = mem_tlb_page(mem, gpa(a + MEM_PAGE_BYTES), MEM_READ, &w);

        neighbours += q == p + MEM_PAGE_BYTES;
    }
    CHECK(neighbours < 20); /* of 2047; about 1 is expected */
    mem_destroy(mem);
}

TEST(get_and_put)
{
    struct mem *mem = ram(true, GIB);
    struct mem_iov iov[4];
    uint8_t b = 0;
    int n;

    CHECK_EQ(mem_get(mem, gpa(0x1800), 0x3000, MEM_WRITE, iov, 3), -E2BIG);
    n = mem_get(mem, gpa(0x1800), 0x2000, MEM_WRITE, iov, 4);
    CHECK_EQ(n, 3);
    CHECK_EQ(iov[0].len, 0x800);
    CHECK_EQ(iov[1].len, 0x1000);
    CHECK_EQ(iov[2].gpa.v, 0x3000);
    CHECK_EQ((*mem_page_word(mem, gpa(0x2000)) & MEM_PIN_MASK) >> MEM_PIN_SHIFT,
             1);
    iov[2].hva[0] = 0x5a;
    mem_put(mem, iov, (unsigned)n, true);
    CHECK_EQ(*mem_page_word(mem, gpa(0x2000)) & MEM_PIN_MASK, 0);
    CHECK_EQ(*mem_page_word(mem, gpa(0x2000)) & MEM_WHERE_MASK, MEM_WHERE_OWN);
    CHECK_EQ(mem_read(mem, gpa(0x3000), &b, 1), 0);
    CHECK_EQ(b, 0x5a);
    CHECK_EQ(mem_get(mem, gpa(RAM_BYTES - 1), 2, MEM_READ, iov, 4), -EFAULT);
    CHECK_EQ(mem_get(mem, gpa(UINT64_MAX - 1), 4, MEM_READ, iov, 4), -EFAULT);
    mem_destroy(mem);
}

TEST(pins_saturate)
{
    struct mem *mem = ram(false, GIB);
    struct mem_iov iov;

    for (unsigned i = 0; i < 3000; i++)
        CHECK_EQ(mem_get(mem, gpa(0), 8, MEM_READ, &iov, 1), 1);
    for (unsigned i = 0; i < 3000; i++)
        mem_put(mem, &iov, 1, false);
    CHECK_EQ(*mem_page_word(mem, gpa(0)) & MEM_PIN_MASK, MEM_PIN_MASK);
    CHECK_EQ(*mem_page_word(mem, gpa(0)) >> 15, 0); /* nothing spilled over */
    mem_destroy(mem);
}

TEST(epochs_tell_dirty_pages)
{
    struct mem *mem = ram(false, GIB);
    uint32_t e;

    CHECK_EQ(mem_write(mem, gpa(0x5000), "x", 1), 0);
    e = mem_epoch_next(mem);
    CHECK(!mem_dirty_since(mem, gpa(0x5000), e));
    CHECK_EQ(mem_write(mem, gpa(0x6000), "x", 1), 0);
    CHECK(mem_dirty_since(mem, gpa(0x6000), e));
    CHECK(!mem_dirty_since(mem, gpa(0x5000), e));
    for (unsigned i = 0; i < 0x10000; i++)
        mem_epoch_next(mem); /* wraps: nothing written may look clean for 0 */
    CHECK(mem_dirty_since(mem, gpa(0x5000), 0));
    CHECK(!mem_dirty_since(mem, gpa(0x7000), 0));
    mem_destroy(mem);
}

TEST(marks_are_reported)
{
    struct mem *mem = ram(false, GIB);
    struct heard h = {0};
    uint32_t word;

    mem_set_listener(mem, (struct mem_listener){on_write, &h});
    mem_set_revoke(mem, on_revoke, &h);
    CHECK_EQ(mem_write(mem, gpa(0x3000), "x", 1), 0);
    CHECK_EQ(h.writes, 0);
    CHECK_EQ(mem_mark(mem, gpa(0x3000), MEM_CODE), 0);
    CHECK_EQ(h.revokes, 1);
    CHECK_EQ(mem_mark(mem, gpa(0x3000), MEM_CODE), 0);
    CHECK_EQ(h.revokes, 1); /* it was marked already */
    CHECK_EQ(mem_write(mem, gpa(0x2ffe), "abcd", 4), 0);
    CHECK_EQ(h.writes, 1);
    CHECK_EQ(h.gpa.v, 0x3000);
    CHECK_EQ(h.len, 2);
    CHECK(mem_tlb_page(mem, gpa(0x3000), MEM_WRITE, &word) != NULL);
    CHECK(word & MEM_CODE);
    mem_unmark(mem, gpa(0x3000), MEM_CODE);
    CHECK_EQ(mem_write(mem, gpa(0x3000), "x", 1), 0);
    CHECK_EQ(h.writes, 1);
    CHECK_EQ(mem_mark(mem, gpa(RAM_BYTES), MEM_CODE), -EFAULT);
    mem_destroy(mem);
}

TEST(hash_ignores_the_place)
{
    struct mem *a = ram(false, GIB), *b = ram(true, GIB);

    CHECK_EQ(mem_hash(a), mem_hash(b));
    CHECK_EQ(mem_write(a, gpa(0x123456), "hello", 5), 0);
    CHECK(mem_hash(a) != mem_hash(b));
    CHECK_EQ(mem_write(b, gpa(0x123456), "hello", 5), 0);
    CHECK_EQ(mem_hash(a), mem_hash(b));
    CHECK_EQ(mem_zero(b, gpa(0x400000), 0x10000), 0); /* zero is absent */
    CHECK_EQ(mem_hash(a), mem_hash(b));
    mem_destroy(a);
    mem_destroy(b);
}

TEST(survives_by_descriptor)
{
    struct mem *a = ram(true, GIB), *b = NULL;
    struct mem_conf c = {
        .ram_bytes = RAM_BYTES, .low_limit = GIB, .scatter = true, .seed = 42};
    char s[6] = {0};

    CHECK_EQ(mem_write(a, gpa(0x7ffe), "spans", 5), 0);
    c.memfd = mem_dup_fd(a);
    mem_destroy(a);
    CHECK_EQ(mem_create(&c, &b, NULL), 0);
    CHECK_EQ(mem_read(b, gpa(0x7ffe), s, 5), 0);
    CHECK(strcmp(s, "spans") == 0);
    mem_destroy(b);
}

static void view_is(struct mem *m, uint64_t at, const char *want)
{
    char s[8] = {0};

    CHECK_EQ(mem_read(m, gpa(at), s, 5), 0);
    CHECK(strcmp(s, want) == 0);
}

/* What is written through a view is seen there only. */
TEST(view)
{
    struct mem *m = ram(true, GIB), *v = NULL;
    struct mem_view_page p;
    uint32_t word = 1;

    CHECK_EQ(mem_write(m, gpa(0x7ffe), "below", 5), 0);
    CHECK_EQ(mem_view_create(m, &v), 0);
    view_is(v, 0x7ffe, "below");
    CHECK_EQ(mem_view_count(v), 0);
    CHECK_EQ(mem_write(v, gpa(0x7ffe), "above", 5), 0);
    CHECK_EQ(mem_view_count(v), 2);
    view_is(v, 0x7ffe, "above");
    view_is(m, 0x7ffe, "below");
    mem_view_page(v, 1, &p);
    CHECK_EQ(p.gpa.v, 0x8000);
    CHECK(!memcmp(p.copy, "ove", 3) && !memcmp(p.before, "low", 3));
    CHECK(!memcmp(p.base, "low", 3));
    CHECK_EQ(mem_write(m, gpa(0x8000), "LOW", 3), 0);
    mem_view_rewind(v);
    view_is(v, 0x7ffe, "below");
    mem_view_reset(v);
    view_is(v, 0x7ffe, "beLOW");
    for (unsigned i = 0; i < MEM_VIEW_PAGES; i++)
        CHECK(mem_tlb_page(v, gpa(i << 12), MEM_WRITE, &word) != NULL);
    CHECK(!mem_view_full(v));
    CHECK(!mem_tlb_page(v, gpa(MEM_VIEW_PAGES << 12), MEM_WRITE, &word));
    CHECK(mem_view_full(v));
    CHECK_EQ(word, 0);
    mem_view_destroy(v);
    mem_destroy(m);
}

TEST_MAIN(CASE(rejects_bad_sizes), CASE(splits_at_the_hole),
          CASE(copies_linear), CASE(copies_scattered),
          CASE(scatter_has_no_neighbours), CASE(get_and_put),
          CASE(pins_saturate), CASE(epochs_tell_dirty_pages),
          CASE(marks_are_reported), CASE(hash_ignores_the_place),
          CASE(survives_by_descriptor), CASE(view))
