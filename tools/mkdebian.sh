#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make a Debian root file system with the programs of bench/real and of the
# soaks, for a guest's disk and for the same programs natively:
#   tools/mkdebian.sh OUT_DIR
# fills OUT_DIR with root/ (a tree to chroot into), src/ (sources that are built
# in it) and disk.img (ext4 of root/). Needs root, mmdebstrap and e2fsprogs.
set -eu

out=$1
suite=bookworm
packages=python3,gcc,make,libc6-dev,sqlite3,git,tar,gawk,mawk,coreutils,7zip
packages=$packages,openssl,stress-ng,bzip2,xz-utils,procps,libreadline-dev,perl-base

die() {
    echo "mkdebian: $*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || die "this must be run as root"
rm -rf "$out/root" "$out/disk.img" "$out/disk.img.new"
mkdir -p "$out"

# Sources of real C projects, as Debian has them; apt checks their signatures.
# shellcheck disable=SC2016 # the hook's own variables
sources='
    list=$(ls "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*.list 2>/dev/null)
    sed -i "p;s/^deb /deb-src /" $list
    export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
    apt-get update
    mkdir -p "$1/usr/src/doppel"
    cd "$1/usr/src/doppel"
    for p in lua5.4 zlib; do
        apt-get source --download-only -o APT::Sandbox::User=root "$p"
    done
    for f in *.orig.tar.*; do tar -xf "$f"; done
    rm -f ./*.tar.* ./*.dsc ./*.asc
'
mmdebstrap --mode=root --variant=apt --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --customize-hook="$sources" \
    $suite "$out/root" >"$out/log" 2>&1 || {
    tail -n 5 "$out/log" >&2
    die "mmdebstrap failed (log: $out/log)"
}
chroot "$out/root" git config --system safe.directory '*'
chroot "$out/root" git config --system user.email guest@example.org
chroot "$out/root" git config --system user.name guest
mkdir -p "$out/root/bench"

kib=$(du -sk "$out/root" | cut -f1)
mke2fs -q -t ext4 -m 0 -O ^has_journal -E root_owner=0:0 -d "$out/root" \
    "$out/disk.img.new" $((kib + kib / 5 + 65536))k
mv "$out/disk.img.new" "$out/disk.img"
echo "guest: Debian $(cat "$out/root/etc/debian_version"), $((kib / 1024)) MiB, in $out"
