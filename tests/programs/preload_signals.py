#!/usr/bin/env python3
"""A storm of signals whose handlers allocate and free: malloc under the preload library, and libkmem's kmalloc with GFP_ATOMIC.

Nobody hangs, nothing is damaged or lost, and handlers fit on 8 KiB of stack. Where there is room no NULL comes; under a tight budget hardly
any with half of it free, and none but in handlers. The full mode counts a million handlers, all storms together.
"""
import os
import pathlib
import subprocess
import tempfile
import unittest

BUILD = pathlib.Path(os.environ["KMEM_BUILD_DIR"])
SOURCE = pathlib.Path(os.environ["KMEM_SOURCE_DIR"])
FULL = "KMEM_TEST_FULL" in os.environ
SECONDS, HANDLERS = (10, 250_000) if FULL else (2.5, 1_000)
STACK = 8192  # bytes of each alternate stack, where the system's own frame is no larger than that of AVX-512
LARGEST_FRAME = 3600
DOUBTFUL = 100  # of a million operations, under a tight budget


class Signals(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        source = str(SOURCE / "tests/programs/signals/storm.cpp")
        compiler = ["c++", "-std=c++20", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-pthread"]
        cls.malloc = str(pathlib.Path(cls.folder.name) / "storm_malloc")
        cls.kmalloc = str(pathlib.Path(cls.folder.name) / "storm_kmalloc")
        subprocess.run([*compiler, source, "-o", cls.malloc], check=True)
        subprocess.run([*compiler, "-DSTORM_KMALLOC", f"-I{SOURCE}/include", source, str(BUILD / "lib/libkmem.a"), "-o", cls.kmalloc],
                       check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def storm(self, program, budget, levels, preload, doubtful):
        """One storm. Return: the figures that it prints."""
        environment = {**os.environ, "KMEM_CMDLINE": f"mem={budget}M"}
        if preload:
            environment["LD_PRELOAD"] = str(BUILD / "lib/libkmem-malloc.so")
        stack = STACK * levels
        arguments = [str(n) for n in (SECONDS, HANDLERS, budget, stack, levels, doubtful)]
        done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=280)
        self.assertEqual(done.returncode, 0, f"{budget} MiB: {done.stdout}{done.stderr}")
        self.assertEqual(done.stderr, "")
        facts = dict(line.split("=", 1) for line in done.stdout.splitlines())
        figures = ", ".join(f"{name} {value}" for name, value in facts.items())
        print(f"{pathlib.Path(program).name}, {budget} MiB, {levels} level(s): {figures}", flush=True)
        self.assertGreaterEqual(int(facts["handlers"]), HANDLERS)
        if int(facts["frame"]) <= LARGEST_FRAME:
            self.assertLess(int(facts["stack_used"]), stack)
        return facts

    def test_malloc_with_room(self):
        self.assertEqual(self.storm(self.malloc, 512, 1, True, 0)["nulls"], "0")

    def test_malloc_under_a_tight_budget(self):
        self.storm(self.malloc, 48, 2, True, DOUBTFUL)

    def test_kmalloc_with_room(self):
        self.assertEqual(self.storm(self.kmalloc, 512, 2, False, 0)["nulls"], "0")

    def test_kmalloc_under_a_tight_budget(self):
        self.storm(self.kmalloc, 40, 1, False, DOUBTFUL)


if __name__ == "__main__":
    unittest.main()
