#!/usr/bin/env bash
# The Python tests on a build with AddressSanitizer and UndefinedBehaviorSanitizer.
#
#   scripts/sanitize.sh PYTHON [PYTEST ARGUMENT...]
#
# The build lives in a copy of the tree with a virtualenv of its own, so that it
# never mixes with the ordinary one. Left out are the browser tests, since a browser
# does not start with the sanitizer library preloaded, and the memory figures, since
# the sanitizer's allocator holds freed memory back.
set -euo pipefail
if [ "${1:-}" = --help ]; then
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"
  exit
fi
cd "$(dirname "$0")/.."

python=${1:?usage: scripts/sanitize.sh PYTHON [PYTEST ARGUMENT...]}
shift
venv=$PWD/.venv-asan
tree=$PWD/.make/asan
cc=${CC:-cc}

scripts/virtualenv.sh check "$python" "$venv"
if [ ! -e "$venv/.stamp" ] || [ pyproject.toml -nt "$venv/.stamp" ]; then
  scripts/virtualenv.sh make "$python" "$venv"
  "$venv/bin/python" scripts/requirements.py build runtime demo test \
    >"$venv/requirements.txt"
  "$venv/bin/python" -m pip --disable-pip-version-check --quiet install \
    --requirement "$venv/requirements.txt"
  touch "$venv/.stamp"
fi

rm -rf "$tree"
mkdir -p "$tree"
tar --create --exclude=./.git --exclude=./.make --exclude='./.venv*' --exclude=build \
  --exclude='*.so' --exclude='__pycache__' --exclude=./docs/_build . |
  tar --extract --directory "$tree"
cd "$tree"
PYWEBTRANSPORT_SANITIZE=1 "$venv/bin/python" -m pip --disable-pip-version-check --quiet install \
  --no-build-isolation --no-deps --editable .

# libstdc++ goes first in line for its exceptions to be seen by the sanitizer.
preload="$("$cc" -print-file-name=libasan.so):$("$cc" -print-file-name=libstdc++.so)"
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:allocator_may_return_null=1"
export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1"
export PYTHONMALLOC=malloc
export PYWEBTRANSPORT_TEST_SLOWNESS=5
LD_PRELOAD=$preload "$venv/bin/python" -m pytest --ignore=tests/browser \
  --ignore=tests/integration/test_limits_memory.py "$@" tests
