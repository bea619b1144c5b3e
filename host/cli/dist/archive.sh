#!/bin/sh
# archive.sh FOLDER ARCHIVE: packs FOLDER, under its own name, into ARCHIVE (tar.gz).
#
# The same files give the same bytes: names are sorted, owners and modes are set, and every time is SOURCE_DATE_EPOCH.
set -eu

if [ $# -ne 2 ]; then
    echo "archive.sh: usage: archive.sh FOLDER ARCHIVE" >&2
    exit 2
fi
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    echo "archive.sh: set SOURCE_DATE_EPOCH, for instance: export SOURCE_DATE_EPOCH=\$(git log -1 --format=%ct)" >&2
    exit 2
fi
export LC_ALL=C
# Not a pipe, whose status is that of gzip alone.
tar --create --force-local --file="$2" --use-compress-program='gzip -9 --no-name' --format=gnu --sort=name \
    --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' \
    --mtime="@$SOURCE_DATE_EPOCH" --directory="$(dirname "$1")" "$(basename "$1")"
