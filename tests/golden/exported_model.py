"""Checks an exported model outside our program: the folder in transformers, the GGUF in llama.cpp, against each other
and against what our program says.

    exported_model.py --folder EXPORTED --gguf EXPORTED.gguf [--ours DUMP.json] [--out CASES.json]

Needs llama-cpp-python (bench/rivals/README.md) for --gguf. Each prompt is tokenized by both (ids must be the same), its
logits are compared at every position, and both continue it greedily. DUMP.json, from our program, is

    {"cases": [{"tokens": [ids of the prompt], "greedy": [ids], "logits": [of the last position, whole vocabulary]}]}

("greedy" and "logits" may be absent) and replaces the prompts; --out writes the cases in the same form with the numbers
of transformers (or of llama.cpp without a folder). A greedy token may differ only where the reference's two largest
logits are closer than --tie. Exit status 1 when a bound is passed.
"""

import argparse
import json
import pathlib
import sys

import numpy

sys.path.append(str(pathlib.Path(__file__).parents[2] / "bench" / "rivals"))

TEXTS = [
    "The capital of France is",
    "def fibonacci(n):\n    if n <",
    "Zażółć gęślą jaźń — 港口在早晨很安静。 12345 🚢",
    "<|im_start|>user\nRewrite in one short sentence: the meeting, which was to be on Monday, is now on Friday."
    "<|im_end|>\n<|im_start|>assistant\n",
]


class Transformers:
    name = "transformers"

    def __init__(self, folder):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def tokenize(self, text):
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def all_logits(self, tokens):
        with self.torch.no_grad():
            return self.model(input_ids=self.torch.tensor([tokens])).logits[0].numpy()

    def greedy(self, tokens, count):
        torch, cache, feed, answer, margins = self.torch, None, [tokens], [], []
        with torch.no_grad():
            for _ in range(count):
                out = self.model(input_ids=torch.tensor(feed), past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                values, ids = out.logits[0, -1].topk(2)
                answer.append(ids[0].item())
                margins.append((values[0] - values[1]).item())
                feed = [answer[-1:]]
        return answer, margins

    def text(self, tokens):
        return self.tokenizer.decode(tokens)


def log_softmax(x):
    x = x.astype(numpy.float64)
    x = x - x.max(-1, keepdims=True)
    return x - numpy.log(numpy.exp(x).sum(-1, keepdims=True))


def kl(p, q):
    log_p, log_q = log_softmax(p), log_softmax(q)
    return (numpy.exp(log_p) * (log_p - log_q)).sum(-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, help="Hugging Face folder")
    parser.add_argument("--gguf", type=pathlib.Path)
    parser.add_argument("--ours", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=32, help="of the greedy continuation")
    parser.add_argument("--difference", type=float, default=1e-3, help="of a logit, transformers and ours")
    parser.add_argument(
        "--kl", type=float, default=2e-2, help="mean a token, with llama.cpp, which rounds activations: about 5e-3 for a 4-bit file; give 1e-4 for an F16 one"
    )
    parser.add_argument("--tie", type=float, default=0.3, help="llama.cpp may choose another token below this margin")
    a = parser.parse_args()
    if not a.folder and not a.gguf:
        parser.error("give --folder, --gguf or both")
    failures = []

    def check(passed, text):
        print(("ok    " if passed else "WRONG ") + text)
        if not passed:
            failures.append(text)

    def same_greedy(name, reference, margins, other, tie):
        for i, (x, y) in enumerate(zip(reference, other)):
            if x != y:
                check(margins[i] <= tie, f"{name}: differs at token {i}, margin {margins[i]:.4f} (a tie up to {tie})")
                return
        check(True, f"{name}: the same {min(len(reference), len(other))} tokens")

    runners = []
    if a.folder:
        runners.append(Transformers(a.folder))
    if a.gguf:
        import llamacpp

        runners.append(llamacpp.Model(a.gguf, context=2048, f32_cache=True))
        runners[-1].name = "llama.cpp"
    if a.ours:
        cases = json.loads(a.ours.read_text())["cases"]
    else:
        cases = []
        for text in TEXTS:
            ids = [runner.tokenize(text) for runner in runners]
            check(all(other == ids[0] for other in ids), f"ids of {text[:30]!r}: {len(ids[0])}")
            cases.append({"tokens": ids[0]})

    written = []
    for number, case in enumerate(cases):
        tokens = case["tokens"]
        count = len(case.get("greedy", [])) or a.tokens
        logits = [runner.all_logits(tokens) for runner in runners]
        answers = [runner.greedy(tokens, count) for runner in runners]
        print(f"case {number}, {len(tokens)} tokens: {runners[0].text(answers[0][0])!r}")
        if len(runners) == 2:
            divergence = kl(logits[0], logits[1]).mean()
            difference = numpy.abs(logits[0] - logits[1]).max()
            check(divergence <= a.kl, f"llama.cpp: KL {divergence:.2e} a token, largest difference {difference:.2e}")
            same_greedy("llama.cpp, greedy", *answers[0], answers[1][0], a.tie)
        for runner, (answer, margins), rows in zip(runners, answers, logits):
            exact = runner.name == "transformers"
            if "logits" in case:
                ours = numpy.array(case["logits"], dtype=numpy.float32)
                difference = numpy.abs(ours - rows[-1]).max()
                divergence = kl(rows[-1], ours)
                passed = difference <= a.difference if exact else divergence <= a.kl
                check(passed, f"ours and {runner.name}: largest difference {difference:.2e}, KL {divergence:.2e}")
            if "greedy" in case:
                tie = 2 * a.difference if exact else a.tie
                same_greedy(f"ours and {runner.name}, greedy", answer, margins, case["greedy"], tie)
        written.append({"tokens": tokens, "greedy": answers[0][0], "logits": logits[0][-1].tolist()})
    if a.out:
        a.out.write_text(json.dumps({"cases": written}))
    print(f"{len(failures)} wrong" if failures else "all as it should be")
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
