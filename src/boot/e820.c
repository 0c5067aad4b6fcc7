// SPDX-License-Identifier: Apache-2.0
/* Builds the memory map: RAM first, then each reserved range cut out of it. */
#include "boot/e820.h"

#include <errno.h>

#include "base/bits.h"
#include "base/check.h"

struct map {
    struct boot_range *r;
    unsigned n;
};

static bool map_insert(struct map *m, unsigned at, struct boot_range r)
{
    if (r.len == 0)
        return true;
    if (m->n == BOOT_E820_MAX)
        return false;
    for (unsigned i = m->n; i > at; i--)
        m->r[i] = m->r[i - 1];
    m->r[at] = r;
    m->n++;
    return true;
}

static void map_remove(struct map *m, unsigned at)
{
    m->n--;
    for (unsigned i = at; i < m->n; i++)
        m->r[i] = m->r[i + 1];
}

/* Take [start, end) out of entry @at, leaving what is before and behind. */
static bool map_cut(struct map *m, unsigned at, uint64_t start, uint64_t end)
{
    struct boot_range old = m->r[at];
    uint64_t old_end = old.start + old.len;
    map_remove(m, at);
    if (old_end > end &&
        !map_insert(m, at, (struct boot_range){end, old_end - end, old.type}))
        return false;
    if (old.start < start &&
        !map_insert(
            m, at, (struct boot_range){old.start, start - old.start, old.type}))
        return false;
    return true;
}

/* Put @r into the map, over what is there. */
static bool map_add(struct map *m, struct boot_range r)
{
    uint64_t end;
    if (!check_add(r.start, r.len, &end))
        return false;
    for (unsigned i = m->n; i-- > 0;) {
        uint64_t s = m->r[i].start, e = s + m->r[i].len;
        if (s < end && r.start < e && !map_cut(m, i, r.start, end))
            return false;
    }
    unsigned at = 0;
    while (at < m->n && m->r[at].start < r.start)
        at++;
    return map_insert(m, at, r);
}

int e820_build(const struct mem *mem, const struct boot_range *reserved,
               unsigned nreserved, struct boot_range out[BOOT_E820_MAX],
               struct err *e)
{
    struct map m = {.r = out};
    const struct boot_range own[] = {
        {0, mem_low_bytes(mem), BOOT_E820_RAM},
        {4 * GIB, mem_high_bytes(mem), BOOT_E820_RAM},
        {E820_BASE_END, E820_HIGH_START - E820_BASE_END, BOOT_E820_RESERVED},
    };
    bool ok = true;
    for (unsigned i = 0; i < ARRAY_LEN(own); i++)
        ok = ok && map_add(&m, own[i]);
    for (unsigned i = 0; i < nreserved; i++)
        ok = ok && map_add(&m, reserved[i]);
    if (!ok)
        return err_set(e, -EINVAL,
                       "memory map: more than %d ranges, or one that wraps",
                       BOOT_E820_MAX);
    /* Nothing is known of the video area: it is in no entry. */
    for (unsigned i = 0; i < m.n; i++)
        if (m.r[i].start == E820_BASE_END &&
            !map_cut(&m, i, E820_VGA_START, E820_BIOS_START))
            return err_set(e, -EINVAL, "memory map: more than %d ranges",
                           BOOT_E820_MAX);
    return (int)m.n;
}
