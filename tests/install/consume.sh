#!/usr/bin/env bash
# consume.sh PREFIX: programs find an installed kmem below PREFIX by CMake and by pkg-config, are built as C, C++ and kernel code with
# its shared and its static libraries, and run. Every folder is found from where the package's files lie now, not from the configuration.
set -euo pipefail
cc=${CC:-cc} cxx=${CXX:-c++}
prefix=$(realpath "$1")
source=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
at=$(mktemp -d)
trap 'rm -rf "$at"' EXIT
fail() { printf 'consume.sh: %s\n' "$*"; exit 1; }

pc=$(find "$prefix" -name kmem.pc -printf '%h\n')
lib=$(realpath "$pc/..")

# serves WHAT NEEDS COMMAND...: the program says that it was served; the shared library it needs is NEEDS, or none if that is "-".
serves() {
  local what=$1 needs=$2 program=$3 output
  output=$(KMEM_CMDLINE="mem=64M" LD_LIBRARY_PATH=$lib "$program") || fail "$program ended with $?"
  [[ $output == "served $what" ]] || fail "$program said: $output"
  local needed
  needed=$(readelf -d "$program" | grep -o 'libkmem[^]]*' || true)
  [[ ${needed:--} == "$needs" ]] || fail "$program needs ${needed:-no libkmem}, not $needs"
}

# ---- CMake
cmake -S "$source" -B "$at/cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
  -DCMAKE_BUILD_TYPE=Release >"$at/log" 2>&1 || { cat "$at/log"; fail "the project cannot be configured"; }
cmake --build "$at/cmake" --parallel 2 >"$at/log" 2>&1 || { cat "$at/log"; fail "the project cannot be built"; }
grep -q "$prefix/include" "$at/cmake/compile_commands.json" || fail "CMake took headers from elsewhere"
for kind in kmem:- kmem_shared:libkmem.so.0; do
  serves C++ "${kind#*:}" "$at/cmake/cxx_${kind%:*}"
  serves C "${kind#*:}" "$at/cmake/c_${kind%:*}"
  serves Linux "${kind#*:}" "$at/cmake/linux_${kind%:*}"
done
serves malloc libkmem-malloc.so.0 "$at/cmake/malloc_shared"
serves malloc - "$at/cmake/malloc_static"

# ---- pkg-config; Debian's folders are the system's, of which it drops the flags, were the tree not elsewhere
export PKG_CONFIG_LIBDIR=$pc PKG_CONFIG_PATH=
[[ $(pkg-config --cflags kmem) == *"$pc"* || $(pkg-config --cflags kmem) == *"$prefix/include"* ]] || fail "$(pkg-config --cflags kmem)"
[[ $(pkg-config --modversion kmem kmem-malloc) == 0.*0.* ]] || fail "versions: $(pkg-config --modversion kmem kmem-malloc)"
cd "$at"
"$cc" -std=c11 -Wall -Wextra -Werror $(pkg-config --cflags kmem) "$source/consumer.c" -o c_shared $(pkg-config --libs kmem)
serves C libkmem.so.0 ./c_shared
"$cc" -std=c11 $(pkg-config --cflags kmem) "$source/consumer.c" -o c_static -static $(pkg-config --static --libs kmem)
serves C - ./c_static
"$cxx" -std=c++20 -Wall -Wextra -Werror $(pkg-config --cflags kmem) "$source/consumer.cpp" -o cxx_shared $(pkg-config --libs kmem)
serves C++ libkmem.so.0 ./cxx_shared
"$cxx" -std=c++20 $(pkg-config --cflags kmem) "$source/consumer.cpp" -o cxx_static -static $(pkg-config --static --libs kmem)
serves C++ - ./cxx_static
"$cxx" "$source/malloc.cpp" -o malloc_shared -Wl,--as-needed $(pkg-config --libs kmem-malloc)
serves malloc libkmem-malloc.so.0 ./malloc_shared
"$cxx" "$source/malloc.cpp" -o malloc_static -static $(pkg-config --static --libs kmem-malloc)
serves malloc - ./malloc_static
own=$("$cc" -print-file-name=include)
"$cc" -std=gnu11 -nostdinc -isystem "$own" -I"$(pkg-config --variable=linux_includedir kmem)" -c "$source/driver.c"
"$cxx" "$source/driver_main.cpp" driver.o -o linux_shared $(pkg-config --libs kmem)
serves Linux libkmem.so.0 ./linux_shared
echo "consumed: CMake and pkg-config, C, C++ and kernel code, shared and static"
