// SPDX-License-Identifier: Apache-2.0
/* State streams: see state.h for the format. Incoming bytes are hostile. */
#include "vm/state.h"

#include "base/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#define SECTION_MAGIC  0x43455344U /* "DSEC" */
#define NAME_MAX_BYTES 255
#define NESTING_MAX    4
#define LIST_MAX       256

/* ---- writing ---- */

static int put(struct state_buf *b, const void *p, size_t n)
{
    if (b->len + n > b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 4096;
        uint8_t *data;

        while (cap < b->len + n)
            cap *= 2;
        data = realloc(b->data, cap);
        if (!data)
            return -ENOMEM;
        b->data = data;
        b->cap = cap;
    }
    memcpy(b->data + b->len, p, n);
    b->len += n;
    return 0;
}

static int put_u32(struct state_buf *b, uint32_t v)
{
    return put(b, &v, sizeof v); /* hosts are little endian: x86-64 only */
}

static int put_name(struct state_buf *b, const char *name)
{
    uint8_t n = (uint8_t)strlen(name);
    int r = put(b, &n, 1);

    return r ? r : put(b, name, n);
}

static size_t scalar_bytes(enum state_type t)
{
    switch (t) {
    case STATE_U8:
    case STATE_BOOL:
    case STATE_BYTES:
        return 1;
    case STATE_U16:
        return 2;
    case STATE_U32:
        return 4;
    case STATE_U64:
        return 8;
    case STATE_END:
    case STATE_STRUCT:
    case STATE_VARBYTES:
        return 0;
    }
    return 0;
}

static int save_fields(struct state_buf *b, const struct state_desc *d,
                       void *obj)
{
    int r = 0;

    if (d->pre_save)
        d->pre_save(obj);
    for (const struct state_field *f = d->fields; f->type && !r; f++) {
        uint8_t *at = (uint8_t *)obj + f->offset;
        uint8_t type = (uint8_t)f->type;
        uint32_t count = f->count;
        void *bytes = at;

        if (f->type == STATE_VARBYTES) {
            memcpy(&count, (uint8_t *)obj + f->len_offset, sizeof count);
            memcpy(&bytes, at, sizeof bytes);
        }
        r = put_name(b, f->name);
        r = r ? r : put(b, &type, 1);
        r = r ? r : put_u32(b, count);
        if (f->type == STATE_VARBYTES)
            r = r ? r : put(b, count ? bytes : "", count);
        else if (f->type != STATE_STRUCT)
            r = r ? r : put(b, at, count * scalar_bytes(f->type));
        else
            for (uint32_t i = 0; i < count && !r; i++)
                r = save_fields(b, f->sub, at + i * f->stride);
    }
    return r;
}

int state_save(struct state_buf *b, const struct state_desc *d,
               uint32_t instance, void *obj, struct err *e)
{
    size_t len_at, body;
    int r;

    r = put_u32(b, SECTION_MAGIC);
    r = r ? r : put_name(b, d->name);
    r = r ? r : put_u32(b, instance);
    r = r ? r : put_u32(b, d->version);
    len_at = b->len;
    r = r ? r : put_u32(b, 0);
    body = b->len;
    r = r ? r : save_fields(b, d, obj);
    if (r)
        return err_set(e, r, "state: %s: out of memory", d->name);
    memcpy(b->data + len_at, &(uint32_t){(uint32_t)(b->len - body)}, 4);
    return 0;
}

void state_buf_fini(struct state_buf *b)
{
    free(b->data);
    memset(b, 0, sizeof *b);
}

/* ---- reading ---- */

static bool get(struct state_buf *b, void *p, size_t n)
{
    if (!check_range(b->pos, n, b->len))
        return false;
    memcpy(p, b->data + b->pos, n);
    b->pos += n;
    return true;
}

/* Whether the next name is @name; taken only then. */
static bool take_name(struct state_buf *b, const char *name)
{
    size_t n = strlen(name);

    if (!check_range(b->pos, n + 1, b->len) || b->data[b->pos] != n ||
        memcmp(b->data + b->pos + 1, name, n) != 0)
        return false;
    b->pos += n + 1;
    return true;
}

static int load_var(struct state_buf *b, const struct state_field *f,
                    uint8_t *obj, uint32_t count)
{
    void *bytes = NULL, *old;

    if (count > f->count || !check_range(b->pos, count, b->len))
        return -EINVAL;
    if (count) {
        bytes = malloc(count);
        if (!bytes || !get(b, bytes, count)) {
            free(bytes);
            return -EINVAL;
        }
    }
    memcpy(&old, obj + f->offset, sizeof old);
    free(old);
    memcpy(obj + f->offset, &bytes, sizeof bytes);
    memcpy(obj + f->len_offset, &count, sizeof count);
    return 0;
}

static int load_fields(struct state_buf *b, const struct state_desc *d,
                       uint32_t version, void *obj, unsigned depth,
                       struct err *e);

static int load_values(struct state_buf *b, const struct state_desc *d,
                       const struct state_field *f, uint32_t version, void *obj,
                       unsigned depth, struct err *e)
{
    uint8_t *at = (uint8_t *)obj + f->offset;

    if (f->type == STATE_STRUCT) {
        for (uint32_t i = 0; i < f->count; i++) {
            int r = load_fields(b, f->sub, version, at + i * f->stride,
                                depth + 1, e);
            if (r)
                return r;
        }
        return 0;
    }
    if (f->type == STATE_BOOL) {
        for (uint32_t i = 0; i < f->count; i++) {
            uint8_t v;

            if (!get(b, &v, 1) || v > 1)
                return err_set(e, -EINVAL, "state: %s.%s is no truth value",
                               d->name, f->name);
            at[i] = v;
        }
        return 0;
    }
    if (!get(b, at, f->count * scalar_bytes(f->type)))
        return err_set(e, -EINVAL, "state: %s.%s ends early", d->name, f->name);
    return 0;
}

static int load_field(struct state_buf *b, const struct state_desc *d,
                      const struct state_field *f, uint32_t version, void *obj,
                      unsigned depth, struct err *e)
{
    uint8_t type;
    uint32_t count;

    if (!take_name(b, f->name))
        return err_set(e, -EINVAL, "state: %s: field %s is missing at byte %zu",
                       d->name, f->name, b->pos);
    if (!get(b, &type, 1) || !get(b, &count, 4) || type != f->type)
        return err_set(e, -EINVAL, "state: %s.%s has another type", d->name,
                       f->name);
    if (f->type == STATE_VARBYTES) {
        if (load_var(b, f, obj, count))
            return err_set(e, -EINVAL, "state: %s.%s: %u bytes cannot be",
                           d->name, f->name, count);
        return 0;
    }
    if (count != f->count)
        return err_set(e, -EINVAL, "state: %s.%s has %u elements, not %u",
                       d->name, f->name, count, f->count);
    return load_values(b, d, f, version, obj, depth, e);
}

static int load_fields(struct state_buf *b, const struct state_desc *d,
                       uint32_t version, void *obj, unsigned depth,
                       struct err *e)
{
    if (depth > NESTING_MAX)
        return err_set(e, -EINVAL, "state: %s nests too deep", d->name);
    for (const struct state_field *f = d->fields; f->type; f++) {
        int r;

        if (f->since > version)
            continue;
        r = load_field(b, d, f, version, obj, depth, e);
        if (r)
            return r;
    }
    return d->post_load ? d->post_load(obj, version, e) : 0;
}

int state_load(struct state_buf *b, const struct state_desc *d,
               uint32_t instance, void *obj, struct err *e)
{
    uint32_t magic, inst, version, len;
    size_t end;
    int r;

    if (!get(b, &magic, 4) || magic != SECTION_MAGIC || !take_name(b, d->name))
        return err_set(e, -EINVAL, "state: no section of %s at byte %zu",
                       d->name, b->pos);
    if (!get(b, &inst, 4) || inst != instance)
        return err_set(e, -EINVAL, "state: %s: not instance %u", d->name,
                       instance);
    if (!get(b, &version, 4) || version < d->min_version ||
        version > d->version)
        return err_set(e, -EINVAL,
                       "state: %s: the version is not one of %u to %u", d->name,
                       d->min_version, d->version);
    if (!get(b, &len, 4) || !check_range(b->pos, len, b->len))
        return err_set(e, -EINVAL, "state: %s ends early", d->name);
    end = b->pos + len;
    r = load_fields(b, d, version, obj, 0, e);
    if (r)
        return r;
    if (b->pos != end)
        return err_set(e, -EINVAL, "state: %s: its length does not match",
                       d->name);
    return 0;
}

uint64_t state_hash(const struct state_buf *b)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < b->len; i++)
        h = (h ^ b->data[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* ---- comparing ---- */

/* The section of @b that holds byte @off: its name, NUL-terminated, and where
 * its body begins. @b is a stream that state_save wrote. */
static size_t section_at(const struct state_buf *b, size_t off, char *name)
{
    struct state_buf r = {.data = b->data, .len = b->len};
    uint32_t skip, body_len;
    uint8_t n;

    while (get(&r, &skip, 4) && get(&r, &n, 1) && get(&r, name, n)) {
        name[n] = 0;
        if (!get(&r, &skip, 4) || !get(&r, &skip, 4) ||
            !get(&r, &body_len, 4) || off < r.pos + body_len)
            break;
        r.pos += body_len;
    }
    return r.pos;
}

int state_compare(const struct state_buf *a, const struct state_buf *b,
                  struct err *e)
{
    char name[NAME_MAX_BYTES + 1] = "";
    size_t off = 0, body;

    while (off < a->len && off < b->len && a->data[off] == b->data[off])
        off++;
    if (off == a->len && off == b->len)
        return 0;
    body = section_at(a, off, name);
    return err_set(e, -EIO, "state: %s differs at byte %zu of its fields", name,
                   off - body);
}

/* ---- the VM's list ---- */

struct state_list {
    unsigned n;
    struct {
        const struct state_desc *d;
        uint32_t instance;
        void *obj;
    } item[LIST_MAX];
};

struct state_list *state_list_create(void)
{
    return calloc(1, sizeof(struct state_list));
}

void state_list_destroy(struct state_list *l)
{
    free(l);
}

int state_list_add(struct state_list *l, const struct state_desc *d,
                   uint32_t instance, void *obj)
{
    if (l->n == LIST_MAX || strlen(d->name) > NAME_MAX_BYTES)
        return -ENOMEM;
    l->item[l->n].d = d;
    l->item[l->n].instance = instance;
    l->item[l->n].obj = obj;
    l->n++;
    return 0;
}

int state_list_save(struct state_list *l, struct state_buf *b, struct err *e)
{
    for (unsigned i = 0; i < l->n; i++) {
        int r =
            state_save(b, l->item[i].d, l->item[i].instance, l->item[i].obj, e);
        if (r)
            return r;
    }
    return 0;
}

int state_list_load(struct state_list *l, struct state_buf *b, struct err *e)
{
    for (unsigned i = 0; i < l->n; i++) {
        int r =
            state_load(b, l->item[i].d, l->item[i].instance, l->item[i].obj, e);
        if (r)
            return r;
    }
    if (b->pos != b->len)
        return err_set(e, -EINVAL, "state: bytes behind the last section");
    return 0;
}
