#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Real programs under the translator, one promise a call; the last line is the
# figure, the status says whether it is kept:
#     tests/real/real.sh idle | clock SECONDS | stress SECONDS | sha MIB | build
# ENGINE (bt) and DOPPEL (./doppel) change what runs. idle takes the default
# guest, the others take make guest-debian's disk too.
cd "$(dirname "$0")/../.." || exit 2
: "${ENGINE:=bt}" "${DOPPEL:=./doppel}"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
disk=o/guest/debian/disk.img
default='-k o/guest/vmlinuz --initrd o/guest/initrd.img'
log='console=ttyS0 quiet mitigations=off'
bad='Oops|BUG:|Call Trace|segfault|traps:|lockup|rcu.*stall|WARNING:|ended with status|ended by signal'

die() {
    tail -n 20 "$tmp/out"
    echo "$*"
    exit 1
}

# debian SECONDS 'COMMAND' OPTION...: on Debian's disk, its output in
# $tmp/out
debian() {
    limit=$1 cmd=$2
    shift 2
    timeout $((limit + 20)) $DOPPEL run --engine "$ENGINE" --timeout "$limit" \
        $default --disk $disk,ro "$@" --append "$log doppel.root=/dev/vda,ro doppel.exec=\"$cmd\"" \
        </dev/null >"$tmp/out" 2>"$tmp/err"
    status=$?
    [ $status = 0 ] || die "status $status: $(cat "$tmp/err")"
    grep -qE "$bad" "$tmp/out" &&
        die "the guest complains: $(grep -m1 -E "$bad" "$tmp/out")"
}

# Nanoseconds of CPU time that the process group of $1 has used.
cpu_ns() {
    for p in "$1" $(pgrep -P "$1"); do
        for t in /proc/"$p"/task/*/schedstat; do cat "$t"; done
    done 2>/dev/null | awk '{ n += $1 } END { printf "%d\n", n }'
}

# At most 0.2 % of a CPU over 10 s.
idle() {
    $DOPPEL run --engine "$ENGINE" --timeout 60 $default "$@" --append \
        "$log"' doppel.exec="sleep 4; echo READY; sleep 13"' </dev/null \
        >"$tmp/out" 2>&1 &
    pid=$!
    i=0
    until grep -q READY "$tmp/out"; do
        sleep 0.2
        i=$((i + 1))
        [ $i -lt 200 ] || die "no READY"
    done
    sleep 1
    before=$(cpu_ns $pid)
    sleep 10
    after=$(cpu_ns $pid)
    wait $pid
    [ "${before:-0}" -gt 0 ] || die "no CPU times"
    awk -v n=$((after - before)) 'BEGIN {
        printf "idle: %.3f %% of a CPU over 10 s\n", n / 1e8; exit n > 2e7 }'
}

# The guest's clock within 100 ms of the host's after a load on all its CPUs:
# before it, at its end and a second later ten times; a late console and a busy
# host only make the host's time later, so the least difference counts.
clock() {
    seconds=$1
    shift
    mkfifo "$tmp/fifo"
    look='for k in 1 2 3 4 5 6 7 8 9 10; do echo AT $g $(date +%s.%N); sleep 0.05; done'
    spin="for i in 1 2; do timeout $seconds sh -c 'while :; do /bin/true; done' & done; timeout $seconds sh -c 'while :; do :; done'"
    $DOPPEL run --engine "$ENGINE" --timeout $((seconds + 60)) $default --disk $disk,ro -c 2 "$@" \
        --append "$log doppel.root=/dev/vda,ro doppel.exec=\"echo; g=1; $look; $spin; g=2; $look; sleep 1; g=3; $look\"" \
        </dev/null >"$tmp/fifo" 2>&1 &
    while read -r word group at; do
        [ "$word" = AT ] && echo "$group $at $(date +%s.%N)"
    done <"$tmp/fifo" | tr -d '\r' >"$tmp/clocks"
    wait $!
    [ "$(wc -l <"$tmp/clocks")" = 30 ] || die "not thirty clocks"
    # the hardware clock tells whole seconds only: the first group is taken off
    awk '{ d = ($3 - $2) * 1000; if (!($1 in m) || d < m[$1]) m[$1] = d } END {
        end = m[2] - m[1]; later = m[3] - m[1]
        printf "clock: %.1f ms at the load'\''s end, %.1f ms a second later, %.1f ms at first\n",
            end, later, m[1]
        exit end > 100 || end < -100 || later > 100 || later < -100 }' "$tmp/clocks"
}

# stress-ng's classes in equal parts of SECONDS, two workers each on two CPUs.
stress() {
    each=$(($1 / 6))
    shift
    figure=
    for class in cpu vm fork signal futex mmap; do
        debian $((each * 3 + 60)) "dmesg -n 4; cd /tmp; stress-ng --$class 2 --verify --temp-path /tmp --vm-bytes 200M --mmap-bytes 64M --timeout ${each}s --metrics-brief && echo WELL; dmesg" \
            -c 2 -m 1536M "$@"
        grep -q '^WELL' "$tmp/out" || die "$class: $(grep -m1 -E 'fail|unexpected' "$tmp/out")"
        ops=$(awk -v c=$class '$4 == c && /metrc/ { print $5 }' "$tmp/out" | tail -n 1)
        figure="$figure $class $ops"
        echo "$class: $ops in $each s"
    done
    echo "no failure; operations in $each s each:$figure"
}

# sha256 of bytes that both sides make alike.
sha() {
    make_bytes="openssl enc -aes-128-ctr -K 00 -iv 00 -nosalt </dev/zero 2>/dev/null | head -c $(($1 << 20)) | sha256sum | cut -c1-64"
    want=$(sh -c "$make_bytes" 2>/dev/null)
    debian 600 "echo SUM \$($make_bytes)" -m 512M
    got=$(sed -n 's/^SUM //p' "$tmp/out" | tr -d '\r')
    echo "natively $want"
    [ "${#want}" = 64 ] && [ "$got" = "$want" ] || die "other bytes: $got"
    echo "sha256 of $1 MiB: equal"
}

# lua and zlib, built by gcc in the guest and natively in the same root.
build() {
    script='cd /tmp && cp -r /usr/src/doppel/lua* lua && cp -r /usr/src/doppel/zlib* zlib && make -s -C lua/src linux-noreadline MYCFLAGS=-fPIC >/dev/null && (cd zlib && ./configure >/dev/null && make -s >/dev/null) && cat lua/src/*.o lua/src/lua lua/src/luac zlib/*.o zlib/*.lo zlib/libz.so.* zlib/minigzip | sha256sum | cut -c1-64'
    want=$(bench/real/run-native.sh "$script" 2>/dev/null | tail -n 1)
    debian 900 "echo SUM \$($script)" -c 2 -m 1536M
    got=$(sed -n 's/^SUM //p' "$tmp/out" | tr -d '\r')
    echo "natively $want"
    [ "${#want}" = 64 ] && [ "$got" = "$want" ] || die "other bytes: $got"
    echo "lua and zlib: the same bytes"
}

"$@"
