# shellcheck shell=bash
# To be sourced: functions that end the script with a line if something is not there.

must_have() { # must_have PACKAGES PROGRAM...
  local packages=$1 program
  shift
  [ "$(id -u)" = 0 ] || { echo "must run as root" >&2; exit 2; }
  for program in "$@"; do
    command -v "$program" >/dev/null || { echo "$program: missing. Install: apt-get install $packages" >&2; exit 2; }
  done
}

wait_for() { # wait_for WHAT SECONDS COMMAND...
  local what=$1 until=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -gt $until ]; then
      echo "$what did not come" >&2
      exit 1
    fi
    sleep 1
  done
}
