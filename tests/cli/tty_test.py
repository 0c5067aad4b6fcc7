#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The terminal: raw while a guest runs, sane again however it ends, every
byte passed, its size told to the default guest only.
  tty_test.py DOPPEL-DOUBLE FOLDER"""
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
import fcntl

double, folder = sys.argv[1], sys.argv[2]


def say(name, good, why=""):
    print(f"ok {name}" if good else f"FAIL {name}: {why}", flush=True)


class Tty:
    """One doppel on a terminal of its own."""

    def __init__(self, script, *words):
        path = os.path.join(folder, "tty-script")
        with open(path, "w") as f:
            f.write(script)
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.proc = subprocess.Popen(
            [double, "run", "-k", path, *words],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def mode(self):
        return termios.tcgetattr(self.slave)

    def is_raw(self):
        iflag, oflag, _, lflag = self.mode()[:4]
        return (not lflag & (termios.ICANON | termios.ECHO | termios.ISIG)
                and not oflag & termios.OPOST and not iflag & termios.ICRNL)

    def wait_raw(self):
        for _ in range(100):
            if self.is_raw():
                return True
            time.sleep(0.02)
        return False

    def sane(self):
        return self.mode() == self.before


def ends(name, script, act=None, status=None):
    t = Tty(script)
    raw = t.wait_raw()
    if act:
        time.sleep(0.2)
        act(t)
    got = t.proc.wait(timeout=20)
    say(name, raw and t.sane() and (status is None or got == status),
        f"raw {raw}, sane {t.sane()}, status {got}")


def monitor_of(t):
    with open(f"/proc/{t.proc.pid}/task/{t.proc.pid}/children") as f:
        return int(f.read().split()[0])


ends("tty_sane_after_poweroff", "sleep 400\npoweroff\n", status=0)
ends("tty_sane_after_failure", "sleep 400\nfail x\n", status=125)
ends("tty_sane_after_crash", "sleep 400\nsegv\n", status=125)
ends("tty_sane_after_term", "deaf\nsleep 20000\n",
     lambda t: [t.proc.send_signal(signal.SIGTERM), time.sleep(0.3),
                t.proc.send_signal(signal.SIGTERM)], 143)
ends("tty_sane_after_hangup", "sleep 20000\n",
     lambda t: t.proc.send_signal(signal.SIGHUP), 0)
ends("tty_sane_after_quit_signal", "sleep 20000\n",
     lambda t: t.proc.send_signal(signal.SIGQUIT), 0)
ends("tty_sane_after_monitor_was_killed", "hang\n",
     lambda t: os.kill(monitor_of(t), signal.SIGKILL), 125)

# Ctrl-C and friends are bytes; nothing is echoed or altered.
t = Tty("cat\n")
t.wait_raw()
keys = bytes(range(256))
got = b""
for i in range(0, 256, 32):
    os.write(t.master, keys[i:i + 32])
    while len(got) < i + 32:
        got += os.read(t.master, 4096)
say("tty_every_byte", got == keys, repr(got)[:200])
t.proc.kill()
t.proc.wait()

# 64 KiB pasted while the guest takes its time.
t = Tty("sleep 300\ncat\n")
t.wait_raw()
blob = os.urandom(65536)
os.set_blocking(t.master, False)
sent, got = 0, b""
deadline = time.time() + 20
while len(got) < len(blob) and time.time() < deadline:
    try:
        sent += os.write(t.master, blob[sent:sent + 512])
    except BlockingIOError:
        pass
    try:
        got += os.read(t.master, 65536)
    except BlockingIOError:
        time.sleep(0.001)
say("tty_paste_64k", got == blob, f"{len(got)} of {len(blob)} bytes came back")
t.proc.kill()
t.proc.wait()

# With -k the command line is the user's alone.
t = Tty("conf\npoweroff\n", "--append", "mine")
t.proc.wait(timeout=20)
time.sleep(0.1)
out = os.read(t.master, 65536)
say("tty_append_is_all", b"cmdline=mine\n" in out and b"flags=8 " in out, repr(out))
