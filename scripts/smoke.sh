#!/usr/bin/env bash
# Walks every route, method, header and error of the server with curl: a line a check, and the first broken promise
# ends it with what was expected and what came.
#
#   scripts/smoke.sh          starts a server of its own, with a site and a store that are gone again afterwards
#   scripts/smoke.sh URL      asks a server that runs already, and leaves out what needs files of our own
#
# It takes $DUSTDEVIL_BIN, else target/release/dustdevil, which cargo builds when it is not there.
set -euo pipefail

usage="usage: scripts/smoke.sh [URL]     for example scripts/smoke.sh http://127.0.0.1:4221/"
case "${1-}" in
    -h | --help) echo "$usage"; exit 0 ;;
    "" | http://*) ;;
    *) echo "$usage" >&2; exit 2 ;;
esac
if [ $# -gt 1 ]; then echo "$usage" >&2; exit 2; fi
command -v curl > /dev/null || { echo "smoke.sh needs curl: apt-get install curl" >&2; exit 2; }

# The project's folder, and nothing of the caller's that would bend the answers: flags of the server, proxies, .curlrc (-q).
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for name in "${!DUSTDEVIL_@}"; do [ "$name" = DUSTDEVIL_BIN ] || unset "$name"; done
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY
export LC_ALL=C

work=$(mktemp -d "${TMPDIR:-/tmp}/dustdevil-smoke.XXXXXX")
server_pid=
checks=0
skipped=0

cleanup() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "$server_pid" ]; then kill -KILL "$server_pid" 2> /dev/null || true; wait "$server_pid" 2> /dev/null || true; fi
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for part in tools requests files process; do
    # shellcheck source=/dev/null
    . "$top/scripts/lab/smoke/$part.sh"
done

# ---- the walk ----

if [ -n "${1-}" ]; then
    base=${1%/}
    locate
    echo "     asking $base"
    check_endpoints
    check_methods
    check_errors
    check_connections
    part "left out"
    skip "the store: nothing of yours is written"
    skip "the site: its files are yours"
    skip "logs, signals and ways to start: they need a server of our own"
else
    binary=${DUSTDEVIL_BIN:-${CARGO_TARGET_DIR:-$top/target}/release/dustdevil}
    if [ -n "${DUSTDEVIL_BIN-}" ]; then
        [ -x "$binary" ] || { echo "DUSTDEVIL_BIN=$binary is no program" >&2; exit 2; }
        binary=$(cd "$(dirname "$binary")" && pwd)/$(basename "$binary")
    elif [ ! -x "$binary" ]; then
        echo "     building $binary (once; it takes a minute or two)"
        cargo build --release --manifest-path "$top/Cargo.toml"
    fi
    make_files
    serve "$work" "$work/site" --directory "$work/store" --max-body-size 4M
    echo "     $binary at $base"
    check_endpoints
    check_methods
    check_errors
    check_connections
    check_store
    check_site
    check_ends
    check_starts
fi
printf '\n     %d checks, all kept' "$checks"
if [ "$skipped" -gt 0 ]; then printf ', %d left out' "$skipped"; fi
echo
