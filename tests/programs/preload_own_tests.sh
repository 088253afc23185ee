#!/usr/bin/env bash
# This project's own test programs, C++ with GoogleTest, pass under the preload library too.
source "$(dirname "${BASH_SOURCE[0]}")/preload.inc"

# It lowers RLIMIT_AS of the process below what the preloaded library has reserved already, so nothing could be reserved any more.
not_here=page_alloc_limits.serves_under_a_limit_of_address_space
# Here the process shows figures of its own.
not_here+=:shared.*:mailbox.*
ran=0
for layer in plat base memmap page_alloc slab kmalloc vmalloc reclaim debug face_cxx tools; do
  program=$build_folder/tests/unit_$layer
  [[ -x $program ]] || continue
  (cd "$build_folder" && preloaded timeout 120 "$program" --gtest_brief=1 "--gtest_filter=-$not_here") >"$scratch/out" 2>&1 ||
    fail "unit_$layer: $(tail -n 15 "$scratch/out")"
  grep -q PASSED "$scratch/out" || fail "unit_$layer ran no test"
  echo "unit_$layer: $(grep PASSED "$scratch/out")"
  ran=$((ran + 1))
done
((ran > 0)) || fail "no test program in $build_folder/tests"
