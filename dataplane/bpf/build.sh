#!/bin/sh
# Build the programs into the folder $1, the same bytes on every machine with Debian 12's clang.
set -eu
out=$(realpath -m "$1")
cd "$(dirname "$0")"
for source in *.bpf.c; do
    object=$out/${source%.c}.o
    clang-14 -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-address-of-packed-member \
        -ffile-prefix-map="$PWD"=. -fdebug-compilation-dir=. \
        -isystem "/usr/include/$(uname -m)-linux-gnu" -c "$source" -o "$object"
    llvm-strip-14 -g "$object"
done
