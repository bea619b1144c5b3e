#!/bin/sh
# stage.sh BINARY FOLDER PREFIX: lays out in FOLDER what is installed, for machines that will have it at PREFIX.
#
# The binary writes its own manual and completions. The unit is the one for every version of systemd; `qchost init
# --systemd` writes the one for this machine's.
set -eu

if [ $# -ne 3 ]; then
    echo "stage.sh: usage: stage.sh BINARY FOLDER PREFIX" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
binary=$1
folder=$2
prefix=$3
# The modes are the same whatever the user's umask is.
umask 022

put() { # put MODE FILE PLACE
    install -D -m "$1" "$2" "$folder/$3"
}

made() { # made PLACE COMMAND...: what the command prints
    place=$folder/$1
    shift
    mkdir -p "$(dirname "$place")"
    "$@" >"$place"
    chmod 644 "$place"
}

# A prefix may have characters that mean something to sed.
quoted=$(printf '%s\n' "$prefix" | sed 's/[\\&#]/\\&/g')

put 755 "$binary" bin/qchost
"$binary" man --output "$folder/share/man/man1" >/dev/null
made share/bash-completion/completions/qchost "$binary" completions bash
made share/zsh/site-functions/_qchost "$binary" completions zsh
made share/fish/vendor_completions.d/qchost.fish "$binary" completions fish
made lib/systemd/system/qchost.service sed "s#/usr/local/bin/#$quoted/bin/#" "$root/host/cli/templates/qchost.service"
put 644 "$root/host/cli/templates/qchost.sysusers" lib/sysusers.d/qchost.conf
put 644 "$root/LICENSE" share/doc/qchost/LICENSE
