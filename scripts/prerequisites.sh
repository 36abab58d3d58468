# shellcheck shell=bash
# Sourced by the other scripts: makes sure that the project can be built here.
#
# Go is asked for; a C and C++ compiler (librdkafka's and DuckDB's bindings link
# with them) is installed where that takes no question, and asked for elsewhere.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CGO_ENABLED=1

die() {
  printf '%s\n' "$@" >&2
  exit 2
}

need_go() {
  local want have
  want=$(awk '$1 == "go" { print $2; exit }' "$root/go.mod")
  command -v go >/dev/null || die "Go $want or newer is needed: https://go.dev/dl/ has it for every system." \
    "Unpack it and put its bin folder on PATH, then run this again."
  have=$(go env GOVERSION)
  have=${have#go}
  if [ "$(printf '%s\n' "$want" "${have%%[!0-9.]*}" | sort -V | head -n 1)" != "$want" ] && [ "$(go env GOTOOLCHAIN)" = local ]; then
    die "Go $want or newer is needed, this is $have: https://go.dev/dl/ has it."
  fi
}

need_compiler() {
  if command -v "${CC:-gcc}" >/dev/null && command -v "${CXX:-g++}" >/dev/null; then
    return
  fi
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    printf 'Installing a C and C++ compiler (gcc, g++) with apt-get.\n' >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc g++ libc6-dev; } >&2 ||
      die "apt-get could not install gcc and g++: install them and run this again."
    return
  fi
  die "A C and a C++ compiler are needed (librdkafka's and DuckDB's bindings link with them):" \
    "  Debian, Ubuntu:  sudo apt-get install gcc g++ libc6-dev" \
    "  Fedora:          sudo dnf install gcc gcc-c++" \
    "  Alpine:          sudo apk add build-base" \
    "  macOS:           xcode-select --install" \
    "Install them and run this again."
}

# need_browser is for the tests only: the live page is tested in Chromium, and the
# commands of scripts/demo.md are run.
need_browser() {
  local name
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null && command -v curl >/dev/null; then return; fi
  done
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    printf 'Installing Chromium and curl with apt-get, for the tests of the live page.\n' >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-dejavu-core curl ca-certificates; } >&2 ||
      die "apt-get could not install chromium and curl: install them and run this again."
    return
  fi
  die "Chromium and curl are needed for the tests of the live page:" \
    "  Debian:  sudo apt-get install chromium curl" \
    "  Fedora:  sudo dnf install chromium curl" \
    "  macOS:   brew install --cask chromium" \
    "Install them and run this again."
}

# need_third_party is for ./scripts/test --third-party: Java and Maven for Apache
# Kafka, kcat for one of its producers. The tests themselves look for the jar of
# Google's Pub/Sub emulator, and say where it comes from.
need_third_party() {
  local missing=()
  command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
  command -v mvn >/dev/null || missing+=(maven)
  command -v kcat >/dev/null || missing+=(kcat)
  if [ ${#missing[@]} -gt 0 ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
      printf 'Installing %s with apt-get, for the third-party servers.\n' "${missing[*]}" >&2
      { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >&2 ||
        die "apt-get could not install ${missing[*]}: install them and run this again."
    else
      die "The third-party servers need Java 17, Maven and kcat:" \
        "  Debian:  sudo apt-get install openjdk-17-jre-headless maven kcat" \
        "  macOS:   brew install openjdk@17 maven kcat" \
        "Install them and run this again."
    fi
  fi
}

need_go
need_compiler
