#!/usr/bin/env bash
# Runs nginx's own test suite with Debian's nginx twice, without and with weir, and compares what
# came of every assertion. With weir every http block has a zone, a policy that limits and a spool,
# and `weir on`: whatever a test asks nginx for goes through the whole module.
#
# usage: scripts/nginx-tests.sh DIR [WHICH]
#   DIR     a checkout of https://github.com/nginx/nginx-tests that fits the nginx installed
#           (1.22.1: commit 7ecb7ae of 2022-10-26)
#   WHICH   a pattern of file names, such as 'h2*' (default: all)
#
# The suite also loads Debian's dynamic modules: libnginx-mod-{mail,stream,stream-geoip} and
# libnginx-mod-http-{geoip,image-filter,perl,xslt-filter}; with libio-socket-ssl-perl it tests TLS.
#
# WEIR_MODULE names the module (default: build/ngx_http_weir_module.so), JOBS how many tests run at a
# time (default: 2). What each test said is kept in build/nginx-tests/{without,with}. Exit status 0:
# weir changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ -f "${1:-}/lib/Test/Nginx.pm" ] || { sed -n '2,18{s/^# \?//;p}' "$0" >&2; exit 2; }
suite=$(realpath "$1")
which=${2:-*}
module=$(realpath "${WEIR_MODULE:-build/ngx_http_weir_module.so}")
out=$PWD/build/nginx-tests
policy=$(mktemp --suffix .toml)
trap 'rm -f "$policy"' EXIT

# Far above what a test sends, and without fields of its own in the answers.
cat >"$policy" <<'POLICY'
default_tier = "all"
[unknown]
action = "limit"
tier = "all"
[tiers.all]
limits = ["1000000 requests/minute", "100000 GB/hour"]
POLICY
chmod 644 "$policy"

export TEST_NGINX_BINARY=${TEST_NGINX_BINARY:-/usr/sbin/nginx} LC_ALL=C
export TEST_NGINX_MODULES=${TEST_NGINX_MODULES:-/usr/lib/nginx/modules}
[ -e "$TEST_NGINX_MODULES/ngx_stream_module.so" ] || { echo "$TEST_NGINX_MODULES lacks modules, see usage" >&2; exit 2; }

# One file of assertions for each test, in the order in which the test makes them; what stands
# behind `#` tells of times and addresses.
run_one() {
    local name said
    name=$(basename "$1" .t)
    said=$(cd "$suite" && timeout 120 perl -I lib "$1" 2>&1) || true
    printf '%s\n' "$said" >"$2/$name.log"
    grep -E '^(ok|not ok|1\.\.)' <<<"$said" | sed 's/ *# SKIP.*/ # SKIP/; s/ *# TODO.*/ # TODO/' >"$2/$name.tap" || true
}

# usage: run FOLDER FILE...
run() {
    local folder=$out/$1
    shift
    mkdir -p "$folder"
    printf '%s\n' "$@" | xargs -P "${JOBS:-2}" -I{} bash -c 'run_one "$@"' _ {} "$folder"
}

# The workers of a master that runs as root would not get into the folders of the tests.
if [ "$(id -u)" -eq 0 ]; then user='user root;'; else user=; fi

without() { TEST_NGINX_GLOBALS=$user run without "$@"; }
with() {
    TEST_NGINX_GLOBALS="$user load_module $module;" \
        TEST_NGINX_GLOBALS_HTTP="weir_zone 1m; weir_policy $policy; weir_spool spool; weir on; weir_headers off;" \
        run with "$@"
}
export -f run_one
export suite

differing() {
    local tap
    for tap in "$out"/without/*.tap; do
        cmp -s "$tap" "$out/with/$(basename "$tap")" || printf '%s\n' "$suite/$(basename "$tap" .tap).t"
    done
}

summary() {
    cat "$out/$1"/*.tap | awk -v name="$1" '
        /^1\.\.0/ { skipped++ } /^ok/ { ok++ } /^not ok/ { if (/# TODO/) open++; else bad++ }
        END { printf "%-8s %d ok, %d not ok, %d known to nginx as open, %d files skipped\n", name, ok, bad, open, skipped }'
}

rm -rf "$out"
mapfile -t files < <(find "$suite" -maxdepth 1 -name "$which.t" | sort)
printf '%d files\n' "${#files[@]}"
without "${files[@]}"
with "${files[@]}"

# Some tests measure time, and fail on a busy machine: what differs is run twice more, by itself.
for _ in 1 2; do
    mapfile -t again < <(differing)
    [ "${#again[@]}" -eq 0 ] && break
    printf 'once more: %s\n' "${again[@]##*/}"
    JOBS=1 without "${again[@]}"
    JOBS=1 with "${again[@]}"
done

summary without
summary with
mapfile -t different < <(differing)
for file in "${different[@]}"; do
    name=$(basename "$file" .t)
    printf '\n%s differs:\n' "$name"
    diff "$out/without/$name.tap" "$out/with/$name.tap" || true
done
[ "${#different[@]}" -eq 0 ] && echo "weir changes nothing"
