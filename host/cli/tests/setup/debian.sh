#!/bin/sh
# debian.sh PACKAGE...: installs Debian packages, or prints the line that does and exits with 1.
#
# The one place of the set-up that changes the machine outside this repository. It says what it is about to install, and
# it never removes a package: where apt would (a distribution's own rustc conflicts with rustc-web), it stops instead.
set -eu

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: no apt-get here; install what Debian calls: $*" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "setup: missing, and only root may install it. Run, then start again:" >&2
    echo "    sudo apt-get install -y $*" >&2
    exit 1
fi

echo "setup: installing Debian packages: $*"
# A source that cannot be reached matters only if a package is then missing, which the next command reports.
apt-get update -qq || echo "setup: apt-get update failed; going on with the lists at hand" >&2
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove "$@"
