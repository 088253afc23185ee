#!/usr/bin/env bash
# Everyday commands and shell scripts under the preload library.
source "$(dirname "${BASH_SOURCE[0]}")/preload.inc"

# Folders that nobody writes to while the test runs.
headers=/usr/include/c++
[[ -d $headers ]] || headers=/usr/include
same "ls" ls -lR "$headers"
same "a missing file" ls "$scratch/no such file"
same "sort" sh -c 'seq 200000 | sort -R --random-source=/dev/zero | sort -n | tail -n 3'
same "find, xargs, awk and sed" sh -c "find '$headers' -type f | sort | xargs cat |
  awk '{n += length(\$0)} END {print n}' | sed 's/^/bytes: /'"
same "bash with functions, arrays, subshells and pipes" bash -c '
  declare -A count
  for i in $(seq 2000); do count[$((i % 97))]=$((${count[$((i % 97))]:-0} + i)); done
  for key in $(printf "%s\n" "${!count[@]}" | sort -n); do printf "%s=%s " "$key" "${count[$key]}"; done
  text=""; for i in $(seq 500); do text+=$(printf "%05d" "$i"); done; echo "${#text}"
  (exit 3) | cat; echo "${PIPESTATUS[0]}"
  { for i in 1 2 3 4 5; do (sleep 0.0$i; echo "job $i") & done; wait; } | sort'
same "grep with a large pattern" grep -rhoE '(alloc|free|page|slab|zone)_[a-z]+' "$headers"
same "tar and gzip" sh -c "tar --sort=name --mtime=@0 --owner=0 --group=0 -cf - -C '$headers' . | gzip -n | cksum"
same "git" git -C "$source_folder" log --oneline -n 5
