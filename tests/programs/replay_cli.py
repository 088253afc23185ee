#!/usr/bin/env python3
"""The command line of `kmem replay`: exit codes, messages, files, and what the JSON holds."""
import bz2
import gzip
import json
import lzma
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time
import unittest

BUILD = pathlib.Path(os.environ["KMEM_BUILD_DIR"])
SOURCE = pathlib.Path(os.environ["KMEM_SOURCE_DIR"])
KMEM = BUILD / "bin" / "kmem"

OBJECT = "            task-1 [000] ..... {time}: kmalloc: call_site=f+0x1/0x2 ptr={ptr:016x} bytes_req={size} bytes_alloc={size} " \
         "gfp_flags={gfp} node=-1 accounted=false\n"
FREE = "            task-1 [001] ..s1. {time}: kfree: call_site=f+0x1/0x2 ptr={ptr:016x}\n"

# What users of the JSON may count on.
KEYS = ["format", "format_version", "kmem_version", "traces", "threads", "completed", "events", "allocs", "frees", "failed",
        "unmatched_frees", "budget_bytes", "charged_peak_bytes", "live_peak_bytes", "metadata_bytes", "errors", "by_gfp", "by_cache",
        "by_kind", "by_context", "latency_ns", "failures", "samples", "block_maps", "slabinfo", "buddyinfo", "error_list",
        "dropped_pages", "charged_after_bytes"]


def small_trace(objects=50):
    lines = []
    for number in range(objects):
        lines.append(OBJECT.format(time=f"1.{2 * number:06}", ptr=0xffff888000000000 + number * 0x4000, size=64, gfp="GFP_KERNEL"))
        if number % 2:
            lines.append(FREE.format(time=f"1.{2 * number + 1:06}", ptr=0xffff888000000000 + number * 0x4000))
    return "".join(lines)


class Replay(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.place = pathlib.Path(self.folder.name)
        self.trace = self.file("small.trace", small_trace().encode())

    def file(self, name, contents):
        path = self.place / name
        path.write_bytes(contents)
        return str(path)

    def run_kmem(self, *arguments, stdin=None, env=None):
        environment = {name: value for name, value in os.environ.items() if name != "KMEM_CMDLINE"}
        environment.update(env or {})
        return subprocess.run([KMEM, *arguments], input=stdin, capture_output=True, env=environment, timeout=120)

    def replay(self, *arguments, **more):
        return self.run_kmem("replay", "--mem", "64M", *arguments, **more)

    def expect(self, result, code, *texts):
        output = result.stderr.decode()
        self.assertEqual(result.returncode, code, output + result.stdout.decode()[-2000:])
        for text in texts:
            self.assertIn(text, output)

    def result_of(self, *arguments, code=0, **more):
        path = self.place / "result.json"
        done = self.replay("--json", str(path), *arguments, **more)
        self.assertEqual(done.returncode, code, done.stderr.decode())
        return json.loads(path.read_text())

    # ---- arguments ------------------------------------------------------------------------------------------------

    def test_help_and_version(self):
        self.assertEqual(self.run_kmem("--version").stdout.decode().strip(), "0.1.0")
        text = self.run_kmem("replay", "--help").stdout.decode()
        for option in ["--mem", "--threads", "--touch", "--verify", "--keep-going", "--param", "--json", "--html", "--compare", "--quiet",
                       "--no-progress"]:
            self.assertIn(option, text)

    def test_wrong_arguments(self):
        self.expect(self.run_kmem(), 2, "kmem --help")
        self.expect(self.run_kmem("reply"), 2, "reply")
        self.expect(self.run_kmem("replay"), 2, "TRACE is required")
        self.expect(self.replay("--fast", self.trace), 2, "--fast")
        for threads in ["0", "257", "two", "-1"]:
            self.expect(self.replay("--threads", threads, self.trace), 2, "--threads")
        self.expect(self.replay("--param", "cpus", self.trace), 2, "--param 'cpus': expected NAME=VALUE")
        self.expect(self.replay("--param", "no_such=1", self.trace), 2, "no_such")
        self.expect(self.replay("--param", "mem=1M", self.trace), 2, "both state the budget")
        self.expect(self.replay("--compare-html", str(self.place / "x"), self.trace), 2, "--compare-html needs --compare")

    def test_wrong_budgets(self):
        for size in ["1M", "abc", "0", "64MB", "101%", "64 M", ""]:
            done = self.run_kmem("replay", "--mem", size, self.trace)
            self.assertEqual(done.returncode, 2, size)
            self.assertIn("mem", done.stderr.decode())

    def test_parameters_come_from_the_environment_and_the_command_line(self):
        done = self.run_kmem("replay", "--quiet", "--json", "-", self.trace, env={"KMEM_CMDLINE": "mem=16M"})
        self.assertEqual(json.loads(done.stdout)["budget_bytes"], 16 << 20)
        done = self.run_kmem("replay", "--quiet", "--json", "-", "--param", "mem=32M", self.trace, env={"KMEM_CMDLINE": "mem=16M"})
        self.assertEqual(json.loads(done.stdout)["budget_bytes"], 32 << 20)
        self.expect(self.run_kmem("replay", self.trace, env={"KMEM_CMDLINE": "mem=lots"}), 2, "mem=lots")

    # ---- traces that cannot be used -----------------------------------------------------------------------------------

    def test_files_that_cannot_be_read(self):
        self.expect(self.replay(str(self.place / "none")), 2, "none: ", "No such file or directory")
        self.expect(self.replay(str(self.place)), 2, str(self.place), "directory")
        self.expect(self.replay("/proc/self/mem"), 2, "/proc/self/mem", "cannot be read")
        self.expect(self.replay(self.file("empty", b"")), 2, "empty", "expected")

    def test_bytes_that_are_no_trace(self):
        self.expect(self.replay(self.file("random", random.Random(1).randbytes(100_000))), 2, "random")
        self.expect(self.replay(self.file("text", b"hello\nworld\n")), 2, "text")
        self.expect(self.replay(self.file("comment", b"# tracer: nop\n#\n")), 2, "no allocation event", "expected")
        self.expect(self.replay(self.file("other.bz2", bz2.compress(small_trace().encode()))), 2, "bzip2")

    def test_truncated_archives(self):
        text = small_trace(3000).encode()
        for name, archive in [("x.gz", gzip.compress(text)), ("x.xz", lzma.compress(text)),
                              ("net.zst", (SOURCE / "traces" / "net.trace.zst").read_bytes()[:100_000])]:
            path = self.file(name, archive[:len(archive) * 2 // 3])
            self.expect(self.replay(path), 2, path)

    def test_a_bad_line_is_named_with_what_was_expected(self):
        text = small_trace() + OBJECT.format(time="2.000000", ptr=0xffff888000f00000, size=64, gfp="GFP_KERNLE")
        path = self.file("bad.trace", text.encode())
        line = text.count("\n")
        self.expect(self.replay(path), 2, f"{path}:{line}:", "GFP_KERNLE", "GFP_KERNEL", "expected")

    def test_bad_input_changes_no_file(self):
        earlier = self.place / "out.json"
        earlier.write_text("earlier")
        self.expect(self.replay("--json", str(earlier), "--html", str(self.place / "out.html"), str(self.place / "none")), 2)
        self.assertEqual(earlier.read_text(), "earlier")
        self.assertEqual(sorted(path.name for path in self.place.iterdir()), ["out.json", "small.trace"])

    def test_keep_going_replays_the_rest_and_tells(self):
        text = small_trace() + "nonsense: of a line [000]\n" + small_trace(2)
        path = self.file("bad.trace", text.encode())
        line = small_trace().count("\n") + 1
        result = self.result_of("--keep-going", path, code=1)
        self.assertTrue(result["completed"])
        self.assertEqual(result["errors"], 1)
        self.assertEqual(result["error_list"][0]["line"], line)
        self.assertEqual(result["allocs"], 52)

    def test_keep_going_uses_what_a_damaged_archive_gave(self):
        archive = gzip.compress(small_trace(5000).encode())
        result = self.result_of("--keep-going", self.file("cut.gz", archive[:len(archive) // 2]), code=1)
        self.assertGreater(result["allocs"], 100)
        self.assertGreaterEqual(result["errors"], 1)

    # ---- outputs ------------------------------------------------------------------------------------------------------------

    def test_outputs_that_cannot_be_written_are_told_before_the_replay(self):
        for option in ["--json", "--html"]:
            self.expect(self.replay(option, str(self.place / "no" / "x"), self.trace), 2,
                        "No such file or directory; make its directory first")
            self.expect(self.replay(option, str(self.place), self.trace), 2, "Is a directory; name a file in it")
        same = str(self.place / "same")
        self.expect(self.replay("--json", same, "--html", same, self.trace), 2, "two reports")

    def test_a_full_disk_is_an_error(self):
        self.expect(self.replay("--json", "/dev/full", self.trace), 2, "/dev/full", "No space left on device")
        for arguments in (["replay", "--mem", "64M", self.trace], ["gfp", "GFP_KERNEL"], ["params"], ["--help"], ["--version"]):
            with self.subTest(arguments), open("/dev/full", "wb") as full:
                result = subprocess.run([KMEM, *arguments], stdout=full, stderr=subprocess.PIPE, timeout=120)
                self.assertEqual(result.returncode, 2)
                self.assertEqual(result.stderr, b"kmem: standard output: cannot be written: No space left on device\n")

    def test_json_has_what_users_need(self):
        result = self.result_of("--verify", "--threads", "2", self.trace)
        for key in KEYS:
            self.assertIn(key, result)
        self.assertEqual(result["format"], "kmem replay")
        self.assertEqual((result["events"], result["allocs"], result["frees"], result["failed"], result["errors"]), (75, 50, 25, 0, 0))
        self.assertEqual(result["budget_bytes"], 64 << 20)
        self.assertEqual(result["threads"], 2)
        self.assertEqual(result["live_at_end_objects"], 25)
        self.assertEqual(result["charged_after_bytes"], 0)
        self.assertEqual(result["by_gfp"]["GFP_KERNEL"]["allocs"], 50)
        self.assertEqual(result["by_cache"]["kmalloc-64"]["allocs"], 50)
        self.assertEqual(sum(path["count"] for path in result["latency_ns"].values()), 75)
        samples = result["samples"]
        for charged, metadata, budget in zip(samples["charged_bytes"], samples["metadata_bytes"], samples["budget_bytes"]):
            self.assertLessEqual(charged + metadata, budget)

    def test_standard_output_can_be_the_json(self):
        done = self.replay("--json", "-", self.trace)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(json.loads(done.stdout)["allocs"], 50)

    def test_quiet_prints_nothing(self):
        done = self.replay("--quiet", self.trace)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    def test_the_table(self):
        done = self.replay("--verify", self.trace)
        text = done.stdout.decode()
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        for part in ["all 50 allocations were served", "Budget 64 MiB", "GFP_KERNEL", "Latency by path", "slabinfo", "buddyinfo",
                     "kmalloc-64"]:
            self.assertIn(part, text)
        self.assertNotIn("\x1b", text)

    def test_html_is_one_file(self):
        page = self.place / "page.html"
        self.assertEqual(self.replay("--html", str(page), self.trace).returncode, 0)
        text = page.read_text()
        self.assertTrue(text.startswith("<!DOCTYPE html>"))
        self.assertIn("</html>", text)
        self.assertIn("<svg", text)
        self.assertNotIn("src=\"http", text)

    def test_compare(self):
        first = str(self.place / "first.json")
        self.assertEqual(self.replay("--json", first, self.trace).returncode, 0)
        page = self.place / "page.html"
        done = self.run_kmem("replay", "--mem", "16M", "--compare", first, "--compare-html", str(page), self.trace)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertIn("Comparison", done.stdout.decode())
        self.assertIn("64 MiB", page.read_text())
        self.assertIn("16 MiB", page.read_text())

    def test_compare_with_something_else(self):
        for name, contents, text in [("a", b"not json", "--compare takes a file"), ("b", b"{}", "--compare takes a file"),
                                     ("c", b'{"format": "other"}', "--compare takes a file")]:
            self.expect(self.replay("--compare", self.file(name, contents), self.trace), 2, text)
        self.expect(self.replay("--compare", str(self.place / "none"), self.trace), 2, "cannot be read: No such file or directory")
        self.expect(self.replay("--compare", str(self.place), self.trace), 2, "cannot be read: Is a directory")

    # ---- inputs that are alike ----------------------------------------------------------------------------------------------

    def test_compressed_and_piped_traces_give_the_same(self):
        text = small_trace().encode()
        expected = self.result_of(self.trace)
        for name, contents in [("x.gz", gzip.compress(text)), ("x.xz", lzma.compress(text))]:
            result = self.result_of(self.file(name, contents))
            self.assertEqual((result["allocs"], result["frees"]), (expected["allocs"], expected["frees"]))
        result = self.result_of("-", stdin=text)
        self.assertEqual((result["allocs"], result["frees"]), (expected["allocs"], expected["frees"]))

    def test_several_traces(self):
        result = self.result_of(self.trace, self.trace, self.trace)
        self.assertEqual((len(result["traces"]), result["allocs"], result["live_at_end_objects"]), (3, 150, 75))

    # ---- stopping --------------------------------------------------------------------------------------------------------------

    def test_an_interrupted_replay_still_reports(self):
        path = self.place / "result.json"
        # A budget in which nearly everything fails is slow, so that there is time to interrupt it.
        running = subprocess.Popen([KMEM, "replay", "--mem", "16M", "--threads", "1", "--json", path, SOURCE / "traces" / "ext4.trace.zst"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not self.has_thread(running.pid, "replay-0") and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=60)
        self.assertEqual(running.returncode, 130)
        self.assertIn("interrupted", output.decode())
        result = json.loads(path.read_text())
        self.assertFalse(result["completed"])
        self.assertEqual(result["stop_reason"], "interrupted")
        self.assertLess(result["allocs"], 294557)
        self.assertEqual(result["charged_after_bytes"], 0)

    @staticmethod
    def has_thread(pid, name):
        try:
            return any(entry.joinpath("comm").read_text().strip() == name for entry in pathlib.Path(f"/proc/{pid}/task").iterdir())
        except OSError:
            return False


class OtherCommands(unittest.TestCase):
    def run_kmem(self, *arguments):
        return subprocess.run([KMEM, *arguments], capture_output=True, text=True, timeout=60)

    def test_gfp_both_ways(self):
        for text in ["GFP_ATOMIC|__GFP_ZERO", "0xb20"]:
            done = self.run_kmem("gfp", text)
            self.assertEqual(done.returncode, 0)
            self.assertIn("GFP_ATOMIC|__GFP_ZERO  0xb20", done.stdout)
            self.assertIn("may sleep no, start I/O no, call file systems no, use the reserve yes, fail yes", done.stdout)
            self.assertRegex(done.stdout, r"reserve +yes")
            self.assertRegex(done.stdout, r"reclaim +no")
        kernel = self.run_kmem("gfp", "GFP_KERNEL", "--order", "3").stdout
        self.assertRegex(kernel, r"reclaim +yes")
        self.assertIn("request of order 3", kernel)
        self.assertIn("as many as it takes", self.run_kmem("gfp", "GFP_KERNEL|__GFP_NOFAIL").stdout)

    def test_gfp_that_is_not_understood(self):
        done = self.run_kmem("gfp", "GFP_KERNEL|__GFP_ZER")
        self.assertEqual(done.returncode, 2)
        self.assertIn("__GFP_ZERO", done.stderr)
        self.assertEqual(self.run_kmem("gfp").returncode, 2)

    def test_params(self):
        done = self.run_kmem("params")
        self.assertEqual(done.returncode, 0)
        for name in ["mem", "vm.min_free_kbytes", "max_order", "vm.reserve_policy"]:
            self.assertIn(name, done.stdout)


if __name__ == "__main__":
    unittest.main()
