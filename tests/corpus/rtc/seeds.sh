#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write the seeds of rtc_fuzz into folder $1. An operation is 4 bytes of what
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

reg() { wr 0 0 "$1"; wr 0 1 "$2"; }
{   # set the time as an operating system does
    reg 11 0x82; reg 10 0x76
    reg 0 0x59; reg 2 0x59; reg 4 0x23; reg 7 0x28; reg 8 2; reg 9 0x24
    reg 0x32 0x20; reg 11 2; reg 10 0x26; run 0 0xff; rd 0 1
} >"$dir/set"
{   # all interrupts
    reg 1 0xff; reg 3 0xff; reg 5 0xff; reg 11 0x72; run 0 0xff
    wr 0 0 12; rd 0 1
} >"$dir/interrupts"
{   # binary, 12 hours
    reg 11 4; reg 4 0x8c; wr 0 0 4; rd 0 1
} >"$dir/binary"
