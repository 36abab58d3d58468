# shellcheck shell=bash
# Read by the build's steps: what the build passes them in the environment. Every
# step also runs by hand, outside Cloud Build, with the same variables.
#
#   PROJECT REGION ENVIRONMENT STATE_BUCKET   where to deploy (scripts/deploy -h)
#   VERSION                                   what is deployed, for people
#   TAG                                       the images' tag, never used twice

# shellcheck disable=SC2034 # used by the steps
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
step=${0##*/}

fail() {
  echo "infra/build/$step: $*" >&2
  exit 1
}

# need NAME... stops with a message that names every variable that is not set.
need() {
  local name missing=()
  for name in "$@"; do
    [ -n "${!name:-}" ] || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] || fail "not set: ${missing[*]} (infra/build/settings.sh says what they are)"
}

# have COMMAND... stops if one is not installed.
have() {
  local command
  for command in "$@"; do
    command -v "$command" >/dev/null || fail "$command is not installed"
  done
}

# image PART is the full name of the functions' or the bridge's image.
image() {
  echo "$REGION-docker.pkg.dev/$PROJECT/sluice/$1:$TAG"
}

# build_of TAG is the build that made an image, with whose ID its tag ends; nothing for
# other tags.
build_of() {
  grep -oE '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' <<<"$1" || true
}

# started BUILD is when a build was started, by a person or a push; not when it was approved.
started() {
  gcloud builds describe "$1" --project="$PROJECT" --region="$REGION" --format='value(createTime)'
}
