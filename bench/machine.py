"""Processes, services and the machine, for bench/run. Standard library only, and Linux."""
import os
import platform
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlparse

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """Says what did not work."""


def cpu_seconds(pid):
    """User and system time of a process and all its threads so far; nothing for a process that is not here."""
    if pid is None:
        return None
    # The name in parentheses may hold spaces; after it utime and stime are the 12th and 13th fields.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def since(before, after):
    return None if before is None or after is None else after - before


class Process:
    """A child whose output goes to a file, whose memory is watched and whose CPU is known to the end."""

    def __init__(self, command, log, env=None):
        self.name, self.log = Path(command[0]).name, log
        self.began = time.time()
        with open(log, "wb") as out:
            self.child = subprocess.Popen(
                [str(part) for part in command], stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})})
        self.peak_mb, self.cpu_s, self.code = 0.0, None, None

    def poll(self):
        """Whether it still runs."""
        if self.code is not None:
            return False
        try:
            status = Path(f"/proc/{self.child.pid}/status").read_text()
            self.peak_mb = max(self.peak_mb, int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024)
        except (OSError, TypeError):
            pass  # it is gone, and its last figure stays
        pid, status, usage = os.wait4(self.child.pid, os.WNOHANG)
        if pid == 0:
            return True
        self.ended = time.time()
        self.code = self.child.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s = usage.ru_utime + usage.ru_stime
        return False

    def wait(self, limit_s):
        deadline = time.monotonic() + limit_s
        while self.poll():
            if time.monotonic() > deadline:
                self.end(signal.SIGKILL)
                raise Failed(f"{self.name} took more than {limit_s} s; it said:\n{self.tail()}")
            time.sleep(0.05)
        if self.code != 0:
            raise Failed(f"{self.name} ended with {self.code}; it said:\n{self.tail()}")
        return self

    def end(self, how=signal.SIGTERM):
        if self.poll():
            self.child.send_signal(how)
            deadline = time.monotonic() + 30
            while self.poll() and time.monotonic() < deadline:
                time.sleep(0.05)
            if self.poll():
                self.child.kill()
                while self.poll():
                    time.sleep(0.05)

    def text(self):
        return Path(self.log).read_text(errors="replace")

    def tail(self):
        return "\n".join(self.text().splitlines()[-20:])


class Redis:
    """As much of the protocol as a benchmark asks."""

    def __init__(self, url):
        parts = urlparse(url)
        self.address = (parts.hostname, parts.port or 6379)
        self.password = parts.password

    def ask(self, *words):
        with socket.create_connection(self.address, 30) as connection:
            stream = connection.makefile("rwb")
            if self.password:
                self._ask(stream, "AUTH", self.password)
            return self._ask(stream, *words)

    @staticmethod
    def _ask(stream, *words):
        stream.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words))
        stream.flush()
        line = stream.readline().rstrip()
        if line.startswith(b"-"):
            raise Failed(f"Redis said {line[1:].decode()}")
        if line.startswith(b"$"):
            return stream.read(int(line[1:]) + 2)[:-2].decode()
        return line[1:].decode()

    def info(self, field):
        return re.search(rf"^{field}:(.*?)\r?$", self.ask("INFO"), re.M)[1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def said(*command):
    """The first line of what a program says of itself, or nothing where it is not here."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return (done.stdout + done.stderr).strip().splitlines()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return None


def description():
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 2**20
    load = os.getloadavg()[0]
    return (f"{len(os.sched_getaffinity(0))} cores of {model[1] if model else platform.machine()}, {memory:.0f} GB, "
            f"Linux {platform.release()}; load before: {load:.1f}")
