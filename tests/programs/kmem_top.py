#!/usr/bin/env python3
"""kmem top: on a terminal that this test plays, of several sizes, key by key; and as text."""
import fcntl
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import unittest

BUILD = pathlib.Path(os.environ["KMEM_BUILD_DIR"])
KMEM = str(BUILD / "bin/kmem")
CLEAN = {name: value for name, value in os.environ.items() if name not in ("KMEM_CMDLINE", "LD_PRELOAD", "COLUMNS", "LINES")}
HOLDER = """
import sys, time
held = [bytes(5000) for _ in range(int(sys.argv[1]) * 200)]
print("ready", flush=True)
while len(sys.argv) > 2:
    more = [bytes(700) for _ in range(2000)]
    time.sleep(0.002)
sys.stdin.read()
"""
ESCAPE = re.compile(rb"\x1b(?:\[([?>=!]?)([0-9;]*)([@-~])|[()][A-Za-z0-9]|[=>78M])")


class Screen:
    """As much of a terminal as ncurses uses for TERM=vt100 and xterm."""

    def __init__(self, width, height):
        self.row = self.column = 0
        self.reverse = False
        self.rest = b""
        self.resize(width, height)

    def resize(self, width, height):
        self.width, self.height = width, height
        self.cells = [[(" ", False)] * width for _ in range(height)]
        self.row = self.column = 0
        self.top, self.bottom = 0, height - 1  # of the region that scrolls

    def scroll(self, first, last, lines):
        """Moves the lines of a region up, or down if `lines` is negative."""
        for _ in range(abs(lines)):
            del self.cells[first if lines > 0 else last]
            self.cells.insert(last if lines > 0 else first, [(" ", False)] * self.width)

    def put(self, character):
        if self.column >= self.width:
            self.column, self.row = 0, min(self.row + 1, self.height - 1)
        self.cells[self.row][self.column] = (character, self.reverse)
        self.last = character
        self.column += 1

    def clear(self, row, first, last):
        for column in range(first, min(last, self.width)):
            self.cells[row][column] = (" ", False)

    def sequence(self, private, numbers, final):
        n = [int(each) if each else 0 for each in numbers.split(b";")]
        one = max(n[0], 1)
        if private:
            return
        if final == b"H":
            self.row = min(one, self.height) - 1
            self.column = min(max(n[1] if len(n) > 1 else 1, 1), self.width) - 1
        elif final == b"J":
            if n[0] == 2:
                rows, first = range(self.height), 0
            else:
                rows, first = range(self.row, self.height), self.column
            for row in rows:
                self.clear(row, first if row == self.row and n[0] != 2 else 0, self.width)
        elif final == b"K":
            self.clear(self.row, 0 if n[0] else self.column, self.column + 1 if n[0] == 1 else self.width)
        elif final in b"ABCD":
            down, right = {b"A": (-one, 0), b"B": (one, 0), b"C": (0, one), b"D": (0, -one)}[final]
            self.row = min(max(self.row + down, 0), self.height - 1)
            self.column = min(max(self.column + right, 0), self.width - 1)
        elif final == b"d":
            self.row = min(one, self.height) - 1
        elif final == b"G":
            self.column = min(one, self.width) - 1
        elif final == b"X":
            self.clear(self.row, self.column, self.column + one)
        elif final == b"P":
            line = self.cells[self.row]
            del line[self.column:self.column + one]
            line.extend([(" ", False)] * (self.width - len(line)))
        elif final == b"@":
            self.cells[self.row][self.column:self.column] = [(" ", False)] * one
            del self.cells[self.row][self.width:]
        elif final in (b"L", b"M"):
            self.scroll(self.row, self.bottom, one if final == b"M" else -one)
        elif final in (b"S", b"T"):
            self.scroll(self.top, self.bottom, one if final == b"S" else -one)
        elif final == b"r":
            self.top, self.bottom = one - 1, (n[1] if len(n) > 1 and n[1] else self.height) - 1
            self.row = self.column = 0
        elif final == b"b":
            for _ in range(one):
                self.put(self.last)
        elif final == b"m":
            for number in n:
                if number == 7:
                    self.reverse = True
                elif number in (0, 27):
                    self.reverse = False
        elif final not in (b"h", b"l", b"t"):
            raise AssertionError(f"the terminal of this test does not know {private, numbers, final}")

    def feed(self, data):
        data = self.rest + data
        at = 0
        while at < len(data):
            byte = data[at:at + 1]
            if byte == b"\x1b":
                found = ESCAPE.match(data, at)
                if not found:
                    if len(data) - at > 40:
                        raise AssertionError(f"not understood: {data[at:at + 40]}")
                    break
                if found[3]:
                    self.sequence(found[1], found[2], found[3])
                elif found[0] == b"\x1bM":
                    if self.row == self.top:
                        self.scroll(self.top, self.bottom, -1)
                    else:
                        self.row = max(self.row - 1, 0)
                at = found.end()
                continue
            if byte == b"\r":
                self.column = 0
            elif byte == b"\n":
                if self.row == self.bottom:
                    self.scroll(self.top, self.bottom, 1)
                else:
                    self.row = min(self.row + 1, self.height - 1)
            elif byte == b"\b":
                self.column = max(self.column - 1, 0)
            elif byte == b"\t":
                self.column = min((self.column // 8 + 1) * 8, self.width - 1)
            elif byte >= b" ":
                self.put(byte.decode("latin-1"))
            at += 1
        self.rest = data[at:]

    def lines(self):
        return ["".join(character for character, _ in row).rstrip() for row in self.cells]

    def reversed_lines(self):
        return [line for line, row in zip(self.lines(), self.cells) if row[0][1]]


class Terminal:
    """kmem top on a terminal of its own."""

    def __init__(self, width, height, *arguments, term="xterm"):
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            set_size(0, width, height)
            os.execve(KMEM, [KMEM, "top", *arguments], dict(CLEAN, TERM=term, LANG="C.UTF-8", LC_ALL="C.UTF-8"))
        self.screen = Screen(width, height)
        self.status = None

    def resize(self, width, height):
        set_size(self.descriptor, width, height)
        self.screen.resize(width, height)
        os.kill(self.pid, signal.SIGWINCH)

    def press(self, keys):
        os.write(self.descriptor, keys)

    def read(self, seconds):
        if not select.select([self.descriptor], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:
            return False
        self.screen.feed(data)
        return bool(data)

    def until(self, condition, what):
        end = time.monotonic() + 60
        while not condition(self.screen.lines()):
            if time.monotonic() > end:
                raise AssertionError(f"{what} did not come; the screen is\n" + "\n".join(self.screen.lines()))
            self.read(0.1)

    def until_text(self, text):
        self.until(lambda lines: any(text in line for line in lines), repr(text))

    def alive(self):
        return self.end_status(block=False) is None

    def end_status(self, block=True):
        if self.status is None:
            while block and self.read(0.1):
                pass
            pid, status = os.waitpid(self.pid, 0 if block else os.WNOHANG)
            self.status = status if pid else None
        return self.status

    def close(self):
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.descriptor)


def set_size(descriptor, width, height):
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


class Top(unittest.TestCase):
    def hold(self, mib, *more, mem="256M"):
        command = [KMEM, "run", "--mem", mem, sys.executable, "-c", HOLDER, str(mib), *more]
        process = subprocess.Popen(command, env=CLEAN, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def end():
            process.kill()
            process.communicate()

        self.addCleanup(end)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def open(self, width, height, *arguments, **how):
        terminal = Terminal(width, height, *arguments, **how)
        self.addCleanup(terminal.close)
        return terminal

    def row_of(self, lines, pid):
        rows = [line for line in lines if line.split()[:1] == [str(pid)]]
        return rows[0].split() if rows else None

    def test_the_screen_of_80_by_24(self):
        small, large = self.hold(5), self.hold(40)
        for term in ("xterm", "vt100", "linux"):
            terminal = self.open(80, 24, "-d", "0.2", "--pid", str(small.pid), "--pid", str(large.pid), term=term)
            terminal.until_text("q leave")
            terminal.until_text(str(small.pid))
            lines = terminal.screen.lines()
            self.assertRegex(lines[0], r"^kmem top - \d\d:\d\d:\d\d  2 processes, .*M charged of 512M, every 0.2 s$")
            self.assertEqual(lines[1].split(), "PID BUDGET charged USE% LIVE RESERVE NULLS REFILL/s PAGE/s COMMAND".split())
            self.assertIn("q leave", lines[23])
            rows = [self.row_of(lines, pid) for pid in (large.pid, small.pid)]
            self.assertEqual([self.row_of(lines[2:3], large.pid), self.row_of(lines[3:4], small.pid)], rows)  # the larger one first
            self.assertEqual(rows[0][1], "256M")
            self.assertRegex(rows[0][2], r"^4\d\.\dM$")
            self.assertTrue(15 < float(rows[0][3]) < 20, rows[0])
            self.assertEqual(len(terminal.screen.reversed_lines()), 2)  # the header and the selected row
            self.assertEqual(self.row_of(terminal.screen.reversed_lines(), large.pid), rows[0])
            terminal.press(b"q")
            self.assertEqual(terminal.end_status(), 0)

    def test_keys(self):
        small, large = self.hold(5), self.hold(40, mem="512M")
        terminal = self.open(80, 24, "-d", "0.2", "--pid", str(small.pid), "--pid", str(large.pid))
        terminal.until(lambda _: self.row_of(terminal.screen.reversed_lines(), large.pid), "the selection of the first row")
        terminal.press(b"\x1bOB")  # down
        terminal.until(lambda _: self.row_of(terminal.screen.reversed_lines(), small.pid), "the selection of the second row")
        terminal.press(b"r")
        first = lambda pid: lambda lines: lines[2].split()[:1] == [str(pid)]  # noqa: E731
        terminal.until(first(small.pid), "the other order")
        self.assertTrue(self.row_of(terminal.screen.reversed_lines(), small.pid), "the selection follows the process")
        terminal.press(b"r")
        terminal.until(first(large.pid), "the order as it was")
        for key, heading, top in ((b"p", "pid", small.pid), (b"b", "budget", large.pid), (b">", "charged", large.pid),
                                  (b"u", "use%", large.pid),
                                  (b"<", "charged", large.pid)):
            terminal.press(key)
            terminal.until_text(heading)
            terminal.until(first(top), f"the order by {heading}")
        terminal.press(b"\r")
        terminal.until_text("IN ARRAY")
        terminal.until_text("kmalloc-")
        terminal.until_text(f"caches of {small.pid}")
        terminal.press(b"\x1bOB\x1b[6~\x1b[5~")
        terminal.press(b"\x1b")
        terminal.until_text("PAGE/s")
        terminal.press(b"h")
        terminal.until_text("the other way round")
        terminal.press(b"h")
        terminal.until_text("BUDGET")
        terminal.press(b"s7x\x7f.5\r")
        terminal.until_text("every 7.5 s")
        terminal.press(b"sx\r")
        terminal.until_text("'x' is no number of seconds")
        terminal.press(b"d0.2\r")
        terminal.until_text("every 0.2 s")
        large.kill()
        large.wait()
        terminal.until(lambda lines: not self.row_of(lines, large.pid) and self.row_of(lines[2:3], small.pid), "the end of a process")
        terminal.press(b"\x1b")
        self.assertEqual(terminal.end_status(), 0)

    def test_sizes(self):
        holder = self.hold(5)
        terminal = self.open(80, 24, "-d", "0.2", "--pid", str(holder.pid))
        terminal.until_text(str(holder.pid))
        for width, height in ((40, 10), (20, 4), (20, 3), (12, 2), (5, 1), (1, 1), (2, 30), (300, 60), (80, 24)):
            terminal.resize(width, height)
            if width >= 8:
                terminal.until(lambda lines: lines[0].startswith("kmem top"[:width]), f"a title of {width} columns")
            if width >= 8 and height >= 3:
                terminal.until(lambda lines: str(holder.pid) in lines[2], f"a row on {height} lines")
            for key in (b"\r", b"h", b"h", b"\r", b"\x1bOB", b"\x1b[6~", b"s", b"\r"):
                terminal.press(key)
                terminal.read(0.05)
            self.assertTrue(terminal.alive(), (width, height))
        terminal.until_text("every 0.2 s")
        terminal.press(b"q")
        self.assertEqual(terminal.end_status(), 0)
        for width, height in ((1, 1), (3, 2), (79, 5)):
            terminal = self.open(width, height, "-d", "0.1", "-n", "3")
            self.assertEqual(terminal.end_status(), 0)

    def test_the_terminal_is_left_as_it_was(self):
        for key in (b"q", b"\x03", b"\x1b[21~"):
            leader, descriptor = pty.fork()
            if leader == 0:
                before = termios.tcgetattr(0)
                print("begin", flush=True)
                status = subprocess.call([KMEM, "top", "-d", "0.1"], env=dict(CLEAN, TERM="xterm"))
                print("status", status, termios.tcgetattr(0) == before, "end", flush=True)
                os._exit(0)
            text, pressed = b"", False
            end = time.monotonic() + 60
            while b" end" not in text and time.monotonic() < end:
                if select.select([descriptor], [], [], 0.1)[0]:
                    text += os.read(descriptor, 65536)
                if not pressed and b"kmem top - " in text:
                    os.write(descriptor, key)
                    pressed = True
            self.assertIn(b"status 0 True", text)
            os.waitpid(leader, 0)
            os.close(descriptor)

    def test_no_process(self):
        terminal = self.open(80, 24, "--pid", "1", "-d", "0.2")
        terminal.until_text("no process shows its figures")
        terminal.press(b"\r\x1bOA\x1bOB")
        terminal.read(0.2)
        self.assertTrue(terminal.alive())

    def top(self, *arguments, **how):
        return subprocess.run([KMEM, "top", *arguments], capture_output=True, text=True, timeout=100, check=False, env=CLEAN, **how)

    def test_batch(self):
        resting, busy = self.hold(30), self.hold(1, "busy")
        pids = ("--pid", str(resting.pid), "--pid", str(busy.pid))
        done = self.top("--once", *pids)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        self.assertEqual(len(lines), 4, done.stdout)
        self.assertEqual(self.row_of(lines, resting.pid)[7:9], ["-", "-"])  # one look knows no rates
        self.assertIn(HOLDER.strip().splitlines()[0], lines[2])
        done = self.top("-b", "-n", "3", "-d", "0.5", *pids)
        last = done.stdout.split("\n\n")[2].splitlines()
        self.assertEqual(self.row_of(last, resting.pid)[7:9], ["0", "0"])
        refills = self.row_of(last, busy.pid)[7]
        self.assertRegex(refills, r"^[0-9.]+k?$")
        self.assertNotEqual(refills, "0")
        done = self.top("--once", "--sort", "pid", "--reverse", *pids)
        order = [line.split()[0] for line in done.stdout.splitlines()[2:]]
        self.assertEqual(order, sorted(order, key=int, reverse=True))

    def test_what_cannot_be(self):
        for arguments, text in ((("--sort", "nonsense", "-b"), "there are pid budget"), ((), "--batch prints"), (("-d", "0"), "--delay"),
                                (("-n", "0"), "--iterations"), (("--pid", "x"), "--pid")):
            done = self.top(*arguments, stdin=subprocess.DEVNULL)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(text, done.stderr)
        terminal = self.open(80, 24, term="no-such-terminal")
        terminal.until(lambda lines: "cannot be drawn on" in " ".join(lines), "the refusal")
        self.assertEqual(os.waitstatus_to_exitcode(terminal.end_status()), 2)


if __name__ == "__main__":
    unittest.main()
