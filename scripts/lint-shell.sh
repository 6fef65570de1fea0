#!/usr/bin/env bash
# Checks the shell scripts, with shellcheck where it is installed.
set -euo pipefail
if [ "${1:-}" = --help ]; then
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"
  exit
fi
if [ $# -gt 0 ]; then
  echo "usage: scripts/lint-shell.sh" >&2
  exit 2
fi
cd "$(dirname "$0")/.."

if command -v shellcheck >/dev/null 2>&1; then
  shellcheck scripts/*.sh .ci/run
else
  echo "shellcheck is not installed; shell scripts are not checked"
fi
for script in scripts/*.sh .ci/run; do
  bash -n "$script"
done
