#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where the time of a guest under --engine bt goes, by perf's samples.

    tools/bt-prof.py [OPTION]... -- DOPPEL-RUN-ARGUMENTS

runs `./doppel run --engine bt --perf-map ARGUMENTS` under `perf record` and
prints: shares by kind of code (translated hot and cold code, the gates, C by
source file, the interpreter, the host's kernel), then the top guest blocks,
guest symbols and host functions. With --row NAME only what lies between the
console lines `begin NAME` and `end NAME` counts (bench/suite prints them).
--annotate N shows the N hottest blocks with samples at each host instruction.
docs/translator.md, "Looking at it", has examples.
"""
import argparse
import bisect
import collections
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import btdump

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def options():
    p = argparse.ArgumentParser(usage="%(prog)s [options] -- RUN-ARGUMENTS")
    p.add_argument("--doppel", default=os.path.join(TOP, "doppel"))
    p.add_argument("--symbols", help="System.map or /proc/kallsyms of the "
                   "guest; auto: the default guest's, asked for once")
    p.add_argument("--row", help="count between `begin ROW` and `end ROW` only")
    p.add_argument("--after", type=float, default=0,
                   help="leave the first SECONDS out")
    p.add_argument("--freq", type=int, default=3000)
    p.add_argument("--top", type=int, default=25)
    p.add_argument("--annotate", type=int, default=0, metavar="N")
    p.add_argument("--engine", default="bt")
    p.add_argument("--show", action="store_true", help="show the console")
    p.add_argument("args", nargs="+")
    return p.parse_args()


def guest_symbols(doppel):
    """What the default guest's kernel says of itself, kept beside it."""
    kernel = os.path.join(TOP, "o/guest/vmlinuz")
    path = os.path.join(TOP, "o/guest/kallsyms")
    if os.path.exists(path) and \
            os.path.getmtime(path) > os.path.getmtime(kernel):
        return path
    out = subprocess.run(
        [doppel, "run", "--engine", "bt", "--append", "nokaslr doppel.exec="
         '"echo 0 >/proc/sys/kernel/kptr_restrict; cat /proc/kallsyms"'],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        errors="replace", check=True).stdout
    with open(path, "w", encoding="utf-8") as f:
        for line in out.splitlines():
            if re.match(r"[0-9a-f]{16} \w ", line):
                f.write(line.rstrip() + "\n")
    return path


def run(o, data, dump):
    """Return: the stretches of monotonic time that count."""
    cmd = ["perf", "record", "-q", "-k", "mono", "-e", "cpu-clock", "-F",
           str(o.freq), "-o", data, "--", o.doppel, "run", "--engine",
           o.engine, "--perf-map"]
    if o.symbols:
        cmd += ["--symbols", o.symbols]
    if o.annotate:
        cmd += ["--dump-block", "all", "--dump-to", dump]
    start = time.monotonic()
    p = subprocess.Popen(cmd + o.args, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True, errors="replace",
                         bufsize=1)
    spans, begin = [], None
    for line in p.stdout:
        if o.show:
            sys.stderr.write(line)
        word = line.split()
        if o.row and word[:2] == ["begin", o.row]:
            begin = time.monotonic()
        elif o.row and word[:2] == ["end", o.row] and begin:
            spans.append((begin, time.monotonic()))
            print(line.strip())
    p.wait()
    if o.row and not spans:
        sys.exit(f"the console had no `begin {o.row}` ... `end {o.row}`")
    return spans or [(start + o.after, time.monotonic())]


LINE = re.compile(r"^\s*(.*?)\s+(\d+)/(\d+)\s+([\d.]+):\s+([0-9a-f]+)\s+"
                  r"(.*) \((.*)\)$")


def samples(data, spans):
    """(pid, thread's name, ip, symbol, dso) of what lies in the spans"""
    p = subprocess.Popen(["perf", "script", "-i", data, "-F",
                          "comm,pid,tid,time,ip,sym,dso", "--ns"],
                         stdout=subprocess.PIPE, text=True, errors="replace",
                         stderr=subprocess.DEVNULL)
    for line in p.stdout:
        m = LINE.match(line)
        if not m:
            continue
        at = float(m[4])
        if any(a <= at <= b for a, b in spans):
            yield int(m[2]), m[1], int(m[5], 16), m[6], m[7]
    p.wait()


class Map:
    """A perf map. Code memory is used again after a flush: of lines that
    overlap, the last counts."""

    def __init__(self, pid):
        self.starts, self.at = [], {}
        try:
            with open(f"/tmp/perf-{pid}.map", encoding="utf-8") as f:
                lines = f.readlines()
        except OSError:
            return
        for line in reversed(lines):
            start, size, name = line.rstrip("\n").split(" ", 2)
            start, end = int(start, 16), int(start, 16) + int(size, 16)
            i = bisect.bisect_left(self.starts, start)
            if (i < len(self.starts) and self.starts[i] < end) or \
                    (i and self.at[self.starts[i - 1]][0] > start):
                continue
            self.starts.insert(i, start)
            self.at[start] = (end, name)

    def find(self, ip):
        i = bisect.bisect_right(self.starts, ip) - 1
        if i < 0:
            return None
        end, name = self.at[self.starts[i]]
        return (self.starts[i], name) if ip < end else None


def source_files(binary):
    """Where each function of the binary was defined."""
    out = {}
    nm = subprocess.run(["nm", "-l", binary], capture_output=True, text=True,
                        check=False).stdout
    for line in nm.splitlines():
        word = line.split(None, 2)
        if len(word) == 3 and "\t" in word[2]:
            name, path = word[2].split("\t", 1)
            out[name] = path.rsplit(":", 1)[0].split("/src/", 1)[-1]
    return out


KINDS = [  # the first that fits
    (r"engine/bt/(gate|sys)\.S", "gate (assembler)"),
    (r"engine/bt/(quick|vec\.S)", "quick gate's C"),
    (r"engine/bt/look\.c", "looking (perf map, records)"),
    (r"engine/bt/(front|window|access|rewrite|emit|stack|branch|string|system)",
     "translating"),
    (r"engine/bt/check", "lock-step check"),
    (r"cpu/x86/decode", "translating"),
    (r"engine/bt/(cache|tlb)", "full gate: cache and TLB"),
    (r"engine/bt/", "full gate: dispatch"),
    (r"engine/interp/", "interpreter's C"),
    (r"cpu/x86/paging", "page walks"),
    (r"cpu/x86/", "CPU model"),
    (r"(dev|vm|machine|monitor|host)/", "devices, VM"),
]


def kind_of_file(path):
    for pattern, kind in KINDS:
        if path and re.match(pattern, path):
            return kind
    return "other C"


ASM = {"bt_enter", "load", "full", "quick", "bt_fault_gate"}


def classify(sym, dso, files):
    if dso.startswith("[kernel") or dso.startswith("[guest.kernel"):
        return "host kernel"
    if os.path.basename(dso) == "doppel":
        name = re.sub(r"\.(isra|part|constprop|cold)\.?\d*", "", sym)
        if sym in ASM or sym.startswith("gate_"):
            return "gate (assembler)"
        return kind_of_file(files.get(sym) or files.get(name))
    if "libc" in dso or "ld-" in dso:
        return "libc"
    return "other"


def table(title, counter, total, top):
    print(f"\n{title}")
    for name, n in counter.most_common(top):
        print(f"  {100 * n / total:6.2f} %  {n:7}  {name}")


def main():
    o = options()
    if o.symbols == "auto":
        o.symbols = guest_symbols(o.doppel)
    tmp = tempfile.mkdtemp(prefix="bt-prof.")
    data, dump = os.path.join(tmp, "perf.data"), os.path.join(tmp, "blocks")
    spans = run(o, data, dump)
    files = source_files(o.doppel)
    maps = {}
    kinds, blocks, symbols, funcs, threads = (collections.Counter()
                                              for _ in range(5))
    ips = collections.Counter()
    total = 0
    for pid, comm, ip, sym, dso in samples(data, spans):
        total += 1
        threads[comm] += 1
        if pid not in maps:
            maps[pid] = Map(pid)
        hit = maps[pid].find(ip)
        if not hit:
            kind = classify(sym, dso, files)
            kinds[kind] += 1
            funcs[f"{sym}  [{kind}]"] += 1
            continue
        cold = hit[1].endswith(" (cold)")
        kinds["translated: cold" if cold else "translated: hot"] += 1
        name = hit[1].removesuffix(" (cold)")
        blocks[name] += 1
        va, _, guest = name.partition(" ")
        where = "kernel" if int(va, 16) >> 63 else "user"
        symbols[guest.rsplit("+", 1)[0] if guest
                else f"{where} page {int(va, 16) >> 12:x}000"] += 1
        ips[ip] += 1
    if not total:
        sys.exit("no samples")
    print(f"{total} samples at {o.freq} Hz, "
          f"{sum(b - a for a, b in spans):.2f} s")
    table("threads", threads, total, 10)
    table("kinds", kinds, total, 30)
    table("guest blocks (hot and cold)", blocks, total, o.top)
    table("guest symbols (in translated code)", symbols, total, o.top)
    table("host functions", funcs, total, o.top)
    if o.annotate:
        found = btdump.read(dump, {int(b.split()[0], 16)
                                   for b, _ in blocks.most_common(o.annotate)})
        btdump.show_hottest(found, ips, o.annotate)
    for name in (data, dump):
        if os.path.exists(name):
            os.unlink(name)
    os.rmdir(tmp)
    for pid in maps:
        if os.path.exists(f"/tmp/perf-{pid}.map"):
            os.unlink(f"/tmp/perf-{pid}.map")


main()
