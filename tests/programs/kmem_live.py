#!/usr/bin/env python3
"""kmem stat, param and trim with real processes: figures, texts, parameters, forks, exec, daemons, refusals, what cannot act at once."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = pathlib.Path(os.environ["KMEM_BUILD_DIR"])
KMEM = str(BUILD / "bin/kmem")
LIBRARY = str(BUILD / "lib/libkmem-malloc.so")
MIB = 1 << 20
PATIENT = ("--wait", "60")

PROGRAM = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <sched.h>
#include <sys/wait.h>
static char *held[4096];
static int n;
/* Words on stdin, one a line: what to do. Each is answered by "ok". */
int main(int argc, char **argv) {
  char line[200];
  setvbuf(stdout, NULL, _IONBF, 0);
  held[n++] = malloc(1);
  printf("ok\n");
  while (fgets(line, sizeof line, stdin)) {
    int count = atoi(line + 1);
    pid_t child = 0;
    switch (line[0]) {
      case 'a': /* MiB that stay */
        while (count-- > 0 && n < 4096) {
          if (!(held[n] = malloc(1 << 20))) { printf("NULL\n"); break; }
          memset(held[n++], 1, 1 << 20);
        }
        break;
      case 'f': while (n > 0) free(held[--n]); break;
      case 's': { char **p = malloc(count * sizeof *p); for (int i = 0; i < count; ++i) p[i] = malloc(200);
                  for (int i = 0; i < count; ++i) free(p[i]); free(p); break; }
      case 'F': child = fork(); break;
      case 'C': child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); break; /* without fork handlers */
      case 'c': for (int fd = 3; fd < 1024; ++fd) close(fd); break;
      case 'x': execv(argv[0], argv); break;
      case 'q': return count;
    }
    if (line[0] == 'F' || line[0] == 'C') {
      if (child == 0) { void *p = malloc(3 << 20); (void)p; for (int i = 0; i < 50; ++i) free(malloc(2 << 20)); pause(); _exit(0); }
      printf("%d\n", (int)child);
    }
    printf("ok\n");
  }
  return argc > 5;
}
"""


class Talker:
    """A process that does what it is told."""

    def __init__(self, program, cmdline="mem=256M", preload=LIBRARY, **how):
        environment = {name: value for name, value in os.environ.items() if name not in ("KMEM_CMDLINE", "LD_PRELOAD")}
        environment.update(LD_PRELOAD=preload, KMEM_CMDLINE=cmdline)
        self.process = subprocess.Popen([program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **how)
        self.pid = self.process.pid
        self.answer()

    def answer(self):
        lines = []
        for line in self.process.stdout:
            if line == "ok\n":
                return lines
            lines.append(line.strip())
        raise AssertionError(f"the process has ended: {lines}")

    def tell(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.answer()

    def say(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def kmem(*arguments, **how):
    return subprocess.run([KMEM, *[str(each) for each in arguments]], capture_output=True, text=True, timeout=200, check=False, **how)


def read(path):
    return pathlib.Path(path).read_text()


def segments():
    """Makers of statistics segments."""
    rows = [line.split() for line in read("/proc/sysvipc/shm").splitlines()[1:]]
    return [int(row[4]) for row in rows if row[3] == "262144"]


class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        os.chmod(cls.folder.name, 0o755)
        source = pathlib.Path(cls.folder.name) / "talker.c"
        source.write_text(PROGRAM)
        cls.program = str(source.with_suffix(""))
        subprocess.run(["cc", "-O1", "-fno-builtin", str(source), "-o", cls.program], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def start(self, **how):
        talker = Talker(self.program, **how)
        self.addCleanup(talker.end)
        return talker

    def figures(self, pid, wait=0):
        done = kmem("stat", pid, "--json", "--wait", wait)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def ask(self, talker, *arguments, nudge="s1000"):
        """Asks, and lets the process come to a slow path meanwhile."""
        asker = subprocess.Popen([KMEM, *arguments, *PATIENT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while asker.poll() is None:
            talker.tell(nudge)
            time.sleep(0.01)
        out, err = asker.communicate()
        return subprocess.CompletedProcess(arguments, asker.returncode, out, err)

    def test_figures_of_a_process_that_rests(self):
        talker = self.start()
        before = self.figures(talker.pid)
        self.assertEqual(before["budget"], 256 * MIB)
        self.assertEqual(before["command"], self.program)
        talker.tell("a40")
        after = self.figures(talker.pid)
        self.assertGreaterEqual(after["charged"], before["charged"] + 39 * MIB)  # some pages lay in the CPU's lists
        self.assertLess(after["charged"], before["charged"] + 44 * MIB)
        talker.tell("f")
        self.assertLess(self.figures(talker.pid)["charged"], before["charged"] + 4 * MIB)

    def test_a_resting_process_says_that_it_will_act_later(self):
        talker = self.start()
        for arguments in (("stat", talker.pid, "vmstat"), ("param", talker.pid, "mem"), ("trim", talker.pid)):
            done = kmem(*arguments, "--wait", 0)
            self.assertEqual(done.returncode, 3, arguments)
            self.assertIn("acts at its next slow path", done.stderr)
            self.assertEqual(done.stdout, "")
            talker.tell("s5000")  # so that what waits is over
        done = kmem("param", talker.pid, "mem=64M", "--wait", 0)
        self.assertEqual(done.returncode, 3)
        done = kmem("param", talker.pid, "mem=32M", "--wait", 0)
        self.assertEqual(done.returncode, 3)
        self.assertIn("(mem=64M)", done.stderr)
        talker.tell("s5000")
        self.assertEqual(self.figures(talker.pid)["budget"], 64 * MIB)

    def test_texts(self):
        talker = self.start()
        for name, begin in (("slabinfo", "slabinfo - version: 2.1"), ("buddyinfo", "Node 0, zone"), ("zoneinfo", "Node 0, zone"),
                            ("vmstat", "nr_free_pages "), ("meminfo", "MemTotal:         262144 kB"), ("vmallocinfo", "")):
            done = self.ask(talker, "stat", str(talker.pid), name)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(done.stdout.startswith(begin), done.stdout[:200])
        done = self.ask(talker, "stat", str(talker.pid), "nonsense")
        self.assertEqual(done.returncode, 2)
        self.assertIn("there is no such text", done.stderr)

    def test_the_budget_changes_under_a_running_program(self):
        talker = self.start()
        self.assertEqual(self.ask(talker, "param", str(talker.pid), "mem").stdout, "mem=262144K\n")
        self.assertEqual(self.ask(talker, "param", str(talker.pid), "mem=64M").stdout, "mem=65536K\n")
        self.assertEqual(talker.tell("a100"), ["NULL"])
        held = self.figures(talker.pid)["charged"]
        self.assertTrue(50 * MIB < held < 64 * MIB, held)
        refused = self.ask(talker, "param", str(talker.pid), "mem=16M", nudge="s3000")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("in the way", refused.stderr)
        self.assertEqual(self.ask(talker, "param", str(talker.pid), "mem=256M").returncode, 0)
        self.assertEqual(talker.tell("a100"), [])

    def test_parameters_that_cannot_be_changed_so(self):
        talker = self.start()
        for word, status, text in (("cpus=2", 2, "only be given at the start"), ("failslap=1,1,1,1", 2, "did you mean failslab?"),
                                   ("mem=1", 2, "too small"), ("mem=1T", 2, "at most the budget at the start"),
                                   ("vm.alloc_wait_ms=x", 2, "expected milliseconds")):
            done = self.ask(talker, "param", str(talker.pid), word)
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertIn(text, done.stderr)
            self.assertEqual(done.stdout, "")
        self.assertEqual(kmem("param", talker.pid, "x" * 300 + "=1").returncode, 2)

    def test_trim_gives_back(self):
        talker = self.start(cmdline="mem=256M vm.keep_free_kbytes=all")
        talker.tell("a64")
        talker.tell("f")
        rss = int(re.search(r"VmRSS:\s+(\d+)", read(f"/proc/{talker.pid}/status"))[1])
        done = self.ask(talker, "trim", str(talker.pid))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"^[0-9.]+ MiB given back to the system\n$")
        after = int(re.search(r"VmRSS:\s+(\d+)", read(f"/proc/{talker.pid}/status"))[1])
        self.assertLess(after, rss - 30 * 1024)

    def test_python(self):
        environment = dict(os.environ, LD_PRELOAD=LIBRARY, KMEM_CMDLINE="mem=512M", PYTHONMALLOC="malloc")
        code = ("import time\nheld = [bytes(5000) for _ in range(10000)]\n"
                "while True:\n    again = [bytes(300) for _ in range(1000)]\n    time.sleep(0.005)\n")
        process = subprocess.Popen([sys.executable, "-c", code], env=environment)
        try:
            while process.pid not in segments() or self.figures(process.pid)["charged"] < 50 * MIB:
                self.assertIsNone(process.poll())
                time.sleep(0.01)
            done = kmem("stat", process.pid, *PATIENT)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stdout, r"budget +512 MiB +100 %")
            self.assertIn("kmalloc-", done.stdout)
            self.assertGreater(self.figures(process.pid, 60)["live"], 50 * 1000 * 1000)
            self.assertEqual(kmem("param", process.pid, "mem=128M", *PATIENT).stdout, "mem=131072K\n")
            self.assertEqual(kmem("trim", process.pid, *PATIENT).returncode, 0)
            self.assertEqual(kmem("stat", process.pid, "slabinfo", *PATIENT).stdout.splitlines()[0], "slabinfo - version: 2.1")
        finally:
            process.kill()
            process.wait()

    def test_a_forked_child_has_its_own(self):
        talker = self.start()
        talker.tell("a10")
        parent = self.figures(talker.pid)
        child = int(talker.tell("F")[0])
        self.addCleanup(os.kill, child, signal.SIGKILL)
        while child not in segments() or self.figures(child)["slow_paths"] < 50:
            time.sleep(0.01)
        figures = self.figures(child)
        self.assertEqual(figures["pid"], child)
        self.assertGreaterEqual(figures["charged"], parent["charged"] + 3 * MIB)
        self.assertEqual(self.figures(talker.pid)["charged"], parent["charged"])

    def test_a_child_without_fork_handlers_writes_nothing(self):
        talker = self.start()
        before = self.figures(talker.pid)["slow_paths"]
        child = int(talker.tell("C")[0])
        self.addCleanup(os.kill, child, signal.SIGKILL)
        while read(f"/proc/{child}/stat").rsplit(")", 1)[1].split()[0] != "S":  # it has come to pause()
            time.sleep(0.01)
        self.assertNotIn(child, segments())
        self.assertEqual(self.figures(talker.pid)["slow_paths"], before)
        self.assertEqual(kmem("stat", child).returncode, 2)

    def test_exec_and_closed_descriptors(self):
        talker = self.start()
        talker.tell("a30")
        talker.tell("c")
        self.assertGreater(self.figures(talker.pid)["charged"], 30 * MIB)
        talker.say("x")
        talker.answer()  # of the new program
        self.assertLess(self.figures(talker.pid)["charged"], 4 * MIB)
        self.assertEqual(segments().count(talker.pid), 1)

    def test_nothing_is_left_behind(self):
        for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
            talker = self.start()
            self.assertIn(talker.pid, segments())
            os.kill(talker.pid, end)
            talker.process.wait()
            self.assertNotIn(talker.pid, segments())
            done = kmem("stat", talker.pid)
            self.assertEqual(done.returncode, 2)
            self.assertIn(f"there is no process {talker.pid}", done.stderr)

    def test_the_end_of_a_process_that_was_asked(self):
        talker = self.start()
        asker = subprocess.Popen([KMEM, "trim", str(talker.pid), *PATIENT], stderr=subprocess.PIPE, text=True)
        while "kmem" not in read(f"/proc/{asker.pid}/cmdline"):
            time.sleep(0.01)
        talker.end()
        _, err = asker.communicate()
        self.assertEqual(asker.returncode, 2, err)
        self.assertRegex(err, "has ended|there is no process")

    def test_processes_that_show_nothing(self):
        done = kmem("stat", os.getpid())
        self.assertEqual(done.returncode, 2)
        self.assertIn("it shows no figures", done.stderr)
        talker = self.start(cmdline="mem=64M stat=0")
        self.assertNotIn(talker.pid, segments())
        self.assertEqual(kmem("stat", talker.pid).returncode, 2)
        for wrong in ("0", "-1", "x", "99999999999"):
            self.assertEqual(kmem("stat", wrong).returncode, 2)

    def test_a_system_that_refuses_the_segment(self):
        unshare = shutil.which("unshare")
        if unshare is None or subprocess.run([unshare, "--ipc", "true"], capture_output=True, check=False).returncode != 0:
            self.fail("unshare --ipc does not work here; it is what this test stands on")
        # An IPC namespace of its own that permits no segment at all.
        script = (f"echo 0 > /proc/sys/kernel/shmmni && echo a5 | LD_PRELOAD={LIBRARY} KMEM_CMDLINE=mem=64M {self.program}"
                  " && cat /proc/sysvipc/shm | wc -l")
        done = subprocess.run([unshare, "--ipc", "sh", "-c", script], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "ok\nok\n1\n", ""))

    def test_other_users(self):
        if os.geteuid() != 0:
            self.assertNotEqual(kmem("stat", 1).returncode, 0)
            return
        talker = self.start(user=65534, group=65534, extra_groups=[])
        self.assertEqual(self.figures(talker.pid)["budget"], 256 * MIB)  # root may
        roots = self.start()
        done = kmem("stat", roots.pid, user=65534, group=65534, extra_groups=[])
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, "Permission denied|another user")
        own = kmem("stat", talker.pid, "--json", user=65534, group=65534, extra_groups=[])
        self.assertEqual(own.returncode, 0, own.stderr)


if __name__ == "__main__":
    unittest.main()
