// SPDX-License-Identifier: Apache-2.0
/*
 * The 16550A's registers (PC16550D data sheet, section 8), by their offset from
 * the base port.
 */
#ifndef DOPPEL_DEV_UART16550_REGS_H
#define DOPPEL_DEV_UART16550_REGS_H

/* Registers; 0 and 1 are the divisor while LCR.DLAB is set. */
#define REG_DATA     0 /* RBR, THR, DLL */
#define REG_IER      1 /* DLM */
#define REG_IIR_FCR  2
#define REG_LCR      3
#define REG_MCR      4
#define REG_LSR      5
#define REG_MSR      6
#define REG_SCR      7

#define IER_RX       0x01
#define IER_TX       0x02
#define IER_LINE     0x04
#define IER_MODEM    0x08
#define IER_MASK     0x0f

#define IIR_NONE     0x01
#define IIR_MODEM    0x00
#define IIR_TX       0x02
#define IIR_RX       0x04
#define IIR_LINE     0x06
#define IIR_TIMEOUT  0x0c
#define IIR_FIFO     0xc0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define FCR_TRIGGER  0xc0
#define FCR_DMA      0x08

#define LCR_DLAB     0x80
#define LCR_STOP     0x04
#define LCR_PARITY   0x08

#define MCR_DTR      0x01
#define MCR_RTS      0x02
#define MCR_OUT1     0x04
#define MCR_OUT2     0x08
#define MCR_LOOP     0x10
#define MCR_MASK     0x1f

#define LSR_DR       0x01
#define LSR_OE       0x02
#define LSR_ERRORS   0x1e /* BI FE PE OE */
#define LSR_THRE     0x20
#define LSR_TEMT     0x40

#define MSR_CTS      0x10
#define MSR_DSR      0x20
#define MSR_RI       0x40
#define MSR_DCD      0x80
#define MSR_LINES    0xf0
#define MSR_TERI     0x04 /* RI went off; the other deltas are any change */
#define MSR_PRESENT  (MSR_DCD | MSR_DSR | MSR_CTS)

#endif
