// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory: a memfd, one word per page, and the get/put road; see mem.h.
 *
 * All words are changed by atomic read-modify-write only. Pins saturate at
 * their maximum and then stay (a guest may name one page in thousands of
 * descriptors): such a page counts as pinned until the VM is rebuilt, which
 * costs nothing but the right to drop that one page.
 */
#include "vm/mem_priv.h"

#include "base/assert.h"
#include "base/bits.h"
#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#define EPOCH_MAX 0xffffU
#define PIN_ONE   (1U << MEM_PIN_SHIFT)

/* ---- construction ---- */

static uint64_t rng_next(uint64_t *s)
{
    /* SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). */
    uint64_t z = (*s += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* A random permutation of the host's pages (Fisher-Yates). */
static int scatter_init(struct mem *mem, uint64_t seed)
{
    uint64_t n = mem->ram_bytes >> MEM_PAGE_SHIFT;

    mem->place = malloc(n * sizeof *mem->place);
    if (!mem->place)
        return -ENOMEM;
    for (uint64_t i = 0; i < n; i++)
        mem->place[i] = (uint32_t)i;
    for (uint64_t i = n - 1; i > 0; i--) {
        uint64_t j = rng_next(&seed) % (i + 1);
        uint32_t t = mem->place[i];
        mem->place[i] = mem->place[j];
        mem->place[j] = t;
    }
    return 0;
}

#define HUGE_PAGE (UINT64_C(2) << 20)

/* Where huge pages can lie; they are the host's to give. NULL: errno is set. */
static void *map_aligned(int fd, size_t n)
{
    uint8_t *area = mmap(NULL, n + HUGE_PAGE, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    size_t before;
    void *p;

    if (area == MAP_FAILED)
        return NULL;
    before = -(uintptr_t)area & (HUGE_PAGE - 1);
    p = mmap(area + before, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             fd, 0);
    if (before)
        munmap(area, before);
    if (HUGE_PAGE - before)
        munmap(area + before + n, HUGE_PAGE - before);
    if (p == MAP_FAILED)
        return NULL;
    madvise(p, n, MADV_HUGEPAGE);
    return p;
}

static int backing_open(struct mem *mem, const struct mem_conf *conf,
                        struct err *e)
{
    void *p;

    mem->fd = conf->memfd;
    if (mem->fd < 0) {
        mem->fd = memfd_create("doppel-ram", MFD_CLOEXEC);
        if (mem->fd < 0)
            return err_set(e, -errno, "memory: memfd_create: %m");
        if (ftruncate(mem->fd, (off_t)conf->ram_bytes))
            return err_set(e, -errno, "memory: %" PRIu64 " MiB: %m",
                           conf->ram_bytes >> 20);
    } else if (lseek(mem->fd, 0, SEEK_END) != (off_t)conf->ram_bytes) {
        return err_set(e, -EINVAL,
                       "memory: the descriptor handed over does "
                       "not have the size of RAM");
    }
    p = map_aligned(mem->fd, conf->ram_bytes);
    if (!p)
        return err_set(e, -errno, "memory: mapping %" PRIu64 " MiB: %m",
                       conf->ram_bytes >> 20);
    mem->hva = p;
    return 0;
}

int mem_create(const struct mem_conf *conf, struct mem **out, struct err *e)
{
    uint64_t pages = conf->ram_bytes >> MEM_PAGE_SHIFT;
    struct mem *mem;
    int r;

    if (conf->ram_bytes < MIB || (conf->ram_bytes & MEM_PAGE_MASK) ||
        (conf->low_limit & MEM_PAGE_MASK) || conf->low_limit > HIGH_BASE ||
        pages > UINT32_MAX)
        return err_set(e, -EINVAL, "memory: %" PRIu64 " bytes cannot be RAM",
                       conf->ram_bytes);
    mem = calloc(1, sizeof *mem);
    if (!mem)
        return err_set(e, -ENOMEM, "memory: out of memory");
    mem->fd = -1;
    mem->ram_bytes = conf->ram_bytes;
    mem->low_bytes =
        conf->ram_bytes < conf->low_limit ? conf->ram_bytes : conf->low_limit;
    atomic_store(&mem->epoch, 1);
    r = backing_open(mem, conf, e);
    if (r)
        goto fail;
    r = -ENOMEM;
    mem->word = calloc(pages, sizeof *mem->word);
    if (!mem->word || (conf->scatter && scatter_init(mem, conf->seed))) {
        err_set(e, r, "memory: no room for the words of %" PRIu64 " pages",
                pages);
        goto fail;
    }
    if (conf->memfd >= 0 && !conf->fresh)
        for (uint64_t i = 0; i < pages; i++)
            atomic_store_explicit(&mem->word[i], MEM_WHERE_OWN,
                                  memory_order_relaxed);
    *out = mem;
    return 0;
fail:
    if (mem->fd == conf->memfd)
        mem->fd = -1; /* not taken on failure */
    mem_destroy(mem);
    return r;
}

void mem_destroy(struct mem *mem)
{
    if (!mem)
        return;
    if (mem->hva)
        munmap(mem->hva, mem->ram_bytes);
    if (mem->fd >= 0)
        close(mem->fd);
    free(mem->place);
    free(mem->word);
    free(mem);
}

uint64_t mem_ram_bytes(const struct mem *mem)
{
    return mem->ram_bytes;
}

uint64_t mem_low_bytes(const struct mem *mem)
{
    return mem->low_bytes;
}

uint64_t mem_high_bytes(const struct mem *mem)
{
    return mem->ram_bytes - mem->low_bytes;
}

/* ---- guest-physical to host ---- */

static uint8_t *page_hva(const struct mem *mem, int64_t i)
{
    return LIKELY(!mem->view) ? mem_base_hva(mem, i) : mem_view_hva(mem, i);
}

bool mem_is_ram(const struct mem *mem, gpa_t gpa, uint64_t len)
{
    uint64_t end;

    if (!check_add(gpa.v, len, &end))
        return false;
    if (gpa.v < HIGH_BASE)
        return end <= mem->low_bytes;
    return check_range(gpa.v - HIGH_BASE, len, mem_high_bytes(mem));
}

/* To write to; NULL: a view has no room for its copy. */
static uint8_t *page_own(struct mem *mem, int64_t i, gpa_t at)
{
    return LIKELY(!mem->view) ? page_hva(mem, i) : mem_view_own(mem, i, at);
}

/* Mark page @i written in the current epoch and own. Return: the new word. */
static uint32_t page_dirty(struct mem *mem, int64_t i)
{
    uint32_t epoch = atomic_load_explicit(&mem->epoch, memory_order_acquire);
    uint32_t old = atomic_load_explicit(&mem->word[i], memory_order_relaxed);
    uint32_t new;

    do {
        new = (old & ~MEM_WHERE_MASK & 0xffffU) | MEM_WHERE_OWN |
              epoch << MEM_EPOCH_SHIFT;
        if (new == old)
            break;
    } while (!atomic_compare_exchange_weak(&mem->word[i], &old, new));
    return new;
}

static void page_pin(struct mem *mem, int64_t i)
{
    uint32_t old = atomic_load_explicit(&mem->word[i], memory_order_relaxed);

    do {
        if ((old & MEM_PIN_MASK) == MEM_PIN_MASK)
            return;
    } while (!atomic_compare_exchange_weak(&mem->word[i], &old, old + PIN_ONE));
}

static void page_unpin(struct mem *mem, int64_t i)
{
    uint32_t old = atomic_load_explicit(&mem->word[i], memory_order_relaxed);

    do {
        if ((old & MEM_PIN_MASK) == MEM_PIN_MASK)
            return; /* saturated: stays */
        DASSERT(old & MEM_PIN_MASK);
    } while (!atomic_compare_exchange_weak(&mem->word[i], &old, old - PIN_ONE));
}

/* After the bytes of [gpa, gpa+len), inside one page, were written. */
static void page_written(struct mem *mem, int64_t i, gpa_t gpa, size_t len)
{
    uint32_t word = page_dirty(mem, i);

    if ((word & (MEM_CODE | MEM_WATCH)) && mem->listener.written)
        mem->listener.written(mem->listener.ctx, gpa, len, word);
}

/* ---- get and put ---- */

int mem_get(struct mem *mem, gpa_t gpa, size_t len, enum mem_access access,
            struct mem_iov *iov, unsigned n)
{
    uint64_t pages =
        ((gpa.v & MEM_PAGE_MASK) + len + MEM_PAGE_MASK) >> MEM_PAGE_SHIFT;
    unsigned k = 0;

    if (!mem_is_ram(mem, gpa, len))
        return -EFAULT;
    if (pages > n)
        return -E2BIG;
    if (UNLIKELY(mem->view != NULL))
        return mem_view_get(mem, gpa, len, access, iov);
    while (len) {
        int64_t i = mem_page_index(mem, gpa.v);
        size_t here = mem_in_page(gpa.v, len);

        page_pin(mem, i);
        iov[k].hva = page_hva(mem, i) + (gpa.v & MEM_PAGE_MASK);
        iov[k].len = here;
        iov[k].gpa = gpa;
        k++;
        gpa.v += here;
        len -= here;
    }
    return (int)k;
}

void mem_put(struct mem *mem, const struct mem_iov *iov, unsigned n,
             bool written)
{
    if (UNLIKELY(mem->view != NULL))
        return;
    for (unsigned k = 0; k < n; k++) {
        int64_t i = mem_page_index(mem, iov[k].gpa.v);

        ASSERT(i >= 0);
        if (written)
            page_written(mem, i, iov[k].gpa, iov[k].len);
        page_unpin(mem, i);
    }
}

int mem_read(struct mem *mem, gpa_t gpa, void *buf, size_t len)
{
    uint8_t *to = buf;

    if (!mem_is_ram(mem, gpa, len))
        return -EFAULT;
    while (len) {
        size_t here = mem_in_page(gpa.v, len);

        memcpy(to,
               page_hva(mem, mem_page_index(mem, gpa.v)) +
                   (gpa.v & MEM_PAGE_MASK),
               here);
        to += here;
        gpa.v += here;
        len -= here;
    }
    return 0;
}

/* Write @len bytes of @from (NULL: zeroes). */
static int write_or_zero(struct mem *mem, gpa_t gpa, const uint8_t *from,
                         uint64_t len)
{
    if (!mem_is_ram(mem, gpa, len))
        return -EFAULT;
    while (len) {
        size_t here = mem_in_page(gpa.v, len);
        int64_t i = mem_page_index(mem, gpa.v);
        uint8_t *to = page_own(mem, i, gpa);

        if (!to)
            return -EFAULT;
        to += gpa.v & MEM_PAGE_MASK;
        if (from) {
            memcpy(to, from, here);
            from += here;
        } else {
            memset(to, 0, here);
        }
        if (LIKELY(!mem->view))
            page_written(mem, i, gpa, here);
        gpa.v += here;
        len -= here;
    }
    return 0;
}

int mem_write(struct mem *mem, gpa_t gpa, const void *buf, size_t len)
{
    return write_or_zero(mem, gpa, buf, len);
}

int mem_zero(struct mem *mem, gpa_t gpa, uint64_t len)
{
    return write_or_zero(mem, gpa, NULL, len);
}

/* ---- engines ---- */

uint8_t *mem_tlb_page(struct mem *mem, gpa_t gpa, enum mem_access access,
                      uint32_t *word)
{
    int64_t i = mem_page_index(mem, gpa.v);

    if (i < 0)
        return NULL;
    if (UNLIKELY(mem->view != NULL)) {
        *word = 0;
        return access == MEM_WRITE ? page_own(mem, i, gpa) : page_hva(mem, i);
    }
    if (access == MEM_WRITE)
        *word = page_dirty(mem, i);
    else
        *word = atomic_load_explicit(&mem->word[i], memory_order_acquire);
    return page_hva(mem, i);
}

uint8_t *mem_linear_hva(struct mem *mem)
{
    return mem->place ? NULL : mem->hva;
}

_Atomic uint32_t *mem_page_word(struct mem *mem, gpa_t gpa)
{
    int64_t i = mem_page_index(mem, gpa.v);

    return i < 0 ? NULL : &mem->word[i];
}

int mem_mark(struct mem *mem, gpa_t gpa, uint32_t bits)
{
    int64_t i = mem_page_index(mem, gpa.v);
    uint32_t old;

    DASSERT((bits & ~(MEM_CODE | MEM_WATCH)) == 0);
    if (i < 0)
        return -EFAULT;
    old = atomic_fetch_or(&mem->word[i], bits);
    if ((old & bits) != bits && mem->revoke)
        mem->revoke(mem->revoke_ctx, gpa, false);
    return 0;
}

void mem_unmark(struct mem *mem, gpa_t gpa, uint32_t bits)
{
    int64_t i = mem_page_index(mem, gpa.v);

    if (i >= 0)
        atomic_fetch_and(&mem->word[i], ~(bits & (MEM_CODE | MEM_WATCH)));
}

uint32_t mem_epoch_next(struct mem *mem)
{
    uint32_t ended = atomic_load(&mem->epoch);

    if (ended == EPOCH_MAX) {
        /* Start over; what was ever written counts as written in epoch 1. */
        for (uint64_t i = 0; i < mem->ram_bytes >> MEM_PAGE_SHIFT; i++) {
            uint32_t old = atomic_load(&mem->word[i]);

            while (old >> MEM_EPOCH_SHIFT &&
                   !atomic_compare_exchange_weak(&mem->word[i], &old,
                                                 (old & 0xffffU) |
                                                     1U << MEM_EPOCH_SHIFT))
                ;
        }
        ended = 0;
    }
    atomic_store(&mem->epoch, ended + 1);
    if (mem->revoke)
        mem->revoke(mem->revoke_ctx, gpa(0), true);
    return ended;
}

bool mem_dirty_since(struct mem *mem, gpa_t gpa, uint32_t epoch)
{
    int64_t i = mem_page_index(mem, gpa.v);

    return i >= 0 && atomic_load(&mem->word[i]) >> MEM_EPOCH_SHIFT > epoch;
}

void mem_set_listener(struct mem *mem, struct mem_listener l)
{
    mem->listener = l;
}

void mem_set_revoke(struct mem *mem,
                    void (*revoke)(void *ctx, gpa_t gpa, bool all), void *ctx)
{
    mem->revoke = revoke;
    mem->revoke_ctx = ctx;
}

/* ---- whole RAM ---- */

/* Hash of one page; 0 for a page of zeroes. */
static uint64_t page_hash(const uint8_t *hva)
{
    uint64_t h = 0, any = 0;

    for (size_t k = 0; k < MEM_PAGE_BYTES; k += 8) {
        uint64_t v;

        memcpy(&v, hva + k, 8);
        any |= v;
        h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return any ? h : 0;
}

uint64_t mem_hash(struct mem *mem)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < mem->ram_bytes >> MEM_PAGE_SHIFT; i++) {
        uint64_t h;

        if ((atomic_load(&mem->word[i]) & MEM_WHERE_MASK) == MEM_WHERE_ABSENT)
            continue;
        h = page_hash(page_hva(mem, (int64_t)i));
        if (h)
            sum += rng_next(&(uint64_t){h ^ (i << 20)});
    }
    return sum;
}

int mem_dup_fd(const struct mem *mem)
{
    int fd = fcntl(mem->fd, F_DUPFD_CLOEXEC, 3);

    return fd < 0 ? -errno : fd;
}
