#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write the seeds of uart16550_fuzz into folder $1. An operation is 4 bytes of what
# and where and 1 or 8 of value, see devtest_op() in src/vm/devtest.h.
set -e
dir=${1:?usage: seeds.sh FOLDER}
mkdir -p "$dir"

u8() { for v; do printf "\\$(printf %03o $((v & 255)))"; done; }
wr() { u8 0x48 "$1" "$2" 0 "$3"; }  # window, offset, value: a byte
rd() { u8 0x42 "$1" "$2" 0 0; }
wr4() { u8 0xa8 "$1" "$2" 0 "$3" "$4" "$5" 0 0 0 0 0; }
run() { u8 0xc0 0 0 0 0xf0 "$1" "$2" 0 0 0 0 0; } # about ($2 << 16) ns
poke() { u8 0xc1 0 0 0 "$1" "$2" "$3" "$4" 0 0 0 0; }

{   # FIFO on, interrupts on, receive, time out, transmit
    wr 0 2 0x81; wr 0 4 8; wr 0 1 0xf
    poke 0x29 0x41 0 0; rd 0 2; run 0 0x10; rd 0 2; rd 0 0; rd 0 5
    wr 0 0 0x58; rd 0 2
} >"$dir/fifo"
{   # loop mode with an overrun
    wr 0 4 0x1b; wr 0 0 1; wr 0 0 2; rd 0 5; rd 0 6; rd 0 0; wr 0 4 0
} >"$dir/loop"
{   # a back end that refuses, then takes
    poke 8 0 0 0; wr 0 0 1; wr 0 0 2; wr 0 0 3; rd 0 5; wr 0 2 7; poke 4 0 0 0
} >"$dir/refused"
{   # divisor latch
    wr 0 3 0x83; wr 0 0 1; wr 0 1 0; wr 0 3 3; rd 0 3
} >"$dir/divisor"
