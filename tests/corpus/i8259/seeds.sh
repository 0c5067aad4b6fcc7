#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write the seeds of i8259_fuzz into folder $1. An operation is 4 bytes of what
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

init() {
    wr 0 0 0x11; wr 0 1 0x30; wr 0 1 4; wr 0 1 "$1"; wr 0 1 0
    wr 1 0 0x11; wr 1 1 0x38; wr 1 1 2; wr 1 1 1; wr 1 1 0
}
{   # cascade, acknowledge, EOI
    init 1; poke 0xc3 0 0 0; poke 0 0 0 0; wr 1 0 0x20; wr 0 0 0x62
} >"$dir/cascade"
{   # automatic EOI with rotation, special mask, poll
    init 3; wr 0 0 0x80; poke 0x53 0 0 0; poke 0 0 0 0; wr 0 0 0x68
    wr 0 0 0x0c; rd 0 0
} >"$dir/modes"
{   # level inputs
    init 0x11; wr 2 0 0xff; wr 2 1 0xff; poke 0xa3 0 0 0; poke 0 0 0 0
} >"$dir/level"
