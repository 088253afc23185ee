"""scripts/run-tests on programs that pass, fail, hang, crash, skip, run nothing or are missing."""
import json
import pathlib
import tempfile
import unittest
from tree import run


def program(*lines, status=0, report=None, sleep=0):
    """A stand-in for a GoogleTest program: prints, writes its report where --gtest_output says, ends with a status."""
    return "\n".join(["import json, os, sys, time",
                      "out = [a.split(':', 1)[1] for a in sys.argv if a.startswith('--gtest_output=json:')]",
                      f"report = {report!r}",
                      "if report is not None and out: open(out[0], 'w').write(json.dumps(report))",
                      *(f"print({line!r}, flush=True)" for line in lines),
                      f"time.sleep({sleep})",
                      f"os.kill(os.getpid(), {-status})" if status < 0 else f"sys.exit({status})"])


def case(name, result="COMPLETED", status="RUN", failures=None):
    return {"name": name, "result": result, "status": status, **({"failures": failures} if failures else {})}


def suite(*cases):
    return {"testsuites": [{"name": "s", "testsuite": list(cases)}]}


class RunTests(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.at = pathlib.Path(self.folder.name)
        self.lines = []

    def add(self, name, text, labels="gtest", timeout=30, will_fail=False):
        path = self.at / f"{name}.py"
        path.write_text(text)
        self.lines.append(f'add_test({name} "python3" "{path}")')
        properties = f'LABELS "{labels}" TIMEOUT "{timeout}"' + (' WILL_FAIL "ON"' if will_fail else "")
        self.lines.append(f"set_tests_properties({name} PROPERTIES {properties})")

    def result(self, *arguments):
        (self.at / "CTestTestfile.cmake").write_text("\n".join(self.lines) + "\n")
        status, output = run("run-tests", self.at, *arguments)
        return status, output, output.rstrip().split("\n")[-1]

    def gives(self, status, last, *texts):
        found, output, line = self.result()
        self.assertEqual((found, line), (status, last), output)
        for text in texts:
            self.assertIn(text, output)

    def test_counts_single_cases_and_scripts(self):
        self.add("a", program(report=suite(case("x"), case("y"))))
        self.add("b", "print('fine')", labels="check")
        self.gives(0, "3 passed, 0 failed")

    def test_failed_case(self):
        self.add("a", program("why", status=1, report=suite(case("x"), case("y", failures=[{"failure": "1 != 2"}]))))
        self.gives(1, "1 passed, 1 failed", "failed: s.y", "| why")

    def test_failed_script(self):
        self.add("a", "print('reason'); raise SystemExit(3)", labels="check")
        self.gives(1, "0 passed, 1 failed", "failed: exit status 3", "| reason")

    def test_hang(self):
        self.add("a", program("[ RUN      ] s.x", "[       OK ] s.x (0 ms)", "[ RUN      ] s.y", sleep=60), timeout=1)
        self.gives(1, "1 passed, 2 failed", "failed: s.y", "hung: stopped after 1 s")

    def test_hang_of_a_child_that_keeps_the_output_open(self):
        self.add("a", "import subprocess, sys\nsubprocess.Popen(['sleep', '60'])\n", labels="check")
        self.gives(0, "1 passed, 0 failed")

    def test_crash(self):
        self.add("a", program("[ RUN      ] s.x", "[       OK ] s.x (0 ms)", "[ RUN      ] s.y", status=-11))
        self.gives(1, "1 passed, 2 failed", "failed: s.y", "died of SIGSEGV")

    def test_status_without_a_failed_case(self):
        self.add("a", program(status=1, report=suite(case("x"))))
        self.gives(1, "1 passed, 1 failed", "exit status 1")

    def test_status_of_a_sanitizer(self):
        self.add("a", program(status=66, report=suite(case("x"))))
        self.gives(1, "0 passed, 1 failed", "exit status 66")

    def test_no_case(self):
        self.add("a", program(report=suite()))
        self.gives(1, "0 passed, 1 failed", "no test ran")

    def test_skipped_case(self):
        self.add("a", program(report=suite(case("x"), case("y", result="SKIPPED"))))
        self.gives(1, "1 passed, 1 failed", "s.y (skipped)")

    def test_disabled_case(self):
        self.add("a", program(report=suite(case("x"), case("DIS" "ABLED_y", result="SUPPRESSED", status="NOTRUN"))))
        self.gives(1, "1 passed, 1 failed")

    def test_canary_that_fails(self):
        self.add("a", program(status=1, report=suite(case("x", failures=[{"failure": "1 != 2"}]))), will_fail=True)
        self.gives(0, "1 passed, 0 failed")

    def test_canary_that_passes(self):
        self.add("a", program(report=suite(case("x"))), will_fail=True)
        self.gives(1, "0 passed, 1 failed", "the runner would not notice")

    def test_canary_that_crashes(self):
        self.add("a", program(status=-11), will_fail=True)
        self.gives(1, "0 passed, 1 failed", "the runner would not notice")

    def test_program_that_is_not_there(self):
        self.lines.append('add_test(a "/nowhere/a")')
        self.gives(1, "0 passed, 1 failed")

    def test_nothing_selected(self):
        self.add("a", "pass", labels="check")
        status, output, line = self.result("--labels", "unit")
        self.assertEqual((status, line), (1, "0 passed, 1 failed"), output)

    def test_labels(self):
        for label in ("unit", "check", "slow"):
            self.add(label, "pass", labels=label)
        status, output, line = self.result("--labels", "unit,slow", "--without", "slow")
        self.assertEqual((status, line), (0, "1 passed, 0 failed"), output)

    def test_total(self):
        files = []
        for name, passed, failed in (("a", 3, []), ("b", 2, ["x: y"])):
            files.append(self.at / f"{name}.json")
            files[-1].write_text(json.dumps({"name": name, "passed": passed, "failed": failed}))
        status, output = run("run-tests", "--total", *files)
        self.assertEqual((status, output), (1, "failed: b: x: y\n5 passed, 1 failed\n"))
        status, output = run("run-tests", "--total", files[0])
        self.assertEqual((status, output), (0, "3 passed, 0 failed\n"))

    def test_total_of_nothing(self):
        path = self.at / "a.json"
        path.write_text(json.dumps({"name": "a", "passed": 0, "failed": []}))
        self.assertEqual(run("run-tests", "--total", path), (1, "0 passed, 0 failed\n"))

    def test_results_file_agrees_with_the_status(self):
        self.add("a", program(status=1, report=suite(case("x", failures=[{"failure": "1 != 2"}]))))
        status, output, _ = self.result("--results", self.at / "r.json", "--name", "n")
        self.assertEqual(status, 1, output)
        self.assertEqual(json.loads((self.at / "r.json").read_text()), {"name": "n", "passed": 0, "failed": ["a: s.x"]})


if __name__ == "__main__":
    unittest.main()
