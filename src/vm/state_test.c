// SPDX-License-Identifier: Apache-2.0
/* State streams: round trips, and every way in which a stream can be wrong. */
#include "vm/state.h"

#include "base/test.h"

#include <errno.h>

struct inner {
    uint16_t a;
    uint32_t b;
};

struct thing {
    uint8_t u8;
    uint32_t u32;
    uint64_t u64[3];
    bool flag;
    uint8_t bytes[5];
    struct inner in[2];
    uint8_t *var;
    uint32_t var_len;
    unsigned loads;
};

static const struct state_field inner_fields[] = {
    SF_U16(inner, a),
    SF_U32(inner, b),
    SF_END,
};
static const struct state_desc inner_state = {
    .name = "inner", .version = 1, .fields = inner_fields};

static int thing_load(void *obj, uint32_t version, struct err *e)
{
    struct thing *t = obj;

    (void)version;
    t->loads++;
    return t->u8 == 99 ? err_set(e, -EINVAL, "99 is no good") : 0;
}

static const struct state_field thing_fields[] = {
    SF_U8(thing, u8),
    SF_U32(thing, u32),
    SF_U64A(thing, u64, 3),
    SF_BOOL(thing, flag),
    SF_BYTES(thing, bytes, 5),
    SF_STRUCT(thing, in, 2, inner_state),
    SF_VARBYTES(thing, var, var_len, 100),
    SF_END,
};
static const struct state_desc thing_state = {.name = "thing",
                                              .version = 3,
                                              .min_version = 2,
                                              .fields = thing_fields,
                                              .post_load = thing_load};

static void save(struct state_buf *b, uint8_t u8)
{
    uint8_t var[] = "variable";
    struct thing t = {.u8 = u8,
                      .u32 = 0x12345678,
                      .u64 = {1, 2, UINT64_MAX},
                      .flag = true,
                      .bytes = "abcd",
                      .in = {{1, 2}, {3, 4}},
                      .var = var,
                      .var_len = sizeof var};

    CHECK_EQ(state_save(b, &thing_state, 7, &t, NULL), 0);
}

TEST(round_trip)
{
    struct state_buf b = {0};
    struct thing t = {0};

    save(&b, 5);
    CHECK_EQ(state_load(&b, &thing_state, 7, &t, NULL), 0);
    CHECK_EQ(t.u8, 5);
    CHECK_EQ(t.u64[2], UINT64_MAX);
    CHECK(t.flag);
    CHECK_EQ(t.in[1].b, 4);
    CHECK_EQ(t.loads, 1);
    CHECK_EQ(t.var_len, 9);
    CHECK(strcmp((char *)t.var, "variable") == 0);
    free(t.var);
    state_buf_fini(&b);
}

TEST(refuses_what_is_foreign)
{
    struct state_desc newer = thing_state, other = thing_state;
    struct state_buf b = {0};
    struct thing t = {0};
    struct err e;

    save(&b, 99);
    CHECK_EQ(state_load(&b, &thing_state, 7, &t, &e), -EINVAL);
    CHECK(strcmp(e.text, "99 is no good") == 0);
    b.pos = 0;
    CHECK_EQ(state_load(&b, &thing_state, 8, &t, &e), -EINVAL);
    b.pos = 0;
    newer.version = newer.min_version = 4;
    CHECK_EQ(state_load(&b, &newer, 7, &t, &e), -EINVAL);
    b.pos = 0;
    other.name = "thong";
    CHECK_EQ(state_load(&b, &other, 7, &t, &e), -EINVAL);
    free(t.var);
    state_buf_fini(&b);
}

/* Cut short anywhere, or with any one byte changed: an error or a load, never
 * a read outside (the sanitizer's build sees to that). */
TEST(survives_damage)
{
    struct state_buf b = {0};
    unsigned refused = 0;

    save(&b, 5);
    for (size_t cut = 0; cut < b.len; cut++) {
        struct state_buf part = {.data = malloc(cut ? cut : 1), .len = cut};
        struct thing t = {0};

        memcpy(part.data, b.data, cut);
        CHECK_EQ(state_load(&part, &thing_state, 7, &t, NULL), -EINVAL);
        free(t.var);
        state_buf_fini(&part);
    }
    for (size_t i = 0; i < b.len * 8; i++) {
        struct thing t = {0};

        b.data[i / 8] ^= (uint8_t)(1 << (i % 8));
        b.pos = 0;
        refused += state_load(&b, &thing_state, 7, &t, NULL) != 0;
        b.data[i / 8] ^= (uint8_t)(1 << (i % 8));
        free(t.var);
    }
    CHECK(refused > b.len * 4); /* most of it is structure */
    state_buf_fini(&b);
}

TEST(new_fields_may_be_missing)
{
    static const struct state_field with_new[] = {
        SF_U16(inner, a),
        {.name = "b",
         .type = STATE_U32,
         .offset = offsetof(struct inner, b),
         .count = 1,
         .since = 2},
        SF_END,
    };
    static const struct state_field old[] = {SF_U16(inner, a), SF_END};
    struct state_desc v1 = {.name = "i", .version = 1, .fields = old};
    struct state_desc v2 = {.name = "i", .version = 2, .fields = with_new};
    struct inner in = {.a = 3, .b = 4}, out = {.b = 9};
    struct state_buf b = {0};

    CHECK_EQ(state_save(&b, &v1, 0, &in, NULL), 0);
    CHECK_EQ(state_load(&b, &v2, 0, &out, NULL), 0);
    CHECK_EQ(out.a, 3);
    CHECK_EQ(out.b, 9); /* untouched */
    state_buf_fini(&b);
}

TEST(list_in_order)
{
    struct state_list *l = state_list_create();
    struct inner a = {1, 2}, c = {3, 4};
    struct state_buf b = {0};

    CHECK_EQ(state_list_add(l, &inner_state, 0, &a), 0);
    CHECK_EQ(state_list_add(l, &inner_state, 1, &c), 0);
    CHECK_EQ(state_list_save(l, &b, NULL), 0);
    a.a = 0;
    c.b = 0;
    CHECK_EQ(state_list_load(l, &b, NULL), 0);
    CHECK_EQ(a.a, 1);
    CHECK_EQ(c.b, 4);
    b.pos = 0;
    b.len--;
    CHECK_EQ(state_list_load(l, &b, NULL), -EINVAL);
    state_buf_fini(&b);
    state_list_destroy(l);
}

TEST_MAIN(CASE(round_trip), CASE(refuses_what_is_foreign),
          CASE(survives_damage), CASE(new_fields_may_be_missing),
          CASE(list_in_order))
