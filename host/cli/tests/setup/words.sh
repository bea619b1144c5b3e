#!/bin/sh
# words.sh: fails if prose in the repository uses a word that is not plain engineering English.
#
# Checks comments, string literals and documentation; identifiers in Rust code are not prose. Prints file:line of each
# finding and exits with 1 if there is any. `words.sh --self-test` proves that the check can fail.
set -eu

# Name the party instead: the caller, the plugin, the operator, the client. Name the unit instead of "so many".
words='whoever|whomever|nobody|somebody|anybody|everybody'
words="$words|so many|so much|anew|be it|for ever|told to end|serves? on|(is|are|was|were|still) at it|lets? go of|asker"
words="$words|by [a-z]+'s leave|looks? at it|[(]any more[)]"
# Documents that are not in the repository, in this spelling only.
documents='DESIGN|STYLE'

# Keeps of "file:line:text" what has a word in prose: in a comment, in a string, or between words of running text.
prose() {
    awk -v words="$words" -v documents="$documents" '
        BEGIN {
            # With a space on one side at least: `"nobody"` and `nobody.toml` are names.
            word = "(^| )(" words ")([^a-z0-9_-]|$)|[^a-z0-9_-](" words ")( |$)"
            document = "(^|[^A-Za-z0-9_-])(" documents ")([^A-Za-z0-9_-]|$)"
        }
        $0 ~ document { print; next }
        {
            match($0, /^[^:]*:[0-9]+:/)
            file = substr($0, 1, RLENGTH); text = tolower(substr($0, RLENGTH + 1))
            if (file !~ /\.rs:/) { if (text ~ word) print; next }
            said = ""
            if (match(text, /(^|[^:])\/\//)) { said = substr(text, RSTART); text = substr(text, 1, RSTART - 1) }
            else if (text !~ /"/) {
                # A line of code or of a string of several lines: in prose a word is followed by another.
                if (text ~ ("(^|[a-z,] )(" tolower(words) ")([,;:.]? [a-z`(]|[.;]?\\\\?$)") && text !~ /^ *(use|let|fn|pub) /) print
                next
            }
            while (match(text, /"([^"\\]|\\.)*("|$)/)) { said = said " " substr(text, RSTART, RLENGTH); text = substr(text, RSTART + RLENGTH) }
            if (said ~ word) print
        }'
}

if [ "${1:-}" = --self-test ]; then
    expect() {
        found=$(printf 'x.%s:1:%s\n' "$2" "$3" | prose | wc -l)
        [ "$found" -eq "$1" ] || { echo "words.sh: expected $1 finding(s) in: $3" >&2; exit 1; }
    }
    expect 1 rs '/// Told to whoever asked.'
    expect 1 rs 'Err("nobody decided in time".to_owned())'
    expect 1 rs '    at most so many bytes \'
    expect 1 rs 'let x = 1; // See DESIGN 5.5.'
    expect 1 md 'What was loaded serves on.'
    expect 1 rs 'format!("waiting for approval; look at it with: qchost approvals show {id}")'
    expect 1 rs 'Refusal::denied(format!("`{plugin}` has no manifest (any more)"))'
    expect 0 rs 'let host = Host::new(&nobody()).await;'
    expect 0 rs 'use crate::common::nobody;'
    expect 0 rs 'assert!(run(&["plugin", "grants", "nobody"]).is_err());'
    expect 0 md 'The plugin keeps serving.'
    exit 0
fi

cd "$(dirname "$0")/../../../.."
found=$(find -- * \( -name target -o -name .venv -o -name fixtures \) -prune -o -type f \( \
    -name '*.rs' -o -name '*.wit' -o -name '*.wat' -o -name '*.md' -o -name '*.toml' -o -name '*.sql' -o -name '*.sh' \
    -o -name '*.py' -o -name '*.c' -o -name Makefile \) ! -name words.sh -print0 \
    | xargs -0 grep -HniwE "$words|$documents" -- | prose)
if [ -n "$found" ]; then
    printf '%s\n' "$found"
    echo "words.sh: say it in plain English: name the caller, the plugin, the operator; give the unit" >&2
    exit 1
fi
