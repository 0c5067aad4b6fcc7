#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write the seeds of message_fuzz into folder $1: reports as in
# src/abi/monitor.h.
set -e
dir=${1:?usage: seeds.sh FOLDER}
mkdir -p "$dir"

u8() { for v; do printf "\\$(printf %03o $((v & 255)))"; done; }
u16() { u8 $(($1)) $(($1 >> 8)); }
u32() { u16 $(($1 & 65535)); u16 $(($1 >> 16)); }
u64() { u32 $(($1 & 0xffffffff)); u32 $(($1 >> 32)); }
head_of() { u32 0x4d4c5044; u16 1; u16 "$1"; u32 "$2"; u32 0; }

head_of 4 0 >"$dir/ready"
{ head_of 5 24; u16 32; u16 65535; u32 16; u64 5; u64 21; } >"$dir/exit"
{ head_of 5 40; u16 32; u16 65535; u32 16; u64 4; u64 0
  u16 33; u16 65535; u32 5; printf 'panic\0\0\0'; } >"$dir/exit-text"
{ head_of 6 16; u16 33; u16 65535; u32 3; printf 'why\0\0\0\0\0'; } >"$dir/failed"
