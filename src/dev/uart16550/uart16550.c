// SPDX-License-Identifier: Apache-2.0
/*
 * The 16550A UART; see uart16550.h.
 *
 * Transmission: there is no baud pacing. A byte written to THR goes to the
 * character device at once; what that refuses waits in `tx`, and THRE and TEMT
 * read 0 until the backlog is gone. A well-behaved guest then stops; drivers
 * that give up waiting (10 ms in Linux's console) go on writing, so the backlog
 * is much longer than the chip's FIFO. Bytes in the backlog count as sent:
 * clearing the transmit FIFO or a reset does not drop them.
 *
 * Reception: bytes are taken while the FIFO has room and the guest listens, as
 * a sender with hardware flow control would: drivers clear the FIFO and read
 * RBR blindly while they probe, and what came before would be lost. Once some
 * were refused, the character device hears of it when the guest has read most
 * of the FIFO, or listens again.
 */
#include "dev/uart16550/uart16550.h"

#include "base/bits.h"
#include "base/err.h"
#include "base/log.h"
#include "dev/uart16550/uart16550_regs.h"
#include "vm/bus8.h"
#include "vm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PORTS          8
#define FIFO_BYTES     16
#define BACKLOG_BYTES  65536U /* power of two */
#define CLOCK_HZ       1843200U
#define TIMEOUT_MAX_NS (4 * NS_PER_MS)
/* More than any driver's wait for THRE reads it while it is set. */
#define POLLS_LISTENING 1000

struct uart16550 {
    struct vm *vm;
    struct irq_line irq;
    struct chardev chr;
    pthread_mutex_t lock;
    struct bus_region region;
    struct timer timer; /* character timeout */
    struct log_limit misuse;
    uint8_t *tx; /* ring of BACKLOG_BYTES */
    uint32_t tx_first;
    uint32_t tx_len;

    uint8_t ier;
    uint8_t fcr;
    uint8_t lcr;
    uint8_t mcr;
    uint8_t lsr_errors;
    uint8_t msr; /* lines and deltas */
    uint8_t scr;
    uint8_t dll;
    uint8_t dlm;
    uint8_t rx[FIFO_BYTES]; /* rx[0] is the oldest */
    uint8_t rx_len;
    bool rts_used;    /* the guest has driven RTS: it tells when to send */
    uint16_t polls;   /* reads of an idle LSR in a row */
    bool rx_refused;  /* the character device waits for input_ready */
    bool tx_irq;      /* THR became empty and nobody has looked yet */
    bool timeout_irq; /* nobody has read the FIFO for long */
    bool irq_level;
    uint64_t timeout_ns; /* guest time of the character timeout */
    uint32_t saved_len;  /* the backlog in the saved state */
    uint8_t *saved;
};

static unsigned rx_capacity(const struct uart16550 *u)
{
    return u->fcr & FCR_ENABLE ? FIFO_BYTES : 1;
}

static unsigned rx_trigger(const struct uart16550 *u)
{
    static const uint8_t level[4] = {1, 4, 8, 14};

    return u->fcr & FCR_ENABLE ? level[u->fcr >> 6] : 1;
}

/* The pending interrupt of highest priority, as IIR shows it (PC16550D,
 * table IV). */
static uint8_t pending(const struct uart16550 *u)
{
    if ((u->ier & IER_LINE) && u->lsr_errors)
        return IIR_LINE;
    if ((u->ier & IER_RX) && u->rx_len >= rx_trigger(u))
        return IIR_RX;
    if ((u->ier & IER_RX) && u->timeout_irq)
        return IIR_TIMEOUT;
    if ((u->ier & IER_TX) && u->tx_irq)
        return IIR_TX;
    if ((u->ier & IER_MODEM) && (u->msr & ~MSR_LINES))
        return IIR_MODEM;
    return IIR_NONE;
}

/* On a PC, OUT2 opens the way of INTR to the bus; in loop mode the pin is
 * inactive. */
static void update_irq(struct uart16550 *u)
{
    bool level =
        pending(u) != IIR_NONE && (u->mcr & MCR_OUT2) && !(u->mcr & MCR_LOOP);

    if (level != u->irq_level) {
        u->irq_level = level;
        irq_line_set(&u->irq, level);
    }
}

/* Four character times at the programmed speed (PC16550D, 8.5). */
static uint64_t timeout_len_ns(const struct uart16550 *u)
{
    uint64_t divisor = (uint64_t)u->dlm << 8 | u->dll;
    uint64_t bits = 7U + (u->lcr & 3) + (u->lcr & LCR_STOP ? 1 : 0) +
                    (u->lcr & LCR_PARITY ? 1 : 0);
    uint64_t ns = 4 * bits * divisor * 16 * NS_PER_S / CLOCK_HZ;

    return ns && ns < TIMEOUT_MAX_NS ? ns : TIMEOUT_MAX_NS;
}

/* The FIFO was filled or read: the timeout starts anew. */
static void restart_timeout(struct uart16550 *u)
{
    u->timeout_irq = false;
    if (u->rx_len && (u->fcr & FCR_ENABLE)) {
        u->timeout_ns = clock_now_ns(u->vm->clock) + timeout_len_ns(u);
        timer_arm(u->vm->clock, &u->timer, u->timeout_ns);
    } else {
        u->timeout_ns = CLOCK_NEVER;
        timer_disarm(u->vm->clock, &u->timer);
    }
}

static void timeout_expired(void *ctx)
{
    struct uart16550 *u = ctx;

    pthread_mutex_lock(&u->lock);
    if (clock_now_ns(u->vm->clock) >= u->timeout_ns) {
        u->timeout_ns = CLOCK_NEVER;
        u->timeout_irq = u->rx_len > 0;
        update_irq(u);
    }
    pthread_mutex_unlock(&u->lock);
}

/* Whether the guest wants input: RTS says so once it was used; before, the
 * receive interrupt, or that somebody polls LSR for nothing else. */
static bool listens(const struct uart16550 *u)
{
    if (u->mcr & MCR_LOOP)
        return false;
    if (u->rts_used)
        return u->mcr & MCR_RTS;
    return (u->ier & IER_RX) || u->polls >= POLLS_LISTENING;
}

/* Ask for refused input again once the FIFO is nearly empty: per byte would
 * wake a thread for each. */
static void offer_room(struct uart16550 *u)
{
    if (!u->rx_refused || !listens(u) || u->rx_len > rx_capacity(u) / 4)
        return;
    u->rx_refused = false;
    if (u->chr.ops)
        u->chr.ops->input_ready(u->chr.be);
}

static void rx_clear(struct uart16550 *u)
{
    u->rx_len = 0;
    restart_timeout(u);
    offer_room(u);
}

/* A byte from our own transmitter in loop mode; may overrun. */
static void rx_loop(struct uart16550 *u, uint8_t byte)
{
    if (u->rx_len < rx_capacity(u)) {
        u->rx[u->rx_len++] = byte;
    } else {
        u->lsr_errors |= LSR_OE;
        if (!(u->fcr & FCR_ENABLE))
            u->rx[0] = byte; /* without FIFO the new one wins */
    }
    restart_timeout(u);
}

static uint8_t rx_pop(struct uart16550 *u)
{
    uint8_t byte = u->rx[0];

    if (!u->rx_len)
        return byte; /* what was read last */
    if (u->rx_len > 1)
        memmove(u->rx, u->rx + 1, u->rx_len - 1U);
    u->rx_len--;
    restart_timeout(u);
    offer_room(u);
    return byte;
}

static size_t chr_write(struct uart16550 *u, const uint8_t *buf, size_t len)
{
    return u->chr.ops ? u->chr.ops->write(u->chr.be, buf, len) : len;
}

/* Send what waits; THR is empty when all is gone. */
static void tx_drain(struct uart16550 *u)
{
    if (!u->tx_len)
        return;
    while (u->tx_len) {
        uint32_t run = BACKLOG_BYTES - u->tx_first;
        size_t taken;

        if (run > u->tx_len)
            run = u->tx_len;
        taken = chr_write(u, u->tx + u->tx_first, run);
        u->tx_first = (u->tx_first + (uint32_t)taken) % BACKLOG_BYTES;
        u->tx_len -= (uint32_t)taken;
        if (taken < run)
            return;
    }
    u->tx_irq = true;
}

static void tx_put(struct uart16550 *u, uint8_t byte)
{
    u->tx_irq = false;
    if (u->polls < POLLS_LISTENING)
        u->polls = 0;
    if (u->mcr & MCR_LOOP) {
        rx_loop(u, byte);
        u->tx_irq = true;
        return;
    }
    tx_drain(u);
    if (!u->tx_len && chr_write(u, &byte, 1) == 1) {
        u->tx_irq = true;
        return;
    }
    if (u->tx_len == BACKLOG_BYTES) {
        log_guest(&u->misuse, "uart16550",
                  "byte lost, written while THRE is 0");
        return;
    }
    u->tx[(u->tx_first + u->tx_len++) % BACKLOG_BYTES] = byte;
    u->tx_irq = false;
}

static uint8_t read_iir(struct uart16550 *u)
{
    uint8_t iir = pending(u);

    if (iir == IIR_TX)
        u->tx_irq = false; /* reading IIR is the acknowledge */
    return iir | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct uart16550 *u)
{
    uint8_t lsr = u->lsr_errors;

    u->lsr_errors = 0;
    if (u->rx_len)
        lsr |= LSR_DR;
    if (!u->tx_len || (u->mcr & MCR_LOOP))
        lsr |= LSR_THRE | LSR_TEMT;
    if (lsr == (LSR_THRE | LSR_TEMT) && u->polls < POLLS_LISTENING) {
        u->polls++;
        offer_room(u);
    }
    return lsr;
}

static uint8_t read_msr(struct uart16550 *u)
{
    uint8_t msr = u->msr;

    u->msr &= MSR_LINES;
    return msr;
}

static void write_ier(struct uart16550 *u, uint8_t val)
{
    /* Enabling the THRE interrupt while THR is empty raises it. */
    if ((val & ~u->ier & IER_TX) && !u->tx_len)
        u->tx_irq = true;
    u->ier = val & IER_MASK;
    offer_room(u);
}

static void write_fcr(struct uart16550 *u, uint8_t val)
{
    if (!(val & FCR_ENABLE)) {
        if (u->fcr & FCR_ENABLE) {
            u->fcr = 0;
            rx_clear(u);
        }
        return; /* without ENABLE the other bits are not programmed */
    }
    if (!(u->fcr & FCR_ENABLE) || (val & FCR_CLEAR_RX)) {
        u->fcr = FCR_ENABLE;
        rx_clear(u);
    }
    u->fcr = val & (FCR_ENABLE | FCR_DMA | FCR_TRIGGER);
}

static void write_mcr(struct uart16550 *u, uint8_t val)
{
    uint8_t lines = MSR_PRESENT, changed;

    u->mcr = val & MCR_MASK;
    if ((val & MCR_RTS) && !(val & MCR_LOOP))
        u->rts_used = true;
    if (u->mcr & MCR_LOOP)
        lines = (uint8_t)((u->mcr & MCR_RTS ? MSR_CTS : 0) |
                          (u->mcr & MCR_DTR ? MSR_DSR : 0) |
                          (u->mcr & MCR_OUT1 ? MSR_RI : 0) |
                          (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
    changed = (lines ^ u->msr) & MSR_LINES;
    if (lines & MSR_RI)
        changed &= (uint8_t)~MSR_RI; /* TERI is the trailing edge only */
    u->msr = (uint8_t)(lines | (u->msr & ~MSR_LINES) | changed >> 4);
    offer_room(u);
}

static uint8_t read_reg(void *dev, uint64_t off)
{
    struct uart16550 *u = dev;

    switch (off) {
    case REG_DATA:
        return u->lcr & LCR_DLAB ? u->dll : rx_pop(u);
    case REG_IER:
        return u->lcr & LCR_DLAB ? u->dlm : u->ier;
    case REG_IIR_FCR:
        return read_iir(u);
    case REG_LCR:
        return u->lcr;
    case REG_MCR:
        return u->mcr;
    case REG_LSR:
        return read_lsr(u);
    case REG_MSR:
        return read_msr(u);
    default:
        return u->scr;
    }
}

static void write_reg(void *dev, uint64_t off, uint8_t val)
{
    struct uart16550 *u = dev;

    switch (off) {
    case REG_DATA:
        if (u->lcr & LCR_DLAB)
            u->dll = val;
        else
            tx_put(u, val);
        break;
    case REG_IER:
        if (u->lcr & LCR_DLAB)
            u->dlm = val;
        else
            write_ier(u, val);
        break;
    case REG_IIR_FCR:
        write_fcr(u, val);
        break;
    case REG_LCR:
        u->lcr = val;
        break;
    case REG_MCR:
        write_mcr(u, val);
        break;
    case REG_SCR:
        u->scr = val;
        break;
    default: /* LSR and MSR: factory test, not for software */
        log_guest(&u->misuse, "uart16550", "write to a status register, 0x%x",
                  val);
        break;
    }
}

static uint64_t uart_read(void *dev, uint64_t off, unsigned size)
{
    uint64_t val = bus8_read(read_reg, dev, off, size);

    update_irq(dev);
    return val;
}

static void uart_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    bus8_write(write_reg, dev, off, val, size);
    update_irq(dev);
}

static const struct bus_ops uart_ops = {
    .read = uart_read,
    .write = uart_write,
};

/* ---- the character device's side: its thread, none of its locks held ---- */

static size_t uart_input(void *dev, const uint8_t *buf, size_t len)
{
    struct uart16550 *u = dev;
    size_t room = 0;

    pthread_mutex_lock(&u->lock);
    if (listens(u))
        room = rx_capacity(u) - u->rx_len;
    if (len > room) {
        u->rx_refused = true;
        len = room;
    }
    if (len) {
        memcpy(u->rx + u->rx_len, buf, len);
        u->rx_len = (uint8_t)(u->rx_len + len);
        restart_timeout(u);
        update_irq(u);
    }
    pthread_mutex_unlock(&u->lock);
    return len;
}

static void uart_writable(void *dev)
{
    struct uart16550 *u = dev;

    pthread_mutex_lock(&u->lock);
    tx_drain(u);
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
}

/* ---- state ---- */

/* The backlog as one piece from the ring's start. */
static void uart_pre_save(void *obj)
{
    struct uart16550 *u = obj;

    pthread_mutex_lock(&u->lock);
    free(u->saved);
    u->saved = u->tx_len ? malloc(u->tx_len) : NULL;
    u->saved_len = u->saved ? u->tx_len : 0;
    for (uint32_t i = 0; i < u->saved_len; i++)
        u->saved[i] = u->tx[(u->tx_first + i) % BACKLOG_BYTES];
    if (u->saved_len < u->tx_len)
        log_err("uart16550", "out of memory, %u bytes not saved", u->tx_len);
    pthread_mutex_unlock(&u->lock);
}

static int uart_check_load(const struct uart16550 *u, struct err *e)
{
    if (u->rx_len > rx_capacity(u))
        return err_set(e, -EINVAL, "uart16550: %u bytes in the receive FIFO",
                       u->rx_len);
    if ((u->ier & ~IER_MASK) || (u->mcr & ~MCR_MASK) ||
        (u->lsr_errors & ~LSR_ERRORS) || u->polls > POLLS_LISTENING ||
        (u->fcr && !(u->fcr & FCR_ENABLE)))
        return err_set(e, -EINVAL, "uart16550: reserved register bits are set");
    return 0;
}

static int uart_post_load(void *obj, uint32_t version, struct err *e)
{
    struct uart16550 *u = obj;
    int ret = uart_check_load(u, e);

    (void)version;
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&u->lock);
    if (u->saved_len)
        memcpy(u->tx, u->saved, u->saved_len);
    u->tx_first = 0;
    u->tx_len = u->saved_len;
    if (u->timeout_ns == CLOCK_NEVER)
        timer_disarm(u->vm->clock, &u->timer);
    else
        timer_arm(u->vm->clock, &u->timer, u->timeout_ns);
    tx_drain(u);
    u->rx_refused = true; /* whatever the new back end holds */
    offer_room(u);
    pthread_mutex_unlock(&u->lock);
    return 0;
}

static const struct state_field uart_fields[] = {
    SF_U8(uart16550, ier),
    SF_U8(uart16550, fcr),
    SF_U8(uart16550, lcr),
    SF_U8(uart16550, mcr),
    SF_U8(uart16550, lsr_errors),
    SF_U8(uart16550, msr),
    SF_U8(uart16550, scr),
    SF_U8(uart16550, dll),
    SF_U8(uart16550, dlm),
    SF_U8A(uart16550, rx, FIFO_BYTES),
    SF_U8(uart16550, rx_len),
    SF_BOOL(uart16550, rts_used),
    SF_U16(uart16550, polls),
    SF_BOOL(uart16550, tx_irq),
    SF_BOOL(uart16550, timeout_irq),
    SF_BOOL(uart16550, irq_level),
    SF_U64(uart16550, timeout_ns),
    SF_VARBYTES(uart16550, saved, saved_len, BACKLOG_BYTES),
    SF_END,
};

static const struct state_desc uart_desc = {
    .name = "uart16550",
    .version = 1,
    .min_version = 1,
    .fields = uart_fields,
    .pre_save = uart_pre_save,
    .post_load = uart_post_load,
};

/* ---- life ---- */

static void reset_locked(struct uart16550 *u)
{
    u->ier = 0;
    u->fcr = 0;
    u->lcr = 0;
    u->mcr = 0;
    u->lsr_errors = 0;
    u->msr = MSR_PRESENT;
    u->scr = 0;
    u->dll = 12; /* undefined on the chip; 9600 baud as PC firmware leaves it */
    u->dlm = 0;
    u->tx_irq = false;
    u->rts_used = false;
    u->polls = 0;
    rx_clear(u);
    update_irq(u);
}

void uart16550_reset(struct uart16550 *u)
{
    pthread_mutex_lock(&u->lock);
    reset_locked(u);
    pthread_mutex_unlock(&u->lock);
}

static int uart_register(struct uart16550 *u, const struct uart16550_conf *conf,
                         struct err *e)
{
    int ret;

    u->region = (struct bus_region){
        .start = conf->port,
        .len = PORTS,
        .ops = &uart_ops,
        .dev = u,
        .lock = &u->lock,
        .name = "uart16550",
    };
    ret = bus_add(u->vm->pio, &u->region, e);
    if (ret < 0)
        return ret;
    ret = state_list_add(u->vm->state, &uart_desc, conf->instance, u);
    return ret < 0 ? err_set(e, ret, "uart16550: out of memory") : 0;
}

int uart16550_create(struct vm *vm, const struct uart16550_conf *conf,
                     struct uart16550 **out, struct err *e)
{
    struct uart16550 *u = calloc(1, sizeof *u);
    int ret;

    if (!u)
        return err_set(e, -ENOMEM, "uart16550: out of memory");
    u->vm = vm;
    u->irq = conf->irq;
    pthread_mutex_init(&u->lock, NULL);
    timer_init(&u->timer, timeout_expired, u);
    u->tx = malloc(BACKLOG_BYTES);
    if (!u->tx) {
        ret = err_set(e, -ENOMEM, "uart16550: out of memory");
        goto fail;
    }
    reset_locked(u);
    ret = uart_register(u, conf, e);
    if (ret < 0)
        goto fail;
    u->chr = conf->chr;
    if (u->chr.ops && u->chr.attach) {
        const struct chardev_client client = {
            .input = uart_input,
            .writable = uart_writable,
            .dev = u,
        };

        u->chr.attach(u->chr.be, &client);
    }
    *out = u;
    return 0;
fail:
    uart16550_destroy(u);
    return ret;
}

void uart16550_destroy(struct uart16550 *u)
{
    if (!u)
        return;
    if (u->chr.ops && u->chr.attach)
        u->chr.attach(u->chr.be, NULL);
    timer_disarm(u->vm->clock, &u->timer);
    bus_remove(u->vm->pio, &u->region);
    pthread_mutex_destroy(&u->lock);
    free(u->saved);
    free(u->tx);
    free(u);
}
