#!/bin/bash
# Prepares the two folders that the module's build needs from Debian's nginx-dev package, and prints
# them as shell variables:
#
#     eval "$(scripts/nginx-source.sh)" && cargo build -p ngx_http_weir_module
#
# nginx-dev has headers and `configure`, but no result of `configure`. With the same flags as
# Debian's own build the module gets the same signature, so that its nginx loads it. Nothing is
# compiled here. A second run finds the work done and only prints.
set -euo pipefail

headers=${NGINX_DEV_DIR:-/usr/share/nginx/src}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$here/build/nginx-objs

if [ ! -f "$headers/conf_flags" ]; then
    echo "nginx-source.sh: $headers/conf_flags is missing; install the package nginx-dev" >&2
    exit 1
fi

# Another nginx-dev (an update of the package) means another configure run.
stamp=$(find "$headers" -type f -printf '%P %s %T@\n' | sort | sha256sum)

# Two builds may start at once: the second waits for the first, then finds its stamp.
mkdir -p "$root"
exec 9>"$root/lock"
flock 9

if [ "$(cat "$root/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$root/source" "$root/objs" "$root/stamp"
    cp -r "$headers" "$root/source"
    # shellcheck source=/dev/null
    . "$headers/conf_flags" # a bash array, NGX_CONF_FLAGS
    if ! (cd "$root/source" && ./configure "${NGX_CONF_FLAGS[@]}" --builddir="$root/objs") \
        >"$root/configure.log" 2>&1; then
        echo "nginx-source.sh: configure failed; the end of $root/configure.log:" >&2
        tail -n 20 "$root/configure.log" >&2
        exit 1
    fi
    echo "$stamp" >"$root/stamp"
fi

printf 'export NGINX_SOURCE_DIR=%q NGINX_BUILD_DIR=%q\n' "$root/source" "$root/objs"
