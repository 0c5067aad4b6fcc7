#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write the seeds of i8254_fuzz into folder $1. An operation is 4 bytes of what
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

{   # each mode on each channel, latch, read-back
    for ch in 0 1 2; do
        for mode in 0 1 2 3 4 5; do
            wr 0 3 $((ch << 6 | 0x30 | mode << 1)); wr 0 $ch 0x10; wr 0 $ch 1
            wr 1 0 $((mode & 1)); run 0 4; wr 0 3 $((ch << 6)); rd 0 $ch
            wr 0 3 0xce; rd 0 $ch; rd 0 $ch; wr 1 0 1; run 0 8
        done
    done
} >"$dir/modes"
{   # BCD, low byte only, a new count while counting
    wr 0 3 0x15; wr 0 0 0x99; run 0 1; wr 0 0 0x20; rd 0 0; run 0 2; rd 0 0
} >"$dir/bcd"
