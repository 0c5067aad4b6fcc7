#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write the seeds of virtqueue_fuzz into folder $1. Layout: see the fuzzer.
set -e
dir=${1:?usage: seeds.sh FOLDER}
mkdir -p "$dir"

u8()  { for v; do printf "\\$(printf %03o $((v & 255)))"; done; }
u16() { for v; do u8 "$v" $((v >> 8)); done; }
u32() { for v; do u16 "$v" $((v >> 16)); done; }
u64() { for v; do u32 "$v" $((v >> 32)); done; }
desc() { u64 "$1"; u32 "$2"; u16 "$3" "$4"; } # addr len flags next
head_of() { u8 "$1" "$2"; u16 "$3"; }         # features, log2 size, image bytes
NEXT=1 WRITE=2 INDIRECT=4

{   # a request and its answer, twice
    head_of 4 3 32
    desc 0x2000 16 $NEXT 1
    desc 0x3ff8 64 $WRITE 0
    u8 0 0  0 0
} >"$dir/plain"
{   # an indirect table behind a direct descriptor
    head_of 5 3 112
    desc 0x2000 16 $NEXT 1
    desc 0x40 48 $INDIRECT 0
    desc 0 0 0 0
    desc 0 0 0 0
    desc 0x2100 8 $NEXT 2
    desc 0x2200 100 $WRITE 0
    desc 0x2300 100 $((WRITE | NEXT)) 1
    u8 0 0  7
} >"$dir/indirect"
{   # event indices, several in flight, given back at once
    head_of 6 3 48
    desc 0x2000 16 $NEXT 1
    desc 0x3000 64 $WRITE 0
    desc 0x4000 8 $WRITE 0
    u8 6  0 0  0 2  6  0 2
} >"$dir/event"
{   # a loop
    head_of 0 2 32
    desc 0x2000 16 $NEXT 1
    desc 0x2000 16 $NEXT 0
    u8 0 0
} >"$dir/loop"
{   # a device that writes over its own descriptors and rings
    head_of 2 2 32
    desc 0x0 16 $NEXT 1
    desc 0x0 0x1000 $WRITE 0
    u8 0 0  0 1  0 0
} >"$dir/self"
{   # reset, negotiate by hand, registers of each structure
    head_of 7 6 0
    u8 3 0x14 0   3 0x14 1   3 0x14 3
    u8 0x23 8; u32 1; u8 0x23 12; u32 1; u8 3 0x14 11
    u8 0x13 0x16; u16 0; u8 0x33 0x20; u64 0; u8 0x33 0x28; u64 0x400
    u8 0x33 0x30; u64 0x800; u8 0x13 0x1c; u16 1; u8 3 0x14 15
    u8 4; u16 0x1000; u8 0x24; u16 0x4000; u32 5; u8 0x24; u16 0x2000; u32 9
    u8 0x15 4 6 0  0x25 0x40; u32 0; u8 0x72; u16 0x402; u64 3; u8 0x27
} >"$dir/registers"
