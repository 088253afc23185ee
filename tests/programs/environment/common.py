"""What the environment tests share: the helper program, built once per test, run with limits and parameters."""
import os
import pathlib
import resource
import subprocess
import tempfile
import unittest

BUILD = pathlib.Path(os.environ["KMEM_BUILD_DIR"])
SOURCE = pathlib.Path(os.environ["KMEM_SOURCE_DIR"])
MIB = 1 << 20


class EnvironmentTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.helper = str(pathlib.Path(cls.folder.name) / "helper")
        subprocess.run(["c++", "-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{SOURCE}/include",
                        str(SOURCE / "tests/programs/environment/helper.cpp"), str(BUILD / "lib/libkmem.a"), "-pthread",
                        "-o", cls.helper], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_helper(self, *arguments, cmdline=None, limits=(), before=None, environment=()):
        """Runs the helper. `limits`: (resource, bytes) pairs; `before`: called in the child. Return: the finished process."""
        variables = {name: value for name, value in os.environ.items() if name != "KMEM_CMDLINE"}
        variables.update(environment)
        if cmdline is not None:
            variables["KMEM_CMDLINE"] = cmdline

        def prepare():
            for what, amount in limits:
                resource.setrlimit(what, (amount, resource.getrlimit(what)[1]))
            if before is not None:
                before()

        return subprocess.run([self.helper, *arguments], env=variables, preexec_fn=prepare, capture_output=True, text=True, timeout=200)

    def serve(self, *arguments, **how):
        """The helper must be content. Return: its facts by name, and what it wrote to stderr under "stderr"."""
        done = self.run_helper(*arguments, **how)
        self.assertEqual(done.returncode, 0, f"{arguments} {how}\n{done.stdout}{done.stderr}")
        facts = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        facts = {name: int(value) if value.isdigit() else value for name, value in facts.items()}
        facts["stderr"] = done.stderr
        facts["stdout"] = done.stdout
        return facts
