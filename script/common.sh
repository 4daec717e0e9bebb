# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# For the other scripts: `. "$(dirname "$0")/common.sh"`.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH=$PATH:/usr/sbin:/sbin

say() {
    printf '==> %s\n' "$*" >&2
}

# configure FOLDER [MESON OPTION]...: configures build/FOLDER when that is new.
configure() {
    local folder=$root/build/$1
    shift
    if [ ! -f "$folder/build.ninja" ]; then
        say "configuring ${folder#"$root"/} ${*:+($*)}"
        meson setup "$@" "$folder" "$root"
    fi
}

# build FOLDER [MESON OPTION]...: the same, and builds it.
build() {
    configure "$@"
    say "building build/$1"
    ninja -C "$root/build/$1"
}

# build_suite SUITE FOLDER [MESON OPTION]...: the same, but only what the tests of the suite need.
build_suite() {
    local suite=$1 targets
    shift
    configure "$@"
    targets=$(meson introspect --tests "$root/build/$1" | python3 -c '
import json, os, sys
for test in json.load(sys.stdin):
    if any(suite.endswith(":" + sys.argv[1]) for suite in test["suite"]):
        print(os.path.relpath(test["cmd"][0], sys.argv[2]))' "$suite" "$root/build/$1")
    say "building what $suite needs in build/$1"
    xargs -r ninja -C "$root/build/$1" <<<"$targets"
}

# A release build, quiet unless it fails; its program is $root/build/release/src/pointsman.
build_release() {
    local log
    log=$(mktemp)
    if ! build release >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}
