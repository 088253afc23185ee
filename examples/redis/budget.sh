#!/usr/bin/env bash
# redis-server in a fixed budget, with a cache that is larger: examples/redis/budget.sh [LIBRARY] [MEGABYTES]
#
# maxmemory makes redis evict keys before the budget is reached; the budget holds for everything else too: buffers of clients,
# fragmentation, the allocator's own metadata. While clients write, BGSAVE forks and saves. Nothing is killed, and what is resident
# stays within the budget.
set -euo pipefail
library=${1:-libkmem-malloc.so}
budget=${2:-128}
for tool in redis-server redis-cli redis-benchmark; do
  command -v "$tool" >/dev/null || { echo "no $tool; on Debian: apt-get install redis-server redis-tools"; exit 1; }
done
folder=$(mktemp -d)
trap 'kill "$server" 2>/dev/null && wait "$server" || true; rm -rf "$folder"' EXIT
redis() { redis-cli -s "$folder/socket" "$@"; }
info() { redis info | tr -d '\r' | sed -n "s/^$1://p"; }

LD_PRELOAD=$library KMEM_CMDLINE="mem=${budget}M" redis-server --port 0 --unixsocket "$folder/socket" --dir "$folder" --save '' \
  --maxmemory "$((budget * 3 / 4))mb" --maxmemory-policy allkeys-lru >"$folder/log" 2>&1 &
server=$!
for _ in {1..100}; do
  [[ $(redis ping 2>/dev/null) == PONG ]] && break
  kill -0 "$server" 2>/dev/null || { cat "$folder/log"; exit 1; }
  sleep 0.1
done
grep -q libkmem-malloc "/proc/$server/maps" || { echo "redis-server runs without $library"; exit 1; }

# Some 180 MB of values into three quarters of the budget, twice; the second time it is saved meanwhile.
write() { redis-benchmark -s "$folder/socket" -t set -n 600000 -r 1000000 -d 300 -P 32 -q >"$folder/benchmark" 2>&1; }
write
redis bgsave >"$folder/bgsave"
write
while [[ $(info rdb_bgsave_in_progress) != 0 ]]; do sleep 0.1; done

resident=$(($(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$server/status") / 1024))
evicted=$(info evicted_keys)
saved=$(info rdb_last_bgsave_status)
echo "redis: $evicted keys evicted, saved: $saved, at most $resident MiB resident under a budget of $budget MiB"
# What the program and its libraries are themselves is not memory that it asked for.
[[ $saved == ok && $evicted -gt 0 && $resident -le $((budget + 16)) ]]
