#!/usr/bin/env python3
"""The library in systems that lack something: files, descriptors, CPUs, system calls; its parameters; a container's limit."""
import os
import pathlib
import sys
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "environment"))
from common import MIB, EnvironmentTest  # noqa: E402


class Files(EnvironmentTest):
    def test_no_file_can_be_opened(self):
        for cmdline, budget in (("mem=32M", 32 * MIB), ("mem=32M backing=memfd", 32 * MIB), (None, 0)):
            with self.subTest(cmdline=cmdline):
                facts = self.serve("no_files", cmdline=cmdline)
                self.assertGreaterEqual(facts["budget"], budget if budget else 64 * MIB, "physical memory by a system call")

    def test_nothing_is_mounted_on_proc_and_sys(self):
        done = self.run_helper("empty_proc_and_sys", cmdline="mem=32M")
        # 77: no mount namespace for this user; that no file can be read is tested above without one.
        self.assertIn(done.returncode, (0, 77), done.stderr)
        if os.geteuid() == 0:
            self.assertIn(f"budget={32 * MIB}", done.stdout, done.stderr)


class Descriptors(EnvironmentTest):
    def test_a_daemon_closes_all_of_them(self):
        for backing in ("anon", "memfd"):
            with self.subTest(backing=backing):
                log = pathlib.Path(self.folder.name) / f"log-{backing}"
                done = self.run_helper("daemon", str(log), cmdline=f"mem=32M backing={backing}")
                self.assertEqual(done.returncode, 0, log.read_bytes()[:2000].rstrip(b"\0"))

    def test_a_program_that_takes_its_place_starts_anew(self):
        for backing in ("anon", "memfd"):
            with self.subTest(backing=backing):
                facts = self.serve("exec", self.helper, cmdline=f"mem=24M backing={backing}")
                self.assertEqual(facts["budget"], 24 * MIB)


class Cpus(EnvironmentTest):
    def test_one_cpu_and_moves_between_them(self):
        for cmdline in ("mem=24M", "mem=24M cpus=1", "mem=64M cpus=64"):
            with self.subTest(cmdline=cmdline):
                self.serve("cpu", cmdline=cmdline)
                one = min(os.sched_getaffinity(0))
                self.serve("threads", cmdline=cmdline, before=lambda: os.sched_setaffinity(0, {one}))

    def test_two_hundred_threads_come_and_go(self):
        self.serve("many_threads", cmdline="mem=64M")


class SystemCalls(EnvironmentTest):
    def test_no_restartable_sequences_and_no_membarrier(self):
        self.serve("no_rseq", self.helper, cmdline="mem=24M")

    def test_restartable_sequences_left_to_others(self):
        self.serve("threads", cmdline="mem=24M", environment={"GLIBC_TUNABLES": "glibc.pthread.rseq=0"})


class Parameters(EnvironmentTest):
    def test_good_ones_count(self):
        for cmdline, budget in (("mem=24M", 24), (" mem=8M  vm.min_free_kbytes=300 mem=20M ", 20),
                                ("mem=32M vm.reserve_policy=linux6.1", 32),
                                ("mem=16M max_order=10 zone_dma=1M highmem=2M movablecore=2M", 16)):
            with self.subTest(cmdline=cmdline):
                self.assertEqual(self.serve("serve", cmdline=cmdline)["budget"], budget * MIB)
                self.assertEqual(self.serve("init", cmdline, cmdline="mem=nonsense")["budget"], budget * MIB, "init comes first")

    BAD = (("mem=1K", r"mem=1K: too small, at least 4M"),
           ("mem=12X", r"mem=12X: expected"),
           ("mem", r"mem: .*="),
           ("memory=16M", r"memory: unknown parameter; 'kmem params' lists the known ones"),
           ("backing=disk", r"backing=disk: expected anon or memfd"),
           ("max_order=12", r"max_order=12: expected 10 or 11"),
           ("mem=16M vm.reserve_policy=strict", r"vm.reserve_policy=strict: expected spec or linux6.1"),
           ("mem=16M highmem=16M", r"highmem|zones"),
           ("failslab=1,2", r"failslab=1,2: expected interval,probability"))

    def test_bad_ones_are_named_with_what_would_be_right(self):
        for cmdline, message in self.BAD:
            with self.subTest(cmdline=cmdline):
                facts = self.serve("refused", cmdline=cmdline)
                self.assertRegex(facts["stderr"], message)
                self.assertIn("every allocation will fail", facts["stderr"])
                self.assertEqual(facts["stderr"].count("every allocation will fail"), 1)
                self.assertRegex(self.serve("init", cmdline, cmdline="mem=16M")["stdout"], message)


def lines(path):
    return pathlib.Path(path).read_text().splitlines()


class MemoryGroup:
    """A control group of version 1 inside this process's own, for as long as it lives."""

    def __init__(self, limit):
        self.folder = None
        groups = dict(line.strip().split(":", 2)[1:] for line in lines("/proc/self/cgroup") if line.count(":") >= 2)
        for fields in map(str.split, lines("/proc/self/mountinfo")):
            if "memory" in fields[-1].split(",") and fields[fields.index("-") + 1] == "cgroup" and "memory" in groups:
                inner = os.path.relpath(groups["memory"], fields[3]) if fields[3] != "/" else groups["memory"].lstrip("/")
                self.folder = pathlib.Path(fields[4]) / inner / f"kmem-test-{os.getpid()}"
        if self.folder is None:
            return
        try:
            self.folder.mkdir()
            (self.folder / "memory.limit_in_bytes").write_text(str(limit))
        except OSError:
            self.close()
            self.folder = None

    def enter(self):
        (self.folder / "cgroup.procs").write_text("0")

    def close(self):
        for _ in range(50):   # the last process may not be quite gone
            try:
                if self.folder is not None and self.folder.is_dir():
                    self.folder.rmdir()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"{self.folder} cannot be removed")


class Container(EnvironmentTest):
    """Where the system lets us make a group; how limits are found is tested everywhere by tests/unit/memmap/cgroup_test.cpp."""
    LIMIT = 200 * MIB

    def test_allocation_without_end_ends_in_null_and_not_in_a_kill(self):
        group = MemoryGroup(self.LIMIT)
        if group.folder is None:
            self.assertGreater(self.serve("init", "mem=160M")["budget"], 0)
            print("no memory group can be made here: the kill itself was not tried", file=sys.stderr)
            return
        try:
            for backing in ("anon", "memfd"):
                with self.subTest(backing=backing):
                    facts = self.serve("exhaust", cmdline=f"backing={backing}", before=group.enter)
                    self.assertLessEqual(facts["budget"], self.LIMIT * 8 // 10)
                    self.assertGreaterEqual(facts["budget"], self.LIMIT * 7 // 10)
                    self.assertGreater(facts["got"], facts["budget"] * 8 // 10)
        finally:
            group.close()


if __name__ == "__main__":
    unittest.main()
