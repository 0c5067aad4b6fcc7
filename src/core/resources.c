// SPDX-License-Identifier: Apache-2.0
/* Opening what a VM needs; see resources.h. */
#include "core/resources.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/bits.h"
#include "core/console.h"
#include "core/guest.h"
#include "core/hostcpu.h"
#include "core/hostmem.h"

#ifndef MFD_NOEXEC_SEAL
#    define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_OFD_SETLK
#    define F_OFD_SETLK 37
#endif

static void set_label(struct abi_file *f, const char *path)
{
    size_t n = strlen(path);
    size_t room = sizeof f->label - 1;

    /* The end of a long path says more than its beginning. */
    snprintf(f->label, sizeof f->label, "%s",
             n > room ? path + n - room : path);
}

static int check_kind(int fd, const char *what, const char *path, bool block_ok,
                      struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set(e, -errno, "cannot look at %s %s: %s", what, path,
                       strerror(errno));
    if (S_ISREG(st.st_mode) || (block_ok && S_ISBLK(st.st_mode)))
        return 0;
    return err_set(e, -EINVAL, "%s %s is a %s, not a file%s", what, path,
                   S_ISDIR(st.st_mode) ? "folder" : "special file",
                   block_ok ? " or a block device" : "");
}

/* @flags: O_RDONLY or O_RDWR. A FIFO or a device must not make us wait. */
static int open_file(struct abi_file *f, const char *what, const char *path,
                     int flags, struct err *e)
{
    bool disk = flags != O_RDONLY || f->read_only;
    int rc;

    f->fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (f->fd < 0 && errno == ENOENT)
        return err_set(e, -ENOENT, "no such %s: %s", what, path);
    if (f->fd < 0)
        return err_set(e, -errno, "cannot open %s %s%s: %s", what, path,
                       flags == O_RDWR ? " for writing" : "", strerror(errno));
    rc = check_kind(f->fd, what, path, disk, e);
    if (rc) {
        close(f->fd);
        f->fd = -1;
        return rc;
    }
    fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) & ~O_NONBLOCK);
    set_label(f, path);
    return 0;
}

/* One writer or many readers, between programs that ask. The lock belongs to
 * the open file, so that the monitor's copy holds it too. */
static int lock_disk(const struct abi_file *f, struct err *e)
{
    struct flock fl = {.l_type = f->read_only ? F_RDLCK : F_WRLCK,
                       .l_whence = SEEK_SET};

    if (fcntl(f->fd, F_OFD_SETLK, &fl) == 0)
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return err_set(e, -EBUSY, "disk %s is in use by another VM%s", f->label,
                       f->read_only ? " that writes it"
                                    : ": end that one, or share it with "
                                      "--disk FILE,ro on both sides");
    return err_set(e, -errno, "cannot lock disk %s: %s", f->label,
                   strerror(errno));
}

static int open_disks(const struct core_conf *conf, struct monitor_conf *out,
                      struct err *e)
{
    for (uint32_t i = 0; i < conf->ndisks; i++) {
        struct abi_file *f = &out->disk[i];
        int rc;

        f->read_only = conf->disk[i].read_only;
        rc = open_file(f, "disk", conf->disk[i].path,
                       f->read_only ? O_RDONLY : O_RDWR, e);
        if (rc)
            return rc;
        out->ndisks = i + 1;
        rc = lock_disk(f, e);
        if (rc)
            return rc;
    }
    return 0;
}

static int open_boot_files(const struct core_conf *conf,
                           struct monitor_conf *out, struct err *e)
{
    struct guest_files guest;
    const char *kernel = conf->kernel;
    int rc = 0;

    if (!kernel) {
        rc = guest_find(&guest, e);
        if (rc)
            return rc;
        kernel = guest.kernel;
        out->ninitrds = 1;
        rc = open_file(&out->initrd[0], "initrd", guest.initrd, O_RDONLY, e);
    }
    for (uint32_t i = 0; rc == 0 && i < conf->ninitrds; i++) {
        if (out->ninitrds >= ABI_INITRDS_MAX)
            return err_set(e, -E2BIG, "more than %u initrds", ABI_INITRDS_MAX);
        rc = open_file(&out->initrd[out->ninitrds++], "initrd", conf->initrd[i],
                       O_RDONLY, e);
    }
    if (rc)
        return rc;
    return open_file(&out->kernel, "kernel", kernel, O_RDONLY, e);
}

/* With -k the whole command line is --append's; else it is added. */
static int make_cmdline(const struct core_conf *conf, const struct console *con,
                        struct monitor_conf *out, struct err *e)
{
    const char *append = conf->append ? conf->append : "";
    char size[64] = "";
    int n;

    if (conf->kernel) {
        n = snprintf(out->cmdline, sizeof out->cmdline, "%s", append);
    } else {
        if (con->rows && con->columns)
            snprintf(size, sizeof size, " LINES=%u COLUMNS=%u", con->rows,
                     con->columns);
        n = snprintf(out->cmdline, sizeof out->cmdline, "%s%s%s%s",
                     GUEST_CMDLINE, size, *append ? " " : "", append);
    }
    if (n < 0 || (size_t)n >= sizeof out->cmdline)
        return err_set(e, -E2BIG,
                       "the kernel's command line has %d bytes, "
                       "the limit is %u",
                       n, ABI_CMDLINE_BYTES - 1);
    return 0;
}

static void make_name(const struct core_conf *conf, struct monitor_conf *out)
{
    if (conf->name)
        snprintf(out->name, sizeof out->name, "%s", conf->name);
    else
        snprintf(out->name, sizeof out->name, "vm-%d", (int)getpid());
}

/* A run with a real clock cannot repeat anyway: it gets a seed of its own. */
static uint64_t make_seed(const struct core_conf *conf)
{
    uint64_t seed = 0;

    if (!conf->seed_given && conf->clock == ABI_CLOCK_REAL &&
        getrandom(&seed, sizeof seed, 0) == sizeof seed)
        return seed;
    return conf->seed;
}

static int open_kvm(struct monitor_conf *out, struct err *e)
{
    if (strcmp(out->engine, "kvm") != 0)
        return 0;
    out->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (out->kvm_fd < 0)
        return err_set(e, -errno, "--engine kvm: cannot open /dev/kvm: %s",
                       strerror(errno));
    return 0;
}

/* What --symbols and --dump-block need. */
static int open_look(const struct core_conf *conf, struct monitor_conf *out,
                     struct err *e)
{
    struct abi_file symbols = {.fd = -1};
    int rc = 0;

    memcpy(out->dump_va, conf->dump_va, sizeof out->dump_va);
    out->ndumps = conf->ndumps;
    if (conf->symbols)
        rc = open_file(&symbols, "symbol file", conf->symbols, O_RDONLY, e);
    out->symbols_fd = symbols.fd;
    if (rc || !conf->ndumps)
        return rc;
    if (!conf->dump_to)
        out->dump_fd = fcntl(2, F_DUPFD_CLOEXEC, 3);
    else
        out->dump_fd =
            open(conf->dump_to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out->dump_fd < 0)
        return err_set(e, -errno, "cannot write block records to %s: %s",
                       conf->dump_to ? conf->dump_to : "stderr",
                       strerror(errno));
    return 0;
}

static int fill(const struct core_conf *conf, const struct console *con,
                struct monitor_conf *out, struct err *e)
{
    struct hostmem hm;
    int rc;

    hostmem_get("", &hm);
    rc = hostmem_check(&hm, conf->ram_bytes, e);
    if (rc)
        return rc;
    rc = hostcpu_choose(conf->cpu_level, conf->cpu_level_given, &out->cpu_level,
                        e);
    if (rc)
        return rc;
    out->ram_bytes = conf->ram_bytes;
    out->cpus = conf->cpus;
    out->clock = conf->clock;
    out->verbose = conf->verbose;
    out->flags = conf->flags | (con->is_tty ? ABI_FLAG_CONSOLE_TTY : 0);
    out->seed = make_seed(conf);
    out->thaw_every = conf->thaw_every;
    out->debug_exit_port = conf->debug_exit_port;
    out->jail_test = conf->jail_test;
    snprintf(out->engine, sizeof out->engine, "%s", conf->engine);
    make_name(conf, out);
    rc = make_cmdline(conf, con, out, e);
    if (rc == 0)
        rc = open_boot_files(conf, out, e);
    if (rc == 0)
        rc = open_disks(conf, out, e);
    if (rc == 0)
        rc = open_look(conf, out, e);
    return rc ? rc : open_kvm(out, e);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void resources_close(struct monitor_conf *mc)
{
    close_fd(&mc->ram_fd);
    close_fd(&mc->console_in);
    close_fd(&mc->console_out);
    close_fd(&mc->kvm_fd);
    close_fd(&mc->perf_map_fd);
    close_fd(&mc->dump_fd);
    close_fd(&mc->symbols_fd);
    close_fd(&mc->kernel.fd);
    for (unsigned i = 0; i < ABI_INITRDS_MAX; i++)
        close_fd(&mc->initrd[i].fd);
    for (unsigned i = 0; i < ABI_DISKS_MAX; i++)
        close_fd(&mc->disk[i].fd);
}

int resources_open(const struct core_conf *conf, const struct console *con,
                   struct monitor_conf *out, struct err *e)
{
    int rc;

    memset(out, 0, sizeof *out);
    out->ram_fd = out->console_in = out->console_out = out->kvm_fd = -1;
    out->perf_map_fd = out->dump_fd = out->symbols_fd = -1;
    out->kernel.fd = -1;
    for (unsigned i = 0; i < ABI_INITRDS_MAX; i++)
        out->initrd[i].fd = -1;
    for (unsigned i = 0; i < ABI_DISKS_MAX; i++)
        out->disk[i].fd = -1;
    rc = fill(conf, con, out, e);
    if (rc) {
        resources_close(out);
        return rc;
    }
    out->console_in = console_dup(0);
    out->console_out = console_dup(1);
    return 0;
}

int resources_new_ram(struct monitor_conf *mc, struct err *e)
{
    int fd = memfd_create("doppel-ram", MFD_CLOEXEC | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) /* Linux before 6.3 */
        fd = memfd_create("doppel-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return err_set(e, -errno, "cannot create guest RAM (memfd): %s",
                       strerror(errno));
    if (ftruncate(fd, (off_t)mc->ram_bytes) < 0) {
        int rc =
            err_set(e, -errno, "cannot size guest RAM to %llu MiB: %s",
                    (unsigned long long)(mc->ram_bytes / MIB), strerror(errno));
        close(fd);
        return rc;
    }
    /* Nobody, the monitor included, can pull pages away under a mapping. */
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    close_fd(&mc->ram_fd);
    mc->ram_fd = fd;
    return 0;
}

int resources_perf_map(struct monitor_conf *mc, int pid, struct err *e)
{
    char path[64];

    snprintf(path, sizeof path, "/tmp/perf-%d.map", pid);
    (void)unlink(path); /* of a process that had this number before */
    close_fd(&mc->perf_map_fd);
    mc->perf_map_fd =
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (mc->perf_map_fd < 0)
        return err_set(e, -errno, "--perf-map: cannot create %s: %s", path,
                       strerror(errno));
    return 0;
}
