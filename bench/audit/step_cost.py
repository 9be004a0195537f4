#!/usr/bin/env python3
"""What each watermark costs on a real teacher, one step at a time, and how fast it is found: at places of unmarked answers the
teacher's distribution p and the marked one q are computed exactly. KL(q‖p), the expected NLL of a token under q by the judge (the
teacher itself, unquantised, and a smaller loss means likelier text), how often q's likeliest token is another, and the p-value
of tokens drawn from q. Contexts are unmarked, so what drifts over a whole marked text is not in it: quality.py has that and takes
ten times as long. Needs the stories that quality.py collected without a mark, torch, transformers, numpy, mpmath.

    RETORT_BIN=build/release/bin/retort nice -n 15 python bench/audit/step_cost.py FOLDER --model smollm2 [--stories 16]"""

import argparse
import hashlib
import json
import math
import pathlib
import random

import numpy
import torch
import transformers

import factory
import quality

MASTER = hashlib.sha256(b"step_cost.py").digest()


def marked_distribution(scheme, hashes, log_p):
    """q of one step under this key."""
    p = numpy.exp(log_p)
    if scheme["kind"] == "red-green":
        q = p * numpy.exp(numpy.where(hashes < numpy.uint64(int(scheme["gamma"] * 2**64)), scheme["delta"], 0.0))
    elif scheme["kind"] == "gumbel":
        r = (numpy.floor(hashes / numpy.uint64(2048)).astype(numpy.float64) + 0.5) / 2**53
        q = numpy.zeros_like(p)
        q[int(numpy.argmax(numpy.log(r) / p))] = 1
    else:
        q = p.copy()
        for layer in range(scheme["layers"]):
            g = ((hashes >> numpy.uint64(layer)) & numpy.uint64(1)).astype(numpy.float64)
            q *= 1 + g - float(numpy.sum(g * q) / numpy.sum(q))
    return q / q.sum()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--model", required=True)
    parser.add_argument("--stories", type=int, default=16)
    parser.add_argument("--places", type=int, default=200, help="of each story, from its beginning")
    parser.add_argument("--lengths", type=int, nargs="+", default=[25, 50, 100, 200])
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = pathlib.Path(args.folder).resolve()
    if not (folder / "hf").exists():
        factory.retort("export", args.model, "--format", "folder", "--type", "f32", "--output", "hf", cwd=folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "hf")
    judge = transformers.AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float32).eval()
    texts = []
    for _, (prompt, text, _) in sorted(quality.answers(folder / "none/stories").items())[:args.stories]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][:args.places]
        start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        with torch.no_grad():
            logits = judge(torch.tensor([start + ids])).logits[0, len(start) - 1:-1].double()
        texts.append((ids, torch.log_softmax(logits, -1).numpy()))
        print(len(ids), flush=True)
    found = {}
    for name, scheme in quality.SETTINGS.items():
        rng = random.Random(name)
        by_story = {"kl": [], "nll": [], "other": []}
        pairs_of = []
        key = quality.watermark.subkey(MASTER, scheme["kind"], "") if scheme else b""
        for ids, log_p in texts:
            window = scheme["window"] if scheme else 0
            kl, nll, other, pairs = [], [], [], {}
            for i in range(window, len(ids)):
                p = numpy.exp(log_p[i])
                q = p
                if scheme:
                    q = marked_distribution(scheme, quality.hashes_of_all(key, ids[i - window:i], len(p)), log_p[i])
                held = q > 0
                kl.append(float(numpy.sum(q[held] * (numpy.log(q[held]) - log_p[i][held]))))
                nll.append(-float(numpy.sum(q[held] * log_p[i][held])))
                other.append(float(numpy.argmax(q) != numpy.argmax(p)))
                token = int(numpy.searchsorted(numpy.cumsum(q), rng.random() * q.sum()))
                pairs[tuple(ids[i - window:i]) + (min(token, len(p) - 1),)] = True
            for k, v in (("kl", kl), ("nll", nll), ("other", other)):
                by_story[k].append(float(numpy.mean(v)))
            pairs_of.append(list(pairs))
        out = {k: quality.mean_and_error(v) for k, v in by_story.items()}
        if scheme:
            out["detection"] = {}
            for length in args.lengths:
                evidence = {"scheme": {"scheme": scheme["kind"], **scheme}, "subkey": key.hex()}
                values = [quality.audit_bundle.pairs({**evidence, "pairs": [list(p) for p in pairs[:length]]})
                          for pairs in pairs_of if len(pairs) >= length]
                if values:
                    out["detection"][length] = [len(values), quality.log10(float(numpy.median(values))),
                                                sum(v <= math.log(1e-3) for v in values), sum(v <= math.log(1e-6) for v in values)]
        found[name] = out
        (folder / "step_cost.json").write_text(json.dumps(found, indent=1) + "\n")
        print(name, json.dumps(out), flush=True)
    print("\n| mark | KL, nats a token | expected NLL by the judge | likeliest token is another | " +
          " | ".join(f"found in {n} tokens: median p; at 1e-3, 1e-6" for n in args.lengths) + " |\n|---" + "|---" * (3 + len(args.lengths)) + "|")
    for name, out in found.items():
        cells = [f"1e{d[1]:.1f}; {d[2]}, {d[3]} of {d[0]}" for d in out.get("detection", {}).values()]
        print(f"| {name} | {out['kl'][0]:.3f} ± {out['kl'][1]:.3f} | {out['nll'][0]:.2f} ± {out['nll'][1]:.2f} | {out['other'][0]:.3f} ± {out['other'][1]:.3f} | " +
              " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
