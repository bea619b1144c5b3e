#!/bin/sh
# unprivileged.sh FOLDER PROGRAM [ARGUMENT...]: run a program of the tests as a user who owns nothing, with FOLDER empty
# and writable. Needs root, and leaves no trace: what it mounts is in a namespace that ends with the program.
set -eu

if [ "${1-}" != --inside ]; then
    exec unshare --mount "$0" --inside "$@"
fi
user=65534
folder=$2
program=$3
shift 3
root=$(cd "$(dirname "$0")/../../../.." && pwd)

unprivileged() {
    setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
}

if ! unprivileged test -x "$program"; then
    # Folders above the checkout are closed to others. Here it lies below open ones of the same names.
    mount --bind "$root" /mnt
    mount -t tmpfs -o mode=0755 qchost-tests "/$(echo "$root" | cut -d / -f 2)"
    (umask 022 && mkdir -p "$root")
    mount --bind /mnt "$root"
fi
if ! unprivileged test -x "$program"; then
    echo "unprivileged.sh: the user $user cannot run $program; was it built under another umask?" >&2
    exit 1
fi
mount -t tmpfs -o "mode=0700,uid=$user,gid=$user" qchost-tests "$folder"
# Such a user may not be able to run Cargo, which `insta` asks for the folder of the snapshots.
exec setpriv --reuid "$user" --regid "$user" --clear-groups \
    env HOME="$folder" TMPDIR="$folder" INSTA_WORKSPACE_ROOT="$root" "$program" "$@"
