#!/bin/sh
# What `make fuzz` calls in place of rustc: the same, with the counters that libFuzzer reads in the crates under test. The
# flags are those of cargo-fuzz; they are stable. Build scripts and macros run on the host and are built without --target.
# The rest is left alone: counters in the compiler of WebAssembly would drown the ones that matter.
rustc=$1
shift
case " $* " in
*" --target "*)
    case " $* " in
    *" --crate-name qchost_"* | *" --crate-name wasmparser "* | *" --crate-name toml"* | *" --crate-name diffy "* | *" --crate-name jsonschema "* | *" --crate-name serde_json "*)
        set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-pc-table \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-trace-compares
        ;;
    esac
    ;;
esac
exec "$rustc" "$@"
