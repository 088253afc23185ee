#!/usr/bin/env python3
"""malloc's whole interface, and operator new's: the same calls with the C library's malloc, preloaded and linked in statically.

What differs from the C library must be a row of the table in docs/malloc.md, and each row must be true.
"""
import fnmatch
import os
import pathlib
import re
import resource
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as xml

SOURCE = pathlib.Path(os.environ["KMEM_SOURCE_DIR"])
LIBRARIES = pathlib.Path(os.environ["KMEM_BUILD_DIR"]) / "lib"
SHARED, ARCHIVE = LIBRARIES / "libkmem-malloc.so", LIBRARIES / "libkmem-malloc.a"
PROGRAMS = SOURCE / "tests/programs/interface"
C = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-result", "-fno-builtin"]
CXX = ["c++", "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror"]


def documented_names():
    """What docs/malloc.md says is exported: the first column of its first table."""
    names = set()
    for line in (SOURCE / "docs/malloc.md").read_text().split("## Differences")[0].splitlines():
        if line.startswith("| `"):
            names.update(re.findall(r"`(\w+)`", line.split("|")[1]))
    return names


def documented_differences():
    """Rows of docs/malloc.md as patterns: (call, the C library's result, kmem's)."""
    rows = []
    for line in (SOURCE / "docs/malloc.md").read_text().split("## Differences")[1].splitlines():
        if line.startswith("| `"):
            rows.append(tuple(cell.strip().strip("`") for cell in line.split("|")[1:4]))
    return rows


class Interface(unittest.TestCase):
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.at = pathlib.Path(cls.scratch.name)
        cls.calls = cls.build("calls", C, "calls.c")
        cls.operators = cls.build("operators", CXX, "operators.cpp")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @classmethod
    def build(cls, name, compiler, *arguments):
        sources = [PROGRAMS / a if isinstance(a, str) and a.endswith((".c", ".cpp")) else a for a in arguments]
        result = subprocess.run([*compiler, *sources, "-o", cls.at / name], capture_output=True, text=True)
        if result.returncode != 0:
            raise AssertionError(f"{name} cannot be built:\n{result.stderr}")
        return cls.at / name

    def run_it(self, program, *arguments, preload=False, cmdline=None, address_space=None, code=0):
        environment = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "KMEM_CMDLINE")}
        if preload:
            environment["LD_PRELOAD"] = str(SHARED)
        if cmdline is not None:
            environment["KMEM_CMDLINE"] = cmdline

        def limit():
            if address_space is not None:
                resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))

        result = subprocess.run([program, *arguments], capture_output=True, text=True, env=environment, preexec_fn=limit, timeout=100)
        self.assertEqual(result.returncode, code, f"{program.name} {arguments}: {result.stdout[-500:]}{result.stderr[-500:]}")
        return result

    def assert_served(self, program, **how):
        """By kmem, which alone looks at KMEM_CMDLINE."""
        result = self.run_it(program, cmdline="nonsense=1", code=127, **how)
        self.assertRegex(result.stderr, "kmem: KMEM_CMDLINE: .*nonsense")

    def table(self, program, **how):
        lines = self.run_it(program, "table", **how).stdout.splitlines()
        self.assertGreater(len(lines), 3000)
        return [tuple(line.split(": ", 1)) for line in lines]

    def test_every_call_is_answered_as_the_c_library_does_but_for_what_is_documented(self):
        rows = documented_differences()
        self.assertGreaterEqual(len(rows), 3)
        true_rows = set()
        plain, ours = self.table(self.calls), self.table(self.calls, preload=True)
        self.assertEqual([call for call, _ in plain], [call for call, _ in ours])
        for (call, theirs), (_, result) in zip(plain, ours):
            matching = [row for row in rows if fnmatch.fnmatchcase(call, row[0]) and fnmatch.fnmatchcase(result, row[2])]
            used = [row for row in matching if fnmatch.fnmatchcase(theirs, row[1])]
            if theirs != result:
                self.assertTrue(used, f"{call}: {result}, and in the C library: {theirs}")
                true_rows.update(used)
            else:  # a newer C library may answer as kmem does
                true_rows.update(row for row in matching if row[1] in ("*", "do not exist"))
            for wrong in ("not aligned", "too small", "not cleared", "lost", "damaged", "something else"):
                self.assertNotIn(wrong, result, call)
        self.assertEqual(set(rows) - true_rows, set(), "rows of docs/malloc.md that are not true")

    def test_all_of_it_is_preloaded_and_all_of_it_is_documented(self):
        lines = self.run_it(self.calls, "owners", preload=True).stdout.splitlines()
        owners = dict(line.split(": ") for line in lines)
        self.assertEqual(set(owners.values()), {"libkmem-malloc.so"}, owners)
        self.assertEqual(set(owners), documented_names())
        exports = subprocess.run(["nm", "-D", "-P", "--defined-only", SHARED], capture_output=True, text=True, check=True).stdout
        self.assertEqual({line.split()[0] for line in exports.splitlines()}, set(owners))

    def test_random_failures_lose_nothing_and_say_enomem(self):
        # The first bytes are those of the program's start, which may not fail.
        for point in ("failslab=1,20,200000,-1", "fail_page_alloc=1,20,2000000,-1",
                      "failslab=3,50,200000,-1 fail_page_alloc=1,5,2000000,-1"):
            with self.subTest(point=point):
                self.assertRegex(self.run_it(self.calls, "faults", preload=True, cmdline=point).stdout, r"^\d+ failed, \d+ served\n$")
        with self.subTest("no memory"):
            self.run_it(self.calls, "faults", preload=True, cmdline="mem=4M")

    def test_malloc_info_and_malloc_stats_have_the_c_librarys_form(self):
        forms, labels = [], []
        for preload in (False, True):
            path = self.at / f"info-{preload}.xml"
            labels.append(re.findall(r"^(\w.*?) *(?:=|:$)", self.run_it(self.calls, "info", path, preload=preload).stderr, re.M))
            root = xml.parse(path).getroot()
            forms.append({(element.tag, element.get("type"), *sorted(element.keys())) for element in root.iter()})
        optional = {("size", None, "count", "from", "to", "total"), ("unsorted", None, "count", "from", "to", "total"),
                    ("aspace", "subheaps", "size", "type")}
        self.assertIn(("size", None, "count", "from", "to", "total"), forms[1])
        self.assertEqual(forms[0] - optional, forms[1] - optional)
        self.assertEqual(labels[1][:len(labels[0])], labels[0])
        self.assertEqual(labels[1][len(labels[0]):], ["kmem", "budget bytes", "metadata bytes", "NULLs returned"])

    def test_every_operator_new_and_delete(self):
        plain = self.run_it(self.operators, "forms").stdout
        self.assertGreater(len(plain.splitlines()), 800)
        self.assertNotIn("not aligned", plain)
        self.assertEqual(self.run_it(self.operators, "forms", preload=True).stdout, plain)

    def check_exhaustion(self, text):
        ends = re.findall(r"^(.*) until the end: (.*)$", text, re.M)
        self.assertEqual(len(ends), 12 * 4)
        for what, end in ends:
            word = "nullptr" if "nothrow" in what else "bad_alloc"
            self.assertEqual(end, f"{word}, {word}; more than 4 MiB; as much again", what)
        self.assertIn("new with a handler that frees memory at its second call: memory after 2 calls\n", text)
        self.assertIn("new with a handler that removes itself at its third call: bad_alloc after 3 calls\n", text)
        self.assertIn("new with a handler that throws bad_alloc: bad_alloc after 1 calls\n", text)
        ends = re.findall(r"^(.*) with a handler that throws: (.*)$", text, re.M)
        self.assertEqual(len(ends), 12)
        for what, end in ends:
            self.assertEqual(end, "nullptr" if "nothrow" in what else "bad_alloc", what)
        self.assertIn("calls of that handler: 12\n", text)
        self.assertIn("bad_alloc without a byte left: caught 100 times\n", text)

    def test_operator_new_ends_in_handlers_and_bad_alloc(self):
        self.check_exhaustion(self.run_it(self.operators, "exhaustion", preload=True, cmdline="mem=16M").stdout)

    def test_the_test_of_exhaustion_holds_for_the_c_library(self):
        self.check_exhaustion(self.run_it(self.operators, "exhaustion", address_space=64 << 20).stdout)

    def test_a_c_plus_plus_run_time_that_is_linked_in_is_served(self):
        program = self.build("operators_own", [*CXX, "-static-libstdc++", "-static-libgcc"], "operators.cpp")
        self.assert_served(program, preload=True)
        self.check_exhaustion(self.run_it(program, "exhaustion", preload=True, cmdline="mem=16M").stdout)

    def test_operators_that_a_program_replaces_get_every_call(self):
        program = self.build("replaced", [*CXX, "-Wno-sized-deallocation"], "replaced.cpp")
        self.assertEqual(self.run_it(program, preload=True).stdout, "6 news, 6 deletes, 0 of them foreign\n")

    def test_a_c_program_that_loads_c_plus_plus(self):
        program = self.build("loader", C, "loader.c")
        plugin = self.build("plugin.so", [*CXX, "-fPIC", "-shared"], "plugin.cpp")
        text = self.run_it(program, plugin, preload=True, cmdline="mem=16M").stdout
        self.assertEqual(text, "bad_alloc caught 2 times\n" * 2)

    def test_static_programs(self):
        calls = self.build("calls_static", [*C, "-static", "-DSTATIC"], "calls.c", ARCHIVE)
        self.assertEqual(self.table(calls), self.table(self.calls, preload=True))
        self.run_it(calls, "faults", cmdline="failslab=1,20,200000,-1")
        # Only the C++ run time calls malloc here, and it comes behind the archive.
        operators = self.build("operators_static", [*CXX, "-static", "-Wl,-u,malloc"], "operators.cpp", ARCHIVE)
        self.assert_served(operators)
        self.check_exhaustion(self.run_it(operators, "exhaustion", cmdline="mem=16M").stdout)

    def test_the_archive_goes_with_libkmem(self):
        program = self.build("both", [*CXX, "-Wl,-u,malloc", f"-I{SOURCE / 'include'}"], SOURCE / "examples/hello.cpp", ARCHIVE,
                             LIBRARIES / "libkmem.a", "-pthread")
        self.assertIn("112 bytes for 100 asked", self.run_it(program).stdout)
        self.assert_served(program)
        # Both have a machine of their own. Failures and reports use what the two archives have in common.
        program = self.build("both_exhausted", [*CXX, "-Wl,-u,malloc", f"-I{SOURCE / 'include'}"], "exhausted.cpp", ARCHIVE,
                             LIBRARIES / "libkmem.a", "-pthread")
        result = self.run_it(program)
        self.assertRegex(result.stdout, r"a record of the last step \w+; vmalloc served")
        self.assertIn("page allocation failure", result.stderr)
        names = subprocess.run(["nm", "-g", "-P", "--defined-only", ARCHIVE], capture_output=True, text=True, check=True).stdout
        self.assertEqual({line.split()[0] for line in names.splitlines() if len(line.split()) > 1}, documented_names())


unittest.main(verbosity=2)
