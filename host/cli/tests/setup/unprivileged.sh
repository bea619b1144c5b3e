#!/bin/sh
# unprivileged.sh FOLDER PROGRAM [ARGUMENT...]: run a program of the tests as a user who owns nothing, with FOLDER empty
# and writable. Needs root, and leaves no trace: FOLDER is covered in a mount namespace that ends with the program.
set -eu

user=65534
folder=$1
shift

if ! setpriv --reuid "$user" --regid "$user" --clear-groups test -x "$1"; then
    echo "unprivileged.sh: the user $user cannot reach $1; put the checkout where every user may enter its folders" >&2
    exit 1
fi
exec unshare --mount sh -euc '
    user=$1 folder=$2
    shift 2
    mount -t tmpfs -o "mode=0700,uid=$user,gid=$user" qchost-tests "$folder"
    exec setpriv --reuid "$user" --regid "$user" --clear-groups env HOME="$folder" TMPDIR="$folder" "$@"
' sh "$user" "$folder" "$@"
