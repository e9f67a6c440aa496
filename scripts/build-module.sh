#!/usr/bin/env bash
# Builds the nginx module, for the nginx of this machine's nginx-dev package unless said otherwise.
#
# usage: scripts/build-module.sh release|debug|vendored
#   release   build/ngx_http_weir_module.so, what one installs
#   debug     build/ngx_http_weir_module.debug.so, with debug assertions and the test hooks
#   vendored  build/ngx_http_weir_module.vendored.so, for nginx 1.28, and that nginx itself:
#             build/nginx-vendored. Its source comes as a package (nginx-src), built with this
#             machine's OpenSSL, PCRE2 and zlib
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}

# The headers of nginx-dev.
for_nginx_dev() {
    local settings
    settings=$(scripts/nginx-source.sh)
    eval "$settings"
}

# Where the package nginx-sys has built what it binds to, as cargo itself says.
built_nginx() {
    sed -n 's|.*"reason":"build-script-executed".*/nginx-sys-[^"]*/out".*|&|; T; s|.*"out_dir":"\([^"]*\)".*|\1|p'
}

case ${1:-release} in
    release)
        for_nginx_dev
        cargo build --package ngx_http_weir_module --release
        scripts/put.sh "$target/release/libngx_http_weir_module.so" build/ngx_http_weir_module.so
        ;;
    debug)
        for_nginx_dev
        cargo build --package ngx_http_weir_module --features test-hooks
        scripts/put.sh "$target/debug/libngx_http_weir_module.so" build/ngx_http_weir_module.debug.so
        ;;
    vendored)
        # A variable that names a version or a source would make the package look elsewhere, even
        # download. The bindings differ from those above, so they get a folder of their own.
        unset NGINX_SOURCE_DIR NGINX_BUILD_DIR NGX_VERSION OPENSSL_VERSION PCRE2_VERSION ZLIB_VERSION
        export CARGO_TARGET_DIR=$target/vendored
        out=$(cargo build --package ngx_http_weir_module --features vendored \
            --message-format json-render-diagnostics | built_nginx)
        scripts/put.sh "$out/objs/nginx" build/nginx-vendored
        scripts/put.sh "$CARGO_TARGET_DIR/debug/libngx_http_weir_module.so" \
            build/ngx_http_weir_module.vendored.so
        ;;
    *) echo "usage: scripts/build-module.sh release|debug|vendored" >&2; exit 2 ;;
esac
