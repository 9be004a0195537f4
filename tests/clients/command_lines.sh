#!/bin/bash
# Programs that speak the API, unchanged, against a running server: the `llm` command line, LiteLLM's proxy in front, and
# the calls that Open WebUI makes (its backend's, replayed with curl). Usage: command_lines.sh BIN_FOLDER BASE_URL MODEL
# BIN_FOLDER: of a venv with llm and litellm[proxy].
set -uo pipefail
bin=$(realpath "$1") url=$2 model=$3
work=$(mktemp -d) failed=0 proxy=
trap '[ -z "$proxy" ] || kill "$proxy"; rm -rf "$work"' EXIT
check() { if [ -n "$2" ] && grep -q "$3" <<<"$2"; then echo "passed  $1: $(head -c 90 <<<"$2" | tr '\n' ' ')"; else echo "FAILED  $1: $2"; failed=1; fi; }
export LLM_USER_PATH=$work/llm LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY=true
mkdir -p "$LLM_USER_PATH"
cat >"$LLM_USER_PATH/extra-openai-models.yaml" <<END
- {model_id: retort, model_name: $model, api_base: "$url"}
END
check "llm, streamed" "$("$bin/llm" -m retort 'Say hello.' -o temperature 0 -o max_tokens 16 --key none 2>&1)" '[a-zA-Z]'
check "llm, whole" "$("$bin/llm" -m retort 'Say hello.' -o temperature 0 -o max_tokens 16 --no-stream --key none 2>&1)" '[a-zA-Z]'
check "llm, the conversation goes on" "$("$bin/llm" -c 'Again.' -o temperature 0 -o max_tokens 16 --key none 2>&1)" '[a-zA-Z]'
cat >"$work/litellm.yaml" <<END
model_list: [{model_name: front, litellm_params: {model: openai/$model, api_base: "$url", api_key: none}}]
END
"$bin/litellm" --config "$work/litellm.yaml" --host 127.0.0.1 --port 18095 >"$work/litellm.log" 2>&1 & proxy=$!
for _ in $(seq 120); do curl -sf -o /dev/null http://127.0.0.1:18095/health/liveliness && break; sleep 1; done
body='{"model":"front","max_tokens":16,"temperature":0,"messages":[{"role":"user","content":"Say hello."}]'
check "litellm in front, whole" "$(curl -s http://127.0.0.1:18095/v1/chat/completions -H 'Content-Type: application/json' -d "$body}")" '"finish_reason":'
check "litellm in front, streamed" "$(curl -sN http://127.0.0.1:18095/v1/chat/completions -H 'Content-Type: application/json' -d "$body,\"stream\":true}" | tail -3)" 'DONE'
check "litellm in front, embeddings" "$(curl -s http://127.0.0.1:18095/v1/embeddings -H 'Content-Type: application/json' -d '{"model":"front","input":["a"]}')" '"embedding":'
# Open WebUI (backend/open_webui/routers/openai.py): the list of models, chats with its extra fields, a title without stream.
ask() { curl -sN "$url/$1" -H 'Content-Type: application/json' -H 'Authorization: Bearer none' -H 'X-OpenWebUI-User-Name: a' "${@:2}"; }
check "Open WebUI, models" "$(ask models)" "\"id\":\"$model\""
chat='"model":"'$model'","max_tokens":24,"messages":[{"role":"system","content":"Be short."},{"role":"user","content":"Hello"},{"role":"assistant","content":"Hi"},{"role":"user","content":[{"type":"text","text":"And now?"}]}]'
check "Open WebUI, chat" "$(ask chat/completions -d "{\"stream\":true,\"stream_options\":{\"include_usage\":true},$chat,\"params\":{},\"metadata\":{\"chat_id\":\"x\"}}" | tail -4)" '"total_tokens".*'
check "Open WebUI, title" "$(ask chat/completions -d "{\"stream\":false,$chat,\"max_completion_tokens\":50}")" '"content":'
check "Open WebUI, embeddings" "$(ask embeddings -d "{\"input\":[\"one\",\"two\"],\"model\":\"$model\"}" | head -c 400)" '"embedding":'
exit $failed
