#!/usr/bin/env python3
"""kmem run: budget, environment, exit status and signals of the program, job control, last figures, and what it refuses to run."""
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = pathlib.Path(os.environ["KMEM_BUILD_DIR"])
KMEM = str(BUILD / "bin/kmem")
LIBRARY = os.path.realpath(BUILD / "lib/libkmem-malloc.so")
CLEAN = {name: value for name, value in os.environ.items() if name not in ("KMEM_CMDLINE", "LD_PRELOAD")}
# Both ways: kmem becomes the program, or is its parent.
WAYS = ((), ("--json", "/dev/null"))

CATCHER = r"""
import os, signal, sys, time
got = []
for number in (1, 2, 3, 10, 12, 15, 20, 28, 34, 64):
    signal.signal(number, lambda n, frame: got.append(n))
print("ready", flush=True)
while len(got) < int(sys.argv[1]):
    time.sleep(0.01)
print(*got, flush=True)
"""


def run(*arguments, **how):
    how.setdefault("env", CLEAN)
    return subprocess.run([KMEM, "run", *arguments], capture_output=True, text=True, timeout=200, check=False, **how)


def python(code, *arguments):
    return ("--", sys.executable, "-c", code, *arguments)


def read_stat(path):
    try:
        return path.read_text()
    except OSError:
        return "() gone 0 0"


def left_behind():
    """Segments that nobody is attached to. Other tests run at the same time, and theirs are in use."""
    lines = [line.split() for line in pathlib.Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return [line for line in lines if line[3] == "262144" and line[6] == "0"]


class Run(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o755)
        self.folder = pathlib.Path(folder.name)

    def compile(self, name, source, *options):
        path = self.folder / name
        (self.folder / "source.c").write_text(source)
        subprocess.run(["cc", "-w", "-O1", str(self.folder / "source.c"), "-o", str(path), *options], check=True)
        return path

    def test_the_program_gets_its_budget_and_environment(self):
        show = "import os; print(os.environ['LD_PRELOAD'], os.environ['KMEM_CMDLINE'], sep='|')"
        for way in WAYS[:1]:
            done = run("--mem", "64M", "--param", "vm.alloc_wait_ms=5", "--param", "cgroup=0", *way, *python(show))
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual(done.stdout, f"{LIBRARY}|mem=64M vm.alloc_wait_ms=5 cgroup=0\n")
        other = shutil.which("true")
        self.assertIsNotNone(other)
        done = run(*python(show), env=dict(CLEAN, LD_PRELOAD="libm.so.6", KMEM_CMDLINE="mem=32M"))
        self.assertEqual(done.stdout, f"{LIBRARY}:libm.so.6|mem=32M\n")
        hungry = "x = []\ntry:\n  while True: x.append(bytes(1 << 20))\nexcept MemoryError: print(40 < len(x) < 64)"
        for way in WAYS:
            self.assertEqual(run("--mem", "64M", *way, *python(hungry)).stdout, "True\n")

    def test_arguments_reach_the_program_as_they_are(self):
        show = "import sys; print(sys.argv[1:])"
        for way in WAYS:
            self.assertEqual(run(*way, *python(show, "--mem", "", "a b", "--", "-h")).stdout, "['--mem', '', 'a b', '--', '-h']\n")
            self.assertEqual(run(*way, sys.executable, "-c", show, "--json").stdout, "['--json']\n")  # without --
        self.assertEqual(run("--mem=64M", "--", "echo", "--").stdout, "--\n")

    def test_exit_status_and_signals_are_the_programs(self):
        for way in WAYS:
            for status in (0, 1, 3, 77, 255):
                self.assertEqual(run(*way, *python(f"raise SystemExit({status})")).returncode, status)
            for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGINT, signal.SIGRTMIN + 3):
                code = (f"import os, signal\nif {int(number)} != 9: signal.signal({int(number)}, signal.SIG_DFL)\n"
                        f"os.kill(os.getpid(), {int(number)})")
                self.assertEqual(run(*way, *python(code)).returncode, -number, number)

    def test_signals_are_sent_on(self):
        for way in WAYS:
            numbers = (1, 2, 3, 10, 12, 15, 20, 28, 34, 64)
            command = [KMEM, "run", *way, *python(CATCHER, str(len(numbers)))]
            process = subprocess.Popen(command, env=CLEAN, stdout=subprocess.PIPE, text=True)
            self.assertEqual(process.stdout.readline(), "ready\n")
            for number in numbers:
                process.send_signal(number)
            out, _ = process.communicate(timeout=200)
            self.assertEqual((process.returncode, sorted(int(n) for n in out.split())), (0, sorted(numbers)))

    def test_signals_that_kmem_was_started_to_ignore(self):
        code = "import signal, sys; sys.exit(0 if signal.getsignal(1) == signal.SIG_IGN else 1)"
        for way in WAYS:
            self.assertEqual(run(*way, *python(code), preexec_fn=lambda: signal.signal(1, signal.SIG_IGN)).returncode, 0)

    def test_job_control_of_a_terminal(self):
        """^Z stops kmem and the program, fg continues both, ^C reaches the program once."""
        code = ("import signal, time\nn = []\nsignal.signal(2, lambda *_: n.append(1))\nprint('ready', flush=True)\n"
                "while not n: time.sleep(0.01)\ntime.sleep(0.3)\nprint('interrupted', len(n), flush=True)\n")
        for way in WAYS:
            leader, terminal = pty.fork()
            if leader == 0:
                self.be_a_shell([KMEM, "run", *way, *python(code)])
            seen = self.read_until(terminal, b"ready")
            os.write(terminal, b"\x1a")
            seen += self.read_until(terminal, b"continued 0")
            os.write(terminal, b"\x03")
            seen += self.read_until(terminal, b"status 0")
            self.assertIn(b"stopped True", seen)
            self.assertIn(b"interrupted 1", seen)
            self.assertIn(b"status 0", seen)
            os.waitpid(leader, 0)
            os.close(terminal)

    @staticmethod
    def be_a_shell(job):
        """In the leader of a terminal's session: a job in the foreground, which is continued once it has been stopped."""
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        pid = os.fork()
        os.setpgid(pid, pid or os.getpid())
        if pid == 0:
            os.tcsetpgrp(0, os.getpid())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
            os.execve(job[0], job, CLEAN)
        _, status = os.waitpid(pid, os.WUNTRACED)
        states = [line.rsplit(")", 1)[1].split()[0:3:2] for line in map(read_stat, pathlib.Path("/proc").glob("[0-9]*/stat"))]
        print("stopped", all(state == "T" for state, group in states if group == str(pid)), flush=True)
        os.tcsetpgrp(0, pid)
        os.killpg(pid, signal.SIGCONT)
        print("continued 0", flush=True)
        _, status = os.waitpid(pid, 0)
        print("status", status, flush=True)
        os._exit(0)

    def read_until(self, terminal, wanted):
        text = b""
        until = time.monotonic() + 100
        while wanted not in text and time.monotonic() < until:
            if select.select([terminal], [], [], 1)[0]:
                try:
                    text += os.read(terminal, 4096)
                except OSError:
                    break
        return text

    def test_last_figures(self):
        code = "x = bytearray(30 << 20); del x; y = bytearray(8 << 20); import os, sys; sys.exit(5)"
        file = self.folder / "figures.json"
        done = run("--mem", "64M", "--stat-on-exit", "--json", str(file), *python(code))
        self.assertEqual(done.returncode, 5)
        self.assertRegex(done.stderr, r"^kmem: exit status 5; budget 64 MiB, peak charged 3\d(\.\d+)? MiB, at the end .*; NULLs 0, .*\n$")
        found = json.loads(file.read_text())
        self.assertEqual((found["exit_status"], found["signal"]), (5, None))
        self.assertEqual(found["figures"]["budget"], 64 << 20)
        self.assertGreaterEqual(found["figures"]["charged_peak"], 30 << 20)
        self.assertIn("pgfree", found["figures"]["vmstat"])
        self.assertEqual(left_behind(), [])

    def test_last_figures_of_programs_that_end_otherwise(self):
        for end, status, words in (("os._exit(3)", 3, "exit status 3"), ("os.kill(os.getpid(), 9)", -9, "ended by signal 9 (Killed)")):
            done = run("--stat-on-exit", *python(f"import os; x = bytearray(50 << 20); {end}"))
            self.assertEqual(done.returncode, status)
            self.assertRegex(done.stderr, f"kmem: {words}".replace("(", r"\(").replace(")", r"\)") + r"; budget .* charged 5\d")
        # Neither programs before and after exec nor children leave anything.
        code = "import os, subprocess, sys; subprocess.run(['sort', '/dev/null']); os.execvp('sort', ['sort', '/dev/null'])"
        done = run("--stat-on-exit", *python(code))
        self.assertEqual(done.returncode, 0)
        self.assertIn("kmem: exit status 0; budget", done.stderr)
        self.assertEqual(left_behind(), [])
        self.assertIn("has left no figures", run("--stat-on-exit", "true").stderr)

    def test_what_cannot_be_run(self):
        plain = self.folder / "plain"
        plain.write_text("text\n")
        script = self.folder / "script"
        script.write_text("#!/nowhere/at/all\n")
        script.chmod(0o755)
        strange = self.folder / "strange"
        strange.write_bytes(b"\x7fELF\x01" + b"\0" * 100)
        strange.chmod(0o755)
        short = self.folder / "short"
        short.write_bytes(b"\x7fELF")
        short.chmod(0o755)
        words = self.folder / "words"
        words.write_text("echo hello\n")
        words.chmod(0o755)
        static = self.compile("static", "int main() { return 0; }", "-static")
        for program, status, text in (("no-such-program", 127, "there is no such program in PATH"),
                                      ("/no/such", 127, "No such file"), ("", 127, "empty"),
                                      (plain, 126, "may not be executed"), (self.folder, 126, "is a folder"),
                                      ("/dev/null", 126, "is no file"),
                                      (script, 127, "/nowhere/at/all: No such file"), (strange, 126, "is not for x86-64"),
                                      (short, 126, "too short"), (words, 126, "neither a program nor a script"),
                                      (static, 126, "is linked statically: nothing can be preloaded; link it with libkmem-malloc.a")):
            for way in WAYS:
                done = run(*way, "--", str(program))
                self.assertEqual(done.returncode, status, (program, done.stderr))
                self.assertIn(text, done.stderr)
                self.assertEqual(done.stdout, "")

    def test_wrong_options(self):
        for arguments, text in ((("--mem", "lots", "true"), "mem=lots: expected"), (("--param", "mme", "true"), "NAME=VALUE is expected"),
                                (("--param", "mem=1M x=2", "true"), "without blanks"),
                                ((), "a program is missing"), (("--",), "a program is missing"),
                                (("--param", "failslap=1,1,1,1", "true"), "did you mean failslab?"),
                                (("--json", "/no/such/folder/file", "true"), "/no/such/folder/file")):
            done = run(*arguments)
            self.assertEqual(done.returncode, 125, (arguments, done.stderr))
            self.assertIn(text, done.stderr)
        for way in WAYS:
            done = run(*way, "--nonsense", "true")
            self.assertEqual(done.returncode, 2)
            self.assertIn("--nonsense is no option of run", done.stderr)
        self.assertEqual(run("true", env=dict(CLEAN, KMEM_CMDLINE="mem=lots")).returncode, 125)

    def test_scripts_run(self):
        script = self.folder / "script.py"
        script.write_text(f"#!{sys.executable} -B\nimport sys; print(sys.argv[1:], 'kmem' in open('/proc/self/maps').read())\n")
        script.chmod(0o755)
        self.assertEqual(run("--", str(script), "a").stdout, "['a'] True\n")

    def test_programs_with_privileges_are_refused(self):
        if os.geteuid() != 0:
            done = run("--", shutil.which("su") or "/bin/su")
            self.assertEqual(done.returncode, 126)
            return
        program = self.compile("privileged", "int main() { return 0; }")
        user = {"user": 65534, "group": 65534, "extra_groups": []}
        self.assertEqual(run("--", str(program), **user).returncode, 0)
        for mode, text in ((0o4755, "is setuid"), (0o2755, "is setgid")):
            program.chmod(mode)
            done = run("--", str(program), **user)
            self.assertEqual(done.returncode, 126)
            self.assertIn(text, done.stderr)
            self.assertEqual(run("--", str(program)).returncode, 0)  # its own user gains nothing

    def test_the_library_is_found_where_kmem_is(self):
        for layout in ("lib",):
            root = self.folder / layout
            (root / "bin").mkdir(parents=True)
            (root / "lib").mkdir()
            shutil.copy(KMEM, root / "bin/kmem")
            show = [str(root / "bin/kmem"), "run", sys.executable, "-c", "import os; print(os.environ['LD_PRELOAD'])"]
            shutil.copy(LIBRARY, root / "lib/libkmem-malloc.so.0")
            done = subprocess.run(show, env=CLEAN, capture_output=True, text=True, check=False)
            self.assertEqual(done.stdout, f"{root}/lib/libkmem-malloc.so.0\n", done.stderr)
        spaced = self.folder / "a b"
        shutil.copytree(self.folder / "lib", spaced)
        done = subprocess.run([str(spaced / "bin/kmem"), "run", "true"], env=CLEAN, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 125)
        self.assertIn("blanks or colons", done.stderr)


if __name__ == "__main__":
    unittest.main()
