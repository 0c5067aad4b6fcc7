#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make bench: our program natively, in a guest of each engine, and in QEMU TCG,
# by turns. ROUNDS, SECONDS_PER_ROW, ENGINES and MICROVM=1 change what is run. One
# measurement at a time: a lock is taken.
set -u
cd "$(dirname "$0")/.."
: "${ROUNDS:=3}" "${SECONDS_PER_ROW:=0.3}" "${ENGINES:=bt}"

exec 9>o/bench/lock
flock 9

mem=768
say="doppel.exec=\"echo mark up; /bench/suite $SECONDS_PER_ROW\""
cat o/guest/initrd.img o/bench/suite.cpio >o/bench/initrd.img
guest="-k o/guest/vmlinuz --initrd o/bench/initrd.img -m ${mem}M --no-reboot"
# a run that hangs (it happens under TCG on a busy host) is given up and repeated
qemu="timeout 120 qemu-system-x86_64 -accel tcg,thread=multi -m $mem \
-kernel o/guest/vmlinuz -initrd o/bench/initrd.img \
-display none -serial stdio -monitor none -no-reboot"

set -- "native=echo mark up; o/bench/suite $SECONDS_PER_ROW"
for e in $ENGINES; do
    set -- "$@" "$e=./doppel run --engine $e $guest --append 'console=ttyS0 quiet mitigations=off $say' </dev/null"
done
set -- "$@" \
    "tcg=$qemu -M q35 -cpu max -append 'console=ttyS0 quiet mitigations=off $say' </dev/null"
# QEMU 7.2's microvm often hangs on a busy host (it finds no TSC rate): on request
[ -z "${MICROVM:-}" ] || set -- "$@" \
    "tcg-microvm=$qemu -M microvm,x-option-roms=off,rtc=on,pit=on,pic=on -cpu max -append 'console=ttyS0 quiet mitigations=off $say' </dev/null"
uname -sr
grep -m1 'model name' /proc/cpuinfo
echo "commit $(git rev-parse --short HEAD 2>/dev/null), $ROUNDS rounds"
o/bench/runner "$ROUNDS" o/bench/raw.jsonl "$@"
