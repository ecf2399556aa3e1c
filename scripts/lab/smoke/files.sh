# Checks of a store and a site, with files that the checks make. They use tools.sh.
# shellcheck shell=bash disable=SC2034,SC2154 # smoke.sh reads this file in, and they share variables

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
    want_head_like_get /files/new.html "HEAD /files/new.html has the fields of GET"
    ask POST '/files/a%20name' --data-binary posted
    want_status 201 "POST is 201"
    want_field Location '*/files/a%20name' "POST has the Location of the file"
    [ "$(cat "$work/store/a name")" = posted ] || fail "POST stores the body" posted "$(cat "$work/store/a name")"
    ok "POST is 201 with Location: $(field Location)"
    ask PUT /files/chunked -H 'Transfer-Encoding: chunked' --data-binary "@$work/site/large.bin"
    want_status 201 "a chunked upload is 201"
    cmp -s "$work/site/large.bin" "$work/store/chunked" || fail "a chunked upload arrives whole" "the 3 MB that were sent" "other bytes"
    ok "a chunked upload of 3 MB arrives byte for byte"
    ask PUT /files/continued -H 'Expect: 100-continue' --expect100-timeout 20 --data-binary continued
    want_status 201 "an upload that expects 100 is 201"
    grep -q '^HTTP/1.1 100' "$work/head" || fail "a client that expects 100 gets it" "100 Continue before 201" "$(head -n 1 "$work/head")"
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
    ok "no spelling of .. and no link reads a file outside the store"
    for target in /files/../planted /files/..%2fplanted /files/%2e%2e%2fplanted /files/sub%2f..%2f..%2fplanted; do
        ask PUT "$target" --data-binary planted
        want_status "400 404 405" "PUT $target is refused"
        [ ! -e "$work/planted" ] || fail "PUT $target writes nothing outside" "no file" "a file"
    done
    ok "no spelling of .. writes a file outside the store"
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
    want_field Last-Modified '???, ?? ??? ???? ??:??:?? GMT' "a file has a Last-Modified"
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
    ok "GET /sub?a=1&b=2 is redirected to $(field Location)"
    ask GET //evil.example/..
    want_field Location '' "no redirect to another host"
    ok "GET //evil.example/.. is not redirected to another host"
    ask GET /plain/
    want_status 200 "a folder without an index is listed"
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
    want_field Content-Encoding '' "not compressed without Accept-Encoding"
    want_field Vary '*accept-encoding*' "with Vary, too"
    ask GET /words.html -H 'Accept-Encoding: gzip;q=0, identity'
    want_field Content-Encoding '' "not compressed for gzip;q=0"
    ok "text is gzipped if the client accepts it (also by weight), with Vary"
    ask GET /image.png -H 'Accept-Encoding: gzip'
    want_field Content-Encoding '' "a picture is not compressed"
    ok "a picture is not compressed"
    want_head_like_get / "HEAD / has the fields of GET"
    want_head_like_get /plain/ "HEAD of a listing has the fields of GET"
    want_head_like_get /sub "HEAD of a redirect has the fields of GET"
    ask GET /large.bin
    want_file "$work/site/large.bin" "a file of 3 MB arrives byte for byte"
    ok "a file of 3 MB arrives byte for byte"
    ask PUT /note.txt --data-binary x
    want_status 405 "PUT to the site is 405"
    want_field Allow '*GET*' "with Allow"
    ok "PUT to the site is 405 with Allow"
}
