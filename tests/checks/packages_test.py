"""need_packages of scripts/packages.sh with stand-ins for dpkg-query, apt-get and sudo."""
import os
import pathlib
import subprocess
import tempfile
import unittest
from tree import SCRIPTS

DPKG = '#!/bin/sh\nfor last; do :; done\ncase $last in have*) printf installed;; removed*) printf config-files;; *) exit 1;; esac\n'
APT = '#!/bin/sh\necho "$@" >>"$LOG"\nexit ${APT_STATUS:-0}\n'


class Packages(unittest.TestCase):
    def need(self, *names, root=True, tools=("dpkg-query", "apt-get"), apt_status=0):
        """(exit status, output, what apt-get was asked)."""
        with tempfile.TemporaryDirectory() as folder:
            at = pathlib.Path(folder)
            for name in ("bash", "env", "cat", "mktemp", "rm", "tail"):
                (at / name).symlink_to(subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip())
            for tool in tools:
                (at / tool).write_text({"dpkg-query": DPKG, "apt-get": APT, "sudo": '#!/bin/sh\necho sudo >>"$LOG"\nexec "$@"\n'}[tool])
                (at / tool).chmod(0o755)
            # EUID is read-only in bash, so the function under test is given another name to ask.
            text = (SCRIPTS / "packages.sh").read_text().replace("EUID", "FAKE_UID")
            (at / "packages.sh").write_text(text)
            environment = {"PATH": folder, "LOG": f"{folder}/log", "FAKE_UID": "0" if root else "1000", "APT_STATUS": str(apt_status),
                           "TMPDIR": folder}
            done = subprocess.run([str(at / "bash"), "-uec", f"source {folder}/packages.sh; need_packages {' '.join(names)}; echo done"],
                                  env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            log = (at / "log").read_text() if os.path.exists(at / "log") else ""
            return done.returncode, done.stdout, log

    def test_nothing_is_missing(self):
        status, output, log = self.need("have-a", "have-b")
        self.assertEqual((status, output, log), (0, "done\n", ""))

    def test_installs_what_is_missing_only(self):
        status, output, log = self.need("have-a", "lack-b", "removed-c")
        self.assertEqual(status, 0, output)
        self.assertIn("installing lack-b removed-c\n", output)
        self.assertEqual(log, "update -q\ninstall -y -q --no-install-recommends lack-b removed-c\n")

    def test_with_sudo(self):
        status, output, log = self.need("lack-b", root=False, tools=("dpkg-query", "apt-get", "sudo"))
        self.assertEqual(status, 0, output)
        self.assertEqual(log, "sudo\nupdate -q\nsudo\ninstall -y -q --no-install-recommends lack-b\n")

    def test_neither_root_nor_sudo(self):
        status, output, log = self.need("lack-b", root=False)
        self.assertEqual((status, log), (1, ""))
        self.assertIn("as root: apt-get install lack-b", output)

    def test_apt_fails(self):
        status, output, _ = self.need("lack-b", apt_status=100)
        self.assertEqual(status, 1)
        self.assertIn("could not install lack-b", output)
        self.assertNotIn("done", output)

    def test_not_debian(self):
        status, output, _ = self.need("lack-b", tools=())
        self.assertEqual(status, 0)
        self.assertIn("what Debian 12 calls lack-b", output)


if __name__ == "__main__":
    unittest.main()
