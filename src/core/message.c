// SPDX-License-Identifier: Apache-2.0
/* Core's side of the core <-> monitor messages; see message.h. */
#include "core/message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* A packet that is being built; overflow is remembered, not acted on. */
struct packet {
    uint8_t *buf;
    size_t len;
    int *fds;
    unsigned nfds;
    bool overflow;
};

static unsigned put_fd(struct packet *p, int fd)
{
    if (fd < 0)
        return ABI_NO_FD;
    if (p->nfds >= ABI_FDS_MAX) {
        p->overflow = true;
        return ABI_NO_FD;
    }
    p->fds[p->nfds] = fd;
    return p->nfds++;
}

static void put(struct packet *p, enum abi_rec_type type, int fd,
                const void *data, size_t len)
{
    struct abi_rec rec = {.type = (uint16_t)type, .len = (uint32_t)len};
    size_t padded = (len + 7) & ~(size_t)7;

    if (p->overflow || len > ABI_MSG_BYTES_MAX ||
        ABI_MSG_BYTES_MAX - p->len < sizeof rec + padded) {
        p->overflow = true;
        return;
    }
    rec.fd = (uint16_t)put_fd(p, fd);
    memcpy(p->buf + p->len, &rec, sizeof rec);
    if (len)
        memcpy(p->buf + p->len + sizeof rec, data, len);
    memset(p->buf + p->len + sizeof rec + len, 0, padded - len);
    p->len += sizeof rec + padded;
}

static void put_u64(struct packet *p, enum abi_rec_type type, uint64_t v)
{
    put(p, type, -1, &v, sizeof v);
}

static void put_text(struct packet *p, enum abi_rec_type type, int fd,
                     const char *text)
{
    put(p, type, fd, text, strlen(text));
}

static void put_fds(struct packet *p, const struct monitor_conf *c)
{
    put(p, ABI_REC_RAM, c->ram_fd, &c->ram_bytes, sizeof c->ram_bytes);
    put_text(p, ABI_REC_KERNEL, c->kernel.fd, c->kernel.label);
    for (uint32_t i = 0; i < c->ninitrds; i++)
        put_text(p, ABI_REC_INITRD, c->initrd[i].fd, c->initrd[i].label);
    for (uint32_t i = 0; i < c->ndisks; i++)
        put_text(p, c->disk[i].read_only ? ABI_REC_DISK_RO : ABI_REC_DISK,
                 c->disk[i].fd, c->disk[i].label);
    if (c->console_in >= 0)
        put(p, ABI_REC_CONSOLE_IN, c->console_in, NULL, 0);
    if (c->console_out >= 0)
        put(p, ABI_REC_CONSOLE_OUT, c->console_out, NULL, 0);
    if (c->kvm_fd >= 0)
        put(p, ABI_REC_KVM, c->kvm_fd, NULL, 0);
    if (c->perf_map_fd >= 0)
        put(p, ABI_REC_PERF_MAP, c->perf_map_fd, NULL, 0);
    if (c->dump_fd >= 0)
        put(p, ABI_REC_DUMP, c->dump_fd, NULL, 0);
    if (c->symbols_fd >= 0)
        put(p, ABI_REC_SYMBOLS, c->symbols_fd, NULL, 0);
}

int message_encode(const struct monitor_conf *c, void *buf, int *fds,
                   unsigned *nfds, struct err *e)
{
    struct packet p = {.buf = buf, .len = sizeof(struct abi_head), .fds = fds};
    struct abi_head head = {ABI_MAGIC, ABI_VERSION, ABI_CONF, 0, 0};

    put_text(&p, ABI_REC_NAME, -1, c->name);
    put_text(&p, ABI_REC_ENGINE, -1, c->engine);
    put_text(&p, ABI_REC_CMDLINE, -1, c->cmdline);
    put_u64(&p, ABI_REC_CPUS, c->cpus);
    put_u64(&p, ABI_REC_CPU_LEVEL, (uint64_t)c->cpu_level);
    put_u64(&p, ABI_REC_CLOCK, (uint64_t)c->clock);
    put_u64(&p, ABI_REC_VERBOSE, c->verbose);
    put_u64(&p, ABI_REC_FLAGS, c->flags);
    put_u64(&p, ABI_REC_SEED, c->seed);
    put_u64(&p, ABI_REC_THAW_EVERY, c->thaw_every);
    if (c->debug_exit_port >= 0)
        put_u64(&p, ABI_REC_DEBUG_EXIT, (uint64_t)c->debug_exit_port);
    for (uint32_t i = 0; i < c->ndumps; i++)
        put_u64(&p, ABI_REC_DUMP_VA, c->dump_va[i]);
    put_u64(&p, ABI_REC_JAIL_NS, c->jail_ns);
    put_u64(&p, ABI_REC_JAIL_TEST, (uint64_t)c->jail_test);
    put_fds(&p, c);
    if (p.overflow)
        return err_set(e, -E2BIG,
                       "the configuration of %s does not fit a message of %u "
                       "bytes and %u descriptors: give fewer files",
                       c->name, ABI_MSG_BYTES_MAX, ABI_FDS_MAX);
    head.len = (uint32_t)(p.len - sizeof head);
    head.nfds = p.nfds;
    memcpy(buf, &head, sizeof head);
    *nfds = p.nfds;
    return (int)p.len;
}

static int send_packet(int sock, void *buf, size_t len, const int *fds,
                       unsigned nfds)
{
    static const struct msghdr blank;
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(ABI_FDS_MAX * sizeof(int))];
    } control = {.room = {0}};
    struct iovec iov = {buf, len};
    struct msghdr mh = blank;
    struct cmsghdr *c;
    ssize_t n;

    mh.msg_iov = &iov;
    mh.msg_iovlen = 1;
    if (nfds) {
        mh.msg_control = control.room;
        mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    do
        n = sendmsg(sock, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

int message_send_conf(int sock, const struct monitor_conf *c, struct err *e)
{
    AUTO_FREE void *buf = malloc(ABI_MSG_BYTES_MAX);
    int fds[ABI_FDS_MAX];
    unsigned nfds;
    int len, rc;

    if (!buf)
        return err_set(e, -ENOMEM, "no memory for the configuration");
    len = message_encode(c, buf, fds, &nfds, e);
    if (len < 0)
        return len;
    rc = send_packet(sock, buf, (size_t)len, fds, nfds);
    if (rc)
        return err_set(e, rc,
                       "cannot hand the configuration to the monitor: "
                       "%s",
                       strerror(-rc));
    return 0;
}

int message_send_command(int sock, enum abi_kind kind)
{
    struct abi_head head = {ABI_MAGIC, ABI_VERSION, (uint16_t)kind, 0, 0};

    return send_packet(sock, &head, sizeof head, NULL, 0);
}

/* Control bytes of a hostile text would reach the user's terminal. */
static void copy_printable(char *out, const uint8_t *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = text[i] >= 0x20 && text[i] < 0x7f ? (char)text[i] : '?';
    out[len] = 0;
}

static int decode_record(const struct abi_rec *rec, const uint8_t *data,
                         struct message_report *out)
{
    uint64_t v[2];

    switch (rec->type) {
    case ABI_REC_EXIT:
        if (rec->len != sizeof v || out->kind != ABI_EXIT || out->reason)
            return -EPROTO;
        memcpy(v, data, sizeof v);
        if (v[0] < ABI_EXIT_POWEROFF || v[0] > ABI_EXIT_QUIT)
            return -EPROTO;
        out->reason = (enum abi_exit)v[0];
        out->code = v[1];
        return 0;
    case ABI_REC_TEXT:
        if (rec->len >= sizeof out->text || out->text[0])
            return -EPROTO;
        copy_printable(out->text, data, rec->len);
        return 0;
    default:
        return -EPROTO;
    }
}

int message_decode(const void *msg, size_t len, struct message_report *out)
{
    const uint8_t *at = msg;
    struct abi_head head;
    struct abi_rec rec;

    memset(out, 0, sizeof *out);
    if (len < sizeof head)
        return -EPROTO;
    memcpy(&head, at, sizeof head);
    at += sizeof head;
    len -= sizeof head;
    if (head.magic != ABI_MAGIC || head.version != ABI_VERSION ||
        head.kind < ABI_READY || head.kind > ABI_FAILED || head.len != len ||
        head.nfds)
        return -EPROTO;
    out->kind = (enum abi_kind)head.kind;
    while (len) {
        size_t padded;

        if (len < sizeof rec)
            return -EPROTO;
        memcpy(&rec, at, sizeof rec);
        padded = ((size_t)rec.len + 7) & ~(size_t)7;
        if (padded > len - sizeof rec || rec.fd != ABI_NO_FD ||
            decode_record(&rec, at + sizeof rec, out))
            return -EPROTO;
        at += sizeof rec + padded;
        len -= sizeof rec + padded;
    }
    return out->kind == ABI_EXIT && !out->reason ? -EPROTO : 0;
}

int message_receive(int sock, struct message_report *out)
{
    uint8_t buf[1024];
    ssize_t n;

    /* recv without control room: descriptors that a hostile monitor sends
     * are discarded by the kernel. */
    do
        n = recv(sock, buf, sizeof buf, MSG_DONTWAIT | MSG_TRUNC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? -EAGAIN : 0;
    if (n == 0)
        return 0;
    if ((size_t)n > sizeof buf || message_decode(buf, (size_t)n, out))
        return -EPROTO;
    return 1;
}
