"""The rows of bench/peers: what runs, which figure decides, and how much work it is at scale 1."""
import dataclasses
import shutil
import sys

LIMIT = 64 << 20  # of the rows that measure shares of a limit
SMALL = 0.2       # scales below it are for trying the rows out: heaps, threads and pauses shrink, too


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    group: str
    workload: str = ""            # of the program work; empty: a program of its own
    parameters: tuple = ()        # (name, value); n is multiplied by the scale
    shrinks: tuple = ()           # names of others that are, below SMALL
    figure: str = "cpu_ns"        # decides who is ahead
    threads: bool = False         # not pinned to one CPU
    limit: int = 0                # bytes the process may use: mem= of kmem, RLIMIT_DATA for the others
    higher: bool = False          # more is better
    settings: tuple = ()          # NAME=VALUE of the environment
    program: str = ""             # what must be installed
    command: tuple = ()
    source: tuple = ()            # (file name, text written before the first round)


def size_name(n):
    for unit, shift in (("M", 20), ("K", 10)):
        if n >= 1 << shift and n % (1 << shift) == 0:
            return f"{n >> shift}{unit}"
    return str(n)


def small_rows():
    rows = []
    for size in (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072):
        rows.append(Row(f"pair {size_name(size)}", "pairs", "pair", (("size", size), ("n", 20_000_000 if size <= 8192 else 5_000_000))))
    for order in ("fifo", "lifo", "random"):
        for size, n in ((16, 4_000_000), (64, 4_000_000), (256, 3_000_000), (1024, 2_000_000), (4096, 1_000_000), (8192, 500_000),
                        (32768, 200_000), (131072, 100_000)):
            rows.append(Row(f"batch {order} {size_name(size)}", "batches of 1000", f"batch_{order}", (("size", size), ("n", n))))
    for size, held, n in ((64, 64, 4_000_000), (1024, 64, 2_000_000), (16384, 16, 200_000), (1 << 20, 4, 4000)):
        rows.append(Row(f"calloc {size_name(size)}", "zeroed and aligned", "zeroed", (("size", size), ("held", held), ("n", n))))
    rows.append(Row("aligned 16-4K", "zeroed and aligned", "aligned", (("n", 2_000_000),)))
    return rows


def thread_rows():
    def passing(name, **parameters):
        return Row(name, "producers and consumers", "pass", tuple(parameters.items()), (), "time_ns", threads=True)
    return [
        passing("pass 64 deep", size=64, depth=4096, n=3_000_000),
        passing("pass 64 shallow", size=64, depth=64, n=3_000_000),
        passing("pass 16-512", size=16, to=512, depth=1024, n=3_000_000),
        passing("pass 4K", size=4096, depth=256, n=1_000_000),
        passing("pass 4 to 4", size=64, producers=4, consumers=4, depth=256, n=3_000_000),
        passing("pass 1 to 4", size=64, producers=1, consumers=4, depth=256, n=3_000_000),
        Row("server 2 threads", "servers and threads", "successors", (("threads", 2), ("n", 4_000_000)), figure="time_ns", threads=True),
        Row("server 16 threads", "servers and threads", "successors", (("threads", 16), ("n", 4_000_000)), figure="time_ns", threads=True),
        Row("thread churn", "servers and threads", "churn", (("n", 10_000),), figure="time_ns", threads=True),
        Row("cache thrash", "servers and threads", "thrash", (("threads", 2), ("n", 200_000)), figure="time_ns", threads=True),
        Row("cache scratch", "servers and threads", "scratch", (("threads", 2), ("n", 200_000)), figure="time_ns", threads=True),
        Row("cross 2 threads", "mixed sizes", "cross", (("threads", 2), ("n", 4_000_000)), figure="time_ns", threads=True),
        Row("cross 8 threads", "mixed sizes", "cross", (("threads", 8), ("n", 4_000_000)), figure="time_ns", threads=True),
        Row("overlap 2 threads", "mixed sizes", "overlap", (("threads", 2), ("n", 6_000_000)), figure="time_ns", threads=True),
        Row("parcels 2 threads", "mixed sizes", "parcels", (("threads", 2), ("n", 6_000_000)), figure="time_ns", threads=True),
        Row("numbers", "mixed sizes", "numbers", (("n", 5_000_000),)),
        Row("words", "mixed sizes", "words", (("n", 1_000_000),)),
    ]


def large_rows():
    return [
        Row("large 64K-4M untouched", "large blocks and growth", "blocks", (("n", 200_000),)),
        Row("large 64K-4M touched", "large blocks and growth", "blocks", (("touch", 1), ("n", 4_000))),
        Row("large 64K-512K touched", "large blocks and growth", "blocks", (("touch", 1), ("high", 512 << 10), ("n", 20_000))),
        Row("realloc 16-64K", "large blocks and growth", "doubling", (("n", 2_000_000),)),
        Row("realloc 64K-64M", "large blocks and growth", "doubling", (("low", 64 << 10), ("high", 64 << 20), ("n", 4_000))),
        Row("vectors to 64M", "large blocks and growth", "vectors", (("vectors", 4), ("n", 60_000_000))),
        Row("vectors to 1M", "large blocks and growth", "vectors", (("vectors", 16), ("bytes", 1 << 20), ("n", 60_000_000))),
        Row("creeping realloc to 16M", "large blocks and growth", "creeping", (("n", 20_000),)),
    ]


def resident_rows():
    def held(name, figure="resident_live", **parameters):
        return Row(name, "live objects", "replace", tuple(parameters.items()), ("live", "turnovers"), figure,
                   threads="threads" in parameters)

    def idle(name, workload, figure, **parameters):
        return Row(name, "idle residency", workload, tuple(parameters.items()), ("threads", "bytes", "pause", "calls"), figure,
                   threads="threads" in parameters)
    rows = [
        held("replace 100k", "cpu_ns", live=100_000, turnovers=20),
        held("replace 100k, resident / live", live=100_000, turnovers=20),
        held("replace 100k 2 threads, resident / live", live=100_000, turnovers=20, threads=2),
        held("1M of 64 bytes, resident / live", live=1_000_000, low=64, high=64, turnovers=1),
        held("1M of 8-32 bytes, resident / live", live=1_000_000, low=8, high=32, turnovers=1),
        Row("drifting sizes, resident / live", "live objects", "drift", (("n", 6_000_000),), figure="resident_live"),
        Row("drifting sizes", "live objects", "drift", (("n", 6_000_000),)),
        Row("idle process", "idle residency", "idle", figure="rss"),
        idle("a thread of 64", "threads", "thread_kib", threads=64),
        idle("64 threads ended", "threads", "ended_rss", threads=64),
        idle("1000 threads freed 100K each", "threads", "freed_rss", threads=1000, bytes=100 << 10),
        idle("254M freed, at once", "freed", "freed_rss", bytes=254 << 20, pause=1500, calls=20),
        idle("254M freed, idle 1.5 s", "freed", "idle_rss", bytes=254 << 20, pause=1500, calls=20),
        idle("254M freed, 2 s of calls", "freed", "called_rss", bytes=254 << 20, pause=1500, calls=20),
    ]
    for size in (16, 64, 1024, 32768):
        rows.append(Row(f"payload {size_name(size)}", "share of a limit", "payload", (("size", size), ("limit", LIMIT)), figure="payload",
                        limit=LIMIT, higher=True))
    for size, then in ((64, 1000), (1000, 64), (48, 32768), (4096, 96)):
        rows.append(Row(f"{size_name(size)} freed, reused by {size_name(then)}", "share of a limit", "payload",
                        (("size", size), ("then", then), ("limit", LIMIT)), figure="reused", limit=LIMIT, higher=True))
    return rows


PYTHON = """
import json, collections
random = 12345
words = collections.Counter()
records = []
for i in range(60000):
    random = (random * 1103515245 + 12345) % 2147483648
    records.append({"id": i, "name": "n%d" % (random % 5000), "tags": ["t%d" % (random % k) for k in (7, 11, 13)]})
    words.update(records[-1]["tags"])
text = json.dumps(records)
print(len(text), len(json.loads(text)), sorted(words.items())[:5])
print(sum(len("".join(sorted(r["name"] + str(r["id"])))) for r in records))
"""
PERL = """
my (%count, @lines); my $random = 42;
for my $i (1 .. 150000) {
  $random = ($random * 1103515245 + 12345) % 2147483648;
  push @lines, join ',', $i, 'w' . $random % 9000, 'x' x ($random % 60);
}
for my $line (@lines) { my @f = split /,/, $line; $count{$f[1]} .= substr($f[2], 0, 3); }
print scalar(keys %count), ' ', length(join '', map { $count{$_} } sort keys %count), "\\n";
"""
SQL = """
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 120000)
insert into t select i, printf('name %d', i * 7919 % 30011), i * 0.5 from n;
create index b on t(b);
select count(*), sum(c) from t where b like 'name 1%';
select b, count(*) from t group by b order by 2 desc, 1 limit 3;
delete from t where a % 3 = 0;
select count(distinct b), max(b) from t;
"""
AWK = """
BEGIN { r = 42
for (i = 0; i < 250000; ++i) { r = (r * 16807) % 2147483647; k = "key" r % 20000; s[k] = s[k] substr("abcdefgh", r % 8 + 1); ++n[k] }
for (k in s) { total += length(s[k]); if (n[k] > most) most = n[k] } print total, most }
"""
LUA = """
local t, r = {}, 42
for i = 1, 300000 do
  r = (r * 16807) % 2147483647
  local k = "k" .. r % 20000
  t[k] = (t[k] or "") .. (r % 10)
  if #t[k] > 40 then t[k] = nil end
end
local n = 0 for k, v in pairs(t) do n = n + #v end print(n)
"""
NODE = """
const m = new Map(); let r = 42;
for (let i = 0; i < 400000; ++i) {
  r = (r * 16807) % 2147483647;
  const k = 'k' + r % 20000;
  m.set(k, (m.get(k) || '') + r % 10);
  if (i % 9 == 0) m.delete(k);
}
let n = 0; for (const v of m.values()) n += v.length; console.log(n, Buffer.alloc(1 << 20).length);
"""
CXX = """
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <unordered_map>
#include <vector>
template <int N> struct list {
  std::map<int, std::vector<std::string>> m;
  std::regex r{"a"};
  list<N - 1> rest;
  int f() { return N + rest.f(); }
};
template <> struct list<0> { int f() { return 0; } };
int main() { list<60> l; return l.f() & 1; }
"""
BC = """
scale = 400
for (i = 1; i < 60; ++i) { x = x + 1 / (i * i + 1) ; y = sqrt(x * i) }
x
y
scale = 0
2 ^ 20000 % 1000007
for (i = 0; i < 200000; ++i) { n = (n * 31 + i) % 1000000007 }
n
quit
"""


def program_rows():
    def row(name, program, command, source=(), settings=(), threads=False):
        return Row(name, "programs", figure="cpu_s", program=program, command=command, source=source, settings=settings, threads=threads)
    return [
        row("python3 json, words", sys.executable, (sys.executable, "{file}"), ("peers.py", PYTHON),
            ("PYTHONMALLOC=malloc", "PYTHONHASHSEED=0")),
        row("perl hashes", "perl", ("perl", "{file}"), ("peers.pl", PERL), ("PERL_HASH_SEED=0",)),
        row("sqlite3 in memory", "sqlite3", ("sqlite3", ":memory:", ".read {file}"), ("peers.sql", SQL)),
        row("awk strings", "awk", ("awk", "-f", "{file}"), ("peers.awk", AWK)),
        row("lua strings", "lua5.4", ("lua5.4", "{file}"), ("peers.lua", LUA)),
        row("node maps", "node", ("node", "{file}"), ("peers.js", NODE), threads=True),
        row("g++ -fsyntax-only", "g++", ("g++", "-std=c++20", "-fsyntax-only", "{file}"), ("peers.cpp", CXX)),
        row("bc", "bc", ("bc", "-q", "{file}"), ("peers.bc", BC)),
    ]


def all_rows():
    return small_rows() + thread_rows() + large_rows() + resident_rows() + program_rows()


def available(row):
    return not row.program or shutil.which(row.program) is not None
