"""The pages for users name functions, parameters and targets that exist."""
import pathlib
import re
import unittest
from tree import SCRIPTS

ROOT = SCRIPTS.parent


def text_of(*patterns):
    return "\n".join(path.read_text() for pattern in patterns for path in sorted(ROOT.glob(pattern)))


class Documents(unittest.TestCase):
    def setUp(self):
        self.pages = {name: (ROOT / "docs" / name).read_text() for name in ("migration.md", "using.md", "malloc.md", "abi.md")}

    def test_functions_of_the_interface(self):
        headers = text_of("include/kmem/*")
        targets = set(re.findall(r"kmem_install_library\(\w+ (\w+) \w+\)", text_of("cmake/install.cmake"))) | {"linux"}
        for page, text in self.pages.items():
            names = {name for name in re.findall(r"\bkmem::(\w+)", text)}
            for name in sorted(names - targets):
                self.assertRegex(headers, rf"\b{name}\b", f"docs/{page}: kmem::{name} does not exist")
        self.assertLessEqual({"kmem", "kmem_shared", "malloc", "malloc_static", "linux"}, targets)

    def test_functions_of_malloc(self):
        exported = set(re.findall(r"^    (\w+);", text_of("cmake/malloc.map"), re.M))
        for name in set(re.findall(r"`(malloc_\w+|mallinfo2?|mallopt)\(", self.pages["migration.md"])):
            self.assertIn(name, exported, f"docs/migration.md: {name} is not exported")

    def test_parameters(self):
        known = set(re.findall(r"^\| `([\w.]+)` \|", text_of("docs/parameters.md"), re.M))
        for page, text in self.pages.items():
            for name in set(re.findall(r"`((?:vm\.)?[a-z_]+)=\w*[^`]*`", text)) - {"x"}:
                self.assertIn(name, known, f"docs/{page}: there is no parameter {name}=")

    def test_headers_and_examples(self):
        for page, text in self.pages.items():
            for name in re.findall(r"\b(kmem/\w+\.hp?p?)\b", text):
                self.assertTrue((ROOT / "include" / name).exists(), f"docs/{page}: there is no {name}")
            for name in re.findall(r"\b(?:examples/)?((?:rust|python|redis)/[\w.]+)", text):
                self.assertTrue((ROOT / "examples" / name).exists(), f"docs/{page}: there is no {name}")

    def test_rust_in_the_page_is_that_of_the_example(self):
        shown = re.search(r"```rust\n(.*?)```", self.pages["using.md"], re.S).group(1)
        self.assertIn(shown, (ROOT / "examples/rust/kmem.rs").read_text())


if __name__ == "__main__":
    unittest.main()
