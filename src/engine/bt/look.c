// SPDX-License-Identifier: Apache-2.0
/* Looking at translated code; see look.h. */
#include "engine/bt/look.h"

#include "engine/bt/front.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYMBOLS_BYTES_MAX (UINT64_C(64) << 20)
#define NAME_MAX_BYTES    160
#define FAR               (UINT64_C(1) << 20) /* a symbol is no longer */

struct symbol {
    uint64_t va;
    const char *name;
};

/* One output: lines are gathered until a block is complete. */
struct sink {
    int fd;
    size_t n;
    char buf[1 << 16];
};

struct bt_look {
    pthread_mutex_t lock;
    struct sink map, dump;
    unsigned nva;
    uint64_t va[ENGINE_LOOK_MAX];
    char *text; /* of the symbol file; cut into lines */
    size_t text_bytes;
    bool parsed;
    struct symbol *sym;
    size_t nsym;
};

/* ---- output ---- */

static void sink_flush(struct sink *s)
{
    size_t at = 0;

    while (s->fd >= 0 && at < s->n) {
        ssize_t w = write(s->fd, s->buf + at, s->n - at);

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            s->fd = -1; /* full: the guest runs on */
        else
            at += (size_t)w;
    }
    s->n = 0;
}

static void PRINTF_LIKE(2, 3) put(struct sink *s, const char *fmt, ...)
{
    va_list ap;
    int n;

    if (sizeof s->buf - s->n < 1024)
        sink_flush(s);
    va_start(ap, fmt);
    n = vsnprintf(s->buf + s->n, sizeof s->buf - s->n, fmt, ap);
    va_end(ap);
    if (n > 0 && (size_t)n < sizeof s->buf - s->n)
        s->n += (size_t)n;
}

static void put_bytes(struct sink *s, const char *head, const uint8_t *p,
                      size_t n)
{
    static const char digit[] = "0123456789abcdef";

    put(s, "%s", head);
    for (size_t i = 0; i < n; i++) {
        if (sizeof s->buf - s->n < 4)
            sink_flush(s);
        s->buf[s->n++] = digit[p[i] >> 4];
        s->buf[s->n++] = digit[p[i] & 15];
    }
    put(s, "\n");
}

/* ---- symbols ---- */

static void sift(struct symbol *s, size_t at, size_t n)
{
    struct symbol x = s[at];

    for (size_t kid; (kid = 2 * at + 1) < n; at = kid) {
        if (kid + 1 < n && s[kid + 1].va > s[kid].va)
            kid++;
        if (s[kid].va <= x.va)
            break;
        s[at] = s[kid];
    }
    s[at] = x;
}

/* A heap sort: libc's qsort asks for the size of memory by opening a file. */
static void sort(struct symbol *s, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(s, i, n);
    while (n > 1) {
        struct symbol x = s[0];

        s[0] = s[--n];
        s[n] = x;
        sift(s, 0, n);
    }
}

/* One line: address, type, name. Only code is taken. */
static bool parse_line(char *line, struct symbol *out)
{
    char *end = NULL, *name;

    out->va = strtoull(line, &end, 16);
    if (end == line || end[0] != ' ' || !end[1] || end[2] != ' ' ||
        !strchr("tTwW", end[1]))
        return false;
    name = end + 3;
    name[strcspn(name, " \t\r")] = 0;
    out->name = name;
    return *name != 0;
}

/* In the jail: the file may be a guest's own. */
static void parse(struct bt_look *look)
{
    size_t lines = 0;
    char *at = look->text, *next;

    look->parsed = true;
    for (size_t i = 0; i < look->text_bytes; i++)
        lines += look->text[i] == '\n';
    look->sym = lines ? malloc(lines * sizeof *look->sym) : NULL;
    if (!look->sym)
        return;
    for (; (next = strchr(at, '\n')) != NULL; at = next + 1) {
        *next = 0;
        if (parse_line(at, &look->sym[look->nsym]))
            look->nsym++;
    }
    sort(look->sym, look->nsym);
}

const char *bt_look_name(const struct bt_look *look, uint64_t va, char *out,
                         size_t n)
{
    size_t lo = 0, hi = look->nsym;

    out[0] = 0;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (look->sym[mid].va <= va)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo && va - look->sym[lo - 1].va < FAR)
        snprintf(out, n, "%s+0x%llx", look->sym[lo - 1].name,
                 (unsigned long long)(va - look->sym[lo - 1].va));
    return out;
}

static int read_symbols(struct bt_look *look, int fd, struct err *e)
{
    struct stat st;
    size_t at = 0, room;
    ssize_t r = 1;

    if (fstat(fd, &st))
        return err_set(e, -errno, "--symbols: %s", strerror(errno));
    /* /proc says 0 of its files */
    room = st.st_size > 0 ? (size_t)st.st_size : SYMBOLS_BYTES_MAX;
    if (room > SYMBOLS_BYTES_MAX)
        return err_set(e, -EFBIG, "--symbols: the file has more than %llu MiB",
                       (unsigned long long)(SYMBOLS_BYTES_MAX >> 20));
    look->text = malloc(room + 1);
    if (!look->text)
        return err_set(e, -ENOMEM, "--symbols: no memory for %zu bytes", room);
    while (at < room && r > 0) {
        r = read(fd, look->text + at, room - at);
        at += r > 0 ? (size_t)r : 0;
    }
    look->text[at] = 0;
    look->text_bytes = at;
    return 0;
}

/* ---- records ---- */

static bool wanted(const struct bt_look *look, uint64_t va)
{
    for (unsigned i = 0; i < look->nva; i++)
        if (look->va[i] == va || look->va[i] == UINT64_MAX)
            return true;
    return false;
}

static const char *flags_text(uint32_t fl, char *out)
{
    static const struct {
        uint32_t bit;
        char letter;
    } all[] = {{X86_FL_CF, 'c'}, {X86_FL_PF, 'p'}, {X86_FL_AF, 'a'},
               {X86_FL_ZF, 'z'}, {X86_FL_SF, 's'}, {X86_FL_OF, 'o'}};
    unsigned n = 0;

    for (unsigned i = 0; i < ARRAY_LEN(all); i++)
        if (fl & all[i].bit)
            out[n++] = all[i].letter;
    if (!n)
        out[n++] = '-';
    out[n] = 0;
    return out;
}

static void put_sites(struct sink *s, const struct bt_tr *t)
{
    const struct bt *bt = t->bt;

    for (uint32_t i = bt->nsites; i-- > 1;) {
        const struct bt_site *p = &bt->sites[i];

        if (p->block != t->block)
            break;
        put(s, "site %u va=%llx start=%x next=%x size=%u %s kind=%u quick=%u\n",
            i, (unsigned long long)p->va, p->start, p->next, p->size,
            p->write ? "write" : "read", p->kind, p->quick);
    }
}

static void put_record(struct bt_look *look, const struct bt_tr *t,
                       struct bt_span hot, struct bt_span cold)
{
    const struct bt_block *b = t->b;
    const struct bt *bt = t->bt;
    struct sink *s = &look->dump;
    char name[NAME_MAX_BYTES], fl[8];

    put(s, "block va=%llx mode=%x vcpu=%u hot=%llx:%x cold=%llx:%x name=%s\n",
        (unsigned long long)b->va, b->mode, bt->cpu->index,
        (unsigned long long)(uintptr_t)(bt->rx + hot.at), hot.end - hot.at,
        (unsigned long long)(uintptr_t)(bt->rx + cold.at), cold.end - cold.at,
        bt_look_name(look, b->va, name, sizeof name));
    for (unsigned i = 0; i < t->n; i++) {
        put(s, "guest %llx how=%u live=%s ", (unsigned long long)t->va[i],
            t->how[i], flags_text(t->live[i], fl));
        put_bytes(s, "", t->bytes + (t->va[i] - b->va), t->insn[i].len);
    }
    for (uint32_t i = 0; i < b->nmap; i++) {
        const struct bt_map *m = &bt->maps[b->map + i];

        put(s, "map %llx %llx\n",
            (unsigned long long)(uintptr_t)(bt->rx + m->host),
            (unsigned long long)(b->va + m->off));
    }
    put_sites(s, t);
    put_bytes(s, "hot ", bt->rw + hot.at, hot.end - hot.at);
    put_bytes(s, "cold ", bt->rw + cold.at, cold.end - cold.at);
    put(s, "end\n");
    sink_flush(s);
}

/* ---- perf's map ---- */

static void map_line(const struct bt *bt, uint64_t va, struct bt_span span,
                     const char *part)
{
    struct bt_look *look = bt->part->look;
    char name[NAME_MAX_BYTES];

    if (span.end == span.at)
        return;
    bt_look_name(look, va, name, sizeof name);
    put(&look->map, "%llx %x 0x%llx%s%s%s\n",
        (unsigned long long)(uintptr_t)(bt->rx + span.at), span.end - span.at,
        (unsigned long long)va, *name ? " " : "", name, part);
}

/* Under the lock. */
static void map_lines(const struct bt *bt, uint64_t va, struct bt_span hot,
                      struct bt_span cold)
{
    struct bt_look *look = bt->part->look;

    if (!look->parsed && look->text)
        parse(look);
    if (look->map.fd < 0)
        return;
    map_line(bt, va, hot, "");
    map_line(bt, va, cold, " (cold)");
    sink_flush(&look->map);
}

bool bt_look_wants(const struct bt_look *look, uint64_t va)
{
    return look && look->dump.fd >= 0 && wanted(look, va);
}

void bt_look_copy(struct bt *bt, const struct bt_block *b)
{
    struct bt_look *look = bt->part->look;

    if (!look)
        return;
    pthread_mutex_lock(&look->lock);
    map_lines(bt, b->va, (struct bt_span){b->indirect, b->code_end},
              (struct bt_span){b->cold, b->cold_end});
    pthread_mutex_unlock(&look->lock);
}

void bt_look_block(const struct bt_tr *t, struct bt_span hot,
                   struct bt_span cold)
{
    struct bt_look *look = t->bt->part->look;
    struct bt_stats *st = &t->bt->st;

    st->blocks++;
    st->guest_insns += t->n;
    for (unsigned i = 0; i < t->n; i++)
        st->guest_bytes += t->insn[i].len;
    st->hot_bytes += hot.end - hot.at;
    st->cold_bytes += cold.end - cold.at;
    if (!look)
        return;
    pthread_mutex_lock(&look->lock);
    map_lines(t->bt, t->b->va, hot, cold);
    if (bt_look_wants(look, t->b->va))
        put_record(look, t, hot, cold);
    pthread_mutex_unlock(&look->lock);
}

/* ---- life ---- */

int bt_look_create(const struct engine_look *l, struct bt_look **out,
                   struct err *e)
{
    struct bt_look *look;
    int r = 0;

    *out = NULL;
    if (!l || (l->map_fd < 0 && l->dump_fd < 0))
        return 0;
    look = calloc(1, sizeof *look);
    if (!look)
        return err_set(e, -ENOMEM, "bt: out of memory");
    pthread_mutex_init(&look->lock, NULL);
    look->map.fd = l->map_fd;
    look->dump.fd = l->dump_fd;
    look->nva = l->nva;
    memcpy(look->va, l->va, sizeof look->va);
    if (l->symbols_fd >= 0)
        r = read_symbols(look, l->symbols_fd, e);
    if (r) {
        bt_look_destroy(look);
        return r;
    }
    *out = look;
    return 0;
}

void bt_look_destroy(struct bt_look *look)
{
    if (!look)
        return;
    pthread_mutex_destroy(&look->lock);
    free(look->sym);
    free(look->text);
    free(look);
}

bool bt_look_maps(const struct bt_look *look)
{
    return look && look->map.fd >= 0;
}
