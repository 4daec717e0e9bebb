# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# For the other scripts: `. "$(dirname "$0")/common.sh"`.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH=$PATH:/usr/sbin:/sbin

say() {
    printf '==> %s\n' "$*" >&2
}

# build FOLDER [MESON OPTION]...: configures build/FOLDER when that is new, and builds it.
build() {
    local folder=$root/build/$1
    shift
    if [ ! -f "$folder/build.ninja" ]; then
        say "configuring ${folder#"$root"/} ${*:+($*)}"
        meson setup "$@" "$folder" "$root"
    fi
    say "building ${folder#"$root"/}"
    ninja -C "$folder"
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
