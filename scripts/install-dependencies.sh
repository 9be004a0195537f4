#!/bin/bash
# Installs what building and testing need, by Debian package name. Usage: install-dependencies.sh [lint] [fuzz]
# Does nothing, and asks nothing of the network, when all of it is there.
set -euo pipefail

packages=(
  build-essential g++ cmake ninja-build ccache mold pkg-config git ca-certificates
  libdnnl-dev libhwy-dev libboost1.81-dev libexpected-dev libtomlplusplus-dev libcli11-dev
  libspdlog-dev libfmt-dev libsimdjson-dev nlohmann-json3-dev libpcre2-dev libutf8proc-dev
  libzip-dev libxxhash-dev libsodium-dev libssl-dev libzstd-dev zlib1g-dev
  libsqlite3-dev libpq-dev
  libopenmpi-dev openmpi-bin # optional in the build: training on several processes
  libxml2-dev libpoppler-cpp-dev libcmark-dev # works to screen against: HTML, EPUB, PDF, Markdown
  libjs-marked node-dompurify libjs-katex libjs-highlight.js # the chat page, inside the program
  libgtest-dev libgmock-dev librapidcheck-dev
  python3 python3-pip python3-venv # `retort pull pypi:…`, and the end-to-end tests
  postgresql # 45 MB: the store's tests start one of their own
)
for wanted in "$@"; do
  case "$wanted" in
    lint) packages+=(clang-format clang-tidy) ;;
    fuzz) packages+=(clang libclang-rt-dev) ;;
    *) echo "usage: $0 [lint] [fuzz]" >&2; exit 2 ;;
  esac
done

missing=()
for package in "${packages[@]}"; do
  if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
    missing+=("$package")
  fi
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "not root and no sudo; install these as root: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing: ${missing[*]}"
"${as_root[@]}" apt-get update -q
# Newer distributions have another Boost: 1.81 or later is what the build asks for.
if [[ " ${missing[*]} " == *" libboost1.81-dev "* ]] && ! apt-cache show libboost1.81-dev >/dev/null 2>&1; then
  missing=("${missing[@]/libboost1.81-dev/libboost-dev}")
fi
"${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
