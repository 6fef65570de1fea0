#!/usr/bin/env bash
# Builds every libFuzzer target of tests/fuzz/ with the sanitizers and runs each
# for FUZZ_SECONDS (60). Corpora are kept in .make/fuzz/ from run to run.
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
out=$PWD/.make/fuzz
read -ra flags < <(pkg-config --cflags --libs libngtcp2 libngtcp2_crypto_gnutls gnutls)

mkdir -p "$out"
for source in tests/fuzz/fuzz_*.c; do
  name=$(basename "$source" .c)
  printf '\n-- %s, %s s\n' "$name" "$seconds"
  clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
    -I"$engine" "$source" "$engine"/*.c -o "$out/$name" "${flags[@]}" -lm
  mkdir -p "$out/$name.corpus"
  "$out/$name" -max_total_time="$seconds" -print_final_stats=0 -verbosity=0 \
    -artifact_prefix="$out/$name-" "$out/$name.corpus"
done
echo "no target found a defect"
