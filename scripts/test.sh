#!/bin/bash
# Lint, every test, and instruction counts. Goes on after failures. The last lines say how long
# each stage took, what failed, and sum all tests up.
#
# Tests that mostly wait run beside those that compute; end to end tests that measure, or need
# the cores, run alone at the end. They test the binary that ships.
set -u
cd "$(dirname "$0")/.."

work=$(mktemp -d)
# Tests that cannot run here (no root, say) leave a line in this file.
export WEFT_SKIPPED=$work/skipped
: >"$WEFT_SKIPPED" >"$work/log" >"$work/failed" >"$work/times"
trap 'rm -rf "$work"' EXIT

# stage NAME COMMAND...: run it, show what it says, and note its time and whether it failed.
stage() {
    local name=$1 start=$SECONDS
    shift
    echo "== $name"
    "$@" </dev/null 2>&1 | tee -a "$work/log"
    [ "${PIPESTATUS[0]}" = 0 ] || echo "$name" >>"$work/failed"
    printf '%5d s  %s\n' $((SECONDS - start)) "$name" | tee -a "$work/times"
}

# Test binaries as lines of folder, kind, name and path. With all of the workspace in one
# command, every crate is built once, with the same features.
build() {
    cargo build --release --package weft --package weft-cni || return
    cargo build --release --package weft-benches --features portable --bin instructions || return
    cargo test --workspace --no-run --message-format json >"$work/json" || return
    sed -nE 's|.*"manifest_path":"([^"]*)/Cargo.toml".*"target":\{"kind":\["([a-z-]*)".*"name":"([^"]*)".*"overflow_checks":[a-z]*,"test":true\}.*"executable":"([^"]*)".*|\1 \2 \3 \4|p' \
        "$work/json" >"$work/binaries"
    # None may be lost in reading.
    [ "$(grep -c '"overflow_checks":[a-z]*,"test":true}' "$work/json")" = "$(wc -l <"$work/binaries")" ]
}

# binary KIND NAME ARGUMENTS...: run the test binaries of this kind and name, as cargo would.
binary() {
    local kind=$1 name=$2 status=0 found=0 folder path _kind _name
    shift 2
    while read -r folder _kind _name path; do
        found=1
        (cd "$folder" && exec "$path" "$@") </dev/null || status=1
    done < <(awk -v kind="$kind" -v name="$name" '$2 == kind && $3 == name' "$work/binaries")
    [ $found = 1 ] || echo "there is no test binary $name" >&2
    [ $found$status = 10 ]
}

# Integration tests that mostly wait, with as many threads as pays.
waiting=("etcd 8" "agent 6" "leases 4" "kube 4" "plugin 4")

# End to end tests that measure, or need the cores. All others mostly wait.
e2e_alone=(bench:: demo:: ecn:: overload:: slow_peer:: tunnel_gso:: together:: cni::a_shaped_pod
    fast_path::counters fast_path::order fast_path::survival firewall::super_packets hand_over:: hostile::a_flood kubernetes::)

# End to end tests of traffic, for which it must not matter which way packets take: they run with
# the fast path for all that it can carry, and without. All others run as agents do by default.
e2e_ways=(backends:: hostile:: interop:: life_cycle:: mtu:: pod_mtu:: pods:: recursion:: udp:: wire::)
e2e_ways_alone=(ecn:: hostile::a_flood)

# e2e WAY ARGUMENTS...: run end to end tests with this `-fast-path`.
e2e() {
    local way=$1
    shift
    FLANNELD_FAST_PATH=$way binary test e2e "$@"
}

wait_for_things() {
    local entry way
    for entry in "${waiting[@]}"; do
        stage "tests/${entry% *}" binary test "${entry% *}" --test-threads="${entry#* }"
    done
    stage "end to end, side by side" binary test e2e --test-threads=4 \
        "${e2e_alone[@]/#/--skip=}" "${e2e_ways[@]/#/--skip=}"
    for way in on off; do
        stage "end to end, side by side, fast path $way" e2e $way --test-threads=4 \
            "${e2e_ways[@]}" "${e2e_alone[@]/#/--skip=}"
    done
}

# All that is not told to wait.
compute() {
    local kind name
    while read -r _ kind name _; do
        [ "$kind $name" = "test e2e" ] && continue
        printf '%s\n' "${waiting[@]}" | grep -q "^$name " && [ "$kind" = test ] && continue
        stage "$name ($kind)" binary "$kind" "$name"
    done < <(sort -u -k2,3 "$work/binaries")
    stage "examples in the documentation" cargo test --quiet --workspace --doc
    stage instructions make --no-print-directory instructions
}

side_by_side() {
    wait_for_things >"$work/waiting" 2>&1 &
    compute
    wait
    cat "$work/waiting"
}

stage lint make --no-print-directory --keep-going lint
stage build build
export WEFT_BINARY=$PWD/target/release/weft
start=$SECONDS
side_by_side
printf '%5d s  all of these side by side\n' $((SECONDS - start)) | tee -a "$work/times"
stage "end to end, alone" binary test e2e --test-threads=1 "${e2e_alone[@]}"
for way in on off; do
    stage "end to end, alone, fast path $way" e2e $way --test-threads=1 "${e2e_ways_alone[@]}"
done

echo "== times"
cat "$work/times"
printf '%5d s  in all\n' "$SECONDS"
sed 's/^/failed: /' "$work/failed"
sort "$WEFT_SKIPPED" | uniq -c | sed 's/^ *\([0-9]*\) /skipped \1: /'

skipped=$(wc -l <"$WEFT_SKIPPED")
# test result: ok. 24 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ...
awk -v skipped="$skipped" '
    /^test result:/ { passed += $4; failed += $6; ignored += $8 }
    END { printf "%d passed, %d failed, %d skipped\n", passed - skipped, failed, ignored + skipped }
' "$work/log"

[ ! -s "$work/failed" ]
