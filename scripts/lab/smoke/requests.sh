# Checks that work on any running server: endpoints, methods, errors, connections. They use tools.sh.
# shellcheck shell=bash disable=SC2034,SC2154 # smoke.sh reads this file in, and they share variables

check_endpoints() {
    part "endpoints"
    ask GET /echo/hello
    want_status 200 "GET /echo/hello is 200"
    want_body hello "GET /echo/hello gives the text"
    ok "GET /echo/hello gives the text"
    want_field Content-Type 'text/plain*' "echo is text/plain"
    want_field Content-Length 5 "echo has its exact length"
    want_field Server 'dustdevil*' "an answer names the server"
    want_field Date '???, ?? ??? ???? ??:??:?? GMT' "an answer is dated"
    ok "it is text/plain with Content-Length, Server and Date"
    ask GET '/echo/two%20words%2F%C3%BC?query'
    want_body 'two words/ü' "echo decodes percent escapes"
    ok "GET /echo/two%20words%2F%C3%BC?query is decoded, the query left out"
    ask GET /echo/hi -H 'Accept-Encoding: br, gzip'
    want_field Content-Encoding gzip "echo is gzipped when that is accepted"
    want_field Vary '*accept-encoding*' "an answer whose coding was chosen has Vary"
    [ "$(field Content-Length)" = "$(wc -c < "$work/body")" ] || fail "a gzipped echo has its length" "$(wc -c < "$work/body")" "$(field Content-Length)"
    ask GET /echo/hi --compressed
    want_body hi "curl --compressed reads the gzipped echo"
    ok "GET /echo/hi is gzipped however short, with Vary and its own length"
    for accept in 'gzip;q=0' identity 'br, invalid'; do
        ask GET /echo/hi -H "Accept-Encoding: $accept"
        want_field Content-Encoding '' "no gzip for Accept-Encoding: $accept"
        want_body hi "plain text for Accept-Encoding: $accept"
    done
    ok "it is not compressed for gzip;q=0, identity and unknown codings"
    ask GET /user-agent -A 'smoke/1.0 (test)'
    want_status 200 "GET /user-agent is 200"
    want_body 'smoke/1.0 (test)' "GET /user-agent gives the field's value"
    want_field Content-Type 'text/plain*' "it is text/plain"
    ok "GET /user-agent gives the field's value as text/plain"
    ask GET /user-agent -H 'User-Agent:'
    want_status 400 "a missing User-Agent is 400"
    [ -s "$work/body" ] || fail "the 400 for a missing User-Agent explains itself" "a sentence" "an empty body"
    ok "GET /user-agent without the field is 400 with a sentence"
}

check_methods() {
    part "methods"
    want_head_like_get /echo/hello "HEAD /echo/hello has the fields of GET"
    want_head_like_get /user-agent "HEAD /user-agent has the fields of GET"
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
    want_status 501 "methods are case-sensitive"
    ok "FROB and get (in lower case) are 501"
}

check_errors() {
    part "errors"
    local missing=/nothing-here-$$
    ask GET "$missing"
    want_status 404 "a missing path is 404"
    want_field Content-Type 'text/html*' "an error page is HTML"
    want_in_body 404 "an error page names its status"
    ok "GET of a missing path is 404 with a small page"
    ask GET "$missing" -H 'Accept: application/json'
    want_field Content-Type 'application/json*' "an error is JSON for Accept: application/json"
    ask GET "$missing" -H 'Accept: text/plain'
    want_field Content-Type 'text/plain*' "an error is plain text for Accept: text/plain"
    ok "the page is JSON or plain text for a client that accepts only these"
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
    refused 'hello\r\n\r\n' 400 "a request that is not HTTP is 400 and closes"
    refused 'GET / HTTP/2.0\r\nHost: x\r\n\r\n' 505 "another major version is 505 and closes"
    refused 'GET / HTTP/1.1\nHost: x\n\n' 400 "lines that end with LF alone are 400 and close"
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
