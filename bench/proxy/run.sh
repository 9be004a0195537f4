#!/bin/bash
# `retort serve --upstream` with keys, limits and event log beside nginx's proxy_pass: the same mock upstream (nginx),
# the same load (wrk), one after the other, then all at half of the least rate (paced.cpp). Loopback only. Usage: run.sh RETORT [SECONDS
# [CONNECTIONS [ROUNDS]]]. Needs Debian's nginx-light and wrk.
set -euo pipefail
retort=$(realpath "${1:?usage: run.sh RETORT [SECONDS [CONNECTIONS]]}")
seconds=${2:-10} connections=${3:-64} rounds=${4:-2}
work=$(mktemp -d) pids=()
# Only what was started here is ended.
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null; rm -rf "$work"' EXIT
here=$(cd "$(dirname "$0")" && pwd)
g++ -O2 -std=c++20 "$here/paced.cpp" -o "$work/paced"
cd "$work"
body='{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"A short answer, of a dozen words or so, as a model gives."},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":16,"total_tokens":36}}'
common="worker_processes 1; pid NAME.pid; error_log NAME.err; daemon off; events { worker_connections 4096; }"
http="access_log off; keepalive_requests 1000000; client_body_buffer_size 64k;
  client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3; uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;"
cat >mock.conf <<END
${common//NAME/mock} http { $http server { listen 127.0.0.1:18001 backlog=4096; default_type application/json;
  location / { return 200 '$body'; } } }
END
# As many workers as Retort has threads for connections.
cat >proxy.conf <<END
${common//NAME/proxy} http { $http upstream mock { server 127.0.0.1:18001; keepalive 256; keepalive_requests 1000000; }
  server { listen 127.0.0.1:18002 backlog=4096; location / { proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; } } }
END
sed -i 's/worker_processes 1/worker_processes 2/' proxy.conf
nginx -p "$work" -c mock.conf & pids+=($!)
nginx -p "$work" -c proxy.conf & pids+=($!)
echo '{"limits":{"requests_per_minute":100000000,"tokens_per_day":1000000000000},"prompt_price":150000,"completion_price":600000,"reasoning":"full"}' >plan.json
export RETORT_STORE=$work/store.db
"$retort" keys plan-set plan.json --name bench -q
account=$("$retort" keys account-create bench --plan bench)
key=$("$retort" keys create "$account" --name bench --json | sed 's/.*"key":"\([^"]*\)".*/\1/')
"$retort" serve --upstream http://127.0.0.1:18001/v1 --port 18003 --http-threads 2 -q & pids+=($!)
cat >load.lua <<END
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer $key"
wrk.body = '{"model":"m","max_tokens":64,"messages":[{"role":"user","content":"Say something short, of a dozen words or so."}]}'
END
sleep 1
for port in 18001 18002 18003; do
  curl -sf -o /dev/null -X POST -H "Authorization: Bearer $key" -d '{"model":"m"}' "http://127.0.0.1:$port/v1/chat/completions" ||
    { echo "port $port does not answer"; exit 1; }
done
lscpu | grep -E "^(Model name|CPU\(s\))"; nginx -v 2>&1; "$retort" --version; echo "$connections connections, $seconds s each"
targets=("18001 the mock alone" "18002 nginx proxy_pass" "18003 retort, keys, limits and event log")
{ printf 'POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n' "$key"
  lua_body=$(sed -n "s/^wrk.body = '\(.*\)'/\1/p" load.lua)
  printf 'Content-Length: %d\r\n\r\n%s' "${#lua_body}" "$lua_body"; } >request
load() {  # PORT SECONDS
  wrk -t1 -c"$connections" -d"${2}s" --latency -s load.lua "http://127.0.0.1:$1/v1/chat/completions" |
    grep -E "50%|99%|Requests/sec|Non-2xx|Socket errors"
}
echo "| round | what | requests/s | of nginx |"
for round in $(seq "$rounds"); do
  for target in "${targets[@]:1}"; do
    load "${target%% *}" "$seconds" >last
    rate=$(awk '/sec/ {print $2}' last)
    grep -E "Non-2xx|Socket" last || true
    case $target in
      *nginx*) theirs=$rate; echo "| $round | nginx | $rate | |";;
      *) ours=$rate; awk "BEGIN {printf \"| $round | retort | $rate | %.1f %% |\n\", 100 * $ours / $theirs}";;
    esac
    least=$(awk "BEGIN {print (\"${least:-}\" == \"\" || $rate < ${least:-0}) ? $rate : ${least:-0}}")
  done
done
# Half of the least of all rates, for each the same: an open loop (paced.cpp), so that who is slow is not asked less. What the
# scheduler does to a tail differs more between minutes than between programs, so both take turns of a few seconds.
half=$(awk "BEGIN {printf \"%d\", $least / 2}")
for turn in $(seq $((rounds * 6))); do
  for target in "${targets[@]}"; do
    echo "half load, turn $turn, ${target#* }: $(./paced "${target%% *}" "$half" $(((seconds + 1) / 2)) "$connections" request)"
  done
done | tee turns
python3 "$here/tail.py" turns
kill "${pids[2]}"; wait "${pids[2]}" || true
echo "events on the disk: $("$retort" keys events "$work/store.db.events" | wc -l)"
"$retort" keys usage
