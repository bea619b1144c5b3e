#!/bin/sh
# Runs the fuzz targets under libFuzzer, one after the other: `make fuzz`.
#
#   FUZZ_SECONDS   how long each runs (600)
#   FUZZ_TARGETS   which ones (all)
#
# What is found is written to <target directory>/fuzz/findings, and the script ends with an error. The corpus stays in
# <target directory>/fuzz/corpus, and the next run begins with it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
inputs=$here/../testing/targets
triple=$(rustc -vV | sed -n 's/^host: //p')
# A directory of its own: nothing that was built with counters may get among what the tests use.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
export CARGO_TARGET_DIR
command -v c++ >/dev/null || { echo "fuzz: no c++ on PATH; libFuzzer is C++" >&2; exit 1; }

# --target keeps the counters out of build scripts and macros.
RUSTC_WRAPPER=$here/instrument.sh cargo build --locked --manifest-path "$here/Cargo.toml" --target "$triple"

for target in ${FUZZ_TARGETS:-manifest adapter loader description decoder diff guardrails}; do
    corpus=$CARGO_TARGET_DIR/corpus/$target
    findings=$CARGO_TARGET_DIR/findings
    known=$inputs/regressions/$target
    mkdir -p "$corpus" "$findings"
    [ -d "$known" ] || known=
    echo "fuzz: $target for ${FUZZ_SECONDS:-600} s"
    # Time in seconds and memory in MiB of one input, and its largest size in bytes.
    QCHOST_FUZZ=$target "$CARGO_TARGET_DIR/$triple/debug/qchost-fuzz" -max_total_time="${FUZZ_SECONDS:-600}" -timeout=30 -rss_limit_mb=2048 \
        -malloc_limit_mb=512 -max_len=65536 -print_final_stats=1 -artifact_prefix="$findings/$target-" "$corpus" "$inputs/seeds/$target" $known
done
