"""Every row of bench/peers once, small, under kmem and the C library: all end well, and a peer that fails is recorded and not fatal."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ["KMEM_BUILD_DIR"])
sys.path.insert(0, str(HERE))
import measure
import report
import rows


def run(*arguments):
    return subprocess.run([sys.executable, HERE / "run", "--build", BUILD, *arguments], capture_output=True, text=True, check=False)


class Smoke(unittest.TestCase):
    def test_every_row_ends_well(self):
        with tempfile.TemporaryDirectory() as folder:
            done = run("--rounds", "1", "--scale", "0.01", "--peers", "kmem,glibc", "--out", folder)
            self.assertEqual(done.returncode, 0, done.stderr)
            out = pathlib.Path(folder)
            records = report.read_raw(out / "peers-raw.csv")
            self.assertEqual([record for record in records if record[3] == "failure"], [])
            expected = {(row.name, peer) for row in rows.all_rows() if rows.available(row) for peer in ("kmem", "glibc")}
            self.assertEqual({(record[1], record[2]) for record in records}, expected)
            for row in rows.all_rows():
                if rows.available(row):
                    decided = [float(r[4]) for r in records if r[1] == row.name and r[3] == row.figure]
                    self.assertEqual(len(decided), 2, row.name)
            text = (out / "peers.md").read_text()
            self.assertIn("## Failures\n\nNone.", text)
            self.assertTrue((out / "peers-time.svg").read_text().endswith("</svg>\n"))
            again = run("--again", folder)
            self.assertEqual(again.returncode, 0, again.stderr)
            self.assertEqual((out / "peers.md").read_text(), text)

    def test_the_list_has_every_workload(self):
        listed = subprocess.run([BUILD / "bench/peers/work", "--list"], capture_output=True, text=True, check=True).stdout.split()
        self.assertEqual({row.workload for row in rows.all_rows() if row.workload}, set(listed))

    def test_bad_options_are_told(self):
        for arguments, text in ((("--rows", "nothing like it"), "matches no row"), (("--peers", "kmem,who"), "no allocator 'who'"),
                                (("--rows", "("), "--rows ("), (("--scale", "0"), "must be positive")):
            done = run(*arguments)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(text, done.stderr)


class Failures(unittest.TestCase):
    """Libraries whose malloc is wrong: each is noticed, recorded with its kind, and the next one runs."""

    def outcome(self, body, workload="batch_fifo", parameters=(("size", 64), ("n", 100000)), seconds=20):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "bad.c").write_text("#include <stddef.h>\n#include <unistd.h>\nstatic char heap[1 << 20]; static size_t at;\n" + body)
            subprocess.run(["cc", "-shared", "-fPIC", "-fno-builtin", "-o", folder / "bad.so", folder / "bad.c"], check=True)
            runner = measure.Runner(BUILD, {"bad": str(folder / "bad.so")}, folder, 1, seconds, None)
            return runner.run(rows.Row("row", "group", workload, parameters), "bad")[1]

    def test_memory_that_is_given_out_twice(self):
        text = self.outcome("void* malloc(size_t n) { (void)n; return heap + (at++ % 8) * 64; }\nvoid free(void* p) { (void)p; }\n")
        self.assertIn("exit code 3", text)
        self.assertIn("changed", text)

    def test_a_null_where_there_is_plenty(self):
        text = self.outcome("void* malloc(size_t n) { (void)n; return NULL; }\nvoid free(void* p) { (void)p; }\n")
        self.assertIn("exit code 4", text)

    def test_a_crash(self):
        text = self.outcome("void* malloc(size_t n) { (void)n; *(volatile int*)8 = 1; return heap; }\n")
        self.assertIn("killed by signal 11", text)

    def test_a_hang(self):
        text = self.outcome("void* malloc(size_t n) { (void)n; for (;;) pause(); }\n", seconds=1)
        self.assertIn("not done within 1 s", text)

    def test_calloc_that_does_not_clear(self):
        text = self.outcome("void* calloc(size_t n, size_t s) { at = (at + 64) % 4096; return n * s > 64 ? NULL : heap + at; }\n"
                            "void free(void* p) { (void)p; }\n", "zeroed")
        self.assertIn("not zero", text)


unittest.main()
