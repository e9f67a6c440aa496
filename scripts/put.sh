#!/usr/bin/env bash
# Puts a copy of a built file in its place in one step: whoever runs or maps the old one keeps it, and
# two builds at once do not trip over each other.
#
# usage: scripts/put.sh FILE PLACE
set -euo pipefail
mkdir -p "$(dirname "$2")"
new=$(mktemp "$2.XXXXXX")
trap 'rm -f "$new"' EXIT
cp "$1" "$new"
chmod 755 "$new"
mv "$new" "$2"
