#!/usr/bin/env python3
"""fork: the child serves and sees what was held; what it does stays its own, but for the memory of a memfd."""
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "environment"))
from common import EnvironmentTest  # noqa: E402


class Fork(EnvironmentTest):
    def test_children_of_a_process_whose_threads_allocate(self):
        for cmdline in ("mem=64M", "mem=64M cpus=4 highmem=8M", "mem=48M vm.reserve_policy=linux6.1"):
            with self.subTest(cmdline=cmdline):
                self.serve("fork", cmdline=cmdline)

    def test_the_memory_of_a_memfd_is_one_for_both(self):
        facts = self.serve("fork_shared", cmdline="mem=64M backing=memfd")
        self.assertEqual(facts["stderr"].count("shares the memory of a memfd machine with its parent"), 1, facts["stderr"])


if __name__ == "__main__":
    unittest.main()
