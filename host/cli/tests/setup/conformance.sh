#!/bin/sh
# conformance.sh: installs MCP's conformance suite, and the Node.js that it runs on, in .venv/conformance at the top of
# the repository.
#
# Both are pinned, with hashes, by conformance/package-lock.json beside this script. The folder is stamped with that
# file's hash and its own place once it is complete: a second run installs nothing and needs no network. No script of a
# package is run.
# To renew the pins: change conformance/package.json, and there: npm install --package-lock-only --ignore-scripts
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../../.." && pwd)
folder=$root/.venv/conformance
suite=$folder/node_modules/@modelcontextprotocol/conformance/dist/index.js

works() {
    "$folder/node_modules/.bin/node" "$suite" --version >/dev/null 2>&1
}

stamp="$folder $(cat "$here/conformance/package.json" "$here/conformance/package-lock.json" | sha256sum)"
if [ "$(cat "$folder/stamp" 2>/dev/null)" = "$stamp" ] && works; then
    exit 0
fi
command -v npm >/dev/null 2>&1 || "$here/debian.sh" npm
echo "setup: installing MCP's conformance suite with npm into .venv/conformance"
rm -rf "$folder"
mkdir -p "$folder"
cp "$here/conformance/package.json" "$here/conformance/package-lock.json" "$folder"
# npm itself may run on an older Node.js than the one that it installs, and would warn of it.
(cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
if ! works; then
    echo "setup: there is no Node.js in npm's registry for this machine, or it does not start: $folder/node_modules/.bin/node" >&2
    exit 1
fi
echo "$stamp" >"$folder/stamp"
