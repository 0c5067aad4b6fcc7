// SPDX-License-Identifier: Apache-2.0
/*
 * Counters guard speed: what blocks of cost.def become, by the records that
 * look.c makes of them, decoded again. Nothing here depends on a clock.
 */
#include "engine/bt/look.h"

#include "base/test.h"
#include "cpu/x86/decode.h"
#include "engine/bt/priv.h"
#include "engine/interp/testvm.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define DATA (TVM_PAGED + 0x10000U)
#define END  (TVM_CODE + 0x1000U) /* another page: HLT */

struct cost {
    unsigned insns, bytes, blocks;
};

struct row {
    const char *name, *code;
    unsigned len, guest, insns, bytes;
};

static const struct row rows[] = {
#define COST(name, code, guest, insns, bytes)                                  \
    {name, code, sizeof code - 1, guest, insns, bytes},
#include "engine/bt/cost.def"
#undef COST
};

static unsigned digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static void count_hot(const char *hex, struct cost *c)
{
    uint8_t code[8192];
    unsigned n = 0, at = 0;

    for (; n < sizeof code && hex[0] >= '0' && hex[1] >= '0'; hex += 2)
        code[n++] = (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]));
    c->bytes += n;
    c->blocks++;
    while (at < n) {
        struct x86_insn insn;

        enum x86_dec r = x86_decode(code + at, n - at, X86_MODE_64, &insn);

        CHECK_EQ(r, X86_DEC_OK);
        if (r != X86_DEC_OK)
            return;
        at += insn.len;
        c->insns++;
    }
}

/* Whether @line begins a block of the page TVM_CODE: as it is made first, not
 * again after an access's fault. */
static bool begins_ours(const char *line)
{
    const char *mode = strstr(line, " mode=");

    return strncmp(line, "block va=", 9) == 0 && mode &&
           strtoull(line + 9, NULL, 16) >> 12 == TVM_CODE >> 12 &&
           !(strtoul(mode + 6, NULL, 16) & BT_MODE_NOWIN);
}

/* Those blocks in the records at @fd. */
static struct cost read_records(int fd)
{
    static char text[1 << 20];
    struct cost c = {0};
    bool ours = false;
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    char *line, *rest = text;

    text[n > 0 ? n : 0] = 0;
    while ((line = strsep(&rest, "\n")) != NULL) {
        if (strncmp(line, "block va=", 9) == 0)
            ours = begins_ours(line);
        else if (ours && strncmp(line, "hot ", 4) == 0)
            count_hot(line + 4, &c);
    }
    return c;
}

/* What ends each program: flags die, a jump to another page. */
#define TAIL "\x31\xff\xe9"

/* One for all, as in a monitor till the end, with records to *fd. */
static struct engine_part *part_get(int *fd)
{
    static struct engine_part *part;
    static int records = -1;
    struct engine_look look = {
        .map_fd = -1, .symbols_fd = -1, .nva = 1, .va = {UINT64_MAX}};
    struct engine_host host = {.kvm_fd = -1, .ncpus = 1, .look = &look};
    struct err e;

    if (!part) {
        records = look.dump_fd = memfd_create("records", MFD_CLOEXEC);
        if (bt_engine.init(&host, &part, &e)) {
            printf("bt: %s\n", e.text);
            exit(1);
        }
    }
    CHECK_EQ(ftruncate(records, 0) || lseek(records, 0, SEEK_SET), 0);
    *fd = records;
    return part;
}

/* Run @code and the tail, and count what it became. */
static struct cost measure(const char *code, unsigned len)
{
    struct tvm *t = tvm_create();
    uint32_t at = TVM_CODE + len + sizeof TAIL - 1;
    int32_t rel = (int32_t)(END - (at + 4));
    struct exit_rec x;
    struct err e;
    struct cost c;
    int fd;

    interp_engine.vcpu_destroy(t->v[0]);
    t->vm.engine = part_get(&fd);
    if (bt_engine.vcpu_create(&t->vm, t->cpu, &t->v[0], &e)) {
        printf("bt: %s\n", e.text);
        exit(1);
    }
    tvm_poke(t, TVM_CODE, code, len);
    tvm_poke(t, TVM_CODE + len, TAIL, sizeof TAIL - 1);
    tvm_poke(t, at, &rel, 4);
    tvm_poke(t, END, "\xf4", 1);
    t->cpu->gpr[X86_RSP] = TVM_STACK - 256;
    t->cpu->gpr[X86_RBX] = t->cpu->gpr[X86_RSI] = DATA;
    t->cpu->gpr[X86_RBP] = DATA + 512;
    t->cpu->rip = TVM_CODE;
    t->cpu->rflags = X86_FL_ONE;
    bt_engine.vcpu_run(t->v[0], 0, &x);
    CHECK_EQ(x.reason, EXIT_HLT);
    CHECK_EQ(t->cpu->rip, END + 1);
    c = read_records(fd);
    bt_engine.vcpu_destroy(t->v[0]);
    x86_cpu_fini(t->cpu);
    vm_fini(&t->vm);
    free(t);
    return c;
}

TEST(hot_code_is_small)
{
    char why[120];
    struct cost base;

    if (!bt_host_ok(why, sizeof why))
        SKIP("this host cannot run translated code");
    base = measure("", 0);
    printf("%-28s %6s %6s %6s\n", "", "guest", "host", "bytes");
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];
        struct cost c = measure(r->code, r->len);

        c.insns -= base.insns;
        c.bytes -= base.bytes;
        printf("%-28s %6u %6u %6u   limit %u, %u; %u blocks\n", r->name,
               r->guest, c.insns, c.bytes, r->insns, r->bytes, c.blocks);
        CHECK(c.insns <= r->insns);
        CHECK(c.bytes <= r->bytes);
    }
}

TEST_MAIN(CASE(hot_code_is_small))
