"""scripts/compile-fail on snippets that are refused, are not, are refused for another reason, or cannot be mended."""
import pathlib
import tempfile
import unittest
from tree import run

GUARD = "#if !defined(KMEM_COMPILE_FAIL_FIXED)\n%s\n#endif\nint unrelated();\n"


class CompileFail(unittest.TestCase):
    def snippet(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "snippet.cpp"
            path.write_text(text)
            return run("compile-fail", path)

    def refused_because(self, text, reason):
        status, output = self.snippet(text)
        self.assertNotEqual(status, 0, output)
        self.assertIn(reason, output)

    def test_refused_and_mended(self):
        status, output = self.snippet("// expect: no matching function|undeclared\n" + GUARD % "int x = y;")
        self.assertEqual(status, 0, output)

    def test_thread_safety_is_an_error(self):
        status, output = self.snippet("// expect: requires holding mutex\n" + GUARD % (
            'struct __attribute__((capability("mutex"))) m {} lock;\nint v __attribute__((guarded_by(lock)));\nint f() { return v; }'))
        self.assertEqual(status, 0, output)

    def test_gcc_when_it_is_asked_for(self):
        status, output = self.snippet("// expect: was not declared\n// compiler: g++\n" + GUARD % "int x = y;")
        self.assertEqual(status, 0, output)

    def test_it_compiles(self):
        self.refused_because("// expect: x\n" + GUARD % "int x = 1;", "it compiled")

    def test_another_message(self):
        self.refused_because("// expect: thread safety\n" + GUARD % "int x = y;", "it failed without 'thread safety'")

    def test_mended_it_does_not_compile(self):
        self.refused_because("// expect: undeclared\nint x = y;\n#if KMEM_COMPILE_FAIL_FIXED\n#endif\n", "mended, it still does not")

    def test_no_expectation(self):
        self.refused_because(GUARD % "int x = y;", "expected '// expect: <regex>'")

    def test_nothing_to_mend(self):
        self.refused_because("// expect: undeclared\nint x = y;\n", "no use of KMEM_COMPILE_FAIL_FIXED")


if __name__ == "__main__":
    unittest.main()
