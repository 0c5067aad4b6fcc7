// SPDX-License-Identifier: Apache-2.0
/*
 * What KVM must know of the machine that was built: where its RAM lies and what
 * its CPUID answers; see priv.h. Thread: main, vCPUs not running.
 * Source: Linux Documentation/virt/kvm/api.rst.
 */
#include "cpu/x86/cpuid.h"
#include "engine/kvm/priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HIGH_BASE (UINT64_C(1) << 32)

struct cpuid_block {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entry[X86_CPUID_LEAVES_MAX];
};

static int set_slot(struct engine_part *part, uint32_t slot, uint64_t gpa,
                    uint64_t bytes, const uint8_t *hva)
{
    struct kvm_userspace_memory_region r = {.slot = slot,
                                            .guest_phys_addr = gpa,
                                            .memory_size = bytes,
                                            .userspace_addr = (uintptr_t)hva};

    return kvm_call(part, part->vm_fd, KVM_SET_USER_MEMORY_REGION, &r);
}

int kvm_map_ram(struct engine_part *part, struct vm *vm, struct err *e)
{
    uint64_t low = mem_low_bytes(vm->mem), high = mem_high_bytes(vm->mem);
    const uint8_t *hva = mem_linear_hva(vm->mem);
    int r;

    if (!hva)
        return err_set(e, -ENOTSUP,
                       "kvm: the hardware wants RAM in one piece: leave out "
                       "--mem scatter or use --engine interp");
    r = set_slot(part, 0, 0, low, hva);
    if (r >= 0 && high)
        r = set_slot(part, 1, HIGH_BASE, high, hva + low);
    if (r < 0)
        return err_set(e, r, "kvm: %" PRIu64 " MiB of guest RAM: %s",
                       (low + high) >> 20, strerror(-r));
    kvm_all_dirty(vm);
    return 0;
}

void kvm_unmap_ram(struct engine_part *part)
{
    /* A slot that isn't there is refused, which is as well. */
    (void)set_slot(part, 0, 0, 0, NULL);
    (void)set_slot(part, 1, HIGH_BASE, 0, NULL);
}

void kvm_all_dirty(struct vm *vm)
{
    uint64_t low = mem_low_bytes(vm->mem), high = mem_high_bytes(vm->mem);
    uint32_t word;

    for (uint64_t a = 0; a < low; a += MEM_PAGE_BYTES)
        (void)mem_tlb_page(vm->mem, gpa(a), MEM_WRITE, &word);
    for (uint64_t a = 0; a < high; a += MEM_PAGE_BYTES)
        (void)mem_tlb_page(vm->mem, gpa(HIGH_BASE + a), MEM_WRITE, &word);
}

int kvm_set_cpuid(struct engine_vcpu *v, struct err *e)
{
    const struct x86_cpuid *c = v->cpu->cpuid;
    struct cpuid_block b;
    int r;

    memset(&b, 0, sizeof b);
    for (unsigned i = 0; i < c->n; i++) {
        const struct x86_cpuid_leaf *l = &c->leaf[i];
        struct kvm_cpuid_entry2 *to = &b.entry[i];
        uint32_t regs[4];

        x86_cpuid_query(v->cpu, l->leaf, l->sub < 0 ? 0 : (uint32_t)l->sub,
                        regs);
        to->function = l->leaf;
        to->index = l->sub < 0 ? 0 : (uint32_t)l->sub;
        to->flags = l->sub < 0 ? 0 : KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        to->eax = regs[0];
        to->ebx = regs[1];
        to->ecx = regs[2];
        to->edx = regs[3];
    }
    b.head.nent = c->n;
    r = kvm_call(v->part, v->fd, KVM_SET_CPUID2, &b);
    return r < 0 ? err_set(e, r, "kvm: CPUID of vCPU %u: %s", v->cpu->index,
                           strerror(-r))
                 : 0;
}
