#!/usr/bin/env bash
# Fuzzes the C targets of tests/fuzz/ (libFuzzer, with the sanitizers) and the
# Python targets (atheris), each for FUZZ_SECONDS (60); FUZZ_TARGETS names some
# of them. They begin with the inputs in tests/fuzz/corpus/; what a run finds
# beside them stays in .make/fuzz/. With FUZZ_KEEP=1 the shortest inputs that
# cover all of it become the corpus.
set -euo pipefail
if [ "${1:-}" = --help ]; then
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"
  exit
fi
if [ $# -gt 1 ]; then
  echo "usage: scripts/fuzz.sh [PYTHON]" >&2
  exit 2
fi
python=${1:-python3}
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
engine=pywebtransport/_quic/engine
helpers=(tests/engine/sim.c tests/engine/tlscert.c)
out=$PWD/.make/fuzz
read -ra libraries < <(pkg-config --cflags --libs libngtcp2 libngtcp2_crypto_gnutls gnutls)
flags=(-std=gnu11 -g -O1 "-fsanitize=address,undefined" -fno-sanitize-recover=undefined
  -iquote "$engine" -iquote tests/engine)
limits=(-timeout=20 -rss_limit_mb=4096 -max_len=2048 -len_control=20 -print_final_stats=1 -verbosity=0)
python_targets=$("$python" -m tests.fuzz list)

read -ra targets <<< "${FUZZ_TARGETS:-}"
if [ "${#targets[@]}" -eq 0 ]; then
  for source in tests/fuzz/fuzz_*.c; do
    targets+=("$(basename "$source" .c)")
  done
  mapfile -t -O "${#targets[@]}" targets <<< "$python_targets"
fi

objects=()
build_engine() {
  mkdir -p "$out/objects"
  local source object
  for source in "$engine"/*.c "${helpers[@]}"; do
    object=$out/objects/$(basename "$source" .c).o
    clang "${flags[@]}" -fsanitize=fuzzer-no-link -c "$source" -o "$object" "${libraries[@]}" \
      -Wno-unused-command-line-argument
    objects+=("$object")
  done
}

build_target() {
  local wraps=()
  if grep -q '"replace.h"' "tests/fuzz/$1.c"; then
    wraps=("-Wl,--wrap=qe_cipher_encrypt_cb" "-Wl,--wrap=qe_engine_process")
  fi
  clang "${flags[@]}" -fsanitize=fuzzer "tests/fuzz/$1.c" "${objects[@]}" "${wraps[@]}" \
    -o "$out/$1" "${libraries[@]}" -lm
}

for name in "${targets[@]}"; do
  printf '\n-- %s, %s s\n' "$name" "$seconds"
  found=$out/$name.corpus
  "$python" -m tests.fuzz unpack "$name" "$found"
  if grep -qx "$name" <<< "$python_targets"; then
    # A program of its own, since libFuzzer starts itself again to merge corpora.
    mkdir -p "$out"
    # shellcheck disable=SC2016 # it is that program that expands them
    printf '#!/bin/sh\nexec %q -m tests.fuzz run %q "$0" "$@"\n' "$python" "$name" > "$out/$name"
    chmod +x "$out/$name"
  elif [ -f "tests/fuzz/$name.c" ]; then
    if [ "${#objects[@]}" -eq 0 ]; then
      build_engine
    fi
    build_target "$name"
  else
    echo "there is no target '$name'" >&2
    exit 2
  fi
  "$out/$name" -max_total_time="$seconds" "${limits[@]}" -artifact_prefix="$out/$name-" "$found"
  if [ -n "${FUZZ_KEEP:-}" ]; then
    rm -rf "$found.least"
    mkdir "$found.least"
    "$out/$name" -merge=1 "${limits[@]}" "$found.least" "$found"
    "$python" -m tests.fuzz pack "$name" "$found.least"
  fi
done
echo "no target found a defect"
