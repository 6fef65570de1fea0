#!/usr/bin/env bash
# Installs the system packages that a build ("build") or the tests ("test") need
# and that are missing. Python does the work; here we only make sure there is one.
#
#   scripts/system-packages.sh PYTHON GROUP...
set -euo pipefail
if [ "${1:-}" = --help ]; then
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"
  exit
fi

python=${1:?usage: scripts/system-packages.sh PYTHON GROUP...}
shift

if ! command -v "$python" >/dev/null 2>&1; then
  if [ "$python" != python3 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "error: no $python; install Python 3.11 or newer and try again" >&2
    exit 1
  fi
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends python3 python3-venv
fi

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "error: $("$python" --version) is too old; Python 3.11 or newer is needed" >&2
  exit 1
fi

exec "$python" "$(dirname "$0")/system_packages.py" "$@"
