#!/usr/bin/env bash
# Installs a build into a fresh prefix, then builds and runs a program of somebody else's against
# it: once through find_package, once through pkg-config.
#
#   install_test.sh BUILD_FOLDER CXX
set -euo pipefail
build=$1
cxx=$2
source=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/consumer
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

cmake --install "$build" --prefix "$prefix" >"$work/install.log"
# A moved tree must work as well.
mv "$prefix" "$work/moved"
prefix=$work/moved

echo "== the command"
"$prefix/bin/switchyard" --version
(cd "$work" && "$prefix/bin/switchyard" bench --suite quick --list | grep -q bench=layer)

echo "== find_package"
cmake -G Ninja -S "$source" -B "$work/consumer" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_PREFIX_PATH="$prefix"
cmake --build "$work/consumer"
"$work/consumer/consumer"

echo "== pkg-config"
pc=$(find "$prefix" -name switchyard.pc)
export PKG_CONFIG_PATH=${pc%/*}
# shellcheck disable=SC2046  # flags are words
"$cxx" -std=c++20 -O2 "$source/main.cc" -o "$work/by-pkg-config" \
  $(pkg-config --cflags --libs switchyard)
"$work/by-pkg-config"
