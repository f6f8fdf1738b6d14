#!/bin/bash
# Build `weft` and `flannel` for another architecture (arm64) and print the directory with them.
# The standard library comes from rustup, if it has the target; else from Debian, whose rustc-web
# is unpacked into target/image/toolchain, beside whatever Rust the machine has.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$1" = arm64 ] || { echo "cross: there is no way to build for $1 yet" >&2 && exit 1; }
target=aarch64-unknown-linux-gnu
toolchain=$PWD/target/image/toolchain
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

if ! [ -d "$(rustc --print target-libdir --target $target)" ]; then
    if ! [ -e "$toolchain/rustc" ]; then
        rm -rf "$toolchain"
        mmdebstrap --quiet --variant=extract --architectures="$(dpkg --print-architecture),arm64" \
            --include=rustc-web,libstd-rust-web-dev:arm64 "$suite" "$toolchain" >&2
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' \
            "$(echo "$toolchain"/usr/lib/"$(uname -m)"-linux-gnu)" "$toolchain/usr/bin/rustc" \
            >"$toolchain/rustc"
        chmod +x "$toolchain/rustc"
    fi
    export RUSTC=$toolchain/rustc
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
cargo build --quiet --release --target $target --target-dir target/image/cross -p weft -p weft-cni >&2
echo target/image/cross/$target/release
