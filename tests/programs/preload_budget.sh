#!/usr/bin/env bash
# A tight budget ends in NULL and MemoryError, not in a kill; a wrong KMEM_CMDLINE ends in a message.
source "$(dirname "${BASH_SOURCE[0]}")/preload.inc"

output=$(LD_PRELOAD=$library KMEM_CMDLINE="mem=96M" python3 -c '
held = []
try:
    while True: held.append(bytearray(10000))
except MemoryError:
    n = len(held)
    held = None
    print("MemoryError", n)
again = [bytearray(10000) for _ in range(n // 2)]
print("goes on", len(again))') || fail "python without end of memory: exit code $?"
read -r word count <<<"$(head -n 1 <<<"$output")"
[[ $word == MemoryError ]] || fail "expected MemoryError, got: $output"
((count > 4000 && count < 10066)) || fail "$count blocks of 10000 bytes in 96 MiB"  # 100663296 / 10000 are 10066
grep -q '^goes on' <<<"$output" || fail "the memory did not come back: $output"
echo "python in 96 MiB: MemoryError after $count blocks of 10000 bytes, and it goes on"

# Who was told that there is no memory can say so, and unwind, before anything is freed.
output=$(LD_PRELOAD=$library KMEM_CMDLINE="mem=64M" python3 -c '
import traceback
held = []
def deeper(n):
    if n: return deeper(n - 1)
    while True: held.append(bytearray(1000))
try:
    deeper(20)
except MemoryError:
    text = traceback.format_exc()
    table = {str(i): [i] for i in range(100)}
    print("told", "MemoryError" in text, len(table), len(held) > 50000)') || fail "python that unwinds: exit code $?"
[[ $output == "told True 100 True" ]] || fail "python that unwinds: $output"
echo "python in 64 MiB: a traceback and a table of 100 before anything is freed"

cat >"$scratch/eater.c" <<'PROGRAM'
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
int main(void) {
  size_t total = 0, size;
  char *p;
  for (size = 1 << 20; size >= 16; size /= 2)
    while ((p = malloc(size)) != NULL) {
      memset(p, 1, size);
      total += size;
    }
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("%d %zu %ld\n", errno == ENOMEM, total >> 20, usage.ru_maxrss >> 10);
  return 0;
}
PROGRAM
cc -O1 -fno-builtin "$scratch/eater.c" -o "$scratch/eater"
output=$(LD_PRELOAD=$library KMEM_CMDLINE="mem=64M" "$scratch/eater") || fail "eater: exit code $?"
read -r enomem got resident <<<"$output"
[[ $enomem == 1 ]] || fail "malloc failed without ENOMEM: $output"
((got >= 54 && got < 64)) || fail "$got MiB of 64 were handed out"
((resident < 72)) || fail "$resident MiB resident with a budget of 64"
echo "eater in 64 MiB: got $got MiB, $resident MiB resident with the program's own"

code=0
message=$(LD_PRELOAD=$library KMEM_CMDLINE="mem=64M nonsense=1" "$scratch/eater" 2>&1) || code=$?
[[ $code == 127 ]] || fail "a wrong KMEM_CMDLINE: exit code $code: $message"
grep -q 'kmem: KMEM_CMDLINE: .*nonsense' <<<"$message" || fail "a wrong KMEM_CMDLINE: $message"
echo "a wrong KMEM_CMDLINE: $(head -n 1 <<<"$message")"

# The limits that a parent's shell may have set.
for limit in "-v 524288" "-d 131072"; do
  # shellcheck disable=SC2086
  output=$( (ulimit $limit; LD_PRELOAD=$library KMEM_CMDLINE="mem=32M" "$scratch/eater") 2>&1) ||
    fail "ulimit $limit: exit code $?: $output"
  echo "ulimit $limit: $output"
done
