# Sourced by run and test: installs the Debian packages that are missing, and configures and builds a preset.

BUILD_PACKAGES=(g++-12 g++ gcc cmake ninja-build ccache python3 pkg-config libfmt-dev libcli11-dev nlohmann-json3-dev zlib1g-dev
  liblzma-dev libzstd-dev libncurses-dev libgtest-dev libgmock-dev)
TEST_PACKAGES=(clang-14 libclang-rt-14-dev binutils util-linux dpkg-dev file mandoc)
FULL_TEST_PACKAGES=(lintian rustc redis-server redis-tools)

say() { printf '== %s\n' "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# need_packages NAME...: returns when all are installed, or ends with what to do.
need_packages() {
  if ! command -v dpkg-query >/dev/null 2>&1; then
    say "no dpkg-query here: this needs what Debian 12 calls $*"
    return
  fi
  local package missing=() root=()
  for package in "$@"; do
    [[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
  done
  (( ${#missing[@]} )) || return 0
  say "installing ${missing[*]}"
  if (( EUID != 0 )); then
    command -v sudo >/dev/null 2>&1 || fail "packages are missing and there is no sudo; as root: apt-get install ${missing[*]}"
    root=(sudo)
  fi
  local log
  log=$(mktemp)
  if ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q >"$log" 2>&1 ||
     ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    fail "could not install ${missing[*]}; install them by hand and start again"
  fi
  rm -f "$log"
}

# build_preset PRESET [TARGET...]: configures and builds incrementally; on failure shows the end of the log and returns 1.
build_preset() {
  local preset=$1 log=build/log/$1.txt targets=()
  shift
  (( $# == 0 )) || targets=(--target "$@")
  mkdir -p build/log
  if ! cmake --preset "$preset" >"$log" 2>&1 || ! cmake --build --preset "$preset" "${targets[@]}" >>"$log" 2>&1; then
    tail -n 60 "$log" >&2
    printf 'building the preset %s failed; all of it is in %s\n' "$preset" "$log" >&2
    return 1
  fi
}
