#!/usr/bin/env python3
"""The traces that come with the project, replayed with every byte checked: at 1, 2 and 8 threads, with memory enough and too little."""
import json
import os
import pathlib
import subprocess
import unittest

KMEM = pathlib.Path(os.environ["KMEM_BUILD_DIR"]) / "bin" / "kmem"
TRACES = pathlib.Path(os.environ["KMEM_SOURCE_DIR"]) / "traces"
ALLOCS = {"net": 439289, "ext4": 294557}


def replay(trace, memory, threads, *options):
    done = subprocess.run([KMEM, "replay", "--mem", memory, "--threads", str(threads), "--json", "-", *options,
                           TRACES / f"{trace}.trace.zst"], capture_output=True, timeout=250)
    if done.returncode not in (0, 1):
        raise AssertionError(f"{trace} in {memory}: exit code {done.returncode}: {done.stderr.decode()}")
    return json.loads(done.stdout)


class Traces(unittest.TestCase):
    def check(self, trace, result):
        self.assertEqual(result["errors"], 0, result["error_list"])
        self.assertTrue(result["completed"])
        self.assertEqual(result["charged_after_bytes"], 0)
        self.assertEqual(result["allocs"], ALLOCS[trace])
        samples = result["samples"]
        self.assertGreater(len(samples["time_ns"]), 500)
        self.assertEqual(samples["time_ns"], sorted(samples["time_ns"]))
        for charged, metadata, budget in zip(samples["charged_bytes"], samples["metadata_bytes"], samples["budget_bytes"]):
            self.assertLessEqual(charged + metadata, budget)
        # What was allocated is free again by one way or another. Some droppable blocks have more than one page.
        gone = result["frees"] + result["failed"] + result["live_at_end_objects"]
        self.assertLessEqual(gone, result["allocs"])
        self.assertGreaterEqual(gone + result["dropped_pages"], result["allocs"])
        self.assertEqual(sum(row["allocs"] for row in result["by_gfp"].values()), result["allocs"])
        self.assertEqual(sum(row["failed"] for row in result["by_gfp"].values()), result["failed"])
        self.assertEqual(sum(row["allocs"] for row in result["by_context"]), result["allocs"])
        self.assertEqual(sum(row["failed"] for row in result["by_kind"].values()), result["failed"])
        self.assertEqual(samples["failed"][-1], result["failed"])

    def test_with_memory_enough_nothing_fails(self):
        for trace in ALLOCS:
            for threads in (1, 2, 8):
                with self.subTest(trace=trace, threads=threads):
                    result = replay(trace, "256M", threads, "--verify")
                    self.check(trace, result)
                    self.assertEqual(result["failed"], 0)
                    self.assertEqual(result["dropped_pages"], 0)

    def test_with_too_little_nothing_breaks(self):
        for trace, memory, threads in [("net", "24M", 1), ("net", "24M", 2), ("net", "24M", 8), ("net", "64M", 2), ("ext4", "96M", 1),
                                       ("ext4", "96M", 2), ("ext4", "96M", 8)]:
            with self.subTest(trace=trace, memory=memory, threads=threads):
                result = replay(trace, memory, threads, "--verify")
                self.check(trace, result)
                self.assertGreater(result["dropped_pages"], 0)

    # What the flags mean: who may reclaim is served, who may not wait is not.
    def test_flags_decide_who_gets_memory(self):
        result = replay("net", "24M", 1)
        self.check("net", result)
        failed = {}
        for row in result["by_context"]:
            failed[row["gfp_class"]] = failed.get(row["gfp_class"], 0) + row["failed"]
        for name in ("GFP_KERNEL", "GFP_KERNEL_ACCOUNT", "GFP_HIGHUSER_MOVABLE", "GFP_USER", "GFP_NOFS"):
            self.assertEqual(failed[name], 0, name)
        self.assertGreater(failed["GFP_NOWAIT"], 100)
        # Those with __GFP_NOMEMALLOC may not touch the reserve; the others do, and are served.
        self.assertEqual(result["by_gfp"]["GFP_ATOMIC"]["failed"], 0)
        self.assertGreater(result["by_gfp"]["GFP_ATOMIC|__GFP_NOWARN|__GFP_NORETRY|__GFP_NOMEMALLOC"]["failed"], 0)

    def test_one_thread_counts_the_same_every_time(self):
        def counted(result):
            kept = {key: result[key] for key in ("allocs", "frees", "failed", "dropped_pages", "late_frees_of_dropped",
                                                 "charged_peak_bytes", "live_peak_bytes", "metadata_bytes", "by_context", "by_kind",
                                                 "block_maps", "slabinfo")}
            kept["samples"] = {key: value for key, value in result["samples"].items() if key != "arena_resident_bytes"}
            return kept
        first, second = (counted(replay("net", "24M", 1)) for _ in range(2))
        for key, value in first.items():
            self.assertEqual(value, second[key], key)

    def test_the_shape_of_the_machine_does_not_matter(self):
        for parameter in ("backing=memfd", "max_order=10", "vm.reserve_policy=linux6.1", "cpus=1"):
            with self.subTest(parameter=parameter):
                result = replay("net", "48M", 2, "--verify", "--param", parameter)
                self.check("net", result)


if __name__ == "__main__":
    unittest.main()
