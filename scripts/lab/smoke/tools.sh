# Tools for the checks of smoke.sh: messages, requests, expectations, and how to start a server.
# shellcheck shell=bash disable=SC2034,SC2154 # smoke.sh reads this file in, and they share variables

# ---- messages ----

ok() { checks=$((checks + 1)); printf 'ok   %s\n' "$1"; }
skip() { skipped=$((skipped + 1)); printf 'skip %s\n' "$1"; }
part() { printf '\n     %s\n' "$1"; }

# fail SENTENCE EXPECTED ACTUAL: prints these with the last answer and the server's last messages, and exits.
fail() {
    printf 'FAIL %s\n     expected: %s\n     came:     %s\n' "$1" "$2" "$3"
    if [ -s "$work/head" ]; then echo "     the answer's head:"; tr -d '\r' < "$work/head" | sed 's/^/       /'; fi
    if [ -s "$work/body" ]; then echo "     its body begins:"; head -c 400 "$work/body" | tr -c '[:print:]\n' '?' | sed 's/^/       /'; echo; fi
    if [ -s "$work/server.err" ]; then echo "     the server says:"; tail -n 8 "$work/server.err" | sed 's/^/       /'; fi
    exit 1
} >&2

# ---- requests ----

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

# raw BYTES: sends them, with the escapes of printf, and reads until the server closes. Sets $status and $answers, their number.
raw() {
    asked=$1
    : > "$work/head"
    # shellcheck disable=SC2016 # the inner bash expands them
    timeout 10 bash -c 'exec 3<> "/dev/tcp/$0/$1" && printf "$2" >&3 && cat <&3' "$host" "$port" "$1" \
        > "$work/body" 2> "$work/curl.err" || true
    status=$(head -c 12 "$work/body" | cut -d ' ' -f 2)
    answers=$(grep -ac '^HTTP/1.1 ' "$work/body" || true)
}

# field NAME: prints the value of the field in the last answer, or nothing.
field() { tr -d '\r' < "$work/head" | sed -n "s/^$1: *//Ip" | tail -n 1; }

# ---- expectations: if one is not met, its last argument, a sentence, is printed ----

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

# HEAD answers with the status and fields of GET, except Date.
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

# refused BYTES STATUSES SENTENCE: expects one answer and then the close. The server must not answer the request that follows.
refused() {
    raw "$1"'GET /echo/behind HTTP/1.1\r\nHost: x\r\n\r\n'
    want_status "$2" "$3"
    [ "$answers" = 1 ] || fail "$3" "one answer and a closed connection" "$answers answers"
    ok "$3"
}

# ---- a server of our own ----

# serve FOLDER [arguments]: starts a server in the folder, on a free port, and waits for its banner. Sets $base, $host and $port.
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

# Sets $host and $port from $base.
locate() {
    local authority=${base#http://}
    authority=${authority%%/*}
    port=${authority##*:}
    host=${authority%:*}
    if [ "$port" = "$authority" ] || [[ $port == *"]" ]]; then port=80 host=$authority; fi
    host=${host#[}
    host=${host%]}
}

# Ends the server by SIGTERM. Sets $code to its exit code.
stop() {
    kill -TERM "$server_pid"
    code=0
    wait "$server_pid" || code=$?
    server_pid=
}

# attempt [arguments]: runs a command line that should not start a server. Sets $code to the exit code, $words to standard error.
attempt() {
    code=0
    timeout 10 "$binary" "$@" < /dev/null > "$work/out" 2> "$work/err" || code=$?
    words=$(cat "$work/err")
}
