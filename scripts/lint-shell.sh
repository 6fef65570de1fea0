#!/usr/bin/env bash
# Checks the shell scripts, with shellcheck where it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v shellcheck >/dev/null 2>&1; then
  shellcheck scripts/*.sh .ci/run
else
  echo "shellcheck is not installed; shell scripts are not checked"
fi
for script in scripts/*.sh .ci/run; do
  bash -n "$script"
done
