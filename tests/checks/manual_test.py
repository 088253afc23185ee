"""scripts/manual on a copy of the manual, with one thing changed."""
import pathlib
import shutil
import tempfile
import unittest
from tree import SCRIPTS, run

ROOT = SCRIPTS.parent
HELP = """#!/bin/sh
case $1 in
  replay) printf 'Options:\\n  -h,--help   help\\n  --mem SIZE  budget\\n  --quiet     none\\n' ;;
  *) printf 'Subcommands:\\n  replay    Replay\\n  other     Other\\n' ;;
esac
"""


class Manual(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.at = pathlib.Path(self.folder.name)
        for name in ("man", "docs", "include/kmem"):
            shutil.copytree(ROOT / name, self.at / name, ignore=shutil.ignore_patterns("design", "decisions", "bench"))

    def change(self, name, old, new):
        path = self.at / name
        text = path.read_text()
        self.assertIn(old, text)
        path.write_text(text.replace(old, new))

    def finds(self, expected, *more):
        status, output = run("manual", "--root", self.at, *more)
        self.assertEqual(status, 1, output)
        self.assertIn(expected, output)

    def test_content(self):
        status, output = run("manual", "--root", self.at)
        self.assertEqual(status, 0, output)
        self.assertIn("4 pages, 0 findings", output)

    def test_value_of_a_flag(self):
        self.change("docs/gfp.md", "| 0xa20 |", "| 0xa21 |")
        self.finds("gfp.7: differs from docs/gfp.md")
        run("manual", "--root", self.at, "--update")
        self.assertIn(".It Dv GFP_ATOMIC Pq 0xa21\n", (self.at / "man/gfp.7").read_text())

    def test_wrong_markup(self):
        self.change("man/kmem.1", ".Sh ENVIRONMENT\n", ".Sh ENVIRONMENT\n.Bx\n.Nosuchmacro\n")
        self.finds("kmem.1: ERROR: skipping unknown macro")

    def test_page_that_is_not_there(self):
        self.change("man/kmem.1", ".Xr gfp 7", ".Xr gfpp 7")
        self.finds("kmem.1: there is no page gfpp(7)")

    def test_other_prototype(self):
        self.change("man/kmalloc.3", '.Fn kmem_kzalloc "size_t size"', '.Fn kmem_kzalloc "int size"')
        self.finds("kmalloc.3: kmem_kzalloc is ")

    def test_commands_and_options(self):
        program = self.at / "kmem"
        program.write_text(HELP)
        program.chmod(0o755)
        self.finds("does not describe 'kmem other'", "--program", program)
        self.finds("describes 'kmem gfp', which is no command", "--program", program)
        self.finds("'kmem replay' has no option --verify", "--program", program)
        self.change("man/kmem.1", ".It Fl -quiet\n", "")
        self.finds("'kmem replay' has the option --quiet, which is not described", "--program", program)


if __name__ == "__main__":
    unittest.main()
