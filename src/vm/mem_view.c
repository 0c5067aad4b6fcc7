// SPDX-License-Identifier: Apache-2.0
/*
 * A view of guest memory: writes go to copies of pages, which can be compared
 * with the memory afterwards. For an engine that runs code twice; one thread.
 */
#include "vm/mem_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *find(const struct mem *mem, int64_t i)
{
    const struct mem_view *v = mem->view;

    for (unsigned k = 0; k < v->n; k++)
        if (v->idx[k] == i)
            return v->copy + ((size_t)k << MEM_PAGE_SHIFT);
    return NULL;
}

uint8_t *mem_view_hva(const struct mem *mem, int64_t i)
{
    uint8_t *copy = find(mem, i);

    return copy ? copy : mem_base_hva(mem, i);
}

uint8_t *mem_view_own(struct mem *mem, int64_t i, gpa_t at)
{
    struct mem_view *v = mem->view;
    uint8_t *copy = find(mem, i);

    if (copy)
        return copy;
    if (v->n == MEM_VIEW_PAGES) {
        v->full = true;
        return NULL;
    }
    copy = v->copy + ((size_t)v->n << MEM_PAGE_SHIFT);
    memcpy(copy, mem_base_hva(mem, i), MEM_PAGE_BYTES);
    memcpy(v->before + ((size_t)v->n << MEM_PAGE_SHIFT), copy, MEM_PAGE_BYTES);
    v->idx[v->n] = i;
    v->at[v->n++] = gpa(at.v & ~(uint64_t)MEM_PAGE_MASK);
    return copy;
}

int mem_view_get(struct mem *mem, gpa_t gpa, size_t len, enum mem_access access,
                 struct mem_iov *iov)
{
    struct mem_view *v = mem->view;
    int k = 0;

    if (access == MEM_WRITE && v->nmarks < MEM_VIEW_MARKS &&
        !mem_view_marked(mem, gpa))
        v->mark[v->nmarks++] = gpa;
    while (len) {
        int64_t i = mem_page_index(mem, gpa.v);
        uint8_t *hva = access == MEM_WRITE ? mem_view_own(mem, i, gpa)
                                           : mem_view_hva(mem, i);
        size_t here = mem_in_page(gpa.v, len);

        if (!hva)
            return -EFAULT;
        iov[k++] = (struct mem_iov){hva + (gpa.v & MEM_PAGE_MASK), here, gpa};
        gpa.v += here;
        len -= here;
    }
    return k;
}

int mem_view_create(struct mem *base, struct mem **out)
{
    struct mem *mem = malloc(sizeof *mem);
    struct mem_view *v = calloc(1, sizeof *v);
    uint8_t *pages =
        aligned_alloc(MEM_PAGE_BYTES, 2 * MEM_VIEW_PAGES * MEM_PAGE_BYTES);

    if (!mem || !v || !pages) {
        free(mem);
        free(v);
        free(pages);
        return -ENOMEM;
    }
    *mem = *base;
    mem->view = v;
    mem->listener = (struct mem_listener){NULL, NULL};
    mem->revoke = NULL;
    v->copy = pages;
    v->before = pages + (size_t)MEM_VIEW_PAGES * MEM_PAGE_BYTES;
    *out = mem;
    return 0;
}

void mem_view_destroy(struct mem *view)
{
    if (!view)
        return;
    free(view->view->copy);
    free(view->view);
    free(view);
}

void mem_view_reset(struct mem *view)
{
    view->view->n = view->view->nmarks = 0;
    view->view->full = false;
}

void mem_view_rewind(struct mem *view)
{
    struct mem_view *v = view->view;

    memcpy(v->copy, v->before, (size_t)v->n * MEM_PAGE_BYTES);
    v->full = false;
}

unsigned mem_view_count(const struct mem *view)
{
    return view->view->n;
}

bool mem_view_full(const struct mem *view)
{
    return view->view->full;
}

void mem_view_page(const struct mem *view, unsigned i,
                   struct mem_view_page *out)
{
    const struct mem_view *v = view->view;
    size_t at = (size_t)i * MEM_PAGE_BYTES;

    *out = (struct mem_view_page){v->at[i], v->copy + at, v->before + at,
                                  mem_base_hva(view, v->idx[i])};
}

bool mem_view_marked(const struct mem *view, gpa_t gpa)
{
    const struct mem_view *v = view->view;

    for (unsigned k = 0; k < v->nmarks; k++)
        if (v->mark[k].v == gpa.v)
            return true;
    return false;
}
