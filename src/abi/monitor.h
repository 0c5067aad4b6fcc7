// SPDX-License-Identifier: Apache-2.0
/*
 * Core <-> monitor: the messages on the socket between the two processes.
 *
 * The socket is AF_UNIX SOCK_SEQPACKET: one message per packet, so a reader
 * never sees half of one. A message is a fixed head and, in CONF and REPORT,
 * typed records, each padded to 8 bytes:
 *
 *   | abi_head: magic version kind len nfds | rec | rec | ...
 *   rec: | type:16 | fd:16 | len:32 | len bytes, zero padding to 8 |
 *
 * Open descriptors travel as SCM_RIGHTS of the CONF packet; a record names its
 * own by index (ABI_NO_FD: it has none). Integers are host-endian: both ends
 * are one binary on one host. The reader treats every byte as hostile.
 *
 * Order: core sends CONF once. The monitor sends READY when the jail is closed
 * and the guest is about to run, then one EXIT; or FAILED at any time before
 * the EXIT. Core may send POWER_BUTTON and QUIT after CONF. A closed socket
 * means that the other end is gone.
 */
#ifndef DOPPEL_ABI_MONITOR_H
#define DOPPEL_ABI_MONITOR_H

#include <stdbool.h>
#include <stdint.h>

#define ABI_MAGIC         0x4d4c5044U /* "DPLM" */
#define ABI_VERSION       1U
#define ABI_MSG_BYTES_MAX 32768U /* head and records */
#define ABI_FDS_MAX       32U
#define ABI_NO_FD         0xffffU

#define ABI_NAME_BYTES    64U   /* with the final NUL */
#define ABI_LABEL_BYTES   256U  /* a file's name in sentences, with NUL */
#define ABI_ENGINE_BYTES  16U   /* with NUL */
#define ABI_CMDLINE_BYTES 8192U /* with NUL */
#define ABI_TEXT_BYTES    512U  /* a sentence, with NUL */
#define ABI_INITRDS_MAX   8U
#define ABI_DISKS_MAX     8U
#define ABI_CPUS_MAX      64U
#define ABI_DUMPS_MAX     16U
#define ABI_RAM_BYTES_MIN (UINT64_C(1) << 20)

/* The descriptor at which a monitor process finds its socket. 0 and 1 are
 * /dev/null, 2 is the user's stderr. */
#define ABI_SOCK_FD 3

enum abi_kind {
    ABI_CONF = 1,         /* core -> monitor: records ABI_REC_* */
    ABI_POWER_BUTTON = 2, /* core -> monitor: the user asks for a power-off */
    ABI_QUIT = 3,         /* core -> monitor: end now, without the guest */
    ABI_READY = 4,        /* monitor -> core: jailed, the guest starts */
    ABI_EXIT = 5,         /* monitor -> core: ABI_REC_EXIT [, ABI_REC_TEXT] */
    ABI_FAILED = 6        /* monitor -> core: ABI_REC_TEXT: why (status 125) */
};

struct abi_head {
    uint32_t magic;
    uint16_t version;
    uint16_t kind; /* enum abi_kind */
    uint32_t len;  /* bytes behind the head */
    uint32_t nfds; /* descriptors that came with it */
};

struct abi_rec {
    uint16_t type; /* enum abi_rec_type */
    uint16_t fd;   /* index into the packet's descriptors, or ABI_NO_FD */
    uint32_t len;  /* bytes behind this, without the padding */
};

enum abi_rec_type {
    ABI_REC_NAME = 1,      /* text: the VM's name */
    ABI_REC_RAM = 2,       /* u64 bytes; fd: the memfd */
    ABI_REC_CPUS = 3,      /* u64 */
    ABI_REC_CPU_LEVEL = 4, /* u64 enum abi_cpu_level */
    ABI_REC_ENGINE = 5,    /* text: a name of the engine table, never "auto" */
    ABI_REC_FLAGS = 6,     /* u64 ABI_FLAG_* */
    ABI_REC_CMDLINE = 7,   /* text: the kernel's command line */
    ABI_REC_KERNEL = 8,    /* text: its path, for sentences; fd */
    ABI_REC_INITRD = 9,    /* text, fd; repeated, in order */
    ABI_REC_DISK = 10,     /* text, fd; repeated, in order */
    ABI_REC_DISK_RO = 11,  /* as DISK, read-only */
    ABI_REC_CONSOLE_IN = 12,  /* fd */
    ABI_REC_CONSOLE_OUT = 13, /* fd */
    ABI_REC_THAW_EVERY = 14,  /* u64 exits, 0 = never */
    ABI_REC_CLOCK = 15,       /* u64 enum abi_clock */
    ABI_REC_SEED = 16,        /* u64 */
    ABI_REC_DEBUG_EXIT = 17,  /* u64 port */
    ABI_REC_VERBOSE = 18,     /* u64: how often --verbose was given */
    ABI_REC_KVM = 19,         /* fd: /dev/kvm, when the engine is kvm */
    ABI_REC_JAIL_NS = 20,     /* u64 ABI_NS_*: namespaces core gave it */
    ABI_REC_JAIL_TEST = 21,   /* u64 enum abi_jail_test */
    ABI_REC_PERF_MAP = 22,    /* fd: what perf reads about translated code */
    ABI_REC_DUMP = 23,        /* fd: where records of blocks go */
    ABI_REC_DUMP_VA = 24,     /* u64 of a block to record, ~0: all; repeated */
    ABI_REC_SYMBOLS = 25,     /* fd: the guest kernel's symbols */
    ABI_REC_EXIT = 32,        /* u64 enum abi_exit, u64 code */
    ABI_REC_TEXT = 33         /* text: one sentence */
};

enum abi_cpu_level {
    ABI_CPU_V2,
    ABI_CPU_V3,
    ABI_CPU_HOST
};

/* What a host's /dev/kvm is worth. */
enum abi_kvm {
    ABI_KVM_ABSENT,    /* no usable /dev/kvm */
    ABI_KVM_EMULATING, /* it interprets guest code */
    ABI_KVM_REAL
};

enum abi_clock {
    ABI_CLOCK_REAL,
    ABI_CLOCK_VIRTUAL
};

#define ABI_FLAG_SCATTER     0x01U /* --mem scatter */
#define ABI_FLAG_STATS       0x02U /* print counters on stderr at the end */
#define ABI_FLAG_MITIGATIONS 0x04U /* --mitigations on */
#define ABI_FLAG_CONSOLE_TTY 0x08U /* stdin is a terminal: Ctrl-A is ours */
#define ABI_FLAG_SECCOMP_AUDIT                                                 \
    0x10U                        /* filter says which line let a call by       \
                                  */
#define ABI_FLAG_CHECK     0x20U /* bt: in lock-step with the interpreter */
#define ABI_FLAG_ZONES_OFF 0x40U /* --zones off */
#define ABI_FLAG_ZONES_NOW 0x80U /* --zones now */
#define ABI_FLAGS_ALL      0xffU

/* Namespaces that the monitor process was created in. */
#define ABI_NS_USER  0x01U
#define ABI_NS_PID   0x02U
#define ABI_NS_MOUNT 0x04U
#define ABI_NS_NET   0x08U
#define ABI_NS_IPC   0x10U
#define ABI_NS_UTS   0x20U
#define ABI_NS_ALL   0x3fU

/* What a jailed monitor tries in a test before the guest starts: each is
 * refused by the jail or ends the process. */
enum abi_jail_test {
    ABI_JAIL_TEST_NONE,
    ABI_JAIL_TEST_OPEN,
    ABI_JAIL_TEST_EXECVE,
    ABI_JAIL_TEST_SOCKET,
    ABI_JAIL_TEST_PTRACE,
    ABI_JAIL_TEST_MMAP_EXEC,
    ABI_JAIL_TEST_MPROTECT_EXEC,
    ABI_JAIL_TEST_IO_URING,
    ABI_JAIL_TEST_SEGV,
    ABI_JAIL_TEST_EXIT, /* the monitor goes without a report */
    ABI_JAIL_TEST_COUNT
};

enum abi_exit {
    ABI_EXIT_POWEROFF = 1,     /* the guest powered off */
    ABI_EXIT_RESET = 2,        /* the guest asked for a reset */
    ABI_EXIT_TRIPLE_FAULT = 3, /* shutdown state */
    ABI_EXIT_PANIC = 4,        /* pvpanic */
    ABI_EXIT_DEBUG_EXIT = 5,   /* isa-debug-exit; code = the value written */
    ABI_EXIT_USER = 6,         /* Ctrl-A x */
    ABI_EXIT_QUIT = 7          /* ABI_QUIT was obeyed */
};

/* A file that core opened. */
struct abi_file {
    int fd;
    bool read_only;
    char label[ABI_LABEL_BYTES]; /* for sentences only */
};

/* CONF, decoded: what core fills and what the monitor gets. Descriptors are
 * -1 when absent; at the monitor's side all are CLOEXEC and its own. */
struct monitor_conf {
    char name[ABI_NAME_BYTES];
    char engine[ABI_ENGINE_BYTES];
    char cmdline[ABI_CMDLINE_BYTES];
    uint64_t ram_bytes; /* multiple of 4096; the memfd has exactly this size */
    int ram_fd;
    uint32_t cpus; /* 1..ABI_CPUS_MAX; 1 with ABI_CLOCK_VIRTUAL */
    enum abi_cpu_level cpu_level;
    enum abi_clock clock;
    uint32_t verbose;
    uint64_t flags;          /* ABI_FLAG_* */
    uint64_t seed;           /* scatter, virtual clock, guest randomness */
    uint64_t thaw_every;     /* --selftest-thaw, exits; 0 = never */
    int32_t debug_exit_port; /* -1: no such device */
    struct abi_file kernel;
    struct abi_file initrd[ABI_INITRDS_MAX];
    uint32_t ninitrds;
    struct abi_file disk[ABI_DISKS_MAX];
    uint32_t ndisks;
    /* The console. O_NONBLOCK is set where core could open a description of
     * its own (terminals, pipes); where it is not set, the description is
     * shared with other processes: never set it, poll first. -1: none. */
    int console_in;
    int console_out;
    int kvm_fd;
    /* To look at translated code; -1: not asked for. */
    int perf_map_fd, dump_fd, symbols_fd;
    uint64_t dump_va[ABI_DUMPS_MAX]; /* ~0: all */
    uint32_t ndumps;
    uint64_t jail_ns; /* ABI_NS_* */
    enum abi_jail_test jail_test;
};

#endif
