#!/usr/bin/env bash
# Builds every libFuzzer target of tests/fuzz/ with the sanitizers and runs each
# for FUZZ_SECONDS (60); FUZZ_TARGETS names some of them. What is worth keeping
# is in tests/fuzz/corpus/; what a run finds beside it stays in .make/fuzz/.
set -euo pipefail
if [ "${1:-}" = --help ]; then
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"
  exit
fi
if [ $# -gt 0 ]; then
  echo "usage: scripts/fuzz.sh" >&2
  exit 2
fi
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
engine=pywebtransport/_quic/engine
helpers=(tests/engine/sim.c tests/engine/tlscert.c)
out=$PWD/.make/fuzz
read -ra libraries < <(pkg-config --cflags --libs libngtcp2 libngtcp2_crypto_gnutls gnutls)
flags=(-std=gnu11 -g -O1 "-fsanitize=address,undefined" -fno-sanitize-recover=undefined
  -iquote "$engine" -iquote tests/engine)

mkdir -p "$out/objects"
objects=()
for source in "$engine"/*.c "${helpers[@]}"; do
  object=$out/objects/$(basename "$source" .c).o
  clang "${flags[@]}" -fsanitize=fuzzer-no-link -c "$source" -o "$object" "${libraries[@]}" \
    -Wno-unused-command-line-argument
  objects+=("$object")
done

read -ra targets <<< "${FUZZ_TARGETS:-}"
if [ "${#targets[@]}" -eq 0 ]; then
  for source in tests/fuzz/fuzz_*.c; do
    targets+=("$(basename "$source" .c)")
  done
fi
for name in "${targets[@]}"; do
  printf '\n-- %s, %s s\n' "$name" "$seconds"
  wraps=()
  if grep -q '"replace.h"' "tests/fuzz/$name.c"; then
    wraps=("-Wl,--wrap=qe_cipher_encrypt_cb" "-Wl,--wrap=qe_engine_process")
  fi
  clang "${flags[@]}" -fsanitize=fuzzer "tests/fuzz/$name.c" "${objects[@]}" "${wraps[@]}" \
    -o "$out/$name" "${libraries[@]}" -lm
  mkdir -p "$out/$name.corpus" "tests/fuzz/corpus/$name"
  "$out/$name" -max_total_time="$seconds" -print_final_stats=1 -verbosity=0 -timeout=20 \
    -rss_limit_mb=4096 -artifact_prefix="$out/$name-" "$out/$name.corpus" "tests/fuzz/corpus/$name"
done
echo "no target found a defect"
