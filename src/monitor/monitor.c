// SPDX-License-Identifier: Apache-2.0
/*
 * The monitor role. Theory of operation:
 *
 * monitor_main receives the configuration and open descriptors from core, reads
 * the images, closes the jail, builds the PC and loads the kernel (a hostile
 * file), starts a thread per vCPU and enters the event loop: guest timers,
 * core's commands, and what the guest asks of the machine. A request
 * (power-off, reset, ...) arrives on a vCPU's thread with a device's lock held;
 * it is noted, all vCPUs are kicked out, and the loop does the rest. How the
 * guest ended is reported to core.
 *
 * --selftest-thaw: after every N exits (port and MMIO accesses, seen at the
 * input gate) the world is stopped, all state is written by the descriptors,
 * the PC destroyed and built again from that stream on the same RAM.
 */
#include "monitor/monitor.h"

#include "base/log.h"
#include "engine/engine.h"
#include "host/block/raw.h"
#include "host/chr/chr_stdio.h"
#include "machine/pc/pc.h"
#include "monitor/conf.h"
#include "monitor/jail.h"
#include "monitor/stats.h"
#include "monitor/vcpus.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>

#define DISK_THREADS  4
#define FLUSH_MS      2000
#define FLUSH_LOOK_MS 100 /* how often a slow flush looks at core */

/* Bits of struct monitor.asked: 1 << enum vm_request, and ours. */
#define ASK_THAW BIT(30) /* --selftest-thaw */
#define ASK_USER BIT(31) /* Ctrl-A x */

struct monitor {
    int sock;
    int wake_fd; /* eventfd: the loop has something to look at */
    struct monitor_conf conf;
    struct pc_conf pc_conf;
    struct pc *pc;
    struct vcpus *vcpus;
    const struct engine_ops *engine;
    struct engine_part *engine_part;
    struct chr_stdio *chr;
    struct boot_conf boot;
    struct boot_image initrd[ABI_INITRDS_MAX];
    struct blockdev disk[ABI_DISKS_MAX];
    unsigned ndisks;
    struct input_ops thaw_gate;
    _Atomic uint64_t thaw_countdown;
    uint64_t thaws;
    _Atomic uint32_t asked;
    _Atomic uint32_t debug_exit_code;
};

/* ---- what other threads ask of the loop ---- */

static void wake(void *ctx)
{
    struct monitor *m = ctx;
    ssize_t n = write(m->wake_fd, &(uint64_t){1}, 8);

    (void)n; /* a full counter is awake enough */
}

static void ask(struct monitor *m, uint32_t bits)
{
    atomic_fetch_or(&m->asked, bits);
    if (m->vcpus)
        vcpus_kick_out(m->vcpus);
    wake(m);
}

static void on_request(void *ctx, enum vm_request req, uint32_t code)
{
    struct monitor *m = ctx;

    if (req == VM_REQ_DEBUG_EXIT)
        atomic_store(&m->debug_exit_code, code);
    ask(m, (uint32_t)BIT(req));
}

/* Thread: the console's reader, which may run while the vCPUs are being built
 * anew: the loop stops them. */
static void on_quit(void *ctx)
{
    struct monitor *m = ctx;

    atomic_fetch_or(&m->asked, (uint32_t)ASK_USER);
    wake(m);
}

/* The input gate of --selftest-thaw: counts exits. */
static uint64_t count_exit(void *ctx, enum input_kind kind, unsigned vcpu,
                           uint64_t key, uint64_t value, uint64_t icount)
{
    struct monitor *m = ctx;

    (void)vcpu;
    (void)key;
    (void)icount;
    if ((kind == INPUT_PIO || kind == INPUT_MMIO) &&
        atomic_fetch_sub(&m->thaw_countdown, 1) == 1)
        ask(m, (uint32_t)ASK_THAW);
    return value;
}

static void arm_thaw(struct monitor *m)
{
    struct vm *vm = pc_vm(m->pc);

    if (!m->conf.thaw_every)
        return;
    atomic_store(&m->thaw_countdown, m->conf.thaw_every);
    m->thaw_gate.value = count_exit;
    vm->gate.ctx = m;
    vm->gate.ops = &m->thaw_gate;
}

/* ---- construction ---- */

static enum x86_level level_of(enum abi_cpu_level l)
{
    switch (l) {
    case ABI_CPU_V2:
        return X86_LEVEL_V2;
    case ABI_CPU_V3:
        return X86_LEVEL_V3;
    case ABI_CPU_HOST:
        return X86_LEVEL_HOST;
    }
    return X86_LEVEL_V2;
}

static int open_host(struct monitor *m, struct err *e)
{
    const struct monitor_conf *c = &m->conf;
    bool virtual_clock = c->clock == ABI_CLOCK_VIRTUAL;
    struct chr_conf chr = {
        .escape = c->flags & ABI_FLAG_CONSOLE_TTY, .quit = on_quit, .ctx = m};
    int r;

    m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->wake_fd < 0)
        return err_set(e, -errno, "eventfd: %m");
    r = chr_stdio_create(c->console_in, c->console_out, &chr, &m->chr, e);
    for (unsigned i = 0; i < c->ndisks && !r; i++) {
        r = block_raw_create(c->disk[i].fd, c->disk[i].read_only, DISK_THREADS,
                             virtual_clock, &m->disk[i], e);
        if (r)
            err_prefix(e, "disk %s", c->disk[i].label);
        else
            m->ndisks++;
    }
    return r;
}

static int build_pc(struct monitor *m, struct err *e)
{
    int r = pc_create(&m->pc_conf, &m->pc, e);

    if (r)
        return r;
    arm_thaw(m);
    /* Measured again it would differ a little: CPUID shows it. */
    m->pc_conf.tsc_khz = clock_tsc_khz(pc_vm(m->pc)->clock);
    pc_vm(m->pc)->engine = m->engine_part;
    r = vcpus_create(m->engine, m->pc, &m->vcpus, e);
    if (r) {
        pc_destroy(m->pc);
        m->pc = NULL;
        return r;
    }
    clock_set_wake(pc_vm(m->pc)->clock, wake, m);
    return 0;
}

/* Copy the kernel and the initrds, which are not looked at yet: that is done
 * in the jail, since they are as hostile as the guest. */
static int read_images(struct monitor *m, struct err *e)
{
    int r = boot_image_read(m->conf.kernel.fd, m->conf.kernel.label,
                            &m->boot.kernel, e);

    m->boot.cmdline = m->conf.cmdline;
    m->boot.initrd = m->initrd;
    for (unsigned i = 0; i < m->conf.ninitrds && !r; i++) {
        r = boot_image_read(m->conf.initrd[i].fd, m->conf.initrd[i].label,
                            &m->initrd[i], e);
        m->boot.ninitrds++;
    }
    return r;
}

static int load_kernel(struct monitor *m, struct err *e)
{
    struct boot_info info;
    int r = pc_boot(m->pc, &m->boot, &info, e);

    if (!r)
        log_info("boot", "%s, %s, entry 0x%" PRIx64, m->conf.kernel.label,
                 info.what, info.entry.v);
    for (unsigned i = 0; i < m->boot.ninitrds; i++)
        boot_image_free(&m->initrd[i]);
    boot_image_free(&m->boot.kernel);
    return r;
}

/* What the engine needs of the process it must get before the jail. */
static int choose_engine(struct monitor *m, struct err *e)
{
    struct engine_look look = {.map_fd = m->conf.perf_map_fd,
                               .dump_fd = m->conf.dump_fd,
                               .symbols_fd = m->conf.symbols_fd,
                               .nva = m->conf.ndumps};
    struct engine_host host = {.kvm_fd = m->conf.kvm_fd,
                               .ncpus = m->conf.cpus,
                               .look = &look,
                               .check = m->conf.flags & ABI_FLAG_CHECK};
    int r = 0;

    if (m->conf.flags & ABI_FLAG_ZONES_OFF)
        host.zones = ENGINE_ZONES_OFF;
    else if (m->conf.flags & ABI_FLAG_ZONES_NOW)
        host.zones = ENGINE_ZONES_NOW;
    for (unsigned i = 0; i < look.nva; i++)
        look.va[i] = m->conf.dump_va[i];

    m->engine = engine_find(m->conf.engine);
    if (!m->engine)
        return err_set(e, -EINVAL, "engine %s is not built into this doppel",
                       m->conf.engine);
    if (m->engine->init)
        r = m->engine->init(&host, &m->engine_part, e);
    /* Whatever was made from it stays; no more VMs are made in the jail. */
    if (m->conf.kvm_fd >= 0)
        close(m->conf.kvm_fd);
    m->conf.kvm_fd = -1;
    if (m->conf.symbols_fd >= 0)
        close(m->conf.symbols_fd);
    m->conf.symbols_fd = -1;
    return r;
}

static int build(struct monitor *m, struct err *e)
{
    const struct monitor_conf *c = &m->conf;
    int r;

    r = open_host(m, e);
    if (r)
        return r;
    m->pc_conf = (struct pc_conf){
        .ram_bytes = c->ram_bytes,
        .ram_fd = c->ram_fd,
        .ram_fresh = true,
        .scatter = c->flags & ABI_FLAG_SCATTER,
        .seed = c->seed,
        .ncpus = c->cpus,
        .level = level_of(c->cpu_level),
        .mitigations = c->flags & ABI_FLAG_MITIGATIONS,
        .clock = c->clock == ABI_CLOCK_VIRTUAL ? CLOCK_MODE_VIRTUAL
                                               : CLOCK_MODE_REAL,
        .debug_exit_port = c->debug_exit_port,
        .console = chr_stdio_chardev(m->chr),
        .disk = m->disk,
        .ndisks = m->ndisks,
        .request = on_request,
        .request_ctx = m,
    };
    r = build_pc(m, e);
    m->pc_conf.ram_fresh = false; /* from now on RAM holds the guest */
    return r ? r : load_kernel(m, e);
}

/* Which descriptors stay open in the jail: all that are open now. The process
 * began with none but its socket (close_strangers), so all are ours. */
#define KEEP_MAX 96

static unsigned open_fds(int *keep)
{
    unsigned n = 0;

    for (int fd = 0; fd < 1024 && n < KEEP_MAX; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            keep[n++] = fd;
    return n;
}

static void close_strangers(int sock)
{
    close_range((unsigned)sock + 1, ~0U, 0);
}

static void close_images(struct monitor_conf *c)
{
    close(c->kernel.fd);
    c->kernel.fd = -1;
    for (unsigned i = 0; i < c->ninitrds; i++) {
        close(c->initrd[i].fd);
        c->initrd[i].fd = -1;
    }
}

static int enter_jail(struct monitor *m, struct err *e)
{
    int keep[KEEP_MAX];
    unsigned layers = 0;
    struct jail_conf jail = {.ns = m->conf.jail_ns,
                             .keep = keep,
                             .kvm = strcmp(m->engine->name, "kvm") == 0,
                             .audit = m->conf.flags & ABI_FLAG_SECCOMP_AUDIT};
    int r;

    close_images(&m->conf);
    jail.nkeep = open_fds(keep);
    r = jail_enter(&jail, &layers, e);
    if (r)
        return r;
    log_info("jail", "layers 0x%x, %zu system calls allowed", layers,
             seccomp_list_active(jail.kvm));
    jail_test_run(m->conf.jail_test);
    return m->conf.jail_test == ABI_JAIL_TEST_NONE
               ? 0
               : err_set(e, -EPERM, "the jail let test %d pass",
                         (int)m->conf.jail_test);
}

/* ---- --selftest-thaw ---- */

static int rebuild(struct monitor *m, struct state_buf *b, struct err *e)
{
    struct state_buf again = {0};
    int r;

    vcpus_destroy(m->vcpus);
    m->vcpus = NULL;
    pc_destroy(m->pc);
    m->pc = NULL;
    r = build_pc(m, e);
    r = r ? r : state_list_load(pc_vm(m->pc)->state, b, e);
    r = r ? r : state_list_save(pc_vm(m->pc)->state, &again, e);
    r = r ? r : state_compare(b, &again, e);
    state_buf_fini(&again);
    return r;
}

/* The world is stopped. The console's threads are part of it: a byte that the
 * UART took or gave after it was saved would be lost or be there twice. The new
 * UART attaches itself again. */
static int thaw(struct monitor *m, struct err *e)
{
    struct chardev console = chr_stdio_chardev(m->chr);
    struct state_buf b = {0};
    int r;

    console.attach(console.be, NULL);
    pc_drain(m->pc);
    r = state_list_save(pc_vm(m->pc)->state, &b, e);
    r = r ? r : rebuild(m, &b, e);
    state_buf_fini(&b);
    m->thaws++;
    return r;
}

/* ---- the event loop ---- */

/* What a set of requests means for the VM as a whole; false: go on. */
static bool ending(struct monitor *m, uint32_t asked, enum abi_exit *reason)
{
    static const struct {
        uint32_t bit;
        enum abi_exit reason;
    } ends[] = {
        {(uint32_t)ASK_USER, ABI_EXIT_USER},
        {(uint32_t)BIT(VM_REQ_SHUTDOWN), ABI_EXIT_TRIPLE_FAULT},
        {(uint32_t)BIT(VM_REQ_PANIC), ABI_EXIT_PANIC},
        {(uint32_t)BIT(VM_REQ_DEBUG_EXIT), ABI_EXIT_DEBUG_EXIT},
        {(uint32_t)BIT(VM_REQ_POWEROFF), ABI_EXIT_POWEROFF},
        {(uint32_t)BIT(VM_REQ_RESET), ABI_EXIT_RESET},
    };

    (void)m;
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        if (asked & ends[i].bit) {
            *reason = ends[i].reason;
            return true;
        }
    }
    return false;
}

static void wait_for_work(struct monitor *m)
{
    struct clock *clk = pc_vm(m->pc)->clock;
    struct pollfd p[2] = {{.fd = m->sock, .events = POLLIN},
                          {.fd = m->wake_fd, .events = POLLIN}};
    uint64_t next = CLOCK_NEVER, now, counter;
    struct timespec ts;

    if (clock_mode(clk) == CLOCK_MODE_REAL)
        next = clock_run(clk);
    if (next != CLOCK_NEVER) {
        now = clock_now_ns(clk);
        next = next > now ? next - now : 0;
        ts.tv_sec = (time_t)(next / NS_PER_S);
        ts.tv_nsec = (long)(next % NS_PER_S);
    }
    if (ppoll(p, 2, next == CLOCK_NEVER ? NULL : &ts, NULL) > 0 &&
        (p[1].revents & POLLIN) && read(m->wake_fd, &counter, 8) < 0)
        log_debug("monitor", "spurious wake");
}

/* Core's word. Return: whether the VM must end now. */
static bool core_says_quit(struct monitor *m)
{
    int cmd = monitor_command(m->sock);

    if (cmd == ABI_POWER_BUTTON && !pc_power_button(m->pc))
        log_info("monitor", "the guest does not listen to its power button");
    return cmd == ABI_QUIT || cmd == 0;
}

/* Run until the guest ends. Return: 0 and *reason, or a failure of ours. */
static int run(struct monitor *m, enum abi_exit *reason, struct err *e)
{
    struct clock *clk = pc_vm(m->pc)->clock;
    int r;

    for (;;) {
        uint32_t asked;

        clock_start(clk);
        r = vcpus_start(m->vcpus, e);
        if (r)
            return r;
        while (!(asked = atomic_exchange(&m->asked, 0))) {
            wait_for_work(m);
            if (core_says_quit(m)) {
                vcpus_stop(m->vcpus);
                *reason = ABI_EXIT_QUIT;
                return 0;
            }
        }
        vcpus_stop(m->vcpus);
        clock_stop(clk);
        asked |= atomic_exchange(&m->asked, 0);
        r = vcpus_failure(m->vcpus, e);
        if (r)
            return r;
        if (ending(m, asked, reason))
            return 0;
        r = thaw(m, e);
        if (r)
            return r;
        clk = pc_vm(m->pc)->clock;
    }
}

/* What the guest has written before it ended is written out, however slow its
 * reader is; until the user or core wants no more of it. */
static void flush_console(struct monitor *m, enum abi_exit reason)
{
    if (reason == ABI_EXIT_USER || reason == ABI_EXIT_QUIT) {
        chr_stdio_flush(m->chr, FLUSH_MS);
        return;
    }
    while (!chr_stdio_flush(m->chr, FLUSH_LOOK_MS) && !core_says_quit(m) &&
           !(atomic_load(&m->asked) & ASK_USER))
        ;
}

static void report(struct monitor *m, enum abi_exit reason)
{
    uint64_t code = 0;

    pc_drain(m->pc);
    flush_console(m, reason);
    if (m->conf.flags & ABI_FLAG_STATS)
        stats_print(m->pc, m->vcpus, m->thaws);
    if (m->engine->last_words)
        m->engine->last_words(m->engine_part);
    if (reason == ABI_EXIT_DEBUG_EXIT)
        code = atomic_load(&m->debug_exit_code);
    if (monitor_report(m->sock, reason, code, NULL))
        log_debug("monitor", "core is gone");
}

int monitor_main(int sock)
{
    struct monitor m = {.sock = sock, .wake_fd = -1};
    struct err e = {{0}};
    enum abi_exit reason;
    int r;

    close_strangers(sock);
    prctl(PR_SET_TIMERSLACK, 1);
    monitor_conf_init(&m.conf);
    r = monitor_conf_recv(sock, &m.conf, &e);
    if (!r) {
        log_level_set(m.conf.verbose >= 2   ? LOG_DEBUG
                      : m.conf.verbose == 1 ? LOG_INFO
                                            : LOG_WARN);
        r = read_images(&m, &e);
        r = r ? r : choose_engine(&m, &e);
    }
    /* Before any thread and before any byte of the kernel's is looked at. */
    r = r ? r : enter_jail(&m, &e);
    r = r ? r : build(&m, &e);
    r = r ? r : monitor_ready(sock);
    r = r ? r : run(&m, &reason, &e);
    if (r) {
        if (m.chr)
            chr_stdio_flush(m.chr, FLUSH_MS);
        monitor_failed(sock, e.text);
        return 1;
    }
    report(&m, reason);
    /* The process ends here; the kernel takes its memory and threads. */
    return 0;
}
