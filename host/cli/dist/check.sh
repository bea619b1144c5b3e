#!/bin/sh
# check.sh FOLDER: proves that `dist.sh` is reproducible. It builds the committed state twice, from clones and into folders
# of different names, and compares what people get. It works in a new folder within FOLDER, and removes nothing else.
set -eu

if [ $# -ne 1 ]; then
    echo "check.sh: usage: check.sh FOLDER" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
mkdir -p "$1"
folder=$(mktemp -d "$(cd "$1" && pwd)/check.XXXXXX")
trap 'echo "check.sh: what was built is in $folder" >&2' EXIT

build() { # build CLONE OUT
    git clone --quiet "$root" "$folder/$1"
    "$folder/$1/host/cli/dist/dist.sh" "$folder/$2"
}

build one first
build another-clone second-time
for made in "$folder"/first/*.tar.gz "$folder"/first/*.deb "$folder"/first/*.cdx.json "$folder"/first/SHA256SUMS; do
    cmp "$made" "$folder/second-time/$(basename "$made")"
done
echo "the same bytes twice:"
cat "$folder/first/SHA256SUMS"
trap - EXIT
rm -rf "${folder:?}"
