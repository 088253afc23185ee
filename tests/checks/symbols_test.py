"""scripts/symbols on objects and libraries built for it."""
import pathlib
import subprocess
import tempfile
import unittest
from tree import run

CORE = ["-c", "-O1", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-fPIC"]


class Symbols(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.at = pathlib.Path(self.folder.name)

    def build(self, name, text, *flags, compiler="g++"):
        source = self.at / f"{name}.cpp"
        source.write_text(text)
        subprocess.run([compiler, "-std=c++20", *flags, "-o", str(self.at / name), str(source)], check=True)
        return self.at / name

    def allowed(self, text):
        path = self.at / "allowed.txt"
        path.write_text(text)
        return path

    def objects(self, allowed, *texts):
        return run("symbols", "--allowed", self.allowed(allowed), *(self.build(f"o{i}.o", t, *CORE) for i, t in enumerate(texts)))

    def test_good_objects_pass(self):
        status, output = self.objects("# the C library\nmemcpy\n_GLOBAL_OFFSET_TABLE_\n",
                                      "int g(int); int f() { return g(1); }", "int g(int x) { return x; }")
        self.assertEqual(status, 0, output)

    def test_symbol_that_is_not_allowed(self):
        status, output = self.objects("_GLOBAL_OFFSET_TABLE_\n", 'extern "C" int getpid(); int f() { return getpid(); }')
        self.assertEqual(status, 1, output)
        self.assertIn("undefined getpid is not in allowed.txt", output)

    def test_malloc(self):
        status, output = self.objects("_GLOBAL_OFFSET_TABLE_\n", "void* f() { return __builtin_malloc(3); }")
        self.assertEqual(status, 1, output)
        self.assertIn("undefined malloc", output)

    def test_operator_new_is_named_in_plain(self):
        status, output = self.objects("_GLOBAL_OFFSET_TABLE_\n", "int* f() { return new int; }")
        self.assertEqual(status, 1, output)
        self.assertIn("(operator new(unsigned long))", output)

    def test_checked_access_pulls_in_the_run_time(self):
        status, output = self.objects("_GLOBAL_OFFSET_TABLE_\n",
                                      "#include <array>\nstd::array<int, 4> a; int f(unsigned i) { return a.at(i); }")
        self.assertEqual(status, 1, output)
        self.assertIn("__throw_out_of_range", output)

    def test_malloc_may_not_be_allowed(self):
        status, output = self.objects("malloc\n", "int f() { return 1; }")
        self.assertEqual(status, 1, output)
        self.assertIn("malloc may not be allowed", output)

    def test_run_time_may_not_be_allowed(self):
        status, output = self.objects("__cxa_throw\n", "int f() { return 1; }")
        self.assertEqual(status, 1, output)
        self.assertIn("__cxa_throw may not be allowed", output)

    def test_no_object(self):
        status, output = run("symbols", "--allowed", self.allowed(""), "")
        self.assertNotEqual(status, 0, output)

    def shared(self, text, *flags, compiler="gcc"):
        library = self.build("lib.so", text, "-shared", "-fPIC", "-fvisibility=hidden", *flags, compiler=compiler)
        return run("symbols", "--shared", library, "--exports", r"\bkmem(::|_)")

    EXPORT = "__attribute__((visibility(\"default\")))"

    def test_good_library_passes(self):
        status, output = self.shared(f"namespace kmem {{ {self.EXPORT} int f() {{ return 1; }} int hidden() {{ return 2; }} }}")
        self.assertEqual(status, 0, output)
        self.assertIn("1 exports", output)

    def test_export_with_another_name(self):
        status, output = self.shared(f"{self.EXPORT} int other() {{ return 1; }}")
        self.assertEqual(status, 1, output)
        self.assertIn("exports other()", output)

    def test_library_that_needs_the_cxx_run_time(self):
        text = f"#include <string>\nnamespace kmem {{ {self.EXPORT} std::string f() {{ return std::string(99, 'x'); }} }}"
        status, output = self.shared(text, compiler="g++")
        self.assertEqual(status, 1, output)
        self.assertIn("needs libstdc++.so.6", output)

    def test_library_without_exports(self):
        status, output = self.shared("int hidden() { return 2; }")
        self.assertEqual(status, 1, output)
        self.assertIn("exports nothing", output)


if __name__ == "__main__":
    unittest.main()
