"""The statistics of bench/peers, its report, and its table of rows."""
import math
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "bench/peers"))
import figures
import report
import rows


class Figures(unittest.TestCase):
    def test_quantiles(self):
        self.assertEqual(figures.quantile([3], 0.5), 3)
        self.assertEqual(figures.quantile([4, 1, 3, 2], 0.5), 2.5)
        self.assertEqual(figures.quantile([5, 1, 4, 2, 3], 0.25), 2)
        self.assertEqual(figures.quantile([5, 1, 4, 2, 3], 1), 5)
        with self.assertRaises(ValueError):
            figures.quantile([], 0.5)

    def test_a_summary_is_median_and_quartiles(self):
        self.assertEqual(figures.summary([10, 30, 20, 50, 40]), (30, 20, 40))

    def test_the_best_and_ratios(self):
        medians = {"a": 4.0, "b": 2.0, "c": 8.0}
        self.assertEqual(figures.best(medians), "b")
        self.assertEqual(figures.best(medians, higher_is_better=True), "c")
        self.assertIsNone(figures.best({}))
        self.assertEqual(figures.ratio(4.0, 2.0), 2)
        self.assertEqual(figures.ratio(4.0, 8.0, higher_is_better=True), 2)
        self.assertIsNone(figures.ratio(0.0, 2.0))

    def test_the_geometric_mean(self):
        self.assertTrue(math.isclose(figures.geometric_mean([1, 4, None]), 2))
        self.assertIsNone(figures.geometric_mean([None]))

    def test_behind_is_worse_by_more_than_noise(self):
        peers = {"x": (10, 9, 11), "y": (20, 20, 20)}
        self.assertEqual(figures.behind((15, 14, 16), peers), 1.5)
        self.assertIsNone(figures.behind((15, 10, 16), peers), "the quartiles touch")
        self.assertIsNone(figures.behind((10.4, 10.4, 10.4), {"x": (10, 10, 10)}), "a tie")
        self.assertIsNone(figures.behind((9, 9, 9), peers))
        self.assertIsNone(figures.behind((9, 9, 9), {}))
        self.assertEqual(figures.behind((50, 49, 51), {"x": (100, 99, 100)}, higher_is_better=True), 2)
        self.assertIsNone(figures.behind((50, 49, 99), {"x": (100, 99, 100)}, higher_is_better=True))

    def test_everybody_comes_first_in_turn(self):
        turns = figures.rounds_in_turn(["a", "b", "c"], 4)
        self.assertEqual(turns, [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]])
        self.assertEqual(figures.rounds_in_turn([], 2), [])


class Report(unittest.TestCase):
    fast = rows.Row("fast", "group", "pair", figure="cpu_ns")
    share = rows.Row("share", "group", "payload", figure="payload", higher=True)

    def results(self):
        results = report.Results([self.fast, self.share], ["kmem", "glibc", "other"])
        for value in (3.0, 4.0, 5.0):
            results.add(self.fast, "kmem", {"cpu_ns": value, "peak_kib": 2000}, "")
            results.add(self.fast, "glibc", {"cpu_ns": value / 4, "peak_kib": 1000}, "")
            results.add(self.share, "kmem", {"payload": 96}, "")
        results.add(self.fast, "other", {"cpu_ns": 0.1}, "")
        results.add(self.fast, "other", {}, "killed by signal 11")
        return results

    def test_who_failed_once_is_not_the_best(self):
        results = self.results()
        self.assertEqual(set(results.summaries(self.fast, "cpu_ns")), {"kmem", "glibc"})
        self.assertEqual(results.ratios(self.fast, "cpu_ns"), {"kmem": 4, "glibc": 1})
        text = report.markdown(results, ["head"], [])
        self.assertIn("| fast | ns CPU | 4 | 1 | failed | glibc | 4 |", text)
        self.assertIn("| fast | other | 1 | killed by signal 11 |", text)
        self.assertIn("| fast | 4 | glibc |", text)
        self.assertIn("| share | % of the limit | 96 | - | - | - | - |", text)

    def test_means_are_over_the_rows(self):
        self.assertEqual(self.results().means([self.fast, self.share], None), {"kmem": 2, "glibc": 1, "other": None})

    def test_what_is_written_can_be_read(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "raw.csv"
            records = [("1", "fast", "kmem", "failure", 'a "quoted", text'), ("1", "fast", "glibc", "cpu_ns", "1.5")]
            report.write_raw(path, records)
            self.assertEqual(report.read_raw(path), records)
            report.write_summary(path, self.results())
            self.assertIn("fast,kmem,cpu_ns,4,3.5,4.5,3", path.read_text())

    def test_the_plot_has_every_row_and_peer(self):
        svg = report.plot(self.results(), [self.fast, self.share], "a < b")
        for text in ("a &lt; b", ">fast<", ">share<", ">kmem<", "</svg>"):
            self.assertIn(text, svg)


class Rows(unittest.TestCase):
    def test_names_are_unique_and_figures_have_units(self):
        every = rows.all_rows()
        names = [row.name for row in every]
        self.assertEqual(len(names), len(set(names)))
        for row in every:
            self.assertIn(row.figure, report.UNITS, row.name)
            self.assertTrue(row.workload or row.program, row.name)
            self.assertFalse(set(row.shrinks) - {"live", "turnovers", "threads", "bytes", "pause", "calls"}, row.name)


unittest.main()
