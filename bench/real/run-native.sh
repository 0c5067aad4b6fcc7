#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run bench/real natively in the guest's own root file system:
#   bench/real/run-native.sh COMMAND (by sh -c, in the root)
# Mounts live in a name space of their own and go with it.
root=$(cd "$(dirname "$0")/../.." && pwd)/o/guest/debian/root
bench=$(cd "$(dirname "$0")/../.." && pwd)/o/bench/real
exec unshare -m sh -c '
    root=$1 bench=$2
    mount --make-rprivate / &&
        mount --bind "$root" "$root" && mount -o remount,bind,ro "$root" &&
        mount -t tmpfs tmp "$root/tmp" && mount -t proc proc "$root/proc" &&
        mount --rbind /dev "$root/dev" &&
        mount --bind "$bench" "$root/bench" &&
        exec chroot "$root" /bin/sh -c "$3"' sh "$root" "$bench" "$1"
