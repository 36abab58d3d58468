# shellcheck shell=bash
# Sourced by the other scripts: makes sure that the project can be built here.
#
# Go is asked for; what Debian has a package for is installed where that takes no
# question, and asked for elsewhere. A C and C++ compiler is always needed, because
# librdkafka's and DuckDB's bindings link with them; the rest only for some tests.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CGO_ENABLED=1

die() {
  printf '%s\n' "$@" >&2
  exit 2
}

has() { command -v "$1" >/dev/null; }

# install WHY REMEDY PACKAGE…: with apt-get if we may, else says how.
install() {
  local why=$1 remedy=$2
  shift 2
  if has apt-get && [ "$(id -u)" = 0 ]; then
    printf 'Installing %s with apt-get, for %s.\n' "$*" "$why" >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >&2 ||
      die "apt-get could not install $*: install what is missing and run this again."
    return
  fi
  die "Missing, for $why:" "  Debian, Ubuntu:  sudo apt-get install $*" "$remedy" "Install it and run this again."
}

need_go() {
  local want have
  want=$(awk '$1 == "go" { print $2; exit }' "$root/go.mod")
  has go || die "Go $want or newer is needed: https://go.dev/dl/ has it for every system." \
    "Unpack it and put its bin folder on PATH, then run this again."
  have=$(go env GOVERSION)
  have=${have#go}
  if [ "$(printf '%s\n' "$want" "${have%%[!0-9.]*}" | sort -V | head -n 1)" != "$want" ] && [ "$(go env GOTOOLCHAIN)" = local ]; then
    die "Go $want or newer is needed, this is $have: https://go.dev/dl/ has it."
  fi
}

need_compiler() {
  local c=${CC:-gcc} cxx=${CXX:-g++} # with arguments, as "ccache gcc" has
  { has "${c%% *}" && has "${cxx%% *}"; } ||
    install "librdkafka's and DuckDB's bindings" "  Fedora:          sudo dnf install gcc gcc-c++
  macOS:           xcode-select --install" gcc g++ libc6-dev
}

# need_browser is for the tests of the live page.
need_browser() {
  local name
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if has "$name"; then return; fi
  done
  install "the tests of the live page" "  Fedora:          sudo dnf install chromium
  macOS:           brew install --cask chromium" chromium fonts-dejavu-core
}

# need_jq is for scripts/deploy and the build's steps, and so for their tests.
need_jq() {
  has jq || install "the scripts of the deployment" "  Fedora:          sudo dnf install jq
  macOS:           brew install jq" jq
}

# need_third_party is for scripts/test --third-party: Java and Maven for Apache
# Kafka, kcat for one of its producers. The tests themselves look for the jar of
# Google's Pub/Sub emulator, and say where it comes from.
need_third_party() {
  local missing=()
  has java || missing+=(openjdk-17-jre-headless)
  has mvn || missing+=(maven)
  has kcat || missing+=(kcat)
  [ ${#missing[@]} = 0 ] ||
    install "the third-party servers" "  macOS:           brew install openjdk@17 maven kcat" "${missing[@]}"
}

# need_peers is for scripts/bench --peers: Python's venv besides.
need_peers() {
  need_third_party
  python3 -c 'import ensurepip' 2>/dev/null ||
    install "the peers" "  macOS:           brew install python" python3 python3-venv
}

need_go
need_compiler
