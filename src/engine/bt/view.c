// SPDX-License-Identifier: Apache-2.0
/*
 * Where the vCPUs' struct bt lie: each in as many mappings, its views, as the
 * interpreter's TLB has slots for PCIDs. All views of a vCPU are one memory but
 * for the pages of user address spaces: the lower half's TLB entries, the
 * user's branch cache and stack page. A CR3 write moves the GS base to the view
 * of its PCID's slot and clears nothing.
 *
 * They are made with the part, before the jail closes, for all vCPUs.
 */
#include "engine/bt/priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096UL
#define HALF (8 * BT_TLB_N / 2)

/* What each view has of its own. */
static const struct {
    uint32_t at, bytes;
} own[] = {
    {BT_STK(0), PAGE},
    {BT_TLB_R(0), HALF},
    {BT_TLB_W(0), HALF},
    {BT_TLB_HOST(0), HALF},
    {BT_TLB_R(1), HALF},
    {BT_TLB_W(1), HALF},
    {BT_TLB_HOST(1), HALF},
    {BT_TLB_R(2), HALF},
    {BT_TLB_W(2), HALF},
    {BT_TLB_HOST(2), HALF},
    {BT_IB(0), 8 * BT_IB_USER_N},
    {BT_FAR(0), 8 * BT_FAR_N},
};

static size_t view_bytes(void)
{
    return (sizeof(struct bt) + PAGE - 1) & ~(PAGE - 1);
}

struct bt *bt_view_of(struct engine_part *part, unsigned cpu, unsigned view)
{
    size_t i = (size_t)cpu * PCID_SLOTS + view;

    return (struct bt *)(void *)(part->views + i * view_bytes());
}

static void *put(uint8_t *at, size_t n, int flags, int fd, uint64_t off)
{
    void *p =
        mmap(at, n, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, (off_t)off);

    return p == MAP_FAILED ? NULL : p;
}

static bool view_make(struct engine_part *part, unsigned cpu, unsigned view,
                      int fd)
{
    size_t n = view_bytes();
    uint8_t *at = (uint8_t *)bt_view_of(part, cpu, view);

    if (!put(at, n, MAP_SHARED, fd, cpu * n))
        return false;
    if (view == 0)
        return true;
    for (unsigned i = 0; i < ARRAY_LEN(own); i++)
        if (!put(at + own[i].at, own[i].bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                 0))
            return false;
    return true;
}

int bt_views_make(struct engine_part *part)
{
    size_t n = view_bytes() * part->ncpus;
    int fd = memfd_create("doppel-vcpus", MFD_CLOEXEC), r = 0;

    if (fd < 0 || ftruncate(fd, (off_t)n)) {
        r = -errno;
        goto out;
    }
    part->views = mmap(NULL, n * PCID_SLOTS, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (part->views == MAP_FAILED) {
        r = -errno;
        goto out;
    }
    for (unsigned i = 0; i < part->ncpus; i++)
        for (unsigned v = 0; v < PCID_SLOTS; v++)
            if (!view_make(part, i, v, fd)) {
                r = -errno;
                goto out;
            }
out:
    if (fd >= 0)
        close(fd);
    return r;
}
