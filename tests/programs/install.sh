#!/usr/bin/env bash
# An installed kmem serves a C++ and a C program: headers alone, through pkg-config, with the shared and with the static library.
set -euo pipefail
: "${KMEM_BUILD_DIR:?}" "${KMEM_SOURCE_DIR:?}"
at=$(mktemp -d)
trap 'rm -rf "$at"' EXIT
cmake --install "$KMEM_BUILD_DIR" --prefix "$at/prefix" >"$at/log" 2>&1 || { cat "$at/log"; exit 1; }

cd "$at"
pc=$(dirname "$(find prefix -name kmem.pc)")
export PKG_CONFIG_PATH=$PWD/$pc
# The file names the prefix of the configuration, and the tree was installed elsewhere.
flags() { pkg-config --define-variable=prefix="$PWD/prefix" "$@" kmem; }
lib=$(cd "$pc/.." && pwd)
[[ $(flags --cflags) == *"$PWD/prefix/include"* ]] || { echo "pkg-config: $(flags --cflags)"; exit 1; }
[[ $(flags --modversion) == 0.* ]]

echo '#include <stdio.h>' >all.cpp
for header in prefix/include/kmem/*.hpp; do
  name=kmem/${header##*/}
  echo "#include <$name>" >one.cpp
  for compiler in g++ clang++-14; do
    $compiler -std=c++20 -Wall -Wextra -Werror -fsyntax-only $(flags --cflags) one.cpp || { echo "$name, $compiler"; exit 1; }
  done
  echo "#include <$name>" >>all.cpp
done
cat >>all.cpp <<'CPP'
int main() {
  if (kmem::in_atomic()) return 1;
  const kmem::preempt_guard guard;
  if (!kmem::in_atomic() || kmem::preempt_count() != 1) return 2;
  puts("served");
  return 0;
}
CPP
g++ -std=c++20 $(flags --cflags) all.cpp -o with_shared $(flags --libs)
[[ $(LD_LIBRARY_PATH=$lib ./with_shared) == served ]]
readelf -d with_shared | grep -q 'NEEDED.*libkmem\.so\.0'
g++ -std=c++20 $(flags --cflags) all.cpp -o with_static "$lib/libkmem.a" -pthread
[[ $(./with_static) == served ]]
! readelf -d with_static | grep -q libkmem

if [[ -f prefix/include/kmem/kmem.h ]]; then
  printf '#include <kmem/kmem.h>\nint main(void) { return 0; }\n' >c.c
  gcc -std=c11 -Wall -Wextra -Werror $(flags --cflags) c.c -o c_shared $(flags --libs)
  LD_LIBRARY_PATH=$lib ./c_shared
fi
prefix/bin/kmem --help >/dev/null
echo "installed, compiled and served"
