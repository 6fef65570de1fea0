#!/usr/bin/env bash
# Looks after the Makefile's virtualenv.
#
#   scripts/virtualenv.sh check PYTHON VENV   one that cannot serve loses its stamps, so that
#                                             everything in it is installed again
#   scripts/virtualenv.sh make PYTHON VENV    makes it; takes a good one as it is
set -euo pipefail
if [ "${1:-}" = --help ]; then
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"
  exit
fi

usage="usage: scripts/virtualenv.sh check|make PYTHON VENV"
mode=${1:?$usage}
python=${2:?$usage}
venv=${3:?$usage}
# In every virtualenv that this script made: only these does it ever empty.
mark=$venv/.made-by-make

identity() {
  "$1" -c 'import sys; print(*sys.version_info[:2], sys.base_prefix)' 2>/dev/null
}

# Says what is wrong with the virtualenv; nothing if it can serve.
problem() {
  local recorded wanted
  if ! wanted=$(identity "$python"); then
    return # nothing to compare with; whoever needs a Python says so
  fi
  if ! identity "$venv/bin/python" >/dev/null; then
    echo "its Python does not run"
  elif [ "$(identity "$venv/bin/python")" != "$wanted" ]; then
    echo "it was made by $(identity "$venv/bin/python"), not by $wanted ($python)"
  elif [ -f "$venv/bin/pip" ]; then
    recorded=$(sed -n '1,2s|^[^/]*\(/.*\)/bin/python.*|\1|p' "$venv/bin/pip" | tail -n 1)
    if [ -n "$recorded" ] && ! [ "$recorded" -ef "$venv" ]; then
      echo "it was made as $recorded and moved"
    fi
  fi
}

if [ "$mode" = check ]; then
  if [ -f "$venv/pyvenv.cfg" ] && found=$(problem) && [ -n "$found" ]; then
    echo "virtualenv $venv: $found" >&2
    rm -f "$venv"/.stamp*
  fi
elif [ "$mode" = make ]; then
  clear=()
  if [ -f "$venv/pyvenv.cfg" ]; then
    found=$(problem)
    if [ -z "$found" ]; then
      exit 0
    fi
    if ! [ -e "$mark" ]; then
      echo "error: virtualenv $venv: $found, and make did not make it;" \
        "remove it or choose another: make VENV=..." >&2
      exit 1
    fi
    clear=(--clear)
  elif [ -d "$venv" ] && [ -n "$(ls -A "$venv")" ]; then
    echo "error: $venv is there and no virtualenv; choose another: make VENV=..." >&2
    exit 1
  fi
  # The interpreter behind a virtualenv that is active: this may be the one to be emptied.
  base=$("$python" -c 'import sys; print(sys._base_executable)')
  echo "making the virtualenv $venv with $base"
  "$base" -m venv "${clear[@]}" "$venv"
  touch "$mark"
else
  echo "$usage" >&2
  exit 2
fi
