#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Block records of --dump-block, as text with both sides disassembled.

    doppel run --engine bt --dump-block ADDRESS --dump-to FILE ...
    tools/btdump.py FILE [ADDRESS...]

Guest instructions come with the flags that are live before each, host ones
with the guest address that they belong to, and with the block's sites.
"""
import re
import subprocess
import sys
import tempfile


class Block:
    def __init__(self, head):
        for key, value in re.findall(r"(\w+)=(\S*)", head):
            setattr(self, key, value)
        self.va = int(self.va, 16)
        self.hot_at, self.hot_len = (int(x, 16) for x in self.hot.split(":"))
        self.cold_at, self.cold_len = (int(x, 16) for x in self.cold.split(":"))
        self.guest, self.map, self.sites = [], {}, []
        self.bytes = {"hot": "", "cold": ""}


def read(path, only=None):
    """Blocks whose address is in @only (None: all), in order of translation.
    Other lines (a console's, when records went to stderr) are left out."""
    out, b = [], None
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith("block va="):
                b = Block(line)
                if only is not None and b.va not in only:
                    b = None
                continue
            if b is None:
                continue
            word = line.split()
            if not word:
                continue
            if word[0] == "guest":
                b.guest.append((int(word[1], 16), word[2][4:], word[3][5:],
                                word[4]))
            elif word[0] == "map":
                b.map[int(word[1], 16)] = int(word[2], 16)
            elif word[0] == "site":
                b.sites.append(line.strip())
            elif word[0] in b.bytes:
                b.bytes[word[0]] = word[1] if len(word) > 1 else ""
            elif word[0] == "end":
                out.append(b)
                b = None
    return out


def disassemble(data, at):
    """(address, text) of each instruction; hex when there is no objdump."""
    with tempfile.NamedTemporaryFile() as f:
        f.write(data)
        f.flush()
        try:
            text = subprocess.run(
                ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "-M",
                 "intel", "--insn-width=16", f"--adjust-vma={at:#x}", f.name],
                capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return [(at, data.hex())]
    out = []
    for line in text.splitlines():
        m = re.match(r"^\s*([0-9a-f]+):\t([0-9a-f ]+)\t?(.*)$", line)
        if m:
            out.append((int(m[1], 16), m[3]))
    return out


def show(b, counts=None):
    counts = counts or {}
    total = sum(counts.values())
    mine = sum(n for ip, n in counts.items()
               if b.hot_at <= ip < b.hot_at + b.hot_len or
               b.cold_at <= ip < b.cold_at + b.cold_len)
    nbytes = sum(len(g[3]) // 2 for g in b.guest)
    print(f"\n== {b.va:x} {b.name} mode {b.mode} vcpu {b.vcpu}: "
          f"{len(b.guest)} instructions, {nbytes} bytes; "
          f"hot {b.hot_len}, cold {b.cold_len} bytes" +
          (f"; {mine} samples, {100 * mine / total:.2f} % of translated code's"
           if total else ""))
    text = {}
    for va, how, live, data in b.guest:
        text[va] = disassemble(bytes.fromhex(data), va)[0][1]
        print(f"   guest {va:x}  live {live:6} how {how:2} {text[va]}")
    for s in reversed(b.sites):
        print(f"   {s}")
    for part, at in (("hot", b.hot_at), ("cold", b.cold_at)):
        if not b.bytes[part]:
            continue
        print(f"   -- {part}")
        for ip, insn in disassemble(bytes.fromhex(b.bytes[part]), at):
            if ip in b.map:
                va = b.map[ip]
                print(f"                 ; {va:x} {text.get(va, '')}")
            n = counts.get(ip, 0)
            print(f"   {n or '':>7} {ip:x}  {insn}")


def show_hottest(blocks, counts, top):
    last = {b.hot_at: b for b in blocks}  # of those at one place, the last

    def weight(b):
        return sum(n for ip, n in counts.items()
                   if b.hot_at <= ip < b.hot_at + b.hot_len or
                   b.cold_at <= ip < b.cold_at + b.cold_len)
    weights = {at: weight(b) for at, b in last.items()}
    for at in sorted(weights, key=weights.get, reverse=True)[:top]:
        show(last[at], counts)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    wanted = {int(a, 16) for a in sys.argv[2:]} or None
    for block in read(sys.argv[1], wanted):
        show(block)
