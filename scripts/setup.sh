#!/bin/bash
# Install what building, testing and the demo need on Debian. Does nothing, and needs neither
# root nor network, where everything is there already.
set -eu
cd "$(dirname "$0")/.."

packages=(
    build-essential pkg-config ca-certificates protobuf-compiler libprotobuf-dev
    iproute2 iputils-ping ethtool procps nftables iptables
    etcd-server etcd-client iperf3 tshark tcpdump valgrind
    containernetworking-plugins docker.io busybox-static
    clang-14 llvm-14 libbpf-dev bpftool prometheus kubernetes-client mmdebstrap
)

fail() {
    echo "setup: $*" >&2
    exit 1
}

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

apt_install() {
    [ "$(id -u)" = 0 ] || fail "run as root to install: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    local wanted=() package
    for package in "$@"; do
        case $package in
        etcd-*)
            if ! has_candidate "$package"; then
                echo "setup: there is no package $package; the demo goes without etcd"
                continue
            fi
            ;;
        clang-14 | llvm-14)
            if ! has_candidate "$package"; then
                echo "setup: there is no package $package; the fast path's object is not built anew"
                continue
            fi
            ;;
        kubernetes-client)
            if ! has_candidate "$package"; then
                echo "setup: there is no package $package; tests that ask with kubectl are skipped"
                continue
            fi
            ;;
        esac
        wanted+=("$package")
    done
    [ ${#wanted[@]} = 0 ] || apt-get install -q -y --no-install-recommends "${wanted[@]}"
}

# Whether this release of Debian has the package at all.
has_candidate() {
    LC_ALL=C apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [^(]'
}

# Services of the packages that have any.
services_of() {
    case "$1" in
    etcd-server) echo etcd ;;
    docker.io) echo docker docker.socket containerd ;;
    prometheus) echo prometheus ;;
    esac
}

# Debian starts services on installation; those of ours run in namespaces and are the only ones
# wanted.
without_services() {
    local policy=/usr/sbin/policy-rc.d package
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap "rm -f $policy" EXIT
    fi
    apt_install "$@"
    command -v systemctl >/dev/null || return 0
    for package in "$@"; do
        services_of "$package" | xargs -r systemctl disable --quiet 2>/dev/null || true
    done
}

# Another package's dockerd and kubectl will do, and Debian's would throw them off.
is_wanted() {
    case "$1" in
    docker.io) ! command -v dockerd >/dev/null ;;
    kubernetes-client) ! command -v kubectl >/dev/null ;;
    esac
}

install_packages() {
    command -v dpkg-query >/dev/null ||
        fail "not a Debian system; install the equivalents of: ${packages[*]}"
    local missing=() package
    for package in "${packages[@]}"; do
        is_installed "$package" || ! is_wanted "$package" || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    echo "setup: installing ${missing[*]}"
    without_services "${missing[@]}"
}

# The version that rust-toolchain.toml asks for; rustup fetches it by itself.
wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)

has_rust() {
    local found
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2) || return 1
    [ -n "$found" ] && printf '%s\n%s\n' "$wanted" "$found" | sort -V -C
}

install_rust() {
    has_rust && return
    local remedy="install Rust $wanted or newer from https://rustup.rs and run make again"
    if ! command -v rustup >/dev/null; then
        has_candidate rustup || fail "there is no cargo $wanted; $remedy"
        apt_install rustup
    fi
    rustup toolchain install "$wanted" --profile minimal --component clippy --component rustfmt
    has_rust || fail "cargo is still older than $wanted; $remedy"
}

install_packages
install_rust
