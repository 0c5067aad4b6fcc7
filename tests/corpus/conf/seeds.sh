#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write the seeds of conf_fuzz into folder $1: a byte, the number of
# descriptors, and a CONF packet as in src/abi/monitor.h.
set -e
dir=${1:?usage: seeds.sh FOLDER}
mkdir -p "$dir"

u8() { for v; do printf "\\$(printf %03o $((v & 255)))"; done; }
u16() { u8 $(($1)) $(($1 >> 8)); }
u32() { u16 $(($1 & 65535)); u16 $(($1 >> 16)); }
u64() { u32 $(($1 & 0xffffffff)); u32 $(($1 >> 32)); }
rec() { u16 "$1"; u16 "$2"; u32 "$3"; }          # type, fd, length
num() { rec "$1" 65535 8; u64 "$2"; }             # type, value
text() { # type, fd, text
    rec "$1" "$2" ${#3}
    printf %s "$3"
    n=${#3}
    while [ $((n % 8)) != 0 ]; do u8 0; n=$((n + 1)); done
}
packet() { # descriptors, file with the records
    u8 "$1"; u32 0x4d4c5044; u16 1; u16 1; u32 "$(wc -c <"$2")"; u32 "$1"
    cat "$2"
}
need() { text 1 65535 vm; text 5 65535 interp; num 3 1; num 4 1; rec 2 0 8; u64 0x100000; text 8 1 k; }

t=$(mktemp)
trap 'rm -f "$t"' EXIT
need >"$t"; packet 2 "$t" >"$dir/least"
{ need; text 9 2 initrd; text 9 3 more; text 10 4 disk; text 11 5 disk,ro; rec 12 6 0; rec 13 7 0
  text 7 65535 'console=ttyS0 quiet'; num 6 31; num 14 9; num 15 1; num 16 7; num 17 244; num 18 2
  rec 19 8 0; num 20 63; num 21 3; } >"$t"; packet 9 "$t" >"$dir/most"
{ need; num 15 1; num 3 2; } >"$t"; packet 2 "$t" >"$dir/twice"
{ need; num 63 0; } >"$t"; packet 2 "$t" >"$dir/unknown"
