#!/usr/bin/env bash
# Installs what weir's build, demo, tests and benchmarks need on Debian 12, apart from Rust: Debian
# packages, an S3-compatible server and readers of Parquet in build/venv, one that speaks Azure's blob storage in
# testbed/azure/node_modules, the browser driver in testbed/browser/node_modules, and the Lua module for
# nginx in build/lua. A second run finds everything done and takes a moment. No service is started.
#
# usage: scripts/setup.sh [build|demo|bench|all]     (default: all)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for_build=(nginx nginx-dev gcc libc6-dev libclang-dev libpcre2-dev libssl-dev zlib1g-dev pkg-config)
for_demo=(redis-server python3-aiosmtpd)
for_tests=(python3-venv openssl chromium libfaketime poppler-utils systemd)
for_bench=(redis-server wrk valgrind)
lua_packages=(libnginx-mod-http-lua libnginx-mod-http-ndk libluajit2-5.1-2 lua-resty-core
    lua-resty-lrucache libpcre3)

say() { printf 'setup: %s\n' "$*" >&2; }

# Root needs no sudo, and a container often has none.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Debian starts a service when its package is installed, unless this file says no (101).
without_services() {
    local policy=/usr/sbin/policy-rc.d status=0
    if [ -e "$policy" ]; then "$@" && return || return; fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    "$@" || status=$?
    as_root rm -f "$policy"
    return "$status"
}

apt_install() {
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@"
}

packages() {
    local missing=() package
    for package in "$@"; do installed "$package" || missing+=("$package"); done
    # They bundle the scripts of the pages. Node may come from elsewhere, and then brings npm along.
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    [ "${#missing[@]}" -eq 0 ] && return
    if ! command -v apt-get >/dev/null; then
        say "this script knows Debian only; please install: ${missing[*]}"
        exit 1
    fi
    say "installing ${missing[*]}"
    mkdir -p build
    if ! without_services apt_install "${missing[@]}" >build/apt.log 2>&1; then
        tail -n 20 build/apt.log >&2
        say "apt-get failed, see build/apt.log"
        exit 1
    fi
}

# The version is pinned in the file; a new file means a new environment.
s3_server() {
    local wanted=testbed/requirements.txt made=build/venv/requirements.txt
    cmp -s "$wanted" "$made" && return
    say "making build/venv with an S3-compatible server and readers of Parquet"
    rm -rf build/venv
    /usr/bin/python3 -m venv build/venv
    build/venv/bin/pip install --quiet --requirement "$wanted"
    cp "$wanted" "$made"
}

# What a folder's package-lock.json names, without running the packages' own scripts.
node_packages() {
    local folder=$1 what=$2
    local wanted=$folder/package-lock.json made=$folder/node_modules/.made-from
    cmp -s "$wanted" "$made" && return
    say "installing $what"
    (cd "$folder" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    cp "$wanted" "$made"
}

# Unpacked, not installed: Debian's wrk and this module want two LuaJITs that exclude each other, and
# an nginx that was there before gets no further modules.
lua_module() {
    local into=build/lua fetched=build/lua.fetched
    [ -e "$into/usr/lib/nginx/modules/ngx_http_lua_module.so" ] && return
    say "unpacking ${lua_packages[*]} into $into"
    rm -rf "$into" "$fetched"
    mkdir -p "$fetched"
    if ! (cd "$fetched" && { apt-get download "${lua_packages[@]}" ||
        { as_root apt-get update -qq && apt-get download "${lua_packages[@]}"; }; }) \
        >build/apt.log 2>&1; then
        tail -n 20 build/apt.log >&2
        say "apt-get download failed, see build/apt.log"
        exit 1
    fi
    local package
    for package in "$fetched"/*.deb; do dpkg-deb --extract "$package" "$into"; done
    rm -rf "$fetched"
}

rust() {
    command -v cargo >/dev/null && return
    say "cargo is missing: install Rust from https://rustup.rs first"
    exit 1
}

what=${1:-all}
case $what in
    build) rust; packages "${for_build[@]}" ;;
    demo) rust; packages "${for_build[@]}" "${for_demo[@]}" ;;
    bench)
        rust
        packages "${for_build[@]}" "${for_bench[@]}"
        lua_module
        ;;
    all)
        rust
        packages "${for_build[@]}" "${for_demo[@]}" "${for_tests[@]}"
        s3_server
        node_packages testbed/browser "the browser driver"
        node_packages testbed/azure "a server that speaks Azure's blob storage"
        ;;
    *) say "usage: scripts/setup.sh [build|demo|bench|all]"; exit 2 ;;
esac
