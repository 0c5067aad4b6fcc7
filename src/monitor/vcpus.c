// SPDX-License-Identifier: Apache-2.0
/* The vCPU threads; see vcpus.h. */
#include "monitor/vcpus.h"

#include "base/log.h"
#include "cpu/x86/exceptions.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

struct vcpu_thread {
    struct vcpus *all;
    struct x86_cpu *cpu;
    struct engine_vcpu *ev;
    pthread_t thread;
    bool started;
    bool failed; /* read when the thread is gone */
    char why[sizeof((struct exit_rec *)0)->why];
    uint64_t exits;
};

struct vcpus {
    const struct engine_ops *engine;
    struct vm *vm;
    unsigned n;
    struct vcpu_thread vcpu[X86_CPUS_MAX];
};

/* Sleep in HLT until something happens. A level at LINT0 that the CPU does not
 * take now (masked, or IF = 0) must not keep it awake; but one that rose since
 * the engine looked, and that it takes, must not be slept through. */
static void halt(struct vcpu_thread *t)
{
    struct x86_cpu *cpu = t->cpu;
    uint32_t standing = kick_pending(&cpu->kick) & KICK_EXTINT;

    if (cpu->activity == X86_ACT_HLT && x86_irq_window(cpu))
        return;
    kick_wait(&cpu->kick, ~standing, UINT64_MAX);
}

static void failed(struct vcpu_thread *t, const struct exit_rec *exit)
{
    memcpy(t->why, exit->why, sizeof t->why);
    t->failed = true;
    vm_request(t->all->vm, VM_REQ_FAILED, t->cpu->index);
}

static void *vcpu_main(void *arg)
{
    struct vcpu_thread *t = arg;
    struct exit_rec exit;
    char name[16];

    snprintf(name, sizeof name, "vcpu%u", t->cpu->index);
    prctl(PR_SET_NAME, name);
    prctl(PR_SET_TIMERSLACK, 1);
    for (;;) {
        t->all->engine->vcpu_run(t->ev, 0, &exit);
        t->exits++;
        switch (exit.reason) {
        case EXIT_PARK:
            return NULL;
        case EXIT_HLT:
            halt(t);
            break;
        case EXIT_SHUTDOWN:
            vm_request(t->all->vm, VM_REQ_SHUTDOWN, t->cpu->index);
            kick_wait(&t->cpu->kick, KICK_EXIT, UINT64_MAX);
            break;
        case EXIT_FAILED:
            failed(t, &exit);
            return NULL;
        case EXIT_BUDGET:
        case EXIT_DEBUG:
            break;
        }
        if (kick_pending(&t->cpu->kick) & KICK_EXIT)
            return NULL;
    }
}

int vcpus_create(const struct engine_ops *engine, struct pc *pc,
                 struct vcpus **out, struct err *e)
{
    struct vcpus *v = calloc(1, sizeof *v);

    if (!v)
        return err_set(e, -ENOMEM, "vcpus: out of memory");
    v->engine = engine;
    v->vm = pc_vm(pc);
    for (unsigned i = 0; i < pc_ncpus(pc); i++) {
        struct vcpu_thread *t = &v->vcpu[i];
        int r;

        t->all = v;
        t->cpu = pc_cpu(pc, i);
        r = engine->vcpu_create(v->vm, t->cpu, &t->ev, e);
        if (r) {
            vcpus_destroy(v);
            return r;
        }
        v->n++;
    }
    *out = v;
    return 0;
}

void vcpus_destroy(struct vcpus *v)
{
    if (!v)
        return;
    for (unsigned i = 0; i < v->n; i++)
        v->engine->vcpu_destroy(v->vcpu[i].ev);
    free(v);
}

int vcpus_start(struct vcpus *v, struct err *e)
{
    for (unsigned i = 0; i < v->n; i++)
        kick_clear(&v->vcpu[i].cpu->kick, KICK_EXIT | KICK_PARK);
    for (unsigned i = 0; i < v->n; i++) {
        struct vcpu_thread *t = &v->vcpu[i];
        int r = pthread_create(&t->thread, NULL, vcpu_main, t);

        if (r) {
            vcpus_stop(v);
            return err_set(e, -r, "vcpu %u: no thread: %s", i, strerror(r));
        }
        t->started = true;
    }
    return 0;
}

void vcpus_kick_out(struct vcpus *v)
{
    for (unsigned i = 0; i < v->n; i++)
        kick_request(&v->vcpu[i].cpu->kick, KICK_EXIT);
}

void vcpus_stop(struct vcpus *v)
{
    vcpus_kick_out(v);
    for (unsigned i = 0; i < v->n; i++) {
        if (v->vcpu[i].started)
            pthread_join(v->vcpu[i].thread, NULL);
        v->vcpu[i].started = false;
    }
}

int vcpus_failure(const struct vcpus *v, struct err *e)
{
    for (unsigned i = 0; i < v->n; i++)
        if (v->vcpu[i].failed)
            return err_set(e, -EIO, "vCPU %u: %s", i, v->vcpu[i].why);
    return 0;
}

uint64_t vcpus_exits(const struct vcpus *v)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < v->n; i++)
        sum += v->vcpu[i].exits;
    return sum;
}

unsigned vcpus_count(const struct vcpus *v)
{
    return v->n;
}

const char *vcpus_stat(const struct vcpus *v, unsigned vcpu, unsigned i,
                       uint64_t *value)
{
    const char *name = NULL;

    *value = 0;
    for (unsigned k = 0; k < v->n && v->engine->vcpu_stat; k++) {
        uint64_t one = 0;

        if (vcpu != VCPUS_ALL && vcpu != k)
            continue;
        name = v->engine->vcpu_stat(v->vcpu[k].ev, i, &one);
        if (!name)
            break;
        *value += one;
    }
    return name;
}
