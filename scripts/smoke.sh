#!/usr/bin/env bash
# Tries every route, method, header and error of the server with curl. It prints a line for each check. At the first check
# that fails it prints the expected and the actual result, and stops. The checks are in lab/smoke/.
#
#   scripts/smoke.sh          starts a server of its own, with a temporary site and store
#   scripts/smoke.sh URL      asks a running server, without the checks that need files of our own
#
# It starts $DUSTDEVIL_BIN if that is set, else target/release/dustdevil, which it builds if it is missing.
set -euo pipefail

usage="usage: scripts/smoke.sh [URL]     for example scripts/smoke.sh http://127.0.0.1:4221/"
case "${1-}" in
    -h | --help) echo "$usage"; exit 0 ;;
    "" | http://*) ;;
    *) echo "$usage" >&2; exit 2 ;;
esac
if [ $# -gt 1 ]; then echo "$usage" >&2; exit 2; fi
command -v curl > /dev/null || { echo "smoke.sh needs curl: apt-get install curl" >&2; exit 2; }

# The caller's environment must not change the answers: flags of the server, proxies, .curlrc (-q).
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

# ---- the checks, in order ----

if [ -n "${1-}" ]; then
    base=${1%/}
    locate
    echo "     asking $base"
    check_endpoints
    check_methods
    check_errors
    check_connections
    part "skipped"
    skip "the store: its checks would write files"
    skip "the site: its files are not known"
    skip "logs, signals and ways to start: these checks start their own server"
else
    binary=${DUSTDEVIL_BIN:-${CARGO_TARGET_DIR:-$top/target}/release/dustdevil}
    if [ -n "${DUSTDEVIL_BIN-}" ]; then
        [ -x "$binary" ] || { echo "DUSTDEVIL_BIN=$binary is not an executable file" >&2; exit 2; }
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
printf '\n     %d checks passed' "$checks"
if [ "$skipped" -gt 0 ]; then printf ', %d skipped' "$skipped"; fi
echo
