#!/usr/bin/env bash
# Python under the preload library: containers, threads, child processes by fork and by spawn.
source "$(dirname "${BASH_SOURCE[0]}")/preload.inc"

same "containers and text" python3 -c '
import json, hashlib, re, random, collections
random.seed(1)
data = {str(i): [random.random() for _ in range(20)] for i in range(5000)}
text = json.dumps(data)
assert json.loads(text) == data
print(len(text), hashlib.sha256(text.encode()).hexdigest())
words = re.findall("[0-9]{4}", text)
print(collections.Counter(words).most_common(3))
blocks = [bytes(n) for n in range(0, 200000, 997)]
print(sum(map(len, blocks)), sorted(blocks, key=len)[10])'
same "threads" python3 -c '
import threading
results = [None] * 16
def work(n):
    d = {}
    for i in range(20000):
        d[i % 1000] = "x" * (i * n % 3000)
        if i % 7 == 0: d.pop(i % 500, None)
    results[n] = sum(map(len, d.values()))
threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
for t in threads: t.start()
for t in threads: t.join()
print(results)'
same "children forked while threads allocate" python3 -c '
import os, threading
stop = False
def churn():
    while not stop: [bytearray(n) for n in range(0, 30000, 1000)]
threads = [threading.Thread(target=churn) for _ in range(4)]
for t in threads: t.start()
codes = []
for i in range(20):
    child = os.fork()
    if child == 0: os._exit(len([bytearray(1000) for _ in range(1000)]) % 7)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop = True
for t in threads: t.join()
print(codes)'
same "a pool of processes and spawned programs" python3 -c '
import multiprocessing, subprocess
def square(n): return n * n
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(4) as pool: print(sum(pool.map(square, range(3000))))
    print([subprocess.run(["echo", str(i)], capture_output=True, text=True).stdout for i in range(10)])'
