#!/usr/bin/env bash
# The Debian packages: each has what belongs to it and names what it needs, and programs are built and run against the unpacked tree,
# moved elsewhere. With KMEM_TEST_FULL lintian has nothing to say of them.
set -euo pipefail
: "${KMEM_BUILD_DIR:?}" "${KMEM_SOURCE_DIR:?}"
fail() { printf 'deb.sh: %s\n' "$*"; exit 1; }
folder=$KMEM_BUILD_DIR/deb
at=$(mktemp -d)
trap 'rm -rf "$at"' EXIT
bash "$KMEM_SOURCE_DIR/scripts/deb" "$folder" >"$at/list" 2>&1 || { cat "$at/list"; exit 1; }
mapfile -t packages <"$at/list"
names=()
for package in "${packages[@]}"; do names+=("$(dpkg-deb -f "$package" Package)"); done
[[ "${names[*]}" == "kmem libkmem-dev libkmem-malloc0 libkmem0" ]] || fail "packages: ${names[*]}"
field() { dpkg-deb -f "$folder/$1"_*.deb "$2"; }
version=$(field kmem Version)

# ---- what they say
[[ $(field libkmem0 Multi-Arch) == same && $(field libkmem-malloc0 Multi-Arch) == same ]] || fail "the libraries are not Multi-Arch: same"
depends=$(field libkmem-dev Depends)
[[ $depends == "libkmem0 (= $version), libkmem-malloc0 (= $version), libc6-dev" ]] || fail "libkmem-dev needs $depends"
for name in libkmem0 libkmem-malloc0; do
  [[ $(field $name Depends) =~ ^libc6\ \(\>=\ 2\.[0-9]+\)$ ]] || fail "$name needs $(field $name Depends): only the C library is allowed"
done
[[ $(field kmem Depends) == *libfmt* ]] || fail "kmem does not name its libraries: $(field kmem Depends)"
[[ $(dpkg-deb -I "$folder"/libkmem0_*.deb shlibs) == "libkmem 0 libkmem0 (>= $version)" ]] || fail "shlibs of libkmem0"
[[ $(dpkg-deb -I "$folder"/libkmem-malloc0_*.deb shlibs) == "libkmem-malloc 0 libkmem-malloc0 (>= $version)" ]] || fail "shlibs"

# ---- what they have
for name in "${names[@]}"; do
  dpkg-deb -c "$folder/$name"_*.deb | awk '$1 !~ /^d/ {print $6}' | sort >"$at/$name.files"
  for file in copyright changelog.Debian.gz; do
    grep -qx "./usr/share/doc/$name/$file" "$at/$name.files" || fail "$name has no $file"
  done
done
lib=usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)
belongs() { grep -qx "./$2" "$at/$1.files" || fail "$1 has no $2"; }
belongs libkmem0 "$lib/libkmem.so.0"
belongs libkmem-malloc0 "$lib/libkmem-malloc.so.0"
belongs libkmem-malloc0 "$lib/libkmem-malloc.so"
belongs libkmem-dev "$lib/libkmem.so"
belongs libkmem-dev "$lib/libkmem.a"
belongs libkmem-dev "$lib/pkgconfig/kmem.pc"
belongs libkmem-dev usr/include/kmem/kmem.h
belongs libkmem-dev usr/share/man/man3/kmalloc.3.gz
belongs libkmem-dev usr/share/man/man7/gfp.7.gz
belongs libkmem-malloc0 usr/share/man/man7/kmem-malloc.7.gz
belongs kmem usr/bin/kmem
belongs kmem usr/share/man/man1/kmem.1.gz
twice=$(cat "$at"/*.files | sort | uniq -d)
[[ -z $twice ]] || fail "in two packages: $twice"

# ---- what they do
for package in "${packages[@]}"; do dpkg-deb -x "$package" "$at/root"; done
mv "$at/root" "$at/moved"
readelf -SW "$at/moved/$lib/libkmem.so.0" "$at/moved/usr/bin/kmem" | grep -q '\.debug_info' && fail "debug information was left in"
LD_PRELOAD="$at/moved/$lib/libkmem-malloc.so" KMEM_CMDLINE=mem=64M grep -q libkmem-malloc.so.0 /proc/self/maps || fail "not preloaded"
[[ $("$at/moved/usr/bin/kmem" --version) == *"${version%-*}"* ]] || fail "kmem has another version"
"$at/moved/usr/bin/kmem" run --mem 64M -- grep -q "$at/moved/$lib/libkmem-malloc.so.0" /proc/self/maps || fail "kmem run runs without it"
bash "$KMEM_SOURCE_DIR/tests/install/consume.sh" "$at/moved/usr"
if [[ -n ${KMEM_TEST_FULL:-} ]]; then
  lintian --allow-root --fail-on error,warning "${packages[@]}" || fail "lintian has findings"
fi
echo "packed, unpacked, moved and consumed"
