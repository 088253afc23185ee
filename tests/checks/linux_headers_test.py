"""docs/linux-headers.md names every header of the include root, and nothing that counts is among the names that mean nothing."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FORBIDDEN = re.compile(r"lock|mutex|sem|irq|preempt|sched|sleep|alloc|free|slab|gfp|shrink|mempool|timer|tasklet")


class LinuxHeaders(unittest.TestCase):
    def setUp(self):
        self.page = (ROOT / "docs/linux-headers.md").read_text()
        self.headers = sorted(str(path.relative_to(ROOT / "linux")) for path in (ROOT / "linux").rglob("*.h"))

    def test_every_header_is_named_and_exists(self):
        named = set(re.findall(r"`((?:linux|asm|kmem)/[\w/]+\.h)`", self.page))
        self.assertEqual(sorted(named), self.headers)

    def test_nothing_that_counts_is_a_no_op(self):
        nothing = self.page.split("## Nothing")[1]
        rows = [line for line in nothing.split("\n") if line.startswith("| `")]
        self.assertGreater(len(rows), 3)
        for row in rows:
            names = re.findall(r"`([^`]+)`", row)
            for name in names:
                self.assertIsNone(FORBIDDEN.search(name.replace("MODULE_LICENSE", "")), f"{name} may not mean nothing")

    def test_macros_that_do_nothing_are_listed(self):
        for header in self.headers:
            for name in re.findall(r"^#define (\w+)(?:\([^)]*\))?[ \t]*$", (ROOT / "linux" / header).read_text(), re.M):
                if not name.startswith("KMEM_") and name != "__read_mostly":
                    self.assertIn(header, self.page.split("## Nothing")[1], f"{name} of {header} is defined as nothing")


unittest.main()
