"""scripts/abi on libraries and headers built for it."""
import pathlib
import subprocess
import tempfile
import unittest
from tree import run

EXPORT = '__attribute__((visibility("default"))) '


class Symbols(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.at = pathlib.Path(self.folder.name)
        self.map = self.at / "x.map"
        self.object, self.library = self.at / "x.o", self.at / "x.so"

    def build(self, text, link_map=None):
        source = self.at / "x.cpp"
        source.write_text(text)
        subprocess.run(["g++", "-c", "-fPIC", "-fvisibility=hidden", "-o", self.object, source], check=True)
        subprocess.run(["gcc", "-shared", "-o", self.library, self.object, f"-Wl,--version-script={link_map or self.map}"], check=True)

    def start(self):
        """A library of two functions, both in KMEM_0.1."""
        self.map.write_text("KMEM_0.1 {\n  global:\n    _Z3onei;  /* one(int) */\n    two;\n  local:\n    *;\n};\n")
        self.text = f'{EXPORT}int one(int x) {{ return x; }} extern "C" {EXPORT}int two() {{ return 2; }} int hidden() {{ return 3; }}\n'
        self.build(self.text)

    def check(self, *more):
        return run("abi", "--map", self.map, "--library", self.library, *more, self.object)

    def test_content(self):
        self.start()
        status, output = self.check()
        self.assertEqual(status, 0, output)
        self.assertIn("2 symbols, 0 findings", output)

    def test_new_symbol_is_found_and_added_to_the_last_version(self):
        self.start()
        self.map.write_text(self.map.read_text() + "KMEM_0.2 {\n} KMEM_0.1;\n")
        self.build(self.text + EXPORT + "int three() { return 3; }\n")
        status, output = self.check()
        self.assertEqual(status, 1, output)
        self.assertIn("three() is exported by the code, not by the map", output)
        self.assertEqual(self.check("--update")[0], 0)
        self.assertRegex(self.map.read_text(), r"KMEM_0\.2 \{\n  global:\n    _Z5threev;  /\* three\(\) \*/\n\} KMEM_0\.1;")
        self.build(self.text + EXPORT + "int three() { return 3; }\n")
        status, output = self.check()
        self.assertEqual(status, 0, output)

    def test_other_arguments_are_another_symbol(self):
        self.start()
        self.build(self.text.replace("int one(int x)", "int one(long x)").replace("return x", "return 1"))
        status, output = self.check()
        self.assertEqual(status, 1, output)
        self.assertIn("one(int) is promised by KMEM_0.1 and is gone", output)
        self.assertIn("one(long) is exported by the code", output)

    def test_what_an_older_version_has_cannot_go(self):
        self.start()
        self.map.write_text(self.map.read_text() + "KMEM_0.2 {\n} KMEM_0.1;\n")
        self.build(f"{EXPORT}int one(int x) {{ return x; }}\n")
        before = self.map.read_text()
        status, output = self.check("--update")
        self.assertNotEqual(status, 0, output)
        self.assertIn("two is gone", output)
        self.assertEqual(self.map.read_text(), before)

    def test_library_without_versions(self):
        self.start()
        other = self.at / "other.map"
        other.write_text("{ global: _Z3onei; two; local: *; };\n")
        self.build(self.text, other)
        status, output = self.check()
        self.assertEqual(status, 1, output)
        self.assertIn("two has version '' in the library, not KMEM_0.1", output)

    def test_patterns_are_no_promise(self):
        self.start()
        self.map.write_text("KMEM_0.1 {\n  global:\n    kmem_*;\n  local:\n    *;\n};\n")
        status, output = self.check()
        self.assertNotEqual(status, 0, output)
        self.assertIn("not a name on a line of its own", output)


class Layout(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.at = pathlib.Path(self.folder.name)
        (self.at / "kmem").mkdir()
        self.golden = self.at / "golden.txt"
        self.write("struct kmem_thing { int a; long b; };", "namespace kmem { class thing { int x; char y; }; }")
        self.assertEqual(self.check("--update")[0], 0)

    def write(self, c, cxx):
        (self.at / "kmem/kmem.h").write_text("#pragma once\n" + c + "\n")
        (self.at / "kmem/kmem.hpp").write_text("#pragma once\n" + cxx + "\n")

    def check(self, *more):
        return run("abi", "--layout", self.golden, "--include", self.at, *more)

    def test_content(self):
        status, output = self.check()
        self.assertEqual(status, 0, output)
        self.assertIn("2 types", output)

    def test_changed_type(self):
        self.write("struct kmem_thing { int a; int c; long b; };", "namespace kmem { class thing { char y; int x; }; }")
        status, output = self.check()
        self.assertEqual(status, 1, output)
        self.assertIn("kmem_thing is (kmem_thing 16, 0 a, 8 b) there, and (kmem_thing 16, 0 a, 4 c, 8 b) in the headers", output)
        self.assertIn("kmem::thing is (kmem::thing 8, 0 x, 4 y) there, and (kmem::thing 8, 0 y, 4 x) in the headers", output)

    def test_new_and_lost_types(self):
        self.write("struct kmem_other { int a; };",
                   "namespace kmem { class thing { int x; char y; }; template <class T> class box { T x; }; }")
        status, output = self.check()
        self.assertEqual(status, 1, output)
        self.assertIn("kmem_other has size 4, and is not there", output)
        self.assertIn("kmem_thing is there, and in no header", output)
        self.assertIn("2 findings", output)


if __name__ == "__main__":
    unittest.main()
