#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install the Debian packages that a make target needs: tools/deps.sh SET...
# Sets: build run test bench debian. As root it installs what is missing; otherwise it
# prints the one command that does, and fails.
set -eu

# Each set is a function of package names; one reason a line.
set_build() {
    echo gcc libc6-dev make      # the build itself
    echo liblz4-dev zlib1g-dev liblzma-dev # kernel payloads
}
set_run() {
    set_build
    echo apt binutils ca-certificates # fetching and unpacking Debian's packages
}
set_test() {
    set_run
    echo clang clang-format      # second compiler, sanitizers' runtime, format
    echo libclang-rt-14-dev      # libFuzzer
    echo libzydis-dev            # the decoder's second opinion
    echo qemu-system-x86         # the tiny guests' second opinion
    echo acpica-tools            # iasl reads the ACPI tables
    echo e2fsprogs               # mkfs and fsck of test disks
    echo patch strace            # mutants; the jail's list of system calls
    echo python3                 # reads doctor --json; plays the terminal
    echo procps git              # pgrep; the list of tracked files
}
set_bench() {
    set_run
    echo qemu-system-x86
}
set_debian() {
    set_run
    echo mmdebstrap e2fsprogs    # Debian's programs on a disk
}

missing=
for s in "$@"; do
    for p in $(set_"$s"); do
        case " $missing " in *" $p "*) continue ;; esac
        dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null |
            grep -q '^ii' || missing="$missing $p"
    done
done
# Debian's packages of the guest are fetched by apt: its lists must be there.
if [ -z "$missing" ]; then
    if [ "$(id -u)" = 0 ] && ! apt-cache show busybox-static >/dev/null 2>&1; then
        apt-get update >/dev/null 2>&1 || true
    fi
    exit 0
fi

if [ "$(id -u)" != 0 ]; then
    echo "Missing Debian packages. As root:" >&2
    echo "  apt-get update && apt-get install --no-install-recommends -y$missing" >&2
    exit 1
fi
echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update && apt-get install --no-install-recommends -y $missing; } \
    >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "deps: the packages could not be installed (log: $log)" >&2
    exit 1
fi
rm -f "$log"
