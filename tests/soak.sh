#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The full counts: tests/soak.sh [ITEM...]. Each item runs once per commit (of
# the sources that it tests) and leaves its result in o/soak, so that a soak
# that was stopped goes on; docs/STATUS.md is written from the results.
# FRESH=1 runs items again.
cd "$(dirname "$0")/.." || exit 2
out=o/soak
mkdir -p $out/bin
commit=$(git rev-parse --short HEAD)
git diff --quiet HEAD -- src guest tests || commit=$commit+

# item NAME 'WHAT' COMMAND...: the command's last line is the figure; its status
# says whether the count was met
item() {
    name=$1 what=$2
    shift 2
    case " $wanted " in *" $name "* | "  ") ;; *) return ;; esac
    if [ -z "${FRESH:-}" ] && [ -f "$out/$name.result" ] &&
        grep -q "|$commit|" "$out/$name.result"; then
        echo "done already: $name"
        return
    fi
    echo "soak: $name: $what"
    start=$(date +%s)
    "$@" >"$out/$name.log" 2>&1
    status=$?
    figure=$(tail -n 1 "$out/$name.log" | tr '|' '/')
    verdict=met
    [ $status = 0 ] || verdict="not met"
    printf '%s|%s|%s|%s|%s|%s\n' "$what" "$figure" "$verdict" "$commit" \
        "$(date +%Y-%m-%d)" "$(($(date +%s) - start)) s" >"$out/$name.result"
    cat "$out/$name.result"
    write_status
}

# A copy, so that a build meanwhile does not change what runs.
prog() {
    cp "o/release/test/$1" "$out/bin/" && echo "$out/bin/$(basename "$1")"
}

scripts() { # run test scripts or functions and add up their lines
    "$@" | tee /dev/stderr | awk '
        /^ok /{n++} /^FAIL /{f++} END {
            printf "%d passed, %d failed\n", n, f; exit f > 0 || n == 0 }'
}

repeat() { # COUNT COMMAND...: all must pass
    n=$1 good=0
    shift
    for _ in $(seq "$n"); do
        "$@" && good=$((good + 1))
    done
    echo "$good of $n"
    [ "$good" = "$n" ]
}

boot_once() { # options...: a kernel says its name and powers off
    timeout 300 ./doppel run --timeout 280 "$@" </dev/null 2>&1 | tee -a $out/boots.txt |
        grep -q 'up-42'
}

boot_bt() { # FLAVOUR CPUS: translated, without a complaint of the kernel's
    dir=o/guest/$1
    [ "$1" = cloud ] && dir=o/guest
    timeout 300 ./doppel run --engine bt --timeout 280 -c "$2" -k $dir/vmlinuz \
        --initrd $dir/initrd.img --append "console=ttyS0 mitigations=off $exec_arg" \
        </dev/null >$out/boot_bt.txt 2>&1 && grep -q 'up-42' $out/boot_bt.txt &&
        ! grep -qE 'Oops|BUG:|Call Trace|WARNING:|lockup|rcu.*stall' $out/boot_bt.txt &&
        return
    cat $out/boot_bt.txt
    return 1
}

boots_bt() { # FLAVOUR: 20 boots each with 1, 2 and 4 vCPUs
    for cpus in 1 2 4; do
        repeat 20 boot_bt "$1" $cpus || return 1
    done
    echo "20 of 20 with 1, 2 and 4 vCPUs"
}

# in lock-step with the interpreter; the figure is what it says at the end
lockstep() {
    timeout 1500 ./doppel run --engine bt --check --timeout 1400 "$@" \
        </dev/null >$out/lockstep.txt 2>&1
    status=$?
    grep -q 'up-42' $out/lockstep.txt || status=1
    grep -m 1 'does not do what' $out/lockstep.txt ||
        sed -n 's/^doppel: bt: checked/checked/p' $out/lockstep.txt
    return $status
}

decode() {
    "$(prog cpu/x86/decode_diff_test)" --count 100000000 --seed "${SEED:-1}" >$out/decode.txt
    status=$?
    cat $out/decode.txt
    sed -n 's/^cpu asked/CPU asked/p' $out/decode.txt
    return $status
}

corpus() {
    "$(prog engine/interp/corpus_test)" --count 5200000 --seed "${SEED:-1}" >$out/corpus.txt
    status=$?
    cat $out/corpus.txt
    grep -E '^ *(forms|cases)' $out/corpus.txt | tr -s ' \n' ' '
    echo
    return $status
}

forms() {
    "$(prog engine/bt/forms_test)" --count 5200000 --seed "${SEED:-1}" >$out/forms.txt
    status=$?
    cat $out/forms.txt
    grep -E '^ *(forms|cases)' $out/forms.txt | tr -s ' \n' ' '
    echo
    return $status
}

# 5,000,000 programs; goes on where it was stopped
blocks() {
    "$(prog engine/bt/blocks_test)" --count 5000000 --jobs 2 --seed "${SEED:-1}" \
        --resume $out/blocks.$commit >$out/blocks.txt
    status=$?
    cat $out/blocks.txt
    grep -E '^ *programs' $out/blocks.txt | tail -n 1
    return $status
}

emitted() {
    "$(prog engine/bt/emitted_test)" --count 100000000 --jobs 2 --seed "${SEED:-1}" \
        >$out/emitted.txt
    status=$?
    cat $out/emitted.txt
    grep -E '^ *strings' $out/emitted.txt | tr '\n' ' '
    echo
    return $status
}

vectors() {
    VEC_RUNS=800 VEC_SEED="${SEED:-1}" "$(prog engine/interp/vec_native_test)"
}

fuzz() {
    scripts tests/fuzz/fuzz_test.sh "${FUZZ_SECONDS:-300}"
}

tlb() {
    STEPS=10000000 SEEDS=${SEED:-1} scripts tests/bt/tlb_test.sh
}

write_status() {
    {
        echo '# Status'
        echo
        echo 'Written by `make soak` from its results; each line is a count that was run on the commit it names.'
        echo
        echo '| count | result | verdict | commit | date | took |'
        echo '|---|---|---|---|---|---|'
        for r in $(ls $out/*.result | sort); do
            sed 's/^/| /; s/|/ | /g; s/$/ |/; s/^ | /| /; s/|  /| /g' "$r"
        done
        [ -f docs/status-notes.md ] && {
            echo
            cat docs/status-notes.md
        }
    } >docs/STATUS.md
}

wanted=$*
exec_arg='doppel.exec="echo up-$((6*7))"'
log='console=ttyS0 quiet mitigations=off'
generic='-k o/guest/generic/vmlinuz --initrd o/guest/generic/initrd.img'

item decode '10^8 byte strings: decoder, Zydis and this CPU agree on length and #UD' \
    decode
item corpus '5,000,000 instruction cases against this CPU, 200 for each form' \
    corpus
item forms '5,000,000 instruction cases, translator against interpreter' \
    forms
item blocks '5,000,000 random programs, translator against interpreter' blocks
item emitted '10^8 strings translated; only what is listed is emitted' emitted
item vectors 'vector forms against this CPU, 800 runs a shape' vectors
item mutants 'planted faults found' sh tests/mutants.sh
item tlb '10,000,000 random TLB operations, interpreter and translator' tlb
item tiny 'tiny guests here, interpreted, scattered, thawed, under TCG' scripts tests/guest/tiny_test.sh
item boots-cloud 'cloud kernel to init and off, 1 CPU, 20 times' \
    repeat 20 boot_once --append "$exec_arg"
item boots-interp 'the same, interpreted' \
    repeat 20 boot_once --engine interp --append "$exec_arg"
item boots-smp 'cloud kernel, 4 CPUs, scattered memory, 20 times' \
    repeat 20 boot_once -c 4 --mem scatter --append "$exec_arg"
# shellcheck disable=SC2086
item boots-generic 'generic kernel, 2 CPUs, 128 MiB, 20 times' \
    repeat 20 boot_once $generic -c 2 -m 128M --append "$log $exec_arg"
item boots-thaw 'cloud kernel rebuilt from its state every 5 exits, 10 times' \
    repeat 10 boot_once --selftest-thaw 5 --mem scatter -c 2 --append "$exec_arg"
item lockstep 'cloud kernel to init and off, every block against the interpreter' \
    lockstep --append "$exec_arg"
item lockstep-smp 'the same, 2 CPUs' lockstep -c 2 --append "$exec_arg"
item system 'real kernels: memory sizes, console, disk, statuses, signals' \
    scripts tests/boot/boot_test.sh
item fuzz 'each fuzzer, minutes: executions and edges in o/soak/fuzz.log' fuzz
for flavour in cloud generic rt; do
    item bt-boots-$flavour "translated: $flavour kernel, 1, 2, 4 CPUs, 20 times each" \
        boots_bt $flavour
done
real=tests/real/real.sh
item bt-idle 'translated: an idle guest uses at most 0.2 % of a CPU' sh $real idle
if [ "$(id -u)" = 0 ]; then # Debian's root file system is made by root
    item bt-clock "translated: guest's clock within 100 ms after 60 s of load" \
        sh $real clock 60
    item bt-stress 'translated: stress-ng cpu vm fork signal futex mmap, 10 minutes, 2 CPUs' \
        sh $real stress 600
    item bt-sha 'translated: sha256 of 1 GiB is what it is natively' sh $real sha 1024
    item bt-build 'translated: gcc builds lua and zlib to the same bytes' sh $real build
fi
write_status
