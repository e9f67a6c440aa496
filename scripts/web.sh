#!/usr/bin/env bash
# Bundles the scripts of the pages (reports/web) into a folder: page.js, explore.js and explore.css.
# Packages come from npm by the lock file, into build/web; the repository holds none of them.
#
# usage: scripts/web.sh FOLDER
set -euo pipefail
into=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
made=build/web

mkdir -p "$made"
exec 9>"$made/.lock"
flock 9 # several builds may come here at once
if ! cmp -s reports/web/package-lock.json "$made/package-lock.json" || [ ! -d "$made/node_modules" ]; then
    echo "web: installing hyparquet, uPlot and esbuild" >&2
    rm -rf "$made/node_modules"
    cp reports/web/package.json reports/web/package-lock.json "$made/"
    (cd "$made" && npm ci --silent --no-audit --no-fund) || { rm -f "$made/package-lock.json"; exit 1; }
fi
# esbuild looks for packages along these.
NODE_PATH="$PWD/$made/node_modules" "$made/node_modules/.bin/esbuild" \
    reports/web/page.js reports/web/explore.js --bundle --minify --format=iife --target=es2020 \
    --legal-comments=none --log-level=warning --outdir="$into"
