# shellcheck shell=bash
# Sourced by the scripts of this repository, which set root to its folder before: lines for people,
# and what a fresh Debian lacks.
: "${root:?}"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

now_ms() { date +%s%3N; }

# seconds_since MS: the time since then, as 12.3
seconds_since() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100))
}

# step NAME COMMAND…: runs COMMAND and says how long it took; a failure is the caller's to handle.
step() {
  local name=$1 start status=0
  shift
  start=$(now_ms)
  "$@" || status=$?
  if [ "$status" = 0 ]; then
    say "ok      $name ($(seconds_since "$start") s)"
  else
    say "FAILED  $name ($(seconds_since "$start") s, exit $status)"
  fi
  return "$status"
}

# need PROGRAM=PACKAGE…: has the Debian packages of the missing programs installed, or says which they are.
# A program python:MODULE is a module of Debian's own Python, whatever other Python comes first in PATH; library:NAME is a
# library to build with, as pkg-config knows it.
need() {
  local missing=() pair program log
  for pair; do
    program=${pair%%=*}
    case $program in
      python:*) /usr/bin/python3 -c "import ${program#python:}" 2>/dev/null && continue ;;
      library:*) pkg-config --exists "${program#library:}" 2>/dev/null && continue ;;
      *) command -v "$program" >/dev/null && continue ;;
    esac
    missing+=("${pair#*=}")
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "this needs programs of these Debian packages, by whatever name they go here: ${missing[*]}"
  [ "$(id -u)" = 0 ] || die "missing packages; please run: sudo apt-get install ${missing[*]}"
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  if ! step "install ${missing[*]}" apt_install "$log" "${missing[@]}"; then
    tail -n 20 "$log" >&2
    die "could not install: ${missing[*]}"
  fi
  rm -f "$log"
}

apt_install() { # LOG PACKAGE…
  local log=$1
  shift
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null
}

# engine_missing: why docker cannot be used here, or nothing when it can.
engine_missing() {
  if ! command -v docker >/dev/null; then
    echo "docker is not installed"
  elif ! docker info >/dev/null 2>&1; then
    echo "no docker engine answers"
  fi
}

# image_of SERVICE: the image that docker-compose.yml names for it. Written down only there.
image_of() {
  awk -v service="  $1:" '$0 == service {here = 1} here && $1 == "image:" {print $2; exit}' "$root/docker-compose.yml"
}
