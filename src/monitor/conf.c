// SPDX-License-Identifier: Apache-2.0
/*
 * The monitor's side of the core <-> monitor messages; see conf.h and
 * abi/monitor.h. Core is trusted by the monitor, but a message is checked all
 * the same: decoding changes nothing until every record was seen to be good.
 */
#include "monitor/conf.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/check.h"

/* One decoding run: what is left of the bytes, and which descriptors and
 * single records were seen. */
struct cursor {
    const uint8_t *at;
    size_t left;
    const int *fds;
    unsigned nfds;
    uint64_t fds_used; /* bit per descriptor */
    uint64_t seen;     /* bit per enum abi_rec_type */
};

/* A record with its payload, not yet judged. */
struct record {
    struct abi_rec rec;
    const uint8_t *data;
};

static int next_record(struct cursor *cur, struct record *out)
{
    uint64_t padded;

    if (cur->left < sizeof out->rec)
        return -EPROTO;
    memcpy(&out->rec, cur->at, sizeof out->rec);
    padded = ((uint64_t)out->rec.len + 7) & ~UINT64_C(7);
    if (padded > cur->left - sizeof out->rec)
        return -EPROTO;
    out->data = cur->at + sizeof out->rec;
    cur->at += sizeof out->rec + padded;
    cur->left -= sizeof out->rec + padded;
    return 0;
}

/* Text: 0 < len < room, no NUL inside (an empty text is fine too). */
static int get_text(const struct record *r, char *out, size_t room)
{
    if (r->rec.len >= room || memchr(r->data, 0, r->rec.len))
        return -EPROTO;
    memcpy(out, r->data, r->rec.len);
    out[r->rec.len] = 0;
    return 0;
}

static int get_u64(const struct record *r, uint64_t min, uint64_t max,
                   uint64_t *out)
{
    uint64_t v;

    if (r->rec.len != sizeof v)
        return -EPROTO;
    memcpy(&v, r->data, sizeof v);
    if (v < min || v > max)
        return -EPROTO;
    *out = v;
    return 0;
}

static int get_u32(const struct record *r, uint64_t min, uint64_t max,
                   uint32_t *out)
{
    uint64_t v = 0;
    int rc = get_u64(r, min, max, &v);

    if (rc == 0)
        *out = (uint32_t)v;
    return rc;
}

static int get_fd(struct cursor *cur, const struct record *r, int *out)
{
    unsigned i = r->rec.fd;

    if (i >= cur->nfds || (cur->fds_used & (UINT64_C(1) << i)))
        return -EPROTO;
    cur->fds_used |= UINT64_C(1) << i;
    *out = cur->fds[i];
    return 0;
}

static int get_file(struct cursor *cur, const struct record *r,
                    struct abi_file *out)
{
    int rc = get_text(r, out->label, sizeof out->label);

    return rc ? rc : get_fd(cur, r, &out->fd);
}

static int get_file_of_list(struct cursor *cur, const struct record *r,
                            struct abi_file *list, uint32_t *n, uint32_t max)
{
    int rc;

    if (*n >= max)
        return -EPROTO;
    rc = get_file(cur, r, &list[*n]);
    if (rc == 0)
        (*n)++;
    return rc;
}

static int get_disk(struct cursor *cur, const struct record *r,
                    struct monitor_conf *c)
{
    bool ro = r->rec.type == ABI_REC_DISK_RO;
    int rc = get_file_of_list(cur, r, c->disk, &c->ndisks, ABI_DISKS_MAX);

    if (rc == 0)
        c->disk[c->ndisks - 1].read_only = ro;
    return rc;
}

static int get_ram(struct cursor *cur, const struct record *r,
                   struct monitor_conf *c)
{
    int rc = get_u64(r, ABI_RAM_BYTES_MIN, UINT64_C(1) << 46, &c->ram_bytes);

    if (rc == 0 && (c->ram_bytes & 4095))
        rc = -EPROTO;
    return rc ? rc : get_fd(cur, r, &c->ram_fd);
}

static int get_numbers(const struct record *r, struct monitor_conf *c)
{
    uint64_t v = 0;
    int rc = -EPROTO;

    switch (r->rec.type) {
    case ABI_REC_CPUS:
        return get_u32(r, 1, ABI_CPUS_MAX, &c->cpus);
    case ABI_REC_FLAGS:
        rc = get_u64(r, 0, UINT64_MAX, &c->flags);
        return rc == 0 && (c->flags & ~(uint64_t)ABI_FLAGS_ALL) ? -EPROTO : rc;
    case ABI_REC_THAW_EVERY:
        return get_u64(r, 0, UINT64_MAX, &c->thaw_every);
    case ABI_REC_SEED:
        return get_u64(r, 0, UINT64_MAX, &c->seed);
    case ABI_REC_VERBOSE:
        return get_u32(r, 0, 16, &c->verbose);
    case ABI_REC_JAIL_NS:
        return get_u64(r, 0, ABI_NS_ALL, &c->jail_ns);
    case ABI_REC_CPU_LEVEL:
        rc = get_u64(r, 0, ABI_CPU_HOST, &v);
        c->cpu_level = (enum abi_cpu_level)v;
        return rc;
    case ABI_REC_CLOCK:
        rc = get_u64(r, 0, ABI_CLOCK_VIRTUAL, &v);
        c->clock = (enum abi_clock)v;
        return rc;
    case ABI_REC_DEBUG_EXIT:
        rc = get_u64(r, 0, 0xffff, &v);
        c->debug_exit_port = (int32_t)v;
        return rc;
    case ABI_REC_JAIL_TEST:
        rc = get_u64(r, 0, ABI_JAIL_TEST_COUNT - 1, &v);
        c->jail_test = (enum abi_jail_test)v;
        return rc;
    default:
        return -EPROTO;
    }
}

static int get_one(struct cursor *cur, const struct record *r,
                   struct monitor_conf *c)
{
    switch (r->rec.type) {
    case ABI_REC_NAME:
        return get_text(r, c->name, sizeof c->name);
    case ABI_REC_ENGINE:
        return get_text(r, c->engine, sizeof c->engine);
    case ABI_REC_CMDLINE:
        return get_text(r, c->cmdline, sizeof c->cmdline);
    case ABI_REC_RAM:
        return get_ram(cur, r, c);
    case ABI_REC_KERNEL:
        return get_file(cur, r, &c->kernel);
    case ABI_REC_INITRD:
        return get_file_of_list(cur, r, c->initrd, &c->ninitrds,
                                ABI_INITRDS_MAX);
    case ABI_REC_DISK:
    case ABI_REC_DISK_RO:
        return get_disk(cur, r, c);
    case ABI_REC_CONSOLE_IN:
        return get_fd(cur, r, &c->console_in);
    case ABI_REC_CONSOLE_OUT:
        return get_fd(cur, r, &c->console_out);
    case ABI_REC_KVM:
        return get_fd(cur, r, &c->kvm_fd);
    case ABI_REC_PERF_MAP:
        return get_fd(cur, r, &c->perf_map_fd);
    case ABI_REC_DUMP:
        return get_fd(cur, r, &c->dump_fd);
    case ABI_REC_SYMBOLS:
        return get_fd(cur, r, &c->symbols_fd);
    case ABI_REC_DUMP_VA:
        if (c->ndumps >= ABI_DUMPS_MAX)
            return -EPROTO;
        return get_u64(r, 0, UINT64_MAX, &c->dump_va[c->ndumps++]);
    default:
        return get_numbers(r, c);
    }
}

static bool may_repeat(unsigned type)
{
    return type == ABI_REC_INITRD || type == ABI_REC_DISK ||
           type == ABI_REC_DISK_RO || type == ABI_REC_DUMP_VA;
}

/* What no single record can say: completeness, and what excludes what. */
static int check_whole(const struct cursor *cur, const struct monitor_conf *c)
{
    static const unsigned need[] = {ABI_REC_NAME,   ABI_REC_ENGINE,
                                    ABI_REC_RAM,    ABI_REC_CPUS,
                                    ABI_REC_KERNEL, ABI_REC_CPU_LEVEL};

    for (size_t i = 0; i < ARRAY_LEN(need); i++) {
        if (!(cur->seen & (UINT64_C(1) << need[i])))
            return -EPROTO;
    }
    for (unsigned i = 0; i < cur->nfds; i++) {
        if (!(cur->fds_used & (UINT64_C(1) << i)))
            return -EPROTO;
    }
    return c->clock == ABI_CLOCK_VIRTUAL && c->cpus != 1 ? -EPROTO : 0;
}

static int check_head(const struct abi_head *h, size_t len, unsigned nfds,
                      struct err *e)
{
    if (h->magic != ABI_MAGIC || h->kind != ABI_CONF)
        return err_set(e, -EPROTO, "the first message is not a configuration");
    if (h->version != ABI_VERSION)
        return err_set(e, -EPROTO,
                       "the configuration has version %u, this program reads "
                       "%u: core and monitor are of different builds",
                       h->version, ABI_VERSION);
    if (h->len != len - sizeof *h || h->nfds != nfds || nfds > ABI_FDS_MAX)
        return err_set(e, -EPROTO,
                       "the configuration says %u bytes and %u descriptors "
                       "but %zu and %u came",
                       h->len, h->nfds, len - sizeof *h, nfds);
    return 0;
}

static int decode_records(struct cursor *cur, struct monitor_conf *c,
                          struct err *e)
{
    struct record r;

    while (cur->left) {
        if (next_record(cur, &r))
            return err_set(e, -EPROTO, "a configuration record is cut short");
        if (r.rec.type >= 64 || (!may_repeat(r.rec.type) &&
                                 (cur->seen & (UINT64_C(1) << r.rec.type))))
            return err_set(e, -EPROTO,
                           "configuration record %u is unknown "
                           "or there twice",
                           r.rec.type);
        if (get_one(cur, &r, c))
            return err_set(e, -EPROTO,
                           "configuration record %u of %u bytes is not valid",
                           r.rec.type, r.rec.len);
        cur->seen |= UINT64_C(1) << r.rec.type;
    }
    if (check_whole(cur, c))
        return err_set(e, -EPROTO,
                       "the configuration is incomplete or "
                       "contradicts itself");
    return 0;
}

void monitor_conf_init(struct monitor_conf *c)
{
    memset(c, 0, sizeof *c);
    c->ram_fd = c->console_in = c->console_out = c->kvm_fd = -1;
    c->perf_map_fd = c->dump_fd = c->symbols_fd = -1;
    c->kernel.fd = -1;
    c->debug_exit_port = -1;
    for (unsigned i = 0; i < ABI_INITRDS_MAX; i++)
        c->initrd[i].fd = -1;
    for (unsigned i = 0; i < ABI_DISKS_MAX; i++)
        c->disk[i].fd = -1;
}

int monitor_conf_decode(const void *msg, size_t len, const int *fds,
                        unsigned nfds, struct monitor_conf *out, struct err *e)
{
    struct abi_head head;
    struct cursor cur = {.fds = fds, .nfds = nfds};
    int rc;

    monitor_conf_init(out);
    if (len < sizeof head)
        return err_set(e, -EPROTO, "a message of %zu bytes has no head", len);
    memcpy(&head, msg, sizeof head);
    rc = check_head(&head, len, nfds, e);
    if (rc)
        return rc;
    cur.at = (const uint8_t *)msg + sizeof head;
    cur.left = len - sizeof head;
    rc = decode_records(&cur, out, e);
    if (rc)
        monitor_conf_init(out); /* the descriptors stay the caller's */
    return rc;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void monitor_conf_close(struct monitor_conf *c)
{
    close_fd(&c->ram_fd);
    close_fd(&c->console_in);
    close_fd(&c->console_out);
    close_fd(&c->kvm_fd);
    close_fd(&c->perf_map_fd);
    close_fd(&c->dump_fd);
    close_fd(&c->symbols_fd);
    close_fd(&c->kernel.fd);
    for (unsigned i = 0; i < ABI_INITRDS_MAX; i++)
        close_fd(&c->initrd[i].fd);
    for (unsigned i = 0; i < ABI_DISKS_MAX; i++)
        close_fd(&c->disk[i].fd);
}

/* Copy the descriptors of a received packet out of its control messages.
 * Return: how many, all of them open here now; more than @room are closed. */
static unsigned take_fds(struct msghdr *mh, int *fds, unsigned room)
{
    unsigned n = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
        size_t count;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (n < room)
                fds[n++] = fd;
            else
                close(fd);
        }
    }
    return n;
}

int monitor_conf_recv(int sock, struct monitor_conf *out, struct err *e)
{
    static const struct msghdr blank;
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(ABI_FDS_MAX * sizeof(int))];
    } control;
    int fds[ABI_FDS_MAX];
    AUTO_FREE void *buf = malloc(ABI_MSG_BYTES_MAX);
    struct iovec iov = {buf, ABI_MSG_BYTES_MAX};
    struct msghdr mh = blank;
    unsigned nfds;
    ssize_t n;
    int rc;

    if (!buf)
        return err_set(e, -ENOMEM, "no memory for the configuration");
    mh.msg_iov = &iov;
    mh.msg_iovlen = 1;
    mh.msg_control = control.room;
    mh.msg_controllen = sizeof control.room;
    do
        n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return err_set(e, -EPIPE, "core is gone before it sent anything");
    nfds = take_fds(&mh, fds, ABI_FDS_MAX);
    if (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        rc = err_set(e, -EPROTO,
                     "the configuration is longer than %u bytes or "
                     "%u descriptors",
                     ABI_MSG_BYTES_MAX, ABI_FDS_MAX);
    else
        rc = monitor_conf_decode(buf, (size_t)n, fds, nfds, out, e);
    for (unsigned i = 0; rc && i < nfds; i++)
        close(fds[i]);
    return rc;
}

/* A report: head, [exit record], [text record]. */
struct report {
    struct abi_head head;
    uint8_t body[2 * sizeof(struct abi_rec) + 16 + ABI_TEXT_BYTES];
};

static void put_record(struct report *rep, enum abi_rec_type type,
                       const void *data, size_t len)
{
    struct abi_rec rec = {(uint16_t)type, ABI_NO_FD, (uint32_t)len};
    uint8_t *at = rep->body + rep->head.len;

    memcpy(at, &rec, sizeof rec);
    memcpy(at + sizeof rec, data, len);
    rep->head.len += (uint32_t)(sizeof rec + ((len + 7) & ~(size_t)7));
}

static void put_text(struct report *rep, const char *text)
{
    put_record(rep, ABI_REC_TEXT, text, strnlen(text, ABI_TEXT_BYTES - 1));
}

static int send_report(int sock, const struct report *rep)
{
    size_t len = sizeof rep->head + rep->head.len;
    ssize_t n;

    do
        n = write(sock, rep, len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

static void report_init(struct report *rep, enum abi_kind kind)
{
    memset(rep, 0, sizeof *rep);
    rep->head.magic = ABI_MAGIC;
    rep->head.version = ABI_VERSION;
    rep->head.kind = (uint16_t)kind;
}

int monitor_report(int sock, enum abi_exit reason, uint64_t code,
                   const char *text)
{
    uint64_t exit_rec[2] = {(uint64_t)reason, code};
    struct report rep;

    report_init(&rep, ABI_EXIT);
    put_record(&rep, ABI_REC_EXIT, exit_rec, sizeof exit_rec);
    if (text)
        put_text(&rep, text);
    return send_report(sock, &rep);
}

int monitor_ready(int sock)
{
    struct report rep;

    report_init(&rep, ABI_READY);
    return send_report(sock, &rep);
}

int monitor_failed(int sock, const char *text)
{
    struct report rep;

    report_init(&rep, ABI_FAILED);
    put_text(&rep, text);
    return send_report(sock, &rep);
}

int monitor_command(int sock)
{
    struct pollfd p = {.fd = sock, .events = POLLIN};
    struct abi_head head;
    ssize_t n;

    if (poll(&p, 1, 0) <= 0)
        return -EAGAIN;
    n = read(sock, &head, sizeof head);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        return 0;
    if (n < 0)
        return -EAGAIN;
    if (n != sizeof head || head.magic != ABI_MAGIC ||
        head.version != ABI_VERSION || head.len || head.nfds)
        return -EPROTO;
    if (head.kind != ABI_POWER_BUTTON && head.kind != ABI_QUIT)
        return -EPROTO;
    return head.kind;
}
