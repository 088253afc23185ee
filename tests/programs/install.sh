#!/usr/bin/env bash
# An installed kmem serves programs wherever the tree is moved to, each of its headers alone, and the program and the manual are there.
set -euo pipefail
: "${KMEM_BUILD_DIR:?}" "${KMEM_SOURCE_DIR:?}"
at=$(mktemp -d)
trap 'rm -rf "$at"' EXIT
cmake --install "$KMEM_BUILD_DIR" --prefix "$at/first" >"$at/log" 2>&1 || { cat "$at/log"; exit 1; }
# No file may name where it was built or installed; the libraries' debug information may name their sources.
if grep -rIl -e "$at/first" -e "$KMEM_SOURCE_DIR" -e "$KMEM_BUILD_DIR" "$at/first"; then
  echo "these name the folder of the build or of the installation"
  exit 1
fi
mv "$at/first" "$at/moved"
prefix=$at/moved
bash "$KMEM_SOURCE_DIR/tests/install/consume.sh" "$prefix"
library=$(find "$prefix" -name libkmem-malloc.so.0)
if nm -D --defined-only "$library" | grep '@'; then
  echo "symbols of $library have versions: they would not take the place of the C library's"
  exit 1
fi

for header in "$prefix"/include/kmem/*.hpp; do
  name=kmem/${header##*/}
  echo "#include <$name>" >"$at/one.cpp"
  for compiler in g++ clang++-14; do
    $compiler -std=c++20 -Wall -Wextra -Werror -fsyntax-only -I"$prefix/include" "$at/one.cpp" || { echo "$name, $compiler"; exit 1; }
  done
done
"$prefix/bin/kmem" --help >/dev/null
"$prefix/bin/kmem" run --mem 64M -- grep -q "$library" /proc/self/maps || { echo "kmem run does not run $library"; exit 1; }
for page in man1/kmem.1 man3/kmalloc.3 man3/kmem_kfree.3 man7/gfp.7 man7/kmem-malloc.7; do
  text=$(cd "$prefix/share/man" && mandoc -T markdown "$page")
  [[ $text == *DESCRIPTION* ]] || { echo "no manual page $page"; exit 1; }
done
echo "installed, moved, compiled and served"
