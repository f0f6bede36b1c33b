#!/usr/bin/env bash
# Checks the licence of every dependency, for every system, of the program, its tests and its build, against [licenses]
# in deny.toml: its `allow` list and its `exceptions`. Then whether the licences the program carries
# (assets/licences.txt.gz) are those of the crates that Cargo.lock puts into it. Needs nothing but cargo, awk and gzip.
# Exit status 0 if all are fine.
#
#   packaging/check-licences.sh [--shipped]
#     --shipped   only list the crates that are in the program on some system, one "name version" a line
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/common.sh
need_rust

# The systems there are packages for.
targets="--target x86_64-unknown-linux-gnu --target aarch64-unknown-linux-gnu --target x86_64-apple-darwin"
targets="$targets --target aarch64-apple-darwin --target x86_64-pc-windows-msvc"

# What is linked into the program: neither what only builds it, nor what only tests it, nor itself.
shipped() {
    # shellcheck disable=SC2086  # a list of words
    cargo tree --locked $targets --edges normal,no-proc-macro --prefix none --format '{p}' |
        sed -e 's/ (.*)$//' -e 's/ v\([0-9]\)/ \1/' | grep -v -e '^ocelli ' -e '^$' |
        LC_ALL=C sort -u
}
if [ "${1:-}" = --shipped ]; then
    shipped
    exit
fi

dependencies() {
    cargo tree --locked --target all --edges normal,build,dev --prefix none --format '{p}|{l}' |
        sed 's/ (\*)$//' | LC_ALL=C sort -u
}

# To a variable first: a failure inside a pipe into awk would come after awk's own complaint.
list=$(dependencies)
printf '%s\n' "$list" | awk '
    # --- deny.toml: licences between the brackets of `allow`, crates and licences of each line of `exceptions` ---
    function quoted_into(text, list,    count) {
        count = 0
        while (match(text, /"[^"]*"/)) {
            list[++count] = substr(text, RSTART + 1, RLENGTH - 2)
            text = substr(text, RSTART + RLENGTH)
        }
        return count
    }
    function read_policy(line,    words, count, i) {
        sub(/#.*/, "", line)
        if (line ~ /^\[/) { section = line; inside = "" }
        if (section !~ /^\[licenses\]/) return
        if (line ~ /^allow *=/) inside = "allow"
        if (line ~ /^exceptions *=/) inside = "exceptions"
        count = quoted_into(line, words)
        if (inside == "allow") for (i = 1; i <= count; i++) { allowed[words[i]] = 1; licences++ }
        # { crate = "name", allow = ["one", "two"] }
        if (inside == "exceptions") for (i = 2; i <= count; i++) excepted[words[1], words[i]] = 1
        if (line ~ /^\]/ || line ~ /^allow *=.*\]/) inside = ""
    }

    # --- An SPDX expression: OR binds less than AND, AND less than WITH; "/" is an old way to write OR ---
    function accepts(crate, expression) {
        gsub(/\//, " OR ", expression)
        gsub(/[()]/, " & ", expression)
        many = split(expression, word, " ")
        at = 1
        parsing = crate
        return any() && at == many + 1
    }
    function any(    yes) {
        yes = all()
        while (word[at] == "OR" && at <= many) { at++; if (all()) yes = 1 }
        return yes
    }
    function all(    yes) {
        yes = one()
        while (word[at] == "AND" && at <= many) { at++; if (!one()) yes = 0 }
        return yes
    }
    function one(    yes, name) {
        if (at > many) return 0
        if (word[at] == "(") {
            at++
            yes = any()
            if (at > many || word[at] != ")") return 0
            at++
            return yes
        }
        name = word[at++]
        if (at < many && word[at] == "WITH") { name = name " WITH " word[at + 1]; at += 2 }
        return (name in allowed) || ((parsing, name) in excepted)
    }

    BEGIN {
        while ((getline line < "deny.toml") > 0) read_policy(line)
        if (!licences) { print "deny.toml has no list of allowed licences"; refused = 1; exit }
    }
    {
        crates++
        bar = index($0, "|")
        name = substr($0, 1, bar - 1)
        licence = substr($0, bar + 1)
        crate = name
        sub(/ .*/, "", crate)
        if (licence == "") { print name ": says nothing of its licence"; refused++ }
        else if (!accepts(crate, licence)) { print name ": " licence " is not allowed by deny.toml"; refused++ }
    }
    END {
        if (!refused && crates < 2) { print "cargo named no dependencies"; refused = 1 }
        if (refused) exit 1
        print crates " crates, all under licences that deny.toml allows"
    }
'

# The list in the file has a line for each crate: two blanks, name and version, a dash.
list=$(shipped)
carried=$(gzip -dc assets/licences.txt.gz | sed '/^====/,$d' | sed -n 's/^  \([a-zA-Z0-9_-]* [0-9][^ ]*\) — .*$/\1/p')
if ! difference=$(diff <(printf '%s\n' "$carried") <(printf '%s\n' "$list")); then
    say "$difference"
    fail "assets/licences.txt.gz is out of date (<: it has, >: it lacks): run packaging/licences.py and commit the file."
fi
echo "$(printf '%s\n' "$list" | wc -l | tr -d ' ') of them are in the program, and their licences with them"
