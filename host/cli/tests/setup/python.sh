#!/bin/sh
# python.sh: makes the three Python environments that the tests need, in .venv/ at the top of the repository.
#
#   .venv/official   QuantConnect's own MCP server, started by official_server.py beside this script
#   .venv/lean       QuantConnect's `lean` command, .venv/lean/bin/lean
#   .venv/numerics   NumPy, SciPy and pandas, which compute the statistics of strategy-lab a second time
#
# Each is pinned, with hashes, by NAME.txt beside this script, and stamped with that file's hash and its own place once
# it is complete: a second run installs nothing and needs no network; a changed pin or a moved repository rebuilds.
# To renew the pins: uv pip compile --universal --python-version 3.11 --only-binary :all: --generate-hashes
#     --no-annotate --no-header NAME.in -o NAME.txt
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../../.." && pwd)

environment() { # environment NAME WHAT: leaves a complete environment at .venv/NAME
    venv=$root/.venv/$1
    stamp="$venv $(sha256sum <"$here/$1.txt")"
    if [ "$(cat "$venv/stamp" 2>/dev/null)" = "$stamp" ] && "$venv/bin/python" -c '' 2>/dev/null; then
        return
    fi
    need_python
    echo "setup: installing $2 with pip into .venv/$1 ($(grep -c == "$here/$1.txt") pinned packages)"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        --no-deps --only-binary :all: --require-hashes -r "$here/$1.txt"
    "finish_$1"
    echo "$stamp" >"$venv/stamp"
}

need_python() {
    # Debian splits ensurepip off: without python3-venv the module `venv` is there and fails.
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        "$here/debian.sh" python3-venv
    fi
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "setup: $(python3 -V) is too old for the end-to-end tests: put Python 3.11 or later on PATH as python3" >&2
        exit 1
    fi
}

finish_official() { :; }

finish_numerics() { "$venv/bin/python" -c 'import numpy, pandas, scipy'; }

# At every start `lean` wants a list of brokerage modules beside its package, younger than a day, from a server that is
# not always in reach. The tests use none of them: an empty list, dated so that it never ages.
finish_lean() {
    package=$("$venv/bin/python" -c 'from importlib.util import find_spec as f; print(f("lean").submodule_search_locations[0])')
    modules=$(sed -n 's/^file_name = "\(modules-[0-9.]*\.json\)"$/\1/p' "$package/models/__init__.py")
    if [ -z "$modules" ]; then
        echo "setup: this version of lean names its list of modules elsewhere: see $package/models/__init__.py" >&2
        exit 1
    fi
    echo '{"modules":[]}' >"$package/$modules"
    touch -t 203701010000 "$package/$modules"
    "$venv/bin/lean" --version >/dev/null
}

environment official "QuantConnect's MCP server"
environment lean "QuantConnect's lean command"
environment numerics "NumPy, SciPy and pandas"
