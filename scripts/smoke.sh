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

# ---- words ----

ok() { checks=$((checks + 1)); printf 'ok   %s\n' "$1"; }
skip() { skipped=$((skipped + 1)); printf 'skip %s\n' "$1"; }
part() { printf '\n     %s\n' "$1"; }

# fail SENTENCE EXPECTED CAME
fail() {
    printf 'FAIL %s\n     expected: %s\n     came:     %s\n' "$1" "$2" "$3"
    if [ -s "$work/head" ]; then echo "     the answer's head:"; tr -d '\r' < "$work/head" | sed 's/^/       /'; fi
    if [ -s "$work/body" ]; then echo "     its body begins:"; head -c 400 "$work/body" | tr -c '[:print:]\n' '?' | sed 's/^/       /'; echo; fi
    if [ -s "$work/server.err" ]; then echo "     the server says:"; tail -n 8 "$work/server.err" | sed 's/^/       /'; fi
    exit 1
} >&2

# ---- asking ----

# ask METHOD PATH [curl's arguments]: the answer is in $status, $work/head and $work/body.
ask() {
    local method=$1 path=$2
    shift 2
    local how=(-X "$method")
    if [ "$method" = HEAD ]; then how=(-I); fi
    : > "$work/head"
    : > "$work/body"
    asked="$method $path"
    status=$(curl -q -sS --http1.1 --noproxy '*' --path-as-is --max-time 30 -D "$work/head" -o "$work/body" \
        -w '%{http_code}' "${how[@]}" "$@" "$base$path" 2> "$work/curl.err") ||
        fail "$asked is answered" "an answer" "curl: $(cat "$work/curl.err")"
}

# raw BYTES: sends them as printf writes them, reads until the server closes.
raw() {
    asked=$1
    : > "$work/head"
    # shellcheck disable=SC2016 # the inner bash expands them
    timeout 10 bash -c 'exec 3<> "/dev/tcp/$0/$1" && printf "$2" >&3 && cat <&3' "$host" "$port" "$1" \
        > "$work/body" 2> "$work/curl.err" || true
    status=$(head -c 12 "$work/body" | cut -d ' ' -f 2)
    answers=$(grep -ac '^HTTP/1.1 ' "$work/body" || true)
}

# The value of a field of the last answer, empty when it is not there.
field() { tr -d '\r' < "$work/head" | sed -n "s/^$1: *//Ip" | tail -n 1; }

# ---- expecting; each takes the sentence last and is silent when all is well ----

want_status() { # STATUSES SENTENCE
    case " $1 " in *" $status "*) ;; *) fail "$2" "status ${1// / or }" "$status" ;; esac
}
want_field() { # NAME PATTERN SENTENCE
    local value
    value=$(field "$1")
    # shellcheck disable=SC2053 # a pattern on purpose
    [[ ${value,,} == ${2,,} ]] || fail "$3" "$1: $2" "${value:-no such field}"
}
want_body() { # TEXT SENTENCE
    printf '%s' "$1" | cmp -s - "$work/body" || fail "$2" "the body '$1'" "'$(head -c 200 "$work/body" | tr -c '[:print:]' '?')'"
}
want_file() { # FILE SENTENCE
    cmp -s "$1" "$work/body" || fail "$2" "the $(wc -c < "$1") bytes of the file" "$(wc -c < "$work/body") other bytes"
}
want_in_body() { # TEXT SENTENCE
    grep -qaF -- "$1" "$work/body" || fail "$2" "'$1' in the body" "a body without it"
}
want_not_in_body() { # TEXT SENTENCE
    if grep -qaF -- "$1" "$work/body"; then fail "$2" "no '$1' in the body" "a body with it"; fi
}

# A HEAD tells what GET told: same status, same fields but Date, no body.
want_head_like_get() { # PATH SENTENCE
    ask GET "$1"
    local first=$status
    tr -d '\r' < "$work/head" | tail -n +2 | grep -vi '^date:' | sort > "$work/fields"
    ask HEAD "$1"
    [ "$status" = "$first" ] || fail "$2" "status $first" "$status"
    tr -d '\r' < "$work/head" | tail -n +2 | grep -vi '^date:' | sort > "$work/fields.head"
    cmp -s "$work/fields" "$work/fields.head" ||
        fail "$2" "the same fields" "$(diff "$work/fields" "$work/fields.head" | grep '^[<>]' | tr '\n' ' ')"
    ok "$2"
}

# refused BYTES STATUSES SENTENCE: one answer, then the end; the request behind it is not read.
refused() {
    raw "$1"'GET /echo/behind HTTP/1.1\r\nHost: x\r\n\r\n'
    want_status "$2" "$3"
    [ "$answers" = 1 ] || fail "$3" "one answer and a closed connection" "$answers answers"
    ok "$3"
}

# ---- our own server ----

# serve FOLDER [arguments]: starts one there on a free port and waits for its banner; sets base, host and port.
serve() {
    local folder=$1
    shift
    : > "$work/server.err"
    (cd "$folder" && exec "$binary" --bind 127.0.0.1 --port 0 "$@") \
        < /dev/null > "$work/server.out" 2>> "$work/server.err" &
    server_pid=$!
    local tries=0
    until base=$(grep -aoE 'http://127\.0\.0\.1:[0-9]+' "$work/server.err" | head -n 1) && [ -n "$base" ]; do
        kill -0 "$server_pid" 2> /dev/null || fail "the server starts in $folder with: $*" "a banner with a URL" "it ended"
        tries=$((tries + 1))
        [ "$tries" -lt 200 ] || fail "the server starts in $folder with: $*" "a banner with a URL" "nothing within 10 s"
        sleep 0.05
    done
    locate
}

locate() {
    local authority=${base#http://}
    authority=${authority%%/*}
    port=${authority##*:}
    host=${authority%:*}
    if [ "$port" = "$authority" ] || [[ $port == *"]" ]]; then port=80 host=$authority; fi
    host=${host#[}
    host=${host%]}
}

# Ends it by SIGTERM; the exit code is in $code.
stop() {
    kill -TERM "$server_pid"
    code=0
    wait "$server_pid" || code=$?
    server_pid=
}

# Runs a command line that is not to start a server; the exit code is in $code, the words in $words.
attempt() {
    code=0
    timeout 10 "$binary" "$@" < /dev/null > "$work/out" 2> "$work/err" || code=$?
    words=$(cat "$work/err")
}

# ---- the checks ----

check_endpoints() {
    part "endpoints"
    ask GET /echo/hello
    want_status 200 "GET /echo/hello is 200"
    want_body hello "GET /echo/hello gives the text"
    ok "GET /echo/hello gives the text"
    want_field Content-Type 'text/plain*' "echo is text/plain"
    want_field Content-Length 5 "echo tells its exact length"
    want_field Server 'dustdevil*' "an answer names the server"
    want_field Date '???, ?? ??? ???? ??:??:?? GMT' "an answer is dated"
    ok "it is text/plain with Content-Length, Server and Date"
    ask GET '/echo/two%20words%2F%C3%BC?query'
    want_body 'two words/ü' "echo decodes percent escapes"
    ok "GET /echo/two%20words%2F%C3%BC?query is decoded, the query left out"
    ask GET /echo/hi -H 'Accept-Encoding: br, gzip'
    want_field Content-Encoding gzip "echo is gzipped when that is accepted"
    want_field Vary '*accept-encoding*' "a choice of coding says Vary"
    [ "$(field Content-Length)" = "$(wc -c < "$work/body")" ] || fail "a gzipped echo has its length" "$(wc -c < "$work/body")" "$(field Content-Length)"
    ask GET /echo/hi --compressed
    want_body hi "curl --compressed reads the gzipped echo"
    ok "GET /echo/hi is gzipped however short, with Vary and its own length"
    for accept in 'gzip;q=0' identity 'br, invalid'; do
        ask GET /echo/hi -H "Accept-Encoding: $accept"
        want_field Content-Encoding '' "no gzip for Accept-Encoding: $accept"
        want_body hi "plain text for Accept-Encoding: $accept"
    done
    ok "it is plain for gzip;q=0, identity and codings nobody knows"
    ask GET /user-agent -A 'smoke/1.0 (test)'
    want_status 200 "GET /user-agent is 200"
    want_body 'smoke/1.0 (test)' "GET /user-agent gives the field's value"
    want_field Content-Type 'text/plain*' "it is text/plain"
    ok "GET /user-agent gives the field's value as text/plain"
    ask GET /user-agent -H 'User-Agent:'
    want_status 400 "a missing User-Agent is 400"
    [ -s "$work/body" ] || fail "a missing User-Agent is told" "a sentence" "an empty body"
    ok "GET /user-agent without the field is 400 with a sentence"
}

check_methods() {
    part "methods"
    want_head_like_get /echo/hello "HEAD /echo/hello tells the fields of GET"
    want_head_like_get /user-agent "HEAD /user-agent tells the fields of GET"
    ask OPTIONS /echo/hello
    want_status "200 204" "OPTIONS is answered"
    for method in GET HEAD OPTIONS; do want_field Allow "*$method*" "OPTIONS /echo/hello allows $method"; done
    ok "OPTIONS /echo/hello has Allow: $(field Allow)"
    ask OPTIONS '' --request-target '*'
    want_status "200 204" "OPTIONS * is answered"
    want_field Allow '*GET*' "OPTIONS * has Allow"
    ok "OPTIONS * has Allow: $(field Allow)"
    for method in POST PUT DELETE; do
        ask "$method" /echo/hello -H 'Content-Length: 0'
        want_status 405 "$method /echo/hello is 405"
        want_field Allow '*GET*' "a 405 has Allow"
    done
    ok "POST, PUT and DELETE /echo/hello are 405 with Allow"
    ask FROB /echo/hello
    want_status 501 "an unknown method is 501"
    ask get /echo/hello
    want_status 501 "methods have their case"
    ok "FROB and get (in lower case) are 501"
}

check_errors() {
    part "errors"
    local missing=/nothing-here-$$
    ask GET "$missing"
    want_status 404 "a missing path is 404"
    want_field Content-Type 'text/html*' "an error page is HTML"
    want_in_body 404 "an error page tells its status"
    ok "GET of a missing path is 404 with a small page"
    ask GET "$missing" -H 'Accept: application/json'
    want_field Content-Type 'application/json*' "an error for a program is JSON"
    ask GET "$missing" -H 'Accept: text/plain'
    want_field Content-Type 'text/plain*' "an error for a terminal is plain text"
    ok "in JSON or plain text for a client that asks for these"
    ask GET "$missing/%3Cscript%3E?<script>" -H 'Accept: text/html'
    want_not_in_body '<script>' "an error page reflects nothing unescaped"
    ok "it reflects nothing unescaped"
    ask GET "/$(printf 'a%.0s' {1..20000})"
    want_status 414 "a target of 20,000 bytes is 414"
    ok "a target of 20,000 bytes is 414"
    ask GET /echo/x -H "Large: $(printf 'a%.0s' {1..100000})"
    want_status 431 "a field of 100,000 bytes is 431"
    ok "a field of 100,000 bytes is 431"
    local many=()
    for number in {1..1000}; do many+=(-H "F$number: v"); done
    ask GET /echo/x "${many[@]}"
    want_status 431 "1,000 fields are 431"
    ok "1,000 fields are 431"
    refused 'GET / HTTP/1.1\r\n\r\n' 400 "no Host is 400 and closes"
    refused 'GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n' 400 "two Hosts are 400 and close"
    refused 'hello\r\n\r\n' 400 "what is no HTTP is 400 and closes"
    refused 'GET / HTTP/2.0\r\nHost: x\r\n\r\n' 505 "another major version is 505 and closes"
    refused 'GET / HTTP/1.1\nHost: x\n\n' 400 "lone LF line ends are 400 and close"
    refused 'GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n' 400 "a folded field is 400 and closes"
    refused 'GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n' 400 "a space before the colon is 400 and closes"
    refused 'GET / HTTP/1.1\r\nHost: x\r\nA: b\000c\r\n\r\n' 400 "a NUL is 400 and closes"
    refused 'GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n' 400 "a bare CR is 400 and closes"
    refused 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello' 400 "Content-Length: +5 is 400 and closes"
    refused 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello' 400 "two lengths are 400 and close"
    refused 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' 400 "a length and a coding are 400 and close"
    refused 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n' "400 501" "an unknown transfer coding is refused and closes"
}

check_connections() {
    part "connections"
    local url=$base/echo/x
    local opened
    opened=$(curl -q -sS --noproxy '*' --max-time 10 -o /dev/null -o /dev/null -w '%{num_connects}\n' "$url" "$url" | paste -s -d ' ')
    [ "$opened" = "1 0" ] || fail "two requests share a connection" "1 0 connections opened" "$opened"
    ok "HTTP/1.1 keeps the connection for the next request"
    ask GET /echo/x -H 'Connection: close'
    want_field Connection close "Connection: close is confirmed"
    ok "Connection: close is confirmed"
    raw 'GET /echo/old HTTP/1.0\r\n\r\n'
    want_status 200 "HTTP/1.0 needs no Host"
    ok "HTTP/1.0 is answered without a Host, and closed"
    raw 'GET /echo/one HTTP/1.1\r\nHost: x\r\n\r\nHEAD /echo/two HTTP/1.1\r\nHost: x\r\n\r\nGET /echo/three HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
    [ "$(grep -ac 'HTTP/1.1 200' "$work/body")" = 3 ] || fail "pipelined requests are all answered" "3 answers" "$answers"
    [ "$(tail -c 5 "$work/body")" = three ] || fail "pipelined requests are answered in order" "the last one last" "$(tail -c 20 "$work/body")"
    ok "three pipelined requests are answered in order"
    ask GET "" --request-target "http://other.example/echo/absolute"
    want_body absolute "a target in absolute form reaches its route"
    ok "GET http://other.example/echo/absolute reaches the same route"
}

check_store() {
    part "a store of files (--directory)"
    ask GET /files/missing
    want_status 404 "a missing file is 404"
    ok "GET /files/missing is 404"
    ask PUT /files/new.html --data-binary 'first version'
    want_status 201 "PUT of a new file is 201"
    ask GET /files/new.html
    want_body 'first version' "GET gives what PUT stored"
    want_field Content-Type application/octet-stream "a stored file is octet-stream whatever its name"
    ok "PUT of a new file is 201, GET gives it back as application/octet-stream"
    ask PUT /files/new.html --data-binary second
    want_status 204 "PUT over a file is 204"
    ask GET /files/new.html
    want_body second "GET gives the second version"
    ok "PUT over it is 204, GET gives the second version"
    want_head_like_get /files/new.html "HEAD /files/new.html tells the fields of GET"
    ask POST '/files/a%20name' --data-binary posted
    want_status 201 "POST is 201"
    want_field Location '*/files/a%20name' "POST tells where the file is"
    [ "$(cat "$work/store/a name")" = posted ] || fail "POST stores the body" posted "$(cat "$work/store/a name")"
    ok "POST is 201 with Location: $(field Location)"
    ask PUT /files/chunked -H 'Transfer-Encoding: chunked' --data-binary "@$work/site/large.bin"
    want_status 201 "a chunked upload is 201"
    cmp -s "$work/site/large.bin" "$work/store/chunked" || fail "a chunked upload arrives whole" "3 MB as sent" "something else"
    ok "a chunked upload of 3 MB arrives byte for byte"
    ask PUT /files/continued -H 'Expect: 100-continue' --expect100-timeout 20 --data-binary continued
    want_status 201 "an upload that expects 100 is 201"
    grep -q '^HTTP/1.1 100' "$work/head" || fail "a client that expects it is told to continue" "100 Continue before 201" "$(head -n 1 "$work/head")"
    ok "Expect: 100-continue is answered 100, then 201"
    ask PUT /files/too-large -H 'Expect: 100-continue' --expect100-timeout 20 --data-binary "@$work/site/too-large.bin"
    want_status 413 "a body over --max-body-size is 413"
    if grep -q '^HTTP/1.1 100' "$work/head"; then fail "413 comes before 100" "no 100 Continue" "100 Continue"; fi
    [ ! -e "$work/store/too-large" ] || fail "a refused upload leaves nothing" "no file" "a file"
    ok "a body over --max-body-size is 413 before any 100, and leaves nothing"
    local target
    for target in /files/../secret /files/..%2fsecret /files/%2e%2e/secret /files/%2e%2e%2fsecret /files/out \
        /files//etc/passwd /files/%2fetc%2fpasswd /files/..%00/secret; do
        ask GET "$target"
        want_status "400 404" "GET $target does not leave the store"
        want_not_in_body SECRET "GET $target does not leave the store"
    done
    ok "no spelling of .. and no link leads out of the store"
    for target in /files/../planted /files/..%2fplanted /files/%2e%2e%2fplanted /files/sub%2f..%2f..%2fplanted; do
        ask PUT "$target" --data-binary planted
        want_status "400 404 405" "PUT $target is refused"
        [ ! -e "$work/planted" ] || fail "PUT $target writes nothing outside" "no file" "a file"
    done
    ok "nor does an upload"
    ask DELETE /files/new.html
    want_status 405 "DELETE is 405"
    for method in GET HEAD PUT POST; do want_field Allow "*$method*" "the store allows $method"; done
    ok "DELETE is 405 with Allow: $(field Allow)"
    [ "$(find "$work/store" -type f | wc -l)" = 4 ] || fail "the store holds the four uploads and no temporary file" "4 files" "$(find "$work/store" -type f -printf '%f ')"
    ok "the store holds the uploads and no temporary file"
}

check_site() {
    part "a site of files (ROOT)"
    ask GET /
    want_status 200 "the site's first page is 200"
    want_file "$work/site/index.html" "GET / gives index.html"
    want_field Content-Type 'text/html;*charset=utf-8' "HTML has its charset"
    want_field Last-Modified '???, ?? ??? ???? ??:??:?? GMT' "a file tells its date"
    ok "GET / gives index.html with its type, charset and Last-Modified"
    local name type
    while read -r name type; do
        ask GET "/$name"
        want_status 200 "GET /$name is 200"
        want_field Content-Type "$type" "GET /$name is $type"
    done << 'TYPES'
style.css text/css;*charset=utf-8
script.js */javascript*
data.json application/json*
note.txt text/plain;*charset=utf-8
image.png image/png
unknown application/octet-stream
TYPES
    ok "types follow the name; an unknown one is application/octet-stream"
    ask GET '/sub?a=1&b=2'
    want_status "301 302 307 308" "a folder without its slash is redirected"
    want_field Location '*sub/[?]a=1&b=2' "the redirect keeps the query"
    ok "GET /sub?a=1&b=2 leads to $(field Location)"
    ask GET //evil.example/..
    want_field Location '' "no redirect to another host"
    ok "GET //evil.example/.. leads nowhere else"
    ask GET /plain/
    want_status 200 "a folder without index is listed"
    want_in_body 'one.txt' "the listing names the file"
    want_in_body 'odd%20%3Cname%3E' "the listing escapes a reference"
    want_not_in_body '<name>' "the listing escapes a name"
    want_not_in_body '.hidden' "the listing hides dotfiles"
    ask GET '/plain/odd%20%3Cname%3E'
    want_body odd "a listed name is served"
    ok "GET /plain/ lists its files, escaped, without dotfiles"
    for target in /.hidden /%2ehidden /plain/.hidden /../secret /%2e%2e/secret /..%2fsecret /sub/../../secret /out //etc/passwd; do
        ask GET "$target"
        want_status "400 404" "GET $target is not served"
        want_not_in_body SECRET "GET $target is not served"
    done
    ok "dotfiles, .. in any spelling and links out of the site are not served"
    ask GET /words.html -H 'Accept-Encoding: gzip'
    want_field Content-Encoding gzip "text is gzipped"
    want_field Vary '*accept-encoding*' "with Vary"
    ask GET /words.html --compressed
    want_file "$work/site/words.html" "curl --compressed reads the page"
    ask GET /words.html
    want_field Content-Encoding '' "plain for a client that does not ask"
    want_field Vary '*accept-encoding*' "with Vary all the same"
    ask GET /words.html -H 'Accept-Encoding: gzip;q=0, identity'
    want_field Content-Encoding '' "plain for gzip;q=0"
    ok "text is gzipped when accepted, by weight, with Vary"
    ask GET /image.png -H 'Accept-Encoding: gzip'
    want_field Content-Encoding '' "a picture is left alone"
    ok "a picture is left alone"
    want_head_like_get / "HEAD / tells the fields of GET"
    want_head_like_get /plain/ "HEAD of a listing tells the fields of GET"
    want_head_like_get /sub "HEAD of a redirect tells the fields of GET"
    ask GET /large.bin
    want_file "$work/site/large.bin" "a file of 3 MB arrives byte for byte"
    ok "a file of 3 MB arrives byte for byte"
    ask PUT /note.txt --data-binary x
    want_status 405 "PUT to the site is 405"
    want_field Allow '*GET*' "with Allow"
    ok "PUT to the site is 405 with Allow"
}

check_ends() {
    part "logs and signals"
    ask GET '/echo/logged' -A 'smoke "quoted"' -e http://from.example/
    local tries=0
    until grep -aq '/echo/logged' "$work/server.out"; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || fail "a request is logged" "a line of the access log" "nothing within 5 s"
        sleep 0.05
    done
    local line pattern
    line=$(grep -a '/echo/logged' "$work/server.out")
    pattern='^127\.0\.0\.1 - - \[[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}(:[0-9]{2}){3} [+-][0-9]{4}\] "GET /echo/logged HTTP/1\.1" 200 6 "http://from\.example/" "smoke .*quoted.*"$'
    [[ $line =~ $pattern ]] || fail "the access log is in Combined Log Format" "$pattern" "$line"
    ok "a request is a line of Combined Log Format on standard output"
    if LC_ALL=C grep -aqP '[^\x20-\x7e]' "$work/server.out"; then fail "the access log holds no control bytes" "printable text" "others"; fi
    ok "whatever came today, no control byte reached the log"
    local busy=$port
    attempt --bind 127.0.0.1 --port "$busy" "$work/site"
    [ "$code" = 1 ] || fail "a busy port is exit 1" "exit 1" "exit $code: $words"
    [[ $words == *"127.0.0.1:$busy"* || ($words == *127.0.0.1* && $words == *"$busy"*) ]] || fail "a busy port is named" "127.0.0.1:$busy" "$words"
    ok "a busy port is exit 1: $words"
    stop
    [ "$code" = 0 ] || fail "SIGTERM ends the server" "exit 0" "exit $code"
    ok "SIGTERM ends the server with exit 0"
    if grep -aq panicked "$work/server.err"; then fail "nothing panicked" "a quiet standard error" "a panic"; fi
}

check_starts() {
    part "other ways to start"
    serve "$work" --directory "$work/store"
    ask GET /
    want_status 200 "a store alone has a first page"
    want_field Content-Type 'text/plain*' "it is text"
    want_in_body /files/ "it names the routes"
    ok "--directory alone: GET / is a page of the routes"
    stop
    serve "$work" "$work/site" --no-listing --no-endpoints
    ask GET /plain/
    want_status "403 404" "--no-listing refuses a listing"
    ask GET /plain/one.txt
    want_status 200 "--no-listing still serves the files"
    ok "--no-listing refuses the listing and serves the files"
    ask GET /echo/hello
    want_status 404 "--no-endpoints switches echo off"
    ok "--no-endpoints: GET /echo/hello is 404"
    stop
    serve "$work/site" --access-log off
    ask GET /
    want_file "$work/site/index.html" "the current folder is the site"
    ok "without ROOT and --directory the current folder is the site"
    stop
    [ ! -s "$work/server.out" ] || fail "--access-log off logs nothing" "no line" "$(head -n 1 "$work/server.out")"
    ok "--access-log off logs nothing"
    cd /
    attempt --port 0
    cd "$top"
    [[ $code = [12] ]] || fail "/ is not served by mistake" "a refusal" "exit $code: $words"
    ok "the current folder / is refused"
    attempt "$work/no-such-site" --port 0
    [[ $code = 1 && $words == *no-such-site* ]] || fail "a missing ROOT is told" "exit 1 and the path" "exit $code: $words"
    ok "a missing ROOT is exit 1 with its path"
    attempt --no-such-flag
    [ "$code" = 2 ] || fail "an unknown flag is exit 2" "exit 2" "exit $code"
    ok "an unknown flag is exit 2"
    attempt --help
    [[ $code = 0 && $(< "$work/out") == *--directory* ]] || fail "--help helps" "exit 0 and the flags" "exit $code"
    attempt --version
    [[ $code = 0 && $(< "$work/out") == "dustdevil "* ]] || fail "--version tells it" "dustdevil and its version" "exit $code: $(cat "$work/out")"
    ok "--help and --version are exit 0"
}

make_files() {
    mkdir -p "$work/site/sub" "$work/site/plain" "$work/store/sub"
    echo SECRET > "$work/secret"
    echo '<!doctype html><title>home</title>' > "$work/site/index.html"
    echo '<p>sub' > "$work/site/sub/index.html"
    for name in style.css script.js data.json note.txt image.png unknown .hidden plain/one.txt plain/.hidden; do
        echo "content of $name" > "$work/site/$name"
    done
    echo SECRET | tee "$work/site/.hidden" > "$work/site/plain/.hidden"
    printf odd > "$work/site/plain/odd <name>"
    ln -s ../secret "$work/site/out"
    ln -s ../secret "$work/store/out"
    for _ in {1..500}; do echo '<p>the same words again and again</p>'; done > "$work/site/words.html"
    head -c 3000000 /dev/urandom > "$work/site/large.bin"
    head -c 5000000 /dev/zero > "$work/site/too-large.bin"
}

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
