#!/usr/bin/env bash
# Builds the nginx module for the nginx of this machine's nginx-dev package.
#
# usage: scripts/build-module.sh release|debug
#   release   build/ngx_http_weir_module.so, what one installs
#   debug     build/ngx_http_weir_module.debug.so, with debug assertions and the test hooks
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

settings=$(scripts/nginx-source.sh)
eval "$settings"

target=${CARGO_TARGET_DIR:-target}
case ${1:-release} in
    release)
        cargo build --package ngx_http_weir_module --release
        made=$target/release/libngx_http_weir_module.so
        module=build/ngx_http_weir_module.so
        ;;
    debug)
        cargo build --package ngx_http_weir_module --features test-hooks
        made=$target/debug/libngx_http_weir_module.so
        module=build/ngx_http_weir_module.debug.so
        ;;
    *) echo "usage: scripts/build-module.sh release|debug" >&2; exit 2 ;;
esac

scripts/put.sh "$made" "$module"
