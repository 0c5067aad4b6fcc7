// SPDX-License-Identifier: Apache-2.0
/* The messages between core and monitor, from one codec to the other, and
 * what a broken message gets. */
#include "abi/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/test.h"
#include "core/message.h"
#include "monitor/conf.h"

static int null_fd(void)
{
    return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static void fill(struct monitor_conf *c)
{
    monitor_conf_init(c);
    strcpy(c->name, "vm");
    strcpy(c->engine, "interp");
    strcpy(c->cmdline, "console=ttyS0 quiet");
    strcpy(c->kernel.label, "/boot/vmlinuz");
    strcpy(c->initrd[0].label, "/i0");
    strcpy(c->initrd[1].label, "/i1");
    strcpy(c->disk[0].label, "/d0");
    strcpy(c->disk[1].label, "/d1");
    c->ram_bytes = 1 << 27;
    c->ram_fd = null_fd();
    c->cpus = 3;
    c->cpu_level = ABI_CPU_V3;
    c->verbose = 2;
    c->flags = ABI_FLAG_SCATTER | ABI_FLAG_CONSOLE_TTY;
    c->seed = UINT64_MAX;
    c->thaw_every = 9;
    c->debug_exit_port = 0xf4;
    c->kernel.fd = null_fd();
    c->ninitrds = c->ndisks = 2;
    for (unsigned i = 0; i < 2; i++) {
        c->initrd[i].fd = null_fd();
        c->disk[i].fd = null_fd();
    }
    c->disk[1].read_only = true;
    c->console_in = null_fd();
    c->console_out = null_fd();
    c->perf_map_fd = null_fd();
    c->dump_fd = null_fd();
    c->symbols_fd = null_fd();
    c->ndumps = 2;
    c->dump_va[0] = 0x1000;
    c->dump_va[1] = UINT64_MAX;
    c->jail_ns = ABI_NS_PID;
}

TEST(conf_arrives)
{
    struct monitor_conf a, b;
    struct err e = {.text = ""};
    int pair[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    fill(&a);
    CHECK_EQ(message_send_conf(pair[0], &a, &e), 0);
    CHECK_EQ(monitor_conf_recv(pair[1], &b, &e), 0);
    CHECK(strcmp(a.name, b.name) == 0 && strcmp(a.engine, b.engine) == 0);
    CHECK(strcmp(a.cmdline, b.cmdline) == 0);
    CHECK(strcmp(a.disk[1].label, b.disk[1].label) == 0);
    CHECK(!b.disk[0].read_only && b.disk[1].read_only);
    CHECK_EQ(b.ram_bytes, a.ram_bytes);
    CHECK_EQ(b.cpus, 3);
    CHECK_EQ(b.flags, a.flags);
    CHECK_EQ(b.seed, a.seed);
    CHECK_EQ(b.thaw_every, 9);
    CHECK_EQ(b.debug_exit_port, 0xf4);
    CHECK_EQ(b.ninitrds, 2);
    CHECK_EQ(b.ndisks, 2);
    CHECK_EQ(b.kvm_fd, -1);
    CHECK(b.perf_map_fd >= 0 && b.dump_fd >= 0 && b.symbols_fd >= 0);
    CHECK_EQ(b.ndumps, 2);
    CHECK_EQ(b.dump_va[0], 0x1000);
    CHECK_EQ(b.dump_va[1], UINT64_MAX);
    CHECK_EQ(b.jail_ns, ABI_NS_PID);
    CHECK(b.kernel.fd >= 0 && b.kernel.fd != a.kernel.fd);
    CHECK_EQ(fcntl(b.ram_fd, F_GETFD), FD_CLOEXEC);
    monitor_conf_close(&a);
    monitor_conf_close(&b);
    close(pair[0]);
    close(pair[1]);
}

/* Every prefix and every flipped byte of a good message is either refused or
 * decoded; nothing else happens (the sanitizers watch). */
TEST(broken_conf)
{
    static uint8_t buf[ABI_MSG_BYTES_MAX];
    int fds[ABI_FDS_MAX];
    struct monitor_conf a, b;
    struct err e = {.text = ""};
    unsigned nfds = 0, refused = 0;
    int len;

    fill(&a);
    len = message_encode(&a, buf, fds, &nfds, &e);
    CHECK(len > 0);
    CHECK_EQ(monitor_conf_decode(buf, (size_t)len, fds, nfds, &b, &e), 0);
    for (int i = 0; i < len; i++)
        CHECK_EQ(monitor_conf_decode(buf, (size_t)i, fds, nfds, &b, &e),
                 -EPROTO);
    for (int i = 0; i < len; i++) {
        buf[i] ^= 0x41;
        refused += monitor_conf_decode(buf, (size_t)len, fds, nfds, &b, &e) < 0;
        buf[i] ^= 0x41;
    }
    CHECK(refused > 100);
    /* A descriptor that no record names. */
    CHECK_EQ(monitor_conf_decode(buf, (size_t)len, fds, nfds + 1, &b, &e),
             -EPROTO);
    monitor_conf_close(&a);
}

TEST(virtual_clock_has_one_cpu)
{
    static uint8_t buf[ABI_MSG_BYTES_MAX];
    int fds[ABI_FDS_MAX];
    struct monitor_conf a, b;
    struct err e = {.text = ""};
    unsigned nfds = 0;
    int len;

    fill(&a);
    a.clock = ABI_CLOCK_VIRTUAL;
    len = message_encode(&a, buf, fds, &nfds, &e);
    CHECK_EQ(monitor_conf_decode(buf, (size_t)len, fds, nfds, &b, &e), -EPROTO);
    a.cpus = 1;
    len = message_encode(&a, buf, fds, &nfds, &e);
    CHECK_EQ(monitor_conf_decode(buf, (size_t)len, fds, nfds, &b, &e), 0);
    monitor_conf_close(&a);
}

TEST(reports_arrive)
{
    struct message_report rep;
    int pair[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_EQ(message_receive(pair[0], &rep), -EAGAIN);
    CHECK_EQ(monitor_ready(pair[1]), 0);
    CHECK_EQ(message_receive(pair[0], &rep), 1);
    CHECK_EQ(rep.kind, ABI_READY);
    CHECK_EQ(monitor_report(pair[1], ABI_EXIT_DEBUG_EXIT, 21, "so\x1b[31m"), 0);
    CHECK_EQ(message_receive(pair[0], &rep), 1);
    CHECK_EQ(rep.reason, ABI_EXIT_DEBUG_EXIT);
    CHECK_EQ(rep.code, 21);
    CHECK(strcmp(rep.text, "so?[31m") == 0);
    CHECK_EQ(monitor_failed(pair[1], "no such luck"), 0);
    CHECK_EQ(message_receive(pair[0], &rep), 1);
    CHECK_EQ(rep.kind, ABI_FAILED);
    CHECK(strcmp(rep.text, "no such luck") == 0);
    CHECK_EQ(message_send_command(pair[0], ABI_POWER_BUTTON), 0);
    CHECK_EQ(monitor_command(pair[1]), ABI_POWER_BUTTON);
    CHECK_EQ(monitor_command(pair[1]), -EAGAIN);
    close(pair[1]);
    CHECK_EQ(message_receive(pair[0], &rep), 0);
    close(pair[0]);
}

TEST(broken_reports)
{
    struct {
        struct abi_head head;
        struct abi_rec rec;
        uint64_t v[2];
    } m = {{ABI_MAGIC, ABI_VERSION, ABI_EXIT, 24, 0},
           {ABI_REC_EXIT, ABI_NO_FD, 16},
           {ABI_EXIT_RESET, 0}};
    struct message_report rep;

    CHECK_EQ(message_decode(&m, sizeof m, &rep), 0);
    CHECK_EQ(message_decode(&m, sizeof m - 1, &rep), -EPROTO);
    m.v[0] = 99;
    CHECK_EQ(message_decode(&m, sizeof m, &rep), -EPROTO);
    m.v[0] = ABI_EXIT_RESET;
    m.rec.len = UINT32_MAX;
    CHECK_EQ(message_decode(&m, sizeof m, &rep), -EPROTO);
    m.rec.len = 16;
    m.head.kind = ABI_READY;
    CHECK_EQ(message_decode(&m, sizeof m, &rep), -EPROTO);
    m.head.kind = ABI_EXIT;
    m.head.version++;
    CHECK_EQ(message_decode(&m, sizeof m, &rep), -EPROTO);
}

TEST_MAIN(CASE(conf_arrives), CASE(broken_conf),
          CASE(virtual_clock_has_one_cpu), CASE(reports_arrive),
          CASE(broken_reports))
