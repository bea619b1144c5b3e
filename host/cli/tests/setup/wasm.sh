#!/bin/sh
# wasm.sh: makes sure that this machine can build Rust plugins into WebAssembly components (wasm32-wasip2).
#
# In order: what is installed already (the target of the active toolchain, then Debian's rustc-web), then
# `rustup target add`, then Debian's packages. `qchost plugin build` looks for the same two, in the same order, so
# whatever this script leaves behind is enough for it. QCHOST_WASM_TOOLCHAIN=debian goes straight to Debian's packages.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=wasm32-wasip2
# Debian has no package of that target's standard library: it is compiled from rust-web-src against wasi-libc.
debian_packages="rustc-web cargo-web rust-web-src rust-web-llvm lld-22 wasi-libc"

have_target() {
    libraries=$(rustc --print target-libdir --target "$target" 2>/dev/null) && [ -d "$libraries" ]
}

have_debian() {
    # shellcheck disable=SC2086  # a list of words
    states=$(dpkg-query -W -f '${db:Status-Status}\n' $debian_packages 2>/dev/null) || return 1
    [ "$(echo "$states" | sort -u)" = installed ]
}

case ${QCHOST_WASM_TOOLCHAIN:-} in
    "")
        if have_target || have_debian; then exit 0; fi
        if command -v rustup >/dev/null 2>&1; then
            echo "setup: rustup target add $target"
            if timeout 300 rustup target add "$target" && have_target; then exit 0; fi
            echo "setup: rustup could not add the target; trying Debian's packages" >&2
        fi
        ;;
    debian)
        if have_debian; then exit 0; fi
        ;;
    *)
        echo "setup: QCHOST_WASM_TOOLCHAIN is '$QCHOST_WASM_TOOLCHAIN': leave it unset or say 'debian'" >&2
        exit 2
        ;;
esac

# shellcheck disable=SC2086
if ! "$here/debian.sh" $debian_packages; then
    echo "setup: or, with rustup and its server in reach: rustup target add $target" >&2
    exit 1
fi
