#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make bench-real: Debian's programs natively in their own root, in a guest of
# each engine with that root on a disk, and in QEMU TCG, by turns. ROUNDS,
# ENGINES, ROWS (names), KARGS (more of the kernel's command line) and TCG=0
# change what is run; BY_CPU=1 takes CPU times (a host that others use, too). One
# measurement at a time: a lock is taken.
set -u
cd "$(dirname "$0")/../.."
: "${ROUNDS:=1}" "${ENGINES:=bt}" "${ROWS:=}" "${KARGS=norandmaps}" "${TCG:=1}"
: "${DOPPEL:=./doppel}"

exec 9>o/bench/lock
flock 9

mem=1536
disk=o/guest/debian/disk.img
say="doppel.root=/dev/vda,ro doppel.exec=\"echo mark up; /bench/real $ROWS\""
append="console=ttyS0 quiet mitigations=off $KARGS $say"
cat o/guest/initrd.img o/bench/real.cpio >o/bench/real.img
guest="-k o/guest/vmlinuz --initrd o/bench/real.img -m ${mem}M --no-reboot \
--cpu host --disk $disk,ro"
# a run that hangs (it happens under TCG on a busy host) is given up and repeated
qemu="timeout 900 qemu-system-x86_64 -accel tcg,thread=multi -m $mem \
-kernel o/guest/vmlinuz -initrd o/bench/real.img -no-reboot -display none \
-serial stdio -monitor none -drive file=$disk,if=virtio,format=raw,readonly=on"

set -- "native=echo mark up; bench/real/run-native.sh '/bench/real $ROWS'"
for e in $ENGINES; do
    set -- "$@" "$e=$DOPPEL run --engine $e $guest --append '$append' </dev/null"
done
[ "$TCG" = 0 ] ||
    set -- "$@" "tcg=$qemu -M q35 -cpu max -append '$append' </dev/null"
uname -sr
grep -m1 'model name' /proc/cpuinfo
echo "commit $(git rev-parse --short HEAD 2>/dev/null), $ROUNDS rounds"
o/bench/runner "$ROUNDS" o/bench/real.jsonl "$@"
