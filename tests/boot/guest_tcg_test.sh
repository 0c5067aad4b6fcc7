#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The default guest on a machine that is not ours (QEMU TCG), so that what fails
# under doppel but passes here is doppel's. Prints ok and FAIL lines.
set -u
cd "$(dirname "$0")/../.." || exit 2
guest=o/guest
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

if ! command -v qemu-system-x86_64 >/dev/null; then
    echo 'skip guest_tcg: no qemu-system-x86_64'
    exit 0
fi
if [ ! -e $guest/vmlinuz ] || [ ! -e $guest/initrd.img ]; then
    echo 'skip guest_tcg: no default guest; run: make guest'
    exit 0
fi

# boot_raw APPEND [QEMU ARGUMENT]...: the console's bytes; standard input goes in
boot_raw() {
    append=$1
    shift
    timeout 120 qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 512 \
        -nographic -no-reboot -kernel $guest/vmlinuz \
        -initrd $guest/initrd.img -append "console=ttyS0 quiet $append" "$@"
}

# boot: the same, as lines of text
boot() {
    boot_raw "$@" | tr -d '\r'
}

# says NAME PATTERN...: whether $tmp/out has a line for each
says() {
    name=$1
    shift
    for pattern in "$@"; do
        grep -q -- "$pattern" "$tmp/out" && continue
        sed 's/^/  /' "$tmp/out" | tail -n 30
        echo "no line: $pattern"
        echo "FAIL $name"
        return
    done
    echo "ok $name"
}

boot 'doppel.exec="echo pid $$; seq 1 5000 | tail -n 1; hostname; exit 3"' \
    </dev/null >"$tmp/out"
says guest_exec '^5000$' '^doppel$' 'ended with status 3$' 'Power down$'

boot 'LINES=33 COLUMNS=99 doppel.exec="stty size; tty; true"' \
    </dev/null >"$tmp/out"
says guest_terminal '33 99$' '^/dev/ttyS0$' 'Power down$'
if grep -q 'ended with' "$tmp/out"; then
    echo 'FAIL guest_quiet_success'
else
    echo 'ok guest_quiet_success'
fi

# type KEYS: into a shell, as soon as it asks, however slow the machine is
type_keys() {
    : >"$tmp/raw"
    (
        i=0
        until grep -q 'root@doppel' "$tmp/raw" || [ $i -ge 500 ]; do
            sleep 0.2
            i=$((i + 1))
        done
        sleep 1
        printf "$1"
    ) | boot_raw '' >"$tmp/raw"
    tr -d '\r' <"$tmp/raw" >"$tmp/out"
}

type_keys 'echo $((6*7)); ls /sys/class/tty/ttyS0/dev\rexit\r'
says guest_shell 'Doppel guest: Linux' '^42$' 'Power down$'

type_keys 'poweroff\r'
says guest_poweroff 'poweroff$' 'Power down$'

if [ -x /sbin/mkfs.ext4 ]; then
    truncate -s 8M "$tmp/disk"
    /sbin/mkfs.ext4 -q "$tmp/disk"
    boot 'doppel.exec="mount /dev/vda /mnt && echo hello >/mnt/f && umount /mnt \
        && mount -r /dev/vda /mnt && cat /mnt/f"' </dev/null \
        -drive file="$tmp/disk",if=virtio,format=raw >"$tmp/out"
    says guest_disk 'hello$' 'Power down$'
else
    echo 'skip guest_disk: no mkfs.ext4'
fi
