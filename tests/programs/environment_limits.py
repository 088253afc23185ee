#!/usr/bin/env python3
"""The library under the limits of a process: address space, data, locked memory, stacks, and a system that refuses."""
import os
import pathlib
import resource
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "environment"))
from common import MIB, EnvironmentTest  # noqa: E402

BACKINGS = ("backing=anon", "backing=memfd")


class AddressSpace(EnvironmentTest):
    LIMIT = ((resource.RLIMIT_AS, 512 * MIB),)   # ulimit -v 524288

    def test_serves_any_budget_that_fits(self):
        for backing in BACKINGS:
            for budget in (4, 16, 64, 200):
                with self.subTest(budget=budget, backing=backing):
                    facts = self.serve("exhaust", cmdline=f"mem={budget}M {backing}", limits=self.LIMIT)
                    self.assertEqual(facts["budget"], budget * MIB)
                    self.assertGreater(facts["got"], budget * MIB * 3 // 4)

    def test_lowers_a_budget_that_does_not_fit_and_says_so(self):
        for cmdline in ("mem=2G", None):   # None: physical memory
            with self.subTest(cmdline=cmdline):
                facts = self.serve("exhaust", cmdline=cmdline, limits=self.LIMIT)
                self.assertLess(facts["budget"], 512 * MIB)
                self.assertGreaterEqual(facts["got"], 64 * MIB)
                self.assertRegex(facts["stderr"], r"budget lowered from \d+ to \d+ MiB: no more address space")

    def test_ends_in_null_when_little_is_left(self):
        for backing in BACKINGS:
            with self.subTest(backing=backing):
                facts = self.serve("little_address_space", str(1 * MIB), cmdline=f"mem=64M {backing}")
                self.assertGreater(facts["got"], 48 * MIB, "the arena is reserved already")

    def test_too_little_is_refused_with_a_message_and_tried_again_by_init(self):
        facts = self.serve("refused", "mem=16M", cmdline="mem=16M", limits=((resource.RLIMIT_AS, 20 * MIB),))
        self.assertRegex(facts["stderr"], r"kmem: cannot start: the system gives no memory for a machine with a budget of 16384 KiB "
                                          r"\(from mem=\): lower mem= or raise RLIMIT_AS")
        self.assertEqual(facts["stderr"].count("cannot start"), 1, "said once")


class Data(EnvironmentTest):
    def test_anonymous_memory_ends_at_the_limit(self):
        facts = self.serve("exhaust", cmdline="mem=256M", limits=((resource.RLIMIT_DATA, 96 * MIB),))
        self.assertGreater(facts["got"], 32 * MIB)
        self.assertLess(facts["got"], 96 * MIB)

    def test_a_memfd_is_not_counted(self):
        facts = self.serve("exhaust", cmdline="mem=128M backing=memfd", limits=((resource.RLIMIT_DATA, 96 * MIB),))
        self.assertGreater(facts["got"], 96 * MIB)


class Locked(EnvironmentTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # What may be locked at most without privileges is not enough for a program: then the limit is what is tested.
        hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        cls.may_lock = os.geteuid() == 0 or hard == resource.RLIM_INFINITY
        cls.limits = () if os.geteuid() == 0 else ((resource.RLIMIT_MEMLOCK, hard),)

    def check(self, command, cmdline):
        if self.may_lock:
            return self.serve(command, cmdline=cmdline, limits=self.limits)
        done = self.run_helper(command, cmdline=cmdline, limits=self.limits)
        self.assertIn("mlockall", done.stderr)   # refused by the system, which the helper names
        return None

    def test_before_first_use(self):
        for backing in BACKINGS:
            with self.subTest(backing=backing):
                facts = self.check("locked_before", f"mem=128M {backing}")
                if facts is not None:
                    self.assertLess(facts["resident"], 48 * MIB, "reserving and opening made nothing resident")
                    self.assertGreater(facts["got"], 96 * MIB)
                    self.assertLess(facts["after"], 128 * MIB + 48 * MIB)

    def test_after_first_use(self):
        for backing in BACKINGS:
            with self.subTest(backing=backing):
                facts = self.check("locked_after", f"mem=128M {backing}")
                if facts is not None:
                    self.assertLess(facts["resident"], 64 * MIB + 48 * MIB, "no more than the sections that are open")
                    self.assertGreater(facts["got"], 96 * MIB)
                    self.assertLess(facts["after"], 128 * MIB + 64 * MIB + 48 * MIB)

    def test_what_is_opened_after_the_lock_is_not_populated(self):
        self.check("locked_then_grows", "mem=128M")


class Refusals(EnvironmentTest):
    def test_a_system_that_gives_no_mapping(self):
        for backing in BACKINGS:
            with self.subTest(backing=backing):
                facts = self.serve("no_memory_calls", cmdline=f"mem=32M {backing}")
                self.assertIn("the system gives no memory for a machine with a budget of 32768 KiB", facts["stderr"])

    def test_a_system_that_gives_no_more(self):
        for backing in BACKINGS:
            with self.subTest(backing=backing):
                facts = self.serve("no_memory_calls_later", cmdline=f"mem=256M {backing}")
                self.assertGreater(facts["got"], 16 * MIB, "what is open serves on")
                self.assertIn("no address space", facts["stderr"])

    def test_a_system_that_takes_nothing_back(self):
        for backing in BACKINGS:
            with self.subTest(backing=backing):
                self.serve("no_advice", cmdline=f"mem=32M {backing}")

    def test_injected_refusals(self):
        for fail in ("1,100,0,-1", "1,100,0,5", "3,60,0,-1", "1,100,30000000,-1"):
            with self.subTest(fail=fail):
                self.serve("exhaust_only", cmdline=f"mem=64M fail_mmap={fail}")


class Stacks(EnvironmentTest):
    def test_threads_of_64_kib(self):
        facts = self.serve("small_stacks", str(64 << 10), cmdline="mem=24M")
        self.assertIn("page allocation failure", facts["stderr"], "the report was written on such a stack")

    def test_a_limit_for_all_stacks(self):
        self.serve("threads", cmdline="mem=24M", limits=((resource.RLIMIT_STACK, 128 << 10),))


if __name__ == "__main__":
    unittest.main()
