// SPDX-License-Identifier: Apache-2.0
/*
 * The 8042 keyboard controller; see i8042.h. The controller's own answers and
 * the keyboard's bytes wait in one queue in front of the output buffer; IRQ 1
 * follows the output buffer's full flag while the command byte enables it.
 */
#include "dev/i8042/i8042.h"

#include "base/err.h"
#include "base/log.h"
#include "vm/bus8.h"
#include "vm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PORT_DATA    0x60
#define PORT_COMMAND 0x64
#define QUEUE_BYTES  32
#define RAM_BYTES    32

/* Status register */
#define ST_OBF      0x01 /* output buffer full */
#define ST_SYS      0x04 /* self-test passed */
#define ST_CMD      0x08 /* the last write was a command */
#define ST_UNLOCKED 0x10 /* keyboard not inhibited by the key switch */
#define ST_TIMEOUT  0x40

/* Command byte */
#define CB_IRQ       0x01
#define CB_SYS       0x04
#define CB_DISABLED  0x10 /* keyboard clock low */
#define CB_AUX_OFF   0x20
#define CB_TRANSLATE 0x40
#define CB_MASK      0x7f

/* Output port */
#define OUT_NO_RESET 0x01
#define OUT_A20      0x02
#define OUT_OBF      0x10
#define OUT_MASK     0xcf

/* Controller commands */
#define CMD_READ_RAM   0x20 /* 0x20-0x3f */
#define CMD_WRITE_RAM  0x60 /* 0x60-0x7f */
#define CMD_AUX_OFF    0xa7
#define CMD_AUX_ON     0xa8
#define CMD_AUX_TEST   0xa9
#define CMD_SELF_TEST  0xaa
#define CMD_KBD_TEST   0xab
#define CMD_KBD_OFF    0xad
#define CMD_KBD_ON     0xae
#define CMD_READ_INPUT 0xc0
#define CMD_READ_OUT   0xd0
#define CMD_WRITE_OUT  0xd1
#define CMD_ECHO_KBD   0xd2
#define CMD_ECHO_AUX   0xd3
#define CMD_WRITE_AUX  0xd4
#define CMD_PULSE      0xf0 /* 0xf0-0xff: pulse output lines that are 0 */

#define SELF_TEST_OK   0x55
#define AUX_ABSENT     0x02 /* interface test: clock line stuck high */
#define INPUT_PORT     0x80 /* key switch: not locked */

/* Keyboard commands and answers */
#define KBD_SET_LEDS 0xed
#define KBD_ECHO     0xee
#define KBD_SCAN_SET 0xf0
#define KBD_ID       0xf2
#define KBD_RATE     0xf3
#define KBD_ENABLE   0xf4
#define KBD_DISABLE  0xf5
#define KBD_DEFAULTS 0xf6
#define KBD_RESEND   0xfe
#define KBD_RESET    0xff
#define KBD_ACK      0xfa
#define KBD_BAT_OK   0xaa

struct i8042 {
    struct vm *vm;
    struct i8042_conf conf;
    pthread_mutex_t lock;
    struct bus_region data_region;
    struct bus_region command_region;
    struct log_limit misuse;

    uint8_t status;         /* the sticky bits: SYS, CMD, TIMEOUT */
    uint8_t command;        /* waits for its data byte; 0 none */
    uint8_t output;         /* output port */
    uint8_t ram[RAM_BYTES]; /* [0] is the command byte */
    uint8_t queue[QUEUE_BYTES];
    uint8_t queue_len;
    uint8_t last;        /* the byte read last */
    uint8_t kbd_command; /* keyboard command that waits for its argument */
    uint8_t scan_set;
    bool scanning;
    bool irq_level;
};

static void update(struct i8042 *k)
{
    bool level = k->queue_len && (k->ram[0] & CB_IRQ);

    if (level != k->irq_level) {
        k->irq_level = level;
        irq_line_set(&k->conf.irq, level);
    }
}

static void put(struct i8042 *k, uint8_t val)
{
    if (k->queue_len == QUEUE_BYTES)
        log_guest(&k->misuse, "i8042", "answers are not read, one dropped");
    else
        k->queue[k->queue_len++] = val;
}

static void set_output(struct i8042 *k, uint8_t val)
{
    bool a20 = val & OUT_A20;

    if (a20 != !!(k->output & OUT_A20) && k->conf.a20)
        k->conf.a20(k->conf.ctx, a20);
    k->output = val & OUT_MASK;
    if (!(val & OUT_NO_RESET))
        vm_request(k->vm, VM_REQ_RESET, 0);
}

/* ---- the keyboard ---- */

/* Scan set 2 to 1, as the controller translates it: one byte per make code,
 * 0xf0 becomes bit 7 of the next (the table is IBM's, AT Technical Reference,
 * keyboard controller, "scan code translation"). */
static const uint8_t set1[0x84] = {
    /* clang-format off */
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58,
    0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a,
    0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c,
    0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e,
    0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60,
    0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e,
    0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b,
    0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45,
    0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
    0x80, 0x81, 0x82, 0x41,
    /* clang-format on */
};

/* A byte from the keyboard passes the translation. @release: 0x80 after the
 * set 2 release prefix 0xf0, which vanishes. */
static void kbd_put(struct i8042 *k, uint8_t code, uint8_t release)
{
    if ((k->ram[0] & CB_TRANSLATE) && code < sizeof set1)
        code = set1[code] | release;
    put(k, code);
}

static void kbd_defaults(struct i8042 *k)
{
    k->scan_set = 2;
    k->kbd_command = 0;
}

static void kbd_argument(struct i8042 *k, uint8_t val)
{
    uint8_t cmd = k->kbd_command;

    k->kbd_command = 0;
    kbd_put(k, KBD_ACK, 0);
    if (cmd != KBD_SCAN_SET)
        return; /* LEDs and rates: nothing shows them */
    if (val == 0)
        kbd_put(k, k->scan_set, 0);
    else if (val <= 3)
        k->scan_set = val;
}

static void kbd_command(struct i8042 *k, uint8_t val)
{
    switch (val) {
    case KBD_SET_LEDS:
    case KBD_SCAN_SET:
    case KBD_RATE:
        k->kbd_command = val;
        kbd_put(k, KBD_ACK, 0);
        break;
    case KBD_ECHO:
        kbd_put(k, KBD_ECHO, 0);
        break;
    case KBD_ID:
        kbd_put(k, KBD_ACK, 0);
        kbd_put(k, 0xab, 0); /* an MF2 keyboard */
        kbd_put(k, 0x83, 0);
        break;
    case KBD_ENABLE:
    case KBD_DISABLE:
    case KBD_DEFAULTS:
        if (val != KBD_ENABLE)
            kbd_defaults(k);
        k->scanning = val != KBD_DISABLE;
        kbd_put(k, KBD_ACK, 0);
        break;
    case KBD_RESET:
        kbd_defaults(k);
        k->scanning = true;
        kbd_put(k, KBD_ACK, 0);
        kbd_put(k, KBD_BAT_OK, 0);
        break;
    case KBD_RESEND:
        kbd_put(k, k->last, 0);
        break;
    default:
        kbd_put(k, KBD_RESEND, 0);
        break;
    }
}

static void kbd_write(struct i8042 *k, uint8_t val)
{
    k->ram[0] &= (uint8_t)~CB_DISABLED; /* sending turns the clock on */
    if (!k->conf.keyboard) {
        /* Nobody clocks the byte in: the controller says so. */
        k->status |= ST_TIMEOUT;
        put(k, KBD_RESEND);
    } else if (k->kbd_command && val < KBD_SET_LEDS) {
        kbd_argument(k, val);
    } else {
        k->kbd_command = 0;
        kbd_command(k, val);
    }
}

/* ---- the controller ---- */

static void self_test(struct i8042 *k)
{
    k->status |= ST_SYS;
    k->ram[0] = CB_DISABLED | CB_SYS | CB_AUX_OFF;
    k->queue_len = 0;
    put(k, SELF_TEST_OK);
}

static void write_command(struct i8042 *k, uint8_t val)
{
    k->status |= ST_CMD;
    k->command = 0;
    if (val >= CMD_PULSE) {
        if (!(val & OUT_NO_RESET)) /* 0xfe and kin: pulse the reset line */
            vm_request(k->vm, VM_REQ_RESET, 0);
        return;
    }
    if ((val & 0xe0) == CMD_READ_RAM) {
        put(k, k->ram[val & 0x1f]);
        return;
    }
    if ((val & 0xe0) == CMD_WRITE_RAM) {
        k->command = val;
        return;
    }
    switch (val) {
    case CMD_AUX_TEST:
        put(k, AUX_ABSENT);
        break;
    case CMD_SELF_TEST:
        self_test(k);
        break;
    case CMD_KBD_TEST:
        put(k, 0);
        break;
    case CMD_KBD_OFF:
        k->ram[0] |= CB_DISABLED;
        break;
    case CMD_KBD_ON:
        k->ram[0] &= (uint8_t)~CB_DISABLED;
        break;
    case CMD_READ_INPUT:
        put(k, INPUT_PORT);
        break;
    case CMD_READ_OUT:
        put(k, (uint8_t)(k->output | (k->queue_len ? OUT_OBF : 0)));
        break;
    case CMD_WRITE_OUT:
    case CMD_ECHO_KBD:
    case CMD_ECHO_AUX:
    case CMD_WRITE_AUX:
        k->command = val;
        break;
    case CMD_AUX_OFF: /* single channel: the bit stays as it is */
    case CMD_AUX_ON:
        break;
    default:
        log_guest(&k->misuse, "i8042", "unknown command 0x%x", val);
        break;
    }
}

static void write_data(struct i8042 *k, uint8_t val)
{
    uint8_t command = k->command;

    k->command = 0;
    k->status &= (uint8_t) ~(ST_CMD | ST_TIMEOUT);
    switch (command) {
    case 0:
        kbd_write(k, val);
        break;
    case CMD_WRITE_OUT:
        set_output(k, val);
        break;
    case CMD_ECHO_KBD:
    case CMD_ECHO_AUX: /* no second channel: comes back as a keyboard's byte */
        put(k, val);
        break;
    case CMD_WRITE_AUX:
        k->status |= ST_TIMEOUT;
        put(k, KBD_RESEND);
        break;
    default: /* CMD_WRITE_RAM */
        k->ram[command & 0x1f] =
            command == CMD_WRITE_RAM ? (val & CB_MASK) | CB_AUX_OFF : val;
        break;
    }
}

static uint8_t read_data(struct i8042 *k)
{
    if (k->queue_len) {
        k->last = k->queue[0];
        k->queue_len--;
        memmove(k->queue, k->queue + 1, k->queue_len);
        /* The line falls between two bytes: each is an edge of its own. */
        if (k->irq_level && k->queue_len)
            irq_line_set(&k->conf.irq, false);
        if (k->irq_level && k->queue_len)
            irq_line_set(&k->conf.irq, true);
    }
    return k->last;
}

static uint8_t read_status(const struct i8042 *k)
{
    uint8_t status = k->status | ST_UNLOCKED;

    if (k->queue_len)
        status |= ST_OBF;
    return status;
}

/* ---- ports: both are one byte wide ---- */

static uint64_t data_read(void *dev, uint64_t off, unsigned size)
{
    uint8_t val = read_data(dev);

    (void)off, (void)size;
    update(dev);
    return val;
}

static void data_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    (void)off, (void)size;
    write_data(dev, (uint8_t)val);
    update(dev);
}

static uint64_t command_read(void *dev, uint64_t off, unsigned size)
{
    (void)off, (void)size;
    return read_status(dev);
}

static void command_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    (void)off, (void)size;
    write_command(dev, (uint8_t)val);
    update(dev);
}

static const struct bus_ops data_ops = {.read = data_read, .write = data_write};
static const struct bus_ops command_ops = {
    .read = command_read,
    .write = command_write,
};

/* ---- state and life ---- */

static int i8042_post_load(void *obj, uint32_t version, struct err *e)
{
    struct i8042 *k = obj;

    (void)version;
    if (k->queue_len > QUEUE_BYTES)
        return err_set(e, -EINVAL, "i8042: %u bytes queued, at most %u",
                       k->queue_len, QUEUE_BYTES);
    if (k->status & ~(ST_SYS | ST_CMD | ST_TIMEOUT))
        return err_set(e, -EINVAL, "i8042: status 0x%x", k->status);
    if (k->conf.a20)
        k->conf.a20(k->conf.ctx, k->output & OUT_A20);
    return 0;
}

static const struct state_field i8042_fields[] = {
    SF_U8(i8042, status),
    SF_U8(i8042, command),
    SF_U8(i8042, output),
    SF_U8A(i8042, ram, RAM_BYTES),
    SF_U8A(i8042, queue, QUEUE_BYTES),
    SF_U8(i8042, queue_len),
    SF_U8(i8042, last),
    SF_U8(i8042, kbd_command),
    SF_U8(i8042, scan_set),
    SF_BOOL(i8042, scanning),
    SF_BOOL(i8042, irq_level),
    SF_END,
};

static const struct state_desc i8042_desc = {
    .name = "i8042",
    .version = 1,
    .min_version = 1,
    .fields = i8042_fields,
    .post_load = i8042_post_load,
};

static int i8042_register(struct i8042 *k, struct err *e)
{
    int ret;

    k->data_region = (struct bus_region){
        .start = PORT_DATA,
        .len = 1,
        .ops = &data_ops,
        .dev = k,
        .lock = &k->lock,
        .name = "i8042 data",
    };
    k->command_region = (struct bus_region){
        .start = PORT_COMMAND,
        .len = 1,
        .ops = &command_ops,
        .dev = k,
        .lock = &k->lock,
        .name = "i8042 command",
    };
    ret = bus_add(k->vm->pio, &k->data_region, e);
    if (ret < 0)
        return ret;
    ret = bus_add(k->vm->pio, &k->command_region, e);
    if (ret < 0)
        return ret;
    ret = state_list_add(k->vm->state, &i8042_desc, 0, k);
    return ret < 0 ? err_set(e, ret, "i8042: out of memory") : 0;
}

int i8042_create(struct vm *vm, const struct i8042_conf *conf,
                 struct i8042 **out, struct err *e)
{
    struct i8042 *k = calloc(1, sizeof *k);
    int ret;

    if (!k)
        return err_set(e, -ENOMEM, "i8042: out of memory");
    k->vm = vm;
    k->conf = *conf;
    k->output = OUT_A20 | OUT_NO_RESET;
    pthread_mutex_init(&k->lock, NULL);
    i8042_reset(k);
    ret = i8042_register(k, e);
    if (ret < 0) {
        i8042_destroy(k);
        return ret;
    }
    *out = k;
    return 0;
}

void i8042_destroy(struct i8042 *k)
{
    if (!k)
        return;
    bus_remove(k->vm->pio, &k->data_region);
    bus_remove(k->vm->pio, &k->command_region);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

void i8042_reset(struct i8042 *k)
{
    pthread_mutex_lock(&k->lock);
    k->status = 0;
    k->command = 0;
    set_output(k, OUT_A20 | OUT_NO_RESET);
    memset(k->ram, 0, sizeof k->ram);
    k->ram[0] = CB_DISABLED | CB_AUX_OFF;
    k->queue_len = 0;
    k->last = 0;
    k->scanning = true;
    kbd_defaults(k);
    update(k);
    pthread_mutex_unlock(&k->lock);
}

size_t i8042_key(struct i8042 *k, const uint8_t *codes, size_t n)
{
    uint8_t release = 0;
    size_t taken = 0;

    pthread_mutex_lock(&k->lock);
    if (k->conf.keyboard && k->scanning && !(k->ram[0] & CB_DISABLED) &&
        n <= (size_t)(QUEUE_BYTES - k->queue_len)) {
        for (size_t i = 0; i < n; i++) {
            if (codes[i] == 0xf0 && (k->ram[0] & CB_TRANSLATE)) {
                release = 0x80;
            } else {
                kbd_put(k, codes[i], release);
                release = 0;
            }
        }
        taken = n;
        update(k);
    }
    pthread_mutex_unlock(&k->lock);
    return taken;
}
