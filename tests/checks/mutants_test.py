"""tests/mutants fits the sources and the tests, every promise has a mutant, and scripts/mutants tells caught from missed."""
import importlib.machinery
import importlib.util
import pathlib
import re
import stat
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("mutants", str(ROOT / "scripts/mutants"))
mutants = importlib.util.module_from_spec(importlib.util.spec_from_loader("mutants", loader))
loader.exec_module(mutants)

TEST = re.compile(r"^TEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)", re.M)


def tests_of(program):
    """Names of the tests whose sources are in tests/<program>, or tests/unit/<layer> for unit_<layer>."""
    folder = ROOT / "tests" / program.replace("unit_", "unit/")
    return {f"{suite}.{name}" for path in folder.rglob("*.cpp") for suite, name in TEST.findall(path.read_text())}


class Files(unittest.TestCase):
    all = mutants.load()

    def test_each_fits_its_source(self):
        for mutant in self.all:
            with self.subTest(mutant.name):
                self.assertNotEqual(mutant.changed((ROOT / mutant.file).read_text()), (ROOT / mutant.file).read_text())

    def test_each_names_tests_that_exist(self):
        programs = {program: tests_of(program) for program in {m.program for m in self.all}}
        for mutant in self.all:
            for name in {mutant.test, *mutant.also} - {"*"}:
                with self.subTest(mutant.name, test=name):
                    self.assertIn(re.sub(r"^\w+/|/\w+$", "", name), programs[mutant.program])

    def test_each_says_in_a_sentence_what_is_broken(self):
        for mutant in self.all:
            with self.subTest(mutant.name):
                self.assertRegex(mutant.why, r"^[A-Za-z_].*\.$")

    def test_every_promise_has_a_mutant(self):
        caught = {m.test for m in self.all if m.program == "promises"}
        self.assertEqual(tests_of("promises") - caught, set())


GOOD = "Says what.\nfile: a.cpp\ntest: A.b\n--- old\nx\n--- new\ny\n--- end\n"


class Parser(unittest.TestCase):
    def parse(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "name.mutant"
            path.write_text(text)
            return mutants.Mutant(path)

    def test_good(self):
        m = self.parse(GOOD)
        self.assertEqual((m.name, m.why, m.file, m.test, m.program, m.also, m.old, m.new),
                         ("name", "Says what.", "a.cpp", "A.b", "promises", [], "x\n", "y\n"))

    def test_program_and_also(self):
        m = self.parse(GOOD.replace("test:", "program: sim\nalso: C.d E.f\ntest:"))
        self.assertEqual((m.program, m.also), ("sim", ["C.d", "E.f"]))

    def test_alone(self):
        alone, other = self.parse(GOOD.replace("test:", "also: *\ntest:")), self.parse(GOOD.replace("A.b", "C.d"))
        self.assertEqual(mutants.tests_to_run([alone, alone]), ["A.b"])
        self.assertIsNone(mutants.tests_to_run([alone, other]))

    def test_what_is_wrong(self):
        for text, message in [(GOOD.replace("--- new\n", ""), "wants a head"), (GOOD + "more\n", "wants a head"),
                              (GOOD.replace("test: A.b\n", ""), "says no test"), (GOOD.replace("file:", "fiel:"), "'fiel: a.cpp'"),
                              (GOOD.replace("y\n", "x\n"), "changes nothing")]:
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                self.parse(text)

    def test_old_text_must_occur_once(self):
        m = self.parse(GOOD)
        self.assertEqual(m.changed("a\nx\nb\n"), "a\ny\nb\n")
        for text, times in [("a\n", 0), ("x\nx\n", 2)]:
            with self.assertRaisesRegex(ValueError, f"occurs {times} times in a.cpp"):
                m.changed(text)


class Runner(unittest.TestCase):
    """A stand-in for a GoogleTest program, whose tests do what their names say."""
    body = """import os, sys, time
names = ["passes", "fails", "crashes", "hangs", "comes_last"]
if "--gtest_list_tests" in sys.argv:
    print("S.\\n  " + "\\n  ".join(names))
    sys.exit(0)
wanted = sys.argv[1].split("=")[1].split(":")
for name in names:
    if "S." + name not in wanted: continue
    print("[ RUN      ] S." + name, flush=True)
    if name == "crashes": os.abort()
    if name == "hangs": time.sleep(60)
    print(("[  FAILED  ] " if name == "fails" else "[       OK ] ") + "S." + name + " (1 ms)", flush=True)
print("[  FAILED  ] S.fails")
"""

    def run_tests(self, body):
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder) / "program"
            program.write_text(f"#!{sys.executable}\n" + body)
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
            return mutants.failed_tests(program)

    def test_a_crash_and_a_hang_are_failures_and_the_rest_runs(self):
        before, mutants.SILENCE_S = mutants.SILENCE_S, 5
        try:
            self.assertEqual(self.run_tests(self.body), {"S.fails", "S.crashes", "S.hangs"})
        finally:
            mutants.SILENCE_S = before

    def test_a_program_that_runs_nothing_fails_every_test(self):
        broken = self.body.replace("for name in names:", "sys.exit(1)\nfor name in names:")
        self.assertEqual(len(self.run_tests(broken)), 5)

    def test_verdict(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "m.mutant"
            path.write_text(GOOD.replace("test:", "also: A.c\ntest:"))
            mutant = mutants.Mutant(path)
        self.assertEqual(mutants.verdict(mutant, {"A.b"}), "")
        self.assertEqual(mutants.verdict(mutant, {"A.b", "A.c"}), "")
        self.assertEqual(mutants.verdict(mutant, {"A.c"}), "A.b did not notice")
        self.assertEqual(mutants.verdict(mutant, {"A.b", "Z.z"}), "others fail too: Z.z")


if __name__ == "__main__":
    unittest.main()
