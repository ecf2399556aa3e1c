# Checks of the server as a process: its log, signals, exit codes and ways to start. They use tools.sh.
# shellcheck shell=bash disable=SC2034,SC2154 # smoke.sh reads this file in, and they share variables

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
    ok "no control byte of any request so far is in the log"
    local busy=$port
    attempt --bind 127.0.0.1 --port "$busy" "$work/site"
    [ "$code" = 1 ] || fail "a busy port is exit 1" "exit 1" "exit $code: $words"
    [[ $words == *"127.0.0.1:$busy"* || ($words == *127.0.0.1* && $words == *"$busy"*) ]] || fail "a busy port is named" "127.0.0.1:$busy" "$words"
    ok "a busy port is exit 1: $words"
    stop
    [ "$code" = 0 ] || fail "SIGTERM ends the server" "exit 0" "exit $code"
    ok "SIGTERM ends the server with exit 0"
    if grep -aq panicked "$work/server.err"; then fail "nothing panicked" "no panic on standard error" "a panic"; fi
}

check_starts() {
    part "other ways to start"
    serve "$work" --directory "$work/store"
    ask GET /
    want_status 200 "a store without a site has a first page"
    want_field Content-Type 'text/plain*' "it is text"
    want_in_body /files/ "it names the routes"
    ok "--directory without ROOT: GET / lists the routes"
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
    [[ $code = [12] ]] || fail "the current folder / is refused" "a refusal" "exit $code: $words"
    ok "the current folder / is refused"
    attempt "$work/no-such-site" --port 0
    [[ $code = 1 && $words == *no-such-site* ]] || fail "a missing ROOT is an error that names it" "exit 1 and the path" "exit $code: $words"
    ok "a missing ROOT is exit 1 with its path"
    attempt --no-such-flag
    [ "$code" = 2 ] || fail "an unknown flag is exit 2" "exit 2" "exit $code"
    ok "an unknown flag is exit 2"
    attempt --help
    [[ $code = 0 && $(< "$work/out") == *--directory* ]] || fail "--help shows the flags" "exit 0 and the flags" "exit $code"
    attempt --version
    [[ $code = 0 && $(< "$work/out") == "dustdevil "* ]] || fail "--version shows the version" "dustdevil and its version" "exit $code: $(cat "$work/out")"
    ok "--help and --version are exit 0"
}
