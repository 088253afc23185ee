"""What bench/peers writes: CSV of every figure, Markdown, and a plot in SVG."""
import csv
import html
import math

import figures

COLOURS = {"kmem": "#d62728", "glibc": "#7f7f7f", "jemalloc": "#1f77b4", "mimalloc": "#2ca02c", "tcmalloc": "#ff7f0e",
           "tbbmalloc": "#9467bd"}
UNITS = {"cpu_ns": "ns CPU", "time_ns": "ns", "cpu_s": "s CPU", "rss": "KiB", "thread_kib": "KiB", "ended_rss": "KiB", "freed_rss": "KiB",
         "idle_rss": "KiB", "called_rss": "KiB", "resident_live": "ratio", "payload": "% of the limit", "reused": "% of the limit"}
SPEED = ("cpu_ns", "time_ns", "cpu_s")


class Results:
    """{(row, peer): {figure: [a value a round]}} and {(row, peer): [failures]}."""

    def __init__(self, rows, peers):
        self.rows, self.peers = rows, peers
        self.values, self.failures = {}, {}

    def add(self, row, peer, values, failure):
        if failure:
            self.failures.setdefault((row.name, peer), []).append(failure)
            return
        for name, value in values.items():
            self.values.setdefault((row.name, peer), {}).setdefault(name, []).append(value)

    def summaries(self, row, figure):
        """{peer: (median, lower, upper)} of those that never failed at this row."""
        result = {}
        for peer in self.peers:
            values = self.values.get((row.name, peer), {}).get(figure)
            if values and (row.name, peer) not in self.failures:
                result[peer] = figures.summary(values)
        return result

    def ratios(self, row, figure, higher=False):
        medians = {peer: s[0] for peer, s in self.summaries(row, figure).items()}
        first = figures.best(medians, higher)
        return {} if first is None else {peer: figures.ratio(value, medians[first], higher) for peer, value in medians.items()}

    def means(self, rows, figure):
        """Geometric mean of the ratios to the best of each row. figure None: the one that decides."""
        every = {peer: [] for peer in self.peers}
        for row in rows:
            for peer, value in self.ratios(row, figure or row.figure, row.higher and figure is None).items():
                every[peer].append(value)
        return {peer: figures.geometric_mean(values) for peer, values in every.items()}


def write_raw(path, records):
    with open(path, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["round", "row", "peer", "figure", "value"])
        writer.writerows(records)


def read_raw(path):
    with open(path, newline="", encoding="utf-8") as text:
        return [tuple(line) for line in list(csv.reader(text))[1:]]


def write_summary(path, results):
    with open(path, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["row", "peer", "figure", "median", "lower_quartile", "upper_quartile", "rounds"])
        for row in results.rows:
            for peer in results.peers:
                for failure in sorted(set(results.failures.get((row.name, peer), []))):
                    writer.writerow([row.name, peer, "failure", failure, "", "", len(results.failures[(row.name, peer)])])
                for name, values in sorted(results.values.get((row.name, peer), {}).items()):
                    writer.writerow([row.name, peer, name] + [f"{v:.4g}" for v in figures.summary(values)] + [len(values)])


def number(value):
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.1f}"


def cell(results, row, peer, summaries):
    if (row.name, peer) in results.failures:
        return "failed"
    return number(summaries[peer][0]) if peer in summaries else "-"


def main_table(results, rows):
    lines = ["| row | unit | " + " | ".join(results.peers) + " | best other | kmem / best |",
             "|---|---|" + "---:|" * len(results.peers) + "---|---:|"]
    for row in rows:
        summaries = results.summaries(row, row.figure)
        others = {peer: s[0] for peer, s in summaries.items() if peer != "kmem"}
        first = figures.best(others, row.higher)
        ratio = figures.ratio(summaries["kmem"][0], others[first], row.higher) if first and "kmem" in summaries else None
        lines.append(f"| {row.name} | {UNITS[row.figure]} | " + " | ".join(cell(results, row, peer, summaries) for peer in results.peers) +
                     f" | {first or '-'} | {number(ratio)} |")
    return lines


def other_table(results, rows, figure):
    lines = ["| row | " + " | ".join(results.peers) + " |", "|---|" + "---:|" * len(results.peers)]
    for row in rows:
        summaries = results.summaries(row, figure)
        if summaries:
            lines.append(f"| {row.name} | " + " | ".join(cell(results, row, peer, summaries) for peer in results.peers) + " |")
    return lines


def means_table(results):
    speed = [row for row in results.rows if row.figure in SPEED]
    footprint = [row for row in results.rows if row.figure not in SPEED]
    programs = [row for row in results.rows if row.group == "programs"]
    kinds = [("the deciding figure, rows of speed", speed, None), ("the deciding figure, rows of footprint", footprint, None),
             ("CPU time, rows of speed", [row for row in speed if row.workload], "cpu_ns"),
             ("peak resident, rows of speed", speed, "peak_kib"), ("CPU time, programs", programs, "cpu_s"),
             ("peak resident, programs", programs, "peak_kib")]
    lines = ["| geometric mean of the ratios to the best | rows | " + " | ".join(results.peers) + " |",
             "|---|---:|" + "---:|" * len(results.peers)]
    for name, rows, figure in kinds:
        means = results.means(rows, figure)
        if rows:
            lines.append(f"| {name} | {len(rows)} | " + " | ".join(number(means[peer]) for peer in results.peers) + " |")
    return lines


def behind_lines(results):
    """Rows where kmem is behind, worst first."""
    found = []
    for row in results.rows:
        summaries = results.summaries(row, row.figure)
        ours = summaries.pop("kmem", None)
        if ours is None:
            continue
        ratio = figures.behind(ours, summaries, row.higher)
        if ratio is not None:
            found.append((ratio, row.name, figures.best({peer: s[0] for peer, s in summaries.items()}, row.higher)))
    return [f"| {name} | {number(ratio)} | {first} |" for ratio, name, first in sorted(found, reverse=True)]


def failure_lines(results):
    lines = []
    for (row, peer), texts in sorted(results.failures.items()):
        lines.append(f"| {row} | {peer} | {len(texts)} | {sorted(set(texts))[0].replace('|', ' ')} |")
    return lines


def markdown(results, head, plots):
    text = ["# malloc against Debian's allocators, row by row", ""] + head + [""]
    text += [f"![{name}]({file})" for name, file in plots] + ["", "## In all", ""] + means_table(results)
    behind = behind_lines(results)
    if "kmem" in results.peers:
        text += ["", "## Where kmem is behind", "", "Worse than the best other by more than 5 %, and their quartiles do not touch.", ""]
        text += ["| row | kmem / best | best |", "|---|---:|---|"] + behind if behind else ["Nowhere."]
    failures = failure_lines(results)
    text += ["", "## Failures", ""]
    text += ["| row | allocator | rounds | what |", "|---|---|---:|---|"] + failures if failures else ["None."]
    text += ["", "## The figure that decides", "", "Medians. ns and KiB: less is better; shares of a limit: more."]
    groups = list(dict.fromkeys(row.group for row in results.rows))
    for group in groups:
        text += ["", f"### {group[0].upper()}{group[1:]}", ""] + main_table(results, [row for row in results.rows if row.group == group])
    for title, figure in (("Peak resident, KiB", "peak_kib"), ("Resident when all was freed, KiB", "rest_rss"),
                          ("Of it this process's share (Pss), KiB", "rest_pss"), ("Minor page faults of the whole process", "minor"),
                          ("Major page faults of the whole process", "major"),
                          ("Wall time of an operation, ns", "time_ns"), ("CPU time of an operation, ns", "cpu_ns")):
        text += ["", f"## {title}", ""] + other_table(results, results.rows, figure)
    return "\n".join(text) + "\n"


def plot(results, rows, title):
    """A dot a peer on a line a row: how many times worse than the best, logarithmic. kmem's quartiles are a bar."""
    left, width, step, top = 270, 640, 15, 58
    most = 64.0
    height = top + step * len(rows) + 30

    def x_of(ratio):
        return left + width * math.log2(min(max(ratio, 1.0), most)) / math.log2(most)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 40}" height="{height}" '
           'font-family="sans-serif" font-size="11">',
           f'<rect width="100%" height="100%" fill="white"/><text x="10" y="20" font-size="14">{html.escape(title)}</text>']
    for i, peer in enumerate(results.peers):
        out.append(f'<circle cx="{left + i * 90}" cy="36" r="4" fill="{COLOURS.get(peer, "black")}"/>'
                   f'<text x="{left + i * 90 + 8}" y="40">{html.escape(peer)}</text>')
    for power in range(7):
        x = x_of(2.0 ** power)
        out.append(f'<line x1="{x:.1f}" y1="{top - 6}" x2="{x:.1f}" y2="{height - 24}" stroke="#ddd"/>'
                   f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle">{2 ** power}{"+" if power == 6 else ""}</text>')
    for number_of_row, row in enumerate(rows):
        y = top + step * number_of_row + 6
        out.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{html.escape(row.name)}</text>')
        summaries = results.summaries(row, row.figure)
        first = figures.best({peer: s[0] for peer, s in summaries.items()}, row.higher)
        for peer in reversed(list(summaries)):
            ratios = [figures.ratio(v, summaries[first][0], row.higher) for v in summaries[peer]]
            if None in ratios:
                continue
            colour = COLOURS.get(peer, "black")
            if peer == "kmem":
                low, high = sorted(x_of(r) for r in ratios[1:])
                out.append(f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{colour}" stroke-width="3"/>')
            size = 4.5 if peer == "kmem" else 3.5
            out.append(f'<circle cx="{x_of(ratios[0]):.1f}" cy="{y}" r="{size}" fill="{colour}" fill-opacity="0.8"/>')
    return "\n".join(out + ["</svg>"]) + "\n"
