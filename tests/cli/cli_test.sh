#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The command line and core, with a monitor that plays a script (double.c).
#   cli_test.sh OBJDIR     OBJDIR holds test/doppel-double and doppel.1
# Prints ok/FAIL/skip lines and a last line with the counts.
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
cd "$ROOT" || exit 2
DIR=${1:-$(dirname "$(readlink doppel)" 2>/dev/null)}
DIR=${DIR:-o/release}
O=$(cd "$DIR" && pwd) || exit 2
D=$O/test/doppel-double
T=$(mktemp -d /tmp/doppel-cli-XXXXXX)
trap 'rm -rf "$T"' EXIT
passed=0 failed=0 skipped=0

ok() { echo "ok $1"; passed=$((passed + 1)); }
fail() { echo "FAIL $1: $2"; failed=$((failed + 1)); }
skip() { echo "skip $1: $2"; skipped=$((skipped + 1)); }

# play SCRIPT WORDS...: run the double; $status, $T/out and $T/err follow.
play() {
    printf '%b\n' "$1" >"$T/script"
    shift
    timeout 60 "$D" run -k "$T/script" "$@" >"$T/out" 2>"$T/err" </dev/null
    status=$?
}

# expect NAME STATUS [TEXT]: of the last play; TEXT must be in the sentence.
# Every failure is one line on stderr that begins with `doppel: `.
expect() {
    lines=$(wc -l <"$T/err")
    if [ "$status" != "$2" ]; then
        fail "$1" "status $status, not $2: $(cat "$T/err")"
    elif [ -n "$3" ] && ! grep -qF -- "$3" "$T/err"; then
        fail "$1" "stderr says '$(cat "$T/err")', not '$3'"
    elif [ -n "$3" ] && { [ "$lines" != 1 ] || ! grep -q '^doppel: ' "$T/err"; }; then
        fail "$1" "$lines lines on stderr: $(cat "$T/err")"
    elif [ -z "$3" ] && [ -s "$T/err" ]; then
        fail "$1" "stderr is not empty: $(cat "$T/err")"
    else
        ok "$1"
    fi
}

# refuse NAME TEXT WORDS...: status 125 and one sentence, nothing started.
refuse() {
    name=$1 text=$2
    shift 2
    timeout 60 "$D" run "$@" >"$T/out" 2>"$T/err" </dev/null
    status=$?
    expect "$name" 125 "$text"
}

sanitized=$(nm "$D" 2>/dev/null | grep -E '__(a|t)san_init')
milliseconds() { echo $(($(date +%s%N) / 1000000)); }

# --- words -------------------------------------------------------------------
refuse unknown_option 'did you mean --kernel?' --kernl x
refuse unknown_option_2 'did you mean --no-reboot?' --noreboot
refuse unknown_letter 'did you mean --cpus?' -C 3
refuse docker_letter 'docker run' -t
refuse memory_zero 'too small' -m 0
refuse memory_negative 'negative' -m -512
refuse memory_garbage 'not a memory size' -m lots
refuse memory_of_no_host 'this host has' -m 60T
refuse cpus 'from 1 to 64' -c 65
refuse virtual_clock 'needs one CPU' --clock virtual -c 2
refuse engine_unknown 'takes one of auto' --engine fast
refuse engine_not_built 'not in this build' --engine bt
refuse image_word 'takes no image' debian
refuse kernel_missing "no such kernel: $T/none" -k "$T/none"
refuse kernel_is_folder 'is a folder' -k "$T"
refuse kernel_is_device 'is a special file' -k /dev/null
: >"$T/script"
refuse initrd_missing 'no such initrd' -k "$T/script" --initrd "$T/none"
refuse disk_missing 'no such disk' -k "$T/script" --disk "$T/none"
refuse long_append 'the limit is' -k "$T/script" --append "$(head -c 9000 /dev/zero | tr '\0' x)"
mkdir -p "$T/away" && cp "$D" "$T/away/doppel"
timeout 60 "$T/away/doppel" run >"$T/out" 2>"$T/err" </dev/null
status=$?
expect default_guest_missing 125 'make guest'
"$D" rnu >"$T/out" 2>"$T/err"
status=$?
expect unknown_verb 125 'did you mean run?'
"$D" --role=monitor >"$T/out" 2>"$T/err" </dev/null
status=$?
expect role_by_hand 125 'started by doppel itself'

# --- help --------------------------------------------------------------------
names=$(sed -n 's/^OPT([A-Z]*, [A-Z_]*, [^,]*, "\([^"]*\)", .*, "[^"]*")$/\1/p' "$ROOT/src/cli/options.def" | sort -u)
all="$("$D" run --help; "$D" doctor --help)"
missing=''
for n in $names; do
    case "$all" in *"--$n"*) ;; *) missing="$missing $n" ;; esac
done
[ "$(echo "$names" | wc -l)" -ge 20 ] && [ -z "$missing" ] &&
    ok help_lists_the_table || fail help_lists_the_table "missing:$missing"
if [ -f "$O/doppel.1" ]; then
    missing=''
    for n in $names; do
        grep -qF -- "\\-\\-$(echo "$n" | sed 's/-/\\-/g')" "$O/doppel.1" ||
            missing="$missing $n"
    done
    [ -z "$missing" ] && ok man_lists_the_table ||
        fail man_lists_the_table "missing:$missing"
    if command -v man >/dev/null; then
        w=$(man --warnings -l "$O/doppel.1" 2>&1 >/dev/null)
        [ -z "$w" ] && ok man_formats || fail man_formats "$w"
    else
        skip man_formats "no man program"
    fi
else
    fail man_lists_the_table "no $O/doppel.1"
fi
"$D" --version | grep -q '^doppel [0-9]' && ok version || fail version "$("$D" --version)"
"$D" --help | grep -q doctor && ok help || fail help "no verbs"
"$D" --help >/dev/full 2>/dev/null
[ $? = 125 ] && ok help_to_full_disk || fail help_to_full_disk "not 125"

# --- statuses ----------------------------------------------------------------
play 'poweroff'; expect poweroff 0
play 'user'; expect ctrl_a_x 0
play 'reset' --no-reboot; expect no_reboot 0
play 'reset'; expect third_reset 123 'resets within'
play 'triple'; expect triple_fault 123 'triple fault'
play 'panic'; expect pvpanic 123 'panic'
play 'debug 5'; expect debug_exit_5 11
play 'debug 0'; expect debug_exit_0 1
play 'debug 255'; expect debug_exit_wraps 255
play 'fail not a kernel'; expect failure 125 'doppel: not a kernel'
if [ -n "$sanitized" ]; then
    skip monitor_crash "a sanitizer catches the signal"
else
    play 'segv'; expect monitor_crash 125 'signal 11 (Segmentation fault)'
fi
play 'exit 3'; expect monitor_leaves 125 'status 3 and no report'
play 'garbage'; expect garbage_report 125 'no report'
play 'close\nhang'; expect closed_socket 125 'no report'
play 'hang' --timeout 0.3; expect timeout 124 'the --timeout'
play 'reset' --timeout 0.001; [ "$status" = 124 ] || [ "$status" = 123 ] && ok timeout_or_loop || fail timeout_or_loop "$status"

# --- the jail ----------------------------------------------------------------
if [ -n "$sanitized" ]; then
    skip jail "a sanitizer's run-time does not live under the filter"
else
    for call in open execve socket ptrace mmap-exec mprotect-exec io-uring; do
        play 'poweroff' --selftest-jail $call
        expect "jail_$call" 125 'seccomp list does not allow'
    done
fi

# --- what the monitor gets ---------------------------------------------------
: >"$T/i1"; : >"$T/i2"; truncate -s 1M "$T/d1" "$T/d2"
play 'conf\npoweroff' --initrd "$T/i1" --initrd "$T/i2" --disk "$T/d1" --disk "$T/d2,ro" \
    -m 64M -c 3 --cpu v2 --name conf --append 'a=b  c' --seed 9 --debug-exit 0xf4 \
    --mem scatter --selftest-thaw 5
want='name=conf engine=interp ram=67108864 cpus=3 level=0 clock=0 verbose=0 flags=1 seed=9 thaw=5 port=244 initrds=2 disks=2 cmdline=a=b  c'
[ "$(cat "$T/out")" = "$want" ] && ok conf || fail conf "$(cat "$T/out")"
play 'echo first\nreset' --timeout 5
[ "$(grep -c first "$T/out")" = 3 ] && ok reset_starts_again || fail reset_starts_again "$(cat "$T/out")"

# --- disks -------------------------------------------------------------------
printf 'sleep 4000\n' >"$T/long"
"$D" run -k "$T/long" --disk "$T/d1" </dev/null >/dev/null 2>&1 &
holder=$!
sleep 0.5
play 'poweroff' --disk "$T/d1"; expect disk_in_use 125 'in use by another VM'
play 'poweroff' --disk "$T/d1,ro"; expect disk_reader_of_written 125 'in use by another VM'
kill -9 $holder; wait $holder 2>/dev/null
sleep 0.3
play 'poweroff' --disk "$T/d1,ro"; expect disk_free_again 0
chmod 400 "$T/d2"
if [ "$(id -u)" != 0 ]; then
    play 'poweroff' --disk "$T/d2"; expect disk_not_writable 125 'for writing'
fi

# --- the console -------------------------------------------------------------
head -c 300000 /dev/urandom >"$T/blob"
printf 'cat\npoweroff\n' >"$T/script"
"$D" run -k "$T/script" <"$T/blob" >"$T/copy" 2>"$T/err"
cmp -s "$T/blob" "$T/copy" && ok file_to_file || fail file_to_file "bytes differ"
cat "$T/blob" | "$D" run -k "$T/script" 2>"$T/err" | (sleep 0.3; cat) >"$T/copy"
cmp -s "$T/blob" "$T/copy" && ok pipe_to_slow_pipe || fail pipe_to_slow_pipe "bytes differ"
printf 'echo more\npoweroff\n' >"$T/script"
printf 'kept\n' >"$T/log"
"$D" run -k "$T/script" </dev/null >>"$T/log" 2>"$T/err"
[ "$(cat "$T/log")" = "kept
more" ] && ok append_to_file || fail append_to_file "$(cat "$T/log")"
"$D" run -k "$T/script" <&- >"$T/out" 2>"$T/err"
[ $? = 0 ] && [ "$(cat "$T/out")" = more ] && ok closed_stdin || fail closed_stdin "$(cat "$T/err")"

# --- signals -----------------------------------------------------------------
# sig NAME STATUS SCRIPT SIGNAL...: signals 0.3 s apart
sig() {
    name=$1 want=$2 script=$3
    shift 3
    printf '%b\n' "$script" >"$T/script"
    begin=$(milliseconds)
    "$D" run -k "$T/script" </dev/null >"$T/out" 2>"$T/err" &
    pid=$!
    for s in "$@"; do sleep 0.3; kill -"$s" $pid; done
    wait $pid
    status=$?
    took=$(($(milliseconds) - begin))
    [ $status = "$want" ] && ok "$name" || fail "$name" "status $status, not $want: $(cat "$T/err")"
}
sig term_is_power_button 0 'sleep 20000' TERM
sig int_is_power_button 0 'sleep 20000' INT
sig hup_is_power_button 0 'sleep 20000' HUP
sig second_term_ends 143 'deaf\nsleep 20000' TERM TERM
sig second_int_ends 130 'hang' TERM INT
sig deaf_guest_ends_after_5s 143 'deaf\nsleep 20000' TERM
[ "$took" -ge 5000 ] && [ "$took" -lt 6500 ] && ok five_seconds || fail five_seconds "$took ms"

# kill -9 of core ends the monitor within a second
printf 'hang\n' >"$T/script"
"$D" run -k "$T/script" --name orphan </dev/null >/dev/null 2>&1 &
pid=$!
sleep 0.4
mon=$(cat /proc/$pid/task/$pid/children 2>/dev/null || ps -o pid= --ppid $pid)
mon=$(echo $mon)
name=$(tr '\0' ' ' 2>/dev/null <"/proc/$mon/cmdline")
case "$name" in "doppel: orphan "*) ok ps_shows_name ;; *) fail ps_shows_name "'$name'" ;; esac
kill -9 $pid; wait $pid 2>/dev/null
sleep 0.5
# A zombie that nobody has collected yet is dead, too.
if [ -n "$mon" ] && ! grep -q "^State:[[:space:]]*[^Z[:space:]]" "/proc/$mon/status" 2>/dev/null; then
    ok kill_9_ends_all
else
    fail kill_9_ends_all "process $mon is alive"
fi

# --- a terminal --------------------------------------------------------------
if command -v python3 >/dev/null; then
    python3 "$ROOT/tests/cli/tty_test.py" "$D" "$T" >"$T/tty" 2>&1 || echo "FAIL tty_test: $(tail -1 "$T/tty")" >>"$T/tty"
    while read -r word rest; do
        case "$word" in
        ok) ok "$rest" ;;
        FAIL) fail "${rest%%:*}" "${rest#*:}" ;;
        esac
    done <"$T/tty"
else
    skip tty "no python3"
fi

# --- doctor ------------------------------------------------------------------
"$D" doctor >"$T/out" 2>"$T/err"
[ $? = 0 ] && grep -q 'engine auto takes' "$T/out" && grep -q 'seccomp' "$T/out" && ok doctor || fail doctor "$(cat "$T/err")"
"$D" doctor --json >"$T/out" 2>"$T/err"
if command -v python3 >/dev/null; then
    python3 -m json.tool <"$T/out" >/dev/null 2>"$T/err" && ok doctor_json || fail doctor_json "$(cat "$T/err")"
else
    skip doctor_json "no python3"
fi
"$D" doctor --jsn >"$T/out" 2>"$T/err"
status=$?
expect doctor_unknown 125 'did you mean --json?'

# --- install -----------------------------------------------------------------
if [ -x "$O/doppel" ] && [ -f "$ROOT/o/guest/vmlinuz" ]; then
    # Only what is built already: others may be at work on the rest.
    make -s -C "$ROOT" O="$DIR" install-built DESTDIR="$T/dest" PREFIX=/pre >"$T/err" 2>&1
    [ -x "$T/dest/pre/bin/doppel" ] && [ -f "$T/dest/pre/share/doppel/vmlinuz" ] &&
        [ -f "$T/dest/pre/share/man/man1/doppel.1" ] && ok install || fail install "$(cat "$T/err")"
    cp "$D" "$T/dest/pre/bin/doppel"
    timeout 5 "$T/dest/pre/bin/doppel" run --verbose >/dev/null 2>"$T/err" </dev/null
    grep -q "kernel .*share/doppel/vmlinuz" "$T/err" && ok installed_guest_found || fail installed_guest_found "$(cat "$T/err")"
else
    skip install "no doppel or no default guest is built"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
