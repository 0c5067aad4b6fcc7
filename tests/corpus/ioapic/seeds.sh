#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write the seeds of ioapic_fuzz into folder $1. An operation is 4 bytes of what
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

{   # pin 4 edge, pin 9 level; lines; EOI by broadcast and register
    wr 0 0 0x18; wr4 1 0 0x34 0 0
    wr 0 0 0x22; wr4 1 0 0x59 0x80 0
    poke 0x49 0 0 0; poke 0x99 0 0 0; poke 0 0x59 0 0; wr 2 0 0x59
    poke 0x91 0 0 0; rd 1 0
} >"$dir/pins"
{   # NMI, lowest priority, logical
    wr 0 0 0x10; wr4 1 0 0 0x84 0; poke 9 0 0 0
    wr 0 0 0x12; wr4 1 0 0x40 0x09 0; poke 0x19 0 0 0
} >"$dir/delivery"
