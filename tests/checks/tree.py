"""A small tree in a temporary folder, and a check run on it. What a check must find is planted by one more file."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent.parent / "scripts"


def run(script, *arguments, **options):
    """(exit status, output) of a script of scripts/."""
    done = subprocess.run([sys.executable, str(SCRIPTS / script), *map(str, arguments)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **options)
    return done.returncode, done.stdout


class TreeTest(unittest.TestCase):
    """Sub-classes set `script` and `good`, the files (name to text) of a tree with which it is content."""
    script = ""
    good = {}

    def check(self, planted=None):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**self.good, **(planted or {})}.items():
                if text is None:
                    continue
                path = pathlib.Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return run(self.script, "--root", folder)

    def content_with(self, planted=None):
        status, output = self.check(planted)
        self.assertEqual(status, 0, output)

    def finds(self, planted, *expected):
        """The planted files are reported: exactly one finding a string, each in a line of its own that contains it."""
        status, output = self.check(planted)
        self.assertEqual(status, 1, output)
        for text in expected:
            self.assertIn(text, output)
        self.assertIn(f": {len(expected)} finding", output.rstrip().split("\n")[-1], output)

    def test_good_tree_passes(self):
        self.content_with()
