#!/bin/bash
# clang-format and clang-tidy over everything that is ours. Usage: lint.sh BUILD_FOLDER [format]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:?usage: lint.sh BUILD_FOLDER [format]}
git ls-files -z '*.cpp' '*.h' | xargs -0 clang-format --dry-run -Werror
if [ "${2:-}" = format ]; then exit 0; fi
git ls-files -z 'src/*.cpp' | xargs -0 -P "$(nproc)" -n 4 clang-tidy --quiet --extra-arg=-Wno-unknown-warning-option -p "$build"
