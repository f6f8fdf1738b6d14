#!/bin/bash
# Build weft's OCI images, one archive for each architecture, without a registry and without a
# container engine: target/image/weft-<arch>.tar, for `docker load`, `podman load` and
# `ctr images import`.
#
#   scripts/image.sh [amd64] [arm64]        default: the machine's own
#
# The same sources, SOURCE_DATE_EPOCH and Debian mirror give the same bytes.
#   WEFT_BINARIES_<arch>   directory with `weft` and `flannel` for it, which are not built then
#   IMAGE                  name of the image, weft:<version>
set -euo pipefail
cd "$(dirname "$0")/.."

out=$PWD/target/image
own=$(dpkg --print-architecture)
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
image=${IMAGE:-weft:$version}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

fail() {
    echo "image: $*" >&2
    exit 1
}

# Programs that not everybody needs who builds weft, with the package of each.
need() {
    command -v "$1" >/dev/null || fail "there is no $1; try \`apt-get install $2\`"
}

# What Debian has of the image: both variants of iptables, nftables, a shell and authorities.
# Nothing of it is configured: packages are unpacked, and what only people read goes.
debian() {
    local arch=$1 root=$2
    rm -rf "$root"
    mmdebstrap --quiet --variant=extract --architectures="$arch" \
        --include=iptables,nftables,busybox \
        --extract-hook='cd "$1/tmp" && apt-get -qq -o APT::Sandbox::User=root download ca-certificates && dpkg-deb -x ca-certificates_*.deb "$1"' \
        "$suite" "$root"
    local lib
    lib=$(echo "$root"/usr/lib/*-linux-gnu*)
    mkdir -p "$root/etc/ssl/certs"
    cat "$root"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$root"/usr/share "$root"/usr/games "$root"/usr/local "$root"/usr/include "$root"/usr/src \
        "$root"/var "$root"/tmp "$root"/dev "$root"/proc "$root"/sys "$root"/run "$root"/boot \
        "$root"/home "$root"/media "$root"/mnt "$root"/opt "$root"/root "$root"/srv \
        "$root"/etc/{apt,default,init.d,cron*,dpkg,update-*,ca-certificates,systemd,*.d} \
        "$lib"/{gconv,audit,perl*} "$root"/usr/lib/{locale,systemd,tmpfiles.d,sysusers.d} \
        "$root"/usr/bin "$root"/lib/systemd "$root"/lib/udev "$root"/usr/sbin/{iconvconfig,nfnl_osf,zic} \
        "$root"/usr/sbin/{update-*,ip*-apply,ip*tables-*translate,*arptables*,*ebtables*} \
        "$root"/usr/sbin/ip{,6}tables{,-save,-restore}
    find "$root" -xtype l -delete
    mkdir -p "$root"/{dev,proc,sys,run,tmp,usr/bin,var/lib}
    ln -s ../run "$root/var/run"
    chmod 1777 "$root/tmp"
    local applet
    for applet in sh cat cp ls grep readlink dirname mkdir mknod; do
        ln -sf busybox "$root/bin/$applet"
    done
    for applet in ip{,6}tables{,-save,-restore}; do
        install -m 755 deploy/docker/iptables "$root/usr/sbin/$applet"
    done
    echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
    echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
}

# weft's own part, with everything where flannel's image has it.
weft() {
    local binaries=$1 strip=$2 root=$3
    rm -rf "$root"
    mkdir -p "$root"/{opt/bin,opt/cni/bin,usr/bin}
    "$strip" -o "$root/opt/bin/weft" "$binaries/weft"
    "$strip" -o "$root/flannel" "$binaries/flannel"
    install -m 755 deploy/mk-docker-opts.sh "$root/opt/bin/mk-docker-opts.sh"
    install -m 755 deploy/docker/flanneld "$root/opt/bin/flanneld"
    ln -s weft "$root/opt/bin/install-conf"
    ln -s ../../opt/bin/weft "$root/usr/bin/weft"
    ln -s ../../../flannel "$root/opt/cni/bin/flannel"
}

# The programs of an architecture; prints the directory with them.
binaries() {
    local given=WEFT_BINARIES_$1
    if [ -n "${!given:-}" ]; then
        echo "${!given}"
    elif [ "$1" = "$own" ]; then
        cargo build --quiet --release -p weft -p weft-cni >&2
        echo target/release
    else
        scripts/cross.sh "$1"
    fi
}

# Put a tree into a layer under $blobs; prints digest, size and digest when unpacked.
layer() {
    local tar=$work/layer.tar sum
    tar -C "$1" --sort=name --format=gnu --numeric-owner --owner=0 --group=0 \
        --mtime="@$SOURCE_DATE_EPOCH" -cf "$tar" .
    sum=$(sha256sum <"$tar" | cut -d' ' -f1)
    gzip -n9 "$tar"
    echo "$(blob "$tar.gz") $sum"
}

# Move a file to where its digest names it; prints digest and size.
blob() {
    local sum size
    sum=$(sha256sum <"$1" | cut -d' ' -f1)
    size=$(stat -c %s "$1")
    mv "$1" "$blobs/$sum"
    echo "$sum $size"
}

# The archive: an OCI layout that is a `docker save`, too.
archive() {
    local arch=$1 tree layers=() diffs=() paths=() sum size diff created
    shift
    created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)
    local oci=application/vnd.oci.image
    for tree in "$@"; do
        read -r sum size diff < <(layer "$tree")
        layers+=("{\"mediaType\":\"$oci.layer.v1.tar+gzip\",\"digest\":\"sha256:$sum\",\"size\":$size}")
        diffs+=("\"sha256:$diff\"")
        paths+=("\"blobs/sha256/$sum\"")
    done
    local IFS=,
    cat >"$work/config" <<JSON
{"created":"$created","architecture":"$arch","os":"linux",
"config":{"Env":["PATH=/opt/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Entrypoint":["/opt/bin/flanneld"],
"Labels":{"org.opencontainers.image.title":"weft","org.opencontainers.image.version":"$version",
"org.opencontainers.image.licenses":"Apache-2.0"}},
"rootfs":{"type":"layers","diff_ids":[${diffs[*]}]}}
JSON
    local config manifest
    IFS=' ' read -r config size < <(blob "$work/config")
    cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"$oci.manifest.v1+json",
"config":{"mediaType":"$oci.config.v1+json","digest":"sha256:$config","size":$size},
"layers":[${layers[*]}]}
JSON
    IFS=' ' read -r manifest size < <(blob "$work/manifest")
    echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
    cat >"$work/oci/index.json" <<JSON
{"schemaVersion":2,"mediaType":"$oci.index.v1+json","manifests":[
{"mediaType":"$oci.manifest.v1+json","digest":"sha256:$manifest","size":$size,
"platform":{"architecture":"$arch","os":"linux"},
"annotations":{"io.containerd.image.name":"docker.io/library/$image","org.opencontainers.image.ref.name":"${image##*:}"}}]}
JSON
    cat >"$work/oci/manifest.json" <<JSON
[{"Config":"blobs/sha256/$config","RepoTags":["$image"],"Layers":[${paths[*]}]}]
JSON
    tar -C "$work/oci" --sort=name --format=gnu --numeric-owner --owner=0 --group=0 \
        --mtime="@$SOURCE_DATE_EPOCH" -cf "$out/weft-$arch.tar" \
        blobs index.json manifest.json oci-layout
}

# Start the program inside the image's own files, under qemu where it is another machine's.
smoke() {
    local arch=$1 root=$work/smoke tree run=(/opt/bin/flanneld)
    mkdir "$root"
    for tree in "$work"/{debian,weft}; do cp -a "$tree/." "$root/"; done
    if [ "$arch" != "$own" ]; then
        need qemu-aarch64-static qemu-user-static
        cp "$(command -v qemu-aarch64-static)" "$root/qemu"
        run=(/qemu /opt/bin/weft agent)
    fi
    chroot "$root" "${run[@]}" -version >"$work/said" 2>&1 || true
    grep -q "$version" "$work/said" || fail "the program for $arch does not run: $(cat "$work/said")"
}

need mmdebstrap mmdebstrap
[ "$(id -u)" = 0 ] || fail "run as root: the files of the image are root's"
mkdir -p "$out"
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
for arch in "${@:-$own}"; do
    rm -rf "${work:?}"/*
    blobs=$work/oci/blobs/sha256
    mkdir -p "$blobs"
    strip=strip
    if [ "$arch" != "$own" ]; then
        strip=aarch64-linux-gnu-strip
        need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
    fi
    found=$(binaries "$arch")
    debian "$arch" "$work/debian"
    weft "$found" "$strip" "$work/weft"
    smoke "$arch"
    archive "$arch" "$work/debian" "$work/weft"
    echo "image: $image for $arch in target/image/weft-$arch.tar, $(du -h "$out/weft-$arch.tar" | cut -f1)," \
        "$(du -shc "$work"/{debian,weft} | tail -1 | cut -f1) unpacked"
done
