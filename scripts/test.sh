#!/bin/bash
# Lint, every test, and instruction counts. End to end tests are last: those that mostly wait two
# at a time, and those that measure, or need the cores, alone.
# Goes on after failures; the last line sums all tests up.
set -u
cd "$(dirname "$0")/.."

log=$(mktemp)
# Tests that cannot run here (no root, say) leave a line in this file.
WEFT_SKIPPED=$(mktemp)
export WEFT_SKIPPED
trap 'rm -f "$log" "$WEFT_SKIPPED"' EXIT

broken=()

stage() {
    local name=$1
    shift
    echo "== $name"
    "$@" 2>&1 | tee -a "$log"
    [ "${PIPESTATUS[0]}" = 0 ] || broken+=("$name")
}

stage lint make --no-print-directory --keep-going lint
stage tests cargo test --workspace --exclude weft --no-fail-fast
stage command cargo test --package weft --bins --test agent --test arrows --test docs --test helpers --test leases --no-fail-fast
stage instructions make --no-print-directory instructions
if [ -e tests/e2e.rs ] || [ -e tests/e2e/main.rs ]; then
    # Each has namespaces, files and an etcd of its own.
    waiting=(backends:: bad_input:: cni:: firewall:: fixed:: life_cycle:: secure_etcd::)
    # Some of these measure.
    busy=(cni::a_shaped_pod firewall::super_packets)
    e2e=(cargo test --release --test e2e --no-fail-fast --)
    stage "end to end" "${e2e[@]}" --test-threads=2 "${waiting[@]}" "${busy[@]/#/--skip=}"
    stage "end to end, alone" "${e2e[@]}" --test-threads=1 "${waiting[@]/#/--skip=}"
    stage "end to end, alone, too" "${e2e[@]}" --test-threads=1 "${busy[@]}"
fi

for name in ${broken[@]+"${broken[@]}"}; do
    echo "failed: $name"
done
sort "$WEFT_SKIPPED" | uniq -c | sed 's/^ *\([0-9]*\) /skipped \1: /'

skipped=$(wc -l <"$WEFT_SKIPPED")
# test result: ok. 24 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ...
awk -v skipped="$skipped" '
    /^test result:/ { passed += $4; failed += $6; ignored += $8 }
    END { printf "%d passed, %d failed, %d skipped\n", passed - skipped, failed, ignored + skipped }
' "$log"

[ ${#broken[@]} = 0 ]
