#!/bin/bash
# Runs every fuzz target for a while, starting from its committed corpus. Usage: fuzz.sh BUILD_FOLDER SECONDS
# What it finds stays in BUILD_FOLDER/fuzz/found-NAME; a crash ends the run with the input's path.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:?usage: fuzz.sh BUILD_FOLDER SECONDS}
seconds=${2:?usage: fuzz.sh BUILD_FOLDER SECONDS}
for target in "$build"/fuzz/fuzz_*; do
  [ -x "$target" ] && [ -f "$target" ] || continue
  name=$(basename "$target")
  corpus=fuzz/corpus/${name#fuzz_}
  found=$build/fuzz/found-${name#fuzz_}
  mkdir -p "$found"
  echo "== $name for $seconds s"
  "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
    -artifact_prefix="$found/" -print_final_stats=1 "$found" "$corpus" 2>&1 | tail -n 12
done
