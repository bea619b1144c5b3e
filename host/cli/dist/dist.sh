#!/bin/sh
# dist.sh FOLDER: builds the release and leaves in FOLDER what people get: an archive, a Debian package, the bill of
# materials, and the checksums of all of them.
#
# Reproducible: the same commit, compiler and C compiler give the same bytes, wherever the repository and FOLDER are
# (`check.sh`). Paths are cut off what is compiled, and times are that of the commit. Needs cargo-deb, Python 3.11 and
# binutils.
#
# The binary links the C library, libm and libgcc_s of the machine, and everything else is in it (TLS, SQLite, the
# allocator). It is not linked with musl or statically: names are then resolved without the machine's nsswitch.conf, and
# not every machine that builds it can have Rust's standard library for musl. What it needs of glibc must not be newer
# than in the systems that it is for.
set -eu

# Of Debian 12, Ubuntu 22.04 and RHEL 9. The package depends on it too (host/cli/Cargo.toml).
glibc=2.34

if [ $# -ne 1 ]; then
    echo "dist.sh: usage: dist.sh FOLDER" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$root"

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
LC_ALL=C
TZ=UTC
export SOURCE_DATE_EPOCH LC_ALL TZ
umask 022

# A target directory of its own: with other flags than those of `make install`, each would undo the other's build.
CARGO_TARGET_DIR=$out/build
export CARGO_TARGET_DIR
cargo_home=${CARGO_HOME:-$HOME/.cargo}
case $root$out$cargo_home in
    *[[:space:]]*)
        echo "dist.sh: the flags of compilers are separated by spaces: no folder may have one in its name" >&2
        exit 1
        ;;
esac
# The last that fits is taken by rustc, and by the C compiler too.
places="$root=/qchost $CARGO_TARGET_DIR=/target $cargo_home=/cargo $(rustc --print sysroot)=/rust"
flags="-Clink-arg=-Wl,--build-id=none"
c_flags=
for place in $places; do
    flags="$flags --remap-path-prefix=$place"
    c_flags="$c_flags -ffile-prefix-map=$place"
done
# One binary for every machine of the architecture, whatever the environment says.
unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS
RUSTFLAGS=$flags CFLAGS=$c_flags CXXFLAGS=$c_flags cargo build --locked --release -p qchost
binary=$CARGO_TARGET_DIR/release/qchost

needed=$(objdump -T "$binary" | sed -n 's/.*GLIBC_\([0-9][0-9.]*\).*/\1/p' | sort -uV | tail -n 1)
if [ -z "$needed" ]; then
    echo "dist.sh: objdump does not say what the binary needs of glibc" >&2
    exit 1
fi
if [ "$(printf '%s\n' "$glibc" "$needed" | sort -V | tail -n 1)" != "$glibc" ]; then
    echo "dist.sh: the binary needs glibc $needed, and is for systems with $glibc: build it on Debian 12" >&2
    exit 1
fi

version=$("$binary" --version)
name=qchost-${version#qchost }-$(uname -m)-linux-gnu
rm -rf "$out/stage" "$CARGO_TARGET_DIR/release/package"
for stage in "$out/stage/$name /usr/local" "$CARGO_TARGET_DIR/release/package /usr"; do
    folder=${stage% *}
    "$here/stage.sh" "$binary" "$folder" "${stage##* }"
    python3 "$here/inventory.py" licences >"$folder/share/doc/qchost/THIRD-PARTY-LICENCES"
    python3 "$here/inventory.py" sbom >"$folder/share/doc/qchost/qchost.cdx.json"
done

# Those of a former build, and no other file that is there.
rm -f "$out"/qchost-*.tar.gz "$out"/qchost_*.deb "$out"/qchost-*.cdx.json
"$here/archive.sh" "$out/stage/$name" "$out/$name.tar.gz"
cp "$out/stage/$name/share/doc/qchost/qchost.cdx.json" "$out/$name.cdx.json"
# The package takes the files from the stage in the target directory. The binary is stripped already.
cargo deb --locked --no-build --no-strip -p qchost --output "$out/"
(cd "$out" && sha256sum ./qchost-*.tar.gz ./qchost_*.deb ./qchost-*.cdx.json | tee SHA256SUMS)
