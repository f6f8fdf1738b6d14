# weft's usual errands. `make demo` and `make test` want root: they make network namespaces.

.DEFAULT_GOAL := build
.PHONY: setup build install image lint test instructions demo bench

# Where rustup puts cargo, for shells that have not heard of it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

PREFIX ?= /usr/local

# Put the command where shells find it, and everything where flannel's unit files and images
# have it: /opt/bin and /opt/cni/bin. The units start nothing until they are enabled; one that is
# there already, perhaps edited, stays. A service that runs goes on with the new command: it is put
# in place in one step, and systemd keeps queues and sockets through a restart.
BIN := $(DESTDIR)$(PREFIX)/bin
OPT := $(DESTDIR)/opt
UNITS := $(DESTDIR)$(PREFIX)/lib/systemd/system
DROP_IN := $(DESTDIR)$(PREFIX)/share/weft/docker.service.d/weft.conf

install: build
	for file in $(addprefix $(OPT)/,bin/flanneld bin/install-conf bin/mk-docker-opts.sh cni/bin/flannel); do \
	    if [ -f $$file ] && [ ! -L $$file ] && [ ! -e $$file.old ]; then mv -v $$file $$file.old; fi; \
	done
	install -D -m 755 target/release/weft $(BIN)/.weft.new
	mv -f $(BIN)/.weft.new $(BIN)/weft
	install -D -m 755 deploy/mk-docker-opts.sh $(BIN)/mk-docker-opts.sh
	install -D -m 755 target/release/flannel $(OPT)/cni/bin/flannel
	install -d $(OPT)/bin
	ln -sf $(PREFIX)/bin/weft $(OPT)/bin/flanneld
	ln -sf $(PREFIX)/bin/weft $(OPT)/bin/install-conf
	ln -sf $(PREFIX)/bin/mk-docker-opts.sh $(OPT)/bin/mk-docker-opts.sh
	install -D -m 644 deploy/systemd/docker.service.d/weft.conf $(DROP_IN)
	for unit in weft.service weft-tune.service; do \
	    if [ ! -e $(UNITS)/$$unit ]; then \
	        install -D -m 644 deploy/systemd/$$unit $(UNITS)/$$unit; \
	    elif ! cmp -s deploy/systemd/$$unit $(UNITS)/$$unit; then \
	        echo "$(UNITS)/$$unit stays as it is; deploy/systemd/$$unit differs"; \
	    fi; \
	done
	if [ -z "$(DESTDIR)" ] && systemctl is-active --quiet weft.service 2>/dev/null; then \
	    systemctl daemon-reload && systemctl restart weft.service; \
	fi

# Install what is missing: Debian packages, the Rust toolchain.
setup:
	scripts/setup.sh

build: setup
	cargo build --release -p weft -p weft-cni

# OCI images in target/image, without a registry. Wants root. make image ARCH="amd64 arm64"
image: build
	scripts/image.sh $(ARCH)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Lint and every test; the last line says how many passed.
test: setup
	scripts/test.sh

# Instructions per packet, held against benches/instructions.json; ARGS=--record makes it anew.
instructions:
	cargo run --release --quiet -p weft-benches --features portable --bin instructions -- $(ARGS)

# Two nodes on this machine, measured against the kernel. make demo ARGS="--keep --regime all"
demo: build
	cargo run --release --quiet -- demo $(ARGS)

# Every way between two nodes, measured, with JSON and an HTML page. make bench ARGS="--quick"
bench: build
	cargo run --release --quiet -- bench $(ARGS)
