#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make a guest from Debian's packages, without installing them:
#   tools/mkguest.sh [cloud|generic|rt] OUT_DIR INIT MKCPIO
# fills OUT_DIR with vmlinuz, initrd.img and version. INIT is the static init,
# MKCPIO the archive writer. Packages are kept in o/guest/cache; without a
# network the newest one there is taken. Runs as any user.
set -eu

flavour=$1 out=$2 init=$3 mkcpio=$4
top=$(cd "$(dirname "$0")/.." && pwd)
cache=$top/o/guest/cache
work=$out/work

die() {
    echo "mkguest: $*" >&2
    exit 1
}

# The real package behind a meta package, e.g. linux-image-6.1.0-NN-cloud-amd64.
resolve() {
    apt-cache depends "$1" 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1
}

# Print the path of package $1's file in the cache, after downloading it.
fetch() {
    want=$(apt-cache show --no-all-versions "$1" 2>/dev/null |
        sed -n 's/^Version: //p' | head -n 1)
    have=$(ls -t "$cache/$1"_*.deb 2>/dev/null | head -n 1 || true)
    if [ -n "$want" ]; then
        # apt writes a version's epoch as %3a in file names
        file=$cache/$1_$(echo "$want" | sed 's/:/%3a/')_amd64.deb
        [ -e "$file" ] && have=$file
        if [ ! -e "$file" ]; then
            (cd "$cache" && apt-get -q -o APT::Sandbox::User="$(id -un)" \
                download "$1" >"$cache/log" 2>&1) || {
                [ -n "$have" ] || {
                    tail -n 3 "$cache/log" >&2
                    die "package $1 could not be downloaded; try: apt-get update"
                }
                echo "mkguest: no download, taking $have" >&2
            }
            [ -e "$file" ] && have=$file
        fi
    fi
    [ -n "$have" ] || die "no package $1: apt has no lists; run: apt-get update"
    echo "$have"
}

# A module's file under $modroot, whatever its name's dashes; nothing: built in.
module_file() {
    pattern=$(echo "$1" | sed 's/[-_]/[-_]/g')
    find "$modroot/kernel" -name "$pattern.ko" | head -n 1
}

# Print a module and, before it, all that it depends on.
module_closure() {
    file=$(module_file "$1")
    [ -n "$file" ] || return 0
    for dep in $(tr '\000' '\n' <"$file" | sed -n 's/^depends=//p' |
        head -n 1 | tr ',' ' '); do
        module_closure "$dep"
    done
    module_file "$1"
}

mkdir -p "$cache"
case $flavour in
cloud) meta=linux-image-cloud-amd64 ;;
generic) meta=linux-image-amd64 ;;
rt) meta=linux-image-rt-amd64 ;;
*) die "$flavour: no such kernel; there are cloud, generic and rt" ;;
esac

package=$(resolve "$meta")
if [ -z "$package" ]; then # no lists: what the cache has
    case $flavour in
    cloud) glob='linux-image-[0-9]*-cloud-amd64_*' ;;
    rt) glob='linux-image-[0-9]*-rt-amd64_*' ;;
    generic) glob='linux-image-[0-9]*[0-9]-amd64_*' ;;
    esac
    found=$(cd "$cache" && ls -t $glob 2>/dev/null | head -n 1 || true)
    [ -n "$found" ] ||
        die "no package $meta: apt has no lists; run: apt-get update"
    package=${found%%_*}
fi

rm -rf "$work"
mkdir -p "$work"
kernel_deb=$(fetch "$package")
busybox_deb=$(fetch busybox-static)
# Modules, kernel and busybox only; the rest of a package is not needed.
dpkg-deb --fsys-tarfile "$kernel_deb" | tar -x -C "$work" ./boot ./lib
dpkg-deb --fsys-tarfile "$busybox_deb" | tar -x -C "$work" ./bin

version=${package#linux-image-}
modroot=$work/lib/modules/$version
[ -e "$work/boot/vmlinuz-$version" ] || die "$kernel_deb: holds no kernel"

{
    for d in /bin /dev /etc /lib /lib/modules /mnt /proc /root /run /sbin /sys \
        /tmp /usr /usr/bin /usr/sbin /var; do
        echo "dir $d 755"
    done
    echo "char /dev/console 600 5 1"
    echo "file /init $init 755"
    echo "file /bin/busybox $work/bin/busybox 755"
    "$work/bin/busybox" --list | grep -v '^busybox$' | LC_ALL=C sort |
        sed 's|.*|link /bin/& busybox|'
    : >"$work/doppel.list"
    sed '/^#/d; /^$/d' "$top/guest/modules.list" | while read -r pattern names; do
        files=$(for n in $names; do module_closure "$n"; done |
            awk '!seen[$0]++')
        [ -z "$files" ] && continue
        echo "$pattern" $(echo "$files" | sed 's|.*/||') >>"$work/doppel.list"
        for f in $files; do
            echo "file /lib/modules/$(basename "$f") $f 644"
        done
    done | LC_ALL=C sort -u
    echo "file /lib/modules/doppel.list $work/doppel.list 644"
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$work/passwd"
    printf 'root:x:0:\ntty:x:5:\n' >"$work/group"
    echo "file /etc/passwd $work/passwd 644"
    echo "file /etc/group $work/group 644"
} >"$work/list"

"$mkcpio" <"$work/list" >"$out/initrd.img.new"
cp "$work/boot/vmlinuz-$version" "$out/vmlinuz.new"
mv "$out/vmlinuz.new" "$out/vmlinuz"
mv "$out/initrd.img.new" "$out/initrd.img"
echo "$version" >"$out/version"
rm -rf "$work"
echo "guest: Linux $version, initrd $(($(wc -c <"$out/initrd.img") / 1024)) KiB in $out"
