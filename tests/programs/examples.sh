#!/usr/bin/env bash
# Each example is built as a user would build it, against the static and the shared library, and does what it says.
set -euo pipefail
source=${KMEM_SOURCE_DIR:?}
build=${KMEM_BUILD_DIR:?}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# expect NAME PATTERN COMMAND...: the command succeeds and prints a line that matches.
expect() {
  local name=$1 pattern=$2
  shift 2
  local output
  if ! output=$("$@" 2>&1); then
    printf '%s failed:\n%s\n' "$name" "$output"
    exit 1
  fi
  if ! grep -Eq "$pattern" <<<"$output"; then
    printf '%s printed no line like "%s":\n%s\n' "$name" "$pattern" "$output"
    exit 1
  fi
  printf '%s: %s\n' "$name" "$output"
}

warnings=(-Wall -Wextra -Wconversion -Werror)
static=("$build/lib/libkmem.a" -pthread)
shared=(-L"$build/lib" -lkmem "-Wl,-rpath,$build/lib")

for kind in static shared; do
  declare -n libraries=$kind
  # The C program is linked by the C driver: no C++ run time is needed.
  cc -std=c11 "${warnings[@]}" -I"$source/include" "$source/examples/hello.c" "${libraries[@]}" -o "$folder/hello_c"
  expect "hello.c ($kind)" 'hello from kmem in C: 112 bytes for 100 asked' "$folder/hello_c"
  c++ -std=c++20 "${warnings[@]}" -I"$source/include" "$source/examples/hello.cpp" "${libraries[@]}" -o "$folder/hello_cpp"
  expect "hello.cpp ($kind)" 'hello from kmem: 112 bytes for 100 asked, 1[0-9]{4} KiB of the budget are left' "$folder/hello_cpp"
  c++ -std=c++20 "${warnings[@]}" -I"$source/include" "$source/examples/shrinking_cache.cpp" "${libraries[@]}" -o "$folder/shrinking_cache"
  expect "shrinking_cache.cpp ($kind)" 'none refused' "$folder/shrinking_cache"
  c++ -std=c++20 "${warnings[@]}" -I"$source/include" "$source/examples/mempool_producer.cpp" "${libraries[@]}" -o "$folder/example"
  expect "mempool_producer.cpp ($kind)" 'the producer survived' "$folder/example"
  c++ -std=c++20 "${warnings[@]}" -I"$source/include" "$source/examples/interrupt_ring.cpp" "${libraries[@]}" -o "$folder/example"
  expect "interrupt_ring.cpp ($kind)" 'every packet is accounted for' "$folder/example"
  c++ -std=c++20 "${warnings[@]}" -I"$source/include" "$source/examples/server_cache.cpp" "${libraries[@]}" -o "$folder/example"
  expect "server_cache.cpp ($kind)" 'the server survived' "$folder/example"
  c++ -std=c++20 -O2 "${warnings[@]}" -fno-omit-frame-pointer -rdynamic -I"$source/include" "$source"/examples/profiler/*.cpp \
    "${libraries[@]}" -o "$folder/profiler"
  expect "profiler ($kind)" ' 0 dropped for want of memory' "$folder/profiler"
  expect "profiler ($kind)" ' mix_numbers$' "$folder/profiler" 20000
  unset -n libraries
done

expect "kmem.py" 'Python: served' env KMEM_LIBRARY="$build/lib/libkmem.so.0" python3 "$source/examples/python/kmem.py"
cat >"$folder/endless.py" <<'PY'
rows, last = [], ""
try:
    while True: rows.append(f"row {len(rows)}")
except MemoryError:
    last = rows[-1]
    rows.clear()  # nothing that needs memory comes before there is some again, not even a new name
    print(f"{last} was the last before there was no memory")
PY
expect "Python's own memory" '^row [0-9]{6} was the last before there was no memory$' \
  env LD_PRELOAD="$build/lib/libkmem-malloc.so" KMEM_CMDLINE=mem=64M PYTHONMALLOC=malloc python3 "$folder/endless.py"

# Tools that are large to install.
if [[ -n ${KMEM_TEST_FULL:-} ]]; then
  for kind in dylib static; do
    rustc --edition 2021 -O "$source/examples/rust/kmem.rs" -L "$build/lib" -l "$kind=kmem" -C "link-arg=-Wl,-rpath,$build/lib" \
      -o "$folder/rust"
    expect "kmem.rs ($kind)" 'Rust: 1000 words, and 1 GiB was refused' env KMEM_CMDLINE=mem=64M "$folder/rust"
  done
  expect "redis in a budget" 'saved: ok' "$source/examples/redis/budget.sh" "$build/lib/libkmem-malloc.so"
fi
