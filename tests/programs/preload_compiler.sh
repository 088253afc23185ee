#!/usr/bin/env bash
# The compiler under the preload library gives the same object files.
source "$(dirname "${BASH_SOURCE[0]}")/preload.inc"

for file in src/base/text.cpp src/memmap/config.cpp; do
  compile=(g++ -std=c++20 -O2 -g0 -I"$source_folder/src" -I"$source_folder/include" -c "$source_folder/$file" -o)
  "${compile[@]}" "$scratch/plain.o"
  preloaded "${compile[@]}" "$scratch/with.o" 2>"$scratch/with.err" || fail "g++ $file: $(head -n 5 "$scratch/with.err")"
  [[ ! -s $scratch/with.err ]] || fail "g++ $file: messages: $(head -n 20 "$scratch/with.err")"
  cmp "$scratch/plain.o" "$scratch/with.o" || fail "g++ $file: another object file"
  echo "g++ $file: the same object file"
done
