"""What the checks share: the files of a tree, text without comments and strings, and findings that end in an exit status."""
import argparse
import pathlib
import re
import subprocess
import sys

LAYERS = ["arch", "plat", "base", "memmap", "page_alloc", "slab", "kmalloc", "vmalloc", "reclaim", "interrupt", "debug"]
FACES = ["face_cxx", "face_malloc", "face_linux"]
SKIPPED_FOLDERS = {"build", "out", ".git", "__pycache__", ".cache"}


class Findings:
    """Collects `file:line: message`, prints each, and knows the exit status."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.count = 0

    def add(self, path, line, message):
        path = pathlib.Path(path)
        if path.is_absolute() and path.is_relative_to(self.root):
            path = path.relative_to(self.root)
        self.count += 1
        print(f"{path}:{line}: {message}" if line else f"{path}: {message}")

    def finish(self, what):
        """Prints the outcome and leaves with it."""
        print(f"{what}: {self.count} finding{'' if self.count == 1 else 's'}")
        sys.exit(1 if self.count else 0)


def root_argument(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent,
                        help="the tree to check; default: the one this script is in")
    return parser


def tree_files(root):
    """Files of the tree, sorted: what git knows or would add; every file where there is no git."""
    root = pathlib.Path(root).resolve()
    listing = subprocess.run(["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"], check=False, capture_output=True)
    if (root / ".git").exists() and listing.returncode == 0:
        found = [root / name for name in listing.stdout.decode().split("\0") if name]
    else:
        found = [p for p in root.rglob("*") if not SKIPPED_FOLDERS & set(p.relative_to(root).parts)]
    return sorted(p for p in found if p.is_file())


def code_only(text):
    """The text with comments and the insides of literals blanked; line numbers and columns stay."""
    def blank(match):
        kept = match.group(0)
        if kept[0] in "\"'":
            return kept[0] + re.sub(r"[^\n]", " ", kept[1:-1]) + kept[-1]
        return re.sub(r"[^\n]", " ", kept)
    pattern = (r'//[^\n]*|/\*.*?\*/|R"([^()\\\s]{0,16})\(.*?\)\1"|"(?:\\.|[^"\\\n])*"'
               r"|(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'")
    return re.sub(pattern, blank, text, flags=re.S)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1
